"""The question of somebody who ends the use of their instance by a task of another account."""

from __future__ import annotations

from django import forms

from migrations_app.services.sharing import REASON_LIMIT
from portal.forms import StyledForm


class StopReadingForm(StyledForm):
    PAUSE, STOP = "pause", "stop"

    how = forms.ChoiceField(
        label="How",
        choices=[
            (PAUSE, "Pause: its account can resume it for as long as the role is valid"),
            (STOP, "Stop: in its incremental phase it then counts as successful and cannot go on"),
        ],
        initial=PAUSE,
        widget=forms.RadioSelect,
    )
    reason = forms.CharField(
        max_length=REASON_LIMIT,
        help_text="The account of the task reads it.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["how"].widget.attrs["class"] = "form-check-input"
