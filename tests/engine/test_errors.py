"""What cannot work ends with an error that names the cause, and nothing is applied after it."""

from __future__ import annotations

import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from migrations_app.demo.dataset import fill
from migrations_app.demo.writer import Writer
from migrations_app.engine.config import LinkConfig
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import UsageError
from migrations_app.engine.protocol.resp import encode
from tests.support.ports import free_port
from tests.support.proxy import FaultProxy, Way
from tests.support.servers import Server
from tests.support.wait import wait_for

from . import build
from .conftest import QUICK
from .links import RunningLink, assert_audit, assert_equal, endpoint, offset_of, run

Make = Callable[..., Server]
MakeProxy = Callable[..., FaultProxy]


def failure(source: Any, target: Any, **options: Any) -> tuple[str, str]:
    """(id, sentence and advice) of the error that a link ends with."""
    with RunningLink(source, target, timeout=3.0, **options) as link:
        error = link.failure()
    assert error.message
    assert error.advice
    return error.id, f"{error.message} — {error.advice}"


@contextmanager
def listener(answer: bytes | None) -> Iterator[Endpoint]:
    """A port that is no Redis: it answers the first bytes with `answer`, or closes (None)."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    if answer is not None:
                        client.sendall(answer)
                        client.recv(1000)

        threading.Thread(target=serve, daemon=True).start()
        yield Endpoint(host="127.0.0.1", port=server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("version", ["redis-5.0", "redis-7.0"])
def test_a_wrong_password(redis_server: Make, pair: tuple[Server, Server], side: str, version: str) -> None:
    """Wrong, missing, or given to a server that has none; the password is in no message."""
    locked = redis_server(version, password="right one")
    other = pair[0]
    for endpoint_of in (endpoint(locked, password="hunter2"), endpoint(locked, password="")):
        sides = (endpoint_of, other) if side == "source" else (other, endpoint_of)
        found, text = failure(*sides)
        assert found == "auth.refused"
        assert str(locked.port) in text
        assert "hunter2" not in text
    assert other.client().keys("*") == [] or side == "source"


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Endpoint(host="no-such-host.invalid"), "connection.host_unknown"),
        (Endpoint(host="127.0.0.1", port=1), "connection.refused"),
        (Endpoint(unix_path="/nowhere/redis.sock"), "connection.refused"),
    ],
)
def test_a_server_that_is_not_there(
    pair: tuple[Server, Server], side: str, where: Endpoint, expected: str
) -> None:
    found, text = failure(*((where, pair[1]) if side == "source" else (pair[0], where)))
    assert found == expected
    assert (where.host or where.unix_path) in text


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x01\x00\x02\x02\x46", None],
)
def test_a_port_that_is_not_redis(pair: tuple[Server, Server], answer: bytes | None) -> None:
    with listener(answer) as where:
        found, text = failure(where, pair[1])
    assert found in ({"connection.not_redis"} if answer else {"connection.lost", "connection.not_redis"})
    assert where.address in text


def test_tls_against_plain_and_plain_against_tls(redis_server: Make, pair: tuple[Server, Server]) -> None:
    secret = redis_server("redis-7.0", tls=True)
    ca = secret.ca.read_text()
    found, text = failure(endpoint(pair[0], tls=True, tls_ca_pem=ca), pair[1])
    assert found == "connection.not_tls"
    assert "redis://" in text
    found, text = failure(endpoint(secret), pair[1])
    assert found in {"connection.not_redis", "connection.lost"}
    assert "TLS" in text
    found, text = failure(endpoint(secret, tls=True), pair[1])
    assert found == "connection.tls"
    assert "certificate" in text
    found, _ = failure(endpoint(secret, tls=True, tls_ca_pem=ca, tls_server_name="somebody.else"), pair[1])
    assert found == "connection.tls"


def test_tls_and_unix_sockets_carry_a_link(redis_server: Make) -> None:
    """Verified TLS at the source, a UNIX socket at the target."""
    source, target = redis_server("redis-7.0", tls=True, config=QUICK), redis_server("valkey-9", unix=True)
    client = source.client()
    client.mset({f"k{n}": n for n in range(500)})
    client.set("large", random.Random(1).randbytes(3_000_000))
    sides = (
        endpoint(source, tls=True, tls_ca_pem=source.ca.read_text()),
        Endpoint(unix_path=str(target.unix_path)),
    )
    with RunningLink(*sides) as link:
        link.wait_caught_up()
        for number in range(500):
            client.incr(f"k{number % 7}")
        link.settle(source, target)
    names = client.keys("*")
    assert target.client().mget(names) == client.mget(names)


def test_a_replica_as_target(redis_server: Make, pair: tuple[Server, Server]) -> None:
    replica = redis_server("redis-7.0")
    replica.client().replicaof("127.0.0.1", pair[1].port)
    pair[0].client().set("k", "v")
    found, text = failure(pair[0], replica)
    replica.close()
    assert found == "target.read_only"
    assert "master" in text
    assert pair[1].client().keys("*") == []


def test_users_without_the_needed_permission(redis_server: Make, pair: tuple[Server, Server]) -> None:
    """A user who may only read as the target's, one without PSYNC as the source's: the command is named."""
    users = ["reader on >pw ~* &* +@read +@connection", "half on >pw ~* &* +@all -psync -sync"]
    server = redis_server("redis-7.0", config={"user": [tuple(user.split()) for user in users]})
    found, text = failure(pair[0], endpoint(server, username="reader", password="pw"))
    assert found == "auth.permission"
    assert "NOPERM" in text
    assert server.client().keys("*") == []
    found, text = failure(endpoint(server, username="half", password="pw"), pair[1])
    assert found in {"auth.permission", "source.psync_refused"}
    assert "psync" in text.lower()


def test_psync_renamed_away(redis_server: Make, pair: tuple[Server, Server]) -> None:
    source = redis_server("redis-6.2", config={"rename-command": [("PSYNC", "")]})
    source.client().set("k", "v")
    found, text = failure(source, pair[1])
    assert found == "source.psync_refused"
    assert "PSYNC" in text
    assert not pair[1].client().exists("k")


def test_a_target_out_of_memory_in_the_stream(redis_server: Make, pair: tuple[Server, Server]) -> None:
    """The link ends with the command that met it; with more memory it goes on exactly."""
    source = pair[0]
    target = redis_server("redis-7.0")
    with Writer(source.url, seed=9, rate=2000) as writer, RunningLink(source, target) as link:
        link.wait_caught_up()
        target.client().config_set("maxmemory", 1 << 20)
        error = link.failure()
        expected = writer.stop()
    assert error.id == "target.out_of_memory"
    assert "OOM" in error.message
    target.client().config_set("maxmemory", 0)
    with RunningLink(source, target) as link:
        link.settle(source, target)
        assert link.progress.full_syncs == 0
    assert_equal(source, target)
    assert_audit(target, expected)


def test_a_target_out_of_memory_in_the_full_phase(redis_server: Make, pair: tuple[Server, Server]) -> None:
    source = pair[0]
    target = redis_server("redis-7.0", config={"maxmemory": "3mb"})
    fill(source.url, keys=0, big_value_bytes=4 << 20, large_elements=2000)
    found, text = failure(source, target)
    assert found == "target.out_of_memory"
    assert "maxmemory" in text
    target.client().config_set("maxmemory", 0)
    run(source, target)
    assert_equal(source, target)


def test_a_flipped_byte_in_the_snapshot(pair: tuple[Server, Server], fault_proxy: MakeProxy) -> None:
    """The checksum tells; the link ends, does not try again, and applies nothing of the stream that follows."""
    source, target = pair
    source.client().mset({f"key{n}": "untouched value " * 4 for n in range(300)})
    source.client().config_set("rdbcompression", "no")
    proxy = fault_proxy(source)
    happened = proxy.replace_once(b"untouched value untouched", b"untouched valuE untouched")
    with RunningLink(proxy, target) as link:
        wait_for(lambda: "full.started" in link.ports.events, 10, link.told)
        source.client().set("later", 1)
        error = link.failure()
    source.client().config_set("rdbcompression", "yes")
    assert happened.is_set()
    assert error.id == "snapshot.checksum"
    assert target.client().hget("switchyard:checkpoint:test", "phase") == b"full", "no run goes on from this"
    assert not target.client().exists("later")
    with RunningLink(source, target) as link:
        link.settle(source, target)
    assert_equal(source, target)


class FakeSource:
    """A real server whose snapshot is exchanged for another one on the way: for what no server at hand would send."""

    def __init__(self, proxy: FaultProxy, snapshot: bytes, stream: bytes = b"") -> None:
        self._data = b"$%d\r\n%b%b" % (len(snapshot), snapshot, stream)
        self._began = False
        proxy.hook = self

    def __call__(self, way: Way, data: bytes) -> bytes:
        if way is Way.UP:
            return data
        if self._began:
            return (
                data if data.startswith(b"$") and b"\r\n# " in data else b""
            )  # the answers to INFO on the other connection
        if b"$EOF:" in data or b"+FULLRESYNC" in data:
            line = data[data.index(b"+FULLRESYNC") :].split(b"\r\n")[0]
            self._began = True
            return line + b"\r\n" + self._data
        return data


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        (
            [build.select(0), build.entry(b"good", build.string(b"v")), b"\xf2" + build.string(b"k")],
            "key.*242",
        ),
        ([build.select(0), build.entry(b"the key", b"x", kind=99)], "the key.*99"),
        ([build.select(0), b"\xf6" + build.string(b"x")], "0xf6"),
        ([build.select(0), b"\xf7" + build.length((1 << 40) + 1) + build.lengths(2, 1, 0)], "module"),
    ],
)
def test_what_is_not_known_in_a_snapshot_is_named(
    pair: tuple[Server, Server], fault_proxy: MakeProxy, parts: list[bytes], word: str
) -> None:
    proxy = fault_proxy(pair[0])
    FakeSource(proxy, build.snapshot(*parts))
    with RunningLink(proxy, pair[1], timeout=3.0) as link:
        error = link.failure()
    assert error.id == "data.unsupported", error.message
    assert re.search(word, error.message), error.message


def test_an_unknown_command_of_the_stream_is_named(
    pair: tuple[Server, Server], fault_proxy: MakeProxy
) -> None:
    """What came before it is applied, nothing of what follows."""
    proxy = fault_proxy(pair[0])
    stream = (
        encode("SELECT", 0)
        + encode("SET", "before", 1)
        + encode("TS.ADD", "series", 1, 2)
        + encode("SET", "after", 1)
    )
    FakeSource(proxy, build.snapshot(build.select(0)), stream)
    with RunningLink(proxy, pair[1], timeout=3.0) as link:
        error = link.failure()
    assert error.id == "stream.unknown_command"
    assert "TS.ADD" in error.message
    assert not pair[1].client().exists("after")


def test_a_write_that_only_fails_on_the_target_marks_the_link(pair: tuple[Server, Server]) -> None:
    """Somebody has put another type there. The command and the key are named, and no later run goes on over it by itself."""
    source, target = pair
    with source.client() as client:
        client.rpush("list", 1)
        with RunningLink(source, target) as link:
            link.wait_caught_up()
            target.client().set("list", "taken")
            client.rpush("list", 2)
            error = link.failure()
        assert error.id == "target.diverged"
        assert "RPUSH" in error.message
        assert "list" in error.message
        found, text = failure(source, target)
        assert found == "target.diverged"
        assert "RPUSH" in text
        with RunningLink(source, target, allow_full_resync=True) as link:
            link.settle(source, target)
    assert_equal(source, target)


def test_a_replica_as_source(redis_server: Make, pair: tuple[Server, Server]) -> None:
    """A chain: master → replica → link. It survives that the replica becomes the master."""
    master, target = pair
    replica = redis_server("redis-7.0", config={"repl-diskless-sync-delay": 0})
    master.client().set("k", "v")
    replica.client().replicaof("127.0.0.1", master.port)
    wait_for(lambda: replica.info("replication")["master_link_status"] == "up", 20)
    with RunningLink(replica, target) as link:
        link.wait_caught_up()
        for _ in range(50):
            master.client().incr("counter")
        wait_for(lambda: offset_of(replica) >= offset_of(master), 10)
        link.settle(replica, target)
        assert target.client().get("counter") == b"50"
        replica.client().replicaof("NO", "ONE")
        replica.client().incr("counter")
        link.settle(replica, target)
        assert link.progress.full_syncs == 1
    assert target.client().get("counter") == b"51"
    replica.close()


def test_the_same_server_on_both_sides(pair: tuple[Server, Server], fault_proxy: MakeProxy) -> None:
    """By the same address, and by another way to it."""
    pair[0].client().set("k", "v")
    with pytest.raises(UsageError, match="same"):
        LinkConfig("test", endpoint(pair[0]), endpoint(pair[0]))
    found, text = failure(pair[0], fault_proxy(pair[0]))
    assert found == "engine.usage"
    assert "same server" in text


def test_an_owner_of_an_older_epoch_writes_nothing(pair: tuple[Server, Server]) -> None:
    source, target = pair
    source.client().set("k", "v")
    run(source, target, epoch=7)
    before = target.client().hgetall("switchyard:checkpoint:test")
    source.client().set("k", "newer")
    found, text = failure(source, target, epoch=6)
    assert found == "link.fenced"
    assert "7" in text
    assert target.client().hgetall("switchyard:checkpoint:test") == before
    assert target.client().get("k") == b"v"
    run(source, target, epoch=8)
    assert target.client().get("k") == b"newer"


def test_a_target_with_fewer_databases(redis_server: Make, pair: tuple[Server, Server]) -> None:
    target = redis_server("redis-7.0", config={"databases": 2})
    pair[0].client(db=9).set("k", "v")
    found, text = failure(pair[0], target)
    assert found == "engine.usage"
    assert "database 9" in text
    assert target.client().keys("k") == []


def test_nobody_listens_any_more(pair: tuple[Server, Server], fault_proxy: MakeProxy) -> None:
    """A side that is lost for longer than the retry time ends the link; the last cause is in the message."""
    source, target = pair
    proxy = fault_proxy(target)
    with RunningLink(source, proxy, retry_seconds=1.0, timeout=2.0) as link:
        link.wait_caught_up()
        proxy.refuse()
        proxy.cut()
        error = link.failure()
    assert error.id == "link.retry_time_exceeded"
    assert str(proxy.port) in error.message


def test_the_retry_time_changes_while_it_tries_again(
    pair: tuple[Server, Server], fault_proxy: MakeProxy
) -> None:
    source, target = pair
    proxy = fault_proxy(target)
    seconds = [7200.0]
    with RunningLink(source, proxy, retry_seconds=7200.0, retry_now=lambda: seconds[0], timeout=2.0) as link:
        link.wait_caught_up()
        proxy.refuse()
        proxy.cut()
        wait_for(lambda: link.progress.reconnects >= 3)
        assert link.running
        seconds[0] = 0.5
        assert link.failure().id == "link.retry_time_exceeded"


def test_a_source_that_is_no_port_at_all(pair: tuple[Server, Server]) -> None:
    """With a patient start the link goes on trying for the retry time."""
    with RunningLink(
        Endpoint(host="127.0.0.1", port=free_port()), pair[1], patient_start=True, retry_seconds=3.0
    ) as link:
        assert link.failure().id == "link.retry_time_exceeded"
        assert link.progress.reconnects >= 2
