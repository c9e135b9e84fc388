"""The first step of the set-up, as its page behaves (R65–R73, R94, R100, R113, R16). What a server answers is in test_connectivity.py."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from migrations_app.choices import InspectionKind, InspectionStatus, Method, Phases, TaskStatus
from migrations_app.models import Inspection, MigrationTask, SnapshotFile
from migrations_app.services import connectivity, snapshots, tasks
from migrations_app.views.setup import shell
from portal.choices import EndpointKind, Origin, Role
from portal.models import Account, ConnectionTemplate, Instance, Membership
from portal.services import connections
from portal.services.connections import ConnectionParams

from .conftest import instance

pytestmark = pytest.mark.django_db
SECRET = "pass:word-of-mine"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def browser(operator: User) -> Client:
    client = Client()
    client.force_login(operator)
    return client


@pytest.fixture
def task(operator: User, account: Account) -> MigrationTask:
    return tasks.create_draft(operator, account)


@pytest.fixture
def url(task: MigrationTask) -> str:
    return reverse("task_setup", args=[task.public_id, "sides"])


@pytest.fixture(autouse=True)
def uploads(tmp_path: Path, settings: Settings) -> Path:
    settings.UPLOADS = tmp_path / "uploads"
    return tmp_path / "uploads"


def entered(target: Instance | None = None, **changes: Any) -> dict[str, Any]:
    """A self-hosted source, and a target of the fleet."""
    values = {
        "source-origin": "self-hosted", "source-server_kind": "server", "source-address": "127.0.0.1:6401", "source-login": "default",
        "source-password": SECRET, "target-origin": "fleet", "target-instance": target.public_id if target else "", "name": "",
        "description": "",
    }  # fmt: skip
    return values | {name.replace("__", "-"): value for name, value in changes.items()}


def text(response: Any) -> str:
    shown = html.unescape(response.content.decode())
    assert SECRET not in shown
    return shown


def pass_test(task: MigrationTask, **changes: Any) -> Inspection:
    values: dict[str, Any] = {"status": InspectionStatus.DONE, "passed": True, "finished_at": timezone.now()}
    return Inspection.objects.create(
        task=task,
        kind=InspectionKind.CONNECTIVITY,
        fingerprint=connectivity.fingerprint(task),
        **(values | changes),
    )


class TestBeginning:
    def test_a_draft_with_one_press(self, browser: Client, account: Account) -> None:
        response = browser.post(reverse("task_create"))
        task = MigrationTask.objects.get()
        assert response.headers["Location"] == reverse("task_setup", args=[task.public_id, "sides"])
        assert (task.status, task.account) == (TaskStatus.NOT_CONFIGURED, account)

    def test_of_several_accounts_one_is_chosen(
        self, browser: Client, operator: User, other_account: Account
    ) -> None:
        Membership.objects.create(user=operator, account=other_account, role=Role.OPERATOR)
        asked = browser.post(reverse("task_create"))  # by the button of a page, which does not know of them
        assert asked.status_code == 200 and other_account.name in text(asked)
        assert browser.post(reverse("task_create"), {"account": ""}).status_code == 422
        assert not MigrationTask.objects.exists()
        browser.post(reverse("task_create"), {"account": other_account.public_id})
        assert MigrationTask.objects.get().account == other_account

    def test_from_the_page_of_an_instance(self, browser: Client, source: Instance) -> None:
        page = text(browser.get(reverse("task_create") + f"?source={source.public_id}"))
        assert f'value="{source.public_id}"' in page
        browser.post(reverse("task_create"), {"source_id": source.public_id})
        assert MigrationTask.objects.get().source == source


class TestSaving:
    def test_both_sides_and_the_test_is_asked_for(
        self,
        browser: Client,
        task: MigrationTask,
        url: str,
        target: Instance,
        django_capture_on_commit_callbacks: Any,
    ) -> None:
        response = browser.post(url, entered(target))
        assert response.headers["Location"] == f"{url}#connectivity"
        task.refresh_from_db()
        assert task.source is not None
        assert (task.source.origin, task.source.endpoint.password.reveal()) == (Origin.SELF_HOSTED, SECRET)
        assert (task.target, task.name) == (target, "127.0.0.1:6401 to orders-new")
        assert connectivity.newest(task) is not None
        page = text(browser.get(url))
        assert "A worker takes the test in a moment" in page and "A password is stored" in page
        assert "Limits of this combination" in page

    def test_an_empty_password_keeps_the_stored_one(
        self, browser: Client, task: MigrationTask, url: str, target: Instance
    ) -> None:
        browser.post(url, entered(target))
        task.refresh_from_db()
        before = task.source
        browser.post(url, entered(target, source__password=""))
        task.refresh_from_db()
        assert task.source == before
        refused = browser.post(url, entered(target, source__password="", source__address="127.0.0.2:6401"))
        assert refused.status_code == 422 and "Enter the password again" in text(refused)
        browser.post(url, entered(target, source__password="", source__login="none"))
        task.refresh_from_db()
        assert task.source is not None and not task.source.endpoint.password
        assert Instance.objects.filter(origin=Origin.SELF_HOSTED).count() == 1  # the old one has gone

    @pytest.mark.parametrize(
        ("changes", "field", "words"),
        [
            ({"source__address": "127.0.0.1:99999"}, "source-address", "99999 is not a port"),
            ({"source__address": ""}, "source-address", "Enter the address"),
            ({"source__address": "no-such-host.invalid:1"}, "source-address", "does not resolve"),
            ({"source__address": "8.8.8.8"}, "source-address", "Public networks are not used"),
            (
                {"source__login": "custom", "source__password": "without"},
                "source-password",
                "account:password",
            ),
            ({"target__instance": ""}, "target-instance", "Choose the instance that is the target"),
            ({"target__instance": "r-unknown"}, "target-instance", "There is no such instance"),
            ({"source__origin": "file"}, "source-upload", "Choose the file"),
            ({"source__server_kind": "sentinel"}, "source-sentinels", "No sentinel is named"),
            (
                {"source__server_kind": "sentinel", "source__sentinels": "127.0.0.1:26379"},
                "source-master_name",
                "name of the master is missing",
            ),
        ],
    )
    def test_what_is_wrong_is_said_at_its_field(
        self,
        browser: Client,
        task: MigrationTask,
        url: str,
        target: Instance,
        changes: dict[str, str],
        field: str,
        words: str,
    ) -> None:
        response = browser.post(url, entered(target, **changes))
        assert response.status_code == 422
        page = text(response)
        error = page.split(f'id="id_{field}_error"')[1].split("</div></div>")[0]
        assert words in error
        assert not Inspection.objects.exists()

    def test_the_same_instance_twice(self, browser: Client, url: str, target: Instance) -> None:
        both = {"source__origin": "fleet", "source__instance": target.public_id}
        response = browser.post(url, entered(target, **both))
        assert response.status_code == 422 and "same instance" in text(response)

    def test_of_another_account(self, browser: Client, url: str, other_account: Account) -> None:
        theirs = instance(other_account, "theirs")
        assert "theirs" not in text(browser.get(url))
        assert browser.post(url, entered(theirs)).status_code == 422

    def test_ip_addresses_are_flagged(self, browser: Client, url: str, target: Instance) -> None:
        browser.post(url, entered(target, source__address="10.1.2.3:6379"))
        assert "10.1.2.3: IP address, no name." in text(browser.get(url))

    def test_leaving_with_one_side(self, browser: Client, task: MigrationTask, url: str) -> None:
        response = browser.post(url, entered(leave="1", name="Shop"))
        assert response.headers["Location"] == reverse("task_list")
        task.refresh_from_db()
        assert task.source is not None and task.target is None
        assert (task.name, task.wizard_step) == ("Shop", "sides")
        assert not Inspection.objects.exists()
        assert 'value="127.0.0.1:6401"' in text(browser.get(url))

    def test_leaving_with_nothing(self, browser: Client, task: MigrationTask, url: str) -> None:
        assert (
            browser.post(
                url, {"leave": "1", "source-origin": "self-hosted", "target-origin": "fleet"}
            ).status_code
            == 302
        )


class TestFleet:
    def test_region_and_search_narrow_the_list(self, browser: Client, url: str, account: Account) -> None:
        for name, region in (("alpha", "eu"), ("beta", "eu"), ("gamma", "us")):
            instance(account, name, region=region)

        def offered(**filters: str) -> list[str]:
            page = text(browser.post(url, entered(refresh="target", **filters)))
            options = page.split('id="pick-target"')[1].split("</select>")[0]
            return [name for name in ("alpha", "beta", "gamma") if f"{name} — " in options]

        assert offered() == ["alpha", "beta", "gamma"]
        assert offered(target__region="eu") == ["alpha", "beta"]
        assert offered(target__region="eu", target__find="bet") == ["beta"]
        chosen = Instance.objects.get(name="gamma").public_id
        assert offered(target__region="eu", target__instance=chosen) == ["alpha", "beta", "gamma"]

    def test_self_hosted_sides_are_not_offered(
        self, browser: Client, task: MigrationTask, url: str, target: Instance
    ) -> None:
        browser.post(url, entered(target))
        other = tasks.create_draft(None, task.account)
        page = text(browser.get(reverse("task_setup", args=[other.public_id, "sides"])))
        assert "127.0.0.1:6401" not in page
        assert "127.0.0.1:6401" not in text(browser.get(reverse("instance_list")))


class TestTemplates:
    @pytest.fixture
    def template(self, account: Account) -> ConnectionTemplate:
        params = ConnectionParams(host="127.0.0.1", port=6455, password=SECRET)
        return connections.save_template(None, account, params, "Orders")

    def test_loading_is_a_copy(
        self, browser: Client, task: MigrationTask, url: str, template: ConnectionTemplate, target: Instance
    ) -> None:
        data = entered(target, load="source", source__template=str(template.pk), name="Typed")
        page = text(browser.post(url, data))
        assert (
            "Orders was loaded" in page
            and 'value="127.0.0.1:6455"' in page
            and "A password is stored" in page
        )
        assert 'value="Typed"' in page and f'value="{target.public_id}" selected' in page
        browser.post(url, entered(target, source__address="127.0.0.1:6455", source__password=""))
        connections.delete_template(None, template)
        task.refresh_from_db()
        assert task.source is not None and task.source.endpoint.password.reveal() == SECRET

    def test_of_another_account(
        self, browser: Client, task: MigrationTask, url: str, other_account: Account
    ) -> None:
        theirs = connections.save_template(None, other_account, ConnectionParams(host="127.0.0.1"), "Theirs")
        page = text(browser.post(url, entered(load="source", source__template=str(theirs.pk))))
        assert "Choose the template to load first" in page
        task.refresh_from_db()
        assert task.source is None

    def test_saving_one(self, browser: Client, url: str, target: Instance) -> None:
        page = text(browser.post(url, entered(target, save_template="source", source__save_as="Mine")))
        assert "The template Mine was saved" in page
        assert ConnectionTemplate.objects.get().password.reveal() == SECRET
        assert "name of at most" in text(
            browser.post(url, entered(target, save_template="source", source__save_as=" "))
        )
        bad = browser.post(url, entered(save_template="source", source__save_as="x", source__address="a:0"))
        assert "0 is not a port" in text(bad)
        assert ConnectionTemplate.objects.count() == 1

    def test_pages(self, browser: Client, account: Account, template: ConnectionTemplate) -> None:
        edit = reverse("template_edit", args=[account.public_id, template.pk])
        listed = text(browser.get(reverse("template_list", args=[account.public_id])))
        assert "Orders" in listed and "an IP address, not a name" in listed
        assert "A password is stored" in text(browser.get(edit))
        data = {
            "name": "Orders, new",
            "server_kind": "server",
            "address": "127.0.0.1:6455",
            "login": "default",
            "password": "",
        }
        assert browser.post(edit, data).status_code == 302
        template.refresh_from_db()
        assert (template.name, template.password.reveal()) == ("Orders, new", SECRET)
        refused = browser.post(edit, data | {"address": "127.0.0.2:6455"})
        assert refused.status_code == 422 and "password again" in text(refused)


class TestGate:
    @pytest.fixture(autouse=True)
    def next_step(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the next step itself shows is its own affair."""
        monkeypatch.setitem(shell._VIEWS, "objects", (lambda *_: HttpResponse("next"), lambda _: False))

    def test_the_next_steps_wait_for_the_test(self, browser: Client, make_task: Any) -> None:
        task = make_task(TaskStatus.NOT_CONFIGURED)
        step = reverse("task_setup", args=[task.public_id, "objects"])
        assert browser.get(step).headers.get("Location") == reverse(
            "task_setup", args=[task.public_id, "sides"]
        )
        pass_test(task, passed=False)
        assert browser.get(step).status_code == 302
        pass_test(task)
        assert browser.get(step).status_code == 200

    def test_a_test_of_other_sides_does_not_count(self, browser: Client, make_task: Any) -> None:
        task = make_task(TaskStatus.NOT_CONFIGURED)
        pass_test(task)
        endpoint = task.source.endpoint
        endpoint.port = 6499
        endpoint.save()
        assert browser.get(reverse("task_setup", args=[task.public_id, "objects"])).status_code == 302

    def test_a_task_that_runs_is_not_set_up(self, browser: Client, make_task: Any) -> None:
        task = make_task(TaskStatus.FULL)
        response = browser.get(reverse("task_setup", args=[task.public_id, "sides"]))
        assert response.headers["Location"] == task.get_absolute_url()


class TestResult:
    def answer(self, browser: Client, task: MigrationTask) -> tuple[int, str]:
        response = browser.get(reverse("task_setup", args=[task.public_id, "sides"]), headers=HTMX)
        return response.status_code, text(response)

    def test_while_it_runs(self, browser: Client, make_task: Any) -> None:
        task = make_task(TaskStatus.NOT_CONFIGURED)
        test = pass_test(task, status=InspectionStatus.QUEUED, passed=None)
        status, shown = self.answer(browser, task)
        assert status == 200 and 'hx-trigger="every 1s"' in shown and "No worker" not in shown
        Inspection.objects.filter(pk=test.pk).update(
            created_at=timezone.now() - timezone.timedelta(seconds=16)
        )
        assert "No worker has taken the test" in self.answer(browser, task)[1]

    def test_what_it_has_found(self, browser: Client, make_task: Any, account: Account) -> None:
        entered = connections.create_self_hosted(None, account, ConnectionParams(host="127.0.0.1", port=6401))
        task = make_task(TaskStatus.NOT_CONFIGURED, target=entered)
        told = {"address": "127.0.0.1:6401", "addresses": ["127.0.0.1:6401"], "message": "", "advice": ""}
        refused = told | {
            "ok": False,
            "field": "username",
            "message": "The server refused it.",
            "advice": "Enter it again.",
        }
        found = told | {"ok": True, "product": "Redis 7.0.15", "keys": 12, "latency_ms": 1.5}
        worker = {"worker_host": "worker-1", "worker_ip": "10.1.2.3"}
        pass_test(task, passed=False, result={"source": found, "target": refused}, **worker)
        status, shown = self.answer(browser, task)
        assert status == 286
        for words in ("Redis 7.0.15", "12 keys", "1.5 ms", "The server refused it.", "Enter it again.", "10.1.2.3", "worker-1",
                      "allowlists of both sides", "Outbound rules", 'href="#id_target-password"', "Not reached"):  # fmt: skip
            assert words in shown, words
        assert "Continue to" not in shown
        # An instance of the fleet is changed on its own page.
        pass_test(task, passed=False, result={"source": refused, "target": found}, **worker)
        assert reverse("instance_edit", args=[task.source.public_id]) in self.answer(browser, task)[1]


def snapshot(body: bytes = b"REDIS0011 and so on", name: str = "orders.rdb") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, body)


class TestUpload:
    def send(self, browser: Client, url: str, file: SimpleUploadedFile, target: Instance) -> Any:
        return browser.post(url, entered(target, source__origin="file", source__upload=file))

    def test_is_kept_for_this_account_and_this_user_of_the_machine(
        self, browser: Client, task: MigrationTask, url: str, target: Instance, uploads: Path
    ) -> None:
        assert self.send(browser, url, snapshot(), target).status_code == 302
        row = SnapshotFile.objects.get()
        path = uploads / row.public_id
        assert path.read_bytes() == b"REDIS0011 and so on"
        assert (path.stat().st_mode & 0o777, uploads.stat().st_mode & 0o777) == (0o600, 0o700)
        assert (row.account, row.name, row.version) == (task.account, "orders.rdb", 11)
        assert [one.name for one in uploads.iterdir()] == [row.public_id]  # nothing half is left
        task.refresh_from_db()
        assert task.source is not None and task.source.endpoint.kind == EndpointKind.FILE
        assert (task.method, task.phases, task.name) == (Method.FILE, Phases.FULL, "orders.rdb to orders-new")
        page = text(browser.get(url))
        assert "orders.rdb" in page and "is uploaded" in page and "full phase only" in page
        # Saved again without a new file, it stays.
        browser.post(url, entered(target, source__origin="file"))
        task.refresh_from_db()
        assert SnapshotFile.objects.count() == 1 and task.method == Method.FILE

    @pytest.mark.parametrize(
        "body", [b"", b"hello", b"REDIS", b"REDISxxxx", b"VALKEY", b"PK\x03\x04 and more"]
    )
    def test_what_is_no_snapshot(
        self, browser: Client, task: MigrationTask, url: str, target: Instance, uploads: Path, body: bytes
    ) -> None:
        response = self.send(browser, url, snapshot(body), target)
        assert response.status_code == 422 and "is no snapshot file" in text(response)
        assert not SnapshotFile.objects.exists() and not list(uploads.glob("*"))

    def test_the_limit(
        self, browser: Client, url: str, target: Instance, uploads: Path, settings: Settings
    ) -> None:
        settings.SNAPSHOT_UPLOAD_LIMIT = 1_000_000
        response = self.send(browser, url, snapshot(b"REDIS0011" + bytes(1_000_000)), target)
        assert response.status_code == 422 and "larger than" in text(response)
        assert not list(uploads.glob("*"))
        assert self.send(browser, url, snapshot(b"VALKEY080" + bytes(999_000)), target).status_code == 302

    def test_strangers_store_nothing(self, url: str, target: Instance, uploads: Path) -> None:
        assert self.send(Client(), url, snapshot(), target).status_code == 302
        assert not uploads.exists() or not list(uploads.glob("*"))

    def test_of_another_account(
        self,
        browser: Client,
        task: MigrationTask,
        url: str,
        target: Instance,
        other_account: Account,
        settings: Settings,
    ) -> None:
        settings.SNAPSHOT_FOLDER = "/snapshots"
        theirs = SnapshotFile.objects.create(account=other_account, name="x")
        data = entered(target, source__origin="file", source__file_path=str(snapshots.path_of(theirs)))
        assert browser.post(url, data).status_code == 422
        task.refresh_from_db()
        assert task.source is None

    def test_goes_with_its_task(
        self,
        browser: Client,
        operator: User,
        task: MigrationTask,
        url: str,
        target: Instance,
        uploads: Path,
        settings: Settings,
    ) -> None:
        self.send(browser, url, snapshot(), target)
        row = SnapshotFile.objects.get()
        old = timezone.now() - timezone.timedelta(hours=2)
        SnapshotFile.objects.update(created_at=old)
        leftover = uploads / ".arriving-x"
        leftover.write_bytes(b"REDIS")
        assert snapshots.sweep() == 0 and leftover.exists()
        os.utime(leftover, (0, 0))
        MigrationTask.objects.filter(pk=task.pk).update(
            finished_at=timezone.now() - timezone.timedelta(days=8)
        )
        assert snapshots.sweep() == 1
        assert not (uploads / row.public_id).exists() and not leftover.exists()
        assert not SnapshotFile.objects.exists()

    def test_is_deleted_with_it(
        self, browser: Client, operator: User, task: MigrationTask, url: str, target: Instance, uploads: Path,
        django_capture_on_commit_callbacks: Any,
    ) -> None:  # fmt: skip
        self.send(browser, url, snapshot(), target)
        with django_capture_on_commit_callbacks(execute=True):
            tasks.delete_task(operator, MigrationTask.objects.get(pk=task.pk))
        assert not SnapshotFile.objects.exists() and not list(uploads.iterdir())


class TestAgain:
    def test_the_test_of_sides_that_were_changed_is_given_up(
        self, operator: User, make_task: Any, target: Instance
    ) -> None:
        task = make_task(TaskStatus.NOT_CONFIGURED)
        first = connectivity.request_test(operator, task)
        assert connectivity.request_test(operator, task) == first
        target.endpoint.port = 6499
        target.endpoint.save()
        task = MigrationTask.objects.get(pk=task.pk)
        assert connectivity.request_test(operator, task) != first
        first.refresh_from_db()
        assert first.status == InspectionStatus.CANCELLED
