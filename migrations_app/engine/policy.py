"""How the full phase writes where keys of others are in the target (see `conflict.py`).

Names of the product's own keys, among them those under which a value is built that goes as commands, have a form for each slot of a
cluster: every script works on keys of one slot, and names them all, so that a slot that moves is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from migrations_app.engine.checkpoint import kept_key, staged_key, written_key
from migrations_app.engine.config import Conflict, LinkConfig, Method, Phases
from migrations_app.engine.keys import slot
from migrations_app.engine.target.base import Target, TargetPipeline
from migrations_app.engine.target.cluster import ClusterTarget
from migrations_app.engine.target.cluster_pipeline import ClusterPipeline
from migrations_app.engine.target.keeping import Keeping, keeping_of
from migrations_app.engine.target.router import in_slot

# KEYS: the key; of a cluster also `written` and `kept`, which elsewhere stand in the script.
_WRITE: Final = b"""
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('INCR', %(kept)b)
  return 0
end
local reply = redis.pcall('RESTORE', KEYS[1], unpack(ARGV))
if type(reply) == 'table' and reply.err then return reply end
redis.call('SADD', %(written)b, KEYS[1])
return 1
"""
# KEYS: the key, the value that was built, and as above.
_TAKE_OVER: Final = b"""
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[2])
  redis.call('INCR', %(kept)b)
  return 0
end
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('RENAME', KEYS[2], KEYS[1])
redis.call('SADD', %(written)b, KEYS[1])
return 1
"""
# The same where keys come more than once: the link's own are replaced. What was kept is counted by its names.
_WRITE_AGAIN: Final = b"""
if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('SISMEMBER', %(written)b, KEYS[1]) == 0 then
  redis.call('SADD', %(kept)b, KEYS[1])
  return 0
end
local options = ARGV
options[#options + 1] = 'REPLACE'
local reply = redis.pcall('RESTORE', KEYS[1], unpack(options))
if type(reply) == 'table' and reply.err then return reply end
redis.call('SADD', %(written)b, KEYS[1])
return 1
"""
_TAKE_OVER_AGAIN: Final = b"""
if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('SISMEMBER', %(written)b, KEYS[1]) == 0 then
  redis.call('DEL', KEYS[2])
  redis.call('SADD', %(kept)b, KEYS[1])
  return 0
end
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('RENAME', KEYS[2], KEYS[1])
redis.call('SADD', %(written)b, KEYS[1])
return 1
"""
_NOTE: Final = b"""
local noted = 0
for _, key in ipairs(ARGV) do
  if redis.call('SISMEMBER', KEYS[2], key) == 1 then noted = noted + redis.call('SADD', KEYS[1], key) end
end
return noted
"""
_TAKE_OVER_OR_FAIL: Final = b"""
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[2])
  return redis.error_reply('BUSYKEY Target key name already exists.')
end
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end
return 1
"""

Commands = list[tuple[int, list[bytes]]]  # each with its database


class Policy:
    """How one full phase writes. `foreign` are the chosen databases that held keys of others before the link began.

    A key scan comes by the same key more than once, also after the full phase: what it has written stays noted (`lasting`).
    """

    def __init__(self, config: LinkConfig, target: Target, *, again: bool, foreign: frozenset[int]) -> None:
        self.link = config.name
        scan = config.method is Method.SCAN
        self.keeps = bool(foreign) and config.conflict is Conflict.KEEP
        self.fails = bool(foreign) and config.conflict is Conflict.FAIL and not scan and not again
        self.lasting = self.keeps and scan and config.phases is Phases.FULL_INCREMENTAL
        self._scan = scan
        self._cluster = isinstance(target, ClusterTarget)
        self._building: bytes | None = None  # the key whose value is on its way as commands
        self._verb: tuple[bytes, ...] = (b"RESTORE",)
        self._write = b""
        if not (self.keeps or self.fails):
            return
        self._keeping: Keeping = keeping_of(target)
        names = {b"kept": b"'%b'" % kept_key(self.link), b"written": b"'%b'" % written_key(self.link)}
        load = self._keeping.load_script
        if self.fails:
            self._take_over = load(_TAKE_OVER_OR_FAIL)
            return
        write, take_over = (_WRITE_AGAIN, _TAKE_OVER_AGAIN) if scan else (_WRITE, _TAKE_OVER)
        if self._cluster:
            self._write = load(write % {b"written": b"KEYS[2]", b"kept": b"KEYS[3]"})
            self._take_over = load(take_over % {b"written": b"KEYS[3]", b"kept": b"KEYS[4]"})
        else:
            self._write, self._take_over = load(write % names), load(take_over % names)
        self._verb = (b"EVALSHA", self._write, b"1")
        self._note = load(_NOTE)

    @property
    def plain(self) -> bool:
        """Whether keys are simply replaced."""
        return not (self.keeps or self.fails)

    @property
    def verb(self) -> tuple[bytes, ...]:
        return self._verb

    def route(self, pipeline: TargetPipeline) -> None:
        """Have the pipeline to a cluster name the keys of each slot to the script."""
        if isinstance(pipeline, ClusterPipeline) and self.keeps:
            pipeline.complete(self._write, (written_key(self.link), kept_key(self.link)))

    def stage(self, key: bytes) -> bytes:
        """The name under which a value is built that goes as commands."""
        self._building = key
        return self._name(staged_key(self.link), key)

    def abandoned(self) -> None:
        """It does not go as commands after all."""
        self._building = None

    def commit(self, key: bytes, staged: bytes) -> list[list[bytes]]:
        """The commands that give it its own name, or leave what is there."""
        self._building = None
        keys = [key, staged]
        if self._cluster and self.keeps:
            keys += [self._name(written_key(self.link), key), self._name(kept_key(self.link), key)]
        return [[b"EVALSHA", self._take_over, b"%d" % len(keys), *keys]]

    def kept(self) -> dict[int, int]:
        """Database → keys that were left as they were."""
        return self._keeping.kept(names=self._scan) if self.keeps else {}

    def settle(self, target: Target, commands: list[list[bytes]]) -> None:
        """Every write is confirmed: forget what was written and kept, with commands on the checkpoint."""
        if self.keeps:
            self._keeping.settle(commands, lasting=self.lasting)
        else:
            target.run(commands)

    def notes(self, noted: Commands) -> Commands:
        """What SADDs become that note keys for their expiry: of keys that were kept nothing is noted."""
        if not self.keeps:
            return noted
        found: Commands = []
        for database, (_, name, *keys) in noted:
            for part in self._by_slot(keys):
                names = self._name(name, part[0]), self._name(written_key(self.link), part[0])
                found.append((database, [b"EVALSHA", self._note, b"2", *names, *part]))
        return found

    @property
    def may_note(self) -> bool:
        """Whether what was written is known in the target: a value on its way has no name yet."""
        return not self.keeps or self._building is None

    def claim(self, database: int, keys: Iterable[bytes]) -> Commands:
        """Keys of the source have changed: they are the link's from now on, whoever wrote them to the target."""
        return self._mark(b"SADD", database, keys)

    def disclaim(self, database: int, keys: Iterable[bytes]) -> Commands:
        """Keys are gone at the source, and deleted in the target: what comes there under these names is not the link's."""
        return self._mark(b"SREM", database, keys)

    def _mark(self, verb: bytes, database: int, keys: Iterable[bytes]) -> Commands:
        if not (self.keeps and self._scan):
            return []
        return [
            (database, [verb, self._name(written_key(self.link), part[0]), *part])
            for part in self._by_slot(list(keys))
        ]

    def _name(self, name: bytes, key: bytes) -> bytes:
        """One of the product's names, where it is used together with a key."""
        return in_slot(name, slot(key)) if self._cluster else name

    def _by_slot(self, keys: list[bytes]) -> list[list[bytes]]:
        if not self._cluster:
            return [keys] if keys else []
        parts: dict[int, list[bytes]] = {}
        for key in keys:
            parts.setdefault(slot(key), []).append(key)
        return list(parts.values())
