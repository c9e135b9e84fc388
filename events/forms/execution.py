"""The forms of those who carry an event out. What is allowed is decided by the service."""

from __future__ import annotations

from typing import Any

from django import forms

from events.models import EventStage
from portal.forms import StyledForm


class ConfirmForm(StyledForm):
    """The stage was carried out. Only one that clients feel asks for how long they did."""

    prefix = "done"

    impact_seconds = forms.FloatField(
        label="Measured impact in seconds",
        required=False,
        help_text="How long clients could not write, or were cut off. Leave it empty if nobody has measured it: a guess would falsify "
        "what is shown of past events.",
        widget=forms.NumberInput(attrs={"min": "0", "step": "0.1", "inputmode": "decimal"}),
        error_messages={"invalid": "Enter the seconds as a number, such as 12.5, or leave it empty."},
    )
    note = forms.CharField(
        label="Note",
        required=False,
        max_length=1000,
        help_text="What is worth knowing later. It is shown to the owner of the instance.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )

    def __init__(self, *args: Any, stage: EventStage, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not stage.impact:
            del self.fields["impact_seconds"]


class FailureForm(StyledForm):
    """The stage has failed, and with it the event."""

    prefix = "failed"

    reason = forms.CharField(
        label="What happened",
        max_length=2000,
        help_text="And in which state the instance is now. The contacts are told this.",
        widget=forms.Textarea(attrs={"rows": 2}),
        error_messages={
            "required": "Say what happened, and in which state the instance is: the contacts are told."
        },
    )
