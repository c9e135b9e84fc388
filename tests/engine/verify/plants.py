"""Differences to be planted: what both sides have, what is then done to one of them, and how it is to be found."""

from __future__ import annotations

import time
from dataclasses import dataclass

from migrations_app.engine.verify import Kind

Command = tuple[str | int | bytes, ...]

LONG = b"v" * 200
COUNT = 500  # elements of LONG: more than is read whole
LATER = int(time.time() * 1000) + 24 * 3_600_000  # whenever in a run of all tests it is used


@dataclass(frozen=True)
class Plant:
    """`change` is applied to one side after `base` was applied to both. `detail` is part of the difference's detail."""

    name: str
    base: list[Command]
    change: list[Command]
    kind: Kind
    detail: str = ""
    since: tuple[int, ...] = (5,)


def filled(command: str, key: str, element: object) -> list[Command]:
    """COUNT elements of a collection; `element` gives the arguments of the n-th."""
    return [(command, key, *element(number)) for number in range(COUNT)]  # type: ignore[operator]


def big(number: int) -> bytes:
    return b"%04d" % number + LONG


def number(n: int) -> tuple[bytes]:
    return (big(n),)


def field(n: int) -> tuple[bytes, bytes]:
    return b"f%d" % n, LONG


def scored(n: int) -> tuple[str, bytes]:
    return f"{n}.5", big(n)


def entry(n: int) -> tuple[bytes, bytes, bytes]:
    return b"%d-1" % (n + 1), b"f", LONG


STRINGS = [
    Plant("missing", [("SET", "b", "2")], [("SET", "a", "1")], Kind.MISSING),
    Plant("missing with expiry", [], [("SET", "a", "1"), ("PEXPIREAT", "a", LATER)], Kind.MISSING),
    Plant("type", [("SET", "b", "1")], [("RPUSH", "a", "1")], Kind.TYPE),
    Plant("string", [("SET", "a", "1")], [("SET", "a", "2")], Kind.VALUE, "byte 0"),
    Plant("empty string", [("SET", "a", "1")], [("SET", "a", "")], Kind.VALUE, "byte 0"),
    Plant("int64", [("SET", "a", 2**63 - 1)], [("DECR", "a")], Kind.VALUE, "byte 18"),
    Plant("negative int64", [("SET", "a", -(2**63))], [("INCR", "a")], Kind.VALUE, "byte 19"),
    Plant("int or text", [("SET", "a", "100")], [("SET", "a", "0100")], Kind.VALUE),
    Plant(
        "long string",
        [("SETRANGE", "a", 3_000_000, "x")],
        [("SETRANGE", "a", 3_000_000, "y")],
        Kind.VALUE,
        "byte 3000000",
    ),
    Plant(
        "length of a long string",
        [("SETRANGE", "a", 100_000, "x")],
        [("APPEND", "a", "x")],
        Kind.VALUE,
        "length",
    ),
    Plant(
        "expiry",
        [("SET", "a", "1"), ("PEXPIREAT", "a", LATER)],
        [("PEXPIREAT", "a", LATER + 10_000)],
        Kind.TTL,
        "ms apart",
    ),
    Plant("expiry on one side", [("SET", "a", "1")], [("PEXPIREAT", "a", LATER)], Kind.TTL),
    Plant(
        "no expiry on one side", [("SET", "a", "1"), ("PEXPIREAT", "a", LATER)], [("PERSIST", "a")], Kind.TTL
    ),
    Plant("HyperLogLog", [("PFADD", "a", *range(50))], [("PFADD", "a", "x1", "x2", "x3")], Kind.VALUE),
]

COLLECTIONS = [
    Plant("field missing", [("HSET", "a", "f", "1")], [("HSET", "a", "g", "1")], Kind.VALUE, "field 'g'"),
    Plant("field changed", [("HSET", "a", "f", "1")], [("HSET", "a", "f", "2")], Kind.VALUE, "field 'f'"),
    Plant("field of many", filled("HSET", "a", field), [("HSET", "a", "g", "1")], Kind.VALUE, "field 'g'"),
    Plant(
        "field of many changed",
        filled("HSET", "a", field),
        [("HSET", "a", "f77", "1")],
        Kind.VALUE,
        "field 'f77'",
    ),
    Plant("member", [("SADD", "a", "1", "2")], [("SADD", "a", "3")], Kind.VALUE, "member '3'"),
    Plant(
        "members swapped",
        [("SADD", "a", "1", "x")],
        [("SREM", "a", "x"), ("SADD", "a", "y")],
        Kind.VALUE,
        "member",
    ),
    Plant("member of many", filled("SADD", "a", number), [("SADD", "a", "new")], Kind.VALUE, "member 'new'"),
    Plant(
        "member of many swapped",
        filled("SADD", "a", number),
        [("SREM", "a", big(9)), ("SADD", "a", "n")],
        Kind.VALUE,
        "member",
    ),
    Plant(
        "score",
        [("ZADD", "a", "0.1", "m")],
        [("ZADD", "a", "0.10000000000000002", "m")],
        Kind.VALUE,
        "member 'm'",
    ),
    Plant(
        "score of many", filled("ZADD", "a", scored), [("ZADD", "a", "1", "new")], Kind.VALUE, "member 'new'"
    ),
    Plant(
        "infinite score",
        filled("ZADD", "a", scored),
        [("ZADD", "a", "-inf", big(400))],
        Kind.VALUE,
        "member '0400v",
    ),
    Plant("list element", [("RPUSH", "a", "1", "2")], [("LSET", "a", 1, "3")], Kind.VALUE, "index 1"),
    Plant(
        "list order",
        [("RPUSH", "a", "1", "2", "1")],
        [("RPOPLPUSH", "a", "a"), ("RPOPLPUSH", "a", "a")],
        Kind.VALUE,
        "index 0",
    ),
    Plant("list length", [("RPUSH", "a", "1")], [("RPUSH", "a", "1")], Kind.VALUE, "index 1"),
    Plant(
        "last of many", filled("RPUSH", "a", number), [("LSET", "a", COUNT - 1, "x")], Kind.VALUE, "index 499"
    ),
    Plant("one more of many", filled("RPUSH", "a", number), [("RPUSH", "a", "x")], Kind.VALUE, "index 500"),
]

GROUP: list[Command] = [
    ("XADD", "a", "1-1", "f", "v"),
    ("XADD", "a", "2-1", "f", "v"),
    ("XADD", "a", "3-1", "f", "v"),
    ("XGROUP", "CREATE", "a", "g", "0"),
    ("XREADGROUP", "GROUP", "g", "c", "COUNT", "2", "STREAMS", "a", ">"),
]
PENDING: list[Command] = [
    *filled("XADD", "a", entry),
    ("XGROUP", "CREATE", "a", "g", "0"),
    ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "a", ">"),
]
STREAMS = [
    Plant("stream entry", GROUP, [("XADD", "a", "5-1", "f", "v")], Kind.VALUE, "entry 5-1"),
    Plant("stream entry deleted", GROUP, [("XDEL", "a", "2-1")], Kind.VALUE, "entry 2-1"),
    Plant(
        "stream entry of many",
        filled("XADD", "a", entry),
        [("XDEL", "a", "300-1")],
        Kind.VALUE,
        "entry 300-1",
    ),
    Plant(
        "fields of an entry",
        [*GROUP, ("XADD", "b", "1-1", "f", "1")],
        [("DEL", "b"), ("XADD", "b", "1-1", "f", "2")],
        Kind.VALUE,
        "entry 1-1",
    ),
    Plant(
        "highest ID",
        [("XADD", "a", f"{2**64 - 1}-{2**64 - 2}", "f", "v")],
        [("XADD", "a", f"{2**64 - 1}-{2**64 - 1}", "f", "v")],
        Kind.VALUE,
        "entry 18446744073709551615-18446744073709551615",
    ),
    Plant("last ID", GROUP, [("XSETID", "a", "9-9")], Kind.VALUE, "last-generated-id"),
    Plant(
        "highest deleted ID",
        [*GROUP, ("XADD", "a", "4-1", "f", "v")],
        [("XSETID", "a", "4-1", "ENTRIESADDED", 4, "MAXDELETEDID", "2-1")],
        Kind.VALUE,
        "max-deleted",
        (7,),
    ),
    Plant("group", GROUP, [("XGROUP", "CREATE", "a", "h", "0")], Kind.VALUE, "group 'h'"),
    Plant(
        "last delivered ID", GROUP, [("XGROUP", "SETID", "a", "g", "3-1")], Kind.VALUE, "last-delivered-id"
    ),
    Plant("pending entry", GROUP, [("XACK", "a", "g", "2-1")], Kind.VALUE, "group 'g', pending entry 2-1"),
    Plant(
        "consumer",
        GROUP,
        [("XCLAIM", "a", "g", "d", 0, "1-1", "RETRYCOUNT", 1)],
        Kind.VALUE,
        "pending entry 1-1",
    ),
    Plant(
        "deliveries",
        GROUP,
        [("XCLAIM", "a", "g", "c", 0, "1-1", "RETRYCOUNT", 7)],
        Kind.VALUE,
        "pending entry 1-1",
    ),
    Plant("pending entry of many", PENDING, [("XACK", "a", "g", "499-1")], Kind.VALUE, "pending entry 499-1"),
]

FIELD_EXPIRIES = [
    Plant(
        "field expiry",
        [("HSET", "a", "f", "1", "g", "2")],
        [("HPEXPIREAT", "a", LATER, "FIELDS", 1, "g")],
        Kind.TTL,
        "field 'g'",
    ),
    Plant(
        "other field expiry",
        [("HSET", "a", "f", "1", "g", "2"), ("HPEXPIREAT", "a", LATER, "FIELDS", 2, "f", "g")],
        [("HPEXPIREAT", "a", LATER + 5000, "FIELDS", 1, "g")],
        Kind.TTL,
        "field 'g'",
    ),
    Plant(
        "field expiry of many",
        filled("HSET", "a", field),
        [("HPEXPIREAT", "a", LATER, "FIELDS", 1, "f123")],
        Kind.TTL,
        "field 'f123'",
    ),
]

EVERYWHERE = [*STRINGS, *COLLECTIONS, *STREAMS]
