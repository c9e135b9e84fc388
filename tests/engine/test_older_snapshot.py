"""Snapshots to older servers: what the target does not load is rewritten, and what it cannot hold stops the link by name."""

from __future__ import annotations

import pytest
import redis

from migrations_app.demo.clients import Capabilities
from migrations_app.demo.dataset import fill

from .conftest import Shared
from .links import assert_equal, run

DOWN = [
    ("redis-5.0", "redis-3.2"), ("redis-7.0", "redis-5.0"), ("redis-7.0", "redis-6.2"), ("redis-7.2", "redis-7.0"),
    ("redis-7.4", "redis-6.2"), ("redis-7.4", "valkey-9"), ("redis-8.6", "redis-7.0"), ("redis-8.6", "redis-7.4"),
    ("redis-8.6", "valkey-8.1"), ("valkey-9", "redis-7.2"), ("valkey-9", "redis-8.6"), ("valkey-9", "valkey-8.0"),
]  # fmt: skip


@pytest.mark.parametrize(("new", "old"), DOWN)
def test_all_that_the_older_server_can_hold_arrives(shared: Shared, new: str, old: str) -> None:
    """The demo's corner cases, in every encoding of the source."""
    source, target = shared(new, "source"), shared(old, "target")
    fill(source.url, keys=0, big_value_bytes=100_000, large_elements=3000, databases=(0, 3))
    for number in (0, 3):
        client = source.client(db=number)
        for key in client.scan_iter(count=1000):
            kind = client.type(key)
            if kind == b"stream" and target.version < (5,):
                client.delete(key)
            if kind == b"hash" and not field_expiry(target.client()) and field_expiry(client):
                fields = client.hkeys(key)
                client.execute_command("HPERSIST", key, "FIELDS", len(fields), *fields)
    if Capabilities.of(source.client()).has("FUNCTION") and not Capabilities.of(target.client()).has(
        "FUNCTION"
    ):
        source.client().function_flush()
    run(source, target)
    assert_equal(source, target)


def field_expiry(client: redis.Redis) -> bool:
    return Capabilities.of(client).has("HPEXPIREAT")
