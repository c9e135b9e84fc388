"""Runs a link in this process: the bridge between the engine and the database.

The engine works in the calling thread and asks its ports some ten times a second. They only touch memory: a second thread, the
keeper, does all that may wait for the database (it renews the lease, reads what is wanted, writes progress and log). So a
database that is locked for a moment never slows the link down, and a link that hangs does not keep its lease for ever.

How a run can end: the link is done, or stopped or paused by a person (the task ends, or is paused), the process is to stop or the
address or password of a side was changed (the lease is given back, the task keeps its status and goes on with another worker), the
lease was lost (another worker has the link: nothing is written any more), or
the engine cannot go on (the task fails, with what happened and what to do).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Any, Final

import structlog
from django.db import DatabaseError, connections
from django.utils import timezone

from migrations_app import drain
from migrations_app.choices import Desired, LogLevel, TaskStatus
from migrations_app.engine import kernel
from migrations_app.engine import link as engine
from migrations_app.engine.errors import EngineError, Fenced
from migrations_app.engine.ports import Level, Phase, Progress, Wanted
from migrations_app.engine.rate import UNLIMITED, Rate, class_of
from migrations_app.models import LinkProgress, MigrationTask
from migrations_app.runner.configuration import config_of
from migrations_app.runner.sampling import Sampler
from migrations_app.runner.sides import own_address
from migrations_app.services import access, links, running, samples, sharing
from migrations_app.services.links import Lease, LogLine
from migrations_app.services.running import Live
from portal.errors import ServiceError

log = structlog.get_logger(__name__)

RENEW_SECONDS: Final = 2.5
WRITE_SECONDS: Final = 1.0  # between two updates of the progress
KEEPER_PAUSE: Final = 0.2
BLIND_SECONDS: Final = 60.0  # without the database nobody can stop the link; then it stops by itself
CLOSING_SECONDS: Final = 60.0  # for storing how a run has ended
CLOSING_PAUSE: Final = 1.0
HUNG_SECONDS: Final = 150.0  # the engine has not asked its ports for longer than any of its time-outs
LOG_LIMIT: Final = 5000  # lines that wait for the database
DEFAULT_RETRY_MINUTES: Final = 120

_PLAIN: Final = (str, int, float, bool, type(None))

STATUS_OF: Final[dict[Phase, TaskStatus]] = {
    Phase.FULL: TaskStatus.FULL,
    Phase.INCREMENTAL: TaskStatus.INCREMENTAL,
    Phase.RETRYING: TaskStatus.RETRYING,
}


# To reconnect now would mean to copy everything again; the connections of these phases stand with the old password, too.
_WITHOUT_POSITION: Final = (Phase.WAITING, Phase.FULL)


class Ended(Enum):
    """Why the ports told the engine to stop."""

    DESIRED = "desired"  # a person wants it
    DRAIN = "drain"  # this process is to end; the link goes on elsewhere
    ANEW = "anew"  # a side is reached in another way now: the next worker connects so
    LOST = "lost"  # another owner has the link


RunLink = Callable[[engine.LinkConfig, "LinkPorts"], engine.LinkResult]


def run(lease: Lease, run_link: RunLink = engine.run_link) -> None:
    """Run the link of this lease to its end. Raises DatabaseError if how it ended cannot be stored for CLOSING_SECONDS."""
    task = MigrationTask.objects.select_related("source__endpoint", "target__endpoint", "link__progress").get(
        pk=lease.task_id
    )
    logger = log.bind(task=task.public_id, epoch=lease.epoch)
    ports = LinkPorts(
        lease, Totals(task.link.progress), logger, running.live(task.pk), across=access.is_across(task)
    )
    ports.remember(
        LogLevel.INFO,
        "worker.started",
        f"A worker on {socket.gethostname()} runs the link.",
        epoch=lease.epoch,
    )
    # Not kept open for the days that a link may run; the keeper has a connection of its own.
    connections.close_all()
    keeper = threading.Thread(target=ports.keep, name="keeper", daemon=True)
    keeper.start()
    result: engine.LinkResult | None = None
    failure: dict[str, str] = {}
    try:
        result = run_link(config_of(task, lease.epoch, retry_now=ports.retry_seconds), ports)
    except Fenced:
        ports.ended = Ended.LOST
    except (EngineError, ServiceError) as error:
        logger.warning("link.failed", failure=error.id, message=error.message)
        failure = {"failure_id": error.id, "message": error.message, "advice": error.advice}
    except Exception as error:
        logger.exception("link.crashed")
        failure = {
            "failure_id": "internal.unexpected",
            "message": f"The worker met an error that it was not prepared for ({type(error).__name__}). "
            "What had been applied before is kept, with the position up to which it goes.",
            "advice": "Resume the task: it goes on where it stood. If it fails again, the server's log has the details.",
        }
    finally:
        ports.close()
        keeper.join()
    if ports.ended is Ended.LOST:
        logger.warning("link.lease_lost")
    elif result is None:
        _persist(lambda: _fail(lease, ports, failure))
    else:
        ended = result
        _persist(lambda: _conclude(lease, ports, ended))


def _fail(lease: Lease, ports: LinkPorts, failure: dict[str, str]) -> None:
    """The task fails, unless the connection of a side has been changed since this run began: that may well be the remedy."""
    live = running.live(lease.task_id)
    if ports.connects_with and live is not None and live.connections != ports.connects_with:
        _reconnect(lease)
    else:
        links.fail(lease, **failure)


def _persist(store: Callable[[], object]) -> None:
    """Store how a run has ended, also if the database is away just now: the next worker would else do it all again.

    If the lease runs out meanwhile and another worker takes the link, `store` changes nothing.
    """
    until = time.monotonic() + CLOSING_SECONDS
    while True:
        try:
            store()
        except DatabaseError as error:
            if time.monotonic() > until:
                raise
            log.warning("link.database_unreachable", error=str(error))
            with suppress(DatabaseError):
                connections.close_all()
            time.sleep(CLOSING_PAUSE)
        else:
            return


def _conclude(lease: Lease, ports: LinkPorts, result: engine.LinkResult) -> None:
    if result.outcome is engine.Outcome.COMPLETED:
        links.finish_completed(lease)
    elif ports.ended is Ended.DESIRED:
        links.finish_wanted(lease)
    elif ports.ended is Ended.ANEW:
        _hand_over(
            lease,
            "worker.reconnects",
            "The connection of a side was changed; another worker goes on with it.",
        )
        links.ring_again(lease.link_id)
    else:
        _hand_over(lease, "worker.drained", "This worker shuts down; another one goes on.")


def _reconnect(lease: Lease) -> None:
    _hand_over(
        lease, "worker.reconnects", "The connection of a side was changed; another worker goes on with it."
    )
    links.ring_again(lease.link_id)


def _hand_over(lease: Lease, event: str, sentence: str) -> None:
    links.append_log(lease.task_id, [LogLine(timezone.now(), LogLevel.INFO, event, sentence, {})])
    links.release(lease)


class LinkPorts:
    """What the engine asks and tells (engine.ports.Ports), and the keeper's side of it."""

    def __init__(
        self, lease: Lease, totals: Totals, logger: Any, live: Live | None = None, *, across: bool = False
    ) -> None:
        self._across = across
        self._live = live
        self.connects_with = live.connections if live else ""
        self._rate = class_of(live.speed) if live else UNLIMITED
        self._lease = lease
        self._totals = totals
        self._logger = logger
        self._lines: list[LogLine] = []
        self._lines_lock = threading.Lock()
        self._progress: dict[str, Any] | None = None
        self._sampler = Sampler()
        self._phase = Phase.CONNECTING
        self._desired: Desired | None = Desired.RUN
        self._asked_at = time.monotonic()
        self._renewed_at = time.monotonic()
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._anew = False
        self.ended: Ended | None = None

    # --- the engine's side: memory only

    def wanted(self) -> Wanted:
        self._asked_at = time.monotonic()
        if self._desired is None:
            self.ended = Ended.LOST
            raise Fenced("Another worker has taken this link over.")
        if self._desired in (Desired.STOP, Desired.PAUSE):
            self.ended = Ended.DESIRED
        elif self._anew and self._phase not in _WITHOUT_POSITION:
            self.ended = self.ended or Ended.ANEW
        elif drain.requested() or time.monotonic() - self._renewed_at > BLIND_SECONDS:
            self.ended = self.ended or Ended.DRAIN
        return Wanted.STOP if self.ended else Wanted.RUN

    def rate(self) -> Rate:
        return self._rate

    def retry_seconds(self) -> float:
        """The retry time as it is now: another task that shares a side may have lowered it."""
        return (self._live.retry_minutes if self._live else DEFAULT_RETRY_MINUTES) * 60.0

    def progress(self, progress: Progress) -> None:
        self._progress = self._totals.add(progress)
        if progress.phase is not self._phase:
            self._phase = progress.phase
            self._wake.set()

    def log(self, level: Level, event: str, message: str, **fields: Any) -> None:
        # The engine's sentences begin in lower case, to stand behind a colon; a line of the log stands alone.
        self.remember(LogLevel(level.value), event, message[:1].upper() + message[1:], **fields)

    # --- the keeper's side: the database

    def remember(self, level: LogLevel, event: str, message: str, **fields: Any) -> None:
        plain = {key: value if isinstance(value, _PLAIN) else str(value) for key, value in fields.items()}
        with self._lines_lock:
            self._lines = [*self._lines[-LOG_LIMIT:], LogLine(timezone.now(), level, event, message, plain)]
        getattr(self._logger, level.value)(event, message=message, fields=plain)

    def keep(self) -> None:
        """The keeper's loop, until `close()`; then everything that is left is written."""
        shown = Phase.CONNECTING
        written_at = renew_at = 0.0
        while True:
            closing = self._closing.is_set()
            now = time.monotonic()
            try:
                if now >= renew_at and not closing:
                    self._renew()
                    renew_at = time.monotonic() + RENEW_SECONDS
                changed = self._phase is not shown
                if changed or closing or now - written_at >= WRITE_SECONDS:
                    shown = self._write(shown)
                    written_at = now
            except DatabaseError as error:
                self._logger.warning("link.database_unreachable", error=str(error))
                with suppress(DatabaseError):
                    connections.close_all()
                if not closing:
                    time.sleep(1)
            if closing:
                break
            if now - self._asked_at > HUNG_SECONDS:
                self._logger.critical("link.hung", seconds=HUNG_SECONDS)
                os._exit(1)
            self._wake.wait(KEEPER_PAUSE)
            self._wake.clear()
        connections.close_all()

    def close(self) -> None:
        self._closing.set()
        self._wake.set()

    def _renew(self) -> None:
        if self._across:
            sharing.enforce(self._lease.task_id)  # a role may have run out, also while nobody else looks
        self._desired = links.renew_lease(self._lease)
        self._renewed_at = time.monotonic()
        if self._desired is not None:
            self._follow(running.live(self._lease.task_id))

    def _follow(self, live: Live | None) -> None:
        """Take up what was changed while the link runs."""
        before, self._live = self._live, live or self._live
        if live is None or before is None or live == before:
            return
        if live.speed != before.speed:
            self._rate = class_of(live.speed)
            self.remember(
                LogLevel.INFO,
                "link.speed",
                f"The speed class is {live.speed.label.lower()} from now on.",
                speed=live.speed.value,
            )
        if live.retry_minutes != before.retry_minutes:
            self.remember(
                LogLevel.INFO,
                "link.retry_time",
                f"The retry time that takes effect is {live.retry_minutes} minutes from now on.",
            )
        if live.connections != self.connects_with:
            self._anew = True

    def _write(self, shown: Phase) -> Phase:
        """Store what is new; the phase that the task shows now."""
        if self._desired is None:
            return shown
        with self._lines_lock:
            lines = list(self._lines)
        if lines:
            links.append_log(self._lease.task_id, lines)
            with self._lines_lock:
                written = {id(line) for line in lines}
                self._lines = [line for line in self._lines if id(line) not in written]
        phase, progress = self._phase, self._progress
        if phase is not shown and phase in STATUS_OF:
            links.show_phase(self._lease, STATUS_OF[phase])
        if progress is not None:
            if sample := self._sampler.add(time.time(), progress):
                samples.record(self._lease.link_id, *sample)
            links.record_progress(self._lease, progress)
            if self._progress is progress:
                self._progress = None
        return phase


class Totals:
    """Turns the counters of this run into those of the task: the engine counts from zero whenever it starts."""

    def __init__(self, before: LinkProgress) -> None:
        self._base = {name: getattr(before, name) for name in links.CUMULATIVE}
        self._worker = {
            "worker_host": socket.gethostname(),
            "worker_ip": own_address(),
            "worker_pid": os.getpid(),
            "worker_compiled": kernel.COMPILED,
        }

    def add(self, progress: Progress) -> dict[str, Any]:
        """Columns of LinkProgress and their values after this much of the run."""
        values: dict[str, Any] = {name: base + getattr(progress, name) for name, base in self._base.items()}
        values |= {name: getattr(progress, name) for name in links.GAUGES}
        if progress.full_syncs or progress.keys_done or progress.snapshot_bytes:
            values |= {name: getattr(progress, name) for name in links.OF_FULL_PHASE}
            values["databases"] = {str(number): keys for number, keys in progress.databases.items()}
        values |= {name: value for name in links.LAST_KNOWN if (value := getattr(progress, name)) is not None}
        if progress.replication_id:
            values["replication_id"] = progress.replication_id
        return values | self._worker | {"phase": progress.phase.value, "caught_up": progress.caught_up}
