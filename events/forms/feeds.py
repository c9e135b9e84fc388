"""The form of a new calendar feed. What is allowed is decided by services/feeds.py."""

from __future__ import annotations

from typing import Any

from django import forms

from portal.forms import AccountChoice, StyledForm
from portal.models import Account


class FeedForm(StyledForm):
    name = forms.CharField(
        max_length=120,
        help_text="What will read it, for example “phone” or the calendar of a team.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": "Name what will read it. The calendar was not made."},
    )
    account = AccountChoice(
        queryset=Account.objects.none(),
        to_field_name="public_id",
        required=False,
        empty_label="All that I can see",
        help_text="Whose events it has.",
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["account"].queryset = Account.objects.visible_to(user)  # type: ignore[attr-defined]
