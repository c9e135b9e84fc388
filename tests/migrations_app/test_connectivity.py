"""The connectivity test on real servers: what is reached and stored, and an error per side with what to do (R70, R73, R100, R114)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from migrations_app.choices import InspectionKind, InspectionStatus
from migrations_app.engine import errors
from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint as EngineEndpoint
from migrations_app.models import Inspection, MigrationTask
from migrations_app.runner import inspections as runner
from migrations_app.runner import kinds as kinds
from migrations_app.services import connectivity, inspections
from portal.choices import Architecture, EndpointKind, InstanceStatus, NodeRole
from portal.models import Account, Instance
from portal.services import connections
from portal.services.connections import ConnectionParams
from tests.support.cluster import Cluster
from tests.support.fixtures import ServerFactory
from tests.support.sentinels import NAME, Watched
from tests.support.servers import Server

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def target_server() -> Any:
    with Server("valkey-9", password="of the target") as server:
        yield server


def at(server: Server, **changes: Any) -> ConnectionParams:
    values: dict[str, Any] = {"host": server.host, "port": server.port, "password": server.password}
    return ConnectionParams(**(values | changes))


def run(task: MigrationTask) -> Inspection:
    """In this process, as a worker does."""
    made = connectivity.request_test(None, task)
    lease = inspections.acquire(made.pk, "this test", host="worker-1", ip="10.1.2.3")
    assert lease is not None
    runner.run(lease)
    made.refresh_from_db()
    return made


@pytest.fixture
def tested(account: Account, target_server: Server) -> Any:
    """`tested(params)` → what the test says of a source that is reached so, and the source."""

    def run_for(params: ConnectionParams) -> tuple[dict[str, Any], Instance, Inspection]:
        source = connections.create_self_hosted(None, account, params, checked=False)
        target = connections.create_self_hosted(None, account, at(target_server))
        task = MigrationTask.objects.create(name="t", account=account, source=source, target=target)
        done = run(task)
        assert done.status == InspectionStatus.DONE, done.failure_message
        source.refresh_from_db()
        assert done.result["target"]["ok"]
        assert done.passed == done.result["source"]["ok"] == connectivity.is_passed(task)
        task.refresh_from_db()  # opened again, the set-up goes on where it was left
        assert task.wizard_step == ("objects" if done.passed else "")
        assert (done.worker_host, done.worker_ip) == ("worker-1", "10.1.2.3")
        return done.result["source"], source, done

    return run_for


class TestReached:
    def test_a_server_and_what_it_is(self, tested: Any, redis_server: ServerFactory) -> None:
        server = redis_server("redis-6.2", password="of the source")
        with server.client(db=3) as client:
            client.mset({"a": 1, "b": 2})
        told, source, _ = tested(at(server))
        assert told["product"].startswith("Redis 6.2")
        assert (told["keys"], told["addresses"]) == (2, [f"{server.host}:{server.port}"])
        assert told["latency_ms"] > 0
        assert (source.status, source.role, source.database_count) == (
            InstanceStatus.ONLINE,
            NodeRole.MASTER,
            16,
        )
        assert source.databases == [{"index": 3, "keys": 2, "expires": 0}]

    def test_a_socket(self, tested: Any, redis_server: ServerFactory) -> None:
        server = redis_server("valkey-8", password="p", unix=True)
        path = str(server.unix_path)
        told, _, _ = tested(ConnectionParams(unix_path=path, password="p"))
        assert told["ok"] and told["product"].startswith("Valkey 8")

    def test_tls_with_the_authority_of_the_server(self, tested: Any, redis_server: ServerFactory) -> None:
        server = redis_server("redis-7.2", tls=True)
        assert tested(at(server, tls=True, tls_ca_pem=server.ca.read_text()))[0]["ok"]
        untrusted, _, _ = tested(at(server, tls=True))
        assert (untrusted["ok"], untrusted["field"]) == (False, "tls_ca_pem")
        other = tested(
            at(server, tls=True, tls_ca_pem=server.ca.read_text(), tls_server_name="other.internal")
        )[0]
        assert (other["ok"], other["field"]) == (False, "tls_server_name")
        assert tested(at(server, tls=True, tls_verify=False))[0]["ok"]

    def test_a_custom_account(self, tested: Any, redis_server: ServerFactory) -> None:
        server = redis_server("redis-7.0", password="p")
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "mig", "on", ">a:b", "+@all", "~*")
        assert tested(at(server, username="mig", password="a:b"))[0]["ok"]

    def test_the_keys_of_a_whole_cluster(self, tested: Any) -> None:
        with Cluster("redis-7.0", masters=3) as cluster:
            for number in range(60):
                cluster.set(f"k{number}", "x")
            told, source, _ = tested(at(cluster.nodes[1]))
            assert told["keys"] == 60
            assert sorted(told["addresses"]) == sorted(f"{one.host}:{one.port}" for one in cluster.nodes)
            assert source.architecture == Architecture.CLUSTER
            assert source.databases == [{"index": 0, "keys": 60, "expires": 0}]

    def test_the_master_that_sentinels_name(self, tested: Any) -> None:
        watched = Watched("redis-7.0", password="p", sentinel_password="s")
        try:
            params = ConnectionParams(
                kind=EndpointKind.SENTINEL,
                port=0,
                sentinels=("127.0.0.1:1", f"127.0.0.1:{watched.sentinels[0].port}"),
                master_name=NAME,
                password="p",
                sentinel_password="s",
            )
            told, source, _ = tested(params)
            assert told["ok"], told
            assert told["addresses"] == [f"127.0.0.1:{watched.servers[0].port}"]
            assert (source.role, source.name) == (NodeRole.MASTER, NAME)
            told, _, _ = tested(ConnectionParams(**{**params.__dict__, "master_name": "nobody"}))
            assert told["id"] == errors.UnknownMaster.id
            told, _, _ = tested(ConnectionParams(**{**params.__dict__, "sentinel_password": "wrong"}))
            assert not told["ok"] and "sentinel" in told["message"].lower()
        finally:
            watched.close()


class TestNotReached:
    """An error of its own for each, with what to do; the other side is told all the same."""

    def test_nobody_listens(self, tested: Any, free_port: Any) -> None:
        told, source, _ = tested(ConnectionParams(host="127.0.0.1", port=free_port()))
        assert (told["ok"], told["id"]) == (False, "probe.refused")
        assert told["message"] and told["advice"]
        assert (source.status, source.last_error) == (
            InstanceStatus.UNREACHABLE,
            f"{told['message']} {told['advice']}",
        )

    @pytest.mark.parametrize(
        ("password", "id"), [("", "probe.password_needed"), ("not-it-42", "probe.wrong_password")]
    )
    def test_the_password(self, tested: Any, target_server: Server, password: str, id: str) -> None:
        told, _, done = tested(at(target_server, password=password))
        assert (told["id"], told["field"]) == (id, "password")
        assert "not-it-42" not in str(done.result)

    @pytest.mark.parametrize("version", ["redis-3.2", "redis-5.0"])
    def test_a_custom_account_on_a_server_without_accounts(
        self, tested: Any, redis_server: ServerFactory, version: str
    ) -> None:
        server = redis_server(version, password="p")
        told, _, _ = tested(at(server, username="mig", password="p"))
        assert told["id"] == "probe.no_users" and "older than 6.0" in told["message"]

    def test_a_name_that_does_not_resolve(self, tested: Any) -> None:
        assert tested(ConnectionParams(host="no-such-host.invalid"))[0]["id"] == "probe.no_such_host"

    def test_a_public_address_is_not_connected_to(self, tested: Any) -> None:
        assert tested(ConnectionParams(host="8.8.8.8"))[0]["id"] == "probe.address_not_allowed"

    def test_the_same_server_twice(self, tested: Any, target_server: Server, account: Account) -> None:
        sides = [
            connections.create_self_hosted(None, account, at(target_server, host=host))
            for host in ("127.0.0.1", "localhost")
        ]
        task = MigrationTask.objects.create(name="t", account=account, source=sides[0], target=sides[1])
        done = run(task)
        assert not done.passed
        assert done.result["source"]["ok"] and done.result["target"]["id"] == "task.same_server"


class TestFile:
    def test_a_snapshot(self, tested: Any, redis_server: ServerFactory, settings: Settings) -> None:
        server = redis_server("redis-7.0", password="p")
        with server.client() as client:
            client.set("a", 1)
            client.save()
        path = Path(server.dir) / "dump.rdb"
        settings.SNAPSHOT_FOLDER = str(server.dir)
        told, source, _ = tested(ConnectionParams(kind=EndpointKind.FILE, port=0, file_path=str(path)))
        assert (told["ok"], told["snapshot_version"]) == (True, 10)
        assert source.facts["snapshot_bytes"] == path.stat().st_size

    def test_what_is_none(self, tested: Any, tmp_path: Path, settings: Settings) -> None:
        settings.SNAPSHOT_FOLDER = str(tmp_path / "in")
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "text.rdb").write_text("hello, this is no snapshot")
        (tmp_path / "outside.rdb").write_bytes(b"REDIS0011")
        (tmp_path / "in" / "link.rdb").symlink_to(tmp_path / "outside.rdb")
        for name, id in (
            ("text.rdb", "usage"), ("missing.rdb", "usage"), ("link.rdb", "connection.file_elsewhere"),
        ):  # fmt: skip
            path = str(tmp_path / "in" / name)
            told, _, _ = tested(ConnectionParams(kind=EndpointKind.FILE, port=0, file_path=path))
            assert not told["ok"] and told["message"] and id in told["id"], told


class TestCounts:
    def test_only_for_the_sides_as_they_are(self, make_task: Any, target: Instance) -> None:
        task = make_task("draft")
        Inspection.objects.create(
            task=task, kind=InspectionKind.CONNECTIVITY, status=InspectionStatus.DONE, passed=True,
            fingerprint=connectivity.fingerprint(task),
        )  # fmt: skip
        assert connectivity.is_passed(task)
        target.endpoint.password = "another"
        target.endpoint.save()
        task = MigrationTask.objects.get(pk=task.pk)
        assert not connectivity.is_passed(task) and connectivity.newest(task) is None


def test_the_engine_connects_to_permitted_addresses_only() -> None:
    """R94, again at connect time: a name may lead elsewhere by then."""
    with pytest.raises(errors.AddressNotAllowed):
        Client(EngineEndpoint(host="8.8.8.8", port=6379), timeout=2)
