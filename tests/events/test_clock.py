"""Times by a clock that is set twice a year: refused or asked back about, never guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from events import clock
from portal.errors import Invalid

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # set by half an hour


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01T02:00", "2026-03-01T01:00+00:00"),
        ("2026-03-01 02:00", "2026-03-01T01:00+00:00"),
        (" 2026-07-01T02:00:30 ", "2026-07-01T00:00:30+00:00"),
        ("2026-03-29T01:59", "2026-03-29T00:59+00:00"),
        ("2026-03-29T03:00", "2026-03-29T01:00+00:00"),
        ("2026-10-25T01:59", "2026-10-24T23:59+00:00"),
        ("2026-10-25T03:00", "2026-10-25T02:00+00:00"),
        ("2026-10-25T02:30+02:00", "2026-10-25T00:30+00:00"),
        ("2026-10-25T02:30+01:00", "2026-10-25T01:30+00:00"),
        ("2026-10-25T01:30Z", "2026-10-25T01:30+00:00"),
    ],
)
def test_a_time_of_the_clock(text: str, moment: str) -> None:
    assert clock.moment_of(text, BERLIN) == datetime.fromisoformat(moment)


@pytest.mark.parametrize("time", ["02:00", "02:30", "02:59"])
def test_an_hour_that_does_not_exist(time: str) -> None:
    with pytest.raises(Invalid) as refused:
        clock.moment_of(f"2026-03-29T{time}", BERLIN)
    assert refused.value.id == "event.no_such_time"
    assert f"{time} does not exist" in refused.value.message
    assert f"03:{time[3:]} CEST" in refused.value.advice


@pytest.mark.parametrize("time", ["02:00", "02:30", "02:59"])
def test_an_hour_that_comes_twice(time: str) -> None:
    with pytest.raises(clock.TwiceThere) as refused:
        clock.moment_of(f"2026-10-25T{time}", BERLIN)
    first, second = refused.value.moments
    assert second - first == timedelta(hours=1)
    assert [f"{one.astimezone(BERLIN):%H:%M %Z}" for one in (first, second)] == [
        f"{time} CEST",
        f"{time} CET",
    ]
    assert clock.moment_of(first.astimezone(BERLIN).isoformat(), BERLIN) == first


def test_half_an_hour_that_comes_twice() -> None:
    with pytest.raises(clock.TwiceThere) as refused:
        clock.moment_of("2026-04-05T01:45", LORD_HOWE)
    first, second = refused.value.moments
    assert second - first == timedelta(minutes=30)


@pytest.mark.parametrize(
    "text",
    ["", " ", "tomorrow", "2026-03-01", "2026-02-30T10:00", "2026-03-01T25:00", "20260301T0200", "2026-W10-1T02:00",
     "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00", "2026-03-01T02:00+99:00", "２026-03-01T02:00"],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        clock.moment_of(text, BERLIN)
    assert refused.value.id == "event.bad_time"


def test_words() -> None:
    moment = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)
    assert clock.words(moment, BERLIN) == "Tue 3 Mar 2026 00:30 CET"
    assert clock.utc_words(moment, BERLIN) == "Mon 2 Mar 23:30 UTC"
    assert clock.utc_words(moment + timedelta(hours=1), BERLIN) == "00:30 UTC"
    assert clock.utc_words(moment, ZoneInfo("UTC")) == ""
    assert clock.words(moment, ZoneInfo("Asia/Kathmandu")) == "Tue 3 Mar 2026 05:15 UTC+05:45"


def test_the_range_of_a_field_lies_inside_the_span() -> None:
    early, late = datetime(2026, 3, 1, 9, 0, 1, tzinfo=UTC), datetime(2026, 3, 2, 9, 59, 59, tzinfo=UTC)
    assert clock.field_range(early, late, BERLIN) == ("2026-03-01T10:01", "2026-03-02T10:59")
    assert clock.field_range(early, early, BERLIN) == ("", "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1796900000",
        "2026-03-01",
        "2026-03-01T02:00",
        "2026-13-01T02:00Z",
        "2026-03-01T02:00+99:00",
    ],
)
def test_a_program_says_its_offset(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        clock.exact_moment_of(text, "deadline")
    assert (refused.value.id, refused.value.field) == ("event.bad_time", "deadline")
    for exact in ("2026-03-01T02:00+01:00", "2026-03-01 02:00:00+0100", "2026-03-01T01:00:00.000Z"):
        assert clock.exact_moment_of(exact) == datetime(2026, 3, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["9999-12-31T23:59-12:00", "9999-12-31T23:59Z", "0001-01-01T00:00+14:00", "1999-12-31T23:59Z"]
)
def test_a_time_that_cannot_be_reckoned_with(text: str) -> None:
    for read in (
        clock.exact_moment_of,
        lambda text: clock.moment_of(text, BERLIN),
        lambda text: clock.moment_of(text[:16], BERLIN),
    ):
        with pytest.raises(Invalid) as refused:
            read(text)
        assert refused.value.id == "event.bad_time"
