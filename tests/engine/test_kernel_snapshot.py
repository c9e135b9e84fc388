"""Snapshot in, commands out: every attribute of a key, every way to a command, and each damage named."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrations_app.engine.errors import EngineError, SnapshotChecksumError, SnapshotError, UnsupportedData
from migrations_app.engine.kernel import (
    SnapshotBatch,
    SnapshotKernel,
    SnapshotPlan,
    crc64,
    read_string,
    split_commands,
)

from . import build

Command = list[bytes]


class Reading:
    """Everything that a snapshot became."""

    def __init__(self, batches: list[SnapshotBatch]) -> None:
        self.data = b"".join(bytes(part) for batch in batches for part in batch.data)
        self.commands: list[Command] = split_commands(self.data)
        self.keys: dict[int, int] = {}
        for batch in batches:
            for number, count in batch.keys.items():
                self.keys[number] = self.keys.get(number, 0) + count
        self.counted = sum(batch.commands for batch in batches)
        self.skipped = sum(batch.skipped for batch in batches)
        self.deferred = [item for batch in batches for item in batch.deferred]
        self.done = batches[-1].done
        self.rest = batches[-1].rest


def plan(**changes: Any) -> SnapshotPlan:
    given: dict[str, Any] = {"stamp": 10, "target_version": (7, 0)}
    return SnapshotPlan(**(given | changes))


def read(data: bytes, cuts: list[int] | None = None, **changes: Any) -> Reading:
    kernel = SnapshotKernel(plan(**changes))
    reading = Reading([kernel.feed(piece) for piece in build.pieces(data, cuts or [])])
    assert reading.counted == len(reading.commands), "the commands are whole, and as many as were counted"
    return reading


def payload(kind: int, value: bytes, stamp: int = 10) -> bytes:
    body = bytes((kind,)) + value + stamp.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


def test_strings_go_as_set_and_the_rest_as_restore() -> None:
    listing = build.length(2) + build.strings(b"a", b"b")
    found = read(
        build.snapshot(
            build.aux(b"redis-ver", b"7.0.15"), build.select(0), b"\xfb" + build.lengths(3, 1),
            build.entry(b"k", build.string(b"v")), build.entry(b"n", build.number(5, 1)), build.entry(b"l", listing, 1),
        )
    )  # fmt: skip
    assert found.commands == [
        [b"SELECT", b"0"],
        [b"SET", b"k", b"v"],
        [b"SET", b"n", b"5"],
        [b"RESTORE", b"l", b"0", payload(1, listing), b"REPLACE"],
    ]
    assert found.keys == {0: 3}
    assert found.done


@pytest.mark.parametrize("case", build.ALL_VALUES, ids=lambda case: f"type{case[0]}-{len(case[1])}")
def test_every_type_is_sliced_out_unchanged(case: tuple[int, bytes, bool]) -> None:
    """Also in blocks of 7 bytes, and with the smallest limit for values that go through while they arrive."""
    kind, value, valkey = case
    magic = b"VALKEY080" if valkey else b"REDIS0011"
    data = build.snapshot(
        build.select(3),
        build.entry(b"key", value, kind),
        build.entry(b"next", build.string(b"v")),
        magic=magic,
    )
    for cuts in ([], list(range(0, len(data), 7))):
        for limit in (1 << 20, 1):
            found = read(data, cuts, stream_from=limit)
            assert found.commands[0] == [b"SELECT", b"3"]
            if found.commands[1][0] == b"SET":
                assert kind == 0
                assert found.commands[1][2] == read_string(value, 0, len(value))[0]
            else:
                assert found.commands[1][3] == payload(kind, value)
            assert found.commands[2][1] == b"next"
            assert (found.keys, found.done) == ({3: 2}, True)


EXPIRES = b"\xfc" + (9_000).to_bytes(8, "little")


@pytest.mark.parametrize("cut", [7, 40, 1000])
@pytest.mark.parametrize(
    ("before", "changes", "expected"),
    [
        (b"", {}, [b"SET", b"key", b"x" * 900]),
        (EXPIRES, {}, [b"SET", b"key", b"x" * 900, b"PXAT", b"9000"]),
        (EXPIRES, {"target_version": (6, 0)}, [b"RESTORE", b"key", b"9000"]),
        (b"\xf8\x05", {}, [b"RESTORE", b"key", b"0"]),
        (b"", {"replace": False}, [b"RESTORE", b"key", b"0"]),
        (b"", {"verb": (b"EVALSHA", b"sha", b"1")}, [b"EVALSHA", b"sha", b"1", b"key", b"0"]),
    ],
)
def test_a_long_string_that_is_not_compressed_goes_through_as_set(
    before: bytes, changes: dict[str, Any], expected: Command, cut: int
) -> None:
    """Which spares the target a copy and a checksum; where SET cannot say it, it goes as RESTORE, as does one that is compressed."""
    value = build.string(b"x" * 900)
    entry = before + build.entry(b"key", value)
    data = build.snapshot(build.select(0), entry, build.entry(b"next", build.string(b"v")))
    found = read(data, list(range(0, len(data), cut)), stream_from=1, **changes)
    assert found.commands[1][: len(expected)] == expected
    if expected[0] != b"SET":
        assert payload(0, value) in found.commands[1]
    assert len(found.commands) == 3
    assert found.keys == {0: 2}


def test_the_checksum_of_a_payload_of_each_length() -> None:
    """Compiled code sums up short ones itself; the library says what has to come of it."""
    random = Random(1)
    values = [build.string(random.randbytes(size)) for size in [*range(1, 700), 1023, 4096, 9999]]
    entries = [build.entry(b"key:%04d" % number, value, 11) for number, value in enumerate(values)]
    padding = build.entry(b"end", build.string(b"x" * 100))
    found = read(build.snapshot(build.select(0), *entries, padding))
    written = {command[1]: command[3] for command in found.commands if command[0] == b"RESTORE"}
    assert written == {b"key:%04d" % number: payload(11, value) for number, value in enumerate(values)}


def test_expiries_are_absolute_or_left_out() -> None:
    """In ms and in s; a key that expires before the limit goes without and is reported."""
    value = build.string(b"v")
    data = build.snapshot(
        build.select(1), build.entry(b"far", value, expiry=9_000), b"\xfd" + (9).to_bytes(4, "little") + build.entry(b"s", value),
        build.entry(b"near", value, expiry=4_999), build.entry(b"past", value, expiry=5),
        build.entry(b"l", build.length(0), 1, expiry=9_001), build.entry(b"none", value),
    )  # fmt: skip
    found = read(data, defer_before=5_000)
    written = {command[1]: command for command in build.single(found.commands)[1:]}
    assert [written[key][3:] for key in (b"far", b"s", b"near", b"past")] == [
        [b"PXAT", b"9000"], [b"PXAT", b"9000"], [], [],
    ]  # fmt: skip
    assert written[b"l"][2] == b"9001"
    assert written[b"none"] == [b"SET", b"none", b"v"]
    assert found.deferred == [(1, b"near", 4_999), (1, b"past", 5)]
    assert read(data).deferred == [], "without a limit nothing is left out"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ((7, 0), [b"SET", b"k", b"v", b"PXAT", b"9000000000000"]),
        ((6, 0), [b"RESTORE", b"k", b"9000000000000"]),
        ((3, 2), [b"RESTORE", b"k"]),
    ],
)
def test_old_targets_get_what_they_know(version: tuple[int, ...], expected: Command) -> None:
    found = read(
        build.snapshot(build.select(0), build.entry(b"k", build.string(b"v"), expiry=9 * 10**12)),
        target_version=version,
    )
    command = found.commands[1]
    assert command[: len(expected)] == expected
    if version < (5,):
        assert 0 < int(command[2]) < 9 * 10**12, "a relative expiry: ABSTTL is a syntax error there"
        assert command[-1] == b"REPLACE"


def test_idle_time_and_frequency_travel() -> None:
    value = build.string(b"v")
    found = read(
        build.snapshot(
            build.select(0), b"\xf8" + build.length(70_000) + build.entry(b"lru", value), b"\xf9\xc8" + build.entry(b"lfu", value),
            build.entry(b"none", value),
        )
    )  # fmt: skip
    assert found.commands[1][-2:] == [b"IDLETIME", b"70000"]
    assert found.commands[2][-2:] == [b"FREQ", b"200"]
    assert found.commands[3] == [b"SET", b"none", b"v"]


def test_functions_and_sizes_of_slots() -> None:
    found = read(
        build.snapshot(
            b"\xf5" + build.string(b"#!lua name=x\n"), b"\xf4" + build.lengths(5, 6, 7), build.select(0)
        )
    )
    assert found.commands == [[b"FUNCTION", b"LOAD", b"REPLACE", b"#!lua name=x\n"]]
    with pytest.raises(UnsupportedData, match="name=x"):
        read(build.snapshot(b"\xf5" + build.string(b"#!lua name=x\n")), target_version=(6, 2))


def test_only_the_chosen_databases_and_not_the_products_own_keys() -> None:
    value = build.string(b"x" * 100)
    parts = []
    for number in range(4):
        parts += [
            build.select(number),
            build.entry(b"k%d" % number, value),
            build.entry(b"switchyard:checkpoint:a", value),
        ]
    for limit in (1 << 20, 10):
        found = read(
            build.snapshot(*parts), list(range(0, 500, 9)), databases=frozenset({1, 3}), stream_from=limit
        )
        assert [command[1] for command in found.commands] == [b"1", b"k1", b"3", b"k3"]
        assert (found.keys, found.skipped) == ({1: 1, 3: 1}, 6)


def test_what_follows_the_snapshot_is_given_back() -> None:
    data = build.snapshot(build.select(0), build.entry(b"k", build.string(b"v")))
    assert read(data + build.MARK + b"*1").rest == build.MARK + b"*1"


@pytest.mark.parametrize(("checksum", "version"), [(0, b"REDIS0011"), (None, b"REDIS0005")])
def test_a_checksum_of_zero_says_that_there_is_none(checksum: int | None, version: bytes) -> None:
    assert read(build.snapshot(build.select(0), magic=version, checksum=checksum)).done


def test_a_flipped_bit_is_noticed() -> None:
    data = bytearray(build.snapshot(build.select(0), build.entry(b"key", build.string(b"value" * 9))))
    data[30] ^= 1
    with pytest.raises(SnapshotChecksumError):
        read(bytes(data))


@pytest.mark.parametrize(
    ("data", "error", "word"),
    [
        (b"RODIS0011", SnapshotError, "RODIS"),
        (b"REDIS00x1", SnapshotError, "begin"),
        (b"REDIS0000", SnapshotError, "0"),
        (b"REDIS0011\xf3", UnsupportedData, "0xf3"),
        (b"REDIS0011\xf6", UnsupportedData, "0xf6"),
        (b"REDIS0011\xfe\x05" + build.entry(b"the key", b"", 99), UnsupportedData, "the key.*database 5.*99"),
        (b"REDIS0011\xfe\x00" + build.entry(b"k", b"", 22), UnsupportedData, "22"),
        (
            b"REDIS0011\xf7" + build.length((((1 << 50) + 7) << 10) + 1) + build.lengths(2, 1, 0),
            UnsupportedData,
            "module",
        ),
        (b"REDIS0011\xfe\xc5", SnapshotError, "0xc5"),
    ],
)
def test_what_is_not_known_is_named(data: bytes, error: type[EngineError], word: str) -> None:
    with pytest.raises(error, match=word):
        read(data)


SAMPLE = build.snapshot(
    build.aux(b"redis-ver", b"7.0.15"), b"\xf5" + build.string(b"#!lua name=x\n"), build.select(0), b"\xfb" + build.lengths(20, 3),
    *(build.entry(b"key:%d" % n, value[:2500], kind, expiry=[None, 4000, 10**13][n % 3])
      for n, (kind, value, valkey) in enumerate(build.ALL_VALUES) if not valkey and len(value) < 2500),
    build.select(300), b"\xf9\x05" + build.entry(b"last", build.string(b"v" * 2000)),
)  # fmt: skip


@given(st.lists(st.integers(0, len(SAMPLE)), max_size=60), st.sampled_from([1, 500, 1 << 20]))
@settings(deadline=None)
def test_any_chunking_gives_the_same_commands(cuts: list[int], limit: int) -> None:
    whole, parts = read(SAMPLE, defer_before=5000), read(SAMPLE, cuts, defer_before=5000, stream_from=limit)
    assert [command for command in parts.commands if command[0] == b"SELECT"] == [
        command for command in whole.commands if command[0] == b"SELECT"
    ]
    assert [
        command[1:3]
        for command in parts.commands
        if command[0] == b"RESTORE" and command[3][:1] not in (b"\0",)
    ] == [
        command[1:3]
        for command in whole.commands
        if command[0] == b"RESTORE" and command[3][:1] not in (b"\0",)
    ]
    if limit == 1 << 20:
        assert build.single(parts.commands) == build.single(whole.commands)
    assert (parts.keys, parts.deferred, parts.done) == (whole.keys, whole.deferred, whole.done)


def test_one_byte_at_a_time() -> None:
    kernel = SnapshotKernel(plan(defer_before=5000))
    parts = Reading([kernel.feed(SAMPLE[n : n + 1]) for n in range(len(SAMPLE))])
    whole = read(SAMPLE, defer_before=5000)
    assert build.single(parts.commands) == build.single(whole.commands)


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_damage_is_refused_or_waited_for(data: st.DataObject) -> None:
    """Bytes changed, taken out or put in: an error of the engine or a wait for more, nothing else, in little time and memory."""
    damaged = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(9, len(damaged) - 10))
        match data.draw(st.integers(0, 2)):
            case 0:
                damaged[place] = data.draw(
                    st.sampled_from([0, 1, 0x3F, 0x40, 0x7F, 0x80, 0x81, 0xC0, 0xC3, 0xF7, 0xFC, 0xFE, 0xFF])
                )
            case 1:
                del damaged[place : place + data.draw(st.integers(1, 9))]
            case _:
                damaged[place:place] = data.draw(st.binary(min_size=1, max_size=9))
    kernel = SnapshotKernel(plan(stream_from=data.draw(st.sampled_from([10, 1 << 20]))))
    out = 0
    try:
        for piece in build.pieces(bytes(damaged), data.draw(st.lists(st.integers(0, 40_000), max_size=5))):
            batch = kernel.feed(piece)
            out += sum(map(len, batch.data))
            if batch.done:
                break
    except EngineError:
        pass
    assert out < 3 * len(damaged) + 5 * 65_536, (
        "a damaged length may unpack to as much as a short string may be"
    )


def grouped(values: list[bytes], **changes: Any) -> list[Command]:
    """What strings of these (encoded) values become; behind them stands a list, so that all of them take the quick way."""
    listing = build.length(40) + build.strings(*[b"element"] * 40)
    found = read(
        build.snapshot(
            build.select(0), build.entry(b"first", build.string(b"v")),
            *(build.entry(b"k%d" % number, value) for number, value in enumerate(values)), build.entry(b"l", listing, 1),
        ),
        **changes,
    )  # fmt: skip
    assert found.keys == {0: len(values) + 2}
    assert found.commands[:2] == [[b"SELECT", b"0"], [b"SET", b"first", b"v"]]
    behind = [command for command in found.commands if command[:2] == [b"RESTORE", b"l"]]
    assert len(behind) == 1
    return [command for command in found.commands[2:] if command not in behind]


@pytest.mark.parametrize("count", [1, 4, 5, 31, 32, 33, 70])
def test_strings_go_in_groups(count: int) -> None:
    """The head of a group has one digit or two; a group is full at 32."""
    commands = grouped([build.string(b"v%d" % number) for number in range(count)])
    assert [len(command) for command in commands] == [
        1 + 2 * min(32, count - start) for start in range(0, count, 32)
    ]
    assert {command[0] for command in commands} == {b"MSET"}
    assert [part for command in commands for part in command[1:]] == [
        part for number in range(count) for part in (b"k%d" % number, b"v%d" % number)
    ]


def test_groups_are_bounded_in_bytes() -> None:
    """A group is closed once it holds 64 KB; what is longer than that goes alone."""
    sizes = [30_000, 30_000, 30_000, 100, 65_536, 65_537, 1]
    commands = grouped([build.string(b"x" * size) for size in sizes])
    assert [(command[0], len(command)) for command in commands] == [
        (b"MSET", 7), (b"MSET", 5), (b"SET", 3), (b"MSET", 3)
    ]  # fmt: skip
    assert [len(command[2]) for command in build.single(commands)] == sizes


def test_a_cluster_gets_no_groups() -> None:
    commands = grouped([build.string(b"a"), build.number(-7, 1)], mset=False)
    assert commands == [[b"SET", b"k0", b"a"], [b"SET", b"k1", b"-7"]]


def test_short_strings_are_unpacked() -> None:
    """Numbers always, compressed ones where the plan says so; a damaged one goes as it came, and the target refuses it."""
    packed = build.lzf(b"\x02abc\x20\x02", 6)
    damaged = build.lzf(b"\x02abc\x20\x07", 6)
    numbers = [build.number(-128, 1), build.number(32767, 2), build.number(-(2**31), 4)]
    assert build.single(grouped([*numbers, packed], unpack=True)) == [
        [b"SET", b"k0", b"-128"], [b"SET", b"k1", b"32767"], [b"SET", b"k2", b"-2147483648"], [b"SET", b"k3", b"abcabc"],
    ]  # fmt: skip
    assert grouped([packed], unpack=False)[0][3] == payload(0, packed)
    assert sorted(grouped([build.string(b"a"), damaged], unpack=True)) == [
        [b"MSET", b"k0", b"a"], [b"RESTORE", b"k1", b"0", payload(0, damaged), b"REPLACE"],
    ]  # fmt: skip


@pytest.mark.parametrize("unpack", [True, False])
def test_what_is_compressed_comes_out_as_it_was(unpack: bool) -> None:
    """Patterns of every period, literals of every length, up to the last byte of the block."""
    values = []
    packed = []
    for back in range(1, 33):
        for run in (3, 8, 9, 16, 31, 100, 264):
            literal = bytes(range(65, 65 + back))
            values.append(literal + (literal * run)[:run] + b"!")
            head = bytes(((run - 2) << 5,)) if run < 9 else bytes((0xE0, run - 9))
            control = head[:1] + head[1:] + bytes((back - 1,))
            packed.append(build.lzf(bytes((back - 1,)) + literal + control + b"\x00!", len(values[-1])))
    commands = build.single(grouped(packed, unpack=unpack))
    if unpack:
        assert {command[1]: command[2] for command in commands} == {
            b"k%d" % number: value for number, value in enumerate(values)
        }
    else:
        assert {command[0] for command in commands} == {b"RESTORE"}


def test_the_expiries_of_a_group_follow_it() -> None:
    """Other values go before the group that is open; whatever is cut off with a block, each key has its expiry."""
    listing = build.length(2) + build.strings(b"a", b"b")
    parts = [build.select(0), build.entry(b"first", build.string(b"v"))]
    for number in range(100):
        parts.append(build.entry(b"t%d" % number, build.string(b"v"), expiry=9_000 + number))
        parts.append(build.entry(b"s%d" % number, build.string(b"v")))
        parts.append(build.entry(b"l%d" % number, listing, 1))
    found = read(build.snapshot(*parts))
    assert max(len(command) for command in found.commands if command[0] == b"MSET") == 65
    written: set[bytes] = set()
    for command in found.commands:
        if command[0] == b"MSET":
            written.update(command[1::2])
        elif command[0] == b"PEXPIREAT":
            assert command[1] in written
            assert command[2] == b"%d" % (9_000 + int(command[1][1:]))
    single = build.single(found.commands)[1:]
    assert len(single) == 301
    assert sum(command[3:4] == [b"PXAT"] for command in single) == 100


def test_a_compressed_string_that_is_long_stays_compressed() -> None:
    literal = b"".join(b"\x1f" + b"x" * 32 for _ in range(3000))
    packed = build.lzf(literal, 96_000)
    assert grouped([packed], unpack=True)[0][3] == payload(0, packed)
