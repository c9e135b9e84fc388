"""Where nothing differs, nothing is reported: the whole demo data set, replicated by the servers themselves, upward."""

from __future__ import annotations

import pytest

from migrations_app.demo.dataset import fill
from tests.engine.conftest import Shared
from tests.engine.verify.steps import apply, compare
from tests.support.servers import Server
from tests.support.wait import wait_for

UPWARD = [
    ("redis-3.2", "redis-5.0"),
    ("redis-5.0", "redis-7.0"),
    ("redis-5.0", "valkey-9"),
    ("redis-6.2", "redis-6.2"),
    ("redis-7.0", "valkey-9"),
    ("redis-7.4", "redis-8.0"),
    ("valkey-9", "valkey-9"),
]


def replicate(source: Server, target: Server) -> None:
    """Have the target copy the source, and make it a master of its own again."""
    with target.client() as client:
        client.execute_command("REPLICAOF" if target.version >= (5,) else "SLAVEOF", source.host, source.port)
        wait_for(
            lambda: client.info("replication").get("master_link_status") == "up",
            60,
            "the replica does not load",
        )
        client.execute_command("REPLICAOF" if target.version >= (5,) else "SLAVEOF", "NO", "ONE")


@pytest.mark.parametrize("versions", UPWARD, ids=" to ".join)
def test_demo_data(shared: Shared, versions: tuple[str, str]) -> None:
    source, target = shared(versions[0], "source"), shared(versions[1], "target")
    filled = fill(source.url, keys=6000, big_value_bytes=3_000_000, large_elements=5000)
    replicate(source, target)

    report = compare(source, target)

    assert report.items == ()
    assert report.equal
    # Some of the keys live for seconds only.
    assert filled.total_keys * 0.95 <= report.keys <= filled.total_keys
    assert set(report.databases) == set(filled.keys)
    assert sum(report.databases.values()) == report.keys


def test_the_same_values_in_other_encodings(shared: Shared) -> None:
    """A conversion to the encoding for large values is never taken back, so the same value can be in either."""
    source, target = shared("redis-7.0", "source"), shared("valkey-9", "target")
    values = [
        ("RPUSH", "list", *range(100)),
        ("SADD", "set", *range(100)),
        ("HSET", "hash", *range(100)),
        ("ZADD", "zset", *range(100)),
        ("SET", "int", 123),
        ("PFADD", "hll", *range(200)),
    ]
    big = "x" * 30_000
    converting = [
        ("RPUSH", "list", *[big] * 3),
        ("SADD", "set", big),
        ("HSET", "hash", "f", big),
        ("ZADD", "zset", 1, big),
        ("APPEND", "int", "4"),
    ]
    back = [
        ("LTRIM", "list", 0, 99),
        ("SREM", "set", big),
        ("HDEL", "hash", "f"),
        ("ZREM", "zset", big),
        ("SETRANGE", "int", 0, "123"),
    ]
    apply(source, values)
    apply(target, [*values[:4], ("SET", "int", "12"), converting[4], *converting[:4], *back])
    apply(target, [("CONFIG", "SET", "hll-sparse-max-bytes", 0)])
    try:
        apply(target, [values[5], ("PFCOUNT", "hll")])
    finally:
        apply(target, [("CONFIG", "SET", "hll-sparse-max-bytes", 3000)])
    with source.client() as one, target.client() as two:
        assert one.get("hll") != two.get("hll")
        for key in ("set", "hash", "zset"):
            assert one.object("encoding", key) != two.object("encoding", key)

    report = compare(source, target)

    assert report.items == ()
    assert report.keys == 6


def test_scores_between_servers_that_print_them_differently(shared: Shared) -> None:
    source, target = shared("redis-5.0", "source"), shared("redis-7.4", "target")
    scores = [
        "0.1",
        "1e-320",
        "1.7976931348623157e308",
        "3.0000000000000004",
        "-0.30000000000000004",
        "inf",
        "12345678901234567890",
    ]
    for server in (source, target):
        apply(
            server,
            [("ZADD", "small", *(word for n, score in enumerate(scores) for word in (score, f"m{n}")))],
        )
        apply(server, [("ZADD", "large", f"{n / 7}", "m" * 100 + str(n)) for n in range(1000)])
    assert compare(source, target).items == ()


def test_consumers_that_have_nothing_pending(shared: Shared) -> None:
    """Servers do not tell their own replicas of consumers that have read nothing, so they are no part of the value."""
    source, target = shared("redis-7.0", "source"), shared("redis-7.0", "target")
    for server in (source, target):
        apply(server, [("XADD", "s", "1-1", "f", "v"), ("XGROUP", "CREATE", "s", "g", "$")])
    apply(source, [("XGROUP", "CREATECONSUMER", "s", "g", "idle")])
    assert compare(source, target).equal
