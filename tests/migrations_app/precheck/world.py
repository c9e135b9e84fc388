"""Cases of the items of the precheck: two real servers, what is done to them, and what the item is to find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from migrations_app.choices import InspectionKind, Outcome
from migrations_app.engine.errors import EngineError
from migrations_app.models import Inspection, Link, LinkProgress, MigrationTask
from migrations_app.runner.inspections import Reporter
from migrations_app.runner.precheck.context import Context
from migrations_app.runner.precheck.items import ITEMS
from migrations_app.runner.precheck.registry import Finding
from migrations_app.runner.precheck.run import look
from migrations_app.services.inspections import InspectionLease
from portal.choices import EndpointKind
from portal.models import Account, Endpoint, Instance
from tests.support.cluster import Cluster
from tests.support.servers import Server

SOURCE, TARGET = "redis-7.0", "valkey-9"
Setup = Callable[["World"], None]


@dataclass(frozen=True)
class Case:
    code: str
    outcome: Outcome
    words: tuple[str, ...]
    setup: Setup
    name: str


CASES: Final[list[Case]] = []


def case(code: str, outcome: Outcome, *words: str) -> Callable[[Setup], Setup]:
    """Register a case: after the function, the item `code` has this outcome, and its texts hold the words."""

    def register(setup: Setup) -> Setup:
        CASES.append(Case(code, outcome, words, setup, f"{code}-{outcome.value}-{setup.__name__}"))
        return setup

    return register


SideSetup = Callable[["World", str], None]


def for_each(name: str, outcome: Outcome, *words: str) -> Callable[[SideSetup], SideSetup]:
    """The case for both sides; the function takes the side."""

    def register(setup: SideSetup) -> SideSetup:
        for side in ("source", "target"):

            def one(w: World, side: str = side) -> None:
                setup(w, side)

            one.__name__ = setup.__name__
            case(f"{side}.{name}", outcome, *words)(one)
        return setup

    return register


class Pool:
    """Servers that the cases of a run share, by what they were made with; empty whenever they are handed out."""

    def __init__(self) -> None:
        self._servers: dict[str, Server | Cluster] = {}

    def server(self, version: str, use: str = "", **options: Any) -> Server:
        key = f"{version} {use} {sorted(options.items(), key=str)}"
        found = self._servers.get(key)
        if found is None:
            found = self._servers[key] = Server(version, **options).start()
        assert isinstance(found, Server)
        return found

    def cluster(self, version: str, use: str = "", **options: Any) -> Cluster:
        key = f"cluster {version} {use} {sorted(options.items(), key=str)}"
        found = self._servers.get(key)
        if found is None:
            found = self._servers[key] = Cluster(version, masters=2, **options).start()
        assert isinstance(found, Cluster)
        return found

    def close(self) -> None:
        for server in self._servers.values():
            server.close()


@dataclass
class World:
    """What a case changes. Sides that it does not choose are a Redis 7.0 and a Valkey 9 of the pool, without keys."""

    pool: Pool
    task_settings: dict[str, Any] = field(default_factory=dict)
    endpoints: dict[str, dict[str, Any]] = field(default_factory=lambda: {"source": {}, "target": {}})
    undo: list[Callable[[], object]] = field(default_factory=list)
    patches: Any = None  # pytest's monkeypatch
    folder: Any = None  # of the test
    _sides: dict[str, Server] = field(default_factory=dict)
    _task: MigrationTask | None = None

    def use(self, side: str, version: str = "", **options: Any) -> Server:
        """The server of a side."""
        server = self.pool.server(version or (SOURCE if side == "source" else TARGET), side, **options)
        self._sides[side] = server
        with server.client() as client:
            client.flushall()
        return server

    def use_cluster(self, side: str, version: str = SOURCE, **options: Any) -> Cluster:
        cluster = self.pool.cluster(version, side, **options).empty()
        self._sides[side] = cluster.nodes[0]
        return cluster

    def server(self, side: str) -> Server:
        return self._sides.get(side) or self.use(side)

    @property
    def source(self) -> Server:
        return self.server("source")

    @property
    def target(self) -> Server:
        return self.server("target")

    def configure(self, side: str, **settings: object) -> None:
        """CONFIG SET until the end of the case; underscores stand for dashes."""
        server = self.server(side)
        for name, value in settings.items():
            name = name.replace("_", "-")
            with server.client() as client:
                before = client.config_get(name)[name]
                client.config_set(name, str(value))
            self.undo.append(partial(self._set, server, name, before))

    @staticmethod
    def _set(server: Server, name: str, value: str) -> None:
        with server.client() as client:
            client.config_set(name, value)

    def do(self, side: str, *command: Any, undo: tuple[Any, ...] = ()) -> Any:
        """A command at a side; `undo` is carried out at the end of the case."""
        server = self.server(side)
        if undo:
            self.undo.append(lambda: self._execute(server, *undo))
        return self._execute(server, *command)

    @staticmethod
    def _execute(server: Server, *command: Any) -> Any:
        with server.client() as client:
            return client.execute_command(*command)

    def endpoint(self, side: str, **changes: Any) -> None:
        """Other fields of the endpoint than those of the server."""
        self.endpoints[side] |= changes

    def task(self, **settings: Any) -> None:
        self.task_settings |= settings

    # --- looking ------------------------------------------------------------------------------------------------------

    def made_task(self) -> MigrationTask:
        if self._task is None:
            account = Account.objects.create(name="Payments")
            sides = {side: self._instance(account, side) for side in ("source", "target")}
            self._task = MigrationTask.objects.create(
                name="orders", account=account, **(sides | self.task_settings)
            )
            link = Link.objects.create(task=self._task, name=self._task.public_id)
            LinkProgress.objects.create(link=link)
        return self._task

    def _instance(self, account: Account, side: str) -> Instance:
        instance = Instance.objects.create(
            account=account, name="orders" if side == "source" else "orders-new"
        )
        given = self.endpoints[side]
        values: dict[str, Any] = {}
        if given.get("kind", EndpointKind.SERVER) == EndpointKind.SERVER:
            server = self.server(side)
            values = {
                "host": server.host,
                "port": server.port,
                "username": server.username,
                "password": server.password,
                "tls": server.authority is not None,
                "tls_ca_pem": server.ca.read_text() if server.authority else "",
            }
        Endpoint.objects.create(instance=instance, **(values | given))
        return instance

    def look(self, code: str) -> Finding:
        """What the item finds now."""
        task = self.made_task()
        inspection = Inspection.objects.create(task=task, kind=InspectionKind.PRECHECK)
        context = Context(task, Reporter(InspectionLease(inspection.pk, "test", 1), inspection))
        (item,) = [one for one in ITEMS if one.code == code]
        try:
            for name in ("source", "target") if item.needs else ():
                try:
                    if not context.side(name).is_file:
                        context.side(name).connect()
                except EngineError:
                    pass
            return look(item, context)
        finally:
            context.close()

    def close(self) -> None:
        for undo in reversed(self.undo):
            undo()
