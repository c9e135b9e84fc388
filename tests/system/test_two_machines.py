"""Two clusters on one database: whoever stops, freezes or sees another time, the link has one owner and goes on."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connections
from django.db.models.functions import Now
from django_q.models import OrmQ, Success
from django_q.tasks import async_task

from migrations_app.choices import TaskStatus
from migrations_app.demo.audit import AuditExpected
from migrations_app.demo.dataset import fill
from migrations_app.demo.writer import Writer
from migrations_app.models import Link
from migrations_app.services import links, tasks
from tests.engine.links import assert_audit, assert_equal, full_counts
from tests.migrations_app.clusters import Story, database
from tests.support.postgres import Postgres
from tests.support.servers import Server
from tests.support.wait import PATIENCE, wait_for

from .cases import wait_until_applied
from .conftest import MakeMachine
from .machines import Machine, alive, freeze, kill
from .watch import OneWriter

BOTH = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def story(url: str, sides: tuple[Server, Server]) -> Story:
    fill(sides[0].url, keys=2000, big_value_bytes=1 << 20, large_elements=300)
    return Story(*sides)


@contextmanager
def under_load(story: Story) -> Iterator[OneWriter]:
    """A writer at the source while the block runs; at its end both sides are equal, each write applied once, by one at a time."""
    with OneWriter(story.target, story.link.name) as watch:
        with Writer(story.source.url, seed=11, rate=1500) as writer:
            yield watch
            expected = writer.stop()
        settle(story, expected)
        watch.check()


def settle(story: Story, expected: AuditExpected) -> None:
    """Stop the task once everything is applied, and compare."""
    wait_until_applied(story)
    tasks.stop_task(None, story.task)
    story.wait(lambda: story.status == TaskStatus.COMPLETED, 20, "not stopped")
    assert_equal(story.source, story.target)
    assert_audit(story.target, expected)


def owner_is(story: Story, machine: Machine) -> bool:
    owner = story.link.owner
    return bool(owner) and int(owner.split(":")[1]) in machine.processes()


@BOTH
def test_sigterm_hands_the_link_over_to_the_other_machine(story: Story, machine: MakeMachine) -> None:
    """There and back, once in the full phase: the first one has ended within seconds, and no second full phase follows."""
    first, second = machine(), machine(start=False)
    story.start()
    with under_load(story) as watch:
        story.wait_until_following()
        second.start()
        for leaving, other in ((first, second), (second, first)):
            epoch, began = story.link.epoch, time.monotonic()
            assert leaving.stop() == 0
            assert time.monotonic() - began < 8 * PATIENCE
            assert "cluster.worker_killed" not in leaving.log, "it has not ended by itself"
            story.wait_until_following(after_epoch=epoch, seconds=15)
            assert owner_is(story, other)
            assert leaving.processes() == []
            leaving.start()
    assert len(watch.epochs) == 3
    assert (story.progress.full_syncs, full_counts(story.source)[0]) == (1, 1)
    assert "Traceback" not in first.all_logs() + second.all_logs()


def test_sigterm_in_the_full_phase(story: Story, machine: MakeMachine) -> None:
    """The other machine begins the full phase anew and completes it."""
    with story.source.client() as client:
        client.config_set("rdb-key-save-delay", 6000)  # twelve seconds for all
    first, second = machine(), machine()
    story.start()
    with under_load(story):
        story.wait(lambda: story.status == TaskStatus.FULL and story.progress.keys_done > 100, 20)
        with story.source.client() as client:
            client.config_set("rdb-key-save-delay", 0)
        epoch = story.link.epoch
        leaving = first if owner_is(story, first) else second
        assert leaving.stop() == 0
        story.wait_until_following(after_epoch=epoch, seconds=20)
    assert story.progress.full_syncs == 2


def test_sigterm_while_the_target_hangs(story: Story, machine: MakeMachine) -> None:
    """What cannot end cleanly is ended, within the limit; the link goes on elsewhere when the target is back."""
    first = machine()
    story.start()
    with under_load(story):
        story.wait_until_following()
        second = machine()
        epoch = story.link.epoch
        story.target.pause()
        began = time.monotonic()
        assert first.stop(30) == 0
        assert time.monotonic() - began < 20
        assert first.processes() == []
        story.target.resume()
        story.wait_until_following(after_epoch=epoch, seconds=40)
        assert owner_is(story, second)
    assert story.progress.full_syncs == 1


@BOTH
def test_a_frozen_worker_writes_nothing_after_its_successor_has_begun(
    story: Story, machine: MakeMachine
) -> None:
    """SIGSTOP until the lease has run out; when it wakes up it is fenced and ends."""
    machine()
    story.start()
    with under_load(story) as watch:
        story.wait_until_following()
        machine()
        epoch, frozen = story.link.epoch, story.worker
        freeze(lambda: [frozen])
        story.wait_until_following(after_epoch=epoch, seconds=40)
        assert story.worker != frozen
        written = watch.writes[epoch]
        kill(frozen, signal.SIGCONT)
        wait_for(lambda: not alive(frozen), 20, "the frozen worker lives on")
        assert watch.writes[epoch] == written
        assert story.link.epoch == epoch + 1
    assert story.progress.full_syncs == 1
    assert "Traceback" not in story.describe()


def test_a_machine_that_was_suspended_is_of_use_again(story: Story, machine: MakeMachine) -> None:
    """All processes are frozen at once for longer than a lease; afterwards the machine can take the link back."""
    first = machine()
    story.start()
    with under_load(story):
        story.wait_until_following()
        second = machine()
        epoch, frozen = story.link.epoch, story.worker
        first.freeze()
        story.wait_until_following(after_epoch=epoch, seconds=40)
        first.thaw()
        wait_for(lambda: not alive(frozen), 20, "the frozen worker lives on")
        assert owner_is(story, second)
        epoch = story.link.epoch
        assert second.stop() == 0
        story.wait_until_following(after_epoch=epoch, seconds=30)
        assert owner_is(story, first)
        first.wait_until_tidy()


def test_a_lost_and_a_doubled_message_change_nothing(story: Story, machine: MakeMachine) -> None:
    """The message of the start is deleted before anybody reads it; later the bell rings five times for a link that runs."""
    story.start()
    assert OrmQ.objects.all().delete()[0] == 1
    machine()
    machine()
    with under_load(story) as watch:
        story.wait_until_following(seconds=40)
        epoch = story.link.epoch
        for _ in range(5):
            links.ring(story.link.pk)
        wait_for(lambda: not OrmQ.objects.exists(), 20, "messages are left")
        story.wait_until_following()
        assert story.link.epoch == epoch
    assert len(watch.epochs) == 1
    assert list(story.task.log.values_list("event", flat=True)).count("worker.started") == 1


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seconds", [4, 14])
def test_the_database_goes_away_for_some_seconds(
    sides: tuple[Server, Server], tmp_path: Path, django_db_blocker: object, seconds: int
) -> None:
    """Less and more than a lease: the link goes on copying meanwhile, and both clusters are as before when the database is back.

    Their logs tell of it in a line now and then, without a traceback.
    """
    with (
        Postgres() as server,
        django_db_blocker.unblock(),  # type: ignore[attr-defined]
        database(server.url),
    ):
        machine, jobs = Machine(server.url, tmp_path), Machine(server.url, tmp_path, name="default")
        try:
            machine.start()
            jobs.start()
            story = Story(*sides)
            story.start()
            with under_load(story):
                story.wait_until_following()
                connections["default"].close()
                began = time.monotonic()
                server.stop()
                until = time.monotonic() + seconds
                _still_copies(story, until)
                server.start()
                story.wait_until_following(seconds=40)
                away = time.monotonic() - began
                _takes_messages(story, machine)
                async_task("time.sleep", 0)
                wait_for(
                    lambda: Success.objects.filter(func="time.sleep").exists(), 20, "no short jobs any more"
                )
            assert story.progress.full_syncs == 1
            for cluster in (machine, jobs):
                assert "Traceback" not in cluster.log, cluster.log[-5000:]
                assert cluster.log.count("unreachable") < 5 * (away + 5)
                assert cluster.stop() == 0
        finally:
            machine.close()
            jobs.close()
            connections["default"].close()


def _still_copies(story: Story, until: float) -> None:
    """Without the database writes arrive at the target until this moment."""
    with story.source.client() as source, story.target.client() as target:
        while time.monotonic() < until:
            number = source.incr("test:mark")
            wait_for(lambda: int(target.get("test:mark") or 0) >= number, 10, "the link waits")  # noqa: B023


def _takes_messages(story: Story, machine: Machine) -> None:
    """The pool is of use as before."""
    assert alive(machine.sentinel)
    links.ring(story.link.pk)
    wait_for(lambda: not OrmQ.objects.exists(), 20, "nobody takes messages any more")


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
#define AHEAD 3600
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, at);
    if (id == CLOCK_REALTIME) at->tv_sec += AHEAD;
    return result;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


def an_hour_ahead(folder: Path) -> dict[str, str]:
    """The environment of a machine whose clock is wrong. Needs a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    source, library = folder / "ahead.c", folder / "ahead.so"
    source.write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True, timeout=60)
    return {"LD_PRELOAD": str(library)}


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_the_clock_of_leases_is_that_of_the_database(
    story: Story, machine: MakeMachine, tmp_path: Path
) -> None:
    """A machine that is an hour ahead does not take a link whose lease is good, and its own leases are no longer than others'."""
    right = machine()
    story.start()
    with under_load(story) as watch:
        story.wait_until_following()
        began = time.time()
        wrong = machine(env=an_hour_ahead(tmp_path))
        assert _log_is_ahead(wrong, began)
        _wait_for_renewals(story, 2)
        assert story.link.epoch == 1
        assert right.stop() == 0
        story.wait_until_following(after_epoch=1, seconds=20)
        assert owner_is(story, wrong)
        _wait_for_renewals(story, 2)
        row = Link.objects.annotate(now=Now()).get(pk=story.link.pk)
        assert row.lease_until is not None
        assert timedelta(0) < row.lease_until - row.now <= timedelta(seconds=links.LEASE_SECONDS)
        right.start()
        _wait_for_renewals(story, 2)
        assert story.link.epoch == 2
        # Killed, it leaves a lease that runs out after seconds, not after an hour.
        wrong.kill_all()
        story.wait_until_following(after_epoch=2, seconds=30)
    assert watch.epochs == [1, 2, 3]


def _log_is_ahead(machine: Machine, began: float) -> bool:
    """Whether the wrong clock is really at work, in what was written since."""
    hours = {time.strftime("%Y-%m-%dT%H", time.gmtime(at + 3600)) for at in (began, time.time())}
    return any(hour in machine.log for hour in hours)


def _wait_for_renewals(story: Story, count: int) -> None:
    seen = {story.link.lease_until}
    story.wait(lambda: seen.add(story.link.lease_until) or len(seen) > count, 30, "the lease is not renewed")  # type: ignore[func-returns-value]
