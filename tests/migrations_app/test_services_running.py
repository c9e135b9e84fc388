"""What may be changed while a task runs; the class of the moment; the retry time that takes effect; pause and release as rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User

from migrations_app.choices import Desired, InspectionKind, SpeedClass, TaskStatus
from migrations_app.models import Inspection, Link, MigrationTask
from migrations_app.services import links, releases, retry, running, tasks
from portal.errors import Conflict, Invalid, NotFound, NotPermitted
from portal.models import AccessRole, Account, AuditEntry, Instance
from portal.services.connections import ConnectionParams, create_self_hosted

from .conftest import TaskMaker, instance

pytestmark = pytest.mark.django_db
S = TaskStatus


@pytest.fixture(autouse=True)
def _silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrations_app.services.inspections.ring", lambda number: None)
    monkeypatch.setattr("migrations_app.services.links.ring", lambda number: None)


class TestChange:
    @pytest.mark.parametrize("status", [S.READY, S.FULL, S.INCREMENTAL, S.RETRYING, S.PAUSED, S.FAILED])
    def test_takes_effect(self, operator: User, make_task: TaskMaker, status: S) -> None:
        task = make_task(status)
        tasks.change_running(operator, task, speed_class="small", retry_minutes=30)
        assert (task.status, task.speed_class, task.retry_minutes) == (status, "small", 30)
        line = task.log.get(event="task.changed")
        assert (
            "omar changed retry time (minutes) from 120 to 30; speed class from unlimited to small."
            in line.message
        )
        assert AuditEntry.objects.get(action="task.changed").details["changed"] == {
            "speed_class": "small",
            "retry_minutes": 30,
        }

    @pytest.mark.parametrize("status", [S.COMPLETED, S.RELEASED, S.PRECHECKING])
    def test_not_when_it_is_over(self, operator: User, make_task: TaskMaker, status: S) -> None:
        with pytest.raises(Conflict) as raised:
            tasks.change_running(operator, make_task(status), retry_minutes=30)
        assert raised.value.id == "task.cannot_change"

    @pytest.mark.parametrize(
        ("settings", "field"),
        [
            ({"retry_minutes": 9}, "retry_minutes"), ({"retry_minutes": 1441}, "retry_minutes"),
            ({"speed_class": "huge"}, "speed_class"), ({"databases": [0]}, "databases"), ({"conflict": "keep"}, "conflict"),
            ({"alerts": True}, "alert_lag_seconds"),
        ],
    )  # fmt: skip
    def test_refused(
        self, operator: User, make_task: TaskMaker, settings: dict[str, Any], field: str
    ) -> None:
        task = make_task(S.INCREMENTAL)
        with pytest.raises(Invalid) as raised:
            tasks.change_running(operator, task, **settings)
        assert raised.value.field == field
        assert not task.log.exists()

    def test_who_may(self, viewer: User, stranger: User, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        with pytest.raises(NotPermitted):
            tasks.change_running(viewer, task, retry_minutes=30)
        with pytest.raises(NotFound):
            tasks.change_running(stranger, task, retry_minutes=30)


class TestConnection:
    def test_of_a_self_hosted_side(
        self, operator: User, account: Account, target: Instance, make_task: TaskMaker
    ) -> None:
        params = ConnectionParams(host="127.0.0.1", port=6390, password="old-secret")
        mine = create_self_hosted(operator, account, params, "mine")
        task = make_task(S.INCREMENTAL, source=mine, target=target)
        before = running.live(task.pk)
        assert before is not None
        tasks.change_connection(
            operator, task, "source", ConnectionParams(host="127.0.0.1", port=6390, password="new-secret")
        )
        after = running.live(task.pk)
        assert after is not None and after.connections != before.connections
        told = " ".join(task.log.values_list("message", flat=True)) + str(
            list(AuditEntry.objects.values_list("details", flat=True))
        )
        assert "new-secret" not in told and "old-secret" not in told

    def test_of_an_instance_of_the_fleet(self, operator: User, make_task: TaskMaker) -> None:
        with pytest.raises(Conflict) as raised:
            tasks.change_connection(
                operator, make_task(S.INCREMENTAL), "source", ConnectionParams(host="127.0.0.1")
            )
        assert raised.value.id == "task.side_of_fleet"

    def test_of_no_side(self, operator: User, make_task: TaskMaker) -> None:
        with pytest.raises(NotFound):
            tasks.change_connection(
                operator, make_task(S.INCREMENTAL), "pk", ConnectionParams(host="127.0.0.1")
            )


NIGHT = [
    {"from": "22:00", "to": "06:00", "class": "unlimited"},
    {"from": "12:00", "to": "13:00", "class": "large"},
]


@pytest.mark.parametrize(
    ("zone", "moment", "speed"),
    [
        ("UTC", "2026-01-10T21:59:59", "small"), ("UTC", "2026-01-10T22:00:00", "unlimited"),
        ("UTC", "2026-01-10T00:00:00", "unlimited"), ("UTC", "2026-01-10T05:59:59", "unlimited"),
        ("UTC", "2026-01-10T06:00:00", "small"), ("UTC", "2026-01-10T12:30:00", "large"),
        ("UTC", "2026-01-10T13:00:00", "small"),
        # One hour ahead in winter, two in summer.
        ("Europe/Berlin", "2026-01-10T21:00:00", "unlimited"), ("Europe/Berlin", "2026-01-10T20:59:00", "small"),
        ("Europe/Berlin", "2026-07-10T20:00:00", "unlimited"), ("Europe/Berlin", "2026-07-10T19:59:00", "small"),
        # The hour that is skipped, and the one that comes twice.
        ("Europe/Berlin", "2026-03-29T01:30:00", "unlimited"), ("Europe/Berlin", "2026-10-25T04:59:00", "unlimited"),
        ("Europe/Berlin", "2026-10-25T05:00:00", "small"),
        ("Asia/Kolkata", "2026-01-10T16:30:00", "unlimited"), ("Asia/Kolkata", "2026-01-10T16:29:00", "small"),
    ],
)  # fmt: skip
def test_the_class_of_the_moment(make_task: TaskMaker, zone: str, moment: str, speed: str) -> None:
    task = make_task(S.FULL, speed_class="small", speed_hours=NIGHT, speed_time_zone=zone)
    assert running.speed_at(task, datetime.fromisoformat(moment).replace(tzinfo=UTC)) == SpeedClass(speed)


class TestRetry:
    def test_the_lowest_of_those_that_share_a_side(
        self, account: Account, source: Instance, target: Instance, make_task: TaskMaker
    ) -> None:
        mine = make_task(S.INCREMENTAL, retry_minutes=120)
        assert retry.effective_retry(mine) == (120, mine)
        others = [instance(account, f"other{number}", 6500 + number) for number in range(4)]
        make_task(S.INCREMENTAL, source=others[0], target=others[1], retry_minutes=10)  # shares nothing
        make_task(S.COMPLETED, source=source, target=others[2], retry_minutes=11)  # has ended
        make_task(S.INCREMENTAL, source=target, target=others[2], retry_minutes=12)  # other way round
        assert retry.effective_retry(mine) == (120, mine)
        paused = make_task(S.PAUSED, source=source, target=others[3], retry_minutes=60)
        assert retry.effective_retry(mine) == (60, paused)
        assert retry.effective_retry(paused) == (60, paused)
        live = running.live(mine.pk)
        assert live is not None and live.retry_minutes == 60

    def test_the_same_server_entered_twice(
        self, account: Account, source: Instance, make_task: TaskMaker
    ) -> None:
        mine = make_task(S.INCREMENTAL, retry_minutes=120)
        again = instance(account, "again", 6401, run_id=source.run_id)
        lower = make_task(S.FULL, source=again, target=instance(account, "elsewhere", 6666), retry_minutes=20)
        assert retry.effective_retry(mine) == (20, lower)


class TestPause:
    def test_asks_the_worker(self, operator: User, make_task: TaskMaker) -> None:
        task = make_task(S.INCREMENTAL)
        lease = links.acquire_lease(task.link.pk, "host:1:a")
        assert lease is not None
        assert tasks.pause_task(operator, task).status == S.PAUSING
        assert links.renew_lease(lease) is Desired.PAUSE
        assert links.finish_wanted(lease) is S.PAUSED
        task.refresh_from_db()
        assert (task.status, task.finished_at) == (S.PAUSED, None)
        assert task.paused_at is not None

    def test_settles_at_once_without_one(self, operator: User, make_task: TaskMaker) -> None:
        assert tasks.pause_task(operator, make_task(S.STARTING)).status == S.PAUSED

    def test_a_worker_that_died_is_no_obstacle(self, operator: User, make_task: TaskMaker) -> None:
        task = make_task(S.INCREMENTAL)
        lease = links.acquire_lease(task.link.pk, "host:1:a")
        assert lease is not None
        tasks.pause_task(operator, task)
        assert links.unsettled() == []
        links.expire_lease(task.link.pk, lease.epoch)
        assert links.unsettled() == [task.link.pk]
        assert links.settle(task.link.pk)
        task.refresh_from_db()
        assert task.status == S.PAUSED
        assert links.waiting() == []

    def test_stopped_while_it_pauses(self, operator: User, make_task: TaskMaker) -> None:
        task = make_task(S.INCREMENTAL, reached_incremental=True)
        lease = links.acquire_lease(task.link.pk, "host:1:a")
        assert lease is not None
        tasks.pause_task(operator, task)
        tasks.stop_task(operator, task)
        assert links.finish_wanted(lease) is S.COMPLETED

    def test_by_the_system_with_its_reason(self, make_task: TaskMaker, operator: User) -> None:
        task = make_task(S.STARTING)
        assert tasks.pause_by_system(task, "The role was revoked.")
        task.refresh_from_db()
        assert (task.status, task.pause_reason) == (S.PAUSED, "The role was revoked.")
        assert not tasks.pause_by_system(task, "Again.")
        tasks.resume_task(operator, task)
        assert (task.status, task.pause_reason, task.paused_at) == (S.STARTING, "", None)

    def test_it_holds_its_target(self, operator: User, account: Account, make_task: TaskMaker) -> None:
        paused = make_task(S.PAUSED)
        other = make_task(S.READY, source=instance(account, "another", 6403))
        with pytest.raises(Conflict, match=f"paused task .*{paused.public_id}"):
            tasks.start_task(operator, other)
        MigrationTask.objects.filter(pk=paused.pk).update(reached_incremental=True)
        assert tasks.stop_task(operator, paused).status == S.COMPLETED
        assert tasks.start_task(operator, other).status == S.STARTING


class TestRelease:
    def test_shuts_out_whoever_has_the_link(self, operator: User, make_task: TaskMaker) -> None:
        task = make_task(S.INCREMENTAL)
        lease = links.acquire_lease(task.link.pk, "host:1:a")
        assert lease is not None
        MigrationTask.objects.filter(pk=task.pk).update(status=S.PAUSED)  # its lease ran out, it hangs
        task = tasks.release_task(operator, task)
        assert task.status == S.RELEASED
        assert links.renew_lease(lease) is None
        assert not links.show_phase(lease, S.INCREMENTAL)
        assert links.acquire_lease(task.link.pk, "host:2:b") is None
        inspection = Inspection.objects.get(kind=InspectionKind.FENCE)
        assert inspection.parameters == {"epoch": lease.epoch + 1}
        assert Link.objects.get(task=task).epoch == lease.epoch + 1

    def test_without_a_job_where_nobody_ever_wrote(self, operator: User, make_task: TaskMaker) -> None:
        tasks.release_task(operator, make_task(S.FAILED))
        assert not Inspection.objects.exists()

    def test_also_when_the_role_for_the_target_was_revoked(
        self, operator: User, account: Account, other_account: Account, make_task: TaskMaker
    ) -> None:
        foreign = instance(other_account, "foreign", 6407)
        role = AccessRole.objects.create(
            account=other_account,
            name="writers",
            trusted_account=account,
            access="read-write",
            revoked_at=datetime.now(UTC),
        )
        task = make_task(S.PAUSED, target=foreign, target_role=role)
        Link.objects.filter(task=task).update(epoch=3)
        with pytest.raises(Invalid):
            tasks.resume_task(operator, task)
        assert tasks.release_task(operator, task).status == S.RELEASED
        assert Inspection.objects.filter(kind=InspectionKind.FENCE).exists()

    def test_a_target_that_is_away_is_tried_again(self, operator: User, make_task: TaskMaker) -> None:
        task = make_task(S.FAILED)
        Link.objects.filter(task=task).update(epoch=3)
        tasks.release_task(operator, task)
        for number in range(1, releases.ATTEMPTS + 1):
            inspection = Inspection.objects.order_by("-pk")[0]
            lease = links_lease(inspection)
            fail_inspection(lease)
            assert releases.due() == []
            Inspection.objects.update(finished_at=datetime(2020, 1, 1, tzinfo=UTC))
            if number < releases.ATTEMPTS:
                assert releases.due() == [task.pk]
                assert releases.ask_again(task.pk)
                assert not releases.ask_again(task.pk)
        assert releases.due() == []
        lines = list(task.log.filter(event="task.not_fenced").values_list("message", flat=True))
        assert len(lines) == releases.ATTEMPTS
        assert "tried again" in lines[0] and "yourself" in lines[-1]


def links_lease(inspection: Inspection) -> Any:
    from migrations_app.services import inspections

    lease = inspections.acquire(inspection.pk, "host:1:a", host="host", ip="10.0.0.1")
    assert lease is not None
    return lease


def fail_inspection(lease: Any) -> None:
    from migrations_app.services import inspections

    assert inspections.fail(lease, failure_id="connection.refused", message="Away.", advice="")


def test_bulk(operator: User, make_task: TaskMaker, account: Account, source: Instance) -> None:
    """A result for each, and an action that is none of many is refused."""
    running_task = make_task(S.FULL)
    draft = tasks.create_draft(operator, account)
    results = tasks.bulk(operator, "pause", [running_task.public_id, draft.public_id, "mt-unknown1"])
    assert [(one.ok, one.message) for one in results[:1]] == [(True, "Paused")]
    assert [one.ok for one in results] == [True, False, False]
    assert [one.ok for one in tasks.bulk(operator, "release", [running_task.public_id])] == [True]
    assert tasks.bulk(operator, "delete", [draft.public_id])[0].message == "Deleted"
    for action in ("configure", "explode"):
        with pytest.raises(Invalid):
            tasks.bulk(operator, action, [running_task.public_id])
