"""The log of a task: search that is bounded, what is new on top, the whole of it as a file."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from migrations_app import logbook
from migrations_app.choices import LogLevel, TaskStatus
from migrations_app.models import LogEntry, MigrationTask

from .conftest import TaskMaker

pytestmark = pytest.mark.django_db
S = TaskStatus


@pytest.fixture
def browser(operator: User) -> Client:
    client = Client()
    client.force_login(operator)
    return client


def text(response: Any) -> str:
    return str(response.content.decode())


def sent(response: Any) -> str:
    return b"".join(response.streaming_content).decode()


def add(task: MigrationTask, *messages: str, age: float = 0, level: str = "info", **fields: Any) -> None:
    at = timezone.now() - timedelta(seconds=age)
    for message in messages:
        LogEntry.objects.create(task=task, at=at, event="link.x", level=level, message=message, fields=fields)


def tail_of(page: str) -> str:
    found = re.search(r'hx-get="([^"]*/log/tail/[^"]*)"', page)
    assert found, page
    return found[1].replace("&amp;", "&")


class TestTail:
    def test_brings_what_is_new_and_nothing_else(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        add(task, "an old line", age=60)
        tail = tail_of(text(browser.get(f"/migrations/{task.public_id}/log/")))
        assert browser.get(tail).status_code == 204, "nothing is new: nothing is swapped"
        add(task, "a new line")
        response = browser.get(tail)
        assert response.status_code == 200
        assert "a new line" in text(response)
        assert "an old line" not in text(response)
        again = tail_of(text(response))
        assert browser.get(again).status_code == 204
        add(task, "the newest")
        fresh = text(browser.get(again))
        # The line before is not settled yet: it comes along, in its place.
        assert fresh.index("the newest") < fresh.index("a new line")

    def test_a_line_that_is_committed_late_is_not_missed(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        add(task, "settled", age=60)
        late = LogEntry.objects.create(task=task, at=timezone.now(), event="x", message="came late")
        number = late.pk
        LogEntry.objects.filter(pk=number)._raw_delete("default")  # its transaction is under way still
        add(task, "came first")
        tail = tail_of(text(browser.get(f"/migrations/{task.public_id}/log/")))
        LogEntry.objects.bulk_create(
            [LogEntry(pk=number, task=task, at=timezone.now(), event="x", message="came late")]
        )
        fresh = text(browser.get(tail))
        assert fresh.index("came first") < fresh.index("came late")

    def test_lines_that_are_settled_are_left_where_they_are(
        self, browser: Client, make_task: TaskMaker
    ) -> None:
        task = make_task(S.FULL)
        add(task, "before", age=60)
        tail = tail_of(text(browser.get(f"/migrations/{task.public_id}/log/")))
        add(task, "a while ago", age=30)
        add(task, "just now")
        response = text(browser.get(tail))
        assert response.count("<tbody") == 2
        following = text(browser.get(tail_of(response)))
        assert following == "", "204"
        add(task, "later")
        assert "a while ago" not in text(browser.get(tail_of(response)))

    def test_keeps_to_level_and_words(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        add(task, "the target waits", age=60, level="warning")
        tail = tail_of(text(browser.get(f"/migrations/{task.public_id}/log/?level=warning&q=target")))
        add(task, "the target is back")
        add(task, "the source waits", level="warning")
        assert browser.get(tail).status_code == 204
        add(task, "the target waits again", level="warning")
        assert "waits again" in text(browser.get(tail))

    def test_ends_with_the_task(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        add(task, "running", age=60)
        tail = tail_of(text(browser.get(f"/migrations/{task.public_id}/log/")))
        add(task, "The last words.")
        MigrationTask.objects.update(status=S.FAILED)
        response = browser.get(tail)
        assert response.status_code == 286
        assert "The last words." in text(response)
        assert "hx-get" not in text(response)

    def test_a_flood_begins_a_new_page(
        self, browser: Client, make_task: TaskMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logbook, "FRESH", 20)
        task = make_task(S.FULL)
        add(task, "before", age=60)
        tail = tail_of(text(browser.get(f"/migrations/{task.public_id}/log/")))
        add(task, *(f"line {number}." for number in range(40)))
        response = browser.get(tail)
        assert response.headers["HX-Retarget"] == "#log"
        assert text(response).count("<tr>") == logbook.PAGE + 1
        assert "line 39." in text(response)

    def test_a_page_does_not_grow_for_ever(
        self, browser: Client, make_task: TaskMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logbook, "SHOWN", 12)
        task = make_task(S.FULL)
        add(task, *("before" for _ in range(10)), age=60)
        tail = tail_of(text(browser.get(f"/migrations/{task.public_id}/log/")))
        add(task, "one", "two")
        assert "HX-Retarget" not in browser.get(tail).headers
        add(task, "three")
        assert browser.get(tail).headers["HX-Retarget"] == "#log"


class TestSearch:
    def test_is_bounded_and_can_go_on(
        self, browser: Client, make_task: TaskMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logbook, "SEARCHED", 50)
        task = make_task(S.FULL)
        add(task, "a needle")
        add(task, *("hay" for _ in range(120)))
        address = f"/migrations/{task.public_id}/log/?q=needle"
        looks = 0
        while "a needle" not in (page := text(browser.get(address))):
            assert "50 lines were searched" in page
            found = re.search(r'href="([^"]*before=\d+)"', page)
            assert found
            address = found[1].replace("&amp;", "&")
            looks += 1
        assert looks == 2
        assert "lines were searched" not in page, "there is nothing older"

    def test_a_word_of_the_event(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        add(task, "Something happened.")
        assert "Something happened" in text(browser.get(f"/migrations/{task.public_id}/log/?q=link.x"))

    def test_its_queries_do_not_grow(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        add(task, "one")
        address = f"/migrations/{task.public_id}/log/?q=one&level=info"
        browser.get(address)
        with CaptureQueriesContext(connection) as first:
            browser.get(address)
        add(task, *("one more" for _ in range(60)))
        with CaptureQueriesContext(connection) as second:
            browser.get(address)
        assert len(first) == len(second)


class TestDownload:
    def address(self, task: MigrationTask, form: str, **more: str) -> str:
        rest = "".join(f"&{key}={value}" for key, value in more.items())
        return f"/migrations/{task.public_id}/log/download/?format={form}{rest}"

    def test_all_formats_oldest_first(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        at = datetime(2026, 5, 4, 12, 0, 0, 250_000, tzinfo=UTC)
        for message in ("Begun, with “quotes”\nand two lines", "Ended"):
            LogEntry.objects.create(task=task, at=at, event="a.b", message=message, fields={"bytes": 5})
        response = browser.get(self.address(task, "csv"))
        assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert f'"{task.public_id}-log.csv"' in response.headers["Content-Disposition"]
        rows = list(csv.reader(io.StringIO(sent(response), newline="")))
        assert rows[0] == ["time", "level", "event", "message", "fields"]
        assert rows[1] == [
            "2026-05-04T12:00:00.250Z",
            "info",
            "a.b",
            "Begun, with “quotes”\nand two lines",
            '{"bytes": 5}',
        ]
        lines = [json.loads(line) for line in sent(browser.get(self.address(task, "jsonl"))).splitlines()]
        assert [line["message"] for line in lines][1] == "Ended"
        assert lines[0]["fields"] == {"bytes": 5}
        plain = sent(browser.get(self.address(task, "text"))).splitlines()
        assert plain[1] == "2026-05-04T12:00:00.250Z INFO    a.b Ended bytes=5"
        assert len(plain) == 2, "one line each"

    def test_what_fits_only(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        add(task, "good")
        add(task, "bad", level=LogLevel.ERROR)
        assert "good" not in sent(browser.get(self.address(task, "text", level="error")))
        assert "bad" not in sent(browser.get(self.address(task, "text", q="good")))

    def test_formulas_are_defused(self, browser: Client, make_task: TaskMaker) -> None:
        task = make_task(S.FULL)
        add(task, "=cmd()")
        assert "'=cmd()" in sent(browser.get(self.address(task, "csv")))

    def test_is_read_bit_by_bit_and_ends(
        self, browser: Client, make_task: TaskMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is logged meanwhile is not waited for, and no more than a batch is in memory."""
        monkeypatch.setattr(logbook, "BATCH", 10)
        task = make_task(S.FULL)
        add(task, *(f"line {number}" for number in range(25)))
        parts = logbook.export(task, logbook.Choice(), "text")
        first = next(parts)
        assert first.count("\n") == 10
        add(task, "too late")
        rest = "".join(parts)
        assert (first + rest).count("\n") == 25
        assert "too late" not in rest

    def test_an_unknown_format(self, browser: Client, make_task: TaskMaker) -> None:
        assert browser.get(self.address(make_task(S.FULL), "xml")).status_code == 422

    def test_strangers_do_not_find_it(self, stranger: User, make_task: TaskMaker) -> None:
        client = Client()
        client.force_login(stranger)
        task = make_task(S.FULL)
        for address in (self.address(task, "csv"), f"/migrations/{task.public_id}/log/tail/?after=0"):
            assert client.get(address).status_code == 404
