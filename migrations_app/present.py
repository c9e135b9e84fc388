"""How a task is told to people: its steps, its figures as words, and what a failure means."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Final

from django.utils import timezone

from migrations_app.choices import CONFIGURABLE, Phases, TaskStatus
from migrations_app.models import LinkProgress, MigrationTask
from portal.choices import EndpointKind, Origin

S = TaskStatus

QUIET: Final = timedelta(seconds=15)  # without a sign of life, although progress is written each second
SHORT_BACKLOG: Final = 120.0  # seconds of interruption after which a new full phase would be needed
# Failures behind which a link can only go on with a new full synchronization.
WRITES_GONE: Final = "source.full_resync_needed"
DIVERGED: Final = "target.diverged"


@dataclass(frozen=True, slots=True)
class Step:
    """One phase of a task. `state` is done, current, waiting, warning, failed, stopped or paused; never told by colour alone."""

    label: str
    state: str
    icon: str
    words: str


@dataclass(frozen=True, slots=True)
class DatabaseRow:
    """A database of the source: its keys as last counted, and how many of them the full phase has written."""

    index: str
    keys: int | None
    written: int | None

    @property
    def percent(self) -> float | None:
        """Of its keys; the source may have got more of them since they were counted."""
        if not self.keys or self.written is None:
            return None
        return min(100.0, 100 * self.written / self.keys)


_ICONS: Final = {
    "done": ("check-circle", "done"),
    "current": ("spinner", "in progress"),
    "waiting": ("dot", "not yet"),
    "warning": ("alert", "interrupted"),
    "failed": ("x-circle", "failed here"),
    "stopped": ("stop-circle", "stopped here"),
    "paused": ("pause-circle", "paused"),
}
_STATE_OF: Final = {
    S.NOT_CONFIGURED: "waiting",
    S.PRECHECKING: "waiting",
    S.PRECHECK_FAILED: "waiting",
    S.READY: "waiting",
    S.PAUSED: "paused",
    S.RELEASED: "stopped",
    S.RETRYING: "warning",
    S.STOPPING: "current",
    S.FAILED: "failed",
    S.STOPPED: "stopped",
}


class TaskView:
    """A task with its progress (both loaded before: no query is made here)."""

    def __init__(self, task: MigrationTask) -> None:
        self.task = task
        self.status = TaskStatus(task.status)
        self.progress: LinkProgress = task.link.progress

    @property
    def route_label(self) -> str:
        """`orders to orders-new`, or what has not been chosen."""
        source, target = self.task.source, self.task.target
        if source is None and target is None:
            return "source and target not chosen"
        return f"{source.name if source else 'not chosen'} to {target.name if target else 'not chosen'}"

    @property
    def can_change(self) -> bool:
        """Whether the settings of a running task may be changed: before it has been started, the set-up does that."""
        return self.status not in CONFIGURABLE and self.status not in (
            S.PRECHECKING,
            S.COMPLETED,
            S.RELEASED,
        )

    @property
    def own_sides(self) -> list[tuple[str, str]]:
        """(source or target, its name) of those that belong to the task alone, and are reached by an address."""
        sides = [("source", self.task.source), ("target", self.task.target)]
        return [
            (side, instance.name)
            for side, instance in sides
            if instance is not None
            and instance.origin == Origin.SELF_HOSTED
            and instance.endpoint.kind != EndpointKind.FILE
        ]

    @property
    def closed_actions(self) -> list[tuple[str, str]]:
        """(action, why it cannot be done now), from the table of states alone."""
        verdicts = self.task.actions.items()
        return [(action.capitalize(), verdict.reason) for action, verdict in verdicts if not verdict.open]

    @cached_property
    def steps(self) -> list[Step]:
        labels = ["Connect", "Full synchronization"]
        if self.task.phases == Phases.FULL_INCREMENTAL:
            labels.append("Incremental")
        position = len(labels) if self.status == S.COMPLETED else self._position()
        steps = []
        for number, label in enumerate(labels):
            state = "done" if number < position else "waiting"
            if number == position:
                state = _STATE_OF.get(self.status, "current")
            icon, words = _ICONS[state]
            steps.append(Step(label, state, icon, words))
        return steps

    def _position(self) -> int:
        if self.status == S.FULL:
            return 1
        if self.task.reached_incremental or self.status == S.INCREMENTAL:
            return 2
        return 1 if self.progress.keys_done or self.progress.snapshot_bytes else 0

    @property
    def percent(self) -> float | None:
        """Of the full phase; None before it and where its size is not known."""
        if self.task.reached_incremental or (self.status == S.COMPLETED and self.task.phases == Phases.FULL):
            return 100.0
        return self.progress.percent if self._position() else None

    @property
    def percent_label(self) -> str:
        if self.percent is None:
            return ""
        # Rounded down: 100 % is said when it is true.
        return f"{int(self.percent)} %"

    @property
    def keys_total(self) -> int | None:
        """The source was asked for it a moment before its snapshot, which may hold a few keys more."""
        total, progress = self.progress.keys_total, self.progress
        return None if total is None else max(total, progress.keys_done + progress.keys_skipped)

    @property
    def is_measuring_lag(self) -> bool:
        return self.status in (S.INCREMENTAL, S.RETRYING) and self.task.reached_incremental

    @property
    def lag_label(self) -> str:
        """`Undelayed`, `Delay 4 s` (R124), or "" where there is no lag to speak of."""
        if not self.is_measuring_lag:
            return ""
        seconds = self.progress.lag_seconds
        if self.progress.caught_up and (seconds is None or seconds < 1):
            return "Undelayed"
        return "" if seconds is None else f"Delay {duration(seconds)}"

    @property
    def delay_label(self) -> str:
        """Lag in seconds, or that it is not known."""
        seconds = self.progress.lag_seconds
        return "not known" if not self.is_measuring_lag or seconds is None else duration(seconds)

    @property
    def backlog_seconds(self) -> float | None:
        """How long an interruption the source's backlog covers from now on; None where that is not known, inf where nothing is written."""
        progress = self.progress
        if progress.backlog_bytes is None or progress.written_per_second is None:
            return None
        if progress.written_per_second <= 0:
            return math.inf
        seconds = (progress.backlog_bytes - (progress.lag_bytes or 0)) / progress.written_per_second
        if not self.is_running and progress.updated_at is not None:
            # It is being used up since then, if the source is written to as before.
            seconds -= (timezone.now() - progress.updated_at).total_seconds()
        return max(0.0, seconds)

    @property
    def backlog_label(self) -> str:
        seconds = self.backlog_seconds
        if seconds is None:
            return "not known yet"
        if seconds == math.inf:
            return "any, while nothing is written"
        return (
            f"about {duration(seconds)}"
            if seconds
            else "nothing any more, if the source is written to as before"
        )

    @property
    def backlog_is_short(self) -> bool:
        """A restart of a server or of a router takes as long."""
        seconds = self.backlog_seconds
        return seconds is not None and seconds < SHORT_BACKLOG

    @property
    def source_offset(self) -> int | None:
        """The source is asked now and then only: meanwhile what has been applied may be newer than its answer."""
        known = [n for n in (self.progress.source_offset, self.progress.applied_offset) if n is not None]
        return max(known, default=None)

    @property
    def is_running(self) -> bool:
        return self.status.is_active

    @property
    def remaining(self) -> str:
        """An estimate for the full phase from its present speed."""
        progress = self.progress
        if self.status != S.FULL or not progress.keys_total or progress.keys_per_second <= 0:
            return ""
        left = max(0, progress.keys_total - progress.keys_done - progress.keys_skipped)
        return f"about {duration(left / progress.keys_per_second)} left" if left else ""

    @property
    def waits_for_worker(self) -> bool:
        return self.status.is_active and not self.task.link.owner

    @property
    def is_quiet(self) -> bool:
        """A worker has the link and has not reported for a while: it is hanging, or gone and about to be replaced."""
        updated = self.progress.updated_at
        return (
            self.status.is_active
            and not self.waits_for_worker
            and updated is not None
            and timezone.now() - updated > QUIET
        )

    @property
    def databases(self) -> list[DatabaseRow]:
        counted = {
            str(row["index"]): row["keys"] for row in (self.task.source.databases if self.task.source else [])
        }
        written = self.progress.databases
        if self.task.databases is not None:
            chosen = {str(number) for number in self.task.databases}
        else:
            chosen = set(counted) | set(written)
        return [
            DatabaseRow(index, counted.get(index), written.get(index)) for index in sorted(chosen, key=int)
        ]

    @property
    def wants_full_resync(self) -> bool:
        """The failure can only be overcome with the consent to a new full synchronization."""
        return self.status == S.FAILED and self.task.failure_id in (WRITES_GONE, DIVERGED)

    @property
    def failure(self) -> str:
        """The sentence of the failure. The engine names a server by its address; people know the side and the name."""
        sentence = self.task.failure_message
        for side, instance in (("source", self.task.source), ("target", self.task.target)):
            if instance is None:
                continue
            if instance.account_id != self.task.account_id:
                continue  # what was stored names it already, and never its address
            address = instance.endpoint.address
            named = f"{side} {instance.name} ({address})".replace("\\", r"\\")
            sentence = re.sub(rf"(?<![\w.(]){re.escape(address)}(?!\w)", named, sentence)
        return sentence[:1].upper() + sentence[1:]

    @property
    def untouched(self) -> str:
        """What a failure has left as it was."""
        if self.task.reached_incremental:
            return (
                "The source was not changed. The target holds every write up to the last confirmed position, "
                "and nothing after it was applied."
            )
        if self.progress.keys_done:
            return (
                "The source was not changed. The target holds the keys that had been written when the full "
                "synchronization ended; do not use it yet."
            )
        return "The source was not changed. No data was written to the target."


def duration(seconds: float) -> str:
    """`3 s`, `4 min`, `2 h 5 min`, `3 d 4 h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if 0 < seconds < 10 and seconds != whole else f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"
