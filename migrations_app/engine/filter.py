"""Which part of the stream a link applies: databases, commands and keys. Pure.

What no choice touches the kernel passes on or drops by itself, by its database (`Filter.actions`). Here are the commands that reach
beyond one database, that are chosen or left out by name, and, where keys are chosen, all that have keys. A command over wanted and
other keys is taken apart where that is exact; else `UnsupportedData` stops the link with its name: nothing is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from migrations_app.engine import commands as table
from migrations_app.engine import kernel, keys
from migrations_app.engine.choice import CommandChoice, form_of
from migrations_app.engine.errors import UnsupportedData
from migrations_app.engine.kernel import Emitted, Entry
from migrations_app.engine.keyfilter import KeyFilter

_ALL = CommandChoice()
_EVERYWHERE = frozenset({b"FUNCTION", b"SCRIPT", b"PUBLISH", b"SPUBLISH"})  # belong to no database and no key
_SCRIPTS = frozenset({b"EVAL", b"EVALSHA", b"FCALL"})
# The first key is written, with what the others hold.
_STORES = frozenset(
    b"BITOP GEOSEARCHSTORE PFMERGE SDIFFSTORE SINTERSTORE SUNIONSTORE ZDIFFSTORE ZINTERSTORE ZRANGESTORE ZUNIONSTORE".split()
)
_STORE_OPTION = frozenset({b"SORT", b"GEORADIUS", b"GEORADIUSBYMEMBER"})  # the last key is written
_POPS = {b"RPOPLPUSH": b"RPOP", b"BRPOPLPUSH": b"RPOP"}


class Filter:
    """All that a link has chosen. `commands` has the choice of each database, and under None that of the others."""

    def __init__(
        self,
        databases: frozenset[int] | None = None,
        own_keys: Sequence[bytes] = (),
        *,
        moved_keys: Sequence[bytes] = (),
        keys: KeyFilter | None = None,
        commands: Mapping[int | None, CommandChoice] | None = None,
    ) -> None:
        self._databases = databases
        self._reach = DatabaseFilter(databases, own_keys, moved_keys)
        self._keys = keys if keys else None
        self._commands = dict(commands or {})
        self._default = self._commands.pop(None, _ALL)

    def wants(self, database: int) -> bool:
        return self._reach.wants(database)

    @property
    def wants_key(self) -> Callable[[bytes], bool] | None:
        """Whether a key is copied; None where all are."""
        return self._keys.wants if self._keys is not None else None

    @property
    def plain(self) -> bool:
        """Whether neither keys nor commands were chosen."""
        return self._keys is None and not self._commands and self._default is _ALL

    def all_commands(self, database: int) -> bool:
        """Whether no command of this database is left out by name."""
        return self._commands.get(database, self._default) == _ALL

    def actions(self) -> dict[bytes, int]:
        """The table of the stream kernel: a command that no choice touches goes on as the bytes that came.

        A SET with options is looked at in any case.
        """
        actions = table.actions()
        for name, action in actions.items():
            if action in (kernel.FORWARD, kernel.RULE_LONG) and self._touches(name):
                actions[name] = kernel.RULE
        return actions

    def _touches(self, name: bytes) -> bool:
        if self._keys is not None:
            return True
        if self._databases is not None and (name in _EVERYWHERE or name == b"EVAL"):
            return True
        return not all(choice.lets(name.decode()) for choice in self._choices())

    def _choices(self) -> list[CommandChoice]:
        return [self._default, *self._commands.values()]

    def _lets(self, database: int, args: Sequence[bytes]) -> bool:
        return self._commands.get(database, self._default).lets(form_of(args))

    def apply(self, entry: Entry) -> Emitted:
        """What remains of a command; `UnsupportedData` where that cannot be said."""
        args, database = entry.args, entry.database
        name = args[0].upper()
        if name == b"FLUSHALL":
            return self._flush_all(entry)
        if name == b"SWAPDB":
            return self._swap(entry)
        if not self._lets(database, args):
            return self._left_out(entry, name)
        if name in _EVERYWHERE:
            return [(self._some_database(database), args)]
        if name in (b"MOVE", b"COPY"):
            return self._between_databases(entry, name)
        if not self.wants(database):
            return self._left_out(entry, name)
        if self._keys is None:
            return [(database, args)]
        remaining = self._with_keys(name, args, self._keys.wants)
        return [(database, command) for command in remaining] if remaining else self._left_out(entry, name)

    def _some_database(self, database: int) -> int:
        return database if self._databases is None or self.wants(database) else min(self._databases)

    def _left_out(self, entry: Entry, name: bytes) -> Emitted:
        """Nothing; but a script that an old source sends once is known to it as known: EVALSHA may follow, where it is wanted."""
        if name == b"EVAL" and self._default.lets("EVALSHA"):
            return [(self._some_database(entry.database), [b"SCRIPT", b"LOAD", entry.args[1]])]
        return []

    def _flush_all(self, entry: Entry) -> Emitted:
        if self._databases is None:
            verdicts = {choice.lets("FLUSHALL") for choice in self._choices()}
            if verdicts == {False}:
                return []
            if len(verdicts) > 1:
                raise UnsupportedData(
                    "FLUSHALL is left out for some databases and applied to others",
                    advice="Choose the databases of the link by number, then start again.",
                )
            emitted = self._reach.beyond(entry)
        else:
            emitted = [
                (database, args)
                for database, args in self._reach.beyond(entry)
                if self._lets(database, entry.args)
            ]
        if emitted and self._keys is not None:
            raise _whole_database(b"FLUSHALL")
        return emitted

    def _swap(self, entry: Entry) -> Emitted:
        pair = {int(entry.args[1]), int(entry.args[2])}
        verdicts = {self._lets(database, entry.args) for database in pair if self.wants(database)}
        if True not in verdicts:
            return []
        if len(verdicts) > 1:
            raise UnsupportedData(
                f"{b' '.join(entry.args).decode()} is left out for one of the databases and applied to the other",
                advice="Choose SWAPDB for both databases or for neither, then start a full synchronization.",
            )
        emitted = self._reach.beyond(entry)
        if emitted and self._keys is not None:
            raise _whole_database(b"SWAPDB")
        return emitted

    def _between_databases(self, entry: Entry, name: bytes) -> Emitted:
        """MOVE and COPY."""
        if self._keys is not None and not self._keys.wants(destination_of(entry)[1]):
            return []
        emitted = self._reach.beyond(entry)
        if emitted and self._keys is not None and not self._keys.wants(entry.args[1]):
            raise _mixed(name, entry.args[1:3], self._keys.wants)
        return emitted

    def _with_keys(
        self, name: bytes, args: list[bytes], wants: Callable[[bytes], bool]
    ) -> Sequence[list[bytes]]:
        """What remains of a command of one database."""
        parts = keys.split(args, wants)
        if parts is not None:
            return [parts[True]] if True in parts else []
        names = keys.keys_of(args)
        if not names:
            if name == b"FLUSHDB":
                raise _whole_database(name)
            if name in _SCRIPTS:
                raise UnsupportedData(
                    f"{name.decode()} names no keys, so it cannot be told whether it concerns the chosen ones: {args[1][:128]!r}",
                    advice=_ADVICE,
                )
            return [args]
        wanted = [wants(key) for key in names]
        if not any(wanted):
            return []
        if name in _STORE_OPTION and len(names) > 1:
            names, wanted = names[::-1], wanted[::-1]
        if name in _STORES or name in _STORE_OPTION:
            if not wanted[0]:
                return []
            if name == b"SORT" and (pattern := _sorted_by(args)):
                raise UnsupportedData(
                    f"SORT into key {names[0][:128]!r} reads keys by the pattern {pattern[:128]!r}, which may not be chosen",
                    advice=_ADVICE,
                )
        if all(wanted):
            return [args]
        return self._across(name, args, names, wanted[0], wants)

    @staticmethod
    def _across(
        name: bytes, args: list[bytes], names: list[bytes], from_wanted: bool, wants: Callable[[bytes], bool]
    ) -> Sequence[list[bytes]]:
        """A command that takes something from one key to another, of which one is wanted."""
        source = args[1]
        if name == b"SMOVE":  # it travels only when the member was there
            return [[b"SREM", source, args[3]]] if from_wanted else [[b"SADD", args[2], args[3]]]
        if from_wanted:
            if name in (b"RENAME", b"RENAMENX"):
                return [[b"DEL", source]]
            if name in _POPS:
                return [[_POPS[name], source]]
            if name in (b"LMOVE", b"BLMOVE"):
                return [[b"LPOP" if args[3].upper() == b"LEFT" else b"RPOP", source]]
        raise _mixed(name, names, wants)


_ADVICE = "Choose the keys so that they are copied together or not at all, then start a full synchronization."


def _mixed(name: bytes, names: Sequence[bytes], wants: Callable[[bytes], bool]) -> UnsupportedData:
    """The error for a command over chosen and other keys that cannot be taken apart."""
    chosen = ", ".join(repr(key[:128]) for key in names if wants(key))
    others = ", ".join(repr(key[:128]) for key in names if not wants(key))
    return UnsupportedData(
        f"{name.decode()} concerns chosen keys ({chosen}) together with others ({others}), and cannot be taken apart",
        advice=_ADVICE,
    )


def _whole_database(name: bytes) -> UnsupportedData:
    return UnsupportedData(
        f"the source sent {name.decode()}, which concerns keys that are not chosen, too",
        advice=f"Bring the chosen keys of the target to the state of the source by a full synchronization, or leave {name.decode()} out "
        "(--without-commands).",
    )


def _sorted_by(args: Sequence[bytes]) -> bytes:
    """The first pattern by which a SORT reads other keys."""
    place = 2
    while place < len(args) - 1:
        option = args[place].upper()
        if option in (b"BY", b"GET") and b"*" in args[place + 1]:
            return args[place + 1]
        place += {b"LIMIT": 3, b"BY": 2, b"GET": 2, b"STORE": 2}.get(option, 1)
    return b""


class DatabaseFilter:
    """`databases` None means all. The product's keys belong to database 0: where a swap takes them from there, `own_keys`, which are
    written with every batch, are removed, and `moved_keys` brought back."""

    def __init__(
        self,
        databases: frozenset[int] | None,
        own_keys: Sequence[bytes] = (),
        moved_keys: Sequence[bytes] = (),
    ) -> None:
        self._databases = databases
        self._own_keys = list(own_keys)
        self._moved_keys = list(moved_keys)

    def wants(self, database: int) -> bool:
        return self._databases is None or database in self._databases

    def beyond(self, entry: Entry) -> Emitted:
        """What FLUSHALL, MOVE, COPY or SWAPDB becomes; `UnsupportedData` where data would have to come from elsewhere."""
        name = entry.args[0].upper()
        if name == b"FLUSHALL":
            if self._databases is None:
                return [(entry.database, entry.args)]
            return [(database, [b"FLUSHDB", *entry.args[1:]]) for database in sorted(self._databases)]
        if name == b"SWAPDB":
            return self._swap(entry)
        destination, _ = destination_of(entry)
        if not self.wants(destination):
            # The key leaves what is copied: a moved one is gone here, a copied one changes nothing.
            if name == b"MOVE" and self.wants(entry.database):
                return [(entry.database, [b"DEL", entry.args[1]])]
            return []
        if not self.wants(entry.database):
            raise UnsupportedData(
                f"{name.decode()} brings key {entry.args[1][:128]!r} from database {entry.database}, which is not chosen, "
                f"to database {destination}, which is",
                advice="Choose both databases, then start a full synchronization.",
            )
        return [(entry.database, entry.args)]

    def _swap(self, entry: Entry) -> Emitted:
        one, other = int(entry.args[1]), int(entry.args[2])
        wanted = self.wants(one), self.wants(other)
        if not any(wanted):
            return []
        if not all(wanted):
            raise UnsupportedData(
                f"SWAPDB {one} {other} exchanges a chosen database with one that is not chosen",
                advice="Choose both databases, then start a full synchronization.",
            )
        emitted: list[tuple[int, Sequence[bytes]]] = [(entry.database, entry.args)]
        if 0 in (one, other) and one != other and self._own_keys:
            emitted.append((one or other, [b"DEL", *self._own_keys]))
            emitted += [(one or other, [b"MOVE", key, b"0"]) for key in self._moved_keys]
        return emitted


def destination_of(entry: Entry) -> tuple[int, bytes]:
    """Database and key that MOVE, COPY, RENAME or RENAMENX writes."""
    args = entry.args
    if args[0].upper() == b"MOVE":
        return int(args[2]), args[1]
    for place in range(3, len(args) - 1):  # COPY source destination [DB n] [REPLACE]
        if args[place].upper() == b"DB":
            return int(args[place + 1]), args[2]
    return entry.database, args[2]
