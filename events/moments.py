"""Times in messages, by the clock of whoever gets them. Pure. (events/clock.py is for pages, whose reader can ask.)"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from events.clock import utc_words
from events.rules import duration_text


def moment_text(moment: datetime, zone: zoneinfo.ZoneInfo, now: datetime) -> str:
    """`Tue 3 March, 02:00 CET`, with the year where it is another one."""
    local = moment.astimezone(zone)
    year = f" {local.year}" if local.year != now.astimezone(zone).year else ""
    return f"{local:%a} {local.day} {local:%B}{year}, {local:%H:%M} {zone_text(local)}"


def both_texts(moment: datetime, zone: zoneinfo.ZoneInfo, now: datetime) -> str:
    """`Tue 3 March, 02:00 CET (01:00 UTC)`."""
    utc = utc_words(moment, zone)
    text = moment_text(moment, zone, now)
    return f"{text} ({utc})" if utc else text


def between_text(moments: Iterable[datetime], zone: zoneinfo.ZoneInfo, now: datetime) -> str:
    """`between Tue 3 March, 02:00 CET and Fri 6 March, 04:00 CET`; `at …` where all of them are the same."""
    first, last = (moment_text(moment, zone, now) for moment in _ends(moments))
    return f"at {first}" if first == last else f"between {first} and {last}"


def _ends(moments: Iterable[datetime]) -> tuple[datetime, datetime]:
    found = list(moments)
    return min(found), max(found)


def zone_text(local: datetime) -> str:
    """`CET`; `UTC+05:45` where the zone has no name for it."""
    name = local.tzname() or ""
    if name[:1] in "+-":
        offset = f"{local:%z}"
        return f"UTC{offset[:3]}:{offset[3:5]}"
    return name


def twice_text(moment: datetime, zone: zoneinfo.ZoneInfo) -> str:
    """On the night on which the clocks go back: which of both is meant. Else ""."""
    local = moment.astimezone(zone)
    first, second = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second:
        return ""
    which = "first" if moment == first else "second"
    return f"The clocks go back on that night and show {local:%H:%M} twice: the {which} one, {zone_text(local)}, is meant."


def left_text(left: timedelta) -> str:
    """`24 h`, `3 days`, `45 min`: a message is on its way for some seconds, which do not count."""
    minutes = max(1, round(left / timedelta(minutes=1)))
    if minutes >= 115 and minutes % 60 > 54:
        minutes += 60 - minutes % 60
    elif minutes >= 120 and minutes % 60 < 6:
        minutes -= minutes % 60
    whole = timedelta(minutes=minutes)
    return duration_text(whole) if whole > timedelta(minutes=1) else "1 min"
