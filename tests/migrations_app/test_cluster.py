"""Real clusters on a real database between real servers: a link starts, stops, and goes on whoever is killed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from django_q.models import OrmQ, Success
from django_q.tasks import async_task

from migrations_app.choices import Desired, TaskStatus
from migrations_app.services import repairs, tasks
from tests.support.fixtures import ServerFactory
from tests.support.process import descendants_of
from tests.support.servers import Server
from tests.support.tasks import prechecked
from tests.support.wait import wait_for

from .clusters import Cluster, Story, shared_database

S = TaskStatus
NO_DELAY = {"repl-diskless-sync-delay": 0}


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: object) -> Iterator[str]:
    """A database that other processes share; SQLite unless the test says otherwise."""
    with django_db_blocker.unblock(), shared_database(request, tmp_path) as chosen:
        yield chosen


@pytest.fixture
def new_cluster(url: str, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    made: list[Cluster] = []

    def make(**options: object) -> Cluster:
        made.append(Cluster(url, tmp_path, **options))
        return made[-1].start()

    yield make
    for cluster in made:
        pids = [cluster.main, *descendants_of(cluster.main)]
        cluster.process.end()
        for pid in pids:
            _kill(pid)


@pytest.fixture
def story(url: str, redis_server: ServerFactory) -> Story:
    source, target = redis_server("redis-7.0", config=NO_DELAY), redis_server("redis-7.0")
    with source.client() as client:
        pipe = client.pipeline(transaction=False)
        for number in range(2000):
            pipe.set(f"key:{number}", "x" * 100)
        pipe.execute()
    return Story(source, target)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie that nobody has collected does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def writing(server: Server) -> Iterator[Callable[[], int]]:
    """Counts up on the server, in a thread, while the block runs; the value tells how far it is."""
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        with server.client() as client:
            while not stop.wait(0.002):
                written = client.incr("test:counter")
                client.rpush("test:list", written)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield lambda: written
    finally:
        stop.set()
        thread.join(10)


def assert_same(story: Story, count: int) -> None:
    """Every write has arrived, each once and in its order."""
    with story.source.client() as source, story.target.client() as target:
        # Each write is two commands, and the second one may be on its way still.
        story.wait(
            lambda: (
                target.get("test:counter") == source.get("test:counter") and target.llen("test:list") >= count
            ),
            what="writes are missing",
        )
        expected = [str(number).encode() for number in range(1, count + 1)]
        assert target.lrange("test:list", 0, -1) == expected
        assert target.mget([f"key:{number}" for number in range(2000)]).count(b"x" * 100) == 2000


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_from_start_to_stop(story: Story, new_cluster: Callable[..., Cluster]) -> None:
    new_cluster()
    story.start()
    with writing(story.source) as written:
        story.wait_until_following()
        story.wait(lambda: story.progress.caught_up, what="not caught up")
    assert_same(story, written())
    tasks.stop_task(None, story.task)
    story.wait(lambda: story.status == S.COMPLETED, 10)
    with story.source.client() as source, story.target.client() as target:
        source.set("after", "the stop")
        assert not target.exists("after")
    assert story.link.owner == ""
    assert story.link.desired == Desired.STOP
    progress = story.progress
    assert (progress.full_syncs, progress.keys_done >= 2000, progress.percent) == (1, True, 100)
    events = list(story.task.log.values_list("event", flat=True))
    assert events[:3] == ["task.created", "task.started", "worker.started"]
    assert events[-1] == "task.completed"


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_a_cluster_that_shuts_down_hands_its_links_over(
    story: Story, new_cluster: Callable[..., Cluster]
) -> None:
    first = new_cluster()
    story.start()
    story.wait_until_following()
    epoch = story.link.epoch
    second = new_cluster()
    with writing(story.source) as written:
        first.process.signal(signal.SIGTERM)
        assert first.process.wait(10) == 0
        assert "another one goes on" in "".join(story.task.log.values_list("message", flat=True))
        story.wait_until_following(after_epoch=epoch, seconds=10)
    assert story.worker in second.pool()
    assert_same(story, written())
    assert story.progress.full_syncs == 1


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("victim", ["worker", "sentinel", "main"])
def test_kill_9(story: Story, new_cluster: Callable[..., Cluster], victim: str) -> None:
    """Whoever it is, the link goes on by itself within seconds, and nothing is lost or doubled."""
    cluster = new_cluster()
    story.start()
    with writing(story.source) as written:
        story.wait_until_following()
        epoch, pids = story.link.epoch, [*descendants_of(cluster.main)]
        _kill({"worker": story.worker, "sentinel": cluster.sentinel, "main": cluster.main}[victim])
        if victim == "main":
            cluster.process.wait()
            wait_for(lambda: not [pid for pid in pids if alive(pid)], 8, "orphans live on")
            cluster.start()  # as a supervisor does
        story.wait_until_following(after_epoch=epoch, seconds=15)
    assert_same(story, written())
    assert story.progress.full_syncs == 1
    if victim == "sentinel":
        wait_for(lambda: not [pid for pid in pids if alive(pid)], 5, "orphans live on")


def test_kill_9_of_everything_at_once(story: Story, new_cluster: Callable[..., Cluster]) -> None:
    """Nobody is left to give the lease back: it runs out."""
    cluster = new_cluster()
    story.start()
    with writing(story.source) as written:
        story.wait_until_following()
        epoch = story.link.epoch
        for pid in [cluster.main, *descendants_of(cluster.main)]:
            _kill(pid)
        cluster.process.wait()
        cluster.start()
        story.wait_until_following(after_epoch=epoch, seconds=25)
    assert_same(story, written())
    assert story.progress.full_syncs == 1


def test_killing_idle_workers_leaves_the_queue_usable(
    story: Story, new_cluster: Callable[..., Cluster]
) -> None:
    """django-q2's own queue would stay locked by a worker that is killed while it waits."""
    cluster = new_cluster(workers=2)
    before = cluster.pool()
    for pid in before[:2]:
        _kill(pid)
    wait_for(lambda: len([pid for pid in cluster.pool() if alive(pid)]) == 4 and cluster.pool() != before, 10)
    story.start()
    story.wait_until_following(seconds=15)
    assert "cluster.pool_lost" not in cluster.log


def test_a_sentinel_that_hangs_is_replaced(story: Story, new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster()
    story.start()
    story.wait_until_following()
    epoch, sentinel = story.link.epoch, cluster.sentinel
    os.kill(sentinel, signal.SIGSTOP)
    story.wait_until_following(after_epoch=epoch, seconds=40)
    assert cluster.sentinel != sentinel
    assert "the sentinel hangs" in cluster.log


def test_a_signal_to_the_whole_group_ends_it_cleanly(
    story: Story, new_cluster: Callable[..., Cluster]
) -> None:
    """Ctrl-C in a terminal reaches every process at once."""
    cluster = new_cluster()
    story.start()
    story.wait_until_following()
    os.killpg(cluster.main, signal.SIGINT)
    assert cluster.process.wait(10) == 0
    assert (story.link.owner, story.link.desired, story.status) == ("", Desired.RUN, S.INCREMENTAL)
    epoch = story.link.epoch
    cluster.start()
    story.wait_until_following(after_epoch=epoch)
    os.killpg(cluster.main, signal.SIGTERM)
    assert cluster.process.wait(10) == 0
    assert (story.link.owner, story.status) == ("", S.INCREMENTAL)


def test_more_links_than_workers_wait_their_turn(
    story: Story, new_cluster: Callable[..., Cluster], redis_server: ServerFactory
) -> None:
    from .clusters import register

    third = redis_server("redis-7.0")
    other = tasks.create_task(None, story.account, story.task.source, register(story.account, "third", third))
    new_cluster(workers=1)
    story.start()
    story.wait_until_following()
    tasks.start_task(None, prechecked(other))
    with story.source.client() as source:
        source.set("waiting", 1)
    tasks.stop_task(None, story.task)
    with third.client() as client:
        story.wait(lambda: client.exists("key:1999"), 20, "the second link got no worker")


def test_a_wrong_password_fails_the_task_with_what_to_do(
    story: Story, new_cluster: Callable[..., Cluster]
) -> None:
    with story.target.client() as target:
        target.config_set("requirepass", "changed-since")
    cluster = new_cluster()
    story.start()
    story.wait(lambda: story.status == S.FAILED, 15)
    story.task.refresh_from_db()
    assert story.task.failure_id == "auth.refused"
    assert story.task.failure_advice
    assert "Traceback" not in cluster.log
    assert "Traceback" not in story.describe()


def test_the_default_cluster_does_short_jobs_and_drains(
    url: str, new_cluster: Callable[..., Cluster]
) -> None:
    cluster = new_cluster(name="default")
    async_task("time.sleep", 0)
    wait_for(lambda: Success.objects.filter(func="time.sleep").exists(), 10)
    wait_for(lambda: not OrmQ.objects.exists(), 5)
    # A job that does not end: shutting down waits for it, but not for ever, and its message is kept.
    async_task("time.sleep", 90, task_name="endless")
    wait_for(lambda: "processing endless" in cluster.log, 10)
    cluster.process.signal(signal.SIGTERM)
    assert cluster.process.wait(25) == 0
    assert "cluster.worker_killed" in cluster.log
    assert OrmQ.objects.count() == 1


def test_a_precheck_its_repair_and_the_way_back(story: Story, new_cluster: Callable[..., Cluster]) -> None:
    """Workers of the cluster `default` look, set what is advised, and put it back once the task is over."""

    def setting() -> str:
        with story.source.client() as client:
            return str(client.config_get("repl-timeout")["repl-timeout"])

    with story.source.client() as client:
        client.config_set("repl-timeout", 60)
    new_cluster(name="default")
    inspection = tasks.precheck_task(None, story.task)
    story.wait(lambda: story.status in (S.READY, S.PRECHECK_FAILED), 60, "no precheck")
    assert story.status == S.READY, list(
        inspection.items.filter(outcome="failed").values_list("code", "found")
    )
    repairs.request_repair(None, inspection.items.get(code="source.repl_timeout"))
    story.wait(lambda: setting() == "300", 30, "not repaired")
    story.task.refresh_from_db()
    type(story.task).objects.update(status=S.COMPLETED)
    story.wait(lambda: setting() == "60", 30, "not put back")
    story.wait(lambda: not repairs.pending(story.task).exists(), 30, "not noted")
