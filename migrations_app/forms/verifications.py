"""The form that asks for a verification."""

from __future__ import annotations

from typing import Any

from django import forms

from migrations_app.services import verifications
from portal.forms import StyledForm


class VerificationForm(StyledForm):
    """Ranges are the service's business; here it is only numbers."""

    mode = forms.ChoiceField(
        label="How to compare",
        choices=[
            (verifications.VALUES, "By value: every key with its type, value and expiry"),
            (verifications.QUICK, "Quick: how many keys each database holds"),
        ],
        initial=verifications.VALUES,
        widget=forms.RadioSelect,
    )
    percent = forms.FloatField(
        label="Share of the keys, in percent",
        initial=100,
        min_value=0.01,
        max_value=100,
        help_text="Below 100, the same sample is taken on both sides: a digest of the name decides.",
    )
    both_directions = forms.BooleanField(
        label="Also look for keys that only the target has",
        required=False,
        initial=True,
        help_text="It takes a pass over the names of the target's keys as well.",
    )
    tolerance = forms.FloatField(
        label="Tolerance of expiries, in seconds",
        initial=verifications.TTL_TOLERANCE_MS / 1000,
        min_value=0,
        max_value=3600,
        help_text="Clocks of two servers are never quite the same.",
    )
    keys_per_second = forms.IntegerField(
        label="At most so many keys per second",
        initial=verifications.GENTLE_KEYS,
        min_value=1,
        required=False,
        help_text="Empty: no limit. The default is gentle on servers that work.",
    )
    megabytes_per_second = forms.FloatField(
        label="At most so many MB per second",
        initial=verifications.GENTLE_MEGABYTES,
        min_value=0.1,
        required=False,
        help_text="Read from both sides together. Empty: no limit.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["mode"].widget.attrs["class"] = "form-check-input"

    def settings(self) -> dict[str, Any]:
        """What the service takes. Of a valid form."""
        data = self.cleaned_data
        return {
            "mode": data["mode"],
            "percent": data["percent"],
            "both_directions": data["both_directions"],
            "ttl_tolerance_ms": round(data["tolerance"] * 1000),
            "keys_per_second": data["keys_per_second"],
            "megabytes_per_second": data["megabytes_per_second"],
        }
