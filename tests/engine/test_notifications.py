"""Which changes servers notify: every command that writes, on real servers. What they do not tell, the counters have to."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator

import pytest
import redis

from migrations_app.engine.source.notify import changed_key, sufficient
from migrations_app.engine.source.scan import SilentChanges
from tests.support.servers import Server

SETUP = """
SET s abc|SET n 5|RPUSH l a b c d|RPUSH l2 x|SADD t a b c|SADD t2 b c d|ZADD z 1 a 2 b 3 c|ZADD z2 2 b|HSET h f 1|HSET h g 2
PFADD p a b|PFADD p2 c|GEOADD geo 13 38 a 15 37 b|XADD x 1-1 f v|XADD x 2-1 f v|XADD x 3-1 f v|XADD x 4-1 f v|XGROUP CREATE x grp 0
SETEX e 1000 v|SET ren v|SET mv v|HSET hx f 1|HEXPIRE hx 1000 FIELDS 1 f|VADD v VALUES 3 1 2 3 el
XREADGROUP GROUP grp c1 COUNT 2 STREAMS x >
"""
COMMANDS = """
APPEND s x|BITFIELD s SET u8 0 255|BITOP NOT bo s|BLMOVE l l2 LEFT RIGHT 1|BLMPOP 1 1 l LEFT|BLPOP l 1|BRPOP l 1
BRPOPLPUSH l l2 1|BZMPOP 1 1 z MIN|BZPOPMAX z 1|BZPOPMIN z 1|COPY s cp|COPY s cp DB 1|DECR n|DECRBY n 2|DEL s|DELEX s IFEQ abc
DELIFEQ s abc|EXPIRE s 100|EXPIRE s -1|EXPIREAT s 99999999999|PEXPIRE s 100000|PEXPIREAT s 9999999999999|EXPIRE e 5000 GT
GEOADD geo 14 38 c|GEORADIUS geo 14 38 500 km STORE gs|GEORADIUSBYMEMBER geo a 500 km STORE gs
GEOSEARCHSTORE gs geo FROMMEMBER a BYRADIUS 500 km|GETDEL s|GETEX s EX 100|GETEX e PERSIST|GETSET s y|HDEL h f|HDEL h f g
HEXPIRE h 1000 FIELDS 1 f|HPEXPIRE h 1000000 FIELDS 1 f|HEXPIREAT h 9999999999 FIELDS 1 f|HPEXPIREAT h 9999999999999 FIELDS 1 f
HEXPIRE h 0 FIELDS 1 f|HEXPIRE h 0 FIELDS 2 f g|HPERSIST hx FIELDS 1 f|HGETDEL h FIELDS 1 f|HGETEX h EX 100 FIELDS 1 f
HSETEX h EX 100 FIELDS 1 f 9|HSETEX h FIELDS 1 f 9|HINCRBY h f 2|HINCRBYFLOAT h f 1.5|HMSET h f 8|HSET h f 9|HSETNX h new 9
INCR n|INCRBY n 3|INCRBYFLOAT n 1.5|LINSERT l BEFORE b q|LMOVE l l2 LEFT RIGHT|LMPOP 1 l LEFT|LPOP l|LPUSH l q|LPUSHX l q
LREM l 0 a|LSET l 0 q|LTRIM l 1 2|MOVE mv 1|MSET s 1 m2 2|MSETNX m3 1 m4 2|MSETEX 2 s 1 m2 2 EX 100|PERSIST e|PFADD p zz
PFMERGE p p2|PSETEX s 10000 v|RENAME ren ren2|RENAMENX ren ren2|RESTORE rr 0 @DUMP|RESTORE s 0 @DUMP REPLACE|RPOP l
RPOPLPUSH l l2|RPUSH l q|RPUSHX l q|SADD t q|SDIFFSTORE ds t t2|SINTERSTORE ds t t2|SUNIONSTORE ds t t2|SDIFFSTORE s t t
SET s new|SET s new EX 100|SET e new|SET e new KEEPTTL|SET s new GET|SETBIT s 1 1|SETEX s 100 v|SETNX nx v|SETRANGE s 1 zz
SMOVE t t2 a|SORT l ALPHA STORE so|SORT nosuch STORE s|SPOP t|SPOP t 2|SREM t a|UNLINK s|XADD x * f v|XADD x MAXLEN 2 * f v
XDEL x 2-1|XTRIM x MAXLEN 1|XGROUP CREATE x g2 0|XGROUP CREATE nx2 g2 0 MKSTREAM|XGROUP SETID x grp 2-1
XGROUP CREATECONSUMER x grp c2|XGROUP DELCONSUMER x grp c1|XGROUP DESTROY x grp|XREADGROUP GROUP grp c1 COUNT 2 STREAMS x >
XREADGROUP GROUP grp c9 COUNT 2 STREAMS x >|XACK x grp 1-1|XCLAIM x grp c3 0 1-1|XAUTOCLAIM x grp c4 0 0|XSETID x 99-1
XACKDEL x grp IDS 1 1-1|XDELEX x IDS 1 1-1|XCFGSET x IDMP-DURATION 100|ZADD z 5 q|ZADD z INCR 1 a|ZDIFFSTORE zs 2 z z2
ZINCRBY z 1 a|ZINTERSTORE zs 2 z z2|ZMPOP 1 z MIN|ZPOPMAX z|ZPOPMIN z|ZRANGESTORE zs z 0 1|ZREM z a|ZREMRANGEBYLEX z - +
ZREMRANGEBYRANK z 0 0|ZREMRANGEBYSCORE z 0 1|ZUNIONSTORE zs 2 z z2|ZUNIONSTORE s 1 nosuch|EVAL "redis.call('SET',KEYS[1],1)" 1 ev
FLUSHDB|SWAPDB 0 1|FLUSHALL|EXPIRE h 1|VADD v VALUES 3 1 2 3 other|VREM v el|VSETATTR v el {}
"""
QUIET_TYPES = {b"stream", b"vectorset"}


def lines(text: str) -> Iterator[list[str]]:
    for line in text.strip().split("\n"):
        for command in line.split("|"):
            yield shlex.split(command)


class Watched:
    """A server, what it holds, and what it has told."""

    def __init__(self, server: Server) -> None:
        # No answer is changed into something of Python's.
        self.client = server.client(single_connection_client=True)
        self.client.response_callbacks.clear()
        self.other = server.client()
        self.listener = server.client().pubsub()
        self.listener.psubscribe("__keyevent@*__:*", "end")

    def told(self) -> set[tuple[int, bytes]]:
        """What has been told up to now: a message of our own ends it."""
        self.other.publish("end", "")
        found: set[tuple[int, bytes]] = set()
        while True:
            message = self.listener.get_message(timeout=10)
            assert message is not None, "the server tells nothing"
            if message["type"] != "pmessage":
                continue
            if message["channel"] == b"end":
                return found
            name = changed_key([b"pmessage", message["pattern"], message["channel"], message["data"]])
            assert name is not None
            found.add(name)

    def state(self) -> dict[tuple[int, bytes], tuple[bytes, bytes, int]]:
        """(database, key) → type, payload, expiry to the half minute."""
        found = {}
        for database in (0, 1):
            self.client.execute_command("SELECT", database)
            for key in self.client.execute_command("KEYS", "*"):
                expiry = self.client.execute_command("PTTL", key)
                kind = self.client.execute_command("TYPE", key)
                found[database, key] = (
                    kind,
                    self.client.execute_command("DUMP", key),
                    max(expiry, -1) // 30_000,
                )
        self.client.execute_command("SELECT", 0)
        return found

    def run(self, command: list[str]) -> None:
        payload = self.client.execute_command("DUMP", "t") if "@DUMP" in command else b""
        self.client.execute_command(*(payload if word == "@DUMP" else word for word in command))

    def counters(self) -> bytes:
        return bytes(self.client.execute_command("INFO", "commandstats"))


@pytest.mark.parametrize(
    "version", ["redis-3.2", "redis-5.0", "redis-6.2", "redis-7.0", "redis-8.6", "valkey-9"]
)
def test_each_change_is_told_or_counted(redis_server: type[Server], version: str) -> None:
    server = redis_server(version, config={"notify-keyspace-events": "KEA"})
    watched = Watched(server)
    tried, unknown = 0, []
    for command in lines(COMMANDS):
        watched.client.execute_command("FLUSHALL")
        for preparation in lines(SETUP):
            with contextlib.suppress(redis.ResponseError):  # of a newer server
                watched.run(preparation)
        before = watched.state()
        watched.told()
        silent = SilentChanges(server.version)
        assert silent.look(watched.counters()) == ([], False)
        try:
            watched.run(command)
        except redis.ResponseError:
            unknown.append(command[0])
            continue
        told, after = watched.told(), watched.state()
        everything, quiet = silent.look(watched.counters())
        missed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} - told
        if quiet:
            missed = {name for name in missed if (before.get(name) or after[name])[0] not in QUIET_TYPES}
        assert not missed or everything, f"{command} of {version}: {missed}"
        tried += 1
    assert tried > 80, unknown


@pytest.mark.parametrize(
    ("flags", "version", "enough"),
    [
        ("", (7,), False), ("A", (7,), False), ("KE", (7,), False), ("KA", (7,), True), ("AE", (3, 2), True), ("AKEn", (7,), True),
        ("Eg$lshzxe", (3, 2), True), ("Eg$lshzxe", (5,), False), ("Eg$lshzxet", (7,), True), ("Eg$lshzet", (7,), False),
    ],
)  # fmt: skip
def test_flags(flags: str, version: tuple[int, ...], enough: bool) -> None:
    assert sufficient(flags, version) is enough


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ([b"pmessage", b"p", b"__keyevent@0__:set", b"a key"], (0, b"a key")),
        ([b"pmessage", b"p", b"__keyspace@15__:__:odd:__", b"set"], (15, b"__:odd:__")),
        ([b"pmessage", b"p", b"__keyevent@x__:set", b"a"], None),
        ([b"pong", b""], None),
        ([b"psubscribe", b"p", 1], None),
        (b"PONG", None),
    ],
)
def test_messages(message: object, expected: object) -> None:
    assert changed_key(message) == expected
