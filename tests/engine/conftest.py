"""Servers that tests of one module share: started once, empty at the beginning of each test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import pytest
import redis

from tests.support.servers import Server, Value
from tests.support.wait import wait_for

# What a source needs so that tests do not wait for it: no delay before a diskless snapshot, room for the stream.
QUICK: Mapping[str, Value] = {
    "repl-diskless-sync-delay": 0,
    "repl-backlog-size": "32mb",
    "hz": 50,
    "repl-ping-slave-period": 1,
    "repl-timeout": 6,
}

Shared = Callable[..., Server]


def empty(server: Server) -> Server:
    """As it was when it started, but for its configuration file and its replication history."""
    with server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        client.flushall()
        client.config_resetstat()
        with contextlib.suppress(redis.ResponseError):  # before 7.0
            client.execute_command("FUNCTION", "FLUSH")
        wait_for(
            lambda: not client.info("replication")["connected_slaves"],
            20,
            "a replica of an earlier test stays",
        )
    return server


@pytest.fixture(scope="module")
def _pool() -> Iterator[dict[str, Server]]:
    pool: dict[str, Server] = {}
    yield pool
    for server in pool.values():
        server.close()


@pytest.fixture
def shared(_pool: dict[str, Server]) -> Shared:
    """`shared("redis-7.0", "source")` → a running, empty server, the same one for all tests of the module that ask so.

    Tests that change its configuration or stop it take `redis_server` instead.
    """

    def get(version: str, role: str) -> Server:
        name = f"{version} {role}"
        if name not in _pool:
            _pool[name] = Server(version, config=QUICK)
            _pool[name].start()
        return empty(_pool[name])

    return get


@pytest.fixture
def pair(shared: Shared) -> tuple[Server, Server]:
    """An empty source and an empty target, both Redis 7.0."""
    return shared("redis-7.0", "source"), shared("redis-7.0", "target")
