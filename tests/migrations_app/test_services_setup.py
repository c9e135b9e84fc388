"""Drafts and their settings: what is missing, each wrong value, and what makes a precheck void."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from migrations_app.choices import Method, Phases, TaskStatus
from migrations_app.models import Link, MigrationTask
from migrations_app.services import tasks
from portal.choices import Architecture, EndpointKind, Origin
from portal.errors import Conflict, Invalid, NotFound, NotPermitted, ServiceError
from portal.models import Account, AuditEntry, Contact, Instance
from portal.services.connections import ConnectionParams, create_self_hosted

from .conftest import TaskMaker, instance

pytestmark = pytest.mark.django_db
S = TaskStatus


@pytest.fixture
def draft(operator: User, account: Account) -> MigrationTask:
    return tasks.create_draft(operator, account)


@pytest.fixture
def task(operator: User, account: Account, source: Instance, target: Instance) -> MigrationTask:
    return tasks.create_task(operator, account, source, target)


def snapshot(account: Account, **changes: Any) -> Instance:
    made = instance(account, "dump", database_count=None, databases=[], run_id="", **changes)
    made.endpoint.kind, made.endpoint.file_path, made.endpoint.host = EndpointKind.FILE, "/data/dump.rdb", ""
    made.endpoint.save()
    return made


class TestDraft:
    def test_is_a_task_with_a_link(self, operator: User, draft: MigrationTask) -> None:
        assert (draft.status, draft.source, draft.target) == (S.NOT_CONFIGURED, None, None)
        assert draft.name == f"Task {draft.public_id}"
        assert Link.objects.get(task=draft).name == draft.public_id
        assert draft.spans.get().status == "draft"
        assert AuditEntry.objects.get(object_id=draft.public_id).action == "task.created"

    def test_tells_what_is_missing(self, operator: User, draft: MigrationTask, source: Instance) -> None:
        assert [(one.step, one.field) for one in tasks.missing(draft)] == [
            ("sides", "source"),
            ("sides", "target"),
        ]
        tasks.configure(operator, draft, source=source)
        assert [one.sentence for one in tasks.missing(draft)] == ["The target is not chosen."]

    def test_gets_a_name_from_its_sides(
        self, operator: User, draft: MigrationTask, source: Instance, target: Instance
    ) -> None:
        tasks.configure(operator, draft, source=source, target=target)
        assert draft.name == "orders to orders-new"
        assert tasks.missing(draft) == []

    def test_keeps_its_own_name(
        self, operator: User, account: Account, source: Instance, target: Instance
    ) -> None:
        draft = tasks.create_draft(operator, account, name=" Night\nshift ", description=" what for ")
        tasks.configure(operator, draft, source=source, target=target)
        assert (draft.name, draft.description) == ("Night shift", "what for")

    def test_who_may(self, viewer: User, stranger: User, account: Account, draft: MigrationTask) -> None:
        with pytest.raises(NotPermitted):
            tasks.create_draft(viewer, account)
        with pytest.raises(NotFound):
            tasks.create_draft(stranger, account)
        with pytest.raises(NotPermitted):
            tasks.configure(viewer, draft, name="x")
        with pytest.raises(NotFound):
            tasks.configure(stranger, draft, name="x")

    @pytest.mark.parametrize("status", [S.PRECHECKING, S.FULL, S.PAUSED, S.COMPLETED, S.FAILED, S.RELEASED])
    def test_only_before_the_start(self, operator: User, make_task: TaskMaker, status: S) -> None:
        with pytest.raises(Conflict) as raised:
            tasks.configure(operator, make_task(status), name="x")
        assert raised.value.id == "task.cannot_configure"


class TestWrongValues:
    """Each is refused with its field, and nothing is changed."""

    @pytest.mark.parametrize(
        ("settings", "field"),
        [
            ({"phases": "incremental"}, "phases"),
            ({"method": "magic"}, "method"),
            ({"conflict": "merge"}, "conflict"),
            ({"speed_class": "huge"}, "speed_class"),
            ({"retry_minutes": 9}, "retry_minutes"),
            ({"retry_minutes": 1441}, "retry_minutes"),
            ({"retry_minutes": 30.5}, "retry_minutes"),
            ({"retry_minutes": "30"}, "retry_minutes"),
            ({"databases": []}, "databases"),
            ({"databases": [16]}, "databases"),
            ({"databases": [-1]}, "databases"),
            ({"databases": ["0"]}, "databases"),
            ({"speed_time_zone": "Mars/Olympus"}, "speed_time_zone"),
            ({"speed_time_zone": "../etc/passwd"}, "speed_time_zone"),
            ({"speed_hours": {}}, "speed_hours"),
            ({"speed_hours": [{"from": "08:00", "to": "09:00"}]}, "speed_hours"),
            ({"speed_hours": [{"from": "8:00", "to": "09:00", "class": "small"}]}, "speed_hours"),
            ({"speed_hours": [{"from": "08:00", "to": "24:00", "class": "small"}]}, "speed_hours"),
            ({"speed_hours": [{"from": "08:00", "to": "08:00", "class": "small"}]}, "speed_hours"),
            ({"speed_hours": [{"from": "08:00", "to": "09:00", "class": "huge"}]}, "speed_hours"),
            (
                {
                    "speed_hours": [
                        {"from": "22:00", "to": "06:00", "class": "small"},
                        {"from": "05:59", "to": "07:00", "class": "large"},
                    ]
                },
                "speed_hours",
            ),
            ({"commands": []}, "commands"),
            ({"commands": {"": ["SET"]}}, "commands"),
            ({"commands": {"": {"only": []}}}, "commands"),
            ({"commands": {"": {"only": ["SET"], "without": ["DEL"]}}}, "commands"),
            ({"commands": {"x": {"only": ["SET"]}}}, "commands"),
            ({"commands": {"": {"only": ["NOSUCHCOMMAND"]}}}, "commands"),
            ({"commands": {"": {"without": ["@nosuchgroup"]}}}, "commands"),
            ({"commands": {"": {"without": ["SPOP"]}}}, "commands"),  # travels as SREM
            ({"commands": {"3": {"only": ["SET"]}}, "databases": [0]}, "commands"),
            ({"alerts": True}, "alert_lag_seconds"),
            ({"alerts": True, "alert_lag_seconds": 10}, "alert_contacts"),
            ({"alert_lag_seconds": 0}, "alert_lag_seconds"),
            ({"verify_percent": 0}, "verify_percent"),
            ({"verify_percent": 101}, "verify_percent"),
            ({"verify_every_hours": 0}, "verify_every_hours"),
            ({"method": Method.FILE}, "method"),
            ({"method": Method.SCAN, "commands": {"": {"only": ["SET"]}}}, "commands"),
            ({"method": Method.SCAN, "heartbeat": True}, "heartbeat"),
            ({"phases": Phases.FULL, "heartbeat": True}, "heartbeat"),
            ({"status": "ready"}, "status"),
        ],
    )
    def test_refused(self, operator: User, task: MigrationTask, settings: dict[str, Any], field: str) -> None:
        before = MigrationTask.objects.filter(pk=task.pk).values().get()
        with pytest.raises(Invalid) as raised:
            tasks.configure(operator, task, **settings)
        assert raised.value.field == field
        assert "Nothing was changed" in raised.value.message or "not saved" in raised.value.message
        assert MigrationTask.objects.filter(pk=task.pk).values().get() == before

    def test_good_ones(self, operator: User, account: Account, task: MigrationTask) -> None:
        contact = Contact.objects.create(account=account, name="On call", email="oncall@example.org")
        tasks.configure(
            operator, task, phases="full+incremental", method="psync", conflict="keep", heartbeat=True, databases=[3, 0],
            commands={"": {"only": ["@string", "expire"]}, "3": {"without": ["DEL"]}}, retry_minutes=10,
            speed_class="small", speed_time_zone="Europe/Berlin",
            speed_hours=[{"from": "22:00", "to": "06:00", "class": "unlimited"}, {"from": "06:00", "to": "07:00", "class": "large"}],
            alerts=True, alert_lag_seconds=5, alert_contacts=[contact], verify_every_hours=24, verify_percent=10,
            wizard_step="confirm", risks_acknowledged=True,
        )  # fmt: skip
        assert task.databases == [0, 3]
        assert task.risks_acknowledged_at is not None
        assert list(task.alert_contacts.all()) == [contact]
        assert tasks.missing(task) == []

    def test_a_contact_of_another_account(
        self, operator: User, other_account: Account, task: MigrationTask
    ) -> None:
        contact = Contact.objects.create(account=other_account, name="Stranger")
        with pytest.raises(Invalid) as raised:
            tasks.configure(operator, task, alerts=True, alert_lag_seconds=5, alert_contacts=[contact])
        assert raised.value.field == "alert_contacts"


class TestSides:
    def test_an_instance_of_another_account(
        self, operator: User, other_account: Account, draft: MigrationTask
    ) -> None:
        with pytest.raises(NotFound):
            tasks.configure(operator, draft, source=instance(other_account, "foreign"))

    def test_a_file_brings_its_method_and_phases_along(
        self, operator: User, account: Account, draft: MigrationTask, source: Instance, target: Instance
    ) -> None:
        tasks.configure(operator, draft, source=snapshot(account), target=target)
        assert (draft.method, draft.phases) == (Method.FILE, Phases.FULL)
        assert tasks.missing(draft) == []
        with pytest.raises(Invalid) as raised:
            tasks.configure(operator, draft, phases=Phases.FULL_INCREMENTAL)
        assert raised.value.id == "task.file_is_full_only"
        tasks.configure(operator, draft, source=source)
        assert draft.method == Method.PSYNC

    def test_a_file_cannot_be_the_target(
        self, operator: User, account: Account, draft: MigrationTask
    ) -> None:
        with pytest.raises(Invalid) as raised:
            tasks.configure(operator, draft, target=snapshot(account))
        assert (raised.value.id, raised.value.field) == ("task.target_is_file", "target")

    def test_a_cluster_target_takes_database_0_only(
        self, operator: User, account: Account, draft: MigrationTask, source: Instance
    ) -> None:
        cluster = instance(account, "cluster", 7000, architecture=Architecture.CLUSTER, databases=[])
        tasks.configure(operator, draft, source=source, target=cluster)
        (lack,) = tasks.missing(draft)
        assert (lack.step, lack.field) == ("objects", "databases")
        assert "cluster, which has database 0 only" in lack.sentence
        with pytest.raises(Invalid, match="database 0 only"):
            tasks.configure(operator, draft, databases=[0, 3])
        tasks.configure(operator, draft, databases=[0])
        assert tasks.missing(draft) == []
        tasks.configure(operator, draft, conflict="keep")
        assert tasks.missing(draft) == []

    def test_a_cluster_source_is_not_scanned(
        self, operator: User, account: Account, draft: MigrationTask, target: Instance
    ) -> None:
        cluster = instance(account, "cluster", 7000, architecture=Architecture.CLUSTER, databases=[])
        tasks.configure(operator, draft, source=cluster, target=target)
        assert tasks.missing(draft) == []
        with pytest.raises(Invalid) as raised:
            tasks.configure(operator, draft, method=Method.SCAN)
        assert raised.value.id == "task.scan_of_cluster"

    def test_another_source_means_all_databases_again(
        self, operator: User, account: Account, task: MigrationTask
    ) -> None:
        tasks.configure(operator, task, databases=[3], commands={"3": {"only": ["SET"]}})
        tasks.configure(operator, task, source=instance(account, "third", 6405))
        assert (task.databases, task.commands) == (None, {})

    def test_self_hosted_sides_go_with_their_task(
        self, operator: User, account: Account, draft: MigrationTask, target: Instance
    ) -> None:
        params = ConnectionParams(host="127.0.0.1", port=6390)
        first = create_self_hosted(operator, account, params, "mine")
        second = create_self_hosted(operator, account, params, "other")
        tasks.configure(operator, draft, source=first, target=target)
        with pytest.raises(Invalid) as raised:
            tasks.configure(operator, tasks.create_draft(operator, account), source=first)
        assert raised.value.id == "task.side_of_another"
        tasks.configure(operator, draft, source=second)
        assert not Instance.objects.filter(pk=first.pk).exists()
        tasks.delete_task(operator, draft)
        assert not Instance.objects.filter(origin=Origin.SELF_HOSTED).exists()
        assert Instance.objects.filter(pk=target.pk).exists()


class TestFingerprint:
    @pytest.mark.parametrize(
        "settings",
        [
            {"phases": "full"}, {"databases": [0]}, {"conflict": "keep"}, {"heartbeat": True}, {"method": "scan"},
            {"commands": {"": {"without": ["@pubsub"]}}},
        ],
    )  # fmt: skip
    def test_changes_with_what_a_precheck_depends_on(
        self, operator: User, task: MigrationTask, settings: dict[str, Any]
    ) -> None:
        before = tasks.fingerprint(task)
        tasks.configure(operator, task, **settings)
        assert tasks.fingerprint(task) != before

    def test_changes_with_a_secret_and_does_not_tell_it(self, task: MigrationTask, source: Instance) -> None:
        before = tasks.fingerprint(task)
        source.endpoint.password = "new"
        source.endpoint.save()
        after = tasks.fingerprint(MigrationTask.objects.get(pk=task.pk))
        assert before != after
        assert len(after) == 64


def test_a_half_changed_task_is_never_stored(
    operator: User, task: MigrationTask, target: Instance, account: Account
) -> None:
    """One wrong value among good ones: none is taken."""
    with pytest.raises(ServiceError):
        tasks.configure(operator, task, name="New name", speed_class="small", retry_minutes=5)
    task.refresh_from_db()
    assert (task.name, task.speed_class) == ("orders to orders-new", "unlimited")
