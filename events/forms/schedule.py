"""The forms of one event: another time, or its end. What is allowed is decided by the services."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from events.services.scheduling import Wish
from portal.errors import ServiceError
from portal.forms import StyledForm

MINUTES: Final = "%Y-%m-%dT%H:%M"


class MomentField(forms.DateTimeField):
    """A time by the reader's clock, from the browser's own picker or typed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            input_formats=[MINUTES, "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"],
            widget=forms.DateTimeInput(format=MINUTES, attrs={"type": "datetime-local"}),
            error_messages={"invalid": "Enter a date and a time, such as 2026-03-01 02:00."},
            **kwargs,
        )

    def to_python(self, value: Any) -> datetime | None:
        try:
            return super().to_python(value)
        except ValidationError as error:
            if error.code != "ambiguous_timezone":
                raise
            zone = timezone.get_current_timezone_name()
            raise ValidationError(
                f"In the night of a clock change, {zone} has this time not at all, or twice. Choose one that is at least an hour earlier or later."
            ) from error


class RescheduleForm(StyledForm):
    """`wish` is how the time is chosen; `switch_at` counts for `time` alone. `seen` is the revision that the person saw."""

    wish = forms.ChoiceField(
        choices=[("window", "Next maintenance window"), ("now", "Now"), ("time", "At a time of your choice")],
        widget=forms.RadioSelect,
        error_messages={
            "required": "Choose when the switchover is to be.",
            "invalid_choice": "Choose when the switchover is to be.",
        },
    )
    switch_at = MomentField(label="Date and time", required=False)
    seen = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, earliest: datetime, latest: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["switch_at"]
        field.widget.attrs |= {
            "min": timezone.localtime(earliest).strftime(MINUTES),
            "max": timezone.localtime(latest).strftime(MINUTES),
        }
        field.is_asked = True  # type: ignore[attr-defined]  # it is not marked as optional: with its choice it is not

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        wants_time = data.get("wish") == "time"
        if not wants_time:
            self.errors.pop("switch_at", None)
        elif not data.get("switch_at") and "switch_at" not in self.errors:
            self.add_error("switch_at", "Enter the date and the time of the switchover.")
        return data

    def add_refusal(self, error: ServiceError) -> None:
        """A rule speaks of the time; it is shown at what was chosen."""
        chosen = self.cleaned_data.get("wish")
        if error.field == "switch_at" and chosen != "time":
            self.add_error("wish", str(error))
        else:
            super().add_refusal(error)

    @property
    def wished(self) -> Wish:
        chosen: str = self.cleaned_data["wish"]
        if chosen == "time":
            moment: datetime = self.cleaned_data["switch_at"]
            return moment
        return "now" if chosen == "now" else "window"


class CancelForm(StyledForm):
    reason = forms.CharField(
        max_length=500,
        help_text="Everybody who was told of the event reads it.",
        widget=forms.Textarea(attrs={"rows": 3}),
        error_messages={"required": "Say why it is cancelled."},
    )
    seen = forms.IntegerField(required=False, widget=forms.HiddenInput)
