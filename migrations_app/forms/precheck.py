"""What is asked before a failed item is ignored, or repaired."""

from __future__ import annotations

from typing import Any

from django import forms

from portal.forms import StyledForm


class IgnoreForm(StyledForm):
    reason = forms.CharField(
        max_length=500,
        help_text="Why it does no harm here. It is kept with your name, and everybody of the account can read it.",
        widget=forms.Textarea(attrs={"rows": 3}),
        error_messages={"required": "The risk is taken only with a reason. Write in a few words why it does no harm here."},
    )  # fmt: skip


class RepairForm(StyledForm):
    """Clearing the target takes its name, typed; other repairs are only asked for."""

    confirmation = forms.CharField(
        label="Name of the target",
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, clears: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not clears:
            del self.fields["confirmation"]
