"""Snapshots and their parts, built by hand from the description of the format: what the kernel is to read."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from migrations_app.engine.kernel import crc64

MARK = b"0123456789abcdef0123456789abcdef01234567"


def length(number: int) -> bytes:
    """A length in the shortest form that the format has for it."""
    if number < 1 << 6:
        return bytes((number,))
    if number < 1 << 14:
        return bytes((0x40 | number >> 8, number & 0xFF))
    if number < 1 << 32:
        return b"\x80" + number.to_bytes(4, "big")
    return b"\x81" + number.to_bytes(8, "big")


def string(content: bytes) -> bytes:
    return length(len(content)) + content


def strings(*contents: bytes) -> bytes:
    return b"".join(map(string, contents))


def lzf(packed: bytes, plain: int) -> bytes:
    """A compressed string: `packed` is LZF, `plain` the length that it says to have."""
    return b"\xc3" + length(len(packed)) + length(plain) + packed


def number(value: int, size: int) -> bytes:
    """A number as a string of 1, 2 or 4 bytes."""
    return bytes((0xC0 | {1: 0, 2: 1, 4: 2}[size],)) + value.to_bytes(size, "little", signed=True)


def lengths(*values: int) -> bytes:
    return b"".join(map(length, values))


def stream(form: int, groups: Iterable[bytes] = ()) -> bytes:
    """A stream of one node in form 1 (5.0), 2 (7.0), 3 (7.2) or 4 (8.6)."""
    groups = list(groups)
    if form == 4:
        remembered = string(b"producer") + length(2) + 2 * (string(b"id") + length(1 << 40) + length(3))
        return (
            stream(3, groups)
            + lengths(100, 100, 2)
            + remembered
            + string(b"idle")
            + length(0)
            + lengths(2, 0)
        )
    head = length(1) + string(b"k" * 16) + string(b"listpack" * 9)
    tail = lengths(3, 1, 0) if form == 1 else lengths(3, 1, 0, 1, 0, 0, 0, 3)
    return head + tail + length(len(groups)) + b"".join(groups)


def group(form: int, name: bytes, pending: int, consumers: int) -> bytes:
    """A consumer group with `pending` entries in all, which the last consumer holds."""
    data = string(name) + lengths(3, 1) + (b"" if form == 1 else length(17))
    data += length(pending) + b"".join(bytes([n % 256]) * 24 + length(n * 700) for n in range(pending))
    data += length(consumers)
    for n in range(consumers):
        held = pending if n == consumers - 1 else 0
        data += string(b"consumer%d" % n) + bytes(16 if form == 3 else 8)
        data += length(held) + b"".join(bytes([i % 256]) * 16 for i in range(held))
    return data


def streams_of(form: int) -> list[bytes]:
    """Streams without groups, with an idle one, with consumers, with pending entries."""
    groups = min(form, 3)
    return [
        stream(form),
        stream(form, [group(groups, b"g", 0, 0)]),
        stream(form, [group(groups, b"\r\n\xff", 0, 3), group(groups, b"busy", 100, 2)]),
    ]


FLOAT8 = b"\x00\x00\x00\x00\x00\x00\xf8\x3f"

# Type byte → values of that type, each complete. Long and short, empty and not.
VALUES: dict[int, list[bytes]] = {
    0: [string(b""), string(b"x" * 63), string(b"x" * 64), string(b"x" * 20_000), number(-1, 1), number(300, 2),
        number(-(2**31), 4), lzf(b"\x00a\x20\x00", 4)],
    1: [length(0), length(3) + strings(b"a", b"", b"c" * 70), length(70) + string(b"e") * 70],
    2: [length(2) + string(b"a") + number(7, 1)],
    3: [length(4) + string(b"a") + b"\x031.5" + string(b"b") + b"\xfd" + string(b"c") + b"\xfe" + string(b"d") + b"\xff"],
    4: [length(2) + strings(b"f", b"v", b"g", b"w" * 100)],
    5: [length(2) + string(b"a") + FLOAT8 + string(b"b" * 90) + b"\xff" * 8],
    7: [length((0x123456789ABCD << 10) + 3) + lengths(1, 9, 2, 70_000, 3) + b"\0" * 4 + length(4) + b"\xff" * 8
        + length(5) + string(b"text" * 30) + length(0),
        length(1 << 40) + length(0)],
    **{kind: [string(b"packed" * n) for n in (1, 11, 4000)] for kind in (9, 10, 11, 12, 13, 16, 17, 20)},
    14: [length(3) + strings(b"ziplist" * 5, b"z") + lzf(b"\x00a\x20\x00", 4)],
    15: streams_of(1),
    18: [length(3) + length(2) + string(b"listpack") + length(1) + string(b"plain" * 2000) + length(2) + number(5, 1)],
    19: streams_of(2),
    21: streams_of(3),
    24: [bytes(8) + length(2) + length(0) + strings(b"f", b"v") + length(1 << 35) + strings(b"g", b"w" * 80)],
    26: streams_of(4),
    25: [b"\xff" * 8 + string(b"listpack" * 3)],
}  # fmt: skip
VALKEY_VALUES: dict[int, list[bytes]] = {
    22: [length(2) + strings(b"f", b"v") + b"\xff" * 8 + strings(b"g", b"w") + bytes(8)]
}

ALL_VALUES = [(kind, value, False) for kind, values in VALUES.items() for value in values] + [
    (kind, value, True) for kind, values in VALKEY_VALUES.items() for value in values
]


def aux(name: bytes, value: bytes) -> bytes:
    return b"\xfa" + strings(name, value)


def select(database: int) -> bytes:
    return b"\xfe" + length(database)


def entry(key: bytes, value: bytes, kind: int = 0, *, expiry: int | None = None) -> bytes:
    """A key; `expiry` in ms."""
    at = b"" if expiry is None else b"\xfc" + expiry.to_bytes(8, "little", signed=True)
    return at + bytes((kind,)) + string(key) + value


def snapshot(*parts: bytes, magic: bytes = b"REDIS0011", checksum: int | None = None) -> bytes:
    """Header, parts, end and checksum (the right one where none is given)."""
    data = magic + b"".join(parts) + b"\xff"
    return data + (crc64(data) if checksum is None else checksum).to_bytes(8, "little")


def single(commands: Iterable[list[bytes]]) -> list[list[bytes]]:
    """The same with each MSET as SETs, with their expiries, and what was selected in one go in order of its keys.

    How strings are grouped, and what else goes before a group, depends on how the blocks are cut.
    """
    result: list[list[bytes]] = []
    values: dict[bytes, list[list[bytes]]] = {}
    for command in [*commands, []]:
        if command[:1] == [b"MSET"]:
            for key, value in zip(command[1::2], command[2::2], strict=True):
                values.setdefault(key, []).append([b"SET", key, value])
        elif command[:1] == [b"PEXPIREAT"] and values.get(command[1], [[]])[-1][:1] == [b"SET"]:
            values[command[1]][-1] += [b"PXAT", command[2]]
        elif command[:1] in ([b"SET"], [b"RESTORE"]):
            values.setdefault(command[1], []).append(command)
        else:
            if command[:1] in ([], [b"SELECT"]):
                result += [one for key in sorted(values) for one in values[key]]
                values = {}
            result += [command] * bool(command)
    return result


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`data`, cut at these places (taken modulo its length)."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:stop] for start, stop in itertools.pairwise(places)]
