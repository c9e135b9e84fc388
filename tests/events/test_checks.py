from __future__ import annotations

import pytest
from pytest_django import Settings

from events.checks import settings_of_events


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("EVENT_REMINDER_HOURS", [72, 0], [72, 1]),
        ("EVENT_REMINDER_HOURS", [-1], []),
        ("EVENT_ESCALATION_MINUTES", 0, 1),
        ("EVENT_LATE_MINUTES", -1, 0),
    ],
)
def test_settings_that_cannot_be_meant(settings: Settings, name: str, wrong: object, right: object) -> None:
    setattr(settings, name, wrong)
    (message,) = settings_of_events(None)
    assert message.id == "events.E001" and name in message.msg
    setattr(settings, name, right)
    assert settings_of_events(None) == []
