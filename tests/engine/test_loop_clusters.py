"""Opposite links of which one side is a cluster, or both: nothing is sent back, nothing is lost. A key scan beside one is refused."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from migrations_app.engine import errors
from migrations_app.engine.config import Method, Notifications, Phases
from migrations_app.engine.kernel import Entry
from migrations_app.engine.loop import LINKS_KEY, Loop, Opposite
from migrations_app.engine.ports import Phase
from migrations_app.engine.verify.repair import Repaired, Repairer
from tests.support.cluster import Cluster, slot_of
from tests.support.servers import Server
from tests.support.wait import wait_for

from .conftest import Shared
from .links import EngineProcess, RunningLink, assert_equal, endpoint, run

TAGS = 40
Side = Server | Cluster
PAIRS = [("server", "cluster"), ("cluster", "server"), ("cluster", "cluster")]


@pytest.fixture(scope="module")
def _clusters() -> Iterator[tuple[Cluster, Cluster]]:
    with Cluster("redis-7.0") as one, Cluster("valkey-9.1") as other:
        yield one, other


@pytest.fixture
def side(_clusters: tuple[Cluster, Cluster], shared: Shared) -> Callable[[str, int], Side]:
    """The first or the second side, empty."""

    def make(kind: str, number: int) -> Side:
        if kind == "server":
            return shared("redis-7.0", ("source", "target")[number])
        cluster = _clusters[number].empty()
        for node in cluster.holders():
            node.client().function_flush()
        return cluster

    return make


def nodes(side: Side) -> list[Server]:
    return side.holders() if isinstance(side, Cluster) else [side]


def node(side: Side) -> Server:
    return nodes(side)[0]


def holder(side: Side, key: str) -> Server:
    return side.holder(slot_of(key)) if isinstance(side, Cluster) else side


class Writer:
    """Writes to one side: keys of its own, and counters that it shares with others. `counts` says what it has added."""

    def __init__(self, side: Side, name: str) -> None:
        self.counts: Counter[int] = Counter()
        self._side, self._name = side, name
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        random = Random(self._name)
        clients = {tag: holder(self._side, f"{{{tag}}}").client() for tag in range(TAGS)}
        try:
            while not self._stop.is_set():
                tag, amount = random.randrange(TAGS), random.randrange(1, 9)
                with clients[tag].pipeline(transaction=random.random() < 0.3) as pipe:
                    pipe.incrby(f"counter:{{{tag}}}", amount)
                    pipe.hincrby(f"counters:{{{tag}}}", "field", amount)
                    pipe.rpush(f"{self._name}:list:{{{tag}}}", amount)
                    pipe.set(f"{self._name}:key:{{{tag}}}", amount, px=500_000)
                    pipe.execute()
                self.counts[tag] += amount
                self._stop.wait(0.001)
        except BaseException as error:  # noqa: BLE001 - told where the test ends
            self._error = error

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        if self._error is not None:
            raise self._error


def wait_written(*writers: Writer, more: int = 1500) -> None:
    before = [writer.counts.total() for writer in writers]
    wait_for(
        lambda: all(
            writer.counts.total() > so_far + more for writer, so_far in zip(writers, before, strict=True)
        ),
        60,
    )


def settle(ab: RunningLink, ba: RunningLink, a: Side, b: Side) -> None:
    """Until what the sources of both links have written so far is applied, and what that has written, too.

    By their offsets: of a write that is just made a link that has caught up does not know yet.
    """
    for _ in range(2):
        ab.wait_offset(offsets(a))
        ba.wait_offset(offsets(b))
        ab.wait_caught_up()
        ba.wait_caught_up()


def offsets(*sides: Side) -> int:
    return sum(
        int(server.info("replication")["master_repl_offset"]) for one in sides for server in nodes(one)
    )


def check(a: Side, b: Side, *writers: Writer) -> None:
    """Both sides hold the sum of what all writers have added; nothing came twice, nothing is lost."""
    total: Counter[int] = Counter()
    for writer in writers:
        total += writer.counts
    for one in (a, b):
        for tag, amount in total.items():
            with holder(one, f"{{{tag}}}").client() as client:
                assert int(client.get(f"counter:{{{tag}}}") or 0) == amount, (one, tag)
                assert int(client.hget(f"counters:{{{tag}}}", "field") or 0) == amount
    assert_equal(node(a), node(b))


def check_silence(a: Side, b: Side, ab: RunningLink, ba: RunningLink) -> None:
    """What they store of their positions does not go round for ever."""
    settle(ab, ba, a, b)
    before = offsets(a, b)
    settle(ab, ba, a, b)
    assert offsets(a, b) - before < 8000


@contextmanager
def both_ways(a: Side, b: Side) -> Iterator[tuple[RunningLink, RunningLink]]:
    with RunningLink(node(a), node(b), name="ab") as ab:
        ab.wait_caught_up()
        with RunningLink(node(b), node(a), name="ba") as ba:
            ba.wait_caught_up()
            yield ab, ba


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_opposite_links_under_writes_on_both_sides(
    side: Callable[[str, int], Side], one: str, other: str
) -> None:
    a, b = side(one, 0), side(other, 1)
    with both_ways(a, b) as (ab, ba):
        syncs = ab.progress.full_syncs, ba.progress.full_syncs
        with Writer(a, "a") as first, Writer(b, "b") as second:
            wait_written(first, second, more=4000)
        settle(ab, ba, a, b)
        check(a, b, first, second)
        check_silence(a, b, ab, ba)
        assert (ab.progress.full_syncs, ba.progress.full_syncs) == syncs
        assert ab.progress.reconnects == ba.progress.reconnects == 0


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_full_phase_against_a_link_that_runs(
    side: Callable[[str, int], Side], one: str, other: str
) -> None:
    """What it copies does not come back: strings, what goes through, and what goes as commands; nor what it calls everywhere."""
    a, b = side(one, 0), side(other, 1)
    for number in range(2000):
        with holder(b, f"old:{number}").client() as client:
            client.set(f"old:{number}", number)
    with holder(b, "large").client() as client:
        client.set("large", Random(1).randbytes(3_000_000))
    with holder(b, "giant").client() as client:
        client.config_set("rdbcompression", "no")
        for start in range(0, 3000, 500):
            client.rpush("giant", *(f"{number:08000}" for number in range(start, start + 500)))
    for server in nodes(b):
        with server.client() as client:
            client.function_load("#!lua name=lib\nredis.register_function('f', function() return 1 end)")
    with RunningLink(node(a), node(b), name="ab") as ab:
        ab.wait_caught_up()
        before = ab.progress.commands
        with RunningLink(node(b), node(a), name="ba") as ba:
            ba.wait_caught_up()
            settle(ab, ba, a, b)
            assert ba.progress.keys_done == 2002
            assert ab.progress.commands - before < 50
            for server in nodes(a):
                assert "lib" in str(server.client().function_list())
            assert_equal(node(b), node(a))
            check_silence(a, b, ab, ba)


@pytest.mark.parametrize(("one", "other"), PAIRS[:2])
def test_what_concerns_a_whole_side(side: Callable[[str, int], Side], one: str, other: str) -> None:
    """FLUSHALL and libraries, from the server: on the cluster they are commands to each of its masters, and do not come back."""
    a, b = side(one, 0), side(other, 1)
    server, cluster = (a, b) if isinstance(a, Server) else (b, a)
    assert isinstance(server, Server)
    with both_ways(a, b) as (ab, ba), server.client() as client:
        client.mset({f"before:{number}": number for number in range(300)})
        settle(ab, ba, a, b)
        syncs = ab.progress.full_syncs, ba.progress.full_syncs
        client.flushall()
        client.mset({f"behind:{number}": number for number in range(300)})
        client.function_load("#!lua name=lib\nredis.register_function('f', function() return 1 end)")
        settle(ab, ba, a, b)
        for one_node in nodes(cluster):
            assert "lib" in str(one_node.client().function_list())
        assert not client.exists("before:1")
        assert_equal(node(a), node(b))
        check_silence(a, b, ab, ba)
        assert (ab.progress.full_syncs, ba.progress.full_syncs) == syncs


def test_a_link_that_is_killed_and_started_again(side: Callable[[str, int], Side], tmp_path: Path) -> None:
    a, b = side("cluster", 0), side("cluster", 1)
    command = ("run", node(b).url, node(a).url, "--link", "ba")
    with RunningLink(node(a), node(b), name="ab") as ab:
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
        with RunningLink(node(b), node(a), name="ba") as ba:
            settle(ab, ba, a, b)
            assert ba.progress.full_syncs == 0
            check(a, b, one, two)


def test_a_failover_of_a_master(shared: Shared) -> None:
    """Its stream has another name afterwards; what bears it is known all the same."""
    b = shared("redis-7.0", "target")
    with (
        Cluster("redis-7.0", replicas=1, config={"repl-backlog-size": "32mb"}) as a,
        both_ways(a, b) as (ab, ba),
    ):
        with Writer(a, "a") as one, Writer(b, "b") as two:
            wait_written(one, two)
        settle(ab, ba, a, b)
        replica = a.nodes[3]
        with replica.client() as client:
            client.execute_command("CLUSTER", "FAILOVER")
        wait_for(lambda: replica in a.holders(), 20)
        a.wait_well()
        with Writer(a, "a2") as three, Writer(b, "b2") as four:
            wait_written(three, four)
        settle(ab, ba, a, b)
        check(a, b, one, two, three, four)
        assert (ab.progress.full_syncs, ba.progress.full_syncs) == (3, 1)


def test_a_shard_that_is_copied_anew_does_not_clear_the_other_side(side: Callable[[str, int], Side]) -> None:
    """Its keys are removed from the target first; the opposite link, which has not been stopped, must not carry that back."""
    a, b = side("cluster", 0), side("server", 1)
    assert isinstance(a, Cluster)
    with both_ways(a, b) as (ab, ba):
        for number in range(300):
            a.set(f"key:{number}", number)
        settle(ab, ba, a, b)
        before = ba.progress.commands
        with node(a).client() as client:
            client.flushall()  # of one master
            client.set("{" + _tag_at(a, node(a)) + "}", "new")
        wait_for(lambda: ab.progress.full_syncs == 4, 30, ab.told)
        settle(ab, ba, a, b)
        assert ba.progress.commands - before < 20
        assert_equal(node(a), b)


def _tag_at(cluster: Cluster, server: Server) -> str:
    return next(str(number) for number in range(1000) if cluster.holder(slot_of(str(number))) is server)


def test_links_in_a_row_pass_everything_on(side: Callable[[str, int], Side], shared: Shared) -> None:
    a, b, c = side("server", 0), side("cluster", 0), shared("redis-7.0", "third")
    with RunningLink(node(a), node(b), name="ab") as ab, RunningLink(node(b), c, name="bc") as bc:
        ab.wait_caught_up()
        bc.wait_caught_up()
        with Writer(a, "a") as one, Writer(b, "b") as two:
            wait_written(one, two)
        settle(ab, bc, a, b)
        check(b, c, one, two)


# --- names --------------------------------------------------------------------------------------------------------------


def test_names_that_are_not_known_are_looked_for(side: Callable[[str, int], Side]) -> None:
    """The registration of the other link may stand in the stream of another master, and the target's masters may have changed."""
    a, b = side("server", 0), side("cluster", 1)
    assert isinstance(a, Server)
    assert isinstance(b, Cluster)
    with RunningLink(node(b), a, name="ba") as ba:
        ba.wait_caught_up()
        # The link to it stays, and A's stream has another name.
        a.client().execute_command("DEBUG", "CHANGE-REPL-ID")
        stream = a.info("replication")["master_replid"]
        for key, names in (("left:{out}", stream), ("passed:{on}", "0123456789abcdef")):
            tag = key[key.index("{") :]
            with b.holder(slot_of(key)).client() as client, client.pipeline(transaction=True) as pipe:
                pipe.set(f"switchyard:applied:ab:{tag}", f"17 {names}")
                pipe.incr(key)
                pipe.execute()
        b.set("behind", 1)
        ba.wait_offset(offsets(b))
        ba.wait_caught_up()
        assert a.client().mget("left:{out}", "passed:{on}", "behind") == [None, b"1", b"1"]
        assert ba.progress.reconnects == 0


def test_what_the_look_finds_counts_once() -> None:
    """A stranger is looked up at its first marker only; a name of an opposite link that stays unknown is waited for."""
    looks: list[int] = []

    def look() -> tuple[frozenset[bytes], list[Opposite]]:
        looks.append(1)
        return frozenset({b"mine"}), [Opposite(b"ab", frozenset({b"old"}), frozenset(), b"")]

    def marker(key: bytes, value: bytes) -> Entry:
        return Entry([b"SET", key, value], 0, 100, True)

    loop = Loop("ba", b"run", look=look)
    assert not loop.own(marker(b"switchyard:applied:xy:{1}", b"5 stranger"))
    assert not loop.own(marker(b"switchyard:applied:xy:{2}", b"9 stranger"))
    assert not loop.own(marker(b"switchyard:origin:xy", b"stranger"))
    assert len(looks) == 1
    assert loop.own(marker(b"switchyard:applied:ab:{1}", b"5 mine"))
    assert loop.own(marker(b"switchyard:applied:ab@5461:{1}", b"6 other old"))
    assert not loop.own(marker(b"switchyard:applied:ab:{1}", b"5")), "an earlier version names nothing"
    with pytest.raises(errors.LinkLoopWaiting):
        loop.own(marker(b"switchyard:applied:ab:{1}", b"7 unheard"))


def test_a_link_that_is_done_leaves_nothing(side: Callable[[str, int], Side]) -> None:
    a, b = side("cluster", 0), side("cluster", 1)
    assert isinstance(a, Cluster)
    for number in range(50):
        a.set(f"key:{number}", number)
    with RunningLink(node(b), node(a), name="ba") as ba:
        ba.wait_caught_up()
        run(node(a), node(b), name="once", phases=Phases.FULL)
        left = {bytes(key) for server in nodes(b) for key in server.client().keys("switchyard:*")}
        assert left == set()
        ba.wait_caught_up()
        assert ba.progress.commands == 0


def test_a_repaired_key_does_not_come_back(side: Callable[[str, int], Side]) -> None:
    a, b = side("cluster", 0), side("cluster", 1)
    assert isinstance(a, Cluster)
    assert isinstance(b, Cluster)
    with both_ways(a, b) as (ab, ba):
        for number in range(20):
            a.set(f"key:{number}", number)
        settle(ab, ba, a, b)
        ba.stop()
        b.set("key:1", "wrong")
        with RunningLink(node(b), node(a), name="other", phases=Phases.FULL_INCREMENTAL) as other:
            other.wait_caught_up()
            a.set("key:1", "right")
            b.set("key:1", "wrong")
            settle(ab, other, a, b)
            a.set("key:2", "right")
            settle(ab, other, a, b)
            with b.holder(slot_of("key:3")).client() as client, client.pipeline(transaction=True) as pipe:
                # Wrong without that the other link brings it to A.
                pipe.set("switchyard:origin:ab:{key:3}", node(a).info("replication")["master_replid"])
                pipe.set("key:3", "wrong")
                pipe.execute()
            settle(ab, other, a, b)
            before = other.progress.commands
            repairer = Repairer(endpoint(node(a)), endpoint(node(b)), "ab")
            try:
                assert repairer.repair(0, b"key:3").outcome is Repaired.WRITTEN
            finally:
                repairer.close()
            settle(ab, other, a, b)
            assert b.get("key:3") == b"3"
            assert other.progress.commands == before


# --- key scans ----------------------------------------------------------------------------------------------------------

SCAN = {"method": Method.SCAN, "notifications": Notifications.ENABLE}


@pytest.mark.parametrize("kind", ["server", "cluster"])
def test_a_key_scan_is_refused_beside_an_opposite_link(side: Callable[[str, int], Side], kind: str) -> None:
    """Whichever of them begins last, before its first write; one after the other is well."""
    a, b = side("server", 0), side(kind, 1)
    assert isinstance(a, Server)
    a.client().set("mine", 1)
    with RunningLink(node(b), a, name="ba") as ba:
        ba.wait_caught_up()
        with RunningLink(a, node(b), name="scan", **SCAN) as scan:
            error = scan.failure()
        assert isinstance(error, errors.UsageError)
        assert "link ba" in error.message or "link ba@" in error.message
        with holder(b, "mine").client() as client:
            assert not client.exists("mine")
        ba.stop()
    with RunningLink(a, node(b), name="scan", **SCAN) as scan:
        wait_for(lambda: scan.progress.caught_up, 30, scan.told)
        with holder(b, "yours").client() as client:
            client.set("yours", 1)
        with RunningLink(node(b), a, name="ba") as ba:
            error = ba.failure()
        assert isinstance(error, errors.UsageError)
        assert "link scan" in error.message
        assert not a.client().exists("yours")
        scan.stop()
    a.client().config_set("notify-keyspace-events", "")
    with RunningLink(node(b), a, name="ba") as ba:
        assert isinstance(ba.failure(), errors.LinkLoop), (
            "it would carry back what the scan has written since it stopped"
        )
    with RunningLink(node(b), a, name="ba", allow_full_resync=True) as ba:
        ba.wait_until(Phase.INCREMENTAL)
        wait_for(lambda: a.client().exists("yours"), 20, ba.told)


def test_a_killed_key_scan_does_not_stand_in_the_way(pair: tuple[Server, Server], tmp_path: Path) -> None:
    """It is registered still, and has no connection any more; and it cannot come back unnoticed."""
    a, b = pair
    a.client().config_set("notify-keyspace-events", "KEA")
    a.client().set("key", 1)
    command = ("run", a.url, b.url, "--link", "scan", "--method", "scan")
    with EngineProcess(tmp_path, *command) as engine:
        wait_for(lambda: b.client().exists("key"), 20, engine.said)
        engine.kill()
    a.client().config_set("notify-keyspace-events", "")
    assert b.client().hget(LINKS_KEY.decode(), "scan").endswith(b" scan")
    with RunningLink(b, a, name="ba") as ba:
        ba.wait_caught_up()
        with RunningLink(a, b, name="scan", allow_full_resync=True, **SCAN) as scan:
            assert isinstance(scan.failure(), errors.UsageError)
