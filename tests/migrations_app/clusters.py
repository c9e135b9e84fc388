"""A real database that several processes share, and real clusters on it: what the tests of the background work stand on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import dj_database_url
import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from migrations_app.choices import TaskStatus
from migrations_app.models import Link, LinkProgress, MigrationTask
from migrations_app.services import tasks
from portal.models import Account, Instance
from portal.redis_control import EndpointParams
from portal.services import instances
from tests.support.process import Process, children_of, descendants_of, is_gone
from tests.support.servers import Server
from tests.support.tasks import prechecked
from tests.support.wait import wait_for

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def database(url: str) -> Iterator[None]:
    """This process works on the database at `url`, migrated, instead of on its test database."""
    before = connections.databases["default"]
    configuration: dict[str, Any] = before | dj_database_url.parse(url, conn_max_age=0)
    if "sqlite" in configuration["ENGINE"]:
        configuration["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
        }
    else:
        configuration["OPTIONS"] = {}
    test_connection = connections["default"]
    connections.databases["default"] = configuration
    connections["default"] = connections.create_connection("default")
    try:
        call_command("migrate", verbosity=0)
        yield
    finally:
        connections["default"].close()
        connections.databases["default"] = before
        connections["default"] = test_connection


def new_database(server_url: str) -> str:
    """The URL of a new database of a PostgreSQL."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


@contextmanager
def shared_database(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """For a fixture: a database on which several threads, or processes, work at once → its URL. SQLite unless the parameter is `postgresql`."""
    if getattr(request, "param", "sqlite") == "postgresql":
        url = new_database(request.getfixturevalue("postgres").url)
    else:
        url = f"sqlite:///{folder}/shared.sqlite3"
    with database(url):
        yield url


NewCluster = Callable[[], "Cluster"]


@contextmanager
def new_clusters(url: str, folder: Path, *, workers: int) -> Iterator[NewCluster]:
    """For a fixture: makes clusters `default` on a database, and ends them."""
    made: list[Cluster] = []

    def make() -> Cluster:
        made.append(Cluster(url, folder, workers=workers, name="default"))
        return made[-1].start()

    try:
        yield make
    finally:
        for cluster in made:
            cluster.kill()


class Cluster:
    """`manage.py runcluster NAME` on the database at `url`."""

    def __init__(self, url: str, folder: Path, *, workers: int = 2, name: str = "replication") -> None:
        self._name = name
        self._folder = folder
        self._env = os.environ | {
            "DATABASE_URL": url,
            "REPLICATION_WORKERS": str(workers),
            "DEFAULT_WORKERS": str(workers),
            # The keys of this run, also where a test has changed its settings.
            "SECRET_KEY": settings.SECRET_KEY,
        }
        self._count = 0
        self.process: Process

    def start(self) -> Cluster:
        """Returns once its workers wait for jobs."""
        self._count += 1
        command = [sys.executable, str(ROOT / "manage.py"), "runcluster", self._name]
        log = self._folder / f"cluster-{id(self)}-{self._count}.log"
        self.process = Process(command, log, cwd=ROOT, env=self._env)
        wait_for(lambda: "guarding cluster" in self.log, 30, lambda: f"no cluster:\n{self.log[-3000:]}")
        return self

    def kill(self) -> None:
        """As if the power had gone: when this returns, nothing of it does anything any more."""
        if not self.process.alive:  # its number may be another's
            self.process.end()
            return
        pids = [self.main, *descendants_of(self.main)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.end()
        wait_for(lambda: all(map(is_gone, pids)), 10, "they were killed and are not gone")

    @property
    def log(self) -> str:
        return self.process.log.read_text(errors="replace")

    @property
    def main(self) -> int:
        return self.process.pid

    @property
    def sentinel(self) -> int:
        (pid,) = children_of(self.main)
        return pid

    def pool(self) -> list[int]:
        """Workers, pusher and monitor."""
        return children_of(self.sentinel)


def register(account: Account, name: str, server: Server) -> Instance:
    return instances.register_instance(
        None,
        account,
        EndpointParams(host=server.host, port=server.port, password=server.password),
        name=name,
        region="",
        zone="",
        description="",
    )


class Story:
    """One task between two servers, as seen in the database."""

    def __init__(self, source: Server, target: Server, **settings: Any) -> None:
        self.source, self.target = source, target
        self.account = Account.objects.create(name="Payments")
        self.task = tasks.create_task(
            None,
            self.account,
            register(self.account, "orders", source),
            register(self.account, "orders-new", target),
            **settings,
        )

    def start(self) -> None:
        tasks.start_task(None, prechecked(self.task))

    @property
    def status(self) -> TaskStatus:
        return TaskStatus(MigrationTask.objects.values_list("status", flat=True).get(pk=self.task.pk))

    @property
    def link(self) -> Link:
        return Link.objects.get(task=self.task)

    @property
    def progress(self) -> LinkProgress:
        return LinkProgress.objects.get(link__task=self.task)

    @property
    def worker(self) -> int:
        return int(self.link.owner.split(":")[1])

    def wait(self, condition: Callable[[], object], seconds: float = 30, what: str = "") -> None:
        wait_for(condition, seconds, lambda: f"{what} {self.describe()}", interval=0.05)

    def wait_until_following(self, *, after_epoch: int = 0, seconds: float = 30) -> None:
        """A worker with a higher epoch has the link, and a write made now arrives."""
        with self.source.client() as source, self.target.client() as target:
            self.wait(lambda: self.link.owner and self.link.epoch > after_epoch, seconds, "no new owner")
            number = source.incr("test:mark")
            self.wait(
                lambda: int(target.get("test:mark") or 0) >= number, seconds, "the write does not arrive"
            )
            self.wait(lambda: self.status == TaskStatus.INCREMENTAL, seconds, "not incremental")

    def describe(self) -> str:
        link, progress = self.link, self.progress
        lines = "\n".join(
            f"  {line.at:%H:%M:%S} {line.event}: {line.message}" for line in self.task.log.all()
        )
        return (
            f"status={self.status} owner={link.owner} epoch={link.epoch} lease={link.lease_until} phase={progress.phase} "
            f"full={progress.full_syncs} partial={progress.partial_syncs}\n{lines}"
        )
