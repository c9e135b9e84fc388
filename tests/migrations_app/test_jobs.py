"""Jobs and the tick: who asks for workers, and what a message that comes twice does."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django_q.models import OrmQ

from migrations_app import drain, jobs
from migrations_app.choices import Desired, TaskStatus
from migrations_app.models import Link, MigrationTask
from migrations_app.services import links

from .conftest import TaskMaker

pytestmark = pytest.mark.django_db
S = TaskStatus


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[links.Lease]:
    made: list[links.Lease] = []
    monkeypatch.setattr("migrations_app.runner.link.run", made.append)
    return made


class TestRunLink:
    def test_runs_under_a_lease(self, make_task: TaskMaker, runs: list[links.Lease]) -> None:
        jobs.run_link(make_task(S.STARTING).link.pk)
        assert [lease.epoch for lease in runs] == [1]

    def test_a_message_that_comes_twice_runs_once(
        self, make_task: TaskMaker, runs: list[links.Lease]
    ) -> None:
        link_id = make_task(S.STARTING).link.pk
        jobs.run_link(link_id)
        assert "nothing to do" in jobs.run_link(link_id)
        assert len(runs) == 1

    def test_a_message_for_a_deleted_link_does_nothing(self, runs: list[links.Lease]) -> None:
        assert "nothing to do" in jobs.run_link(4711)
        assert runs == []

    def test_nothing_starts_once_the_cluster_drains(
        self, make_task: TaskMaker, runs: list[links.Lease]
    ) -> None:
        drain.request()
        jobs.run_link(make_task(S.STARTING).link.pk)
        assert runs == []
        assert Link.objects.get().owner == ""

    def test_the_message_is_acknowledged_as_soon_as_the_lease_is_held(
        self, make_task: TaskMaker, runs: list[links.Lease], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        link_id = make_task(S.STARTING).link.pk
        links.ring(link_id)
        message = OrmQ.objects.get()
        monkeypatch.setattr(jobs, "_message_id", message.pk)
        jobs.run_link(link_id)
        assert runs
        assert not OrmQ.objects.exists()


class TestTick:
    def test_asks_for_workers_for_links_without_one(
        self, make_task: TaskMaker, django_capture_on_commit_callbacks: Any
    ) -> None:
        task = make_task(S.INCREMENTAL)
        with django_capture_on_commit_callbacks(execute=True):
            jobs.tick("here")
        (message,) = OrmQ.objects.all()
        assert (message.key, message.task["func"], message.task["args"]) == (
            "replication",
            "migrations_app.jobs.run_link",
            (task.link.pk,),
        )

    def test_messages_that_wait_are_not_multiplied(
        self, make_task: TaskMaker, django_capture_on_commit_callbacks: Any
    ) -> None:
        """All workers are busy: the message stays where it is, however long that takes."""
        make_task(S.STARTING)
        for _ in range(3):
            Link.objects.update(rung_at=Now() - timedelta(hours=1))
            with django_capture_on_commit_callbacks(execute=True):
                jobs.tick("here")
        assert OrmQ.objects.count() == 1

    def test_a_worker_that_died_is_replaced_before_its_lease_runs_out(
        self, make_task: TaskMaker, django_capture_on_commit_callbacks: Any
    ) -> None:
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        task = make_task(S.INCREMENTAL)
        assert links.acquire_lease(task.link.pk, f"host:{child.pid}:here")
        with django_capture_on_commit_callbacks(execute=True):
            jobs.tick("elsewhere")
            assert not OrmQ.objects.exists(), "another machine cannot know, and waits for the lease"
        with django_capture_on_commit_callbacks(execute=True):
            jobs.tick("here")
        assert OrmQ.objects.count() == 1
        assert Link.objects.get().owner == ""

    def test_a_living_worker_is_left_alone(self, make_task: TaskMaker, bell: list[int]) -> None:
        task = make_task(S.INCREMENTAL)
        owner = f"host:{os.getpid()}:here"
        assert links.acquire_lease(task.link.pk, owner)
        jobs.tick("here")
        assert Link.objects.get().owner == owner

    def test_a_stop_without_a_worker_is_settled(self, make_task: TaskMaker) -> None:
        task = make_task(S.STOPPING, desired="stop", reached_incremental=True)
        jobs.tick("here")
        assert MigrationTask.objects.get(pk=task.pk).status == S.COMPLETED
        assert Link.objects.get().desired == Desired.STOP
