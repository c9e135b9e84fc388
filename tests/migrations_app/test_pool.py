"""The parts of a cluster by themselves: the queue, the gate before the broker, the board."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError
from django_q.queues import Queue as DjangoQQueue

from migrations_app import cluster, drain, pool
from migrations_app.cluster import GuardedCluster
from migrations_app.drain import Board
from migrations_app.pool import STOP, GatedBroker, Queue
from tests.support.wait import wait_for

fork = multiprocessing.get_context("fork")


@pytest.fixture
def board() -> Board:
    return Board(2, "test")


@pytest.fixture
def reader() -> Iterator[Callable[[Any], Any]]:
    """Starts a process that reads items of a queue and puts them into another, for ever."""
    made = []

    def start(queue: Any) -> Any:
        results = fork.SimpleQueue()

        def read() -> None:
            while True:
                results.put(queue.get())

        process = fork.Process(target=read, daemon=True)
        process.start()
        process.results = results
        made.append(process)
        return process

    yield start
    for process in made:
        process.kill()
        process.join()


def arrives(results: Any, seconds: float) -> bool:
    try:
        wait_for(lambda: not results.empty(), seconds)
    except AssertionError:
        return False
    return True


def killed_while_waiting(process: Any) -> None:
    # Asleep in the queue: state S with the lock taken, for the queue of django-q2.
    stat = Path(f"/proc/{process.pid}/stat")
    wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S", 5)
    time.sleep(0.3)  # there is no condition to wait for: the lock looks the same before and after
    os.kill(process.pid, signal.SIGKILL)
    process.join()


class TestQueue:
    def test_the_one_of_django_q2_stays_locked_by_a_reader_that_was_killed(self, reader: Any) -> None:
        """What this is all about: without the change nobody reads any more."""
        queue = DjangoQQueue()
        killed_while_waiting(reader(queue))
        second = reader(queue)
        queue.put("job")
        assert not arrives(second.results, 1.5)
        queue.cancel_join_thread()

    def test_ours_does_not(self, reader: Any, board: Board) -> None:
        queue = Queue(board, for_workers=True)
        killed_while_waiting(reader(queue))
        second = reader(queue)
        queue.put("job")
        assert arrives(second.results, 5)
        assert second.results.get() == "job"

    def test_a_lock_left_by_the_dead_is_reported(
        self, reader: Any, board: Board, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool, "LOCK_SECONDS", 0.2)
        queue = Queue(board, for_workers=True)
        queue._rlock.acquire()
        reader(queue)
        queue.put("job")
        wait_for(board.broken.is_set, 5)
        queue.cancel_join_thread()

    def test_each_item_goes_to_one_reader(self, reader: Any, board: Board) -> None:
        queue = Queue(board, maxsize=1, for_workers=True)
        readers = [reader(queue), reader(queue)]
        for number in range(20):
            queue.put(number)
        got: list[int] = []
        wait_for(lambda: _collect(readers, got) == 20, 10)
        assert sorted(got) == list(range(20))

    def test_a_worker_gets_no_job_once_it_is_to_end(self, board: Board) -> None:
        queue = Queue(board, for_workers=True)
        queue.put("job")
        wait_for(lambda: not queue.empty(), 5)
        drain.request()
        assert queue.get() == STOP
        assert Queue(board, for_workers=True).get() == STOP

    def test_results_are_read_to_the_end(self, board: Board) -> None:
        queue = Queue(board, for_workers=False)
        queue.put("result")
        drain.request()
        assert queue.get() == "result"


def _collect(readers: list[Any], got: list[int]) -> int:
    for each in readers:
        while not each.results.empty():
            got.append(each.results.get())
    return len(got)


class Broker:
    list_key = "replication"

    def __init__(self) -> None:
        self.asked = 0

    def dequeue(self) -> list[str]:
        self.asked += 1
        return ["message"]


class TestGate:
    def test_fetches_for_an_idle_worker_only(self, board: Board) -> None:
        broker = Broker()
        gate = GatedBroker(broker, board, Queue(board, for_workers=True))
        assert gate.dequeue() == ["message"]
        for slot in range(2):
            board.set_busy(slot, True)
        assert gate.dequeue() is None
        board.set_busy(1, False)
        assert gate.dequeue() == ["message"]
        assert broker.asked == 2
        assert gate.list_key == "replication"

    def test_fetches_nothing_while_a_message_waits(self, board: Board) -> None:
        broker, queue = Broker(), Queue(board, for_workers=True)
        queue.put("earlier")
        wait_for(lambda: not queue.empty(), 5)
        assert GatedBroker(broker, board, queue).dequeue() is None
        assert not broker.asked

    def test_fetches_nothing_once_the_cluster_drains(self, board: Board) -> None:
        broker = Broker()
        drain.request()
        assert GatedBroker(broker, board, Queue(board, for_workers=True)).dequeue() is None
        assert not broker.asked

    def test_a_database_that_is_away_is_no_end(self, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
        class Away(Broker):
            def dequeue(self) -> list[str]:
                raise OperationalError("database is locked")

        monkeypatch.setattr(pool.time, "sleep", lambda seconds: None)
        monkeypatch.setattr(pool.connections, "close_all", lambda: None)
        assert GatedBroker(Away(), board, Queue(board, for_workers=True)).dequeue() is None


class TestBoard:
    def test_counts_idle_workers_and_jobs(self, board: Board) -> None:
        assert (board.idle(), board.taken()) == (2, 0)
        board.set_busy(0, True)
        board.set_busy(0, False)
        board.set_busy(1, True)
        assert (board.idle(), board.taken()) == (1, 2)

    def test_is_shared_with_a_forked_process(self, board: Board) -> None:
        process = fork.Process(target=board.draining.set)
        process.start()
        process.join()
        assert board.draining.is_set()

    def test_knows_how_long_the_sentinel_has_been_silent(self, board: Board) -> None:
        board.beat()
        assert board.silence() < 5

    def test_draining_reaches_a_job(self, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(drain, "_board", board)
        assert not drain.requested()
        assert drain.owner().endswith(f":{os.getpid()}:test")
        board.draining.set()
        assert drain.requested()


def test_an_orphan_ends_its_work_and_then_itself() -> None:
    left: list[int] = []
    drain.watch_parent(os.getppid() + 1, grace=0.05, leave=left.append)
    wait_for(lambda: left == [1], 5)
    assert drain.requested()


class TestGuard:
    """When the guard builds a new pool."""

    @pytest.fixture
    def guard(self, board: Board, monkeypatch: pytest.MonkeyPatch) -> Iterator[GuardedCluster]:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        guard = GuardedCluster()
        guard.board = board
        guard.sentinel = fork.Process(target=time.sleep, args=(60,), daemon=True)
        guard.sentinel.start()
        yield guard
        guard.sentinel.kill()
        guard.sentinel.join()
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def messages(self, monkeypatch: pytest.MonkeyPatch, waiting: int) -> None:
        monkeypatch.setattr(cluster, "get_broker", lambda: SimpleNamespace(queue_size=lambda: waiting))

    def test_not_while_all_is_well(self, guard: GuardedCluster) -> None:
        assert guard._trouble() == ""

    def test_when_the_sentinel_has_died(self, guard: GuardedCluster) -> None:
        guard.sentinel.kill()
        guard.sentinel.join()
        assert "died" in guard._trouble()

    def test_when_the_sentinel_hangs(self, guard: GuardedCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cluster, "HANG_SECONDS", -1.0)
        assert "hangs" in guard._trouble()

    def test_when_a_lock_was_left_by_the_dead(self, guard: GuardedCluster) -> None:
        guard.board.broken.set()
        assert "locked" in guard._trouble()

    def test_when_messages_wait_and_idle_workers_take_none(
        self, guard: GuardedCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.messages(monkeypatch, 1)
        guard._look_for_starvation()
        assert guard._trouble() == ""
        monkeypatch.setattr(cluster, "STARVED_SECONDS", -1.0)
        assert "messages wait" in guard._trouble()

    @pytest.mark.parametrize("relief", ["no message waits", "a worker takes one", "all workers are busy"])
    def test_not_while_the_queue_is_served(
        self, guard: GuardedCluster, monkeypatch: pytest.MonkeyPatch, relief: str
    ) -> None:
        self.messages(monkeypatch, 1)
        guard._look_for_starvation()
        if relief == "no message waits":
            self.messages(monkeypatch, 0)
        for slot in range(
            {"no message waits": 0, "a worker takes one": 1, "all workers are busy": 2}[relief]
        ):
            guard.board.set_busy(slot, True)
        guard._look_for_starvation()
        monkeypatch.setattr(cluster, "STARVED_SECONDS", -1.0)
        assert guard._trouble() == ""

    def test_a_tick_that_fails_is_no_end(
        self, guard: GuardedCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(label: str) -> None:
            raise OperationalError("database is locked")

        self.messages(monkeypatch, 0)
        monkeypatch.setattr(cluster.connections, "close_all", lambda: None)
        guard._tick = fail
        guard._turn()
