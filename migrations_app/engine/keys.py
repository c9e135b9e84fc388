"""Which arguments of a command are keys, and which slot of a cluster a key belongs to. Pure.

For the commands that a source sends to its replicas (`commands.py`). From the key specifications of Redis 3.0–8.6 and Valkey 7.2–9
(`COMMAND INFO`, `COMMAND GETKEYS`) and, for slots, from the cluster specification of Redis.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Hashable, Sequence
from typing import Final, TypeVar

from migrations_app.engine.errors import ProtocolError, UnknownCommand

SLOTS: Final = 16384

Group = TypeVar("Group", bound=Hashable)


def positions(args: Sequence[bytes]) -> list[int]:
    """Where the keys of a command stand in `args` (the name is at 0), in ascending order; none for a command without keys.

    Raises `UnknownCommand` for a command that is not in the table, `ProtocolError` for one that cannot be read.
    """
    name = args[0].upper()
    fixed = _FIXED.get(name)
    try:
        if fixed is None:
            return _MOVABLE[name](args)
        first, last, step = fixed
        end = last if last > 0 else len(args) + last
        if first > end or end >= len(args):
            raise IndexError
        return list(range(first, end + 1, step))
    except KeyError:
        raise UnknownCommand(
            f"it is not known where the command {name[:64].decode('utf-8', 'replace')!r} has its keys"
        ) from None
    except (IndexError, ValueError):
        raise ProtocolError(
            f"the source sent a {name.decode('utf-8', 'replace')} that cannot be read: {b' '.join(args)[:128]!r}"
        ) from None


def keys_of(args: Sequence[bytes]) -> list[bytes]:
    """The keys of a command, in the order of its arguments."""
    return [args[place] for place in positions(args)]


def split(args: Sequence[bytes], by: Callable[[bytes], Group]) -> dict[Group, list[bytes]] | None:
    """A command over several keys as one command for each group of keys, which together do the same; `by` gives a key's group.

    None for a command whose keys have to stay together (or that has none).
    """
    name = args[0].upper()
    if name not in SEPARABLE:
        return None
    places = positions(args)
    width = SEPARABLE[name]
    behind = places[-1] + width
    parts: dict[Group, list[bytes]] = {}
    for place in places:
        parts.setdefault(by(args[place]), []).extend(args[place : place + width])
    if name == b"MSETEX":
        return {
            group: [args[0], b"%d" % (len(part) // 2), *part, *args[behind:]] for group, part in parts.items()
        }
    return {group: [args[0], *part] for group, part in parts.items()}


def slot(key: bytes) -> int:
    """The slot, 0–16383, of a key: CRC-16 (XMODEM) of its hash tag, or of all of it where it has none."""
    begin = key.find(b"{")
    if begin >= 0:
        end = key.find(b"}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return crc_hqx(key, 0) % SLOTS


# Command → how many arguments belong to each key. MSETNX and MSETEX with a condition travel only when they were carried out.
SEPARABLE: Final = {b"DEL": 1, b"UNLINK": 1, b"PFCOUNT": 1, b"MSET": 2, b"MSETNX": 2, b"MSETEX": 2}


def _counted(count_at: int, *before: int, step: int = 1) -> Callable[[Sequence[bytes]], list[int]]:
    """Keys whose number is the argument at `count_at`, and behind it the keys; `before` are keys at fixed places."""

    def find(args: Sequence[bytes]) -> list[int]:
        count = int(args[count_at])
        end = count_at + 1 + count * step
        if count < 0 or end > len(args):
            raise IndexError
        return [*before, *range(count_at + 1, end, step)]

    return find


def _sort(args: Sequence[bytes]) -> list[int]:
    """SORT key [BY pattern] [LIMIT offset count] [GET pattern ...] … STORE destination: the last one counts."""
    words = {b"LIMIT": 2, b"GET": 1, b"BY": 1}
    stored = _option_values(args, 2, words, frozenset({b"STORE"}))
    return [1, *stored[-1:]]


def _georadius(first_option: int) -> Callable[[Sequence[bytes]], list[int]]:
    """… [COUNT n] [STORE key] [STOREDIST key]: the last of them counts."""

    def find(args: Sequence[bytes]) -> list[int]:
        stored = _option_values(args, first_option, {b"COUNT": 1}, frozenset({b"STORE", b"STOREDIST"}))
        return [1, *stored[-1:]]

    return find


def _xreadgroup(args: Sequence[bytes]) -> list[int]:
    """… STREAMS key ... id ...: as many keys as identifiers."""
    words = {b"GROUP": 2, b"COUNT": 1, b"BLOCK": 1, b"CLAIM": 1}
    place = 1
    while args[place].upper() != b"STREAMS":
        place += 1 + words.get(args[place].upper(), 0)
    return list(range(place + 1, place + 1 + (len(args) - place - 1) // 2))


def _option_values(
    args: Sequence[bytes], start: int, words: dict[bytes, int], wanted: frozenset[bytes]
) -> list[int]:
    """Where the values of the `wanted` options stand; `words` are options that take so many values of their own."""
    found = []
    place = start
    while place < len(args):
        word = args[place].upper()
        if word in wanted and place + 1 < len(args):
            found.append(place + 1)
            place += 1
        place += 1 + words.get(word, 0)
    return found


def _none(_: Sequence[bytes]) -> list[int]:
    return []


# First key, last key (negative: from the end), step.
_FIXED: Final[dict[bytes, tuple[int, int, int]]] = {
    name.encode(): spec
    for spec, names in {
        (1, 1, 1): (
            "APPEND BITFIELD DECR DECRBY DELEX DELIFEQ DIGEST EXPIRE EXPIREAT GEOADD GETDEL GETEX GETSET HDEL HEXPIRE HEXPIREAT "
            "HGETDEL HGETEX HINCRBY HINCRBYFLOAT HMSET HPERSIST HPEXPIRE HPEXPIREAT HSET HSETEX HSETNX INCR INCRBY INCRBYFLOAT "
            "LINSERT LPOP LPUSH LPUSHX LREM LSET LTRIM MOVE PERSIST PEXPIRE PEXPIREAT PFADD PSETEX RESTORE RESTORE-ASKING RPOP "
            "RPUSH RPUSHX SADD SET SETBIT SETEX SETNX SETRANGE SPOP SREM VADD VREM VSETATTR XACK XACKDEL XADD XAUTOCLAIM XCFGSET "
            "XCLAIM XDEL XDELEX XIDMPRECORD XSETID XTRIM ZADD ZINCRBY ZPOPMAX ZPOPMIN ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK "
            "ZREMRANGEBYSCORE"
        ),
        (2, 2, 1): "PFDEBUG XGROUP",
        (1, 2, 1): "BLMOVE BRPOPLPUSH COPY GEOSEARCHSTORE LMOVE RENAME RENAMENX RPOPLPUSH SMOVE ZRANGESTORE",
        (1, -1, 1): "DEL PFCOUNT PFMERGE SDIFFSTORE SINTERSTORE SUNIONSTORE UNLINK",
        (1, -2, 1): "BLPOP BRPOP BZPOPMAX BZPOPMIN",
        (2, -1, 1): "BITOP",
        (1, -1, 2): "MSET MSETNX",
    }.items()
    for name in names.split()
}

_MOVABLE: Final[dict[bytes, Callable[[Sequence[bytes]], list[int]]]] = {
    b"BLMPOP": _counted(2),
    b"BZMPOP": _counted(2),
    b"EVAL": _counted(2),
    b"EVALSHA": _counted(2),
    b"FCALL": _counted(2),
    b"GEORADIUS": _georadius(6),
    b"GEORADIUSBYMEMBER": _georadius(5),
    b"LMPOP": _counted(1),
    b"MSETEX": _counted(1, step=2),
    b"SORT": _sort,
    b"XREADGROUP": _xreadgroup,
    b"ZDIFFSTORE": _counted(2, 1),
    b"ZINTERSTORE": _counted(2, 1),
    b"ZMPOP": _counted(1),
    b"ZUNIONSTORE": _counted(2, 1),
} | dict.fromkeys(
    b"EXEC FLUSHALL FLUSHDB FUNCTION MULTI PING PUBLISH REPLCONF SCRIPT SELECT SPUBLISH SWAPDB".split(), _none
)
