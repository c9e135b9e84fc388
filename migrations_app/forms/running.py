"""What can be changed of a task while it runs: retry time, speed, alerts, verification by itself."""

from __future__ import annotations

from typing import Any

from django import forms

from migrations_app.forms.settings import AlertFields, RetryFields, SpeedFields, alert_initial, speed_initial
from migrations_app.models import MigrationTask


class RunningForm(AlertFields, RetryFields, SpeedFields):
    verify_every_hours = forms.IntegerField(
        label="Verify by itself every",
        required=False,
        min_value=1,
        max_value=720,
        help_text="Hours, while the incremental phase runs. Empty: only when somebody asks for it.",
    )
    verify_percent = forms.IntegerField(
        label="Share of the keys",
        required=False,
        min_value=1,
        max_value=100,
        help_text="Percent of the keys that each verification compares by value. Empty: all.",
    )

    def __init__(self, *args: Any, task: MigrationTask, **kwargs: Any) -> None:
        initial = {
            "retry_minutes": task.retry_minutes,
            "verify_every_hours": task.verify_every_hours,
            "verify_percent": task.verify_percent,
            **alert_initial(task),
            **speed_initial(task),
        }
        super().__init__(*args, initial=initial, **kwargs)
        self.offer_contacts(task.account)
        self.offer_hours(len(task.speed_hours))

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        self.check_alerts()
        self.check_hours()
        return data

    def settings(self) -> dict[str, Any]:
        """What the service takes, of a valid form."""
        data = self.cleaned_data
        return {
            "retry_minutes": data["retry_minutes"],
            "verify_every_hours": data["verify_every_hours"],
            "verify_percent": data["verify_percent"] or 100,
            **self.alert_settings(),
            **self.speed_settings(),
        }
