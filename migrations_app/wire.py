"""Commands of the incremental phase as people choose them: groups, names, and what each becomes on the wire. Pure.

A source does not send what its clients wrote: SETEX travels as SET with an expiry, EXPIRE as PEXPIREAT. The console does not import
the engine, so what its `choice.py` decides stands here a second time, as far as forms and services need it;
`tests/migrations_app/test_wire.py` holds the one against the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from portal.errors import Invalid

SET_EXPIRING: Final = "SET …EX"
UNCHANGED: Final = "The choice of commands was not saved."

# Commands that do the same: whoever names one of them means all.
SAME: Final = tuple(
    tuple(names.split())
    for names in (
        "EXPIRE PEXPIRE EXPIREAT PEXPIREAT",
        "HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT",
        "SETEX PSETEX",
        "DEL UNLINK",
        "EVAL EVALSHA",
        "RESTORE RESTORE-ASKING",
    )
)
# Command of a client → forms in which it travels beside its own name, and further ones in which it does at times.
_DELETED: Final = "DEL UNLINK"
_TRAVELS: Final[dict[str, tuple[str, str]]] = {
    "EXPIRE PEXPIRE EXPIREAT PEXPIREAT": ("EXPIRE PEXPIRE EXPIREAT PEXPIREAT", _DELETED),
    "HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT": ("HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT", "HDEL"),
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
}


@dataclass(frozen=True, slots=True)
class Group:
    """`word` is what a choice stores for all of it; `also` names the group that it holds as well, beside its own names."""

    word: str
    label: str
    names: tuple[str, ...]
    also: str = ""


def _group(word: str, label: str, names: str, also: str = "") -> Group:
    return Group(f"@{word}", label, tuple(names.split()), also)


GROUPS: Final = (
    _group("string", "Strings", "APPEND DECR DECRBY DELEX DELIFEQ DIGEST GETDEL GETEX GETSET INCR INCRBY INCRBYFLOAT MSET MSETEX MSETNX PSETEX SET SETEX SETNX SETRANGE"),
    _group("expire", "Expiry of keys", "EXPIRE EXPIREAT PERSIST PEXPIRE PEXPIREAT"),
    _group("keyspace", "Keys and databases", "COPY DEL FLUSHALL FLUSHDB MOVE RENAME RENAMENX RESTORE RESTORE-ASKING SORT SWAPDB UNLINK", "@expire"),
    _group("hash", "Hashes", "HDEL HEXPIRE HEXPIREAT HGETDEL HGETEX HINCRBY HINCRBYFLOAT HMSET HPERSIST HPEXPIRE HPEXPIREAT HSET HSETEX HSETNX"),
    _group("list", "Lists", "BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH LINSERT LMOVE LMPOP LPOP LPUSH LPUSHX LREM LSET LTRIM RPOP RPOPLPUSH RPUSH RPUSHX"),
    _group("set", "Sets", "SADD SDIFFSTORE SINTERSTORE SMOVE SPOP SREM SUNIONSTORE"),
    _group("sortedset", "Sorted sets", "BZMPOP BZPOPMAX BZPOPMIN ZADD ZDIFFSTORE ZINCRBY ZINTERSTORE ZMPOP ZPOPMAX ZPOPMIN ZRANGESTORE ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZUNIONSTORE"),
    _group("stream", "Streams", "XACK XACKDEL XADD XAUTOCLAIM XCFGSET XCLAIM XDEL XDELEX XGROUP XIDMPRECORD XREADGROUP XSETID XTRIM"),
    _group("bitmap", "Bitmaps", "BITFIELD BITOP SETBIT"),
    _group("hyperloglog", "HyperLogLogs", "PFADD PFCOUNT PFDEBUG PFMERGE"),
    _group("geo", "Places", "GEOADD GEORADIUS GEORADIUSBYMEMBER GEOSEARCHSTORE"),
    _group("vectorset", "Vector sets", "VADD VREM VSETATTR"),
    _group("pubsub", "Messages", "PUBLISH SPUBLISH"),
    _group("scripting", "Scripts and functions", "EVAL EVALSHA FCALL FUNCTION SCRIPT"),
)  # fmt: skip
NAMES: Final = frozenset(name for group in GROUPS for name in group.names)
_BY_WORD: Final = {group.word: group for group in GROUPS}
_ALWAYS: Final = frozenset({"SELECT", "MULTI", "EXEC", "PING", "REPLCONF"})
_REGULAR: Final = {
    name: frozenset(forms[0].split()) | ({SET_EXPIRING} if name in {"SETEX", "PSETEX"} else set())
    for names, forms in _TRAVELS.items()
    for name in names.split()
} | {"SET": frozenset({SET_EXPIRING})}
_AT_TIMES: Final = {
    name: frozenset(forms[1].split()) for names, forms in _TRAVELS.items() for name in names.split()
}


def same_as(name: str) -> tuple[str, ...]:
    """The command with those that do the same: they are chosen together."""
    return next((names for names in SAME if name in names), (name,))


def regular(name: str) -> frozenset[str]:
    """The forms in which a command travels, its own name included."""
    return _REGULAR.get(name, frozenset()) | {name}


def becomes(name: str) -> str:
    """`PEXPIREAT`, `SET with an expiry`, or "" for a command that travels as it is. What it is told by beside its name."""
    if name in {"EXPIRE", "PEXPIRE", "EXPIREAT"}:
        return "PEXPIREAT"
    if name in {"HEXPIRE", "HPEXPIRE", "HEXPIREAT"}:
        return "HPEXPIREAT"
    if name in {"SETEX", "PSETEX"}:
        return "SET with an expiry"
    if name in {"EVAL", "EVALSHA", "FCALL"}:
        return "the commands that it calls"
    if name == "SET":
        return ""
    if name in {"GETDEL", "DELEX", "DELIFEQ"}:
        return "DEL or UNLINK"
    forms = regular(name) - set(same_as(name))
    return " or ".join(sorted(forms))


# --- choices ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """What one database has applied: `only` these words (None: all), `without` those. A word is a name or a `@group`."""

    only: frozenset[str] | None = None
    without: frozenset[str] = frozenset()

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Choice:
        """From what a task stores: `{"only": […]}`, `{"without": […]}` or both."""
        only = stored.get("only")
        return cls(None if only is None else frozenset(only), frozenset(stored.get("without") or ()))

    @property
    def label(self) -> str:
        """`All commands`, `Only SET, DEL and 3 more` or `All but @stream`."""
        if self.only is not None:
            return f"Only {_listed(self.only)}" + (
                f", but not {_listed(self.without)}" if self.without else ""
            )
        return f"All but {_listed(self.without)}" if self.without else "All commands"

    def check(self) -> list[str]:
        """What the user should know of what the choice covers. Raises Invalid for a choice that the engine refuses."""
        chosen = None if self.only is None else expanded(self.only)
        left_out = expanded(self.without)
        rest = (NAMES if chosen is None else chosen) - left_out
        if chosen is not None and not chosen:
            raise _invalid("No command is chosen.", "Choose at least one command, or all of them.")
        drop, taken = _dropped(left_out, rest)
        let = None if chosen is None else frozenset().union(*(_all_forms(name) for name in chosen))
        notes = []
        if let is not None:
            along = [name for name in sorted(NAMES - rest) if name not in left_out and regular(name) & let]
            if along:
                notes.append(
                    f"Applied as well, because they travel in the form of what is chosen: {', '.join(along)}."
                )
        if taken:
            notes.append(
                f"Left out as well, because they travel in the form of what is left out: {', '.join(sorted(taken))}."
            )
        if "DEL" in drop or (let is not None and "DEL" not in let):
            notes.append(
                "DEL is left out, and with it the deletion of keys that expire or are evicted: they stay on the target."
            )
        if "HDEL" in drop:
            notes.append("HDEL is left out, and with it the deletion of fields whose time has passed.")
        if ("EVAL" in rest and (chosen is not None or left_out)) or "EVAL" in drop:
            notes.append(
                "Scripts and functions mostly travel as the commands that they call (always from Redis 7.0 on); choose those by "
                "their own names."
            )
        return notes


def expanded(words: Iterable[str]) -> frozenset[str]:
    """Names and groups as names, with those that do the same. Raises Invalid for a word that is neither."""
    names: set[str] = set()
    for word in words:
        if word.startswith("@"):
            group = _BY_WORD.get(word.lower())
            if group is None:
                raise _invalid(
                    f"{word} is no group of commands.",
                    f"There are {', '.join(group.word for group in GROUPS)}.",
                )
            names |= set(group.names)
            names |= set(_BY_WORD[group.also].names) if group.also else set()
            continue
        name = word.upper()
        if name in _ALWAYS:
            continue
        if name not in NAMES:
            raise _invalid(
                f"{word} is no command that a source sends to its replicas.",
                "Only what changes data is sent.",
            )
        names.add(name)
    return frozenset(other for name in names for other in same_as(name))


def _dropped(left_out: frozenset[str], rest: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Forms that are left out, and the commands that this takes along, in part or altogether."""
    drop: set[str] = set()
    taken: set[str] = set()
    for name in sorted(left_out):
        for form in sorted(regular(name)):
            others = {other for other in rest if form in regular(other)}
            if others and not _bears(name, form):
                bearer = next((other for other in sorted(others) if _bears(other, form)), min(others))
                raise _invalid(
                    f"{name} cannot be left out alone: it travels as {form.replace(SET_EXPIRING, 'SET')}, like {bearer}.",
                    f"Leave {bearer} out, too, or neither of them.",
                )
            drop.add(form)
            taken |= others
    drop |= {other for other in taken if other != "SET" and regular(other) - set(same_as(other)) <= drop}
    return frozenset(drop), frozenset("SET with an expiry" if other == "SET" else other for other in taken)


def _bears(name: str, form: str) -> bool:
    """Whether the form goes by the name of this command (or of one that does the same)."""
    return form in same_as(name) or (form == SET_EXPIRING and name in {"SET", "SETEX", "PSETEX"})


def _all_forms(name: str) -> frozenset[str]:
    return regular(name) | _AT_TIMES.get(name, frozenset())


def _listed(words: frozenset[str]) -> str:
    shown = [
        _BY_WORD[word].label.lower() if word in _BY_WORD else word
        for word in sorted(words, key=lambda word: (not word.startswith("@"), word))
    ]
    if len(shown) > 4:
        return f"{', '.join(shown[:3])} and {len(shown) - 3} more"
    return ", ".join(shown) or "nothing"


def _invalid(message: str, advice: str) -> Invalid:
    return Invalid(f"{message} {UNCHANGED}", advice=advice, id="task.commands", field="commands")
