"""One attempt of a link: from connecting both sides until it is done, stopped, or a side is lost.

One thread, two non-blocking sockets. Data goes source → decoder → kernel → pipeline → target. Nothing is read from the source
while the target does not keep up; acknowledgements and questions of the owner go on meanwhile.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from enum import Enum, auto

from migrations_app.engine import errors
from migrations_app.engine.checkpoint import FULL, INCREMENTAL, Checkpoint, client_name, deferred_key
from migrations_app.engine.client import Client
from migrations_app.engine.commands import BEYOND, RENAMES, actions
from migrations_app.engine.config import LinkConfig, Outcome, Phases
from migrations_app.engine.deferred import Deferred, field_of
from migrations_app.engine.expiry import ExpiryRule
from migrations_app.engine.filter import DatabaseFilter, destination_of
from migrations_app.engine.kernel import Emitted, Entry, SnapshotKernel, SnapshotPlan, StreamKernel
from migrations_app.engine.meter import Meter
from migrations_app.engine.ports import Level, Phase, Wanted
from migrations_app.engine.protocol import psync
from migrations_app.engine.protocol.resp import encode, encode_many
from migrations_app.engine.rdb.rewrite import rewriter_for
from migrations_app.engine.source.psync import PsyncSource
from migrations_app.engine.source.watch import SourceWatch
from migrations_app.engine.target.pipeline import Group, Pipeline
from migrations_app.engine.target.standalone import Target

_SNAPSHOT_BLOCK = 256 * 1024
_STREAM_BLOCK = 64 * 1024  # small, so that one batch does not hold up the target's other clients
_UNSENT_LIMIT = 1024 * 1024  # bytes queued for the target, beyond which the source is not read
_OPEN_LIMIT = 4 * 1024 * 1024  # the same for a transaction that waits for its predecessor
_ACK_EVERY = 1.0
_ACK_UNTIL_STREAM = 0.1  # the source starts the stream at the first ACK after its child has ended
_WANTED_EVERY = 0.1
_PROGRESS_EVERY = 0.5
_STOP_WITHIN = 5.0
_SETTLE_WITHIN = 5.0
_GUARD_FULL_MS = 600_000  # expiries nearer than this are left out of a snapshot
_GUARD_BEHIND_MS = 60_000  # … of the stream, while the link is behind
_GUARD_MS = 250  # … of the stream, while it is not


class _Step(Enum):
    ASKED = auto()  # PSYNC is sent
    SNAPSHOT = auto()
    DRAIN = auto()  # the snapshot is read; its last writes are not confirmed yet
    STREAM = auto()


class Session:
    """Give it a `Meter` that lives as long as the link, and call `run` once."""

    def __init__(self, config: LinkConfig, meter: Meter, epoch: int | None) -> None:
        self.config = config
        self.meter = meter
        self.progress = meter.progress
        self._epoch = epoch
        self._step = _Step.ASKED
        self._stopping_since: float | None = None
        self._early = b""  # of the stream, arrived before the snapshot was confirmed
        self._snapshot: SnapshotKernel | None = None
        self._snapshot_id = psync.FullResync("", -1)
        self._noted: list[tuple[int, bytes, int]] = []  # keys to be noted as deferred
        self._stream: StreamKernel | None = None
        self._open: Group | None = None  # the transaction that is being filled
        self._open_bytes = 0
        self._open_commands = 0
        self._boundary = True
        self._in_flight = False  # a transaction's EXEC is sent and not answered
        self._safe = (-1, 0)  # (offset, database) up to which the stream is taken in
        self._stored = -1  # offset of the checkpoint in the target
        self._reading = False
        self._saw_stream = False
        self._entered_stream = 0.0
        self._filter = DatabaseFilter(
            config.databases, [b"switchyard:checkpoint:" + config.name.encode(), deferred_key(config.name)]
        )
        self._bytes_out_before = meter.progress.bytes_out
        self._clock_wanted = self._clock_ack = self._clock_progress = 0.0

    # --- beginning and end ----------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Until the link is done or stopped; raises `EngineError` for everything else."""
        config = self.config
        self.meter.phase(Phase.CONNECTING)
        self.target = Target(config.target, config.name, self._epoch, config.timeout)
        try:
            self.checkpoint = self.target.checkpoint
            name = client_name(config.name, self.checkpoint.epoch)
            self.source = PsyncSource(config.source, name, config.timeout)
            try:
                return self._run(name)
            finally:
                self.source.close()
        finally:
            self.target.close()

    @property
    def epoch(self) -> int | None:
        """The epoch under which the target was taken over, once it was."""
        return self.checkpoint.epoch if hasattr(self, "checkpoint") else self._epoch

    @property
    def connected(self) -> bool:
        """Whether both sides could be reached."""
        return hasattr(self, "source")

    @property
    def in_full_phase(self) -> bool:
        """Whether the attempt ended while the snapshot was coming."""
        return self._step is _Step.SNAPSHOT and self.progress.snapshot_bytes > 0

    def _run(self, name: str) -> Outcome:
        self._check_pair()
        config = self.config
        self.pipeline = Pipeline(self.target.client.connection)
        version = self.target.facts.version
        self._expiry = ExpiryRule(
            _now_ms, self._near, self._late, pxat=version >= (6, 2), absttl=version >= (5,)
        )
        self._keyspace = self.source.keyspace()
        self._replication = self.source.replication()
        self.watch = SourceWatch(config.source, name, config.timeout)
        self.deferred = Deferred(config.source, config.target, config.name, name, min(5.0, config.timeout))
        try:
            self._ask()
            outcome = self._loop()
            self._update_lag()
            return outcome
        except errors.TargetDiverged as error:
            self._mark_fault(error)
            raise
        finally:
            self.watch.close()

    def _check_pair(self) -> None:
        if self.source.facts.run_id and self.source.facts.run_id == self.target.facts.run_id:
            raise errors.UsageError("source and target are the same server; nothing was written")
        if self.checkpoint.fault and not self.config.allow_full_resync:
            raise errors.TargetDiverged(f"the last run ended with: {self.checkpoint.fault}")

    def _ask(self) -> None:
        """Send PSYNC: for the rest where the checkpoint allows it, else for everything."""
        checkpoint = self.checkpoint
        if checkpoint.resumable and self.config.phases is Phases.FULL_INCREMENTAL:
            self.source.start(checkpoint.replication_id, checkpoint.offset)
        else:
            self.source.start("?", -1)
        self.meter.phase(Phase.WAITING)

    def _mark_fault(self, error: errors.EngineError) -> None:
        """So that no later run goes on over data that is not right. Best effort: the error itself is reported anyway."""
        try:
            with Client(self.config.target, timeout=5.0) as client:
                client.execute("HSET", self.target.key, "fault", error.message)
        except errors.EngineError as failure:
            self.meter.log(
                Level.WARNING,
                "checkpoint.fault_not_stored",
                f"the fault could not be noted in the target: {failure}",
            )

    # --- the loop -------------------------------------------------------------------------------------------------

    def _loop(self) -> Outcome:
        source, target = self.source.connection, self.pipeline.connection
        poller = select.poll()
        while True:
            outcome = self._timers()
            if outcome is not None:
                return outcome
            reading = self._may_read()
            if reading and not self._reading:
                poller.register(source, select.POLLIN)
                # While nothing was read nothing could come: the silence of the source counts from here.
                source.last_received = time.monotonic()
            elif self._reading and not reading:
                poller.unregister(source)  # with no event asked for, a hang-up would still wake the loop, for ever
            self._reading = reading
            poller.register(target, select.POLLIN | (select.POLLOUT if self.pipeline.unsent else 0))
            ready = source.buffered and reading
            events = dict(poller.poll(0 if ready else 5 if self.deferred.busy else 50))
            if events.get(target.fileno(), 0) or target.buffered:
                self._confirmed(self.pipeline.read())
            if reading and (ready or events.get(source.fileno(), 0)):
                self._read_source()
            self._confirmed(self.pipeline.completed())
            if self._step is _Step.DRAIN and self.pipeline.idle:
                outcome = self._snapshot_applied()
                if outcome is not None:
                    return outcome
            self.pipeline.write()

    def _may_read(self) -> bool:
        if self._step is _Step.DRAIN or (self._stopping_since is not None and not self._settling()):
            return False
        if self.pipeline.unsent > _UNSENT_LIMIT:
            return False
        return not (self._in_flight and self._boundary and self._open_bytes > _OPEN_LIMIT)

    def _read_source(self) -> None:
        block = _STREAM_BLOCK if self._step is _Step.STREAM else _SNAPSHOT_BLOCK
        data = self.source.connection.recv(block)
        if data is None:
            return
        self.progress.bytes_in += len(data)
        self._handle(self.source.decoder.feed(data))

    def _handle(self, events: Sequence[psync.Event]) -> None:
        for event in events:
            if isinstance(event, psync.StreamBytes):
                self._on_stream(event.data)
            elif isinstance(event, psync.SnapshotBytes):
                self._on_snapshot(event.data)
            elif isinstance(event, psync.SnapshotBegin):
                self.progress.snapshot_size = event.size
            elif isinstance(event, psync.SnapshotEnd):
                if self._snapshot is not None:
                    raise errors.SnapshotError("the snapshot ends before its last byte")
                self._step = _Step.DRAIN
            elif isinstance(event, psync.FullResync):
                self._begin_full(event)
            else:
                self._begin_partial(event)

    def _timers(self) -> Outcome | None:
        now = time.monotonic()
        if now >= self._clock_wanted:
            self._clock_wanted = now + _WANTED_EVERY
            if self._stopping_since is None and self.meter.wanted() is Wanted.STOP:
                self._stopping_since = now
                self.meter.phase(Phase.STOPPING)
        if now >= self._clock_ack:
            self._clock_ack = now + (_ACK_EVERY if self._saw_stream else _ACK_UNTIL_STREAM)
            if not (self.source.decoder.waiting and self._step is _Step.ASKED):
                self.source.acknowledge(self.progress.applied_offset or 0)
        if now >= self._clock_progress:
            self._clock_progress = now + _PROGRESS_EVERY
            self._update_lag()
            self.meter.report()
        self._check_time_outs(now)
        if self._stopping_since is not None:
            return self._stop(now)
        if self._step is _Step.STREAM:
            return self._when_caught_up()
        return None

    def _check_time_outs(self, now: float) -> None:
        limit = self.config.timeout
        waiting = self.pipeline.waiting_since
        if waiting is not None and now - waiting > limit:
            raise errors.ConnectionTimeout(
                f"{self.config.target.address}: the target has not answered for {limit:g} s"
            )
        if self._reading and now - self.source.connection.last_received > limit:
            raise errors.ConnectionTimeout(
                f"{self.config.source.address}: the source has been silent for {limit:g} s"
            )

    def _stop(self, now: float) -> Outcome | None:
        """End at a safe point: what is under way is confirmed first, an open transaction is left undone."""
        if self._settling():
            self._when_caught_up()
            return None
        streaming = self._step is _Step.STREAM
        if (
            streaming
            and self._in_flight
            and now - (self._stopping_since or now) < _SETTLE_WITHIN + _STOP_WITHIN
        ):
            return None
        if streaming and not self._in_flight:
            self._store_position()
        if streaming and self.deferred.left != 0:
            self.meter.log(
                Level.WARNING,
                "link.expiries_left",
                "stopped before the target had caught up: keys that were to expire soon have no expiry there yet; "
                "a new start sets it",
                keys=self.deferred.left,
            )
        self.meter.log(
            Level.INFO,
            "link.stopped",
            "stopped; a new start goes on from here",
            offset=self.progress.applied_offset,
        )
        return Outcome.STOPPED

    def _settling(self) -> bool:
        """Whether a link that is to stop should first set the expiries that it has left out."""
        return (
            self._stopping_since is not None
            and self._step is _Step.STREAM
            and self.progress.caught_up
            and self.deferred.left != 0
            and time.monotonic() - self._stopping_since < _SETTLE_WITHIN
        )

    def _store_position(self) -> None:
        """Write the checkpoint for the part of the stream that held nothing to apply."""
        offset = self.progress.applied_offset
        if self._open is None and self.pipeline.idle and offset is not None and offset > self._stored:
            self.target.run([self.checkpoint.at(*self._safe).command(self.config.name)])

    # --- full phase -----------------------------------------------------------------------------------------------

    def _begin_full(self, event: psync.FullResync) -> None:
        config, checkpoint, progress = self.config, self.checkpoint, self.progress
        again = bool(checkpoint.phase)
        if checkpoint.resumable and config.phases is Phases.FULL_INCREMENTAL:
            reason = self._why_full()
            if not config.allow_full_resync:
                raise errors.FullResyncNeeded(reason)
            self.meter.log(
                Level.WARNING,
                "link.full_resync",
                f"{reason}; the full phase starts again, as the task allows",
            )
        self._snapshot_id = event
        progress.replication_id = event.replication_id
        progress.received_offset = progress.applied_offset = None
        progress.full_syncs += 1
        progress.keys_done, progress.snapshot_bytes, progress.databases = 0, 0, {}
        chosen = {number: counts for number, counts in self._keyspace.items() if self._filter.wants(number)}
        progress.keys_total = sum(keys for keys, _ in chosen.values())
        self.target.has_databases(frozenset(chosen))
        held = checkpoint.held if again else self.target.occupied()
        commands: list[list[bytes]] = [[b"DEL", deferred_key(config.name)]]
        if again:
            commands += self._clear(held)
        self.checkpoint = Checkpoint(
            epoch=checkpoint.epoch,
            phase=FULL,
            replication_id=event.replication_id,
            offset=event.offset,
            held=held,
        )
        self.target.run([*commands, self.checkpoint.command(config.name)])
        incremental = config.phases is Phases.FULL_INCREMENTAL
        plan = SnapshotPlan(
            stamp=self.target.stamp(),
            target_version=self.target.facts.version,
            databases=config.databases,
            # Without a stream behind it there is no renewal to wait for.
            defer_before=_now_ms() + _GUARD_FULL_MS if incremental else 0,
            rewriter=lambda kind, key: rewriter_for(kind, key, target_version=self.target.facts.version),
        )
        self._snapshot = SnapshotKernel(plan)
        self._step = _Step.SNAPSHOT
        self.meter.log(
            Level.INFO, "full.started", "full synchronization: the source prepares its snapshot",
            replication_id=event.replication_id, offset=event.offset, keys=progress.keys_total, repeated=again,
        )  # fmt: skip

    def _clear(self, held: frozenset[int]) -> list[list[bytes]]:
        """Empty what an earlier attempt of this link has filled: the source may have deleted keys since.

        Databases that held keys of others before the first attempt are not cleared.
        """
        clear = [number for number in sorted(self.target.occupied() - held) if self._filter.wants(number)]
        if held_too := [number for number in sorted(held) if self._filter.wants(number)]:
            self.meter.log(
                Level.WARNING, "full.not_cleared",
                "these databases held keys before the task began and are not cleared: keys that the source has deleted since "
                "the last attempt stay there (a comparison lists them)", databases=held_too,
            )  # fmt: skip
        if not clear:
            return []
        if self.target.other_links():
            raise errors.UsageError(
                "the full phase has to start again, but other links write to this target too, so it is not cleared",
                advice="Clear the databases of this link on the target by hand, delete its checkpoint key, and start again.",
            )
        self.meter.log(
            Level.INFO, "full.cleared", "what the last attempt had written is cleared", databases=clear
        )
        flush = [b"FLUSHDB", b"ASYNC"] if self.target.facts.version >= (4,) else [b"FLUSHDB"]
        commands: list[list[bytes]] = []
        for number in clear:
            commands += [[b"SELECT", b"%d" % number], flush]
        return [*commands, [b"SELECT", b"0"]]

    def _why_full(self) -> str:
        """Why the source cannot go on where the checkpoint is, and what would have been needed."""
        info, checkpoint = self._replication, self.checkpoint
        known = {info.get("master_replid"), info.get("master_replid2")}
        if checkpoint.replication_id not in known:
            return "the source cannot go on where the link stood: it was restarted or replaced, its replication ID is a new one"
        size, missing = (
            int(info.get("repl_backlog_size", 0)),
            int(info.get("master_repl_offset", 0)) - checkpoint.offset,
        )
        if missing < 0:
            return f"the source cannot go on where the link stood: its stream ends {-missing} bytes before that point"
        return (
            f"the source no longer has the changes since byte {checkpoint.offset}: its backlog (repl-backlog-size) is "
            f"{size} bytes, at least {missing} would have been needed"
        )

    def _on_snapshot(self, data: bytes) -> None:
        snapshot = self._snapshot
        if snapshot is None:
            raise errors.SnapshotError(f"the snapshot goes on for {len(data)} bytes behind its end")
        progress = self.progress
        if not progress.snapshot_bytes:
            self.meter.phase(Phase.FULL)
        progress.snapshot_bytes += len(data)
        batch = snapshot.feed(data)
        group = self.pipeline.open(("keys", batch.keys))
        self.pipeline.add(group, b"".join(batch.data), batch.commands)
        self._noted += batch.deferred
        if self._noted and not snapshot.mid_command:
            commands = self._note_commands()
            self.pipeline.add(group, encode_many([[b"SELECT", b"0"], *commands]), 1 + len(commands))
            snapshot.selected(0)
        self.pipeline.close(group)
        for note in batch.notes:
            self.meter.log(Level.WARNING, "full.not_carried", note)
        progress.keys_skipped += batch.skipped
        if batch.done:
            self._snapshot = None
            self._handle(self.source.decoder.end_snapshot(batch.rest))

    def _note_commands(self) -> list[list[bytes]]:
        """HMSET of the keys whose expiry was left out."""
        args = [b"HMSET", self.deferred.key]
        for database, key, expiry in self._noted:
            args += [field_of(database, key), b"%d" % expiry]
        self._noted = []
        self.deferred.noted()
        return [args]

    def _snapshot_applied(self) -> Outcome | None:
        """Every write of the snapshot is confirmed."""
        progress, config = self.progress, self.config
        progress.percent = 100.0
        self.meter.log(
            Level.INFO, "full.done", "full synchronization done", keys=progress.keys_done, bytes=progress.snapshot_bytes,
            skipped=progress.keys_skipped,
        )  # fmt: skip
        if config.phases is Phases.FULL:
            self.target.run([[b"DEL", self.target.key, deferred_key(config.name)]])
            return Outcome.COMPLETED
        event = self._snapshot_id
        self.checkpoint = Checkpoint(
            epoch=self.checkpoint.epoch,
            phase=INCREMENTAL,
            replication_id=event.replication_id,
            offset=event.offset,
            held=self.checkpoint.held,
        )
        self.target.run([self.checkpoint.command(config.name)])
        self._begin_stream()
        early, self._early = self._early, b""
        if early:
            self._on_stream(early)
        return None

    # --- incremental phase ----------------------------------------------------------------------------------------

    def _begin_partial(self, event: psync.Continue) -> None:
        checkpoint = self.checkpoint
        if event.replication_id and event.replication_id != checkpoint.replication_id:
            # The source was promoted, or follows another master: the stream is the same, under a new name.
            self.checkpoint = Checkpoint(
                epoch=checkpoint.epoch, phase=INCREMENTAL, replication_id=event.replication_id,
                offset=checkpoint.offset, database=checkpoint.database, held=checkpoint.held,
            )  # fmt: skip
            self.target.run([self.checkpoint.command(self.config.name)])
        self.progress.partial_syncs += 1
        self.progress.replication_id = self.checkpoint.replication_id
        self.meter.log(
            Level.INFO, "link.resumed", "goes on by partial synchronization", offset=checkpoint.offset
        )
        self._begin_stream()

    def _begin_stream(self) -> None:
        checkpoint = self.checkpoint
        self._stream = StreamKernel(
            actions(),
            self._rule,
            offset=checkpoint.offset,
            database=checkpoint.database,
            databases=self.config.databases,
        )
        self._stream.target_database = 0
        self._safe = (checkpoint.offset, checkpoint.database)
        self._stored = checkpoint.offset
        self.progress.applied_offset = self.progress.received_offset = checkpoint.offset
        self._step = _Step.STREAM
        self._entered_stream = time.monotonic()
        self.progress.caught_up = False
        self.meter.phase(Phase.INCREMENTAL)

    def _rule(self, entry: Entry) -> Emitted:
        name = entry.args[0].upper()
        if name in BEYOND:
            emitted = self._filter.beyond(entry)
        elif not self._filter.wants(entry.database):
            return []
        else:
            emitted = [(entry.database, entry.args)] if name in RENAMES else self._expiry.apply(entry)
        if name in RENAMES and emitted and (self._noted or self._expiry.deferred or self.deferred.left != 0):
            self._expiry.renamed(*destination_of(entry))
        return emitted

    def _near(self, at: int) -> bool:
        """Whether an expiry at that time (ms) must be left out for now."""
        if self.progress.caught_up:
            return at < _now_ms() + _GUARD_MS
        return at < _now_ms() + _GUARD_BEHIND_MS + int(1000 * (self.progress.lag_seconds or 0))

    def _late(self) -> bool:
        return not self.progress.caught_up

    def _on_stream(self, data: bytes) -> None:
        if self._step is not _Step.STREAM:
            self._early += data
            return
        stream = self._stream
        assert stream is not None
        if not self._saw_stream:
            self._saw_stream = True
        self.deferred.touch(data)
        batch = stream.feed(data)
        if batch.data:
            self._put(b"".join(batch.data), batch.commands)
        for (database, key), expiry in self._expiry.deferred.items():
            self._noted.append((database, key, expiry))
        self._expiry.deferred.clear()
        self._boundary = batch.boundary
        self._safe = (batch.offset, stream.safe_database)
        self.progress.received_offset = stream.offset
        if batch.getack:
            self._clock_ack = 0.0
        self._close_transaction()

    def _put(self, data: bytes, commands: int, *, own: bool = False) -> None:
        """Add to the open transaction, or open one; `own` commands are the engine's and do not count as the source's."""
        if self._open is None:
            self._open = self.pipeline.open(None, transaction=True)
            self.pipeline.add(self._open, encode(b"MULTI"), 1)
            self._open_bytes = self._open_commands = 0
        self.pipeline.add(self._open, data, commands)
        self._open_bytes += len(data)
        self._open_commands += 0 if own else commands

    def _close_transaction(self) -> None:
        """Put the checkpoint behind the batch and have it applied, if the stream is at a safe point.

        One transaction at a time: were the next one sent before this one is known to be applied, a refusal of this one (out of
        memory, say) would leave a hole in the data with a checkpoint behind it.
        """
        if not self._boundary or self._in_flight:
            return
        if self._open is None:
            # Nothing to apply up to here (PING, other databases): the position moves on by itself.
            self.progress.applied_offset = self._safe[0]
            return
        stream = self._stream
        assert stream is not None
        group = self._open
        end: list[list[bytes]] = []
        if stream.target_database != 0:
            end.append([b"SELECT", b"0"])
            stream.target_database = 0
        noting = bool(self._noted)
        if noting:
            end += self._note_commands()
        end.append(self.checkpoint.at(*self._safe).command(self.config.name))
        self.pipeline.add(group, encode_many([*end, [b"EXEC"]]), len(end) + 1)
        group.mark = ("stream", self._safe[0], self._open_commands, noting)
        self.pipeline.close(group)
        self._open = None
        self._in_flight = True

    def _confirmed(self, marks: Sequence[tuple[object, ...]]) -> None:
        progress = self.progress
        for kind, *rest in marks:
            if kind == "keys":
                keys: dict[int, int] = rest[0]  # type: ignore[assignment]
                for database, count in keys.items():
                    progress.keys_done += count
                    progress.databases[database] = progress.databases.get(database, 0) + count
            else:
                offset, commands, noting = rest
                if noting:
                    self.deferred.noted()
                progress.commands += commands  # type: ignore[operator]
                progress.applied_offset = self._stored = offset  # type: ignore[assignment]
                self._in_flight = False
                self._close_transaction()

    def _when_caught_up(self) -> Outcome | None:
        """What waits for the end of the stream: expiries that were left out, and the end of a link that was to stop there."""
        progress = self.progress
        watch = self.watch
        applied = progress.applied_offset
        if applied is None or watch.sampled_at < self._entered_stream:
            return None
        bytes_behind, seconds = watch.lag(applied)
        if progress.caught_up:
            progress.caught_up = seconds is not None and seconds < 2.0
        elif bytes_behind == 0:
            progress.caught_up = True
            self.meter.log(
                Level.INFO, "link.caught_up", "the target has caught up with the source", offset=applied
            )
            self.meter.report()
        if not progress.caught_up:
            return None
        if self._boundary and (commands := self.deferred.poll(self._safe[0])):
            self._inject(commands)
        if (
            self.config.stop_when_caught_up
            and bytes_behind == 0
            and self.deferred.left == 0
            and not self._in_flight
        ):
            self._store_position()
            return Outcome.COMPLETED
        return None

    def _inject(self, commands: list[tuple[int, list[bytes]]]) -> None:
        """Commands of the engine's own, in one transaction with the stream at this point."""
        stream = self._stream
        assert stream is not None
        data = []
        for database, args in commands:
            if database != stream.target_database:
                data.append(encode(b"SELECT", database))
                stream.target_database = database
            data.append(encode(*args))
        self._put(b"".join(data), len(data), own=True)
        self._close_transaction()

    def _update_lag(self) -> None:
        progress, watch = self.progress, self.watch
        progress.source_offset = watch.offset
        progress.bytes_out = self._bytes_out_before + self.pipeline.connection.sent
        if progress.applied_offset is not None:
            progress.lag_bytes, progress.lag_seconds = watch.lag(progress.applied_offset)
        if self._step is _Step.SNAPSHOT and progress.keys_total:
            done = progress.keys_done + (progress.keys_skipped if self.config.databases is None else 0)
            progress.percent = min(99.9, 100.0 * done / progress.keys_total)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
