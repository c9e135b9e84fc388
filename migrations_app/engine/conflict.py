"""What the full phase does with keys that are in the target already: what is looked at, and done, before it begins.

- `overwrite` replaces them.
- `fail` looks for names that both sides have before the first write, and stops at any. Later, RESTORE without REPLACE stops at a
  name that has appeared meanwhile (in databases that were not empty). Once the look has passed, a repeated full phase of the same
  link replaces what it wrote itself; the checkpoint says that the look has passed.
- `keep` leaves them as they are: a script writes a key only where there is none, and notes its name in a set beside it, in one
  step (`policy.py`). A repeated full phase first deletes what the set names, and so never takes its own keys for others'. A key
  scan, which comes by its own keys again at any time, keeps the set as long as it follows: what it names is replaced.

Databases that were empty when the link began go the quick way, whatever the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from migrations_app.engine import errors
from migrations_app.engine.checkpoint import FULL, OWN_PREFIX, Checkpoint
from migrations_app.engine.client import Client
from migrations_app.engine.config import Conflict, LinkConfig, Method
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.filter import Filter
from migrations_app.engine.kernel import SnapshotKernel, SnapshotPlan
from migrations_app.engine.meter import Meter
from migrations_app.engine.ports import Level, Wanted
from migrations_app.engine.protocol.resp import ReplyError
from migrations_app.engine.source.file import SnapshotFile
from migrations_app.engine.target.base import Target
from migrations_app.engine.target.keeping import keeping_of

_SHOWN: Final = 10
_REMEMBERED: Final = 100_000  # so that a name which SCAN returns twice counts once
_BLOCK: Final = 1 << 20

Tick = Callable[[], bool]  # whether to go on


class Stopped(Exception):
    """The owner does not want the link any more."""


def prepare(
    config: LinkConfig,
    target: Target,
    chosen: Filter,
    meter: Meter,
    endpoint: Endpoint,
    name: str,
    marker: list[bytes] | None = None,
) -> bool:
    """What the policy wants done before a full phase begins. False: the owner wants no more of it.

    `endpoint` is where the source is, `name` that of the link's connections, `marker` what begins its transactions (`loop.py`).
    """

    def tick() -> bool:
        return meter.wanted() is Wanted.RUN

    try:
        if config.conflict is Conflict.FAIL and not target.checkpoint.phase:
            if config.shard is None:  # else all masters were looked at before the first of their links began
                meter.log(Level.INFO, "full.comparing_names", "looking for names that are on both sides")
                look(config, target, chosen, endpoint, name, tick)
        elif (
            config.conflict is Conflict.KEEP
            and config.method is not Method.SCAN
            and target.checkpoint.phase == FULL
        ):
            _forget_written(target, chosen, marker, tick)
    except Stopped:
        meter.log(Level.INFO, "link.stopped", "stopped before the full phase began")
        return False
    return True


# --- fail: names that both sides have ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Found:
    """Names that both sides have: how many, and the first of them as (database, name)."""

    count: int = 0
    first: list[tuple[int, bytes]] = field(default_factory=list)
    seen: set[tuple[int, bytes]] = field(default_factory=set)

    def add(self, database: int, names: Iterable[bytes]) -> None:
        for name in names:
            if (database, name) in self.seen:
                continue
            self.count += 1
            if len(self.seen) < _REMEMBERED:
                self.seen.add((database, name))
            if len(self.first) < _SHOWN:
                self.first.append((database, name))

    def check(self, address: str) -> None:
        if not self.count:
            return
        names = ", ".join(
            f"{name[:128]!r}" + (f" (database {database})" if database else "")
            for database, name in self.first
        )
        more = ", …" if self.count > len(self.first) else ""
        keys = "1 key is" if self.count == 1 else f"{self.count} keys are"
        raise errors.TargetConflict(
            f"{address}: {keys} in the target already that the source has, too: {names}{more}; no key was written"
        )


class Names(Protocol):
    """What is asked of a target whose names are compared."""

    @property
    def facts(self) -> ServerFacts: ...

    def keyspace(self) -> dict[int, tuple[int, int]]:
        """Database → (keys, of these with expiry)."""

    def names(self, database: int) -> Iterator[list[bytes]]:
        """All keys of a database, in pages; a key may come more than once."""

    def existing(self, database: int, names: list[bytes]) -> list[bytes]:
        """Those of the names that are keys there."""

    def occupied(self) -> frozenset[int]:
        """Databases that hold keys other than the product's own."""


def look(
    config: LinkConfig, target: Target, chosen: Filter, endpoint: Endpoint, name: str, tick: Tick
) -> None:
    """Raise `TargetConflict` if a chosen name is on both sides; `Stopped` when `tick` says so."""
    same_names(config, target, chosen, endpoint, name, tick).check(target.endpoint.address)


def same_names(
    config: LinkConfig, target: Names, chosen: Filter, endpoint: Endpoint, name: str, tick: Tick
) -> Found:
    """The chosen names that are on both sides. Raises `Stopped` when `tick` says so.

    Names of the smaller side are read and looked up on the other, database by database; what is empty costs nothing.
    """
    found = Found()
    there = {number: keys for number, keys in target.keyspace().items() if chosen.wants(number)}
    if config.source.file:
        if target.occupied():
            _look_in_file(config, target, chosen, found, tick)
    else:
        with Client(endpoint, timeout=config.timeout, name=name) as source:
            here = source.keyspace()
            for database in sorted(there.keys() & here.keys()):
                source.execute("SELECT", database)
                if here[database][0] <= there[database][0]:
                    for names in _pages(source.scan(), chosen, tick):
                        found.add(database, target.existing(database, names))
                else:
                    for names in _pages(target.names(database), chosen, tick):
                        found.add(database, _at(source, names))
    return found


def _at(source: Client, names: list[bytes]) -> list[bytes]:
    """Those of the names that are keys at the source. A master of a cluster does not have what it says another one has."""
    replies = source.pipeline([("EXISTS", name) for name in names])
    for reply in replies:
        if isinstance(reply, ReplyError) and reply.code != "MOVED":
            raise source.error(reply, "EXISTS")
    return [name for name, reply in zip(names, replies, strict=True) if reply == 1]


def _pages(pages: Iterator[list[bytes]], chosen: Filter, tick: Tick) -> Iterator[list[bytes]]:
    wants = chosen.wants_key
    for page in pages:
        if not tick():
            raise Stopped
        names = [key for key in page if not key.startswith(OWN_PREFIX) and (wants is None or wants(key))]
        if names:
            yield names


def _look_in_file(config: LinkConfig, target: Names, chosen: Filter, found: Found, tick: Tick) -> None:
    """A snapshot file is read twice: this time for its names only."""
    names: dict[int, list[bytes]] = {}

    def note(key: bytes) -> bool:
        if chosen.wants_key is None or chosen.wants_key(key):
            names.setdefault(kernel.database, []).append(key)
        return False

    plan = SnapshotPlan(
        stamp=0, target_version=target.facts.version, databases=config.databases, wants_key=note
    )
    kernel = SnapshotKernel(plan)
    file = SnapshotFile(config.source)
    try:
        while not kernel.feed(file.recv(_BLOCK)).done:
            if not tick():
                raise Stopped
            for database, some in names.items():
                found.add(database, target.existing(database, some))
            names.clear()
        for database, some in names.items():
            found.add(database, target.existing(database, some))
    finally:
        file.close()


def _forget_written(target: Target, chosen: Filter, marker: list[bytes] | None, tick: Tick) -> None:
    """Delete what an unfinished full phase has written among keys that are kept; `Stopped` when `tick` says so."""
    keeping = keeping_of(target)
    for database in sorted(target.checkpoint.held):
        while chosen.wants(database) and keeping.delete_written(database, marker):
            if not tick():
                raise Stopped


def check_repeat(config: LinkConfig, before: Checkpoint, foreign: frozenset[int]) -> None:
    """Raise if a full phase that starts again could not tell the link's own keys from others'. `foreign`: see `Policy`."""
    if not before.phase or not foreign or config.conflict is Conflict.OVERWRITE:
        return
    began = before.conflict.partition(":")[0] or Conflict.OVERWRITE.value
    if began != config.conflict:
        raise errors.UsageError(
            f"the full phase has to start again with --on-conflict {config.conflict}, but the link began with "
            f"{began}, and its keys cannot be told from those that were in the target before",
            advice=_AGAIN,
        )
    noted = before.conflict == NOTED and config.method is Method.SCAN
    if config.conflict is Conflict.KEEP and before.phase != FULL and not noted:
        raise errors.UsageError(
            "the full phase has to start again, but once it is complete, the keys of the link cannot be told any more from those "
            "that were in the target before and are to be kept",
            advice=_AGAIN,
        )


NOTED: Final = f"{Conflict.KEEP.value}:noted"  # in the checkpoint of a key scan: its own keys stay noted
_AGAIN: Final = "Choose overwrite (--on-conflict overwrite), or clear the target and delete its checkpoint, then start again."
