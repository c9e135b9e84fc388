"""Alerts of tasks (R80): their contacts are told once when a trouble begins, seldom while it lasts, and once when it is over.

Any machine may look, and all of them do every few seconds. A row of TaskAlert is a trouble from its beginning to its end, at most one
of a kind is open (a constraint of the database), and whoever changes it by compare-and-swap tells. In the same transaction, so that
nobody is told of what is not remembered, or the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from migrations_app.choices import ACTIVE, AlertKind, TaskStatus
from migrations_app.models import Inspection, LinkProgress, MigrationTask, PhaseSpan, TaskAlert
from migrations_app.services import troubles, verifications
from migrations_app.states import RESUMABLE_FOR
from portal.choices import Category
from portal.models import Contact
from portal.patience import patient
from portal.services import notifications
from portal.services.notifications import Message

log = structlog.get_logger(__name__)

GROWTH: Final = 2
LONGEST_PAUSE: Final = timedelta(days=1)
URGENT: Final = frozenset({AlertKind.FAILED, AlertKind.PAUSED})
"""Nothing goes on until somebody acts: not held back in quiet hours."""


def reminder_pause(times_sent: int) -> timedelta:
    """Before the next reminder, after so many messages: the setting, then twice as long each time, up to a day."""
    pause: timedelta = timedelta(minutes=settings.ALERT_REMINDER_MINUTES) * GROWTH ** max(
        0, min(times_sent - 1, 16)
    )
    return max(timedelta(minutes=settings.ALERT_REMINDER_MINUTES), min(pause, LONGEST_PAUSE))


def look(now: datetime | None = None) -> None:
    """At all tasks with alerts that run or have stopped, and at all open alerts. Three queries, and writes for what has changed."""
    now = now or timezone.now()
    open_alerts: dict[int, dict[str, TaskAlert]] = {}
    for alert in TaskAlert.objects.filter(resolved_at__isnull=True):
        open_alerts.setdefault(alert.task_id, {})[alert.kind] = alert
    stands = Q(status=TaskStatus.PAUSED) & ~Q(pause_reason="")
    failed = Q(status=TaskStatus.FAILED, finished_at__gt=now - RESUMABLE_FOR)
    unresolved = Exists(TaskAlert.objects.filter(task=OuterRef("pk"), resolved_at__isnull=True))
    tasks = (
        MigrationTask.objects.filter(
            Q(alerts=True) & (Q(status__in=list(ACTIVE)) | stands | failed) | unresolved
        )
        .select_related("link__progress")
        .annotate(
            status_since=PhaseSpan.objects.filter(task=OuterRef("pk"), ended_at__isnull=True).values(
                "began_at"
            )[:1]
        )
    )
    for task in tasks:
        try:
            _look_at(task, getattr(task, "status_since", None), open_alerts.get(task.pk, {}), now)
        except DatabaseError:
            raise
        except Exception:
            # What is wrong with one task keeps nobody from hearing of the others.
            log.exception("alerts.failed", task=task.public_id)


def _look_at(
    task: MigrationTask, status_since: datetime | None, known: dict[str, TaskAlert], now: datetime
) -> None:
    watched = task.alerts and not _given_up(task, now)
    for trouble in troubles.of_task(task, _progress(task), status_since, now):
        _follow(task, trouble, known.get(trouble.kind), watched, now)


def _given_up(task: MigrationTask, now: datetime) -> bool:
    """Failed for so long that it cannot be resumed any more: no reminder helps."""
    ended = task.finished_at
    return task.status == TaskStatus.FAILED and ended is not None and ended <= now - RESUMABLE_FOR


def _progress(task: MigrationTask) -> LinkProgress | None:
    link = getattr(task, "link", None)
    return getattr(link, "progress", None) if link else None


def _follow(
    task: MigrationTask, trouble: troubles.Trouble, alert: TaskAlert | None, watched: bool, now: datetime
) -> None:
    if alert is None:
        if watched and trouble.bad:
            alert, _ = TaskAlert.objects.get_or_create(
                task=task, kind=trouble.kind, resolved_at=None, defaults={"since": trouble.since or now}
            )
            _raise_when_due(task, trouble, alert, now)
        return
    if not watched or trouble.moot:
        _close(alert, now)
    elif trouble.bad:
        if alert.raised_at is None:
            _raise_when_due(task, trouble, alert, now)
        else:
            _remind_when_due(task, alert, now)
    elif trouble.bad is False:
        if alert.raised_at is None:
            TaskAlert.objects.filter(pk=alert.pk, raised_at__isnull=True).delete()
        else:
            _end_when_due(task, trouble, alert, now)
    elif alert.better_since is not None:
        # Neither good nor bad (it starts, for example): what was good must begin anew.
        TaskAlert.objects.filter(pk=alert.pk).update(better_since=None)


@patient
def _raise_when_due(task: MigrationTask, trouble: troubles.Trouble, alert: TaskAlert, now: datetime) -> None:
    if now - alert.since < trouble.raise_after:
        return
    mine = TaskAlert.objects.filter(pk=alert.pk, raised_at__isnull=True, resolved_at__isnull=True)
    if mine.update(raised_at=now, last_sent_at=now, times_sent=1):
        _tell(task, alert, "raised", troubles.begun(trouble.kind, task, _lag(task, now)))


@patient
def _remind_when_due(task: MigrationTask, alert: TaskAlert, now: datetime) -> None:
    if alert.better_since is not None:
        TaskAlert.objects.filter(pk=alert.pk).update(better_since=None)
    if alert.last_sent_at is None or now - alert.last_sent_at < reminder_pause(alert.times_sent):
        return
    mine = TaskAlert.objects.filter(pk=alert.pk, times_sent=alert.times_sent, resolved_at__isnull=True)
    if mine.update(times_sent=F("times_sent") + 1, last_sent_at=now):
        message = troubles.begun(AlertKind(alert.kind), task, _lag(task, now), reminder=alert.times_sent)
        _tell(task, alert, f"reminder:{alert.times_sent}", message)


@patient
def _end_when_due(task: MigrationTask, trouble: troubles.Trouble, alert: TaskAlert, now: datetime) -> None:
    better_since = alert.better_since
    if better_since is None:
        better_since = now
        TaskAlert.objects.filter(pk=alert.pk, better_since__isnull=True).update(better_since=now)
    if now - better_since < trouble.over_after:
        return
    if TaskAlert.objects.filter(pk=alert.pk, resolved_at__isnull=True).update(resolved_at=now):
        _tell(task, alert, "over", troubles.over(trouble.kind, task, _lag(task, now)), urgent=False)


def _close(alert: TaskAlert, now: datetime) -> None:
    """Without a word: somebody has ended the task or switched its alerts off, or another alert says more."""
    if alert.raised_at is None:
        TaskAlert.objects.filter(pk=alert.pk, raised_at__isnull=True).delete()
    else:
        TaskAlert.objects.filter(pk=alert.pk, resolved_at__isnull=True).update(resolved_at=now)


def _lag(task: MigrationTask, now: datetime) -> float | None:
    return troubles.lag_now(_progress(task), now)


def _tell(
    task: MigrationTask, alert: TaskAlert, what: str, message: Message, *, urgent: bool | None = None
) -> None:
    notifications.notify(
        task.alert_contacts.all(),
        f"task:{task.public_id}:alert:{alert.pk}:{what}",
        Category.TASKS,
        message,
        urgent=alert.kind in URGENT if urgent is None else urgent,
    )


def differences_found(inspection: Inspection) -> None:
    """A verification that runs by itself has found differences: the contacts are told once for each such verification."""
    task = inspection.task
    if not task.alerts:
        return
    result: dict[str, Any] = inspection.result
    found = result.get("differences")
    number = f"{found:,} differences" if isinstance(found, int) and found != 1 else "a difference"
    text = [
        f"The verification {inspection.public_id} of the migration {task.name} ({task.public_id}) has found {number} between source "
        "and target.",
        "Nothing was changed by it, on either side.",
        "What to do: open the verification, look at the keys that differ, and decide whether they are repaired. Do not switch over "
        "before.",
    ]
    payload = {"task": task.public_id, "verification": inspection.public_id, "differences": found}
    message = Message(
        f"{task.name}: a verification has found differences",
        "\n\n".join(text),
        url=task.get_absolute_url(),
        payload=payload,
    )
    with transaction.atomic():
        notifications.notify(
            task.alert_contacts.all(),
            f"task:{task.public_id}:differences:{inspection.public_id}",
            Category.TASKS,
            message,
        )


verifications.DIFFERS.append(differences_found)


# --- for the page of a task -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """A contact of a task, and why it would not be reached ("" if it is)."""

    contact: Contact
    problem: str


def told(task: MigrationTask) -> list[Told]:
    """Whom the alerts of the task reach."""
    return [
        Told(contact, _problem(contact)) for contact in task.alert_contacts.select_related("account", "user")
    ]


def rows(task: MigrationTask, limit: int = 20) -> list[TaskAlert]:
    """The alerts that were told, the newest first."""
    return list(TaskAlert.objects.filter(task=task, raised_at__isnull=False)[:limit])


def context_of(task: MigrationTask) -> dict[str, Any]:
    """For the fragment `migrations_app/_task_alerts.html`."""
    contacts = told(task) if task.alerts else []
    return {
        "told": contacts,
        "alert_rows": rows(task),
        "nobody_is_told": task.alerts and all(one.problem for one in contacts),
    }


def _problem(contact: Contact) -> str:
    if Category.TASKS not in contact.categories:
        return "has messages about migration tasks switched off"
    return "" if notifications.reach_of(contact) else "cannot be reached by any channel"
