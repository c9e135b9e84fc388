"""Snapshots to older servers: what the target does not load is rewritten, and what it cannot hold stops the link by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from migrations_app.demo.clients import Capabilities
from migrations_app.demo.dataset import fill
from migrations_app.engine.config import Method, Phases
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import UnsupportedData
from migrations_app.engine.kernel import module_name
from migrations_app.engine.rdb import convert

from .build import VALUES, entry, select, snapshot, string, strings
from .conftest import QUICK, Shared
from .links import RunningLink, assert_equal, run
from .writes import plain

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


REFUSED = [
    # source, target, what makes the value, what the message says of it
    ("redis-7.4", "redis-6.2", "HSET k f 1 g 2; HEXPIRE k 1000 FIELDS 1 g", ("field b'g'", "expiry", "Redis 6.2.14")),
    ("valkey-9", "redis-7.2", "HSET k f 1 g 2; HEXPIRE k 1000 FIELDS 1 g", ("field b'g'", "expiry", "Redis 7.2.4")),
    ("redis-8.6", "valkey-8.1", "HSET k f 1 g 2; HEXPIRE k 1000 FIELDS 1 g", ("field b'g'", "expiry", "Valkey 8.1.1")),
    ("redis-5.0", "redis-3.2", "XADD k 1-1 f v", ("stream", "Redis 3.2.9")),
    ("redis-8.6", "redis-3.2", "XADD k 1-1 f v", ("stream", "Redis 3.2.9")),
    ("redis-8.6", "redis-7.0", "XADD k IDMP p i * f v", ("stream", "producers")),
    ("redis-8.0", "redis-7.0", "VADD k VALUES 2 1 2 e", ("module vectorset",)),
    ("redis-8.6", "valkey-9", "VADD k VALUES 2 1 2 e", ("module vectorset",)),
    ("redis-8.6", "redis-3.2", "VADD k VALUES 2 1 2 e", ("module vectorset",)),
]  # fmt: skip


@pytest.mark.parametrize(("new", "old", "words", "said"), REFUSED)
@pytest.mark.parametrize("large", [False, True])
def test_what_the_older_server_cannot_hold_stops_the_link(
    shared: Shared,
    monkeypatch: pytest.MonkeyPatch,
    new: str,
    old: str,
    words: str,
    said: tuple[str, ...],
    large: bool,
) -> None:
    """With key, kind and reason, and without a trace of the key; also where the value is so large that it comes in pieces."""
    source, target = shared(new, "source"), shared(old, "target")
    monkeypatch.setattr(convert, "LARGEST", 1 if large else convert.LARGEST)
    with plain(source) as client:
        for command in words.split(";"):
            client.execute_command(*command.split())
        if large and words.startswith("HSET"):
            for start in range(0, 40_000, 4000):
                client.hset(
                    "k", mapping={f"field {number}": "x" * 20 for number in range(start, start + 4000)}
                )
        with RunningLink(source, target, allow_full_resync=True) as link:
            error = link.failure(20)
    assert isinstance(error, UnsupportedData), error
    for text in ("b'k'", *said):
        assert text in error.message, error.message
    assert large or not target.client().exists("k")


def test_fields_without_expiry_get_through(shared: Shared) -> None:
    """A hash whose fields have lost their expiries keeps its form on the source."""
    source, target = shared("redis-7.4", "source"), shared("redis-6.2", "target")
    with plain(source) as client:
        for key, fields in (("small", 3), ("large", 2000)):
            client.hset(key, mapping={f"f{number}": f"v{number}" for number in range(fields)})
            client.execute_command("HEXPIRE", key, 1000, "FIELDS", 1, "f1")
            client.execute_command("HPERSIST", key, "FIELDS", 1, "f1")
    run(source, target)
    assert_equal(source, target)


@pytest.mark.parametrize(
    ("new", "old"), [("redis-7.2", "redis-7.0"), ("redis-8.6", "redis-6.2"), ("redis-7.0", "redis-5.0")]
)
@pytest.mark.parametrize("as_commands", [False, True])
def test_streams_keep_their_groups(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, new: str, old: str, as_commands: bool
) -> None:
    """Pending entries with their deliveries, those whose message is deleted too; large ones as commands, with a word on what is lost."""
    source, target = shared(new, "source"), shared(old, "target")
    if as_commands:
        monkeypatch.setattr(convert, "LARGEST", 100)
    with plain(source) as client:
        for number in range(1, 300):
            client.xadd(
                "s", {"field": f"value {number}", f"own {number % 7}": "x"}, id=f"{number}-{number % 3}"
            )
        for group in ("one", "two", "idle"):
            client.xgroup_create("s", group, "0")
        for consumer in ("a", "b", "c"):
            client.xreadgroup("one", consumer, {"s": ">"}, count=50)
        client.xreadgroup("one", "a", {"s": "0"}, count=10)
        client.xreadgroup("two", "b", {"s": ">"}, count=20)
        client.xdel("s", "5-2", "299-2")
        client.xgroup_create("empty", "g", "0", mkstream=True)
        client.execute_command("XSETID", "s", "500-1")
    with RunningLink(source, target, stop_when_caught_up=True) as link:
        link.result()
        noted = [message for _, event, message in link.ports.lines if event == "full.not_carried"]
    assert_equal(source, target)
    pending = [side.client().xpending_range("s", "one", "5-2", "5-2", 1) for side in (source, target)]
    if as_commands:
        assert any("deleted" in message for message in noted), link.ports.lines
    else:
        assert noted == []
        assert pending[1]
        assert pending[1][0]["consumer"] == pending[0][0]["consumer"] == b"a"
    groups = [
        {entry["name"]: entry["consumers"] for entry in side.client().xinfo_groups("s")}
        for side in (source, target)
    ]
    assert groups[0] == groups[1]


@pytest.mark.parametrize(
    ("new", "old", "policy"),
    [
        ("redis-7.0", "redis-5.0", "allkeys-lru"), ("redis-7.0", "redis-5.0", "allkeys-lfu"), ("redis-8.6", "redis-7.0", "allkeys-lfu"),
        ("redis-5.0", "redis-3.2", "allkeys-lru"),
    ],
)  # fmt: skip
def test_use_is_carried_where_the_target_takes_it(redis_server: Any, new: str, old: str, policy: str) -> None:
    """IDLETIME and FREQ of RESTORE came with 5.0; before, the values arrive without."""
    source, target = (
        redis_server(version, config={**QUICK, "maxmemory-policy": policy}) for version in (new, old)
    )
    with source.client() as client:
        client.set("plain", "x" * 100)
        client.sadd("set", 1, 2, 3)
        client.set("expires", "x", ex=5000)
        word = "IDLETIME" if policy == "allkeys-lru" else "FREQ"
        for key in ("plain", "set", "expires"):
            client.execute_command("RESTORE", key, 0, client.dump(key), "REPLACE", word, 200)
    run(source, target)
    with target.client() as client:
        if old != "redis-3.2":
            found = [client.object(word, key) for key in ("plain", "set")]
            assert all(190 <= use <= 230 for use in found), found
        assert client.get("plain") == b"x" * 100
        assert client.smembers("set") == {b"1", b"2", b"3"}


def test_old_forms_are_still_loaded(shared: Shared, tmp_path: Path) -> None:
    """Lists, sorted sets and small hashes as servers wrote them before 3.2, from a snapshot file of theirs."""
    path = tmp_path / "old.rdb"
    path.write_bytes(
        snapshot(
            select(0),
            entry(b"list", b"\x02" + strings(b"a", b"b"), 1),
            entry(b"zset", b"\x01" + string(b"m") + b"\x031.5", 3),
            entry(b"zipmap", string(b"\x01\x01f\x01\x00v\xff"), 9),
            entry(b"ziplist", string(b"\x0d\x00\x00\x00\x0a\x00\x00\x00\x01\x00\x00\xf2\xff"), 10),
            magic=b"REDIS0006",
        )
    )
    for version in ("redis-3.2", "redis-8.6", "valkey-9"):
        target = shared(version, "target")
        run(Endpoint(file=str(path)), target, phases=Phases.FULL, stop_when_caught_up=False)
        with target.client() as client:
            assert client.lrange("list", 0, -1) == [b"a", b"b"]
            assert client.zscore("zset", "m") == 1.5
            assert client.hgetall("zipmap") == {b"f": b"v"}
            assert client.lrange("ziplist", 0, -1) == [b"1"]


def test_a_module_that_the_target_lacks_is_named(shared: Shared, tmp_path: Path) -> None:
    """Also where the target has others, so that only its answer tells."""
    path = tmp_path / "module.rdb"
    path.write_bytes(snapshot(select(0), entry(b"k", VALUES[7][0], 7)))
    for version in ("redis-7.0", "redis-8.6"):
        target = shared(version, "target")
        with RunningLink(Endpoint(file=str(path)), target, phases=Phases.FULL) as link:
            error = link.failure(20)
        assert isinstance(error, UnsupportedData)
        assert "b'k'" in error.message
        assert f"module {module_name(VALUES[7][0], 0, 20)}" in error.message
        assert not target.client().exists("k")


def test_a_restored_module_value_is_refused_where_there_are_no_modules(shared: Shared) -> None:
    source, target = shared("redis-8.6", "source"), shared("redis-7.0", "target")
    with plain(source) as client:
        client.execute_command("VADD", "v", "VALUES", 2, 1, 2, "e")
        payload = client.dump("v")
        client.delete("v")
        with RunningLink(source, target) as link:
            link.wait_caught_up()
            client.restore("k", 0, payload)
            error = link.failure(20)
    assert isinstance(error, UnsupportedData)
    assert "module vectorset" in error.message
    assert "b'k'" in error.message
    assert not target.client().exists("k")


@pytest.mark.parametrize(
    ("new", "old"), [("redis-7.0", "redis-5.0"), ("redis-8.6", "redis-7.4"), ("redis-7.4", "valkey-9")]
)
def test_a_source_read_by_its_keys(shared: Shared, new: str, old: str) -> None:
    """What SCAN and DUMP give goes the same way as a snapshot."""
    source, target = shared(new, "source"), shared(old, "target")
    fill(source.url, keys=0, big_value_bytes=100_000, large_elements=1000, databases=(0, 3))
    if not Capabilities.of(target.client()).has("FUNCTION"):
        source.client().function_flush()
    run(source, target, method=Method.SCAN, phases=Phases.FULL, stop_when_caught_up=False)
    assert_equal(source, target)
