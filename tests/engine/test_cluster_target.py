"""Links whose target is a cluster."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migrations_app.engine import errors
from migrations_app.engine.config import Phases
from migrations_app.engine.ports import Phase
from tests.engine.clusters import SlotWriter, same, settle
from tests.engine.conftest import Shared
from tests.engine.links import EngineProcess, RunningLink, endpoint, offset_of, run
from tests.support.cluster import Cluster, slot_of
from tests.support.servers import Server
from tests.support.wait import wait_for


@pytest.fixture(scope="module")
def _cluster() -> Iterator[Cluster]:
    with Cluster("redis-7.0") as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: Cluster) -> Cluster:
    """Three masters of Redis 7.0, empty."""
    return _cluster.empty()


@pytest.fixture
def source(shared: Shared) -> Server:
    return shared("redis-7.0", "source")


def fill(source: Server, keys: int = 2000) -> None:
    with source.client() as client:
        pipe = client.pipeline(transaction=False)
        for number in range(keys):
            pipe.set(f"s:{number}", f"value {number}")
            pipe.hset(f"h:{number}", mapping={str(field): field for field in range(5)})
            pipe.set(f"e:{number}", number, ex=300 + number)
        pipe.rpush("list", *range(2000))
        pipe.set("long", "x" * 3_000_000)
        pipe.execute()


# --- what arrives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"), [("redis-5.0", "redis-5.0"), ("redis-6.2", "redis-6.2"), ("redis-7.0", "valkey-9.1")]
)
def test_versions(shared: Shared, old: str, new: str) -> None:
    source = shared(old, "source")
    fill(source, 200)
    with Cluster(new) as cluster:
        with SlotWriter(source) as writer, RunningLink(source, cluster.nodes[1]) as link:
            link.wait_until(Phase.INCREMENTAL)
            writer.wait_for_more(1000)
            writer.stop()
            settle(link, source, cluster)
            link.stop()
        same(source, cluster)


def test_full_and_incremental_under_a_writer(source: Server, cluster: Cluster) -> None:
    fill(source)
    with SlotWriter(source) as writer, RunningLink(source, cluster.nodes[0]) as link:
        link.wait_until(Phase.INCREMENTAL)
        writer.wait_for_more(5000)
        writer.stop()
        settle(link, source, cluster)
        assert "cluster.transaction_split" in link.ports.events
        link.stop()
    same(source, cluster)


def test_the_full_phase_alone(source: Server, cluster: Cluster) -> None:
    fill(source, 200)
    result = run(source, cluster.nodes[2], phases=Phases.FULL, stop_when_caught_up=False)
    assert result.progress.keys_done == 602
    same(source, cluster)
    assert not any(node.client().keys("switchyard:*") for node in cluster.nodes)


def test_a_stopped_link_goes_on(source: Server, cluster: Cluster) -> None:
    fill(source, 100)
    with RunningLink(source, cluster.nodes[0]) as link:
        link.wait_caught_up()
        link.stop()
    with source.client() as client:
        client.incr("counter")
        client.mset({f"m:{number}": number for number in range(50)})
    result = run(source, cluster.nodes[1])
    assert result.progress.full_syncs == 0
    assert result.progress.partial_syncs == 1
    same(source, cluster)


def test_transactions_within_a_slot_and_over_several(source: Server, cluster: Cluster) -> None:
    with RunningLink(source, cluster.nodes[0]) as link, source.client() as client:
        link.wait_until(Phase.INCREMENTAL)
        pipe = client.pipeline(transaction=True)
        pipe.set("{a}1", 1).incr("{a}1").rename("{a}1", "{a}2")
        pipe.execute()
        link.wait_offset(offset_of(source))
        assert "cluster.transaction_split" not in link.ports.events
        pipe = client.pipeline(transaction=True)
        pipe.set("a", 1).set("b", 2).mset({"c": 3, "d": 4}).delete("a", "c")
        pipe.execute()
        client.msetnx({"n1": 1, "n2": 2, "n3": 3})
        settle(link, source, cluster)
        assert "cluster.transaction_split" in link.ports.events
        link.stop()
    same(source, cluster)


def test_what_concerns_all_masters(source: Server, cluster: Cluster) -> None:
    library = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
    with RunningLink(source, cluster.nodes[0]) as link, source.client() as client:
        link.wait_until(Phase.INCREMENTAL)
        pipe = client.pipeline(transaction=False)
        for number in range(300):
            pipe.set(f"before:{number}", 1)
        pipe.flushall()
        for number in range(300):
            pipe.rpush(f"behind:{number % 40}", number)
        pipe.function_load(library)
        pipe.execute()
        settle(link, source, cluster)
        same(source, cluster)
        for node in cluster.holders():
            assert "lib" in str(node.client().function_list())
        client.flushall()
        client.incr("counter")
        settle(link, source, cluster)
        link.stop()
    same(source, cluster)
    for node in cluster.nodes:
        node.client().function_flush()


def test_messages_are_published_once(source: Server, cluster: Cluster) -> None:
    with RunningLink(source, cluster.nodes[0]) as link, cluster.nodes[1].client() as listener:
        link.wait_until(Phase.INCREMENTAL)
        subscription = listener.pubsub(ignore_subscribe_messages=True)
        subscription.subscribe("news")
        subscription.get_message(timeout=5)
        with source.client() as client:
            for number in range(5):
                client.publish("news", number)
        settle(link, source, cluster)
        heard: list[bytes] = []
        wait_for(lambda: _hear(subscription, heard) and len(heard) >= 5, 10, lambda: f"{heard}")
        link.stop()
    assert heard == [b"0", b"1", b"2", b"3", b"4"]


def _hear(subscription: Any, heard: list[bytes]) -> bool:
    message = subscription.get_message(timeout=0.1)
    if message:
        heard.append(message["data"])
    return True


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (("RENAME", "a", "b"), "RENAME"),
        (("SUNIONSTORE", "d", "s1", "s2"), "SUNIONSTORE"),
        (("BITOP", "OR", "d", "a", "b"), "BITOP"),
        (("SMOVE", "s1", "s2", "m"), "SMOVE"),
        (("SORT", "s2", "STORE", "d"), "SORT"),
    ],
)
def test_a_command_over_several_slots_is_refused_by_name(
    source: Server, cluster: Cluster, command: tuple[str, ...], named: str
) -> None:
    with source.client() as client:
        client.set("a", 1)
        client.sadd("s1", "m", 1)
        client.sadd("s2", 2)
        with RunningLink(source, cluster.nodes[0]) as link:
            link.wait_until(Phase.INCREMENTAL)
            client.execute_command(*command)
            client.set("behind", 1)
            error = link.failure()
    assert isinstance(error, errors.UnsupportedData)
    assert named in error.message
    assert repr(command[1].encode()) in error.message or "'d'" in error.message
    assert cluster.get("behind") is None


def test_keys_in_other_databases_are_refused_before_the_first_write(source: Server, cluster: Cluster) -> None:
    with source.client() as client, source.client(db=3) as other:
        client.set("a", 1)
        other.set("b", 1)
    with RunningLink(source, cluster.nodes[0]) as link:
        error = link.failure()
    assert isinstance(error, errors.UsageError)
    assert "database 3" in error.message
    assert cluster.get("a") is None
    run(source, cluster.nodes[0], databases=frozenset({0}))
    assert cluster.get("a") == b"1"


def test_a_later_write_to_another_database_stops_the_link(source: Server, cluster: Cluster) -> None:
    with RunningLink(source, cluster.nodes[0]) as link, source.client(db=2) as other:
        link.wait_until(Phase.INCREMENTAL)
        other.set("b", 1)
        error = link.failure()
    assert isinstance(error, errors.UnsupportedData)
    assert "SET of key b'b' in database 2" in error.message


# --- interruptions ------------------------------------------------------------------------------------------------


def test_killed_again_and_again(source: Server, cluster: Cluster, tmp_path: Path) -> None:
    fill(source, 200)
    arguments = ["run", source.url, cluster.nodes[0].url, "--link", "kills", "--json"]
    with SlotWriter(source) as writer:
        for number in range(8):
            with EngineProcess(tmp_path, *arguments, name=f"engine{number}") as engine:
                engine.wait_for_words("goes on by partial" if number else "full synchronization done")
                writer.wait_for_more(500 + 700 * (number % 3))
                engine.kill()
        writer.stop()
    with EngineProcess(tmp_path, *arguments, "--stop-when-caught-up", name="last") as engine:
        assert engine.wait() == 0, engine.said()
        assert engine.result()["full_syncs"] == 0
    same(source, cluster)


def test_killed_in_the_full_phase(source: Server, cluster: Cluster, tmp_path: Path) -> None:
    fill(source, 3000)
    with source.client() as client:
        client.config_set("rdb-key-save-delay", 100)  # microseconds
    arguments = ["run", source.url, cluster.nodes[0].url, "--link", "kills"]
    try:
        with EngineProcess(tmp_path, *arguments, name="first") as engine:
            wait_for(lambda: cluster.keys() > 500, 30, engine.said)
            engine.kill()
        with source.client() as client:
            client.config_set("rdb-key-save-delay", 0)
            client.delete(*(f"s:{number}" for number in range(1000)))
            client.delete("list")
        with EngineProcess(tmp_path, *arguments, "--stop-when-caught-up", name="second") as engine:
            assert engine.wait() == 0, engine.said()
            assert "what the last attempt had written is cleared" in engine.said()
    finally:
        with source.client() as client:
            client.config_set("rdb-key-save-delay", 0)
    same(source, cluster)


def test_slots_move_while_the_link_writes(source: Server, cluster: Cluster) -> None:
    fill(source, 100)
    with SlotWriter(source) as writer, RunningLink(source, cluster.nodes[0]) as link:
        link.wait_until(Phase.INCREMENTAL)
        slots = sorted({slot_of(f"{kind}:{number}") for kind in ("counter", "list") for number in range(20)})
        homes = {slot: cluster.holder(slot) for slot in slots}
        for turn in range(2):
            for slot, home in homes.items():
                others = [node for node in cluster.nodes if node is not home]
                cluster.move([slot], others[slot % 2] if not turn else home)
        writer.wait_for_more(1000)
        writer.stop()
        settle(link, source, cluster)
        assert link.progress.reconnects == 0, link.told()
        assert "cluster.slots_moved" in link.ports.events
        link.stop()
    same(source, cluster)


def test_a_slot_that_stays_open_is_waited_for(source: Server, cluster: Cluster) -> None:
    slot = slot_of("{moving}")
    home = cluster.holder(slot)
    to = next(node for node in cluster.nodes if node is not home)
    with RunningLink(source, cluster.nodes[0]) as link, source.client() as client:
        link.wait_until(Phase.INCREMENTAL)
        client.set("{moving}there", 1)
        client.set("elsewhere", 1)
        settle(link, source, cluster)
        cluster.open_move(slot, to)
        client.set(
            "{moving}new", 1
        )  # asked for at the other node, where nothing must be written before the slot is there
        client.set("elsewhere", 2)
        wait_for(lambda: "cluster.slot_waits" in link.ports.events, 20, link.told)
        with to.client() as node:
            assert node.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) == 0
        cluster.move_keys(slot, home, to)
        cluster.close_move(slot, home, to)
        settle(link, source, cluster)
        link.stop()
    same(source, cluster)
    cluster.move([slot], home)


def test_slots_move_in_the_full_phase(source: Server, cluster: Cluster) -> None:
    fill(source, 4000)
    slots = [slot_of(f"s:{number}") for number in range(0, 4000, 40)]
    homes = {slot: cluster.holder(slot) for slot in slots}
    with source.client() as client:
        client.config_set("rdb-key-save-delay", 100)
    try:
        with RunningLink(source, cluster.nodes[0]) as link:
            wait_for(lambda: link.progress.keys_done > 100, 30, link.told)
            for slot, home in homes.items():
                cluster.move([slot], next(node for node in cluster.nodes if node is not home))
            link.wait_until(Phase.INCREMENTAL, 60)
            assert link.progress.full_syncs == 1, link.told()
            settle(link, source, cluster)
            link.stop()
    finally:
        with source.client() as client:
            client.config_set("rdb-key-save-delay", 0)
    same(source, cluster)
    for slot, home in homes.items():
        cluster.move([slot], home)


def test_a_slot_whose_mark_is_gone_is_noticed(source: Server, cluster: Cluster) -> None:
    with source.client() as client:
        with RunningLink(source, cluster.nodes[0]) as link:
            link.wait_until(Phase.INCREMENTAL)
            for number in range(200):
                client.set(f"key:{number}", number)
            settle(link, source, cluster)
            link.stop()
        keeper = cluster.holder(slot_of("switchyard:checkpoint:test"))
        for node in cluster.holders():  # as after a failover to a replica that knew nothing
            if node is not keeper:
                node.client().flushall()
        client.set("more", 1)
    with RunningLink(source, cluster.nodes[0]) as link:
        error = link.failure()
    assert isinstance(error, errors.TargetDiverged)
    assert "has lost changes that were confirmed" in error.message
    result = run(source, cluster.nodes[0], allow_full_resync=True)
    assert result.progress.full_syncs == 1
    same(source, cluster)


def test_an_older_owner_cannot_write_any_more(source: Server, cluster: Cluster, tmp_path: Path) -> None:
    arguments = ["run", source.url, cluster.nodes[0].url, "--link", "owners"]
    with SlotWriter(source, pause=0.02) as writer, EngineProcess(tmp_path, *arguments, name="old") as old:
        old.wait_for_words("has caught up")
        old.signal(signal.SIGSTOP)
        writer.wait_for_more(200)
        with RunningLink(endpoint(source), cluster.nodes[1], name="owners") as link:
            link.wait_until(Phase.INCREMENTAL)
            old.signal(signal.SIGCONT)
            writer.wait_for_more(1000)
            writer.stop()
            settle(link, source, cluster)
            link.stop()
        old.close()
    same(source, cluster)
