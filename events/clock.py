"""Times as people write and read them: by the clock of a zone, which is set twice a year. Pure."""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, datetime, timedelta
from typing import Final

from portal.errors import Invalid

NOTHING: Final = "Nothing was changed."
FIELD_FORMAT: Final = "%Y-%m-%dT%H:%M"
"""Of the value, `min` and `max` of an input of the type datetime-local."""
EXAMPLE: Final = "2026-03-01T02:00+01:00 or 2026-03-01T01:00Z"
"""Of a time with an offset, for programs."""
FIRST: Final = datetime(2000, 1, 1, tzinfo=UTC)
LAST: Final = datetime(2200, 1, 1, tzinfo=UTC)
"""What is planned is in between. Times near the ends of the calendar cannot be reckoned with in every zone."""
_WRITTEN: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?([+-]\d\d:?\d\d|Z)?", re.ASCII)


class TwiceThere(Invalid):
    """On the night on which the clock is set back this time comes twice; `moments` are both, the first one first."""

    id = "event.time_twice"
    field = "switch_at"

    def __init__(self, message: str, moments: tuple[datetime, datetime]) -> None:
        super().__init__(message, advice="Say which of both you mean.")
        self.moments = moments


def moment_of(text: str, zone: zoneinfo.ZoneInfo) -> datetime:
    """`2026-03-01T02:00` by the clock of the zone; one with an offset (`+01:00`, `Z`) says itself what it means.

    Raises Invalid (`event.bad_time`, `event.no_such_time`) and TwiceThere. A time is never guessed.
    """
    try:
        written = _read(text)
        if written is not None and written.tzinfo is not None:
            return _planned(written)
        moments = _moments(written, zone) if written is not None else []
    except (ValueError, OverflowError):
        written, moments = None, []
    if written is None:
        raise Invalid(
            f"That is no date and time. {NOTHING}" if text.strip() else f"No time was entered. {NOTHING}",
            advice="Enter the day, the hour and the minute, such as 2026-03-01 02:00.",
            id="event.bad_time",
            field="switch_at",
        )
    if not moments:
        instead = written.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)
        raise Invalid(
            f"On {written:%Y-%m-%d} the clock is set forward in {zone.key}: {written:%H:%M} does not exist. {NOTHING}",
            advice=f"Choose another time, such as {instead:%H:%M} {zone_name(instead)}.",
            id="event.no_such_time",
            field="switch_at",
        )
    if len(moments) == 2:
        raise TwiceThere(
            f"On {written:%Y-%m-%d} the clock is set back in {zone.key}: {written:%H:%M} comes twice. {NOTHING}",
            (moments[0], moments[1]),
        )
    return _planned(moments[0])


def exact_moment_of(text: str, field: str = "switch_at") -> datetime:
    """What a program names: a time with its offset, such as `2026-03-01T02:00+01:00`. Without one it would mean another time on each machine.

    Raises Invalid (`event.bad_time`).
    """
    try:
        written = _read(text)
        if written is not None and written.tzinfo is not None:
            return _planned(written, field)
    except (ValueError, OverflowError):
        pass
    raise Invalid(
        f"“{text[:60]}” is no time with an offset. {NOTHING}",
        advice=f"Write it as {EXAMPLE}.",
        id="event.bad_time",
        field=field,
    )


def _read(text: str) -> datetime | None:
    return datetime.fromisoformat(text.strip()) if _WRITTEN.fullmatch(text.strip()) else None


def _planned(moment: datetime, field: str = "switch_at") -> datetime:
    """In UTC. Raises Invalid for a moment for which nothing can be planned."""
    if not FIRST <= moment < LAST:
        raise Invalid(
            f"Nothing is planned for the year {moment.year}. {NOTHING}",
            advice=f"Choose a time from {FIRST.year} to {LAST.year - 1}.",
            id="event.bad_time",
            field=field,
        )
    return moment.astimezone(UTC)


def _moments(written: datetime, zone: zoneinfo.ZoneInfo) -> list[datetime]:
    """The moments at which the clock of the zone shows this: one, none or two of them, ascending."""
    found = set()
    for fold in (0, 1):
        moment = written.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None, fold=0) == written:
            found.add(moment)
    return sorted(found)


def words(moment: datetime, zone: zoneinfo.ZoneInfo) -> str:
    """`Tue 3 Mar 2026 02:00 CET`."""
    local = moment.astimezone(zone)
    return f"{local:%a} {local.day} {local:%b %Y %H:%M} {zone_name(local)}"


def zone_name(local: datetime) -> str:
    """`CET`; `UTC+05:45` where the zone has no letters for it."""
    name = local.tzname() or ""
    offset = f"{local:%z}"
    return f"UTC{offset[:3]}:{offset[3:5]}" if name[:1] in ("+", "-") else name


def utc_words(moment: datetime, zone: zoneinfo.ZoneInfo) -> str:
    """`01:00 UTC`, with the day where that is another one in UTC; "" where the zone is UTC."""
    local, utc = moment.astimezone(zone), moment.astimezone(UTC)
    if local.utcoffset() == timedelta(0):
        return ""
    return f"{utc:%H:%M} UTC" if local.date() == utc.date() else f"{utc:%a} {utc.day} {utc:%b %H:%M} UTC"


def field_range(earliest: datetime, latest: datetime, zone: zoneinfo.ZoneInfo) -> tuple[str, str]:
    """`min` and `max` of an input, to the whole minutes inside the span; ("", "") where the clock cannot say it."""
    first = (earliest + timedelta(seconds=59, microseconds=999_999)).replace(second=0, microsecond=0)
    low, high = (f"{one.astimezone(zone):{FIELD_FORMAT}}" for one in (first, latest))
    return (low, high) if low <= high else ("", "")
