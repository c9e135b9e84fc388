"""Which commands of the stream a link applies, as users name them. Pure.

A source does not send what its clients wrote: SETEX travels as SET with an expiry, EXPIRE as PEXPIREAT, SPOP as SREM, a script from
Redis 7.0 on as the commands that it calls. So every name that a user may give stands here with the forms in which it travels, of
all servers from Redis 3.0 to 8.6 and Valkey 7.2 to 9 (measured; `tests/engine/test_choice.py` holds the table against the servers).

- A command that is chosen brings all of its forms with it, and thereby what else travels in them.
- A command that is left out takes along what travels under its name. One that travels only under the name of another command cannot
  be told from it, so it cannot be left out alone: `UsageError`.
- EXPIRE, PEXPIRE, EXPIREAT and PEXPIREAT are one command here, as are HEXPIRE and its like, DEL and UNLINK, EVAL and EVALSHA, and SETEX,
  PSETEX and SET with an expiry.
- SELECT, MULTI and EXEC may be named and make no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from migrations_app.engine.commands import actions
from migrations_app.engine.errors import UsageError

SET_EXPIRING: Final = "SET …EX"  # the form of a SET that carries an expiry

_ALWAYS: Final = frozenset({"SELECT", "MULTI", "EXEC", "PING", "REPLCONF"})


def form_of(args: Sequence[bytes]) -> str:
    """The form of a command of the stream: its name in capitals, or `SET_EXPIRING`."""
    name = args[0].upper().decode("utf-8", "replace")
    if name == "SET":
        place = 3
        while place < len(args):
            option = args[place].upper()
            if option in _SET_TIMES:
                return SET_EXPIRING
            place += 2 if option in _SET_VALUES else 1
    return name


_SET_TIMES: Final = frozenset({b"EX", b"PX", b"EXAT", b"PXAT"})
_SET_VALUES: Final = frozenset({b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"})

# Commands that do the same: whoever names one of them means all.
_SAME: Final = [
    frozenset(names.split())
    for names in (
        "EXPIRE PEXPIRE EXPIREAT PEXPIREAT",
        "HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT",
        "SETEX PSETEX",
        "DEL UNLINK",
        "EVAL EVALSHA",
        "RESTORE RESTORE-ASKING",
    )
]
_DELETED: Final = "DEL UNLINK"  # what expires, or is emptied, travels as one of these
# Command of a client → forms in which it travels beside its own name | further ones in which it does at times.
_TRAVELS: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    name: (
        frozenset(forms[0].split()) | ({SET_EXPIRING} if name in {"SET", "SETEX", "PSETEX"} else set()),
        frozenset(forms[1].split()),
    )
    for names, forms in {
        "EXPIRE PEXPIRE EXPIREAT PEXPIREAT": ("EXPIRE PEXPIRE EXPIREAT PEXPIREAT", _DELETED),
        "HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT": ("HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT", "HDEL"),
        "SET": ("", ""),
        "SETEX PSETEX": ("SETEX PSETEX", _DELETED),
        "MSETEX": ("", _DELETED),
        "GETSET": ("SET", ""),
        "GETDEL": (_DELETED, ""),
        "GETEX": ("PEXPIRE PEXPIREAT PERSIST", _DELETED),
        "INCRBYFLOAT": ("SET", ""),
        "DEL UNLINK": (_DELETED, ""),
        "DELEX DELIFEQ": (_DELETED, ""),
        "SPOP": ("SREM", _DELETED),
        "HINCRBYFLOAT": ("HSET HSETEX", ""),
        "HGETEX": ("HPEXPIREAT HPERSIST", "HDEL"),
        "HSETEX": ("", "HDEL"),
        "HGETDEL": ("HDEL", ""),
        "BLPOP": ("LPOP", ""),
        "BRPOP": ("RPOP", ""),
        "LMPOP BLMPOP": ("LPOP RPOP", ""),
        "BRPOPLPUSH": ("RPOPLPUSH", ""),
        "BLMOVE": ("LMOVE", ""),
        "BZPOPMIN": ("ZPOPMIN", ""),
        "BZPOPMAX": ("ZPOPMAX", ""),
        "ZMPOP BZMPOP": ("ZPOPMIN ZPOPMAX", ""),
        "GEOADD": ("ZADD", ""),
        "XREADGROUP": ("XCLAIM XGROUP", ""),
        "XAUTOCLAIM": ("XCLAIM", ""),
        "EVAL EVALSHA": ("EVAL EVALSHA", "SCRIPT"),
    }.items()
    for name in names.split()
}

GROUPS: Final[dict[str, frozenset[str]]] = {
    group: frozenset(names.split())
    for group, names in {
        "keyspace": (
            "COPY DEL EXPIRE EXPIREAT FLUSHALL FLUSHDB MOVE PERSIST PEXPIRE PEXPIREAT RENAME RENAMENX RESTORE RESTORE-ASKING SORT "
            "SWAPDB UNLINK"
        ),
        "expire": "EXPIRE EXPIREAT PERSIST PEXPIRE PEXPIREAT",
        "string": (
            "APPEND DECR DECRBY DELEX DELIFEQ DIGEST GETDEL GETEX GETSET INCR INCRBY INCRBYFLOAT MSET MSETEX MSETNX PSETEX SET SETEX "
            "SETNX SETRANGE"
        ),
        "bitmap": "BITFIELD BITOP SETBIT",
        "hash": (
            "HDEL HEXPIRE HEXPIREAT HGETDEL HGETEX HINCRBY HINCRBYFLOAT HMSET HPERSIST HPEXPIRE HPEXPIREAT HSET HSETEX HSETNX"
        ),
        "list": (
            "BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH LINSERT LMOVE LMPOP LPOP LPUSH LPUSHX LREM LSET LTRIM RPOP RPOPLPUSH RPUSH RPUSHX"
        ),
        "set": "SADD SDIFFSTORE SINTERSTORE SMOVE SPOP SREM SUNIONSTORE",
        "sortedset": (
            "BZMPOP BZPOPMAX BZPOPMIN ZADD ZDIFFSTORE ZINCRBY ZINTERSTORE ZMPOP ZPOPMAX ZPOPMIN ZRANGESTORE ZREM ZREMRANGEBYLEX "
            "ZREMRANGEBYRANK ZREMRANGEBYSCORE ZUNIONSTORE"
        ),
        "geo": "GEOADD GEORADIUS GEORADIUSBYMEMBER GEOSEARCHSTORE",
        "hyperloglog": "PFADD PFCOUNT PFDEBUG PFMERGE",
        "stream": (
            "XACK XACKDEL XADD XAUTOCLAIM XCFGSET XCLAIM XDEL XDELEX XGROUP XIDMPRECORD XREADGROUP XSETID XTRIM"
        ),
        "vectorset": "VADD VREM VSETATTR",
        "pubsub": "PUBLISH SPUBLISH",
        "scripting": "EVAL EVALSHA FCALL FUNCTION SCRIPT",
    }.items()
}

NAMES: Final = frozenset(name.decode() for name in actions()) - _ALWAYS


def _regular(name: str) -> frozenset[str]:
    return _TRAVELS.get(name, (frozenset(), frozenset()))[0] | {name}


def _all_forms(name: str) -> frozenset[str]:
    return _regular(name) | _TRAVELS.get(name, (frozenset(), frozenset()))[1]


@dataclass(frozen=True, slots=True)
class CommandChoice:
    """The commands of one database: `only` these (None: all), `without` those. Names of commands or `@groups`, in any case.

    Raises `UsageError` for a name that is not known and for a command that cannot be left out alone.
    """

    only: frozenset[str] | None = None
    without: frozenset[str] = frozenset()
    _let: frozenset[str] | None = field(init=False, repr=False, compare=False)  # forms; None: all
    _drop: frozenset[str] = field(init=False, repr=False, compare=False)
    _notes: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        chosen = None if self.only is None else _expanded(self.only)
        left_out = _expanded(self.without)
        rest = (NAMES if chosen is None else chosen) - left_out
        if chosen is not None and not chosen:
            raise UsageError("no command is chosen; nothing was changed")
        drop, taken_along = _dropped(left_out, rest)
        let = None if chosen is None else frozenset().union(*map(_all_forms, chosen))
        notes = []
        if let is not None:
            along = [name for name in sorted(NAMES - rest) if name not in left_out and _regular(name) & let]
            if along:
                notes.append(
                    f"applied as well, as they travel in the form of what is chosen: {' '.join(along)}"
                )
        if taken_along:
            notes.append(
                f"left out as well, as they travel in the form of what is left out: {' '.join(sorted(taken_along))}"
            )
        if "DEL" in drop or (let is not None and "DEL" not in let):
            notes.append("DEL is left out, and with it the deletion of keys that expire or are evicted")
        if "HDEL" in drop:
            notes.append("HDEL is left out, and with it the deletion of fields whose time has passed")
        if ("EVAL" in rest and (chosen is not None or left_out)) or "EVAL" in drop:
            notes.append(
                "scripts and functions mostly travel as the commands that they call (always from Redis 7.0 on); those are chosen "
                "by their own names"
            )
        object.__setattr__(self, "_let", let)
        object.__setattr__(self, "_drop", drop)
        object.__setattr__(self, "_notes", tuple(notes))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of what the choice covers."""
        return self._notes

    def lets(self, form: str) -> bool:
        """Whether a command of this form (`form_of`) is applied."""
        return form in _ALWAYS or ((self._let is None or form in self._let) and form not in self._drop)


def _dropped(left_out: frozenset[str], rest: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Forms that are left out, and the commands that this takes along, in part or altogether."""
    drop: set[str] = set()
    taken: set[str] = set()
    for name in sorted(left_out):
        for form in _regular(name):
            others = {other for other in rest if form in _regular(other)}
            if others and not _bears(name, form):
                example = _bearer(form, others)
                raise UsageError(
                    f"{name} cannot be left out alone: it travels as {form}, like {example}. Leave {example} out, too, or neither; "
                    "nothing was changed"
                )
            drop.add(form)
            taken |= others
    # What old servers send under its own name goes the same way as what newer ones make of it.
    drop |= {other for other in taken if other != "SET" and _regular(other) - _same_as(other) <= drop}
    return frozenset(drop), frozenset("SET with an expiry" if other == "SET" else other for other in taken)


def _same_as(name: str) -> frozenset[str]:
    return next((same for same in _SAME if name in same), frozenset({name}))


def _bears(name: str, form: str) -> bool:
    """Whether the form goes by the name of this command (or of one that does the same)."""
    return form in _same_as(name) or (form == SET_EXPIRING and name in {"SET", "SETEX", "PSETEX"})


def _bearer(form: str, others: Iterable[str]) -> str:
    return next((other for other in sorted(others) if _bears(other, form)), min(others))


def _expanded(words: Iterable[str]) -> frozenset[str]:
    """Names and groups as names, with those that do the same."""
    names: set[str] = set()
    for word in words:
        if word.startswith("@"):
            group = word[1:].lower()
            if group not in GROUPS:
                raise UsageError(
                    f"{word!r} is no group of commands; there are @{', @'.join(sorted(GROUPS))}. Nothing was changed"
                )
            names |= GROUPS[group]
            continue
        name = word.upper()
        if name in _ALWAYS:
            continue
        if name not in NAMES:
            raise UsageError(
                f"{word!r} is no command that a source sends to its replicas (only what changes data is sent); nothing was changed"
            )
        names.add(name)
    return frozenset().union(*map(_same_as, names))
