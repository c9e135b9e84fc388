"""Tasks between instances that were registered while all was well, and what a person reads of them afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from migrations_app.choices import TaskStatus
from migrations_app.engine.endpoint import Endpoint as EngineEndpoint
from migrations_app.engine.verify import verify
from migrations_app.engine.verify.report import as_text
from migrations_app.models import MigrationTask
from migrations_app.services import tasks
from portal.models import Account, Endpoint, Instance
from portal.redis_control import EndpointParams
from portal.services import instances
from tests.engine.links import offset_of
from tests.migrations_app.clusters import Story
from tests.support.notes import expiries_wait
from tests.support.proxy import FaultProxy
from tests.support.servers import Server
from tests.support.wait import wait_for

State = tuple[dict[str, int], dict[bytes, bytes]]


class Case(Story):
    """One task in an account of its own. A proxy, where one is given, stands between the worker and the server."""

    def __init__(
        self,
        source: Server,
        target: Server,
        *,
        source_proxy: FaultProxy | None = None,
        target_proxy: FaultProxy | None = None,
        **settings: Any,
    ) -> None:
        self.source, self.target = source, target
        self.account = Account.objects.create(name=f"Account {uuid4().hex}")
        made = {"source": _registered(self.account, source), "target": _registered(self.account, target)}
        for side, proxy in (("source", source_proxy), ("target", target_proxy)):
            if proxy:
                readdress(made[side], host=proxy.host, port=proxy.port)
        self.task = tasks.create_task(None, self.account, made["source"], made["target"], **settings)

    def row(self) -> MigrationTask:
        return MigrationTask.objects.get(pk=self.task.pk)

    def instance(self, side: str) -> Instance:
        source, target = self.task.both_sides()
        return source if side == "source" else target

    def resume(self, *, allow_full_resync: bool = False) -> None:
        tasks.resume_task(None, self.row(), allow_full_resync=allow_full_resync)

    def stop(self) -> TaskStatus:
        """Ask for it, and wait until it has ended."""
        tasks.stop_task(None, self.row())
        self.wait(lambda: self.status.is_final, 20, "not stopped")
        return self.status

    def wait_for_failure(self, seconds: float = 40) -> MigrationTask:
        """The task as a person reads it, failed."""
        self.wait(lambda: self.status.is_final, seconds, "not failed")
        task = self.row()
        assert task.status == TaskStatus.FAILED, self.describe()
        assert task.failure_message and task.failure_advice
        assert (self.link.owner, self.link.desired) == ("", "stop")
        last = task.log.last()
        assert last is not None
        assert (last.event, last.message) == ("task.failed", task.failure_message)
        for line in task.log.all():
            assert "Traceback" not in line.message and 'File "' not in line.message
        return task

    def settle(self) -> None:
        """Everything that was written so far is applied, and both sides are equal."""
        self.wait_until_following()
        wait_until_applied(self)
        self.wait(lambda: self.progress.caught_up, 60, "not caught up")
        self.wait(lambda: not expiries_wait(self.target, self.link.name), 30, "expiries are not set")
        assert_same(self.source, self.target)

    def settle_databases(self, *databases: int) -> None:
        """As `settle`, for a task that copies some databases only."""
        wait_until_applied(self)
        assert_same(self.source, self.target, frozenset(databases))

    def state(self) -> State:
        """What the target holds: how many keys without an expiry in each database, and the checkpoint."""
        with self.target.client() as client:
            counts = {name: one["keys"] - one["expires"] for name, one in client.info("keyspace").items()}
            return counts, client.hgetall(f"switchyard:checkpoint:{self.link.name}")

    def nothing_more_arrives(self) -> None:
        """Nobody of the link is connected to either side, and what the source writes now changes nothing."""
        before = self.state()
        for server in (self.source, self.target):
            with server.client() as client:
                wait_for(lambda: not self.connections(client), 10, f"still connected to {server}")
        with self.source.client() as client:
            client.set(f"later:{uuid4().hex}", 1)
        assert self.state() == before

    def connections(self, client: Any) -> list[Mapping[str, str]]:
        return [one for one in client.client_list() if one["name"].startswith(f"switchyard:{self.link.name}")]


def wait_until_applied(story: Story) -> None:
    """All that the source has written up to now is in the target, says the task."""
    offset = offset_of(story.source)
    story.wait(lambda: (story.progress.applied_offset or 0) >= offset, 60, f"not applied up to {offset}:")


def readdress(instance: Instance, **changes: Any) -> None:
    """Change the row of an endpoint, without the checks of the form."""
    assert Endpoint.objects.filter(instance=instance).update(**changes) == 1


def endpoint_of(server: Server) -> EngineEndpoint:
    """For the comparison, which can read over TLS too."""
    ca = server.ca.read_text() if server.authority else ""
    return EngineEndpoint(
        host=server.host, port=server.port, password=server.password, tls=bool(ca), tls_ca_pem=ca
    )


def assert_same(source: Server, target: Server, databases: frozenset[int] | None = None) -> None:
    """Both sides hold the same, by value, type and expiry."""
    sides = endpoint_of(source), endpoint_of(target)
    found = verify(*sides, databases=databases, ttl_tolerance_ms=2000)
    assert found.complete
    assert found.differences == 0, as_text(found)


def _registered(account: Account, server: Server) -> Instance:
    tls = {"tls": True, "tls_ca_pem": server.ca.read_text()} if server.authority else {}
    return instances.register_instance(
        None,
        account,
        EndpointParams(host=server.host, port=server.port, password=server.password, **tls),  # type: ignore[arg-type]
        name=f"{server.name} {server.port}",
    )
