"""One attempt of a link: from connecting both sides until it is done, stopped, or a side is lost.

One thread, two non-blocking sockets. Data goes source → decoder → kernel → pipeline → target. While the target does not keep up, what the
source sends goes to the spool and from there, in order, to the decoder; when the spool is full the source is not read.
Acknowledgements and questions of the owner go on meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import time
from collections.abc import Sequence
from enum import Enum, auto

from migrations_app.engine import errors
from migrations_app.engine.abilities import Abilities
from migrations_app.engine.checkpoint import (
    CLUSTER,
    FULL,
    INCREMENTAL,
    checkpoint_key,
    client_name,
    heartbeat_key,
    scripts_key,
)
from migrations_app.engine.clock import Clock
from migrations_app.engine.cluster_deferred import ClusterDeferred
from migrations_app.engine.cluster_incremental import ClusterIncrementalPhase
from migrations_app.engine.config import LinkConfig, Method, Outcome, Phases
from migrations_app.engine.conflict import prepare
from migrations_app.engine.deferred import Deferred
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.filter import Filter
from migrations_app.engine.full import FullPhase
from migrations_app.engine.incremental import IncrementalPhase
from migrations_app.engine.keys import slot
from migrations_app.engine.loop import LINKS_KEY, Loop, meet, origin_key, streams_key
from migrations_app.engine.meter import Meter
from migrations_app.engine.ports import Level, Phase, Wanted
from migrations_app.engine.protocol import psync
from migrations_app.engine.rate import Throttle
from migrations_app.engine.scripts import Scripts
from migrations_app.engine.shards import clearing
from migrations_app.engine.shards.filter import ShardFilter
from migrations_app.engine.shards.layout import Scope
from migrations_app.engine.source.base import Source
from migrations_app.engine.source.cut import Seen, explain, overflows_of
from migrations_app.engine.source.file import FileSource, check_file
from migrations_app.engine.source.heartbeat import Heartbeat
from migrations_app.engine.source.psync import PsyncSource
from migrations_app.engine.source.sync import SyncSource
from migrations_app.engine.source.watch import SourceWatch
from migrations_app.engine.spool import BLOCK, Spool, default_folder
from migrations_app.engine.successor import SuccessorWatch
from migrations_app.engine.target.cluster import ClusterTarget
from migrations_app.engine.target.opening import open_target, pipeline_to
from migrations_app.engine.wiring import Wiring

_SNAPSHOT_BLOCK = 128 * 1024
_STREAM_BLOCK = 64 * 1024  # small, so that one batch does not hold up the target's other clients
# Sources send a snapshot in pieces of some KB, and a turn of the loop costs as much as 50 KB of it: they are let add up.
_ADD_UP = 0.001  # seconds
_UNSENT_LIMIT = 512 * 1024  # bytes queued for the target, beyond which the source is not read
_ACK_EVERY = 1.0
_ACK_UNTIL_STREAM = 0.1  # the source starts the stream at the first ACK after its child has ended
_WANTED_EVERY = 0.1
_PROGRESS_EVERY = 0.5
_POSITION_EVERY = 10.0
_SPOOL_AFTER = 0.5  # seconds of holding the source back, less those of not doing so, until the spool is used
_SETTLE_WITHIN = 5.0
_STOP_WITHIN = 5.0
_CLOCKS_APART_MS = 2000


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
        self._full: FullPhase | None = None
        self._incremental: IncrementalPhase | None = None
        self._stream_bytes = 0
        self._early = b""  # of the stream, arrived before the snapshot was confirmed
        self._stopping_since: float | None = None
        self._reading = False
        self._came = 0  # bytes from the source in this turn of the loop
        self._took = True  # more might be taken up for the target when the loop last looked
        self._held = 0.0  # seconds that the source was held back lately
        self._looked_at = time.monotonic()
        self._spooled = self._told_full = False  # so that the log says it once
        self._source_lost: errors.EngineError | None = None
        self.spool = Spool("", 0)  # until it is known whether the source needs one
        self._throttle = Throttle()
        self._heartbeat: Heartbeat | None = None
        self._seen_before = meter.source_seen  # by earlier attempts
        self._behind_since = 0.0  # monotonic; since when the source has had more than has come
        self._acknowledged_at = self._stopped_reading_at = 0.0  # monotonic
        self._unread = self._unanswered = 0.0  # seconds, the longest of this attempt
        self._bytes_out_before = meter.progress.bytes_out
        self._clock_wanted = self._clock_ack = self._clock_progress = 0.0
        self._clock_position = time.monotonic() + _POSITION_EVERY

    # --- beginning and end ----------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Until the link is done or stopped; raises `EngineError` for everything else."""
        config = self.config
        self.meter.phase(Phase.CONNECTING)
        if config.source.file:
            check_file(config.source)
        self.target = open_target(
            config.target, config.name, self._epoch, config.timeout, self.meter.target_memory
        )
        try:
            name = client_name(config.name, self.target.checkpoint.epoch)
            self.source = _open_source(config, name)
            try:
                return self._run(name)
            finally:
                self.source.close()
        finally:
            self.target.close()
            self.spool.close()

    @property
    def epoch(self) -> int | None:
        """The epoch under which the target was taken over, once it was."""
        return self.target.checkpoint.epoch if hasattr(self, "target") else self._epoch

    @property
    def connected(self) -> bool:
        """Whether both sides could be reached."""
        return hasattr(self, "source")

    @property
    def in_full_phase(self) -> bool:
        """Whether the attempt ended while the snapshot was coming."""
        return self._step is _Step.SNAPSHOT and self.progress.snapshot_bytes > 0

    def _run(self, name: str) -> Outcome:
        config = self.config
        self._check_pair()
        self._compare_clocks()
        if self.source.limits:
            self.meter.log(Level.WARNING, "source.limits", self.source.limits)
        self._keyspace = self.source.keyspace()
        self._replication = self.source.replication()
        loop = self._loop_safety()
        if self.source.pushes:
            self.spool = Spool(config.spool_folder or default_folder(), config.spool_limit)
        # The servers that were found, where the addresses are looked up: they all have to speak of the same one.
        source, target = self.source.endpoint, self.target.endpoint
        clock = Clock(self.source.facts.ahead)
        if self.source.follows and config.heartbeat_seconds and not self.meter.heartbeat_refused:
            self._begin_heartbeat(config.heartbeat_seconds)
        self.watch = (
            SourceWatch(source, name, config.timeout, clock, self._heartbeat) if self.source.follows else None
        )
        self.pipeline = pipeline_to(self.target, self.meter.log, config.retry_seconds)
        self.deferred = self._deferred(source, name)
        self._successors = (
            SuccessorWatch(source, self.source.facts.run_id, config.timeout),
            SuccessorWatch(target, self.target.facts.run_id, config.timeout),
        )
        self.wiring = Wiring(
            config,
            self.meter,
            self.target,
            self.pipeline,
            _filter(config, [self.target.key, scripts_key(config.name), origin_key(config.name)]),
            self.deferred,
            self.target.checkpoint,
            self._throttle,
            self.source.facts,
            clock,
            self._scripts(),
            loop,
        )
        try:
            if not self._ask(name):
                return Outcome.STOPPED
            outcome = self._loop()
            self._update()
            return outcome
        except errors.TargetDiverged as error:
            self._mark_fault(error)
            raise
        except errors.ShardAnew:
            # Not stored here: what is under way to the target still carries a checkpoint of its own.
            self.meter.anew = True
            raise
        except errors.TargetConflict as error:
            if self._full is None:
                raise  # nothing was written
            failure = errors.TargetConflict(
                f"{error.message} It was not there when the names of both sides were compared; {self.progress.keys_done} keys had been "
                "written until then",
                advice="Remove that key from the target, then start again with --allow-full-resync, which replaces what the link "
                "has written.",
            )
            self._mark_fault(failure)
            raise failure from None
        finally:
            self.meter.opposite = self.meter.opposite or bool(loop.opposite)
            for successor in self._successors:
                successor.close()
            self.deferred.close()
            if self.watch is not None:
                self.watch.close()

    def _deferred(self, source: Endpoint, name: str) -> Deferred:
        config, facts, target = self.config, self.source.facts, self.target
        deferred = (ClusterDeferred if target.facts.cluster else Deferred)(
            source,
            target.endpoint,
            config.name,
            name,
            min(5.0, config.timeout),
            source_version=facts.version,
            source_cluster=facts.cluster,
            able=Abilities.of(target.facts),
        )
        if isinstance(deferred, ClusterDeferred) and isinstance(target, ClusterTarget):
            deferred.look_in(target)
        return deferred

    def _loop_safety(self) -> Loop:
        """What there is to know of an opposite link."""
        name, source, target = self.config.name, self.source, self.target
        if not source.facts.run_id:
            return Loop(name)
        loop = meet(
            name,
            source.facts.run_id,
            source.endpoint,
            target,
            self.config.timeout,
            lambda text: self.meter.log(Level.WARNING, "link.loop_unknown", text),
            cluster=source.facts.cluster or target.facts.cluster,
            marks=self.meter.opposite,
        )
        self.meter.opposite = loop.marks
        return loop

    def _scripts(self) -> Scripts | None:
        """The scripts that the target keeps, if this source may name them by their digests."""
        if self.source.facts.version >= (7,):
            return None
        scripts = Scripts(scripts_key(self.config.name), self.target.knows_script)
        scripts.restore(self.target.stored_scripts())
        return scripts

    def _check_pair(self) -> None:
        if self.source.facts.run_id and self.source.facts.run_id == self.target.facts.run_id:
            raise errors.UsageError("source and target are the same server; nothing was written")
        if self.target.checkpoint.phase == CLUSTER:
            raise errors.UsageError(
                f"link {self.config.name} has copied a cluster to this target before, not a single server; nothing was changed",
                advice="Choose another name for the link.",
            )
        if self.target.checkpoint.fault and not self.config.allow_full_resync:
            raise errors.TargetDiverged(f"the last run ended with: {self.target.checkpoint.fault}")

    def _compare_clocks(self) -> None:
        source, target = self.source.facts.ahead, self.target.facts.ahead
        if source is not None and target is not None and abs(target - source) > _CLOCKS_APART_MS:
            self.meter.log(
                Level.WARNING,
                "clocks.differ",
                f"the target's clock is {abs(target - source) / 1000:.0f} s {'ahead of' if target > source else 'behind'} the source's, "
                f"and keys expire there that much {'earlier' if target > source else 'later'}: set the clocks right",
            )

    def _ask(self, name: str) -> bool:
        """Send PSYNC: for the rest where the checkpoint allows it, else for everything. False: the owner wants no more of it."""
        checkpoint = self.target.checkpoint
        if not checkpoint.phase and (self.config.followed or self.meter.followed):
            self._consent(
                "the target does not hold the position of this link any more: it was cleared, restarted without its data, "
                "or is another server",
                advice="Make sure that it is the right server and may be written from the beginning, then allow a full "
                "synchronization (--allow-full-resync).",
            )
        elif (
            checkpoint.phase == INCREMENTAL
            and self._follows
            and not self._resumable
            and not checkpoint.fault
            and not self.meter.anew
        ):
            self._consent(
                "the link cannot go on where it stood: it was, or is to be, read in a way that knows no position",
                advice="Allow a full synchronization (--allow-full-resync), or copy into an empty target under another name of the link.",
            )
        if self.config.shard is not None and checkpoint.phase and not self._resumable:
            self._clear_shard(self.config.shard)
        if self._resumable:
            self.source.start(checkpoint.replication_id, checkpoint.offset)
        elif not prepare(
            self.config,
            self.target,
            self.wiring.filter,
            self.meter,
            self.source.endpoint,
            name,
            self.wiring.loop.marker(),
        ):
            return False
        else:
            self.source.start("?", -1)
        self.meter.phase(Phase.WAITING)
        return True

    @property
    def _resumable(self) -> bool:
        return (
            self.source.resumes and self.target.checkpoint.resumable and self._follows and not self.meter.anew
        )

    @property
    def _follows(self) -> bool:
        return self.config.phases is Phases.FULL_INCREMENTAL

    def _mark_fault(self, error: errors.EngineError) -> None:
        """So that no later run goes on over data that is not right. Best effort: the error itself is reported anyway."""
        try:
            self.target.mark_fault(error.message)
        except errors.EngineError as failure:
            self.meter.log(
                Level.WARNING,
                "checkpoint.fault_not_stored",
                f"the fault could not be noted in the target: {failure}",
            )

    # --- the loop -------------------------------------------------------------------------------------------------

    def _loop(self) -> Outcome:
        source = self.source.connection
        poller = select.poll()
        self._acknowledged_at = self._stopped_reading_at = time.monotonic()
        while True:
            outcome = self._timers()
            if outcome is not None:
                return outcome
            taking = self._may_take()
            reading = self._may_read(taking)
            if reading and not self._reading:
                poller.register(source, select.POLLIN)
                # While nothing was read nothing could come: the silence of the source counts from here.
                source.last_received = time.monotonic()
                self._unread = max(self._unread, source.last_received - self._stopped_reading_at)
            elif self._reading and not reading:
                poller.unregister(
                    source
                )  # with no event asked for, a hang-up would still wake the loop, for ever
                self._stopped_reading_at = time.monotonic()
            self._reading = reading
            self.pipeline.register(poller)
            self._came = 0
            ready = source.buffered and reading
            at_once = ready or (taking and self.spool.size)
            events = dict(poller.poll(0 if at_once else self._idle_ms()))
            self._confirmed(self.pipeline.ready(events))
            if reading and (ready or events.get(source.fileno(), 0)):
                self._read_source(taking)
            if taking and self.spool.size:
                self._handle(self.source.decoder.feed(self.spool.take(self._block())))
            self._confirmed(self.pipeline.completed())
            if self._step is _Step.DRAIN and self.pipeline.idle and not self._drained():
                return Outcome.COMPLETED
            self.pipeline.write()
            if self._step is _Step.SNAPSHOT and self._came < _SNAPSHOT_BLOCK:
                time.sleep(_ADD_UP)
            if self._source_lost is not None and not self._worth_finishing():
                self._leave_position()
                raise self._source_lost

    def _leave_position(self) -> None:
        """The nearer to its end the source is asked to go on, the more likely it can. Best effort."""
        if self._incremental is not None and not self._replaceable:
            with contextlib.suppress(errors.EngineError):
                self._incremental.store_position()

    @property
    def _replaceable(self) -> bool:
        """Whether the source may be replaced by one of its replicas.

        What an old master sends after the promotion, if only PING and what sentinels publish, no other server has: a position behind it
        would need a full synchronization, without a change that was applied.
        """
        return self.source.endpoint.lookup is not None

    def _may_take(self) -> bool:
        """Whether more may be taken up for the target."""
        if self._step is _Step.DRAIN or self._ending or self.deferred.holding:
            return False
        if self.pipeline.unsent > _UNSENT_LIMIT or self._throttle.wait(time.monotonic()):
            return False
        return self._incremental is None or not self._incremental.full

    def _may_read(self, taking: bool) -> bool:
        """Whether the source may be read: for the target, or into the spool."""
        now = time.monotonic()
        passed, self._looked_at = now - self._looked_at, now
        self._held = max(0.0, self._held - passed) if self._took else self._held + passed
        self._took = taking
        if self._source_lost is not None or self._ending:
            return False
        if taking and not self.spool.size:
            return True
        # A target that takes a breath is no reason to write to a disk.
        if not self.spool.size and self._held < _SPOOL_AFTER:
            return False
        return not self.spool.full

    @property
    def _ending(self) -> bool:
        return self._stopping_since is not None and not self._settling()

    def _idle_ms(self) -> float:
        """How long to wait for the sockets at most."""
        usual = 5.0 if self.deferred.busy else 50.0
        wait = 1000 * self._throttle.wait(time.monotonic())
        return min(usual, wait) if wait else usual

    def _block(self) -> int:
        return self._throttle.block(_STREAM_BLOCK if self._step is _Step.STREAM else _SNAPSHOT_BLOCK)

    def _read_source(self, taking: bool) -> None:
        direct = taking and not self.spool.size
        try:
            data = self.source.connection.recv(self._block() if direct else BLOCK)
        except errors.ConnectError as error:
            self._lose_source(error)
            return
        if data is None:
            return
        self.progress.bytes_in += len(data)
        self._came = len(data)
        if direct:
            self._handle(self.source.decoder.feed(data))
            return
        if not self._spooled:
            self._spooled = True
            self.meter.log(
                Level.INFO,
                "spool.used",
                "the target does not keep up: what the source sends meanwhile is kept on disk",
                folder=self.spool.folder,
                limit=self.spool.limit,
            )
        self.spool.put(data)

    def _lose_source(self, error: errors.EngineError) -> None:
        """The source's connection has ended. What it had sent before is still worth having, see `_worth_finishing`."""
        if isinstance(error, errors.ConnectionLost):
            overflows = overflows_of(self._replication)
            seen = Seen(self._position, overflows, self._unread, self._unanswered)
            error = explain(self.source.endpoint, error, seen)
        self._source_lost = error
        if self._worth_finishing():
            self.meter.log(
                Level.WARNING,
                error.id,
                f"{error.message}; what it had sent before is written first",
                waiting=self.spool.size,
            )

    @property
    def _position(self) -> int | None:
        """The byte of the source's stream up to which it has been read; None while that is not known."""
        if self.watch is None or self.watch.base != 0:
            return None
        if self._incremental is not None:
            return self._incremental.received + self.spool.size
        if self._full is None or self._full.stream_from is None:
            return None
        return self._full.stream_from + self.spool.size  # which may hold some of the stream

    def _worth_finishing(self) -> bool:
        """Whether the lost source has left something that brings the link on: what follows then need not be asked for again.

        A snapshot without its end does not: the full phase starts again.
        """
        if not self.source.resumes and self.config.phases is not Phases.FULL:
            return False
        if self._step is _Step.DRAIN:
            return True
        if not self.spool.size:
            return self._incremental is not None and self._incremental.in_flight
        left = self.source.decoder.left
        return left is None or left <= self.spool.size

    def _handle(self, events: Sequence[psync.Event]) -> None:
        for event in events:
            if isinstance(event, psync.StreamBytes):
                self._stream_bytes += len(event.data)
                self._on_stream(event.data)
            elif isinstance(event, psync.SnapshotBytes):
                self._on_snapshot(event.data)
            elif isinstance(event, psync.SnapshotBegin):
                self.progress.snapshot_size = event.size
            elif isinstance(event, psync.SnapshotEnd):
                if self._full is not None and not self._full.complete:
                    raise errors.SnapshotError("the snapshot ends before its last byte")
                self._step = _Step.DRAIN
            elif isinstance(event, psync.FullResync):
                self._begin_full(event)
            else:
                self._begin_partial(event)

    def _begin_full(self, event: psync.FullResync) -> None:
        if self._resumable:
            self._consent(self._why_full())
            if self.config.shard is not None:
                # Its keys are searched for in the target, which may take long: before the source prepares a snapshot.
                raise errors.ShardAnew("this shard is copied anew, the others go on")
        self.meter.anew = False
        self._full = FullPhase(self.wiring, event, self._keyspace)
        self._step = _Step.SNAPSHOT

    def _clear_shard(self, shard: Scope) -> None:
        """What an earlier attempt has written of this shard goes from the target."""
        if shard.held:
            self.meter.log(
                Level.WARNING,
                "full.not_cleared",
                "the target held keys before the task began and is not cleared: keys that the source has deleted since the "
                "last attempt stay there (a comparison lists them)",
            )
            return
        own = checkpoint_key(self.config.name.partition("@")[0])
        if any(key != own and not key.startswith(own + b"@") for key in self.target.other_links()):
            raise errors.UsageError(
                "the full phase has to start again, but other links write to this target too, so it is not cleared",
                advice="Delete the keys of this link on the target and its checkpoint keys by hand, and start again.",
            )
        marker = self.wiring.loop.marker() if self.wiring.loop.marks else None
        self.target.run([self.target.checkpoint.in_phase(FULL).command(self.config.name)], marker=marker)
        wants = self.wiring.filter.wants_key
        count = clearing.clear(self.target, shard, wants, self.config.timeout, marker)
        self.meter.log(
            Level.INFO, "full.cleared", f"what the last attempt had written of {shard} is cleared", keys=count
        )

    def _consent(self, reason: str, *, advice: str | None = None) -> None:
        """Only a full synchronization helps: raise unless the task allows it."""
        if not self.config.allow_full_resync:
            raise errors.FullResyncNeeded(reason, advice=advice)
        self.meter.log(
            Level.WARNING, "link.full_resync", f"{reason}; the full phase starts again, as the task allows"
        )

    def _why_full(self) -> str:
        """Why the source cannot go on where the checkpoint is, and what would have been needed."""
        info, checkpoint = self._replication, self.wiring.checkpoint
        cannot = "the source cannot go on where the link stood"
        if checkpoint.replication_id not in {info.get("master_replid"), info.get("master_replid2")}:
            return (
                f"{cannot}: it was restarted or replaced, or has had no replica for so long that it gave up its history "
                "(repl-backlog-ttl); its replication ID is a new one"
            )
        end = int(info.get("master_repl_offset", 0))
        if checkpoint.replication_id != info.get("master_replid"):
            # From there on the history of the old master, which was promoted over, and that of this one are not the same.
            end = min(end, int(info.get("second_repl_offset", 0)) - 1)
        if checkpoint.offset > end:
            return f"{cannot}: its stream ends {checkpoint.offset - end} bytes before that point"
        size, missing = (
            int(info.get("repl_backlog_size", 0)),
            int(info.get("master_repl_offset", 0)) - checkpoint.offset,
        )
        reason = (
            f"the source no longer has the changes since byte {checkpoint.offset}: its backlog (repl-backlog-size) is "
            f"{size} bytes, at least {missing} would have been needed"
        )
        if self._seen_before is not None:
            seconds = time.monotonic() - self._seen_before[0]
            written = int(info.get("master_repl_offset", 0)) - self._seen_before[1]
            if written > 0:
                reason += (
                    f"; {written} bytes were written in the {seconds:.1f} s of the interruption, at this pace the backlog "
                    f"covers {size * seconds / written:.1f} s"
                )
        return reason

    def _on_snapshot(self, data: bytes) -> None:
        if self._full is None:
            raise errors.ProtocolError("the source sent a snapshot that it had not announced")
        rest = self._full.feed(data)
        if rest is not None:
            self._handle(self.source.decoder.end_snapshot(rest))

    def _drained(self) -> bool:
        """Every write of the snapshot is confirmed; whether a stream follows."""
        if self._full is None or not self._full.finish():
            return False
        self._begin_stream()
        early, self._early = self._early, b""
        if early:
            self._on_stream(early)
        return True

    def _begin_partial(self, event: psync.Continue) -> None:
        wiring = self.wiring
        if event.replication_id and event.replication_id != wiring.checkpoint.replication_id:
            # The source was promoted, or follows another master: the stream is the same, under a new name.
            wiring.checkpoint = wiring.checkpoint.under(event.replication_id)
            self.target.run([wiring.checkpoint.command(self.config.name)])
        if told := wiring.loop.reads(wiring.checkpoint.replication_id, anew=False):
            self.target.at_keys(told)
        self.progress.partial_syncs += 1
        self.progress.replication_id = wiring.checkpoint.replication_id
        self.meter.log(
            Level.INFO,
            "link.resumed",
            "goes on by partial synchronization",
            offset=wiring.checkpoint.offset,
        )
        self._begin_stream()

    def _begin_stream(self) -> None:
        if self.watch is None:
            raise errors.ProtocolError("a stream begins where none can follow")
        if self._full is not None and self._full.stream_from is None:
            self.watch.find_base(self._received)
        following = ClusterIncrementalPhase if self.target.facts.cluster else IncrementalPhase
        self._incremental = following(self.wiring, self.watch, self._heartbeat)
        self.meter.followed = True
        self._step = _Step.STREAM

    def _received(self) -> int | None:
        """Bytes of the stream of a source that names no offset; None while a command is incomplete."""
        if self.spool.size or self.progress.received_offset != self._stream_bytes:
            return None
        return self._stream_bytes

    def _on_stream(self, data: bytes) -> None:
        if self._incremental is None:
            self._early += data
        elif self._incremental.feed(data):
            self._clock_ack = 0.0

    def _confirmed(self, marks: Sequence[tuple[object, ...]]) -> None:
        for kind, *rest in marks:
            if kind == "keys" and self._full is not None:
                self._full.confirmed(*rest)  # type: ignore[arg-type]
            elif self._incremental is not None:
                self._incremental.confirmed(*rest)  # type: ignore[arg-type]

    # --- timers ---------------------------------------------------------------------------------------------------

    def _timers(self) -> Outcome | None:
        now = time.monotonic()
        stream = self._incremental
        if now >= self._clock_wanted:
            self._clock_wanted = now + _WANTED_EVERY
            self._throttle.set(self.meter.rate(), now)
            if self._stopping_since is None and self.meter.wanted() is Wanted.STOP:
                self._stopping_since = now
                self.meter.phase(Phase.STOPPING)
        if now >= self._clock_ack:
            self._clock_ack = now + (_ACK_EVERY if stream is not None and stream.begun else _ACK_UNTIL_STREAM)
            if self._source_lost is None and not (self.source.decoder.waiting and self._step is _Step.ASKED):
                self._acknowledge()
        if now >= self._clock_progress:
            self._clock_progress = now + _PROGRESS_EVERY
            self._update()
            self.meter.report()
        if now >= self._clock_position:
            self._clock_position = now + _POSITION_EVERY
            if stream is not None and self._stopping_since is None and not self._replaceable:
                stream.keep_position()
        self._check_time_outs(now)
        # Nothing follows that could renew an expiry: then also the near ones are set.
        self.deferred.final = self._stopping_since is not None or (
            self.config.stop_when_caught_up and (self.deferred.final or self.deferred.only_near)
        )
        caught_up = (
            stream is not None and (self._stopping_since is None or self._settling()) and stream.look()
        )
        if self._stopping_since is not None:
            return self._stop(now)
        if stream is not None and caught_up and self.config.stop_when_caught_up and self.meter.may_finish():
            stream.store_position()
            return Outcome.COMPLETED
        return None

    def _acknowledge(self) -> None:
        now = time.monotonic()
        self._unanswered = max(self._unanswered, now - self._acknowledged_at)
        self._acknowledged_at = now
        try:
            self.source.acknowledge(self.progress.applied_offset or 0)
        except errors.ConnectError as error:
            self._lose_source(error)

    def _check_time_outs(self, now: float) -> None:
        of_source, of_target = self._successors
        if of_target.found is not None:
            raise of_target.found
        if of_source.found is not None and self._source_lost is None:
            self._lose_source(of_source.found)
        limit = self.config.timeout
        waiting = self.pipeline.waiting_since
        if waiting is not None and now - waiting > limit:
            raise errors.ConnectionTimeout(
                f"{self.target.endpoint.address}: the target has not answered for {limit:g} s"
            )
        if self._reading and now - self._silent_since(now, limit) > limit:
            self._lose_source(
                errors.ConnectionTimeout(
                    f"{self.source.endpoint.address}: the source has been silent for {limit:g} s"
                )
            )

    def _silent_since(self, now: float, limit: float) -> float:
        """When the silence of the source began that tells of a lost connection.

        In the stream a source with nothing to say is silent too, up to its repl-ping-replica-period. As long as it answers on another
        connection and has no more than has come, that is no sign of anything.
        """
        last, stream, watch = self.source.connection.last_received, self._incremental, self.watch
        if stream is None or watch is None or watch.offset is None or now - watch.sampled_at > limit:
            return last
        if watch.offset <= stream.received + self.spool.size:
            self._behind_since = now
        return max(last, self._behind_since)

    def _stop(self, now: float) -> Outcome | None:
        """End at a safe point: what is under way is confirmed first, an open transaction is left undone."""
        if self._settling():
            return None
        stream = self._incremental
        if stream is not None:
            since = self._stopping_since or now
            if stream.in_flight and now - since < _SETTLE_WITHIN + _STOP_WITHIN:
                return None
            if not stream.in_flight:
                stream.store_position()
            if self.deferred.unsettled:
                self.meter.log(
                    Level.WARNING,
                    "link.expiries_left",
                    "stopped before the target had caught up: keys that were to expire soon have no expiry there yet, and keys that "
                    "expired there too early may be missing or wrong; a new start puts that right",
                    keys=self.deferred.left,
                )
        self.meter.log(
            Level.INFO,
            "link.stopped",
            "stopped; a new start goes on from here"
            if stream is None or self.source.resumes
            else "stopped; a new start begins with a full synchronization",
            offset=self.progress.applied_offset,
        )
        return Outcome.STOPPED

    def _settling(self) -> bool:
        """Whether a link that is to stop should first set the expiries that it has left out."""
        return (
            self._stopping_since is not None
            and self._step is _Step.STREAM
            and self.progress.caught_up
            and self.deferred.unsettled
            and time.monotonic() - self._stopping_since < _SETTLE_WITHIN
        )

    def _update(self) -> None:
        """The counters that nobody keeps as they change."""
        progress = self.progress
        self._show_spool()
        self._look_at_heartbeat()
        progress.bytes_out = self._bytes_out_before + self.pipeline.sent
        if self.watch is not None:
            progress.source_offset = self.watch.offset
            progress.backlog_bytes = self.watch.backlog
            progress.written_per_second = self.watch.written_per_second()
            if self.watch.offset is not None and self.watch.base == 0:
                self.meter.source_seen = (self.watch.sampled_at, self.watch.offset)
        if self.watch is not None and progress.applied_offset is not None:
            progress.lag_bytes, progress.lag_seconds = self.watch.lag(progress.applied_offset)
        if self._full is not None and self._step is _Step.SNAPSHOT:
            self._full.show_percent()

    def _begin_heartbeat(self, seconds: float) -> None:
        key, shard = heartbeat_key(self.config.name), self.config.shard
        if shard is not None:  # in a slot that this source serves
            key = next(
                one for one in (b"%s:{%d}" % (key, n) for n in itertools.count()) if shard.has(slot(one))
            )
        self._heartbeat = Heartbeat(key, seconds)
        if not self.meter.heartbeat_told:
            self.meter.heartbeat_told = True
            self.meter.log(
                Level.INFO,
                "heartbeat.on",
                f"the link writes the key {self._heartbeat.key.decode()} to database 0 of the source every {seconds:g} s, to measure "
                "the latency; it does not go to the target",
            )

    def _look_at_heartbeat(self) -> None:
        if self._heartbeat is None or self.meter.heartbeat_refused:
            return
        if (latency := self._heartbeat.latency()) is not None:
            self.progress.latency_ms = latency
        if not self._heartbeat.refused:
            return
        self.meter.heartbeat_refused = True
        self.progress.latency_ms = None
        self.meter.log(
            Level.WARNING,
            "heartbeat.refused",
            f"the source does not take the heartbeat, so the latency is not measured: {self._heartbeat.refused}",
        )

    def _show_spool(self) -> None:
        progress, spool = self.progress, self.spool
        progress.spool_bytes, progress.spool_limit = spool.size, spool.limit
        progress.spool_full = bool(spool.size) and spool.full
        if progress.spool_full and not self._told_full:
            self._told_full = True
            self.meter.log(
                Level.WARNING,
                "spool.full",
                f"the spool is full, the source is not read until there is room: {spool.why}",
                waiting=spool.size,
            )
        elif self._told_full and not spool.size:
            self._told_full = False
            self.meter.log(Level.INFO, "spool.empty", "the spool is empty again")


def _open_source(config: LinkConfig, name: str) -> Source:
    """Connect to the source, in the way in which it is to be read."""
    if config.source.file:
        return FileSource(config.source)
    if config.method is Method.SYNC:
        return SyncSource(config.source, name, config.timeout, config.shard)
    return PsyncSource(config.source, name, config.timeout, config.shard)


def _filter(config: LinkConfig, own_keys: list[bytes]) -> Filter:
    if config.shard is not None:
        return ShardFilter(
            config.shard, config.databases, own_keys, keys=config.keys, commands=config.commands
        )
    registered = [LINKS_KEY, streams_key(config.name)]
    return Filter(
        config.databases, own_keys, moved_keys=registered, keys=config.keys, commands=config.commands
    )
