"""System checks of the settings of events."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def settings_of_events(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    wrong: list[tuple[str, Any, str]] = []
    if any(hours <= 0 for hours in settings.EVENT_REMINDER_HOURS):
        wrong.append(("EVENT_REMINDER_HOURS", settings.EVENT_REMINDER_HOURS, "hours of 1 or more"))
    if settings.EVENT_ESCALATION_MINUTES < 1:
        wrong.append(("EVENT_ESCALATION_MINUTES", settings.EVENT_ESCALATION_MINUTES, "1 minute or more"))
    if settings.EVENT_LATE_MINUTES < 0:
        wrong.append(("EVENT_LATE_MINUTES", settings.EVENT_LATE_MINUTES, "0 minutes or more"))
    return [
        Error(f"{name} is {value}; it takes {takes}.", hint="See docs/settings.md.", id="events.E001")
        for name, value, takes in wrong
    ]
