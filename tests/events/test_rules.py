"""Each rule of events/rules.py with its edge, to the second and beyond. No database: the rules are pure."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import rules
from events.choices import EventStatus, Level
from events.rules import Closed, Facts, Occupancy, Planned, Surroundings
from portal.windows import Window, span_at

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
TICK = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
FREE = Surroundings()

EVENT = Facts(
    now=NOW,
    level=Level.S1,
    status=EventStatus.PENDING,
    deadline=NOW + 7 * DAY,
    preparation=timedelta(minutes=30),
    length=timedelta(minutes=10),
    switch_at=NOW + 4 * DAY,
    proposed_at=NOW + 4 * DAY,
    region="eu",
    account_id=1,
)
WEEKLY = Window(frozenset({1}), time(2), time(4), ZoneInfo("UTC"))  # Tuesdays 02:00–04:00; NOW is a Sunday


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc]


def told(refusal: object) -> str:
    return getattr(refusal, "id", "")


# --- Announcing (R6, R7) ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "lead", "refusal"),
    [
        (Level.S1, 72 * HOUR, ""),
        (Level.S1, 72 * HOUR - TICK, "event.short_notice"),
        (Level.S1, 72 * HOUR - SECOND, "event.short_notice"),
        (Level.S1, 72 * HOUR + SECOND, ""),
        (Level.S1, HOUR, "event.short_notice"),
        (Level.S0, HOUR, ""),
        (Level.S0, timedelta(minutes=30), ""),
        (Level.S0, timedelta(minutes=30) - SECOND, "event.too_soon"),
        (Level.S0, -SECOND, "event.in_past"),
    ],
)
def test_notice_of_the_switch_time(level: Level, lead: timedelta, refusal: str) -> None:
    deadline = NOW + (72 * HOUR if level == Level.S0 else 7 * DAY)
    draft = replace(EVENT, level=level, switch_at=NOW + lead, deadline=deadline)
    assert told(rules.check_publication(draft, 72 * HOUR, FREE)) == refusal


@pytest.mark.parametrize(
    ("level", "left", "refusal"),
    [
        (Level.S0, 72 * HOUR, ""),
        (Level.S0, 72 * HOUR + TICK, "event.not_urgent"),
        (Level.S0, timedelta(minutes=30) - SECOND, "event.too_soon"),
        (Level.S0, timedelta(0), "event.in_past"),
        (Level.S1, 72 * HOUR, ""),
        (Level.S1, 72 * HOUR - TICK, "event.short_notice"),
    ],
)
def test_without_a_time_the_deadline_counts(level: Level, left: timedelta, refusal: str) -> None:
    draft = replace(EVENT, level=level, switch_at=None, status=EventStatus.WAITING, deadline=NOW + left)
    assert told(rules.check_publication(draft, 72 * HOUR, FREE)) == refusal


def test_a_type_may_want_more_notice() -> None:
    draft = replace(EVENT, switch_at=NOW + 4 * DAY)
    assert told(rules.check_publication(draft, 7 * DAY, FREE)) == "event.short_notice"


def test_the_refusal_names_the_first_moment_that_is_allowed() -> None:
    refusal = rules.check_publication(replace(EVENT, switch_at=NOW + HOUR), 72 * HOUR, FREE)
    assert refusal is not None and "2026-03-04 12:00 UTC" in refusal.advice


# --- Another time (R4) -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "refusal"),
    [
        (NOW - TICK, "event.in_past"),
        (NOW, "event.too_soon"),
        (NOW + timedelta(minutes=30) - TICK, "event.too_soon"),
        (NOW + timedelta(minutes=30), ""),
        (NOW + 7 * DAY, ""),
        (NOW + 7 * DAY + TICK, "event.after_deadline"),
        (NOW + 7 * DAY + SECOND, "event.after_deadline"),
    ],
)
def test_from_the_end_of_the_preparation_to_the_deadline(moment: datetime, refusal: str) -> None:
    assert told(rules.check_reschedule(EVENT, moment, FREE)) == refusal


@pytest.mark.parametrize("status", list(EventStatus))
def test_only_what_has_not_begun(status: EventStatus) -> None:
    facts = replace(EVENT, status=status, may_cancel=True)
    expected = "" if status.is_open else "event.not_pending"
    assert told(rules.check_reschedule(facts, NOW + DAY, FREE)) == expected
    assert told(rules.check_cancel(facts)) == expected


def test_what_may_not_be_changed_or_cancelled() -> None:
    assert told(rules.check_reschedule(replace(EVENT, may_change=False), NOW + DAY, FREE)) == "event.fixed"
    assert told(rules.check_cancel(EVENT)) == "event.not_cancellable"
    assert rules.check_cancel(replace(EVENT, may_cancel=True)) is None


def test_now_is_when_the_preparation_is_done() -> None:
    assert rules.at_once(EVENT) == NOW + timedelta(minutes=30)
    assert rules.check_reschedule(EVENT, rules.at_once(EVENT), FREE) is None
    late = replace(EVENT, deadline=NOW + timedelta(minutes=29), switch_at=NOW + timedelta(minutes=29))
    assert told(rules.check_reschedule(late, rules.at_once(late), FREE)) == "event.after_deadline"


@pytest.mark.parametrize(
    ("deferrals", "most", "to", "refusal"),
    [
        (0, None, 5 * DAY, ""),
        (9, None, 5 * DAY, ""),
        (0, 1, 5 * DAY, ""),
        (1, 1, 5 * DAY, "event.deferrals_used"),
        (1, 1, 3 * DAY, ""),  # earlier is always possible
        (0, 0, 4 * DAY + TICK, "event.deferrals_used"),
        (0, 0, 4 * DAY, ""),
    ],
)
def test_how_often_it_may_be_put_off(deferrals: int, most: int | None, to: timedelta, refusal: str) -> None:
    facts = replace(EVENT, deferrals=deferrals, max_deferrals=most)
    assert told(rules.check_reschedule(facts, NOW + to, FREE)) == refusal
    expected = NOW + 4 * DAY if most is not None and deferrals >= most else facts.deadline
    assert rules.latest_choice(facts) == expected


@pytest.mark.parametrize(
    ("to", "refusal"),
    [(5 * DAY, ""), (5 * DAY + TICK, "event.deferred_too_far"), (3 * DAY, "")],
)
def test_how_far_it_may_be_put_off(to: timedelta, refusal: str) -> None:
    facts = replace(EVENT, max_deferral=DAY)
    assert told(rules.check_reschedule(facts, NOW + to, FREE)) == refusal
    assert rules.latest_choice(facts) == NOW + 5 * DAY


def test_the_first_choice_is_no_deferral() -> None:
    waiting = replace(
        EVENT, status=EventStatus.WAITING, switch_at=None, proposed_at=None, max_deferrals=0, max_deferral=DAY
    )
    assert rules.check_reschedule(waiting, waiting.deadline, FREE) is None
    assert rules.moved(waiting, waiting.deadline).deferrals == 0


# --- Blackouts and regions --------------------------------------------------------------------------------------------

FREEZE = Closed(NOW + 2 * DAY, NOW + 3 * DAY, "Sale")


@pytest.mark.parametrize(
    ("moment", "refusal"),
    [
        (NOW + 2 * DAY - timedelta(minutes=10), ""),  # the switchover ends as the blackout begins
        (NOW + 2 * DAY - timedelta(minutes=10) + TICK, "event.blackout"),
        (NOW + 2 * DAY, "event.blackout"),
        (NOW + 3 * DAY - TICK, "event.blackout"),
        (NOW + 3 * DAY, ""),
    ],
)
def test_no_switchover_reaches_into_a_blackout(moment: datetime, refusal: str) -> None:
    around = Surroundings([FREEZE])
    assert told(rules.check_reschedule(EVENT, moment, around)) == refusal
    assert rules.check_reschedule(replace(EVENT, level=Level.S0), moment, around) is None


@pytest.mark.parametrize(
    ("closed", "holds"),
    [
        (FREEZE, True),
        (replace(FREEZE, account_id=1), True),
        (replace(FREEZE, account_id=2), False),
        (replace(FREEZE, region="eu"), True),
        (replace(FREEZE, region="us"), False),
        (replace(FREEZE, region="eu", account_id=2), False),
    ],
)
def test_whom_a_blackout_concerns(closed: Closed, holds: bool) -> None:
    refusal = rules.check_reschedule(EVENT, NOW + 2.5 * DAY, Surroundings([closed]))
    assert told(refusal) == ("event.blackout" if holds else "")


def crowded(
    limits: dict[str, int], *begins: datetime, length: timedelta = timedelta(minutes=10)
) -> Surroundings:
    return Surroundings((), limits, {"eu": Occupancy((begin, length) for begin in begins)})


@pytest.mark.parametrize(
    ("limits", "offset", "refusal"),
    [
        ({"eu": 1}, timedelta(0), "event.region_full"),
        ({"eu": 1}, timedelta(minutes=10), ""),
        ({"eu": 1}, timedelta(minutes=10) - TICK, "event.region_full"),
        ({"eu": 1}, -timedelta(minutes=10), ""),
        ({"eu": 1}, -timedelta(minutes=10) + TICK, "event.region_full"),
        ({"eu": 2}, timedelta(0), ""),
        ({"": 1}, timedelta(0), "event.region_full"),
        ({"": 1, "eu": 2}, timedelta(0), ""),  # a region's own limit counts
        ({"us": 1}, timedelta(0), ""),
        ({}, timedelta(0), ""),
    ],
)
def test_so_many_at_a_time_in_a_region(limits: dict[str, int], offset: timedelta, refusal: str) -> None:
    taken = NOW + 2 * DAY
    assert told(rules.check_reschedule(EVENT, taken + offset, crowded(limits, taken))) == refusal


def test_neighbours_that_do_not_meet_count_once() -> None:
    moment = NOW + 2 * DAY
    around = crowded({"eu": 2}, moment - timedelta(minutes=5), moment + timedelta(minutes=5))
    assert rules.check_reschedule(EVENT, moment, around) is None


def test_a_full_region_names_the_next_free_moment() -> None:
    moment = NOW + 2 * DAY
    around = crowded({"eu": 1}, moment, moment + timedelta(minutes=10))
    refusal = rules.check_reschedule(EVENT, moment, around)
    assert refusal is not None and refusal.advice == "2026-03-03 12:20 UTC is free."


@pytest.mark.parametrize("odd", [timedelta(0), TICK, timedelta(seconds=51)])
def test_the_moment_that_a_refusal_names_is_allowed(odd: timedelta) -> None:
    """To the minute, as it is told and entered."""
    now = NOW + odd
    event = replace(EVENT, now=now, deadline=now + 7 * DAY)
    moment = now + 2 * DAY
    full = crowded({"eu": 1}, moment, moment + timedelta(minutes=10))
    cases = [
        (event, now - SECOND, FREE),
        (event, now + timedelta(minutes=29), FREE),
        (event, moment, full),
    ]
    for facts, wish, around in cases:
        refusal = rules.check_moment(facts, wish, around)
        assert refusal is not None
        named = re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d", refusal.advice)[0]
        assert rules.check_moment(facts, datetime.fromisoformat(f"{named}+00:00"), around) is None
    short = rules.check_publication(replace(event, switch_at=now + HOUR), 72 * HOUR, FREE)
    assert short is not None
    named = re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d", short.advice)[0]
    allowed = replace(event, switch_at=datetime.fromisoformat(f"{named}+00:00"))
    assert rules.check_publication(allowed, 72 * HOUR, FREE) is None


def test_what_is_not_there_yet_was_not_published_and_cannot_begin_now() -> None:
    draft = replace(EVENT, level=Level.S0, deadline=NOW + DAY, switch_at=NOW + timedelta(minutes=29))
    refusal = rules.check_publication(draft, timedelta(0), FREE)
    assert refusal is not None and refusal.message.endswith("Nothing was published.")
    assert refusal.advice == "The earliest time is 2026-03-01 12:30 UTC."


moments = st.integers(0, 500).map(lambda minutes: NOW + timedelta(minutes=minutes))
lengths = st.integers(1, 90).map(lambda minutes: timedelta(minutes=minutes))


@given(st.lists(st.tuples(moments, lengths), max_size=12), moments, lengths)
def test_occupancy_counts_as_counting_by_hand_does(
    taken: list[tuple[datetime, timedelta]], begin: datetime, length: timedelta
) -> None:
    occupancy = Occupancy(taken[::2])
    for one in taken[1::2]:
        occupancy.add(*one)
    if taken:
        occupancy.remove(*taken[0])
    left = taken[1:]
    minutes = [begin + timedelta(minutes=minute) for minute in range(int(length.total_seconds() // 60))]
    by_hand = max(sum(at <= minute < at + long for at, long in left) for minute in minutes)
    assert occupancy.most_at_once(begin, length) == by_hand


# --- Windows ----------------------------------------------------------------------------------------------------------


def test_the_first_window_after_the_preparation() -> None:
    assert rules.propose(EVENT, WEEKLY, FREE) == datetime(2026, 3, 3, 2, tzinfo=UTC)


def test_within_a_window_that_has_begun() -> None:
    inside = replace(EVENT, now=datetime(2026, 3, 3, 2, 45, tzinfo=UTC))
    assert rules.propose(inside, WEEKLY, FREE) == datetime(2026, 3, 3, 3, 15, tzinfo=UTC)
    too_late = replace(EVENT, now=datetime(2026, 3, 3, 3, 30, tzinfo=UTC), deadline=NOW + 30 * DAY)
    assert rules.propose(too_late, WEEKLY, FREE) == datetime(2026, 3, 10, 2, tzinfo=UTC)


def test_no_window_before_the_deadline_no_proposal() -> None:
    opens = datetime(2026, 3, 3, 2, tzinfo=UTC)
    assert rules.propose(replace(EVENT, deadline=opens), WEEKLY, FREE) == opens
    assert rules.propose(replace(EVENT, deadline=opens - TICK), WEEKLY, FREE) is None


def test_a_proposal_goes_round_blackouts_and_full_hours() -> None:
    opens = datetime(2026, 3, 3, 2, tzinfo=UTC)
    closed = Closed(opens, opens + HOUR, "Batch run")
    around = Surroundings([closed], {"eu": 1}, {"eu": Occupancy([(opens + HOUR, timedelta(minutes=10))])})
    assert rules.propose(EVENT, WEEKLY, around) == opens + HOUR + timedelta(minutes=10)
    assert rules.propose(EVENT, WEEKLY, Surroundings([Closed(opens, opens + 2 * HOUR, "x")])) is None


def test_notice_counts_for_a_proposal() -> None:
    wide = replace(EVENT, deadline=NOW + 30 * DAY)
    assert rules.propose(wide, WEEKLY, FREE, not_before=NOW + 3 * DAY) == datetime(2026, 3, 10, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "opens", "now", "expected"),
    [
        # Spring: 02:00 to 03:00 do not exist, so 02:30 is an hour later by the old clock.
        ("Europe/Berlin", time(2, 30), utc(2026, 3, 28, 12), utc(2026, 3, 29, 1, 30)),
        ("America/New_York", time(2, 30), utc(2026, 3, 7, 12), utc(2026, 3, 8, 7, 30)),
        # Autumn: the clock shows the time twice; the window begins at the first.
        ("Europe/Berlin", time(2, 30), utc(2026, 10, 24, 12), utc(2026, 10, 25, 0, 30)),
        ("America/New_York", time(1, 30), utc(2026, 10, 31, 12), utc(2026, 11, 1, 5, 30)),
        ("America/New_York", time(2, 30), utc(2026, 10, 31, 12), utc(2026, 11, 1, 7, 30)),
    ],
)
def test_the_night_of_a_clock_change(zone: str, opens: time, now: datetime, expected: datetime) -> None:
    nightly = Window(frozenset(range(7)), opens, time(4), ZoneInfo(zone))
    facts = replace(EVENT, now=now, deadline=now + 3 * DAY, switch_at=None, proposed_at=None)
    found = rules.propose(facts, nightly, FREE)
    assert found == expected
    assert span_at(nightly, found) is not None


@given(moments, st.integers(1, 20), st.integers(0, 300))
def test_a_proposal_is_always_allowed_and_in_the_window(now: datetime, days: int, preparation: int) -> None:
    window = Window(frozenset({0, 3, 6}), time(23), time(1, 30), ZoneInfo("Europe/Berlin"))
    facts = replace(
        EVENT,
        now=now,
        deadline=now + days * DAY,
        preparation=timedelta(minutes=preparation),
        switch_at=None,
        proposed_at=None,
    )
    found = rules.propose(facts, window, FREE)
    if found is not None:
        assert rules.check_reschedule(facts, found, FREE) is None
        assert span_at(window, found) is not None


def test_nobody_has_chosen() -> None:
    assert rules.last_slot(EVENT, WEEKLY, FREE) == datetime(2026, 3, 3, 2, tzinfo=UTC)
    assert rules.last_slot(replace(EVENT, deadline=NOW + 12 * DAY), WEEKLY, FREE) == datetime(
        2026, 3, 10, 2, tzinfo=UTC
    )
    assert rules.last_slot(EVENT, None, FREE) == EVENT.deadline
    hopeless = replace(EVENT, deadline=NOW + timedelta(minutes=1))
    assert rules.last_slot(hopeless, None, FREE) == NOW + timedelta(minutes=30)


# --- Two events of one instance ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begins", "ends", "waits"),
    [
        (-timedelta(hours=2), -timedelta(minutes=30), False),  # ends as this one's preparation begins
        (-timedelta(hours=2), -timedelta(minutes=30) + TICK, True),
        (-timedelta(minutes=30), timedelta(0), True),
        (timedelta(minutes=-10), HOUR, False),  # begins later: that one waits
        (timedelta(minutes=10), HOUR, False),
    ],
)
def test_the_second_of_two_waits(begins: timedelta, ends: timedelta, waits: bool) -> None:
    moment = NOW + 2 * DAY
    other = Planned("Network upgrade (ev-other)", moment + begins, moment + ends)
    found = rules.waits_for(EVENT, moment, [other])
    assert (found == other) is waits


# --- Words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(seconds=90), "90 s"),
        (timedelta(minutes=45), "45 min"),
        (timedelta(hours=2), "2 h"),
        (timedelta(hours=2, minutes=30), "2 h 30 min"),
        (timedelta(days=3), "3 days"),
    ],
)
def test_durations(length: timedelta, text: str) -> None:
    assert rules.duration_text(length) == text
