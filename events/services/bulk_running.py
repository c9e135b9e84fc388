"""Carries bulk changes out: the preview and the application, in one job that any worker can follow up.

The row of the bulk change is the truth. A worker has it for LEASE, and says so again with each chunk; a chunk (its events, its rows,
what is audited and told, how far it has come) is one transaction that begins with this compare-and-swap. So a worker that is killed is followed by
another one at the same place, and one that has lost its lease without knowing it changes nothing.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog
from django.db import DatabaseError, transaction
from django.db.models import Q
from django.utils import timezone
from django_q.tasks import async_task

from events import rules
from events.choices import BulkAction, BulkStatus, RowOutcome, Via
from events.models import BulkChange, BulkRow, Event
from events.services import bulk_judging
from events.services.bulk_applying import CHUNK, apply_chunk, with_types
from events.services.bulk_judging import Verdict
from events.services.by import By
from portal.many import update_many
from portal.models import UserProfile
from portal.patience import patient

if TYPE_CHECKING:
    from django.contrib.auth.models import User

log = structlog.get_logger(__name__)

CLUSTER: Final = "default"
LEASE: Final = timedelta(seconds=30)
BELL: Final = timedelta(seconds=20)  # after which a change that nobody has taken is asked for again
JOB_SECONDS: Final = 60.0  # then another job goes on: the cluster ends one that takes too long
UNDER_WAY: Final = (BulkStatus.PLANNING, BulkStatus.APPLYING)


class LeaseLost(Exception):
    """Another worker has it now."""


# --- Bells ------------------------------------------------------------------------------------------------------------


def ring(bulk_id: int) -> None:
    """Ask for a worker that goes on with it."""
    async_task(
        "events.jobs.run_bulk", bulk_id, cluster=CLUSTER, task_name=f"events-bulk-{bulk_id}", save=False
    )


def ring_later(bulk_id: int) -> None:
    """Once all of this is committed. A broker that cannot be reached undoes nothing: each tick looks again."""
    transaction.on_commit(lambda: ring(bulk_id), robust=True)


def ring_waiting() -> int:
    """Ask for workers for what nobody works on: lost messages, workers that died."""
    now = timezone.now()
    count = 0
    rows = BulkChange.objects.filter(status__in=UNDER_WAY, lease_until__lt=now)
    for pk, lease_until in rows.values_list("pk", "lease_until"):
        # One of several machines that look at the same time rings.
        if rows.filter(pk=pk, lease_until=lease_until).update(owner="", lease_until=now + BELL):
            ring(pk)
            count += 1
    return count


# --- The job ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Work:
    """A bulk change under the lease of this process."""

    bulk: BulkChange
    by: By
    owner: str

    def mine(self) -> Any:
        return BulkChange.objects.filter(pk=self.bulk.pk, owner=self.owner, status=self.bulk.status)

    def keep(self, done: int, **values: Any) -> None:
        """The first statement of a chunk's transaction. Raises LeaseLost."""
        values = {"done": done, "lease_until": timezone.now() + LEASE} | values
        if not self.mine().filter(done=self.bulk.done).update(**values):
            raise LeaseLost


def run(bulk_id: int, seconds: float = JOB_SECONDS) -> str:
    """Go on with it, if nobody else does. What it returns is for the log of the cluster."""
    work = _claim(bulk_id)
    if work is None:
        return "nothing to do: it has a worker, or waits for nobody"
    ends = time.monotonic() + seconds
    try:
        with timezone.override(_zone_of(work.bulk.actor)):
            if work.bulk.status == BulkStatus.PLANNING:
                _plan(work)
            while work.bulk.status == BulkStatus.APPLYING:
                apply_chunk(work)
                if time.monotonic() > ends and work.bulk.status == BulkStatus.APPLYING:
                    _hand_over(work)
                    return "goes on in another job"
    except LeaseLost:
        return "lost to another worker"
    except DatabaseError:
        raise  # it passes; the tick asks again once the lease has run out
    except Exception as error:
        log.exception("bulk.failed", bulk=work.bulk.public_id)
        _fail(work, f"{type(error).__name__}: see the log of the workers.")
        return "failed"
    return "done"


@patient
def _claim(bulk_id: int) -> Work | None:
    now = timezone.now()
    owner = f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(4)}"
    free = Q(owner="") | Q(lease_until__isnull=True) | Q(lease_until__lt=now)
    rows = BulkChange.objects.filter(free, pk=bulk_id, status__in=UNDER_WAY)
    if not rows.update(owner=owner, lease_until=now + LEASE):
        return None
    bulk = BulkChange.objects.select_related("actor", "undoes").get(pk=bulk_id)
    return Work(bulk, By(bulk.actor, via=Via(bulk.via)), owner)


@patient
def _hand_over(work: Work) -> None:
    if work.mine().update(owner="", lease_until=timezone.now() + BELL):
        ring_later(work.bulk.pk)


@patient
def _fail(work: Work, why: str) -> None:
    now = timezone.now()
    work.mine().update(status=BulkStatus.FAILED, failure=why, finished_at=now, owner="", lease_until=None)


def _zone_of(user: User | None) -> zoneinfo.ZoneInfo:
    """Times in refusals are written for whoever asked."""
    name = UserProfile.objects.filter(user=user).values_list("time_zone", flat=True).first() if user else ""
    try:
        return zoneinfo.ZoneInfo(name or timezone.get_default_timezone_name())
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return zoneinfo.ZoneInfo("UTC")


# --- The preview ------------------------------------------------------------------------------------------------------


def _plan(work: Work) -> None:
    """All is judged at once, as one event can take the place of another. Begun again by whoever follows a worker that died: nothing
    but the preview was written."""
    bulk = work.bulk
    _begin_again(work)
    rows = list(bulk.rows.order_by("position"))
    by_pk = {
        event.pk: event for event in with_types(list(Event.objects.filter(bulk_rows__bulk=bulk).order_by()))
    }
    events = [by_pk[row.event_id] for row in rows if row.event_id in by_pk]
    rows = [row for row in rows if row.event_id in by_pk]
    verdicts = bulk_judging.judge(work.by, bulk, rows, events, timezone.now())
    for row, event, verdict in zip(rows, events, verdicts, strict=True):
        _note_verdict(row, event, verdict)
    for begin in range(0, max(1, len(rows)), CHUNK):
        _write_preview(work, rows[begin : begin + CHUNK], last=begin + CHUNK >= len(rows))


def _note_verdict(row: BulkRow, event: Event, verdict: Verdict) -> None:
    row.old_switch_at = event.switch_at
    if verdict.outcome != RowOutcome.LOST:
        row.seen_revision = event.revision
    row.outcome = verdict.outcome
    if verdict.refusal is not None:
        row.refusal_id, row.message = verdict.refusal.id, rules.reason_of(verdict.refusal)
    if row.bulk.action != BulkAction.UNDO:
        row.new_switch_at = verdict.moment


@patient
def _begin_again(work: Work) -> None:
    work.keep(0)
    work.bulk.done = 0


PREVIEW_FIELDS: Final = (
    "seen_revision",
    "old_switch_at",
    "new_switch_at",
    "outcome",
    "refusal_id",
    "message",
)


def _write_preview(work: Work, rows: Sequence[BulkRow], *, last: bool) -> None:
    status, done = _write_preview_now(work, rows, last)
    work.bulk.status, work.bulk.done = status, done


@patient
def _write_preview_now(work: Work, rows: Sequence[BulkRow], last: bool) -> tuple[BulkStatus, int]:
    bulk, done = work.bulk, work.bulk.done + len(rows)
    if not last:
        work.keep(done)
    elif bulk.action == BulkAction.UNDO:
        # Somebody wants back what was: no question.
        done = 0
        work.keep(done, status=BulkStatus.APPLYING, applied_at=timezone.now())
    else:
        work.keep(bulk.total, status=BulkStatus.PLANNED, owner="", lease_until=None)
        done = bulk.total
    update_many(rows, PREVIEW_FIELDS)
    if not last:
        return BulkStatus(bulk.status), done
    return (BulkStatus.APPLYING if bulk.action == BulkAction.UNDO else BulkStatus.PLANNED), done
