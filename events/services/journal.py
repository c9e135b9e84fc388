"""The log of an event."""

from __future__ import annotations

from typing import Final

from events.choices import LogLevel
from events.models import Event, EventLogEntry

TEXT_LIMIT: Final = 2000


def note(event: Event, message: str, level: LogLevel = LogLevel.INFO) -> None:
    """One line in the log of the event."""
    EventLogEntry.objects.create(event=event, level=level, message=message[:TEXT_LIMIT])


def hold(event: Event, reason: str) -> None:
    """It does not go on, and says why: once in the log. `event` is locked by the caller."""
    if event.hold_reason != reason:
        event.hold_reason = reason
        event.save(update_fields=["hold_reason"])
        note(event, reason, LogLevel.WARNING)
