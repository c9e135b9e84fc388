"""A rehearsal tells what a full phase would meet, and leaves no trace on either side."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
import redis

from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.rehearsal import Rehearsal, Rehearsed
from migrations_app.engine.survey import Survey
from tests.engine.conftest import QUICK, Shared
from tests.engine.links import endpoint
from tests.support.cluster import Cluster
from tests.support.servers import Server
from tests.support.wait import wait_for

LARGE = 3 << 20


def rehearse(source: Server | Endpoint, target: Server, **options: Any) -> Rehearsed:
    before = written(target)
    try:
        return Rehearsal(endpoint(source), endpoint(target), **options).run()
    finally:
        assert written(target) == before
        if isinstance(source, Server):
            with source.client() as client:
                wait_for(
                    lambda: not client.info("replication")["connected_slaves"], 20, "the connection stays"
                )


def written(server: Server) -> tuple[object, ...]:
    with server.client() as client:
        return client.info("keyspace"), client.info("persistence")["rdb_changes_since_last_save"]


def reasons(done: Rehearsed) -> dict[bytes, str]:
    return {one.key: one.reason for one in done.survey.refused}


def fill(server: Server) -> int:
    """Keys of every type, small and large, in two databases; their number."""
    with server.client() as client:
        client.mset({f"s{number}": "v" * 20 for number in range(500)})
        client.set("big", os.urandom(LARGE))
        client.hset("h", mapping={"a": "1", "b": "2"})
        client.rpush("l", *range(10_000))
        client.sadd("set", "a", "b")
        client.zadd("z", {"m": 1.5})
        pipeline = client.pipeline(transaction=False)
        for start in range(0, 60_000, 1000):
            pipeline.hset("large", mapping={f"field{start + n}": "w" * 100 for n in range(1000)})
        pipeline.execute()
        with contextlib.suppress(redis.ResponseError):
            client.xadd("x", {"f": "v"}, id="1-1")
            client.xgroup_create("x", "g", "0")
            client.xreadgroup("g", "c", {"x": ">"})
    with server.client(db=3) as client:
        client.set("other", "1", ex=1000)
    return 500 + 8


@pytest.mark.parametrize(
    ("source", "target"), [("redis-5.0", "redis-5.0"), ("redis-7.0", "redis-6.2"), ("valkey-9", "redis-5.0")]
)
def test_all_of_it(shared: Shared, source: str, target: str) -> None:
    source_server = shared(source, "source")
    count = fill(source_server)
    done = rehearse(source_server, shared(target, "target"))
    survey: Survey = done.survey
    assert (done.how, done.ended, done.keys, done.sampled_keys) == ("replication", "complete", count, count)
    assert survey.databases == {0: count - 1, 3: 1}
    assert {name: keys for name, (keys, _) in survey.by_type.items()} == {
        "string": 502, "hash": 2, "list": 1, "set": 1, "zset": 1, "stream": 1,
    }  # fmt: skip
    assert [key for _, _, key, _ in survey.largest[:2]] in ([b"big", b"large"], [b"large", b"big"])
    assert not survey.refused_count, survey.refused
    assert done.bytes == done.sampled_bytes > 0
    assert done.used_memory
    assert rehearse(source_server, shared(target, "target"), databases=frozenset({3})).keys == 1


def test_what_an_older_target_cannot_take(shared: Shared) -> None:
    source, target = shared("valkey-9", "source"), shared("redis-7.0", "target")
    with source.client() as client:
        client.hset("plain", "f", "1")
        client.hset("timed", mapping={"f": "1", "g": "2"})
        client.execute_command("HEXPIRE", "timed", 1000, "FIELDS", 1, "g")
    done = rehearse(source, target)
    assert done.sampled_keys == 2
    assert list(reasons(done)) == [b"timed"]
    assert "field b'g'" in reasons(done)[b"timed"]

    source, target = shared("redis-7.0", "source"), shared("redis-3.2", "target")
    with source.client() as client:
        client.xadd("x", {"f": "v"})
        client.set("s", "1")
        client.function_load("#!lua name=mylib\nredis.register_function('f', function() return 1 end)")
    done = rehearse(source, target)
    assert sorted(reasons(done)) == [b"", b"x"]
    assert "function library" in reasons(done)[b""]
    assert "does not know" in reasons(done)[b"x"]
    assert done.keys == 2


def test_names_that_the_target_has(pair: tuple[Server, Server]) -> None:
    source, target = pair
    for server in pair:
        with server.client(db=2) as client:
            client.mset({f"k{number}": "1" for number in range(600 if server is source else 7)})
    done = rehearse(source, target)
    assert (done.same_names, done.survey.refused_count) == (7, 0)
    done = rehearse(source, target, refuse_same_names=True)
    assert done.survey.refused_count == 7
    assert "already" in reasons(done)[b"k0"]


def test_limits(pair: tuple[Server, Server]) -> None:
    source, target = pair
    with source.client() as client:
        for start in range(0, 100_000, 10_000):
            client.mset({f"key:{start + n}": f"{start + n:0>200}" for n in range(10_000)})
    told: list[int] = []
    done = rehearse(source, target, max_bytes=1 << 20, tick=told.append)
    assert done.ended == "bytes"
    assert 0 < done.sampled_keys < 100_000
    assert done.keys == 100_000
    assert done.bytes > done.sampled_bytes
    assert max(told) > 0
    assert done.bytes_per_second > 0
    with source.client() as client:
        wait_for(lambda: not client.info("persistence")["rdb_bgsave_in_progress"], 20, "the snapshot goes on")


def test_more_databases_than_the_target_has(shared: Shared) -> None:
    source = shared("redis-7.0", "source")
    with Server("redis-7.0", config={"databases": 2}) as target:
        with source.client(db=5) as client:
            client.mset({"a": "1", "b": "1"})
        done = rehearse(source, target)
    assert [(one.database, one.type) for one in done.survey.refused] == [(5, "database")]


@pytest.mark.parametrize("scan", [False, True], ids=["refused", "chosen"])
def test_by_keys(shared: Shared, scan: bool) -> None:
    target = shared("redis-5.0", "target")
    with Server("redis-7.0", config=QUICK) as source:
        count = fill(source)
        with source.client() as client:
            client.acl_setuser(
                "reader",
                enabled=True,
                passwords=["+secret"],
                commands=["+@all", "-psync", "-sync"],
                keys=["*"],
            )
        login = {} if scan else {"username": "reader", "password": "secret"}
        done = rehearse(endpoint(source, **login), target, scan=scan)
    assert (done.how, done.ended, done.keys, done.sampled_keys) == ("scan", "complete", count, count)
    assert bool(done.refusal) is not scan
    assert not done.survey.refused_count


def test_a_file(shared: Shared, tmp_path: Path) -> None:
    target = shared("redis-3.2", "target")
    with Server("redis-7.0", config={"dbfilename": "kept.rdb"}) as source:
        count = fill(source)
        with source.client() as client:
            client.save()
        file = tmp_path / "kept.rdb"
        file.write_bytes((source.dir / "kept.rdb").read_bytes())
    done = rehearse(Endpoint(file=str(file), port=0), target)
    assert (done.how, done.ended, done.keys, done.bytes) == ("file", "complete", count, file.stat().st_size)
    assert list(reasons(done)) == [b"x"]
    part = rehearse(Endpoint(file=str(file), port=0), target, max_bytes=1)
    assert part.ended in ("bytes", "complete")
    assert part.bytes == file.stat().st_size


def test_nothing_there(pair: tuple[Server, Server]) -> None:
    done = rehearse(*pair)
    assert (done.keys, done.sampled_keys, done.ended) == (0, 0, "complete")
    assert done.survey.by_type == {}


def test_clusters(shared: Shared) -> None:
    """A cluster is sampled by its keys; as the target it has one database."""
    server = shared("redis-7.0", "source")
    with Cluster("redis-7.0") as cluster:
        for number in range(300):
            cluster.set(f"k{number}", "1")
        done = rehearse(cluster.nodes[0], shared("redis-5.0", "target"))
        assert (done.how, done.ended, done.keys, done.sampled_keys) == ("scan", "complete", 300, 300)
        assert "cluster" in done.refusal
        for db in (0, 4):
            with server.client(db=db) as client:
                client.mset({"k1": "1", "other": "1"})
        done = rehearse(server, cluster.nodes[0])
    assert (done.how, done.same_names, done.keys) == ("replication", 1, 4)
    assert [(one.database, one.type) for one in done.survey.refused] == [(4, "database")]
