"""Tasks across accounts: what a role allows, what follows when it no longer does, and what the other account never sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from migrations_app import jobs
from migrations_app.choices import InspectionKind, InspectionStatus, LogLevel, Outcome, Severity, TaskStatus
from migrations_app.models import Inspection, LogEntry, MigrationTask, PrecheckItem
from migrations_app.services import access, inspections, links, privacy, sharing, tasks
from portal.choices import Access
from portal.errors import Conflict, Invalid, NotFound, NotPermitted
from portal.models import AccessRole, Account, AuditEntry, Instance, Node
from portal.services import roles
from portal.services.roles import Cover

from .conftest import TaskMaker, instance, person

pytestmark = pytest.mark.django_db
S = TaskStatus
SECRET_HOST = "vault-7.corp.example"


@pytest.fixture
def foreign(other_account: Account) -> Instance:
    """An instance of the other account, at an address that nobody else is to see."""
    made = instance(other_account, "archive", 6480, replica_of="10.20.30.40:6379")
    made.endpoint.host = SECRET_HOST
    made.endpoint.save()
    Node.objects.create(instance=made, host="10.20.30.41", port=7001)
    return made


@pytest.fixture
def granted(account: Account, other_account: Account, foreign: Instance) -> AccessRole:
    return roles.create_role(
        None,
        other_account,
        name="archive-reader",
        trusted_account_id=account.public_id,
        coverage=[Cover(foreign)],
    )


@pytest.fixture
def across(make_task: TaskMaker, foreign: Instance, granted: AccessRole) -> Callable[..., MigrationTask]:
    def make(status: TaskStatus = S.INCREMENTAL, **changes: Any) -> MigrationTask:
        return make_task(status, source=foreign, source_role=granted, name="Secret project", **changes)

    return make


class TestConfigure:
    """Each refusal when a side is named; `find_role` has its own tests."""

    def configure(self, operator: User, account: Account, **settings: Any) -> MigrationTask:
        task = tasks.create_draft(operator, account)
        return tasks.configure(operator, task, **settings)

    def test_a_covered_instance(
        self, operator: User, account: Account, foreign: Instance, granted: AccessRole, target: Instance
    ) -> None:
        task = self.configure(operator, account, source=foreign, source_role=granted, target=target)
        assert (task.source, task.source_role, task.databases) == (foreign, granted, None)

    def test_the_databases_that_are_covered_are_chosen(
        self, operator: User, account: Account, foreign: Instance, granted: AccessRole
    ) -> None:
        granted.coverage.update(databases=[0, 3])
        task = self.configure(operator, account, source=foreign, source_role=granted)
        assert task.databases == [0, 3]
        for wanted in ([0, 1], None):
            with pytest.raises(Invalid) as raised:
                tasks.configure(operator, task, databases=wanted)
            assert (raised.value.id, raised.value.field) == ("role.database_not_covered", "databases")

    @pytest.mark.parametrize(
        ("change", "refusal", "field"),
        [
            ({"revoked_at": timezone.now()}, "role.revoked", "source_role"),
            ({"expires_at": timezone.now()}, "role.expired", "source_role"),
        ],
    )
    def test_a_role_that_is_over(
        self, operator: User, account: Account, foreign: Instance, granted: AccessRole, change: Any, refusal: str, field: str
    ) -> None:  # fmt: skip
        AccessRole.objects.update(**change)
        with pytest.raises(Invalid) as raised:
            self.configure(operator, account, source=foreign, source_role=granted)
        assert (raised.value.id, raised.value.field) == (refusal, field)

    def test_other_refusals(
        self, operator: User, account: Account, other_account: Account, foreign: Instance, granted: AccessRole, source: Instance
    ) -> None:  # fmt: skip
        with pytest.raises(NotFound):
            self.configure(operator, account, source=foreign)
        for settings, refusal in (
            ({"source": instance(other_account, "second"), "source_role": granted}, "role.not_covered"),
            ({"source": source, "source_role": granted}, "role.not_covered"),
            ({"target": foreign, "target_role": granted}, "role.read_only"),
            ({"source": foreign, "source_role": granted, "heartbeat": True}, "role.read_only"),
        ):
            with pytest.raises(Invalid) as raised:
                self.configure(operator, account, **settings)
            assert raised.value.id == refusal
        granted.trusted_account = other_account
        granted.save()
        with pytest.raises(Invalid) as raised:
            self.configure(operator, account, source=foreign, source_role=granted)
        assert raised.value.id == "role.not_trusted"

    def test_a_role_goes_with_its_instance(
        self, operator: User, account: Account, foreign: Instance, granted: AccessRole, source: Instance
    ) -> None:
        task = self.configure(operator, account, source=foreign, source_role=granted)
        assert tasks.configure(operator, task, source=source).source_role is None


class TestLoss:
    @pytest.mark.parametrize("status", [S.STARTING, S.FULL, S.INCREMENTAL, S.RETRYING])
    def test_a_revocation_pauses_at_once(
        self, across: Any, granted: AccessRole, status: S, django_capture_on_commit_callbacks: Any
    ) -> None:
        task = across(status)
        assert links.acquire_lease(task.link.pk, "host:1:a")
        with django_capture_on_commit_callbacks(execute=True):
            roles.revoke_role(None, granted)
        task.refresh_from_db()
        assert (task.status, task.link.desired) == (S.PAUSING, "pause")
        assert "The role archive-reader was revoked" in task.pause_reason

    @pytest.mark.parametrize("tick", [jobs.tick_default, lambda _: None])
    def test_an_expiry_is_noticed_by_each_that_looks(
        self, across: Any, granted: AccessRole, tick: Any
    ) -> None:
        """The cluster `default`, and the keeper of the link itself where that cluster is down."""
        task = across()
        AccessRole.objects.update(expires_at=timezone.now() + timedelta(hours=1))
        tick("default")
        assert sharing.enforce(task.pk)
        AccessRole.objects.update(expires_at=timezone.now())
        tick("default")
        assert not sharing.enforce(task.pk)
        task.refresh_from_db()
        assert task.status == S.PAUSED
        assert "expired" in task.pause_reason

    def test_less_coverage_pauses_only_what_it_concerns(
        self, across: Any, granted: AccessRole, foreign: Instance, target: Instance, account: Account, django_capture_on_commit_callbacks: Any
    ) -> None:  # fmt: skip
        first = across(databases=[0], target=target)
        second = across(databases=[3], target=instance(account, "second-target"))
        with django_capture_on_commit_callbacks(execute=True):
            roles.update_role(None, granted, coverage=[Cover(foreign, [3])], access=Access.READ)
        first.refresh_from_db()
        second.refresh_from_db()
        assert (first.status, second.status) == (S.PAUSED, S.INCREMENTAL)
        assert "database 0" in first.pause_reason

    def test_a_paused_task_is_resumed_only_under_a_valid_role(
        self, across: Any, granted: AccessRole, operator: User, bell: list[int]
    ) -> None:
        task = across(S.PAUSED)
        AccessRole.objects.update(expires_at=timezone.now())
        with pytest.raises(Invalid) as raised:
            tasks.resume_task(operator, task)
        assert raised.value.id == "role.expired"
        task.refresh_from_db()
        assert task.status == S.PAUSED
        AccessRole.objects.update(expires_at=None)
        assert tasks.resume_task(operator, MigrationTask.objects.get(pk=task.pk)).status == S.STARTING

    def test_a_worker_does_not_begin(self, across: Any, granted: AccessRole, monkeypatch: Any) -> None:
        task = across(S.STARTING)
        AccessRole.objects.update(revoked_at=timezone.now())
        monkeypatch.setattr("migrations_app.runner.link.run", lambda lease: pytest.fail("it ran"))
        assert "role" in jobs.run_link(task.link.pk)
        task.refresh_from_db()
        assert task.status == S.PAUSED

    def test_what_is_being_found_out_ends(
        self, across: Any, operator: User, django_capture_on_commit_callbacks: Any
    ) -> None:
        task = across(S.COMPLETED)
        running = inspections.request(operator, task, InspectionKind.VERIFICATION)
        AccessRole.objects.update(expires_at=timezone.now())
        assert "role" in jobs.run_inspection(running.pk)
        running.refresh_from_db()
        assert running.status == InspectionStatus.CANCELLED
        with pytest.raises(Invalid):
            inspections.request(operator, task, InspectionKind.VERIFICATION)

    def test_ended_tasks_stay_as_they_are(self, across: Any, granted: AccessRole, django_capture_on_commit_callbacks: Any) -> None:  # fmt: skip
        task = across(S.COMPLETED)
        with django_capture_on_commit_callbacks(execute=True):
            roles.revoke_role(None, granted)
        task.refresh_from_db()
        assert task.status == S.COMPLETED


class TestOwnerOfTheSource:
    def test_pauses_with_a_reason_that_both_find(
        self, across: Any, stranger: User, account: Account, other_account: Account
    ) -> None:
        task = sharing.stop_by_owner(stranger, across(), "Peak  hours")
        assert task.status == S.PAUSED
        assert "Research" in task.pause_reason
        assert "Peak hours" in task.pause_reason
        entries = AuditEntry.objects.filter(action="task.stopped_by_owner")
        assert {entry.account for entry in entries} == {account, other_account}
        theirs = entries.get(account=other_account)
        assert "Secret project" not in f"{theirs.object_name} {theirs.details}"

    def test_stops_for_good(self, across: Any, stranger: User) -> None:
        task = sharing.stop_by_owner(stranger, across(reached_incremental=True), "Enough", for_good=True)
        assert task.status == S.COMPLETED
        assert task.log.filter(event="task.stopped_by_owner", message__contains="Enough").exists()

    def test_refusals(self, across: Any, stranger: User, operator: User, other_account: Account) -> None:
        task = across()
        viewer = person("victor", other_account, "viewer")
        for actor, reason, refusal in (
            (operator, "x", NotFound),
            (viewer, "x", NotPermitted),
            (stranger, "  ", Invalid),
        ):
            with pytest.raises(refusal):
                sharing.stop_by_owner(actor, task, reason)
        with pytest.raises(Conflict):
            sharing.stop_by_owner(stranger, across(S.READY), "x")
        task.refresh_from_db()
        assert task.status == S.INCREMENTAL

    def test_sees_what_concerns_them(
        self, across: Any, stranger: User, target: Instance, client: Client
    ) -> None:
        task = across()
        client.force_login(stranger)
        for url in (task.get_absolute_url(), "/migrations/shared/", f"{task.get_absolute_url()}shared/stop/"):
            page = client.get(url).content.decode()
            assert task.public_id in page
            assert "Payments" in page
            assert "archive" in page
            for hidden in ("Secret project", target.name, target.endpoint.address, target.public_id):
                assert hidden not in page, url
        assert "1 task of other accounts works" in client.get("/migrations/").content.decode()
        assert "Secret project" not in client.get("/migrations/").content.decode()
        assert client.get(f"{task.get_absolute_url()}log/").status_code == 404

    def test_the_question_before_a_revocation_names_the_task(
        self, across: Any, granted: AccessRole, stranger: User, client: Client
    ) -> None:
        task, idle = across(), across(S.READY)
        client.force_login(stranger)
        page = client.get(f"/roles/{granted.public_id}/revoke/").content.decode()
        assert task.public_id in page
        assert idle.public_id not in page

    def test_of_what_is_not_shared_nothing_is_seen(
        self, make_task: TaskMaker, stranger: User, client: Client
    ) -> None:
        task = make_task(S.FULL)
        client.force_login(stranger)
        assert client.get(task.get_absolute_url()).status_code == 404
        assert not sharing.shared_with(stranger).exists()


SAID = [
    f"The source {SECRET_HOST}:6480 closed the connection",
    f"cannot resolve {SECRET_HOST}",
    "moved to 10.20.30.41:7001",
    "its master is 10.20.30.40:6379",
    "the sentinel named 192.168.7.7:6379",
    "and [fe80::1]:6379, cache-2.corp.example:7002",
]
HIDDEN = (SECRET_HOST, "10.20.30.4", "192.168.7.7", "fe80::1", "cache-2.corp.example")


class TestPrivacy:
    """Nothing that is stored for the account of the task tells where the other account's servers are."""

    def assert_hidden(self, text: str) -> None:
        for address in HIDDEN:
            assert address not in text, text

    def test_the_log_and_the_failure(self, across: Any) -> None:
        task = across(S.FULL)
        lease = links.acquire_lease(task.link.pk, "host:1:a")
        assert lease
        for sentence in SAID:
            links.note(task, "connection.lost", sentence, LogLevel.WARNING, where=sentence, tries=3)
        links.fail(lease, failure_id="connection.lost", message=" ".join(SAID), advice=SAID[0])
        task.refresh_from_db()
        self.assert_hidden(f"{task.failure_message} {task.failure_advice}")
        assert "archive closed the connection" in task.failure_message
        for line in LogEntry.objects.filter(task=task):
            self.assert_hidden(f"{line.message} {line.fields}")
        self.assert_hidden(str(list(AuditEntry.objects.values_list("details", flat=True))))

    def test_what_workers_find_out(self, across: Any, operator: User) -> None:
        task = across(S.READY)
        asked = inspections.request(operator, task, InspectionKind.CONNECTIVITY)
        lease = inspections.acquire(asked.pk, "host:1:a", host="worker", ip="172.16.0.9")
        assert lease
        inspections.renew(lease, {"done": 1, "total": 2, "label": SAID[0]})
        asked.refresh_from_db()
        self.assert_hidden(json.dumps(asked.progress))

        def store(row: Inspection) -> None:
            for position, side in enumerate(("source", "target"), 1):
                PrecheckItem.objects.create(
                    inspection=row, position=position, code="x", side=side, title="X", severity=Severity.ERROR,
                    outcome=Outcome.FAILED, found=" ".join(SAID), advice=f"{SAID[2]}; let 172.16.0.9 in", repair=SAID[1],
                    repair_code="x", data={"nodes": ["10.20.30.41:7001"], "keys": ["user:1001"]},
                )  # fmt: skip

        result = {"source": {"message": SAID[0]}, "keys": ["user:1001", "v1.2.3.4:x"], SAID[0]: 1}
        inspections.finish(lease, passed=False, result=result, store=store)
        asked.refresh_from_db()
        self.assert_hidden(json.dumps(asked.result))
        assert asked.result["keys"] == ["user:1001", "v1.2.3.4:x"]
        source, target = PrecheckItem.objects.filter(inspection=asked)
        for item in (source, target):
            self.assert_hidden(f"{item.found} {item.advice} {item.repair} {item.data}")
            assert "172.16.0.9" in item.advice
            assert item.data["keys"] == ["user:1001"]
        # No button of this account changes a setting of the other one's server.
        assert (source.repair_code, target.repair_code) == ("", "x")

    def test_pages_of_the_task(self, across: Any, operator: User, foreign: Instance, client: Client) -> None:
        task = across(S.FULL)
        client.force_login(operator)
        for url in (task.get_absolute_url(), "/migrations/", f"{task.get_absolute_url()}log/", "/audit/"):
            page = client.get(url).content.decode()
            self.assert_hidden(page)
            assert foreign.get_absolute_url() not in page

    def test_own_addresses_stay(self, across: Any, target: Instance) -> None:
        scrubber = privacy.of(across())
        assert scrubber is not None
        assert scrubber.text("The target 127.0.0.1:6402 is full") == "The target 127.0.0.1:6402 is full"
        assert scrubber.text("valkey 9.1.2, version 7.2.4, 10:30:00, 1.5 MB/s") == "valkey 9.1.2, version 7.2.4, 10:30:00, 1.5 MB/s"  # fmt: skip

    def test_tasks_within_an_account_are_not_touched(self, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        assert privacy.of_task(task.pk) is None
        links.note(task, "x", "lost 127.0.0.1:6401")
        assert task.log.get().message == "lost 127.0.0.1:6401"


def test_problem_says_nothing_of_what_was_not_changed(across: Any) -> None:
    task = across()
    assert access.problem(task) == ""
    AccessRole.objects.update(revoked_at=timezone.now())
    reason = access.problem(MigrationTask.objects.get(pk=task.pk))
    assert reason.endswith(".")
    assert "Nothing was changed" not in reason
