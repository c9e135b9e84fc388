"""kill -9 at random moments of whatever runs a link: nobody helps, nothing is lost, nothing is applied twice."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from migrations_app.choices import TaskStatus
from migrations_app.demo.dataset import fill
from migrations_app.demo.writer import Writer
from migrations_app.services import tasks
from tests.engine.links import assert_audit, assert_equal, full_counts
from tests.migrations_app.clusters import Story
from tests.support.process import descendants_of
from tests.support.servers import Server
from tests.support.wait import wait_for

from .cases import wait_until_applied
from .conftest import MakeMachine
from .machines import Machine, alive, descriptors, kill
from .watch import OneWriter

KILLS = int(os.environ.get("SWITCHYARD_TEST_KILLS") or 20)
SEED = int(os.environ.get("SWITCHYARD_TEST_SEEDS") or 0)
VICTIMS = (
    "worker",
    "sentinel",
    "worker",
    "guard",
    "worker",
    "sentinel",
    "cluster",
    "worker",
    "pusher",
    "guard",
)
KEYS = 5000
SLOW = 2000  # microseconds that the source takes for each key of the snapshot
IN_FULL = 1500  # a kill falls before so many writes of the full phase; what recovers from the kill before it takes its time, too


class Killer:
    """Kills one part of a machine, starts again what a supervisor would, and waits until the link has a new owner."""

    def __init__(self, machine: Machine, story: Story, watch: OneWriter, choose: random.Random) -> None:
        self.machine, self.story, self.watch, self.choose = machine, story, watch, choose
        self.killed: Counter[str] = Counter()
        self._descriptors: dict[int, int] = {}

    def kill(self, victim: str) -> None:
        """One kill; in a quarter of the cases what is left is hit again at once, before anything has recovered."""
        epoch = self.story.link.epoch
        self._strike(victim)
        if victim != "pusher" and self.choose.random() < 0.25:
            pids = [pid for pid in descendants_of(self.machine.main) if alive(pid)]
            if pids:
                kill(self.choose.choice(pids))
                self.killed["at once"] += 1
        if victim != "pusher":
            self.story.wait(
                lambda: self.story.link.epoch > epoch and self.story.link.owner,
                60,
                f"no new owner after {victim}",
            )
            self.wait_for_epoch()
        self.machine.wait_until_tidy()
        self._look_at_descriptors()

    def _strike(self, victim: str) -> None:
        machine = self.machine
        match victim:
            case "worker":
                kill(self.story.worker)
            case "sentinel":
                machine.kill_sentinel()
            case "pusher":
                # One of the pool that does not run the link, perhaps the pusher, the monitor or an idle worker.
                kill(self.choose.choice([pid for pid in machine.pool() if pid != self.story.worker]))
            case "guard":
                machine.kill_guard()
                machine.start()
            case _:
                machine.kill_all()
                machine.start()
        self.killed[victim] += 1

    def wait_for_epoch(self) -> None:
        """Until the owner of now has taken the target over."""
        self.story.wait(
            lambda: self.story.link.owner and self.watch.newest >= self.story.link.epoch, 60, "not taken over"
        )

    def wait_for_writes(self, count: int) -> None:
        """Until this many commands were written to the target from now on, by whomever."""
        before = self.watch.writes.total()
        self.story.wait(lambda: self.watch.writes.total() >= before + count, 60, "nothing is written")

    def _look_at_descriptors(self) -> None:
        main = self.machine.main
        first = self._descriptors.setdefault(main, descriptors(main))
        assert descriptors(main) <= first + 6, "the guard keeps files of dead pools open"


def phase_of(target: Server, story: Story) -> str:
    """The phase that the checkpoint in the target names."""
    with target.client() as client:
        return (client.hget(f"switchyard:checkpoint:{story.link.name}", "phase") or b"").decode()


def victims(count: int, choose: random.Random) -> Iterator[str]:
    """Each kind in its share, in random order."""
    chosen = [VICTIMS[number % len(VICTIMS)] for number in range(count)]
    choose.shuffle(chosen)
    yield from chosen


@pytest.mark.timeout(120 + 15 * KILLS)
@pytest.mark.parametrize(
    ("url", "kills"), [("sqlite", KILLS), ("postgresql", max(4, KILLS // 4))], indirect=["url"]
)
def test_whoever_is_killed_the_link_goes_on_by_itself(
    sides: tuple[Server, Server], machine: MakeMachine, kills: int
) -> None:
    """Two fifths of the kills fall into the full phase, the others into the stream, each after a random number of writes.

    The source is told to take its time for each key of the snapshot, and the checkpoint in the target says `full` before and
    after every kill that is counted for the full phase. The audit of the writer shows that nothing was lost, applied twice or in
    another order; MONITOR of the target shows that no owner writes after its successor has taken over.
    """
    source, target = sides
    choose = random.Random(SEED)
    fill(source.url, keys=KEYS, big_value_bytes=1 << 20, large_elements=500)
    source_client = source.client()
    source_client.config_set("rdb-key-save-delay", SLOW)
    story = Story(source, target)
    cluster = machine()
    in_full = kills * 2 // 5
    hit: Counter[str] = Counter()
    with OneWriter(target, story.link.name) as watch, Writer(source.url, seed=SEED + 3, rate=1500) as writer:
        killer = Killer(cluster, story, watch, choose)
        story.start()
        story.wait(lambda: watch.newest, 30, "no worker has begun")
        for number, victim in enumerate(victims(kills, choose)):
            if number == in_full:
                source_client.config_set("rdb-key-save-delay", 0)
                story.wait_until_following(seconds=60)
                full_syncs = full_counts(source)[0]
            if number < in_full:
                story.wait(lambda: phase_of(target, story) == "full", 30, "no full phase")
                killer.wait_for_writes(choose.randrange(IN_FULL))
                before = phase_of(target, story)
                killer.kill("worker" if victim == "pusher" else victim)  # which would let the phase go on
                hit[before if before == phase_of(target, story) else "between"] += 1
            else:
                killer.wait_for_writes(choose.randrange(3000))
                hit["incremental"] += 1
                killer.kill(victim)
        story.wait_until_following(seconds=60)
        expected = writer.stop()
        wait_until_applied(story)
        tasks.stop_task(None, story.task)
        story.wait(lambda: story.status == TaskStatus.COMPLETED, 20, "not stopped")
        watch.check()
        assert story.link.epoch == watch.newest
    assert hit["full"] == in_full
    assert hit["incremental"] == kills - in_full
    assert full_counts(source)[0] == full_syncs, "a kill in the stream has led to another full phase"
    assert_equal(source, target)
    assert_audit(target, expected)
    assert writer.messages == {}
    assert cluster.stop() == 0
    wait_for(lambda: not [pid for pid in cluster.processes() if alive(pid)], 5, "processes are left")
    assert "database is locked" not in cluster.all_logs()
    assert "Traceback" not in cluster.all_logs()


def test_the_proof_of_one_writer_sees_a_second_one(sides: tuple[Server, Server]) -> None:
    """The proof itself: an older connection that writes once more is found, and one that only asks is not."""
    _, target = sides
    with OneWriter(target, "link") as watch, target.client() as old, target.client() as new:
        for epoch, client in ((1, old), (2, new)):
            client.hset("switchyard:checkpoint:link", mapping={"epoch": epoch})
            client.execute_command("HMSET", "switchyard:checkpoint:link", "format", 1, "epoch", epoch)
            client.set(f"key:{epoch}", 1)
        old.get("key:1")
        wait_for(lambda: watch.writes[2] == 2)
        watch.check()
        old.set("key:1", 2)
        wait_for(lambda: watch.violations)
        assert "a write of epoch 1 after epoch 2" in watch.violations[0]
