"""Who starts a task says that they have read what it brings with it (R90)."""

from __future__ import annotations

from django import forms

from portal.forms import StyledForm


class ConfirmForm(StyledForm):
    acknowledged = forms.BooleanField(
        label="I have read what is listed above, and take the risks of it",
        error_messages={
            "required": "The task was not started. Read what is listed above, and tick the box to confirm it."
        },
    )
