"""A shared database, clusters that are ended whatever happens, and a source and a target that are quick to begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pytest
from django.core.cache import cache

from tests.migrations_app.clusters import database, shared_database
from tests.support.fixtures import ServerFactory
from tests.support.servers import Server

from .machines import Machine

# A replica is served at once, and what the writer writes during some seconds stays in the backlog.
SOURCE = {
    "repl-diskless-sync": "yes",
    "repl-diskless-sync-delay": 0,
    "repl-backlog-size": "64mb",
    "client-output-buffer-limit": ("replica", 0, 0, 0),
}


class Blocker(Protocol):
    """What pytest-django gives as `django_db_blocker`."""

    def unblock(self) -> AbstractContextManager[None]: ...


class MakeMachine(Protocol):
    def __call__(self, *, start: bool = True, **options: Any) -> Machine: ...


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: Blocker) -> Iterator[str]:
    """A database that other processes share; SQLite unless the test says otherwise."""
    with django_db_blocker.unblock(), shared_database(request, tmp_path) as chosen:
        yield chosen


@pytest.fixture
def machine(url: str, tmp_path: Path) -> Iterator[MakeMachine]:
    """`machine()` → a started replication cluster on the shared database; several are several machines."""
    made: list[Machine] = []

    def make(*, start: bool = True, **options: Any) -> Machine:
        made.append(Machine(url, tmp_path, **options))
        if start:
            made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def shared_machine(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Blocker) -> Iterator[Machine]:
    """One cluster, on a SQLite of its own, for all tests of a module that break servers and networks, but no process of ours."""
    folder = tmp_path_factory.mktemp("shared")
    chosen = f"sqlite:///{folder / 'shared.sqlite3'}"
    with django_db_blocker.unblock(), database(chosen):
        one = Machine(chosen, folder, workers=3)
        try:
            yield one.start()
            one.wait_until_tidy()
            assert one.stop() == 0
            assert one.processes() == []
        finally:
            one.close()


@pytest.fixture
def sides(redis_server: ServerFactory) -> tuple[Server, Server]:
    """Source and target."""
    return redis_server("redis-7.0", config=SOURCE), redis_server("redis-7.0")


@pytest.fixture(autouse=True)
def _nothing_cached() -> Iterator[None]:
    yield
    cache.clear()


MakeProxy = Callable[..., Any]
