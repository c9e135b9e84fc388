"""Sockets: TCP, TLS and UNIX, each call with a time-out, each failure an `EngineError`.

A `Connection` is non-blocking; who wants to wait uses `wait_readable` or the helpers with a deadline.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

from migrations_app.engine import errors
from migrations_app.engine.endpoint import Endpoint

# A plain Redis waits in silence for the end of the line that the handshake seems to begin.
_HANDSHAKE_SECONDS: Final = 10.0
_WOULD_BLOCK: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


Permitted = Callable[[str], bool]
_permitted: Permitted | None = None


def permit_only(permitted: Permitted | None) -> None:
    """From now on this process connects to IP addresses only for which `permitted` is true; None: to all.

    Asked of the address that is then connected to, so a name that resolves to something else a moment later gains nothing.
    """
    global _permitted
    _permitted = permitted


class Connection:
    """One open connection. `received` and `sent` count bytes."""

    def __init__(self, sock: socket.socket, endpoint: Endpoint) -> None:
        self._sock = sock
        self.endpoint = endpoint
        self.received = 0
        self.sent = 0
        self.last_received = time.monotonic()

    @classmethod
    def open(cls, endpoint: Endpoint, timeout: float) -> Connection:
        """Connect within `timeout` seconds; raise `ConnectError` or `TlsError`."""
        if endpoint.file:
            raise errors.UsageError(
                f"{endpoint}: a snapshot file is no server: it can be the source of a copy and nothing else; nothing was changed"
            )
        try:
            sock = _connect(endpoint, timeout)
        except socket.gaierror as error:
            raise errors.HostUnknown(f"{endpoint.host}: no such host ({error.strerror})") from None
        except UnicodeError:  # a name that no name service can hold: empty or too long parts
            raise errors.HostUnknown(f"{endpoint.host}: no such host (not a valid name)") from None
        except ConnectionRefusedError:
            raise errors.ConnectionRefused(f"{endpoint.address}: the connection was refused") from None
        except FileNotFoundError:
            raise errors.ConnectionRefused(f"{endpoint.address}: there is no such socket") from None
        except TimeoutError:
            raise errors.ConnectionTimeout(f"{endpoint.address}: no answer within {timeout:g} s") from None
        except OSError as error:
            raise errors.ConnectError(f"{endpoint.address}: {error.strerror or error}") from None
        if endpoint.tls:
            sock = _start_tls(sock, endpoint, min(timeout, _HANDSHAKE_SECONDS))
        sock.setblocking(False)
        return cls(sock, endpoint)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()

    @property
    def local_address(self) -> str:
        """`host:port` of this end, as CLIENT LIST of the server shows it when nothing translates it."""
        name = self._sock.getsockname()
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)

    @property
    def certificate(self) -> bytes | None:
        """The server's certificate (DER); None without TLS."""
        return self._sock.getpeercert(binary_form=True) if isinstance(self._sock, ssl.SSLSocket) else None

    @property
    def buffered(self) -> bool:
        """Whether TLS holds decrypted bytes, which no poll of the socket tells."""
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def recv(self, size: int) -> bytes | None:
        """Up to `size` bytes, or None when there are none now; `ConnectionLost` at the end."""
        try:
            data = self._sock.recv(size)
        except _WOULD_BLOCK:
            return None
        except OSError as error:
            raise errors.ConnectionLost(f"{self.endpoint.address}: {error.strerror or error}") from None
        if not data:
            raise errors.ConnectionLost(f"{self.endpoint.address}: the server closed the connection")
        self.received += len(data)
        self.last_received = time.monotonic()
        return data

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Send what goes without waiting; the number of bytes taken, 0 when the other side does not read."""
        try:
            count = self._sock.send(data)
        except _WOULD_BLOCK:
            return 0
        except OSError as error:
            raise errors.ConnectionLost(f"{self.endpoint.address}: {error.strerror or error}") from None
        self.sent += count
        return count

    def send_all(self, data: bytes, timeout: float) -> None:
        """Send everything, waiting up to `timeout` seconds in all."""
        deadline = time.monotonic() + timeout
        view = memoryview(data)
        while view:
            count = self.send(view)
            view = view[count:]
            if view and not count:
                self._wait(select.POLLOUT, deadline, timeout)

    def recv_wait(self, size: int, timeout: float) -> bytes:
        """Up to `size` bytes, waiting up to `timeout` seconds for the first."""
        deadline = time.monotonic() + timeout
        while (data := self.recv(size)) is None:
            self._wait(select.POLLIN, deadline, timeout)
        return data

    def _wait(self, events: int, deadline: float, timeout: float) -> None:
        left = deadline - time.monotonic()
        poller = select.poll()
        poller.register(self._sock, events)
        if left <= 0 or not poller.poll(left * 1000):
            raise errors.ConnectionTimeout(f"{self.endpoint.address}: no answer within {timeout:g} s")


def _connect(endpoint: Endpoint, timeout: float) -> socket.socket:
    if endpoint.unix_path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(endpoint.unix_path)
        except OSError:
            sock.close()
            raise
        return sock
    sock = _open_tcp(endpoint, timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock


def _open_tcp(endpoint: Endpoint, timeout: float) -> socket.socket:
    """Where not every address may be connected to, by those that may. Raises OSError, `AddressNotAllowed`."""
    if _permitted is None:
        return socket.create_connection((endpoint.host, endpoint.port), timeout)
    found = [
        str(entry[4][0])
        for entry in socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    ]
    allowed = [address for address in dict.fromkeys(found) if _permitted(address)]
    failure: OSError | None = None
    for address in allowed:
        try:
            return socket.create_connection((address, endpoint.port), timeout)
        except OSError as error:
            failure = error
    if failure is not None:
        raise failure
    at = "" if found[0] == endpoint.host else f" is at {found[0]}, which"
    raise errors.AddressNotAllowed(
        f"{endpoint.host}{at} is not in a network that may be used; nothing was sent to it"
    )


def _start_tls(sock: socket.socket, endpoint: Endpoint, timeout: float) -> ssl.SSLSocket:
    address = endpoint.address
    sock.settimeout(timeout)
    context = ssl.create_default_context()
    if endpoint.tls_ca_pem:
        try:
            context = ssl.create_default_context(cadata=endpoint.tls_ca_pem)
        except ssl.SSLError as error:
            sock.close()
            raise errors.TlsError(
                f"{address}: the authority's certificate cannot be read ({error.reason})"
            ) from None
    if not endpoint.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        return context.wrap_socket(sock, server_hostname=endpoint.tls_server_name or endpoint.host)
    except ssl.SSLCertVerificationError as error:
        sock.close()
        raise errors.TlsError(f"{address}: the certificate is not accepted: {error.verify_message}") from None
    except ssl.SSLEOFError:
        sock.close()
        raise errors.TlsInterrupted(f"{address}: the connection ended in the TLS handshake") from None
    except ssl.SSLError as error:
        sock.close()
        if error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}:
            raise errors.NotTls(f"{address}: TLS was asked for, but the port does not speak it") from None
        raise errors.TlsError(f"{address}: TLS failed: {error.reason or error}") from None
    except TimeoutError:
        sock.close()
        raise errors.TlsInterrupted(
            f"{address}: no answer to the TLS handshake within {timeout:g} s; the port may not speak TLS"
        ) from None
    except OSError as error:
        sock.close()
        raise errors.TlsInterrupted(
            f"{address}: the connection ended in the TLS handshake ({error.strerror or error})"
        ) from None
