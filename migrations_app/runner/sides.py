"""The two sides of a task as the engine takes them, and the address of this machine."""

from __future__ import annotations

import socket
from contextlib import suppress

from migrations_app.engine import net
from migrations_app.engine.endpoint import Endpoint, Sentinels
from portal import networks
from portal.choices import EndpointKind
from portal.models import ConnectionFields, Instance

SENTINEL_PORT = 26379

# Names were resolved when they were entered; what counts is where they lead now (R94).
net.permit_only(networks.is_allowed)


def endpoint_of(instance: Instance) -> Endpoint:
    """Raises portal.keys.CredentialUnreadable."""
    return engine_endpoint(instance.endpoint)


def engine_endpoint(stored: ConnectionFields) -> Endpoint:
    """Raises portal.keys.CredentialUnreadable."""
    if stored.kind == EndpointKind.FILE:
        return Endpoint(file=stored.file_path, port=0)
    sentinels = stored.kind == EndpointKind.SENTINEL
    return Endpoint(
        host="" if sentinels else stored.host,
        port=stored.port,
        unix_path=stored.unix_path,
        username=stored.username,
        password=stored.password.reveal(),
        tls=stored.tls,
        tls_verify=stored.tls_verify,
        tls_ca_pem=stored.tls_ca_pem,
        tls_server_name=stored.tls_server_name,
        lookup=Sentinels(
            tuple(_address(one) for one in stored.sentinels),
            stored.master_name,
            username=stored.sentinel_username,
            password=stored.sentinel_password.reveal(),
            tls=stored.sentinel_tls,
        )
        if sentinels
        else None,
    )


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if colon and port.isdecimal() else (text.strip("[]"), SENTINEL_PORT)


def own_address() -> str:
    """The address that this machine uses towards the network, for the allowlists of both sides. No packet is sent."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(
            ("192.0.2.1", 9)
        )  # an address of the documentation network: only the route is looked up
        return str(probe.getsockname()[0])
    return "127.0.0.1"
