"""Where a request comes from."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def address_of(request: HttpRequest) -> str:
    """The client's IP address; "" where it is not known (a Unix socket without TRUST_PROXY_ADDRESS).

    Of X-Forwarded-For only the last address counts, which the proxy has added itself; what stands before it may be made up.
    """
    address = request.META.get("REMOTE_ADDR", "")
    if settings.TRUST_PROXY_ADDRESS:
        address = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip() or address
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return ""


def network_of(address: str) -> str:
    """Whom a limit counts as one: an IPv4 address, or the /64 network that one customer has of IPv6."""
    if not address:
        return ""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
