"""Whether a difference may come from commands that the link leaves out by choice. Pure.

It is not known which commands made a key what it is. A difference is put down to the choice if a command that can make such a
difference is left out for that database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from migrations_app.engine.choice import GROUPS, SET_EXPIRING, CommandChoice
from migrations_app.engine.verify.model import Difference, Kind

_OF_TYPE: Final[dict[str, tuple[str, ...]]] = {
    "string": ("string", "bitmap", "hyperloglog"),
    "hash": ("hash",),
    "list": ("list",),
    "set": ("set",),
    "zset": ("sortedset", "geo"),
    "stream": ("stream",),
    "vectorset": ("vectorset",),
}
_EXPIRE: Final = GROUPS["expire"]
_KEYSPACE: Final = GROUPS["keyspace"]
_TTL: Final = _EXPIRE | {SET_EXPIRING, "RESTORE", "SETEX", "PSETEX", "SET", "GETEX"}
_FIELD_TTL: Final = frozenset(name for name in GROUPS["hash"] if "EXPIRE" in name or "PERSIST" in name) | {
    "HSETEX"
}
_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA"})


def left_out(difference: Difference, commands: Mapping[int | None, CommandChoice]) -> bool:
    """`commands` as in `LinkConfig`."""
    choice = commands.get(difference.database, commands.get(None))
    return choice is not None and not all(choice.lets(name) for name in _may_cause(difference))


def _may_cause(difference: Difference) -> frozenset[str]:
    if difference.kind is Kind.TTL:
        return _SCRIPTS | (_FIELD_TTL if "field" in difference.detail else _TTL)
    groups = _OF_TYPE.get(difference.type, tuple(name for names in _OF_TYPE.values() for name in names))
    names = frozenset().union(*(GROUPS[group] for group in groups)) | _SCRIPTS
    return names | (_KEYSPACE - _EXPIRE)
