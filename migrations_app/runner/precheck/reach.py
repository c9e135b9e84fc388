"""Can the worker reach both sides and sign in there, over what kind of network? (R16, R70, R94, R100, R103, R106, R114)"""

from __future__ import annotations

import datetime
import ipaddress
import os
from typing import Final

from cryptography import x509
from django.utils import timezone

from migrations_app.choices import Severity
from migrations_app.engine import errors
from migrations_app.engine.endpoint import Address, Sentinels
from migrations_app.runner.precheck.context import Context, Side
from migrations_app.runner.precheck.registry import Checks, Finding, Skip, failed, passed, warning
from migrations_app.runner.precheck.words import listed
from migrations_app.runner.sides import own_address
from portal import networks
from portal.choices import EndpointKind
from portal.errors import ServiceError
from portal.models.instances import format_address, is_ip
from portal.redis_control import params_of, probe

checks = Checks()

CERTIFICATE_DAYS: Final = 30  # fewer are a warning


def _places(side: Side) -> list[Address]:
    """The addresses that were entered: of the server, or of the sentinels."""
    endpoint = side.endpoint
    if isinstance(endpoint.lookup, Sentinels):
        return list(endpoint.lookup.addresses)
    return [(endpoint.host, endpoint.port)]


def is_loopback(host: str) -> bool:
    return host == "localhost" or (is_ip(host) and ipaddress.ip_address(host).is_loopback)


def _addressed(side: Side) -> None:
    if side.is_file:
        raise Skip(f"The {side.name} is a snapshot file.")
    if side.endpoint.unix_path:
        raise Skip(f"The {side.name} is a socket of this machine.")


@checks.each("network", "Network allowed", Severity.ERROR, ignorable=False, needs=(), file=True)
def network(ctx: Context, side: Side) -> Finding:
    """Every address that the names resolve to now is a private one, or allowed (R94)."""
    _addressed(side)
    found: list[str] = []
    refused: list[str] = []
    for host, port in _places(side):
        try:
            addresses = networks.resolve(host, port)
        except networks.NoSuchHost:
            return failed(
                f"There is no host named {host}, as seen from the worker.",
                "Check the spelling, and that the worker's machine can resolve the name.",
            )
        found += addresses
        refused += [address for address in addresses if not networks.is_allowed(address)]
    if refused:
        return failed(
            f"{listed(dict.fromkeys(refused))} is no private address, and public networks are not used.",
            "Use a private address (a private network, a tunnel), or have the network added to ALLOWED_NETWORKS.",
            addresses=refused,
        )
    return passed(f"Private or allowed: {listed(dict.fromkeys(found))}.", addresses=found)


@checks.each("raw_ip", "Address by name", Severity.WARNING, needs=(), file=True)
def raw_ip(ctx: Context, side: Side) -> Finding:
    """A name survives a change of the address (R16)."""
    _addressed(side)
    raw = [
        format_address(host, port) for host, port in _places(side) if is_ip(host) and not is_loopback(host)
    ]
    if not raw and all(is_ip(host) for host, _ in _places(side)):
        return passed(f"{listed(format_address(*place) for place in _places(side))} is this machine's own.")
    if not raw:
        return passed(f"{listed(format_address(*place) for place in _places(side))} by name.")
    return warning(
        f"{listed(raw)} is an IP address: when it changes, the task loses this side.",
        "Use the domain name of the endpoint, and switch the DNS cache of applications and servers off.",
    )


@checks.each("reachable", "Reachable from the worker", Severity.ERROR, ignorable=False, needs=(), file=True)
def reachable(ctx: Context, side: Side) -> Finding:
    """A connection of the kind that the link uses; of a cluster to every master."""
    if side.is_file:
        return _file(side)
    try:
        nodes = side.connect()
    except errors.AuthError:
        return passed(f"{side.endpoint.address} answers the worker ({own_address()}).")
    except errors.EngineError as error:
        message, advice = _explained(side, error)
        return failed(
            f"The worker ({own_address()}) cannot use {side.called}: {message}",
            f"{advice} The worker's address has to be on the allowlist of this side.".strip(),
            id=error.id,
        )
    if len(nodes) > 1:
        return passed(
            f"All {len(nodes)} masters answer the worker ({own_address()}): {listed(node.address for node in nodes)}.",
            nodes=[node.address for node in nodes],
        )
    return passed(f"{side.node.address} answers the worker ({own_address()}).", nodes=[side.node.address])


def _file(side: Side) -> Finding:
    path = side.endpoint.file
    if not os.path.isfile(path):
        return failed(
            f"The worker ({own_address()}) has no file {path}.",
            "Check the path on the worker's machine, or upload the file.",
        )
    if not os.access(path, os.R_OK):
        return failed(f"The worker may not read {path}.", "Give its user the right to read the file.")
    return passed(f"{path} can be read on the worker ({own_address()}).")


def _explained(side: Side, error: errors.EngineError) -> tuple[str, str]:
    """Message and advice: those of the console's own question, which tells more kinds of misunderstanding apart."""
    if side.instance.endpoint.kind == EndpointKind.SERVER:
        try:
            probe(params_of(side.instance.endpoint))
        except ServiceError as refusal:
            return refusal.message, refusal.advice
    message = error.message[:1].upper() + error.message[1:]
    return message if message.endswith(".") else f"{message}.", error.advice


@checks.each("authenticated", "User and password", Severity.ERROR, ignorable=False, needs=())
def authenticated(ctx: Context, side: Side) -> Finding:
    """The server takes user and password."""
    try:
        side.connect()
    except errors.AuthError as error:
        _, advice = _explained(side, error)
        return failed(f"{side.endpoint.address} refuses the credentials: {error.message}", advice)
    except errors.EngineError:
        raise Skip(f"Not looked at: the {side.name} could not be reached.") from None
    user = side.endpoint.username or "default"
    if side.endpoint.password or side.endpoint.username:
        return passed(f"Signed in as {user}.")
    return passed("The server asks for no password.")


@checks.each("tls", "Encryption", Severity.WARNING)
def tls(ctx: Context, side: Side) -> Finding:
    """TLS, a certificate that is checked, and one that does not expire soon."""
    if side.endpoint.unix_path:
        raise Skip(f"The {side.name} is a socket of this machine.")
    ends: list[tuple[datetime.datetime, str]] = []
    for node in side.nodes:
        der = node.client.connection.certificate
        if der is None and is_loopback(node.client.endpoint.host):
            return passed(f"{node.address} is on the worker's machine: nothing leaves it.")
        if der is None:
            return warning(
                f"The connection to {node.address} is not encrypted: passwords and data can be read on the way.",
                "Switch TLS on, if the server has a TLS port and the network is shared with others.",
            )
        ends.append((x509.load_der_x509_certificate(der).not_valid_after_utc, node.address))
    end, address = min(ends)
    days = (end - timezone.now()).days
    if days < CERTIFICATE_DAYS:
        state = (
            f"expires on {end:%Y-%m-%d} (in {days} days)" if days >= 0 else f"has expired on {end:%Y-%m-%d}"
        )
        return warning(
            f"The certificate of {address} {state}; at least {CERTIFICATE_DAYS} days are advised.",
            "Renew it before the migration: a link that has to connect again afterwards fails.",
            days=days,
        )
    if not side.endpoint.tls_verify:
        return warning(
            f"The certificate of {address} is not checked: whoever is on the way can pose as the server.",
            "Switch the check on, with the certificate of the authority that signed it.",
        )
    return passed(f"TLS; the certificate is valid until {end:%Y-%m-%d}.", days=days)
