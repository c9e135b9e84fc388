"""The form of a connection: a server, a cluster or sentinels, with TLS and account. For self-hosted sides and for templates."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError

from portal.choices import EndpointKind
from portal.errors import ServiceError
from portal.forms import StyledForm, parse_address
from portal.models import ConnectionFields
from portal.services.connections import ConnectionParams, lines

NONE: Final = "none"
DEFAULT: Final = "default"
CUSTOM: Final = "custom"
_PLAIN: Final = {"autocomplete": "off", "spellcheck": "false"}


class ConnectionForm(StyledForm):
    """`stored` is what is there already: its secrets are never shown; an empty field keeps them."""

    server_kind = forms.ChoiceField(
        label="Reached by",
        choices=[(EndpointKind.SERVER, "Server or cluster"), (EndpointKind.SENTINEL, "Sentinels")],
        initial=EndpointKind.SERVER,
        widget=forms.RadioSelect,
        required=False,
    )
    address = forms.CharField(
        max_length=300,
        required=False,
        help_text="A host name with its port; of a cluster, that of any node. Or the path of a UNIX socket on the worker.",
        widget=forms.TextInput(attrs={"placeholder": "cache-1.internal:6379"} | _PLAIN),
    )
    sentinels = forms.CharField(
        max_length=2000,
        required=False,
        label="Addresses of the sentinels",
        help_text="One a line, with their port (26379 if none is given). Enter all of them.",
        widget=forms.Textarea(
            attrs={"rows": 3, "class": "mono", "placeholder": "sentinel-1.internal:26379"} | _PLAIN
        ),
    )
    master_name = forms.CharField(
        max_length=120, required=False, help_text="The name by which the sentinels know the master.", widget=forms.TextInput(attrs=_PLAIN)
    )  # fmt: skip
    sentinel_username = forms.CharField(
        label="Account of the sentinels", max_length=120, required=False, help_text="Empty: the default one.",
        widget=forms.TextInput(attrs=_PLAIN),
    )  # fmt: skip
    sentinel_password = forms.CharField(
        label="Password of the sentinels", max_length=512, required=False, strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )  # fmt: skip
    sentinel_tls = forms.BooleanField(label="Connect to the sentinels with TLS", required=False)
    login = forms.ChoiceField(
        label="Account",
        choices=[(NONE, "None"), (DEFAULT, "Default account"), (CUSTOM, "Custom account")],
        initial=DEFAULT,
        widget=forms.RadioSelect,
        required=False,
    )
    password = forms.CharField(
        max_length=640,
        required=False,
        strip=False,
        help_text="Default account: the password alone. Custom account (6.0 and later): account:password.",
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
        widget=forms.TextInput(attrs=_PLAIN),
    )
    tls_ca_pem = forms.CharField(
        label="CA certificates",
        required=False,
        max_length=200_000,
        help_text="In PEM form. Empty: the authorities that the machine trusts.",
        widget=forms.Textarea(
            attrs={
                "rows": 3,
                "class": "mono",
                "spellcheck": "false",
                "placeholder": "-----BEGIN CERTIFICATE-----",
            }
        ),
    )

    def __init__(self, *args: Any, stored: ConnectionFields | None = None, **kwargs: Any) -> None:
        self.stored = stored if stored is not None and stored.kind != EndpointKind.FILE else None
        if self.stored is not None:
            kwargs["initial"] = initial_of(self.stored) | (kwargs.get("initial") or {})
        super().__init__(*args, **kwargs)
        for name in ("address", "sentinels", "master_name"):
            self.fields[name].is_asked = True  # type: ignore[attr-defined]  # where it is seen, it is needed
        for name in ("server_kind", "login"):
            self.fields[name].widget.attrs["class"] = "form-check-input"
        if self.stored is not None and self.stored.password:
            account = f" for the account {self.stored.username}" if self.stored.username else ""
            self.fields["password"].help_text += (
                f" <strong>A password is stored{account}: leave this empty to keep it.</strong>" if not account
                else " <strong>Account and password are stored: leave this empty to keep them.</strong>"
            )  # fmt: skip
        if self.stored is not None and self.stored.sentinel_password:
            self.fields[
                "sentinel_password"
            ].help_text = "<strong>A password is stored: leave this empty to keep it.</strong>"

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if self.wants_connection(data) and not self.errors:
            data["connection"] = self._connection(data)
        return data

    def wants_connection(self, data: dict[str, Any]) -> bool:
        """Whether what is entered here counts: a form with other choices says when it does."""
        return True

    def params(self) -> ConnectionParams:
        """What was entered, of a valid form. Secrets that are to be kept are None."""
        found: ConnectionParams = self.cleaned_data["connection"]
        return found

    def add_refusal(self, error: ServiceError) -> None:
        """A user name is part of the password's field here."""
        where = "password" if error.field == "username" else error.field
        self.add_error(where if where in self.fields else None, str(error))

    def _connection(self, data: dict[str, Any]) -> ConnectionParams | None:
        values: dict[str, Any] = {name: data[name] for name in ("tls", "tls_ca_pem", "tls_server_name")}
        values["tls_verify"] = data["tls_verify"] or not data["tls"]  # the page hides it with TLS off
        if data["server_kind"] == EndpointKind.SENTINEL:
            values |= {
                "kind": EndpointKind.SENTINEL,
                "sentinels": lines(data["sentinels"]),
                "master_name": data["master_name"].strip(),
                "sentinel_username": data["sentinel_username"].strip(),
                "sentinel_password": self._kept("sentinel_password", data),
                "sentinel_tls": data["sentinel_tls"],
            }
        else:
            try:
                if not data["address"].strip():
                    raise ValidationError("Enter the address, for example cache-1.internal:6379.")
                host, port, path = parse_address(data["address"])
            except ValidationError as error:
                self.add_error("address", error)
                return None
            values |= {"host": host, "port": port, "unix_path": path}
        try:
            values |= self._credentials(data)
        except ValidationError as error:
            self.add_error("password", error)
            return None
        return ConnectionParams(**values)

    def _credentials(self, data: dict[str, Any]) -> dict[str, Any]:
        given = data["password"]
        if data["login"] == NONE:
            if given:
                raise ValidationError(
                    "A password was entered, but no account is chosen. Choose the account, or empty this field."
                )
            return {"username": "", "password": ""}
        custom = data["login"] == CUSTOM
        stored = self.stored
        if not given:
            if stored is not None and stored.password and bool(stored.username) == custom:
                return {"username": stored.username, "password": None}
            if custom:
                raise ValidationError("Enter account:password of the custom account.")
            return {"username": "", "password": ""}
        if not custom:
            return {"username": "", "password": given}
        account, colon, password = given.partition(":")  # the first one: a password may hold more of them
        if not (account and colon and password):
            raise ValidationError(
                "Enter the custom account as account:password, with a colon between the two."
            )
        return {"username": account, "password": password}

    def _kept(self, name: str, data: dict[str, Any]) -> str | None:
        if data[name]:
            return str(data[name])
        return None if self.stored is not None and getattr(self.stored, name) else ""


def initial_of(stored: ConnectionFields) -> dict[str, Any]:
    """What a stored connection shows in the form. Never a secret."""
    same = (
        "master_name",
        "sentinel_username",
        "sentinel_tls",
        "tls",
        "tls_verify",
        "tls_server_name",
        "tls_ca_pem",
    )
    login = CUSTOM if stored.username else DEFAULT if stored.password else NONE
    return {name: getattr(stored, name) for name in same} | {
        "server_kind": stored.kind,
        "address": stored.address
        if stored.kind == EndpointKind.SERVER and (stored.host or stored.unix_path)
        else "",
        "sentinels": "\n".join(stored.sentinels),
        "login": login,
    }


class TemplateForm(ConnectionForm):
    """A template, with its name."""

    name = forms.CharField(max_length=120, widget=forms.TextInput(attrs={"autocomplete": "off"}))
