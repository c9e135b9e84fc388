"""What the full phase does with keys that are in the target already.

- `overwrite` replaces them.
- `fail` looks for names that both sides have before the first write, and stops at any. Later, RESTORE without REPLACE stops at a
  name that has appeared meanwhile (in databases that were not empty). Once the look has passed, a repeated full phase of the same
  link replaces what it wrote itself; the checkpoint says that the look has passed.
- `keep` leaves them as they are: a script writes a key only where there is none, and notes its name in a set beside it, in one
  step. A repeated full phase first deletes what the set names, and so never takes its own keys for others'.

Databases that were empty when the link began go the quick way, whatever the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from migrations_app.engine import errors
from migrations_app.engine.checkpoint import FULL, OWN_PREFIX, Checkpoint, kept_key, staged_key, written_key
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
from migrations_app.engine.target.standalone import StandaloneTarget

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
        elif config.conflict is Conflict.KEEP:
            if not isinstance(target, StandaloneTarget):
                raise errors.UsageError(
                    f"{target.endpoint.address}: the target is a cluster, where keys cannot be kept; no key was written",
                    advice="Choose another policy (--on-conflict fail or overwrite), or a standalone target.",
                )
            if target.checkpoint.phase == FULL:
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


def _forget_written(target: StandaloneTarget, chosen: Filter, marker: list[bytes] | None, tick: Tick) -> None:
    """Delete what an unfinished full phase has written among keys that are kept; `Stopped` when `tick` says so."""
    for database in sorted(target.checkpoint.held):
        while chosen.wants(database) and target.delete_written(database, marker):
            if not tick():
                raise Stopped


def check_repeat(config: LinkConfig, before: Checkpoint, foreign: frozenset[int]) -> None:
    """Raise if a full phase that starts again could not tell the link's own keys from others'. `foreign`: see `Policy`."""
    if not before.phase or not foreign or config.conflict is Conflict.OVERWRITE:
        return
    if before.conflict != config.conflict:
        raise errors.UsageError(
            f"the full phase has to start again with --on-conflict {config.conflict}, but the link began with "
            f"{before.conflict or 'overwrite'}, and its keys cannot be told from those that were in the target before",
            advice=_AGAIN,
        )
    if config.conflict is Conflict.KEEP and before.phase != FULL:
        raise errors.UsageError(
            "the full phase has to start again, but once it is complete, the keys of the link cannot be told any more from those "
            "that were in the target before and are to be kept",
            advice=_AGAIN,
        )


_AGAIN: Final = "Choose overwrite (--on-conflict overwrite), or clear the target and delete its checkpoint, then start again."


# --- how the full phase writes ----------------------------------------------------------------------------------------

_WRITE = b"""
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('INCR', '%b')
  return 0
end
local reply = redis.pcall('RESTORE', KEYS[1], unpack(ARGV))
if type(reply) == 'table' and reply.err then return reply end
redis.call('SADD', '%b', KEYS[1])
return 1
"""
_TAKE_OVER = b"""
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[2])
  redis.call('INCR', '%b')
  return 0
end
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('RENAME', KEYS[2], KEYS[1])
redis.call('SADD', '%b', KEYS[1])
return 1
"""
_NOTE = b"""
local noted = 0
for _, key in ipairs(ARGV) do
  if redis.call('SISMEMBER', KEYS[2], key) == 1 then noted = noted + redis.call('SADD', KEYS[1], key) end
end
return noted
"""
_TAKE_OVER_OR_FAIL = b"""
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[2])
  return redis.error_reply('BUSYKEY Target key name already exists.')
end
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end
return 1
"""


class Policy:
    """How one full phase writes. `foreign` are the chosen databases that held keys of others before the link began."""

    def __init__(self, config: LinkConfig, target: Target, *, again: bool, foreign: frozenset[int]) -> None:
        self.link = config.name
        self._server = server = target if isinstance(target, StandaloneTarget) and foreign else None
        self.keeps = server is not None and config.conflict is Conflict.KEEP
        # A key scan comes by the same key more than once.
        once = config.method is not Method.SCAN
        self.fails = server is not None and config.conflict is Conflict.FAIL and once and not again
        self._building: bytes | None = None  # the key whose value is on its way as commands
        self._waiting: list[tuple[int, bytes]] = []
        self._verb: tuple[bytes, ...] = (b"RESTORE",)
        names = (kept_key(self.link), written_key(self.link))
        if server is not None and self.keeps:
            self._verb = (b"EVALSHA", server.load_script(_WRITE % names), b"1")
            self._take_over = server.load_script(_TAKE_OVER % names)
            self._note = server.load_script(_NOTE)
        elif server is not None and self.fails:
            self._take_over = server.load_script(_TAKE_OVER_OR_FAIL)

    @property
    def plain(self) -> bool:
        """Whether keys are simply replaced."""
        return not (self.keeps or self.fails)

    @property
    def verb(self) -> tuple[bytes, ...]:
        return self._verb

    def stage(self, key: bytes) -> bytes:
        """The name under which a value is built that goes as commands."""
        self._building = key
        return staged_key(self.link)

    def abandoned(self) -> None:
        """It does not go as commands after all."""
        self._building = None

    def commit(self, key: bytes, staged: bytes) -> list[list[bytes]]:
        """The commands that give it its own name, or leave what is there."""
        self._building = None
        return [[b"EVALSHA", self._take_over, b"2", key, staged]]

    def kept(self) -> dict[int, int]:
        """Database → keys that were left as they were."""
        return self._server.kept() if self._server is not None and self.keeps else {}

    def settle(self, target: Target, commands: list[list[bytes]]) -> None:
        """Every write is confirmed: forget what was written and kept, with commands on the checkpoint, in one transaction."""
        if self._server is not None and self.keeps:
            self._server.settle(commands)
        else:
            target.run(commands)

    def note(self, database: int, command: list[bytes]) -> tuple[int, list[bytes]]:
        """What a SADD becomes that notes keys for their expiry: of keys that were kept nothing is noted."""
        if not self.keeps:
            return database, command
        _, name, *keys = command
        return database, [b"EVALSHA", self._note, b"2", name, written_key(self.link), *keys]

    @property
    def may_note(self) -> bool:
        """Whether what was written is known in the target: a value on its way has no name yet."""
        return not self.keeps or self._building is None
