"""What staff enter to publish events. What is allowed is decided by the services."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from django import forms
from django.http import QueryDict

from events import executors
from events.choices import Level
from events.forms.schedule import MomentField
from events.models import EventType
from events.services.drafts import Draft
from events.services.selection import FILTERS, Selection
from portal.choices import Edition
from portal.errors import ServiceError
from portal.forms import StyledForm
from portal.models import Account, Instance

MOST_MINUTES: Final = 7 * 24 * 60


class PublishForm(StyledForm):
    """Of one type; its values are there at the beginning, and may be changed for these events."""

    choose_by = forms.ChoiceField(
        label="Instances",
        choices=[("filter", "All that fit a filter"), ("list", "A list of IDs")],
        initial="filter",
        widget=forms.RadioSelect,
    )
    edition = forms.ChoiceField(
        label="Product",
        required=False,
        choices=[("", "Any"), (Edition.REDIS, "Redis"), (Edition.VALKEY, "Valkey")],
    )
    version = forms.CharField(
        max_length=32, required=False, help_text="In whole parts: 6.2 is 6.2 and 6.2.14, not 6.20."
    )
    region = forms.ChoiceField(required=False)
    account = forms.ChoiceField(required=False)
    name = forms.CharField(
        label="Part of the name",
        max_length=120,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    proxy = forms.BooleanField(label="Only instances that have a proxy", required=False)
    everything = forms.BooleanField(label="All instances of all accounts", required=False)
    instances = forms.CharField(
        label="IDs of instances",
        required=False,
        max_length=300_000,
        help_text="One per line, or with commas. They are switched over in this order.",
        widget=forms.Textarea(
            attrs={"rows": 3, "class": "mono", "spellcheck": "false", "placeholder": "r-7k2m9qwe"}
        ),
    )

    switch_at = MomentField(label="Switchover", required=False)
    stagger = forms.IntegerField(
        label="Minutes from one instance to the next",
        required=False,
        min_value=0,
        max_value=MOST_MINUTES,
        help_text="Where a time is given. Empty: all at this time.",
    )
    deadline = MomentField(required=False)
    level = forms.ChoiceField(choices=Level.choices)

    cause = forms.CharField(max_length=4000, widget=forms.Textarea(attrs={"rows": 3}))
    version_to = forms.CharField(
        label="Target version",
        max_length=60,
        required=False,
        help_text="For example 7.2.5; the same for all.",
    )
    release_notes = forms.URLField(
        label="Release notes",
        required=False,
        max_length=300,
        assume_scheme="https",
        help_text="The address of a page.",
    )
    may_change = forms.BooleanField(label="Owners may choose another time", required=False)
    may_cancel = forms.BooleanField(label="Owners may cancel it", required=False)
    executor = forms.ChoiceField(label="Carried out by")
    campaign = forms.CharField(
        label="Name of the campaign",
        max_length=120,
        required=False,
        help_text="Empty: type and date. One instance alone needs none.",
    )
    description = forms.CharField(
        label="Note for staff", required=False, max_length=4000, widget=forms.Textarea(attrs={"rows": 2})
    )

    def __init__(self, *args: Any, kind: EventType, **kwargs: Any) -> None:
        same = ("level", "cause", "may_change", "may_cancel", "executor")
        initial = {name: getattr(kind, name) for name in same} | {"proxy": kind.needs_proxy}
        kwargs["initial"] = initial | (kwargs.get("initial") or {})
        super().__init__(*args, **kwargs)
        self.kind = kind
        regions = Instance.objects.fleet().exclude(region="").order_by("region")
        known = regions.values_list("region", flat=True).distinct()
        accounts = Account.objects.order_by("name").values_list("public_id", "name")
        self._choose("region", [("", "Any"), *((one, one) for one in known)])
        self._choose("account", [("", "Any"), *((key, f"{name} ({key})") for key, name in accounts)])
        self._choose("executor", executors.known())
        self.fields["choose_by"].widget.attrs["class"] = "form-check-input"
        hours = f"{kind.notice_hours} hours ahead at least, a risk fix 72 hours at most."
        self.fields[
            "switch_at"
        ].help_text = f"Empty: each instance gets a time in its maintenance window. {hours}"
        self.fields[
            "deadline"
        ].help_text = f"The latest time that can be chosen. Empty: {kind.open_days} days from now."
        if not kind.shows_versions:
            for name in ("version_to", "release_notes"):
                del self.fields[name]

    def _choose(self, name: str, choices: list[tuple[str, str]]) -> None:
        self.fields[name].choices = choices  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if data.get("choose_by") == "list" and not data.get("instances", "").strip():
            self.add_error("instances", "Enter the ID of at least one instance.")
        if data.get("choose_by") == "filter" and not any(data.get(name) for name in (*FILTERS, "everything")):
            self.add_error("everything", "Choose a condition above, or tick this if all instances are meant.")
        return data

    def draft(self) -> Draft:
        """Of a valid form."""
        data = self.cleaned_data
        by_filter = data["choose_by"] == "filter"
        return Draft(
            type=self.kind,
            instances=self._selection() if by_filter else self._ids(),
            level=data["level"],
            switch_at=data["switch_at"],
            stagger=timedelta(minutes=data["stagger"] or 0),
            deadline=data["deadline"],
            cause=data["cause"],
            version_to=data.get("version_to", "").strip(),
            release_notes=data.get("release_notes", ""),
            may_change=data["may_change"],
            may_cancel=data["may_cancel"],
            executor=data["executor"],
            name=data["campaign"],
            description=data["description"],
        )

    def _selection(self) -> Selection:
        """Where there is a condition, it holds, whatever else is ticked."""
        given = {name: self.cleaned_data[name] for name in FILTERS}
        return Selection(**given, everything=not any(given.values()))

    def _ids(self) -> list[str]:
        return [one for one in re.split(r"[\s,;]+", self.cleaned_data["instances"]) if one]

    def add_refusal(self, error: ServiceError) -> None:
        """What is said of the instances stands where they were chosen."""
        if error.field == "instances" and self.cleaned_data.get("choose_by") == "filter":
            self.add_error(None, str(error))
        else:
            super().add_refusal(error)

    def entered(self) -> Iterator[tuple[str, str]]:
        """Names and values as they were sent, for the hidden fields of the preview."""
        sent = self.data
        assert isinstance(sent, QueryDict)
        for name in self.fields:
            for value in sent.getlist(name):
                yield name, value
