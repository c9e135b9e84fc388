"""Which part of the stream a link applies: the choice of databases. Pure.

Commands of one database are dropped or passed on by the kernel; here are the ones that reach beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence

from migrations_app.engine.errors import UnsupportedData
from migrations_app.engine.kernel import Emitted, Entry


class DatabaseFilter:
    """`databases` None means all. `own_keys` are written to database 0 with every batch; where a swap takes them, they are removed."""

    def __init__(self, databases: frozenset[int] | None, own_keys: Sequence[bytes] = ()) -> None:
        self._databases = databases
        self._own_keys = list(own_keys)

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
