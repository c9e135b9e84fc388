"""What a snapshot holds and what of it a target could not take, read without writing anything."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from migrations_app.engine.abilities import Abilities
from migrations_app.engine.checkpoint import OWN_PREFIX
from migrations_app.engine.errors import SnapshotError, UnsupportedData
from migrations_app.engine.kernel import SnapshotBatch, SnapshotKernel, SnapshotPlan
from migrations_app.engine.rdb.base import Rewriter
from migrations_app.engine.rdb.rewrite import rewriter_for

LISTED: Final = 200  # keys that cannot be taken; all are counted
LARGEST: Final = 10
_MODULE: Final = 7
_TRAILER: Final = 10  # of a DUMP payload

_TYPES: Final[dict[int, str]] = {
    kind: name
    for name, kinds in {
        "string": (0,), "list": (1, 10, 14, 18), "set": (2, 11, 20), "zset": (3, 5, 12, 17),
        "hash": (4, 9, 13, 16, 22, 24, 25), "module": (6, 7), "stream": (15, 19, 21, 26),
    }.items()
    for kind in kinds
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Refused:
    """A key that the target cannot take, and why. The key is empty for what belongs to no key."""

    database: int
    key: bytes
    type: str
    reason: str


@dataclass(slots=True)
class Survey:
    """What has been seen. Sizes are those of the values as they travel, in bytes."""

    target: Abilities
    stamp: int
    modules: bool = False  # the target has modules, which may know the values of the source's
    largest_string: int = 512 << 20  # that the target takes: proto-max-bulk-len
    keys: int = 0
    value_bytes: int = 0
    by_type: dict[str, list[int]] = field(default_factory=dict)  # type → keys, bytes
    databases: dict[int, int] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    refused_count: int = 0
    notes: list[str] = field(default_factory=list)
    seen: list[tuple[int, bytes, str]] = field(default_factory=list)  # since the owner has last taken them
    _largest: list[tuple[int, int, bytes, str]] = field(default_factory=list)

    @property
    def rewritten(self) -> frozenset[int]:
        """Type bytes that the target does not load as they are."""
        return self.target.unloadable | (frozenset() if self.modules else {_MODULE})

    @property
    def largest(self) -> list[tuple[int, int, bytes, str]]:
        """(bytes, database, key, type), the largest first."""
        return sorted(self._largest, reverse=True)

    def counted(self, database: int, key: bytes, kind: int | str, size: int) -> None:
        """A key was seen whole; its value took so many bytes. `kind` is its type byte, or the name of its type."""
        name = kind if isinstance(kind, str) else _TYPES.get(kind, f"type {kind}")
        self.keys += 1
        self.value_bytes += size
        self.databases[database] = self.databases.get(database, 0) + 1
        counts = self.by_type.setdefault(name, [0, 0])
        counts[0] += 1
        counts[1] += size
        self.seen.append((database, key, name))
        if name == "string" and size > self.largest_string:
            self.refuse(
                database,
                key,
                kind,
                f"the string is larger than the target takes ({self.largest_string >> 20} MB)",
            )
        row = (size, database, key, name)
        if len(self._largest) < LARGEST:
            heapq.heappush(self._largest, row)
        elif row > self._largest[0]:
            heapq.heapreplace(self._largest, row)

    def refuse(self, database: int, key: bytes, kind: int | str, reason: str) -> None:
        self.refused_count += 1
        if len(self.refused) < LISTED:
            name = kind if isinstance(kind, str) else _TYPES.get(kind, f"type {kind}")
            self.refused.append(Refused(database, key, name, reason))

    def note(self, text: str) -> None:
        if text and text not in self.notes:
            self.notes.append(text)

    def rewriter(self, database: int, key: bytes, kind: int) -> Rewriter | None:
        """What tries whether the value can be expressed; None if it is refused already."""
        made = rewriter_for(kind, key, target=self.target, stamp=self.stamp)
        if made is None:
            self.refuse(
                database,
                key,
                kind,
                "the target does not know this form of value, and no commands could build it",
            )
        return made

    def payload(self, database: int, key: bytes, payload: bytes) -> None:
        """A DUMP payload, from a source that is read by its keys."""
        kind, value = payload[0], payload[1:-_TRAILER]
        if kind in self.rewritten and (rewriter := self.rewriter(database, key, kind)) is not None:
            _Trial(self, database, key, kind, rewriter).feed(value).end()
        self.counted(database, key, kind, len(value))


class _Trial:
    """One value on its way through a rewriter, whose commands nobody sends."""

    def __init__(self, survey: Survey, database: int, key: bytes, kind: int, rewriter: Rewriter) -> None:
        self._survey, self._place, self._kind = survey, (database, key), kind
        self._rewriter: Rewriter | None = rewriter

    def feed(self, piece: bytes) -> _Trial:
        if self._rewriter is not None:
            try:
                self._rewriter.feed(piece)
            except UnsupportedData as error:
                self._survey.refuse(*self._place, self._kind, error.message)
                self._rewriter = None
        return self

    def end(self) -> None:
        if self._rewriter is None:
            return
        try:
            self._rewriter.finish()
        except UnsupportedData as error:
            self._survey.refuse(*self._place, self._kind, error.message)
        self._survey.note(self._rewriter.note)


class SurveyKernel(SnapshotKernel):
    """Reads a snapshot into a `Survey`. What it gives from `feed` is to be thrown away, but for `done` and `rest`."""

    def __init__(self, survey: Survey, databases: frozenset[int] | None) -> None:
        super().__init__(
            SnapshotPlan(
                stamp=survey.stamp,
                target_version=survey.target.redis,
                databases=databases,
                rewrite_kinds=survey.rewritten,
                # Every key takes the long way, past the methods below.
                wants_key=lambda key: True,
            )
        )
        self.survey = survey
        self._size = 0  # of the value that is read in parts, so far
        self._trial: _Trial | None = None

    def _emit(self, start: int, stop: int, batch: SnapshotBatch) -> None:
        _, _, wanted = self._attributes(batch)
        if wanted and self._key is not None:
            self.survey.counted(self.database, self._key, self._kind, stop - start)

    def _begin_through(self, batch: SnapshotBatch) -> bool:
        key, kind = self._key, self._kind
        if not super()._begin_through(batch):
            return False
        if not self._through_skip and key is not None:
            self.survey.counted(self.database, key, kind, self._through)
            self._through_skip = True  # nothing is to be made of what goes through
        return True

    def _begin_rewriting(self, batch: SnapshotBatch) -> bool:
        key = self._key
        assert key is not None
        _, _, wanted = self._attributes(batch)
        self._rewriting, self._size, self._trial = True, 0 if wanted else -1, None
        if wanted and self._kind in self.survey.rewritten:
            rewriter = self.survey.rewriter(self.database, key, self._kind)
            if rewriter is not None:
                self._trial = _Trial(self.survey, self.database, key, self._kind, rewriter)
        return True

    def _rewrite(self, stop: int, batch: SnapshotBatch) -> None:
        if self._size >= 0:
            self._size += stop - self._start
        if self._trial is not None:
            self._trial.feed(bytes(self._buf[self._start : stop]))
        self._start = stop

    def _end_rewriting(self, batch: SnapshotBatch) -> None:
        if self._trial is not None:
            self._trial.end()
        if self._size >= 0 and self._key is not None:
            self.survey.counted(self.database, self._key, self._kind, self._size)
        self._rewriting, self._trial = False, None

    def _function(self, code: bytes, batch: SnapshotBatch) -> None:
        try:
            super()._function(code, batch)
        except UnsupportedData as error:
            self.survey.refuse(0, b"", "function library", error.message)


def take(kernel: SurveyKernel, data: bytes) -> SnapshotBatch | None:
    """Feed a block; None where the snapshot holds something that nobody can read on behind (which is noted as refused)."""
    try:
        return kernel.feed(data)
    except SnapshotError:
        raise
    except UnsupportedData as error:
        kernel.survey.refuse(kernel.database, b"", "snapshot", error.message)
        return None


def own(key: bytes) -> bool:
    return key.startswith(OWN_PREFIX)


def chosen(keyspace: dict[int, tuple[int, int]], databases: frozenset[int] | None) -> Sequence[int]:
    return sorted(number for number in keyspace if databases is None or number in databases)
