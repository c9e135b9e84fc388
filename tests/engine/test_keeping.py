"""Keys of others are kept, or stop the link, where the target is a cluster or the source is read by its keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from migrations_app.engine.config import Conflict, LinkConfig, LinkResult, Method, Notifications, Phases
from migrations_app.engine.errors import TargetConflict, TargetDiverged, UsageError
from migrations_app.engine.keyfilter import KeyFilter
from migrations_app.engine.link import run_link
from migrations_app.engine.ports import Phase, Progress
from migrations_app.engine.rate import UNLIMITED, Rate
from migrations_app.engine.verify import verify
from migrations_app.engine.verify.report import as_text
from tests.support.cluster import Cluster, slot_of
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import EngineProcess, Recorder, RunningLink, assert_equal, endpoint, offset_of, run
from .test_conflicts import GIANT, SLOWLY, fill, occupy, own_keys, values

KEEP = {"conflict": Conflict.KEEP}
SCAN = {"method": Method.SCAN, "notifications": Notifications.ENABLE, **KEEP}


@pytest.fixture(scope="module")
def _clusters() -> Iterator[tuple[Cluster, Cluster]]:
    with Cluster("redis-7.0") as one, Cluster("valkey-9.1") as other:
        yield one, other


@pytest.fixture
def cluster(_clusters: tuple[Cluster, Cluster]) -> Cluster:
    """Three masters of Redis 7.0, empty."""
    return _clusters[0].empty()


@pytest.fixture
def newer(_clusters: tuple[Cluster, Cluster]) -> Cluster:
    """Three masters of Valkey 9.1, empty."""
    return _clusters[1].empty()


def occupied(cluster: Cluster) -> dict[str, bytes]:
    """As `occupy`: keys of others, 28 of which have names that the source has, too."""
    mine = {f"{kind}:{number}": f"mine {number}".encode() for kind in ("string", "soon", "later", "list", "own") for number in range(7)}  # fmt: skip
    for name, value in mine.items():
        cluster.set(name, value)
    return mine


def found(cluster: Cluster, names: dict[str, bytes]) -> dict[str, bytes | None]:
    return {name: cluster.get(name) for name in names}


def noted(cluster: Cluster) -> list[bytes]:
    """What a policy has noted, in any slot."""
    return [
        key
        for node in cluster.holders()
        for what in ("written", "kept", "staged")
        for key in node.client().scan_iter(f"switchyard:{what}:*", count=10_000)
    ]


def assert_kept(source: Server | Cluster, cluster: Cluster, mine: dict[str, bytes]) -> None:
    """`mine` is as it was, without an expiry; the rest is the source's."""
    assert found(cluster, mine) == mine
    assert {cluster.execute(name, "PTTL", name) for name in mine} == {-1}
    node = source.nodes[0] if isinstance(source, Cluster) else source
    others = KeyFilter(exclude_patterns=tuple(name.encode() for name in mine))
    compared = verify(endpoint(node), endpoint(cluster.nodes[0]), databases=frozenset({0}), keys=others)
    assert compared.differences == 0, as_text(compared)
    assert compared.keys > 250


# --- a cluster as the target ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phases", list(Phases))
def test_a_cluster_keeps_what_it_has(pair: tuple[Server, Server], cluster: Cluster, phases: Phases) -> None:
    """Of all types; a giant that goes as commands, a string that goes through, and an old owner's note of a value on its way."""
    source, _ = pair
    fill(source, (0,), giant=True)
    with source.client() as client:
        client.set("long", "x" * 3_000_000)
        client.set("long too", "y" * 3_000_000)
    mine = occupied(cluster) | {"long too": b"mine"}
    cluster.set("long too", "mine")
    ends = {"stop_when_caught_up": phases is Phases.FULL_INCREMENTAL}
    result = run(source, cluster.nodes[0], phases=phases, **ends, **KEEP)
    assert result.progress.keys_kept == 29
    assert result.progress.keys_done == 303 - 29
    assert cluster.execute("giant", "LLEN", "giant") == GIANT
    assert cluster.execute("giant", "TTL", "giant") > 0
    assert cluster.execute("soon:30", "TTL", "soon:30") > 0
    assert cluster.execute("long", "STRLEN", "long") == 3_000_000
    assert_kept(source, cluster, mine)
    assert noted(cluster) == []


def test_changes_apply_to_kept_keys_of_a_cluster(pair: tuple[Server, Server], newer: Cluster) -> None:
    source, _ = pair
    fill(source, (0,))
    occupied(newer)
    with RunningLink(source, newer.nodes[1], **KEEP) as link, source.client() as client:
        link.wait_until(Phase.INCREMENTAL)
        assert "full.kept" in link.ports.events
        client.append("string:1", " and more")
        client.set("string:2", "changed")
        link.wait_offset(offset_of(source))
        assert newer.get("string:1") == b"mine 1 and more"
        assert newer.get("string:2") == b"changed"


def test_a_giant_of_a_cluster_is_kept(pair: tuple[Server, Server], cluster: Cluster) -> None:
    source, _ = pair
    fill(source, (0,), giant=True)
    cluster.set("giant", "mine")
    result = run(source, cluster.nodes[0], **KEEP)
    assert result.progress.keys_kept == 1
    assert cluster.get("giant") == b"mine"
    assert noted(cluster) == []


def test_a_cluster_after_a_kill_in_the_middle(
    pair: tuple[Server, Server], cluster: Cluster, tmp_path: Path
) -> None:
    """What the killed engine has written is not taken for keys of others."""
    source, _ = pair
    fill(source, (0,), giant=True)
    mine = occupied(cluster)
    staged = f"switchyard:staged:default:{{{_tag('giant')}}}"
    command = ["run", source.url, cluster.nodes[0].url, "--on-conflict", "keep", "--json"]
    with EngineProcess(tmp_path, *command, *SLOWLY) as engine:
        building = lambda: 50 < int(cluster.execute(staged, "LLEN", staged)) < GIANT - 500  # noqa: E731
        wait_for(lambda: not engine.alive or building(), 30, engine.said, interval=0.001)
        engine.kill()
    assert not cluster.execute("giant", "EXISTS", "giant")
    written = [key for key in noted(cluster) if key.startswith(b"switchyard:written:default:")]
    assert len(written) > 5
    with source.client() as client:
        client.set("string:30", "changed meanwhile")
        client.delete("string:31")
        client.set("string:3", "not wanted")
        client.rpush("list:30", "more")
    with EngineProcess(tmp_path, *command, "--stop-when-caught-up", name="again") as engine:
        assert engine.wait() == 0, engine.said()
        assert engine.result()["keys_kept"] == 28
    assert_kept(source, cluster, mine)
    assert cluster.get("string:31") is None
    assert noted(cluster) == []
    # Complete: from now on its own keys cannot be told from the others.
    with source.client() as client:
        client.execute_command("DEBUG", "CHANGE-REPL-ID")
    options = {"allow_full_resync": True, "name": "default"}
    with RunningLink(source, cluster.nodes[0], **options, **KEEP) as link:
        assert isinstance(link.failure(), UsageError)
    assert found(cluster, mine) == mine


def _tag(key: str) -> str:
    """The number that stands for the key's slot in the product's own names."""
    return next(str(number) for number in range(10**6) if slot_of(str(number)) == slot_of(key))


def test_slots_that_move_while_keys_are_kept(pair: tuple[Server, Server], cluster: Cluster) -> None:
    """The names that are noted go along; the script is known to every master. The giant is on its way meanwhile."""
    source, _ = pair
    fill(source, (0,), giant=True)
    mine = occupied(cluster)
    slots = [slot_of(name) for name in (*(f"string:{number}" for number in range(16)), "giant")]
    homes = {slot: cluster.holder(slot) for slot in slots}
    try:
        with RunningLink(source, cluster.nodes[0], limit=Rate(bytes_per_second=200_000), **KEEP) as link:
            wait_for(lambda: link.progress.snapshot_bytes > 0, 30, link.told)
            for slot, home in homes.items():
                cluster.move([slot], next(node for node in cluster.nodes if node is not home))
            assert link.progress.phase is Phase.FULL, "the test was too slow"
            link.ports.limit = UNLIMITED
            link.wait_until(Phase.INCREMENTAL, 60)
            assert link.progress.full_syncs == 1, link.told()
            assert link.progress.keys_kept == 28
            link.wait_caught_up()
            link.stop()
        assert cluster.execute("giant", "LLEN", "giant") == GIANT
        assert_kept(source, cluster, mine)
        assert noted(cluster) == []
    finally:
        for slot, home in homes.items():
            cluster.move([slot], home)


class Appearing(Recorder):
    """Ports that write a key to the target once the names were compared, before the link reads on."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__()
        self._cluster, self._name = cluster, name

    def progress(self, progress: Progress) -> None:
        if progress.phase is Phase.WAITING and Phase.WAITING not in self.phases:
            self._cluster.set(self._name, "appeared")
        super().progress(progress)


@pytest.mark.parametrize("name", ["string:3", "list:3", "giant"])
def test_a_name_that_appears_in_a_cluster_stops_the_link(
    pair: tuple[Server, Server], cluster: Cluster, name: str
) -> None:
    source, _ = pair
    fill(source, (0,), giant=True)
    cluster.set("others", "v")
    config = LinkConfig("test", endpoint(source), endpoint(cluster.nodes[0]), conflict=Conflict.FAIL)
    with pytest.raises(TargetConflict, match="was not there when the names of both sides were compared"):
        run_link(config, Appearing(cluster, name))
    assert cluster.get(name) == b"appeared"
    with pytest.raises(TargetDiverged, match="BUSYKEY"):
        run_link(config, Recorder())
    cluster.execute(name, "DEL", name)
    run(source, cluster.nodes[0], conflict=Conflict.FAIL, allow_full_resync=True)
    cluster.execute("others", "DEL", "others")
    assert_equal(source, cluster.nodes[0])


def test_from_cluster_to_cluster(cluster: Cluster, newer: Cluster) -> None:
    """Each shard keeps, and knows what it has written itself."""
    for number in range(300):
        cluster.set(f"string:{number}", f"source {number}")
    mine = {f"string:{number}": b"mine" for number in range(0, 300, 50)}
    for name in mine:
        newer.set(name, "mine")
    with RunningLink(cluster.nodes[0], newer.nodes[0], conflict=Conflict.FAIL, name="fails") as link:
        error = link.failure()
        assert isinstance(error, TargetConflict)
        assert "no key was written" in error.message
    result = run(cluster.nodes[0], newer.nodes[0], **KEEP)
    assert (result.progress.keys_done, result.progress.keys_kept) == (294, 6)
    assert_kept(cluster, newer, mine)
    assert noted(newer) == []


# --- a source that is read by its keys --------------------------------------------------------------------------------


def scan(source: Server, target: Server, **options: object) -> LinkResult:
    return run(source, target, **{**SCAN, **options})


@pytest.fixture
def pair(pair: tuple[Server, Server]) -> Iterator[tuple[Server, Server]]:
    yield pair
    pair[0].client().config_set("notify-keyspace-events", "")


@pytest.mark.parametrize("phases", list(Phases))
def test_a_key_scan_keeps(pair: tuple[Server, Server], phases: Phases) -> None:
    source, target = pair
    fill(source, giant=True)
    mine = occupy(target) | {"giant": b"mine"}
    target.client().set("giant", "mine")
    ends = {"stop_when_caught_up": phases is Phases.FULL_INCREMENTAL}
    result = scan(source, target, phases=phases, **ends)
    assert result.progress.keys_kept == 29
    assert result.progress.keys_done == 602 - 29
    assert values(target, mine) == mine
    assert target.client(db=2).llen("giant") == GIANT
    assert target.client().ttl("soon:3") == -1
    assert target.client().ttl("soon:30") > 0
    if phases is Phases.FULL:
        assert own_keys(target) == []


def test_a_key_scan_tells_its_own_keys(pair: tuple[Server, Server]) -> None:
    """While it follows, when it reads all keys again, and after a new start: its own are refreshed or removed, others stay."""
    source, target = pair
    fill(source)
    mine = occupy(target)
    with source.client() as client, target.client() as there:
        with RunningLink(source, target, **SCAN) as link:
            wait_for(lambda: link.progress.caught_up, 30, link.told)
            client.set("string:30", "changed")
            client.set("string:2", "changed")
            client.delete("string:31", "string:4")
            client.set("marker", 1)
            wait_for(lambda: there.exists("marker"), 20, link.told)
            assert there.mget("string:30", "string:2") == [b"changed", b"changed"]
            assert not there.exists("string:31", "string:4"), "a change of the source applies to every key"
            # Another one writes the name that is free now: it is his.
            there.set("string:31", "others'")
            del mine["string:2"], mine["string:4"]
            client.flushdb()
            client.set("behind", 1)
            wait_for(lambda: there.exists("behind") and not there.exists("string:30"), 30, link.told)
            wait_for(lambda: link.progress.caught_up, 30, link.told)
            assert values(target, mine) == mine
            assert there.get("string:31") == b"others'"
            client.set("string:5", "source")
            fill(source, (0,))
            client.set("marker", 2)
            wait_for(lambda: there.get("marker") == b"2", 20, link.told)
            link.stop()
        client.set("string:40", "changed while no link ran")
        client.delete("string:41", "list:40")
        fresh = occupy(target)
        assert scan(source, target).progress.keys_done > 0
        assert there.get("string:40") == b"changed while no link ran"
        assert not there.exists("string:41", "list:40"), "deleted unseen, but known as its own"
        assert {name for name in fresh if name.startswith("own")} <= {
            key.decode() for key in there.keys("own*")
        }


def test_values_that_are_only_looked_at_again_do_not_replace(pair: tuple[Server, Server]) -> None:
    """Streams are read again when any group may have changed: that is no change of this one."""
    source, target = pair
    with source.client() as client, target.client() as there:
        for name in ("kept", "followed"):
            client.xadd(name, {"n": 1})
            client.xgroup_create(name, "group", 0)
        there.set("kept", "mine")
        with RunningLink(source, target, **SCAN) as link:
            wait_for(lambda: link.progress.caught_up, 30, link.told)
            client.xreadgroup("group", "one", {"followed": ">"})
            wait_for(lambda: there.xpending("followed", "group")["pending"] == 1, 20, link.told)
            client.set("marker", 1)
            wait_for(lambda: there.exists("marker"), 20, link.told)
            assert there.get("kept") == b"mine"


def test_another_method_cannot_go_over_it(pair: tuple[Server, Server]) -> None:
    """Only a key scan knows what the set stands for once the full phase is complete; and it only its own."""
    source, target = pair
    fill(source)
    mine = occupy(target)
    scan(source, target)
    with RunningLink(source, target, allow_full_resync=True, **KEEP) as link:
        assert isinstance(link.failure(), UsageError)
    run(source, target, name="psync", **KEEP)
    with RunningLink(source, target, allow_full_resync=True, **{**SCAN, "name": "psync"}) as link:
        assert isinstance(link.failure(), UsageError)
    assert values(target, mine) == mine


def test_a_key_scan_keeps_keys_of_a_cluster(pair: tuple[Server, Server], cluster: Cluster) -> None:
    source, _ = pair
    fill(source, (0,), giant=True)
    mine = occupied(cluster)
    node = cluster.nodes[0]
    with source.client() as client:
        with RunningLink(source, node, **SCAN) as link:
            wait_for(lambda: link.progress.caught_up, 60, link.told)
            assert link.progress.keys_kept == 28
            client.set("string:30", "changed")
            client.set("string:2", "changed")
            client.delete("string:31")
            client.set("marker", 1)
            wait_for(lambda: cluster.get("marker"), 20, link.told)
            assert [cluster.get(f"string:{number}") for number in (30, 2, 31)] == [
                b"changed",
                b"changed",
                None,
            ]
            link.stop()
        del mine["string:2"]
        client.set("string:30", "changed while no link ran")
        client.delete("string:32")
        scan(source, node)
        assert cluster.get("string:32") is None
    assert_kept(source, cluster, mine)
