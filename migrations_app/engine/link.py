"""One link, over all its attempts: what is lost is tried again, within the retry time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from migrations_app.engine import errors
from migrations_app.engine.config import Conflict, LinkConfig, LinkResult, Method, Outcome, Phases
from migrations_app.engine.meter import Meter
from migrations_app.engine.ports import Level, Phase, Ports, Wanted
from migrations_app.engine.scan import ScanSession
from migrations_app.engine.session import Session
from migrations_app.engine.shards.run import run_shards
from migrations_app.engine.source.notify import NotificationSwitch

__all__ = ["Conflict", "LinkConfig", "LinkResult", "Outcome", "Phases", "run_link"]

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0
_JITTER = (
    0.25  # of a pause, more or less: many links that lose the same server do not come back at the same moment
)
_LASTED = 10.0  # seconds after which a connection was no mere attempt
_SHOW_EVERY = 0.5
_SNAPSHOT_ATTEMPTS = 3


def run_link(config: LinkConfig, ports: Ports) -> LinkResult:
    """Run the link until it is done, stopped, or cannot go on.

    Blocks. Raises `EngineError` (the cause, with advice) when it cannot go on. A lost connection is not such a cause: it is tried
    again for `retry_seconds`, and the link goes on where the target's checkpoint stands.
    """
    try:
        return _attempts(config, Meter(ports))
    except errors.SourceIsCluster:
        return run_shards(config, ports, _attempts)


def _attempts(
    config: LinkConfig, meter: Meter, current: Callable[[LinkConfig], LinkConfig] | None = None
) -> LinkResult:
    """One link between two servers. `current` gives the configuration as it is at each attempt."""
    progress = meter.progress
    epoch = config.epoch
    failing_since: float | None = None
    pause = _FIRST_PAUSE
    worked = config.patient_start
    snapshots_lost = 0
    switch = NotificationSwitch()
    for database, choice in config.commands.items():
        for note in choice.notes:
            where = {} if database is None else {"database": database}
            meter.log(Level.INFO, "filter.commands", f"of the stream: {note}", **where)
    while True:
        if current is not None:
            config = current(config)
        session: Session | ScanSession = (
            ScanSession(config, meter, epoch, switch)
            if config.method is Method.SCAN
            else Session(config, meter, epoch)
        )
        applied, begun = progress.applied_offset, time.monotonic()
        commands, keys = progress.commands, progress.keys_done
        try:
            outcome = session.run()
        except errors.EngineError as error:
            epoch = session.epoch
            if not error.retryable:
                raise
            failure = error
        else:
            meter.phase(Phase.DONE)
            return LinkResult(outcome, progress)
        in_full = session.in_full_phase and not config.source.file  # a file is never cut short by the network
        worked = worked or session.connected
        if not worked:
            raise failure
        # A full phase that has only just begun again is no success, nor is a stream that has only been resumed.
        succeeded = progress.applied_offset not in (None, applied) or progress.commands != commands
        if config.method is Method.SCAN or config.source.file:
            succeeded = succeeded or progress.keys_done != keys
        snapshots_lost = snapshots_lost + 1 if in_full else 0 if succeeded else snapshots_lost
        if snapshots_lost >= _SNAPSHOT_ATTEMPTS:
            raise errors.SnapshotError(
                f"the snapshot was cut short {snapshots_lost} times in a row; the last time: {failure.message}",
                advice=failure.advice
                if isinstance(failure, errors.OutputBufferExceeded | errors.SourceImpatient)
                else "Raise the replica's client-output-buffer-limit and repl-timeout on the source, or use a steadier network.",
            )
        now = time.monotonic()
        if failing_since is None or in_full or succeeded:
            failing_since = now
        if now - begun > _LASTED:
            pause = _FIRST_PAUSE
        retry_seconds = config.retry_now() if config.retry_now else config.retry_seconds
        if now - failing_since > retry_seconds:
            raise errors.RetryTimeExceeded(
                f"no success within the retry time of {retry_seconds / 60:g} minutes; the last failure: {failure.message}"
            )
        progress.reconnects += 1
        progress.caught_up = False
        progress.lag_bytes = progress.lag_seconds = progress.latency_ms = None  # nobody knows
        progress.spool_bytes, progress.spool_full = 0, False
        told = f"{failure.message}; trying again"
        if isinstance(failure, errors.OutputBufferExceeded | errors.SourceImpatient):
            told += f". {failure.advice}"
        meter.log(Level.WARNING, failure.id, told, attempt=progress.reconnects)
        meter.phase(Phase.RETRYING)
        if _pause(pause, meter) is Wanted.STOP:
            meter.phase(Phase.DONE)
            return LinkResult(Outcome.STOPPED, progress)
        pause = min(_LONGEST_PAUSE, pause * 2)


def _pause(seconds: float, meter: Meter) -> Wanted:
    """Wait, but not longer than the owner wants the link."""
    until = time.monotonic() + seconds * random.uniform(1 - _JITTER, 1 + _JITTER)
    show_at = 0.0
    while (left := until - time.monotonic()) > 0:
        if meter.wanted() is Wanted.STOP:
            return Wanted.STOP
        if time.monotonic() >= show_at:
            show_at = time.monotonic() + _SHOW_EVERY
            meter.report()
        time.sleep(min(0.1, left))
    return meter.wanted()
