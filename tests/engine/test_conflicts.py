"""Keys that the target has already: fail, keep, overwrite."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from migrations_app.engine.config import Conflict, LinkConfig, Method, Phases
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import TargetConflict, TargetDiverged, UsageError
from migrations_app.engine.keyfilter import KeyFilter
from migrations_app.engine.link import run_link
from migrations_app.engine.ports import Phase, Progress
from migrations_app.engine.verify import verify
from migrations_app.engine.verify.report import as_text
from tests.engine.conftest import QUICK, Shared
from tests.engine.links import EngineProcess, Recorder, RunningLink, assert_equal, endpoint, offset_of, run
from tests.support.cluster import Cluster
from tests.support.servers import Server
from tests.support.wait import wait_for

SLOWLY = ["--rate-bytes", "20mb"]  # per second, so that the kill meets what it should
PAIRS = [("redis-7.0", "redis-7.0"), ("redis-3.2", "redis-3.2"), ("redis-6.2", "valkey-9.1")]
GIANT = 4000  # elements; in all 40 MB, more than the 16 MB from which a value goes as commands


def fill(source: Server, databases: tuple[int, ...] = (0, 2), *, giant: bool = False) -> None:
    for database in databases:
        with source.client(db=database) as client:
            pipeline = client.pipeline(transaction=False)
            for number in range(60):
                pipeline.set(f"string:{number}", f"source {number}")
                pipeline.set(f"soon:{number}", "source", ex=300)
                pipeline.set(f"later:{number}", "source", ex=30_000)
                pipeline.rpush(f"list:{number}", "source", number)
                pipeline.sadd(f"set:{number}", "source", number)
            pipeline.execute()
            if giant:
                client.config_set("rdbcompression", "no")
                for start in range(0, GIANT, 1000):
                    client.rpush("giant", *(f"{number:010000}" for number in range(start, start + 1000)))
                client.expire("giant", 300)


def occupy(target: Server, database: int = 0) -> dict[str, bytes]:
    """Keys of others, of which some names are the source's, too."""
    mine = {f"{kind}:{number}": f"mine {number}".encode() for kind in ("string", "soon", "later", "list", "own") for number in range(7)}  # fmt: skip
    with target.client(db=database) as client:
        client.mset(mine)
    return mine


def values(server: Server, names: dict[str, bytes], database: int = 0) -> dict[str, bytes | None]:
    with server.client(db=database) as client:
        return dict(zip(names, client.mget(list(names)), strict=True))


def own_keys(server: Server) -> list[bytes]:
    """What a policy has noted, in all databases."""
    found = []
    for database in range(4):
        with server.client(db=database) as client:
            for what in ("written", "kept", "staged"):
                found += client.keys(f"switchyard:{what}:*")
    return found


# --- fail -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("more_at_the_target", [False, True])
def test_a_name_on_both_sides_stops_before_the_first_write(
    shared: Shared, source: str, target: str, more_at_the_target: bool
) -> None:
    """Whichever side is smaller."""
    origin, goal = shared(source, "source"), shared(target, "target")
    fill(origin)
    mine = occupy(goal, 2)
    if more_at_the_target:
        with goal.client(db=2) as client:
            client.mset({f"other:{number}": "v" for number in range(3000)})
    with RunningLink(origin, goal, conflict=Conflict.FAIL) as link:
        error = link.failure()
    assert isinstance(error, TargetConflict)
    assert error.id == "target.conflict"
    assert "28 keys are in the target already that the source has, too" in error.message
    assert "(database 2)" in error.message
    assert error.message.count("b'") == 10
    assert "no key was written" in error.message
    assert "--on-conflict keep" in error.advice
    assert values(goal, mine, 2) == mine
    assert all(key.startswith(b"switchyard:") for key in goal.client().keys("*"))
    assert origin.info("stats")["sync_full"] == 0


def test_only_what_is_chosen_conflicts(pair: tuple[Server, Server]) -> None:
    source, target = pair
    fill(source)
    mine = occupy(target, 2)
    assert run(source, target, conflict=Conflict.FAIL, databases=frozenset({0}), name="a").progress.keys_done
    chosen = KeyFilter(include_prefixes=(b"set:",))
    run(source, target, conflict=Conflict.FAIL, databases=frozenset({2}), keys=chosen, name="b")
    assert values(target, mine, 2) == mine
    with target.client(db=2) as client:
        assert len(client.keys("set:*")) == 60


def test_without_a_conflict_others_keys_stay(pair: tuple[Server, Server]) -> None:
    source, target = pair
    fill(source, giant=True)
    with target.client() as client:
        client.set("others", "v")
    run(source, target, conflict=Conflict.FAIL)
    assert target.client().get("others") == b"v"
    target.client().delete("others")
    assert_equal(source, target)
    assert own_keys(target) == []


class Appearing(Recorder):
    """Ports that write a key to the target once the names were compared, before the link reads on."""

    def __init__(self, target: Server, name: str) -> None:
        super().__init__()
        self._target, self._name = target, name

    def progress(self, progress: Progress) -> None:
        if progress.phase is Phase.WAITING and Phase.WAITING not in self.phases:
            self._target.client().set(self._name, "appeared")
        super().progress(progress)


@pytest.mark.parametrize("name", ["string:3", "list:3", "giant"])
def test_a_name_that_appears_after_the_comparison_stops_the_link(
    pair: tuple[Server, Server], name: str
) -> None:
    source, target = pair
    fill(source, giant=True)
    with target.client() as client:
        client.set("others", "v")
    config = LinkConfig("test", endpoint(source), endpoint(target), conflict=Conflict.FAIL)
    with pytest.raises(
        TargetConflict, match="was not there when the names of both sides were compared"
    ) as caught:
        run_link(config, Appearing(target, name))
    assert repr(name.encode()) in caught.value.message
    assert target.client().get(name) == b"appeared"
    with pytest.raises(TargetDiverged, match="BUSYKEY"):
        run_link(config, Recorder())
    target.client().delete(name)
    run(source, target, conflict=Conflict.FAIL, allow_full_resync=True)
    target.client().delete("others")
    assert_equal(source, target)


def test_a_repeated_full_phase_replaces_what_the_link_has_written(
    pair: tuple[Server, Server], tmp_path: Path
) -> None:
    """Lists, streams and a giant too: nothing is appended (R50). The engine is killed in the middle of the giant list."""
    source, target = pair
    fill(source, giant=True)
    with source.client() as client:
        for number in range(50):
            client.xadd("stream", {"n": number})
        client.xgroup_create("stream", "g", 0)
    with target.client() as client:
        client.set("others", "v")
    command = ["run", source.url, target.url, "--stop-when-caught-up"]
    with EngineProcess(tmp_path, *command, *SLOWLY) as engine:
        kill_in_the_middle(engine, target)
    with target.client() as client:
        assert client.exists("list:0", "string:0")
    with EngineProcess(tmp_path, *command, name="again") as engine:
        assert engine.wait() == 0, engine.said()
    with target.client() as client:
        assert client.llen("giant") == GIANT
        assert client.xlen("stream") == 50
        assert client.get("others") == b"v"
        client.delete("others")
    assert_equal(source, target)
    assert own_keys(target) == []


def kill_in_the_middle(engine: EngineProcess, target: Server) -> None:
    """While the giant list is being built, under its own name or another."""

    def building() -> bool:
        assert engine.alive, engine.said()
        with target.client(db=2) as client:
            for name in ("giant", "switchyard:staged:default"):
                try:
                    if 50 < client.llen(name) < GIANT - 500:
                        return True
                except redis.ResponseError:
                    pass
        return False

    wait_for(building, 30, engine.said, interval=0.001)
    engine.kill()
    with target.client(db=2) as client:
        assert not client.exists("giant") or client.llen("giant") < GIANT, "the test was too slow"


def test_a_name_in_a_snapshot_file(pair: tuple[Server, Server]) -> None:
    source, target = pair
    fill(source)
    with source.client() as client:
        client.save()
        path = Path(client.config_get("dir")["dir"]) / client.config_get("dbfilename")["dbfilename"]
    file = Endpoint.parse(f"rdb://{path}")
    mine = occupy(target, 2)
    options = {"conflict": Conflict.FAIL, "phases": Phases.FULL}
    with RunningLink(file, target, **options) as link:
        error = link.failure()
        assert "28 keys are in the target" in error.message
        assert "(database 2)" in error.message
    assert values(target, mine, 2) == mine
    assert run(file, target, databases=frozenset({0}), **options).progress.keys_done == 300


def test_a_key_scan(pair: tuple[Server, Server]) -> None:
    """The keys of the others are looked at before. (How it keeps them: `test_keeping.py`.)"""
    source, target = pair
    fill(source)
    mine = occupy(target, 2)
    with RunningLink(source, target, conflict=Conflict.FAIL, method=Method.SCAN) as link:
        assert "28 keys are in the target" in link.failure().message
    assert values(target, mine, 2) == mine
    scan = {"method": Method.SCAN, "phases": Phases.FULL, "databases": frozenset({0})}
    assert run(source, target, conflict=Conflict.FAIL, **scan).progress.keys_done == 300


# --- keep -------------------------------------------------------------------------------------------------------------


def assert_kept(source: Server, target: Server, mine: dict[str, bytes]) -> None:
    """`mine` is as it was, without an expiry; the rest is the source's."""
    assert values(target, mine) == mine
    with target.client() as client:
        assert {client.ttl(name) for name in mine} == {-1}
    others = KeyFilter(exclude_patterns=tuple(name.encode() for name in mine))
    found = verify(endpoint(source), endpoint(target), databases=frozenset({0}), keys=others)
    assert found.differences == 0, as_text(found)
    assert found.keys > 250
    assert_equal(source, target, [2])


@pytest.mark.parametrize(("source", "target"), PAIRS[:2])
def test_keys_of_others_are_kept_and_counted(shared: Shared, source: str, target: str) -> None:
    origin, goal = shared(source, "source"), shared(target, "target")
    fill(origin, giant=True)
    mine = occupy(goal)
    with RunningLink(origin, goal, conflict=Conflict.KEEP) as link:
        link.settle(origin, goal)
        progress = link.progress
        assert progress.keys_kept == 28
        assert progress.keys_done == 602 - 28
        assert progress.databases == {0: 301 - 28, 2: 301}
        assert progress.percent == 100.0
        assert "full.kept" in link.ports.events
        assert_kept(origin, goal, mine)
        assert own_keys(goal) == []
        with origin.client() as client:
            client.append("string:1", " and more")
            client.set("string:2", "changed")
        link.settle(origin, goal)
        assert goal.client().mget("string:1", "string:2") == [b"mine 1 and more", b"changed"]


def test_a_giant_of_the_target_is_kept(pair: tuple[Server, Server]) -> None:
    source, target = pair
    fill(source, giant=True)
    with target.client() as client:
        client.set("giant", "mine")
    result = run(source, target, conflict=Conflict.KEEP)
    assert result.progress.keys_kept == 1
    assert target.client().get("giant") == b"mine"
    assert target.client(db=2).llen("giant") == GIANT
    assert own_keys(target) == []


@pytest.mark.parametrize("phases", list(Phases))
def test_keep_after_a_kill_in_the_middle(pair: tuple[Server, Server], tmp_path: Path, phases: Phases) -> None:
    """What the killed engine has written is not taken for keys of others: it may have changed since."""
    source, target = pair
    fill(source, giant=True)
    mine = occupy(target)
    command = ["run", source.url, target.url, "--on-conflict", "keep", "--json", "--phases", phases.value]
    command += ["--stop-when-caught-up"] if phases is Phases.FULL_INCREMENTAL else []
    with EngineProcess(tmp_path, *command, *SLOWLY) as engine:
        kill_in_the_middle(engine, target)
    assert own_keys(target) != []
    with source.client() as client:
        client.set("string:30", "changed meanwhile")
        client.delete("string:31")
        client.set("string:3", "not wanted")
        client.rpush("list:30", "more")
    with EngineProcess(tmp_path, *command, name="again") as engine:
        assert engine.wait() == 0, engine.said()
        assert engine.result()["keys_kept"] == 28
    assert_kept(source, target, mine)
    assert target.client().exists("string:31") == 0
    assert own_keys(target) == []


def test_an_empty_target_has_nothing_to_keep(pair: tuple[Server, Server]) -> None:
    source, target = pair
    fill(source, giant=True)
    result = run(source, target, conflict=Conflict.KEEP)
    assert result.progress.keys_kept == 0
    assert target.info("commandstats").get("cmdstat_evalsha") is None, "it goes the quick way"
    assert_equal(source, target)


def test_a_complete_link_that_keeps_does_not_begin_again(pair: tuple[Server, Server]) -> None:
    """Its own keys cannot be told from the others any more."""
    source, target = pair
    fill(source)
    mine = occupy(target)
    run(source, target, conflict=Conflict.KEEP)
    with source.client() as client:
        client.execute_command("DEBUG", "CHANGE-REPL-ID")
        client.set("string:30", "changed")
    options = {"allow_full_resync": True, "stop_when_caught_up": True}
    with RunningLink(source, target, conflict=Conflict.KEEP, **options) as link:
        assert isinstance(link.failure(), UsageError)
    with RunningLink(source, target, conflict=Conflict.FAIL, **options) as link:
        assert "began with keep" in link.failure().message
    assert values(target, mine) == mine
    assert target.client().get("string:30") == b"source 30"
    run(source, target, conflict=Conflict.OVERWRITE, **options)
    for name in mine:
        if name.startswith("own"):
            target.client().delete(name)
    assert_equal(source, target)


# --- overwrite --------------------------------------------------------------------------------------------------------


def test_overwrite(pair: tuple[Server, Server]) -> None:
    source, target = pair
    fill(source)
    mine = occupy(target)
    result = run(source, target)
    assert result.progress.keys_kept == 0
    assert result.progress.keys_done == 600
    with target.client() as client:
        assert client.type("list:0") == b"list"
        assert client.get("own:3") == b"mine 3"
        client.delete(*(name for name in mine if name.startswith("own")))
    assert_equal(source, target)


@pytest.mark.parametrize("held", [False, True])
def test_a_repeated_full_phase_replaces_and_never_appends(held: bool) -> None:
    """After a new history of the source, under writes, with streams, lists and giants (R50)."""
    with Server("redis-7.0", config=QUICK) as source, Server("redis-7.0", config=QUICK) as target:
        fill(source, giant=True)
        if held:
            with target.client() as client:
                client.set("others", "v")
        with source.client() as client:
            client.xadd("stream", {"n": 1})
            client.xgroup_create("stream", "g", 0)
            with RunningLink(source, target, allow_full_resync=True) as link:
                link.settle(source, target)
            client.execute_command("DEBUG", "CHANGE-REPL-ID")
            client.lpop("giant", 5)
            client.rpush("list:3", "more")
            client.xadd("stream", {"n": 2})
            ended = threading.Event()

            def write() -> None:
                while not ended.is_set():
                    client.rpush("list:4", "more")
                    client.xadd("stream", {"n": 3})

            writer = threading.Thread(target=write)
            writer.start()
            try:
                with RunningLink(source, target, allow_full_resync=True) as link:
                    link.wait_offset(offset_of(source))
                    assert link.progress.full_syncs == 1
                    ended.set()
                    writer.join()
                    link.settle(source, target)
            finally:
                ended.set()
                writer.join()
        if held:
            target.client().delete("others")
        assert_equal(source, target)


def test_from_the_command_line_fail_is_what_is_done(pair: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = pair
    fill(source)
    occupy(target)
    with EngineProcess(tmp_path, "run", source.url, target.url, "--phases", "full", "--json") as engine:
        assert engine.wait() == 1
        assert engine.result()["error"] == "target.conflict"
    command = ["run", source.url, target.url, "--phases", "full", "--json", "--on-conflict"]
    with EngineProcess(tmp_path, *command, "overwrite", name="over") as engine:
        assert engine.wait() == 0
        assert engine.result()["keys_done"] == 600


# --- clusters ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("redis-7.0", config={"repl-diskless-sync-delay": 0}) as made:
        yield made


def test_a_cluster_as_the_target(pair: tuple[Server, Server], cluster: Cluster) -> None:
    source, _ = pair
    fill(source, (0,))
    cluster.empty()
    mine = {f"string:{number}": b"mine" for number in range(5)} | {"own": b"mine"}
    for name, value in mine.items():
        cluster.execute(name, "SET", name, value)
    node = cluster.nodes[0]
    with RunningLink(source, node, conflict=Conflict.FAIL) as link:
        assert "5 keys are in the target" in link.failure().message
    assert {name: cluster.execute(name, "GET", name) for name in mine} == mine
    for number in range(5):
        cluster.execute(f"string:{number}", "DEL", f"string:{number}")
    assert run(source, node, conflict=Conflict.FAIL, name="again").progress.keys_done == 300
    assert cluster.execute("own", "GET", "own") == b"mine"


def test_a_cluster_as_the_source(pair: tuple[Server, Server], cluster: Cluster) -> None:
    """All masters are looked at before the first of the links begins; keeping works shard by shard."""
    _, target = pair
    cluster.empty()
    for number in range(300):
        cluster.execute(f"string:{number}", "SET", f"string:{number}", "source")
    mine = {f"string:{number}": b"mine" for number in range(0, 300, 100)}
    target.client().mset(mine)
    node = cluster.nodes[0]
    with RunningLink(node, target, conflict=Conflict.FAIL, phases=Phases.FULL) as link:
        error = link.failure()
        assert isinstance(error, TargetConflict)
        assert "no key was written" in error.message
    assert len(target.client().keys("string:*")) == 3
    result = run(node, target, conflict=Conflict.KEEP, phases=Phases.FULL)
    assert (result.progress.keys_done, result.progress.keys_kept) == (297, 3)
    assert values(target, mine) == mine
    assert len(target.client().keys("string:*")) == 300
    assert own_keys(target) == []
