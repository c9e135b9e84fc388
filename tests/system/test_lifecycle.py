"""Stopping, deleting and waiting: a task never stays in a status that nobody ends, and its counters are those of the data."""

from __future__ import annotations

import time

import pytest
from django_q.models import OrmQ

from migrations_app.choices import TaskStatus
from migrations_app.models import Link, LogEntry, MigrationTask
from migrations_app.present import TaskView
from migrations_app.services import links, tasks
from tests.support.fixtures import ServerFactory
from tests.support.proxy import FaultProxy
from tests.support.servers import Server
from tests.support.wait import PATIENCE, wait_for

from .cases import Case
from .conftest import SOURCE, MakeMachine, MakeProxy
from .machines import Machine, descriptors, kill, resident_kb

S = TaskStatus
SLOW = 2000  # microseconds that the source takes for each key of the snapshot


def fill_databases(server: Server, **counts: int) -> None:
    """`db0=5` → five keys in database 0."""
    for name, count in counts.items():
        with server.client(db=int(name[2:])) as client:
            client.mset({f"{name}:{number}": "x" * 100 for number in range(count)})


def slow(case: Case, microseconds: int) -> None:
    with case.source.client() as client:
        client.config_set("rdb-key-save-delay", microseconds)


class Counters:
    """Looks at the counters as a page does, and remembers what cannot be."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.wrong: list[str] = []
        self.percents: list[float] = []

    def look(self) -> None:
        row = self.case.progress
        problems = {
            "percent": row.percent is not None and not 0 <= row.percent <= 100,
            "more keys than there are": row.keys_total is not None and row.keys_done > row.keys_total,
            "databases do not add up": sum(row.databases.values()) != row.keys_done,
            "complete and not complete": row.percent == 100 and row.keys_done != row.keys_total,
        }
        self.wrong += [f"{name}: {vars(row)}" for name, is_so in problems.items() if is_so]
        if row.percent is not None and (not self.percents or self.percents[-1] != row.percent):
            self.percents.append(row.percent)


def test_a_full_phase_that_repeats_is_counted_from_its_beginning(
    shared_machine: Machine, sides: tuple[Server, Server], fault_proxy: MakeProxy
) -> None:
    """Once by kill -9, once because the network cuts it off among the databases that are left out: keys, skipped keys and percent
    are right at every look and at the end."""
    source, target = sides
    with source.client() as client:
        client.config_set("rdbcompression", "no")
    fill_databases(source, db0=200, db1=3000, db2=300, db3=100)
    proxy: FaultProxy = fault_proxy(source)
    case = Case(source, target, source_proxy=proxy, databases=[0, 2])
    counters = Counters(case)

    def looking(seen: bool) -> bool:
        counters.look()
        return seen

    slow(case, SLOW)
    case.start()
    case.wait(lambda: looking(case.status == S.FULL and (case.progress.percent or 0) > 10), 30, "no percent")
    # As far as the keys of database 1; slow, so that the attempt after it is not over before the limit is lifted.
    proxy.truncate_after(100_000)
    kill(case.worker)
    case.wait(lambda: looking(case.progress.full_syncs >= 3), 30, "not begun again")
    proxy.truncate_after(None)
    slow(case, 0)
    case.wait(lambda: looking(case.status == S.INCREMENTAL), 30, "not incremental")
    case.settle_databases(0, 2)
    counters.look()
    assert counters.wrong == []
    row = case.progress
    assert (row.keys_done, row.keys_total, row.keys_skipped, row.percent) == (500, 500, 3100, 100)
    assert row.databases == {"0": 200, "2": 300}
    assert case.stop() == S.COMPLETED


def test_a_stop_in_the_full_phase(shared_machine: Machine, sides: tuple[Server, Server]) -> None:
    """Within seconds; the task counts as stopped early, and resuming it begins anew."""
    fill_databases(sides[0], db0=8000)
    case = Case(*sides)
    slow(case, SLOW)
    case.start()
    case.wait(lambda: case.status == S.FULL and case.progress.keys_done > 20, 20)
    began = time.monotonic()
    assert case.stop() == S.STOPPED
    assert time.monotonic() - began < 6 * PATIENCE
    case.nothing_more_arrives()
    slow(case, 0)
    case.resume()
    case.settle()
    assert case.stop() == S.COMPLETED


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_stop_while_it_tries_again(
    shared_machine: Machine, sides: tuple[Server, Server], fault_proxy: MakeProxy, side: str
) -> None:
    """Also where a connection hangs that is just being made: the pause between two attempts and the attempt itself end in time."""
    proxy: FaultProxy = fault_proxy(sides[0] if side == "source" else sides[1])
    source_proxy, target_proxy = (proxy, None) if side == "source" else (None, proxy)
    case = Case(*sides, source_proxy=source_proxy, target_proxy=target_proxy)
    case.start()
    case.wait_until_following()
    proxy.refuse()
    proxy.cut()
    case.wait(lambda: case.status == S.RETRYING, 20)
    began = time.monotonic()
    assert case.stop() == S.COMPLETED
    assert time.monotonic() - began < 6 * PATIENCE
    case.nothing_more_arrives()


def test_a_stop_while_no_worker_exists(sides: tuple[Server, Server], machine: MakeMachine) -> None:
    """Before any cluster runs it is settled at once; after the death of a whole machine by the tick of the next one."""
    case = Case(*sides)
    case.start()
    assert tasks.stop_task(None, case.row()).status == S.STOPPED
    case.resume()
    first = machine()
    case.wait_until_following()
    first.kill_all()
    assert tasks.stop_task(None, case.row()).status == S.STOPPING, "its lease has not run out yet"
    machine()
    case.wait(lambda: case.status == S.COMPLETED, 30, "nobody settles it")
    assert case.link.owner == ""
    case.nothing_more_arrives()


def test_delete_after_stop(shared_machine: Machine, sides: tuple[Server, Server]) -> None:
    """Its rows go, also while a message for it is still under way; the target keeps its data."""
    fill_databases(sides[0], db0=50)
    case = Case(*sides)
    case.start()
    case.settle()
    pk, link = case.task.pk, case.link
    case.stop()
    links.ring(link.pk)
    tasks.delete_task(None, case.row())
    assert not MigrationTask.objects.filter(pk=pk).exists()
    assert not Link.objects.filter(pk=link.pk).exists()
    assert not LogEntry.objects.filter(task_id=pk).exists()
    wait_for(lambda: not OrmQ.objects.exists(), 20, "the message is left")
    with case.target.client() as client:
        assert client.dbsize() >= 50
    assert "Traceback" not in shared_machine.log


@pytest.mark.timeout(180)
def test_more_links_than_workers(redis_server: ServerFactory, machine: MakeMachine) -> None:
    """Six tasks, two workers: four wait, and their pages say so; whenever one ends another one gets its turn. Messages do not pile
    up meanwhile, and an idle machine that joins takes two more."""
    source = redis_server("redis-7.0", config=SOURCE)
    fill_databases(source, db0=100)
    cases = [Case(source, redis_server("redis-7.0")) for _ in range(6)]
    first = machine(workers=2)
    for case in cases:
        case.start()

    def running() -> list[Case]:
        return [case for case in cases if case.status == S.INCREMENTAL and case.link.owner]

    def waiting() -> list[Case]:
        return [case for case in cases if case.status == S.STARTING and not case.link.owner]

    def told() -> str:
        return str([(case.status, case.link.owner, case.link.rung_at) for case in cases])

    def two_run_and_others_wait(others: int) -> bool:
        return len(running()) == 2 and len(waiting()) == others

    wait_for(lambda: two_run_and_others_wait(4), 30, told)
    assert all(TaskView(case.row()).waits_for_worker for case in waiting())
    wait_for(lambda: OrmQ.objects.count() <= 4, 10, "messages pile up")
    for others in (3, 2):
        running()[0].stop()
        wait_for(lambda: two_run_and_others_wait(others), 30, told)  # noqa: B023
    assert OrmQ.objects.count() <= 4
    second = machine(workers=2)
    wait_for(lambda: len(running()) == 4, 40, told)
    assert not waiting()
    for case in cases:
        if not case.status.is_final:
            assert case.stop() == S.COMPLETED
    for one in (first, second):
        assert one.stop() == 0, one.log
        assert "Traceback" not in one.all_logs()


@pytest.mark.timeout(180)
def test_nothing_grows_over_many_runs(shared_machine: Machine, sides: tuple[Server, Server]) -> None:
    """A task that fails and is resumed again and again leaves no process, no descriptor, no message and few lines behind."""
    case = Case(*sides)
    # A worker ends after each job and is replaced a moment later: only a pool that is complete can be compared.
    complete = 4 + shared_machine.workers  # guard, sentinel, pusher, monitor
    with case.target.client() as client:
        client.config_set("requirepass", "changed")
        case.start()
        case.wait_for_failure()
        shared_machine.wait_until_tidy()
        shared_machine.wait_for_processes(complete)
        before = _size(shared_machine)
        lines = case.task.log.count()
        for _ in range(10):
            case.resume()
            case.wait_for_failure()
        client.config_set("requirepass", "")
    shared_machine.wait_until_tidy()
    shared_machine.wait_for_processes(complete)
    after = _size(shared_machine)
    assert after[0] <= before[0] + 3
    assert after[1] <= before[1] + 3000
    assert case.task.log.count() - lines == 30, "resumed, started and failed, ten times"
    # The link may have been asked for twice; whoever comes second finds nothing to do, a moment after the failure.
    wait_for(lambda: not OrmQ.objects.exists(), 20, "messages are left")


def _size(machine: Machine) -> tuple[int, int]:
    """Descriptors and memory (KB) of guard and sentinel."""
    lasting = (machine.main, machine.sentinel)
    return (
        sum(descriptors(pid) for pid in lasting),
        sum(resident_kb(pid) for pid in lasting),
    )
