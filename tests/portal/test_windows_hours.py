"""Occurrences of maintenance windows, through midnight, weeks, years and the changes of clocks."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.windows import DAY_NAMES, Span, Window, describe, next_slot, span_at, spans, zone_called

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
NUUK = "America/Nuuk"  # sets its clock forward from 23:00 to midnight
SECOND = timedelta(seconds=1)


def window(days: str, hours: str, zone: str = BERLIN) -> Window:
    """`"Sat Sun"` (or `"all"`) and `"23:30-04:00"`."""
    chosen = range(7) if days == "all" else [DAY_NAMES.index(day) for day in days.split()]
    starts, ends = hours.split("-")
    return Window(frozenset(chosen), time.fromisoformat(starts), time.fromisoformat(ends), ZoneInfo(zone))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def span(text: str) -> Span:
    """`"2026-01-05 23:00/2026-01-06 01:00"`, in UTC."""
    begins, ends = text.split("/")
    return Span(utc(begins), utc(ends))


# --- edges ------------------------------------------------------------------------------------------------------------------

EDGES = [
    # An ordinary day, and one that ends on the next.
    ("Tue", "02:00-04:00", BERLIN, "2026-01-05 12:00", "2026-01-06 01:00/2026-01-06 03:00"),
    ("Tue", "02:00-04:00", BERLIN, "2026-07-06 12:00", "2026-07-07 00:00/2026-07-07 02:00"),
    ("Tue", "22:00-04:00", BERLIN, "2026-01-05 12:00", "2026-01-06 21:00/2026-01-07 03:00"),
    ("Tue", "22:00-00:00", BERLIN, "2026-01-05 12:00", "2026-01-06 21:00/2026-01-06 23:00"),
    ("Tue", "00:00-01:00", BERLIN, "2026-01-05 12:00", "2026-01-05 23:00/2026-01-06 00:00"),
    ("Tue", "00:00-23:59", "UTC", "2026-01-05 12:00", "2026-01-06 00:00/2026-01-06 23:59"),
    ("Tue", "04:00-03:59", "UTC", "2026-01-05 12:00", "2026-01-06 04:00/2026-01-07 03:59"),
    # The turn of the week and of the year: the day is that of the zone, and the one on which the window begins.
    ("Sun", "23:30-01:00", BERLIN, "2026-01-04 23:30", "2026-01-04 22:30/2026-01-05 00:00"),
    ("Mon", "00:30-01:00", BERLIN, "2026-01-04 12:00", "2026-01-04 23:30/2026-01-05 00:00"),
    ("Mon", "23:00-02:00", NEW_YORK, "2026-01-05 12:00", "2026-01-06 04:00/2026-01-06 07:00"),
    ("Mon", "00:30-02:00", LORD_HOWE, "2026-01-04 00:00", "2026-01-04 13:30/2026-01-04 15:00"),
    ("Thu", "23:00-02:00", "UTC", "2026-12-31 12:00", "2026-12-31 23:00/2027-01-01 02:00"),
    ("Thu", "23:00-02:00", "Pacific/Kiritimati", "2026-12-31 00:00", "2026-12-31 09:00/2026-12-31 12:00"),
    ("Thu", "23:00-02:00", "Pacific/Pago_Pago", "2026-12-31 12:00", "2027-01-01 10:00/2027-01-01 13:00"),
    # 29 February.
    ("Tue", "02:00-04:00", "UTC", "2028-02-28 12:00", "2028-02-29 02:00/2028-02-29 04:00"),
    # Far ahead, by the rules that hold today: 8 January and 9 July 2126.
    ("Tue", "02:00-04:00", BERLIN, "2126-01-07 12:00", "2126-01-08 01:00/2126-01-08 03:00"),
    ("Tue", "02:00-04:00", BERLIN, "2126-07-08 12:00", "2126-07-09 00:00/2126-07-09 02:00"),
    ("Sun", "02:10-02:50", BERLIN, "2126-03-30 12:00", "2126-03-31 01:10/2126-03-31 01:50"),
    # Berlin, 29 March 2026: 02:00 to 03:00 do not exist.
    ("Sun", "01:00-05:00", BERLIN, "2026-03-28 12:00", "2026-03-29 00:00/2026-03-29 03:00"),
    ("Sun", "01:00-02:00", BERLIN, "2026-03-28 12:00", "2026-03-29 00:00/2026-03-29 01:00"),
    ("Sun", "01:00-02:30", BERLIN, "2026-03-28 12:00", "2026-03-29 00:00/2026-03-29 01:30"),
    ("Sun", "02:00-04:00", BERLIN, "2026-03-28 12:00", "2026-03-29 01:00/2026-03-29 02:00"),
    ("Sun", "02:30-05:00", BERLIN, "2026-03-28 12:00", "2026-03-29 01:30/2026-03-29 03:00"),
    ("Sun", "03:00-04:00", BERLIN, "2026-03-28 12:00", "2026-03-29 01:00/2026-03-29 02:00"),
    ("Sat", "23:00-02:30", BERLIN, "2026-03-28 12:00", "2026-03-28 22:00/2026-03-29 01:30"),
    # It would vanish: it is moved, and keeps its length.
    ("Sun", "02:10-02:50", BERLIN, "2026-03-28 12:00", "2026-03-29 01:10/2026-03-29 01:50"),
    ("Sun", "02:00-03:00", BERLIN, "2026-03-28 12:00", "2026-03-29 01:00/2026-03-29 02:00"),
    ("Sun", "02:30-03:15", BERLIN, "2026-03-28 12:00", "2026-03-29 01:30/2026-03-29 02:15"),
    ("Sun", "02:30-03:30", BERLIN, "2026-03-28 12:00", "2026-03-29 01:30/2026-03-29 02:30"),
    # The week after it is as always.
    ("Sun", "02:10-02:50", BERLIN, "2026-03-29 01:50", "2026-04-05 00:10/2026-04-05 00:50"),
    # Berlin, 25 October 2026: 02:00 to 03:00 come twice.
    ("Sun", "01:00-05:00", BERLIN, "2026-10-24 12:00", "2026-10-24 23:00/2026-10-25 04:00"),
    ("Sun", "02:10-02:50", BERLIN, "2026-10-24 12:00", "2026-10-25 00:10/2026-10-25 01:50"),
    ("Sun", "01:00-02:00", BERLIN, "2026-10-24 12:00", "2026-10-24 23:00/2026-10-25 01:00"),
    ("Sun", "01:00-01:59", BERLIN, "2026-10-24 12:00", "2026-10-24 23:00/2026-10-24 23:59"),
    ("Sun", "02:30-04:00", BERLIN, "2026-10-24 12:00", "2026-10-25 00:30/2026-10-25 03:00"),
    ("Sun", "03:00-04:00", BERLIN, "2026-10-24 12:00", "2026-10-25 02:00/2026-10-25 03:00"),
    ("Sat", "23:00-02:30", BERLIN, "2026-10-24 12:00", "2026-10-24 21:00/2026-10-25 01:30"),
    # New York, 8 March (02:00 to 03:00 do not exist) and 1 November 2026 (01:00 to 02:00 come twice).
    ("Sun", "01:00-04:00", NEW_YORK, "2026-03-07 12:00", "2026-03-08 06:00/2026-03-08 08:00"),
    ("Sun", "02:10-02:50", NEW_YORK, "2026-03-07 12:00", "2026-03-08 07:10/2026-03-08 07:50"),
    ("Sat", "23:00-02:30", NEW_YORK, "2026-03-07 12:00", "2026-03-08 04:00/2026-03-08 07:30"),
    ("Sun", "01:10-01:50", NEW_YORK, "2026-10-31 12:00", "2026-11-01 05:10/2026-11-01 06:50"),
    ("Sun", "01:30-03:00", NEW_YORK, "2026-10-31 12:00", "2026-11-01 05:30/2026-11-01 08:00"),
    ("Sat", "23:00-01:30", NEW_YORK, "2026-10-31 12:00", "2026-11-01 03:00/2026-11-01 06:30"),
    # Lord Howe, half an hour: 01:30 to 02:00 come twice on 5 April 2026, 02:00 to 02:30 do not exist on 4 October.
    ("Sun", "01:35-01:55", LORD_HOWE, "2026-04-04 00:00", "2026-04-04 14:35/2026-04-04 15:25"),
    ("Sun", "01:00-03:00", LORD_HOWE, "2026-04-04 00:00", "2026-04-04 14:00/2026-04-04 16:30"),
    ("Sun", "02:10-02:20", LORD_HOWE, "2026-10-03 00:00", "2026-10-03 15:40/2026-10-03 15:50"),
    ("Sun", "02:15-02:35", LORD_HOWE, "2026-10-03 00:00", "2026-10-03 15:45/2026-10-03 16:05"),
    ("Sun", "01:00-03:00", LORD_HOWE, "2026-10-03 00:00", "2026-10-03 14:30/2026-10-03 16:00"),
    ("Sat", "23:00-02:10", LORD_HOWE, "2026-10-03 00:00", "2026-10-03 12:30/2026-10-03 15:40"),
    # Nuuk, 28 March 2026: a window of Saturday is moved into Sunday.
    ("Sat", "23:10-23:50", NUUK, "2026-03-28 12:00", "2026-03-29 01:10/2026-03-29 01:50"),
    ("Sat", "22:00-23:30", NUUK, "2026-03-28 12:00", "2026-03-29 00:00/2026-03-29 01:30"),
]


@pytest.mark.parametrize(("days", "hours", "zone", "after", "expected"), EDGES)
def test_edges_to_the_second(days: str, hours: str, zone: str, after: str, expected: str) -> None:
    chosen, found = window(days, hours, zone), span(expected)
    assert next(spans(chosen, utc(after))) == found
    assert span_at(chosen, found.begins - SECOND) is None
    assert span_at(chosen, found.begins) == found
    assert span_at(chosen, found.ends - SECOND) == found
    assert span_at(chosen, found.ends) is None


SERIES = [
    # A clock that is moved while windows of two days lie side by side: the earlier one ends where the later one begins.
    (
        "all", "02:30-02:29", BERLIN, "2026-10-24 12:00",
        ["2026-10-24 00:30/2026-10-25 00:30", "2026-10-25 00:30/2026-10-26 01:29"],
    ),
    (
        "all", "03:10-02:50", BERLIN, "2026-03-28 12:00",
        ["2026-03-28 02:10/2026-03-29 01:10", "2026-03-29 01:10/2026-03-30 00:50"],
    ),
    # From Friday 23:55 to Saturday 23:40, which is Sunday 00:40.
    (
        "Fri Sun", "23:55-23:40", NUUK, "2026-03-28 12:00",
        ["2026-03-28 01:55/2026-03-29 01:40", "2026-03-30 00:55/2026-03-31 00:40"],
    ),
    # Samoa left 30 December 2011 out: what would have been that day's is the next one's.
    (
        "all", "02:00-04:00", "Pacific/Apia", "2011-12-29 00:00",
        ["2011-12-29 12:00/2011-12-29 14:00", "2011-12-30 12:00/2011-12-30 14:00", "2011-12-31 12:00/2011-12-31 14:00"],
    ),
    (
        "Tue Thu", "02:00-04:00", BERLIN, "2026-01-06 03:00",
        ["2026-01-08 01:00/2026-01-08 03:00", "2026-01-13 01:00/2026-01-13 03:00", "2026-01-15 01:00/2026-01-15 03:00"],
    ),
    # Over the turn of the week.
    (
        "Mon Sun", "23:00-01:00", "UTC", "2026-01-05 00:59:59",
        ["2026-01-04 23:00/2026-01-05 01:00", "2026-01-05 23:00/2026-01-06 01:00", "2026-01-11 23:00/2026-01-12 01:00"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("days", "hours", "zone", "after", "expected"), SERIES)
def test_series(days: str, hours: str, zone: str, after: str, expected: list[str]) -> None:
    chosen = window(days, hours, zone)
    wanted = [span(one) for one in expected]
    assert list(islice(spans(chosen, utc(after)), len(wanted))) == wanted
    for found in wanted:
        assert span_at(chosen, found.begins) == span_at(chosen, found.ends - SECOND) == found


def test_moments_of_any_zone_are_the_same_moment() -> None:
    chosen = window("Tue", "02:00-04:00")
    at = utc("2026-01-06 01:00")
    for zone in (ZoneInfo(NEW_YORK), timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))):
        assert span_at(chosen, at.astimezone(zone)) == span_at(chosen, at) is not None
        assert next(spans(chosen, at.astimezone(zone))) == next(spans(chosen, at))
    found = span_at(chosen, at)
    assert found is not None and found.begins.tzinfo is UTC and found.ends.tzinfo is UTC
    assert found.length == timedelta(hours=2)


def test_moments_of_the_repeated_hour_are_told_apart() -> None:
    """02:30 and 02:30 again, by the same clock."""
    berlin = ZoneInfo(BERLIN)
    first, second = (datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold) for fold in (0, 1))
    until = window("Sun", "01:00-01:59")
    chosen = window("Sun", "02:30-03:00")
    assert span_at(until, first) is None
    assert span_at(chosen, first) == span_at(chosen, second) == span("2026-10-25 00:30/2026-10-25 02:00")
    assert next_slot(chosen, second, second) == utc("2026-10-25 01:30")


def test_the_calendar_ends() -> None:
    chosen = window("all", "22:00-02:00", "Pacific/Kiritimati")
    assert list(spans(chosen, datetime.max.replace(tzinfo=UTC))) == []
    assert span_at(chosen, datetime.min.replace(tzinfo=UTC)) is None
    assert len(list(spans(chosen, utc("9999-12-01 00:00")))) > 20


@pytest.mark.parametrize(
    ("days", "starts", "ends"),
    [
        ([], time(2), time(4)),
        ([7], time(2), time(4)),
        ([-1, 0], time(2), time(4)),
        ([0], time(2), time(2)),
        ([0], time(2, tzinfo=UTC), time(4)),
    ],
)
def test_what_is_no_window(days: list[int], starts: time, ends: time) -> None:
    with pytest.raises(ValueError, match="window"):
        Window(frozenset(days), starts, ends, ZoneInfo("UTC"))


def test_moments_need_a_zone() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        span_at(window("Mon", "02:00-04:00"), datetime(2026, 1, 5))  # noqa: DTZ001  # that is the point


# --- slots ------------------------------------------------------------------------------------------------------------------

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("not_before", "not_after", "lead", "room", "expected"),
    [
        ("2026-01-05 12:00", "2026-01-12 12:00", 0, 0, "2026-01-06 02:00"),
        # In the window already: at once.
        ("2026-01-06 03:00", "2026-01-12 12:00", 0, 0, "2026-01-06 03:00"),
        ("2026-01-06 03:59:59", "2026-01-12 12:00", 0, 0, "2026-01-06 03:59:59"),
        ("2026-01-06 04:00", "2026-01-12 12:00", 0, 0, "2026-01-08 02:00"),
        # Both ends are included, and nothing beyond.
        ("2026-01-05 12:00", "2026-01-06 02:00", 0, 0, "2026-01-06 02:00"),
        ("2026-01-05 12:00", "2026-01-06 01:59:59", 0, 0, None),
        ("2026-01-06 03:00", "2026-01-06 03:00", 0, 0, "2026-01-06 03:00"),
        ("2026-01-06 03:00", "2026-01-06 02:00", 0, 0, None),
        # With a lead.
        ("2026-01-05 12:00", "2026-01-12 12:00", 15, 0, "2026-01-06 03:00"),
        ("2026-01-05 12:00", "2026-01-12 12:00", 16, 0, "2026-01-08 02:00"),
        ("2026-01-05 12:00", "2026-01-08 01:00", 16, 0, None),
        ("2026-01-05 12:00", "2026-01-05 13:00", 72, 0, None),
        # With room.
        ("2026-01-06 02:00", "2026-01-12 12:00", 0, 2, "2026-01-06 02:00"),
        ("2026-01-06 03:00", "2026-01-12 12:00", 0, 1, "2026-01-06 03:00"),
        ("2026-01-06 03:00:01", "2026-01-12 12:00", 0, 1, "2026-01-08 02:00"),
        ("2026-01-06 02:00", "2026-02-12 12:00", 0, 3, None),
    ],
)
def test_next_slot(not_before: str, not_after: str, lead: int, room: int, expected: str | None) -> None:
    chosen = window("Tue Thu", "02:00-04:00", "UTC")
    found = next_slot(chosen, utc(not_before), utc(not_after), lead * HOUR, room=room * HOUR)
    assert found == (utc(expected) if expected else None)


# --- words ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "words"),
    [
        ("Tue Thu", "Tue, Thu"),
        ("Thu Tue", "Tue, Thu"),
        ("Sat Sun", "Sat, Sun"),
        ("Mon Tue Wed Thu Fri", "Mon–Fri"),
        ("Mon Tue Wed Fri Sat", "Mon–Wed, Fri, Sat"),
        ("Sun Mon", "Mon, Sun"),
        ("all", "Every day"),
    ],
)
def test_described(days: str, words: str) -> None:
    assert describe(window(days, "02:00-04:00")) == f"{words} 02:00–04:00 Europe/Berlin"


@pytest.mark.parametrize("name", ["Nowhere/Land", "", "../UTC", "/etc/passwd", "Europe"])
def test_an_unknown_zone_is_utc(name: str) -> None:
    assert zone_called(name).key == "UTC"
    assert zone_called(BERLIN).key == BERLIN


# --- what always holds --------------------------------------------------------------------------------------------------------

ZONES = [
    BERLIN, NEW_YORK, LORD_HOWE, NUUK, "UTC", "Africa/Cairo", "Pacific/Apia", "Asia/Kathmandu", "America/Goose_Bay",
]  # fmt: skip
EPOCH = datetime(2005, 1, 1, tzinfo=UTC)


def any_window(days: frozenset[int], start: int, minutes: int, zone: str) -> Window:
    starts, ends = ((EPOCH + timedelta(minutes=one)).time() for one in (start, start + minutes))
    return Window(days, starts, ends, ZoneInfo(zone))


windows = st.builds(
    any_window,
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, 1439),
    st.integers(1, 1439),
    st.sampled_from(ZONES),
)
# Windows and changes of the clock lie at whole minutes.
moments = st.integers(0, 100 * 365 * 24 * 60).map(lambda minutes: EPOCH + timedelta(minutes=minutes))


@given(windows, moments)
def test_spans_are_ascending_and_disjoint(chosen: Window, after: datetime) -> None:
    found = list(islice(spans(chosen, after), 20))
    assert len(found) == 20 and found[0].ends > after
    assert all(one.begins < one.ends for one in found)
    assert all(one.ends <= other.begins for one, other in pairwise(found))
    # A gap in the calendar apart, there is one in every week.
    assert found[0].begins - after < timedelta(days=9)
    assert all(other.begins - one.begins <= timedelta(days=8, hours=1) for one, other in pairwise(found))


@given(windows, moments, st.integers(0, 60 * 24 * 14))
def test_span_at_agrees_with_spans(chosen: Window, after: datetime, minutes: int) -> None:
    """Whenever one begins to look: the occurrence that covers a moment is the same."""
    moment = after + timedelta(minutes=minutes)
    seen = None
    for one in spans(chosen, after):
        if one.begins > moment:
            break
        if one.covers(moment):
            seen = one
    assert span_at(chosen, moment) == seen
    if seen:
        for inside in (seen.begins, seen.ends - timedelta(microseconds=1)):
            assert span_at(chosen, inside) == seen
        assert span_at(chosen, seen.ends) != seen


@given(windows, moments)
def test_without_a_change_the_clocks_show_the_hours(chosen: Window, after: datetime) -> None:
    one = next(spans(chosen, after))
    begins, ends = one.begins.astimezone(chosen.zone), one.ends.astimezone(chosen.zone)
    around = {
        (one.begins + timedelta(hours=hours)).astimezone(chosen.zone).utcoffset() for hours in range(-26, 52)
    }
    if len(around) == 1:
        assert (begins.time(), ends.time()) == (chosen.starts, chosen.ends)
        assert begins.weekday() in chosen.days
        assert (ends.date() > begins.date()) == chosen.crosses_midnight


@given(windows, moments, st.integers(0, 20 * 24 * 60), st.integers(0, 600), st.integers(0, 300))
def test_a_slot_is_the_first_moment_that_will_do(
    chosen: Window, not_before: datetime, minutes: int, lead: int, room: int
) -> None:
    not_after = not_before + timedelta(minutes=minutes)
    earliest, needed = not_before + timedelta(minutes=lead), timedelta(minutes=room)
    slot = next_slot(chosen, not_before, not_after, timedelta(minutes=lead), room=needed)
    if slot is not None:
        inside = span_at(chosen, slot)
        assert inside is not None and slot + needed <= inside.ends
        assert earliest <= slot <= not_after
    for one in spans(chosen, earliest):
        if one.begins > not_after or (slot is not None and one.begins >= slot):
            break
        # What comes before it is over, too short, or too late.
        begin = max(one.begins, earliest)
        assert begin > not_after or begin + needed > one.ends or begin == slot
