"""One attempt of a link that reads its source by keys: all of them, then those that notifications name.

Each key is read whole and written whole, so that to do it once more changes nothing; that is all the position such a link needs.
A key is taken off the list of changed ones before it is read: whatever changes after that puts it there again. Writes go to the target
in the order of the reads. Where keys may have been deleted unseen (a scan again after an interruption, FLUSHALL), the target's keys
are looked up at the source at the end, in the databases that the link itself has filled.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Iterator, Sequence
from typing import Any

from migrations_app.engine import errors
from migrations_app.engine.checkpoint import CLUSTER, FULL, OWN_PREFIX, client_name, written_key
from migrations_app.engine.client import Client
from migrations_app.engine.clock import Clock
from migrations_app.engine.config import LinkConfig, Outcome, Phases
from migrations_app.engine.conflict import prepare
from migrations_app.engine.deferred import Deferred
from migrations_app.engine.filter import Filter
from migrations_app.engine.full import FullPhase
from migrations_app.engine.loop import Loop, meet_by_scan, part
from migrations_app.engine.meter import Meter
from migrations_app.engine.ports import Level, Phase, Wanted
from migrations_app.engine.protocol.dump import GONE, DumpReader, length
from migrations_app.engine.protocol.psync import FullResync
from migrations_app.engine.protocol.resp import Reply, ReplyError, encode_many
from migrations_app.engine.rate import Throttle
from migrations_app.engine.source.notify import NotificationSwitch, changed_key
from migrations_app.engine.source.scan import ScanSource, SilentChanges
from migrations_app.engine.successor import SuccessorWatch
from migrations_app.engine.target.cluster import ClusterTarget
from migrations_app.engine.target.opening import open_target, pipeline_to
from migrations_app.engine.wiring import Wiring

_PAGE = 256  # keys
_BLOCK = 256 * 1024
_UNSENT_LIMIT = 1024 * 1024
_WANTED_EVERY = 0.1
_PROGRESS_EVERY = 0.5
_SILENT_EVERY = 1.0
_AGAIN_SHARE = 2  # a scan again waits for so many times as long as the last one took
_QUIET_EVERY = 1.0  # they are all read again while something goes on there; but at most
_QUIET_SHARE = 20  # once in so many times as long as that takes
_PING_EVERY = 0.5
_STOP_WITHIN = 10.0
_CAUGHT_UP_SECONDS = 2.0
_CHANGED_MOST = 1_000_000  # keys that wait to be read again; with more, all are
_QUIET_MOST = 100_000  # streams and values of modules that are followed in what is not notified


class _Stopping(Exception):
    """The owner does not want the link any more."""


class ScanSession:
    """Like `session.Session`: give it a `Meter` that lives as long as the link, and call `run` once."""

    in_full_phase = False  # a scan that is cut short goes on with another one, however often

    def __init__(
        self, config: LinkConfig, meter: Meter, epoch: int | None, switch: NotificationSwitch
    ) -> None:
        self.config = config
        self.meter = meter
        self.progress = meter.progress
        self.connected = False
        self._epoch = epoch
        self._switch = switch
        self._following = config.phases is Phases.FULL_INCREMENTAL
        self._subscription: Client | None = None
        self._changed: dict[tuple[int, bytes], float] = {}  # (database, key) → when it was first named
        self._told: set[tuple[int, bytes]] = set()  # those of them that have changed for certain
        self._quiet: set[tuple[int, bytes]] = set()
        self._quiet_changed = False  # may have changed
        self._quiet_begun = 0.0  # when they were put on the list for it; 0: they have been read
        self._again = ""  # why all keys have to be read once more
        self._selected = 0  # database, at the source
        self._fed = -1  # database, of the snapshot that the kernel reads
        self._pinged_at: float | None = None
        self._ponged_at = 0.0  # when the newest answer came; 0: it has been used
        self._stopping = False
        self._throttle = Throttle()
        self._clock_wanted = self._clock_progress = self._clock_silent = 0.0
        self._clock_ping = self._clock_quiet = self._clock_again = 0.0
        self._bytes_before = (meter.progress.bytes_in, meter.progress.bytes_out)

    # --- beginning and end --------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int | None:
        """The epoch under which the target was taken over, once it was."""
        return self.target.checkpoint.epoch if hasattr(self, "target") else self._epoch

    def run(self) -> Outcome:
        """Until the link is done or stopped; raises `EngineError` for everything else."""
        config = self.config
        self.meter.phase(Phase.CONNECTING)
        self.target = open_target(
            config.target, config.name, self._epoch, config.timeout, self.meter.target_memory
        )
        with contextlib.ExitStack() as stack:
            stack.callback(self.target.close)
            name = client_name(config.name, self.target.checkpoint.epoch)
            self.source = ScanSource(config, name)
            stack.callback(self.source.close)
            self.connected = True
            self._check()
            self._look_for_opposite()
            chosen = Filter(config.databases, [self.target.key], keys=config.keys)
            if not prepare(config, self.target, chosen, self.meter, self.source.client.endpoint, name):
                return Outcome.STOPPED
            self._silent = SilentChanges(self.source.facts.version)
            if self._following:
                self._subscribe(stack, name)
            self._successors = [
                SuccessorWatch(self.source.client.endpoint, self.source.facts.run_id, config.timeout),
                SuccessorWatch(self.target.endpoint, self.target.facts.run_id, config.timeout),
            ]
            for successor in self._successors:
                stack.callback(successor.close)
            self.pipeline = pipeline_to(self.target, self.meter.log, config.retry_seconds)
            self.wiring = Wiring(
                config, self.meter, self.target, self.pipeline, chosen,
                Deferred(self.source.client.endpoint, self.target.endpoint, config.name, name, config.timeout),
                self.target.checkpoint, self._throttle, self.source.facts, Clock(self.source.facts.ahead), None,
                Loop(config.name),
            )  # fmt: skip
            stack.callback(self.wiring.deferred.close)
            self.meter.log(Level.WARNING, "source.limits", self.source.limits)
            try:
                outcome = self._work()
            except _Stopping:
                outcome = self._stop()
            self._depart()
            return outcome

    def _check(self) -> None:
        checkpoint = self.target.checkpoint
        if self.source.facts.run_id and self.source.facts.run_id == self.target.facts.run_id:
            raise errors.UsageError("source and target are the same server; nothing was written")
        if checkpoint.phase == CLUSTER:
            raise errors.UsageError(
                f"link {self.config.name} has copied a cluster to this target before, not a single server; nothing was changed",
                advice="Choose another name for the link.",
            )
        if not checkpoint.phase and (self.config.followed or self.meter.followed):
            self._consent(
                "the target does not hold the state of this link any more: it was cleared, restarted without its data, or is "
                "another server"
            )
        elif checkpoint.resumable and self._following:
            self._consent("the link has a position in the source's stream, which a key scan gives up")
        elif checkpoint.fault:
            self._consent(f"the last run ended with: {checkpoint.fault}")

    def _look_for_opposite(self) -> None:
        """Nothing that this link writes can be told from what others write: with one in the other direction it would go round."""
        meet_by_scan(
            self.config.name,
            self.source.facts.run_id,
            self.source.client.endpoint,
            self.target,
            self.config.timeout,
            lambda text: self.meter.log(Level.WARNING, "link.loop_unknown", text),
        )

    def _depart(self) -> None:
        """A link in the other direction may begin now: another run of this one reads all keys, and looks for it, before it writes."""
        with contextlib.suppress(errors.EngineError):
            self.target.at_keys(part(self.config.name), beside=True)

    def _consent(self, reason: str) -> None:
        if not self.config.allow_full_resync:
            raise errors.FullResyncNeeded(
                reason,
                advice="Make sure that it is the right server and may be written from the beginning, then allow a full "
                "synchronization (--allow-full-resync).",
            )
        self.meter.log(Level.WARNING, "link.full_resync", f"{reason}; all keys are read, as the task allows")

    def _subscribe(self, stack: contextlib.ExitStack, name: str) -> None:
        """Before the first key is read."""
        source = self.source
        pattern = self._switch.prepare(source.client, self.config.notifications, source.facts.version)
        stack.callback(self._restore_notifications)
        if self._switch.changed:
            self.meter.log(
                Level.WARNING,
                "source.notifications_enabled",
                "keyspace notifications of the source were switched on (notify-keyspace-events); they are set back when the link ends. "
                "If the link is killed they stay on",
            )
        # At the server that was found, where the address is looked up.
        self._subscription = Client(source.client.endpoint, timeout=self.config.timeout)
        stack.callback(self._subscription.close)
        self._subscription.pipeline([("CLIENT", "SETNAME", name)])
        try:
            self._subscription.execute("PSUBSCRIBE", pattern)
        except errors.PermissionDenied as error:
            raise errors.PermissionDenied(
                error.message,
                advice=f"Grant the user +psubscribe and the channels in just this form: &{pattern} (a wider pattern is not accepted), or "
                "copy once (--phases full).",
            ) from None

    def _restore_notifications(self) -> None:
        try:
            with Client(self.source.client.endpoint, timeout=min(5.0, self.config.timeout)) as client:
                self._switch.restore(client)
        except errors.EngineError as error:
            self.meter.log(
                Level.WARNING,
                "source.notifications_left",
                f"keyspace notifications of the source could not be set back yet: {error.message}",
            )

    def _stop(self) -> Outcome:
        """What is under way is confirmed first."""
        self._stopping = True
        self.meter.phase(Phase.STOPPING)
        until = time.monotonic() + _STOP_WITHIN
        while not self.pipeline.idle and time.monotonic() < until:
            self._turn()
        self._update()
        self.meter.log(Level.INFO, "link.stopped", "stopped; a new start reads all keys again")
        return Outcome.STOPPED

    # --- the work -----------------------------------------------------------------------------------------------------

    def _work(self) -> Outcome:
        again = bool(self.target.checkpoint.phase)
        self._ask([("PING",)])
        if self._following:
            self._look_for_silent()
        self._full = FullPhase(self.wiring, FullResync("", 0), self._keyspace())
        self._full.feed(self.source.header())
        self.meter.phase(Phase.FULL)
        self._copy()
        if again:
            self._sweep()
        self._drain()
        self._update()
        if not self._full.finish():
            return Outcome.COMPLETED
        self._full.selected(-1)
        self.meter.followed = True
        self.meter.phase(Phase.INCREMENTAL)
        return self._follow()

    def _keyspace(self) -> dict[int, tuple[int, int]]:
        return self.source.client.keyspace()

    def _copy(self, mark: str | None = None) -> None:
        """Every key of every chosen database; changed ones in between. `mark` as in `_read`."""
        for database in sorted(self._keyspace()):
            if not self.wiring.filter.wants(database):
                continue
            cursor: bytes | None = b""
            while cursor is not None:
                cursor = self._page(database, cursor, mark)
                if mark is None:
                    self._full.show_percent()
                self._read_changed()
        while self._changed and not self._following:
            self._read_changed()

    def _page(self, database: int, cursor: bytes, mark: str | None) -> bytes | None:
        """One page of SCAN; the next cursor, None at the end."""
        (reply,) = self._in(database, [("SCAN", cursor or b"0", "COUNT", _PAGE)])
        if not (isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list)):
            raise errors.ProtocolError(
                f"{self.config.source.address}: SCAN answered something else than a page of keys"
            )
        keys = [key for key in dict.fromkeys(reply[1]) if isinstance(key, bytes)]
        wanted = self._wanted(keys)
        if mark is None:
            self.progress.keys_skipped += len(keys) - len(wanted)
        self._read(database, wanted, mark)
        return None if reply[0] == b"0" else bytes(reply[0])  # type: ignore[arg-type]

    def _wanted(self, keys: Sequence[bytes]) -> list[bytes]:
        wants = self.wiring.filter.wants_key
        return [key for key in keys if not key.startswith(OWN_PREFIX) and (wants is None or wants(key))]

    def _read(self, database: int, keys: Sequence[bytes], mark: str | None) -> None:
        """Read keys and write them. With a `mark` they count as changes, and those that do not exist are deleted."""
        if not keys:
            return
        source = self.source
        sizes = self._in(database, [("MEMORY", "USAGE", key) for key in keys]) if source.sized else []
        for portion in source.portions(keys, sizes):
            self._select(database)
            if not portion:
                continue
            reader = DumpReader(self.wiring.clock.now_ms, self._refusal, absolute=source.absolute)
            reader.begin(portion)
            self._send(source.questions(portion))
            while not reader.done:
                if not self._turn(reading=True):
                    continue
                data = source.client.connection.recv(self._throttle.block(_BLOCK))
                if data is not None:
                    self._feed(database, reader.feed(data), mark)
            if mark:
                self._full.delete(database, list(reader.gone), (mark, len(portion)))
            now = time.monotonic()
            for key in reader.unsure:
                self._changed.setdefault((database, key), now)
            if self._following and len(self._quiet) < _QUIET_MOST:
                self._quiet.update((database, key) for key in reader.quiet)

    def _feed(self, database: int, entries: bytes, mark: str | None) -> None:
        if not entries:
            return
        if database != self._fed:
            entries = b"\xfe" + length(database) + entries
            self._fed = database
        self._full.feed(entries, (mark, 0) if mark else None)

    def _refusal(self, reply: ReplyError, key: bytes) -> errors.EngineError:
        return self.source.client.error(reply, f"reading key {key[:128]!r}")

    def _read_changed(self) -> None:
        """Some of the keys that have changed, oldest first."""
        if not self._changed:
            return
        some = [name for name, _ in zip(self._changed, range(_PAGE), strict=False)]
        by_database: dict[int, list[bytes]] = {}
        told: dict[int, list[bytes]] = {}
        for name in some:
            database, key = name
            del self._changed[name]
            by_database.setdefault(database, []).append(key)
            if name in self._told:
                self._told.discard(name)
                told.setdefault(database, []).append(key)
        for database, keys in by_database.items():
            self._full.claim(database, told.get(database, []), ("changes", 0))
            self._read(database, keys, "changes")

    def _sweep(self) -> None:
        """Remove what the source has no more, where all that the target holds has come from there."""
        wiring, target = self.wiring, self.target
        held = [number for number in sorted(wiring.checkpoint.held) if wiring.filter.wants(number)]
        # The masters of a cluster, each with its part of the keys.
        places = (
            [target.endpoint_at(address) for address in target.map.masters]
            if isinstance(target, ClusterTarget)
            else [target.endpoint]
        )
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(Client(place, timeout=self.config.timeout, name=self.source.name))
                for place in places
            ]
            others = any(self._others(client) for client in clients)
            if (held and not self._full.keeps) or others:
                self.meter.log(
                    Level.WARNING,
                    "scan.not_swept",
                    "keys that the source has deleted unseen stay in the target"
                    + (
                        ", to which other links write too"
                        if others
                        else " in databases that held keys before the task began"
                    )
                    + " (a comparison lists them)",
                    databases=None if others else held,
                )
            for client in clients if not others else []:
                for database in sorted(client.keyspace()):
                    if not wiring.filter.wants(database):
                        continue
                    client.execute("SELECT", database)
                    if database not in held:
                        self._sweep_database(database, client.scan(count=_PAGE))
                    elif self._full.keeps:
                        self._sweep_database(database, self._written(client))

    def _written(self, client: Client) -> Iterator[list[bytes]]:
        """What is noted as the link's own among keys of others."""
        name = written_key(self.config.name)
        for page in client.scan(name + b"*"):
            for noted in page:
                cursor = b"0" if noted == name or noted.startswith(name + b":{") else b""
                while cursor:
                    reply = client.execute("SSCAN", noted, cursor, "COUNT", _PAGE)
                    if not isinstance(reply, list) or not isinstance(reply[1], list):
                        raise errors.ProtocolError(f"{client.endpoint.address}: SSCAN gave no page")
                    yield [key for key in reply[1] if isinstance(key, bytes)]
                    cursor = bytes(reply[0]) if reply[0] != b"0" else b""  # type: ignore[arg-type]

    def _sweep_database(self, database: int, pages: Iterator[list[bytes]]) -> None:
        for page in pages:
            keys = self._wanted(page)
            replies = self._in(database, [("PTTL", key) for key in keys])
            for key, reply in zip(keys, replies, strict=True):
                if isinstance(reply, ReplyError):
                    raise self._refusal(reply, key)
            gone = [key for key, reply in zip(keys, replies, strict=True) if reply == GONE]
            if gone:
                self._full.delete(database, gone, ("changes", len(gone)))

    def _others(self, client: Client) -> list[bytes]:
        """Checkpoints of other links in the target."""
        pattern = OWN_PREFIX + b"checkpoint:*"
        return [key for page in client.scan(pattern) for key in page if key != self.target.key]

    def _drain(self) -> None:
        while not self.pipeline.idle:
            self._turn()

    # --- following ----------------------------------------------------------------------------------------------------

    def _follow(self) -> Outcome:
        progress = self.progress
        while True:
            if self._quiet_begun and not self._changed:
                now = time.monotonic()
                pause = max(_QUIET_EVERY, _QUIET_SHARE * (now - self._quiet_begun))
                self._quiet_begun, self._clock_quiet = 0.0, now + pause
            if self._again and time.monotonic() >= self._clock_again:
                self._scan_again()
            elif self._changed:
                self._read_changed()
                if time.monotonic() >= self._clock_silent:
                    self._look_for_silent()
            elif (
                self.pipeline.idle
                and not self._again
                and self._all_told()
                and not self._look_for_silent()
                and not self._changed
            ):
                if not progress.caught_up:
                    progress.caught_up = True
                    self.meter.log(Level.INFO, "link.caught_up", "the target has caught up with the source")
                    self._update()
                    self.meter.report()
                if self.config.stop_when_caught_up:
                    return Outcome.COMPLETED
            self._turn()

    def _scan_again(self) -> None:
        reason, self._again = self._again, ""
        begun = time.monotonic()
        self.progress.caught_up = False
        self.meter.log(Level.WARNING, "scan.again", f"{reason}: all keys are read again")
        self._copy("changes")
        self._sweep()
        now = time.monotonic()
        self._clock_again = now + _AGAIN_SHARE * (now - begun)

    def _all_told(self) -> bool:
        """Whether every notification of what happened up to a moment ago has come: a ping behind them has been answered."""
        now = time.monotonic()
        answered, self._ponged_at = self._ponged_at, 0.0
        if answered and now - answered < _PING_EVERY:
            # What was told before that answer has been read and written: the list is empty.
            self._clock_ping = now + _PING_EVERY
            return True
        if self._pinged_at is None and now >= self._clock_ping and self._subscription is not None:
            self._pinged_at = now
            self._subscription.send(encode_many([("PING",)]))
        return False

    def _look_for_silent(self) -> bool:
        """Whether something has changed of which no notification tells; it is put on the list."""
        reply, *flags = self._ask([("INFO", "commandstats"), *self._switch.question()])
        for flag in flags:
            self._switch.check(flag, self.config.source.address)
        if not isinstance(reply, bytes):
            raise errors.ProtocolError(f"{self.config.source.address}: INFO answered {reply!r}")
        now = time.monotonic()
        self._clock_silent = now + _SILENT_EVERY
        everything, quiet = self._silent.look(reply)
        if everything:
            names = ", ".join(name.upper().replace("|", " ") for name in everything)
            self._again = f"the source has run {names}, of whose changes it tells nothing"
        self._quiet_changed = self._quiet_changed or quiet
        if not self._quiet_changed or (now < self._clock_quiet and not self.config.stop_when_caught_up):
            return bool(everything)
        self._quiet_changed, self._clock_quiet, self._quiet_begun = False, float("inf"), now
        for name in self._quiet:
            self._changed.setdefault(name, now)
        return True

    def _take_notifications(self) -> None:
        subscription, now = self._subscription, time.monotonic()
        if subscription is None:
            return
        try:
            messages = subscription.available()
        except errors.ConnectionLost as error:
            raise errors.ConnectionLost(
                f"the notifications of the source were cut off, so changes may have been missed: {error.message}",
                advice="The link reads all keys again. If it happens often, raise client-output-buffer-limit pubsub of the source.",
            ) from None
        wiring = self.wiring
        for message in messages:
            found = changed_key(message)
            if found is not None:
                if wiring.filter.wants(found[0]) and self._wanted([found[1]]):
                    self._changed.setdefault(found, now)
                    self._told.add(found)
            elif self._pinged_at is not None and (message == [b"pong", b""] or message == b"PONG"):
                self._ponged_at, self._pinged_at = now, None
        if len(self._changed) > _CHANGED_MOST:
            self._changed.clear()
            self._told.clear()
            self._again = f"more than {_CHANGED_MOST} keys have changed and wait to be read"

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _select(self, database: int) -> None:
        if database != self._selected:
            (reply,) = self._ask([("SELECT", database)])
            if isinstance(reply, ReplyError):
                raise self.source.client.error(reply, "SELECT")
            self._selected = database

    def _in(self, database: int, commands: Sequence[Sequence[bytes | str | int]]) -> list[Reply]:
        self._select(database)
        return self._ask(commands)

    def _ask(self, commands: Sequence[Sequence[bytes | str | int]]) -> list[Reply]:
        """Questions to the source, and its answers; the rest of the link goes on meanwhile."""
        client = self.source.client
        self._send(commands)
        replies: list[Reply] = []
        while len(replies) < len(commands):
            if self._turn(reading=True, throttled=False):
                replies += client.available()
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, ReplyError) and reply.code == "NOPERM":
                raise client.error(reply, str(command[0]))
        return replies

    def _send(self, commands: Sequence[Sequence[bytes | str | int]]) -> None:
        client = self.source.client
        client.send(encode_many(commands))
        client.connection.last_received = time.monotonic()  # its silence counts from here

    def _turn(self, *, reading: bool = False, throttled: bool = True) -> bool:
        """Wait for something to happen and see to it; whether the source has something to read, where `reading` asks for it."""
        self._timers()
        source = self.source.client.connection
        poller = select.poll()
        now = time.monotonic()
        pause = self._throttle.wait(now) if throttled else 0.0
        if reading and throttled and (pause or self.pipeline.unsent > _UNSENT_LIMIT):
            reading = False
            source.last_received = now
        if reading:
            poller.register(source, select.POLLIN)
        told = self._subscription.connection if self._subscription is not None else None
        if told is not None:
            poller.register(told, select.POLLIN)
        self.pipeline.register(poller)
        waiting = not ((reading and source.buffered) or (told is not None and told.buffered))
        events = dict(poller.poll(min(50.0, 1000 * pause or 50.0) if waiting else 0))
        self._confirmed(self.pipeline.ready(events))
        if told is not None and (told.buffered or events.get(told.fileno(), 0)):
            self._take_notifications()
        self._confirmed(self.pipeline.completed())
        self.pipeline.write()
        self._check_time_outs(reading)
        return reading and bool(source.buffered or events.get(source.fileno(), 0))

    def _confirmed(self, marks: Sequence[tuple[Any, ...]]) -> None:
        for kind, *rest in marks:
            if kind == "keys":
                self._full.confirmed(*rest)
            elif kind == "changes":
                self.progress.commands += rest[0]

    def _timers(self) -> None:
        now = time.monotonic()
        if now >= self._clock_wanted and not self._stopping:
            self._clock_wanted = now + _WANTED_EVERY
            self._throttle.set(self.meter.rate(), now)
            if self.meter.wanted() is Wanted.STOP:
                raise _Stopping
        if now >= self._clock_progress:
            self._clock_progress = now + _PROGRESS_EVERY
            self._update()
            self.meter.report()

    def _check_time_outs(self, reading: bool) -> None:
        limit, now = self.config.timeout, time.monotonic()
        for successor in self._successors:
            if successor.found is not None:
                raise successor.found
        waiting = self.pipeline.waiting_since
        if waiting is not None and now - waiting > limit:
            raise errors.ConnectionTimeout(
                f"{self.config.target.address}: the target has not answered for {limit:g} s"
            )
        silent = reading and now - self.source.client.connection.last_received > limit
        if silent or (self._pinged_at is not None and now - self._pinged_at > limit):
            raise errors.ConnectionTimeout(
                f"{self.config.source.address}: the source has been silent for {limit:g} s"
            )

    def _update(self) -> None:
        """The counters that nobody keeps as they change."""
        progress = self.progress
        received = self.source.client.connection.received
        if self._subscription is not None:
            received += self._subscription.connection.received
        progress.bytes_in = self._bytes_before[0] + received
        progress.bytes_out = self._bytes_before[1] + self.pipeline.sent
        if self.wiring.checkpoint.phase == FULL or not self._following:
            return
        oldest = next(iter(self._changed.values()), None)
        progress.lag_seconds = (
            time.monotonic() - oldest if oldest is not None else 0.0 if progress.caught_up else None
        )
        if progress.caught_up and (progress.lag_seconds or 0.0) > _CAUGHT_UP_SECONDS:
            progress.caught_up = False
