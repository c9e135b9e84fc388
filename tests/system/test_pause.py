"""Pause, resume, release, and what is changed while a task runs: on real clusters, under a writer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from migrations_app.choices import SpeedClass, TaskStatus
from migrations_app.demo.writer import Writer, check_audit
from migrations_app.models import Inspection
from migrations_app.services import tasks
from portal.choices import Origin
from portal.errors import Conflict
from portal.services.connections import ConnectionParams, create_self_hosted
from tests.support.fixtures import ServerFactory
from tests.support.servers import Server
from tests.support.wait import wait_for

from .cases import Case, wait_until_applied
from .conftest import SOURCE, MakeMachine
from .machines import Machine, alive

S = TaskStatus


def test_paused_under_a_writer_and_resumed(shared_machine: Machine, sides: tuple[Server, Server]) -> None:
    """It stands still at once, holds its target, and goes on by partial resynchronization: nothing is lost or applied twice."""
    source, target = sides
    case = Case(source, target)
    with Writer(source.client(), seed=7, rate=1500) as writer:
        case.start()
        case.wait_until_following()
        for _ in range(3):
            tasks.pause_task(None, case.row())
            case.wait(lambda: case.status == S.PAUSED, 20, "not paused")
            assert case.link.owner == ""
            case.nothing_more_arrives()
            assert (case.row().pause_reason, case.row().paused_at is not None) == ("", True)
            epoch = case.link.epoch
            case.resume()
            case.wait_until_following(after_epoch=epoch)
        expected = writer.stop()
    wait_until_applied(case)
    case.wait(lambda: case.progress.caught_up, 30)
    case.settle()
    assert check_audit(target.client(), expected) == []
    assert case.progress.full_syncs == 1
    assert case.stop() == S.COMPLETED
    spans = list(case.task.spans.values_list("status", flat=True))
    assert spans.count("paused") == 3 and spans[-1] == "completed"
    assert case.task.spans.filter(ended_at=None).count() == 1


def test_paused_in_the_full_phase(shared_machine: Machine, sides: tuple[Server, Server]) -> None:
    source, target = sides
    with source.client() as client:
        client.mset({f"key:{number}": "x" * 100 for number in range(8000)})
        client.config_set("rdb-key-save-delay", 2000)  # a quarter of a minute for all
    case = Case(source, target)
    case.start()
    case.wait(lambda: case.status == S.FULL and case.progress.keys_done > 20, 20)
    tasks.pause_task(None, case.row())
    case.wait(lambda: case.status == S.PAUSED, 20, "not paused")
    with source.client() as client:
        client.config_set("rdb-key-save-delay", 0)
    case.resume()
    case.settle()
    assert case.stop() == S.COMPLETED


def test_a_paused_task_is_stopped(shared_machine: Machine, sides: tuple[Server, Server]) -> None:
    case = Case(*sides)
    case.start()
    case.wait_until_following()
    tasks.pause_task(None, case.row())
    case.wait(lambda: case.status == S.PAUSED, 20, "not paused")
    assert tasks.stop_task(None, case.row()).status == S.COMPLETED
    case.nothing_more_arrives()


def test_class_and_retry_time_change_while_it_runs(
    shared_machine: Machine, sides: tuple[Server, Server]
) -> None:
    source, target = sides
    case = Case(source, target)
    case.start()
    case.wait_until_following()
    epoch = case.link.epoch
    tasks.change_running(None, case.row(), speed_class=SpeedClass.SMALL, retry_minutes=30)
    case.wait(lambda: case.task.log.filter(event="link.speed").exists(), 20, "the class is not followed")
    case.wait(lambda: case.task.log.filter(event="link.retry_time").exists(), 20, "nor is the retry time")
    # 6000 commands in one go take three seconds at 2000 a second: they are seen on their way.
    behind = threading.Event()
    with source.client() as client:
        pipe = client.pipeline(transaction=False)
        for number in range(12_000):
            pipe.set(f"slow:{number}", number)
        pipe.execute()

    def looking() -> bool:
        if (case.progress.lag_bytes or 0) > 100_000:
            behind.set()
        return behind.is_set()

    case.wait(looking, 20, "it was never behind")
    tasks.change_running(None, case.row(), speed_class=SpeedClass.UNLIMITED)
    case.settle()
    assert case.link.epoch == epoch, "it was restarted"
    assert case.stop() == S.COMPLETED


def test_a_password_changes_while_it_runs(shared_machine: Machine, sides: tuple[Server, Server]) -> None:
    """The link reconnects with the new one, at its position: no second full phase."""
    source, target = sides
    case = SelfHosted(source, target)
    case.start()
    case.wait_until_following()
    epoch = case.link.epoch
    with target.client() as client:
        client.config_set("requirepass", "another-one")
    row = case.row()
    params = ConnectionParams(host=target.host, port=target.port, password="another-one")
    tasks.change_connection(None, row, "target", params)
    target.password = "another-one"
    case.wait_until_following(after_epoch=epoch)
    case.settle()
    assert case.progress.full_syncs == 1
    assert "another-one" not in case.describe()
    assert case.stop() == S.COMPLETED


class SelfHosted(Case):
    """Both sides were entered for this task alone."""

    def __init__(self, source: Server, target: Server) -> None:
        super().__init__(source, target)
        made = {
            name: create_self_hosted(
                None,
                self.account,
                ConnectionParams(host=server.host, port=server.port, password=server.password),
                name,
            )
            for name, server in (("source", source), ("target", target))
        }
        self.task = tasks.configure(None, tasks.create_draft(None, self.account), **made)
        assert {one.origin for one in self.task.both_sides()} == {Origin.SELF_HOSTED}


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_released_task_is_fenced(machine: MakeMachine, sides: tuple[Server, Server]) -> None:
    """Its worker is frozen in the middle of a stream of writes, and thawed after the release: nothing that it sends is applied."""
    source, target = sides
    replication = machine()
    machine(name="default")
    case = Case(source, target)
    case.start()
    case.wait_until_following()
    worker = case.worker
    with writing(source):
        replication.freeze()  # so that nobody else takes the link over
        with source.client() as client:
            client.set("after:freeze", 1)
        # The lease runs out, so the pause is settled although the worker does not answer.
        tasks.pause_task(None, case.row())
        wait_for(lambda: settled(case), 30, case.describe)
        tasks.release_task(None, case.row())
        assert case.status == S.RELEASED
        case.wait(
            lambda: Inspection.objects.filter(task=case.task, kind="fence", status="done").exists(),
            30,
            "no fence",
        )
        before = state_of(target)
        replication.thaw()
        case.wait(lambda: not alive(worker) or not case.connections(target.client()), 30, "still connected")
        with source.client() as client:
            client.set("after:release", 1)
        case.wait(lambda: not alive(worker), 60, "the worker has not given up")
        assert state_of(target) == before
    with target.client() as client:
        assert not client.exists("after:freeze", "after:release")
    for action in (tasks.resume_task, tasks.start_task, tasks.stop_task, tasks.pause_task):
        with pytest.raises(Conflict):
            action(None, case.row())


def settled(case: Case) -> bool:
    """As the tick of another machine would do it."""
    from migrations_app.services import links

    links.settle(case.link.pk)
    return case.status == S.PAUSED


def state_of(server: Server) -> tuple[int, dict[bytes, bytes]]:
    with server.client() as client:
        return client.dbsize(), {key: client.dump(key) for key in sorted(client.keys("w:*"))}


@contextmanager
def writing(source: Server) -> Iterator[None]:
    """Writes to the source, one after the other, until the end of the block."""
    over = threading.Event()

    def run() -> None:
        number = 0
        with source.client() as client:
            while not over.wait(0.002):
                number += 1
                client.set(f"w:{number % 50}", number)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_failed_task_goes_on_by_itself(machine: MakeMachine, sides: tuple[Server, Server]) -> None:
    """The target was away, then back: nobody touches the task."""
    source, target = sides
    machine()
    machine(name="default")
    case = Case(source, target)
    target.stop()
    case.start()
    task = case.wait_for_failure()
    assert task.failure_id == "connection.refused"
    assert task.resume_next_at is not None
    case.wait(lambda: case.row().resume_attempts >= 1, 40, "nobody looks")
    assert case.status == S.FAILED
    target.start()
    case.wait(lambda: case.status == S.INCREMENTAL, 90, "not resumed")
    assert case.task.log.filter(event="task.resumed", message__contains="by itself").exists()
    case.settle()
    assert case.stop() == S.COMPLETED


def test_a_change_in_the_full_phase_waits_for_its_end(
    shared_machine: Machine, redis_server: ServerFactory
) -> None:
    """To reconnect at once would mean to copy everything again."""
    source = redis_server("redis-7.0", config=SOURCE, password="of-the-source")
    with source.client() as client:
        client.mset({f"key:{number}": "x" * 100 for number in range(6000)})
        client.config_set("rdb-key-save-delay", 2000)  # twelve seconds for all
    case = SelfHosted(source, redis_server("redis-7.0"))
    case.start()
    case.wait(lambda: case.status == S.FULL and case.progress.keys_done > 20, 20)
    epoch = case.link.epoch
    params = ConnectionParams(
        host=source.host, port=source.port, username="default", password="of-the-source"
    )
    tasks.change_connection(None, case.row(), "source", params)
    keys = case.progress.keys_done
    case.wait(lambda: case.progress.keys_done > keys + 1000, 30, "it does not go on")
    assert case.link.epoch == epoch
    with source.client() as client:
        client.config_set("rdb-key-save-delay", 0)
    case.wait_until_following(after_epoch=epoch)
    case.settle()
    assert case.progress.full_syncs == 1
    assert case.stop() == S.COMPLETED
