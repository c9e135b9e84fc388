"""A source that is read with SYNC, because PSYNC is renamed or refused: what it carries, and what it does not promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from migrations_app.demo.dataset import fill
from migrations_app.demo.writer import Writer
from migrations_app.engine.config import LinkConfig, Method, Phases
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import FullResyncNeeded, SourceRefused, UsageError
from tests.support.proxy import FaultProxy
from tests.support.servers import Server
from tests.support.wait import wait_for

from .conftest import QUICK, Shared
from .links import (
    EngineProcess,
    Outcome,
    Phase,
    RunningLink,
    assert_audit,
    assert_equal,
    endpoint,
    offset_of,
    pass_time,
    run,
)

VERSIONS = ["redis-3.2", "redis-5.0", "redis-7.0", "redis-8.6", "valkey-8.0", "valkey-9"]


def without_psync(version: str, **config: Any) -> Server:
    return Server(version, config={**QUICK, "rename-command": ("PSYNC", ""), **config})


@pytest.mark.parametrize("version", VERSIONS)
def test_the_demo_is_carried_with_its_writer(shared: Shared, version: str) -> None:
    """Until caught up, with an exact audit; where the snapshot tells its offset the counters are the source's own."""
    target = shared("redis-8.6" if version == "redis-8.6" else "valkey-9", "target")
    with without_psync(version) as source:
        fill(source.url, keys=0, big_value_bytes=1 << 20, large_elements=600)
        writer = Writer(source.url, seed=5, rate=2000).start()
        with RunningLink(source, target, method=Method.SYNC) as link:
            link.wait_until(Phase.INCREMENTAL)
            written = writer.commands
            wait_for(lambda: writer.commands >= written + 1500 or not writer.running, 60)
            expected = writer.stop()
            link.wait_caught_up()
            if version != "redis-3.2":
                link.settle(source, target)
            progress = link.stop().progress
        assert writer.messages == {}
        assert (progress.full_syncs, progress.reconnects) == (1, 0), link.told()
        assert_equal(source, target)
        assert_audit(target, expected)
        assert link.ports.events.count("source.limits") == 1


def test_it_ends_when_it_has_caught_up(shared: Shared) -> None:
    """On a version whose snapshot tells where its stream begins, and on one that does not: there it is found."""
    target = shared("redis-7.0", "target")
    for version in ("redis-3.2", "redis-7.0"):
        with without_psync(version) as source:
            with source.client() as client:
                client.set("before", version)
                client.set("soon", "v", ex=300)
                for _ in range(3):  # the stream does not begin at offset 0
                    client.set("again", "x" * 1000)
            progress = run(source, target, method=Method.SYNC, name=version, allow_full_resync=True).progress
            assert progress.lag_bytes == 0
            assert progress.caught_up
            if version == "redis-7.0":
                assert progress.applied_offset == offset_of(source)
            assert_equal(source, target)
            target.client().flushall()


def test_the_lag_is_unknown_until_the_source_is_quiet(shared: Shared) -> None:
    """Before 4.0: while writes go on, nothing is claimed."""
    target = shared("redis-5.0", "target")
    with without_psync("redis-3.2") as source:
        source.client().set("a", 1)
        writer = Writer(source.url, seed=5, rate=2000).start()
        try:
            with RunningLink(source, target, method=Method.SYNC) as link:
                wait_for(lambda: link.progress.commands > 1500, 30, link.told)
                assert writer.running
                assert (link.progress.lag_bytes, link.progress.caught_up) == (None, False)
                writer.stop()
                link.wait_caught_up()
                source.client().set("last", 1)
                wait_for(lambda: target.client().get("last") == b"1", 10)
                link.wait_caught_up()
        finally:
            writer.stop()
        assert_equal(source, target)


@pytest.mark.parametrize("version", ["redis-3.2", "redis-7.0", "valkey-9"])
def test_a_silent_reader_is_not_dropped(shared: Shared, version: str) -> None:
    """It acknowledges nothing; the time-out of the source does not strike (repl-timeout 2 s, three of them)."""
    target = shared("redis-7.0", "target")
    with (
        without_psync(version, **{"repl-timeout": 2}) as source,
        RunningLink(source, target, method=Method.SYNC) as link,
    ):
        link.wait_until(Phase.INCREMENTAL)
        pass_time(source.client(), 6000)
        source.client().set("after", version)
        wait_for(lambda: target.client().get("after") == version.encode(), 10)
        assert link.progress.reconnects == 0


def test_a_lost_connection_needs_a_full_synchronization(
    shared: Shared, fault_proxy: Callable[..., FaultProxy]
) -> None:
    """Which the task has to allow; the checkpoint is never taken for a place to go on."""
    target = shared("redis-7.0", "target")
    with without_psync("redis-7.0") as source:
        source.client().mset({"a": 1, "deleted": 1})
        proxy = fault_proxy(source)
        with RunningLink(proxy, target, method=Method.SYNC) as link:
            link.wait_caught_up()
            proxy.cut()
            assert isinstance(link.failure(), FullResyncNeeded)
        source.client().delete("deleted")
        with RunningLink(proxy, target, method=Method.SYNC, allow_full_resync=True) as link:
            link.wait_caught_up()
            proxy.cut()
            wait_for(lambda: link.progress.full_syncs == 2, 20, link.told)
            source.client().set("b", 1)
            link.wait_caught_up()
            wait_for(lambda: target.client().get("b") == b"1", 10)
            link.stop()
        assert "link.full_resync" in link.ports.events
        assert any(
            "begins with a full" in line for _, event, line in link.ports.lines if event == "link.stopped"
        )
        assert_equal(source, target)


def test_the_way_of_reading_can_be_changed_only_with_consent(shared: Shared) -> None:
    """From SYNC to PSYNC and back: either way the position is worth nothing to the other."""
    source, target = shared("redis-7.0", "source"), shared("redis-7.0", "target")
    source.client().set("a", 1)
    run(source, target, method=Method.SYNC)
    with RunningLink(source, target) as link:
        assert isinstance(link.failure(), FullResyncNeeded)
    run(source, target, allow_full_resync=True)
    assert run(source, target).progress.partial_syncs == 1
    with RunningLink(source, target, method=Method.SYNC) as link:
        assert isinstance(link.failure(), FullResyncNeeded)
    assert_equal(source, target)


def test_full_phase_alone(shared: Shared) -> None:
    target = shared("redis-7.0", "target")
    with without_psync("redis-7.0") as source:
        fill(source.url, keys=0, big_value_bytes=0, large_elements=0)
        assert run(source, target, method=Method.SYNC, phases=Phases.FULL).outcome is Outcome.COMPLETED
        assert_equal(source, target)


RIGHTS: Mapping[str, str] = {
    "sync": "+sync +info +pttl +pexpiretime +dump +memory +time +multi +exec +select +ping +client",
    "sync and replconf": "+sync +replconf +info +pttl +pexpiretime +dump +memory +time +multi +exec +select +ping +client",
}


@pytest.mark.parametrize("rights", RIGHTS.values(), ids=RIGHTS)
def test_the_least_rights(shared: Shared, rights: str) -> None:
    target = shared("redis-7.0", "target")
    user: list[Any] = [("eve", "on", ">pw", "~*", "&*", "-@all", *rights.split())]
    with Server("redis-7.0", config={**QUICK, "user": user}) as source:
        source.client().set("a", 1)
        source.client().set("b", 1, ex=100)
        eve = Endpoint(host=source.host, port=source.port, username="eve", password="pw")
        with RunningLink(eve, target) as link:
            failure = link.failure()
        assert isinstance(failure, SourceRefused)
        assert "--method sync" in failure.advice
        assert "--method scan" in failure.advice
        assert target.client().dbsize() == len(target.client().keys("switchyard:*")), "own keys only"
        with RunningLink(eve, target, method=Method.SYNC) as link:
            link.wait_caught_up()
            source.client().set("c", 1)
            link.settle(source, target)
        assert_equal(source, target)


def test_a_source_that_knows_neither(shared: Shared) -> None:
    target = shared("redis-7.0", "target")
    renames: list[Any] = [("PSYNC", ""), ("SYNC", "")]
    with Server("redis-7.0", config={**QUICK, "rename-command": renames}) as source:
        for method in (Method.PSYNC, Method.SYNC):
            with RunningLink(source, target, method=method) as link:
                failure = link.failure()
            assert isinstance(failure, SourceRefused)
            assert "--method scan" in failure.advice
            assert f"refuses {method.value.upper()}" in failure.message


def test_from_the_command_line(shared: Shared, tmp_path: Any) -> None:
    target = shared("redis-7.0", "target")
    with without_psync("redis-7.0") as source:
        source.client().set("a", 1)
        arguments = ("run", source.url, target.url, "--method", "sync", "--stop-when-caught-up", "--json")
        with EngineProcess(tmp_path, *arguments) as engine:
            assert engine.wait() == 0, engine.said()
            assert engine.result()["caught_up"]
        assert_equal(source, target)


def test_a_snapshot_file_has_no_method(shared: Shared) -> None:
    with pytest.raises(UsageError, match="--method"):
        LinkConfig(
            name="x",
            source=Endpoint.parse("rdb:///dump.rdb"),
            target=endpoint(shared("redis-7.0", "target")),
            phases=Phases.FULL,
            method=Method.SYNC,
        )
