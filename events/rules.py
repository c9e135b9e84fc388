"""The rules of O&M events: what may be announced, when a switchover may be, who may still change it. Pure.

A check returns None, or the refusal that a service raises and a bulk change notes beside the row. Moments are aware datetimes and are
compared to the microsecond: what is "at most" and "at least" here includes the edge.

| Rule | Refusal |
|---|---|
| a maintenance event (S1) is announced at least its notice ahead (R6) | `event.short_notice` |
| a risk fix (S0) is announced at most 72 h ahead (R7) | `event.not_urgent` |
| the switch time is not in the past, not before the preparation can be done, not after the deadline (R4) | `event.in_past`, `event.too_soon`, `event.after_deadline` |
| only a pending event, and only one whose time may be changed (R4) | `event.not_pending`, `event.fixed` |
| a type may limit how often and how far an event is deferred | `event.deferrals_used`, `event.deferred_too_far` |
| blackouts hold for maintenance | `event.blackout` |
| a region has at most so many switchovers at a time | `event.region_full` |
| cancelled only before it begins, and if it may be | `event.not_pending`, `event.not_cancellable` |
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Final

from django.utils import timezone

from events.choices import EventStatus, Level
from portal.errors import Conflict, Invalid, ServiceError
from portal.windows import Span, Window, spans

URGENT_NOTICE: Final = timedelta(hours=72)
"""A risk fix leaves at most this much time (R7), a maintenance event usually at least this much (R6)."""
NOTHING: Final = "Nothing was changed."
LOOK_AHEAD: Final = 400
"""Maintenance windows that are tried before a free one is given up: over a year of daily ones."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at of an event; `length` is that of the switchover, not of its impact."""

    now: datetime
    level: str
    status: str
    deadline: datetime
    preparation: timedelta = timedelta(0)
    length: timedelta = timedelta(minutes=10)
    switch_at: datetime | None = None
    proposed_at: datetime | None = None
    may_change: bool = True
    may_cancel: bool = False
    deferrals: int = 0
    max_deferrals: int | None = None
    max_deferral: timedelta | None = None
    region: str = ""
    account_id: int | None = None

    @property
    def earliest(self) -> datetime:
        """The first moment at which the preparation can be done."""
        return self.now + self.preparation


@dataclass(frozen=True, slots=True)
class Closed:
    """A blackout as the rules see it; account None and region "" stand for all."""

    begins: datetime
    ends: datetime
    reason: str
    region: str = ""
    account_id: int | None = None


class Occupancy:
    """The planned switchovers of one region, as spans of time. `add` and `remove` keep it true while many events are moved."""

    def __init__(self, taken: Iterable[tuple[datetime, timedelta]] = ()) -> None:
        self._spans = sorted((begin, begin + length) for begin, length in taken)
        self._longest = max((end - begin for begin, end in self._spans), default=timedelta(0))

    def add(self, begin: datetime, length: timedelta) -> None:
        insort(self._spans, (begin, begin + length))
        self._longest = max(self._longest, length)

    def remove(self, begin: datetime, length: timedelta) -> None:
        """Of a span that is not there nothing happens."""
        place = bisect_left(self._spans, (begin, begin + length))
        if place < len(self._spans) and self._spans[place] == (begin, begin + length):
            del self._spans[place]

    def copy(self) -> Occupancy:
        other = Occupancy()
        other._spans, other._longest = self._spans.copy(), self._longest
        return other

    def overlapping(self, begin: datetime, length: timedelta) -> Iterator[tuple[datetime, datetime]]:
        """In the order of their beginnings."""
        first = bisect_left(self._spans, (begin - self._longest, begin - self._longest))
        for place in range(first, len(self._spans)):
            span = self._spans[place]
            if span[0] >= begin + length:
                return
            if span[1] > begin:
                yield span

    def most_at_once(self, begin: datetime, length: timedelta, *, enough: int | None = None) -> int:
        """The highest number of spans that share a moment of this one. It is not looked for more than `enough`."""
        most = 0
        ends: list[datetime] = []  # of those that share the moment that is looked at, the next one first
        for span in self.overlapping(begin, length):
            while ends and ends[0] <= span[0]:
                heappop(ends)
            heappush(ends, span[1])
            most = max(most, len(ends))
            if most == enough:
                break
        return most


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Blackouts, limits of regions ("" for those without one of their own) and what is planned in each region."""

    closed: Sequence[Closed] = ()
    limits: Mapping[str, int] | None = None
    occupied: Mapping[str, Occupancy] | None = None

    def blackout_at(self, facts: Facts, moment: datetime) -> Closed | None:
        """A risk fix knows no blackout: it is exempt from the general schedule."""
        if facts.level == Level.S0:
            return None
        for one in self.closed:
            if (
                one.begins < moment + facts.length
                and moment < one.ends
                and one.account_id in (None, facts.account_id)
                and one.region in ("", facts.region)
            ):
                return one
        return None

    def limit_of(self, region: str) -> int | None:
        limits = self.limits or {}
        return limits.get(region, limits.get(""))

    def is_full(self, facts: Facts, moment: datetime) -> bool:
        most, occupancy = self.limit_of(facts.region), (self.occupied or {}).get(facts.region)
        if most is None or occupancy is None:
            return False
        return occupancy.most_at_once(moment, facts.length, enough=most) >= most

    def next_free(self, facts: Facts, moment: datetime, until: datetime) -> datetime | None:
        """The first moment from `moment` to `until`, both included, that is neither closed nor full."""
        while moment <= until:
            if (closed := self.blackout_at(facts, moment)) is not None:
                moment = closed.ends
            elif self.is_full(facts, moment):
                occupancy = (self.occupied or {})[facts.region]
                moment = min(span[1] for span in occupancy.overlapping(moment, facts.length))
            else:
                return moment
        return None


# --- Announcing -------------------------------------------------------------------------------------------------------


def check_publication(facts: Facts, notice: timedelta, around: Surroundings) -> ServiceError | None:
    """`notice` is the type's. `facts.switch_at` None: a time is to be chosen, so the deadline counts."""
    if facts.deadline <= facts.now:
        return Invalid(
            f"The deadline, {text_of(facts.deadline)}, has passed. Nothing was published.",
            advice="Choose a later one.",
            id="event.in_past",
            field="deadline",
        )
    if facts.level == Level.S0:
        if facts.deadline - facts.now > URGENT_NOTICE:
            return Invalid(
                "A risk fix leaves at most 72 hours, and this deadline is later. Nothing was published.",
                advice="Choose an earlier deadline, or publish it as maintenance (S1).",
                id="event.not_urgent",
                field="deadline",
            )
    elif (facts.switch_at or facts.deadline) - facts.now < notice:
        hours = notice / timedelta(hours=1)
        return Invalid(
            f"Maintenance of this type is announced at least {hours:g} hours ahead, and this is less. Nothing was published.",
            advice=f"Choose {text_of(_next_minute(facts.now + notice))} or later; only a risk fix (S0) may come sooner.",
            id="event.short_notice",
            field="switch_at" if facts.switch_at else "deadline",
        )
    if facts.switch_at is None:
        return _check_room(facts)
    return _of_publication(facts, check_moment(facts, facts.switch_at, around))


def _of_publication(facts: Facts, refusal: ServiceError | None) -> ServiceError | None:
    """In its words: there is no event yet that could be changed, or begun now."""
    if refusal is not None:
        refusal.message = refusal.message.replace(NOTHING, "Nothing was published.")
        if refusal.id == "event.too_soon":
            refusal.advice = f"The earliest time is {text_of(_next_minute(facts.earliest))}."
    return refusal


def _check_room(facts: Facts) -> ServiceError | None:
    if facts.earliest > facts.deadline:
        return Invalid(
            f"The preparation cannot be done before the deadline, {text_of(facts.deadline)}. Nothing was published.",
            advice="Choose a later deadline.",
            id="event.too_soon",
            field="deadline",
        )
    return None


# --- Changing ---------------------------------------------------------------------------------------------------------


def check_change(facts: Facts) -> ServiceError | None:
    """Whether the time may be changed at all."""
    if refusal := _check_open(facts):
        return refusal
    if not facts.may_change:
        return Conflict(
            f"The time of this event is fixed. {NOTHING}",
            advice="Ask those who announced it.",
            id="event.fixed",
        )
    return None


def check_reschedule(facts: Facts, moment: datetime, around: Surroundings) -> ServiceError | None:
    """Whether the owner may have the switchover at `moment`. `around` must not count the event itself."""
    return check_change(facts) or _check_deferral(facts, moment) or check_moment(facts, moment, around)


def check_moment(facts: Facts, moment: datetime, around: Surroundings) -> ServiceError | None:
    """Whether a switchover of this event can be at `moment`, whoever asks."""
    if moment < facts.now:
        return Invalid(
            f"{text_of(moment)} has passed. {NOTHING}",
            advice=f"Choose a time from {text_of(_next_minute(facts.earliest))} to {text_of(facts.deadline)}.",
            id="event.in_past",
            field="switch_at",
        )
    if moment > facts.deadline:
        return Invalid(
            f"{text_of(moment)} is after the deadline. {NOTHING}",
            advice=f"The latest time is {text_of(facts.deadline)}.",
            id="event.after_deadline",
            field="switch_at",
        )
    if moment < facts.earliest:
        return Invalid(
            f"The preparation takes {duration_text(facts.preparation)}, so it cannot be done by {text_of(moment)}. {NOTHING}",
            advice=f"The earliest time is {text_of(_next_minute(facts.earliest))}: choose “now”, or a later time.",
            id="event.too_soon",
            field="switch_at",
        )
    if (closed := around.blackout_at(facts, moment)) is not None:
        return Invalid(
            f"From {text_of(closed.begins)} to {text_of(closed.ends)} nothing is switched over: {closed.reason}. {NOTHING}",
            advice="Choose a time before or after that.",
            id="event.blackout",
            field="switch_at",
        )
    if around.is_full(facts, moment):
        free = _free_minute(facts, moment, around)
        region = f"region {facts.region}" if facts.region else "the instances without a region"
        return Invalid(
            f"At {text_of(moment)} as many switchovers are planned in {region} as there may be at a time. {NOTHING}",
            advice=f"{text_of(free)} is free." if free else "Choose another time.",
            id="event.region_full",
            field="switch_at",
        )
    return None


def _free_minute(facts: Facts, moment: datetime, around: Surroundings) -> datetime | None:
    """The first free whole minute, which can be entered as it is told."""
    free = around.next_free(facts, moment, facts.deadline)
    while free is not None and free != _next_minute(free):
        free = around.next_free(facts, _next_minute(free), facts.deadline)
    return free


def _check_deferral(facts: Facts, moment: datetime) -> ServiceError | None:
    if not is_deferral(facts, moment):
        return None
    if facts.max_deferrals is not None and facts.deferrals >= facts.max_deferrals:
        return Invalid(
            f"This event was put off {facts.deferrals} times, as often as its type allows. {NOTHING}",
            advice="An earlier time can still be chosen.",
            id="event.deferrals_used",
            field="switch_at",
        )
    if facts.max_deferral is not None and facts.proposed_at is not None:
        latest = facts.proposed_at + facts.max_deferral
        if moment > latest:
            return Invalid(
                f"An event of this type may be put off by {duration_text(facts.max_deferral)} at most. {NOTHING}",
                advice=f"The latest time is {text_of(min(latest, facts.deadline))}.",
                id="event.deferred_too_far",
                field="switch_at",
            )
    return None


def is_deferral(facts: Facts, moment: datetime) -> bool:
    """A later time than the one that stands. The first choice of a time is none."""
    return facts.switch_at is not None and moment > facts.switch_at


def latest_choice(facts: Facts) -> datetime:
    """The latest time that the owner may choose."""
    if (
        facts.switch_at is not None
        and facts.max_deferrals is not None
        and facts.deferrals >= facts.max_deferrals
    ):
        return min(facts.switch_at, facts.deadline)
    if facts.max_deferral is not None and facts.proposed_at is not None:
        return min(facts.deadline, facts.proposed_at + facts.max_deferral)
    return facts.deadline


def check_cancel(facts: Facts) -> ServiceError | None:
    if refusal := _check_open(facts):
        return refusal
    if not facts.may_cancel:
        return Conflict(
            f"This event may not be cancelled. {NOTHING}",
            advice="Choose another time, if it may be changed, or ask those who announced it.",
            id="event.not_cancellable",
        )
    return None


def _check_open(facts: Facts) -> ServiceError | None:
    status = EventStatus(facts.status)
    if status.is_open:
        return None
    what = "is in progress" if status == EventStatus.RUNNING else f"has ended ({status.label.lower()})"
    return Conflict(
        f"The event {what}, so it cannot be changed any more. {NOTHING}",
        advice="Only an event that has not begun can be changed.",
        id="event.not_pending",
    )


# --- Proposing --------------------------------------------------------------------------------------------------------


def propose(
    facts: Facts, window: Window, around: Surroundings, *, not_before: datetime | None = None
) -> datetime | None:
    """The first moment in a maintenance window at which all rules allow the switchover; None if there is none up to the latest choice."""
    earliest = max(facts.earliest, not_before or facts.now)
    latest = latest_choice(facts)
    for span in _windows(window, earliest, latest):
        # The last moment of a window is the one before its end.
        last = min(latest, span.ends - timedelta(seconds=1))
        free = around.next_free(facts, max(span.begins, earliest), last)
        if free is not None:
            return free
    return None


def _windows(window: Window, earliest: datetime, latest: datetime) -> Iterator[Span]:
    for number, span in enumerate(spans(window, earliest)):
        if span.begins > latest or number >= LOOK_AHEAD:
            return
        yield span


def last_slot(facts: Facts, window: Window | None, around: Surroundings) -> datetime:
    """When an event is switched over for which nobody has chosen a time: in the last window before the deadline, else at the deadline."""
    found = None
    if window is not None:
        for span in _windows(window, facts.earliest, facts.deadline):
            last = min(facts.deadline, span.ends - timedelta(seconds=1))
            found = around.next_free(facts, max(span.begins, facts.earliest), last) or found
    return found or max(facts.deadline, facts.earliest)


# --- Two events of one instance ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Planned:
    """Another event of the same instance, from the begin of its preparation to the end of its switchover."""

    name: str
    begins: datetime
    ends: datetime


def waits_for(facts: Facts, moment: datetime, others: Iterable[Planned]) -> Planned | None:
    """The event of the same instance that this one, switched over at `moment`, would have to wait for; None where none is in its way."""
    begins, ends = moment - facts.preparation, moment + facts.length
    for other in sorted(others, key=lambda one: one.begins):
        if other.begins < ends and begins < other.ends and other.begins <= begins:
            return other
    return None


def at_once(facts: Facts) -> datetime:
    """The switch time of an event whose preparation starts now."""
    return facts.earliest


def moved(facts: Facts, moment: datetime) -> Facts:
    """The facts after a reschedule."""
    return replace(facts, switch_at=moment, deferrals=facts.deferrals + is_deferral(facts, moment))


# --- Words ------------------------------------------------------------------------------------------------------------


def text_of(moment: datetime) -> str:
    """In the zone of whoever is being served: `2026-03-01 10:00 CET`."""
    local = timezone.localtime(moment)
    return f"{local:%Y-%m-%d %H:%M %Z}"


def _next_minute(moment: datetime) -> datetime:
    """`text_of` knows no seconds: what is the earliest is told as the whole minute from which on it is."""
    whole = moment.replace(second=0, microsecond=0)
    return moment if moment == whole else whole + timedelta(minutes=1)


def reason_of(refusal: ServiceError) -> str:
    """Beside the other rows of a change of many, where it goes without saying that this one is as it was."""
    return f"{refusal.message.removesuffix(NOTHING).rstrip()} {refusal.advice}".rstrip()


def duration_text(length: timedelta) -> str:
    """`90 s`, `45 min`, `2 h 30 min`, `3 days`."""
    seconds = int(length.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 120:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 72:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{hours // 24} days"
