"""A cluster as the source: one link for each master, one engine, and what is to be seen of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from migrations_app.engine.config import Method, Notifications, Phases
from migrations_app.engine.errors import UsageError
from migrations_app.engine.ports import Phase
from migrations_app.engine.verify import verify
from migrations_app.engine.verify.report import as_text
from tests.support.cluster import Cluster, slot_of
from tests.support.cluster_writer import ClusterWriter, audit, contents
from tests.support.proxy import Way
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import EngineProcess, RunningLink, endpoint, run
from .test_faults import Slow

BACKLOG = {"repl-backlog-size": "32mb"}


@pytest.fixture(scope="module")
def _clusters() -> Iterator[dict[str, Cluster]]:
    made: dict[str, Cluster] = {}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture
def cluster(_clusters: dict[str, Cluster]) -> Cluster:
    """Three masters of 7.0, empty; for tests that leave the nodes and the slots as they are."""
    if "7.0" not in _clusters:
        _clusters["7.0"] = Cluster("redis-7.0", config=BACKLOG).start()
    return _clusters["7.0"].empty()


@pytest.fixture
def own_cluster() -> Iterator[Callable[..., Cluster]]:
    made: list[Cluster] = []

    def make(version: str = "redis-7.0", **options: Any) -> Cluster:
        made.append(Cluster(version, config=BACKLOG, **options))
        return made[-1].start()

    yield make
    for one in made:
        one.close()


def holding(cluster: Cluster) -> dict[bytes, tuple[Any, int]]:
    """Every key of the cluster; that none is on two masters is checked."""
    found: dict[bytes, tuple[Any, int]] = {}
    for node in cluster.holders():
        part = contents(node.client())
        assert not set(part) & set(found)
        found |= part
    return found


def difference(source: dict[Any, Any], target: dict[Any, Any]) -> list[Any]:
    return [key for key in {**source, **target} if source.get(key) != target.get(key)]


def assert_same(cluster: Cluster, target: Server) -> None:
    assert difference(holding(cluster), contents(target.client())) == []


def assert_verified(cluster: Cluster, target: Server) -> None:
    """The product's own comparison says so, too."""
    compared = verify(endpoint(cluster.nodes[0]), endpoint(target))
    assert compared.complete
    assert compared.keys > 0
    assert compared.differences == 0, as_text(compared)


def settle(link: RunningLink, cluster: Cluster, target: Server) -> None:
    """Until the target holds what the cluster holds; nobody writes."""
    link.wait_until(Phase.INCREMENTAL)
    link.wait_caught_up()
    wait_for(lambda: not target.client().keys("switchyard:deferred:*"), 30, link.told)
    wait_for(lambda: not difference(holding(cluster), contents(target.client())), 30, link.told, interval=0.3)


def fill(cluster: Cluster, count: int = 3000, size: int = 0) -> None:
    pipes = {node.port: node.client().pipeline(transaction=False) for node in cluster.holders()}
    ports = {
        slot: port for first, last, port in cluster._map(cluster.nodes[0]) for slot in range(first, last + 1)
    }
    for number in range(count):
        pipe = pipes[ports[slot_of(f"key:{number}")]]
        # What can be compressed would come in one block.
        pipe.set(f"key:{number}", f"{number}" + random.Random(number).randbytes(size).hex()[:size])
        if number % 5 == 0:
            pipe.hset(f"hash:{{key:{number}}}", mapping={f"f{n}": n for n in range(20)})
    for pipe in pipes.values():
        pipe.execute()


def checkpoint(target: Server, name: str) -> dict[str, str]:
    fields = target.client().hgetall(f"switchyard:checkpoint:{name}")
    return {key.decode(): value.decode() for key, value in fields.items()}


@pytest.mark.parametrize("version", ["redis-7.0", "valkey-9.1"])
def test_all_masters_under_load(
    own_cluster: Callable[..., Cluster], redis_server: Callable[..., Server], version: str
) -> None:
    """Any node's address is enough; every write of every master arrives once and in order."""
    cluster, target = own_cluster(version), redis_server(version)
    fill(cluster)
    with ClusterWriter(cluster) as writer, RunningLink(cluster.nodes[1], target) as link:
        link.wait_caught_up()
        rounds = writer.rounds
        wait_for(lambda: writer.rounds > rounds + 300, 30)
        expected = writer.stop()
        settle(link, cluster, target)
        # The masters send a PING a second: there are moments at which one is on its way.
        progress = wait_for(lambda: link.progress.lag_bytes == 0 and link.progress, 20, link.told)
        assert progress.full_syncs == 3
        assert progress.keys_done >= 3000
        assert progress.caught_up
        assert (progress.applied_offset or 0) > 0
        assert link.stop().progress.phase is Phase.DONE
    assert audit(lambda _: target.client(), expected) == []
    assert_verified(cluster, target)
    names = sorted(target.client().keys("switchyard:checkpoint:*"))
    assert names == [b"switchyard:checkpoint:test" + end for end in (b"", b"@0", b"@10922", b"@5461")]
    # A new start goes on where each of the links stood.
    with ClusterWriter(cluster) as writer, RunningLink(cluster.nodes[2], target) as link:
        link.wait_caught_up()
        writer.stop()
        settle(link, cluster, target)
        assert link.progress.partial_syncs == 3
        assert link.progress.full_syncs == 0


def test_the_engine_is_killed_and_goes_on(
    cluster: Cluster, redis_server: Callable[..., Server], tmp_path: Path
) -> None:
    """Twice, with SIGKILL: each shard goes on at exactly the next write."""
    target = redis_server("redis-7.0")
    fill(cluster)
    words = ("run", cluster.url, target.url, "--link", "test")
    with ClusterWriter(cluster) as writer:
        for number in range(2):
            with EngineProcess(tmp_path, *words, name=f"engine{number}") as engine:
                engine.wait_for_words("caught up with the source")
                rounds = writer.rounds
                wait_for(lambda: writer.rounds > rounds + 100, 30)  # noqa: B023
                engine.kill()
        expected = writer.stop()
    with EngineProcess(tmp_path, *words, "--stop-when-caught-up", "--json", name="last") as engine:
        assert engine.wait() == 0, engine.said()
        result = engine.result()
    assert result["outcome"] == "completed"
    assert (result["full_syncs"], result["partial_syncs"]) == (0, 3)
    assert_same(cluster, target)
    assert audit(lambda _: target.client(), expected) == []


def test_copied_once(cluster: Cluster, redis_server: Callable[..., Server]) -> None:
    """The full phase alone leaves nothing of the product behind; with a limit of speed each link has its share."""
    target = redis_server("redis-7.0")
    fill(cluster)
    result = run(cluster.nodes[0], target, phases=Phases.FULL)
    assert result.progress.keys_done == result.progress.keys_total == 3600
    assert_same(cluster, target)
    assert target.client().keys("switchyard:*") == []


def test_a_master_fails_over(
    own_cluster: Callable[..., Cluster], redis_server: Callable[..., Server]
) -> None:
    """Its replica has the same stream: the link of the shard goes on there, and those of the other shards do not notice."""
    cluster, target = own_cluster(replicas=1), redis_server("redis-7.0")
    fill(cluster)
    with RunningLink(cluster.nodes[0], target, timeout=5.0) as link:
        link.wait_caught_up()
        with ClusterWriter(cluster) as writer:
            wait_for(lambda: writer.rounds > 100, 30)
            before = writer.stop()
        settle(link, cluster, target)
        old = cluster.holder(0)
        replica = next(node for node in cluster.nodes if cluster_follows(node, old))
        with replica.client() as client:
            client.execute_command("CLUSTER", "FAILOVER")  # both agree where the stream ends
        wait_for(lambda: replica.info("replication")["role"] == "master", 20)
        cluster.wait_well()
        assert cluster.holder(0) is replica
        wait_for(lambda: link.progress.partial_syncs >= 1, 40, link.told)
        with ClusterWriter(cluster) as writer:
            wait_for(lambda: writer.rounds > 200, 30)
            expected = writer.stop()
        settle(link, cluster, target)
        assert link.progress.full_syncs == 3
        link.stop()
    assert sum(expected.values()) > 0
    assert before.keys() == expected.keys()
    assert_same(cluster, target)


def cluster_follows(node: Server, master: Server) -> bool:
    replication = node.info("replication")
    return replication["role"] == "slave" and int(replication["master_port"]) == master.port


def test_a_master_dies_under_load(
    own_cluster: Callable[..., Cluster], redis_server: Callable[..., Server]
) -> None:
    """What its replica had not received is lost on the source; a shard that was ahead of it is copied anew, it alone."""
    cluster, target = own_cluster(replicas=1), redis_server("redis-7.0")
    with (
        ClusterWriter(cluster) as writer,
        RunningLink(cluster.nodes[0], target, timeout=5.0, allow_full_resync=True) as link,
    ):
        link.wait_caught_up()
        old = cluster.holder(0)
        old.kill()
        cluster.nodes.remove(old)
        cluster.nodes.append(old)
        cluster.wait_well()
        rounds = writer.rounds
        wait_for(lambda: writer.rounds > rounds + 200, 40)
        expected = writer.stop()
        settle(link, cluster, target)
        assert link.progress.full_syncs <= 4
        link.stop()
    assert audit(lambda _: target.client(), expected) == []


def test_a_flush_of_one_master(cluster: Cluster, redis_server: Callable[..., Server]) -> None:
    """It empties the slots of this master, on the target too, and no others."""
    target = redis_server("redis-7.0")
    fill(cluster)
    with RunningLink(cluster.nodes[0], target) as link:
        settle(link, cluster, target)
        for command in ("FLUSHALL", "FLUSHDB"):
            one = cluster.holder(0)
            with one.client() as client:
                client.execute_command(command)
                client.set("{3560}later", command)  # slot 0 is its own
            settle(link, cluster, target)
            assert contents(target.client())
            fill(cluster, 500)
        settle(link, cluster, target)
        assert link.stop().progress.full_syncs == 5
    assert_same(cluster, target)


def test_a_shard_that_cannot_go_on_is_copied_again_alone(
    cluster: Cluster, redis_server: Callable[..., Server]
) -> None:
    """Its history is a new one: what it had written goes from the target, not what the others have written."""
    target = redis_server("redis-7.0")
    fill(cluster)
    with RunningLink(cluster.nodes[0], target) as link:
        settle(link, cluster, target)
        link.stop()
    target.client().hset("switchyard:checkpoint:test@5461", "replid", "f" * 40)
    gone = next(key for key in contents(cluster.holder(5461).client()))
    with cluster.holder(5461).client() as client:
        client.delete(gone)
    with RunningLink(cluster.nodes[0], target) as link:
        error = link.failure()
    assert error.id == "source.full_resync_needed"
    assert "slots 5461-10921" in error.message
    assert target.client().exists(gone)
    with RunningLink(cluster.nodes[0], target, allow_full_resync=True) as link:
        settle(link, cluster, target)
        assert (link.progress.full_syncs, link.progress.partial_syncs) == (1, 2)
        assert "full.cleared" in link.ports.events
        link.stop()
    assert_same(cluster, target)


def test_slots_that_move_stop_all_links(
    own_cluster: Callable[..., Cluster], redis_server: Callable[..., Server]
) -> None:
    """While they run, and while they do not; the error says from where to where, and only a full synchronization goes on."""
    cluster, target = own_cluster(), redis_server("redis-7.0")
    fill(cluster)
    with RunningLink(cluster.nodes[0], target) as link:
        settle(link, cluster, target)
        cluster.move(range(100, 103), cluster.holder(16383))
        error = link.failure()
    assert error.id == "source.slots_moved"
    assert not error.retryable
    assert "allow-full-resync" in error.advice
    # A later run does not go on, and says what has moved.
    with RunningLink(cluster.nodes[0], target) as link:
        error = link.failure()
    assert error.id == "source.slots_moved"
    with RunningLink(cluster.nodes[0], target, allow_full_resync=True) as link:
        settle(link, cluster, target)
        assert link.stop().progress.full_syncs == 3
    assert_same(cluster, target)
    assert "fault" not in checkpoint(target, "test") or not checkpoint(target, "test")["fault"]

    # While nobody looked: slot 0 is the first of its shard, so the name of a shard changes, too.
    cluster.move([0, 1], cluster.holder(16383))
    with RunningLink(cluster.nodes[0], target) as link:
        error = link.failure()
    assert error.id == "source.slots_moved"
    assert "slots 0-1 from the shard of 0-99,103-5460" in error.message
    assert f":{cluster.holder(0).port}" in error.message
    with RunningLink(cluster.nodes[0], target, allow_full_resync=True) as link:
        settle(link, cluster, target)
        link.stop()
    assert_same(cluster, target)
    names = sorted(key.decode().rpartition(":")[2] for key in target.client().keys("switchyard:checkpoint:*"))
    assert names == ["test", "test@0", "test@2", "test@5461"]


@pytest.mark.parametrize("version", ["valkey-9.1", "redis-8.6"])
def test_slots_that_move_at_once_stop_all_links(
    own_cluster: Callable[..., Cluster], redis_server: Callable[..., Server], version: str
) -> None:
    """The atomic migrations of the newest servers show in the stream of the new master, before anything of it is applied.

    The old master's DELs may be applied until its link is told (docs/architecture.md, *Slots that move*): keys of these slots may be
    missing, no other may differ.
    """
    cluster, target = own_cluster(version), redis_server(version)
    fill(cluster)
    old, new = cluster.holder(0), cluster.holder(16383)
    with RunningLink(cluster.nodes[1], target) as link:
        settle(link, cluster, target)
        before = contents(target.client())
        with (old if version.startswith("valkey") else new).client() as client:
            if version.startswith("valkey"):
                client.execute_command(
                    "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", 0, 500, "NODE", cluster.node_id(new)
                )
            else:
                client.execute_command("CLUSTER", "MIGRATION", "IMPORT", 0, 500)
        error = link.failure()
    assert error.id == "source.slots_moved"
    after = contents(target.client())
    for key in difference(before, after):
        assert key not in after
        assert slot_of(key) <= 500
    wait_for(lambda: cluster.holder(0) is new, 20)
    cluster.wait_well()
    with RunningLink(cluster.nodes[1], target, allow_full_resync=True) as link:
        settle(link, cluster, target)
        link.stop()
    assert_same(cluster, target)


def test_slots_that_move_under_load(
    own_cluster: Callable[..., Cluster], redis_server: Callable[..., Server]
) -> None:
    """Slot after slot, with their keys, while they are written: stopped, and right after the full synchronization."""
    cluster, target = own_cluster(), redis_server("redis-7.0")
    fill(cluster)
    with ClusterWriter(cluster) as writer:
        with RunningLink(cluster.nodes[0], target) as link:
            link.wait_caught_up()
            cluster.move(
                [slot_of(str(number)) for number in range(60) if slot_of(str(number)) < 5461],
                cluster.holder(16383),
            )
            assert link.failure().id == "source.slots_moved"
        with RunningLink(cluster.nodes[0], target, allow_full_resync=True) as link:
            link.wait_caught_up()
            rounds = writer.rounds
            wait_for(lambda: writer.rounds > rounds + 100, 30)
            expected = writer.stop()
            settle(link, cluster, target)
            link.stop()
    assert audit(lambda _: target.client(), expected) == []
    assert_same(cluster, target)


def test_a_cluster_that_is_not_whole_is_refused(
    own_cluster: Callable[..., Cluster], redis_server: Callable[..., Server]
) -> None:
    cluster, target = own_cluster(), redis_server("redis-7.0")
    source = cluster.open_move(7, cluster.holder(16383))
    with RunningLink(cluster.nodes[0], target) as link:
        error = link.failure()
    assert error.id == "source.slots_moved"
    assert "slot 7" in error.message
    for node in cluster.nodes:
        with node.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", 7, "STABLE")
    for node in cluster.nodes:
        with node.client() as client:
            client.execute_command("CLUSTER", "DELSLOTS", 7)
    assert source.running
    with RunningLink(cluster.nodes[0], target) as link:
        error = link.failure()
    assert error.id == "source.cluster_incomplete"
    assert "slots 7 " in error.message
    assert [key for key in target.client().keys("*") if not key.startswith(b"switchyard:")] == []


def test_a_patient_start_waits_for_the_cluster(
    own_cluster: Callable[..., Cluster], redis_server: Callable[..., Server]
) -> None:
    """A worker that takes a link over while a master is away goes on when it is back; without that it says what is wrong."""
    cluster, target = own_cluster(node_timeout_ms=1000), redis_server("redis-7.0")
    fill(cluster, 300)
    away = cluster.holder(16383)
    away.client().save()
    away.kill()
    wait_for(lambda: cluster.state(cluster.nodes[0])["cluster_state"] == "fail", 20)
    with RunningLink(cluster.nodes[0], target) as link:
        assert link.failure().id == "source.cluster_incomplete"
    with RunningLink(cluster.nodes[0], target, patient_start=True) as link:
        wait_for(lambda: "source.cluster_incomplete" in link.ports.events, 20, link.told)
        link.stop()
    with RunningLink(cluster.nodes[0], target, patient_start=True) as link:
        wait_for(lambda: "source.cluster_incomplete" in link.ports.events, 20, link.told)
        away.start()
        settle(link, cluster, target)
        link.stop()
    assert_same(cluster, target)


def test_a_name_is_of_a_cluster_or_of_a_server(cluster: Cluster, redis_server: Callable[..., Server]) -> None:
    server, target = redis_server("redis-7.0"), redis_server("redis-7.0")
    fill(cluster, 50)
    run(cluster.nodes[0], target)
    with RunningLink(server, target) as link:
        error = link.failure()
    assert "another name" in error.advice
    run(server, target, name="other")
    with RunningLink(cluster.nodes[0], target, name="other") as link:
        error = link.failure()
    assert "another name" in error.advice
    with RunningLink(cluster.nodes[0], target, name="third", databases=frozenset({1})) as link:
        error = link.failure()
    assert "database 0 only" in error.message
    assert_same(cluster, target)


@pytest.mark.parametrize("phases", list(Phases))
def test_a_key_scan_of_a_cluster_is_refused_by_name(
    cluster: Cluster, redis_server: Callable[..., Server], phases: Phases
) -> None:
    """Each node would give its part of the keys only. Nothing is copied, and the cluster is not told to notify."""
    target = redis_server("redis-7.0")
    fill(cluster, 50)
    options = {"method": Method.SCAN, "phases": phases, "notifications": Notifications.ENABLE}
    with RunningLink(cluster.nodes[0], target, **options) as link:
        error = link.failure()
    assert isinstance(error, UsageError)
    assert "the source is a cluster" in error.message and "nothing was copied" in error.message
    assert "--method scan" in error.advice
    # Whose link it is was written down before anybody had looked at the source.
    assert target.client().keys() == [b"switchyard:checkpoint:test"]
    for node in cluster.nodes:
        assert node.client().config_get("notify-keyspace-events") == {"notify-keyspace-events": ""}


def test_a_second_owner_takes_all_shards(cluster: Cluster, redis_server: Callable[..., Server]) -> None:
    """The first one ends as fenced, whichever of its links notices."""
    target = redis_server("redis-7.0")
    fill(cluster, 300)
    with RunningLink(cluster.nodes[0], target) as first:
        first.wait_caught_up()
        with RunningLink(cluster.nodes[0], target) as second:
            assert first.failure().id == "link.fenced"
            with ClusterWriter(cluster) as writer:
                wait_for(lambda: writer.rounds > 100, 30)
                expected = writer.stop()
            settle(second, cluster, target)
            second.stop()
    assert audit(lambda _: target.client(), expected) == []


def test_a_failover_while_the_snapshot_comes(
    own_cluster: Callable[..., Cluster], redis_server: Callable[..., Server], fault_proxy: Callable[..., Any]
) -> None:
    """On to a target that is slow: from the new master, or from what the old one had sent; what was deleted meanwhile is gone."""
    cluster, target = own_cluster(replicas=1), redis_server("redis-7.0")
    fill(cluster, 6000, size=600)
    proxy = fault_proxy(target)
    slow = Slow(100_000, Way.UP)  # for each of the links: more than ten seconds
    proxy.hook = slow
    with RunningLink(cluster.nodes[0], proxy, timeout=5.0) as link:
        wait_for(lambda: link.progress.keys_done > 100, 30, link.told)
        assert link.progress.phase is Phase.FULL
        old = cluster.holder(0)
        gone = next(iter(contents(old.client())))
        with old.client() as client:
            client.delete(gone)
        replica = next(node for node in cluster.nodes if cluster_follows(node, old))
        with replica.client() as client:
            client.execute_command("CLUSTER", "FAILOVER")
        cluster.wait_well()
        wait_for(lambda: cluster.holder(0) is replica, 20)
        slow.quick.set()
        settle(link, cluster, target)
        link.stop()
    assert not target.client().exists(gone)
    assert_same(cluster, target)


def test_functions_come_once(
    own_cluster: Callable[..., Cluster], redis_server: Callable[..., Server]
) -> None:
    """Each master has them; the target has one set, and what loads, replaces or deletes them applies once."""
    cluster, target = own_cluster(), redis_server("redis-7.0")

    def everywhere(*words: str) -> None:
        for node in cluster.nodes:
            with node.client() as client:
                client.execute_command(*words)

    code = "#!lua name=%s\nredis.register_function('%s', function() return %d end)"
    everywhere("FUNCTION", "LOAD", code % ("one", "f1", 1))
    with RunningLink(cluster.nodes[0], target) as link:
        link.wait_caught_up()
        everywhere("FUNCTION", "LOAD", code % ("two", "f2", 2))
        everywhere("FUNCTION", "DELETE", "one")
        everywhere("FUNCTION", "LOAD", "REPLACE", code % ("two", "f2", 22))
        link.wait_caught_up()
        wait_for(lambda: target.client().execute_command("FCALL", "f2", 0) == 22, 20, link.told)
        link.stop()
    names = [dict(zip(one[::2], one[1::2], strict=True))[b"library_name"] for one in target.client().execute_command("FUNCTION", "LIST")]  # fmt: skip
    assert names == [b"two"]


def settle_clusters(link: RunningLink, source: Cluster, target: Cluster) -> None:
    link.wait_until(Phase.INCREMENTAL)
    link.wait_caught_up()
    wait_for(lambda: not difference(holding(source), holding(target)), 40, link.told, interval=0.3)


def test_from_cluster_to_cluster(
    cluster: Cluster, own_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    """Each shard writes to all masters of the target; under load, through a SIGKILL, and with a flush of one master."""
    target = own_cluster(masters=2)
    fill(cluster)
    words = ("run", cluster.nodes[2].url, target.nodes[1].url, "--link", "test")
    with ClusterWriter(cluster) as writer:
        with EngineProcess(tmp_path, *words) as engine:
            engine.wait_for_words("caught up with the source")
            rounds = writer.rounds
            wait_for(lambda: writer.rounds > rounds + 200, 30)
            engine.kill()
        with RunningLink(cluster.nodes[0], target.nodes[0]) as link:
            link.wait_caught_up()
            expected = writer.stop()
            settle_clusters(link, cluster, target)
            assert (link.progress.full_syncs, link.progress.partial_syncs) == (0, 3)
            nodes = {slot: target.holder(slot) for slot in (0, 16383)}
            assert audit(lambda tag: nodes[0 if slot_of(tag) < 8192 else 16383].client(), expected) == []
            with cluster.holder(0).client() as client:
                client.flushall()
            settle_clusters(link, cluster, target)
            assert holding(target)
            assert link.stop().progress.full_syncs == 1
    assert_verified(cluster, target.nodes[0])
    with RunningLink(cluster.nodes[0], cluster.nodes[1], name="itself") as link:
        assert "same cluster" in link.failure().message


def test_the_heartbeat_of_each_master(cluster: Cluster, redis_server: Callable[..., Server]) -> None:
    """In a slot that the master serves; the latency is that of the slowest."""
    target = redis_server("redis-7.0")

    def beats(node: Server) -> list[bytes]:
        return list(node.client().keys("switchyard:heartbeat:*"))

    with RunningLink(cluster.nodes[0], target, heartbeat_seconds=0.2) as link:
        link.wait_caught_up()
        wait_for(lambda: link.progress.latency_ms is not None, 20, link.told)
        # The latency is known from the first one on that has come back; those of the others may not be written yet.
        wait_for(lambda: all(beats(node) for node in cluster.holders()), 20, link.told)
        assert [len(beats(node)) for node in cluster.holders()] == [1, 1, 1]
        assert "heartbeat.refused" not in link.ports.events
    assert target.client().keys("switchyard:heartbeat:*") == []
