"""The first step of the set-up: each side from the fleet, self-hosted, or (as the source) a snapshot file."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.conf import settings
from django.db.models import Q
from django.forms.utils import ErrorDict

from migrations_app.forms.other_account import ACCOUNT, OtherAccountForm
from migrations_app.models import MigrationTask, SnapshotFile
from portal.choices import EndpointKind, Origin
from portal.connection_forms import ConnectionForm
from portal.forms import AccountChoice, StyledForm
from portal.models import Account, ConnectionTemplate, Instance

FLEET: Final = "fleet"
SELF_HOSTED: Final = "self-hosted"
FILE: Final = "file"
OFFERED: Final = 200  # instances in one list; more are found by the search


class NameForm(StyledForm):
    name = forms.CharField(
        label="Task name",
        max_length=120,
        required=False,
        help_text="Empty: made from both sides. It need not be unique.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    description = forms.CharField(required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 2}))


class InstanceChoice(forms.ModelChoiceField):  # type: ignore[type-arg]  # not subscriptable at run time
    def label_from_instance(self, obj: Instance) -> str:
        parts = [obj.product or "not checked yet", obj.region, obj.endpoint.address]
        return f"{obj.name} — {', '.join(part for part in parts if part)}"


class TemplateChoice(forms.ModelChoiceField):  # type: ignore[type-arg]
    def label_from_instance(self, obj: ConnectionTemplate) -> str:
        return f"{obj.name} — {obj.address}"


class DraftForm(StyledForm):
    """The account that a new task belongs to, and the source if the person comes from its page."""

    account = AccountChoice(
        queryset=Account.objects.none(), to_field_name="public_id", empty_label=None, required=False
    )
    source_id = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, user: Any, initial: dict[str, Any] | None = None, **kwargs: Any) -> None:
        given = initial or {}
        self._fleet = Instance.objects.fleet().operated_by(user)
        source = self._fleet.filter(public_id=given.get("source", "")).select_related("account").first()
        values = {"source_id": source.public_id, "account": source.account.public_id} if source else given
        super().__init__(*args, initial=values, **kwargs)
        accounts = Account.objects.operated_by(user).order_by("name")
        if source is not None:
            accounts = accounts.filter(pk=source.account_id)
        self.fields["account"].queryset = accounts  # type: ignore[attr-defined]
        self.offered = list(accounts[:2])

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not data.get("account") and not self.errors:
            if len(self.offered) == 1:
                data["account"] = self.offered[0]
            else:
                self.add_error("account", "Choose the account that the task belongs to.")
        return data

    def source(self) -> Instance | None:
        """Of a valid form."""
        chosen = self._fleet.filter(
            public_id=self.cleaned_data["source_id"], account=self.cleaned_data["account"]
        )
        return chosen.first()


class SideForm(OtherAccountForm, ConnectionForm):
    """`side` is source or target. Unbound it shows what the task has; what was typed and not saved comes as `typed`."""

    origin = forms.ChoiceField(label="Type", widget=forms.RadioSelect)
    region = forms.ChoiceField(required=False)
    find = forms.CharField(
        label="Search",
        required=False,
        max_length=120,
        widget=forms.TextInput(
            attrs={"type": "search", "autocomplete": "off", "placeholder": "Name, ID or address"}
        ),
    )
    instance = InstanceChoice(
        queryset=Instance.objects.none(),
        to_field_name="public_id",
        required=False,
        empty_label="Choose an instance",
        error_messages={
            "invalid_choice": "There is no such instance in your account. Choose one of the list."
        },
    )
    template = TemplateChoice(
        queryset=ConnectionTemplate.objects.none(),
        required=False,
        empty_label="Choose a template",
        label="Template",
    )
    save_as = forms.CharField(
        label="Name of the template",
        max_length=120,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    upload = forms.FileField(
        label="Snapshot file",
        required=False,
        allow_empty_file=True,
        widget=forms.FileInput(attrs={"accept": ".rdb"}),
    )
    file_path = forms.CharField(
        label="Or its path on the worker", max_length=500, required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )  # fmt: skip

    def __init__(
        self, data: Any = None, files: Any = None, *, task: MigrationTask, side: str, typed: Any = None
    ) -> None:
        self.task, self.side = task, side
        self.shown_errors: Any = ErrorDict()
        self.note = self.problem = ""  # what a button of this side has done, or why it has not
        self.current: Instance | None = getattr(task, side)
        endpoint = self.current.endpoint if self.current is not None else None
        own = endpoint if self.current is not None and self.current.origin == Origin.SELF_HOSTED else None
        super().__init__(data, files, prefix=side, stored=own, initial=self._initial(own) | dict(typed or {}))
        self.stored_file = own.file_path if own is not None and own.kind == EndpointKind.FILE else ""
        self.fields["origin"].choices = self._origins()  # type: ignore[attr-defined]
        self.fields["origin"].widget.attrs["class"] = "form-check-input"
        self.fields["instance"].is_asked = self.fields["upload"].is_asked = True  # type: ignore[attr-defined]
        for name in ("owner_account", "role_name", "covered"):
            self.fields[name].is_asked = True  # type: ignore[attr-defined]
        self._offer()
        self.offer_covered()
        folder = settings.SNAPSHOT_FOLDER
        if folder:
            self.fields["file_path"].help_text = f"Below {folder}."
        else:
            del self.fields["file_path"]

    # --- What is offered ----------------------------------------------------------------------------------------------

    def _origins(self) -> list[tuple[str, str]]:
        found = [(FLEET, "In the fleet"), (ACCOUNT, "Another account"), (SELF_HOSTED, "Self-hosted")]
        return [*found, (FILE, "Snapshot file")] if self.side == "source" else found

    def _initial(self, own: Any) -> dict[str, Any]:
        if (across := self.initial_of_account()) is not None:
            return across
        if own is None:
            shown = self.current.public_id if self.current is not None else None
            # Most often something outside comes into the fleet.
            first = FLEET if self.current is not None or self.side == "target" else SELF_HOSTED
            return {"origin": first, "instance": shown}
        if own.kind == EndpointKind.FILE:
            return {"origin": FILE, "file_path": "" if self.uploaded else own.file_path}
        return {"origin": SELF_HOSTED}

    @property
    def uploaded(self) -> SnapshotFile | None:
        """The uploaded file that is the source now."""
        endpoint = self.current.endpoint if self.current is not None else None
        if endpoint is None or endpoint.kind != EndpointKind.FILE:
            return None
        name = endpoint.file_path.rpartition("/")[2]
        if not endpoint.file_path.startswith(f"{settings.UPLOADS}/"):
            return None
        return SnapshotFile.objects.filter(account=self.task.account, public_id=name).first()

    def _offer(self) -> None:
        fleet = Instance.objects.fleet().filter(account=self.task.account)
        self.fleet_size = fleet.count()
        regions = fleet.exclude(region="").order_by("region").values_list("region", flat=True).distinct()
        self.fields["region"].choices = [("", "All regions"), *((one, one) for one in regions)]  # type: ignore[attr-defined]
        rows = fleet
        if region := str(self["region"].value() or ""):
            rows = rows.filter(region=region)
        for word in str(self["find"].value() or "")[:120].split():
            rows = rows.filter(
                Q(name__icontains=word) | Q(public_id__icontains=word) | Q(endpoint__host__icontains=word)
            )
        # What is chosen stays in the list, whatever the filter says.
        if chosen := str(self["instance"].value() or ""):
            rows = rows | fleet.filter(public_id=chosen)
        self.matches = rows.count()
        shown = rows.select_related("endpoint").order_by("name", "pk")
        field = self.fields["instance"]
        field.queryset = shown  # type: ignore[attr-defined]
        if self.matches > OFFERED:
            ids = list(shown.values_list("pk", flat=True)[:OFFERED])
            if self.data and chosen:
                ids += list(fleet.filter(public_id=chosen).values_list("pk", flat=True))
            field.queryset = shown.filter(pk__in=ids)  # type: ignore[attr-defined]
        templates = ConnectionTemplate.objects.filter(account=self.task.account)
        self.fields["template"].queryset = templates  # type: ignore[attr-defined]
        self.has_templates = templates.exists()

    @property
    def is_truncated(self) -> bool:
        return self.matches > OFFERED

    @property
    def offered(self) -> int:
        return OFFERED

    def add_note_at(self, name: str, text: str) -> None:
        """An error at a field of a form that is shown with what was typed, and is not bound to it."""
        if not self.shown_errors:
            self._errors = self.shown_errors
        self.shown_errors.setdefault(name if name in self.fields else "address", self.error_class()).append(
            text
        )

    # --- What was entered ---------------------------------------------------------------------------------------------

    def wants_connection(self, data: dict[str, Any]) -> bool:
        return data.get("origin") == SELF_HOSTED

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        self.check_account(data)
        if data.get("origin") == FLEET and not self.errors and not data.get("instance"):
            self.add_error("instance", f"Choose the instance that is the {self.side}.")
        if data.get("origin") == FILE and not self.errors:
            given = bool(self.files.get(self.add_prefix("upload"))), bool(data.get("file_path"))
            if all(given):
                self.add_error("file_path", "Either upload a file or name one on the worker.")
            elif not any(given) and not self.stored_file:
                self.add_error("upload", "Choose the file to upload.")
        return data

    @property
    def is_empty(self) -> bool:
        """Nothing of this side has been entered yet: whoever saves and leaves need not."""
        origin = self.data.get(self.add_prefix("origin"))
        names = {
            FLEET: ("instance",),
            SELF_HOSTED: ("address", "sentinels", "master_name", "password"),
            FILE: ("file_path",),
            ACCOUNT: ("owner_account", "role_name"),
        }
        values = [self.data.get(self.add_prefix(name), "") for name in names.get(str(origin), ())]
        return not any(values) and not self.files.get(self.add_prefix("upload")) and self.current is None
