"""A cluster as the source: one link for each of its masters, in threads of this process, which start, end and fail together.

Each shard has a checkpoint of its own, named by its first slot, so that a replica which takes over goes on under the same name. The
checkpoint of the link as a whole holds how the slots were divided when everything began: an order between the streams of two masters
cannot be had, so keys that go from one to the other while links run, or between two runs, are not carried: that stops the link.
"""

from __future__ import annotations

import contextlib
import copy
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Protocol

from migrations_app.engine import errors
from migrations_app.engine.checkpoint import CLUSTER, FULL, Checkpoint, shard_name
from migrations_app.engine.client import Client
from migrations_app.engine.config import (
    SPOOL_LEAST,
    Conflict,
    LinkConfig,
    LinkResult,
    Method,
    Outcome,
    Phases,
)
from migrations_app.engine.conflict import Stopped, look
from migrations_app.engine.endpoint import Address, Endpoint, SlotOwner
from migrations_app.engine.filter import Filter
from migrations_app.engine.lookup import ask_seconds
from migrations_app.engine.loop import LINKS_KEY, names_of, origin_key
from migrations_app.engine.meter import Meter
from migrations_app.engine.ports import Level, Phase, Ports, Progress, Wanted
from migrations_app.engine.rate import Rate
from migrations_app.engine.shards import layout
from migrations_app.engine.shards.layout import Scope
from migrations_app.engine.shards.progress import combined
from migrations_app.engine.target.base import Target
from migrations_app.engine.target.opening import open_target
from migrations_app.engine.topology import Topology

_TURN: Final = 0.1  # seconds between two looks at what is wanted
_TELL_EVERY: Final = 0.5
_AGAIN_AFTER: Final = 2.0  # seconds, where the start has to wait
_MOVED: Final = "slots of the source cluster"  # in each `SlotsMoved`
_LOOK_EVERY: Final = 1.0  # … at the map of slots


class Attempts(Protocol):
    """`link.run_link` without the choice between a server and a cluster."""

    def __call__(
        self, config: LinkConfig, meter: Meter, current: Callable[[LinkConfig], LinkConfig] | None = None
    ) -> LinkResult: ...


def run_shards(config: LinkConfig, ports: Ports, attempts: Attempts) -> LinkResult:
    """Run the links of all masters until all are done or stopped; raise what ended the first that failed, with its shard."""
    _check_config(config)
    begun = _begin(config, ports)
    if begun is None:
        return LinkResult(Outcome.STOPPED, Progress(phase=Phase.DONE))
    topology, scopes = begun
    links = _Links(config, ports, topology, scopes, attempts)
    try:
        return links.run()
    except (errors.SlotsMoved, errors.LinkLoop) as error:
        # Of one shard, but what it means is true of all of them.
        _mark(config, ports, error)
        raise


def _begin(config: LinkConfig, ports: Ports) -> tuple[Topology, list[Scope]] | None:
    """Look at both sides: at once, or, with `patient_start`, within the retry time; None if the link is to stop meanwhile."""
    until = time.monotonic() + (config.retry_seconds if config.patient_start else 0)
    told = ""
    while True:
        try:
            topology = _look(config)
            return topology, _prepare(config, topology, ports)
        except Stopped:
            return None
        except errors.EngineError as error:
            passing = error.retryable or isinstance(error, errors.ClusterIncomplete)
            if not passing or time.monotonic() > until:
                raise
            if error.message != told:
                told = error.message
                ports.log(Level.WARNING, error.id, f"{told}; trying again")
        again = time.monotonic() + _AGAIN_AFTER
        while time.monotonic() < again:
            if ports.wanted() is Wanted.STOP:
                return None
            time.sleep(_TURN)


def _check_config(config: LinkConfig) -> None:
    if config.method is Method.SCAN:
        raise errors.UsageError(
            "the source is a cluster, whose masters are read by replication only; nothing was copied",
            advice="Leave out --method scan, or copy from a standalone server.",
        )
    if config.databases is not None and 0 not in config.databases:
        raise errors.UsageError("a cluster has database 0 only, which is not chosen; nothing was copied")


def _look(config: LinkConfig) -> Topology:
    """The map of slots; every one is served, and none is on its way."""
    with Client(config.source, timeout=config.timeout) as client:
        topology = layout.check_complete(client)
    text = layout.text_of(topology)
    for shard in topology.shards:
        node = replace(config.source, host=shard.master.host, port=shard.master.port, unix_path="")
        with Client(node, timeout=config.timeout) as client:
            layout.check(client, text)
    return topology


# --- the target -----------------------------------------------------------------------------------------------------------


def _prepare(config: LinkConfig, topology: Topology, ports: Ports) -> list[Scope]:
    """Compare with what the target remembers of the link; what its shards are to copy."""
    text = layout.text_of(topology)
    head = open_target(config.target, config.name, config.epoch, config.timeout)
    try:
        _check_apart(topology, head.facts.cluster, head.endpoint, config.timeout)
        stored = head.checkpoint
        if stored.phase not in ("", CLUSTER):
            raise errors.UsageError(
                f"link {config.name} has copied a single server to this target before, not a cluster; nothing was changed",
                advice="Choose another name for the link.",
            )
        if not stored.phase and config.followed:
            _consent(
                config,
                ports,
                errors.FullResyncNeeded(
                    "the target does not hold the position of this link any more: it was cleared, restarted without its "
                    "data, or is another server",
                    advice="Make sure that it is the right server and may be written from the beginning, then allow a full "
                    "synchronization (--allow-full-resync).",
                ),
            )
        if stored.phase and stored.fault:
            cause = errors.SlotsMoved if _MOVED in stored.fault else errors.TargetDiverged
            _consent(config, ports, cause(f"the last run ended with: {stored.fault}"))
        elif stored.phase and stored.shards != text:
            _consent(config, ports, layout.moved(stored.shards, topology))
        if not stored.phase and config.conflict is Conflict.FAIL:
            _look_for_conflicts(config, topology, head, ports)
        held = stored.held if stored.phase else head.occupied()
        conflict = stored.conflict if stored.phase else config.conflict.value
        scopes = [Scope(shard.ranges, text, held) for shard in topology.shards]
        if stored.phase and (stored.fault or stored.shards != text):
            _begin_again(config, stored, scopes)
        new = Checkpoint(epoch=stored.epoch, phase=CLUSTER, held=held, shards=text, conflict=conflict)
        head.run([new.command(config.name)])
    finally:
        head.close()
    return scopes


def _look_for_conflicts(config: LinkConfig, topology: Topology, target: Target, ports: Ports) -> None:
    """Raise if a name of any master is in the target already, before the first of the links begins."""
    ports.log(Level.INFO, "full.comparing_names", "looking for names that are on both sides")
    chosen = Filter(config.databases, keys=config.keys)
    for shard in topology.shards:
        node = replace(config.source, host=shard.master.host, port=shard.master.port, unix_path="")
        look(config, target, chosen, node, "", lambda: ports.wanted() is Wanted.RUN)


def _check_apart(topology: Topology, cluster: bool, target: Endpoint, timeout: float) -> None:
    """Raise if the target belongs to the source."""
    if not cluster:
        return
    with Client(target, timeout=timeout) as client:
        other = Topology.of(client)
    mine = {shard.master.id or str(shard.master) for shard in topology.shards}
    if mine & {shard.master.id or str(shard.master) for shard in other.shards}:
        raise errors.UsageError("source and target are the same cluster; nothing was written")


def _consent(config: LinkConfig, ports: Ports, error: errors.EngineError) -> None:
    """Only a full synchronization helps: raise unless the task allows it."""
    if not config.allow_full_resync:
        raise error
    ports.log(
        Level.WARNING,
        "link.full_resync",
        f"{error.message}; the full phase starts again for all shards, as the task allows",
    )


def _begin_again(config: LinkConfig, stored: Checkpoint, scopes: list[Scope]) -> None:
    """Every shard's next attempt is a full phase; what is noted of shards that are no more is forgotten.

    Until the checkpoint of the whole is written, which comes last, the next run would begin with this again.
    """
    new = {scope.first for scope in scopes}
    old = {ranges[0][0] for ranges in layout.ranges_of(stored.shards)} if stored.shards else set()
    for first in sorted(new | old):
        name = shard_name(config.name, first)
        target = open_target(config.target, name, config.epoch, config.timeout)
        try:
            begun = Checkpoint(
                epoch=target.checkpoint.epoch, phase=FULL, held=stored.held, conflict=stored.conflict
            )
            (names,) = target.at_keys([("HGET", LINKS_KEY, name)])
            known = names_of(name, [name.encode(), names])
            marker = [b"SET", origin_key(name), known] if known else None
            target.start_over([], begun.command(name), marker)
            if first not in new:
                target.run([[b"DEL", target.key]])
        finally:
            target.close()


def _mark(config: LinkConfig, ports: Ports, error: errors.EngineError) -> None:
    """So that no later run goes on over data that may not be right. Best effort: the error itself is reported anyway."""
    try:
        target = open_target(config.target, config.name, config.epoch, config.timeout)
        try:
            target.mark_fault(error.message)
        finally:
            target.close()
    except errors.EngineError as failure:
        ports.log(
            Level.WARNING,
            "checkpoint.fault_not_stored",
            f"the fault could not be noted in the target: {failure}",
        )


# --- the links ------------------------------------------------------------------------------------------------------------


class _Links:
    """All that runs. The caller's ports are called from the thread of `run` alone."""

    def __init__(
        self,
        config: LinkConfig,
        ports: Ports,
        topology: Topology,
        scopes: list[Scope],
        attempts: Attempts,
    ) -> None:
        self._config = config
        self._ports = ports
        self._attempts = attempts
        self._text = layout.text_of(topology)
        self.addresses = topology.addresses
        self.lines: queue.SimpleQueue[tuple[Level, str, str, dict[str, Any]]] = queue.SimpleQueue()
        self.wanted = Wanted.RUN
        self.rate = ports.rate()
        self.error: errors.EngineError | None = None
        self._crash: BaseException | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.shards = [_Shard(self, scope) for scope in scopes]
        self._finishing = False
        self._seen: set[Address] = set()  # nodes that were named in the last look

    def run(self) -> LinkResult:
        self._ports.log(
            Level.INFO,
            "cluster.shards",
            f"the source is a cluster: {len(self.shards)} links, one for each master",
            shards="; ".join(str(shard.scope) for shard in self.shards),
        )
        threads = [
            threading.Thread(target=self._run_shard, args=(shard,), name=shard.name, daemon=True)
            for shard in self.shards
        ]
        watch = threading.Thread(target=self._watch, name="slots-watch", daemon=True)
        for thread in [*threads, watch]:
            thread.start()
        try:
            told = 0.0
            while any(thread.is_alive() for thread in threads):
                self._turn()
                if time.monotonic() - told >= _TELL_EVERY:
                    told = time.monotonic()
                    self._ports.progress(self.progress())
                for thread in threads:
                    if thread.is_alive():
                        thread.join(_TURN)
                        break
        except BaseException:
            self.fail(errors.SiblingFailed("the caller of the links has failed"))
            raise
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()
        self._pass_lines_on()
        return self._result()

    def progress(self) -> Progress:
        return combined([shard.last for shard in self.shards])

    def fail(self, error: errors.EngineError) -> None:
        """The first error is what ends the links."""
        with self._lock:
            self.error = self.error or error

    def may_finish(self, shard: _Shard) -> bool:
        """Whether all shards have caught up: `shard` has, just now."""
        with self._lock:
            shard.complete_at = time.monotonic()
            since = shard.complete_at - 2 * _TURN
            self._finishing = self._finishing or all(one.complete_at > since for one in self.shards)
            return self._finishing

    def _turn(self) -> None:
        self._pass_lines_on()
        try:
            self.wanted = self._ports.wanted()
            self.rate = self._ports.rate()
        except errors.EngineError as error:
            self.fail(error)

    def _pass_lines_on(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                level, event, message, given = self.lines.get_nowait()
                self._ports.log(level, event, message, **given)

    def _result(self) -> LinkResult:
        if self._crash is not None:
            raise self._crash
        if self.error is not None:
            raise self.error
        results = [shard.result for shard in self.shards]
        done = all(result is not None and result.outcome is Outcome.COMPLETED for result in results)
        if done and self._config.phases is Phases.FULL:
            config = self._config
            head = open_target(config.target, config.name, config.epoch, config.timeout)
            try:
                head.run([[b"DEL", head.key]])
            finally:
                head.close()
        progress = self.progress()
        self._ports.progress(progress)
        return LinkResult(Outcome.COMPLETED if done else Outcome.STOPPED, progress)

    def _run_shard(self, shard: _Shard) -> None:
        try:
            shard.result = self._attempts(shard.config(), shard.meter, shard.current)
        except errors.SiblingFailed:
            pass
        except errors.EngineError as error:
            error.message = f"{shard.scope}: {error.message}"
            error.args = (error.message,)
            self.fail(error)
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            self._crash = error
            self.fail(errors.SiblingFailed(f"{shard.scope}: {error!r}"))

    @property
    def config(self) -> LinkConfig:
        return self._config

    # --- the map of slots -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Ask every master for its map, again and again; a node that does not answer is left to the links."""
        clients: dict[Address, Client] = {}
        try:
            while not self._ended.wait(_LOOK_EVERY) and self.error is None:
                addresses, self._seen = self.addresses, set()
                for address in addresses:
                    self._ask(address, clients)
                if self._seen:
                    # Nodes that are not named any more may be down for a while only: they stay, behind the others.
                    self.addresses = tuple(dict.fromkeys([*sorted(self._seen), *addresses]))
        finally:
            for client in clients.values():
                client.close()

    def _ask(self, address: Address, clients: dict[Address, Client]) -> None:
        host, port = address
        try:
            if address not in clients:
                node = replace(self._config.source, host=host, port=port, unix_path="")
                clients[address] = Client(node, timeout=ask_seconds(self._config.timeout))
            self._seen |= set(layout.check(clients[address], self._text).addresses)
        except errors.SlotsMoved as error:
            self.fail(error)
        except errors.EngineError:
            if client := clients.pop(address, None):
                client.close()


class _Shard:
    """The link of one master: its configuration, its ports, and what it told last."""

    def __init__(self, links: _Links, scope: Scope) -> None:
        self._links = links
        self.scope = scope
        self.name = shard_name(links.config.name, scope.first)
        self.last = Progress()
        self.complete_at = 0.0  # monotonic; when it had caught up with nothing left to do
        self.result: LinkResult | None = None
        self.meter = Meter(self)
        self.meter.may_finish = lambda: links.may_finish(self)

    def config(self) -> LinkConfig:
        config, count = self._links.config, len(self._links.shards)
        return replace(
            config,
            name=self.name,
            source=self._source(),
            shard=self.scope,
            spool_limit=max(SPOOL_LEAST, config.spool_limit // count) if config.spool_limit else 0,
        )

    def current(self, config: LinkConfig) -> LinkConfig:
        """With the nodes that are known now."""
        return replace(config, source=self._source())

    def _source(self) -> Endpoint:
        lookup = SlotOwner(self._links.addresses, self.scope.first)
        return replace(self._links.config.source, host="", port=0, unix_path="", lookup=lookup)

    # --- its ports --------------------------------------------------------------------------------------------------------

    def wanted(self) -> Wanted:
        if self._links.error is not None:
            raise errors.SiblingFailed("the link of another shard has failed")
        return self._links.wanted

    def rate(self) -> Rate:
        """An equal share."""
        rate, count = self._links.rate, len(self._links.shards)
        return Rate(
            rate.records_per_second / count if rate.records_per_second else None,
            rate.bytes_per_second / count if rate.bytes_per_second else None,
        )

    def progress(self, progress: Progress) -> None:
        self.last = copy.copy(progress)
        self.last.databases = dict(progress.databases)

    def log(self, level: Level, event: str, message: str, **given: Any) -> None:
        self._links.lines.put((level, event, f"{self.scope}: {message}", given))
