"""The part of a side's form that names an instance of another account: its owner's account, a role, and what that covers (R68)."""

from __future__ import annotations

from typing import Any, Final

from django import forms

from migrations_app.models import MigrationTask
from migrations_app.services import access
from portal.errors import Invalid, ServiceError
from portal.models import AccessRole, Instance
from portal.services import roles

ACCOUNT: Final = "account"  # the origin of a side
_PLAIN: Final = {"autocomplete": "off", "spellcheck": "false"}


class CoveredChoice(forms.ModelChoiceField):  # type: ignore[type-arg]  # not subscriptable at run time
    """Name, version and region; never an address."""

    role: AccessRole | None = None

    def label_from_instance(self, obj: Instance) -> str:
        parts = [obj.product or "not checked yet", obj.region]
        numbers = access.databases_of(self.role, obj)
        if numbers is not None:
            parts.append(f"databases {', '.join(map(str, numbers))}")
        return f"{obj.name} — {', '.join(part for part in parts if part)}"


class OtherAccountForm(forms.Form):
    """Mixed into the form of a side, which has `task`, `side` and `add_note_at`."""

    task: MigrationTask
    side: str

    owner_account = forms.CharField(
        label="Account ID of the owner",
        max_length=32,
        required=False,
        help_text="The owner finds it on the page of their account.",
        widget=forms.TextInput(attrs={"placeholder": "acc-7k2m9qwe"} | _PLAIN),
    )
    role_name = forms.CharField(
        label="Role name",
        max_length=64,
        required=False,
        help_text="The name of the role that trusts your account.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    covered = CoveredChoice(
        label="Instance",
        queryset=Instance.objects.none(),
        to_field_name="public_id",
        required=False,
        empty_label="Choose an instance",
        error_messages={
            "invalid_choice": "The role does not cover this instance. Choose one of the list, or ask the owner to add it."
        },
    )

    role: AccessRole | None = None
    """The role that is named, where it may be used now."""

    def initial_of_account(self) -> dict[str, Any] | None:
        """What the task has, if the side belongs to another account."""
        role: AccessRole | None = getattr(self.task, f"{self.side}_role")
        instance: Instance | None = getattr(self.task, self.side)
        if role is None or instance is None:
            return None
        return {
            "origin": ACCOUNT,
            "owner_account": role.account.public_id,
            "role_name": role.name,
            "covered": instance.public_id,
        }

    def offer_covered(self) -> None:
        """The instances of the role that is typed in, as soon as both fields say something; else why there are none."""
        owner, name = (str(self[field].value() or "").strip() for field in ("owner_account", "role_name"))
        self.named = bool(owner and name)
        if str(self["origin"].value()) != ACCOUNT or not self.named:
            return
        try:
            self.role = self._find(owner, name)
        except Invalid as refusal:
            if not self.is_bound:
                self.add_note_at(refusal.field, str(refusal))  # type: ignore[attr-defined]
            return
        field = self.fields["covered"]
        field.role = self.role  # type: ignore[attr-defined]
        field.queryset = roles.covered(self.role)  # type: ignore[attr-defined]

    def check_account(self, data: dict[str, Any]) -> None:
        """Of a bound form whose origin is another account: everything that can be wrong with it has its own error (R68)."""
        if data.get("origin") != ACCOUNT:
            self.errors.pop("covered", None)
            return
        try:
            self.role = self._find(data.get("owner_account", ""), data.get("role_name", ""))
        except Invalid as refusal:
            self.errors.pop("covered", None)  # not covered by a role that cannot be used: one error is enough
            self.add_error(refusal.field if refusal.field in self.fields else None, str(refusal))
            return
        if not data.get("covered") and "covered" not in self.errors:
            self.add_error("covered", f"Choose the instance that is the {self.side}.")

    def _find(self, owner: str, name: str) -> AccessRole:
        role = roles.find_role(self.task.account, owner, name)
        if self.side == "target" and not role.can_write:
            raise Invalid(
                f"The role {role.name} allows reading only, so its instances cannot be the target. {roles.UNCHANGED}",
                advice=f"Ask an owner of the account {role.account.public_id} for a role with read and write access.",
                id="role.read_only",
                field="role_name",
            )
        return role

    def refused(self, error: ServiceError) -> str:
        """The field of this form that a refusal of the service is about."""
        if self.role is None:
            return error.field
        return {self.side: "covered", f"{self.side}_role": "role_name"}.get(error.field, error.field)
