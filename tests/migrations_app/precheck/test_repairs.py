"""Repairs on real servers: set, put back, left alone, cleared; and who may ask for them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from migrations_app.choices import InspectionKind, InspectionStatus, Outcome, TaskStatus
from migrations_app.models import AppliedRepair, Inspection, LogEntry, MigrationTask, PrecheckItem
from migrations_app.runner import inspections as runner
from migrations_app.runner import repair as repair_runner
from migrations_app.services import inspections, repairs, tasks
from portal.choices import Origin, Role
from portal.errors import Conflict, Invalid, NotFound, NotPermitted
from portal.models import AccessRole, Account, AuditEntry, Instance
from tests.migrations_app.conftest import person
from tests.support.ports import free_port

from .cases_identity import with_role
from .world import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("file_database")]
S = TaskStatus


@pytest.fixture(autouse=True)
def silent_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspections, "ring", lambda inspection_id: None)


def found(world: World, code: str) -> PrecheckItem:
    """The item as a precheck has stored it."""
    finding = world.look(code)
    inspection = Inspection.objects.get()
    Inspection.objects.update(status=InspectionStatus.DONE)
    return PrecheckItem.objects.create(
        inspection=inspection,
        position=1,
        code=code,
        side=code.partition(".")[0],
        title=code,
        severity="warning",
        outcome=finding.outcome,
        found=finding.found,
        repair=finding.repair,
        repair_code=finding.repair_code,
        data=finding.data,
    )


def carry_out(inspection: Inspection) -> Inspection:
    lease = inspections.acquire(inspection.pk, "one:1:a", host="here", ip="127.0.0.1")
    assert lease is not None
    runner.run(lease)
    inspection.refresh_from_db()
    return inspection


def put_back() -> list[Inspection]:
    """What a tick of the cluster begins, carried out."""
    for task_id in repairs.due():
        repairs.restore_due(task_id)
    return [carry_out(one) for one in Inspection.objects.filter(status=InspectionStatus.QUEUED)]


def end(status: TaskStatus = S.COMPLETED, **changes: Any) -> None:
    MigrationTask.objects.update(status=status, **changes)


def read(world: World, side: str, setting: str) -> str:
    return str(world.do(side, "CONFIG", "GET", setting)[1].decode())


SETTINGS = [
    ("source.repl_timeout", "repl-timeout", 60, "300"),
    (
        "source.output_buffer",
        "client-output-buffer-limit",
        "slave 104857600 52428800 60",
        "slave 209715200 209715200 60",
    ),
    ("source.backlog", "repl-backlog-size", 2**20, str(64 * 2**20)),
    ("source.notifications", "notify-keyspace-events", "", "AE"),
    ("target.eviction", "maxmemory-policy", "allkeys-lru", "noeviction"),
]


@pytest.mark.parametrize("version", ["redis-3.2", "redis-5.0", "redis-6.2", "redis-7.0", "valkey-9"])
@pytest.mark.parametrize(("code", "setting", "before", "after"), SETTINGS, ids=lambda value: str(value)[:20])
def test_is_applied_and_put_back(
    world: World, version: str, code: str, setting: str, before: object, after: str
) -> None:
    side = code.partition(".")[0]
    server = world.use(side, version)
    world.configure("source", maxmemory="1000mb")
    world.configure(side, **{setting: before})
    world.task(method="scan" if code == "source.notifications" else "psync")
    item = found(world, code)
    assert item.repair_code == code, item.found
    done = carry_out(repairs.request_repair(None, item))
    assert done.passed, done.failure_message
    with server.client() as client:
        assert repair_runner.alike(setting, _of_replicas(client.config_get(setting)[setting]), after)
    row = AppliedRepair.objects.get(setting=setting)
    assert (row.old, row.applied_at is not None, row.restored_at) == (str(before), True, None)
    assert repairs.due() == []  # the task has not ended
    end()
    (restoring,) = put_back()
    assert restoring.passed
    with server.client() as client:
        assert _of_replicas(client.config_get(setting)[setting]) == str(before)
    row.refresh_from_db()
    assert row.restored_at is not None and row.note == ""
    assert LogEntry.objects.filter(event="repair.restored").exists()
    assert AuditEntry.objects.filter(action="repair.restored").exists()
    assert put_back() == []


def _of_replicas(value: str) -> str:
    place = value.replace("replica ", "slave ").find("slave ")
    return " ".join(value.replace("replica ", "slave ")[place:].split()[:4]) if place >= 0 else value


class TestSettings:
    @pytest.fixture
    def item(self, world: World) -> PrecheckItem:
        world.configure("source", repl_timeout=60)
        return found(world, "source.repl_timeout")

    def test_of_a_cluster_are_those_of_all_masters(self, world: World) -> None:
        cluster = world.use_cluster("source")
        world.configure("source", repl_timeout=60)  # of the first; the other one has 60 as well
        item = found(world, "source.repl_timeout")
        assert carry_out(repairs.request_repair(None, item)).passed
        assert [world._execute(node, "CONFIG", "GET", "repl-timeout")[1] for node in cluster.nodes] == [
            b"300"
        ] * 2
        assert {row.address for row in AppliedRepair.objects.all()} == {
            f"127.0.0.1:{node.port}" for node in cluster.nodes
        }
        end()
        put_back()
        assert [world._execute(node, "CONFIG", "GET", "repl-timeout")[1] for node in cluster.nodes] == [
            b"60"
        ] * 2

    def test_are_left_when_somebody_has_changed_them(self, world: World, item: PrecheckItem) -> None:
        carry_out(repairs.request_repair(None, item))
        world.do("source", "CONFIG", "SET", "repl-timeout", 777)
        end()
        (restoring,) = put_back()
        assert len(restoring.result["left"]) == 1
        assert read(world, "source", "repl-timeout") == "777"
        assert "somebody has changed it to 777" in AppliedRepair.objects.get().note
        assert LogEntry.objects.filter(event="repair.left").exists()

    @pytest.mark.parametrize("crashed_before", [True, False])
    def test_are_found_after_a_crash(
        self, world: World, item: PrecheckItem, monkeypatch: pytest.MonkeyPatch, crashed_before: bool
    ) -> None:
        """The worker dies between noting the old value and setting the new one, or between that and noting that it is set."""

        def die(*args: object) -> Any:
            raise KeyboardInterrupt

        monkeypatch.setattr(*((repair_runner, "_set", die) if crashed_before else (repairs, "applied", die)))
        asked = repairs.request_repair(None, item)
        with pytest.raises(KeyboardInterrupt):
            carry_out(asked)
        monkeypatch.undo()
        monkeypatch.setattr(inspections, "ring", lambda inspection_id: None)
        assert read(world, "source", "repl-timeout") == ("60" if crashed_before else "300")
        assert AppliedRepair.objects.get().applied_at is None
        Inspection.objects.update(status=InspectionStatus.FAILED, lease_until=None)
        end()
        (restoring,) = put_back()
        assert restoring.passed
        assert read(world, "source", "repl-timeout") == "60"

    def test_keep_the_first_old_value_when_it_is_done_twice(self, world: World, item: PrecheckItem) -> None:
        carry_out(repairs.request_repair(None, item))
        world.do("source", "CONFIG", "SET", "repl-timeout", 100)
        carry_out(repairs.request_repair(None, item))
        assert AppliedRepair.objects.get().old == "60"

    def test_that_are_right_already_are_not_noted(self, world: World, item: PrecheckItem) -> None:
        world.do("source", "CONFIG", "SET", "repl-timeout", 300)
        done = carry_out(repairs.request_repair(None, item))
        assert done.passed and len(done.result["unchanged"]) == 1
        assert not AppliedRepair.objects.exists()

    def test_that_the_server_refuses_leave_nothing_to_put_back(
        self, world: World, item: PrecheckItem
    ) -> None:
        PrecheckItem.objects.update(data={"set": {"repl-timeout": "never"}})
        item.refresh_from_db()
        done = carry_out(repairs.request_repair(None, item))
        assert (done.status, done.failure_id) == (InspectionStatus.FAILED, "repair.refused")
        assert AppliedRepair.objects.get().restored_at is not None
        assert read(world, "source", "repl-timeout") == "60"

    def test_of_a_server_that_is_away_are_tried_again(self, world: World, item: PrecheckItem) -> None:
        carry_out(repairs.request_repair(None, item))
        end()
        endpoint = Instance.objects.get(name="orders").endpoint
        AppliedRepair.objects.update(address=f"127.0.0.1:{free_port()}")
        (restoring,) = put_back()
        assert restoring.passed is False
        row = AppliedRepair.objects.get()
        assert (row.attempts, row.restored_at) == (1, None)
        assert repairs.due() == []  # not at once
        AppliedRepair.objects.update(address=endpoint.address, tried_at=timezone.now() - timedelta(minutes=2))
        put_back()
        assert AppliedRepair.objects.get().restored_at is not None


class TestWhen:
    @pytest.fixture
    def changed(self, world: World) -> AppliedRepair:
        task = world.made_task()
        assert task.source is not None
        return AppliedRepair.objects.create(
            task=task, instance=task.source, address="127.0.0.1:1", code="source.repl_timeout", setting="repl-timeout",
            old="60", new="300", applied_at=timezone.now(),
        )  # fmt: skip

    @pytest.mark.parametrize("status", list(S))
    def test_put_back(self, changed: AppliedRepair, status: S) -> None:
        end(status, finished_at=timezone.now())
        assert bool(repairs.due()) is (status in (S.COMPLETED, S.STOPPED, S.RELEASED))

    @pytest.mark.parametrize(("days", "is_due"), [(6.9, False), (7.1, True)])
    def test_failed_tasks_can_be_resumed_for_a_week(
        self, changed: AppliedRepair, days: float, is_due: bool
    ) -> None:
        end(S.FAILED, finished_at=timezone.now() - timedelta(days=days))
        assert bool(repairs.due()) is is_due

    def test_asked_for_by_a_person(self, changed: AppliedRepair) -> None:
        repairs.request_restore(None, changed.task)
        assert Inspection.objects.get().parameters == {"restore": True}

    def test_a_task_is_deleted_once_all_is_put_back(self, changed: AppliedRepair) -> None:
        end(S.READY)
        task = MigrationTask.objects.get()
        with pytest.raises(Conflict) as refused:
            tasks.delete_task(None, task)
        assert refused.value.id == "repair.pending"
        assert Inspection.objects.get().parameters == {"restore": True}
        repairs.restored(changed)
        tasks.delete_task(None, task)
        assert not MigrationTask.objects.exists()

    def test_a_task_of_a_server_that_is_gone_can_be_deleted(self, changed: AppliedRepair) -> None:
        end(S.READY)
        AppliedRepair.objects.update(attempts=repairs.BEFORE_DELETE)
        tasks.delete_task(None, MigrationTask.objects.get())
        assert not MigrationTask.objects.exists()

    def test_a_side_that_is_replaced_stays_until_all_is_put_back(self, changed: AppliedRepair) -> None:
        Instance.objects.filter(pk=changed.instance_id).update(origin=Origin.SELF_HOSTED)
        MigrationTask.objects.update(source=None)
        repairs.drop_side(Instance.objects.get(pk=changed.instance_id))
        assert len(repairs.due()) == 1
        repairs.restored(AppliedRepair.objects.get())
        assert not Instance.objects.filter(pk=changed.instance_id).exists()

    def test_put_back_also_when_a_role_was_revoked(self, world: World, changed: AppliedRepair) -> None:
        """What was changed at the own side does not stay because the other one may not be read any more."""
        task = changed.task
        with_role(world, "target", revoked_at=timezone.now())
        MigrationTask.objects.update(target_role=AccessRole.objects.get(), status=S.RELEASED)
        for task_id in repairs.due():
            repairs.restore_due(task_id)
        assert Inspection.objects.get(task=task).parameters == {"restore": True}

    def test_another_task_at_the_server_takes_it_over(self, changed: AppliedRepair) -> None:
        first = changed.task
        other = MigrationTask.objects.create(
            name="other", account=first.account, source=first.source, status=S.INCREMENTAL
        )
        MigrationTask.objects.filter(pk=first.pk).update(status=S.COMPLETED)
        assert put_back() == []
        changed.refresh_from_db()
        assert (changed.task, changed.restored_at) == (other, None)
        MigrationTask.objects.filter(pk=other.pk).update(status=S.COMPLETED)
        assert repairs.due() == [other.pk]


class TestClear:
    def held(self, world: World) -> PrecheckItem:
        for number in (0, 3):
            with world.target.client(db=number) as client:
                client.set("a", "1")
        return found(world, "target.empty")

    def test_needs_the_name(self, world: World) -> None:
        item = self.held(world)
        for typed in ("", "orders", "ORDERS-NEW"):
            with pytest.raises(Invalid) as refused:
                repairs.request_repair(None, item, confirmation=typed)
            assert (refused.value.id, refused.value.field) == ("repair.confirmation", "confirmation")
        assert not Inspection.objects.filter(kind=InspectionKind.REPAIR).exists()

    @pytest.mark.parametrize("version", ["redis-3.2", "redis-7.0", "valkey-9"])
    def test_empties_the_target(self, world: World, version: str) -> None:
        world.use("target", version)
        item = self.held(world)
        done = carry_out(repairs.request_repair(None, item, confirmation="orders-new"))
        assert done.passed and done.result == {"cleared": {"0": 1, "3": 1}}, done.failure_message
        assert world.target.info("keyspace") == {}
        assert world.look("target.empty").outcome == Outcome.PASSED
        assert AuditEntry.objects.filter(action="target.cleared").count() == 2
        assert LogEntry.objects.filter(event="target.cleared", level="warning").exists()

    def test_leaves_databases_that_were_not_chosen(self, world: World) -> None:
        world.task(databases=[3])
        item = self.held(world)
        carry_out(repairs.request_repair(None, item, confirmation="orders-new"))
        assert list(world.target.info("keyspace")) == ["db0"]

    def test_empties_a_cluster(self, world: World) -> None:
        cluster = world.use_cluster("target")
        for number in range(10):
            cluster.set(f"key:{number}", "x")
        item = found(world, "target.empty")
        assert carry_out(repairs.request_repair(None, item, confirmation="orders-new")).passed
        assert cluster.keys() == 0

    @pytest.mark.parametrize("role", ["source", "target"])
    def test_is_refused_while_another_task_uses_it(self, world: World, role: str) -> None:
        item = self.held(world)
        task = world.made_task()
        MigrationTask.objects.create(
            name="other", account=task.account, status=S.PAUSED, **{role: task.target}
        )
        with pytest.raises(Conflict) as refused:
            repairs.request_repair(None, item, confirmation="orders-new")
        assert refused.value.id == "repair.in_use"
        assert "The task other" in refused.value.message

    def test_is_refused_when_a_task_was_started_meanwhile(self, world: World) -> None:
        asked = repairs.request_repair(None, self.held(world), confirmation="orders-new")
        task = world.made_task()
        MigrationTask.objects.create(name="other", account=task.account, status=S.FULL, target=task.target)
        done = carry_out(asked)
        assert done.failure_id == "repair.in_use"
        assert "db0" in world.target.info("keyspace")

    def test_never_clears_the_source(self, world: World) -> None:
        item = self.held(world)
        task = world.made_task()
        assert task.source is not None
        task.source.endpoint.port = world.target.port
        task.source.endpoint.host = "localhost"
        task.source.endpoint.save()
        done = carry_out(repairs.request_repair(None, item, confirmation="orders-new"))
        assert done.failure_id == "repair.same_server"
        assert "db0" in world.target.info("keyspace")


class TestWho:
    @pytest.fixture
    def item(self, world: World) -> PrecheckItem:
        world.configure("source", repl_timeout=60)
        return found(world, "source.repl_timeout")

    def test_an_operator(self, item: PrecheckItem) -> None:
        account = item.inspection.task.account
        operator = person("omar", account, Role.OPERATOR)
        carry_out(repairs.request_repair(operator, item))
        assert AuditEntry.objects.filter(action="repair.applied", actor=operator).exists()
        assert AppliedRepair.objects.get().by == operator

    def test_no_viewer_and_no_stranger(self, item: PrecheckItem) -> None:
        account = item.inspection.task.account
        with pytest.raises(NotPermitted):
            repairs.request_repair(person("vera", account, Role.VIEWER), item)
        with pytest.raises(NotFound):
            repairs.request_repair(person("stan", Account.objects.create(name="X"), Role.OWNER), item)

    def test_not_the_server_of_another_account(self, item: PrecheckItem) -> None:
        task = item.inspection.task
        assert task.source is not None
        Instance.objects.filter(pk=task.source.pk).update(account=Account.objects.create(name="Warehouse"))
        with pytest.raises(Conflict) as refused:
            repairs.request_repair(person("omar", task.account, Role.OPERATOR), item)
        assert refused.value.id == "repair.not_own"

    def test_not_once_the_task_has_started(self, item: PrecheckItem) -> None:
        end(S.INCREMENTAL)
        with pytest.raises(Conflict) as refused:
            repairs.request_repair(None, item)
        assert refused.value.id == "repair.not_current"

    def test_not_of_an_older_precheck(self, item: PrecheckItem) -> None:
        Inspection.objects.create(task=item.inspection.task, kind=InspectionKind.PRECHECK)
        with pytest.raises(Conflict) as refused:
            repairs.request_repair(None, item)
        assert refused.value.id == "repair.not_current"

    def test_not_where_there_is_none(self, item: PrecheckItem) -> None:
        PrecheckItem.objects.update(repair_code="")
        item.refresh_from_db()
        with pytest.raises(Conflict) as refused:
            repairs.request_repair(None, item)
        assert refused.value.id == "repair.none"


def test_codes_are_those_of_the_items() -> None:
    from migrations_app.runner.precheck.items import ITEMS

    assert {code for item in ITEMS for code in item.repairs} == repairs.CODES
