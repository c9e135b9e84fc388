"""Why the risk of a failed item is taken."""

from __future__ import annotations

from django import forms

from portal.forms import StyledForm


class IgnoreForm(StyledForm):
    reason = forms.CharField(
        max_length=500,
        help_text="Why it does no harm here. It is kept with your name, and everybody of the account can read it.",
        widget=forms.Textarea(attrs={"rows": 3}),
        error_messages={"required": "The risk is taken only with a reason. Write in a few words why it does no harm here."},
    )  # fmt: skip
