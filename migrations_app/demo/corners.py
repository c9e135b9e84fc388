"""Corner cases of strings, lists, sets, sorted sets and hashes: every encoding, every edge of a length or an
integer.

Generators of commands, one per type. All key names begin with ``corner:`` (and some hold bytes that no name
should), so that `migrations_app.demo.encodings` finds them again and the writer leaves them alone. The same
names exist in several databases with different random values: a value that lands in the wrong database is
noticed.

Thresholds named here are the servers' defaults: 44 bytes for embstr, 64-byte entries, 128 or 512 entries for
compact encodings (it differs between types and releases), 8 KB for a node of a list; 63, 16383 for the
lengths in a snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from .clients import Capabilities, Command, Word

PREFIX = b"corner:"

EDGES = sorted(
    {
        sign * (2**bits + step)
        for bits in (0, 3, 7, 8, 12, 13, 15, 16, 23, 24, 31, 32, 47, 53, 63)
        for sign in (1, -1)
        for step in (-1, 0, 1)
        if -(2**63) <= sign * (2**bits + step) < 2**63
    }
    | {0, 9999, 10000, 10001}
)
"""Integers on both sides of each border that the compact encodings and the snapshot format have (64-bit
signed)."""

NOT_INTEGERS = (
    b"+1", b"01", b"-0", b" 1", b"1 ", b"1.0", b"1e3", b"0x10", b"--1", b"-",
    b"9223372036854775808", b"-9223372036854775809", b"18446744073709551615", b"00000000000000000000",
)  # fmt: skip
"""Look like integers, and must not become one on the way."""

ALL_BYTES = bytes(range(256))
AWKWARD = (
    b"", b"\r\n", b"\0", b"\0\0\0\0", b"a\r\nb", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n", b"$-1\r\n",
    b"-ERR no\r\n", b"REDIS0011\xfa\xff", b"$EOF:" + b"e" * 40, b"e" * 40, b"\xff" * 9, b"\xc3\x28",
    "Grüße, 世界 🚉".encode(), b"{}", b"{tag}rest", b"*?[a-z]\\", b"'\"`;--", b"%s%n%00",
    b"switchyard", ALL_BYTES,
)  # fmt: skip
"""Values and names with protocol marks, snapshot marks, broken UTF-8, glob and quoting characters."""

LENGTHS = (
    1, 2, 11, 20, 21, 39, 40, 43, 44, 45, 63, 64, 65, 100, 252, 253, 254, 255, 256, 1000, 4095, 4096,
    16383, 16384, 65535, 65536,
)  # fmt: skip
MORSE = b"stop full stop all aboard the night train "


def text(length: int) -> bytes:
    """Compressible bytes (LZF finds the repetition)."""
    return (MORSE * (length // len(MORSE) + 1))[:length]


def strings(random: Random, caps: Capabilities, db: int) -> Iterator[Command]:
    """int, embstr and raw; LZF and not; bitmaps; HyperLogLog sparse and dense; awkward keys and values."""
    yield "SET", "corner:database", db
    for edge in EDGES:
        yield "SET", f"corner:string:int:{edge}", edge
    for number, value in enumerate(NOT_INTEGERS):
        yield "SET", f"corner:string:not-int:{number}", value
    for length in LENGTHS:
        yield "SET", f"corner:string:text:{length}", text(length)
        yield "SET", f"corner:string:noise:{length}", random.randbytes(length)
        yield "SET", f"corner:string:zeros:{length}", bytes(length)
    for number, value in enumerate(AWKWARD):
        yield "SET", f"corner:string:value:{number}", value
        yield "SET", b"corner:name:%d:" % number + value, value
    for byte in range(256):
        yield "SET", b"corner:name:byte:" + bytes([byte]), bytes([byte]) * (byte % 5)
    # A key may be empty, and long: one length byte, two, five of the snapshot format.
    yield "SET", "", random.randbytes(12)
    for length in (63, 64, 255, 256, 1024, 4000, 16384):
        yield "SET", b"corner:name:long:" + random.randbytes(length), length
    # APPEND leaves raw strings that are short, and one that reads as an integer.
    for key, parts in {
        "short": (b"ra", b"w"),
        "digits": (b"12", b"345"),
        "negative": (b"-1", b"7"),
        "long": (text(60), b"!"),
    }.items():
        for part in parts:
            yield "APPEND", f"corner:string:appended:{key}", part
    yield "SETRANGE", "corner:string:padded", 5000, "end"
    yield "SETBIT", "corner:bitmap:sparse", 2**22, 1
    for _ in range(200):
        yield "SETBIT", "corner:bitmap:dense", random.randrange(4000), 1
    yield "PFADD", "corner:hll:empty"
    for size, key in ((3, "few"), (300, "sparse"), (20_000, "dense")):
        for start in range(0, size, 500):
            yield "PFADD", f"corner:hll:{key}", *(random.randbytes(6) for _ in range(min(500, size - start)))
    # PFCOUNT writes the cardinality that it has counted into the value.
    yield "PFCOUNT", "corner:hll:sparse"
    yield "PFMERGE", "corner:hll:merged", "corner:hll:few", "corner:hll:dense"


def lists(random: Random, caps: Capabilities, db: int) -> Iterator[Command]:
    """listpack or ziplist inside a quicklist of one node or many, plain nodes, every kind of entry."""
    yield "RPUSH", "corner:list:one", f"db {db}"
    yield "RPUSH", "corner:list:edges", *EDGES
    yield "RPUSH", "corner:list:awkward", *AWKWARD, *NOT_INTEGERS
    yield "RPUSH", "corner:list:lengths", *(random.randbytes(length) for length in LENGTHS if length < 5000)
    yield "RPUSH", "corner:list:text", *(text(length) for length in LENGTHS if length < 5000)
    yield "LPUSH", "corner:list:empty-elements", *[b""] * 20
    yield "RPUSH", "corner:list:equal", *[b"same"] * 400
    for start in range(0, 2000, 200):
        yield "RPUSH", "corner:list:nodes", *(b"%d " % (start + i) + random.randbytes(40) for i in range(200))
    # Alone in a node, because larger than a node may be (from 7.2 a plain node: not packed at all).
    for length in (9_000, 16_384, 70_000):
        yield "RPUSH", "corner:list:large", "before", random.randbytes(length), text(length), "after"
    yield "RPUSH", "corner:list:one-large", text(20_000)
    # Emptied from both ends after it had many nodes.
    yield "RPUSH", "corner:list:shrunk", *(random.randbytes(50) for _ in range(600))
    yield "LTRIM", "corner:list:shrunk", 298, 301
    yield "RPUSH", "corner:list:inserted", "a", "c", *range(100)
    yield "LINSERT", "corner:list:inserted", "BEFORE", "c", "b"
    yield "LREM", "corner:list:inserted", 0, 50
    yield "LSET", "corner:list:inserted", -1, random.randbytes(100)


def compressed_lists(random: Random, db: int) -> Iterator[Command]:
    """Lists made while ``list-compress-depth`` is 1 (see `migrations_app.demo.dataset`): their inner nodes
    are LZF in memory."""
    for start in range(0, 3000, 250):
        yield (
            "RPUSH",
            "corner:list:compressed",
            *(text(60) + b"%d in %d" % (start + i, db) for i in range(250)),
        )
    for _ in range(4):
        yield "RPUSH", "corner:list:compressed-noise", *(random.randbytes(60) for i in range(250))


def packed_lists(random: Random, db: int) -> Iterator[Command]:
    """Lists made while the threshold for plain nodes is low: plain nodes on 7.0 too, which keeps them for
    values of 1 GB."""
    yield (
        "RPUSH",
        "corner:list:plain",
        "before",
        text(5_000),
        random.randbytes(6_000),
        "between",
        text(9_000),
        f"after {db}",
    )


def sets(random: Random, caps: Capabilities, db: int) -> Iterator[Command]:
    """intset of 16, 32 and 64 bits, listpack (7.2), hashtable."""
    for bits in (16, 32, 64):
        top = 2 ** (bits - 1)
        yield "SADD", f"corner:set:int{bits}", -top, -1, 0, 1, db, top - 1
        yield "SADD", f"corner:set:int{bits}:many", *(random.randrange(-top, top) for _ in range(400))
    yield "SADD", "corner:set:edges", *EDGES
    # Widened from 16 bits to 64 by its last element, then left with a 64-bit intset of small numbers.
    yield "SADD", "corner:set:widened", 1, 2, 3, 2**40
    yield "SREM", "corner:set:widened", 2**40
    for size in (511, 512, 513, 2000):
        yield "SADD", f"corner:set:ints:{size}", *(db + 3 * i for i in range(size))
    yield "SADD", "corner:set:one", "x"
    yield "SADD", "corner:set:mixed", "x", *range(20)
    yield "SADD", "corner:set:awkward", *AWKWARD, *NOT_INTEGERS
    for size in (127, 128, 129, 600):
        yield "SADD", f"corner:set:text:{size}", *(b"member %d of %d" % (i, db) for i in range(size))
    for length in (63, 64, 65, 16384):
        yield "SADD", f"corner:set:long:{length}", random.randbytes(length), b"short", b""
    yield "SADD", "corner:set:shrunk", "stays", *(f"goes {i}" for i in range(700))
    yield "SREM", "corner:set:shrunk", *(f"goes {i}" for i in range(10, 700))


SCORES: tuple[Word, ...] = (
    0, "-0", 1, -1, 0.1, -0.1, 1.5, -1.5, 1 / 3, 3.0000000000000004, 0.30000000000000004, 1e-7, 123456.789,
    5e-324, -5e-324, 2.2250738585072014e-308, 1e17, 1e21, 1e22, -1e22, 1.7976931348623157e308,
    -1.7976931348623157e308, 2**31, 2**32, 2**53 - 1, 2**53, 2**53 + 2, 2**63, -(2**63), 2**64, "inf", "-inf",
    1_790_000_000.123456, 1_790_000_000_123,
)  # fmt: skip
"""Scores: fractions, denormal and largest doubles, borders of exact integers, infinities, negative zero,
times."""


def sorted_sets(random: Random, caps: Capabilities, db: int) -> Iterator[Command]:
    """ziplist or listpack, and skiplist, each with every score; equal scores; geo."""
    pairs: list[Word] = [part for number, score in enumerate(SCORES) for part in (score, f"score {number}")]
    yield "ZADD", "corner:zset:scores", *pairs
    # One entry above 64 bytes makes it a skiplist, with the same scores.
    yield "ZADD", "corner:zset:scores:large", *pairs, 7, text(65)
    yield "ZADD", "corner:zset:one", 1.5, f"db {db}"
    yield "ZADD", "corner:zset:edges", *(part for edge in EDGES for part in (edge, edge))
    yield (
        "ZADD",
        "corner:zset:awkward",
        *(part for i, value in enumerate((*AWKWARD, *NOT_INTEGERS)) for part in (i / 4, value)),
    )
    yield "ZADD", "corner:zset:equal", *(part for i in range(100) for part in (42, f"m{i:03}"))
    for size in (127, 128, 129, 1000):
        yield (
            "ZADD",
            f"corner:zset:size:{size}",
            *(part for i in range(size) for part in (random.uniform(-1e6, 1e6), f"m{i}")),
        )
    yield "ZADD", "corner:zset:shrunk", *(part for i in range(300) for part in (i * 0.25, f"m{i}"))
    yield "ZREMRANGEBYRANK", "corner:zset:shrunk", 1, -1
    yield "ZADD", "corner:zset:long", 1, random.randbytes(16384), 2, ""
    yield (
        "GEOADD",
        "corner:geo:few",
        13.361389,
        38.115556,
        "Palermo",
        15.087269,
        37.502669,
        "Catania",
        -180,
        -85.05,
        "edge",
    )
    for start in range(0, 400, 100):
        yield (
            "GEOADD",
            "corner:geo:many",
            *(
                part
                for i in range(100)
                for part in (random.uniform(-179, 179), random.uniform(-84, 84), f"stop {start + i}")
            ),
        )


def hashes(random: Random, caps: Capabilities, db: int) -> Iterator[Command]:
    """ziplist or listpack, and hashtable, with integers, empty and awkward fields and values. HMSET: 3.2
    knows no other."""
    yield "HMSET", "corner:hash:one", "field", f"db {db}"
    yield "HMSET", "corner:hash:empty-value", "field", ""
    yield "HMSET", "corner:hash:empty-field", "", "value"
    yield "HMSET", "corner:hash:edges", *(part for edge in EDGES for part in (edge, -edge))
    yield (
        "HMSET",
        "corner:hash:awkward",
        *(part for i, value in enumerate((*AWKWARD, *NOT_INTEGERS)) for part in (value, i)),
    )
    yield (
        "HMSET",
        "corner:hash:awkward-values",
        *(part for i, value in enumerate((*AWKWARD, *NOT_INTEGERS)) for part in (i, value)),
    )
    for size in (64, 127, 128, 129, 511, 512, 513, 1000):
        yield (
            "HMSET",
            f"corner:hash:size:{size}",
            *(part for i in range(size) for part in (f"field{i}", random.randrange(10**9))),
        )
    for length in (63, 64, 65, 254, 16384, 70_000):
        yield (
            "HMSET",
            f"corner:hash:value:{length}",
            "noise",
            random.randbytes(length),
            "text",
            text(length),
            "n",
            db,
        )
        yield "HMSET", f"corner:hash:field:{length}", random.randbytes(length), "1", text(length), "2"
    yield "HMSET", "corner:hash:shrunk", *(part for i in range(600) for part in (f"field{i}", i))
    yield "HDEL", "corner:hash:shrunk", *(f"field{i}" for i in range(2, 600))
