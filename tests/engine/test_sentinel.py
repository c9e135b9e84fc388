"""Addresses that sentinels know: looked up at each connection, on either side, and followed through failovers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel as SentinelClient

from migrations_app.demo.audit import AuditExpected
from migrations_app.demo.writer import Writer
from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import EngineError
from tests.support.ports import LOOPBACK, free_port
from tests.support.sentinels import NAME, Sentinel, Watched
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import RunningLink, assert_audit, assert_equal, full_counts, offset_of, run

Make = Callable[..., Watched]


@pytest.fixture
def watched() -> Iterator[Make]:
    """`watched("redis-7.0", sentinels=2)` → a Watched, closed with the test."""
    made: list[Watched] = []

    def make(*words: Any, **options: Any) -> Watched:
        made.append(Watched(*words, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def clients_of(watched: Watched) -> Callable[[int], redis.Redis]:
    """Database → a client that follows the master, for the demo's writer."""
    sentinels = SentinelClient(
        [(LOOPBACK, one.port) for one in watched.sentinels],
        sentinel_kwargs={"password": watched.sentinel_password or None, "protocol": 2},
    )

    def client(database: int) -> redis.Redis:
        return sentinels.master_for(
            NAME,
            db=database,
            protocol=2,
            password=watched.password or None,
            socket_timeout=20,
            socket_connect_timeout=5,
            retry=Retry(NoBackoff(), 0),
        )

    return client


@contextmanager
def writing(source: Any) -> Iterator[tuple[Writer, Callable[[], AuditExpected]]]:
    """A writer on a source, and what stops it (after some more writes) and says what it has written."""
    with Writer(source, seed=11, rate=2000) as writer:

        def end() -> AuditExpected:
            written = writer.commands
            wait_for(
                lambda: writer.commands > written + 400 or not writer.running,
                40,
                lambda: f"{writer.messages}",
            )
            return writer.stop()

        yield writer, end


@pytest.mark.parametrize("version", ["redis-7.0", "valkey-9.1"])
def test_a_failover_of_the_source_is_followed(
    watched: Make, redis_server: Callable[..., Server], version: str
) -> None:
    """By the second replication ID: one full synchronization in all. What the sentinels say on the old master moves no position."""
    source, target = watched(version, sentinels=2), redis_server(version)
    endpoint = Endpoint.parse(source.url)
    with RunningLink(endpoint, target) as link:
        link.wait_caught_up()
        old = source.master
        replica = next(server for server in source.servers if server is not old)
        with writing(clients_of(source)) as (_, end):
            earlier = end()
        # What the old master had not passed on is lost with it, on the source itself: here it has passed on all.
        link.wait_offset(offset_of(old))
        wait_for(lambda: offset_of(replica) >= offset_of(old), 20)
        new = source.fail_over()
        assert new is replica
        with writing(clients_of(source)) as (_, end):
            wait_for(lambda: link.progress.partial_syncs >= 1, 40, link.told)
            link.wait_caught_up()
            expected = end()
        link.settle(new, target)
        assert link.stop().progress.full_syncs == 1
    assert_equal(new, target)
    assert_audit(target, expected)
    assert sum(expected[0].values()) > sum(earlier[0].values())


def test_a_source_whose_master_dies_under_load(watched: Make, redis_server: Callable[..., Server]) -> None:
    """What the replica had not received is gone; where the link was ahead of it only a full synchronization makes both equal."""
    source, target = watched("redis-7.0", sentinels=3), redis_server("redis-7.0")
    with (
        writing(clients_of(source)) as (_, end),
        RunningLink(Endpoint.parse(source.url), target, allow_full_resync=True, timeout=5.0) as link,
    ):
        link.wait_caught_up()
        new = source.fail_over(Server.kill)
        wait_for(lambda: link.progress.partial_syncs + link.progress.full_syncs >= 2, 60, link.told)
        link.wait_caught_up()
        expected = end()
        link.settle(new, target)
        link.stop()
    assert_equal(new, target)
    assert_audit(target, expected)


@pytest.mark.parametrize("how", [None, Server.kill, Server.pause], ids=["ordered", "killed", "frozen"])
def test_a_failover_of_the_target_is_followed(
    watched: Make, redis_server: Callable[..., Server], how: Callable[[Server], None] | None
) -> None:
    """The new master has the data and the position as far as they were replicated: the link goes on from there, exactly."""
    source = redis_server("redis-7.0", config={"repl-diskless-sync-delay": 0, "repl-backlog-size": "64mb"})
    target = watched("redis-7.0", sentinels=2)
    with (
        writing(source.url) as (_, end),
        RunningLink(source, Endpoint.parse(target.url), timeout=4.0) as link,
    ):
        link.wait_caught_up()
        new = target.fail_over(how)
        wait_for(lambda: link.progress.partial_syncs >= 1, 60, link.told)
        link.wait_caught_up()
        expected = end()
        link.settle(source, new)
        progress = link.stop().progress
        assert progress.full_syncs == 1, link.told()
    assert full_counts(source)[0] == 1
    assert_equal(source, new)
    assert_audit(new, expected)


def test_a_target_whose_position_went_back(watched: Make, redis_server: Callable[..., Server]) -> None:
    """The replica had stopped to follow: the promoted one lacks the last writes, and gets each of them once."""
    source = redis_server("redis-7.0", config={"repl-diskless-sync-delay": 0, "repl-backlog-size": "64mb"})
    target = watched("redis-7.0")
    with source.client() as client, RunningLink(source, Endpoint.parse(target.url), timeout=4.0) as link:
        for _ in range(50):
            client.rpush("list", "a")
        link.wait_offset(offset_of(source))
        old = target.master
        replica = next(server for server in target.servers if server is not old)
        wait_for(lambda: replica.client().llen("list") == 50, 20)
        replica.pause()
        with old.client() as other:
            other.execute_command("CLIENT", "KILL", "TYPE", "replica")  # what follows does not reach it
        for _ in range(50):
            client.rpush("list", "b")
        link.wait_offset(offset_of(source))
        assert old.client().llen("list") == 100
        reached = link.progress.applied_offset or 0
        old.kill()
        replica.resume()
        assert int(replica.client().hget("switchyard:checkpoint:test", "offset") or 0) < reached
        wait_for(lambda: target.master is replica, 40)
        wait_for(lambda: link.progress.partial_syncs >= 1, 60, link.told)
        client.rpush("list", "c")
        link.settle(source, replica)
        assert link.stop().progress.full_syncs == 1
    assert replica.client().lrange("list", 0, -1) == [b"a"] * 50 + [b"b"] * 50 + [b"c"]
    assert_equal(source, replica)


def test_sentinels_on_both_sides_with_passwords(watched: Make) -> None:
    """The URL's credentials are the data server's, the options' those of the sentinels; a sentinel that is down is passed over."""
    source = watched("redis-7.0", sentinels=2, password="data", sentinel_password="watch+er")
    target = watched("valkey-9.1", password="other")
    source.servers[0].client().mset({f"key:{n}": n for n in range(100)})
    source.sentinels[0].stop()
    run(Endpoint.parse(source.url), Endpoint.parse(target.url))
    assert target.servers[0].client().get("key:7") == b"7"
    with pytest.raises(EngineError, match="same server"):
        run(Endpoint.parse(source.url), source.servers[0])


@pytest.mark.parametrize("sentinel_tls", [True, False], ids=["both", "server alone"])
def test_tls_to_the_server_and_to_the_sentinels(
    redis_server: Callable[..., Server], sentinel_tls: bool
) -> None:
    """`sentinels://` means both; a sentinel without TLS is asked in the clear only where the URL says so."""
    server, target = redis_server("redis-7.0", tls=True), redis_server("redis-7.0")
    server.client().set("k", "v")
    sentinel = Sentinel(server.name, server.port, tls=server if sentinel_tls else None)
    try:
        url = f"sentinels://{LOOPBACK}:{sentinel.port}/{NAME}?ca_file={server.ca}"
        right, wrong = ("", "&sentinel_tls=no") if sentinel_tls else ("&sentinel_tls=no", "")
        run(Endpoint.parse(url + right), target)
        assert target.client().get("k") == b"v"
        assert refused(url + wrong).id in {
            "connection.not_tls",
            "sentinel.unreachable",
            "connection.not_redis",
        }
        assert refused(url.partition("?")[0] + "?" + right.lstrip("&")).id == "connection.tls"
    finally:
        sentinel.close()


def refused(url: str) -> EngineError:
    with pytest.raises(EngineError) as caught:
        Client(Endpoint.parse(url), timeout=2.0).close()
    return caught.value


def test_what_sentinels_answer_is_told(watched: Make) -> None:
    place = watched("redis-7.0", sentinels=2, sentinel_password="watcher")
    ports = [one.port for one in place.sentinels]
    login = "?sentinel_password=watcher"
    base = f"sentinel://{LOOPBACK}:{ports[0]},{LOOPBACK}:{ports[1]}"

    error = refused(f"{base}/other{login}")
    assert error.id == "sentinel.unknown_master"
    assert not error.retryable
    assert "other" in error.message

    for wrong in ("", "?sentinel_password=no"):
        error = refused(f"{base}/{NAME}{wrong}")
        assert error.id == "auth.refused"
        assert "sentinel_password" in error.advice
        assert f":{ports[0]}" in error.message

    error = refused(f"sentinel://{LOOPBACK}:{place.servers[0].port}/{NAME}")
    assert not error.retryable
    assert "SENTINEL" in error.message

    closed = [free_port(), free_port()]
    error = refused(f"sentinel://{LOOPBACK}:{closed[0]},{LOOPBACK}:{closed[1]}/{NAME}{login}")
    assert error.id == "sentinel.unreachable"
    assert error.retryable
    assert all(f"{LOOPBACK}:{port}" in error.message for port in closed)

    # One of them knows, the other ones do not answer.
    with Client(
        Endpoint.parse(f"sentinel://{LOOPBACK}:{closed[0]},{LOOPBACK}:{ports[1]}/{NAME}{login}"), timeout=2.0
    ) as client:
        assert client.endpoint.address == f"{LOOPBACK}:{place.servers[0].port}"


def test_a_master_that_is_named_and_is_none_is_not_taken(watched: Make) -> None:
    """The sentinel has not noticed yet: nothing is written to a replica, and the next connection asks again."""
    place = watched("redis-7.0", config={"replica-serve-stale-data": "yes"})
    sentinel = place.sentinels[0]
    sentinel.ask("SET", NAME, "down-after-milliseconds", 60_000)
    old = place.master
    with old.client() as client:
        client.replicaof(place.servers[1].host, place.servers[1].port)
        error = refused(place.url)
        client.replicaof("no", "one")
    assert error.id == "server.not_master"
    assert error.retryable
    assert f":{old.port}" in error.message
