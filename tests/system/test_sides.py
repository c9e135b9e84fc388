"""Each kind of side through the console's own runner: clusters, sentinels, a snapshot file, a key scan, chosen commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from migrations_app.choices import Method, Phases, TaskStatus
from migrations_app.services import tasks
from portal.choices import Architecture, EndpointKind
from portal.models import Account, Instance
from portal.services.connections import ConnectionParams, create_self_hosted
from tests.support.cluster import Cluster
from tests.support.fixtures import ServerFactory
from tests.support.sentinels import NAME, Watched
from tests.support.servers import Server
from tests.support.wait import wait_for

from .cases import Case
from .conftest import SOURCE
from .machines import Machine

S = TaskStatus


class Sides(Case):
    """A task between two sides that were entered for it; `source` and `target` are servers to ask, where there are any."""

    def __init__(self, source: ConnectionParams, target: ConnectionParams, **settings: Any) -> None:
        self.account = Account.objects.create(name=f"Account {uuid4().hex}")
        made = {
            side: create_self_hosted(None, self.account, params, side, checked=False)
            for side, params in (("source", source), ("target", target))
        }
        architectures = settings.pop("architectures", {})
        for side, architecture in architectures.items():  # as the connectivity test stores it
            Instance.objects.filter(pk=made[side].pk).update(architecture=architecture)
            made[side].refresh_from_db()
        self.task = tasks.create_task(None, self.account, made["source"], made["target"], **settings)


def at(server: Server) -> ConnectionParams:
    return ConnectionParams(host=server.host, port=server.port, password=server.password)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("redis-7.0", masters=3) as made:
        yield made


def test_a_cluster_target(shared_machine: Machine, cluster: Cluster, redis_server: ServerFactory) -> None:
    source = redis_server("redis-7.0", config=SOURCE)
    with source.client() as client:
        client.mset({f"key:{number}": number for number in range(500)})
    case = Sides(
        at(source),
        at(cluster.empty().nodes[0]),
        architectures={"target": Architecture.CLUSTER},
        databases=[0],
    )
    case.start()
    case.wait(lambda: case.status == S.INCREMENTAL, 40)
    with source.client() as client:
        client.set("later", "1")
    wait_for(lambda: cluster.get("later") == b"1" and cluster.get("key:499") == b"499", 20, case.describe)
    tasks.pause_task(None, case.row())
    case.wait(lambda: case.status == S.PAUSED, 20)
    with source.client() as client:
        client.set("while paused", "1")
    case.resume()
    wait_for(lambda: cluster.get("while paused") == b"1", 30, case.describe)
    assert case.stop() == S.COMPLETED


def test_a_cluster_source(shared_machine: Machine, cluster: Cluster, redis_server: ServerFactory) -> None:
    target = redis_server("redis-7.0")
    cluster.empty()
    for number in range(300):
        cluster.set(f"key:{number}", number)
    case = Sides(at(cluster.nodes[1]), at(target), architectures={"source": Architecture.CLUSTER})
    case.start()
    case.wait(lambda: case.status == S.INCREMENTAL, 40)
    cluster.set("later", "1")
    with target.client() as client:
        wait_for(lambda: client.get("later") == b"1", 20, case.describe)
        assert client.get("key:299") == b"299"
    assert case.stop() == S.COMPLETED


def test_sentinels(shared_machine: Machine, redis_server: ServerFactory) -> None:
    target = redis_server("redis-7.0")
    watched = Watched("redis-7.0", password="of-the-server")
    try:
        params = ConnectionParams(
            kind=EndpointKind.SENTINEL,
            sentinels=tuple(f"127.0.0.1:{one.port}" for one in watched.sentinels),
            master_name=NAME,
            password="of-the-server",
        )
        case = Sides(params, at(target))
        with watched.master.client() as client:
            client.set("first", 1)
        case.start()
        case.wait(lambda: case.status == S.INCREMENTAL, 40)
        with watched.master.client() as client:
            client.set("later", 1)
        with target.client() as client:
            wait_for(lambda: client.get("later") == b"1" and client.get("first") == b"1", 20, case.describe)
        assert case.stop() == S.COMPLETED
    finally:
        watched.close()


def test_a_snapshot_file(shared_machine: Machine, redis_server: ServerFactory, tmp_path: Path) -> None:
    source, target = redis_server("redis-7.0"), redis_server("redis-7.0")
    with source.client() as client:
        client.mset({f"key:{number}": number for number in range(500)})
        client.save()
        folder, name = client.config_get("dir")["dir"], client.config_get("dbfilename")["dbfilename"]
    case = Sides(ConnectionParams(kind=EndpointKind.FILE, file_path=f"{folder}/{name}"), at(target))
    assert (case.task.method, case.task.phases) == (Method.FILE, Phases.FULL)
    case.start()
    case.wait(lambda: case.status.is_final, 40)
    assert case.status == S.COMPLETED, case.describe()
    with target.client() as client:
        assert client.get("key:499") == b"499"


def test_a_key_scan_switches_the_notifications_on_and_back(
    shared_machine: Machine, redis_server: ServerFactory
) -> None:
    source, target = redis_server("redis-7.0", config=SOURCE), redis_server("redis-7.0")
    with source.client() as client:
        client.mset({f"key:{number}": number for number in range(500)})
    case = Sides(at(source), at(target), method=Method.SCAN)
    case.start()
    case.wait(lambda: case.status == S.INCREMENTAL, 40)
    with source.client() as client, target.client() as other:
        assert client.config_get("notify-keyspace-events")["notify-keyspace-events"]
        client.set("later", 1)
        client.delete("key:0")
        wait_for(lambda: other.get("later") == b"1" and not other.exists("key:0"), 30, case.describe)
    assert case.stop() == S.COMPLETED
    with source.client() as client:
        assert client.config_get("notify-keyspace-events")["notify-keyspace-events"] == ""


def test_commands_and_a_heartbeat(shared_machine: Machine, redis_server: ServerFactory) -> None:
    """Only strings are followed in database 0, everything but deletions in database 1; the beat never gets to the target."""
    source, target = redis_server("redis-7.0", config=SOURCE), redis_server("redis-7.0")
    case = Sides(
        at(source),
        at(target),
        commands={"0": {"only": ["@string"]}, "1": {"without": ["DEL"]}},
        databases=[0, 1],
        heartbeat=True,
    )
    case.start()
    case.wait(lambda: case.status == S.INCREMENTAL, 40)
    with source.client() as zero, source.client(db=1) as one:
        beat = f"switchyard:heartbeat:{case.link.name}"
        wait_for(lambda: zero.exists(beat), 20, "no heartbeat")
        zero.rpush("list", 1)
        one.mset({"a": 1, "b": 1})
        one.delete("a")
        one.set("last", 1)
        zero.set("last", 1)
    with target.client() as zero, target.client(db=1) as one:
        wait_for(lambda: zero.get("last") == b"1" and one.get("last") == b"1", 20, case.describe)
        assert not zero.exists("list", beat)
        assert one.get("a") == b"1"
    assert case.stop() == S.COMPLETED


def test_a_public_address_is_refused_when_it_connects(
    shared_machine: Machine, redis_server: ServerFactory
) -> None:
    """However it came into the row: the engine asks about the very address that it is about to connect to (R94)."""
    target = redis_server("redis-7.0")
    case = Sides(ConnectionParams(host="8.8.8.8"), at(target))
    case.start()
    task = case.wait_for_failure()
    assert task.failure_id == "connection.address_not_allowed"
    assert task.resume_next_at is None
