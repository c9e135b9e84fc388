"""Lease and epoch, progress, log, and the end of a task: what a worker may still write, and when it may not any more."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from migrations_app.choices import Desired, LogLevel, Phases, TaskStatus
from migrations_app.models import Link, LinkProgress, MigrationTask
from migrations_app.services import links
from migrations_app.services.links import Lease, LogLine
from portal.models import AuditEntry

from .conftest import TaskMaker

pytestmark = pytest.mark.django_db
S = TaskStatus


def take(task: MigrationTask, owner: str = "one:1:a") -> Lease:
    lease = links.acquire_lease(task.link.pk, owner)
    assert lease is not None
    return lease


def run_out(lease: Lease) -> None:
    """As if its worker had not been heard of for a while."""
    Link.objects.filter(pk=lease.link_id).update(lease_until=Now() - timedelta(seconds=1))


def status(task: MigrationTask) -> str:
    return MigrationTask.objects.get(pk=task.pk).status


class TestLease:
    def test_one_owner_at_a_time(self, make_task: TaskMaker) -> None:
        task = make_task(S.STARTING)
        assert take(task).epoch == 1
        assert links.acquire_lease(task.link.pk, "two:2:b") is None

    def test_a_lease_that_ran_out_is_taken_over_with_a_higher_epoch(self, make_task: TaskMaker) -> None:
        task = make_task(S.STARTING)
        old = take(task)
        run_out(old)
        new = take(task, "two:2:b")
        assert new.epoch == old.epoch + 1
        assert links.renew_lease(old) is None
        assert links.renew_lease(new) is Desired.RUN

    def test_of_two_that_see_a_free_link_one_gets_it(
        self, make_task: TaskMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both have read epoch 0. Without the comparison of epochs the second would be let in beside the first."""
        task = make_task(S.STARTING)
        row = Link.objects.filter(pk=task.link.pk)
        seen = row.get().epoch

        # The bug: an update that only names the row succeeds for both.
        assert row.update(owner="one:1:a")
        assert row.update(owner="two:2:b")

        row.update(owner="", epoch=seen)
        assert row.filter(epoch=seen).update(epoch=seen + 1, owner="one:1:a")
        assert not row.filter(epoch=seen).update(epoch=seen + 1, owner="two:2:b")

    def test_an_owner_that_comes_back_late_keeps_the_link_if_nobody_took_it(
        self, make_task: TaskMaker
    ) -> None:
        lease = take(make_task(S.FULL))
        run_out(lease)
        assert links.renew_lease(lease) is Desired.RUN

    def test_only_a_link_that_is_to_run(self, make_task: TaskMaker) -> None:
        assert links.acquire_lease(make_task(S.READY).link.pk, "one:1:a") is None

    def test_a_released_link_can_be_taken_at_once(self, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        assert links.release(take(task))
        assert take(task, "two:2:b").epoch == 2
        assert status(task) == S.FULL

    def test_the_owner_learns_what_is_wanted(self, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        lease = take(task)
        Link.objects.update(desired=Desired.STOP)
        assert links.renew_lease(lease) is Desired.STOP

    def test_the_lease_of_the_dead_is_ended(self, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        lease = take(task, "host:4711:cluster-1")
        assert [link.pk for link in links.held_by_cluster("cluster-1")] == [lease.link_id]
        assert links.held_by_cluster("cluster-2") == []
        assert links.expire_lease(lease.link_id, lease.epoch)
        assert not links.expire_lease(lease.link_id, lease.epoch + 1)
        assert take(task, "other:1:cluster-2").epoch == 2


class TestBell:
    def test_links_without_a_worker_wait(self, make_task: TaskMaker) -> None:
        task = make_task(S.STARTING)
        assert links.waiting() == [task.link.pk]
        lease = take(task)
        assert links.waiting() == []
        run_out(lease)
        assert links.waiting() == [task.link.pk]

    def test_rings_once_within_a_while(
        self, make_task: TaskMaker, bell: list[int], django_capture_on_commit_callbacks: object
    ) -> None:
        task = make_task(S.STARTING)
        assert links.ring_again(task.link.pk)
        assert not links.ring_again(task.link.pk)
        Link.objects.update(rung_at=Now() - timedelta(seconds=links.BELL_SECONDS + 1))
        assert links.ring_again(task.link.pk)

    def test_not_for_a_link_that_has_a_worker(self, make_task: TaskMaker, bell: list[int]) -> None:
        task = make_task(S.STARTING)
        take(task)
        assert not links.ring_again(task.link.pk)


class TestPhase:
    def test_follows_the_table(self, make_task: TaskMaker) -> None:
        task = make_task(S.STARTING)
        lease = take(task)
        assert links.show_phase(lease, S.FULL)
        assert links.show_phase(lease, S.INCREMENTAL)
        assert links.show_phase(lease, S.RETRYING)
        assert links.show_phase(lease, S.INCREMENTAL)
        assert not links.show_phase(lease, S.INCREMENTAL)

    def test_a_task_that_is_being_stopped_stays_so(self, make_task: TaskMaker) -> None:
        task = make_task(S.STOPPING, desired="run")
        assert not links.show_phase(take(task), S.INCREMENTAL)
        assert status(task) == S.STOPPING

    def test_incremental_is_remembered_and_a_new_full_phase_forgets_it(self, make_task: TaskMaker) -> None:
        task = make_task(S.FULL, full_resync_allowed=True)
        lease = take(task)
        links.show_phase(lease, S.INCREMENTAL)
        task.refresh_from_db()
        since = task.incremental_at
        assert task.reached_incremental
        assert since is not None
        assert not task.full_resync_allowed, "the consent was for this once"
        links.show_phase(lease, S.RETRYING)
        links.show_phase(lease, S.INCREMENTAL)
        task.refresh_from_db()
        assert task.incremental_at == since
        links.show_phase(lease, S.FULL)
        task.refresh_from_db()
        assert not task.reached_incremental
        assert task.incremental_at is None


class TestOldOwner:
    """Whoever has lost the lease changes nothing."""

    def test_writes_nothing(self, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        old = take(task)
        run_out(old)
        take(task, "two:2:b")
        assert not links.show_phase(old, S.INCREMENTAL)
        assert not links.record_progress(old, {"keys_done": 99})
        assert links.finish_wanted(old) is None
        assert not links.finish_completed(old)
        assert not links.fail(old, failure_id="x", message="x", advice="x")
        assert not links.release(old)
        assert status(task) == S.FULL
        assert LinkProgress.objects.get().keys_done == 0
        assert Link.objects.get().owner == "two:2:b"


class TestEnd:
    @pytest.mark.parametrize(("reached", "expected"), [(True, S.COMPLETED), (False, S.STOPPED)])
    def test_stopped(self, make_task: TaskMaker, reached: bool, expected: S) -> None:
        task = make_task(S.STOPPING, desired="run", reached_incremental=reached)
        lease = take(task)
        Link.objects.update(desired=Desired.STOP)
        assert links.finish_wanted(lease) is expected
        task.refresh_from_db()
        assert task.status == expected
        assert task.finished_at
        link = Link.objects.get()
        assert (link.desired, link.owner, link.lease_until) == (Desired.STOP, "", None)
        assert AuditEntry.objects.get().actor is None
        assert task.log.count() == 1

    def test_completed(self, make_task: TaskMaker) -> None:
        task = make_task(S.FULL, phases=Phases.FULL)
        assert links.finish_completed(take(task))
        assert status(task) == S.COMPLETED
        assert "full synchronization is complete" in task.log.get().message

    def test_failed(self, make_task: TaskMaker) -> None:
        task = make_task(S.RETRYING)
        assert links.fail(
            take(task), failure_id="auth.refused", message="Wrong password.", advice="Enter it again."
        )
        task.refresh_from_db()
        assert (task.status, task.failure_id, task.failure_advice) == (
            S.FAILED,
            "auth.refused",
            "Enter it again.",
        )
        assert (task.log.get().level, task.log.get().message) == (LogLevel.ERROR, "Wrong password.")

    def test_speeds_are_zero_afterwards(self, make_task: TaskMaker) -> None:
        task = make_task(S.FULL, phases=Phases.FULL)
        lease = take(task)
        links.record_progress(lease, {"keys_per_second": 5.0, "bytes_per_second": 7.0, "keys_done": 3})
        links.finish_completed(lease)
        progress = LinkProgress.objects.get()
        assert (progress.keys_per_second, progress.bytes_per_second, progress.keys_done) == (0, 0, 3)

    def test_a_link_told_to_stop_whose_worker_died_is_settled(self, make_task: TaskMaker) -> None:
        task = make_task(S.STOPPING, desired="run", reached_incremental=True)
        lease = take(task)
        Link.objects.update(desired=Desired.STOP)
        assert links.unsettled() == []
        run_out(lease)
        assert links.unsettled() == [lease.link_id]
        assert links.settle(lease.link_id)
        assert status(task) == S.COMPLETED
        assert not links.settle(lease.link_id)


def test_log_lines_are_kept_in_their_order(make_task: TaskMaker) -> None:
    task = make_task()
    now = timezone.now()
    links.append_log(
        task.pk,
        [LogLine(now, LogLevel.INFO, "a", "x" * 5000, {"n": 1}), LogLine(now, LogLevel.ERROR, "b", "", {})],
    )
    first, second = task.log.all()
    assert (first.event, second.event) == ("a", "b")
    assert len(first.message) == links.LOG_FIELD_LIMIT
    assert first.fields == {"n": 1}
