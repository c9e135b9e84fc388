"""The forms of the console. They check form and plausibility; what is allowed is decided by the services."""

from __future__ import annotations

import re
import zoneinfo
from dataclasses import dataclass
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import validate_ipv6_address
from django.http import QueryDict
from django.utils import timezone

from portal import scopes
from portal.choices import Access, Role
from portal.errors import ServiceError
from portal.models import AccessRole, Account, Instance
from portal.redis_control import EndpointParams
from portal.services.roles import Cover

HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")
DEFAULT_PORT = 6379
LABELS = ("name", "region", "zone", "proxy_version", "description")


class StyledForm(forms.Form):
    """Bootstrap's classes on every widget, and refusals of services beside the field that they are about."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)
        for bound in self.fields.values():
            widget = bound.widget
            css = "form-control"
            if isinstance(
                widget, forms.CheckboxInput | forms.RadioSelect
            ):  # several boxes are a RadioSelect, too
                css = "form-check-input"
            elif isinstance(widget, forms.Select):
                css = "form-select"
            widget.attrs["class"] = f"{css} {widget.attrs.get('class', '')}".strip()

    def add_refusal(self, error: ServiceError) -> None:
        """Shows what a service said: at its field if the form has it, else above the form."""
        self.add_error(error.field if error.field in self.fields else None, str(error))


def parse_address(value: str) -> tuple[str, int, str]:
    """`host`, `host:port`, `[v6]:port`, `/path` or `unix:///path` as (host, port, path). Raises ValidationError."""
    value = value.strip().removeprefix("unix://")
    if value.startswith("/"):
        if "\0" in value or len(value) > 107:  # the kernel's limit for the path of a socket
            raise ValidationError("The path of a socket has at most 107 characters.")
        return "", 0, value
    if "://" in value or "@" in value:
        raise ValidationError(
            "Enter host:port only, without redis:// and without a password: these have their own fields."
        )
    if match := re.fullmatch(r"\[(?P<host>[^]]+)](?::(?P<port>.*))?", value):
        host, port = match["host"], match["port"]
        validate_ipv6_address(host)
    elif value.count(":") > 1:
        raise ValidationError("Write an IPv6 address in brackets: [2001:db8::1]:6379.")
    else:
        host, colon, given = value.partition(":")
        port = given if colon else None
        if not HOST.fullmatch(host):
            raise ValidationError("Enter a host name or an IP address, such as cache.internal:6379.")
    if port is None:
        return host, DEFAULT_PORT, ""
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValidationError(f"{port or 'An empty text'} is not a port. A port is a number from 1 to 65535.")
    return host, int(port), ""


class EndpointFields(StyledForm):
    """How to reach a server."""

    address = forms.CharField(
        max_length=300,
        help_text="A host name with its port, or the path of a UNIX socket on the machine Switchyard runs on.",
        widget=forms.TextInput(
            attrs={"placeholder": "cache-1.internal:6379", "autocomplete": "off", "spellcheck": "false"}
        ),
    )
    username = forms.CharField(
        label="User",
        max_length=120,
        required=False,
        help_text="Empty: the default user.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    password = forms.CharField(
        max_length=512,
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    tls = forms.BooleanField(label="Connect with TLS", required=False)
    tls_verify = forms.BooleanField(
        label="Verify the server's certificate",
        required=False,
        initial=True,
        help_text="Without it, anybody on the way can pose as the server and read the password.",
    )
    tls_server_name = forms.CharField(
        label="Server name",
        max_length=253,
        required=False,
        help_text="The name in the certificate, if it is not the host.",
    )
    tls_ca_pem = forms.CharField(
        label="CA certificates",
        required=False,
        max_length=200_000,
        help_text="In PEM form. Empty: the authorities that the machine trusts.",
        widget=forms.Textarea(
            attrs={
                "rows": 4,
                "class": "mono",
                "spellcheck": "false",
                "placeholder": "-----BEGIN CERTIFICATE-----",
            }
        ),
    )

    def clean_address(self) -> tuple[str, int, str]:
        return parse_address(self.cleaned_data["address"])

    def params(self) -> EndpointParams:
        """What was entered, of a valid form."""
        data = self.cleaned_data
        host, port, unix_path = data["address"]
        return EndpointParams(
            host=host,
            port=port,
            unix_path=unix_path,
            tls=data["tls"],
            tls_verify=data["tls_verify"],
            tls_ca_pem=data["tls_ca_pem"],
            tls_server_name=data["tls_server_name"],
            username=data["username"],
            password=data["password"],
        )

    def for_test(self) -> None:
        """A connection can be tested before the name is chosen."""
        for name in ("name", "account"):
            if name in self.fields:
                self.fields[name].required = False


class InstanceFields(EndpointFields):
    name = forms.CharField(max_length=120, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    region = forms.CharField(max_length=60, required=False, help_text="For example eu-central.")
    zone = forms.CharField(max_length=60, required=False, help_text="For example rack or availability zone.")
    proxy_version = forms.CharField(
        label="Version of the proxy",
        max_length=32,
        required=False,
        help_text="Where a proxy stands in front of the server, for example 2.8.3. Empty: there is none.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    description = forms.CharField(required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 2}))

    def labels(self) -> dict[str, str]:
        """What people enter of an instance beside its connection, as the services take it."""
        return {key: self.cleaned_data[key] for key in LABELS}


class AccountChoice(forms.ModelChoiceField):  # type: ignore[type-arg]
    def label_from_instance(self, obj: Account) -> str:
        return f"{obj.name} ({obj.public_id})"


class RegisterForm(InstanceFields):
    account = AccountChoice(queryset=Account.objects.none(), to_field_name="public_id", empty_label=None)

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["account"].queryset = Account.objects.operated_by(user)  # type: ignore[attr-defined]


class EditForm(InstanceFields):
    clear_password = forms.BooleanField(label="Remove the stored password", required=False)

    def __init__(self, *args: Any, instance: Instance, **kwargs: Any) -> None:
        endpoint = instance.endpoint
        shared = ("username", "tls", "tls_verify", "tls_server_name", "tls_ca_pem")
        initial = {"address": endpoint.address} | {name: getattr(endpoint, name) for name in shared}
        initial |= {name: getattr(instance, name) for name in LABELS}
        super().__init__(*args, initial=initial, **kwargs)
        if endpoint.password:
            self.fields["password"].help_text = "A password is stored. Leave this empty to keep it."
        else:
            del self.fields["clear_password"]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("clear_password") and data.get("password"):
            self.add_error("clear_password", "Either enter a new password or remove the stored one.")
        return data

    @property
    def keeps_password(self) -> bool:
        return not self.cleaned_data["password"] and not self.cleaned_data.get("clear_password")


class AccountForm(StyledForm):
    name = forms.CharField(max_length=120)


class MemberForm(StyledForm):
    username = forms.CharField(
        label="User name",
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    role = forms.ChoiceField(choices=Role.choices, initial=Role.VIEWER)


class RoleForm(StyledForm):
    role = forms.ChoiceField(choices=Role.choices)


@dataclass
class CoverRow:
    """An instance of the account in the form of a role."""

    instance: Instance
    chosen: bool
    databases: str
    error: str = ""


class AccessRoleForm(StyledForm):
    """A role without its name and its trusted account, which stay. One row for each instance: `cover` and `databases-ID`."""

    access = forms.ChoiceField(
        choices=[
            (Access.READ, "Read: its data can be copied, nothing is written to it"),
            (Access.READ_WRITE, "Read and write: it can also be the target of a migration"),
        ],
        initial=Access.READ,
        widget=forms.RadioSelect,
    )
    expires_at = forms.DateTimeField(
        label="Expires",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    description = forms.CharField(required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 2}))
    # Only the place of its errors: the rows are read by `clean`.
    coverage = forms.Field(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, account: Account, role: AccessRole | None = None, **kwargs: Any) -> None:
        if role is not None:
            shown = ("access", "expires_at", "description")
            kwargs["initial"] = {name: getattr(role, name) for name in shown}
        super().__init__(*args, **kwargs)
        self.fields["access"].widget.attrs["class"] = "form-check-input"
        self.fields[
            "expires_at"
        ].help_text = f"Empty: not before it is revoked. The time is in your zone, {timezone.get_current_timezone_name()}."
        stored = {cover.instance_id: cover for cover in role.coverage.all()} if role else {}
        chosen = self.data.getlist("cover") if isinstance(self.data, QueryDict) else []
        self.rows: list[CoverRow] = []
        for instance in Instance.objects.fleet().filter(account=account).order_by("name"):
            cover = stored.get(instance.pk)
            numbers = ", ".join(map(str, cover.databases or [])) if cover else ""
            row = CoverRow(instance, cover is not None, numbers)
            if self.is_bound:
                row.chosen = instance.public_id in chosen
                row.databases = self.data.get(f"databases-{instance.public_id}", "")
            self.rows.append(row)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        data["coverage"] = []
        for row in self.rows:
            if not row.chosen:
                continue
            try:
                data["coverage"].append(Cover(row.instance, parse_databases(row.databases)))
            except ValidationError as error:
                row.error = error.messages[0]
        if any(row.error for row in self.rows):
            self.add_error("coverage", "See the databases of the instances below.")
        return data


class NewAccessRoleForm(AccessRoleForm):
    name = forms.CharField(
        max_length=64,
        help_text="The other account types it. Letters, digits, dots, hyphens and underscores.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    trusted_account = forms.CharField(
        label="Trusted account",
        max_length=32,
        help_text="The ID of the account that may use the role. Its members find it on the account’s page.",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "spellcheck": "false", "placeholder": "acc-7k2m9qwe"}
        ),
    )


def parse_databases(text: str) -> list[int] | None:
    """`0, 2, 5-7` as numbers; "" and `all` as None. Raises ValidationError."""
    text = text.strip()
    if text.lower() in ("", "all"):
        return None
    numbers: set[int] = set()
    for part in text.replace(";", ",").replace(" ", ",").split(","):
        if not part:
            continue
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValidationError(f"“{part[:20]}” is no database. Enter numbers such as 0, 2, 5-7.")
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(numbers)


class SavedViewForm(StyledForm):
    name = forms.CharField(max_length=80, widget=forms.TextInput(attrs={"autocomplete": "off"}))


class ProfileForm(StyledForm):
    time_zone = forms.ChoiceField(
        label="Time zone", required=False, help_text="Times are shown in this zone, with UTC beside them."
    )
    theme = forms.ChoiceField(choices=[("auto", "As the system"), ("light", "Light"), ("dark", "Dark")])

    def __init__(self, *args: Any, default_zone: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        zones = sorted(
            zone for zone in zoneinfo.available_timezones() if "/" in zone and not zone.startswith("Etc/")
        )
        choices = [
            ("", f"The server's default ({default_zone})"),
            ("UTC", "UTC"),
            *((zone, zone) for zone in zones),
        ]
        self.fields["time_zone"].choices = choices  # type: ignore[attr-defined]


class TokenForm(StyledForm):
    """A token of the HTTP API for the person `user`."""

    name = forms.CharField(
        max_length=120,
        help_text="What will use it, for example the name of a script.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    scopes = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        help_text="It may do this much of what you may do yourself. Writing includes reading.",
        error_messages={"required": "Choose at least one. No token was made."},
    )
    account = AccountChoice(
        queryset=Account.objects.none(),
        to_field_name="public_id",
        required=False,
        empty_label="All accounts that I am a member of",
    )
    days = forms.ChoiceField(
        label="Valid for",
        choices=[("30", "30 days"), ("90", "90 days"), ("365", "1 year"), ("0", "Until it is revoked")],
        initial="90",
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["scopes"].choices = [(name, f"{label} ({name})") for name, label in scopes.choices()]  # type: ignore[attr-defined]
        self.fields["scopes"].widget.attrs["class"] = "form-check-input"
        self.fields["account"].queryset = Account.objects.visible_to(user)  # type: ignore[attr-defined]
