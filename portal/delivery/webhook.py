"""Webhooks: JSON by POST, signed.

The header `Switchyard-Signature: t=<seconds since 1970>,v1=<hex>` holds HMAC-SHA256 of `<t>.<body>` under the channel's secret; a
receiver compares it in constant time and refuses a `t` that is more than some minutes old. Redirects are not followed. Public
addresses are refused unless ALLOWED_NETWORKS has them, also after the name is resolved.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import ssl
import time
from typing import Final
from urllib.parse import urlsplit

from portal import networks
from portal.delivery.errors import NotSent
from portal.delivery.links import absolute
from portal.models import Delivery

TIMEOUT: Final = 10.0


def problem_of(url: str) -> str:
    """Why this is no URL of a webhook; "" if it is one."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return "A URL has no spaces, and only plain characters: others are written as %…."
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "This is no URL."
    if parts.scheme not in ("http", "https"):
        return "The URL of a webhook begins with https:// or http://."
    if not parts.hostname or port == 0:
        return "The URL names no host."
    return "User and password do not belong in the URL." if parts.username or parts.password else ""


def sign(secret: str, moment: int, body: bytes) -> str:
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def send(delivery: Delivery) -> None:
    told = delivery.notification
    assert delivery.channel is not None
    url, secret = delivery.channel.address.reveal(), delivery.channel.secret.reveal()
    if problem := problem_of(url):
        raise NotSent(problem, for_good=True)
    body = json.dumps(
        {
            "id": told.public_id,
            "delivery": delivery.pk,
            "occasion": told.occasion,
            "category": told.category,
            "urgent": told.urgent,
            "subject": told.subject,
            "text": told.text,
            "url": absolute(told.url),
            "created_at": told.created_at.isoformat(),
            "data": told.payload,
        }
    ).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Switchyard",
        "Switchyard-Delivery": f"{told.public_id}.{delivery.pk}",
    }
    if secret:
        headers["Switchyard-Signature"] = sign(secret, int(time.time()), body)
    status = _post(url, body, headers)
    if 300 <= status < 400:
        raise NotSent(
            f"The receiver answered {status}, a redirect, which is not followed: the channel needs the new URL.",
            for_good=True,
        )
    if not 200 <= status < 300:
        raise NotSent(f"The receiver answered {status}.", for_good=status in (404, 410))


def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    parts = urlsplit(url)
    host = parts.hostname or ""
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    try:
        addresses = [one for one in networks.resolve(host, port) if networks.is_allowed(one)]
    except networks.NoSuchHost:
        raise NotSent(f"The name {host} does not resolve.") from None
    if not addresses:
        raise NotSent(
            f"{host} is a public address, which is not served: an administrator can allow it in ALLOWED_NETWORKS."
        )
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        raw = socket.create_connection((addresses[0], port), timeout=TIMEOUT)
        connection.sock = raw  # closed below also where the handshake fails
        if tls:
            connection.sock = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body=body, headers={"Host": parts.netloc} | headers)
        return connection.getresponse().status
    except ssl.SSLCertVerificationError as error:
        raise NotSent(f"The receiver's certificate was not accepted: {error.verify_message}.") from error
    except OSError as error:
        reason = error.strerror or ("no answer in time" if isinstance(error, TimeoutError) else "")
        raise NotSent(f"The receiver could not be reached: {reason or type(error).__name__}.") from error
    except http.client.HTTPException as error:
        # Its text can hold the URL, and with it a token.
        raise NotSent(f"The receiver's answer is no HTTP ({type(error).__name__}).") from error
    finally:
        connection.close()
