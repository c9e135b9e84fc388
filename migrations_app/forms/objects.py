"""What is migrated and how: the second step of the set-up. What is allowed is decided by the service."""

from __future__ import annotations

from typing import Any, Final

from django import forms

from migrations_app.choices import ConflictPolicy, Method, Phases
from migrations_app.forms.settings import AlertFields, RetryFields, SpeedFields, alert_initial, speed_initial
from migrations_app.models import MigrationTask
from migrations_app.services import access
from portal.choices import Architecture, EndpointKind
from portal.models import Instance

USUAL_DATABASES: Final = 16  # what a server has where it does not tell and nobody has configured anything
ALL, SOME = "all", "some"


class ObjectsForm(AlertFields, RetryFields, SpeedFields):
    """`task` has both of its sides; they decide which databases, methods and policies can be chosen."""

    phases = forms.ChoiceField(choices=Phases.choices, widget=forms.RadioSelect)
    method = forms.ChoiceField(
        label="How the source is read", choices=Method.choices, widget=forms.RadioSelect
    )
    scope = forms.ChoiceField(
        label="Databases",
        choices=[(ALL, "All databases"), (SOME, "Chosen databases")],
        widget=forms.RadioSelect,
    )
    databases = forms.TypedMultipleChoiceField(
        coerce=int,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        error_messages={
            "invalid_choice": "Database %(value)s cannot be chosen: the source does not have it. Choose databases of the list."
        },
    )
    conflict = forms.ChoiceField(
        label="Keys that the target has already",
        choices=ConflictPolicy.choices,
        widget=forms.RadioSelect,
    )
    heartbeat = forms.BooleanField(
        label="Write a heartbeat to the source",
        required=False,
        help_text="One key, switchyard:heartbeat:…, is written to database 0 of the source every second, and to nothing else. Without "
        "writes the delay cannot be measured exactly; with the heartbeat it always can. The key does not reach the target.",
    )
    verify_every_hours = forms.IntegerField(
        label="Verify by itself every",
        required=False,
        min_value=1,
        max_value=720,
        help_text="Hours, while the incremental phase runs. Empty: only when somebody asks for it.",
    )
    verify_percent = forms.IntegerField(
        label="Share of the keys",
        required=False,
        initial=100,
        min_value=1,
        max_value=100,
        help_text="Percent of the keys that each verification compares by value. Empty: all.",
    )

    def __init__(self, *args: Any, task: MigrationTask, **kwargs: Any) -> None:
        self.task = task
        self.source, self.target = task.both_sides()
        self.is_file = self.source.endpoint.kind == EndpointKind.FILE
        initial = {
            "phases": Phases.FULL if self.is_file else task.phases,
            "method": Method.FILE if self.is_file else task.method,
            "scope": ALL if task.databases is None else SOME,
            "databases": [str(number) for number in task.databases or ()],
            "conflict": task.conflict,
            "retry_minutes": task.retry_minutes,
            "heartbeat": task.heartbeat,
            "verify_every_hours": task.verify_every_hours,
            "verify_percent": task.verify_percent,
            **alert_initial(task),
            **speed_initial(task),
        }
        super().__init__(*args, initial=initial, **kwargs)
        self.offer_contacts(task.account)
        self.offer_hours(len(task.speed_hours))
        self._offer("databases", [(str(row["index"]), str(row["index"])) for row in self._databases()])
        if self.is_file:
            self._offer("method", [(Method.FILE.value, str(Method.FILE.label))])
            self._offer("phases", [(Phases.FULL.value, str(Phases.FULL.label))])
        else:
            self._offer("method", [choice for choice in Method.choices if choice[0] != Method.FILE])

    def _offer(self, name: str, choices: list[tuple[str, str]]) -> None:
        self.fields[name].choices = choices  # type: ignore[attr-defined]

    def _databases(self) -> list[dict[str, int]]:
        """One {index, keys, expires} per database of the source as it was last looked at, empty ones too.

        Of another account's source only those that its role covers: what the others hold is not told.
        """
        known = {row["index"]: row for row in self.source.databases}
        if self.source.architecture == Architecture.CLUSTER:
            count = 1
        else:
            count = max([self.source.database_count or USUAL_DATABASES, *(index + 1 for index in known)])
        covered = access.databases_of(self.task.source_role, self.source)
        offered = range(count) if covered is None else covered
        return [known.get(index, {"index": index, "keys": 0, "expires": 0}) for index in offered]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The databases as the page lists them: {index, keys, expires, chosen, closed (why it cannot be chosen)}.

        Empty ones that cannot be chosen are left out: `left_out` counts them.
        """
        return [row for row in self._all_rows() if row["chosen"] or row["keys"] or not row["closed"]]

    @property
    def left_out(self) -> int:
        return len(self._all_rows()) - len(self.rows)

    def _all_rows(self) -> list[dict[str, Any]]:
        ticked = {str(value) for value in self["databases"].value() or ()}
        return [
            row
            | {
                "index": str(row["index"]),
                "chosen": str(row["index"]) in ticked,
                "closed": why_not(self.target, row["index"]),
            }
            for row in self._databases()
        ]

    @property
    def scan_closed(self) -> str:
        if self.source.architecture == Architecture.CLUSTER:
            return "Not possible: the source is a cluster, whose masters are read by replication only."
        return ""

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        self.check_alerts()
        self.check_hours()
        if data.get("scope") == SOME and "databases" in data and not data["databases"]:
            self.add_error("databases", "No database is chosen. Choose at least one, or all databases.")
        return data

    def settings(self) -> dict[str, Any]:
        """What the service takes, of a valid form."""
        data = self.cleaned_data
        same = {
            name: data[name]
            for name in ("phases", "method", "conflict", "retry_minutes", "heartbeat", "verify_every_hours")
        }
        databases = None if data["scope"] == ALL else sorted(data["databases"])
        # Commands of a database that is not chosen any more mean nothing.
        kept = {
            number: choice
            for number, choice in self.task.commands.items()
            if not number or databases is None or int(number) in databases
        }
        return {
            **same,
            "databases": databases,
            "commands": kept,
            "verify_percent": data["verify_percent"] or 100,
            **self.alert_settings(),
            **self.speed_settings(),
        }


def why_not(target: Instance, index: int) -> str:
    """Why a database cannot be migrated to the target; "" if it can, as far as the console knows."""
    if target.architecture == Architecture.CLUSTER:
        return "" if index == 0 else "the target is a cluster and has DB 0 only"
    if target.database_count is not None and index >= target.database_count:
        return f"the target has DB 0 to {target.database_count - 1} only"
    return ""
