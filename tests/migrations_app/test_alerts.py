"""Alerts of tasks: told once, seldom while it lasts, once when it is over. Rows only; the clock is an argument."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from migrations_app.choices import AlertKind, InspectionKind, TaskStatus
from migrations_app.models import Inspection, LinkProgress, MigrationTask, PhaseSpan, TaskAlert
from migrations_app.services import alerts, status, troubles, verifications
from portal.choices import Category, ChannelKind
from portal.models import Account, Channel, Contact, Notification

from .clusters import database
from .conftest import TaskMaker, instance, person

S = TaskStatus
NOW = timezone.now()


def contact_of(account: Account, name: str = "On call", **values: Any) -> Contact:
    fields: dict[str, Any] = {"email": "oncall@example.org", "categories": [Category.TASKS.value]}
    contact = Contact.objects.create(account=account, name=name, **(fields | values))
    Channel.objects.create(contact=contact, kind=ChannelKind.MAIL)
    return contact


@pytest.fixture
def watched(make_task: TaskMaker) -> Any:
    """A task with alerts in the given status, since NOW."""

    def make(task_status: TaskStatus = S.INCREMENTAL, **values: Any) -> MigrationTask:
        fields: dict[str, Any] = {
            "alerts": True,
            "alert_lag_seconds": 10,
            "alert_after_seconds": 60,
            "alert_retrying_minutes": 5,
            "reached_incremental": True,
        }
        task = make_task(S.INCREMENTAL, **(fields | values))
        task.alert_contacts.add(contact_of(task.account))
        if task_status != S.INCREMENTAL:
            move(task, task_status)
        return task

    return make


def move(task: MigrationTask, new: TaskStatus, at: datetime = NOW, **changes: Any) -> None:
    assert status.move(task.pk, list(TaskStatus), new, **changes)
    PhaseSpan.objects.filter(task=task, ended_at__isnull=True).update(began_at=at)


def lag(task: MigrationTask, seconds: float | None, at: datetime) -> None:
    LinkProgress.objects.filter(link__task=task).update(lag_seconds=seconds, updated_at=at)


def subjects() -> list[str]:
    return list(Notification.objects.order_by("pk").values_list("subject", flat=True))


def at(**delta: float) -> datetime:
    return NOW + timedelta(**delta)


def test_a_failure_is_told_once_and_when_it_is_over(watched: Any) -> None:
    task = watched()
    alerts.look(NOW)
    assert subjects() == []
    move(
        task, S.FAILED, finished_at=NOW, failure_id="target.readonly",
        failure_message="The target refuses writes.", failure_advice="Make it a master.",
    )  # fmt: skip
    for second in range(5):
        alerts.look(at(seconds=second))
    assert subjects() == [f"{task.name} has failed"]
    told = Notification.objects.get()
    for words in ("The target refuses writes.", "The source was not changed.", "Make it a master."):
        assert words in told.text
    assert told.urgent and told.url == task.get_absolute_url()
    assert told.payload["failure"] == "target.readonly" and told.payload["state"] == "began"
    move(task, S.STARTING)
    alerts.look(at(seconds=10))
    move(task, S.INCREMENTAL)
    alerts.look(at(seconds=20))
    alerts.look(at(seconds=40))
    assert len(subjects()) == 1
    alerts.look(at(seconds=51))
    alerts.look(at(seconds=60))
    assert subjects()[1:] == [f"{task.name} runs again"]
    assert TaskAlert.objects.get().resolved_at is not None


def test_a_task_that_fails_again_and_again_is_no_storm(watched: Any) -> None:
    task = watched()
    for minute in range(50):
        move(task, S.FAILED, finished_at=at(minutes=minute))
        alerts.look(at(minutes=minute))
        move(task, S.INCREMENTAL)
        alerts.look(at(minutes=minute, seconds=10))
    assert subjects() == [f"{task.name} has failed"]
    assert TaskAlert.objects.count() == 1


def test_reminders_come_ever_more_seldom_and_end(watched: Any) -> None:
    task = watched()
    move(task, S.FAILED, finished_at=NOW)
    told: list[int] = []
    for hour in range(24 * 9):
        before = Notification.objects.count()
        alerts.look(at(hours=hour))
        if Notification.objects.count() > before:
            told.append(hour)
    assert told == [0, 1, 3, 7, 15, 31, 55, 79, 103, 127, 151]
    assert TaskAlert.objects.get().resolved_at is not None
    assert subjects()[1] == f"Still: {task.name} has failed"


def test_latency_above_the_threshold_for_long_enough_and_back_to_normal(watched: Any) -> None:
    task = watched()
    lag(task, 11, NOW)
    alerts.look(NOW)
    lag(task, 40, at(seconds=59))
    alerts.look(at(seconds=59))
    assert subjects() == []
    lag(task, 41, at(seconds=60))
    alerts.look(at(seconds=60))
    alerts.look(at(seconds=62))
    assert subjects() == [f"{task.name}: the target is more than 10 s behind"]
    assert "The delay now: 41 s" in Notification.objects.get().text
    lag(task, 2, at(seconds=70))
    alerts.look(at(seconds=70))
    lag(task, 30, at(seconds=100))  # not yet
    alerts.look(at(seconds=100))
    lag(task, 1.5, at(seconds=110))
    alerts.look(at(seconds=110))
    lag(task, 0.5, at(seconds=169))
    alerts.look(at(seconds=169))
    assert len(subjects()) == 1
    lag(task, 0.5, at(seconds=170))
    alerts.look(at(seconds=170))
    alerts.look(at(seconds=180))
    assert subjects()[1:] == [f"{task.name}: the delay is back to normal"]
    assert not Notification.objects.last().urgent


def test_a_short_peak_is_not_told(watched: Any) -> None:
    task = watched()
    for second in range(0, 600, 30):
        lag(task, 20 if second % 60 else 1, at(seconds=second))
        alerts.look(at(seconds=second))
    assert subjects() == []
    assert not TaskAlert.objects.filter(raised_at__isnull=False).exists()


def test_the_delay_grows_where_nobody_counts_any_more(watched: Any) -> None:
    task = watched()
    lag(task, 0.1, NOW)
    alerts.look(at(seconds=10))
    assert not TaskAlert.objects.exists()
    alerts.look(at(seconds=20))  # its worker is gone
    alerts.look(at(seconds=80))
    assert subjects() == [f"{task.name}: the target is more than 10 s behind"]


def test_without_a_connection_the_delay_is_at_least_as_long_as_that(watched: Any) -> None:
    task = watched(alert_retrying_minutes=None)
    move(task, S.RETRYING)
    lag(task, None, NOW)
    alerts.look(at(seconds=9))
    assert not TaskAlert.objects.exists()
    alerts.look(at(seconds=11))
    alerts.look(at(seconds=71))
    assert subjects() == [f"{task.name}: the target is more than 10 s behind"]


def test_retrying_for_too_long(watched: Any) -> None:
    task = watched(alert_lag_seconds=10_000)
    move(task, S.RETRYING)
    alerts.look(at(minutes=4))
    assert subjects() == []
    alerts.look(at(minutes=5))
    assert subjects() == [f"{task.name} has been retrying for more than 5 min"]
    move(task, S.INCREMENTAL, at(minutes=6))
    alerts.look(at(minutes=6))
    alerts.look(at(minutes=6, seconds=31))
    assert subjects()[1:] == [f"{task.name} runs again"]


def test_paused_by_the_system_is_told_and_by_a_person_not(watched: Any) -> None:
    task = watched()
    move(task, S.PAUSED)
    alerts.look(NOW)
    assert subjects() == []
    move(task, S.PAUSING, pause_reason="The role was revoked.")
    alerts.look(at(seconds=1))
    move(task, S.PAUSED)
    alerts.look(at(seconds=2))
    assert subjects() == [f"{task.name} was paused by the system"]
    assert "The role was revoked." in Notification.objects.get().text


@pytest.mark.parametrize("end", [S.STOPPED, S.RELEASED])
def test_a_task_that_somebody_ended_is_closed_without_a_word(watched: Any, end: TaskStatus) -> None:
    task = watched()
    move(task, S.FAILED, finished_at=NOW)
    alerts.look(NOW)
    move(task, end)
    alerts.look(at(seconds=5))
    assert len(subjects()) == 1 and TaskAlert.objects.get().resolved_at is not None


def test_switched_off_is_silent(watched: Any) -> None:
    task = watched(alerts=False)
    move(task, S.FAILED, finished_at=NOW)
    alerts.look(NOW)
    assert not TaskAlert.objects.exists()
    MigrationTask.objects.update(alerts=True)
    alerts.look(NOW)
    MigrationTask.objects.update(alerts=False)
    alerts.look(at(days=2))
    assert len(subjects()) == 1 and TaskAlert.objects.get().resolved_at is not None


def test_several_machines_look_at_the_same_time(tmp_path: Path, django_db_blocker: Any) -> None:
    with django_db_blocker.unblock(), database(f"sqlite:///{tmp_path / 'shared.sqlite3'}"):
        account = Account.objects.create(name="Payments")
        task = MigrationTask.objects.create(
            name="orders", account=account, source=instance(account, "a"), target=instance(account, "b"),
            status=S.FAILED, finished_at=NOW, alerts=True,
        )  # fmt: skip
        task.alert_contacts.add(contact_of(account), contact_of(account, "Second"))
        barrier = Barrier(4)

        def run() -> None:
            try:
                for hour in (0, 2, 9):
                    barrier.wait(20)
                    alerts.look(at(hours=hour))
            finally:
                connection.close()

        threads = [Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert Notification.objects.count() == 2 * 3  # each contact: failure and two reminders
        assert TaskAlert.objects.get().times_sent == 3


def test_looking_costs_the_same_whatever_the_number_of_tasks(make_task: TaskMaker, account: Account) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            alerts.look(NOW)
        return len(queries)

    def add(number: int) -> None:
        for each in range(number):
            name = f"{MigrationTask.objects.count()}-{each}"
            task = make_task(
                S.INCREMENTAL, alerts=True, alert_lag_seconds=10, reached_incremental=True, name=name,
                source=instance(account, f"s{name}"), target=instance(account, f"t{name}"),
            )  # fmt: skip
            lag(task, 0.5, NOW)

    add(2)
    few = cost()
    add(20)
    assert cost() == few == 2


def test_differences_are_told_once(watched: Any) -> None:
    task = watched()
    assert alerts.differences_found in verifications.DIFFERS
    inspection = Inspection.objects.create(
        task=task, kind=InspectionKind.VERIFICATION, result={"differences": 3}
    )
    for _ in range(2):
        alerts.differences_found(inspection)
    assert subjects() == [f"{task.name}: a verification has found differences"]
    assert "3 differences" in Notification.objects.get().text


def test_the_page_says_whom_the_alerts_reach(watched: Any, client: Client) -> None:
    task = watched()
    client.force_login(person("otto", None, None, is_superuser=True))
    move(task, S.FAILED, finished_at=NOW)
    alerts.look(NOW)
    page = client.get(task.get_absolute_url()).content.decode()
    assert "On call" in page and "told 1 time" in page and "reach nobody" not in page
    Contact.objects.update(categories=[])
    page = client.get(task.get_absolute_url()).content.decode()
    assert "reach nobody" in page and "switched off" in page


def test_each_kind_has_its_words(watched: Any) -> None:
    task = watched()
    for kind in AlertKind:
        for message in (troubles.begun(kind, task, 3.21), troubles.over(kind, task, None)):
            assert task.name in message.subject and task.public_id in message.text
