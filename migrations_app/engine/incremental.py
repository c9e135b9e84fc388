"""The incremental phase: the stream of the source is applied in transactions that carry the checkpoint."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from migrations_app.engine import expiry, scripts
from migrations_app.engine.abilities import Abilities
from migrations_app.engine.checkpoint import OWN_PREFIX
from migrations_app.engine.commands import EXPIRES, RENAMES
from migrations_app.engine.downgrade import Downgrade
from migrations_app.engine.filter import destination_of
from migrations_app.engine.kernel import (
    FORWARD,
    RULE,
    RULE_LONG,
    RULE_WORD,
    Emitted,
    Entry,
    StreamBatch,
    StreamKernel,
)
from migrations_app.engine.keys import keys_of
from migrations_app.engine.ports import Level, Phase
from migrations_app.engine.protocol.resp import encode_many
from migrations_app.engine.source.heartbeat import Heartbeat
from migrations_app.engine.source.watch import SourceWatch
from migrations_app.engine.suspects import ANSWERING, DERIVE, PERSISTS, SUSPICIOUS, missed, suspects
from migrations_app.engine.target.pipeline import Group, in_databases
from migrations_app.engine.wiring import Wiring

Answering = dict[
    int, tuple[int, bytes]
]  # place among the results of a transaction → database and key of the renewal there

_OPEN_LIMIT = (
    4 * 1024 * 1024
)  # bytes of a transaction that waits for its predecessor; beyond, the source is not read
_STORE_EVERY = 1024 * 1024  # bytes of the stream that held nothing to apply
_CAUGHT_UP_SECONDS = 2.0  # a link that had caught up and lags by less still has
_DOUBT_SECONDS = (
    0.5  # what is applied later than this may find keys expired that the source has renewed in time
)


class IncrementalPhase:
    """`feed` it the stream, tell it what is `confirmed`, and let it `look` as often as the loop turns."""

    def __init__(self, wiring: Wiring, watch: SourceWatch, heartbeat: Heartbeat | None = None) -> None:
        self._wiring = wiring
        self._watch = watch
        self._heartbeat = heartbeat
        self._progress = wiring.meter.progress
        version = wiring.target.facts.version
        self._expiry = expiry.ExpiryRule(
            wiring.clock.now_ms, self._near, self._late, pxat=version >= (6, 2), absttl=version >= (5,)
        )
        self._older = Downgrade(
            Abilities.of(wiring.source),
            Abilities.of(wiring.target.facts),
            wiring.target.stamp(),
            self._not_carried,
            modules=wiring.target.has_modules(),
        )
        self._scripts = wiring.scripts
        checkpoint = wiring.checkpoint
        self._kernel = StreamKernel(
            self._actions(),
            self._rule,
            offset=checkpoint.offset,
            database=checkpoint.database,
            databases=wiring.config.databases,
            own=self._own,
            watched=ANSWERING,
        )
        self._kernel.target_database = 0
        self._spares = (
            version >= (6, 2) and wiring.filter.plain
        )  # a SET whose expiry is far goes on as it came
        marker = wiring.loop.marker()
        # Every transaction begins, as it ends, in database 0.
        self._beginning = encode_many([(b"MULTI",), *([marker] if marker else [])]), 2 if marker else 1
        self._open: Group | None = None  # the transaction that is being filled
        self._open_bytes = 0
        self._open_commands = 0
        self._open_since = 0.0  # (monotonic) before which nothing of it was written on the source
        self._doubted: list[tuple[int, bytes]] = []  # keys that are to be repaired if it is applied late
        self._flying = self._doubted  # … of the transaction that is under way
        self._flying_swaps: list[tuple[int, int]] = []
        self._answering: Answering = {}  # of the open transaction
        self._swaps: list[tuple[int, int]] = []  # of databases, in it and behind it
        self._since = float("-inf")  # as `_open_since`, of the block that is taken in
        self._boundary = True
        self.received = checkpoint.offset  # of the stream, complete commands or not
        self._safe = (checkpoint.offset, checkpoint.database)  # up to which the stream is taken in
        self._stored = checkpoint.offset  # of the checkpoint in the target
        self._entered = time.monotonic()
        self.in_flight = False  # a transaction's EXEC is sent and not answered
        self.begun = False  # something of the stream has arrived
        self._progress.applied_offset = self._progress.received_offset = checkpoint.offset
        self._progress.caught_up = False
        wiring.meter.phase(Phase.INCREMENTAL)
        if self._scripts is not None and (commands := self._scripts.begin()):
            data, count, self._kernel.target_database = in_databases(commands, 0)
            self._put(data, count, own=True)
            self._close()

    @property
    def full(self) -> bool:
        """Whether so much waits for the target that nothing more should be read."""
        return self.in_flight and self._boundary and self._open_bytes > _OPEN_LIMIT

    def feed(self, data: bytes) -> bool:
        """Take a block of the stream; whether the source has asked for an acknowledgement."""
        self.begun = True
        getack = False
        cut = self._cut
        if cut is not None and self.received <= cut < self.received + len(data):
            head = cut - self.received
            getack = bool(head) and self._take(data[:head])
            self._settle()
            data = data[head:]
        return self._take(data) or getack

    def _take(self, data: bytes) -> bool:
        self.received += len(data)
        self._since = self._watch.since(self._kernel.offset)
        if self._spares:
            self._kernel.far_from = self._guarded()
        batch = self._kernel.feed(data)
        self._wiring.throttle.took(self._records(batch), len(data), time.monotonic())
        if batch.data:
            self._put(b"".join(batch.data), batch.commands)
            if batch.watched and self._open is not None:
                # The results of a transaction begin with that of the command behind MULTI.
                before = self._open.replies - batch.commands - 1
                self._answering.update(
                    (before + place, (database, key)) for place, database, key in batch.watched
                )
        self._take_notes()
        self._boundary = batch.boundary
        self._safe = (batch.offset, self._kernel.safe_database)
        self._progress.received_offset = self._kernel.offset
        self._close()
        return batch.getack

    def confirmed(
        self, offset: int, commands: int, noted: bool, since: float, doubted: list[tuple[int, bytes]]
    ) -> None:
        """The transaction that reaches `offset` is applied; nothing of it was written on the source before `since`."""
        deferred = self._wiring.deferred
        if noted:
            deferred.written()
        if doubtful(since):
            for database, key in doubted:
                deferred.note_repair(database, key)
        self._progress.commands += commands
        self._stored = offset
        self._applied(offset)
        self.in_flight = False
        if deferred.unwritten and self._boundary and self._open is None:
            self._put(b"", 0)
        self._close()

    def look(self) -> bool:
        """Do what waits for the end of the stream; whether all that is known of it is applied and nothing is left to do."""
        progress, watch, deferred = self._progress, self._watch, self._wiring.deferred
        applied = progress.applied_offset
        deferred.poll(start=progress.caught_up)
        if self._cut is not None and self.received >= self._cut:
            self._settle()
        if applied is None or watch.sampled_at < self._entered:
            return False
        behind, seconds = watch.lag(applied)
        if progress.caught_up:
            progress.caught_up = seconds is not None and seconds < _CAUGHT_UP_SECONDS
        elif behind == 0:
            progress.caught_up = True
            self._wiring.meter.log(
                Level.INFO, "link.caught_up", "the target has caught up with the source", offset=applied
            )
            self._wiring.meter.report()
        if not progress.caught_up:
            return False
        return behind == 0 and not deferred.unsettled and not self.in_flight

    @property
    def _cut(self) -> int | None:
        """Where in the stream, as it is counted here, the source's answer holds; before everything where nobody knows."""
        cut, base = self._wiring.deferred.cut, self._watch.base
        return None if cut is None else -1 if base is None else cut - base

    def _settle(self) -> None:
        """What the source has said holds here, behind everything that is taken in."""
        deferred = self._wiring.deferred
        here = self._cut == self.received == self._safe[0] and self._boundary
        # Before 4.0 a server does not tell the name of its stream; one that is read with SYNC is not known by it.
        known = self._wiring.checkpoint.replication_id
        if not here or (deferred.replication_id and known and deferred.replication_id != known):
            deferred.drop()
            return
        data, count, self._kernel.target_database = in_databases(
            deferred.settle(self._wiring.clock.now_ms()), self._kernel.target_database
        )
        if count:
            self._put(data, count, own=True)
            self._close()

    def _records(self, batch: StreamBatch) -> int:
        """What of a block counts towards the limit of the speed."""
        return batch.commands

    def keep_position(self) -> None:
        """Have the checkpoint written for a part of the stream that held nothing to apply, so that it does not fall behind for ever."""
        if self._open is None and self._boundary and not self.in_flight and self._safe[0] > self._stored:
            self._put(b"", 0, own=True)
            self._close()

    def store_position(self) -> None:
        """The same at the end of an attempt, and wait for it."""
        offset, wiring = self._progress.applied_offset, self._wiring
        if self._open is None and wiring.pipeline.idle and offset is not None and offset > self._stored:
            wiring.target.run([wiring.checkpoint.at(*self._safe).command(wiring.config.name)])

    def _applied(self, offset: int) -> None:
        self._progress.applied_offset = offset
        if self._heartbeat is not None:
            self._heartbeat.applied(offset)

    def _put(self, data: bytes, commands: int, *, own: bool = False) -> None:
        """Add to the open transaction, or open one; `own` commands are the engine's and do not count as the source's."""
        pipeline = self._wiring.pipeline
        if self._open is None:
            self._open = pipeline.open(None, transaction=True)
            pipeline.add(self._open, *self._beginning)
            self._open_bytes = self._open_commands = 0
            self._open_since = self._since
        pipeline.add(self._open, data, commands)
        self._open_bytes += len(data)
        self._open_commands += 0 if own else commands

    def _close(self) -> None:
        """Put the checkpoint behind the batch and have it applied, if the stream is at a safe point.

        One transaction at a time: were the next one sent before this one is known to be applied, a refusal of this one (out of
        memory, say) would leave a hole in the data with a checkpoint behind it.
        """
        if not self._boundary or self.in_flight:
            return
        if self._open is None:
            # Nothing to apply up to here (PING, other databases): the position moves on by itself, and is stored now and then.
            self._applied(self._safe[0])
            if self._safe[0] - self._stored < _STORE_EVERY:
                return
            self._put(b"", 0)
        wiring, group = self._wiring, self._open
        assert group is not None
        noting = wiring.deferred.unwritten
        end = [*wiring.deferred.notes(), (0, wiring.checkpoint.at(*self._safe).command(wiring.config.name))]
        data, count, self._kernel.target_database = in_databases(
            [*end, (0, [b"EXEC"])], self._kernel.target_database
        )
        wiring.pipeline.add(group, data, count)
        group.mark = ("stream", self._safe[0], self._open_commands, noting, self._open_since, self._doubted)
        since, repairing = self._open_since, wiring.deferred.repairing
        group.forgive = lambda commands, place, error: (
            (repairing or doubtful(since)) and self._forgive(commands, place, error)
        )
        if self._answering:
            group.missed = partial(self._missed, self._answering, self._doubted, self._swaps)
        wiring.pipeline.close(group)
        self._open = None
        self._flying, self._doubted = self._doubted, []
        self._flying_swaps, self._swaps, self._answering = self._swaps, [], {}
        self.in_flight = True

    # --- rules ------------------------------------------------------------------------------------------------------

    def _actions(self) -> dict[bytes, int]:
        """What the kernel does with each command: a rule sees only those that need one between these two servers."""
        table = self._wiring.filter.actions()
        names = self._older.names | (scripts.COMMANDS if self._scripts is not None else frozenset())
        plain = {name for name in self._older.with_options if table.get(name) == FORWARD}
        if table[b"FLUSHDB"] == FORWARD:
            table[b"FLUSHDB"] = RULE
        return (
            table
            | {name: RULE for name in names if table.get(name) != RULE_LONG}
            | dict.fromkeys(plain, RULE_WORD)
        )

    def _not_carried(self, text: str) -> None:
        self._wiring.meter.log(Level.WARNING, "stream.not_carried", text)

    def _rule(self, entry: Entry) -> Emitted:
        """What becomes of a command that is not simply passed on."""
        kept = self._scripts
        result: list[tuple[int, Sequence[bytes]]] = []
        if kept is not None:
            result += kept.before(entry.args)
        for database, args in self._wiring.filter.apply(entry):
            whole = list(args) if kept is None else kept.by_code(list(args))
            for command in self._older.split(whole):
                for reached, timed in self._timed(Entry(command, database, entry.offset, entry.open)):
                    result += [(reached, expressed) for expressed in self._older.apply(timed)]
            if kept is not None:
                result += kept.behind(database, args)
        return result

    def _timed(self, entry: Entry) -> Emitted:
        """What becomes of its expiry."""
        name = entry.args[0].upper()
        if self._scripts is not None:
            for key in self._scripts.expiring_keys(entry.args):
                self._expiry.renamed(entry.database, key)
        if name == b"FLUSHALL" or (name == b"FLUSHDB" and not entry.database):
            # An opposite link looks for it in the target; when it reads this, it renews its own in the source.
            again = self._wiring.loop.registration()
            return [(entry.database, entry.args), *((0, command) for command in again)]
        if name == b"SWAPDB":
            self._swap(int(entry.args[1]), int(entry.args[2]))
        elif name in SUSPICIOUS:
            self._suspect(entry)
        if name in EXPIRES:
            return self._expiry.apply(entry)
        if name == b"PERSIST":
            # A key whose expiry was left out answers 0 as well, though it is there: read again, it is right all the same.
            name = PERSISTS
        elif name not in ANSWERING:
            return [(entry.database, entry.args)]
        return [(entry.database, [name, *entry.args[1:]])]

    def _suspect(self, entry: Entry) -> None:
        """Note what has to be read again, if this command is applied late or builds on what is not repaired yet."""
        deferred, chosen, name = self._wiring.deferred, self._wiring.filter, entry.args[0].upper()
        doubt = doubtful(self._since) or (name in DERIVE and deferred.repairing)
        wants_key = chosen.wants_key
        for database, key in suspects(entry.args, entry.database):
            if not chosen.wants(database) or (wants_key is not None and not wants_key(key)):
                continue
            if not chosen.all_commands(database) or key.startswith(OWN_PREFIX):
                continue  # the source's value would bring along what is left out
            if doubt:
                deferred.note_repair(database, key)
            else:
                self._doubted.append((database, key))
        if (
            name in RENAMES
            and (self._expiry.deferred or deferred.unsettled)
            and not entry.args[1].startswith(OWN_PREFIX)
        ):
            self._expiry.renamed(*destination_of(entry))

    def _swap(self, one: int, other: int) -> None:
        """Names that the target has not got yet follow their keys."""
        self._take_notes()
        self._wiring.deferred.swapped(one, other)
        for swaps in (self._swaps, self._flying_swaps):
            swaps.append((one, other))
        to = {one: other, other: one}
        for names in (self._doubted, self._flying):
            names[:] = [(to.get(database, database), key) for database, key in names]

    def _take_notes(self) -> None:
        for database, key in self._expiry.deferred:
            self._wiring.deferred.note(database, key)
        self._expiry.deferred.clear()

    def _missed(
        self,
        answering: Answering,
        doubted: list[tuple[int, bytes]],
        swaps: list[tuple[int, int]],
        places: list[int],
    ) -> None:
        """At these places of the results a key was not there. Where that was a renewal, it came too late, however little: the key is read from
        the source again, and what the same transaction has made of others."""
        lost = {answering[place] for place in places if place in answering}
        if not lost:
            return
        renewed = set(answering.values())
        for database, key in {*lost, *(name for name in doubted if name not in renewed)}:
            if not self._wiring.filter.all_commands(database) or key.startswith(OWN_PREFIX):
                continue
            where = {database}
            for pair in swaps:
                if not where.isdisjoint(pair):
                    where.update(pair)
            for number in where:
                self._wiring.deferred.note_repair(number, key)
        self._wiring.meter.log(
            Level.INFO,
            "link.repaired",
            "the renewal of an expiry found its key expired on the target already; it is read from the source again",
            keys=len(lost),
        )

    def _forgive(self, commands: list[list[bytes]], place: int, error: str) -> bool:
        """Whether a command that failed on the target did so because its key had expired there too early; its keys are noted."""
        args, database = commands[place], 0
        if not missed(args, error):
            return False
        for command in commands[:place]:
            if command[0].upper() == b"SELECT":
                database = int(command[1])
        if not self._wiring.filter.all_commands(database):
            return False
        for key in keys_of(args):
            self._wiring.deferred.note_repair(database, key)
        self._wiring.meter.log(
            Level.INFO,
            "link.repaired",
            "a command found its key expired on the target already; the key is read from the source again",
            command=args[0].decode("utf-8", "replace").upper(),
            key=repr(args[1][:128]) if len(args) > 1 else "",
            database=database,
        )
        return True

    def _own(self, entry: Entry) -> bool:
        """A command on a key of the product. Whether the rest of its transaction is left out, too."""
        if self._heartbeat is not None:
            self._heartbeat.seen(entry)
        return self._wiring.loop.own(entry)

    def _near(self, at: int) -> bool:
        """Whether an expiry at that time (ms) must be left out for now."""
        return at < self._guarded()

    def _guarded(self) -> int:
        """The time (ms) from which on an expiry is applied now."""
        if self._progress.caught_up and not doubtful(self._since):
            return 0 if self._wiring.deferred.final else self._wiring.clock.now_ms() + expiry.GUARD_MS
        return (
            self._wiring.clock.now_ms()
            + expiry.GUARD_BEHIND_MS
            + int(1000 * (self._progress.lag_seconds or 0))
        )

    def _late(self) -> bool:
        return not self._progress.caught_up or doubtful(self._since)


def doubtful(since: float) -> bool:
    """Whether what was written after `since` (monotonic) may have come too late for a key that expires."""
    return time.monotonic() - since >= _DOUBT_SECONDS
