"""The form of a maintenance window. What is allowed is decided by services/windows.py."""

from __future__ import annotations

from datetime import time
from typing import Any, Final, TypedDict

from django import forms
from django.utils import timezone

from portal.forms import StyledForm
from portal.models import MaintenanceWindow
from portal.windows import known_zones, offered_zones

DAYS: Final = (
    (0, "Monday"), (1, "Tuesday"), (2, "Wednesday"), (3, "Thursday"), (4, "Friday"), (5, "Saturday"), (6, "Sunday"),
)  # fmt: skip


class Values(TypedDict):
    """As set_window takes them."""

    days: list[int]
    starts: time
    ends: time
    time_zone: str


class _Boxes(forms.CheckboxSelectMultiple):
    """Its errors lead to the first box."""

    def id_for_label(self, id_: str, index: str | None = None) -> str:
        return super().id_for_label(id_, index or "0")


def _clock(label: str, problem: str) -> forms.TimeField:
    return forms.TimeField(
        label=label,
        input_formats=["%H:%M"],
        widget=forms.TimeInput(format="%H:%M", attrs={"type": "time"}),
        error_messages={"required": problem, "invalid": problem},
    )


class WindowForm(StyledForm):
    days = forms.TypedMultipleChoiceField(
        choices=DAYS,
        coerce=int,
        widget=_Boxes,
        error_messages={"required": "Choose at least one day on which the window begins."},
    )
    starts = _clock("From", "Enter when the window begins as hours and minutes, such as 02:00.")
    ends = _clock("To", "Enter when the window ends as hours and minutes, such as 04:00.")
    time_zone = forms.CharField(
        label="Time zone",
        max_length=64,
        help_text="Of both times. An IANA name, such as Europe/Berlin.",
        widget=forms.TextInput(attrs={"list": "zones", "autocomplete": "off", "spellcheck": "false"}),
        error_messages={"required": "Enter a time zone, such as Europe/Berlin."},
    )

    def __init__(self, *args: Any, shown: MaintenanceWindow | None = None, **kwargs: Any) -> None:
        """`shown` is what the fields begin with."""
        if shown is not None:
            names = ("starts", "ends", "time_zone")
            kwargs["initial"] = {name: getattr(shown, name) for name in names} | {"days": sorted(shown.days)}
        else:
            kwargs["initial"] = {"time_zone": timezone.get_current_timezone_name()}
        super().__init__(*args, **kwargs)
        self.fields["days"].widget.attrs["class"] = "form-check-input"
        self.zones = offered_zones()

    def clean_time_zone(self) -> str:
        """In the spelling of the list, however it was typed."""
        typed: str = self.cleaned_data["time_zone"]
        return {name.lower(): name for name in known_zones()}.get(typed.lower(), typed)

    def values(self) -> Values:
        data = self.cleaned_data
        return {name: data[name] for name in ("days", "starts", "ends", "time_zone")}  # type: ignore[return-value]  # as cleaned
