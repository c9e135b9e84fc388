"""What an action of many events needs to know. What is allowed is decided by the services."""

from __future__ import annotations

from typing import Any, Final

from django import forms

from events.choices import BulkAction
from events.forms.schedule import MomentField, reader_zone
from events.services.bulk import LONGEST_STEP
from portal.forms import StyledForm


class ToTimeForm(StyledForm):
    at = MomentField(label="Date and time")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["at"].help_text = f"By the clock of {reader_zone().key}."
        self.fields["at"].error_messages["required"] = "Enter the date and the time of the switchover."


class StaggerForm(ToTimeForm):
    minutes = forms.IntegerField(
        label="Minutes from one switchover to the next",
        min_value=1,
        max_value=LONGEST_STEP,
        initial=10,
        help_text="A place that an event cannot have, because of a blackout or of a full region, is left to another one.",
        error_messages={"required": f"Enter a number of minutes from 1 to {LONGEST_STEP}."},
    )
    order = forms.ChoiceField(
        label="In the order of",
        choices=[("time", "their present switch times"), ("name", "the names of their instances")],
        widget=forms.RadioSelect,
        initial="time",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["at"].label = "From"


class CancelManyForm(StyledForm):
    reason = forms.CharField(
        max_length=500,
        help_text="Everybody who was told of the events reads it.",
        widget=forms.Textarea(attrs={"rows": 3}),
        error_messages={"required": "Say why they are cancelled."},
    )


FORMS: Final[dict[BulkAction, type[StyledForm]]] = {
    BulkAction.TO_TIME: ToTimeForm,
    BulkAction.STAGGER: StaggerForm,
    BulkAction.CANCEL: CancelManyForm,
}
"""Actions that are not here need to know nothing."""
