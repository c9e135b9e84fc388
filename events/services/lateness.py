"""What becomes of an event that could not begin in time, and of one for which nobody has chosen a time. Pure.

The table holds twice: for the beginning of its preparation, and, once that is done, for its switchover.

| Planned | Could not begin in time | Then |
|---|---|---|
| a risk fix (S0) | whatever the reason | it begins at once |
| within a maintenance window | its switchover still fits into the same occurrence of the window | it begins late |
| outside of one, or there is none | by at most EVENT_LATE_MINUTES | it begins late |
| otherwise, or late into a blackout | | it is postponed: to the next window, without one to the same time on the next day |

A postponed event may pass its deadline, which was missed by no fault of its owner: the deadline moves along.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import Final

from events import rules
from events.choices import Level
from events.rules import Facts, Surroundings
from portal.windows import Span, Window, span_at, spans

GRACE: Final = timedelta(minutes=1)
"""So much later is still in time: ticks are seconds apart, and workers can be busy."""
BEYOND: Final = timedelta(days=400)
"""How far an event can be postponed."""
CHOICE: Final = timedelta(hours=24)
"""Nobody has chosen a time so long before the last chance: the system does."""
WEEK: Final = timedelta(days=8)
"""The longest pause of a maintenance window, and a day for clock changes."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """`switch_at` is when the switchover can be, if the event begins now. `why` says why it may not begin now; "": it may."""

    switch_at: datetime
    late: timedelta = timedelta(0)
    why: str = ""


def judge(facts: Facts, window: Window | None, around: Surroundings, allowed: timedelta) -> Judgement:
    """Of a pending event whose preparation is due. `allowed` is EVENT_LATE_MINUTES."""
    assert facts.switch_at is not None
    late = facts.now - (facts.switch_at - facts.preparation)
    if late <= GRACE:
        return Judgement(facts.switch_at)
    moment = _full_second(facts.earliest)
    if facts.level == Level.S0:
        return Judgement(moment, late)
    if not _still_fits(facts.switch_at, moment, window, late <= allowed):
        return Judgement(moment, late, "It could not begin in time.")
    if (closed := around.blackout_at(facts, moment)) is not None:
        # The time that was planned was allowed; this one would be new.
        why = f"It could not begin in time, and later nothing is switched over: {closed.reason}."
        return Judgement(moment, late, why)
    return Judgement(moment, late)


def _still_fits(planned: datetime, moment: datetime, window: Window | None, tolerable: bool) -> bool:
    span = span_at(window, planned) if window is not None else None
    return tolerable if span is None else span.covers(moment)


def postponed_to(facts: Facts, window: Window | None, around: Surroundings, zone: tzinfo) -> datetime:
    """The next place for an event that may not begin now. Limits of what its owner may choose do not hold for the system."""
    facts = replace(facts, max_deferrals=None, max_deferral=None)
    if window is not None:
        found = rules.propose(facts, window, around) or rules.propose(
            replace(facts, deadline=facts.now + BEYOND), window, around
        )
        if found is not None:
            return _full_second(found)
    return _same_time(facts, around, zone)


def _same_time(facts: Facts, around: Surroundings, zone: tzinfo) -> datetime:
    """By the clock of `zone`, on the next day on which nothing is in the way."""
    assert facts.switch_at is not None
    planned = facts.switch_at.astimezone(zone)
    today = max(planned.date(), facts.now.astimezone(zone).date())
    for days in range(BEYOND.days):
        clock = datetime.combine(today + timedelta(days=days), planned.time(), tzinfo=zone)
        moment = clock.astimezone(facts.now.tzinfo)
        if moment <= facts.switch_at or moment < facts.earliest:
            continue
        if around.next_free(facts, moment, moment) is not None:
            return moment
    return _full_second(facts.earliest)


def choose_by(facts: Facts, created_at: datetime, window: Window | None) -> datetime:
    """Until when somebody may choose a time, before the system does.

    24 h (or half of the time that there was, where that is less) before the deadline, or before the last window that begins by then.
    """
    last = facts.deadline
    if window is not None and (span := _last_window(window, facts.deadline)) and span.begins > created_at:
        last = span.begins
    notice = min(CHOICE, (last - created_at) / 2)
    return max(created_at, last - max(notice, facts.preparation))


def _last_window(window: Window, deadline: datetime) -> Span | None:
    found = None
    for span in spans(window, deadline - WEEK):
        if span.begins > deadline:
            break
        found = span
    return found


def _full_second(moment: datetime) -> datetime:
    """People and messages name no smaller parts."""
    return moment if not moment.microsecond else moment.replace(microsecond=0) + timedelta(seconds=1)
