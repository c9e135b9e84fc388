"""Writes of every kind, what a source sends of each, and which of them a target lacks.

A line is `name | what has to be there; … | command`. Words are split at spaces; `@x` is a key of this case alone, `$F` a moment in
the future in seconds, `$Fms` in ms. `!feature` in the name: without it (`engine/abilities.py`) the link stops.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import redis

from tests.support.servers import Server

STRING = "SET @s v PX 5000000"
HASH = "HMSET @h a 1 b 2 c 3"
LISTS = "RPUSH @l a b c d e f; RPUSH @l2 x y z"
ZSETS = "ZADD @z 1 a 2 b 3 c 4 d; ZADD @z2 1 a 5 e; SADD @set a c"
STREAM = "XADD @x 1-1 f v; XADD @x 2-1 f v; XADD @x 3-1 f v; XGROUP CREATE @x g 0; XGROUP CREATE @x g2 0"
PENDING = f"{STREAM}; XREADGROUP GROUP g c1 STREAMS @x >; XREADGROUP GROUP g2 c1 STREAMS @x >"
GEO = "GEOADD @geo 13.36 38.11 P 15.08 37.5 C; SET @d old"
FIELDS = f"{HASH}; HEXPIRE @h 50000 FIELDS 1 a"

_STRINGS = f"""
SET KEEPTTL | {STRING} | SET @s w KEEPTTL
SET KEEPTTL without TTL | SET @s v | SET @s w KEEPTTL
SET XX KEEPTTL | {STRING} | SET @s w XX KEEPTTL
SET GET | {STRING} | SET @s w GET
SET EX | {STRING} | SET @s w EX 5000
SET PX | {STRING} | SET @s w PX 5000000
SET EXAT | {STRING} | SET @s w EXAT $F
SET PXAT | {STRING} | SET @s w PXAT $Fms
SET XX GET | {STRING} | SET @s w XX GET
SET XX EX GET | {STRING} | SET @s w XX EX 5000 GET
SET NX | | SET @s w NX
SET NX EX | | SET @s w NX EX 5000
SET NX GET | | SET @s w NX GET
SET IFEQ | {STRING} | SET @s w IFEQ v
SET IFEQ PX | {STRING} | SET @s w IFEQ v PX 5000000
SET IFEQ KEEPTTL | {STRING} | SET @s w IFEQ v KEEPTTL
SET IFNE | {STRING} | SET @s w IFNE x
SETEX | | SETEX @s 5000 w
PSETEX | | PSETEX @s 5000000 w
GETEX EX | {STRING} | GETEX @s EX 5000
GETEX PXAT | {STRING} | GETEX @s PXAT $Fms
GETEX PERSIST | {STRING} | GETEX @s PERSIST
GETEX past | {STRING} | GETEX @s PXAT 1
GETDEL | {STRING} | GETDEL @s
GETSET | {STRING} | GETSET @s w
DELIFEQ | {STRING} | DELIFEQ @s v
DELEX | {STRING} | DELEX @s
DELEX IFEQ | {STRING} | DELEX @s IFEQ v
MSETEX | | MSETEX 2 @a 1 @b 2 EX 5000
MSETEX KEEPTTL | {STRING} | MSETEX 2 @s 1 @b 2 KEEPTTL
MSETEX NX | | MSETEX 2 @a 1 @b 2 NX PXAT $Fms
MSETEX XX | {STRING} | MSETEX 1 @s 1 XX EXAT $F
MSETEX none | {STRING} | MSETEX 1 @s 1
EXPIRE XX | {STRING} | EXPIRE @s 9000 XX
PEXPIRE LT | {STRING} | PEXPIRE @s 4000000 LT
EXPIREAT GT | {STRING} | EXPIREAT @s $F GT
EXPIRE NX | SET @s v | EXPIRE @s 9000 NX
EXPIRE past | {STRING} | EXPIRE @s -1
PERSIST | {STRING} | PERSIST @s
INCRBYFLOAT | SET @f 1 | INCRBYFLOAT @f 1.5
UNLINK | {STRING} | UNLINK @s
COPY | {STRING} | COPY @s @d
COPY of a list | {LISTS}; PEXPIREAT @l $Fms | COPY @l @l2 REPLACE
COPY DB | {STRING} | COPY @s @d DB 3 REPLACE
MOVE | {STRING} | MOVE @s 4
RENAME | {STRING} | RENAME @s @d
PFADD | PFADD @p a; PFADD @q b | PFMERGE @p @q
BITFIELD | | BITFIELD @b SET u8 0 200
BITOP | {STRING} | BITOP NOT @d @s
BITOP DIFF !BITOP DIFF | {STRING}; SET @s2 q | BITOP DIFF @d @s @s2
SORT STORE | RPUSH @n 3 1 2 | SORT @n STORE @d
"""
_COLLECTIONS = f"""
LMOVE LEFT RIGHT | {LISTS} | LMOVE @l @l2 LEFT RIGHT
LMOVE RIGHT RIGHT | {LISTS} | LMOVE @l @l2 RIGHT RIGHT
LMOVE LEFT LEFT | {LISTS} | LMOVE @l @l2 LEFT LEFT
LMOVE RIGHT LEFT | {LISTS} | LMOVE @l @l2 RIGHT LEFT
LMOVE same | {LISTS} | LMOVE @l @l LEFT RIGHT
LMOVE same side | {LISTS} | LMOVE @l @l LEFT LEFT
LMOVE same of one | RPUSH @l a; PEXPIREAT @l $Fms | LMOVE @l @l LEFT RIGHT
LMOVE the last | RPUSH @l a | LMOVE @l @l2 LEFT RIGHT
BLMOVE | {LISTS} | BLMOVE @l @l2 LEFT RIGHT 0
BRPOPLPUSH | {LISTS} | BRPOPLPUSH @l @l2 0
LMPOP | {LISTS} | LMPOP 2 @l @l2 LEFT COUNT 2
LMPOP all | {LISTS} | LMPOP 1 @l2 RIGHT COUNT 10
BLMPOP | {LISTS} | BLMPOP 0 2 @l @l2 RIGHT COUNT 2
LPOP count | {LISTS} | LPOP @l 2
RPOP count | {LISTS} | RPOP @l 2
LPOP all | {LISTS} | LPOP @l2 10
RPOP all | {LISTS} | RPOP @l2 10
BLPOP | {LISTS} | BLPOP @l 0
LPUSHX many | {LISTS} | LPUSHX @l 1 2
RPUSHX many | {LISTS} | RPUSHX @l 1 2
SPOP | SADD @e 1 2 3 4 5 6 | SPOP @e 2
SPOP all | SADD @e 1 2 3 4 5 6 | SPOP @e 10
HSET many | {HASH} | HSET @h x 1 y 2
HINCRBYFLOAT | {HASH} | HINCRBYFLOAT @h a 1.5
ZADD GT | {ZSETS} | ZADD @z GT 9 a 9 new 0 b
ZADD LT XX | {ZSETS} | ZADD @z XX LT 0.5 a 9 new 9 b
ZADD GT one | {ZSETS} | ZADD @z GT CH 9 a
ZADD GT INCR | {ZSETS} | ZADD @z GT INCR 1 a
ZADD NX CH | {ZSETS} | ZADD @z NX CH 9 a 9 new
ZADD inf | {ZSETS} | ZADD @z GT inf a -inf b 0.1 c
ZPOPMIN | {ZSETS} | ZPOPMIN @z
ZPOPMAX many | {ZSETS} | ZPOPMAX @z 2
ZPOPMAX all | {ZSETS} | ZPOPMAX @z 20
BZPOPMIN | {ZSETS} | BZPOPMIN @z 0
ZMPOP | {ZSETS} | ZMPOP 1 @z MAX COUNT 2
ZRANGESTORE | {ZSETS} | ZRANGESTORE @d @z 0 1
ZRANGESTORE REV | {ZSETS} | ZRANGESTORE @d @z 0 1 REV
ZRANGESTORE BYSCORE | {ZSETS} | ZRANGESTORE @d @z 1 3 BYSCORE LIMIT 1 2
ZRANGESTORE BYSCORE REV | {ZSETS} | ZRANGESTORE @d @z +inf (1 BYSCORE REV
ZRANGESTORE BYLEX | ZADD @z 0 a 0 b 0 c | ZRANGESTORE @d @z [b + BYLEX
ZRANGESTORE nothing | {ZSETS} | ZRANGESTORE @z2 @z 7 9
ZDIFFSTORE | {ZSETS} | ZDIFFSTORE @d 3 @z @z2 @set
ZDIFFSTORE of a set | {ZSETS} | ZDIFFSTORE @d 2 @set @z2
ZUNIONSTORE | {ZSETS} | ZUNIONSTORE @d 2 @z @z2 WEIGHTS 2 3 AGGREGATE MAX
GEOADD CH | {GEO} | GEOADD @geo CH 1 1 new
GEOSEARCHSTORE | {GEO} | GEOSEARCHSTORE @d @geo FROMLONLAT 15 37 BYRADIUS 200 km ASC
GEOSEARCHSTORE STOREDIST | {GEO} | GEOSEARCHSTORE @d @geo FROMMEMBER P BYRADIUS 200 km COUNT 2 STOREDIST
GEOSEARCHSTORE nothing | {GEO} | GEOSEARCHSTORE @d @none FROMLONLAT 15 37 BYRADIUS 200 km
GEOSEARCHSTORE BYBOX !GEOSEARCHSTORE | {GEO} | GEOSEARCHSTORE @d @geo FROMLONLAT 15 37 BYBOX 400 400 km
GEOSEARCHSTORE BYPOLYGON !BYPOLYGON | {GEO} | GEOSEARCHSTORE @d @geo BYPOLYGON 4 10 30 20 30 20 40 10 40
GEORADIUS STORE | {GEO} | GEORADIUS @geo 15 37 200 km STORE @d
HEXPIRE !field expiry | {HASH} | HEXPIRE @h 5000 FIELDS 2 a zz
HPEXPIREAT GT !field expiry | {FIELDS} | HPEXPIREAT @h $Fms GT FIELDS 2 a b
HEXPIRE past | {HASH} | HEXPIRE @h 0 FIELDS 1 a
HPERSIST !field expiry | {FIELDS} | HPERSIST @h FIELDS 1 a
HSETEX EX !field expiry | {HASH} | HSETEX @h EX 5000 FIELDS 2 a 1 b 2
HSETEX FXX PXAT !field expiry | {FIELDS} | HSETEX @h FXX PXAT $Fms FIELDS 2 a 7 b 8
HSETEX KEEPTTL !field expiry | {FIELDS} | HSETEX @h KEEPTTL FIELDS 2 a 7 b 8
HSETEX KEEPTTL without | {HASH} | HSETEX @h KEEPTTL FIELDS 2 a 7 b 8
HSETEX | {HASH} | HSETEX @h FIELDS 2 a 7 b 8
HSETEX of a field with expiry !field expiry | {FIELDS} | HSETEX @h FIELDS 2 a 7 b 8
HGETEX EX !field expiry | {FIELDS} | HGETEX @h EX 5000 FIELDS 2 a b
HGETEX PERSIST !field expiry | {FIELDS} | HGETEX @h PERSIST FIELDS 1 a
HGETDEL | {HASH} | HGETDEL @h FIELDS 2 a zz
HINCRBY of a field with expiry !field expiry | {FIELDS} | HINCRBY @h a 5
HINCRBYFLOAT of a field with expiry !field expiry | {FIELDS} | HINCRBYFLOAT @h a 5.5
VADD !vector sets | | VADD @v VALUES 2 1 2 el
"""
_STREAMS = f"""
XADD | | XADD @x 5-1 f v
XADD MAXLEN | {STREAM} | XADD @x MAXLEN 2 9-1 f v
XADD MAXLEN ~ LIMIT | {STREAM} | XADD @x MAXLEN ~ 2 LIMIT 10 9-1 f v
XADD NOMKSTREAM | {STREAM} | XADD @x NOMKSTREAM 9-1 f v
XADD MINID | {STREAM} | XADD @x MINID 2 9-1 f v
XADD MINID sequence | {STREAM} | XADD @x MINID 2-2 9-1 f v
XADD MINID LIMIT | {STREAM} | XADD @x NOMKSTREAM MINID ~ 2 LIMIT 10 9-1 f v
XADD KEEPREF | {PENDING} | XADD @x KEEPREF MAXLEN 2 9-1 f v
XADD DELREF !KEEPREF | {PENDING} | XADD @x DELREF MAXLEN 2 9-1 f v
XADD IDMP !IDMP | {STREAM} | XADD @x IDMP producer once * f v
XTRIM MAXLEN | {STREAM} | XTRIM @x MAXLEN 1
XTRIM MINID | {STREAM} | XTRIM @x MINID 3
XTRIM DELREF !KEEPREF | {PENDING} | XTRIM @x MAXLEN 1 DELREF
XDEL | {STREAM} | XDEL @x 1-1
XDELEX | {PENDING} | XDELEX @x IDS 1 1-1
XDELEX DELREF | {PENDING} | XDELEX @x DELREF IDS 2 1-1 2-1
XDELEX ACKED !KEEPREF | {PENDING}; XACK @x g 1-1; XACK @x g2 1-1 | XDELEX @x ACKED IDS 2 1-1 2-1
XACKDEL | {PENDING}; XACK @x g 2-1 | XACKDEL @x g IDS 2 1-1 2-1
XACKDEL DELREF | {PENDING} | XACKDEL @x g DELREF IDS 2 1-1 2-1
XACK | {PENDING} | XACK @x g 1-1
XGROUP CREATE | {STREAM} | XGROUP CREATE @x k $
XGROUP CREATE ENTRIESREAD | {STREAM} | XGROUP CREATE @x k 2-1 ENTRIESREAD 2
XGROUP CREATE MKSTREAM | | XGROUP CREATE @x k $ MKSTREAM
XGROUP SETID ENTRIESREAD | {STREAM} | XGROUP SETID @x g 2-1 ENTRIESREAD 2
XGROUP CREATECONSUMER | {STREAM} | XGROUP CREATECONSUMER @x g me
XGROUP DELCONSUMER | {PENDING} | XGROUP DELCONSUMER @x g c1
XGROUP DESTROY | {PENDING} | XGROUP DESTROY @x g
XREADGROUP | {STREAM} | XREADGROUP GROUP g c1 COUNT 2 STREAMS @x >
XREADGROUP NOACK | {STREAM} | XREADGROUP GROUP g c1 NOACK STREAMS @x >
XREADGROUP CLAIM | {PENDING} | XREADGROUP GROUP g c3 CLAIM 0 STREAMS @x >
XCLAIM | {PENDING} | XCLAIM @x g c2 0 1-1
XCLAIM options | {PENDING} | XCLAIM @x g c2 0 1-1 IDLE 5 RETRYCOUNT 4 JUSTID
XCLAIM of a deleted one | {PENDING}; XDEL @x 1-1 | XCLAIM @x g c2 0 1-1
XAUTOCLAIM | {PENDING} | XAUTOCLAIM @x g c2 0 0 COUNT 2
XAUTOCLAIM of a deleted one | {PENDING}; XDEL @x 1-1 | XAUTOCLAIM @x g c2 0 0
XSETID | {STREAM} | XSETID @x 9-9
XSETID ENTRIESADDED | {STREAM} | XSETID @x 9-9 ENTRIESADDED 8 MAXDELETEDID 2-2
XCFGSET | {STREAM} | XCFGSET @x IDMP-DURATION 10
"""


@dataclass(frozen=True)
class Case:
    """`feature`: what a target needs for it, empty for nothing."""

    number: int
    name: str
    feature: str
    setup: tuple[tuple[str, ...], ...]
    command: tuple[str, ...]

    def run(self, client: redis.Redis) -> bool:
        """Whether the server knows all of it."""
        try:
            for words in (*self.setup, self.command):
                client.execute_command(*words)
        except redis.ResponseError:
            return False
        return True


def cases(*, streams: bool = True) -> list[Case]:
    future = int(time.time()) + 10_000
    result: list[Case] = []
    lines = (_STRINGS + _COLLECTIONS + (_STREAMS if streams else "")).splitlines()
    for line in filter(None, lines):
        name, setup, command = (part.strip() for part in line.split("|"))
        number = len(result)
        words = [
            tuple(
                f"case{number}:{word[1:]}"
                if word[0] == "@"
                else word.replace("$Fms", str(future * 1000)).replace("$F", str(future))
                for word in text.split()
            )
            for text in [*filter(None, setup.split(";")), command]
        ]
        name, _, feature = name.partition(" !")
        result.append(Case(number, name, feature, tuple(words[:-1]), words[-1]))
    return result


def plain(server: Server) -> redis.Redis:
    """A client that takes replies as they come: redis-py's readers do not know every option."""
    client = server.client()
    client.response_callbacks.clear()
    return client
