"""A connection to a server, with an error of its own for each thing that can go wrong on the way.

The socket is made here rather than by redis-py: the name is resolved once and the address checked before it
is used (networks.py), and a certificate is checked against the server name that was entered. redis-py then
speaks RESP 2 over it.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from django.conf import settings
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.retry import Retry

from portal import networks
from portal.models import Endpoint
from portal.models.instances import format_address
from portal.redis_control import errors

MAX_ADDRESSES = 3  # of a name with many; each may take the whole time-out


@dataclass(frozen=True)
class EndpointParams:
    """How to reach a server. Either `unix_path`, or `host` and `port`. Times in seconds."""

    host: str = ""
    port: int = 6379
    unix_path: str = ""
    tls: bool = False
    tls_verify: bool = True
    tls_ca_pem: str = ""
    """PEM; "" for the system's authorities."""
    tls_server_name: str = ""
    """The name that the certificate must hold; "" for the host."""
    username: str = ""
    password: str = field(default="", repr=False)
    timeout: float = field(default_factory=lambda: float(settings.INSTANCE_TIMEOUT))
    """For the connection, and for each reply."""

    @property
    def address(self) -> str:
        return self.unix_path or format_address(self.host, self.port)


def params_of(endpoint: Endpoint) -> EndpointParams:
    """How to reach a stored endpoint. Raises keys.CredentialUnreadable if its password cannot be decrypted."""
    return EndpointParams(
        host=endpoint.host,
        port=endpoint.port,
        unix_path=endpoint.unix_path,
        tls=endpoint.tls,
        tls_verify=endpoint.tls_verify,
        tls_ca_pem=endpoint.tls_ca_pem,
        tls_server_name=endpoint.tls_server_name,
        username=endpoint.username,
        password=endpoint.password.reveal(),
    )


class PreparedConnection(Connection):
    """redis-py's connection over a socket that is open already."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._prepared: socket.socket | None = sock
        super().__init__(  # type: ignore[no-untyped-call]
            socket_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # servers before 6.0 do not know HELLO
            driver_info=None,
            decode_responses=True,
            encoding_errors="replace",
        )

    def _connect(self) -> socket.socket:
        # Once: a lost connection is an answer, and is never replaced behind the caller's back.
        sock, self._prepared = self._prepared, None
        if sock is None:
            raise ConnectionError("The connection was lost.")
        return sock

    def ask(self, *command: str) -> Any:
        """Sends one command and returns its reply, decoded. Raises redis.exceptions.RedisError."""
        self.send_command(*command)  # type: ignore[no-untyped-call]
        return self.read_response()


def open_socket(params: EndpointParams) -> socket.socket:
    """A connected socket, with TLS done where it is on. Raises ProbeError."""
    raw = _open_unix(params) if params.unix_path else _open_tcp(params)
    if not params.tls:
        return raw
    try:
        return _wrap(raw, params)
    except BaseException:
        raw.close()
        raise


def _open_unix(params: EndpointParams) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(params.timeout)
    try:
        sock.connect(params.unix_path)
    except OSError as error:
        sock.close()
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise errors.NoSuchSocket(f"There is no socket at {params.unix_path}.") from error
        if error.errno == errno.EACCES:
            raise errors.NoSuchSocket(
                f"Switchyard may not open the socket {params.unix_path}.",
                advice="Set unixsocketperm on the server so that Switchyard's user may write to it.",
            ) from error
        raise _connect_error(error, params) from error
    return sock


def _open_tcp(params: EndpointParams) -> socket.socket:
    try:
        found = networks.resolve(params.host, params.port)
    except networks.NoSuchHost as error:
        raise errors.NoSuchHost(f"There is no host named {params.host}.") from error
    allowed = [address for address in found if networks.is_allowed(address)]
    if not allowed:
        raise errors.AddressNotAllowed(
            f"{params.host} is at {found[0]}, which Switchyard may not connect to: it is not a private address."
            if params.host != found[0]
            else f"Switchyard may not connect to {params.host}: it is not a private address."
        )
    failure: OSError | None = None
    for address in allowed[:MAX_ADDRESSES]:
        try:
            return socket.create_connection((address, params.port), timeout=params.timeout)
        except OSError as error:
            failure = error
    assert failure is not None
    raise _connect_error(failure, params) from failure


def _connect_error(error: OSError, params: EndpointParams) -> errors.ProbeError:
    if isinstance(error, TimeoutError):
        return errors.TimedOut(f"{params.address} did not answer within {params.timeout:g} seconds.")
    if isinstance(error, ConnectionRefusedError):
        return errors.Refused(f"Nothing accepts connections at {params.address}.")
    reason = os.strerror(error.errno) if error.errno else "the connection failed"
    return errors.Unreachable(f"{params.address} cannot be reached: {reason}.")


def _wrap(raw: socket.socket, params: EndpointParams) -> socket.socket:
    try:
        context = ssl.create_default_context(cadata=params.tls_ca_pem or None)
    except (ssl.SSLError, ValueError) as error:
        raise errors.BadCaCertificates() from error
    if not params.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    name = params.tls_server_name or params.host or None
    if name is None:
        context.check_hostname = False  # a UNIX socket has no name to check
    try:
        return context.wrap_socket(raw, server_hostname=name)
    except ssl.SSLCertVerificationError as error:
        raise _certificate_error(error, name or params.address) from error
    except (OSError, ValueError) as error:
        if speaks_resp(params):
            raise errors.TlsNotSpoken() from error
        if isinstance(error, TimeoutError):
            raise errors.TimedOut(
                f"{params.address} accepted the connection but did not finish the TLS handshake within "
                f"{params.timeout:g} seconds."
            ) from error
        reason = (
            getattr(error, "reason", None) or getattr(error, "strerror", None) or "the connection was closed"
        )
        raise errors.TlsFailed(
            f"The TLS handshake with {params.address} failed: {_words(reason)}."
        ) from error


def _certificate_error(error: ssl.SSLCertVerificationError, name: str) -> errors.ProbeError:
    reason = error.verify_message or "it could not be verified"
    if error.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        return errors.CertificateName(f"The server's certificate is not for {name}.")
    if error.verify_code in (9, 10):  # not yet valid, expired
        return errors.CertificateNotTrusted(
            f"The server's certificate is not valid now: {reason}.",
            advice="Renew the certificate, or correct the clock of the machine Switchyard runs on.",
            field="tls",
        )
    return errors.CertificateNotTrusted(f"The server's certificate is not trusted: {reason}.")


def speaks_tls(params: EndpointParams) -> bool:
    """Whether a TLS handshake succeeds on the port, whatever the certificate. To explain a failure without TLS."""

    def handshake(sock: socket.socket) -> bool:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.wrap_socket(sock).close()
        return True

    return _try(params, handshake)


def wants_certificate(params: EndpointParams) -> bool:
    """Whether the server refuses clients without a certificate. In TLS 1.3 it says so after the handshake only, and what
    has been sent meanwhile turns the alert into a reset: so nothing is sent here."""

    def listen(sock: socket.socket) -> bool:
        try:
            with _wrap(sock, replace(params, tls_verify=False)) as secure:
                secure.recv(1)
        except ssl.SSLError as error:
            return "CERTIFICATE_REQUIRED" in (error.reason or "")
        return False

    return _try(params, listen)


def speaks_http(params: EndpointParams) -> bool:
    """Whether a web server answers. Some close without a word on anything that is not HTTP."""
    return _try(params, lambda sock: _answer(sock, b"GET / HTTP/1.0\r\n\r\n", 5) == b"HTTP/")


def speaks_resp(params: EndpointParams) -> bool:
    """Whether the port answers a PING, with a reply or an error, without TLS."""
    return _try(params, lambda sock: _answer(sock, b"PING\r\n", 1) in (b"+", b"-"))


def _answer(sock: socket.socket, question: bytes, size: int) -> bytes:
    sock.sendall(question)
    return sock.recv(size)


def _try(params: EndpointParams, ask: Callable[[socket.socket], bool]) -> bool:
    try:
        raw = _open_unix(params) if params.unix_path else _open_tcp(params)
    except errors.ProbeError:
        return False
    with raw:
        raw.settimeout(min(params.timeout, 2.0))
        try:
            return ask(raw)
        except (OSError, errors.ProbeError):
            return False


def _words(reason: str) -> str:
    """OpenSSL's TLSV13_ALERT_CERTIFICATE_REQUIRED as `tlsv13 alert certificate required`."""
    return reason.replace("_", " ").lower() if reason.isupper() or "_" in reason else reason
