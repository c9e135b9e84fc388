"""Why a link was lost is said where it can be known; what need not be given up is not; what can be resumed is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from migrations_app.demo.writer import Writer
from migrations_app.engine.ports import Phase
from tests.support.proxy import FaultProxy, Link, Way
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import RunningLink, assert_audit, assert_equal, offset_of, pass_time

MakeServer = Callable[..., Server]
MakeProxy = Callable[..., FaultProxy]
MB = 1 << 20
VERSIONS = ["redis-5.0", "redis-7.0", "valkey-9.1"]
QUICK = {"repl-diskless-sync-delay": 0, "repl-backlog-size": "32mb"}


def told(link: RunningLink, event: str) -> list[str]:
    return [text for _, one, text in link.ports.lines if one == event]


# --- why the source has cut it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_source_that_lost_its_patience(
    redis_server: MakeServer, fault_proxy: MakeProxy, version: str
) -> None:
    """The link does not read for longer than repl-timeout, in the full phase and without a spool."""
    source = redis_server(
        version, config={**QUICK, "repl-diskless-sync": "yes", "rdbcompression": "no", "repl-timeout": 3}
    )
    target = redis_server(version)
    source.client().execute_command("DEBUG", "POPULATE", 64, "key", MB)
    proxy = fault_proxy(target)
    # By bytes, not by a look at the target: the whole snapshot passes in a fraction of a second.
    stalled = proxy.stall_after(4 * MB, Way.UP)
    with RunningLink(source, proxy, spool_limit=0, timeout=20.0) as link, source.client() as client:
        wait_for(stalled.is_set, 20, link.told)
        wait_for(lambda: not client.info("replication")["connected_slaves"], 20, link.told)
        proxy.resume()
        wait_for(lambda: link.progress.reconnects > 0, 20, link.told)
        (text,) = told(link, "source.repl_timeout")[:1]
        assert "repl-timeout of the source: 3 s" in text
        assert "spool" in text
        link.settle(source, target)
    assert_equal(source, target)


def test_other_losses_are_not_blamed_on_the_source(
    pair: tuple[Server, Server], fault_proxy: MakeProxy
) -> None:
    source, target = pair
    proxy = fault_proxy(source)
    with RunningLink(proxy, target) as link:
        link.wait_caught_up()
        before = link.progress.reconnects
        proxy.cut()
        wait_for(lambda: link.progress.reconnects > before, 20, link.told)
        source.client().incr("counter")
        link.settle(source, target)
        assert "connection.lost" in link.ports.events
        assert not {"source.output_buffer", "source.repl_timeout"} & set(link.ports.events)


def test_limits_that_may_not_be_read_are_not_guessed(
    redis_server: MakeServer, fault_proxy: MakeProxy
) -> None:
    """As at managed servers, which refuse CONFIG."""
    source = redis_server("redis-6.2", config={**QUICK, "rename-command": ("CONFIG", "")})
    target = redis_server("redis-6.2")
    proxy = fault_proxy(source)
    with RunningLink(proxy, target) as link:
        link.wait_caught_up()
        proxy.reset()
        wait_for(lambda: link.progress.reconnects > 0, 20, link.told)
        source.client().incr("counter")
        link.settle(source, target)
        assert told(link, "connection.lost")


# --- silence ----------------------------------------------------------------------------------------------------------


def gone(link: Link) -> bool:
    link.closed.wait()
    return False


def test_an_idle_source_is_not_lost(redis_server: MakeServer, fault_proxy: MakeProxy) -> None:
    """It says nothing for far longer than the time-out: no reconnect. A connection that hangs is still noticed, at the next write."""
    source = redis_server("redis-7.0", config={**QUICK, "repl-ping-replica-period": 3600})
    target = redis_server("redis-7.0")
    proxy = fault_proxy(source)
    with RunningLink(proxy, target, timeout=2.0) as link, source.client() as client:
        link.wait_caught_up()
        pass_time(client, 5000)
        assert link.progress.reconnects == 0
        assert link.progress.lag_seconds == 0
        hung = proxy._links[1:]
        for one in hung:
            one._may_go_on = partial(gone, one)  # type: ignore[method-assign]
        for _ in range(2):  # the pieces under way are handed on
            client.incr("counter")
        wait_for(lambda: link.progress.reconnects > 0, 20, link.told)
        link.settle(source, target)
    assert_equal(source, target)


# --- trying again -----------------------------------------------------------------------------------------------------


def test_a_side_that_fails_each_time_right_after_connecting_uses_up_the_retry_time(
    pair: tuple[Server, Server], fault_proxy: MakeProxy
) -> None:
    """The source begins a full phase each time and never sends a byte of it: that is no success, however often."""
    source, target = pair
    source.client().set("k", "v")
    proxy = fault_proxy(source)
    with RunningLink(proxy, target, retry_seconds=60.0) as link:
        link.settle(source, target)

    def cut_at_the_answer(_: object, data: bytes) -> bytes:
        at = data.find(b"+FULLRESYNC")
        if at < 0:
            return data
        cut.append(1)
        proxy.cut()
        return b""

    cut: list[int] = []
    target.client().flushall()
    proxy.hook = cut_at_the_answer
    with RunningLink(proxy, target, retry_seconds=3.0, patient_start=True) as link:
        error = link.failure(40)
    assert error.id == "link.retry_time_exceeded"
    assert 2 <= len(cut) <= 12, "with pauses that grow"


def test_progress_is_shown_while_it_tries_again(pair: tuple[Server, Server], fault_proxy: MakeProxy) -> None:
    """The rates of before fade away, and the lag is not the one of before."""
    source, target = pair
    proxy = fault_proxy(source)
    with Writer(source.url, seed=6, rate=2000) as writer, RunningLink(proxy, target) as link:
        link.wait_caught_up()
        wait_for(lambda: link.progress.commands_per_second > 0, 20, link.told)
        proxy.refuse()
        proxy.cut()
        link.wait_until(Phase.RETRYING)
        wait_for(
            lambda: link.progress.phase is Phase.RETRYING and not link.progress.commands_per_second,
            30,
            link.told,
        )
        assert link.progress.lag_seconds is None
        proxy.accept()
        link.settle(source, target)
        expected = writer.stop()
        link.settle(source, target)
    assert_audit(target, expected)


def test_a_stream_with_nothing_to_apply_does_not_leave_the_position_behind(
    redis_server: MakeServer, fault_proxy: MakeProxy
) -> None:
    """Only another database is written to, more than the backlog holds: the checkpoint follows, in case the engine ends without a word."""
    source = redis_server("redis-7.0", config={"repl-diskless-sync-delay": 0, "repl-backlog-size": "64kb"})
    target = redis_server("redis-7.0")
    with RunningLink(source, target, databases=frozenset({1})) as link, source.client() as client:
        link.wait_caught_up()
        for number in range(20):
            client.set(f"key:{number}", "x" * 20_000)
        written = offset_of(source)
        wait_for(
            lambda: int(target.client().hget("switchyard:checkpoint:test", "offset") or 0) >= written,
            20,
            link.told,
        )
        assert link.progress.commands == 0
    assert target.client().keys("key:*") == []


# --- failover and restart ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_source_that_fails_over(redis_server: MakeServer, fault_proxy: MakeProxy, version: str) -> None:
    """The master dies under writes, its replica is promoted at the same address: the link goes on where it stood, under the new ID."""
    master = redis_server(version, config=QUICK)
    replica = redis_server(version, config=QUICK)
    target = redis_server(version)
    replica.client().replicaof(*master.address)
    wait_for(lambda: replica.info("replication")["master_link_status"] == "up", 20)
    proxy = fault_proxy(master)
    with RunningLink(proxy, target) as link:
        link.wait_caught_up()
        with Writer(master.url, seed=7, rate=2000) as writer:
            wait_for(lambda: writer.commands > 2000, 20)
            expected = writer.stop()
        wait_for(lambda: offset_of(replica) >= offset_of(master), 20)
        first = link.progress.replication_id
        link.wait_offset(offset_of(master))
        master.kill()
        replica.client().replicaof("NO", "ONE")
        proxy.target = replica.address
        with replica.client() as client:
            client.set("after", "failover")
        link.settle(replica, target)
        wait_for(lambda: link.progress.partial_syncs == 1, 20, link.told)
        assert link.progress.full_syncs == 1
        assert link.progress.replication_id not in ("", first)
        link.stop()
    stored = target.client().hgetall("switchyard:checkpoint:test")
    assert stored[b"replid"].decode() == replica.info("replication")["master_replid"]
    with RunningLink(replica, target) as link:
        link.settle(replica, target)
        assert link.progress.full_syncs == 0
    assert_equal(replica, target)
    assert_audit(target, expected)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_promoted_replica_that_had_less_is_no_source_to_go_on_with(
    redis_server: MakeServer, fault_proxy: MakeProxy, version: str
) -> None:
    """The target has changes that the new master never got: they cannot be taken back, so the link stops and says so."""
    master = redis_server(version, config=QUICK)
    replica = redis_server(version, config=QUICK)
    target = redis_server(version)
    between = fault_proxy(master)
    replica.client().replicaof(*between.address)
    wait_for(lambda: replica.info("replication")["master_link_status"] == "up", 20)
    with RunningLink(master, target) as link:
        link.wait_caught_up()
        between.refuse()
        between.cut()
        master.client().set("lost", "x" * 1000)
        link.settle(master, target)
        link.stop()
    replica.client().replicaof("NO", "ONE")
    with RunningLink(replica, target) as link:
        error = link.failure(20)
    assert error.id == "source.full_resync_needed"
    assert "before that point" in error.message
    with RunningLink(replica, target, allow_full_resync=True) as link:
        link.settle(replica, target)
    assert_equal(replica, target)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_source_that_is_restarted_in_order(redis_server: MakeServer, version: str) -> None:
    """From 7.0 on a master keeps its history over a restart that saves: the link goes on. Before, only a full phase helps."""
    source = redis_server(version, config={**QUICK, "save": ("3600", "1"), "appendonly": "no"})
    target = redis_server(version)
    with RunningLink(source, target) as link, source.client() as client:
        client.set("before", 1)
        link.settle(source, target)
        source.restart()
        source.client().set("after", 1)
        if version == "redis-5.0":
            error = link.failure()
            assert error.id == "source.full_resync_needed"
            assert "restarted" in error.message
            return
        link.settle(source, target)
        assert link.progress.full_syncs == 1
        assert link.progress.partial_syncs == 1
    assert_equal(source, target)


def test_a_backlog_that_was_given_up_is_named(redis_server: MakeServer) -> None:
    source = redis_server("redis-7.0", config={**QUICK, "repl-backlog-ttl": 1})
    target = redis_server("redis-7.0")
    with RunningLink(source, target) as link:
        link.settle(source, target)
        link.stop()
    wait_for(lambda: not source.info("replication")["repl_backlog_active"], 20)
    with RunningLink(source, target) as link:
        error = link.failure()
    assert error.id == "source.full_resync_needed"
    assert "repl-backlog-ttl" in error.message


def test_how_long_a_backlog_lasts_is_told(redis_server: MakeServer, fault_proxy: MakeProxy) -> None:
    """By the writes of the interruption."""
    source = redis_server("redis-7.0", config={"repl-diskless-sync-delay": 0, "repl-backlog-size": "64kb"})
    target = redis_server("redis-7.0")
    proxy = fault_proxy(source)
    with RunningLink(proxy, target) as link, source.client() as client:
        link.settle(source, target)
        wait_for(lambda: link.progress.source_offset is not None, 10)
        proxy.refuse()
        proxy.cut()
        link.wait_until(Phase.RETRYING)
        client.set("big", b"x" * 200_000)
        proxy.accept()
        error = link.failure()
    assert error.id == "source.full_resync_needed"
    assert "200" in error.message
    assert "bytes were written in the" in error.message
    assert "the backlog covers" in error.message
