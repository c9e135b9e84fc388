"""Quiet hours of a contact: a span of the day in the contact's own zone, which may cross midnight. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from portal.models import Contact
from portal.windows import edges, zone_called


def end_of_quiet_hours(contact: Contact, now: datetime) -> datetime | None:
    """When the quiet hours end that it is now, always after `now`; None if it is not.

    What becomes of them where the clock is changed is said in portal/windows.py: it is the same for both.
    """
    begins, ends = contact.quiet_from, contact.quiet_to
    if begins is None or ends is None or begins == ends:
        return None
    zone = zone_called(contact.time_zone)
    today = now.astimezone(zone).date()
    for day in (today - timedelta(days=1), today):
        begin, end = edges(day, begins, ends, zone)
        if begin <= now < end:
            return end
    return None
