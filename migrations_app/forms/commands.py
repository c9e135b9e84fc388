"""Which commands of the incremental phase are applied, for one database or for all (R79)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms

from migrations_app import wire
from migrations_app.models import MigrationTask
from portal.forms import StyledForm

ALL, ONLY, WITHOUT = "all", "only", "without"


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One box: a command, with those that do the same, and what it becomes on the wire."""

    word: str
    label: str
    becomes: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class GroupRow:
    group: wire.Group
    chosen: bool
    commands: list[CommandRow]

    @property
    def also(self) -> str:
        return next((group.label for group in wire.GROUPS if group.word == self.group.also), "")

    @property
    def count(self) -> int:
        return sum(row.chosen for row in self.commands)


class CommandsForm(StyledForm):
    """`database` is "" for all that have no choice of their own."""

    mode = forms.ChoiceField(
        choices=[(ALL, "All commands"), (ONLY, "Only those ticked below"), (WITHOUT, "All but those ticked below")],
        widget=forms.RadioSelect,
    )  # fmt: skip
    words = forms.MultipleChoiceField(
        label="Commands",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        choices=[(word, word) for word in sorted({*(group.word for group in wire.GROUPS), *wire.NAMES})],
        error_messages={"invalid_choice": "%(value)s is no command that a source sends. Choose commands of the list."},
    )  # fmt: skip

    def __init__(self, *args: Any, task: MigrationTask, database: str, **kwargs: Any) -> None:
        stored = task.commands.get(database, {})
        mode = ONLY if "only" in stored else WITHOUT if stored.get("without") else ALL
        words = [_leader(word) for word in stored.get("only") or stored.get("without") or ()]
        super().__init__(*args, initial={"mode": mode, "words": words}, **kwargs)

    @property
    def groups(self) -> list[GroupRow]:
        ticked = set(self["words"].value() or ())
        return [
            GroupRow(
                group,
                group.word in ticked,
                [
                    CommandRow(name, ", ".join(wire.same_as(name)), wire.becomes(name), name in ticked)
                    for name in group.names
                    if _leader(name) == name
                ],
            )
            for group in wire.GROUPS
        ]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("mode") in (ONLY, WITHOUT) and not data.get("words") and "words" not in self.errors:
            self.add_error("words", "No command is ticked. Tick at least one, or choose all commands.")
        return data

    def choice(self) -> dict[str, list[str]]:
        """What a task stores for the database; empty: all commands."""
        mode, words = self.cleaned_data["mode"], set(self.cleaned_data["words"])
        if mode == ALL:
            return {}
        groups = {group.word for group in wire.GROUPS} & words
        single = words - groups - wire.expanded(groups)
        return {mode: [*sorted(groups), *sorted(single)]}


def _leader(word: str) -> str:
    """The word by which the form knows a command that has others of the same effect."""
    return wire.same_as(word)[0] if word in wire.NAMES else word
