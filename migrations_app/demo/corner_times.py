"""Corner cases of streams, expiries, hash-field expiries and functions.

As in `migrations_app.demo.corners`: generators of commands, key names that begin with ``corner:``. Times are
absolute, so that two fills with one seed and one clock give the same data.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from .clients import Capabilities, Command
from .corners import ALL_BYTES, AWKWARD, EDGES, text

MINUTE_MS = 60_000
SHORTEST_MS = 90_000
"""No key of the sample data expires earlier than this after the fill began."""

FAR_MS = (
    2_000_000_000_000,  # 2033, whole seconds
    2_145_916_800_123,  # 2038 minus some days, with milliseconds
    2_147_483_648_000,  # the first second that needs 32 bits unsigned
    4_102_444_800_999,  # 2100
    4_294_967_296_000,  # the first second that needs 33 bits
    253_402_300_799_999,  # the end of year 9999
)
"""Expiries in the far future, in milliseconds since 1970."""

LIBRARY = """#!lua name={name}
local function total(keys, args)
  return redis.call('INCRBY', keys[1], args[1])
end
redis.register_function('{name}_total', total)
redis.register_function{{function_name='{name}_peek', callback=function(keys) return redis.call('GET',
keys[1]) end, flags={{'no-writes'}}}} -- {comment}
"""


def expiries(random: Random, caps: Capabilities, db: int, now_ms: int) -> Iterator[Command]:
    """Far and near expiries of every type, set in seconds and in milliseconds."""
    for number, when in enumerate(FAR_MS):
        yield "SET", f"corner:ttl:far:{number}", f"{when} in {db}"
        yield "PEXPIREAT", f"corner:ttl:far:{number}", when
        yield "SET", f"corner:ttl:far-s:{number}", number
        yield "EXPIREAT", f"corner:ttl:far-s:{number}", when // 1000
    for number in range(20):
        after = SHORTEST_MS + number * 41_003
        yield "SET", f"corner:ttl:near:{number}", random.randbytes(20)
        yield "PEXPIREAT", f"corner:ttl:near:{number}", now_ms + after
    yield "RPUSH", "corner:ttl:list", *range(50)
    yield "SADD", "corner:ttl:intset", *range(50)
    yield "SADD", "corner:ttl:set", *(f"m{i}" for i in range(300))
    yield "ZADD", "corner:ttl:zset", 1.5, "a", 2.5, "b"
    yield "HMSET", "corner:ttl:hash", "a", 1, "b", text(100)
    yield "PFADD", "corner:ttl:hll", "a", "b"
    if caps.has("XADD"):
        yield "XADD", "corner:ttl:stream", "1-1", "a", "b"
        yield "PEXPIREAT", "corner:ttl:stream", now_ms + 10 * MINUTE_MS + 7
    for number, kind in enumerate(("list", "intset", "set", "zset", "hash", "hll")):
        yield "PEXPIREAT", f"corner:ttl:{kind}", now_ms + (5 + number) * MINUTE_MS + 123
    yield "SET", "corner:ttl:taken-off", "stays"
    yield "PEXPIREAT", "corner:ttl:taken-off", now_ms + 5 * MINUTE_MS
    yield "PERSIST", "corner:ttl:taken-off"


def streams(random: Random, caps: Capabilities, db: int, now_ms: int) -> Iterator[Command]:
    """Streams of one node and many, with deleted and trimmed entries, groups, consumers and pending entries
    (5.0 and later)."""
    if not caps.has("XADD"):
        return
    yield "XADD", "corner:stream:one", "0-1", "field", f"db {db}"
    yield "XADD", "corner:stream:ids", "1-0", "a", 1
    for when in (1, 2**31, now_ms, 2**53, 2**63 - 1, 2**64 - 2):
        yield "XADD", "corner:stream:ids", f"{when}-{2**64 - 1}", "a", when
    yield "XADD", "corner:stream:awkward", "5-1", *(part for value in AWKWARD for part in (value, value))
    yield "XADD", "corner:stream:awkward", "5-2", *(part for edge in EDGES for part in (edge, edge))
    yield (
        "XADD",
        "corner:stream:awkward",
        "5-3",
        "",
        "",
        "long",
        text(70_000),
        "noise",
        random.randbytes(5000),
    )
    for number in range(350):
        # The same fields as the first of a node are stored once; others are stored in full.
        fields: Command = (
            ("name", f"n{number}", "value", number) if number % 3 else (f"other{number}", ALL_BYTES)
        )
        yield "XADD", "corner:stream:nodes", f"{1000 + number}-{number % 2}", *fields
    yield "XDEL", "corner:stream:nodes", "1000-0", "1100-0", "1101-1", "1349-1"
    for number in range(250):
        yield "XADD", "corner:stream:trimmed", f"{number + 1}-0", "n", number
    yield "XTRIM", "corner:stream:trimmed", "MAXLEN", 37
    for key in ("corner:stream:emptied", "corner:stream:groups", "corner:stream:empty-group"):
        for number in range(60):
            yield "XADD", key, f"{number + 1}-{number}", "n", number, "who", random.randbytes(6)
    yield "XTRIM", "corner:stream:emptied", "MAXLEN", 0
    yield "XADD", "corner:stream:ahead", "7-7", "a", "b"
    yield "XSETID", "corner:stream:ahead", "900-5"
    if caps.at_least(7, 0):
        yield "XSETID", "corner:stream:ahead", "901-0", "ENTRIESADDED", 500, "MAXDELETEDID", "800-1"
    yield from _groups(caps, now_ms)


def _groups(caps: Capabilities, now_ms: int) -> Iterator[Command]:
    key = "corner:stream:groups"
    yield "XGROUP", "CREATE", key, "untouched", "0"
    yield "XGROUP", "CREATE", key, "at-end", "$"
    yield "XGROUP", "CREATE", key, "half-way", "30-29"
    yield "XGROUP", "CREATE", key, b"name\r\n\x00\xff", "0"
    yield "XGROUP", "CREATE", key, "busy", "0"
    yield "XGROUP", "CREATE", "corner:stream:made", "first", "$", "MKSTREAM"
    yield "XGROUP", "CREATE", "corner:stream:emptied", "late", "$"
    yield "XGROUP", "CREATE", "corner:stream:empty-group", "gone", "0"
    yield "XGROUP", "DESTROY", "corner:stream:empty-group", "gone"
    yield "XREADGROUP", "GROUP", "busy", "mara", "COUNT", 20, "STREAMS", key, ">"
    yield "XREADGROUP", "GROUP", "busy", "joon", "COUNT", 15, "STREAMS", key, ">"
    yield "XREADGROUP", "GROUP", "busy", "noack", "COUNT", 2, "NOACK", "STREAMS", key, ">"
    yield "XREADGROUP", "GROUP", "busy", b"bin\x00\r\nary", "COUNT", 5, "STREAMS", key, ">"
    yield "XREADGROUP", "GROUP", "busy", "leaver", "COUNT", 3, "STREAMS", key, ">"
    yield "XACK", key, "busy", *(f"{number + 1}-{number}" for number in range(8))
    # Delivery times and counts are given, or they would be those of the fill: two fills would differ.
    for number in range(8, 35):
        consumer = ("mara", "joon", "retry")[number % 3]
        when = ("TIME", now_ms - number * 1001, "RETRYCOUNT", number % 7 + 1, "FORCE", "JUSTID")
        yield "XCLAIM", key, "busy", consumer, 0, f"{number + 1}-{number}", *when
    for number in range(37, 42):
        yield (
            "XCLAIM",
            key,
            "busy",
            b"bin\x00\r\nary",
            0,
            f"{number + 1}-{number}",
            "TIME",
            now_ms - 5,
            "RETRYCOUNT",
            1,
            "JUSTID",
        )
    # Pending entries that the stream no longer has.
    yield "XDEL", key, "10-9", "12-11", "60-59"
    yield "XGROUP", "DELCONSUMER", key, "busy", "leaver"
    yield "XGROUP", "SETID", key, "at-end", "45-44"
    if caps.at_least(6, 2):
        yield "XGROUP", "CREATECONSUMER", key, "half-way", "idle"


def field_expiries(random: Random, caps: Capabilities, db: int, now_ms: int) -> Iterator[Command]:
    """Hashes some or all of whose fields expire: Redis 7.4, Valkey 9 and later."""
    if not caps.has("HPEXPIREAT"):
        return
    for size, name in ((1, "one"), (10, "small"), (700, "large")):
        key = f"corner:field-ttl:{name}"
        yield "HSET", key, *(part for i in range(size) for part in (f"f{i}", f"{i} of {db}"))
        for start in range(0, size, 100):
            fields = [f"f{i}" for i in range(start, min(size, start + 100), 2)]
            yield "HPEXPIREAT", key, FAR_MS[start // 100 % 3], "FIELDS", len(fields), *fields
        yield "HPEXPIREAT", key, now_ms + SHORTEST_MS + random.randrange(600_000), "FIELDS", 1, "f0"
    yield "HSET", "corner:field-ttl:both", "stays", 1, "goes", random.randbytes(70), "", text(10)
    yield "HPEXPIREAT", "corner:field-ttl:both", FAR_MS[1], "FIELDS", 2, "goes", ""
    yield "PEXPIREAT", "corner:field-ttl:both", FAR_MS[3]
    yield "HSET", "corner:field-ttl:taken-off", "a", 1, "b", 2
    yield "HPEXPIREAT", "corner:field-ttl:taken-off", FAR_MS[0], "FIELDS", 1, "a"
    yield "HPERSIST", "corner:field-ttl:taken-off", "FIELDS", 1, "a"


def functions(caps: Capabilities) -> Iterator[Command]:
    """Two libraries (Redis 7.0 and later); their code is stored in the snapshot as text."""
    if caps.has("FUNCTION"):
        yield "FUNCTION", "LOAD", "REPLACE", LIBRARY.format(name="depot", comment="short")
        yield "FUNCTION", "LOAD", "REPLACE", LIBRARY.format(name="yard", comment=text(30_000).decode())
