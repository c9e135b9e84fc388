"""The forms of one event: another time, or its end. What is allowed is decided by the services."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from events import clock
from events.services.scheduling import Wish
from portal.errors import ServiceError
from portal.forms import StyledForm
from portal.windows import zone_called


class MomentField(forms.CharField):
    """A time by the reader's clock, from the browser's own picker or typed; cleaned, a moment, or None for an empty one."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault(
            "widget", forms.DateTimeInput(format=clock.FIELD_FORMAT, attrs={"type": "datetime-local"})
        )
        super().__init__(**kwargs)

    def to_python(self, value: Any) -> Any:
        if value in self.empty_values or isinstance(value, datetime):
            return value or None
        try:
            return clock.moment_of(str(value), reader_zone())
        except clock.TwiceThere as error:
            raise ValidationError(
                f"{error.message} Choose one that is at least an hour earlier or later."
            ) from error
        except ServiceError as error:
            raise ValidationError(str(error)) from error

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, datetime):
            return value.astimezone(reader_zone()).strftime(clock.FIELD_FORMAT)
        return value


def reader_zone() -> ZoneInfo:
    return zone_called(timezone.get_current_timezone_name())


class RescheduleForm(StyledForm):
    """`wish` is how the time is chosen; `switch_at` counts for `time` alone. `seen` is the revision that the person saw."""

    wish = forms.ChoiceField(
        choices=[
            ("window", "Next maintenance window"),
            ("later", "Later maintenance window"),
            ("now", "Now"),
            ("time", "At a time of your choice"),
        ],
        widget=forms.RadioSelect,
        error_messages={
            "required": "Choose when the switchover is to be.",
            "invalid_choice": "Choose when the switchover is to be.",
        },
    )
    switch_at = forms.CharField(
        label="Date and time",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )
    which = forms.ChoiceField(choices=[("0", "the first"), ("1", "the second")], required=False)
    seen = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def __init__(
        self, *args: Any, earliest: datetime, latest: datetime, later: datetime | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.zone = reader_zone()
        self.later = later
        """The moment in the first window after the time that stands, if there is one."""
        self.twice: tuple[datetime, datetime] | None = None
        """Both moments, where the clock shows the time twice and nobody has said yet which is meant."""
        field = self.fields["switch_at"]
        low, high = clock.field_range(earliest, latest, self.zone)
        field.widget.attrs |= {"min": low, "max": high} if low else {}
        field.is_asked = True  # type: ignore[attr-defined]  # it is not marked as optional: with its choice it is not

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if data.get("wish") == "later" and self.later is None:
            self.add_error(
                "wish", "No later maintenance window has a free place. Nothing was changed. Choose a time."
            )
        if data.get("wish") == "time":
            try:
                data["switch_at"] = self._moment(data)
            except ServiceError as error:
                self.add_error("switch_at", str(error))
        return data

    def _moment(self, data: dict[str, Any]) -> datetime:
        try:
            return clock.moment_of(data.get("switch_at", ""), self.zone)
        except clock.TwiceThere as error:
            if data.get("which"):
                return error.moments[int(data["which"])]
            self.twice = error.moments
            raise

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
        if chosen == "later":
            assert self.later is not None  # see clean()
            return self.later
        return "now" if chosen == "now" else "window"


class CancelForm(StyledForm):
    reason = forms.CharField(
        max_length=500,
        help_text="Everybody who was told of the event reads it.",
        widget=forms.Textarea(attrs={"rows": 3}),
        error_messages={"required": "Say why it is cancelled."},
    )
    seen = forms.IntegerField(required=False, widget=forms.HiddenInput)
