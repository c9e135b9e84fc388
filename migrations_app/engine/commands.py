"""The commands that a source sends to its replicas, and what the link does with each.

From the command tables of Redis 3.0–8 and Valkey 7.2–9 (flag `write`), and what those servers propagate beside them.
A command that is not here is not known, and stops the link by name.
"""

from __future__ import annotations

from typing import Final

from migrations_app.engine import kernel
from migrations_app.engine.suspects import DERIVE, RENEW

# Applied as they come; only the database matters to them.
_PLAIN: Final = [
    "APPEND",
    "BITFIELD",
    "BITOP",
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "DECR",
    "DECRBY",
    "DEL",
    "DELEX",
    "DELIFEQ",
    "DIGEST",
    "EVAL",
    "EVALSHA",
    "FCALL",
    "FLUSHDB",
    "FUNCTION",
    "GEOADD",
    "GEORADIUS",
    "GEORADIUSBYMEMBER",
    "GEOSEARCHSTORE",
    "GETDEL",
    "GETSET",
    "HDEL",
    "HGETDEL",
    "HINCRBY",
    "HINCRBYFLOAT",
    "HMSET",
    "HPERSIST",
    "HSET",
    "HSETNX",
    "INCR",
    "INCRBY",
    "INCRBYFLOAT",
    "LINSERT",
    "LMOVE",
    "LMPOP",
    "LPOP",
    "LPUSH",
    "LPUSHX",
    "LREM",
    "LSET",
    "LTRIM",
    "MSET",
    "MSETNX",
    "PERSIST",
    "PFADD",
    "PFCOUNT",
    "PFDEBUG",
    "PFMERGE",
    "PUBLISH",
    "RPOP",
    "RPOPLPUSH",
    "RPUSH",
    "RPUSHX",
    "SADD",
    "SCRIPT",
    "SDIFFSTORE",
    "SETBIT",
    "SETNX",
    "SETRANGE",
    "SINTERSTORE",
    "SMOVE",
    "SORT",
    "SPOP",
    "SPUBLISH",
    "SREM",
    "SUNIONSTORE",
    "UNLINK",
    "VADD",
    "VREM",
    "VSETATTR",
    "XACK",
    "XACKDEL",
    "XADD",
    "XAUTOCLAIM",
    "XCFGSET",
    "XCLAIM",
    "XDEL",
    "XDELEX",
    "XGROUP",
    "XIDMPRECORD",
    "XREADGROUP",
    "XSETID",
    "XTRIM",
    "ZADD",
    "ZDIFFSTORE",
    "ZINCRBY",
    "ZINTERSTORE",
    "ZMPOP",
    "ZPOPMAX",
    "ZPOPMIN",
    "ZRANGESTORE",
    "ZREM",
    "ZREMRANGEBYLEX",
    "ZREMRANGEBYRANK",
    "ZREMRANGEBYSCORE",
    "ZUNIONSTORE",
]

# A rule looks at these: expiries (engine/expiry.py), what reaches beyond one database (engine/filter.py), and what builds on
# keys that may have expired on the target too early (engine/suspects.py).
EXPIRES: Final = frozenset(
    b"EXPIRE EXPIREAT PEXPIRE PEXPIREAT SET SETEX PSETEX GETEX RESTORE RESTORE-ASKING MSETEX "
    b"HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HSETEX HGETEX".split()
)
BEYOND: Final = frozenset(b"FLUSHALL MOVE COPY SWAPDB".split())
RENAMES: Final = frozenset(b"RENAME RENAMENX MOVE COPY".split())  # the expiry goes with the value


def actions() -> dict[bytes, int]:
    """Command name in capitals → action of the stream kernel."""
    table = dict.fromkeys((name.encode() for name in _PLAIN), kernel.FORWARD)
    table |= dict.fromkeys(EXPIRES | BEYOND | RENAMES | RENEW | DERIVE, kernel.RULE)
    table |= {
        b"SET": kernel.RULE_LONG,
        b"SELECT": kernel.SELECT,
        b"MULTI": kernel.MULTI,
        b"EXEC": kernel.EXEC,
        b"PING": kernel.DROP,
        b"REPLCONF": kernel.CONTROL,
    }
    return table
