"""What people change of a task while it runs: the pages; what a link makes of it is in tests/system."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from migrations_app.choices import SpeedClass, TaskStatus
from migrations_app.models import LogEntry, MigrationTask
from portal.choices import Origin
from portal.models import Account, AuditEntry, Contact, Instance

from .conftest import TaskMaker, instance

pytestmark = pytest.mark.django_db
S = TaskStatus


@pytest.fixture
def browser(operator: User) -> Client:
    client = Client()
    client.force_login(operator)
    return client


def text(response: Any) -> str:
    return str(response.content.decode())


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "retry_minutes": "120",
        "speed_class": "unlimited",
        "speed_time_zone": "UTC",
        "alerts": "no",
        "verify_percent": "100",
    } | changes


class TestSettings:
    def test_changes_speed_retry_time_and_hours(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.INCREMENTAL)
        address = f"/migrations/{task.public_id}/settings/"
        assert address in text(browser.get(task.get_absolute_url()))
        assert "while the task runs" in text(browser.get(address))
        hours = {"hours_from_0": "22:00", "hours_to_0": "06:00", "hours_class_0": "small"}
        sent = settings(retry_minutes="30", speed_class="medium", verify_every_hours="6", **hours)
        response = browser.post(address, sent)
        assert (response.status_code, response.headers.get("Location")) == (302, task.get_absolute_url())
        task.refresh_from_db()
        assert (task.retry_minutes, task.speed_class, task.verify_every_hours) == (30, SpeedClass.MEDIUM, 6)
        assert task.speed_hours == [{"from": "22:00", "to": "06:00", "class": "small"}]
        assert task.status == S.INCREMENTAL
        assert "omar changed" in LogEntry.objects.latest("pk").message
        assert AuditEntry.objects.filter(action="task.changed", object_id=task.public_id).exists()

    def test_alerts(self, browser: Client, make_task: TaskMaker, account: Account) -> None:
        contact = Contact.objects.create(account=account, name="On call")
        task = make_task(S.FULL)
        address = f"/migrations/{task.public_id}/settings/"
        response = browser.post(address, settings(alerts="yes"))
        assert response.status_code == 422
        assert "need a threshold" in text(response)
        browser.post(address, settings(alerts="yes", alert_lag_seconds="30", alert_contacts=[contact.pk]))
        task.refresh_from_db()
        assert (task.alerts, task.alert_lag_seconds, list(task.alert_contacts.all())) == (True, 30, [contact])

    @pytest.mark.parametrize(
        ("changes", "shown"),
        [
            ({"retry_minutes": "9"}, "at least 10 minutes"),
            ({"retry_minutes": "1441"}, "at most 1440 minutes"),
            ({"retry_minutes": "soon"}, "whole number"),
            ({"speed_class": "warp"}, "Select a valid choice"),
            ({"hours_from_0": "22:00"}, "a beginning, an end and a speed"),
            ({"verify_every_hours": "0"}, "greater than or equal to 1"),
        ],
    )
    def test_refuses(
        self, browser: Client, make_task: TaskMaker, changes: dict[str, str], shown: str
    ) -> None:
        task = make_task(S.FULL)
        response = browser.post(f"/migrations/{task.public_id}/settings/", settings(**changes))
        assert response.status_code == 422
        assert shown in text(response)
        task.refresh_from_db()
        assert task.retry_minutes == 120

    @pytest.mark.parametrize("status", [S.COMPLETED, S.RELEASED])
    def test_a_task_that_has_ended_keeps_its_settings(
        self, browser: Client, make_task: TaskMaker, status: S
    ) -> None:
        task = make_task(status)
        assert "/settings/" not in text(browser.get(task.get_absolute_url()))
        response = browser.post(f"/migrations/{task.public_id}/settings/", settings(retry_minutes="30"))
        assert response.status_code == 409
        assert "would have no effect" in text(response)
        assert MigrationTask.objects.get().retry_minutes == 120


class TestConnection:
    @pytest.fixture
    def task(self, make_task: TaskMaker, account: Account) -> MigrationTask:
        side = instance(account, "outside", 6409, origin=Origin.SELF_HOSTED)
        return make_task(S.INCREMENTAL, source=side)

    def address(self, task: MigrationTask, side: str = "source") -> str:
        return f"/migrations/{task.public_id}/connection/{side}/"

    def test_a_new_password_is_stored_and_shown_nowhere(self, browser: Client, task: MigrationTask) -> None:
        assert self.address(task) in text(browser.get(task.get_absolute_url()))
        page = text(browser.get(self.address(task)))
        assert "s3cret" not in page
        assert "leave this empty to keep it" in page
        sent = {
            "server_kind": "server",
            "address": "127.0.0.1:6409",
            "login": "default",
            "password": "n3w-s3cret",
        }
        response = browser.post(self.address(task), sent)
        assert response.status_code == 302, text(response)
        source = Instance.objects.get(name="outside")
        assert source.endpoint.password.reveal() == "n3w-s3cret"
        told = [
            *LogEntry.objects.values_list("message", "fields"),
            *AuditEntry.objects.values_list("details"),
        ]
        assert "s3cret" not in str(told)
        assert "omar changed how the source is reached" in str(told)
        assert "s3cret" not in text(browser.get(task.get_absolute_url()))

    def test_a_wrong_address_is_refused_at_its_field(self, browser: Client, task: MigrationTask) -> None:
        sent = {"server_kind": "server", "address": "127.0.0.1:99999", "login": "default"}
        response = browser.post(self.address(task), sent)
        assert response.status_code == 422
        assert "is not a port" in text(response)
        assert Instance.objects.get(name="outside").endpoint.port == 6409

    def test_a_side_of_the_fleet_is_changed_on_its_own_page(
        self, browser: Client, task: MigrationTask
    ) -> None:
        assert self.address(task, "target") not in text(browser.get(task.get_absolute_url()))
        assert browser.get(self.address(task, "target")).status_code == 302
        assert browser.get(self.address(task, "middle")).status_code == 404

    def test_a_viewer_may_not(self, browser: Client, viewer: User, task: MigrationTask) -> None:
        browser.force_login(viewer)
        assert self.address(task) not in text(browser.get(task.get_absolute_url()))
        assert browser.get(self.address(task)).status_code == 403
