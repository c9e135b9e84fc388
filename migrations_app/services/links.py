"""Links, for the workers that run them: lease and epoch, progress, log, and the end of a task.

Nobody's permission is asked here: the actor is the system. A worker that holds a lease names it in every call, and a call
under a lease that was lost changes nothing and says so. All times of leases are those of the database, so that the clocks of
two machines need not agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Coalesce, Now
from django.utils import timezone
from django_q.tasks import async_task

from migrations_app import states
from migrations_app.choices import ACTIVE, Desired, LogLevel, Phases, TaskStatus
from migrations_app.models import Link, LinkProgress, LogEntry, MigrationTask
from migrations_app.services import causes, privacy
from migrations_app.services import status as statuses
from portal.patience import patient
from portal.services import audit

LEASE_SECONDS: Final = 10
BELL_SECONDS: Final = (
    10  # before a worker is asked for once more: the message may have been lost with its worker
)
CLUSTER: Final = "replication"
LOG_FIELD_LIMIT: Final = 2000  # characters of a message that are kept

# Counters over all runs of a link are what earlier runs have counted and what this run has.
CUMULATIVE: Final = ("commands", "bytes_in", "bytes_out", "full_syncs", "partial_syncs", "reconnects")
# Counters of the full phase stay as they are while a run only continues the stream.
OF_FULL_PHASE: Final = (
    "percent",
    "keys_done",
    "keys_total",
    "keys_skipped",
    "keys_kept",
    "snapshot_bytes",
    "snapshot_size",
    "databases",
)
GAUGES: Final = (
    "lag_bytes",
    "lag_seconds",
    "keys_per_second",
    "commands_per_second",
    "bytes_per_second",
    "latency_ms",
    "spool_bytes",
    "spool_limit",
    "spool_full",
)
# Unknown at the beginning of a run and while the source is away: what was known last stands.
LAST_KNOWN: Final = (
    "received_offset",
    "applied_offset",
    "source_offset",
    "backlog_bytes",
    "written_per_second",
)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a link, until it is lost. `epoch` is larger than that of every earlier owner."""

    link_id: int
    task_id: int
    owner: str
    epoch: int

    def _row(self) -> QuerySet[Link]:
        return Link.objects.filter(pk=self.link_id, owner=self.owner, epoch=self.epoch)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One thing that happened, to be kept. `fields` must be JSON and hold no secret."""

    at: datetime
    level: LogLevel
    event: str
    message: str
    fields: Mapping[str, Any]


def ring(link_id: int) -> None:
    """Ask for a worker. The message may be lost or doubled: only the lease decides who runs the link."""
    async_task(
        "migrations_app.jobs.run_link", link_id, cluster=CLUSTER, task_name=f"link-{link_id}", save=False
    )


def task_of(link_id: int) -> int | None:
    """The key of its task."""
    return Link.objects.filter(pk=link_id).values_list("task_id", flat=True).first()


def _free() -> Q:
    return Q(lease_until__isnull=True) | Q(lease_until__lt=Now())


@patient
def acquire_lease(link_id: int, owner: str) -> Lease | None:
    """Take the link over if it is wanted to run and nobody has it; None otherwise. Raises the epoch by one."""
    link = Link.objects.filter(_free(), pk=link_id, desired=Desired.RUN).first()
    if link is None:
        return None
    changed = Link.objects.filter(_free(), pk=link_id, desired=Desired.RUN, epoch=link.epoch).update(
        owner=owner, epoch=F("epoch") + 1, lease_until=Now() + timedelta(seconds=LEASE_SECONDS), rung_at=None
    )
    return Lease(link.pk, link.task_id, owner, link.epoch + 1) if changed else None


@patient
def renew_lease(lease: Lease) -> Desired | None:
    """Keep the link for LEASE_SECONDS more and tell what is wanted of it; None if it has another owner by now."""
    if not lease._row().update(lease_until=Now() + timedelta(seconds=LEASE_SECONDS)):
        return None
    return Desired(lease._row().values_list("desired", flat=True).get())


@patient
def release(lease: Lease) -> bool:
    """Give the link back. If it is still wanted to run, the next tick finds another worker for it."""
    return bool(lease._row().update(owner="", lease_until=None, rung_at=None))


@patient
def expire_lease(link_id: int, epoch: int) -> bool:
    """Take the lease of an owner that is known to be dead, without waiting until it runs out."""
    return bool(Link.objects.filter(pk=link_id, epoch=epoch).update(owner="", lease_until=None, rung_at=None))


def held_by_cluster(cluster: str) -> list[Link]:
    """The links whose owner is a process of this cluster."""
    return list(Link.objects.filter(owner__endswith=f":{cluster}", lease_until__gte=Now()))


def waiting() -> list[int]:
    """Links that are wanted to run and that nobody runs, those that have waited longest first."""
    return list(
        Link.objects.filter(_free(), desired=Desired.RUN)
        .order_by(F("rung_at").asc(nulls_first=True), "pk")
        .values_list("pk", flat=True)
    )


@patient
def ring_again(link_id: int) -> bool:
    """Ask for a worker unless that has been done within BELL_SECONDS (by another machine's tick, for example)."""
    due = Q(rung_at__isnull=True) | Q(rung_at__lt=Now() - timedelta(seconds=BELL_SECONDS))
    if not Link.objects.filter(_free(), due, pk=link_id, desired=Desired.RUN).update(rung_at=Now()):
        return False
    transaction.on_commit(lambda: ring(link_id))
    return True


def unsettled() -> list[int]:
    """Links that were told to stop or pause and whose worker is gone: nobody else will settle their task."""
    return list(
        Link.objects.filter(_free(), task__status__in=ACTIVE)
        .exclude(desired=Desired.RUN)
        .values_list("pk", flat=True)
    )


@patient
def settle(link_id: int) -> bool:
    """End (or pause) the task of a link that is to stop (or to pause) and has no worker."""
    link = (
        Link.objects.select_related("task").filter(_free(), pk=link_id).exclude(desired=Desired.RUN).first()
    )
    if link is None:
        return False
    # The name of an owner that is gone would keep the page from saying, after a resume, that the task waits for a worker.
    Link.objects.filter(_free(), pk=link_id).update(owner="", lease_until=None, rung_at=None)
    return _settled(link.task, Desired(link.desired))


# --- what a running link tells ------------------------------------------------------------------------------------------


@patient
def show_phase(lease: Lease, status: TaskStatus) -> bool:
    """The task's status follows the phase of its link, where the table allows it. False if nothing was changed.

    A task that is being stopped keeps that status until it has ended.
    """
    if not lease._row().exists():
        return False
    allowed = [old for old in states.before(status) if old in ACTIVE]
    changes: dict[str, Any] = {}
    if status == TaskStatus.FULL:
        # From here on the target is neither the old nor the new: a stop in a (repeated) full phase is no success.
        changes |= {"reached_incremental": False, "incremental_at": None}
    elif status == TaskStatus.INCREMENTAL:
        # The consent to a new full phase was for this once.
        since = Coalesce(
            "incremental_at", Value(timezone.now())
        )  # an interruption does not begin the phase anew
        changes |= {"reached_incremental": True, "full_resync_allowed": False, "incremental_at": since}
    return statuses.move(lease.task_id, allowed, status, **changes)


@patient
def record_progress(lease: Lease, values: Mapping[str, Any]) -> bool:
    """Store counters: columns of LinkProgress and their values. One UPDATE; the caller keeps to about one a second."""
    return bool(
        LinkProgress.objects.filter(
            link_id=lease.link_id, link__owner=lease.owner, link__epoch=lease.epoch
        ).update(updated_at=timezone.now(), **values)
    )


@patient
def append_log(task_id: int, lines: Iterable[LogLine]) -> None:
    scrubber = privacy.of_task(task_id)
    rows = []
    for line in lines:
        message, fields = line.message, dict(line.fields)
        if scrubber is not None:
            message = scrubber.text(message)
            fields = {
                key: scrubber.text(value) if isinstance(value, str) else value
                for key, value in fields.items()
            }
        rows.append(
            LogEntry(
                task_id=task_id,
                at=line.at,
                level=line.level,
                event=line.event[:64],
                message=message[:LOG_FIELD_LIMIT],
                fields=fields,
            )
        )
    LogEntry.objects.bulk_create(rows)


def note(
    task: MigrationTask, event: str, message: str, level: LogLevel = LogLevel.INFO, **fields: Any
) -> None:
    """One line in the log of a task, inside the transaction of the change that it tells of."""
    append_log(task.pk, [LogLine(timezone.now(), level, event, message, fields)])


# --- how a run ends -----------------------------------------------------------------------------------------------------


@patient
def finish_wanted(lease: Lease) -> TaskStatus | None:
    """The link has ended because it was told to stop or to pause: the one that is wanted now. None if the lease was lost."""
    link = lease._row().select_related("task").first()
    if link is None:
        return None
    desired = Desired(link.desired)
    if desired == Desired.RUN:  # wanted again meanwhile: the next tick finds a worker
        release(lease)
        return link.task.status_badge
    lease._row().update(owner="", lease_until=None, rung_at=None)
    _settled(link.task, desired)
    return MigrationTask.objects.get(pk=link.task_id).status_badge


@patient
def finish_completed(lease: Lease) -> bool:
    """A full-only link has written everything."""
    task = _task_of(lease)
    if task is None:
        return False
    _give_up(lease)
    return _end(task, TaskStatus.COMPLETED)


@patient
def fail(lease: Lease, *, failure_id: str, message: str, advice: str) -> bool:
    """The link cannot go on. The task can be resumed from here, and is by itself where the cause can pass and it is wanted to run.

    One that is just being paused is paused all the same where a server is merely away: its position stands.
    """
    link = lease._row().select_related("task").first()
    if link is None:
        return False
    task, desired = link.task, Desired(link.desired)
    if scrubber := privacy.of_task(task.pk):
        message, advice = scrubber.text(message), scrubber.text(advice)
    if desired == Desired.PAUSE and causes.can_pass(failure_id, message):
        lease._row().update(owner="", lease_until=None, rung_at=None)
        note(task, "link.failed_pausing", message, LogLevel.WARNING, failure_id=failure_id)
        return _settled(task, desired)
    _give_up(lease)
    return _end(
        task,
        TaskStatus.FAILED,
        failure_id=failure_id[:64],
        failure_message=message[:4000],
        failure_advice=advice[:4000],
        # Nobody expects a task that was to stop to begin again.
        **(
            causes.after_failure(task, failure_id, message)
            if desired == Desired.RUN
            else {"resume_next_at": None}
        ),
    )


def _task_of(lease: Lease) -> MigrationTask | None:
    link = lease._row().select_related("task").first()
    return link.task if link else None


def _give_up(lease: Lease) -> None:
    lease._row().update(owner="", lease_until=None, rung_at=None, desired=Desired.STOP)


def _settled(task: MigrationTask, desired: Desired) -> bool:
    """Nobody runs the link any more: stopped or paused, as was wanted."""
    if desired == Desired.STOP:
        return _end(task, states.after_stop(task.reached_incremental))
    if not statuses.move(task.pk, (TaskStatus.PAUSING,), TaskStatus.PAUSED, paused_at=timezone.now()):
        return False
    _stands_still(task)
    why = f" {task.pause_reason}" if task.pause_reason else ""
    note(task, "task.paused", f"The task is paused at its position. Nothing is written to the target.{why}")
    audit.record(None, "task.paused", task)
    return True


def _stands_still(task: MigrationTask) -> None:
    LinkProgress.objects.filter(link__task=task).update(
        keys_per_second=0, commands_per_second=0, bytes_per_second=0, updated_at=timezone.now()
    )


def _end(task: MigrationTask, status: TaskStatus, **changes: Any) -> bool:
    """From whatever status may come before it: the engine may have ended before its last phase was shown."""
    if not statuses.move(task.pk, states.before(status), status, finished_at=timezone.now(), **changes):
        return False
    _stands_still(task)
    event, level, message = _LAST_WORDS[status]
    if status == TaskStatus.COMPLETED and task.phases == Phases.FULL:
        message = "The full synchronization is complete. Nothing more is written to the target."
    if status == TaskStatus.FAILED:
        message = str(changes["failure_message"])
    note(task, event, message, level, **{key: value for key, value in changes.items() if key == "failure_id"})
    audit.record(None, event, task, **{key: value for key, value in changes.items() if key == "failure_id"})
    return True


_LAST_WORDS: Final[dict[TaskStatus, tuple[str, LogLevel, str]]] = {
    TaskStatus.COMPLETED: (
        "task.completed",
        LogLevel.INFO,
        "The task was stopped in the incremental phase. Nothing more is written to the target; the source loses nothing.",
    ),
    TaskStatus.STOPPED: (
        "task.stopped",
        LogLevel.WARNING,
        "The task was stopped before the full synchronization was complete: the target holds a part of the data only.",
    ),
    TaskStatus.FAILED: ("task.failed", LogLevel.ERROR, ""),
}
