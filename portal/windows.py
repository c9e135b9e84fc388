"""Maintenance windows: the hours of chosen days, by a clock somewhere, in which a switchover may happen. Pure.

A day names the day on which the window *begins*; it ends on the next day where `ends` is before `starts`. What is given and returned
are aware moments, compared in UTC: two times of one zone are compared by their clocks, which is wrong on the nights of a change.

Where the clock is set forward over an edge, the edge is as much later; where it is set back over one, the window begins at the first
of both moments and ends at the second. A window that the change would leave without any time is moved behind the gap with its length
kept: 02:30–03:15 is 03:30–04:15 on the night on which 02:00 to 03:00 do not exist. Windows of two days that would meet in this way do
not overlap: the earlier one ends where the later one begins.
"""

from __future__ import annotations

import functools
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

DAY_NAMES: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# The calendar ends before its last days: a time of another zone can lie beyond them.
FIRST_DAY: Final = date.min.toordinal() + 7
LAST_DAY: Final = date.max.toordinal() - 7


@dataclass(frozen=True, slots=True)
class Window:
    """Days are 0 (Monday) to 6; `starts` and `ends` are times of the zone's clock and differ. Raises ValueError."""

    days: frozenset[int]
    starts: time
    ends: time
    zone: zoneinfo.ZoneInfo

    def __post_init__(self) -> None:
        if not self.days or not self.days <= set(range(7)):
            raise ValueError(f"days of a window: {sorted(self.days)}")
        if self.starts.tzinfo or self.ends.tzinfo:
            raise ValueError("the times of a window are those of its zone's clock")
        if self.starts == self.ends:
            raise ValueError(f"the window ends when it begins, at {self.starts}")

    @property
    def crosses_midnight(self) -> bool:
        """Whether it ends on another day than it begins; one that ends at midnight does."""
        return self.ends < self.starts


@dataclass(frozen=True, slots=True)
class Span:
    """One occurrence of a window, in UTC. The end is not part of it."""

    begins: datetime
    ends: datetime

    def covers(self, moment: datetime) -> bool:
        return self.begins <= moment < self.ends

    @property
    def length(self) -> timedelta:
        return self.ends - self.begins


def span_at(window: Window, moment: datetime) -> Span | None:
    """The occurrence that covers the moment."""
    span = next(spans(window, moment), None)
    return span if span is not None and span.begins <= moment else None


def spans(window: Window, after: datetime) -> Iterator[Span]:
    """The occurrences that end after the moment, ascending and disjoint; the first may have begun. Endless, up to the year 9999."""
    after = _in_utc(after)
    upcoming = _by_day(window, after.date())
    span = next(upcoming, None)
    for following in upcoming:
        assert span is not None
        ends = min(span.ends, following.begins)
        if ends > after and ends > span.begins:
            yield Span(span.begins, ends)
        span = following


def next_slot(
    window: Window,
    not_before: datetime,
    not_after: datetime,
    lead: timedelta = timedelta(0),
    *,
    room: timedelta = timedelta(0),
) -> datetime | None:
    """The first moment in the window from `not_before` to `not_after`, both included; None if there is none.

    `lead`: the moment is at least so much later than `not_before`, for a notice or for what is to be prepared.
    `room`: at least so much of the window is left at that moment, for what is to be done in it.
    """
    earliest = _in_utc(not_before) + lead
    for span in spans(window, earliest):
        moment = max(span.begins, earliest)
        if moment > not_after:
            return None
        if moment + room <= span.ends:
            return moment
    return None


def describe(window: Window) -> str:
    """`Tue, Thu 02:00–04:00 Europe/Berlin`; three days in a row and more as `Mon–Fri`, all of them as `Every day`."""
    return f"{describe_days(window.days)} {window.starts:%H:%M}–{window.ends:%H:%M} {window.zone.key}"


def describe_days(days: frozenset[int]) -> str:
    if len(days) == len(DAY_NAMES):
        return "Every day"
    runs: list[list[int]] = []
    for day in sorted(days):
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    words = []
    for run in runs:
        names = [DAY_NAMES[day] for day in run]
        words += [f"{names[0]}–{names[-1]}"] if len(names) > 2 else names
    return ", ".join(words)


def edges(day: date, starts: time, ends: time, zone: zoneinfo.ZoneInfo) -> tuple[datetime, datetime]:
    """When hours that begin on this day begin and end, in UTC. Through clock changes as the head of this file says."""
    begin = _moment(day, starts, zone)
    last_day = day + timedelta(days=1) if ends < starts else day
    end = max(_moment(last_day, ends, zone, fold=fold) for fold in (0, 1))
    if end <= begin:
        end = begin + (datetime.combine(last_day, ends) - datetime.combine(day, starts))
    return begin, end


@functools.cache
def known_zones() -> frozenset[str]:
    """IANA names that a window may have. Without what means another zone on each machine, or none at all."""
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


def offered_zones() -> list[str]:
    """Those that people choose from; the others are older or shorter names of them."""
    return ["UTC", *sorted(name for name in known_zones() if "/" in name and not name.startswith("Etc/"))]


def zone_called(name: str) -> zoneinfo.ZoneInfo:
    """UTC for a zone that this machine does not know (any more)."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return zoneinfo.ZoneInfo("UTC")


def _by_day(window: Window, about: date) -> Iterator[Span]:
    """One for each day of the window, from some days before. Two of them may meet."""
    # What covers a moment has begun two days before at the latest, by a clock that shows the same date, the one before or the next.
    first = max(about.toordinal() - 3, FIRST_DAY)
    for ordinal in range(first, LAST_DAY):
        day = date.fromordinal(ordinal)
        if day.weekday() in window.days:
            yield Span(*edges(day, window.starts, window.ends, window.zone))


def _moment(day: date, clock: time, zone: zoneinfo.ZoneInfo, *, fold: int = 0) -> datetime:
    return datetime.combine(day, clock, tzinfo=zone).replace(fold=fold).astimezone(UTC)


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"a moment without a zone: {moment}")
    return moment.astimezone(UTC)
