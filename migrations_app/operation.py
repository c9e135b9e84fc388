"""What the page of a task tells beside its progress: phases with their times, limits in force, checks, alerts, who did what.

Everything is read by the primary key of the task, newest first and bounded, so a page costs the same however long a task has run.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

from django.utils import timezone

from migrations_app import charts, speed
from migrations_app.choices import InspectionKind, LogLevel, Outcome, TaskStatus
from migrations_app.models import (
    AppliedRepair,
    Inspection,
    LogEntry,
    MigrationTask,
    PhaseSpan,
    PrecheckItem,
    TaskAlert,
)
from migrations_app.present import TaskView, duration
from migrations_app.services import inspections, samples
from migrations_app.services.retry import effective_retry
from portal.choices import BadgedChoices
from portal.models import AuditEntry

SPANS: Final = 12  # newest phases that are shown
DEEDS: Final = 20  # lines of the timeline
TROUBLE: Final = (LogLevel.WARNING, LogLevel.ERROR)


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """A status that the task was in. `ended_at` None: it still is."""

    status: TaskStatus
    began_at: datetime
    ended_at: datetime | None

    @property
    def length(self) -> str:
        return duration(((self.ended_at or timezone.now()) - self.began_at).total_seconds())


@dataclass(frozen=True, slots=True)
class Deed:
    """A line of the timeline. `who` is empty for the system."""

    at: datetime
    who: str
    what: str
    tone: BadgedChoices | None = None
    details: tuple[tuple[str, str], ...] = ()
    action: str = ""
    """Of the audit log; else `what` is a sentence."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The newest inspection of a kind, and how many items of each outcome it has."""

    inspection: Inspection
    counts: list[tuple[Outcome, int]]


class Operation:
    """Each part is one query, made when it is shown."""

    def __init__(self, view: TaskView) -> None:
        self.view = view
        self.task: MigrationTask = view.task

    @cached_property
    def phases(self) -> list[PhaseRow]:
        rows = PhaseSpan.objects.filter(task=self.task).order_by("-pk")[:SPANS]
        return [PhaseRow(TaskStatus(row.status), row.began_at, row.ended_at) for row in rows]

    @property
    def has_more_phases(self) -> bool:
        return len(self.phases) == SPANS

    @property
    def full_ends_at(self) -> datetime | None:
        """When the full phase will be complete, by the keys that are left and the present speed; else by its share so far."""
        progress, now = self.view.progress, timezone.now()
        if self.view.status != TaskStatus.FULL:
            return None
        if progress.keys_total and progress.keys_per_second > 0:
            left = max(0, progress.keys_total - progress.keys_done - progress.keys_skipped)
            return now + timedelta(seconds=left / progress.keys_per_second)
        current = self.phases[0] if self.phases else None
        if progress.percent and current and current.status == TaskStatus.FULL:
            gone = (now - current.began_at).total_seconds()
            if progress.percent >= 1 and gone >= 5:
                return now + timedelta(seconds=gone / progress.percent * (100 - progress.percent))
        return None

    @cached_property
    def speed(self) -> speed.InForce:
        return speed.in_force(self.task, timezone.now())

    @cached_property
    def retry(self) -> tuple[int, MigrationTask]:
        """Minutes that a lost connection is tried again, and the task that sets them: this one, or one that shares a side (R82)."""
        return effective_retry(self.task)

    @cached_property
    def alerts(self) -> list[TaskAlert]:
        """Those that were told and are not over."""
        return list(
            TaskAlert.objects.filter(task=self.task, resolved_at__isnull=True, raised_at__isnull=False)
        )

    @cached_property
    def repairs(self) -> list[AppliedRepair]:
        return list(AppliedRepair.objects.filter(task=self.task).select_related("instance", "by")[:50])

    @cached_property
    def precheck(self) -> Summary | None:
        found = inspections.newest(self.task, InspectionKind.PRECHECK)
        if found is None:
            return None
        outcomes = Counter(PrecheckItem.objects.filter(inspection=found).values_list("outcome", flat=True))
        return Summary(found, [(one, outcomes[one.value]) for one in Outcome if outcomes[one.value]])

    @cached_property
    def timeline(self) -> list[Deed]:
        """What people and the system did, and what the link had trouble with, newest first."""
        entries = AuditEntry.objects.filter(
            object_type=MigrationTask._meta.model_name, object_id=self.task.public_id
        ).order_by("-at", "-pk")[:DEEDS]
        deeds = [
            Deed(one.at, one.actor_name, "", None, tuple(one.detail_items), one.action) for one in entries
        ]
        lines = LogEntry.objects.filter(task=self.task, level__in=TROUBLE).order_by("-pk")[:DEEDS]
        deeds += [Deed(one.at, "", one.message, one.level_badge) for one in lines]
        return sorted(deeds, key=lambda one: one.at, reverse=True)[:DEEDS]

    def charts(self, key: str) -> dict[str, Any]:
        """For the template of the charts; `key` is a period, and any other text the first one."""
        period = charts.PERIODS.get(key) or charts.PERIODS["hour"]
        now = timezone.now()
        # A row that begins before the period may still stand for its beginning.
        rows = samples.since(self.task.link.pk, now - period.length - timedelta(seconds=samples.SPANS[-1]))
        return {
            "charts": charts.draw(rows, period, now),
            "period": period,
            "periods": charts.PERIODS.values(),
        }
