"""The network and the servers fail: the link goes on by partial synchronization, without loss and without a second full phase."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import redis

from migrations_app.demo.audit import AuditExpected
from migrations_app.demo.dataset import fill
from migrations_app.demo.writer import Writer, check_invariant
from migrations_app.engine.errors import SnapshotError
from migrations_app.engine.ports import Phase
from tests.support.proxy import FaultProxy, Link, Way
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import RunningLink, assert_audit, assert_equal, full_counts, offset_of, pass_time

MakeProxy = Callable[..., FaultProxy]
TIMEOUT = 3.0
"""Of the links. A source that prepares its snapshot gives one sign of life a second; a busy machine may be late with it."""


class Slow:
    """A hook that lets `rate` bytes per second through, until it is told to be quick."""

    def __init__(self, rate: int, way: Way = Way.DOWN) -> None:
        self._rate, self._way = rate, way
        self.quick = threading.Event()

    def __call__(self, way: Way, data: bytes) -> bytes:
        if way is self._way:
            self.quick.wait(len(data) / self._rate)
        return data


def stall(proxy: FaultProxy, link: RunningLink) -> None:
    """Nothing goes through until the link has noticed; then everything does."""
    before, retries = link.progress.reconnects, link.ports.phases.count(Phase.RETRYING)
    proxy.stall()
    wait_for(
        lambda: link.progress.reconnects > before or link.ports.phases.count(Phase.RETRYING) > retries,
        20,
        link.told,
    )
    proxy.resume()


def short_stall(proxy: FaultProxy, link: RunningLink) -> None:
    """Shorter than the time-out: the link waits and goes on without a new connection."""
    proxy.stall()
    with redis.Redis(*proxy.target, protocol=2) as client:
        pass_time(client, 700)
    proxy.resume()


def half_open(proxy: FaultProxy, link: RunningLink) -> None:
    """What was there is gone without a word (the connections hang for good), new connections work."""
    before = link.progress.reconnects
    for one in proxy._links[:]:
        one._may_go_on = partial(_wait_for_the_end, one)  # type: ignore[method-assign]
    wait_for(lambda: link.progress.reconnects > before, 20, link.told)


def _wait_for_the_end(link: Link) -> bool:
    link.closed.wait()
    return False


def cut(proxy: FaultProxy, link: RunningLink) -> None:
    wait_for(proxy.cut, 10)


def reset(proxy: FaultProxy, link: RunningLink) -> None:
    wait_for(proxy.reset, 10)


FAULTS = [cut, reset, stall, short_stall, half_open]


@contextmanager
def under_load(
    source: Server, *sides: object, **options: object
) -> Iterator[tuple[RunningLink, Callable[[], AuditExpected]]]:
    """A link in the incremental phase, and a writer; the second value stops it and says what it has written."""
    with (
        Writer(source.url, seed=6, rate=3000) as writer,
        RunningLink(*sides, timeout=TIMEOUT, **options) as link,
    ):
        link.wait_caught_up()

        def more(count: int = 200) -> None:
            written = writer.commands
            wait_for(lambda: writer.commands > written + count or not writer.running, 30)

        def end() -> AuditExpected:
            more()
            return writer.stop()

        more()
        yield link, end


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_stream(
    pair: tuple[Server, Server], fault_proxy: MakeProxy, fault: Callable[..., None], side: str
) -> None:
    """Twice. It goes on by partial synchronization: one full synchronization in the link's counters and in the source's."""
    source, target = pair
    proxy = fault_proxy(source if side == "source" else target)
    sides = (proxy, target) if side == "source" else (source, proxy)
    with under_load(source, *sides) as (link, end):
        for _ in range(2):
            fault(proxy, link)
            link.wait_offset(offset_of(source))
        expected = end()
        link.settle(source, target)
        progress = link.stop().progress
    assert progress.full_syncs == 1
    assert full_counts(source)[0] == 1
    if fault is short_stall:
        assert progress.reconnects == 0
    else:
        assert progress.partial_syncs >= 1
        assert progress.reconnects >= progress.partial_syncs
    assert_equal(source, target)
    assert_audit(target, expected)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_full_phase(
    pair: tuple[Server, Server], fault_proxy: MakeProxy, fault: Callable[..., None], side: str
) -> None:
    """The snapshot cannot go on: it starts again by itself, on a target that is cleared, and both sides are equal at the end."""
    source, target = pair
    fill(source.url, keys=6000, big_value_bytes=2 << 20, large_elements=500)
    proxy = fault_proxy(source if side == "source" else target)
    proxy.hook = slow = Slow(1 << 20, Way.DOWN if side == "source" else Way.UP)
    sides = (proxy, target) if side == "source" else (source, proxy)
    with source.client() as client, RunningLink(*sides, timeout=TIMEOUT) as link:
        wait_for(lambda: target.client().dbsize() > 300, 30, link.told)
        assert link.progress.phase is Phase.FULL
        client.delete(
            *list(client.scan_iter("corner:hash:*"))
        )  # gone on the source: must not stay on the target
        fault(proxy, link)
        slow.quick.set()
        link.wait_caught_up()
        link.settle(source, target)
        progress = link.stop().progress
    assert progress.full_syncs == (1 if fault is short_stall else 2)
    assert_equal(source, target)


def test_a_fault_at_every_step_of_the_handshake(pair: tuple[Server, Server], fault_proxy: MakeProxy) -> None:
    """The source's connection ends after each of the first bytes that it sends: the link comes through in the end."""
    source, target = pair
    source.client().set("k", "v")
    proxy = fault_proxy(source)
    with RunningLink(proxy, target, timeout=2.0) as link:
        link.wait_caught_up()
        for count in (1, 7, 40, 500, 2000, 4000):
            proxy.truncate_after(count)
            before = link.progress.reconnects
            # Again and again: the link may be between two connections at the first time.
            wait_for(lambda: (proxy.cut(), link.progress.reconnects > before)[1], 20, link.told, interval=0.2)  # noqa: B023
        proxy.truncate_after(None)
        proxy.cut()
        source.client().incr("counter")
        link.settle(source, target)
        assert link.stop().progress.full_syncs == 1
    assert_equal(source, target)


def test_a_target_that_restarts_loses_nothing(redis_server: Callable[..., Server]) -> None:
    """With appendonly and fsync always what is acknowledged is kept, kill -9 or not; the checkpoint is kept with it."""
    source = redis_server("redis-7.0", config={"repl-diskless-sync-delay": 0, "repl-backlog-size": "32mb"})
    target = redis_server("redis-7.0", config={"appendonly": "yes", "appendfsync": "always"})
    with under_load(source, source, target) as (link, end):
        for kill in (True, False):
            target.restart(kill=kill)
            link.wait_offset(offset_of(source))
        expected = end()
        link.settle(source, target)
        assert link.stop().progress.full_syncs == 1
    assert_equal(source, target)
    assert_audit(target, expected)


def test_a_source_that_restarts_needs_a_full_phase_and_says_so(redis_server: Callable[..., Server]) -> None:
    """Its history is a new one. Not allowed, the link ends and nothing is applied; allowed, both sides are equal."""
    source = redis_server(
        "redis-7.0", config={"repl-diskless-sync-delay": 0, "appendonly": "yes", "appendfsync": "always"}
    )
    target = redis_server("redis-7.0")
    source.client().set("before", 1)
    with RunningLink(source, target) as link:
        link.wait_caught_up()
        source.restart(kill=True)
        source.client().set("after", 1)
        error = link.failure()
    assert error.id == "source.full_resync_needed"
    assert not target.client().exists("after")
    with RunningLink(source, target, allow_full_resync=True) as link:
        link.settle(source, target)
    assert_equal(source, target)


def test_a_backlog_that_is_too_small_is_told_with_the_size_that_was_needed(
    redis_server: Callable[..., Server],
) -> None:
    source = redis_server("redis-7.0", config={"repl-diskless-sync-delay": 0, "repl-backlog-size": "16kb"})
    target = redis_server("redis-7.0")
    with RunningLink(source, target) as link:
        link.wait_caught_up()
        link.stop()
    before = target.client().hgetall("switchyard:checkpoint:test")
    with source.client() as client:
        client.set("big", "x" * 100_000)
        client.set("key", "v")
    with RunningLink(source, target) as link:
        error = link.failure()
    assert error.id == "source.full_resync_needed"
    numbers = [int(word) for word in error.message.replace(",", "").split() if word.isdigit()]
    assert any(100_000 <= number <= 120_000 for number in numbers), error.message
    assert any(number in (16_384, 16_000) for number in numbers), error.message
    after = target.client().hgetall("switchyard:checkpoint:test")
    assert all(key.startswith(b"switchyard:") for key in target.client().keys("*"))
    assert {name: value for name, value in after.items() if name != b"epoch"} == {
        name: value for name, value in before.items() if name != b"epoch"
    }
    with RunningLink(source, target, allow_full_resync=True) as link:
        link.settle(source, target)
        assert link.progress.full_syncs == 1
    assert_equal(source, target)


def test_a_snapshot_that_is_cut_short_again_and_again_ends_the_link(
    pair: tuple[Server, Server], fault_proxy: MakeProxy
) -> None:
    """Three times in a row; the message names the way out, and the target has no checkpoint to go on from."""
    source, target = pair
    fill(source.url, keys=0, big_value_bytes=2 << 20, large_elements=0)
    proxy = fault_proxy(source)
    proxy.truncate_after(1_000_000)
    with RunningLink(proxy, target) as link:
        error = link.failure()
    assert isinstance(error, SnapshotError)
    assert "3 times" in error.message
    assert "client-output-buffer-limit" in error.advice
    assert target.client().hget("switchyard:checkpoint:test", "phase") == b"full"
    proxy.truncate_after(None)
    with RunningLink(proxy, target) as link:
        link.settle(source, target)
    assert_equal(source, target)


def test_a_damaged_length_that_goes_beyond_the_snapshot_ends_the_link(
    pair: tuple[Server, Server], fault_proxy: MakeProxy
) -> None:
    """A string says that it is longer than all that comes: it would take in the end of the snapshot, and then the stream."""
    source, target = pair
    source.client().set("key", bytes(range(256)) * 2000)
    proxy = fault_proxy(source)
    length = len(bytes(range(256)) * 2000).to_bytes(4, "big")
    happened = proxy.replace_once(b"\x80" + length, b"\x80\x7f\xff\xff\xff")
    source.client().config_set("rdbcompression", "no")
    try:
        with RunningLink(proxy, target) as link:
            error = link.failure(30)
    finally:
        source.client().config_set("rdbcompression", "yes")
    assert happened.is_set()
    assert isinstance(error, SnapshotError), link.told()
    assert not target.client().exists("key")


def test_flushes_in_the_stream_keep_the_checkpoint(pair: tuple[Server, Server]) -> None:
    """FLUSHALL and FLUSHDB travel; the position goes on from behind them, in a new process too."""
    source, target = pair
    with source.client() as client, RunningLink(source, target) as link:
        client.set("a", 1)
        link.wait_caught_up()
        for command in ("FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC"):
            client.set("b", 1)
            client.execute_command(*command.split())
            client.incr("kept")
            link.settle(source, target)
            assert target.client().get("kept") == b"1"
            assert int(target.client().hget("switchyard:checkpoint:test", "offset") or 0) > 0
        link.stop()
        client.incr("kept")
    with RunningLink(source, target) as link:
        link.settle(source, target)
        assert link.progress.full_syncs == 0
    assert_equal(source, target)


def test_swapped_databases_keep_the_checkpoint_where_it_belongs(pair: tuple[Server, Server]) -> None:
    source, target = pair
    with source.client() as client, RunningLink(source, target) as link:
        client.set("zero", 0)
        source.client(db=1).set("one", 1)
        link.wait_caught_up()
        client.swapdb(0, 1)
        link.settle(source, target)
        assert target.client().get("one") == b"1"
        assert target.client(db=1).keys("*") == [b"zero"]
        pipe = client.pipeline()
        pipe.set("x", 1).swapdb(0, 2).set("y", 2).swapdb(2, 1)
        pipe.execute()
        link.stop()
        client.incr("later")
    with RunningLink(source, target) as link:
        link.settle(source, target)
        assert link.progress.full_syncs == 0
    assert_equal(source, target)
    for own in ("switchyard:checkpoint:test", "switchyard:links", "switchyard:streams:test"):
        assert [number for number in range(3) if target.client(db=number).exists(own)] == [0], own


def test_transactions_are_never_seen_half(pair: tuple[Server, Server]) -> None:
    """The invariants of the demo's writer (MULTI and scripts) hold on the target whenever somebody looks."""
    source, target = pair
    looks = 0
    with Writer(source.url, seed=8) as writer, RunningLink(source, target) as link:
        link.wait_caught_up()
        written = writer.commands
        while (writer.commands < written + 30_000 or looks < 20) and writer.running and looks < 2000:
            assert check_invariant(target.url, databases=(0, 3)) == []
            looks += 1
        expected = writer.stop()
        link.settle(source, target)
        assert check_invariant(target.url) == []
    assert looks >= 20
    assert_audit(target, expected)
