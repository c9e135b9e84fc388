"""Failed tasks that resume by themselves within seven days, and the edge of these (R55)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from migrations_app.choices import TaskStatus
from migrations_app.models import MigrationTask, PhaseSpan
from migrations_app.services import causes, links, recovery, tasks
from migrations_app.services.links import Lease
from portal.errors import Conflict
from portal.models import AuditEntry

from .conftest import TaskMaker

pytestmark = pytest.mark.django_db
S = TaskStatus
WEEK = timedelta(days=7)


def fail(task: MigrationTask, failure_id: str = "connection.refused", message: str = "away") -> MigrationTask:
    lease = links.acquire_lease(task.link.pk, "host:1:a")
    assert isinstance(lease, Lease)
    assert links.fail(lease, failure_id=failure_id, message=message, advice="wait")
    task.refresh_from_db()
    return task


def ago(task: MigrationTask, since: timedelta) -> MigrationTask:
    """The failure lies so long in the past, and a look is due."""
    moment = timezone.now() - since
    MigrationTask.objects.filter(pk=task.pk).update(
        finished_at=moment, resume_next_at=timezone.now() - timedelta(seconds=1)
    )
    task.refresh_from_db()
    return task


@pytest.mark.parametrize(
    ("failure_id", "message", "passes"),
    [
        ("connection.refused", "", True),
        ("link.retry_time_exceeded", "", True),
        ("auth.refused", "", True),
        ("target.out_of_memory", "", True),
        ("target.refused", "SET: MISCONF Redis is configured to save RDB snapshots", True),
        ("target.refused", "SET: ERR something", False),
        ("source.full_resync_needed", "", False),
        ("target.conflict", "", False),
        ("target.diverged", "", False),
        ("data.unsupported", "", False),
        ("stream.unknown_command", "", False),
        ("connection.address_not_allowed", "", False),
        ("internal.unexpected", "", False),
    ],
)
def test_only_what_can_pass_is_waited_for(
    make_task: TaskMaker, failure_id: str, message: str, passes: bool
) -> None:
    task = fail(make_task(S.INCREMENTAL), failure_id, message)
    assert (task.resume_next_at is not None) == passes
    assert causes.can_pass(failure_id, message) == passes


def test_every_id_is_one_of_the_engine() -> None:
    from migrations_app.engine import errors

    known = {one.id for one in vars(errors).values() if isinstance(one, type) and hasattr(one, "id")}
    assert known | {"credential.unreadable"} >= causes.PASSING


def test_one_machine_looks_and_the_pauses_grow(make_task: TaskMaker) -> None:
    task = fail(make_task(S.INCREMENTAL))
    assert recovery.due() == []
    for number, pause in enumerate((30, 60, 120, 300, 600, 1800, 1800), start=1):
        ago(task, timedelta(minutes=1))
        ((pk, moment),) = recovery.due()
        assert recovery.claim(pk, moment)
        assert not recovery.claim(pk, moment), "two machines have both claimed it"
        task.refresh_from_db()
        assert task.resume_attempts == number
        assert task.resume_next_at is not None
        left = (task.resume_next_at - timezone.now()).total_seconds()
        assert pause - 5 < left <= pause


def test_it_goes_on_by_itself(
    make_task: TaskMaker, bell: list[int], django_capture_on_commit_callbacks: Any
) -> None:
    task = fail(make_task(S.INCREMENTAL, reached_incremental=True))
    found = recovery.candidate(task.pk)
    assert found is not None
    with django_capture_on_commit_callbacks(execute=True):
        assert recovery.resume(found)
    task.refresh_from_db()
    assert (task.status, task.failure_id, task.resume_next_at) == (S.STARTING, "", None)
    assert bell == [task.link.pk]
    assert task.log.filter(event="task.resumed", message__contains="by itself").exists()
    entry = AuditEntry.objects.get(action="task.resumed")
    assert (entry.actor, entry.details["by_itself"]) == (None, True)
    assert recovery.candidate(task.pk) is None


def test_a_resume_that_fails_again_at_once_waits_longer(make_task: TaskMaker, bell: list[int]) -> None:
    task = fail(make_task(S.INCREMENTAL))
    MigrationTask.objects.filter(pk=task.pk).update(resume_attempts=4)
    task.refresh_from_db()
    assert recovery.resume(task)
    task = fail(MigrationTask.objects.get(pk=task.pk))
    assert task.resume_attempts == 4
    # A run that has lasted begins from the first pause again.
    MigrationTask.objects.filter(pk=task.pk).update(status=S.INCREMENTAL)
    PhaseSpan.objects.filter(task=task, status=S.STARTING).update(
        began_at=timezone.now() - timedelta(hours=1)
    )
    links.Link.objects.filter(task=task).update(desired="run")
    task = fail(MigrationTask.objects.get(pk=task.pk))
    assert task.resume_attempts == 0


class TestSevenDays:
    def test_within(self, operator: User, make_task: TaskMaker, bell: list[int]) -> None:
        task = ago(fail(make_task(S.INCREMENTAL)), WEEK - timedelta(minutes=1))
        ((pk, moment),) = recovery.due()
        assert recovery.claim(pk, moment)
        assert recovery.candidate(task.pk) is not None
        assert task.actions["resume"].open
        assert tasks.resume_task(operator, task).status == S.STARTING

    def test_later_it_cannot_and_says_so(self, operator: User, make_task: TaskMaker) -> None:
        task = ago(fail(make_task(S.INCREMENTAL)), WEEK + timedelta(minutes=1))
        ((pk, moment),) = recovery.due()
        assert not recovery.claim(pk, moment)
        assert recovery.due() == []
        assert recovery.candidate(task.pk) is None
        assert task.log.filter(event="task.not_resumed", message__contains="7 days").count() == 1
        verdict = task.actions["resume"]
        assert not verdict.open and "7 days" in verdict.reason
        with pytest.raises(Conflict, match="7 days"):
            tasks.resume_task(operator, task)
        task.refresh_from_db()
        assert task.status == S.FAILED
        assert task.actions["release"].open and task.actions["delete"].open


def test_nothing_happens_to_a_task_that_a_person_has_taken_up(make_task: TaskMaker, bell: list[int]) -> None:
    task = fail(make_task(S.INCREMENTAL))
    found = recovery.candidate(task.pk)
    assert found is not None
    tasks.release_task(None, task)
    assert not recovery.resume(found)
    task.refresh_from_db()
    assert task.status == S.RELEASED


def test_its_page_goes_on_to_poll(client: Any, operator: User, make_task: TaskMaker) -> None:
    """It will change by itself, other than that of a task whose failure waits for a person."""
    client.force_login(operator)
    for failure_id, status in (("connection.refused", 200), ("target.diverged", 286)):
        task = fail(make_task(S.INCREMENTAL), failure_id)
        response = client.get(task.get_absolute_url(), headers={"HX-Request": "true"})
        assert response.status_code == status
        task.delete()


class TestNotWantedToRun:
    def test_one_that_was_to_stop_does_not_begin_again(self, operator: User, make_task: TaskMaker) -> None:
        task = make_task(S.INCREMENTAL, reached_incremental=True)
        lease = links.acquire_lease(task.link.pk, "host:1:a")
        assert lease is not None
        tasks.stop_task(operator, task)
        assert links.fail(lease, failure_id="connection.lost", message="away", advice="wait")
        task.refresh_from_db()
        assert (task.status, task.resume_next_at) == (S.FAILED, None)

    @pytest.mark.parametrize(
        ("failure_id", "status"), [("connection.lost", S.PAUSED), ("target.diverged", S.FAILED)]
    )
    def test_one_that_was_to_pause(
        self, operator: User, make_task: TaskMaker, failure_id: str, status: S
    ) -> None:
        """A server that is away is no reason not to pause: the position stands. What cannot be trusted is told."""
        task = make_task(S.INCREMENTAL)
        lease = links.acquire_lease(task.link.pk, "host:1:a")
        assert lease is not None
        tasks.pause_task(operator, task)
        assert links.fail(lease, failure_id=failure_id, message="away", advice="wait")
        task.refresh_from_db()
        assert (task.status, task.resume_next_at) == (status, None)
        assert task.log.filter(message__contains="away").exists()
        assert links.Link.objects.get(task=task).owner == ""
