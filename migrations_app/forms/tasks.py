"""The form that creates a task. It offers what is known of the fleet; what is allowed is decided by the service."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from django import forms
from django.urls import reverse_lazy

from migrations_app.choices import Phases
from migrations_app.services.checks import RETRY_MINUTES
from portal.forms import StyledForm
from portal.models import Instance

USUAL_DATABASES = 16  # what a server has where it does not tell and nobody has configured anything


class InstanceIterator(forms.models.ModelChoiceIterator):  # type: ignore[type-arg]  # not subscriptable at run time
    """Instances under the name of their account, as soon as there is more than one."""

    def __iter__(self) -> Iterator[Any]:
        yield ("", self.field.empty_label)
        rows = list(self.queryset)
        groups = [
            (account, list(group)) for account, group in groupby(rows, key=lambda instance: instance.account)
        ]
        for account, group in groups:
            options = [self.choice(instance) for instance in group]
            yield from [(account.name, options)] if len(groups) > 1 else options


class InstanceChoice(forms.ModelChoiceField):  # type: ignore[type-arg]  # not subscriptable at run time
    iterator = InstanceIterator

    def label_from_instance(self, obj: Instance) -> str:
        parts = [obj.product or "not checked yet", obj.endpoint.address]
        return f"{obj.name} — {', '.join(parts)}"


class TaskForm(StyledForm):
    """`user` decides which instances are offered; the chosen source decides which databases are."""

    ALL, SOME = "all", "some"

    source = InstanceChoice(
        queryset=Instance.objects.none(),
        to_field_name="public_id",
        empty_label="Choose the instance to read from",
        error_messages={
            "invalid_choice": "There is no such instance in your accounts. Choose one of the list."
        },
    )
    target = InstanceChoice(
        queryset=Instance.objects.none(),
        to_field_name="public_id",
        empty_label="Choose the instance to write to",
        error_messages={
            "invalid_choice": "There is no such instance in your accounts. Choose one of the list."
        },
    )
    phases = forms.ChoiceField(
        choices=Phases.choices, initial=Phases.FULL_INCREMENTAL, widget=forms.RadioSelect
    )
    scope = forms.ChoiceField(
        choices=[(ALL, "All databases"), (SOME, "Chosen databases")], initial=ALL, widget=forms.RadioSelect
    )
    databases = forms.TypedMultipleChoiceField(
        coerce=int,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        error_messages={
            "invalid_choice": "The source has no database %(value)s. Choose databases of the list."
        },
    )
    name = forms.CharField(
        max_length=120,
        required=False,
        help_text="Empty: made from the names of both sides.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    retry_minutes = forms.IntegerField(
        label="Retry time",
        initial=120,
        min_value=RETRY_MINUTES[0],
        max_value=RETRY_MINUTES[-1],
        help_text="Minutes, 10 to 1440, for which a lost connection is tried again before the task fails. More than 30 are "
        "recommended.",
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = (
            Instance.objects.fleet()
            .operated_by(user)
            .select_related("account", "endpoint")
            .order_by("account__name", "name")
        )
        for side in ("source", "target"):
            self.fields[side].queryset = offered  # type: ignore[attr-defined]
            # On the selection itself: the fragment brings a new one, which has to ask again.
            self.fields[side].widget.attrs["hx-get"] = reverse_lazy("task_create")
        self.chosen = {side: self._chosen(side) for side in ("source", "target")}
        for name in ("phases", "scope", "databases"):
            self.fields[name].widget.attrs["class"] = "form-check-input"
        numbers = [(row["index"], str(row["index"])) for row in self.offered_databases()]
        self.fields["databases"].choices = numbers  # type: ignore[attr-defined]

    def _chosen(self, side: str) -> Instance | None:
        value = self[side].value()
        return self.fields[side].queryset.filter(public_id=value).first() if value else None  # type: ignore[attr-defined]

    def offered_databases(self) -> list[dict[str, int]]:
        """One {index, keys, expires} per database of the chosen source, empty ones too."""
        source = self.chosen["source"]
        if source is None:
            return []
        known = {row["index"]: row for row in source.databases}
        count = max([source.database_count or USUAL_DATABASES, *(index + 1 for index in known)])
        return [known.get(index, {"index": index, "keys": 0, "expires": 0}) for index in range(count)]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The databases as the page lists them: those above, each with `chosen`. `index` is text: it is a value."""
        ticked = {str(value) for value in self["databases"].value() or ()}
        return [
            row | {"index": str(row["index"]), "chosen": str(row["index"]) in ticked}
            for row in self.offered_databases()
        ]

    def chosen_databases(self) -> list[int] | None:
        """What the service takes: None for all. Of a valid form."""
        return None if self.cleaned_data["scope"] == self.ALL else self.cleaned_data["databases"]
