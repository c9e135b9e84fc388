"""Which addresses the console connects to.

An operator enters addresses and the server connects to them, so what may be reached is decided here, after
the name is resolved and on the address that is then used: a name that resolves to something else a second
later gains nothing. Private networks and loopback are served; public addresses only where ALLOWED_NETWORKS
says so (R94).
"""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NoSuchHost(Exception):
    """The name does not resolve."""


def resolve(host: str, port: int) -> list[str]:
    """The host's addresses, in the resolver's order, each once. Blocks. Raises NoSuchHost."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise NoSuchHost(host) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_allowed(address: str) -> bool:
    """Whether the console may connect to this IP address."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if any(ip in network for network in parse(tuple(settings.ALLOWED_NETWORKS))):
        return True
    if ip.is_loopback:
        return True  # ::1 lies in a range that counts as reserved
    # Link-local holds the metadata services of clouds, which answer with credentials.
    return not (ip.is_global or ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved)


def is_public(address: str) -> bool:
    """Whether anybody in the internet may have it: where services for messages are, which is_allowed does not serve by itself."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


@lru_cache(maxsize=8)
def parse(values: tuple[str, ...]) -> tuple[Network, ...]:
    """Raises ImproperlyConfigured for what is no network."""
    try:
        return tuple(ipaddress.ip_network(value) for value in values)
    except ValueError as error:
        raise ImproperlyConfigured(
            f"ALLOWED_NETWORKS holds something that is not a network: {error}."
        ) from error
