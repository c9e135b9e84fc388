"""Links whose target is a cluster, while its masters fail over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from migrations_app.engine import errors
from migrations_app.engine.ports import Phase
from tests.engine.clusters import SlotWriter, same, settle
from tests.engine.conftest import Shared
from tests.engine.links import EngineProcess, RunningLink, run
from tests.support.cluster import Cluster, slot_of
from tests.support.servers import Server
from tests.support.wait import wait_for


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Three masters of Redis 7.0 with a replica each."""
    with Cluster("redis-7.0", replicas=1, node_timeout_ms=1000) as cluster:
        yield cluster


@pytest.fixture
def source(shared: Shared) -> Server:
    return shared("redis-7.0", "source")


def fill(source: Server) -> None:
    with source.client() as client:
        client.mset({f"s:{number}": f"value {number}" for number in range(2000)})


def kill(cluster: Cluster, master: Server) -> None:
    """A master is gone, and its replica has taken over."""
    master.kill()
    wait_for(
        lambda: (
            len(cluster.holders()) == cluster.masters
            and cluster.state(cluster.running[0])["cluster_state"] == "ok"
        ),
        40,
        "nobody takes over",
    )
    cluster.wait_well()


def test_masters_die_while_the_link_writes(source: Server, cluster: Cluster) -> None:
    fill(source)
    with SlotWriter(source, pause=0.002) as writer, RunningLink(source, cluster.nodes[0]) as link:
        link.wait_until(Phase.INCREMENTAL)
        writer.wait_for_more(1000)
        kill(cluster, cluster.nodes[0])  # also the address that the link was given
        writer.wait_for_more(2000)
        cluster.nodes[0].start()
        cluster.wait_well()
        kill(cluster, cluster.holder(slot_of("switchyard:checkpoint:test")))
        writer.wait_for_more(1000)
        writer.stop()
        settle(link, source, cluster)
        assert link.progress.reconnects > 0
        assert link.progress.full_syncs == 1, link.told()
        link.stop()
    same(source, cluster)


def test_engine_and_master_die_together(source: Server, cluster: Cluster, tmp_path: Path) -> None:
    fill(source)
    with SlotWriter(source, pause=0.002) as writer:
        with EngineProcess(tmp_path, "run", source.url, cluster.nodes[1].url, name="first") as engine:
            engine.wait_for_words("full synchronization done")
            writer.wait_for_more(1000)
            cluster.nodes[0].kill()
            engine.kill()
        wait_for(lambda: len(cluster.holders()) == 3, 40, "nobody takes over")
        cluster.wait_well()
        with EngineProcess(tmp_path, "run", source.url, cluster.nodes[1].url, name="second") as engine:
            engine.wait_for_words("goes on by partial")
            writer.wait_for_more(1000)
            writer.stop()
        last = ("run", source.url, cluster.nodes[1].url, "--stop-when-caught-up", "--json")
        with EngineProcess(tmp_path, *last, name="last") as engine:
            assert engine.wait() == 0, engine.said()
            assert engine.result()["full_syncs"] == 0
    same(source, cluster)


def test_a_failover_by_hand(source: Server, cluster: Cluster) -> None:
    fill(source)
    with SlotWriter(source, pause=0.002) as writer, RunningLink(source, cluster.nodes[0]) as link:
        link.wait_until(Phase.INCREMENTAL)
        writer.wait_for_more(1000)
        for replica in cluster.nodes[3:]:
            with replica.client() as client:
                client.execute_command("CLUSTER", "FAILOVER")
            wait_for(lambda replica=replica: replica in cluster.holders(), 20)  # type: ignore[misc]
            cluster.wait_well()
            writer.wait_for_more(500)
        writer.stop()
        settle(link, source, cluster)
        assert link.progress.full_syncs == 1, link.told()
        link.stop()
    same(source, cluster)


def test_a_master_dies_in_the_full_phase(source: Server, cluster: Cluster) -> None:
    fill(source)
    with source.client() as client:
        client.config_set("rdb-key-save-delay", 3000)  # microseconds: six seconds for all
    try:
        with RunningLink(source, cluster.nodes[1]) as link:
            wait_for(lambda: cluster.keys() > 100, 30, link.told)
            with source.client() as client:
                client.config_set("rdb-key-save-delay", 0)  # of the next snapshot
            assert link.progress.phase is Phase.FULL
            kill(cluster, cluster.nodes[0])
            link.wait_caught_up()
            assert link.progress.full_syncs > 1
            link.stop()
    finally:
        with source.client() as client:
            client.config_set("rdb-key-save-delay", 0)
    same(source, cluster)


def test_replicas_that_do_not_confirm_hold_the_position(source: Server, cluster: Cluster) -> None:
    with RunningLink(source, cluster.nodes[0]) as link, source.client() as client:
        link.wait_until(Phase.INCREMENTAL)
        client.set("a", 1)
        settle(link, source, cluster)
        master = cluster.holder(slot_of("a"))
        replica = next(
            node
            for node in cluster.nodes
            if node is not master and int(node.info("replication").get("master_port", 0)) == master.port
        )
        replica.pause()
        try:
            for number in range(5):
                client.set("a", number)
            wait_for(lambda: "cluster.replicas_behind" in link.ports.events, 20, link.told)
            wait_for(lambda: cluster.execute("a", "GET", "a") == b"4", 20, link.told)  # the link goes on
            stored = _stored(cluster)
        finally:
            replica.resume()
        wait_for(lambda: _stored(cluster) > stored, 40, link.told)
        link.stop()


def _stored(cluster: Cluster) -> int:
    return int(cluster.execute("switchyard:checkpoint:test", "HGET", "switchyard:checkpoint:test", "offset"))


def test_a_master_that_comes_back_empty_is_noticed(source: Server) -> None:
    with Cluster("redis-7.0") as cluster, source.client() as client:
        keeper = cluster.holder(slot_of("switchyard:checkpoint:test"))
        lost = next(node for node in cluster.nodes if node is not keeper)
        with RunningLink(source, keeper) as link:
            link.wait_until(Phase.INCREMENTAL)
            for number in range(200):
                client.set(f"key:{number}", number)
            settle(link, source, cluster)
            lost.restart(kill=True)  # without persistence
            cluster.wait_well()
            client.set("more", 1)
            error = link.failure()
        assert isinstance(error, errors.TargetDiverged)
        assert "has lost changes that were confirmed" in error.message
        result = run(source, keeper, allow_full_resync=True)
        assert result.progress.full_syncs == 1
        same(source, cluster)
