"""What the writer does: one table of operations, each with its weight and what it needs of the server.

Operations work on keys of their own, ``live:<kind>:<number>``, where the kind names the type, so that no
command meets a key of the wrong type; and on the keys of the sample data whose names tell what they are. None
depends on a reply: a batch can be sent in one piece.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from random import Random

from .clients import Capabilities, Command, Word

LIVE = 150
"""How many keys of a kind there are in a database."""
STREAMS = 6
EVALUATED = """
redis.call('SET', KEYS[1], ARGV[1])
redis.call('HINCRBY', KEYS[2], 'scripted', 1)
redis.call('SADD', KEYS[3], ARGV[1], ARGV[2])
return redis.call('INCR', KEYS[4])
"""
LIBRARY = """#!lua name=writer
redis.register_function('writer_note', function(keys, args)
  redis.call('SET', keys[1], args[1])
  return redis.call('HINCRBY', keys[2], 'noted', 1)
end)
"""


class Context:
    """What operations draw from: random numbers, names, times, and the keys that the database already had.

    ``known`` maps the first word of the sample data's keys to some of their names. ``shortest_ttl_s`` is the
    least time to live that is given to any key.
    """

    def __init__(
        self,
        random: Random,
        caps: Capabilities,
        db: int,
        databases: tuple[int, ...],
        *,
        shortest_ttl_s: int = 120,
    ) -> None:
        self.random = random
        self.caps = caps
        self.db = db
        self.others = tuple(other for other in databases if other != db)
        self.shortest_ttl_s = shortest_ttl_s
        self.known: dict[str, list[bytes]] = {}
        self.script_digest = b""
        self.payload = b""
        self._ids: dict[str, deque[str]] = {}
        self._last_id = (0, 0)

    def number(self, limit: int) -> int:
        """A number in [0, limit)."""
        return int(self.random.random() * limit)

    def key(self, kind: str) -> str:
        """One of the writer's own keys of this kind."""
        return f"live:{kind}:{self.number(LIVE)}"

    def two(self, kind: str) -> tuple[str, str]:
        """Two different keys of a kind."""
        first = self.number(LIVE)
        return f"live:{kind}:{first}", f"live:{kind}:{(first + 1 + self.number(LIVE - 1)) % LIVE}"

    def old(self, word: str) -> Word:
        """A key of the sample data that begins with this word, or one of the same shape where there is
        none."""
        names = self.known.get(word)
        return names[self.number(len(names))] if names else f"{word}:live:{self.number(LIVE)}"

    def other(self) -> int:
        """Another database; only where there are `others`."""
        return self.others[self.number(len(self.others))]

    def ttl(self) -> int:
        """A time to live in seconds, up to an hour more than the shortest."""
        return self.shortest_ttl_s + self.number(3600)

    def ttl_ms(self) -> int:
        """A time to live in milliseconds."""
        return self.ttl() * 1000 + self.number(1000)

    def at(self) -> int:
        """A moment to expire at, in seconds since 1970."""
        return int(time.time()) + self.ttl() + 1

    def at_ms(self) -> int:
        """A moment to expire at, in milliseconds since 1970."""
        return int(time.time() * 1000) + self.ttl_ms()

    def value(self) -> bytes:
        """A value of 1 to some hundred bytes; compressible, binary or a number."""
        shape = self.number(3)
        if shape == 0:
            return b"all aboard " * (1 + self.number(20))
        return self.random.randbytes(1 + self.number(80)) if shape == 1 else b"%d" % self.number(10**9)

    def stream(self) -> str:
        """One of the streams, each of which has the group ``crew``."""
        return f"live:stream:{self.number(STREAMS)}"

    def next_id(self, stream: str) -> str:
        """An ID above all that this writer has used; remembered, so that it can be claimed or deleted."""
        now = int(time.time() * 1000)
        self._last_id = (now, 0) if now > self._last_id[0] else (self._last_id[0], self._last_id[1] + 1)
        text = f"{self._last_id[0]}-{self._last_id[1]}"
        self._ids.setdefault(stream, deque(maxlen=40)).append(text)
        return text

    def used_id(self, stream: str) -> str:
        """An ID that was given to this stream lately."""
        ids = self._ids.get(stream)
        return ids[self.number(len(ids))] if ids else "1-1"


Operation = Callable[[Context], list[Command]]


def setup(caps: Capabilities) -> list[Command]:
    """What has to be there before the operations start; an error that a group exists already is fine."""
    commands: list[Command] = [("SCRIPT", "LOAD", EVALUATED)]
    if caps.has("XGROUP"):
        commands += [
            ("XGROUP", "CREATE", f"live:stream:{n}", "crew", "0", "MKSTREAM") for n in range(STREAMS)
        ]
    if caps.has("FUNCTION"):
        commands.append(("FUNCTION", "LOAD", "REPLACE", LIBRARY))
    return commands


def available(caps: Capabilities) -> tuple[list[Operation], list[float]]:
    """The operations that a server knows, and their cumulative weights (for `Random.choices`)."""
    operations, weights, total = [], [], 0.0
    for weight, needs, operation in TABLE:
        words = needs.split()
        version = next((word[1:] for word in words if word.startswith("@")), "0")
        names = [word for word in words if word[0] != "@"]
        if caps.has(*names) and caps.at_least(*map(int, version.split("."))):
            total += weight
            operations.append(operation)
            weights.append(total)
    return operations, weights


def _moves(c: Context) -> list[Command]:
    if not c.others:
        return []
    moves: list[Command] = [("MOVE", c.key("text"), c.other()), ("MOVE", c.old("active"), c.other())]
    if c.caps.has("COPY"):
        moves.append(("COPY", c.key("hash"), c.key("hash"), "DB", c.other()))
    return moves


def _across(c: Context) -> list[Command]:
    """A transaction that spans two databases: its SELECTs are part of the stream."""
    if not c.others:
        return []
    key, other = c.key("text"), c.other()
    return [
        ("MULTI",),
        ("SET", key, "here"),
        ("SELECT", other),
        ("SET", key, "there"),
        ("SELECT", c.db),
        ("INCR", c.key("counter")),
        ("EXEC",),
    ]


def _mixed(c: Context) -> list[Command]:
    return [
        ("MULTI",),
        ("HSET", c.key("hash"), "status", c.value()),
        ("ZADD", c.key("zset"), c.random.random(), "multi"),
        ("RPUSH", c.key("list"), c.value()),
        ("PEXPIRE", c.key("text"), c.ttl_ms()),
        ("EXEC",),
    ]


def _own_group(c: Context) -> list[Command]:
    key, group = c.stream(), f"passing{c.number(5)}"
    return [
        ("XGROUP", "CREATE", key, group, "$"),
        ("XADD", key, c.next_id(key), "passing", c.value()),
        ("XREADGROUP", "GROUP", group, "one", "COUNT", 1, "STREAMS", key, ">"),
        ("XGROUP", "SETID", key, group, "0"),
        ("XGROUP", "DELCONSUMER", key, group, "one"),
        ("XGROUP", "DESTROY", key, group),
    ]


def _xadd(c: Context) -> list[Command]:
    key = c.stream()
    limit = ("MAXLEN", "~", 2000) if c.number(2) else ("MAXLEN", 2500)
    return [("XADD", key, *limit, c.next_id(key), "from", LIVE, "value", c.value())]


def _claim(c: Context) -> list[Command]:
    key = c.stream()
    return [("XCLAIM", key, "crew", f"sailor{c.number(4)}", 0, c.used_id(key), c.used_id(key))]


def _read_group(c: Context) -> list[Command]:
    return [("XREADGROUP", "GROUP", "crew", f"sailor{c.number(4)}", "COUNT", 3, "STREAMS", c.stream(), ">")]


def _renamed(c: Context) -> list[Command]:
    old = c.key("text")
    return [("SET", old, c.value()), ("RENAME", old, c.key("text"))]


def _field_expiry(c: Context) -> list[Command]:
    key = c.key("fields")
    return [
        ("HSET", key, "a", c.value(), "b", c.value(), "c", 1),
        ("HEXPIRE", key, c.ttl(), "FIELDS", 1, "a"),
        ("HPEXPIRE", key, c.ttl_ms(), "FIELDS", 2, "b", "none"),
        ("HPEXPIREAT", key, c.at_ms(), "FIELDS", 1, "a"),
        ("HPERSIST", key, "FIELDS", 1, "b"),
    ]


def _restored(c: Context) -> list[Command]:
    ttl = 0 if c.number(2) else c.ttl_ms()
    return [("RESTORE", c.key("list"), ttl, c.payload, "REPLACE")] if c.payload else []


def _scripted(c: Context) -> list[Command]:
    keys = (c.key("text"), c.key("totals"), c.key("set"), c.key("counter"))
    call: Command = ("EVALSHA", c.script_digest) if c.number(2) else ("EVAL", EVALUATED)
    return [(*call, 4, *keys, c.value(), c.number(1000))]


def _spots(c: Context) -> list[Command]:
    place = c.random.uniform(-180, 180), c.random.uniform(-85, 85)
    return [("GEOADD", c.key("geo"), *place, f"ship {c.number(50)}")]


def _queue(c: Context) -> list[Command]:
    # Filled in the same batch and used by nothing else: the blocking pops never wait.
    one, other = f"live:jobs:{c.number(20)}", f"live:done:{c.number(20)}"
    return [
        ("RPUSH", one, *(c.value() for _ in range(4))),
        ("BLPOP", one, 1),
        ("BRPOP", one, 1),
        ("BRPOPLPUSH", one, other, 1),
        ("RPOPLPUSH", one, other),
        ("LTRIM", other, -50, -1),
    ]


TABLE: tuple[tuple[float, str, Operation], ...] = (
    # Weight, commands it needs (and @version of Redis), operation.
    # Expiries that are renewed, on the sample data and on new keys.
    (6, "", lambda c: [("PEXPIRE", c.old("session"), c.ttl_ms())]),
    (6, "", lambda c: [("INCR", key := c.old("rate")), ("EXPIRE", key, c.ttl())]),
    (3, "", lambda c: [("PEXPIREAT", c.old("token"), c.at_ms()), ("EXPIREAT", c.old("timeline"), c.at())]),
    (1, "", lambda c: [("PERSIST", c.old("session"))]),
    (2, "", lambda c: [("EXPIRE", c.key("text"), c.ttl()), ("PEXPIREAT", c.key("hash"), c.at_ms())]),
    (2, "", lambda c: [("EXPIRE", c.key("list"), c.ttl()), ("PERSIST", c.key("list")),
     ("PERSIST", c.key("text"))]),
    (2, "@7.0", lambda c: [("EXPIRE", c.old("rate"), c.ttl(), ("NX", "XX", "GT", "LT")[c.number(4)])]),
    (2, "GETEX", lambda c: [("GETEX", c.key("text"), "PX", c.ttl_ms()), ("GETEX", c.key("text"), "PERSIST")]),
    # The sample data itself.
    (3, "", lambda c: [("HINCRBY", c.old("cart"), f"lamp:{c.number(900)}", 1),
     ("HSET", c.old("user"), "seen", c.number(10**6))]),
    (3, "", lambda c: [("LPUSH", key := c.old("feed"), c.value()), ("LTRIM", key, 0, 99)]),
    (3, "", lambda c: [("ZINCRBY", c.old("board"), c.random.gauss(0, 5), f"player:{c.number(500)}")]),
    (2, "", lambda c: [("SADD", c.old("followers"), c.number(10**6)),
     ("INCRBY", c.old("stats"), c.number(9))]),
    (1, "", lambda c: [("SET", c.old("page"), c.value()), ("DEL", c.old("thumb"), c.old("token"))]),
    (0.5, "UNLINK", lambda c: [("UNLINK", c.old("queue"), c.old("visitors"))]),
    (0.5, "", lambda c: [("PFADD", c.old("visitors"), c.value()),
     ("SETBIT", c.old("active"), c.number(20000), 1)]),
    # Strings.
    (4, "", lambda c: [("INCR", c.key("counter")), ("INCRBY", c.key("counter"), c.number(1000) - 300)]),
    (2, "", lambda c: [("DECR", c.key("counter")), ("DECRBY", c.key("counter"), c.number(1000))]),
    (3, "", lambda c: [("INCRBYFLOAT", c.key("price"), f"{c.random.uniform(-9, 9):.4f}")]),
    (4, "", lambda c: [("APPEND", c.key("text"), c.value())]),
    (2, "", lambda c: [("SETRANGE", c.key("text"), c.number(200), c.value())]),
    (4, "", lambda c: [("SETBIT", c.key("bits"), c.number(5000), c.number(2))]),
    (4, "", lambda c: [("SET", c.key("text"), c.value(), "EX", c.ttl()),
     ("SET", c.key("text"), c.value(), "PX", c.ttl_ms())]),
    (3, "", lambda c: [("SETEX", c.key("text"), c.ttl(), c.value()),
     ("PSETEX", c.key("text"), c.ttl_ms(), c.value())]),
    (2, "", lambda c: [("SETNX", c.key("text"), c.value()),
     ("SET", c.key("text"), c.value(), "NX", "EX", c.ttl())]),
    (2, "@6.0", lambda c: [("SET", c.key("text"), c.value(), "KEEPTTL")]),
    (1, "@6.2", lambda c: [("SET", c.key("text"), c.value(), "PXAT", c.at_ms()),
     ("SET", c.key("text"), 1, "EXAT", c.at(), "GET")]),
    (2, "", lambda c: [("GETSET", c.key("text"), c.value())]),
    (1, "GETDEL", lambda c: [("GETDEL", c.key("text"))]),
    (2, "", lambda c: [("MSET", c.key("text"), c.value(), c.key("text"), c.value()),
     ("MSETNX", c.key("text"), 1, c.key("text"), 2)]),
    (2, "", lambda c: [("BITOP",
     ("AND", "OR", "XOR")[c.number(3)], c.key("bits"), c.key("bits"), c.key("bits"))]),
    (1, "BITFIELD", lambda c:
     [("BITFIELD", c.key("bits"), "SET", "u8", c.number(4000), 200, "INCRBY", "i5", 100, 1)]),
    (3, "", lambda c: [("PFADD", c.key("hll"), c.value(), c.value())]),
    (1, "", lambda c: [("PFMERGE", c.key("hll"), c.key("hll"), c.key("hll"))]),
    # Lists.
    (4, "", lambda c: [("LPUSH", key := c.key("list"), c.value(), c.value()), ("RPUSH", key, c.value()),
     ("LTRIM", key, 0, 199)]),
    (3, "", lambda c: [("LPOP", c.key("list")), ("RPOP", c.key("list")), ("LPUSHX", c.key("list"), 1),
     ("RPUSHX", c.key("list"), 2)]),
    (2, "", lambda c: [("RPUSH", k := c.key("list"), "pivot"),
     ("LINSERT", k, "BEFORE", "pivot", c.value()), ("LREM", k, 1, "pivot")]),
    (1, "", lambda c: [("LPUSH", key := c.key("list"), "x"), ("LSET", key, 0, c.value())]),
    (2, "", _queue),
    (1, "LMOVE BLMOVE", lambda c: [("LMOVE", c.key("list"), c.key("list"), "LEFT", "RIGHT"),
     ("LPOP", c.key("list"), 2)]),
    (1, "LMPOP", lambda c: [("LMPOP", 2, c.key("list"), c.key("list"), "RIGHT", "COUNT", 2)]),
    (0.5, "", lambda c: [("SORT", c.key("ints"), "DESC", "STORE", c.key("list"))]),
    (0.5, "", _restored),
    # Hashes.
    (5, "", lambda c: [("HSET", c.key("hash"), f"f{c.number(30)}", c.value()),
     ("HMSET", c.key("hash"), "a", c.value(), "b", 2)]),
    (3, "", lambda c: [("HINCRBY", c.key("totals"), "n", c.number(50)),
     ("HINCRBYFLOAT", c.key("totals"), "x", c.number(99) / 8)]),
    (2, "", lambda c: [("HDEL", c.key("hash"), f"f{c.number(30)}", "b"),
     ("HSETNX", c.key("hash"), "once", c.value())]),
    (3, "HEXPIRE", _field_expiry),
    (1, "HSETEX", lambda c: [("HSETEX", c.key("fields"), "PX", c.ttl_ms(), "FIELDS", 1, "d", c.value())]),
    (1, "HGETEX", lambda c: [("HGETEX", c.key("fields"), "EX", c.ttl(), "FIELDS", 1, "c")]),
    (1, "HGETDEL", lambda c: [("HGETDEL", c.key("fields"), "FIELDS", 1, "d")]),
    # Sets.
    (4, "", lambda c: [("SADD", c.key("set"), c.value(), f"m{c.number(60)}"),
     ("SADD", c.key("ints"), c.number(400), -c.number(9))]),
    (2, "", lambda c: [("SREM", c.key("set"), f"m{c.number(60)}"), ("SPOP", c.key("set")),
     ("SPOP", c.key("ints"), 2)]),
    (2, "", lambda c: [("SMOVE", c.key("set"), c.key("set"), f"m{c.number(60)}")]),
    (1, "", lambda c: [("SINTERSTORE", c.key("ints"), c.key("ints"), c.key("ints")),
     ("SDIFFSTORE", c.key("set"), c.key("set"), c.key("set"))]),
    (1, "", lambda c: [("SUNIONSTORE", c.key("ints"), c.key("ints"), c.key("ints"))]),
    # Sorted sets.
    (5, "", lambda c:
     [("ZADD", c.key("zset"), c.random.gauss(0, 1e3), f"m{c.number(300)}", "-inf", "least", "inf", "most")]),
    (3, "", lambda c: [("ZINCRBY", c.key("zset"), c.number(100) / 7, f"m{c.number(300)}"),
     ("ZREM", c.key("zset"), f"m{c.number(300)}")]),
    (1, "ZPOPMIN", lambda c: [("ZPOPMIN", c.key("zset")), ("ZPOPMAX", c.key("zset"), 2)]),
    (1, "", lambda c: [("ZREMRANGEBYRANK", c.key("zset"), 0, 1), ("ZREMRANGEBYSCORE", c.key("zset"), -5, 5)]),
    (1, "", lambda c: [("ZREMRANGEBYLEX", c.key("lex"), "[b", "(c"),
     ("ZADD", c.key("lex"), 0, f"{'abcdef'[c.number(6)]}{c.number(50)}")]),
    (1, "", lambda c: [("ZUNIONSTORE", c.key("zset"), 2, c.key("zset"), c.key("zset"), "AGGREGATE", "MAX")]),
    (1, "", lambda c: [("ZINTERSTORE", c.key("zset"), 2, c.key("zset"), c.key("zset"), "AGGREGATE", "MIN")]),
    (1, "ZRANGESTORE", lambda c: [("ZRANGESTORE", c.key("zset"), c.key("zset"), 0, 20),
     ("ZADD", c.key("zset"), "GT", 5, "m1")]),
    (1, "ZMPOP", lambda c: [("ZMPOP", 1, c.key("zset"), "MIN")]),
    (2, "", _spots),
    # Streams.
    (5, "XADD", _xadd),
    (3, "XREADGROUP", _read_group),
    (2, "XACK", lambda c: [("XACK", key := c.stream(), "crew", c.used_id(key), c.used_id(key))]),
    (1, "XCLAIM", _claim),
    (1, "XAUTOCLAIM", lambda c:
     [("XAUTOCLAIM", c.stream(), "crew", f"sailor{c.number(4)}", 0, "0", "COUNT", 2)]),
    (1, "XDEL", lambda c: [("XDEL", key := c.stream(), c.used_id(key)), ("XTRIM", key, "MAXLEN", "~", 1000)]),
    (0.5, "XGROUP", _own_group),
    # Whole keys.
    (2, "", lambda c: [("DEL", c.key("text"), c.key("hash")), ("DEL", c.key("zset")),
     ("DEL", c.key("list"))]),
    (1, "UNLINK", lambda c: [("UNLINK", c.key("set"), c.key("hll"), c.key("bits"))]),
    (1, "", _renamed),
    (1, "", lambda c: [("HSET", key := c.key("hash"), "a", 1), ("RENAMENX", key, c.key("hash"))]),
    (1, "", _moves),
    (1, "COPY", lambda c: [("COPY", *c.two("zset"), "REPLACE"), ("COPY", *c.two("list"))]),
    # Transactions, scripts, functions, channels.
    (2, "", _mixed),
    (1, "", _across),
    (2, "", _scripted),
    (1, "FCALL", lambda c: [("FCALL", "writer_note", 2, c.key("text"), c.key("totals"), c.value())]),
    (1, "", lambda c: [("PUBLISH", "news", c.value())]),
    (0.5, "SPUBLISH", lambda c: [("SPUBLISH", "news", c.value())]),
    # Newer than what most targets know: what the server sends on differs from what it was told.
    (0.5, "MSETEX", lambda c:
     [("MSETEX", 2, c.key("text"), c.value(), c.key("text"), c.value(), "PX", c.ttl_ms())]),
    (0.5, "DELEX", lambda c: [("DELEX", c.key("text"), "IFEQ", "1")]),
    (0.5, "DELIFEQ", lambda c: [("DELIFEQ", c.key("text"), "1")]),
    (0.5, "XDELEX XACKDEL", lambda c: [("XDELEX", key := c.stream(), "IDS", 1, c.used_id(key)),
     ("XACKDEL", key, "crew", "IDS", 1, c.used_id(key))]),
)  # fmt: skip
