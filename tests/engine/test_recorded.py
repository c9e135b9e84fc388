"""Recorded replication of every server version, by disk and diskless: however its bytes are cut, the target gets the same."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from migrations_app.engine.errors import EngineError
from migrations_app.engine.kernel import split_commands
from migrations_app.engine.protocol.psync import FullResync
from tests.support.servers import Server

from .build import pieces, single
from .conftest import QUICK
from .recording import DATABASES, Player, Recording, SnapshotBegin, prepare, record

VERSIONS = [
    "redis-3.2", "redis-5.0", "redis-6.0", "redis-6.2", "redis-7.0", "redis-7.2", "redis-7.4", "redis-8.0", "redis-8.6",
    "valkey-8.0", "valkey-8.1", "valkey-9",
]  # fmt: skip
QUIET = settings(
    deadline=None,
    max_examples=int(os.environ.get("SWITCHYARD_TEST_SEEDS") or 8),
    phases=[Phase.generate, Phase.explicit],
    suppress_health_check=list(HealthCheck),
)
CUTS = st.lists(st.integers(0, 1 << 30), max_size=60)


@pytest.fixture(scope="module", params=VERSIONS)
def both(request: pytest.FixtureRequest) -> Iterator[dict[str, Recording]]:
    """One server, recorded as it sends its snapshot from a file and directly."""
    with Server(request.param, config=QUICK) as server:
        prepare(server)
        recordings = {}
        for name, diskless in {"disk": "no", "diskless": "yes"}.items():
            server.client().config_set("repl-diskless-sync", diskless)
            recordings[name] = record(server, commands=500)
        yield recordings


@pytest.fixture(params=["disk", "diskless"])
def recording(both: dict[str, Recording], request: pytest.FixtureRequest) -> Recording:
    return both[request.param]


def test_the_offset_is_that_of_the_source(recording: Recording) -> None:
    """Its own at the beginning, plus every byte behind the snapshot, is its own at the end; the last byte is a safe point."""
    player = Player().play([recording.data])
    assert player.offset == recording.offset
    assert player.safe_points[-1][0] == recording.offset
    (full,) = (event for event in player.events if isinstance(event, FullResync))
    stream = recording.offset - full.offset
    assert 10_000 < stream < len(recording.data)


def test_every_key_of_the_source_is_there(recording: Recording) -> None:
    player = Player().play([recording.data])
    assert player.keys == recording.keys
    assert set(player.keys) == set(DATABASES)
    commands = split_commands(b"".join(player.snapshot_data))
    assert len(commands) == player.commands[0]
    written = [command[1] for command in single(commands) if command[0] in (b"SET", b"RESTORE")]
    assert len(written) == sum(player.keys.values())
    assert len(split_commands(b"".join(player.stream_data))) == player.commands[1]
    assert player.entries, "the writer's mix holds commands that a rule looks at"


def test_both_forms_of_the_snapshot_were_recorded(both: dict[str, Recording]) -> None:
    sizes = {}
    for name, recording in both.items():
        (begin,) = (
            event for event in Player().play([recording.data]).events if isinstance(event, SnapshotBegin)
        )
        sizes[name] = begin.size
    assert sizes["disk"] is not None
    assert sizes["diskless"] is None


@given(cuts=CUTS)
@QUIET
def test_any_chunking_gives_the_same(recording: Recording, cuts: list[int]) -> None:
    assert Player().play(pieces(recording.data, cuts)).told() == Player().play([recording.data]).told()


@pytest.mark.parametrize("size", [1000, 4096, 65_536])
def test_blocks_of_one_size_give_the_same(recording: Recording, size: int) -> None:
    data = recording.data
    blocks = [data[place : place + size] for place in range(0, len(data), size)]
    assert Player().play(blocks).told() == Player().play([data]).told()


@pytest.mark.parametrize("version", ["redis-5.0", "redis-7.0"])
def test_one_byte_at_a_time(version: str) -> None:
    """The whole of a recording with fewer keys."""
    with Server(version, config=QUICK) as server:
        with server.client() as client:
            for number in range(40):
                client.set(f"string:{number}", "x" * number * 20, px=10_000_000 if number % 3 == 0 else None)
                client.hset("hash", f"f{number}", number)
                client.xadd("stream", {"f": number})
                client.zadd("zset", {f"m{number}": number / 3})
                client.rpush("list", *["element"] * number or "x")
            client.xgroup_create("stream", "group", 0)
            client.xreadgroup("group", "consumer", {"stream": ">"}, count=7)
        recording = record(server, commands=300)
    data = recording.data
    player = Player().play(data[place : place + 1] for place in range(len(data)))
    assert player.told() == Player().play([data]).told()
    assert player.offset == recording.offset


CHANGES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1 << 30), st.integers(0, 11)), min_size=1, max_size=4
)


@given(changes=CHANGES, cuts=st.lists(st.integers(0, 1 << 30), max_size=5))
@QUIET
def test_damage_is_refused_or_waited_for(
    recording: Recording, changes: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    """Some bytes of a real recording changed, lost or doubled: an error of the engine, or a result; nothing else."""
    damaged = bytearray(recording.data)
    for kind, place, size in changes:
        at = place % (len(damaged) - 20)
        if kind == 0:
            damaged[at] ^= 1 << size % 8
        elif kind == 1:
            del damaged[at : at + size + 1]
        else:
            damaged[at:at] = damaged[at : at + size + 1]
    player = Player()
    with contextlib.suppress(EngineError):
        player.play(pieces(bytes(damaged), cuts))
    assert sum(map(len, player.snapshot_data)) < 3 * len(damaged) + (1 << 20), (
        "no more than what a few strings hold unpacked"
    )
