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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog
from django.db import DatabaseError, transaction
from django.db.models import F, Q
from django.utils import timezone
from django_q.tasks import async_task

from events import rules
from events.choices import BulkAction, BulkStatus, EventStatus, OccasionKind, RowOutcome, Via
from events.models import BulkChange, BulkRow, Event, Occasion
from events.rules import Surroundings
from events.services import bulk_judging, occasions, scheduling
from events.services.bulk_judging import TIME_ACTIONS, Handlers, Verdict
from events.services.by import By
from events.services.surroundings import facts_of, surroundings
from portal.errors import ServiceError
from portal.many import update_many
from portal.models import UserProfile
from portal.patience import patient
from portal.services import audit

if TYPE_CHECKING:
    from django.contrib.auth.models import User

log = structlog.get_logger(__name__)

CLUSTER: Final = "default"
CHUNK: Final = 1000
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
                _apply_chunk(work)
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
        event.pk: event
        for event in Event.objects.filter(bulk_rows__bulk=bulk).select_related("type").order_by()
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
        row.refusal_id, row.message = verdict.refusal.id, str(verdict.refusal)
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


# --- Applying ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Chunk:
    """What is written of a chunk."""

    now: datetime
    changed: list[tuple[BulkRow, Event]] = field(default_factory=list)
    others: list[BulkRow] = field(default_factory=list)
    """Refused now, or changed by somebody else since the preview."""
    audited: list[tuple[Event, dict[str, Any]]] = field(default_factory=list)
    told: list[Occasion] = field(default_factory=list)

    def refuse(self, row: BulkRow, refusal: ServiceError, outcome: RowOutcome = RowOutcome.REFUSED) -> None:
        row.outcome, row.refusal_id, row.message = outcome, refusal.id, str(refusal)
        self.others.append(row)


def _apply_chunk(work: Work) -> None:
    work.bulk.status, work.bulk.done = _apply_chunk_now(work)


@patient
def _apply_chunk_now(work: Work) -> tuple[BulkStatus, int]:
    bulk, begin = work.bulk, work.bulk.done
    end = min(begin + CHUNK, bulk.total)
    status, done = BulkStatus.APPLYING, end
    values: dict[str, Any] = {}
    if end >= bulk.total:
        status, done = BulkStatus.DONE, bulk.total
        values = {"status": status, "finished_at": timezone.now(), "owner": "", "lease_until": None}
    work.keep(done, **values)
    rows = list(
        bulk.rows.filter(position__gte=begin, position__lt=end, outcome=RowOutcome.PLANNED).order_by(
            "position"
        )
    )
    if rows:
        events = _locked(rows)
        chunk = Chunk(timezone.now())
        if bulk.action in TIME_ACTIONS:
            _move(work, rows, events, chunk)
        else:
            _mark(work, rows, events, chunk)
        _write(work, chunk)
    return status, done


def _locked(rows: Iterable[BulkRow]) -> dict[int, Event]:
    """By primary key; in its order, so that two changes of the same events do not wait for each other in a circle."""
    found = (
        Event.objects.select_for_update(of=("self",))
        .select_related("type", "account")
        .filter(pk__in=[row.event_id for row in rows])
        .order_by("pk")
    )
    return {event.pk: event for event in found}


def _mark(work: Work, rows: Sequence[BulkRow], events: dict[int, Event], chunk: Chunk) -> None:
    """Cancels, or acknowledges."""
    handlers, by, bulk = Handlers(work.by), work.by, work.bulk
    cancels = bulk.action == BulkAction.CANCEL
    reason = str(bulk.parameters.get("reason", ""))
    for row in rows:
        event = events[row.event_id]
        if event.revision != row.seen_revision:
            chunk.refuse(row, scheduling.changed_meanwhile(event), RowOutcome.LOST)
            continue
        check = bulk_judging.check_cancel if cancels else bulk_judging.check_acknowledge
        if refusal := handlers.refusal(event) or check(by, event, chunk.now):
            chunk.refuse(row, refusal)
            continue
        details = by.details() | {"bulk": bulk.public_id}
        if cancels:
            scheduling.set_cancelled(event, reason, chunk.now)
            chunk.told.append(scheduling.cancel_occasion(event, by, bulk.public_id))
            details = {"reason": reason} | details
        else:
            event.acknowledged_at, event.acknowledged_by = chunk.now, by.name[:150]
        chunk.changed.append((row, event))
        chunk.audited.append((event, details))


def _move(work: Work, rows: Sequence[BulkRow], events: dict[int, Event], chunk: Chunk) -> None:
    """Gives each its new time, if the rules still allow it."""
    handlers, by, bulk, now = Handlers(work.by), work.by, work.bulk, chunk.now
    is_undo = bulk.action == BulkAction.UNDO
    check = rules.check_moment if is_undo else rules.check_reschedule
    ground = bulk_judging.Ground(_around(rows, events, now))
    if ground.is_limited:
        _make_way(bulk, rows[0].position, ground)
    for row in rows:
        event, moment = events[row.event_id], row.new_switch_at
        if event.revision != row.seen_revision:
            chunk.refuse(row, scheduling.changed_meanwhile(event), RowOutcome.LOST)
            continue
        facts = facts_of(event, now)
        refusal = handlers.refusal(event) or (rules.check_change(facts) if is_undo else None)
        if refusal is None and moment is not None:
            refusal = check(facts, moment, ground.around)
        if refusal is not None:
            chunk.refuse(row, refusal)
            ground.come_back(event)
            continue
        before = event.switch_at
        if is_undo:
            restore_time(event, moment)
        else:
            assert moment is not None
            scheduling.set_time(event, moment, now)
        if moment is not None:
            ground.take(event, moment)
        details = scheduling.time_details(event, before, by) | {"bulk": bulk.public_id}
        if bulk.undoes is not None:
            details |= {"undoes": bulk.undoes.public_id}
        chunk.changed.append((row, event))
        chunk.audited.append((event, details))
        told = scheduling.change_occasion(event, OccasionKind.CHANGED, before, by, batch=bulk.public_id)
        chunk.told += [told, *occasions.reminders(event, now)]


def _around(rows: Sequence[BulkRow], events: dict[int, Event], now: datetime) -> Surroundings:
    until = max((row.new_switch_at for row in rows if row.new_switch_at is not None), default=now)
    return surroundings({event.region for event in events.values()}, now, until, lock=True)


def _make_way(bulk: BulkChange, position: int, ground: bulk_judging.Ground) -> None:
    """The events that are still to be moved leave their times, as they did in the preview; those that have changed since stay."""
    rows = bulk.rows.filter(
        position__gte=position, outcome=RowOutcome.PLANNED, event__revision=F("seen_revision")
    )
    fields = ("event__region", "event__switch_at", "event__switch_seconds")
    for region, switch_at, seconds in rows.values_list(*fields):
        if switch_at is not None:
            ground.free(region, switch_at, timedelta(seconds=seconds))


def restore_time(event: Event, moment: datetime | None) -> None:
    """The fields of a time that is taken back, unsaved: an event that had waited for a time waits again, and a deferral was none."""
    if event.switch_at is not None and moment is not None:
        event.deferrals = max(0, event.deferrals - (event.switch_at > moment))
    if moment is None:
        event.status, event.proposed_at, event.starts_at = EventStatus.WAITING, None, None
    else:
        event.status, event.starts_at = EventStatus.PENDING, moment - event.preparation
    event.switch_at = moment
    event.hold_reason = ""
    event.revision += 1


AUDITED_AS: Final = {
    BulkAction.CANCEL: "event.cancelled",
    BulkAction.ACKNOWLEDGE: "event.acknowledged",
}
WRITTEN: Final[dict[str, Sequence[str]]] = {
    BulkAction.CANCEL: scheduling.CANCEL_FIELDS,
    BulkAction.ACKNOWLEDGE: ("acknowledged_at", "acknowledged_by"),
}


def _write(work: Work, chunk: Chunk) -> None:
    bulk, action = work.bulk, BulkAction(work.bulk.action)
    if chunk.changed:
        events = [event for _, event in chunk.changed]
        update_many(events, WRITTEN.get(action, scheduling.TIME_FIELDS))
        audit.record_many(work.by.user, AUDITED_AS.get(action, "event.rescheduled"), chunk.audited)
        occasions.note_many(chunk.told)
        more = 0 if action == BulkAction.ACKNOWLEDGE else 1
        bulk.rows.filter(pk__in=[row.pk for row, _ in chunk.changed]).update(
            outcome=RowOutcome.DONE, applied_revision=F("seen_revision") + more
        )
        if bulk.undoes_id is not None:
            BulkRow.objects.filter(
                bulk=bulk.undoes_id, event__in=[event.pk for event in events], outcome=RowOutcome.DONE
            ).update(outcome=RowOutcome.UNDONE)
    update_many(chunk.others, ("outcome", "refusal_id", "message"))
