"""One cluster: the process that guards the pool from outside.

django-q2's main process only waits for its sentinel. Here it watches: a sentinel that died, one that hangs, a queue that no
longer serves. In each case it ends what is left and builds a new pool. It also turns the tick, so that whoever can run links
also notices the ones that nobody runs; no other cluster has to be up for that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from django.db import DatabaseError, connections
from django_q.brokers import get_broker
from django_q.cluster import Cluster, get_mp_context
from django_q.conf import Conf

from migrations_app.drain import Board
from migrations_app.pool import DRAIN_SECONDS, FLUSH_SECONDS, GuardedSentinel

log = structlog.get_logger(__name__)

CYCLE: Final = 0.2  # seconds between two looks
TICK_SECONDS: Final = 2.0
HANG_SECONDS: Final = 10.0  # without a sign of life of the sentinel
STARVED_SECONDS: Final = 15.0  # messages wait, workers are idle, and none takes any
RESTART_DELAYS: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # for pools that die again soon after their start
STABLE_SECONDS: Final = 60.0


class GuardedCluster(Cluster):  # type: ignore[misc]  # django-q2 has no types
    """`run()` blocks until SIGTERM or SIGINT, then drains. `tick(cluster)` is called every TICK_SECONDS."""

    def __init__(self, tick: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self._tick = tick
        self._stopping = False
        self._deaths = 0
        self._started = 0.0
        self._waiting_since: float | None = None
        self._taken = 0
        self.board: Board
        self.label = self.cluster_id.hex[:12]

    def sig_handler(self, signum: int, frame: Any) -> None:
        # Only a note: django-q2 joins the sentinel in here, inside of whatever the signal interrupted.
        self._stopping = True

    def run(self) -> None:
        self._start_pool()
        next_tick = time.monotonic()
        while not self._stopping:
            time.sleep(CYCLE)
            trouble = self._trouble()
            if trouble and not self._stopping:
                self._restart(trouble)
            if time.monotonic() >= next_tick and not self._stopping:
                self._turn()
                next_tick = time.monotonic() + TICK_SECONDS
        self._drain()

    def _start_pool(self) -> None:
        connections.close_all()  # a connection must not be shared with a forked process
        self.board = Board(Conf.WORKERS, self.label)
        self.sentinel = get_mp_context().Process(
            target=GuardedSentinel, args=(self.board, self.cluster_id, os.getpid()), name="sentinel"
        )
        self.sentinel.start()
        self._started = time.monotonic()
        self._waiting_since = None
        log.info(
            "cluster.started", cluster=Conf.CLUSTER_NAME, workers=Conf.WORKERS, sentinel=self.sentinel.pid
        )

    def _trouble(self) -> str:
        """Why the pool has to be replaced; empty if it has not."""
        if not self.sentinel.is_alive():
            return "the sentinel has died"
        if self.board.silence() > HANG_SECONDS:
            return "the sentinel hangs"
        if self.board.broken.is_set():
            return "a killed process has left the queue locked"
        if self._waiting_since and time.monotonic() - self._waiting_since > STARVED_SECONDS:
            return "messages wait although workers are idle"
        return ""

    def _restart(self, trouble: str) -> None:
        if time.monotonic() - self._started > STABLE_SECONDS:
            self._deaths = 0
        delay = RESTART_DELAYS[min(self._deaths, len(RESTART_DELAYS) - 1)]
        self._deaths += 1
        log.error("cluster.pool_lost", cluster=Conf.CLUSTER_NAME, reason=trouble, restart_in_seconds=delay)
        # Its processes notice by their parent, end their jobs cleanly or end themselves, and give their leases back.
        if self.sentinel.is_alive():
            self.sentinel.kill()
        self.sentinel.join()
        until = time.monotonic() + delay
        while time.monotonic() < until and not self._stopping:
            time.sleep(CYCLE)
        if not self._stopping:
            self._start_pool()

    def _turn(self) -> None:
        try:
            self._look_for_starvation()
            if self._tick:
                self._tick(self.label)
        except DatabaseError as error:
            # It may be away for hours: a line, not a traceback, every few seconds.
            log.warning("cluster.database_unreachable", error=str(error))
            connections.close_all()
        except Exception:
            # A row is not as it should be. The guard goes on: nobody guards the guard.
            log.exception("cluster.tick_failed")
            connections.close_all()

    def _look_for_starvation(self) -> None:
        taken = self.board.taken()
        waiting = self.board.idle() > 0 and get_broker().queue_size() > 0
        if not waiting or taken != self._taken:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = time.monotonic()
        self._taken = taken

    def _drain(self) -> None:
        self.board.draining.set()
        connections.close_all()
        self.sentinel.join(DRAIN_SECONDS + FLUSH_SECONDS + 3)
        if self.sentinel.is_alive():
            log.error("cluster.drain_timed_out", cluster=Conf.CLUSTER_NAME)
            self.sentinel.kill()
            self.sentinel.join()
        log.info("cluster.stopped", cluster=Conf.CLUSTER_NAME)
