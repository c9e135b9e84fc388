"""The steps Precheck and Confirm, and the rehearsal: what they show, what can be done, what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from migrations_app.choices import InspectionKind, InspectionStatus, Outcome, TaskStatus
from migrations_app.models import AppliedRepair, IgnoredItem, Inspection, MigrationTask
from migrations_app.services import prechecks, tasks
from portal.models import Account, AuditEntry, Instance

from .setup_tasks import checked, draft, item

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
FAILED, PASSED, WARNED, IGNORED = Outcome.FAILED, Outcome.PASSED, Outcome.WARNING, Outcome.IGNORED


@pytest.fixture
def task(operator: User, account: Account, source: Instance, target: Instance) -> MigrationTask:
    return draft(operator, account, source, target)


@pytest.fixture
def browser(operator: User) -> Client:
    client = Client()
    client.force_login(operator)
    return client


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No broker: nobody would take the message."""
    monkeypatch.setattr("migrations_app.services.inspections.ring", lambda pk: None)
    monkeypatch.setattr("migrations_app.services.links.ring", lambda pk: None)


def url(task: MigrationTask, step: str = "precheck") -> str:
    return f"/migrations/{task.public_id}/setup/{step}/"


def text(response: Any) -> str:
    return " ".join(str(response.content.decode()).split())


class TestPrecheck:
    def test_before_the_first_one(self, browser: Client, task: MigrationTask) -> None:
        assert "Run the precheck" in text(browser.get(url(task)))
        assert browser.post(f"/migrations/{task.public_id}/precheck/").headers["Location"] == url(task)
        task.refresh_from_db()
        assert task.status == TaskStatus.PRECHECKING

    def test_what_is_missing_is_named_with_the_way_there(self, browser: Client, task: MigrationTask) -> None:
        task.alerts = True
        task.save()
        page = text(browser.get(url(task)))
        assert "Something is still missing" in page
        assert f'href="{url(task, "objects")}"' in page
        assert browser.post(f"/migrations/{task.public_id}/precheck/").status_code == 409

    @pytest.mark.parametrize("becomes", [TaskStatus.READY, TaskStatus.STARTING])
    def test_one_that_ends_while_the_page_is_made(
        self, browser: Client, task: MigrationTask, monkeypatch: pytest.MonkeyPatch, becomes: TaskStatus
    ) -> None:
        """The page asks no more once the precheck has ended, so it must have all that there is by then."""
        inspection = tasks.precheck_task(None, task)
        newest = prechecks.newest

        def ended_meanwhile(seen: MigrationTask) -> Inspection | None:
            finished = {"status": InspectionStatus.DONE, "passed": True, "finished_at": timezone.now()}
            Inspection.objects.filter(pk=inspection.pk).update(**finished)
            MigrationTask.objects.filter(pk=task.pk).update(status=becomes)
            return newest(seen)

        monkeypatch.setattr("migrations_app.present_precheck.prechecks.newest", ended_meanwhile)
        answer = browser.get(url(task), headers=HTMX)
        if becomes == TaskStatus.STARTING:
            assert answer.headers["HX-Redirect"] == task.get_absolute_url()
        else:
            assert answer.status_code == 286 and "Next: confirm" in text(answer)

    def test_polls_while_it_runs_and_then_no_more(self, browser: Client, task: MigrationTask) -> None:
        inspection = tasks.precheck_task(None, task)
        Inspection.objects.filter(pk=inspection.pk).update(
            status=InspectionStatus.RUNNING, progress={"done": 3, "total": 12, "label": "Same names"}
        )
        page = browser.get(url(task))
        assert 'hx-trigger="every 1s"' in text(page)
        part = browser.get(url(task), headers=HTMX)
        assert part.status_code == 200
        for shown in ("25 %", "3 of 12 items", "Same names"):
            assert shown in text(part)
        assert "<html" not in text(part)
        # Without scripts the page is loaded again by hand.
        assert "Load again" in text(page)
        checked(task, {"source.reach": PASSED})
        assert browser.get(url(task), headers=HTMX).status_code == 286
        assert 'hx-trigger="every 1s"' not in text(browser.get(url(task)))

    def test_the_live_part_leads_to_the_task_once_it_has_started(self, browser: Client, task: MigrationTask) -> None:  # fmt: skip
        MigrationTask.objects.filter(pk=task.pk).update(status=TaskStatus.STARTING)
        answer = browser.get(url(task), headers=HTMX)
        assert answer.headers["HX-Redirect"] == task.get_absolute_url()
        assert browser.get(url(task)).headers["Location"] == task.get_absolute_url()

    def test_can_be_cancelled(self, browser: Client, task: MigrationTask) -> None:
        inspection = tasks.precheck_task(None, task)
        address = f"/migrations/{task.public_id}/inspections/{inspection.public_id}/cancel/"
        assert browser.post(address).headers["Location"] == url(task)
        inspection.refresh_from_db()
        task.refresh_from_db()
        assert (inspection.status, task.status) == (InspectionStatus.CANCELLED, TaskStatus.NOT_CONFIGURED)
        assert "The precheck was cancelled" in text(browser.get(url(task)))
        assert browser.post(address).status_code == 409

    def test_items_by_side_with_everything_that_is_known(self, browser: Client, task: MigrationTask) -> None:
        inspection = checked(task, {"source.reach": PASSED, "pair.same": PASSED})
        item(
            inspection, "target.same_names", FAILED, found="3 keys have the same name.", advice="Empty the target.",
            repair="FLUSHALL", ignorable=False, data={"count": 1234, "names": [f"key:{n}" for n in range(25)], "same": "x"},
        )  # fmt: skip
        item(inspection, "source.repl_timeout", WARNED, found="60 s, 300 s are advised.")
        MigrationTask.objects.filter(pk=task.pk).update(status=TaskStatus.PRECHECK_FAILED)
        page = text(browser.get(url(task)))
        for shown in (
            "Source: orders", "Target: orders-new", "Both sides and the worker", "3 keys have the same name.", "Empty the target.",
            "FLUSHALL", "1,234", "key:0", "key:19", "and 5 more", "75 %", "1 item failed; the task cannot start",
            "It cannot be ignored: it protects data",
        ):  # fmt: skip
            assert shown in page, shown
        assert "key:20" not in page
        assert "Next: confirm" not in page

    def test_what_is_found_is_escaped(self, browser: Client, task: MigrationTask) -> None:
        inspection = checked(task, {})
        item(inspection, "target.same_names", FAILED, data={"names": ["<script>alert(1)</script>"]})
        page = text(browser.get(url(task)))
        assert "&lt;script&gt;" in page
        assert "<script>alert" not in page

    def test_passed_leads_on(self, browser: Client, task: MigrationTask) -> None:
        checked(task, {"source.reach": PASSED, "target.eviction": WARNED})
        page = text(browser.get(url(task)))
        assert "100 %" in page
        assert "Read the 1 warning below" in page
        assert browser.post(url(task)).headers["Location"] == url(task, "confirm")
        task.refresh_from_db()
        assert (task.status, task.wizard_step) == (TaskStatus.READY, "confirm")

    @pytest.mark.parametrize("outcome", [PASSED, FAILED])
    def test_older_than_an_hour_is_void(self, browser: Client, task: MigrationTask, outcome: Outcome) -> None:
        old = timezone.now() - timedelta(minutes=61)
        checked(task, {"source.reach": outcome}, finished_at=old)
        page = text(browser.get(url(task)))
        assert "This precheck does not count any more." in page
        assert "older than an hour" in page

    def test_void_after_a_change(self, browser: Client, task: MigrationTask, operator: User) -> None:
        checked(task, {"source.reach": PASSED})
        tasks.configure(operator, task, phases="full")
        page = text(browser.get(url(task)))
        assert "have changed since the last precheck" in page
        assert "Next: confirm" not in page

    def test_one_that_was_not_carried_out_says_why(self, browser: Client, task: MigrationTask) -> None:
        inspection = tasks.precheck_task(None, task)
        Inspection.objects.filter(pk=inspection.pk).update(
            status=InspectionStatus.FAILED, failure_message="No worker lived.", failure_advice="Start one."
        )
        MigrationTask.objects.filter(pk=task.pk).update(status=TaskStatus.PRECHECK_FAILED)
        page = text(browser.get(url(task)))
        assert "No worker lived." in page
        assert "Start one." in page

    def test_repairs_are_shown_with_what_was_changed(
        self, browser: Client, task: MigrationTask, source: Instance, operator: User
    ) -> None:
        inspection = checked(task, {"source.reach": PASSED})
        timeout = item(
            inspection, "source.repl_timeout", WARNED, repair_code="source.repl_timeout", data={"set": {"repl-timeout": "300"}}
        )  # fmt: skip
        assert "Repair it" in text(browser.get(url(task)))
        assert browser.post(f"/migrations/{task.public_id}/precheck/{timeout.pk}/repair/").headers["Location"] == url(task)  # fmt: skip
        repair = Inspection.objects.get(kind=InspectionKind.REPAIR)
        assert repair.parameters["set"] == {"repl-timeout": "300"}
        assert "Repairing…" in text(browser.get(url(task)))
        assert browser.get(url(task), headers=HTMX).status_code == 200
        Inspection.objects.filter(pk=repair.pk).update(status=InspectionStatus.DONE)
        AppliedRepair.objects.create(
            task=task, instance=source, code="source.repl_timeout", setting="repl-timeout", old="60", new="300", by=operator,
            applied_at=timezone.now(),
        )  # fmt: skip
        page = text(browser.get(url(task)))
        assert "Run the precheck again to see it pass" in page
        assert "It is put back when the task has ended." in page
        assert browser.get(url(task), headers=HTMX).status_code == 286
        Inspection.objects.filter(pk=repair.pk).update(
            status=InspectionStatus.FAILED, failure_message="CONFIG is not permitted."
        )
        assert "CONFIG is not permitted." in text(browser.get(url(task)))

    def test_what_was_changed_can_be_put_back_at_once(
        self, browser: Client, task: MigrationTask, source: Instance, operator: User
    ) -> None:
        checked(task, {"source.reach": PASSED})
        address = f"/migrations/{task.public_id}/precheck/restore/"
        assert browser.post(address).status_code == 409
        AppliedRepair.objects.create(
            task=task, instance=source, code="source.repl_timeout", setting="repl-timeout", old="60", new="300", by=operator,
            applied_at=timezone.now(),
        )  # fmt: skip
        assert "Put it back now" in text(browser.get(url(task)))
        assert browser.post(address).headers["Location"] == url(task)
        assert "Putting it back…" in text(browser.get(url(task)))
        assert browser.get(url(task), headers=HTMX).status_code == 200

    def test_clearing_the_target_takes_its_name(self, browser: Client, task: MigrationTask, target: Instance) -> None:  # fmt: skip
        inspection = checked(task, {"source.reach": PASSED})
        row = item(inspection, "pair.same_names", FAILED, repair_code="target.clear", ignorable=False)
        MigrationTask.objects.filter(pk=task.pk).update(status=TaskStatus.PRECHECK_FAILED)
        address = f"/migrations/{task.public_id}/precheck/{row.pk}/repair/"
        assert f'href="{address}"' in text(browser.get(url(task)))
        assert "cannot be brought back" in text(browser.get(address))
        for typed in ("", "orders"):
            response = browser.post(address, {"confirmation": typed})
            assert response.status_code == 422
            assert "is not the name of the target" in text(response)
        assert not Inspection.objects.filter(kind=InspectionKind.REPAIR).exists()
        assert browser.post(address, {"confirmation": target.name}).headers["Location"] == url(task)
        assert Inspection.objects.get(kind=InspectionKind.REPAIR).parameters["code"] == "target.clear"

    def test_an_item_without_a_repair(self, browser: Client, task: MigrationTask) -> None:
        inspection = checked(task, {"target.eviction": FAILED})
        address = f"/migrations/{task.public_id}/precheck/{inspection.items.get().pk}/repair/"
        assert "nothing that could be repaired from here" in text(browser.get(address))
        assert browser.post(address).status_code == 409

    def test_the_number_of_queries_does_not_grow_with_the_items(
        self, browser: Client, task: MigrationTask, django_assert_max_num_queries: Any
    ) -> None:
        checked(task, {f"source.item_{number}": FAILED for number in range(40)})
        browser.get(url(task))
        with django_assert_max_num_queries(40):
            browser.get(url(task))


class TestIgnore:
    def address(self, task: MigrationTask, inspection: Inspection, code: str) -> str:
        return f"/migrations/{task.public_id}/precheck/{inspection.items.get(code=code).pk}/ignore/"

    def test_with_a_reason_the_task_is_ready(self, browser: Client, task: MigrationTask, operator: User) -> None:  # fmt: skip
        inspection = checked(task, {"source.reach": PASSED, "target.eviction": FAILED})
        address = self.address(task, inspection, "target.eviction")
        assert "Why it does no harm here" in text(browser.get(address))
        response = browser.post(address, {"reason": "There is four times the memory."}, follow=True)
        page = text(response)
        assert "There is four times the memory." in page
        assert f"by {operator.get_username()}" in page
        assert "100 %" in page
        task.refresh_from_db()
        assert task.status == TaskStatus.READY
        entry = AuditEntry.objects.get(action="precheck.ignored")
        assert entry.details["reason"] == "There is four times the memory."

    @pytest.mark.parametrize("reason", ["", "   "])
    def test_without_a_reason_nothing_is_ignored(self, browser: Client, task: MigrationTask, reason: str) -> None:  # fmt: skip
        inspection = checked(task, {"target.eviction": FAILED})
        response = browser.post(self.address(task, inspection, "target.eviction"), {"reason": reason})
        assert response.status_code == 422
        assert "only with a reason" in text(response)
        assert not IgnoredItem.objects.exists()

    def test_what_protects_data_is_not_ignored(self, browser: Client, task: MigrationTask) -> None:
        inspection = checked(task, {"target.same_names": FAILED})
        inspection.items.update(ignorable=False)
        address = self.address(task, inspection, "target.same_names")
        page = text(browser.get(address))
        assert "cannot be ignored: it protects data" in page
        assert "<textarea" not in page
        assert browser.post(address, {"reason": "I want to."}).status_code == 409
        task.refresh_from_db()
        assert task.status == TaskStatus.PRECHECK_FAILED

    def test_an_item_of_another_task_is_not_found(
        self, browser: Client, task: MigrationTask, operator: User, account: Account, source: Instance, target: Instance
    ) -> None:  # fmt: skip
        other = draft(operator, account, source, target)
        inspection = checked(other, {"target.eviction": FAILED})
        address = f"/migrations/{task.public_id}/precheck/{inspection.items.get().pk}/ignore/"
        assert browser.get(address).status_code == 404
        assert browser.post(address, {"reason": "x"}).status_code == 404


class TestConfirm:
    def test_all_settings_and_every_warning_on_one_page(
        self, browser: Client, task: MigrationTask, operator: User
    ) -> None:
        task = tasks.configure(
            operator, task, databases=[0], conflict="overwrite", commands={"": {"without": ["@stream"]}}, speed_class="small",
            speed_hours=[{"from": "22:00", "to": "06:00", "class": "unlimited"}],
        )  # fmt: skip
        checked(task, {"source.reach": PASSED})
        page = text(browser.get(url(task, "confirm")))
        for shown in (
            "orders-new", "Full + incremental", "Database 0", "All but streams", "Overwrite", "Small, 2,000 records/s", "22:00 to 06:00",
            "120 minutes", "No billing change", "Passed", "cannot be brought back", "The worker connects from 192.0.2.9",
            "Before your service writes to the target, stop or release this task",
        ):  # fmt: skip
            assert shown in page, shown
        for step in ("sides", "objects", "precheck"):
            assert f'href="{url(task, step)}' in page

    def test_starts_with_the_risks_acknowledged(self, browser: Client, task: MigrationTask) -> None:
        checked(task, {"source.reach": PASSED})
        response = browser.post(url(task, "confirm"))
        assert response.status_code == 422
        assert "The task was not started." in text(response)
        task.refresh_from_db()
        assert (task.status, task.risks_acknowledged_at) == (TaskStatus.READY, None)
        response = browser.post(url(task, "confirm"), {"acknowledged": "on"})
        assert response.headers["Location"] == task.get_absolute_url()
        task.refresh_from_db()
        assert task.status == TaskStatus.STARTING
        assert task.risks_acknowledged_at is not None

    def test_saving_does_not_start(self, browser: Client, task: MigrationTask) -> None:
        checked(task, {"source.reach": PASSED})
        assert browser.post(url(task, "confirm"), {"leave": "1"}).headers["Location"] == "/migrations/"
        task.refresh_from_db()
        assert task.status == TaskStatus.READY

    def test_a_precheck_that_is_too_old_runs_once_more(self, browser: Client, task: MigrationTask) -> None:
        checked(task, {"source.reach": PASSED}, finished_at=timezone.now() - timedelta(minutes=61))
        assert "It runs again before the start" in text(browser.get(url(task, "confirm")))
        response = browser.post(url(task, "confirm"), {"acknowledged": "on"}, follow=True)
        assert "The task starts by itself as soon as it has passed." in text(response)
        task.refresh_from_db()
        assert (task.status, task.start_when_ready) == (TaskStatus.PRECHECKING, True)

    @pytest.mark.parametrize("outcome", [None, FAILED])
    def test_without_a_passed_precheck_it_cannot_start(
        self, browser: Client, task: MigrationTask, outcome: Outcome | None
    ) -> None:
        if outcome:
            checked(task, {"target.same_names": outcome})
        page = text(browser.get(url(task, "confirm")))
        assert "The task cannot start yet." in page
        assert browser.post(url(task, "confirm"), {"acknowledged": "on"}).status_code == 409
        task.refresh_from_db()
        assert task.started_at is None


class TestRehearsal:
    def address(self, task: MigrationTask) -> str:
        return f"/migrations/{task.public_id}/rehearsal/"

    def test_from_the_question_to_the_result(self, browser: Client, task: MigrationTask) -> None:
        assert "Nothing is written" in text(browser.get(self.address(task)))
        assert browser.post(self.address(task)).headers["Location"] == self.address(task)
        rehearsal = Inspection.objects.get(kind=InspectionKind.REHEARSAL)
        assert browser.get(self.address(task), headers=HTMX).status_code == 200
        assert browser.post(self.address(task)).status_code == 409
        Inspection.objects.filter(pk=rehearsal.pk).update(
            status=InspectionStatus.DONE, finished_at=timezone.now(),
            result={
                "keys": 120345, "bytes": 734003200, "seconds": 93, "sampled_keys": 10000, "refused_count": 12,
                "refused": [{"key": "<b>cart", "type": "vectorset", "reason": "Redis 7.0 has no vector sets."}],
                "by_type": {"string": {"keys": 9000, "bytes": 3000}, "hash": 1000},
                "largest": [{"key": "sessions", "type": "hash", "bytes": 40000000}],
            },
        )  # fmt: skip
        response = browser.get(self.address(task), headers=HTMX)
        assert response.status_code == 286
        page = text(response)
        for shown in ("120,345", "700 MiB", "about 1 min", "10,000", "&lt;b&gt;cart", "no vector sets", "And 11 more.", "38.1 MiB", "1,000"):  # fmt: skip
            assert shown in page, shown
        summary = "120,345 keys, about 1 min for the full phase, and 12 keys that the target cannot take."
        assert summary in text(browser.get(url(task)))

    def test_too_little_room_is_told(self, browser: Client, task: MigrationTask) -> None:
        Inspection.objects.create(
            task=task, kind=InspectionKind.REHEARSAL, status=InspectionStatus.DONE, finished_at=timezone.now(),
            passed=False, result={"keys": 1, "bytes": 5, "seconds": 0.2, "fits": False, "notes": ["It is too small."]},
        )  # fmt: skip
        page = text(browser.get(self.address(task)))
        assert "The target does not have room for it all." in page
        assert "It is too small." in page
        summary = "1 key, under a second for the full phase, and more than the target has room for."
        assert summary in text(browser.get(url(task)))

    def test_is_no_gate(self, browser: Client, task: MigrationTask) -> None:
        browser.post(self.address(task))
        Inspection.objects.update(status=InspectionStatus.FAILED, failure_message="The source was gone.")
        task.inspections.filter(kind=InspectionKind.CONNECTIVITY).update(status=InspectionStatus.DONE)
        assert "The source was gone." in text(browser.get(self.address(task)))
        checked(task, {"source.reach": PASSED})
        assert browser.post(url(task, "confirm"), {"acknowledged": "on"}).headers["Location"] == task.get_absolute_url()  # fmt: skip

    def test_not_of_a_task_that_was_started(self, browser: Client, task: MigrationTask) -> None:
        MigrationTask.objects.filter(pk=task.pk).update(status=TaskStatus.FULL)
        assert browser.post(self.address(task)).status_code == 409
        assert not Inspection.objects.filter(kind=InspectionKind.REHEARSAL).exists()

    def test_a_viewer_may_look_and_not_begin(self, task: MigrationTask, viewer: User) -> None:
        client = Client()
        client.force_login(viewer)
        page = text(client.get(self.address(task)))
        assert "Nothing is written" in page
        assert 'type="submit">' not in page.partition("<main")[2]
        assert client.post(self.address(task)).status_code == 403
