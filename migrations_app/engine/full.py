"""The full phase: a snapshot of the source goes to the target."""

from __future__ import annotations

import time
from typing import Any

from migrations_app.engine import errors, expiry
from migrations_app.engine.abilities import Abilities
from migrations_app.engine.checkpoint import FULL, INCREMENTAL, Checkpoint
from migrations_app.engine.clock import Clock
from migrations_app.engine.config import Conflict, Method, Phases
from migrations_app.engine.conflict import NOTED, check_repeat
from migrations_app.engine.kernel import SnapshotKernel, SnapshotPlan
from migrations_app.engine.loop import origin_key, part
from migrations_app.engine.policy import Policy
from migrations_app.engine.ports import Level, Phase
from migrations_app.engine.protocol.psync import FullResync
from migrations_app.engine.protocol.resp import encode_many
from migrations_app.engine.rdb.base import Rewriter
from migrations_app.engine.rdb.rewrite import rewriter_for
from migrations_app.engine.target.cluster import ClusterTarget
from migrations_app.engine.target.cluster_pipeline import ClusterPipeline
from migrations_app.engine.target.pipeline import Group, in_databases
from migrations_app.engine.wiring import Wiring

_LARGE = 64 * 1024  # bytes; to make one piece of larger ones would cost more than it saves


def _pieces(data: list[bytes | bytearray]) -> list[bytes]:
    """The same bytes, small pieces together; at least one piece."""
    pieces: list[bytes] = []
    small: list[bytes | bytearray] = []
    for piece in data:
        if len(piece) < _LARGE:
            small.append(piece)
            continue
        if small:
            pieces.append(b"".join(small))
            small = []
        pieces.append(bytes(piece))
    return [*pieces, b"".join(small)] if small or not pieces else pieces


class _Plan(SnapshotPlan):
    """For targets that take relative expiries only: what is left, by the source's clock."""

    __slots__ = ("_clock",)

    def __init__(self, clock: Clock, **options: Any) -> None:
        super().__init__(**options)
        self._clock = clock

    def now_ms(self) -> int:
        return self._clock.now_ms()


class FullPhase:
    """Prepares the target when it is made; then `feed` the snapshot, and `finish` once every write is confirmed.

    `keyspace` is what the source holds: database → (keys, keys with an expiry); None where that is not known. `stream_from` is the
    offset of the source at which the stream begins; None where neither the source nor its snapshot (before 4.0) tells it.
    """

    def __init__(
        self, wiring: Wiring, event: FullResync, keyspace: dict[int, tuple[int, int]] | None
    ) -> None:
        self._wiring = wiring
        self._unwanted = 0  # keys of chosen databases that the key filter leaves out
        config, target, progress = wiring.config, wiring.target, wiring.meter.progress
        before = wiring.checkpoint
        again = bool(before.phase)
        self.stream_from = event.offset if event.replication_id else None
        progress.replication_id = event.replication_id
        progress.received_offset = progress.applied_offset = None
        progress.full_syncs += 1
        progress.keys_done, progress.snapshot_bytes, progress.databases = 0, 0, {}
        progress.keys_skipped, progress.keys_kept, progress.percent = 0, 0, None  # of an earlier attempt, too
        chosen = {
            number: keys for number, (keys, _) in (keyspace or {}).items() if wiring.filter.wants(number)
        }
        progress.keys_total = sum(chosen.values()) if keyspace is not None else None
        target.has_databases(frozenset(chosen))
        scan = config.method is Method.SCAN  # writes over what is there, and removes what is gone afterwards
        if config.shard is not None:
            held, clear = config.shard.held, list[int]()  # cleared before, by its slots
        else:
            held = before.held if again else target.occupied()
            clear = self._to_clear(held) if again and not scan else []
        foreign = frozenset(number for number in held if wiring.filter.wants(number))
        check_repeat(config, before, foreign)
        keeps_scanning = scan and config.conflict is Conflict.KEEP
        wiring.checkpoint = Checkpoint(
            epoch=before.epoch,
            phase=FULL,
            replication_id=event.replication_id,
            offset=event.offset,
            held=held,
            conflict=NOTED if keeps_scanning else config.conflict.value,
        )
        if told := wiring.loop.reads(event.replication_id, anew=True):
            target.at_keys(told)
        marker = wiring.loop.marker() if wiring.loop.marks else None
        # Of a cluster, the pipeline makes a transaction of each command.
        self._marker = None if target.facts.cluster else marker
        if isinstance(wiring.pipeline, ClusterPipeline):
            wiring.pipeline.mark(marker)
        self._marked: Group | None = None  # the transaction that is open, where the phase is marked
        target.start_over(
            clear, wiring.checkpoint.command(config.name), marker, forget_written=not keeps_scanning
        )
        self._policy = policy = Policy(config, target, again=again, foreign=foreign)
        policy.route(wiring.pipeline)
        incremental = config.phases is Phases.FULL_INCREMENTAL
        if wiring.scripts is not None:
            wiring.scripts.forget()
        able = Abilities.of(target.facts)
        stamp = target.stamp()

        def rewriter(kind: int, key: bytes) -> Rewriter | None:
            made = rewriter_for(kind, key, target=able, stamp=stamp)
            if made is None:
                policy.abandoned()
            return made

        plan = _Plan(
            wiring.clock,
            stamp=stamp,
            target_version=able.redis,
            databases=config.databases,
            wants_key=self._wants_key if wiring.filter.wants_key is not None else None,
            # Without a stream behind it there is no renewal to wait for.
            defer_before=wiring.clock.now_ms() + expiry.GUARD_FULL_MS if incremental and not scan else 0,
            rewriter=rewriter,
            replace=policy.plain,
            verb=policy.verb,
            stage=None if policy.plain else policy.stage,
            commit=None if policy.plain else policy.commit,
            on_aux=self._fact,
            # Without a module there is nothing to load its values; with one, the server's answer tells.
            rewrite_kinds=able.unloadable | (frozenset() if target.has_modules() else {7}),
            mset=not target.facts.cluster,
        )
        self._kernel: SnapshotKernel | None = SnapshotKernel(plan)
        wiring.meter.log(
            Level.INFO,
            "full.started",
            "full synchronization: the snapshot is awaited",
            replication_id=event.replication_id,
            offset=event.offset,
            keys=progress.keys_total,
            repeated=again,
        )

    @property
    def complete(self) -> bool:
        """Whether the end of the snapshot has been read."""
        return self._kernel is None

    def feed(self, data: bytes, mark: tuple[object, ...] | None = None) -> bytes | None:
        """Take a block of the snapshot. At its end: what the block holds beyond it; else None.

        `mark` stands for what the block writes once that is confirmed, instead of the keys of each database.
        """
        kernel = self._kernel
        if kernel is None:
            raise errors.SnapshotError(f"the snapshot goes on for {len(data)} bytes behind its end")
        wiring, progress, pipeline = self._wiring, self._wiring.meter.progress, self._wiring.pipeline
        if not progress.snapshot_bytes:
            wiring.meter.phase(Phase.FULL)
            if mark is None and (widening := wiring.target.widening()):
                group = pipeline.open(("keys", {}))
                pipeline.add(group, encode_many([widening]), 1)
                pipeline.close(group)
        progress.snapshot_bytes += len(data)
        if self._marker is not None and self._marked is None:
            kernel.selected(0)
        batch = kernel.feed(data)
        wiring.throttle.took(sum(batch.keys.values()), len(data), time.monotonic())
        group = pipeline.open(mark) if mark else self._begin(batch.keys)
        *first, last = _pieces(batch.data)
        for piece in first:
            pipeline.add(group, piece, 0)
        pipeline.add(group, last, batch.commands)
        for database, key, _ in batch.deferred:
            wiring.deferred.note(database, key)
        if wiring.deferred.unwritten and not kernel.mid_command and self._policy.may_note:
            notes, count, selected = in_databases(self._policy.notes(wiring.deferred.notes()), -1)
            pipeline.add(group, notes, count)
            kernel.selected(selected)
        self._end(group, open_command=kernel.mid_command)
        for note in batch.notes:
            wiring.meter.log(Level.WARNING, "full.not_carried", note)
        progress.keys_skipped += batch.skipped
        if not batch.done:
            return None
        self._kernel = None
        return batch.rest

    def _begin(self, keys: dict[int, int]) -> Group:
        """The group for a block: where the phase is marked, a transaction, which takes up the next block if a command goes on in it."""
        pipeline = self._wiring.pipeline
        if self._marker is None:
            return pipeline.open(("keys", keys))
        group = self._marked
        if group is None:
            group = self._marked = pipeline.open(("keys", {}), transaction=True)
            pipeline.add(group, encode_many([(b"MULTI",), (b"SELECT", b"0"), self._marker]), 3)
        for database, count in keys.items():
            group.mark[1][database] = group.mark[1].get(database, 0) + count
        return group

    def _end(self, group: Group, *, open_command: bool) -> None:
        if self._marked is not None:
            if open_command:
                return
            self._wiring.pipeline.add(group, encode_many([(b"EXEC",)]), 1)
            self._marked = None
        self._wiring.pipeline.close(group)

    def _fact(self, name: bytes, value: bytes) -> list[list[bytes]]:
        """What the snapshot says of its server."""
        if name == b"repl-offset" and self.stream_from is None and value.isdigit():
            self.stream_from = int(value)
        return self._wiring.scripts.fact(name, value) if self._wiring.scripts is not None else []

    @property
    def keeps(self) -> bool:
        """Whether keys of others are left as they are."""
        return self._policy.keeps

    def delete(self, database: int, keys: list[bytes], mark: tuple[object, ...]) -> None:
        """Keys that are gone at the source, behind all that was fed."""
        deleted = [(database, [b"DEL", key]) for key in keys]
        self._command([*deleted, *self._policy.disclaim(database, keys)], mark)

    def claim(self, database: int, keys: list[bytes], mark: tuple[object, ...]) -> None:
        """Keys that have changed at the source are the link's, also where the policy is to keep those of others."""
        if commands := self._policy.claim(database, keys):
            self._command(commands, mark)

    def _command(self, commands: list[tuple[int, list[bytes]]], mark: tuple[object, ...]) -> None:
        pipeline = self._wiring.pipeline
        group = pipeline.open(mark)
        data, count, selected = in_databases(commands, -1)
        pipeline.add(group, data, count)
        pipeline.close(group)
        if self._kernel is not None:
            self._kernel.selected(selected)

    def selected(self, database: int) -> None:
        """Somebody else has selected a database on the target's connection (-1: whichever)."""
        if self._kernel is not None:
            self._kernel.selected(database)

    def confirmed(self, keys: dict[int, int]) -> None:
        """So many keys of each database are written."""
        progress = self._wiring.meter.progress
        for database, count in keys.items():
            progress.keys_done += count
            progress.databases[database] = progress.databases.get(database, 0) + count

    def _wants_key(self, key: bytes) -> bool:
        wants = self._wiring.filter.wants_key
        wanted = wants is None or wants(key)
        self._unwanted += not wanted
        return wanted

    def show_percent(self) -> None:
        progress = self._wiring.meter.progress
        if progress.keys_total:
            skipped = progress.keys_skipped if self._wiring.config.databases is None else self._unwanted
            progress.percent = min(99.9, 100.0 * (progress.keys_done + skipped) / progress.keys_total)
        elif progress.keys_total is None and progress.snapshot_size:
            progress.percent = min(99.9, 100.0 * progress.snapshot_bytes / progress.snapshot_size)

    def finish(self) -> bool:
        """Every write is confirmed: store that. True if a stream follows, False if the link is done."""
        wiring, progress = self._wiring, self._wiring.meter.progress
        progress.percent = 100.0
        if self._policy.keeps:
            self._count_kept()
        wiring.meter.log(
            Level.INFO,
            "full.done",
            "full synchronization done",
            keys=progress.keys_done,
            bytes=progress.snapshot_bytes,
            skipped=progress.keys_skipped,
        )
        if behind := wiring.target.secure():
            wiring.meter.log(
                Level.WARNING,
                "cluster.replicas_behind",
                "replicas of the target cluster do not confirm what is written: a failover now would lose it",
                masters=behind,
            )
        if wiring.config.phases is Phases.FULL:
            done = part(wiring.config.name) if wiring.loop.run_id else []
            if isinstance(wiring.target, ClusterTarget):
                self._policy.settle(wiring.target, [[b"DEL", wiring.target.key]])
                wiring.target.at_keys(done)
                if wiring.loop.marks:
                    wiring.target.forget(origin_key(wiring.config.name))
            else:
                self._policy.settle(wiring.target, [[b"DEL", wiring.target.key], *done])
            return False
        wiring.checkpoint = wiring.checkpoint.in_phase(INCREMENTAL).at(self.stream_from or 0, 0)
        self._policy.settle(wiring.target, [wiring.checkpoint.command(wiring.config.name)])
        return True

    def _count_kept(self) -> None:
        wiring, progress = self._wiring, self._wiring.meter.progress
        for database, count in self._policy.kept().items():
            progress.keys_kept += count
            progress.keys_done -= count
            progress.databases[database] = progress.databases.get(database, 0) - count
        wiring.meter.log(
            Level.INFO if not progress.keys_kept else Level.WARNING,
            "full.kept",
            "keys that were in the target before were left as they are; changes of the source apply to them from now on",
            keys=progress.keys_kept,
        )

    def _to_clear(self, held: frozenset[int]) -> list[int]:
        """The databases that an earlier attempt of this link has filled: the source may have deleted keys since.

        Databases that held keys of others before the first attempt are not cleared.
        """
        wiring, target, wants = self._wiring, self._wiring.target, self._wiring.filter.wants
        kept = [number for number in sorted(held) if wants(number)]
        if kept and wiring.config.conflict is not Conflict.KEEP:
            wiring.meter.log(
                Level.WARNING,
                "full.not_cleared",
                "these databases held keys before the task began and are not cleared: keys that the source has deleted "
                "since the last attempt stay there (a comparison lists them)",
                databases=kept,
            )
        clear = [number for number in sorted(target.occupied() - held) if wants(number)]
        if not clear:
            return []
        if target.other_links():
            raise errors.UsageError(
                "the full phase has to start again, but other links write to this target too, so it is not cleared",
                advice="Clear the databases of this link on the target by hand, delete its checkpoint key, and start again.",
            )
        wiring.meter.log(
            Level.INFO, "full.cleared", "what the last attempt had written is cleared", databases=clear
        )
        return clear
