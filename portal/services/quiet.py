"""Quiet hours of a contact: a span of the day in the contact's own zone, which may cross midnight. Pure."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, date, datetime, time, timedelta

from portal.models import Contact


def end_of_quiet_hours(contact: Contact, now: datetime) -> datetime | None:
    """When the quiet hours end that it is now, always after `now`; None if it is not.

    Where the clock is set forward over an edge, the edge is as much later; where it is set back over one, they begin at the first
    of both moments and end at the second.
    """
    begins, ends = contact.quiet_from, contact.quiet_to
    if begins is None or ends is None or begins == ends:
        return None
    zone = zone_of(contact)
    today = now.astimezone(zone).date()
    for day in (today - timedelta(days=1), today):
        begin = _moment(day, begins, zone)
        last_day = day + timedelta(days=1) if begins > ends else day
        end = max(_moment(last_day, ends, zone, fold=fold) for fold in (0, 1))
        if begin <= now < end:
            return end
    return None


def zone_of(contact: Contact) -> zoneinfo.ZoneInfo:
    """UTC for a zone that this machine does not know (any more)."""
    try:
        return zoneinfo.ZoneInfo(contact.time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return zoneinfo.ZoneInfo("UTC")


def _moment(day: date, clock: time, zone: zoneinfo.ZoneInfo, *, fold: int = 0) -> datetime:
    # In UTC: two times of one zone are compared by their clocks, which is wrong on these two nights.
    return datetime.combine(day, clock, tzinfo=zone).replace(fold=fold).astimezone(UTC)
