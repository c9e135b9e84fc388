"""What people can do to tasks: permission, state, compare-and-swap, audit, log, bell."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from migrations_app.choices import Desired, Phases, TaskStatus
from migrations_app.models import Link, LogEntry, MigrationTask
from migrations_app.services import links, tasks
from migrations_app.services.launch import launch
from portal.choices import Architecture, NodeRole
from portal.errors import Conflict, Invalid, NotFound, NotPermitted
from portal.models import Account, AuditEntry, Instance

from .conftest import TaskMaker, instance

pytestmark = pytest.mark.django_db
S = TaskStatus


class TestCreate:
    def test_makes_a_configured_task_with_its_link(
        self, operator: User, account: Account, source: Instance, target: Instance, bell: list[int]
    ) -> None:
        task = tasks.create_task(operator, account, source, target, databases=[3, 0, 3])
        assert task.status == S.NOT_CONFIGURED
        assert tasks.missing(task) == []
        assert task.public_id.startswith("mt-")
        assert task.name == "orders to orders-new"
        assert task.databases == [0, 3]
        assert task.created_by == operator
        assert task.link.name == task.public_id
        assert task.link.desired == Desired.STOP
        assert AuditEntry.objects.filter(
            action="task.created", object_id=task.public_id, actor=operator
        ).exists()
        assert [line.event for line in task.log.all()] == ["task.created"]
        assert bell == []

    def test_keeps_a_name_that_was_given(
        self, operator: User, account: Account, source: Instance, target: Instance
    ) -> None:
        assert (
            tasks.create_task(operator, account, source, target, name="  Move\n orders ").name
            == "Move orders"
        )

    @pytest.mark.parametrize(
        ("changes", "refusal", "field"),
        [
            ({"databases": []}, "task.no_database", "databases"),
            ({"databases": [16]}, "task.source_lacks_database", "databases"),
            ({"databases": [-1]}, "task.source_lacks_database", "databases"),
            ({"retry_minutes": 9}, "task.retry_time", "retry_minutes"),
            ({"retry_minutes": 1441}, "task.retry_time", "retry_minutes"),
        ],
    )
    def test_refuses_bad_settings(
        self,
        operator: User,
        account: Account,
        source: Instance,
        target: Instance,
        changes: dict[str, Any],
        refusal: str,
        field: str,
    ) -> None:
        with pytest.raises(Invalid) as raised:
            tasks.create_task(operator, account, source, target, **changes)
        assert (raised.value.id, raised.value.field) == (refusal, field)
        assert "Nothing was changed." in raised.value.message
        assert raised.value.advice
        assert not MigrationTask.objects.exists()

    @pytest.mark.parametrize(
        ("side", "changes", "refusal"),
        [
            ("target", {"role": NodeRole.REPLICA, "replica_of": "10.0.0.1:6379"}, "task.target_is_replica"),
            ("target", {"architecture": Architecture.CLUSTER}, "task.target_lacks_database"),
            ("target", {"run_id": f"{'orders':x<40}"}, "task.same_server"),
            ("target", {"database_count": 2}, "task.target_lacks_database"),
        ],
    )
    def test_refuses_sides_that_do_not_fit(
        self,
        operator: User,
        account: Account,
        source: Instance,
        target: Instance,
        side: str,
        changes: dict[str, Any],
        refusal: str,
    ) -> None:
        chosen = {"source": source, "target": target}
        for name, value in changes.items():
            setattr(chosen[side], name, value)
        with pytest.raises(Invalid) as raised:
            tasks.create_task(operator, account, source, target)
        assert raised.value.id == refusal

    def test_refuses_a_database_that_the_target_lacks(
        self, operator: User, account: Account, source: Instance, target: Instance
    ) -> None:
        target.database_count = 2
        with pytest.raises(Invalid, match="no database 3"):
            tasks.create_task(operator, account, source, target, databases=[0, 3])
        assert tasks.create_task(operator, account, source, target, databases=[0, 1]).databases == [0, 1]

    def test_a_replica_may_be_the_source(
        self, operator: User, account: Account, source: Instance, target: Instance
    ) -> None:
        source.role = NodeRole.REPLICA
        assert tasks.create_task(operator, account, source, target).pk

    def test_refuses_the_same_instance(self, operator: User, account: Account, source: Instance) -> None:
        with pytest.raises(Invalid) as raised:
            tasks.create_task(operator, account, source, source)
        assert raised.value.id == "task.same_instance"

    def test_refuses_a_target_that_another_task_writes_into(
        self, operator: User, account: Account, source: Instance, target: Instance, make_task: TaskMaker
    ) -> None:
        running = make_task(S.FULL)
        another = instance(account, "another", 6403)
        with pytest.raises(Conflict, match=running.public_id) as raised:
            tasks.create_task(operator, account, another, target)
        assert raised.value.id == "task.target_taken"

    def test_refuses_the_opposite_direction_of_a_running_task(
        self, operator: User, account: Account, source: Instance, target: Instance, make_task: TaskMaker
    ) -> None:
        make_task(S.INCREMENTAL)
        with pytest.raises(Conflict) as raised:
            tasks.create_task(operator, account, target, source)
        assert raised.value.id == "task.opposite_direction"

    def test_an_ended_task_does_not_hold_its_target(
        self, operator: User, account: Account, source: Instance, target: Instance, make_task: TaskMaker
    ) -> None:
        make_task(S.COMPLETED)
        assert tasks.create_task(operator, account, source, target).pk

    def test_refuses_an_instance_of_another_account(
        self, operator: User, account: Account, other_account: Account, source: Instance
    ) -> None:
        with pytest.raises(NotFound):
            tasks.create_task(operator, account, source, instance(other_account, "foreign"))

    def test_a_viewer_may_not(
        self, viewer: User, account: Account, source: Instance, target: Instance
    ) -> None:
        with pytest.raises(NotPermitted):
            tasks.create_task(viewer, account, source, target)

    def test_a_stranger_learns_nothing(
        self, stranger: User, account: Account, source: Instance, target: Instance
    ) -> None:
        with pytest.raises(NotFound):
            tasks.create_task(stranger, account, source, target)


# Each action: the function, a status in which it is open, one in which it is closed.
ACTIONS = [
    (tasks.start_task, S.READY, S.FULL),
    (tasks.stop_task, S.FULL, S.READY),
    (tasks.resume_task, S.FAILED, S.COMPLETED),
    (tasks.delete_task, S.STOPPED, S.INCREMENTAL),
]


@pytest.mark.parametrize(("action", "is_open", "closed"), ACTIONS)
class TestPermission:
    def test_operator_and_owner_may(
        self,
        action: Any,
        is_open: S,
        closed: S,
        operator: User,
        owner: User,
        make_task: TaskMaker,
        bell: list[int],
    ) -> None:
        action(operator, make_task(is_open))
        MigrationTask.objects.all().delete()
        action(owner, make_task(is_open))

    def test_a_viewer_may_not(
        self, action: Any, is_open: S, closed: S, viewer: User, make_task: TaskMaker, bell: list[int]
    ) -> None:
        task = make_task(is_open)
        with pytest.raises(NotPermitted):
            action(viewer, task)
        task.refresh_from_db()
        assert (task.status, bell) == (is_open, [])

    def test_a_stranger_learns_nothing(
        self, action: Any, is_open: S, closed: S, stranger: User, make_task: TaskMaker
    ) -> None:
        for status in (is_open, closed):
            task = make_task(status)
            with pytest.raises(NotFound):
                action(stranger, task)
            task.delete()

    def test_a_closed_action_says_why(
        self, action: Any, is_open: S, closed: S, operator: User, make_task: TaskMaker
    ) -> None:
        task = make_task(closed)
        with pytest.raises(Conflict, match="Nothing was changed"):
            action(operator, task)
        task.refresh_from_db()
        assert task.status == closed
        assert not AuditEntry.objects.exists()


class TestStart:
    def test_rings_after_the_commit(
        self, operator: User, make_task: TaskMaker, bell: list[int], django_capture_on_commit_callbacks: Any
    ) -> None:
        task = make_task(S.READY)
        with django_capture_on_commit_callbacks(execute=True):
            tasks.start_task(operator, task)
            assert bell == []
        assert bell == [task.link.pk]
        task.refresh_from_db()
        assert (task.status, task.link.desired) == (S.STARTING, Desired.RUN)
        assert task.started_at is not None
        assert AuditEntry.objects.get().action == "task.started"

    def test_of_two_readers_only_one_starts(
        self, operator: User, make_task: TaskMaker, bell: list[int]
    ) -> None:
        """Both have read `ready`. Without the comparison in the UPDATE the second would start it again."""
        first = make_task(S.READY)
        second = MigrationTask.objects.get(pk=first.pk)

        # The bug: reading, deciding and saving apart from each other lets both through.
        passed = [one for one in (first, second) if one.status == S.READY]
        assert len(passed) == 2

        tasks.start_task(operator, first)
        with pytest.raises(Conflict):
            tasks.start_task(operator, second)
        with pytest.raises(Conflict, match="meanwhile"):
            launch(second, (S.READY,), unchanged="Nothing was changed.")
        assert AuditEntry.objects.filter(action="task.started").count() == 1

    def test_the_database_keeps_two_tasks_from_one_target(
        self, operator: User, make_task: TaskMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The check has passed for both, a moment ago: the constraint stops the second, with a sentence."""
        make_task(S.FULL)
        late = make_task(S.READY)
        with pytest.raises(IntegrityError), transaction.atomic():
            MigrationTask.objects.filter(pk=late.pk).update(status=S.STARTING)
        monkeypatch.setattr(
            "migrations_app.services.launch.checks.check_other_tasks", lambda *args, **kwargs: None
        )
        with pytest.raises(Conflict) as raised:
            tasks.start_task(operator, late)
        assert raised.value.id == "task.target_taken"
        late.refresh_from_db()
        assert late.status == S.READY


class TestStop:
    def test_asks_the_worker(self, operator: User, make_task: TaskMaker) -> None:
        task = make_task(S.INCREMENTAL, reached_incremental=True)
        assert links.acquire_lease(task.link.pk, "host:1:a")
        tasks.stop_task(operator, task)
        task.refresh_from_db()
        assert (task.status, Link.objects.get(task=task).desired) == (S.STOPPING, Desired.STOP)
        assert task.finished_at is None

    @pytest.mark.parametrize(("reached", "status"), [(True, S.COMPLETED), (False, S.STOPPED)])
    def test_ends_a_task_that_no_worker_has(
        self, operator: User, make_task: TaskMaker, reached: bool, status: S
    ) -> None:
        task = tasks.stop_task(operator, make_task(S.STARTING, reached_incremental=reached))
        assert task.status == status
        assert task.finished_at is not None

    def test_the_phase_may_move_on_meanwhile(self, operator: User, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        MigrationTask.objects.filter(pk=task.pk).update(status=S.INCREMENTAL)
        assert tasks.stop_task(operator, task).status in (S.STOPPING, S.STOPPED)

    def test_many_with_a_result_each(
        self, operator: User, account: Account, other_account: Account, source: Instance, make_task: TaskMaker
    ) -> None:
        running, ready = make_task(S.FULL), make_task(S.READY)
        foreign = make_task(
            S.FULL,
            account=other_account,
            source=instance(other_account, "a"),
            target=instance(other_account, "b"),
        )
        ids = [running.public_id, ready.public_id, foreign.public_id, running.public_id]
        results = tasks.bulk(operator, "stop", ids)
        assert [(result.public_id, result.ok) for result in results] == [
            (running.public_id, True),
            (ready.public_id, False),
            (foreign.public_id, False),
        ]
        assert "not been started" in results[1].message
        assert results[2].name == ""
        foreign.refresh_from_db()
        assert foreign.status == S.FULL


class TestResume:
    def test_clears_the_failure_and_keeps_what_was_reached(
        self, operator: User, make_task: TaskMaker, bell: list[int]
    ) -> None:
        task = make_task(
            S.FAILED,
            reached_incremental=True,
            failure_id="connection.lost",
            failure_message="x",
            failure_advice="y",
        )
        task = tasks.resume_task(operator, task)
        assert (task.status, task.failure_id, task.failure_message) == (S.STARTING, "", "")
        assert task.reached_incremental
        assert not task.full_resync_allowed

    def test_a_new_full_synchronization_needs_consent(self, operator: User, make_task: TaskMaker) -> None:
        task = tasks.resume_task(operator, make_task(S.FAILED), allow_full_resync=True)
        assert task.full_resync_allowed
        assert AuditEntry.objects.get().details == {"allow_full_resync": True}


class TestDelete:
    def test_takes_link_progress_and_log_along(self, operator: User, make_task: TaskMaker) -> None:
        task = make_task(S.COMPLETED)
        links.note(task, "task.completed", "Done.")
        tasks.delete_task(operator, task)
        assert not MigrationTask.objects.exists()
        assert not Link.objects.exists()
        assert not LogEntry.objects.exists()
        assert AuditEntry.objects.get().action == "task.deleted"

    def test_not_when_it_was_started_meanwhile(self, operator: User, make_task: TaskMaker) -> None:
        task = make_task(S.READY)
        MigrationTask.objects.filter(pk=task.pk).update(status=S.STARTING)
        with pytest.raises(Conflict):
            tasks.delete_task(operator, task)


class TestSight:
    def test_get_task(self, operator: User, stranger: User, make_task: TaskMaker) -> None:
        task = make_task()
        assert tasks.get_task(operator, task.public_id) == task
        assert tasks.get_task(None, task.public_id) == task
        with pytest.raises(NotFound):
            tasks.get_task(stranger, task.public_id)

    def test_log_entries_are_not_changed(self, make_task: TaskMaker) -> None:
        task = make_task()
        links.note(task, "task.created", "Made.")
        with pytest.raises(TypeError):
            LogEntry.objects.update(message="x")
        entry = LogEntry.objects.get()
        with pytest.raises(TypeError):
            entry.save()

    def test_phases_are_those_of_the_engine(self) -> None:
        from migrations_app.engine import link as engine

        assert set(Phases.values) == {phase.value for phase in engine.Phases}
