"""What follows from a precheck: ready, failed, the start it was made for; and taking the risk of an item."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from migrations_app.choices import InspectionKind, InspectionStatus, Outcome, Severity, TaskStatus
from migrations_app.models import Inspection, MigrationTask, PhaseSpan, PrecheckItem
from migrations_app.services import inspections, prechecks, tasks
from portal.errors import Conflict, Invalid, NotPermitted
from portal.models import Account, AuditEntry, Instance

pytestmark = pytest.mark.django_db
S = TaskStatus


@pytest.fixture(autouse=True)
def rung(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    numbers: list[int] = []
    monkeypatch.setattr("migrations_app.services.inspections.ring", numbers.append)
    monkeypatch.setattr("migrations_app.services.links.ring", numbers.append)
    return numbers


@pytest.fixture
def task(operator: User, account: Account, source: Instance, target: Instance) -> MigrationTask:
    return tasks.create_task(operator, account, source, target)


def end(inspection: Inspection, *items: dict[str, Any], passed: bool | None = None) -> Inspection:
    """As a worker ends it, with these items."""
    lease = inspections.acquire(inspection.pk, "host:1:a", host="host", ip="10.0.0.1")
    assert lease is not None
    for position, one in enumerate(items):
        values = {
            "code": f"item.{position}", "side": "", "title": "An item", "severity": Severity.ERROR,
            "outcome": Outcome.PASSED, "found": "this",
        }  # fmt: skip
        PrecheckItem.objects.create(inspection=inspection, position=position, **(values | one))
    failed = any(one.get("outcome") == Outcome.FAILED for one in items)
    assert inspections.finish(lease, passed=not failed if passed is None else passed, result={})
    inspection.refresh_from_db()
    return inspection


FAILED: dict[str, Any] = {"outcome": Outcome.FAILED, "ignorable": True, "code": "target.memory"}


def status_of(task: MigrationTask) -> S:
    return S(MigrationTask.objects.values_list("status", flat=True).get(pk=task.pk))


class TestConclude:
    def test_passed(self, operator: User, task: MigrationTask) -> None:
        inspection = tasks.precheck_task(operator, task)
        assert status_of(task) == S.PRECHECKING
        end(inspection, {}, {"outcome": Outcome.WARNING}, {"outcome": Outcome.SKIPPED})
        assert (status_of(task), inspection.passed) == (S.READY, True)
        assert prechecks.success_rate(inspection) == 100
        assert AuditEntry.objects.filter(action="precheck.passed").exists()
        shown = list(PhaseSpan.objects.filter(task=task).values_list("status", flat=True))
        assert shown == ["draft", "prechecking", "ready"]

    def test_failed(self, operator: User, task: MigrationTask) -> None:
        inspection = end(tasks.precheck_task(operator, task), {}, {}, FAILED)
        assert (status_of(task), inspection.passed) == (S.PRECHECK_FAILED, False)
        assert prechecks.success_rate(inspection) == 66
        with pytest.raises(Conflict, match="precheck has failed"):
            tasks.start_task(operator, task)

    def test_not_carried_out(self, operator: User, task: MigrationTask) -> None:
        inspection = tasks.precheck_task(operator, task)
        lease = inspections.acquire(inspection.pk, "host:1:a", host="host", ip="10.0.0.1")
        assert lease is not None
        assert inspections.fail(lease, failure_id="x", message="The disk is full.", advice="y")
        assert status_of(task) == S.PRECHECK_FAILED
        assert task.log.filter(message="The disk is full.").exists()

    def test_cancelled(self, operator: User, task: MigrationTask) -> None:
        inspections.cancel(operator, tasks.precheck_task(operator, task))
        assert status_of(task) == S.NOT_CONFIGURED
        assert tasks.precheck_task(operator, task).pk

    def test_nothing_may_be_configured_meanwhile(self, operator: User, task: MigrationTask) -> None:
        tasks.precheck_task(operator, task)
        with pytest.raises(Conflict, match="precheck is running"):
            tasks.configure(operator, task, heartbeat=True)

    def test_a_task_that_lacks_something_is_not_checked(self, operator: User, account: Account) -> None:
        draft = tasks.create_draft(operator, account)
        with pytest.raises(Conflict, match="The source is not chosen") as raised:
            tasks.precheck_task(operator, draft)
        assert raised.value.id == "task.not_configured"
        assert status_of(draft) == S.NOT_CONFIGURED


class TestIgnore:
    def test_with_a_reason_the_task_becomes_ready(self, operator: User, task: MigrationTask) -> None:
        inspection = end(tasks.precheck_task(operator, task), FAILED)
        item = prechecks.ignore_item(operator, inspection.items.get(), "  It is\n empty. ")
        assert (item.outcome, status_of(task)) == (Outcome.IGNORED, S.READY)
        assert prechecks.success_rate(inspection) == 100
        entry = AuditEntry.objects.get(action="precheck.ignored")
        assert (entry.actor, entry.details["reason"]) == (operator, "It is empty.")
        assert tasks.start_task(operator, task).status == S.STARTING

    def test_one_of_two_is_not_enough(self, operator: User, task: MigrationTask) -> None:
        inspection = end(tasks.precheck_task(operator, task), FAILED, FAILED | {"code": "target.eviction"})
        prechecks.ignore_item(operator, inspection.items.get(position=0), "because")
        assert status_of(task) == S.PRECHECK_FAILED

    @pytest.mark.parametrize(
        ("item", "reason", "refusal"),
        [
            (FAILED, " ", "precheck.reason"),
            (FAILED | {"ignorable": False}, "because", "precheck.not_ignorable"),
        ],
    )
    def test_refused(
        self, operator: User, task: MigrationTask, item: dict[str, Any], reason: str, refusal: str
    ) -> None:
        inspection = end(tasks.precheck_task(operator, task), item)
        with pytest.raises((Invalid, Conflict)) as raised:
            prechecks.ignore_item(operator, inspection.items.get(), reason)
        assert raised.value.id == refusal
        assert status_of(task) == S.PRECHECK_FAILED
        assert inspection.items.get().outcome == Outcome.FAILED

    def test_one_that_has_passed(self, operator: User, task: MigrationTask) -> None:
        inspection = end(tasks.precheck_task(operator, task), FAILED, {"ignorable": True})
        with pytest.raises(Conflict) as raised:
            prechecks.ignore_item(operator, inspection.items.get(position=1), "because")
        assert raised.value.id == "precheck.not_failed"

    def test_of_an_older_precheck(self, operator: User, task: MigrationTask) -> None:
        old = end(tasks.precheck_task(operator, task), FAILED)
        end(tasks.precheck_task(operator, task), FAILED)
        with pytest.raises(Conflict) as raised:
            prechecks.ignore_item(operator, old.items.get(), "because")
        assert raised.value.id == "precheck.not_current"

    def test_a_viewer_may_not(self, operator: User, viewer: User, task: MigrationTask) -> None:
        inspection = end(tasks.precheck_task(operator, task), FAILED)
        with pytest.raises(NotPermitted):
            prechecks.ignore_item(viewer, inspection.items.get(), "because")

    @pytest.mark.parametrize(
        ("changes", "status"),
        [
            ({}, S.READY),
            ({"found": "something else"}, S.PRECHECK_FAILED),
            ({"side": "source"}, S.PRECHECK_FAILED),
            ({"ignorable": False}, S.PRECHECK_FAILED),
        ],
    )
    def test_it_holds_while_the_same_is_found(
        self, operator: User, task: MigrationTask, changes: dict[str, Any], status: S
    ) -> None:
        first = end(tasks.precheck_task(operator, task), FAILED)
        prechecks.ignore_item(operator, first.items.get(), "because")
        end(tasks.precheck_task(operator, task), FAILED | changes)
        assert status_of(task) == status

    def test_figures_that_change_by_themselves(self, operator: User, task: MigrationTask) -> None:
        first = end(
            tasks.precheck_task(operator, task), FAILED | {"found": "3.1 MB/s", "data": {"same": "slow"}}
        )
        prechecks.ignore_item(operator, first.items.get(), "because")
        end(tasks.precheck_task(operator, task), FAILED | {"found": "3.2 MB/s", "data": {"same": "slow"}})
        assert status_of(task) == S.READY


class TestStart:
    def test_again_when_it_is_older_than_an_hour(self, operator: User, task: MigrationTask) -> None:
        inspection = end(tasks.precheck_task(operator, task), {})
        Inspection.objects.update(finished_at=timezone.now() - timedelta(minutes=59))
        assert prechecks.holds(task)
        Inspection.objects.update(finished_at=timezone.now() - timedelta(minutes=61))
        assert tasks.start_task(operator, task).status == S.PRECHECKING
        assert task.log.filter(event="precheck.again", message__contains="older than an hour").exists()
        again = Inspection.objects.exclude(pk=inspection.pk).get()
        assert (again.kind, again.status) == (InspectionKind.PRECHECK, InspectionStatus.QUEUED)
        end(again, {})
        assert status_of(task) == S.STARTING
        entry = AuditEntry.objects.get(action="task.started")
        assert entry.actor == operator

    def test_again_when_a_side_has_changed(
        self, operator: User, task: MigrationTask, source: Instance
    ) -> None:
        end(tasks.precheck_task(operator, task), {})
        source.endpoint.password = "another"
        source.endpoint.save()
        assert tasks.start_task(operator, task).status == S.PRECHECKING

    def test_it_does_not_start_what_fails(self, operator: User, task: MigrationTask) -> None:
        inspection = tasks.precheck_task(operator, task, then_start=True)
        end(inspection, FAILED)
        assert status_of(task) == S.PRECHECK_FAILED
        task.refresh_from_db()
        assert not task.start_when_ready

    def test_the_target_may_be_taken_meanwhile(
        self, operator: User, account: Account, task: MigrationTask, make_task: Any
    ) -> None:
        inspection = tasks.precheck_task(operator, task, then_start=True)
        make_task(S.FULL)
        end(inspection, {})
        assert status_of(task) == S.READY
        assert task.log.filter(event="task.not_started", message__contains="same target").exists()

    def test_what_a_precheck_does_not_depend_on(self, operator: User, task: MigrationTask) -> None:
        end(tasks.precheck_task(operator, task), {})
        tasks.configure(
            operator, task, name="Another", speed_class="small", retry_minutes=30, wizard_step="confirm"
        )
        assert (task.status, prechecks.holds(task)) == (S.READY, True)
        tasks.configure(operator, task, databases=[0])
        assert (task.status, prechecks.holds(task)) == (S.NOT_CONFIGURED, False)
