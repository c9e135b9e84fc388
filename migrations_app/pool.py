"""The pool of one cluster: django-q2's sentinel, made to stop in seconds and to survive the death of any of its processes.

What is different from django-q2, and why:

- An idle worker of django-q2 waits on the queue with the queue's lock in its hand; killed there, it leaves the lock held and no
  worker gets a job any more. Here a worker waits without the lock and takes it for the moment of reading alone; a lock that is
  not free for seconds was left by the dead, and the guard (cluster.py) builds a new pool.
- The pusher fetches a message only for a worker that is idle, and none once the cluster drains: a message that waits inside
  one machine cannot be run by another, and would start after SIGTERM.
- Stopping has a limit. Workers see the drain flag, end their job cleanly, and are killed if they do not.
- Every process watches its parent.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from multiprocessing import Value
from multiprocessing import queues as mp_queues
from multiprocessing.reduction import ForkingPickler
from typing import Any, Final
from uuid import uuid4

import structlog
from django.db import DatabaseError, connections
from django_q.brokers import Broker
from django_q.cluster import Sentinel, get_mp_context
from django_q.conf import Conf
from django_q.monitor import monitor
from django_q.pusher import pusher
from django_q.worker import worker

from migrations_app import drain
from migrations_app.drain import Board

log = structlog.get_logger(__name__)

DRAIN_SECONDS: Final = 12.0  # for running jobs to end by themselves
FLUSH_SECONDS: Final = 5.0  # for their results to be stored
LOCK_SECONDS: Final = 5.0  # nobody holds a queue's lock for longer than it takes to read one message
STOP: Final = "STOP"  # what makes a worker and the monitor of django-q2 leave their loop

_slot: int | None = None  # this worker's place on the board


class Queue(mp_queues.Queue):  # type: ignore[type-arg]  # not subscriptable before Python 3.12
    """A queue whose readers hold no lock while they wait. Works between forked processes only."""

    def __init__(self, board: Board, maxsize: int = 0, *, for_workers: bool) -> None:
        super().__init__(maxsize, ctx=get_mp_context())
        self._board = board
        self._for_workers = for_workers

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The next item; STOP, for a worker, once this process is to end. Waits as long as it takes."""
        self._mark(busy=False)
        while True:
            if self._for_workers and drain.requested():
                return STOP
            if not self._reader.poll(0.2):  # type: ignore[attr-defined]
                continue
            if not self._rlock.acquire(timeout=LOCK_SECONDS):  # type: ignore[attr-defined]
                self._board.broken.set()
                continue
            try:
                if not self._reader.poll(0):  # type: ignore[attr-defined]  # another reader was faster
                    continue
                payload = self._reader.recv_bytes()  # type: ignore[attr-defined]
                self._sem.release()  # type: ignore[attr-defined]
                self._mark(busy=True)
            finally:
                self._rlock.release()  # type: ignore[attr-defined]
            return ForkingPickler.loads(payload)

    def empty(self) -> bool:
        return not self._reader.poll(0)  # type: ignore[attr-defined]

    def _mark(self, *, busy: bool) -> None:
        if self._for_workers and _slot is not None:
            self._board.set_busy(_slot, busy)


class GatedBroker:
    """A broker that gives a message only when a worker is free for it."""

    def __init__(self, broker: Broker, board: Board, queue: Queue) -> None:
        self._broker = broker
        self._board = board
        self._queue = queue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def dequeue(self) -> Any:
        if drain.requested() or not self._board.idle() or not self._queue.empty():
            time.sleep(0.1)
            return None
        try:
            return self._broker.dequeue()
        except DatabaseError as error:
            # django-q2 would give up this process after ten seconds of sleep; the next look does as well.
            log.warning("cluster.broker_unreachable", error=str(error))
            connections.close_all()
            time.sleep(1)
            return None


class GuardedSentinel(Sentinel):  # type: ignore[misc]  # django-q2 has no types
    """Spawns the workers, the pusher and the monitor, replaces those that die, and stops them all in seconds."""

    def __init__(self, board: Board, cluster_id: Any, main_pid: int) -> None:
        self.board = board
        self.main_pid = main_pid
        super().__init__(_Wait(board, main_pid), board.started, cluster_id, start=False)
        # Set by main for a stop; a signal to the whole process group (Ctrl-C, a service manager) must not end the sentinel
        # before its workers.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.task_queue = Queue(board, Conf.QUEUE_LIMIT or 0, for_workers=True)
        self.result_queue = Queue(board, for_workers=False)
        self.event_out = board.no_more_messages
        self.start()

    def spawn_worker(self) -> None:
        taken = {process.slot for process in self.pool}
        slot = next(number for number in range(self.board.slots) if number not in taken)
        self.board.set_busy(slot, False)
        timer = Value("f", -1)
        process = self._spawn(_run_worker, slot, self.task_queue, self.result_queue, timer, self.timeout)
        process.timer, process.slot = timer, slot
        self.pool.append(process)

    def spawn_pusher(self) -> Any:
        return self._spawn(
            pusher, self.task_queue, self.event_out, GatedBroker(self.broker, self.board, self.task_queue)
        )

    def spawn_monitor(self) -> Any:
        return self._spawn(monitor, self.result_queue, self.broker)

    def reincarnate(self, process: Any) -> None:
        timed_out = process in self.pool and process.timer.value == 0
        super().reincarnate(process)
        if timed_out:
            process.kill()  # a worker takes SIGTERM for a request to end its job, which this one has overrun

    def stop(self) -> None:
        """Ends everything within DRAIN_SECONDS + FLUSH_SECONDS."""
        log.info("cluster.draining", workers=len(self.pool))
        self.board.draining.set()
        self.event_out.set()
        left = self._wait_for([*self.pool, self.pusher], DRAIN_SECONDS)
        for process in left:
            log.warning("cluster.worker_killed", pid=process.pid, after_seconds=DRAIN_SECONDS)
            process.kill()
            process.join()
        self.pool.clear()
        self.result_queue.put(STOP)
        for process in self._wait_for([self.monitor], FLUSH_SECONDS):
            process.kill()
            process.join()
        # What could not be written by now will not be: its reader is gone.
        self.result_queue.cancel_join_thread()
        self.task_queue.cancel_join_thread()

    def _spawn(self, target: Callable[..., None], *args: Any) -> Any:
        process = get_mp_context().Process(
            target=_run,
            args=(self.board, os.getpid(), target, *args),
            name=f"Process-{uuid4().hex}",
            daemon=True,
        )
        process.start()
        return process

    def _wait_for(self, processes: list[Any], seconds: float) -> list[Any]:
        """Those that are still alive after so many seconds."""
        deadline = time.monotonic() + seconds
        while (
            alive := [process for process in processes if process.is_alive()]
        ) and time.monotonic() < deadline:
            self.board.beat()
            time.sleep(0.05)
        return alive


class _Wait:
    """The stop event of the sentinel's loop: a wait that shows signs of life and notices that the cluster's main is gone."""

    def __init__(self, board: Board, main_pid: int) -> None:
        self._board = board
        self._main_pid = main_pid

    def is_set(self) -> bool:
        if os.getppid() != self._main_pid:
            self._board.draining.set()
        return self._board.draining.is_set()

    def wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while True:
            self._board.beat()
            if self.is_set():
                return True
            if (left := deadline - time.monotonic()) <= 0:
                return False
            time.sleep(min(0.1, left))


def _run(board: Board, parent: int, target: Callable[..., None], *args: Any) -> None:
    """The first thing in each process of the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _signum, _frame: drain.request())
    drain.bind(board)
    drain.watch_parent(parent)
    target(*args)


def _run_worker(slot: int, *args: Any) -> None:
    global _slot
    _slot = slot
    worker(*args)
