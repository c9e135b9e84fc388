"""Applies a chunk of a bulk change: its events, their rows, what is audited and told, in one transaction and a constant number of queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from django.db.models import F
from django.utils import timezone

from events import rules
from events.choices import BulkAction, BulkStatus, EventStatus, OccasionKind, RowOutcome
from events.models import BulkChange, BulkRow, Event, EventType, Occasion
from events.rules import Surroundings
from events.services import bulk_judging, occasions, scheduling
from events.services.bulk_judging import TIME_ACTIONS, Handlers
from events.services.surroundings import facts_of, surroundings
from portal.errors import ServiceError
from portal.many import update_many
from portal.models import Account
from portal.patience import patient
from portal.services import audit

if TYPE_CHECKING:
    from events.services.bulk_running import Work

CHUNK: Final = 1000


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
        row.outcome, row.refusal_id, row.message = outcome, refusal.id, rules.reason_of(refusal)
        self.others.append(row)


def apply_chunk(work: Work) -> None:
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
    events = _locked(rows)
    rows = [row for row in rows if row.event_id in events]  # one can be deleted in between
    if rows:
        chunk = Chunk(timezone.now())
        if bulk.action in TIME_ACTIONS:
            _move(work, rows, events, chunk)
        else:
            _mark(work, rows, events, chunk)
        _write(work, chunk)
    return status, done


def _locked(rows: Iterable[BulkRow]) -> dict[int, Event]:
    """By primary key; in its order, so that two changes of the same events do not wait for each other in a circle."""
    pks = [row.event_id for row in rows]
    found = list(Event.objects.select_for_update().filter(pk__in=pks).order_by("pk"))
    accounts = Account.objects.in_bulk({event.account_id for event in found})
    for event in found:
        event.account = accounts[event.account_id]
    return {event.pk: event for event in with_types(found)}


def with_types(events: list[Event]) -> list[Event]:
    """The few types there are, one object for all events of each: a join would make ten thousand."""
    types = EventType.objects.in_bulk({event.type_id for event in events})
    for event in events:
        event.type = types[event.type_id]
    return events


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
    ground = bulk_judging.Ground(_around(bulk, rows, events, now))
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


def _around(
    bulk: BulkChange, rows: Sequence[BulkRow], events: dict[int, Event], now: datetime
) -> Surroundings:
    """Without the events that are still to be moved, as in the preview; those that have changed since stay where they are."""
    until = max((row.new_switch_at for row in rows if row.new_switch_at is not None), default=now)
    moving = bulk.rows.filter(
        position__gte=rows[0].position, outcome=RowOutcome.PLANNED, event__revision=F("seen_revision")
    )
    regions = {event.region for event in events.values()}
    return surroundings(regions, now, until, without=moving.order_by().values("event"), lock=True)


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


def _note_seen(work: Work, events: Sequence[Event], now: datetime) -> None:
    """Who moves an event of their own account has seen it, as in scheduling.apply_time. One query."""
    if work.by.user is not None:
        own = Account.objects.operated_by(work.by.user).order_by().values("pk")
        rows = Event.objects.filter(pk__in=[event.pk for event in events], account__in=own)
        rows.filter(acknowledged_at__isnull=True).update(
            acknowledged_at=now, acknowledged_by=work.by.name[:150]
        )


def _write(work: Work, chunk: Chunk) -> None:
    bulk, action = work.bulk, BulkAction(work.bulk.action)
    if chunk.changed:
        events = [event for _, event in chunk.changed]
        update_many(events, WRITTEN.get(action, scheduling.TIME_FIELDS))
        audit.record_many(work.by.user, AUDITED_AS.get(action, "event.rescheduled"), chunk.audited)
        occasions.note_many(chunk.told)
        if action not in (*WRITTEN, BulkAction.UNDO):
            _note_seen(work, events, chunk.now)
        more = 0 if action == BulkAction.ACKNOWLEDGE else 1
        bulk.rows.filter(pk__in=[row.pk for row, _ in chunk.changed]).update(
            outcome=RowOutcome.DONE, applied_revision=F("seen_revision") + more
        )
        if bulk.undoes_id is not None:
            BulkRow.objects.filter(
                bulk=bulk.undoes_id, event__in=[event.pk for event in events], outcome=RowOutcome.DONE
            ).update(outcome=RowOutcome.UNDONE)
    update_many(chunk.others, ("outcome", "refusal_id", "message"))
