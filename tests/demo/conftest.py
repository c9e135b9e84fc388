"""Servers of the demo's tests: one of each version per module, and the embedded one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.servers import Server

VERSIONS = (
    "redis-3.2", "redis-5.0", "redis-6.0", "redis-6.2", "redis-7.0", "redis-7.2", "redis-7.4", "redis-8.0", "redis-8.6",
    "valkey-8.0", "valkey-8.1", "valkey-9",
)  # fmt: skip


@pytest.fixture(scope="module", params=VERSIONS)
def every_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each version, for a whole module: whoever needs it empty empties it."""
    with Server(request.param) as server:
        yield server


@pytest.fixture(scope="module")
def embedded() -> Iterator[Server]:
    """The version that the demo itself uses, for a whole module."""
    with Server("valkey-9") as server:
        yield server
