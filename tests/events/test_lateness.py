"""What becomes of late events, and of those for which nobody has chosen: to the second, in zones, through both clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from events.choices import EventStatus, Level
from events.rules import Closed, Facts, Occupancy, Surroundings
from events.services.lateness import choose_by, judge, postponed_to
from portal.windows import Window

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE, HOUR, SECOND = timedelta(minutes=1), timedelta(hours=1), timedelta(seconds=1)
ALLOWED = 60 * MINUTE
EVERY_DAY = frozenset(range(7))
NIGHTLY = Window(EVERY_DAY, time(2), time(4), BERLIN)
AROUND_MIDNIGHT = Window(EVERY_DAY, time(23), time(1), BERLIN)
TUESDAYS = Window(frozenset({1}), time(2), time(4), BERLIN)


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


def facts(now: datetime, switch_at: datetime | None, **values: Any) -> Facts:
    defaults: dict[str, Any] = {
        "level": Level.S1,
        "status": EventStatus.PENDING,
        "deadline": (switch_at or now) + timedelta(days=7),
        "preparation": 10 * MINUTE,
        "region": "eu",
        "account_id": 1,
    }
    return Facts(now=now, switch_at=switch_at, **(defaults | values))


# The preparation takes ten minutes. (window, planned switch time, now, when it is switched over if it begins, whether it begins)
LATE = {
    "in time": (None, "2026-03-03T02:00", "2026-03-03T01:50", "2026-03-03T02:00", True),
    "a minute is in time": (None, "2026-03-03T02:00", "2026-03-03T01:51", "2026-03-03T02:00", True),
    "a minute and a second is late": (None, "2026-03-03T02:00", "2026-03-03T01:51:01", "2026-03-03T02:01:01", True),
    "no window, the last second": (None, "2026-03-03T02:00", "2026-03-03T02:50", "2026-03-03T03:00", True),
    "no window, a second more": (None, "2026-03-03T02:00", "2026-03-03T02:50:01", "2026-03-03T03:00:01", False),
    "the last second of the window": (NIGHTLY, "2026-03-03T02:00", "2026-03-03T03:49:59", "2026-03-03T03:59:59", True),
    "at the end of the window": (NIGHTLY, "2026-03-03T02:00", "2026-03-03T03:50", "2026-03-03T04:00", False),
    "the next window is another one": (NIGHTLY, "2026-03-03T02:00", "2026-03-04T02:00", "2026-03-04T02:10", False),
    "across midnight": (AROUND_MIDNIGHT, "2026-03-03T23:30", "2026-03-04T00:49:59", "2026-03-04T00:59:59", True),
    "across midnight, too late": (AROUND_MIDNIGHT, "2026-03-03T23:30", "2026-03-04T00:50", "2026-03-04T01:00", False),
    "planned outside of the window": (NIGHTLY, "2026-03-03T12:00", "2026-03-03T12:50", "2026-03-03T13:00", True),
    "planned outside, a second more": (NIGHTLY, "2026-03-03T12:00", "2026-03-03T12:50:01", "2026-03-03T13:00:01", False),
    # 2026-03-29: 02:00 is 03:00, and the window is 03:00 to 04:00. 2026-10-25: 03:00 is 02:00, and it lasts three hours.
    "clock forward": (NIGHTLY, "2026-03-29T03:00", "2026-03-29T03:49:59", "2026-03-29T03:59:59", True),
    "clock forward, too late": (NIGHTLY, "2026-03-29T03:00", "2026-03-29T03:50", "2026-03-29T04:00", False),
    "clock back, two hours later": (NIGHTLY, "2026-10-25T02:00", "2026-10-25T03:49:59", "2026-10-25T03:59:59", True),
    "clock back, too late": (NIGHTLY, "2026-10-25T02:00", "2026-10-25T03:50", "2026-10-25T04:00", False),
}  # fmt: skip


@pytest.mark.parametrize(("window", "planned", "now", "moment", "begins"), LATE.values(), ids=LATE)
def test_late(window: Window | None, planned: str, now: str, moment: str, begins: bool) -> None:
    found = judge(facts(berlin(now), berlin(planned)), window, Surroundings(), ALLOWED)

    assert (found.switch_at, not found.why) == (berlin(moment), begins)
    late = berlin(now) - (berlin(planned) - 10 * MINUTE)
    assert found.late == (late if late > MINUTE else timedelta(0))


def test_a_risk_fix_begins_whatever_the_hour() -> None:
    now = berlin("2026-03-05T12:00")
    closed = Surroundings([Closed(now - HOUR, now + HOUR, "sale")])
    found = judge(facts(now, now - timedelta(days=1), level=Level.S0), NIGHTLY, closed, ALLOWED)
    assert (found.switch_at, found.why) == (now + 10 * MINUTE, "")


def test_parts_of_a_second_are_rounded_up() -> None:
    now = berlin("2026-03-03T02:20") + timedelta(microseconds=1)
    found = judge(facts(now, berlin("2026-03-03T02:00")), None, Surroundings(), ALLOWED)
    assert found.switch_at == berlin("2026-03-03T02:30:01")


def test_a_blackout_keeps_a_late_one_from_beginning() -> None:
    planned = berlin("2026-03-03T02:00")
    closed = Surroundings([Closed(planned, planned + HOUR, "sale")])
    in_time, late = (
        judge(facts(planned - 10 * MINUTE + after, planned), NIGHTLY, closed, ALLOWED)
        for after in (timedelta(0), 30 * MINUTE)
    )
    # What was planned before the blackout was set keeps its time; those who announced it decide.
    assert in_time.why == "" and late.why.endswith("later nothing is switched over: sale.")


# Window, planned switch time, now, deadline, and where it is postponed to.
POSTPONED = {
    "the next window": (NIGHTLY, "2026-03-03T02:00", "2026-03-03T09:00", "2026-03-10T00:00", "2026-03-04T02:00"),
    "a week later, beyond the deadline": (TUESDAYS, "2026-03-03T02:00", "2026-03-03T09:00", "2026-03-03T10:00", "2026-03-10T02:00"),
    "after a long outage": (NIGHTLY, "2026-03-03T02:00", "2026-03-09T09:00", "2026-03-05T00:00", "2026-03-10T02:00"),
    "the window that is open, if there is time": (NIGHTLY, "2026-03-03T02:00", "2026-03-04T02:30", "2026-03-10T00:00", "2026-03-04T02:40"),
    "the deadline is in the next window": (NIGHTLY, "2026-03-03T02:00", "2026-03-03T09:00", "2026-03-04T02:00", "2026-03-04T02:00"),
    "clock forward": (NIGHTLY, "2026-03-28T02:00", "2026-03-28T09:00", "2026-04-04T00:00", "2026-03-29T03:00"),
    "clock back": (NIGHTLY, "2026-10-24T02:00", "2026-10-24T09:00", "2026-11-04T00:00", "2026-10-25T02:00"),
    "no window: the next day": (None, "2026-03-03T14:00", "2026-03-03T16:00", "2026-03-10T00:00", "2026-03-04T14:00"),
    "no window: still the same day": (None, "2026-03-03T23:00", "2026-03-04T01:00", "2026-03-10T00:00", "2026-03-04T23:00"),
    "no window: after a long outage": (None, "2026-03-03T14:00", "2026-03-08T13:00", "2026-03-04T00:00", "2026-03-08T14:00"),
    "no window: not enough time on that day": (None, "2026-03-03T14:00", "2026-03-08T13:50:01", "2026-03-04T00:00", "2026-03-09T14:00"),
    "no window: clock forward, the time is not there": (None, "2026-03-28T02:30", "2026-03-28T09:00", "2026-04-04T00:00", "2026-03-29T03:30"),
    "no window: clock back": (None, "2026-10-24T14:00", "2026-10-24T16:00", "2026-11-04T00:00", "2026-10-25T14:00"),
}  # fmt: skip


@pytest.mark.parametrize(("window", "planned", "now", "deadline", "to"), POSTPONED.values(), ids=POSTPONED)
def test_postponed(window: Window | None, planned: str, now: str, deadline: str, to: str) -> None:
    late = facts(berlin(now), berlin(planned), deadline=berlin(deadline))
    assert postponed_to(late, window, Surroundings(), BERLIN) == berlin(to)


def test_limits_of_the_owner_do_not_hold_for_the_system() -> None:
    planned = berlin("2026-03-03T02:00")
    late = facts(
        planned + 7 * HOUR, planned, proposed_at=planned, deferrals=3, max_deferrals=3, max_deferral=HOUR
    )
    assert postponed_to(late, NIGHTLY, Surroundings(), BERLIN) == planned + timedelta(days=1)


@pytest.mark.parametrize("window", [NIGHTLY, None])
def test_postponed_past_blackouts_and_full_regions(window: Window | None) -> None:
    planned, day = berlin("2026-03-03T02:00"), timedelta(days=1)
    closed = [Closed(planned + day - HOUR, planned + day + 3 * HOUR, "sale")]
    taken = Occupancy([(planned + 2 * day, 10 * MINUTE)])
    around = Surroundings(closed, {"eu": 1}, {"eu": taken})
    late = facts(planned + 7 * HOUR, planned)
    # Of a window a later moment is as good; without one it is the same time of the day.
    expected = planned + 2 * day + 10 * MINUTE if window else planned + 3 * day
    assert postponed_to(late, window, around, BERLIN) == expected


# Window, when it was announced, deadline, and until when somebody may choose.
CHOICES = {
    "a day before the deadline": (None, "2026-03-02T12:00", "2026-03-12T12:00", "2026-03-11T12:00"),
    "half of two days is a day": (None, "2026-03-10T12:00", "2026-03-12T12:00", "2026-03-11T12:00"),
    "half of a shorter time": (None, "2026-03-12T02:00", "2026-03-12T12:00", "2026-03-12T07:00"),
    "before the last window": (TUESDAYS, "2026-03-02T12:00", "2026-03-14T12:00", "2026-03-09T02:00"),
    "a window that begins at the deadline": (NIGHTLY, "2026-03-02T12:00", "2026-03-12T02:00", "2026-03-11T02:00"),
    "no window before the deadline": (TUESDAYS, "2026-03-04T12:00", "2026-03-09T12:00", "2026-03-08T12:00"),
    "clock forward: 24 hours are 24 hours": (None, "2026-03-02T12:00", "2026-03-29T12:00", "2026-03-28T11:00"),
    "clock back": (None, "2026-10-02T12:00", "2026-10-25T12:00", "2026-10-24T13:00"),
}  # fmt: skip


@pytest.mark.parametrize(("window", "announced", "deadline", "until"), CHOICES.values(), ids=CHOICES)
def test_until_when_somebody_may_choose(
    window: Window | None, announced: str, deadline: str, until: str
) -> None:
    waiting = facts(berlin(announced), None, deadline=berlin(deadline), status=EventStatus.WAITING)
    assert choose_by(waiting, berlin(announced), window) == berlin(until)


def test_a_long_preparation_leaves_less_time_to_choose() -> None:
    announced, deadline = berlin("2026-03-12T02:00"), berlin("2026-03-12T12:00")
    waiting = facts(announced, None, deadline=deadline, preparation=9 * HOUR)
    assert choose_by(waiting, announced, None) == deadline - 9 * HOUR
