"""A snapshot file as source: real files of each server, old forms built by hand, damaged files, and what is refused."""

from __future__ import annotations

import os
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from migrations_app.demo.dataset import fill
from migrations_app.engine.config import LinkConfig, Phases
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import SnapshotChecksumError, SnapshotError, UsageError
from migrations_app.engine.verify import verify
from tests.support.proxy import FaultProxy, Way
from tests.support.servers import Server

from . import build
from .conftest import Shared
from .links import EngineProcess, Outcome, RunningLink, assert_equal, endpoint, run

UPWARD = [
    ("redis-3.2", "redis-7.0"), ("redis-5.0", "redis-5.0"), ("redis-6.0", "redis-8.6"), ("redis-7.0", "redis-7.0"),
    ("redis-7.4", "redis-7.4"), ("redis-8.6", "redis-8.6"), ("valkey-8.0", "valkey-9"), ("valkey-9", "valkey-9"),
]  # fmt: skip


def file_of(path: Path) -> Endpoint:
    return Endpoint.parse(f"rdb://{quote(str(path))}")


def copy(path: Path, target: Server, **options: Any) -> RunningLink:
    return RunningLink(file_of(path), target, phases=Phases.FULL, **options)


@pytest.mark.parametrize(("old", "new"), UPWARD)
def test_what_a_server_has_saved_is_copied(shared: Shared, tmp_path: Path, old: str, new: str) -> None:
    """All types and encodings; the name of the file is one that has to be encoded in a URL."""
    source, target = shared(old, "source"), shared(new, "target")
    fill(source.url, keys=0, big_value_bytes=3 << 20, large_elements=2000)
    with source.client() as client:
        client.save()
        keys = sum(row["keys"] for row in client.info("keyspace").values())
    path = tmp_path / "a dump?of#today%.rdb"
    shutil.copy(source.dir / "dump.rdb", path)
    with copy(path, target) as link:
        result = link.result(60)
    assert result.outcome is Outcome.COMPLETED
    assert result.progress.keys_done == keys
    assert (result.progress.percent, result.progress.snapshot_size) == (100.0, path.stat().st_size)
    assert result.progress.bytes_in == path.stat().st_size
    assert link.ports.events.count("source.limits") == 1
    assert_equal(source, target)
    assert target.client().keys("switchyard:*") == []


def test_databases_are_chosen(shared: Shared, tmp_path: Path) -> None:
    target = shared("redis-7.0", "target")
    path = tmp_path / "dump.rdb"
    path.write_bytes(
        build.snapshot(
            *(build.select(n) + build.entry(b"k%d" % n, build.string(b"v")) for n in range(4)),
        )
    )
    with copy(path, target, databases=frozenset({1, 3})) as link:
        assert link.result().progress.keys_skipped == 2
    assert {name: row["keys"] for name, row in target.info("keyspace").items()} == {"db1": 1, "db3": 1}


# --- old forms ----------------------------------------------------------------------------------------------------------


def zipmap(*pairs: tuple[bytes, bytes]) -> bytes:
    body = b"".join(bytes([len(f)]) + f + bytes([len(v), 0]) + v for f, v in pairs)
    return bytes([len(pairs)]) + body + b"\xff"


def ziplist(*items: bytes | int) -> bytes:
    entries: list[bytes] = []
    before, tail = 0, 10
    for item in items:
        data = bytes([len(item)]) + item if isinstance(item, bytes) else b"\xc0" + struct.pack("<h", item)
        tail = 10 + sum(map(len, entries))
        entries.append(bytes([before]) + data)
        before = len(entries[-1])
    body = b"".join(entries)
    return struct.pack("<IIH", 11 + len(body), tail, len(items)) + body + b"\xff"


def intset(*numbers: int) -> bytes:
    return struct.pack(f"<II{len(numbers)}h", 2, len(numbers), *sorted(numbers))


SECONDS = b"\xfd" + struct.pack("<i", int(time.time()) + 5000)
PLAIN = [
    build.select(0),
    build.entry(b"string", build.string(b"plain")),
    build.entry(b"number", build.number(-300, 2)),
    build.entry(b"packed", build.lzf(b"\x00a\x20\x00", 4)),
    SECONDS + build.entry(b"seconds", build.string(b"expires")),
    build.entry(b"list", build.length(3) + build.strings(b"a", b"b", b"c"), 1),
    build.entry(b"set", build.length(2) + build.string(b"a") + build.number(7, 1), 2),
    build.entry(b"scores", build.length(3) + build.string(b"a") + b"\x031.5" + build.string(b"b") + b"\xfe" + build.string(b"c")
                + b"\xff", 3),
    build.entry(b"hash", build.length(2) + build.strings(b"f", b"v", b"g", b"w" * 100), 4),
    build.select(2),
    build.entry(b"other", build.string(b"database")),
]  # fmt: skip
ZIPPED = [
    build.select(0),
    build.entry(b"zipmap", build.string(zipmap((b"foo", b"bar"), (b"hello", b"world" * 20))), 9),
]
PACKED = [
    build.entry(b"ziplist", build.string(ziplist(b"a", 1234, b"c" * 60)), 10),
    build.entry(b"intset", build.string(intset(1, -2, 300)), 11),
    build.entry(b"zsetzip", build.string(ziplist(b"low", -7, b"high", 2000)), 12),
]
HASHED = [build.entry(b"hashzip", build.string(ziplist(b"f", b"v", b"n", 42)), 13)]
MILLIS = [build.entry(b"millis", build.string(b"v"), expiry=int(time.time() * 1000) + 5_000_000)]
# Version → what its servers wrote: 1 (1.2), 2 (2.2: zipmap, ziplists), 3 (2.6: ms), 4 (2.6: hashes as ziplists), 5 (checksum).
FORMS = {
    1: PLAIN,
    2: [*PLAIN, *ZIPPED, *PACKED],
    3: [*PLAIN, *ZIPPED, *PACKED, *MILLIS],
    4: [*PLAIN, *ZIPPED, *PACKED, *MILLIS, *HASHED],
    5: [*PLAIN, *ZIPPED, *PACKED, *MILLIS, *HASHED],
    6: [*PLAIN, *ZIPPED, *PACKED, *MILLIS, *HASHED],
}


def write(path: Path, version: int, parts: list[bytes]) -> Path:
    data = build.snapshot(*parts, magic=b"REDIS%04d" % version)
    path.write_bytes(data if version >= 5 else data[:-8])
    return path


@pytest.mark.parametrize("version", sorted(FORMS))
def test_old_forms_are_read_as_a_server_reads_them(
    shared: Shared, redis_server: Callable[..., Server], tmp_path: Path, version: int
) -> None:
    """The same file is loaded by Redis itself at its start: both hold the same, on an old target and on a new one."""
    path = write(tmp_path / "old.rdb", version, FORMS[version])
    witness = redis_server("redis-5.0", start=False)
    shutil.copy(path, witness.dir / "dump.rdb")
    witness.start()
    assert witness.client().hgetall("hash") == {b"f": b"v", b"g": b"w" * 100}
    for name in ("redis-3.2", "redis-8.6"):
        target = shared(name, "target")
        with copy(path, target) as link:
            assert link.result().progress.keys_done == sum(part[:1] not in b"\xfe" for part in FORMS[version])
        assert_equal(witness, target)


# --- expiry ---------------------------------------------------------------------------------------------------------------


def test_keys_whose_time_has_passed_are_left_out_as_a_server_does(
    shared: Shared, redis_server: Callable[..., Server], tmp_path: Path
) -> None:
    """Also where the target holds a key of that name: the source's state is that there is none."""
    now = int(time.time() * 1000)
    hash_value = build.length(1) + build.strings(b"f", b"v")
    path = tmp_path / "dump.rdb"
    path.write_bytes(
        build.snapshot(
            build.select(0),
            build.entry(b"gone", build.string(b"v"), expiry=now - 60_000),
            build.entry(b"gone:hash", hash_value, 4, expiry=1),
            build.entry(b"soon", build.string(b"v"), expiry=now + 300_000),
            build.entry(b"soon:hash", hash_value, 4, expiry=now + 300_000),
            build.entry(b"stays", build.string(b"v")),
            magic=b"REDIS0009",
        )
    )
    witness = redis_server("redis-7.0", start=False)
    shutil.copy(path, witness.dir / "dump.rdb")
    witness.start()
    assert sorted(witness.client().keys()) == [b"soon", b"soon:hash", b"stays"]
    for name in ("redis-3.2", "redis-5.0", "redis-7.0", "valkey-9"):
        target = shared(name, "target")
        target.client().mset({"gone": "older", "gone:hash": "older"})
        with copy(path, target) as link:
            link.result()
        assert_equal(witness, target)
        # There is no stream in which an expiry could be renewed: it is set at once.
        assert 0 < target.client().pttl("soon") <= 300_000
        assert 0 < target.client().pttl("soon:hash") <= 300_000


# --- what goes wrong --------------------------------------------------------------------------------------------------------


def test_a_file_that_is_cut_short_never_passes_for_a_whole_one(shared: Shared, tmp_path: Path) -> None:
    target = shared("redis-7.0", "target")
    whole = write(tmp_path / "whole.rdb", 6, FORMS[6]).read_bytes()
    old = write(tmp_path / "old.rdb", 3, FORMS[3]).read_bytes()
    path = tmp_path / "short.rdb"
    for data in (whole, old):
        for size in (9, 10, 14, len(data) // 2, len(data) - 9, len(data) - 1):
            path.write_bytes(data[:size])
            with copy(path, target) as link:
                failure = link.failure()
            assert isinstance(failure, SnapshotError), failure
            assert "cut short" in failure.message
            assert f"byte {size}" in failure.message
            assert "BGSAVE" in failure.advice
            assert "full.done" not in link.ports.events


def test_a_damaged_file_stops_at_its_checksum(shared: Shared, tmp_path: Path) -> None:
    target = shared("redis-7.0", "target")
    path = write(tmp_path / "dump.rdb", 6, FORMS[6])
    data = bytearray(path.read_bytes())
    data[data.index(b"plain")] ^= 1
    path.write_bytes(data)
    with copy(path, target) as link:
        assert isinstance(link.failure(), SnapshotChecksumError)


@pytest.mark.parametrize("size", [100, 1 << 20])
def test_an_append_only_file_that_begins_with_a_snapshot_is_refused(
    shared: Shared, tmp_path: Path, size: int
) -> None:
    """What follows the snapshot holds changes: to leave them out in silence would be a loss."""
    target = shared("redis-7.0", "target")
    path = write(tmp_path / "appendonly.aof", 9, PLAIN)
    with path.open("ab") as file:
        file.write(b"*1\r\n$8\r\nFLUSHALL\r\n" + b"x" * size)
    with copy(path, target) as link:
        failure = link.failure()
    assert isinstance(failure, SnapshotError)
    assert "append-only file" in failure.message


def test_a_path_that_is_no_snapshot_changes_nothing(shared: Shared, tmp_path: Path) -> None:
    target = shared("redis-7.0", "target")
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("*3\r\n$3\r\nSET\r\n")
    os.mkfifo(tmp_path / "pipe")
    for name, words in {
        "missing": "No such file",
        "": "a directory",
        "empty": "no snapshot file",
        "text": "no snapshot file",
        "pipe": "no regular file",
    }.items():
        with RunningLink(Endpoint(file=str(tmp_path / name), port=0), target, phases=Phases.FULL) as link:
            failure = link.failure()
        assert isinstance(failure, UsageError), failure
        assert words in failure.message
    assert target.client().dbsize() == 0


def test_what_a_file_cannot_be(shared: Shared, tmp_path: Path) -> None:
    """The source of a link that follows, a target, or a side of a comparison."""
    target = shared("redis-7.0", "target")
    file = file_of(write(tmp_path / "dump.rdb", 6, PLAIN))
    with pytest.raises(UsageError, match="--phases full"):
        LinkConfig(name="x", source=file, target=endpoint(target))
    with pytest.raises(UsageError, match="cannot be the target"):
        LinkConfig(name="x", source=endpoint(target), target=file)
    with pytest.raises(UsageError, match="no server"):
        verify(file, endpoint(target))
    assert target.client().dbsize() == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("rdb://", "absolute path"),
        ("rdb:///", "absolute path"),
        ("rdb://relative/dump.rdb", "absolute path"),
        ("rdb:///dump.rdb?x=1", "percent-encoded"),
        ("rdb:///dump#1.rdb", "percent-encoded"),
    ],
)
def test_urls_that_are_wrong(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Endpoint.parse(url)


def test_urls_that_are_right() -> None:
    place = Endpoint.parse("rdb:///var/lib/a%20b%3F.rdb")
    assert place.file == place.address == "/var/lib/a b?.rdb"
    assert Endpoint.parse(str(place)) == place


# --- the link around it ---------------------------------------------------------------------------------------------------


def test_a_lost_target_means_the_file_from_its_beginning(
    shared: Shared, fault_proxy: Callable[..., FaultProxy], tmp_path: Path
) -> None:
    source, target = shared("redis-7.0", "source"), shared("redis-7.0", "target")
    fill(source.url, keys=0, big_value_bytes=5 << 20, large_elements=1000)
    source.client().save()
    proxy = fault_proxy(target)
    proxy.limits[Way.UP] = 2 << 20  # bytes, of each connection
    with RunningLink(file_of(source.dir / "dump.rdb"), proxy, phases=Phases.FULL) as link:
        link.wait_until(link.ports.last.phase.RETRYING)
        proxy.limits.clear()
        progress = link.result(60).progress
    assert progress.reconnects >= 1
    assert progress.full_syncs == progress.reconnects + 1
    assert_equal(source, target)


def test_from_the_command_line(shared: Shared, tmp_path: Path) -> None:
    """The phases need not be named: there is only one that a file has."""
    target = shared("redis-7.0", "target")
    path = write(tmp_path / "dump.rdb", 6, PLAIN)
    with EngineProcess(tmp_path, "run", f"rdb://{path}", target.url, "--json") as engine:
        assert engine.wait() == 0, engine.said()
        assert engine.result()["outcome"] == "completed"
        assert "as old as the file" in engine.said()
    assert target.client().get("string") == b"plain"
    with EngineProcess(
        tmp_path, "run", f"rdb://{path}", target.url, "--phases", "full+incremental", name="b"
    ) as engine:
        assert engine.wait() == 2
        assert "--phases full" in engine.said()


def test_a_second_copy_replaces(shared: Shared, tmp_path: Path) -> None:
    """Lists do not grow, and a key of another type makes place."""
    target = shared("redis-7.0", "target")
    path = write(tmp_path / "dump.rdb", 6, FORMS[6])
    target.client().rpush("hash", 1, 2)
    for _ in range(2):
        assert run(file_of(path), target, phases=Phases.FULL).progress.keys_done == 15
    assert target.client().lrange("list", 0, -1) == [b"a", b"b", b"c"]
    assert target.client().hget("hash", "f") == b"v"
