"""The incremental phase towards a cluster: each slot of a batch gets a transaction of its own, which carries the slot's mark.

A server of a cluster takes a transaction only if all of its keys are in one slot. So the stream is cut into segments; of each, every
slot that it writes gets one MULTI/EXEC with its commands and its mark, the offset that it reaches. When all of them are confirmed, by
the masters and by their replicas, the checkpoint follows. A new start begins at the checkpoint and leaves out, slot by slot, what
the marks say is there: every command is applied exactly once, wherever the last attempt ended and wherever the slots are now.

Commands that concern all slots (FLUSHALL, FUNCTION …) are segments of their own: what stands before them is confirmed and the
checkpoint stored before they begin, and they may be repeated.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from migrations_app.engine import errors, kernel, keys
from migrations_app.engine.config import Conflict
from migrations_app.engine.incremental import Answering, IncrementalPhase, doubtful
from migrations_app.engine.kernel import Emitted, Entry, StreamBatch, StreamKernel
from migrations_app.engine.ports import Level
from migrations_app.engine.protocol.resp import encode, encode_many
from migrations_app.engine.source.heartbeat import Heartbeat
from migrations_app.engine.source.watch import SourceWatch
from migrations_app.engine.suspects import ANSWERING
from migrations_app.engine.target.cluster import ClusterTarget, applied_key
from migrations_app.engine.target.cluster_pipeline import ClusterPipeline
from migrations_app.engine.target.keeping import ClusterKeeping
from migrations_app.engine.target.router import NOTES, noted, one_slot
from migrations_app.engine.target.slots import Address
from migrations_app.engine.wiring import Wiring

_OPEN_LIMIT = 4 * 1024 * 1024  # bytes that wait for their predecessors; beyond, the source is not read
_STORE_EVERY = 0.1  # seconds between two checkpoints: the marks make up for what is between them
_ASK_AGAIN = 1.0  # seconds between two questions to replicas that have not confirmed

_ONCE: Final = frozenset({b"PUBLISH"})  # without a key, and of no matter where
_WHOLE: Final = frozenset({b"FLUSHALL", b"FLUSHDB", b"FUNCTION", b"SCRIPT"})


@dataclass(slots=True)
class Segment:
    """A piece of the stream: commands by slot, or one command for the whole cluster. `offset` and `database` are those behind it."""

    offset: int
    database: int
    slots: dict[int, list[bytes]] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    size: int = 0
    commands: int = 0  # of the source
    notes: bool = False  # whether keys are noted in it
    since: float = float("-inf")  # (monotonic) before which nothing of it was written on the source
    doubted: list[bytes] = field(default_factory=list)  # keys that are to be repaired if it is applied late
    answering: dict[int, Answering] = field(default_factory=dict)  # of each slot
    whole: list[bytes] | None = None

    def add(self, slot: int, args: list[bytes]) -> None:
        data = encode(*args)
        self.slots.setdefault(slot, []).append(data)
        count = self.counts[slot] = self.counts.get(slot, 0) + 1
        self.size += len(data)
        if args[0] in ANSWERING:  # the results of its transaction begin with that of the mark
            self.answering.setdefault(slot, {})[count] = 0, args[1]


class ClusterIncrementalPhase(IncrementalPhase):
    """As the one towards a server; what is inherited is the choice of commands, their expiries, and the end of the stream."""

    def __init__(self, wiring: Wiring, watch: SourceWatch, heartbeat: Heartbeat | None = None) -> None:
        assert isinstance(wiring.target, ClusterTarget)
        assert isinstance(wiring.pipeline, ClusterPipeline)
        self._target: ClusterTarget = wiring.target
        self._pipeline: ClusterPipeline = wiring.pipeline
        checkpoint = wiring.checkpoint
        self._segments: deque[Segment] = deque()  # that wait; the last one is being filled
        self._transaction: set[int] = set()  # slots of the source's transaction that is open
        self._split_told = False
        self._routed = 0  # commands of the block that is taken in
        self._before = checkpoint.offset  # behind the last command that was looked at
        self._due: Segment | None = None  # confirmed, and the checkpoint has not got there
        self._fresh: dict[int, int] = {}  # marks that the stored checkpoint has not passed
        self._last: dict[Address | None, tuple[int, int]] = {}  # master → (slot, mark) written last
        self._storing: dict[int, int] | None = None  # marks that the checkpoint passes which is under way
        self._stored_at = 0.0
        self._asked_at = 0.0
        if checkpoint.conflict == Conflict.KEEP:
            # What an interruption at the end of the full phase has left.
            ClusterKeeping(self._target).forget()
        self._ahead = self._look_at_marks(checkpoint.offset)
        self._ahead_to = max(self._ahead.values(), default=0)
        self._pipeline.on_move(self._target.check_mark)
        super().__init__(wiring, watch, heartbeat)
        self._table = self._actions()
        handled = {kernel.SELECT, kernel.MULTI, kernel.EXEC, kernel.DROP, kernel.CONTROL}
        self._kernel = StreamKernel(
            {name: action if action in handled else kernel.RULE for name, action in self._table.items()},
            self._route,
            offset=checkpoint.offset,
            database=checkpoint.database,
            databases=wiring.config.databases,
            own=self._own,
        )

    # --- what is there already ----------------------------------------------------------------------------------------

    def _look_at_marks(self, offset: int) -> dict[int, int]:
        """Slots that have come further than the checkpoint. Raises if one has not come as far as was confirmed before."""
        target, memory = self._target, self._target.memory
        found = target.marks()
        for known in (target.last_marks, memory.settled):
            for slot, mark in known.items():
                if found.get(slot, -1) < min(mark, offset):
                    raise errors.TargetDiverged(
                        f"slot {slot} of the target cluster has lost changes that were confirmed: it stands at byte "
                        f"{found.get(slot, -1)}, byte {mark} was applied and confirmed before",
                        advice="A failover of the cluster, a restart without its data or somebody's hand took them away. Run a full "
                        "synchronization again (--allow-full-resync).",
                    )
        memory.marks = found
        memory.settled = {slot: mark for slot, mark in found.items() if mark <= offset}
        return {slot: mark for slot, mark in found.items() if mark > offset}

    # --- the interface of the phase -----------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether so much waits for the target that nothing more should be read."""
        return self.in_flight and sum(segment.size for segment in self._segments) > _OPEN_LIMIT

    def confirmed(self, kind: str, segment: Segment) -> None:  # type: ignore[override]
        """Something that was sent is confirmed: a segment (`applied`), by its replicas (`secured`), or the checkpoint (`stored`)."""
        if kind == "applied":
            if segment.notes:
                self._wiring.deferred.written()
            if doubtful(segment.since):
                for key in segment.doubted:
                    self._wiring.deferred.note_repair(0, key)
            self._target.memory.marks.update(dict.fromkeys(segment.slots, segment.offset))
            self._progress.commands += segment.commands
            self._ask_replicas(segment)
            return
        if kind == "stored":
            self._target.memory.settled.update(self._storing or {})
            self._storing = None
            self._stored = segment.offset
        else:
            for slot in segment.slots:
                self._fresh[slot] = segment.offset
                self._last[self._target.map.of(slot)] = slot, segment.offset
            self._applied(segment.offset)
            self._due = segment
            self.in_flight = False
        self._close()

    def look(self) -> bool:
        """As for a server. The checkpoint follows when its time has come."""
        if not self.in_flight:
            again = time.monotonic() - self._asked_at > _ASK_AGAIN
            if self._due is not None and not self._pipeline.safe and again:
                self.in_flight = True
                self._ask_replicas(self._due)
            else:
                self._close()
        settled = super().look()
        return settled and not self._segments and self._due is None and self._storing is None

    def keep_position(self) -> None:
        """Have the checkpoint written for a part of the stream that held nothing to apply."""
        waits = self._segments or self.in_flight or self._due is not None or self._storing is not None
        if not waits and self._boundary and self._safe[0] > self._stored:
            self._due = Segment(*self._safe)
            self._store()

    def store_position(self) -> None:
        """Write the checkpoint for what is confirmed, and for a part of the stream that held nothing to apply."""
        offset = self._progress.applied_offset
        if self._segments or not self._pipeline.idle or not self._pipeline.safe:
            return
        if offset is not None and offset > self._stored:
            self._target.run([self._command(*self._safe)])

    # --- sending ------------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Have the next segment applied, if the one before is confirmed and the stream is at a safe point behind it."""
        segments = self._segments
        while not self.in_flight:
            self._store()
            if not segments and self._boundary and self._wiring.deferred.unwritten:
                self._segment()
            if not segments:
                if self._boundary:
                    # Nothing to apply up to here (PING, other databases): the position moves on by itself.
                    self._applied(self._safe[0])
                return
            segment = segments[0]
            if segment.whole is not None:
                if not self._pipeline.idle:
                    return
                self._apply_whole(segments.popleft(), segment.whole)
                continue
            if len(segments) == 1:
                if not self._boundary:
                    return
                segment.offset, segment.database = self._safe
            segments.popleft()
            self._note(segment)
            if segment.slots:
                self._send(segment)

    def _put(self, data: bytes, commands: int, *_: object, **__: object) -> None:
        """Commands of the engine's own, behind what is taken in."""
        for args in kernel.split_commands(data):
            for slot, part in self._parts(0, args) if args[0] != b"SELECT" else ():
                if slot < 0:
                    before = self._segment()
                    before.offset, before.database = self._safe
                    self._segments.append(Segment(*self._safe, whole=part))
                else:
                    self._segment().add(slot, part)

    def _note(self, segment: Segment) -> None:
        """The keys that have to be looked at again are noted in the same transactions as the writes that made it so."""
        for _, args in self._wiring.deferred.notes() if self._wiring.deferred.unwritten else ():
            segment.notes = True
            for slot, part in noted(args):
                segment.add(slot, part)
        segment.doubted = [key for _, key in self._doubted]
        self._doubted = []

    def _send(self, segment: Segment) -> None:
        link, pipeline = self._wiring.config.name, self._pipeline
        group = pipeline.open(("stream", "applied", segment))
        repairing = self._wiring.deferred.repairing

        def forgive(commands: list[list[bytes]], place: int, error: str) -> bool:
            return (repairing or doubtful(segment.since)) and self._forgive(commands, place, error)

        mark = b" ".join(filter(None, [b"%d" % segment.offset, self._wiring.loop.signature]))
        for slot, commands in segment.slots.items():
            begin = encode_many([[b"MULTI"], [b"SET", applied_key(link, slot), mark]])
            data = b"".join([begin, *commands, encode(b"EXEC")])
            missed = None
            if answering := segment.answering.get(slot):
                doubted = [(0, key) for key in segment.doubted if keys.slot(key) == slot]
                missed = partial(self._missed, answering, doubted, [])
            pipeline.send(group, slot, data, segment.counts[slot] + 3, forgive=forgive, missed=missed)
        pipeline.close(group)
        self.in_flight = True

    def _ask_replicas(self, segment: Segment) -> None:
        self._asked_at = time.monotonic()
        group = self._pipeline.open(("stream", "secured", segment))
        self._pipeline.ask_replicas(group)
        self._pipeline.close(group)

    def _store(self) -> None:
        """Send the checkpoint for what is confirmed by all, now and then."""
        now = time.monotonic()
        segment = self._due
        if segment is None or self._storing is not None or now - self._stored_at < _STORE_EVERY:
            return
        if not self._pipeline.safe:
            return
        self._due, self._stored_at = None, now
        self._storing, self._fresh = self._fresh, {}
        group = self._pipeline.open(("stream", "stored", segment))
        data = encode(*self._command(segment.offset, segment.database))
        self._pipeline.send(group, self._target.slot, data, 1)
        self._pipeline.close(group)

    def _command(self, offset: int, database: int) -> list[bytes]:
        """The checkpoint, with one mark of each master by which a later attempt sees whether the master has lost anything."""
        wiring = self._wiring
        marks = b",".join(b"%d:%d" % pair for pair in self._last.values())
        return [*wiring.checkpoint.at(offset, database).command(wiring.config.name), b"marks", marks]

    def _apply_whole(self, segment: Segment, args: list[bytes]) -> None:
        """A command for all masters. Everything before it is confirmed, so it may be carried out twice."""
        name, target, memory = args[0].upper(), self._target, self._target.memory
        if name in (b"FLUSHALL", b"FLUSHDB"):
            for marks in (memory.marks, memory.settled, self._fresh, self._last):
                marks.clear()
            self._due = None
            target.run([[b"HSET", target.key, b"marks", b""]])  # from now on they may be missing
            target.flush(args, self._command(segment.offset, segment.database), self._wiring.loop.marker())
            self._stored = segment.offset
            self._wiring.deferred.written()
        else:
            target.everywhere(*_repeatable(args), self._wiring.loop.marker())
            self._due = segment
        self._progress.commands += segment.commands
        self._applied(segment.offset)

    # --- where commands go ------------------------------------------------------------------------------------------

    def _route(self, entry: Entry) -> Emitted:
        """Every command comes here. Nothing is handed back to the kernel: the segments take it."""
        args = entry.args
        self._routed += 1
        action = self._table.get(args[0]) or self._table.get(args[0].upper(), kernel.FORWARD)
        if action == kernel.RULE or (action == kernel.RULE_LONG and len(args) > 3):
            emitted = self._rule(entry)
        elif self._wiring.filter.wants(entry.database):
            emitted = [(entry.database, args)]
        else:
            return []
        if not entry.open:
            self._transaction.clear()
        segment: Segment | None = None
        for database, command in emitted:
            for slot, part in self._parts(database, list(command)):
                if slot < 0:
                    self._add_whole(entry, part)
                elif self._ahead.get(slot, -1) < entry.offset:
                    segment = self._segment()
                    segment.add(slot, part)
                if entry.open and slot >= 0:
                    self._note_transaction(slot)
        if segment is not None:
            segment.commands += 1
        self._before = entry.offset
        if self._ahead and entry.offset > self._ahead_to:
            self._ahead = {}
        return []

    def _records(self, batch: StreamBatch) -> int:
        routed, self._routed = self._routed, 0
        return routed

    def _segment(self) -> Segment:
        """The one that is being filled."""
        if not self._segments or self._segments[-1].whole is not None:
            self._segments.append(Segment(self._kernel.offset, self._kernel.database, since=self._since))
        return self._segments[-1]

    def _add_whole(self, entry: Entry, args: list[bytes]) -> None:
        before = self._segment()
        # Up to the command, not behind it: a mark must not tell that the command was carried out.
        before.offset, before.database = max(self._before, self._wiring.checkpoint.offset), entry.database
        self._segments.append(Segment(entry.offset, entry.database, commands=1, whole=args))

    def _parts(self, database: int, args: list[bytes]) -> list[tuple[int, list[bytes]]]:
        """A command as commands that each concern one slot; slot −1 for the whole cluster."""
        name = args[0].upper()
        if name in _WHOLE and (database == 0 or name != b"FLUSHDB"):
            return [(-1, args)]
        if name == b"FLUSHDB":
            return []  # of a database that a cluster does not have
        if name in _ONCE:
            return [(self._target.slot, args)]
        if name == b"SPUBLISH":
            return [(keys.slot(args[1]), args)]
        if len(args) > 2 and args[1].startswith(NOTES):
            return noted(args)
        found = keys.keys_of(args)
        if database or name in (b"SWAPDB", b"MOVE"):
            what = f"key {found[0][:128]!r}" if found else "a key"
            raise errors.UnsupportedData(
                f"{name.decode('utf-8', 'replace')} of {what} in database {database}: the target is a cluster, which has "
                "database 0 only",
                advice="Choose database 0 alone (--db 0), or a standalone target; nothing of this command was applied.",
            )
        if not found:
            raise errors.UnsupportedData(
                f"{name.decode('utf-8', 'replace')} names no key: it is not known where in the target cluster it belongs",
                advice="Let scripts name their keys, or choose a standalone target; nothing of this command was applied.",
            )
        if len(found) == 1:
            return [(keys.slot(found[0]), args)]
        if len({keys.slot(key) for key in found}) == 1:
            return [(keys.slot(found[0]), args)]
        parts = keys.split(args, keys.slot)
        if parts is None:
            one_slot(args, found)  # raises, with both keys
            return []
        if name == b"MSETNX":
            parts = {slot: [b"MSET", *part[1:]] for slot, part in parts.items()}
        return list(parts.items())

    def _note_transaction(self, slot: int) -> None:
        self._transaction.add(slot)
        if len(self._transaction) > 1 and not self._split_told:
            self._split_told = True
            self._wiring.meter.log(
                Level.WARNING,
                "cluster.transaction_split",
                "a transaction of the source has keys in several slots: on the target cluster it is atomic within each slot only",
            )


def _repeatable(args: list[bytes]) -> tuple[list[bytes], str]:
    """FUNCTION or SCRIPT in a form that may be carried out twice, and the error that tells that it was."""
    kind = args[1].upper() if len(args) > 1 else b""
    if args[0].upper() == b"FUNCTION":
        if kind == b"LOAD" and b"REPLACE" not in [arg.upper() for arg in args[2:-1]]:
            return [*args[:2], b"REPLACE", *args[2:]], ""
        if kind == b"RESTORE" and [arg.upper() for arg in args[3:4]] != [b"FLUSH"]:
            return [*args[:3], b"REPLACE"], ""
        if kind == b"DELETE":
            return args, "Library not found"
    return args, ""
