"""The pages, a class per view. Who may open what is in url_table.py."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import escape

from migrations_app import states
from migrations_app.choices import LogLevel, TaskStatus
from migrations_app.models import (
    AppliedRepair,
    IgnoredItem,
    Inspection,
    Link,
    LinkProgress,
    LogEntry,
    MigrationTask,
    PhaseSpan,
    PrecheckItem,
    Sample,
    TaskAlert,
)
from migrations_app.services import links, tasks
from portal.models import Account, AuditEntry, Instance
from portal.services import audit

from .conftest import TaskMaker, instance

pytestmark = pytest.mark.django_db
S = TaskStatus
HTMX = {"HX-Request": "true"}


@pytest.fixture
def browser(operator: User) -> Client:
    client = Client()
    client.force_login(operator)
    return client


@pytest.fixture
def foreign_task(make_task: TaskMaker, other_account: Account) -> MigrationTask:
    return make_task(
        S.INCREMENTAL,
        name="secret move",
        account=other_account,
        source=instance(other_account, "their-source"),
        target=instance(other_account, "their-target"),
    )


def text(response: Any) -> str:
    return str(response.content.decode())


class TestList:
    def test_shows_the_tasks_of_my_accounts(
        self, browser: Client, make_task: TaskMaker, foreign_task: MigrationTask
    ) -> None:
        task = make_task(S.INCREMENTAL, reached_incremental=True)
        LinkProgress.objects.filter(link=task.link).update(
            keys_done=1200,
            percent=100,
            lag_bytes=2048,
            lag_seconds=0.2,
            caught_up=True,
            bytes_per_second=4096,
        )
        page = text(browser.get("/migrations/"))
        for shown in (task.public_id, "Incremental", "Undelayed", "2.0 KiB", "4.0 KiB/s", "1,200 keys"):
            assert shown in page
        assert "secret move" not in page

    def test_empty(self, browser: Client, viewer: User) -> None:
        assert "Create task" in text(browser.get("/migrations/"))
        browser.force_login(viewer)
        page = text(browser.get("/migrations/"))
        assert "No migration tasks yet" in page
        assert "Create task" not in page

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("?q=orders-new", True),
            ("?q=nothing", False),
            ("?status=full", True),
            ("?status=failed", False),
            ("?phases=full", False),
            ("?phases=full%2Bincremental", True),
            ("?sort=-lag", True),
            ("?sort=lag&page=99", True),
            ("?sort=nonsense", True),
        ],
    )
    def test_search_filters_order_pages(
        self, browser: Client, make_task: TaskMaker, query: str, found: bool
    ) -> None:
        task = make_task(S.FULL)
        assert (task.public_id in text(browser.get(f"/migrations/{query}"))) == found

    def test_htmx_gets_the_table_only(self, browser: Client, make_task: TaskMaker) -> None:
        make_task()
        fragment = text(browser.get("/migrations/", headers=HTMX))
        assert "<table" in fragment
        assert "<html" not in fragment

    def test_its_queries_do_not_grow(
        self, browser: Client, make_task: TaskMaker, account: Account, source: Instance
    ) -> None:
        def add(numbers: range) -> None:
            for number in numbers:
                task = make_task(S.FULL, target=instance(account, f"target-{number}", region=f"r{number}"))
                TaskAlert.objects.create(
                    task=task, kind="latency", since=timezone.now(), raised_at=timezone.now()
                )

        def queries(query: str) -> int:
            with CaptureQueriesContext(connection) as captured:
                assert browser.get(f"/migrations/{query}").status_code == 200
            return len(captured)

        asked = ("", "?q=orders", "?sort=-lag", "?alerts=open&region=r1", "?status=full&account=Payments")
        add(range(3))
        browser.get("/migrations/")  # the session learns the reader's time zone
        before = [queries(query) for query in asked]
        add(range(3, 60))
        assert [queries(query) for query in asked] == before
        assert max(before) <= 12

    def test_a_search_that_finds_a_lot(
        self, browser: Client, make_task: TaskMaker, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Found once with all keys, or counted apart: the page is the same."""
        for number in range(30):
            make_task(S.COMPLETED, name=f"move {number:02}", target=instance(account, f"target-{number}"))
        pages = []
        for most in (20_000, 10):
            monkeypatch.setattr("portal.listing.MAX_KEYS", most)
            pages.append(text(browser.get("/migrations/?q=move&sort=name&page=2")))
        for page in pages:
            assert "26–30 of 30" in page
            assert [name for name in ("move 24", "move 25", "move 29") if name in page] == [
                "move 25",
                "move 29",
            ]
            assert page.index("move 25") < page.index("move 29")

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("region=eu-west", True),
            ("region=us-east", True),
            ("region=ap-south", False),
            ("region=nowhere", True),  # an unknown value is ignored
            ("alerts=open", True),
            ("alerts=open&region=ap-south", False),
            ("account=Payments", True),
            ("account=Research", False),
        ],
    )
    def test_filters_of_sides_alerts_and_accounts(
        self, browser: Client, make_task: TaskMaker, account: Account, query: str, found: bool
    ) -> None:
        instance(account, "far", region="ap-south")
        task = make_task(
            S.FULL,
            source=instance(account, "a", region="eu-west"),
            target=instance(account, "b", region="us-east"),
        )
        TaskAlert.objects.create(task=task, kind="latency", since=timezone.now(), raised_at=timezone.now())
        TaskAlert.objects.create(
            task=task,
            kind="failed",
            since=timezone.now(),
            raised_at=timezone.now(),
            resolved_at=timezone.now(),
        )
        assert (task.public_id in text(browser.get(f"/migrations/?{query}"))) == found

    def test_counts_the_alerts_that_are_open(self, browser: Client, make_task: TaskMaker) -> None:
        task, now = make_task(S.FULL), timezone.now()
        TaskAlert.objects.create(task=task, kind="latency", since=now, raised_at=now)
        TaskAlert.objects.create(task=task, kind="retrying", since=now)  # not for long enough yet
        TaskAlert.objects.create(task=task, kind="failed", since=now, raised_at=now, resolved_at=now)
        assert "1 open alert<" in text(browser.get("/migrations/"))

    def test_a_task_whose_sides_are_not_chosen(
        self, browser: Client, operator: User, account: Account
    ) -> None:
        task = tasks.create_draft(operator, account, name="half a task")
        for address in ("/migrations/", "/"):
            page = text(browser.get(address))
            assert "half a task" in page
            assert "not chosen" in page
        page = text(browser.get(task.get_absolute_url()))
        assert "Go on with the set-up" in page
        assert f"/migrations/{task.public_id}/setup/" in page


class TestDetail:
    def test_live_figures(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        LinkProgress.objects.update(
            keys_done=600, keys_total=1205, percent=49.9, keys_per_second=100, bytes_in=3 << 20, full_syncs=1,
            databases={"0": 600}, worker_host="worker-7", worker_ip="10.1.2.3", updated_at=timezone.now(),
        )  # fmt: skip
        page = text(browser.get(task.get_absolute_url()))
        for shown in ("49 %", "600 of 1,205", "about 6", "3.0 MiB", "worker-7", "10.1.2.3", "100 per second"):
            assert shown in page, shown
        assert "s3cret" not in page

    def test_no_more_keys_than_there_are(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.INCREMENTAL)
        LinkProgress.objects.filter(link=task.link).update(keys_total=1000, keys_done=1009, percent=100)
        assert "1,009 of 1,009 keys" in text(browser.get(task.get_absolute_url()))

    def test_the_source_is_never_behind_what_was_applied(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.INCREMENTAL)
        LinkProgress.objects.filter(link=task.link).update(source_offset=4100, applied_offset=4200)
        page = text(browser.get(task.get_absolute_url()))
        assert page.count("4,200") == 2
        assert "4,100" not in page

    def test_what_the_link_has_in_reserve(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.INCREMENTAL, reached_incremental=True, heartbeat=True, speed_class="medium")
        LinkProgress.objects.update(
            backlog_bytes=100 << 20, written_per_second=float(1 << 20), lag_bytes=40 << 20, lag_seconds=40.0,
            spool_bytes=5 << 20, spool_limit=4 << 30, latency_ms=17, keys_kept=8, replication_id="ab" * 20,
        )  # fmt: skip
        page = text(browser.get(task.get_absolute_url()))
        # Of the backlog, what is not applied yet is needed already.
        for shown in (
            "about 1 min",
            "100 MiB",
            "5.0 MiB of 4.0 GiB",
            "17 ms",
            "8 kept",
            "Medium",
            "Delay 40 s",
        ):
            assert shown in page, shown
        # Of a task that does not run, what was left at the last report is being used up.
        MigrationTask.objects.update(status=S.PAUSED)
        LinkProgress.objects.update(updated_at=timezone.now() - timedelta(seconds=40))
        assert re.search(r"about 1\d s", text(browser.get(task.get_absolute_url())))
        LinkProgress.objects.update(updated_at=timezone.now() - timedelta(hours=1))
        assert "nothing any more" in text(browser.get(task.get_absolute_url()))
        LinkProgress.objects.update(written_per_second=0.0)
        assert "any, while nothing is written" in text(browser.get(task.get_absolute_url()))
        LinkProgress.objects.update(written_per_second=None)
        assert "not known yet" in text(browser.get(task.get_absolute_url()))

    def test_phases_checks_repairs_alerts_and_deeds(
        self, browser: Client, make_task: TaskMaker, operator: User, source: Instance
    ) -> None:
        task = make_task(S.FULL)
        now = timezone.now()
        PhaseSpan.objects.create(
            task=task, status=S.STARTING, began_at=now, ended_at=now + timedelta(minutes=3)
        )
        PhaseSpan.objects.create(task=task, status=S.FULL, began_at=now)
        inspection = Inspection.objects.create(task=task, kind="precheck", status="done", passed=True)
        for position, outcome in enumerate(("passed", "passed", "ignored")):
            PrecheckItem.objects.create(
                inspection=inspection, position=position, code=f"x{position}", severity="error", outcome=outcome
            )  # fmt: skip
        AppliedRepair.objects.create(
            task=task, instance=source, code="x", setting="repl-timeout", old="60", new="300", applied_at=now
        )
        TaskAlert.objects.create(task=task, kind="latency", since=now, raised_at=now, times_sent=2)
        TaskAlert.objects.create(task=task, kind="retrying", since=now)  # not for long enough to be told
        audit.record(operator, "task.started", task)
        links.note(task, "source.lost", "The source is away.", LogLevel.WARNING)
        page = text(browser.get(task.get_absolute_url()))
        for shown in (
            "3 min",
            "goes on",
            "2 passed, 1 ignored",
            "repl-timeout",
            "60 → 300",
            "Alert: Latency",
        ):
            assert shown in page, shown
        assert "Alert: Retrying" not in page
        for shown in ("Task started", "by omar", "The source is away.", "by the system"):
            assert shown in page, shown

    def test_what_the_precheck_has_found_can_be_looked_at_later(
        self, browser: Client, make_task: TaskMaker, operator: User
    ) -> None:
        task = make_task(S.FULL)
        address = f"/migrations/{task.public_id}/checks/"
        assert "has not been checked yet" in text(browser.get(address))
        inspection = Inspection.objects.create(task=task, kind="precheck", status="done", passed=True)
        for position, (outcome, found) in enumerate((("passed", "all is well"), ("ignored", "a big key"))):
            PrecheckItem.objects.create(
                inspection=inspection, position=position, code=f"x{position}", title=f"Item {position}",
                severity="warning", outcome=outcome, found=found,
            )  # fmt: skip
        IgnoredItem.objects.create(task=task, code="x1", reason="It is read at night.", by=operator)
        assert address in text(browser.get(task.get_absolute_url()))
        page = text(browser.get(address))
        for shown in ("Item 0", "all is well", "a big key", "Ignored by omar", "It is read at night."):
            assert shown in page, shown

    def test_the_end_of_the_full_phase_is_estimated_or_said_not_to_be_known(
        self, browser: Client, make_task: TaskMaker
    ) -> None:
        task = make_task(S.FULL)
        LinkProgress.objects.update(keys_done=10, percent=1.0)
        assert "its end is not known" in text(browser.get(task.get_absolute_url()))
        LinkProgress.objects.update(keys_total=1010, keys_per_second=1.0)
        page = text(browser.get(task.get_absolute_url()))
        assert "about 16 min left" in page
        assert "ends about" in page

    def test_charts(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.INCREMENTAL)
        page = text(browser.get(task.get_absolute_url()))
        assert "Nothing was measured in the last hour" in page
        begun = timezone.now() - timedelta(minutes=5)
        Sample.objects.create(link=task.link, at=begun, lag_seconds=3, bytes_per_second=2048)
        fragment = text(browser.get(f"/migrations/{task.public_id}/charts/?charts=day", headers=HTMX))
        assert "<html" not in fragment
        assert "every 10s" in fragment
        assert "2.0 KiB/s" in fragment
        assert fragment.count("<svg") >= 5
        assert "style=" not in fragment
        MigrationTask.objects.update(status=S.FAILED)
        assert "every 10s" not in text(browser.get(f"/migrations/{task.public_id}/charts/"))

    def test_the_lowest_retry_time_of_a_shared_side_counts(
        self, browser: Client, make_task: TaskMaker, account: Account
    ) -> None:
        task = make_task(S.FULL, retry_minutes=240)
        assert "in effect" not in text(browser.get(task.get_absolute_url()))
        other = make_task(S.FULL, name="impatient", retry_minutes=15, target=instance(account, "else"))
        page = text(browser.get(task.get_absolute_url()))
        assert "in effect 15 minutes" in page
        assert other.get_absolute_url() in page

    def test_a_failed_task_says_when_it_is_tried_again(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FAILED, finished_at=timezone.now(), resume_next_at=timezone.now())
        links.note(task, "a.b", "A line.")
        page = text(browser.get(task.get_absolute_url()))
        assert "resumed by itself once its cause has passed" in page
        assert "every 1s" in page and "/log/tail/" in page, "it may go on at any time"
        MigrationTask.objects.update(finished_at=timezone.now() - timedelta(days=8), resume_next_at=None)
        page = text(browser.get(task.get_absolute_url()))
        assert "cannot be resumed any more" in page
        assert "act-resume" not in page
        sent = {"task": task.public_id, "action": "resume"}
        assert "failed more than 7 days ago" in text(browser.post("/migrations/bulk/", sent))

    def test_a_running_task_polls(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        assert 'hx-trigger="every 1s"' in text(browser.get(task.get_absolute_url()))
        response = browser.get(task.get_absolute_url(), headers=HTMX)
        assert response.status_code == 200
        assert "<html" not in text(response)
        assert 'hx-swap-oob="true"' in text(response)

    @pytest.mark.parametrize("status", [S.COMPLETED, S.FAILED, S.STOPPED])
    def test_polling_ends_with_286(self, browser: Client, make_task: TaskMaker, status: S) -> None:
        task = make_task(status)
        response = browser.get(task.get_absolute_url(), headers=HTMX)
        assert response.status_code == 286
        assert 'id="charts" hx-swap-oob="true"' in text(response), "they stop to ask, too"
        assert 'hx-trigger="every' not in text(response)
        response = browser.get(task.get_absolute_url())
        assert response.status_code == 200
        assert "every 1s" not in text(response)

    def test_a_failure_says_what_happened_what_was_left_and_what_to_do(
        self, browser: Client, make_task: TaskMaker
    ) -> None:
        task = make_task(
            S.FAILED,
            failure_id="auth.refused",
            failure_message="The source refused.",
            failure_advice="Check it.",
        )
        page = text(browser.get(task.get_absolute_url()))
        for shown in (
            "The source refused.",
            "No data was written to the target.",
            "Check it.",
            "auth.refused",
            "Resume",
        ):
            assert shown in page

    def test_a_failure_names_the_side(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FAILED)
        address = task.target.endpoint.address
        MigrationTask.objects.filter(pk=task.pk).update(
            failure_message=f"{address}: AUTH: WRONGPASS; not {address}0."
        )
        page = text(browser.get(task.get_absolute_url()))
        assert (
            f"The task failed: Target {task.target.name} ({address}): AUTH: WRONGPASS; not {address}0."
            in page
        )

    def test_without_a_worker_it_says_so(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.STARTING)
        assert "Waiting for a free worker" in text(browser.get(task.get_absolute_url()))
        links.acquire_lease(task.link.pk, "one:1:a")
        assert "Waiting for a free worker" not in text(browser.get(task.get_absolute_url()))

    def test_a_viewer_has_no_buttons(self, browser: Client, viewer: User, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        stop = f"/migrations/{task.public_id}/stop/"
        assert stop in text(browser.get(task.get_absolute_url()))
        browser.force_login(viewer)
        assert stop not in text(browser.get(task.get_absolute_url()))

    def test_a_foreign_task_is_not_found(self, browser: Client, foreign_task: MigrationTask) -> None:
        assert browser.get(foreign_task.get_absolute_url()).status_code == 404
        assert browser.get(foreign_task.get_absolute_url(), headers=HTMX).status_code == 404

    def test_its_queries_do_not_grow_with_the_log(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        browser.get(task.get_absolute_url())
        with CaptureQueriesContext(connection) as first:
            browser.get(task.get_absolute_url())
        for number in range(60):
            links.note(task, "a.b", f"line {number}", LogLevel.WARNING)
            audit.record(None, "task.changed", task)
            PhaseSpan.objects.create(task=task, status=S.RETRYING, began_at=timezone.now())
            at = timezone.now() - timedelta(seconds=10 * number)
            Sample.objects.create(link=task.link, at=at, lag_seconds=number)
        with CaptureQueriesContext(connection) as second:
            browser.get(task.get_absolute_url())
        assert len(second) == len(first)


class TestLog:
    def test_search_level_and_pages(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        for number in range(45):
            links.note(task, "a.b", f"line {number}.", LogLevel.WARNING if number == 7 else LogLevel.INFO)
        address = f"/migrations/{task.public_id}/log/"
        page = text(browser.get(address))
        assert "line 44." in page
        assert "line 14." not in page
        older = LogEntry.objects.get(message="line 15.").pk
        assert f"before={older}" in page
        page = text(browser.get(f"{address}?before={older}"))
        assert "line 14." in page
        assert "line 15." not in page
        assert "Newest" in page
        assert "line 7." in text(browser.get(f"{address}?level=warning"))
        page = text(browser.get(f"{address}?q=line+33"))
        assert "line 33." in page
        assert "line 3." not in page
        assert "No line of the log fits" in text(browser.get(f"{address}?q=nothing"))
        assert browser.get(f"{address}?before=99999999999999999999&level=x").status_code == 200

    def test_htmx_gets_the_lines_and_polls_while_the_task_runs(
        self, browser: Client, make_task: TaskMaker
    ) -> None:
        task = make_task(S.FULL)
        fragment = text(browser.get(f"/migrations/{task.public_id}/log/", headers=HTMX))
        assert "<html" not in fragment
        assert "every 2s" in fragment, "an empty log waits for its first line"
        links.note(task, "a.b", "The first line.")
        fragment = text(browser.get(f"/migrations/{task.public_id}/log/", headers=HTMX))
        assert "log/tail/" in fragment and "every 2s" in fragment
        assert "every 2s" not in text(browser.get(f"/migrations/{task.public_id}/log/?before=99999"))
        MigrationTask.objects.update(status=S.FAILED)
        assert "every 2s" not in text(browser.get(f"/migrations/{task.public_id}/log/", headers=HTMX))

    def test_what_is_logged_is_text(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task()
        links.note(task, "a.b", "<script>alert(1)</script>")
        assert "<script>alert" not in text(browser.get(f"/migrations/{task.public_id}/log/"))

    def test_a_foreign_log_is_not_found(self, browser: Client, foreign_task: MigrationTask) -> None:
        assert browser.get(f"/migrations/{foreign_task.public_id}/log/").status_code == 404


class TestActions:
    def test_start(self, browser: Client, make_task: TaskMaker, bell: list[int]) -> None:
        task = make_task(S.READY)
        assert browser.post(f"/migrations/{task.public_id}/start/").status_code == 302
        assert MigrationTask.objects.get().status == S.STARTING

    def test_a_refusal_is_a_page(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        response = browser.post(f"/migrations/{task.public_id}/start/")
        assert response.status_code == 409
        assert "running already" in text(response)

    def test_stop_asks_and_then_stops(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.INCREMENTAL, reached_incremental=True)
        page = text(browser.get(f"/migrations/{task.public_id}/stop/"))
        assert "cannot go on" in page
        assert MigrationTask.objects.get().status == S.INCREMENTAL
        browser.post(f"/migrations/{task.public_id}/stop/")
        assert MigrationTask.objects.get().status == S.COMPLETED

    def test_stop_in_the_full_phase_says_what_is_left(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        assert "a part of the data only" in text(browser.get(f"/migrations/{task.public_id}/stop/"))

    def test_resume(self, browser: Client, make_task: TaskMaker, bell: list[int]) -> None:
        task = make_task(S.FAILED, failure_id="connection.lost")
        browser.post(f"/migrations/{task.public_id}/resume/")
        task.refresh_from_db()
        assert (task.status, task.full_resync_allowed) == (S.STARTING, False)

    @pytest.mark.parametrize("failure", ["source.full_resync_needed", "target.diverged"])
    def test_a_new_full_synchronization_is_asked_for(
        self, browser: Client, make_task: TaskMaker, bell: list[int], failure: str
    ) -> None:
        task = make_task(S.FAILED, failure_id=failure, failure_message="The writes are gone.")
        page = text(browser.get(f"/migrations/{task.public_id}/resume/"))
        assert "Resume with a full synchronization" in page
        assert "The writes are gone." in page
        browser.post(f"/migrations/{task.public_id}/resume/", {"full_resync": "1"})
        task.refresh_from_db()
        assert (task.status, task.full_resync_allowed) == (S.STARTING, True)

    def test_pause_says_why_nothing_is_written(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.INCREMENTAL, reached_incremental=True)
        browser.post(f"/migrations/{task.public_id}/pause/")
        task.refresh_from_db()
        assert task.status == S.PAUSED
        page = text(browser.get(task.get_absolute_url()))
        assert "Nothing is written to the target" in page
        assert "step-paused" in page
        assert "The task is paused already." in page, "why it cannot be paused once more"
        MigrationTask.objects.update(pause_reason="The access role was revoked.")
        assert "by the system: The access role was revoked." in text(browser.get(task.get_absolute_url()))

    def test_release_asks_and_then_releases(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.PAUSED, reached_incremental=True)
        assert "cannot be resumed" in text(browser.get(f"/migrations/{task.public_id}/release/"))
        browser.post(f"/migrations/{task.public_id}/release/")
        task.refresh_from_db()
        assert task.status == S.RELEASED
        assert "never writes to its target again" in text(browser.get(task.get_absolute_url()))
        assert browser.post(f"/migrations/{task.public_id}/resume/").status_code == 409

    def test_delete_asks_and_then_deletes(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.COMPLETED)
        assert "not touched" in text(browser.get(f"/migrations/{task.public_id}/delete/"))
        assert browser.post(f"/migrations/{task.public_id}/delete/").headers["Location"] == "/migrations/"
        assert not MigrationTask.objects.exists()
        assert not Link.objects.exists()

    @pytest.mark.parametrize("action", ["start", "pause", "stop", "resume", "release", "delete"])
    def test_a_foreign_task_is_not_found(
        self, browser: Client, foreign_task: MigrationTask, action: str
    ) -> None:
        assert browser.post(f"/migrations/{foreign_task.public_id}/{action}/").status_code == 404
        foreign_task.refresh_from_db()
        assert foreign_task.status == S.INCREMENTAL


class TestBulk:
    ADDRESS = "/migrations/bulk/"

    def test_tells_what_becomes_of_each(
        self, browser: Client, make_task: TaskMaker, foreign_task: MigrationTask, account: Account
    ) -> None:
        full = make_task(S.FULL, name="first")
        following = make_task(
            S.INCREMENTAL, name="second", reached_incremental=True, target=instance(account, "t2")
        )
        ready = make_task(S.READY, name="third")
        sent = {"task": [one.public_id for one in (full, following, ready, foreign_task)], "action": "stop"}
        page = text(browser.post(self.ADDRESS, sent))
        assert "Stop 2 tasks?" in page
        assert "Stopped early" in page  # the one in its full phase
        assert "Successful" in page
        assert "Left out: The task has not been started." in page
        assert "secret move" not in page
        assert f'value="{ready.public_id}"' not in page
        assert MigrationTask.objects.get(pk=full.pk).status == S.FULL

    @pytest.mark.parametrize(
        ("action", "status", "becomes"),
        [
            ("pause", S.FULL, "Pausing"),
            ("resume", S.FAILED, "Starting"),
            ("stop", S.FULL, "Stopped early"),
            ("release", S.FAILED, "Released"),
        ],
    )
    def test_each_action(
        self, browser: Client, make_task: TaskMaker, bell: list[int], action: str, status: S, becomes: str
    ) -> None:
        task = make_task(status)
        # Its worker lives, so that a pause waits for it.
        Link.objects.update(owner="host:1:x", lease_until=timezone.now() + timedelta(minutes=5))
        if action == "stop":
            Link.objects.update(owner="", lease_until=None)
        sent = {"task": task.public_id, "action": action, "confirmed": "1"}
        page = text(browser.post(self.ADDRESS, sent))
        assert becomes in page
        assert AuditEntry.objects.filter(object_id=task.public_id).exists()

    def test_gives_a_result_for_each(
        self, browser: Client, make_task: TaskMaker, foreign_task: MigrationTask
    ) -> None:
        running, ready = make_task(S.FULL), make_task(S.READY, name="not begun")
        ids = [running.public_id, ready.public_id, foreign_task.public_id]
        page = text(browser.post(self.ADDRESS, {"task": ids, "action": "stop", "confirmed": "1"}))
        assert "Stopped early" in page
        assert "has not been started" in page
        assert foreign_task.public_id in page
        assert "secret move" not in page
        foreign_task.refresh_from_db()
        assert foreign_task.status == S.INCREMENTAL

    def test_nothing_that_can_be_done(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.READY)
        page = text(browser.post(self.ADDRESS, {"task": task.public_id, "action": "release"}))
        assert "None of the selected tasks allows this" in page
        assert "delete it instead" in page
        assert "confirmed" in page and "Release 1 task" not in page

    def test_a_viewer_is_told_why_not(self, browser: Client, viewer: User, make_task: TaskMaker) -> None:
        browser.force_login(viewer)
        sent = {"task": make_task(S.FULL).public_id, "action": "pause"}
        assert "Your role in its account does not allow this." in text(browser.post(self.ADDRESS, sent))

    def test_none_selected_and_nothing_chosen(self, browser: Client) -> None:
        for sent in ({"action": "stop"}, {"task": "mt-deleted", "action": "stop"}):
            assert "Tick the tasks" in text(browser.post(self.ADDRESS, sent, follow=True))
        for action in ("", "delete", "nonsense"):
            sent = {"task": "mt-x", "action": action, "confirmed": "1"}
            assert "No action was chosen" in text(browser.post(self.ADDRESS, sent, follow=True))


class TestPanels:
    def test_overview_and_instance(
        self, browser: Client, make_task: TaskMaker, source: Instance, foreign_task: MigrationTask
    ) -> None:
        task = make_task(S.FULL)
        for address in ("/", source.get_absolute_url()):
            page = text(browser.get(address))
            assert task.public_id in page
            assert "secret move" not in page

    def test_navigation(self, browser: Client) -> None:
        assert 'href="/migrations/"' in text(browser.get("/"))


class TestAdmin:
    @pytest.fixture
    def admin(self, db: None) -> Client:
        client = Client()
        client.force_login(User.objects.create_superuser("root", password="a long pass phrase"))
        return client

    @pytest.mark.parametrize("model", ["migrationtask", "link", "linkprogress", "logentry"])
    def test_lists_and_shows_without_changing(self, admin: Client, make_task: TaskMaker, model: str) -> None:
        task = make_task(S.FULL)
        links.note(task, "a.b", "A line.")
        base = f"/admin/migrations_app/{model}/"
        assert admin.get(base, {"q": "x"}).status_code == 200
        assert admin.get(f"{base}add/").status_code == 403
        rows: dict[str, Callable[[], Any]] = {
            "migrationtask": lambda: task, "link": lambda: task.link,
            "linkprogress": lambda: task.link.progress, "logentry": lambda: task.log.get(),
        }  # fmt: skip
        address = f"{base}{rows[model]().pk}/change/"
        assert admin.get(address).status_code == 200
        assert admin.post(address, {"status": "completed"}).status_code == 403
        assert admin.post(f"{base}{rows[model]().pk}/delete/", {"post": "yes"}).status_code == 403

    def test_the_bulk_action_goes_through_the_service(self, admin: Client, make_task: TaskMaker) -> None:
        running, ready = make_task(S.FULL), make_task(S.READY)
        response = admin.post(
            "/admin/migrations_app/migrationtask/",
            {"action": "stop_selected", "_selected_action": [running.pk, ready.pk]},
            follow=True,
        )
        page = text(response)
        assert f"({running.public_id}): Stopped early" in page
        assert f"({ready.public_id}): The task has not been started." in page
        running.refresh_from_db()
        assert running.status == S.STOPPED

    @pytest.mark.parametrize("action", ["pause", "resume", "release"])
    def test_the_other_bulk_actions_do_so_too(self, admin: Client, make_task: TaskMaker, action: str) -> None:
        task = make_task(S.READY)
        page = text(
            admin.post(
                "/admin/migrations_app/migrationtask/",
                {"action": f"{action}_selected", "_selected_action": [task.pk]},
                follow=True,
            )
        )
        assert escape(states.allowed(states.Action(action), S.READY).reason) in page

    @pytest.mark.parametrize(
        "model",
        [
            "inspection",
            "precheckitem",
            "ignoreditem",
            "appliedrepair",
            "difference",
            "phasespan",
            "sample",
            "taskalert",
            "snapshotfile",
        ],
    )
    def test_the_other_models_are_there_to_be_looked_at(self, admin: Client, model: str) -> None:
        base = f"/admin/migrations_app/{model}/"
        assert admin.get(base, {"q": "x"}).status_code == 200
        assert admin.get(f"{base}add/").status_code == 403

    def test_a_member_of_the_staff_without_a_role_stops_nothing(
        self, make_task: TaskMaker, viewer: User
    ) -> None:
        from django.contrib.auth.models import Permission

        viewer.is_staff = True
        viewer.save()
        viewer.user_permissions.add(Permission.objects.get(codename="view_migrationtask"))
        client = Client()
        client.force_login(viewer)
        task = make_task(S.FULL)
        response = client.post(
            "/admin/migrations_app/migrationtask/",
            {"action": "stop_selected", "_selected_action": [task.pk]},
            follow=True,
        )
        assert "Your role does not allow this" in text(response)
        task.refresh_from_db()
        assert task.status == S.FULL

    def test_there_is_no_form_that_runs_a_function_by_its_name(self, admin: Client) -> None:
        assert admin.get("/admin/").status_code == 200
        assert admin.get("/admin/django_q/schedule/add/").status_code == 404
