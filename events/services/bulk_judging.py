"""What a bulk change would do to each of its events: the new time, or the refusal that one event alone would get. Writes nothing.

The events of a bulk change move together, so none of them is in the way of another one at the time that it leaves. One that is left
out stays where it is: if that takes a place which was given away, all are placed anew around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from events import rules
from events.choices import FINAL, BulkAction, EventStatus, RowOutcome
from events.models import BulkRow, Event
from events.models.events import sees_all
from events.rules import Facts, Surroundings
from events.services.by import By, is_event_staff
from events.services.scheduling import cancel_refusal, changed_meanwhile, ended, no_slot, no_window
from events.services.surroundings import facts_of, surroundings
from portal.errors import Conflict, NotFound, NotPermitted, ServiceError
from portal.models import Account, Instance
from portal.services.windows import windows_for
from portal.windows import Window

if TYPE_CHECKING:
    from events.models import BulkChange

TIME_ACTIONS: Final = frozenset(
    {BulkAction.TO_TIME, BulkAction.TO_WINDOW, BulkAction.STAGGER, BulkAction.UNDO}
)
ROUNDS: Final = 5
LOOKING: Final = timedelta(minutes=10)
"""A time in a window leaves so much for looking at the preview: what begins sooner would be too late by the time it is applied."""


@dataclass(slots=True)
class Verdict:
    """`moment` None without a refusal: the event waits for a time, or the action sets none."""

    moment: datetime | None = None
    refusal: ServiceError | None = None
    outcome: RowOutcome = RowOutcome.PLANNED


Place = datetime | ServiceError
Candidate = tuple[int, Event, Facts]


class Handlers:
    """`require_handler` for many events: what the person may do is asked for once."""

    def __init__(self, by: By) -> None:
        self._may_all = by.user is None or is_event_staff(by.user)
        self._operated: frozenset[int] = frozenset()
        self._member_of: frozenset[int] = frozenset()
        self._sees_all = False
        if by.user is not None and not self._may_all:
            self._operated = frozenset(Account.objects.operated_by(by.user).values_list("pk", flat=True))
            self._member_of = frozenset(Account.objects.visible_to(by.user).values_list("pk", flat=True))
            self._sees_all = sees_all(by.user)

    def refusal(self, event: Event) -> ServiceError | None:
        if self._may_all or event.account_id in self._operated:
            return None
        if event.account_id in self._member_of:
            return NotPermitted()
        if self._sees_all:
            return NotPermitted(advice="Ask an administrator for the permission to change events.")
        return NotFound()


def judge(
    by: By, bulk: BulkChange, rows: Sequence[BulkRow], events: Sequence[Event], now: datetime
) -> list[Verdict]:
    """One verdict for each event; `rows` and `events` stand in the same order, types are loaded. A constant number of queries per thousand."""
    handlers = Handlers(by)
    action = BulkAction(bulk.action)
    if action not in TIME_ACTIONS:
        check = check_cancel if action == BulkAction.CANCEL else check_acknowledge
        found = (handlers.refusal(event) or check(by, event, now) for event in events)
        return [
            Verdict(refusal=one, outcome=RowOutcome.REFUSED if one else RowOutcome.PLANNED) for one in found
        ]
    verdicts = [Verdict() for _ in events]
    candidates: list[Candidate] = []
    for index, (row, event) in enumerate(zip(rows, events, strict=True)):
        facts = facts_of(event, now)
        refusal = handlers.refusal(event)
        if refusal is None and action == BulkAction.UNDO and event.revision != row.seen_revision:
            verdicts[index] = Verdict(refusal=changed_meanwhile(event), outcome=RowOutcome.LOST)
            continue
        refusal = refusal or rules.check_change(facts)
        if refusal is not None:
            verdicts[index] = Verdict(refusal=refusal, outcome=RowOutcome.REFUSED)
        elif action == BulkAction.UNDO and row.new_switch_at is None:
            continue  # it waits for a time again
        else:
            candidates.append((index, event, facts))
    for index, place in _place_all(candidates, _placers(bulk, rows, candidates), now).items():
        event = events[index]
        if isinstance(place, datetime) and place == event.switch_at and event.status == EventStatus.PENDING:
            place = same_time(event)
        if isinstance(place, datetime):
            verdicts[index] = Verdict(place)
        else:
            verdicts[index] = Verdict(refusal=place, outcome=RowOutcome.REFUSED)
    return verdicts


def check_cancel(by: By, event: Event, now: datetime) -> ServiceError | None:
    return cancel_refusal(by, event, now)


def check_acknowledge(by: By, event: Event, now: datetime) -> ServiceError | None:
    if event.acknowledged_at is None:
        return ended(event) if event.status in FINAL else None
    return Conflict(
        f"{event.acknowledged_by or 'Somebody'} has acknowledged it already. {rules.NOTHING}",
        advice="",
        id="event.acknowledged",
    )


def same_time(event: Event) -> ServiceError:
    return Conflict(f"It is planned for this time already. {rules.NOTHING}", advice="", id="event.same_time")


# --- Where each one goes ----------------------------------------------------------------------------------------------


class Placer(Protocol):
    """Gives one event after the other its time, and remembers what it has given."""

    def place(self, index: int, event: Event, facts: Facts, around: Surroundings) -> Place: ...


class _ToTimes:
    """Each event has a time of its own, or all the same one. An undo is no deferral."""

    def __init__(self, time_of: Callable[[int], datetime], *, undo: bool = False) -> None:
        self._time_of = time_of
        self._check = rules.check_moment if undo else rules.check_reschedule

    def place(self, index: int, event: Event, facts: Facts, around: Surroundings) -> Place:
        moment = self._time_of(index)
        if moment == event.switch_at and event.status == EventStatus.PENDING:
            return moment
        return self._check(facts, moment, around) or moment


class _ToWindows:
    def __init__(self, windows: dict[int, Window]) -> None:
        self._windows = windows
        # Up to which moment nothing is free for events of a kind: what is placed only ever takes places away.
        self._none_before: dict[object, datetime] = {}
        self._busy_until: dict[int, datetime] = {}

    def place(self, index: int, event: Event, facts: Facts, around: Surroundings) -> Place:
        instance = event.instance_id
        window = self._windows.get(instance) if instance is not None else None
        if window is None or instance is None:
            return no_window(event)
        kind, latest = (window, _kind(facts)), rules.latest_choice(facts)
        begin = self._none_before.get(kind) or _full_minute(facts.earliest + LOOKING)
        found = None
        if (until := self._busy_until.get(instance)) is not None:
            # Behind what the instance was given before, its preparation included, so that it need not wait when its time has come.
            after = max(begin, _full_minute(until + facts.preparation))
            found = rules.propose(facts, window, around, not_before=after) if after <= latest else None
        if found is None:
            found = rules.propose(facts, window, around, not_before=begin) if begin <= latest else None
            self._none_before[kind] = found or max(begin, latest)
        if found is None:
            return no_slot(event)
        self._busy_until[instance] = max(found + facts.length, until or found)
        return found


class _Staggered:
    """One switchover begins in each slot. Who cannot have the next slot (a blackout, a full region, the preparation) gets the first one
    that is free for it, and leaves the earlier ones to others."""

    def __init__(self, start: datetime, step: timedelta) -> None:
        self._start, self._step = start, step
        self._taken: dict[int, int] = {}  # a taken slot → one after it, from which on to look for a free one
        self._none_before: dict[object, int] = {}

    def place(self, index: int, event: Event, facts: Facts, around: Surroundings) -> Place:
        kind, latest = _kind(facts), rules.latest_choice(facts)
        first = slot = self._free(max(self._none_before.get(kind, 0), self._slot_at(facts.earliest)))
        found = None
        while found is None and (moment := self._moment(slot)) <= latest:
            allowed = around.next_free(facts, moment, latest)
            if allowed is None:
                break
            if allowed == moment:
                found = moment
                self._taken[slot] = slot + 1
            else:
                slot = self._free(max(slot + 1, self._slot_at(allowed)))
        self._none_before[kind] = slot
        if found is not None:
            return found
        return rules.check_reschedule(facts, self._moment(first), around) or no_place(event)

    def _moment(self, slot: int) -> datetime:
        return self._start + slot * self._step

    def _slot_at(self, moment: datetime) -> int:
        """The first one that does not begin before the moment."""
        return max(0, math.ceil((moment - self._start) / self._step))

    def _free(self, slot: int) -> int:
        passed = []
        while slot in self._taken:
            passed.append(slot)
            slot = self._taken[slot]
        for one in passed:
            self._taken[one] = slot
        return slot


def no_place(event: Event) -> ServiceError:
    return Conflict(
        f"No time in this order is free up to {rules.text_of(event.deadline)}. {rules.NOTHING}",
        advice="Begin earlier, or leave less time between two switchovers.",
        id="event.no_place",
    )


def _kind(facts: Facts) -> object:
    """Events for which the same moments are free."""
    return facts.region, facts.account_id, facts.level, facts.length, facts.preparation


def _full_minute(moment: datetime) -> datetime:
    floor = moment.replace(second=0, microsecond=0)
    return floor if floor == moment else floor + timedelta(minutes=1)


def _placers(
    bulk: BulkChange, rows: Sequence[BulkRow], candidates: Sequence[Candidate]
) -> Callable[[], Placer]:
    """Makes a new placer for each round."""
    if bulk.action == BulkAction.TO_WINDOW:
        windows = _windows_of(event for _, event, _ in candidates)
        return lambda: _ToWindows(windows)
    if bulk.action == BulkAction.UNDO:
        old = {index: row.new_switch_at for index, row in enumerate(rows) if row.new_switch_at is not None}
        return lambda: _ToTimes(old.__getitem__, undo=True)
    at = datetime.fromisoformat(bulk.parameters["at"])
    if bulk.action == BulkAction.STAGGER:
        step = timedelta(minutes=bulk.parameters["minutes"])
        return lambda: _Staggered(at, step)
    return lambda: _ToTimes(lambda _: at)


def _windows_of(events: Iterable[Event]) -> dict[int, Window]:
    found: dict[int, Window] = {}
    accounts = {event.instance_id: event.account_id for event in events if event.instance_id is not None}
    # Stand-ins: which window applies is told by these two keys alone.
    instances = [Instance(pk=pk, account_id=account) for pk, account in accounts.items()]
    for begin in range(0, len(instances), 1000):
        found |= windows_for(instances[begin : begin + 1000])
    return found


def _place_all(
    candidates: Sequence[Candidate], new_placer: Callable[[], Placer], now: datetime
) -> dict[int, Place]:
    if not candidates:
        return {}
    regions = {facts.region for _, _, facts in candidates}
    found: dict[int, Place] = {}
    around = surroundings(regions, now, max(facts.deadline for _, _, facts in candidates))
    stays: dict[int, Place] = {}
    for _ in range(ROUNDS):
        ground = Ground(around)
        moving = [one for one in candidates if one[0] not in stays]
        for _, event, _ in moving:
            ground.leave(event)
        placer = new_placer()
        found = {index: ground.place(placer, index, event, facts) for index, event, facts in moving}
        refused = [(index, event) for index, event, _ in moving if not isinstance(found[index], datetime)]
        for _, event in refused:
            ground.come_back(event)
        crowded = any(ground.is_crowded(event) for _, event in refused)
        stays |= {index: found[index] for index, _ in refused}
        if not crowded:
            return stays | found
    # One after the other: each leaves its time only when its turn comes, so nobody can be in the way of one that comes back.
    ground, placer = Ground(around), new_placer()
    for index, event, facts in candidates:
        if index in stays:
            continue
        ground.leave(event)
        found[index] = ground.place(placer, index, event, facts)
        if not isinstance(found[index], datetime):
            ground.come_back(event)
    return found | stays


class Ground:
    """The surroundings while events are moved about on them. The given ones are not changed."""

    def __init__(self, around: Surroundings) -> None:
        occupied = {region: one.copy() for region, one in (around.occupied or {}).items()}
        self.around = Surroundings(around.closed, around.limits, occupied)
        self._occupied = occupied

    def leave(self, event: Event) -> None:
        if (region := self._occupied.get(event.region)) is not None and event.switch_at is not None:
            region.remove(event.switch_at, length_of(event))

    def come_back(self, event: Event) -> None:
        if event.switch_at is not None:
            self.take(event, event.switch_at)

    def take(self, event: Event, moment: datetime) -> None:
        if (region := self._occupied.get(event.region)) is not None:
            region.add(moment, length_of(event))

    def place(self, placer: Placer, index: int, event: Event, facts: Facts) -> Place:
        where = placer.place(index, event, facts, self.around)
        if isinstance(where, datetime):
            self.take(event, where)
        return where

    def is_crowded(self, event: Event) -> bool:
        """Whether more are planned at its time, with itself, than there may be."""
        most, region = self.around.limit_of(event.region), self._occupied.get(event.region)
        if most is None or region is None or event.switch_at is None:
            return False
        return region.most_at_once(event.switch_at, length_of(event), enough=most + 1) > most


def length_of(event: Event) -> timedelta:
    return timedelta(seconds=event.switch_seconds)
