"""The client against real servers: ways in, and each way to fail with its own error."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from migrations_app.engine import errors
from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.protocol.resp import ReplyError, encode
from tests.engine.conftest import Shared
from tests.support.certs import Authority
from tests.support.fixtures import ServerFactory
from tests.support.servers import Server

PASSWORD = "s3cr3t pa55/wörd"
SHORT = 1.0


@contextmanager
def listener(answer: bytes | None = None, *, close: bool = False) -> Iterator[Endpoint]:
    """A port that is not Redis: it takes connections, reads, and answers always the same (None: never)."""
    server = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                sock, _ = server.accept()
                taken.append(sock)
                if answer is not None:
                    sock.recv(4096)
                    sock.sendall(answer)
                if close:
                    sock.close()
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Endpoint(host="127.0.0.1", port=server.getsockname()[1])
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for sock in taken:
            sock.close()
        thread.join()


def refused(
    endpoint: Endpoint, error: type[errors.EngineError], message: str | None = None, timeout: float = 5
) -> errors.EngineError:
    """The login fails with exactly this error, which names the server and no password."""
    with pytest.raises(errors.EngineError, match=message) as caught, Client(endpoint, timeout=timeout):
        pass
    assert type(caught.value) is error
    assert endpoint.host in str(caught.value) or (
        endpoint.unix_path and endpoint.unix_path in str(caught.value)
    )
    if endpoint.password:
        assert endpoint.password not in f"{caught.value} {caught.value.advice}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


# --- ways in ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "version", ["redis-3.2", "redis-5.0", "redis-6.2", "redis-7.0", "redis-8.0", "valkey-9"]
)
def test_plain(shared: Shared, version: str) -> None:
    server = shared(version, "source")
    with Client(Endpoint.parse(server.url), name="who") as client:
        assert client.execute("CLIENT", "GETNAME") == b"who"
        assert client.execute("SET", "a", b"\x00\r\n\xff") == b"OK"
        assert client.execute("GET", "a") == b"\x00\r\n\xff"
        assert client.execute("GET", "none") is None


@pytest.mark.parametrize("version", ["redis-5.0", "redis-7.0"])
def test_password(redis_server: ServerFactory, version: str) -> None:
    server = redis_server(version, password=PASSWORD)
    right = Endpoint.parse(server.url)
    assert right.password == PASSWORD
    with Client(right) as client:
        assert client.execute("PING") == b"PONG"
    refused(replace(right, password="s3cr3t wrong"), errors.AuthError)
    refused(replace(right, password=""), errors.AuthError, "NOAUTH|PING")


def test_a_password_that_nobody_asked_for(shared: Shared) -> None:
    endpoint = Endpoint.parse(shared("redis-5.0", "source").url)
    refused(replace(endpoint, password=PASSWORD), errors.AuthError)


def test_acl_user(redis_server: ServerFactory) -> None:
    user = ("eve", "on", ">eves-secret", "~*", "+@all", "-flushall")
    server = redis_server("redis-7.0", username="eve", password="eves-secret", config={"user": user})
    endpoint = Endpoint.parse(server.url)
    with Client(endpoint) as client:
        assert client.execute("ACL", "WHOAMI") == b"eve"
        with pytest.raises(errors.PermissionDenied, match="FLUSHALL"):
            client.execute("FLUSHALL")
        assert client.execute("PING") == b"PONG"
    refused(replace(endpoint, password="not eves"), errors.AuthError)
    refused(replace(endpoint, username="mallory"), errors.AuthError)


def test_a_user_before_there_were_users(redis_server: ServerFactory) -> None:
    server = redis_server("redis-5.0", password=PASSWORD)
    error = refused(replace(Endpoint.parse(server.url), username="eve"), errors.AuthError)
    assert "6.0" in error.advice


def test_unix_socket(redis_server: ServerFactory) -> None:
    server = redis_server("redis-7.0", unix=True, password=PASSWORD)
    endpoint = Endpoint.parse(server.unix_url)
    with Client(endpoint) as client:
        assert client.execute("PING") == b"PONG"
    refused(replace(endpoint, password="s3cr3t wrong"), errors.AuthError)
    refused(replace(endpoint, unix_path=endpoint.unix_path + "x"), errors.ConnectionRefused, "no such socket")
    refused(Endpoint(unix_path=str(server.log), port=0), errors.ConnectionRefused)  # a file, no socket


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls_server() -> Iterator[Server]:
    with Server("redis-7.0", tls=True) as server:
        yield server


@pytest.fixture
def tls(tls_server: Server) -> Endpoint:
    return Endpoint.parse(f"{tls_server.url}?ca_file={tls_server.ca}")


def test_tls_with_the_authority_that_signed(tls: Endpoint) -> None:
    with Client(tls) as client:
        assert client.execute("ECHO", "x" * 1_000_000) == b"x" * 1_000_000
    with Client(replace(tls, host="localhost")) as client:
        assert client.execute("PING") == b"PONG"


def test_tls_that_is_not_trusted(tls: Endpoint, tls_server: Server) -> None:
    refused(replace(tls, tls_ca_pem=""), errors.TlsError, "certificate is not accepted")
    other = Authority(tls_server.dir / "other")
    refused(replace(tls, tls_ca_pem=other.ca.read_text()), errors.TlsError, "certificate is not accepted")
    with Client(replace(tls, tls_ca_pem="", tls_verify=False)) as client:
        assert client.execute("PING") == b"PONG"


def test_tls_with_another_name(tls: Endpoint) -> None:
    refused(replace(tls, tls_server_name="db.example.org"), errors.TlsError, "db.example.org")
    with Client(replace(tls, tls_server_name="localhost")) as client:
        assert client.execute("PING") == b"PONG"
    with Client(replace(tls, tls_server_name="db.example.org", tls_verify=False)) as client:
        assert client.execute("PING") == b"PONG"


def test_an_authority_that_is_none(tls: Endpoint) -> None:
    refused(replace(tls, tls_ca_pem="no certificate"), errors.TlsError, "authority")


def test_plain_where_tls_is_expected(tls: Endpoint) -> None:
    # The server closes the connection without a word; the advice says what it can be.
    error = refused(replace(tls, tls=False), errors.ConnectionLost, "at the first command")
    assert "TLS" in error.advice
    with listener(b"\x15\x03\x03\x00\x02\x02\x28") as alerting:  # others send an alert
        refused(alerting, errors.NotRedis, "rediss://")


def test_tls_where_plain_is_expected(shared: Shared) -> None:
    endpoint = Endpoint.parse(shared("redis-7.0", "source").url)
    refused(replace(endpoint, tls=True, tls_verify=False), errors.TlsInterrupted, "TLS", SHORT)


def test_tls_where_nobody_answers() -> None:
    with listener() as endpoint:
        refused(replace(endpoint, tls=True), errors.TlsInterrupted, timeout=SHORT)
    with listener(close=True) as endpoint:
        refused(replace(endpoint, tls=True), errors.TlsInterrupted)


def test_client_certificate_is_asked_for(redis_server: ServerFactory) -> None:
    server = redis_server("redis-7.0", tls=True, client_certs=True)
    with (
        pytest.raises((errors.TlsError, errors.ConnectionLost)),
        Client(Endpoint.parse(f"{server.url}?ca_file={server.ca}")),
    ):
        pass


# --- not reached, or not Redis ----------------------------------------------------------------------------------------


def test_nothing_listens(free_port: Callable[[], int]) -> None:
    error = refused(Endpoint(host="127.0.0.1", port=free_port()), errors.ConnectionRefused)
    assert error.retryable


def test_no_such_host() -> None:
    refused(Endpoint(host="no-such-host.invalid"), errors.HostUnknown, "no such host")
    refused(Endpoint(host="a" * 70 + ".invalid"), errors.HostUnknown)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"220 mail ESMTP\r\n",
        b"\x00\x01\x02\r\n",
        b"\r\n",
    ],
)
@pytest.mark.parametrize("password", ["", PASSWORD])
def test_another_protocol(answer: bytes, password: str) -> None:
    with listener(answer) as endpoint:
        refused(replace(endpoint, password=password), errors.NotRedis)


def test_no_answer() -> None:
    with listener() as endpoint:
        error = refused(endpoint, errors.ConnectionTimeout, f"{SHORT:g} s", timeout=SHORT)
        assert error.retryable
    with listener(b"+PO") as endpoint:
        refused(endpoint, errors.ConnectionTimeout, timeout=SHORT)


def test_closed_at_once() -> None:
    with listener(b"", close=True) as endpoint:
        refused(endpoint, errors.ConnectionLost)


def test_too_many_clients(redis_server: ServerFactory) -> None:
    server = redis_server("redis-7.0", config={"maxclients": 1})
    endpoint = Endpoint.parse(server.url)
    with Client(endpoint):
        refused(endpoint, errors.ConnectError, "max number of clients")


def test_a_server_that_stands_still(redis_server: ServerFactory) -> None:
    server = redis_server("redis-7.0")
    endpoint = Endpoint.parse(server.url)
    with Client(endpoint, timeout=SHORT) as client:
        server.pause()
        with pytest.raises(errors.ConnectionTimeout, match=re.escape(f"{SHORT:g} s")):
            client.execute("PING")
        with pytest.raises(errors.ConnectionTimeout):
            client.execute("SET", "a", b"x" * 20_000_000)  # what the socket's buffers do not take
        refused(endpoint, errors.ConnectionTimeout, timeout=SHORT)
        server.resume()


def test_a_server_that_dies(redis_server: ServerFactory) -> None:
    server = redis_server("redis-7.0")
    with Client(Endpoint.parse(server.url)) as client:
        server.kill()
        with pytest.raises(errors.ConnectionLost):
            client.execute("PING")
        with pytest.raises(errors.ConnectionLost):
            client.execute("PING")


# --- questions --------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(shared: Shared) -> Iterator[Client]:
    with Client(Endpoint.parse(shared("redis-7.0", "source").url)) as opened:
        yield opened


def test_an_error_is_raised_and_the_connection_goes_on(client: Client) -> None:
    client.execute("SET", "a", "x")
    with pytest.raises(errors.TargetError, match="INCR: ERR value is not an integer"):
        client.execute("INCR", "a")
    with pytest.raises(errors.TargetError, match="unknown command"):
        client.execute("NOSUCH")
    assert client.execute("GET", "a") == b"x"


def test_pipeline(client: Client) -> None:
    replies = client.pipeline([("SET", "a", 1), ("LPUSH", "a", 1), ("INCR", "a"), ("MGET", "a", "b")])
    assert replies == [b"OK", replies[1], 2, [b"2", None]]
    assert isinstance(replies[1], ReplyError)
    assert replies[1].code == "WRONGTYPE"
    assert client.pipeline([]) == []
    assert client.pipeline(("ECHO", n) for n in range(30_000))[-1] == b"29999"


def test_send_now_and_read_later(client: Client) -> None:
    client.send(encode("ECHO", "a") + encode("ECHO", "b"))
    client.send(encode("ECHO", "c"))
    assert client.receive(0) == []
    assert client.receive(2) == [b"a", b"b"]
    assert client.receive(1) == [b"c"]
    assert client.execute("PING") == b"PONG"


def test_info_and_keyspace(client: Client) -> None:
    assert client.info("server")["redis_version"].startswith("7.0")
    assert set(client.info("server", "clients")) >= {"redis_version", "connected_clients"}
    assert "role" in client.info()
    assert client.keyspace() == {}
    client.pipeline([("SET", "a", 1), ("SET", "b", 1, "EX", 100), ("SELECT", 12), ("SET", "a", 1)])
    assert client.keyspace() == {0: (2, 1), 12: (1, 0)}


def test_scan(client: Client) -> None:
    client.pipeline(("SET", f"{'even' if n % 2 == 0 else 'odd'}:{n}", n) for n in range(3000))
    keys = {key for page in client.scan(count=100) for key in page}
    assert len(keys) == 3000
    even = {key for page in client.scan("even:*") for key in page}
    assert even == {key for key in keys if key.startswith(b"even:")}
    assert list(client.scan("none:*")) == []


def test_errors_with_types_of_their_own(redis_server: ServerFactory, free_port: Callable[[], int]) -> None:
    server = redis_server("redis-7.0", config={"maxmemory": "1kb", "maxmemory-policy": "noeviction"})
    with Client(Endpoint.parse(server.url)) as client:
        with pytest.raises(errors.TargetOutOfMemory):
            client.execute("SET", "a", b"x")
        client.execute("REPLICAOF", "127.0.0.1", free_port())
        with pytest.raises(errors.TargetReadOnly):
            client.execute("SET", "a", "1")
        client.execute("CONFIG", "SET", "replica-serve-stale-data", "no")
        with pytest.raises(errors.ServerLoading, match="MASTERDOWN") as caught:
            client.execute("GET", "a")
        assert caught.value.retryable
