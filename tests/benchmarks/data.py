"""The data sets, written as raw RESP so that filling a server costs less than what is measured."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from migrations_app.engine.kernel import ReplyCounter
from migrations_app.engine.protocol.resp import encode

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class DataSet:
    """`commands(scale)` gives the commands that make it; a scale below 1 makes it smaller."""

    letter: str
    what: str
    commands: Callable[[float], Iterator[bytes]]


def _text(size: int, seed: int) -> bytes:
    """Text that compresses about as well as JSON does."""
    words = [b"%x" % random.Random(seed + number).getrandbits(32) for number in range(64)]
    pick = random.Random(seed)
    return b" ".join(pick.choice(words) for _ in range(size // 8 + 1))[:size].ljust(size, b".")


def strings(scale: float) -> Iterator[bytes]:
    for number in range(int(1_000_000 * scale)):
        yield encode("SET", b"key:%012d" % number, b"%010d" % (number * 7919 % 10**10) * 10)


def small_hashes(scale: float) -> Iterator[bytes]:
    for number in range(int(100_000 * scale)):
        fields = [part for field in range(20) for part in (b"field%d" % field, b"value%d" % (number + field))]
        yield encode("HSET", b"hash:%d" % number, *fields)


def big_hashes(scale: float) -> Iterator[bytes]:
    for number in range(int(5_000 * scale)):
        fields = [part for field in range(1000) for part in (b"field%d" % field, b"%064d" % (number * field))]
        yield encode("HSET", b"big:%d" % number, *fields)


def sorted_sets(scale: float) -> Iterator[bytes]:
    for number in range(int(2_000 * scale)):
        members = [
            part for rank in range(1000) for part in (b"%d.5" % (rank * 3), b"member:%d" % (rank + number))
        ]
        yield encode("ZADD", b"zset:%d" % number, *members)


def long_strings(scale: float) -> Iterator[bytes]:
    piece = _text(100_000, 5)
    for number in range(max(1, int(20 * scale))):
        yield encode("SET", b"long:%d" % number, piece * 100)


def mixed(scale: float) -> Iterator[bytes]:
    pick = random.Random(6)
    for number in range(int(200_000 * scale)):
        yield encode("SET", b"session:%d" % number, _SHORT[number % 64], "PX", 86_400_000 + number)
        if number % 4 == 0:
            yield encode(
                "HSET",
                b"user:%d" % number,
                "name",
                b"n%d" % number,
                "age",
                number % 99,
                "bio",
                _SHORT[number % 64],
            )
        if number % 10 == 0:
            yield encode(
                "RPUSH", b"feed:%d" % number, *(b"item:%d" % pick.getrandbits(30) for _ in range(40))
            )
            yield encode("SADD", b"tags:%d" % number, *(b"tag%d" % pick.getrandbits(12) for _ in range(20)))
        if number % 50 == 0:
            yield encode(
                "ZADD",
                b"board:%d" % number,
                *(str(part) for rank in range(200) for part in (rank, f"p{rank}")),
            )


def giants(scale: float) -> Iterator[bytes]:
    yield encode("SET", "giant:string", _text(1 << 20, 7) * max(1, int(512 * scale)))
    for start in range(0, int(5_000_000 * scale), 1000):
        yield encode(
            "RPUSH", "giant:list", *(b"element:%d" % number for number in range(start, start + 1000))
        )


_SHORT = [_text(120, number) for number in range(64)]

SETS = (
    DataSet("A", "1,000,000 strings of 100 B", strings),
    DataSet("B", "100,000 hashes × 20 small fields", small_hashes),
    DataSet("C", "5,000 hashes × 1,000 fields of 64 B", big_hashes),
    DataSet("D", "2,000 sorted sets × 1,000", sorted_sets),
    DataSet("E", "20 strings of 10 MB", long_strings),
    DataSet("F", "mixed, with TTLs", mixed),
    DataSet("G", "one string of 512 MB, one list of 5,000,000", giants),
)


def changes(count: int) -> Iterator[bytes]:
    """A stream of mixed writes."""
    value = _text(100, 9)
    for number in range(count):
        kind, key = number % 10, number * 7919 % 100_000
        if kind < 4:
            yield encode("SET", b"s:%d" % key, value)
        elif kind < 6:
            yield encode("INCR", b"c:%d" % (key % 1000))
        elif kind == 6:
            yield encode("HSET", b"h:%d" % (key % 5000), b"f%d" % (key % 50), b"v%d" % number)
        elif kind == 7:
            yield encode("LPUSH", b"l:%d" % (key % 5000), b"e%d" % number)
        elif kind == 8:
            yield encode("ZADD", b"z:%d" % (key % 5000), number, b"m%d" % (key % 100))
        else:
            yield encode("SADD", b"t:%d" % (key % 5000), b"m%d" % (key % 200))


Piece = tuple[bytes, int]


def pieces(commands: Iterator[bytes]) -> Iterator[Piece]:
    """Commands as pieces of some MB, with the number of commands in each."""
    piece: list[bytes] = []
    size = 0
    for command in commands:
        piece.append(command)
        size += len(command)
        if size >= _PIECE:
            yield b"".join(piece), len(piece)
            piece, size = [], 0
    yield b"".join(piece), len(piece)


def send(port: int, commands: Iterable[Piece]) -> int:
    """Write the commands to a server on loopback; the number of replies. Raises for an error reply."""
    counter = ReplyCounter()
    sent = 0
    with socket.create_connection(("127.0.0.1", port)) as sock:
        for piece, count in commands:
            sock.sendall(piece)
            sent += count
            while counter.count < sent - 20_000:
                counter.feed(sock.recv(1 << 18))
        while counter.count < sent:
            counter.feed(sock.recv(1 << 18))
    if counter.errors:
        raise RuntimeError(f"the server refused a command of the data set: {counter.errors[0]}")
    return sent
