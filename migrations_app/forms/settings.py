"""Settings of a task that can also be changed while it runs, as parts of forms: alerts, retry time, speed."""

from __future__ import annotations

import zoneinfo
from datetime import time
from typing import Any, Final

from django import forms
from django.forms import BoundField

from migrations_app.choices import SpeedClass
from migrations_app.models import MigrationTask
from migrations_app.services.checks import RETRY_MINUTES
from portal.forms import StyledForm
from portal.models import Contact

YES, NO = "yes", "no"
HOURS_SPARE: Final = 2  # empty rows beside those that are filled in
HOURS_MOST: Final = 8

HoursRow = tuple[BoundField, BoundField, BoundField]


def alert_initial(task: MigrationTask) -> dict[str, Any]:
    contacts = list(task.alert_contacts.values_list("pk", flat=True))
    return {
        "alerts": YES if task.alerts else NO,
        "alert_lag_seconds": task.alert_lag_seconds,
        "alert_after_seconds": task.alert_after_seconds,
        "alert_retrying_minutes": task.alert_retrying_minutes,
        "alert_contacts": contacts,
    }


def speed_initial(task: MigrationTask) -> dict[str, Any]:
    found = {"speed_class": task.speed_class, "speed_time_zone": task.speed_time_zone}
    for number, row in enumerate(task.speed_hours):
        found |= {
            f"hours_from_{number}": row["from"],
            f"hours_to_{number}": row["to"],
            f"hours_class_{number}": row["class"],
        }
    return found


class AlertFields(StyledForm):
    """Whether somebody is told, from which delay on, and who (R80). `account` decides which contacts are offered."""

    alerts = forms.ChoiceField(
        label="Alerts",
        choices=[(NO, "No"), (YES, "Yes")],
        initial=NO,
        widget=forms.RadioSelect,
    )
    alert_lag_seconds = forms.IntegerField(
        label="Alert when the delay exceeds",
        required=False,
        min_value=1,
        max_value=86_400,
        help_text="Seconds that the target is behind the source.",
    )
    alert_after_seconds = forms.IntegerField(
        label="For at least",
        required=False,
        initial=60,
        min_value=0,
        max_value=86_400,
        help_text="Seconds above the threshold before somebody is told, and below it before the all-clear. Empty: 60.",
    )
    alert_retrying_minutes = forms.IntegerField(
        label="Alert when retrying for longer than",
        required=False,
        min_value=1,
        max_value=1440,
        help_text="Minutes. Empty: not before the task fails.",
    )
    alert_contacts = forms.ModelMultipleChoiceField(
        label="Contacts",
        queryset=Contact.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        error_messages={
            "invalid_choice": "One of the contacts is not of this account, or was deleted meanwhile. Choose contacts of the list."
        },
    )

    def offer_contacts(self, account: Any) -> None:
        self.fields["alert_contacts"].queryset = Contact.objects.filter(account=account)  # type: ignore[attr-defined]

    def check_alerts(self) -> None:
        """Yes needs a threshold and somebody to tell."""
        data = self.cleaned_data
        if data.get("alerts") != YES:
            return
        if "alert_lag_seconds" in data and data["alert_lag_seconds"] is None:
            self.add_error(
                "alert_lag_seconds", "Alerts need a threshold. Enter the seconds of delay from which on somebody is told."
            )  # fmt: skip
        if "alert_contacts" in data and not data["alert_contacts"]:
            self.add_error(
                "alert_contacts", "Alerts need somebody to tell. Choose at least one contact, or choose No."
            )  # fmt: skip

    def alert_settings(self) -> dict[str, Any]:
        """What the services take. Without alerts, the figures are kept for the day that they are switched on."""
        data = self.cleaned_data
        after = data["alert_after_seconds"]
        return {
            "alerts": data["alerts"] == YES,
            "alert_lag_seconds": data["alert_lag_seconds"],
            "alert_after_seconds": 60 if after is None else after,
            "alert_retrying_minutes": data["alert_retrying_minutes"],
            "alert_contacts": list(data["alert_contacts"]),
        }


class RetryFields(StyledForm):
    retry_minutes = forms.IntegerField(
        label="Retry time",
        initial=120,
        min_value=RETRY_MINUTES[0],
        max_value=RETRY_MINUTES[-1],
        error_messages={
            "invalid": "Enter a whole number of minutes, from 10 to 1440.",
            "min_value": "The retry time is at least 10 minutes; more than 30 are recommended.",
            "max_value": "The retry time is at most 1440 minutes (a day).",
        },
        help_text="Minutes, 10 to 1440, for which a lost connection is tried again before the task fails. More than 30 are recommended.",
    )


class SpeedFields(StyledForm):
    """The class, and other classes at certain times of the day (R89)."""

    speed_class = forms.ChoiceField(
        label="Speed",
        choices=SpeedClass.choices,
        initial=SpeedClass.UNLIMITED,
        help_text="Keys of the full phase and writes of the incremental phase per second. It can be changed while the task runs.",
    )
    speed_time_zone = forms.ChoiceField(label="Time zone of these hours", required=False, initial="UTC")

    def offer_hours(self, filled: int) -> None:
        """Fields for the rows that are filled in, and some empty ones."""
        zones = sorted(
            zone for zone in zoneinfo.available_timezones() if "/" in zone and not zone.startswith("Etc/")
        )
        self.fields["speed_time_zone"].choices = [("UTC", "UTC"), *((zone, zone) for zone in zones)]  # type: ignore[attr-defined]
        self.hours_rows = min(filled + HOURS_SPARE, HOURS_MOST)
        for number in range(self.hours_rows):
            for edge in ("from", "to"):
                self.fields[f"hours_{edge}_{number}"] = forms.TimeField(
                    label=f"{edge.capitalize()}, row {number + 1}",
                    required=False,
                    input_formats=["%H:%M"],
                    error_messages={"invalid": "Enter a time of the day such as 22:00."},
                    widget=forms.TimeInput(format="%H:%M", attrs={"type": "time", "class": "form-control"}),
                )
            self.fields[f"hours_class_{number}"] = forms.ChoiceField(
                label=f"Speed, row {number + 1}",
                required=False,
                choices=[("", "No range"), *SpeedClass.choices],
                widget=forms.Select(attrs={"class": "form-select"}),
            )

    @property
    def hours(self) -> list[HoursRow]:
        """The rows as the page lists them."""
        return [
            (self[f"hours_from_{number}"], self[f"hours_to_{number}"], self[f"hours_class_{number}"])
            for number in range(self.hours_rows)
        ]

    def check_hours(self) -> None:
        """Each row is whole or empty, and no two of them overlap."""
        taken: dict[int, int] = {}  # minute of the day → row
        for number in range(self.hours_rows):
            names = tuple(f"hours_{part}_{number}" for part in ("from", "to", "class"))
            values = [self.cleaned_data.get(name) for name in names]
            if any(name in self.errors for name in names) or not any(
                value not in (None, "") for value in values
            ):
                continue
            for name, value in zip(names, values, strict=True):
                if value in (None, ""):
                    self.add_error(name, "A range has a beginning, an end and a speed. Fill in all three, or none.")  # fmt: skip
            if any(value in (None, "") for value in values):
                continue
            minutes = minutes_of(values[0], values[1])  # type: ignore[arg-type]
            if not minutes:
                self.add_error(names[1], "The range ends when it begins. For the whole day, choose the speed above.")  # fmt: skip
            elif both := sorted({taken[minute] for minute in minutes if minute in taken}):
                self.add_error(names[0], f"This range overlaps with that of row {both[0] + 1}. Each minute can have one speed only.")  # fmt: skip
            taken |= dict.fromkeys(minutes, number)

    def speed_settings(self) -> dict[str, Any]:
        data = self.cleaned_data
        hours = [
            {
                "from": f"{data[f'hours_from_{number}']:%H:%M}",
                "to": f"{data[f'hours_to_{number}']:%H:%M}",
                "class": data[f"hours_class_{number}"],
            }
            for number in range(self.hours_rows)
            if data[f"hours_class_{number}"]
        ]
        return {
            "speed_class": data["speed_class"],
            "speed_hours": hours,
            "speed_time_zone": data["speed_time_zone"] or "UTC",
        }


def minutes_of(begin: time, end: time) -> list[int]:
    """The minutes of the day in a range, which may go over midnight; none if it ends when it begins."""
    first, last = begin.hour * 60 + begin.minute, end.hour * 60 + end.minute
    return [minute % 1440 for minute in range(first, last if last >= first else last + 1440)]
