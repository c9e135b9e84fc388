"""The step Objects and phases: what it offers, what it refuses (each X of R74–R91), what it stores."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from migrations_app.choices import ConflictPolicy, Method, Phases, SpeedClass, TaskStatus
from migrations_app.models import Inspection, MigrationTask
from portal.choices import Architecture, EndpointKind
from portal.models import Account, Contact, Instance

from .conftest import TaskMaker, instance
from .setup_tasks import checked, draft

pytestmark = pytest.mark.django_db

POST: dict[str, Any] = {
    "phases": "full+incremental",
    "method": "psync",
    "scope": "all",
    "conflict": "fail",
    "alerts": "no",
    "retry_minutes": "120",
    "speed_class": "unlimited",
}


@pytest.fixture
def task(operator: User, account: Account, source: Instance, target: Instance) -> MigrationTask:
    return draft(operator, account, source, target)


@pytest.fixture
def contact(account: Account) -> Contact:
    return Contact.objects.create(account=account, name="Night shift", email="night@example.com")


@pytest.fixture
def browser(operator: User) -> Client:
    client = Client()
    client.force_login(operator)
    return client


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No broker: nobody would take the message."""
    monkeypatch.setattr("migrations_app.services.inspections.ring", lambda pk: None)


def url(task: MigrationTask, step: str = "objects") -> str:
    return f"/migrations/{task.public_id}/setup/{step}/"


def text(response: Any) -> str:
    return " ".join(str(response.content.decode()).split())


def send(browser: Client, task: MigrationTask, **changes: Any) -> Any:
    return browser.post(url(task), {**POST, **changes})


class TestPage:
    def test_shows_counts_warnings_and_defaults(self, browser: Client, task: MigrationTask) -> None:
        page = text(browser.get(url(task)))
        for shown in (
            'DB 0 <span class="text-body-secondary">1,200 keys',
            'DB 3 <span class="text-body-secondary">5 keys',
            "Do not write to the source while the task runs",  # R46 R109 R120
            "If there are any, it fails and the task cannot start",  # R75
            "Consistency is not guaranteed",  # R76
            "are overwritten by those of the source",  # R102
            "is written to database 0 of the source every second",  # R60
            "A key scan cannot promise",  # R98
        ):
            assert shown in page, shown
        form = browser.get(url(task)).context["form"]
        assert form["retry_minutes"].value() == 120
        assert form["speed_class"].value() == SpeedClass.UNLIMITED
        assert form["conflict"].value() == task.conflict

    def test_a_database_that_the_target_lacks_cannot_be_ticked(
        self, browser: Client, operator: User, account: Account, source: Instance
    ) -> None:
        small = instance(account, "small", 6409, database_count=2)
        page = text(browser.get(url(draft(operator, account, source, small, databases=[0]))))
        assert "Not possible: the target has DB 0 to 1 only." in page

    def test_what_a_cluster_cannot(
        self, browser: Client, operator: User, account: Account, source: Instance
    ) -> None:
        cluster = instance(account, "cluster", 6409, architecture=Architecture.CLUSTER, database_count=1)
        page = text(browser.get(url(draft(operator, account, source, cluster, databases=[0]))))
        assert "the target is a cluster and has DB 0 only" in page

    def test_a_snapshot_file_leaves_no_choice_of_method_and_stage(
        self, browser: Client, operator: User, account: Account, target: Instance
    ) -> None:
        file = instance(account, "dump", 6409)
        file.endpoint.kind = EndpointKind.FILE
        file.endpoint.file_path = "/data/dump.rdb"
        file.endpoint.save()
        task = draft(operator, account, file, target)
        response = browser.get(url(task))
        assert [choice[0] for choice in response.context["form"]["phases"].field.choices] == ["full"]
        assert "Heartbeat" not in text(response)
        assert send(browser, task, phases="full+incremental", method="file").status_code == 422
        assert send(browser, task, phases="full", method="file").status_code == 302

    def test_the_retry_time_in_effect_is_named_with_its_task(
        self, browser: Client, task: MigrationTask, make_task: TaskMaker, account: Account, source: Instance
    ) -> None:
        other = make_task(
            TaskStatus.FULL, name="hasty", target=instance(account, "elsewhere", 6410), retry_minutes=15
        )
        page = text(browser.get(url(task)))
        assert "<strong>15 minutes</strong>" in page
        assert other.public_id in page
        assert "hasty" in page
        # One of another account is not named.
        other.account = Account.objects.create(name="Strangers")
        other.save()
        page = text(browser.get(url(task)))
        assert "a task of another account sets it" in page
        assert "hasty" not in page
        other.status = TaskStatus.STOPPED
        other.save()
        assert "in effect" not in text(browser.get(url(task)))


class TestSave:
    def test_stores_what_was_chosen_and_begins_the_precheck(
        self, browser: Client, task: MigrationTask, contact: Contact
    ) -> None:
        response = send(
            browser, task, scope="some", databases=["0", "3"], conflict="overwrite", alerts="yes", alert_lag_seconds="10",
            alert_contacts=[str(contact.pk)], retry_minutes="30", speed_class="small", hours_from_0="22:00", hours_to_0="06:00",
            hours_class_0="unlimited", speed_time_zone="Europe/Berlin", heartbeat="on", verify_every_hours="6", verify_percent="20",
        )  # fmt: skip
        assert response.headers["Location"] == url(task, "precheck")
        task.refresh_from_db()
        assert task.databases == [0, 3]
        assert task.conflict == ConflictPolicy.OVERWRITE
        assert (task.alerts, task.alert_lag_seconds, task.alert_after_seconds) == (True, 10, 60)
        assert list(task.alert_contacts.all()) == [contact]
        assert (task.retry_minutes, task.speed_class) == (30, SpeedClass.SMALL)
        assert task.speed_hours == [{"from": "22:00", "to": "06:00", "class": "unlimited"}]
        assert task.speed_time_zone == "Europe/Berlin"
        assert (task.heartbeat, task.verify_every_hours, task.verify_percent) == (True, 6, 20)
        assert task.status == TaskStatus.PRECHECKING
        assert Inspection.objects.filter(task=task, kind="precheck").count() == 1
        form = browser.get(url(task, "precheck"))
        assert form.status_code == 200

    def test_is_shown_again_as_it_was_stored(self, browser: Client, task: MigrationTask) -> None:
        send(browser, task, hours_from_0="08:00", hours_to_0="18:00", hours_class_0="small", leave="1")
        form = browser.get(url(task)).context["form"]
        assert form["hours_class_0"].value() == "small"
        assert form["hours_from_0"].value() == "08:00"
        # Sent once more as it is, it changes nothing.
        send(browser, task, hours_from_0="08:00", hours_to_0="18:00", hours_class_0="small", leave="1")
        task.refresh_from_db()
        assert task.speed_hours == [{"from": "08:00", "to": "18:00", "class": "small"}]

    def test_leaving_begins_no_precheck(self, browser: Client, task: MigrationTask) -> None:
        assert send(browser, task, phases="full", leave="1").headers["Location"] == "/migrations/"
        task.refresh_from_db()
        assert (task.phases, task.status) == (Phases.FULL, TaskStatus.NOT_CONFIGURED)

    def test_a_precheck_that_still_counts_is_not_repeated(self, browser: Client, task: MigrationTask) -> None:
        from migrations_app.choices import Outcome

        send(browser, task, leave="1")
        task.refresh_from_db()
        checked(task, {"source.reach": Outcome.PASSED})
        assert send(browser, task, retry_minutes="60").headers["Location"] == url(task, "precheck")
        task.refresh_from_db()
        assert task.status == TaskStatus.READY
        send(browser, task, phases="full")
        task.refresh_from_db()
        assert task.status == TaskStatus.PRECHECKING

    def test_somebody_without_the_role_changes_nothing(self, task: MigrationTask, viewer: User) -> None:
        client = Client()
        client.force_login(viewer)
        assert send(client, task, phases="full").status_code == 403
        task.refresh_from_db()
        assert task.phases == Phases.FULL_INCREMENTAL


# Requirement, what is sent, where it is said, what is said.
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("R77", {"scope": "some"}, "databases", "No database is chosen"),
    ("R77", {"scope": "some", "databases": ["16"]}, "databases", "the source does not have it"),
    ("R77", {"scope": "some", "databases": ["x"]}, "databases", "cannot be chosen"),
    ("R80", {"alerts": "yes", "alert_lag_seconds": "10"}, "alert_contacts", "at least one contact"),
    ("R80", {"alerts": "yes", "alert_contacts": ["CONTACT"]}, "alert_lag_seconds", "need a threshold"),
    ("R80", {"alerts": "yes", "alert_lag_seconds": "0", "alert_contacts": ["CONTACT"]}, "alert_lag_seconds", "greater than or equal to 1"),
    ("R80", {"alerts": "yes", "alert_lag_seconds": "10", "alert_contacts": ["FOREIGN"]}, "alert_contacts", "not of this account"),
    ("R81", {"retry_minutes": "9"}, "retry_minutes", "at least 10 minutes"),
    ("R81", {"retry_minutes": "1441"}, "retry_minutes", "at most 1440 minutes"),
    ("R81", {"retry_minutes": "an hour"}, "retry_minutes", "whole number of minutes"),
    ("R81", {"retry_minutes": "30.5"}, "retry_minutes", "whole number of minutes"),
    ("R81", {"retry_minutes": ""}, "retry_minutes", "required"),
    ("R89", {"speed_class": "huge"}, "speed_class", "huge"),
    ("R89", {"hours_from_0": "08:00", "hours_class_0": "small"}, "hours_to_0", "a beginning, an end and a speed"),
    ("R89", {"hours_from_0": "08:00", "hours_to_0": "18:00"}, "hours_class_0", "a beginning, an end and a speed"),
    ("R89", {"hours_from_0": "08:00", "hours_to_0": "08:00", "hours_class_0": "small"}, "hours_to_0", "ends when it begins"),
    ("R89", {"hours_from_0": "25:00", "hours_to_0": "08:00", "hours_class_0": "small"}, "hours_from_0", "time of the day"),
    ("R89", {"hours_from_0": "22:00", "hours_to_0": "06:00", "hours_class_0": "small", "hours_from_1": "05:00", "hours_to_1": "07:00", "hours_class_1": "large"}, "hours_from_1", "overlaps"),
    ("R89", {"speed_time_zone": "Mars/Olympus"}, "speed_time_zone", "Mars/Olympus"),
    ("R98", {"method": "file"}, "method", "file"),
    ("R74", {"phases": "incremental"}, "phases", "incremental"),
    ("R76", {"conflict": "merge"}, "conflict", "merge"),
    ("verification", {"verify_every_hours": "0"}, "verify_every_hours", "greater than or equal to 1"),
    ("verification", {"verify_percent": "101"}, "verify_percent", "less than or equal to 100"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "field", "said"), [row[1:] for row in REFUSED], ids=[f"{number}-{row[0]}" for number, row in enumerate(REFUSED)]
)  # fmt: skip
def test_refused(
    browser: Client,
    task: MigrationTask,
    contact: Contact,
    other_account: Account,
    sent: dict[str, Any],
    field: str,
    said: str,
) -> None:
    foreign = Contact.objects.create(account=other_account, name="Somebody else")
    names = {"CONTACT": str(contact.pk), "FOREIGN": str(foreign.pk)}
    sent = {
        key: [names.get(one, one) for one in value] if isinstance(value, list) else value
        for key, value in sent.items()
    }
    before = MigrationTask.objects.values().get(pk=task.pk)
    response = send(browser, task, **sent)
    assert response.status_code == 422
    assert said in " ".join(response.context["form"].errors[field]), response.context["form"].errors
    assert "Nothing was saved" in text(response)
    assert f'id="id_{field}_error"' in text(response)
    assert MigrationTask.objects.values().get(pk=task.pk) == before
    assert not Inspection.objects.filter(task=task, kind="precheck").exists()


class TestRefusedByTheService:
    @pytest.mark.parametrize("chosen", [{"scope": "all"}, {"scope": "some", "databases": ["0", "3"]}])
    def test_a_database_that_the_target_lacks(
        self, browser: Client, operator: User, account: Account, source: Instance, chosen: dict[str, Any]
    ) -> None:
        small = instance(account, "small", 6409, database_count=2)
        task = draft(operator, account, source, small, databases=[0])
        response = send(browser, task, **chosen)
        assert response.status_code == 422
        assert "databases" in response.context["form"].errors
        task.refresh_from_db()
        assert task.databases == [0]

    def test_another_database_than_0_to_a_cluster(
        self, browser: Client, operator: User, account: Account, source: Instance
    ) -> None:
        cluster = instance(account, "cluster", 6409, architecture=Architecture.CLUSTER, database_count=1)
        task = draft(operator, account, source, cluster, databases=[0])
        response = send(browser, task, scope="some", databases=["0", "3"])
        assert response.status_code == 422
        assert "databases" in response.context["form"].errors
        assert send(browser, task, scope="some", databases=["0"], conflict="keep").status_code == 302

    def test_a_scan_of_a_cluster(
        self, browser: Client, operator: User, account: Account, target: Instance
    ) -> None:
        cluster = instance(account, "cluster", 6409, architecture=Architecture.CLUSTER, database_count=1, databases=[])  # fmt: skip
        task = draft(operator, account, cluster, target)
        response = send(browser, task, method="scan")
        assert response.status_code == 422
        assert "method" in response.context["form"].errors

    def test_a_scan_with_chosen_commands(self, browser: Client, task: MigrationTask) -> None:
        task.commands = {"": {"without": ["@stream"]}}
        task.save()
        assert send(browser, task, method=Method.SCAN).status_code == 422


class TestCommands:
    def page(self, task: MigrationTask, database: str = "all") -> str:
        return f"{url(task)}commands/{database}/"

    def test_shows_what_each_becomes(self, browser: Client, task: MigrationTask) -> None:
        page = text(browser.get(self.page(task)))
        for shown in (
            'SETEX, PSETEX</span><span class="sub">becomes SET with an expiry',
            'EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT</span><span class="sub">becomes PEXPIREAT',
            "becomes SREM",
            "Sorted sets",
        ):
            assert shown in page, shown

    def test_the_button_saves_and_leads_there(self, browser: Client, task: MigrationTask) -> None:
        response = send(browser, task, phases="full", commands="one", commands_database="3")
        assert response.headers["Location"] == self.page(task, "3")
        task.refresh_from_db()
        assert task.phases == Phases.FULL
        assert task.status == TaskStatus.NOT_CONFIGURED

    def test_stores_the_choice(self, browser: Client, task: MigrationTask) -> None:
        sent = {"mode": "without", "words": ["@stream", "XADD", "PUBLISH"]}
        response = browser.post(self.page(task), sent, follow=True)
        assert "All but streams, PUBLISH" in text(response)
        task.refresh_from_db()
        assert task.commands == {"": {"without": ["@stream", "PUBLISH"]}}
        # All commands for one database, although the others have less.
        browser.post(self.page(task, "3"), {"mode": "all"})
        task.refresh_from_db()
        assert task.commands["3"] == {"without": []}
        browser.post(self.page(task, "3"), {"mode": "only", "words": ["SETEX"]})
        task.refresh_from_db()
        assert task.commands["3"] == {"only": ["SETEX"]}
        form = browser.get(self.page(task, "3")).context["form"]
        assert (form["mode"].value(), form["words"].value()) == ("only", ["SETEX"])
        browser.post(self.page(task), {"mode": "all"})
        browser.post(self.page(task, "3"), {"mode": "all"})
        task.refresh_from_db()
        assert task.commands == {}

    def test_says_what_a_choice_covers(self, browser: Client, task: MigrationTask) -> None:
        page = text(browser.post(self.page(task), {"mode": "only", "words": ["SETEX"]}, follow=True))
        assert "Applied as well, because they travel in the form of what is chosen" in page

    @pytest.mark.parametrize(
        ("sent", "said"),
        [
            ({"mode": "only"}, "No command is ticked"),
            ({"mode": "without"}, "No command is ticked"),
            ({"mode": "only", "words": ["GET"]}, "GET is no command that a source sends"),
            ({"mode": "without", "words": ["GEOADD"]}, "GEOADD cannot be left out alone: it travels as ZADD"),
            ({"mode": "some"}, "some"),
        ],
    )
    def test_refused(self, browser: Client, task: MigrationTask, sent: dict[str, Any], said: str) -> None:
        response = browser.post(self.page(task), sent)
        assert response.status_code == 422
        assert said in str(response.context["form"].errors)
        task.refresh_from_db()
        assert task.commands == {}

    def test_those_of_a_database_that_is_left_out_go(self, browser: Client, task: MigrationTask) -> None:
        browser.post(self.page(task, "3"), {"mode": "without", "words": ["@stream"]})
        send(browser, task, scope="some", databases=["0"], leave="1")
        task.refresh_from_db()
        assert task.commands == {}

    @pytest.mark.parametrize("database", ["x", "999999"])
    def test_no_such_database(self, browser: Client, task: MigrationTask, database: str) -> None:
        assert browser.get(self.page(task, database)).status_code == 404
