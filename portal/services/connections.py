"""Connections that people enter: the self-hosted side of a task, and templates of connections.

A self-hosted side is an instance of its own that belongs to one task and is no part of the fleet; what a template holds is
copied into it, never linked. The server is not asked here (a worker does, in the connectivity test), but its name is looked up:
what cannot be reached from here on principle is refused at the field (R94, R100).
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db import transaction

from portal import networks
from portal.choices import Architecture, Edition, EndpointKind, InstanceStatus, NodeRole, Origin
from portal.errors import Invalid
from portal.fields import Secret
from portal.keys import CredentialUnreadable
from portal.models import Account, ConnectionFields, ConnectionTemplate, Endpoint, Instance
from portal.models.instances import format_address, is_ip
from portal.services import audit
from portal.services.permissions import require_operator

if TYPE_CHECKING:
    from django.contrib.auth.models import User

UNCHANGED: Final = "Nothing was saved."
SENTINEL_PORT: Final = 26379
_SECRETS: Final = ("password", "sentinel_password")
_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")


@dataclass(frozen=True)
class ConnectionParams:
    """Where a server is (or sentinels that know it, or a snapshot file) and how to get in.

    `sentinels` are `host:port`. None for a secret keeps the stored one, where there is one.
    """

    kind: EndpointKind = EndpointKind.SERVER
    host: str = ""
    port: int = 6379
    unix_path: str = ""
    tls: bool = False
    tls_verify: bool = True
    tls_ca_pem: str = ""
    tls_server_name: str = ""
    username: str = ""
    password: str | None = field(default="", repr=False)
    sentinels: tuple[str, ...] = ()
    master_name: str = ""
    sentinel_username: str = ""
    sentinel_password: str | None = field(default="", repr=False)
    sentinel_tls: bool = False
    file_path: str = ""

    @property
    def address(self) -> str:
        """As `ConnectionFields.address`."""
        if self.kind == EndpointKind.SENTINEL:
            return f"{self.master_name} (sentinels {', '.join(self.sentinels)})"
        if self.kind == EndpointKind.FILE:
            return self.file_path
        return self.unix_path or format_address(self.host, self.port)

    @property
    def label(self) -> str:
        """A short name for what is there."""
        if self.kind == EndpointKind.SENTINEL:
            return self.master_name
        return posixpath.basename(self.file_path) if self.kind == EndpointKind.FILE else self.address

    @property
    def raw_addresses(self) -> list[str]:
        """IP addresses rather than names: who uses them is cut off when the address changes (R16). That of the machine does not."""
        hosts = [self.host] if self.kind == EndpointKind.SERVER else []
        hosts += (
            [split_address(one)[0] for one in self.sentinels] if self.kind == EndpointKind.SENTINEL else []
        )
        return [host for host in hosts if is_ip(host) and not ipaddress.ip_address(host).is_loopback]


STORED: Final = tuple(one.name for one in fields(ConnectionParams))


def params_of_connection(stored: ConnectionFields) -> ConnectionParams:
    """What a stored connection holds, secrets included. Raises keys.CredentialUnreadable."""
    values = {name: getattr(stored, name) for name in STORED if name not in _SECRETS}
    values |= {name: getattr(stored, name).reveal() for name in _SECRETS}
    return ConnectionParams(
        **values | {"kind": EndpointKind(stored.kind), "sentinels": tuple(stored.sentinels)}
    )


def params_of_template(template: ConnectionTemplate) -> ConnectionParams:
    """What a template fills in. Raises keys.CredentialUnreadable."""
    return params_of_connection(template)


# --- What may be entered ----------------------------------------------------------------------------------------------


def check(params: ConnectionParams) -> None:
    """Raises Invalid, with the field of the form, for what can never be reached. Names are resolved: this blocks."""
    if params.kind == EndpointKind.FILE:
        check_file_path(params.file_path)
    elif params.kind == EndpointKind.SENTINEL:
        _check_sentinels(params)
    elif not params.unix_path:
        _check_port(params.port, "address")
        check_host(params.host, params.port, "address")
    if params.kind != EndpointKind.FILE and params.username and params.password == "":
        raise Invalid(
            f"The password of the account {params.username} is missing. {UNCHANGED}",
            advice="Enter account:password.",
            id="connection.password_missing",
            field="password",
        )


def check_host(host: str, port: int, where: str) -> None:
    """Raises Invalid for a name that does not resolve, and for one that leads to no address that may be reached."""
    try:
        found = networks.resolve(host, port)
    except networks.NoSuchHost as error:
        raise Invalid(
            f"There is no host named {host}: the name does not resolve. {UNCHANGED}",
            advice="Check the spelling, and that this machine's name server knows the name.",
            id="connection.no_such_host",
            field=where,
        ) from error
    if not any(networks.is_allowed(address) for address in found):
        at = "" if host == found[0] else f" {host} is at {found[0]}."
        raise Invalid(
            f"Public networks are not used.{at} {found[0]} is no private address. {UNCHANGED}",
            advice="Use a private address or a tunnel, or let an administrator add the network to ALLOWED_NETWORKS.",
            id="connection.address_not_allowed",
            field=where,
        )


def check_file_path(path: str) -> None:
    """Raises Invalid for a path that does not lie below SNAPSHOT_FOLDER, or in the uploads, which belong to their accounts."""
    folder = settings.SNAPSHOT_FOLDER
    if not folder:
        raise Invalid(
            f"Paths on the worker are switched off. {UNCHANGED}",
            advice="Upload the file, or let an administrator set SNAPSHOT_FOLDER to the folder that holds the files.",
            id="connection.no_snapshot_folder",
            field="file_path",
        )
    if not is_below(path, folder) or is_below(path, str(settings.UPLOADS)):
        raise Invalid(
            f"{path or 'An empty path'} is not below {folder}. {UNCHANGED}",
            advice=f"Put the file there, and enter its whole path: {folder.rstrip('/')}/dump.rdb.",
            id="connection.file_elsewhere",
            field="file_path",
        )


def is_below(path: str, folder: str) -> bool:
    """By the text of the path alone; the worker looks again, at where links lead."""
    return (
        path.startswith("/")
        and "\0" not in path
        and posixpath.normpath(path) == path
        and path.startswith(folder.rstrip("/") + "/")
    )


def split_address(text: str, default: int = SENTINEL_PORT) -> tuple[str, int]:
    """`host`, `host:port`, `[v6]:port`. Raises Invalid without a field."""
    match = re.fullmatch(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]\s]+))(?::(?P<port>[^:]*))?", text)
    if match is None:
        raise Invalid(
            f"{text} is no address. {UNCHANGED}",
            advice="Write host:port, and an IPv6 address in brackets.",
            id="connection.bad_address",
        )
    host = match["v6"] or match["host"]
    if (match["v6"] and not is_ip(host)) or (match["host"] and not _NAME.fullmatch(host)):
        raise Invalid(f"{host} is no host name or IP address. {UNCHANGED}", id="connection.bad_address")
    port = match["port"]
    if port is not None and not re.fullmatch(r"[0-9]{1,5}", port):
        raise _bad_port(port)
    number = int(port) if port else default
    _check_port(number, "")
    return host, number


def _check_port(port: int, where: str) -> None:
    if not 1 <= port <= 65535:
        raise _bad_port(port, where)


def _bad_port(port: object, where: str = "") -> Invalid:
    return Invalid(
        f"{port or 'An empty text'} is not a port. {UNCHANGED}",
        advice="A port is a number from 1 to 65535.",
        id="connection.bad_port",
        field=where,
    )


def _check_sentinels(params: ConnectionParams) -> None:
    if not params.sentinels:
        raise Invalid(
            f"No sentinel is named. {UNCHANGED}",
            advice="Enter the address of at least one sentinel, better of all.",
            id="connection.no_sentinels",
            field="sentinels",
        )
    if not params.master_name:
        raise Invalid(
            f"The name of the master is missing. {UNCHANGED}",
            advice="Enter the name under which the sentinels know it (SENTINEL MASTERS tells it).",
            id="connection.no_master_name",
            field="master_name",
        )
    failures = []
    for one in params.sentinels:
        try:
            check_host(*split_address(one), "sentinels")
        except Invalid as error:
            failures.append(error)
            # A sentinel that is down does not matter; one that may not be asked, or is written wrongly, does.
            if error.id != "connection.no_such_host" or len(failures) == len(params.sentinels):
                error.field = "sentinels"
                raise


# --- Self-hosted sides ------------------------------------------------------------------------------------------------


def create_self_hosted(
    actor: User | None, account: Account, params: ConnectionParams, name: str = "", *, checked: bool = True
) -> Instance:
    """A side of a task. `checked` False stores what a template holds as it is; the connectivity test tells what is wrong.

    Raises NotFound, NotPermitted, or Invalid with the field.
    """
    require_operator(actor, account)
    if checked:
        check(params)
    with transaction.atomic():
        instance = Instance.objects.create(
            account=account,
            origin=Origin.SELF_HOSTED,
            name=(name or params.label)[:120],
            **_undetected(params),
        )
        Endpoint.objects.create(instance=instance, **_values(params, None))
        audit.record(actor, "connection.entered", instance, address=params.address, tls=params.tls)
    return instance


def update_self_hosted(
    actor: User | None, instance: Instance, params: ConnectionParams, name: str = "", *, checked: bool = True
) -> bool:
    """Changes where a self-hosted side is, or how to get in. False if nothing differs.

    A secret that is None is kept, which is refused together with another address or less checking of the certificate: a
    stored password must not be sent to a server that it is not meant for. Raises NotFound, NotPermitted, Invalid.
    """
    require_operator(actor, instance.account)
    assert instance.origin == Origin.SELF_HOSTED
    endpoint = instance.endpoint
    _refuse_to_send_elsewhere(endpoint, params)
    if checked:
        check(params)
    values = _values(params, endpoint)
    changed = [key for key, value in values.items() if _differs(endpoint, key, value)]
    if not changed:
        return False
    for key, value in values.items():
        setattr(endpoint, key, value)
    elsewhere = set(changed) - {"username", "password", "tls", "tls_verify", "tls_ca_pem", "tls_server_name", "sentinel_username",
                                "sentinel_password", "sentinel_tls"}  # fmt: skip
    detected = {"name": (name or params.label)[:120]} | (_undetected(params) if elsewhere else {})
    for key, value in detected.items():
        setattr(instance, key, value)
    with transaction.atomic():
        endpoint.save(update_fields=list(values))
        instance.save(update_fields=list(detected))
        if elsewhere:
            instance.nodes.all().delete()
        audit.record(actor, "connection.changed", instance, changed=changed, address=params.address)
    return True


def _undetected(params: ConnectionParams) -> dict[str, Any]:
    """What is known of a server that has not been asked yet: nothing."""
    return {
        "status": InstanceStatus.UNKNOWN, "checked_at": None, "last_error": "", "edition": Edition.UNKNOWN, "version": "",
        "compatible_version": "", "architecture": Architecture.UNKNOWN, "role": NodeRole.UNKNOWN, "replica_of": "", "run_id": "",
        "memory_used": None, "memory_max": None, "memory_host": None, "eviction_policy": "", "database_count": None,
        "databases": [], "facts": {},
    }  # fmt: skip


def _values(params: ConnectionParams, stored: ConnectionFields | None) -> dict[str, Any]:
    """The columns. Of a kind that has no host (sentinels, a file, a UNIX socket), the port is 0."""
    values = {name: getattr(params, name) for name in STORED} | {"sentinels": list(params.sentinels)}
    if params.kind != EndpointKind.SERVER or params.unix_path:
        values |= {"host": "", "port": 0}
    for name in _SECRETS:
        if values[name] is None:
            values[name] = getattr(stored, name) if stored is not None else ""
    return values


def _differs(stored: ConnectionFields, name: str, value: Any) -> bool:
    old = getattr(stored, name)
    if name not in _SECRETS:
        return bool(old != value)
    if isinstance(value, Secret):
        return value is not old
    try:
        return bool(old.reveal() != value)
    except CredentialUnreadable:
        return True


def _refuse_to_send_elsewhere(stored: ConnectionFields, params: ConnectionParams) -> None:
    """Raises Invalid if a secret that is to be kept could reach another server, or could be read on the way."""

    def where(of: ConnectionFields | ConnectionParams) -> tuple[Any, ...]:
        host = (of.host.lower(), of.port) if of.kind == EndpointKind.SERVER and not of.unix_path else ("", 0)
        return (
            str(of.kind), of.unix_path, host, tuple(of.sentinels), of.master_name, of.tls_ca_pem, of.tls_server_name,
        )  # fmt: skip

    weaker = (
        (stored.tls and not params.tls)
        or (stored.tls and stored.tls_verify and not params.tls_verify)
        or (stored.sentinel_tls and not params.sentinel_tls)
    )
    for name in _SECRETS:
        if (
            getattr(params, name) is None
            and getattr(stored, name)
            and (weaker or where(stored) != where(params))
        ):
            raise Invalid(
                f"Where the password is sent has changed. {UNCHANGED}",
                advice="Enter the password again, so that it is not sent to a server that it is not meant for.",
                id="connection.password_again",
                field=name,
            )


# --- Templates --------------------------------------------------------------------------------------------------------


def save_template(
    actor: User | None,
    account: Account,
    params: ConnectionParams,
    name: str,
    *,
    stored: ConnectionFields | None = None,
) -> ConnectionTemplate:
    """A new template. `stored` is where secrets come from that are to be kept. Names need not be unique (R71).

    Raises NotFound, NotPermitted, or Invalid (no name; a secret that would get to another server).
    """
    require_operator(actor, account)
    name = _clean_name(name)
    if stored is not None:
        _refuse_to_send_elsewhere(stored, params)
    with transaction.atomic():
        template = ConnectionTemplate.objects.create(
            account=account, name=name, created_by=actor, **_values(params, stored)
        )
        audit.record(actor, "connection_template.created", template, address=params.address)
    return template


def update_template(
    actor: User | None,
    template: ConnectionTemplate,
    params: ConnectionParams | None = None,
    *,
    name: str | None = None,
) -> ConnectionTemplate:
    """Changes name and connection. What was made from it before keeps what it has (R67). Raises as update_self_hosted."""
    require_operator(actor, template.account)
    changed = []
    if name is not None and (name := _clean_name(name)) != template.name:
        template.name = name
        changed.append("name")
    if params is not None:
        _refuse_to_send_elsewhere(template, params)
        values = _values(params, template)
        changed += [key for key, value in values.items() if _differs(template, key, value)]
        for key, value in values.items():
            setattr(template, key, value)
    if changed:
        with transaction.atomic():
            template.save(update_fields=[*changed, "changed_at"])
            audit.record(actor, "connection_template.changed", template, changed=changed)
    return template


def delete_template(actor: User | None, template: ConnectionTemplate) -> None:
    """Raises NotFound, NotPermitted. Tasks keep what they have copied."""
    require_operator(actor, template.account)
    with transaction.atomic():
        audit.record(actor, "connection_template.deleted", template)
        template.delete()


def _clean_name(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > 120:
        raise Invalid(
            f"The template needs a name of at most 120 characters. {UNCHANGED}",
            advice="Choose a name by which you will find it again.",
            id="connection_template.name",
            field="name",
        )
    return name


def with_secrets(params: ConnectionParams, stored: ConnectionFields) -> ConnectionParams:
    """The same with the stored secrets where they are to be kept. Raises Invalid, keys.CredentialUnreadable."""
    _refuse_to_send_elsewhere(stored, params)
    kept = {name: getattr(stored, name).reveal() for name in _SECRETS if getattr(params, name) is None}
    return replace(params, **kept)


def lines(text: str) -> tuple[str, ...]:
    """The addresses of a text: one a line, or separated by commas or spaces; each once."""
    parts: Iterable[str] = re.split(r"[\s,]+", text)
    return tuple(dict.fromkeys(part for part in parts if part))
