"""Until when somebody may choose the time of an event that waits for one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from events.choices import EventStatus
from events.models import Event
from events.services import lateness
from events.services.surroundings import facts_of
from portal.services.windows import windows_for


def choose_by_of(events: Iterable[Event], now: datetime) -> dict[int, datetime]:
    """By the primary key, only of events that wait for a time: then the system chooses one. `type` and `instance` should be loaded. One query."""
    waiting = [event for event in events if event.status == EventStatus.WAITING]
    if not waiting:
        return {}
    windows = windows_for({event.instance for event in waiting if event.instance is not None})
    return {
        event.pk: lateness.choose_by(
            facts_of(event, now), event.created_at, windows.get(event.instance_id or 0)
        )
        for event in waiting
    }
