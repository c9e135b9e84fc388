"""What is particular to the stream of one master of a cluster. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from migrations_app.engine import errors, kernel
from migrations_app.engine.choice import CommandChoice
from migrations_app.engine.filter import Filter
from migrations_app.engine.kernel import Emitted, Entry
from migrations_app.engine.keyfilter import KeyFilter
from migrations_app.engine.shards.layout import Scope

# Sent to replicas only while slots go to or leave a master: MIGRATE's write (3.0 on), the atomic migration of Valkey 9 and of Redis 8.4.
_MOVING: Final = frozenset({b"RESTORE-ASKING", b"CLUSTER", b"TRIMSLOTS"})
_FLUSHES: Final = frozenset({b"FLUSHALL", b"FLUSHDB"})


class ShardFilter(Filter):
    """The choices of the link, for one shard.

    FLUSHALL and FLUSHDB of one master concern its slots only, but the target holds those of the others, too: the shard is copied
    anew (it is empty at this place). Functions are loaded into each master by whoever loads them: they are taken from the shard
    that has slot 0, or the target would get each of them once per shard.
    """

    def __init__(
        self,
        scope: Scope,
        databases: frozenset[int] | None,
        own_keys: Sequence[bytes],
        *,
        keys: KeyFilter | None,
        commands: Mapping[int | None, CommandChoice] | None,
    ) -> None:
        super().__init__(databases, own_keys, keys=keys, commands=commands)
        self._scope = scope

    def actions(self) -> dict[bytes, int]:
        actions = super().actions()
        return actions | dict.fromkeys(_MOVING | _FLUSHES | {b"FUNCTION"}, kernel.RULE)

    def apply(self, entry: Entry) -> Emitted:
        name = entry.args[0].upper()
        if name in _MOVING:
            raise errors.SlotsMoved(
                "slots of the source cluster are being moved to or from this master: it sent "
                f"{' '.join(arg.decode('utf-8', 'replace')[:40] for arg in entry.args[:2])}"
            )
        if name == b"FUNCTION" and not self._scope.has(0):
            return []
        if name in _FLUSHES and self._lets(entry.database, entry.args):
            raise errors.ShardAnew(
                f"{name.decode()} at this master: its shard is copied anew, the others go on"
            )
        return super().apply(entry)
