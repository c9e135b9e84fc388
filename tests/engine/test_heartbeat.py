"""The heartbeat: written to the source, found in the stream, never sent to the target."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from migrations_app.engine.config import LinkConfig
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import UsageError
from tests.support.proxy import FaultProxy
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import EngineProcess, RunningLink, assert_equal, endpoint, pass_time

KEY = b"switchyard:heartbeat:test"
MakeServer = Callable[..., Server]


@pytest.mark.parametrize("version", ["redis-5.0", "redis-7.0", "valkey-9.1"])
def test_the_latency_of_an_idle_source(redis_server: MakeServer, version: str) -> None:
    """Measured without a write of anybody else; the target never has the key; the log says once that the source is written to."""
    source = redis_server(version, config={"repl-diskless-sync-delay": 0})
    target = redis_server(version)
    with RunningLink(source, target, heartbeat_seconds=0.2, databases=frozenset({1})) as link:
        link.wait_caught_up()
        wait_for(lambda: link.progress.latency_ms is not None, 10, link.told)
        assert 0 <= (link.progress.latency_ms or 0) < 5000
        first = source.client().get(KEY)
        wait_for(lambda: source.client().get(KEY) != first, 10, link.told)
        assert 0 < source.client().pttl(KEY) <= 61_000
        wait_for(lambda: (link.progress.lag_seconds or 0) < 1, 10, link.told)
        assert link.progress.commands == 0
        assert link.ports.events.count("heartbeat.on") == 1
        assert any(KEY.decode() in text for _, event, text in link.ports.lines if event == "heartbeat.on")
        assert not target.client().exists(KEY)
    with RunningLink(source, target) as link:
        link.wait_caught_up()
        assert link.progress.full_syncs == 0
        assert link.progress.latency_ms is None
    assert not target.client().exists(KEY)


def test_a_slow_way_shows(pair: tuple[Server, Server], fault_proxy: Callable[..., FaultProxy]) -> None:
    """Half a second on the way to the target is in the latency."""
    source, target = pair
    proxy = fault_proxy(target)
    with RunningLink(source, proxy, heartbeat_seconds=0.3) as link, source.client() as client:
        link.wait_caught_up()
        proxy.stall()
        client.incr("counter")
        pass_time(client, 1000)
        proxy.resume()
        seen: list[int] = []

        def slow() -> bool:
            seen.append(link.progress.latency_ms or 0)
            return max(seen) >= 400

        wait_for(slow, 10, link.told)
        wait_for(lambda: (link.progress.latency_ms or 1000) < 300, 10, link.told)
    assert_equal(source, target)


def test_it_does_not_hinder_the_end(pair: tuple[Server, Server]) -> None:
    source, target = pair
    source.client().set("k", "v")
    with RunningLink(source, target, heartbeat_seconds=0.1, stop_when_caught_up=True) as link:
        assert link.result().progress.full_syncs == 1
    assert target.client().keys("*heartbeat*") == []


@pytest.mark.parametrize("how", ["acl", "replica", "full"])
def test_a_source_that_does_not_take_it(redis_server: MakeServer, how: str) -> None:
    """A user without SET, a replica, a full memory: one warning, and the link goes on without."""
    source = redis_server("redis-7.0", config={"repl-diskless-sync-delay": 0})
    target = redis_server("redis-7.0")
    client = source.client()
    client.set("k", "v")
    side: object = source
    if how == "acl":
        client.execute_command("ACL", "SETUSER", "reader", "on", ">word", "~*", "&*", "+@all", "-set")
        side = endpoint(source, username="reader", password="word")
    elif how == "replica":
        master = redis_server("redis-7.0", config={"repl-diskless-sync-delay": 0})
        master.client().set("k", "v")
        client.replicaof(*master.address)
        wait_for(lambda: source.info("replication")["master_link_status"] == "up", 20)
    else:
        client.config_set("maxmemory", 1)
    with RunningLink(side, target, heartbeat_seconds=0.1) as link:
        wait_for(lambda: "heartbeat.refused" in link.ports.events, 20, link.told)
        link.wait_caught_up()
        pass_time(target.client(), 700)
        assert link.ports.events.count("heartbeat.refused") == 1
        assert link.progress.latency_ms is None
        assert link.progress.reconnects == 0
    assert target.client().get("k") == b"v"


def test_from_the_command_line(pair: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = pair
    with EngineProcess(
        tmp_path, "run", source.url, target.url, "--link", "test", "--heartbeat", "0.2"
    ) as engine:
        engine.wait_for_words("latency ")
        assert "[heartbeat.on]" in engine.said()
    with EngineProcess(tmp_path, "run", source.url, target.url, "--heartbeat", "soon") as engine:
        assert engine.wait(20) == 2


@pytest.mark.parametrize(
    "options",
    [{"heartbeat_seconds": -1.0}, {"heartbeat_seconds": 0.01}, {"timeout": 0.0}, {"timeout": float("nan")}],
)
def test_times_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        LinkConfig(name="a", source=Endpoint(host="a"), target=Endpoint(host="b"), **options)
