"""Opposite links: what one has written the other one does not send back, and nothing is lost; links in a row pass everything on."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from migrations_app.engine.checkpoint import FULL, INCREMENTAL, Checkpoint
from migrations_app.engine.config import LinkResult, Outcome, Phases
from migrations_app.engine.errors import LinkLoop
from migrations_app.engine.loop import LINKS_KEY
from migrations_app.engine.ports import Phase
from tests.support.fixtures import ServerFactory
from tests.support.servers import Server
from tests.support.wait import wait_for

from .conftest import QUICK, Shared
from .links import EngineProcess, RunningLink, assert_equal, offset_of, run

COUNTERS = 50


class Writer:
    """Writes to one server: keys of its own, and counters that it shares with others. `counts` says what it has added."""

    def __init__(self, server: Server, name: str, databases: int = 1) -> None:
        self.counts: Counter[tuple[int, int]] = Counter()
        self._server, self._name, self._databases = server, name, databases
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        random = Random(self._name)
        clients = [self._server.client(db=number) for number in range(self._databases)]
        while not self._stop.is_set():
            database = random.randrange(self._databases)
            with clients[database].pipeline(transaction=random.random() < 0.3) as pipe:
                for _ in range(random.randrange(1, 10)):
                    counter, amount = random.randrange(COUNTERS), random.randrange(1, 9)
                    pipe.incrby(f"counter:{counter}", amount)
                    pipe.hincrby("counters", str(counter), amount)
                    pipe.rpush(f"{self._name}:list:{counter}", amount)
                    pipe.set(f"{self._name}:key:{counter}", amount, px=500_000)
                    self.counts[database, counter] += amount
                pipe.execute()
            self._stop.wait(0.002)

    def written(self) -> int:
        return self.counts.total()

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)


def wait_written(*writers: Writer, more: int = 1000) -> None:
    before = [writer.written() for writer in writers]
    wait_for(
        lambda: all(writer.written() > so_far + more for writer, so_far in zip(writers, before, strict=True)),
        30,
    )


def check(one: Server, other: Server, *writers: Writer) -> None:
    """Both sides hold the sum of what all writers have added; nothing came twice, nothing is lost."""
    total: Counter[tuple[int, int]] = Counter()
    for writer in writers:
        total += writer.counts
    for server in (one, other):
        for (database, counter), amount in total.items():
            client = server.client(db=database)
            assert int(client.get(f"counter:{counter}") or 0) == amount, (server, database, counter)
            assert int(client.hget("counters", str(counter)) or 0) == amount
    assert_equal(one, other)


@contextmanager
def both_ways(a: Server, b: Server) -> Iterator[tuple[RunningLink, RunningLink]]:
    with RunningLink(a, b, name="ab") as ab:
        ab.wait_caught_up()
        with RunningLink(b, a, name="ba") as ba:
            ba.wait_caught_up()
            yield ab, ba


def settle(a: Server, b: Server, ab: RunningLink, ba: RunningLink) -> None:
    for _ in range(2):
        ab.settle(a, b)
        ba.settle(b, a)


@pytest.mark.parametrize("version", ["redis-5.0", "redis-7.0", "redis-8.0", "valkey-9.1"])
def test_two_opposite_links_under_writes_on_both_sides(shared: Shared, version: str) -> None:
    a, b = shared(version, "source"), shared(version, "target")
    a.client().mset({f"old:{number}": number for number in range(500)})
    with both_ways(a, b) as (ab, ba):
        with Writer(a, "a", 3) as one, Writer(b, "b", 3) as two:
            wait_written(one, two, more=4000)
        settle(a, b, ab, ba)
        check(a, b, one, two)
        # Silence: what they store of their positions does not go round for ever.
        before = offset_of(a), offset_of(b)
        ab.wait_caught_up()
        ba.wait_caught_up()
        assert max(offset_of(a) - before[0], offset_of(b) - before[1]) < 5000
    assert (ab.progress.full_syncs, ba.progress.full_syncs) == (1, 1)


def test_a_full_phase_against_a_link_that_runs(pair: tuple[Server, Server]) -> None:
    """The second link begins while there are writes on its source's other side: what it copies does not come back."""
    a, b = pair
    a.client().mset({f"old:{number}": "x" * 1000 for number in range(2000)})
    a.client().set("large", Random(1).randbytes(3_000_000))
    a.client().rpush("list", *range(50_000))
    with RunningLink(a, b, name="ab") as ab:
        ab.wait_caught_up()
        before = ab.progress.commands
        with RunningLink(b, a, name="ba") as ba:
            ba.wait_caught_up()
            ab.wait_offset(offset_of(a))
            assert ab.progress.commands - before < 50
            assert ba.progress.keys_done == 2002
            settle(a, b, ab, ba)
            assert_equal(a, b)


def test_a_repeated_full_phase_does_not_clear_the_other_side(pair: tuple[Server, Server]) -> None:
    """A full phase that starts again empties its target first: the opposite link must not carry that back."""
    a, b = pair
    with both_ways(a, b) as (ab, ba):
        b.client().mset({f"key:{number}": number for number in range(100)})
        settle(a, b, ab, ba)
        ba.stop()
        a.client().hset("switchyard:checkpoint:ba", "fault", "made by the test")
        with RunningLink(b, a, name="ba", allow_full_resync=True) as again:
            again.wait_caught_up()
            assert "full.cleared" in again.ports.events
            settle(a, b, ab, again)
            assert b.client().exists("key:1", "key:99") == 2
            assert_equal(a, b)


def test_a_link_that_is_killed_and_started_again(pair: tuple[Server, Server], tmp_path: Path) -> None:
    a, b = pair
    command = ("run", b.url, a.url, "--link", "ba")
    with RunningLink(a, b, name="ab") as ab:
        ab.wait_caught_up()
        with EngineProcess(tmp_path, *command, name="first") as first:
            first.wait_for_words("link.caught_up")
            with Writer(a, "a") as one, Writer(b, "b") as two:
                wait_written(one, two)
                first.kill()
                wait_written(one, two)
                with EngineProcess(tmp_path, *command, name="second") as second:
                    second.wait_for_words("link.resumed")
                    wait_written(one, two)
                    second.kill()
        with RunningLink(b, a, name="ba") as ba:
            settle(a, b, ab, ba)
            assert ba.progress.full_syncs == 0
            check(a, b, one, two)


@pytest.mark.parametrize("kill", [False, True], ids=["ended", "killed"])
def test_a_server_that_restarts(redis_server: ServerFactory, kill: bool) -> None:
    """Its stream has another name afterwards; what bears the old one is still known."""
    config = {**QUICK, "appendonly": "yes", "appendfsync": "always"}
    a, b = redis_server("redis-7.0", config=config), redis_server("redis-7.0", config=config)
    with both_ways(a, b) as (ab, ba):
        with Writer(a, "a") as one, Writer(b, "b") as two:
            wait_written(one, two)
        settle(a, b, ab, ba)
        ba.stop()
        with Writer(a, "a2") as three:
            wait_written(three)
        ab.settle(a, b)
        # Now B holds transactions that came from A and that `ba` has not read; A gets another name.
        ab.stop()
        names = {a.info("replication")["master_replid"]}
        a.restart(kill=kill)
        names.add(a.info("replication")["master_replid"])
        assert len(names) == 2
        with RunningLink(b, a, name="ba") as ba2:
            ba2.settle(b, a)
            assert ba2.progress.full_syncs == 0
            check(a, b, one, two, three)


def test_links_in_a_row_pass_everything_on(shared: Shared) -> None:
    a, b, c = (shared("redis-7.0", name) for name in ("source", "target", "third"))
    with RunningLink(a, b, name="ab") as ab, RunningLink(b, c, name="bc") as bc:
        ab.wait_caught_up()
        bc.wait_caught_up()
        with Writer(a, "a", 2) as one, Writer(b, "b", 2) as two:
            wait_written(one, two)
        ab.settle(a, b)
        bc.settle(b, c)
        check(b, c, one, two)
        assert_equal(b, c)


def register(source: Server, target: Server, phase: str) -> None:
    """As an opposite link leaves it that began before this one was known."""
    stream = target.info("replication")["master_replid"]
    source.client().hset(LINKS_KEY.decode(), "ba", stream)
    source.client().execute_command(*Checkpoint(1, phase, stream, 0).command("ba"))


def test_a_link_waits_for_the_full_phase_of_an_opposite_one(pair: tuple[Server, Server]) -> None:
    a, b = pair
    register(a, b, FULL)
    with RunningLink(a, b, name="ab") as ab:
        wait_for(lambda: "link.loop" in ab.ports.events, 20, ab.told)
        assert ab.progress.full_syncs == 0
        register(a, b, INCREMENTAL)
        ab.wait_caught_up()
    assert b.client().hget(LINKS_KEY.decode(), "ab").endswith(b" marks")


def test_an_opposite_full_phase_that_is_not_marked_stops_the_link(pair: tuple[Server, Server]) -> None:
    """Before anything of it is applied; only a full synchronization goes over it."""
    a, b = pair
    with RunningLink(a, b, name="ab") as ab:
        ab.wait_caught_up()
        register(a, b, FULL)
        a.client().set("echo", 1)
        error = ab.failure()
    assert isinstance(error, LinkLoop)
    assert error.id == "link.loop"
    assert not b.client().exists("echo")
    with RunningLink(a, b, name="ab") as again:
        assert again.failure().id == "target.diverged"
    register(a, b, INCREMENTAL)
    with RunningLink(a, b, name="ab", allow_full_resync=True) as full:
        full.wait_until(Phase.INCREMENTAL)
        full.settle(a, b)
        assert_equal(a, b)


def test_a_marker_of_an_opposite_link_with_an_unknown_name(pair: tuple[Server, Server]) -> None:
    """Neither sent back nor dropped: the link waits until the name is known."""
    a, b = pair
    register(a, b, INCREMENTAL)
    with RunningLink(a, b, name="ab") as ab:
        ab.wait_caught_up()
        with a.client().pipeline(transaction=True) as pipe:
            pipe.set("switchyard:origin:ba", "unknown")
            pipe.incr("counter")
            pipe.execute()
        wait_for(lambda: "link.loop" in ab.ports.events, 20, ab.told)
        assert not b.client().exists("counter")
        stream = b.info("replication")["master_replid"]
        a.client().hset(LINKS_KEY.decode(), "ba", f"{stream} unknown marks")
        a.client().set("later", 1)
        wait_for(lambda: b.client().exists("later"), 20, ab.told)
        assert not b.client().exists("counter")


def test_a_link_that_is_done_is_not_registered_any_more(pair: tuple[Server, Server]) -> None:
    a, b = pair
    a.client().set("key", 1)
    result: LinkResult = run(a, b, name="once", phases=Phases.FULL)
    assert result.outcome is Outcome.COMPLETED
    assert b.client().keys("*") == [b"key"]


def test_a_source_that_does_not_tell_of_other_links(
    redis_server: ServerFactory, pair: tuple[Server, Server]
) -> None:
    """A user that may replicate and nothing else: the link goes on, and says what it does not know."""
    rights = "on >word ~* +psync +replconf +info +ping +select +client +pttl +pexpiretime +multi +exec +dump +time +memory"
    source = redis_server(
        "redis-7.0",
        config={
            **QUICK,
            "user": [("default", "on", "nopass", "~*", "&*", "+@all"), ("reader", *rights.split())],
        },
    )
    source.client().set("key", 1)
    source.username, source.password = "reader", "word"
    with RunningLink(source, pair[1]) as link:
        link.wait_caught_up()
        assert "link.loop_unknown" in link.ports.events
    assert pair[1].client().get("key") == b"1"


def test_the_position_behind_much_that_is_left_out_is_stored(pair: tuple[Server, Server]) -> None:
    """Else a link that only leaves out would need more and more of its source's backlog to go on after a kill."""
    a, b = pair
    stored = lambda: int(b.client().hget("switchyard:checkpoint:ab", "offset") or -1)  # noqa: E731
    with RunningLink(a, b, name="ab", databases=frozenset({1})) as ab:
        ab.wait_caught_up()
        for number in range(30):
            a.client().set(f"key:{number}", b"x" * 100_000)
        wait_for(lambda: stored() > offset_of(a) - 1_100_000, 10, ab.told)
        assert b.client().keys("key:*") == []


def test_a_flush_does_not_hide_the_links_from_each_other(pair: tuple[Server, Server]) -> None:
    """It takes both registrations away: that in its own target a link writes behind it, that in its source the other one renews."""
    a, b = pair
    with both_ways(a, b) as (ab, ba):
        a.client().mset({f"key:{number}": number for number in range(100)})
        a.client().flushall()
        a.client().set("behind", 1)
        settle(a, b, ab, ba)
        assert b.client().hget(LINKS_KEY.decode(), "ab")
        wait_for(lambda: a.client().hget(LINKS_KEY.decode(), "ba"), 10, ba.told)
        b.client().flushdb()
        b.client().set("behind", 2)
        settle(a, b, ab, ba)
        assert a.client().hget(LINKS_KEY.decode(), "ba")
        wait_for(lambda: b.client().hget(LINKS_KEY.decode(), "ab"), 10, ab.told)
        assert a.client().keys("[^s]*") == b.client().keys("[^s]*") == [b"behind"]
        ba.stop()
        a.client().hset("switchyard:checkpoint:ba", "fault", "made by the test")
        with RunningLink(b, a, name="ba", allow_full_resync=True) as again:
            settle(a, b, ab, again)
            assert_equal(a, b)
