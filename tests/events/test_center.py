"""The event center: what it lists, in which order, for whom, and the same as CSV."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import QueryDict
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events.choices import EventStatus
from events.models import Campaign, Event, EventType
from events.present import EventView
from events.services import execution, steps
from events.views import center
from portal.models import Instance
from tests.portal.world import World, make_instance

from .conftest import make_event

HTMX = {"HX-Request": "true"}


@pytest.fixture
def browser(operator: User) -> Client:
    client = Client()
    client.force_login(operator)
    return client


def text(response: Any) -> str:
    return str(response.content.decode())


def rows_of(browser: Client, path: str) -> list[str]:
    """The IDs of the events that the list shows, in its order."""
    response = browser.get(path)
    assert response.status_code == 200, path
    return [view.event.public_id for view in response.context["rows"]]


def table(response: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode())))


@pytest.fixture
def events(world: World) -> dict[str, Event]:
    """One of each kind, by what is special about it."""
    now = timezone.now()
    kind = EventType.objects.get(code="switchover")
    other = make_instance(world.account, "ledger", region="us-east")
    return {
        "plain": make_event(world.instance),
        "waiting": make_event(other, switch_at=None, deadline=now + timedelta(days=2)),
        "urgent": make_event(other, "vulnerability-fix", switch_at=now + timedelta(hours=30)),
        "seen": make_event(
            world.instance,
            "vulnerability-fix",
            switch_at=now + timedelta(hours=40),
            acknowledged_at=now,
            acknowledged_by="operator",
        ),
        "soon": make_event(world.instance, switch_at=now + timedelta(hours=5), acknowledged_at=now),
        "late": make_event(
            world.instance, switch_at=now - timedelta(minutes=5), acknowledged_at=now, region="ap-south"
        ),
        "running": make_event(other, status=EventStatus.RUNNING, switch_at=now + timedelta(minutes=1)),
        "campaign": make_event(
            world.instance,
            "switchover",
            switch_at=now + timedelta(days=5),
            campaign=Campaign.objects.create(name="Rack fourteen", type=kind),
        ),
        "foreign": make_event(world.other_instance),
        "ended": make_event(
            world.instance,
            status=EventStatus.SUCCEEDED,
            switch_at=now - timedelta(days=10),
            finished_at=now - timedelta(days=10),
        ),
        "cancelled": make_event(
            other, status=EventStatus.CANCELLED, finished_at=now - timedelta(days=2), result="=HYPERLINK(1)"
        ),
    }


PENDING = ("late", "running", "soon", "urgent", "seen", "waiting", "plain", "campaign")
"""In the order of the list: by the switch time, without one by the deadline."""


def test_what_waits_for_staff_is_found(browser: Client, instance: Instance) -> None:
    now = timezone.now()
    manual, simulated = (
        make_event(
            instance, switch_at=now + timedelta(minutes=minutes), executor=executor, preparation_seconds=3600
        )
        for minutes, executor in ((30, "manual"), (45, "simulated"))
    )
    assert rows_of(browser, "/events/?needs=work") == []
    for event in (manual, simulated):
        Event.objects.exclude(pk=event.pk).update(instance=None)
        execution.begin(event.pk)
        steps.take(event.pk, "worker")
        Event.objects.update(instance=instance)
    assert rows_of(browser, "/events/?needs=work") == [manual.public_id]


def test_what_does_not_go_on_is_overdue_once_its_time_has_passed(browser: Client, instance: Instance) -> None:
    now, reason = timezone.now(), "Nobody has confirmed “Prepare”."
    made = [
        make_event(
            instance,
            status=EventStatus.RUNNING,
            switch_at=now + timedelta(minutes=minutes),
            hold_reason=reason_,
        )
        for minutes, reason_ in ((-65, reason), (65, reason), (-65, ""))
    ]
    assert rows_of(browser, "/events/?needs=overdue") == [made[0].public_id]
    view, *others = EventView(made[0], now=now), EventView(made[1], now=now), EventView(made[2], now=now)
    assert view.is_overdue and view.when == "due 65 min ago"
    assert not any(one.is_overdue for one in others)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", PENDING),
        ("?sort=-when", PENDING[::-1]),
        ("?needs=any", ("late", "soon", "urgent", "waiting")),
        ("?needs=time", ("waiting",)),
        ("?needs=urgent", ("urgent",)),
        ("?needs=seen", ("urgent", "waiting", "plain", "campaign")),
        ("?needs=soon", ("late", "soon")),
        ("?needs=overdue", ("late",)),
        ("?needs=nonsense", PENDING),
        ("?when=day", ("late", "running", "soon")),
        ("?when=week", PENDING),
        ("?when=deadline", ("waiting",)),
        ("?status=waiting", ("waiting",)),
        ("?status=running", ("running",)),
        ("?status=succeeded", ()),
        ("?level=S0", ("urgent", "seen")),
        ("?type=switchover", ("campaign",)),
        ("?region=us-east", ("running", "urgent", "waiting")),
        ("?region=ap-south", ("late",)),
        ("?account=Payments", PENDING),
        ("?account=Search", ()),
        ("?q=ledger", ("running", "urgent", "waiting")),
        ("?q=fourteen", ("campaign",)),
        ("?q=vulnerability+ledger", ("urgent",)),
        ("?q=search-index", ()),
    ],
)
def test_pending(browser: Client, events: dict[str, Event], query: str, found: tuple[str, ...]) -> None:
    names = {event.public_id: name for name, event in events.items()}
    assert [names[one] for one in rows_of(browser, f"/events/{query}")] == list(found)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ("cancelled", "ended")),
        ("?when=7", ("cancelled",)),
        ("?when=30", ("cancelled", "ended")),
        ("?status=succeeded", ("ended",)),
        ("?q=ledger", ("cancelled",)),
        ("?sort=finished", ("ended", "cancelled")),
    ],
)
def test_history(browser: Client, events: dict[str, Event], query: str, found: tuple[str, ...]) -> None:
    names = {event.public_id: name for name, event in events.items()}
    assert [names[one] for one in rows_of(browser, f"/events/history/{query}")] == list(found)


def test_ids_are_found_in_full(browser: Client, events: dict[str, Event]) -> None:
    event = events["plain"]
    assert rows_of(browser, f"/events/?q={event.public_id}") == [event.public_id]
    assert event.public_id in rows_of(browser, f"/events/?q={event.instance_public_id}")


def test_staff_see_the_events_of_every_account(staff: User, events: dict[str, Event]) -> None:
    client = Client()
    client.force_login(staff)
    assert events["foreign"].public_id in rows_of(client, "/events/")


def test_htmx_gets_the_table_only(browser: Client, event: Event) -> None:
    for path in ("/events/", "/events/history/"):
        fragment = text(browser.get(path, headers=HTMX))
        assert "<html" not in fragment


def test_a_row_says_what_where_and_when(browser: Client, events: dict[str, Event]) -> None:
    page = text(browser.get("/events/?q=ledger"))
    for words in (
        "Not chosen yet",
        "choose a time",
        "acknowledge",
        "S0 · Risk fix",
        "us-east",
        "In progress",
    ):
        assert words in page


@pytest.mark.parametrize(
    ("path", "name", "query"),
    [("/events/", "event_list", "needs=seen"), ("/events/history/", "event_history", "status=failed")],
)
def test_both_lists_have_saved_views_of_their_own(browser: Client, path: str, name: str, query: str) -> None:
    assert "Save this view" in text(browser.get(path))
    browser.post("/views/new/", {"list": name, "name": "To be seen", "query": query})
    shown = browser.get(path)
    assert "To be seen" in text(shown) and f"{path}?{query}" in shown.content.decode()
    other = {"/events/": "/events/history/", "/events/history/": "/events/"}[path]
    assert "To be seen" not in text(browser.get(other))
    assert "To be seen" in text(browser.get("/views/"))


def test_empty_states(browser: Client, world: World) -> None:
    assert "No pending events" in text(browser.get("/events/"))
    assert "Nothing matches" in text(browser.get("/events/?q=x"))
    assert "No event has ended yet" in text(browser.get("/events/history/"))
    assert "Nothing matches" in text(browser.get("/events/history/?when=7"))


class TestExport:
    def test_has_the_rows_of_the_list(self, browser: Client, events: dict[str, Event]) -> None:
        response = browser.get("/events/export.csv?level=S0&list=pending")
        assert response.headers["Content-Type"].startswith("text/csv")
        assert "attachment" in response.headers["Content-Disposition"]
        rows = table(response)
        assert [row["event"] for row in rows] == [events[name].public_id for name in ("urgent", "seen")]
        assert rows[0]["type"] == "vulnerability-fix"
        assert rows[0]["instance"] == "ledger"
        assert rows[0]["switchover"].endswith("Z")
        assert rows[1]["acknowledged by"] == "operator"

    def test_of_the_history(self, browser: Client, events: dict[str, Event]) -> None:
        rows = table(browser.get("/events/export.csv?list=history"))
        assert [row["event"] for row in rows] == [events[name].public_id for name in ("cancelled", "ended")]

    def test_makes_formulas_harmless(self, browser: Client, events: dict[str, Event]) -> None:
        rows = table(browser.get("/events/export.csv?list=history&status=cancelled"))
        assert rows[0]["result"] == "'=HYPERLINK(1)"

    def test_has_nothing_of_others(self, browser: Client, events: dict[str, Event]) -> None:
        for path in ("/events/export.csv", "/events/export.csv?list=history"):
            assert "search-index" not in {row["instance"] for row in table(browser.get(path))}

    def test_its_queries_do_not_grow(self, browser: Client, instance: Instance) -> None:
        browser.get("/")  # the session learns the time zone
        counts = []
        for _ in range(2):
            for _ in range(20):
                make_event(instance)
            with CaptureQueriesContext(connection) as captured:
                table(browser.get("/events/export.csv"))
            counts.append(len(captured))
        assert counts[0] == counts[1]


def test_all_that_match_are_those_of_the_list(operator: User, events: dict[str, Event]) -> None:
    """For a bulk change: the query of the list gives the same events, and never those of others."""
    request: Any = RequestFactory().post("/events/bulk/")
    request.user = operator
    for query in ("level=S0", "needs=time", "", "q=search-index"):
        asked: Any = RequestFactory().get("/events/", QueryDict(query).dict())
        asked.user = operator
        listed = list(center.pending(asked).selected().values_list("pk", flat=True))
        assert list(center.matching(request, query).values_list("pk", flat=True)) == listed
        assert events["foreign"].pk not in listed


def test_queries_do_not_grow_with_the_rows(browser: Client, world: World) -> None:
    def add(numbers: range) -> None:
        for number in numbers:
            made = make_instance(world.account, f"i{number}", region=f"r{number}")
            make_event(made)
            make_event(made, "switchover", switch_at=None)
            make_event(made, status=EventStatus.SUCCEEDED, finished_at=timezone.now())

    def queries(path: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert browser.get(path).status_code == 200
        return len(captured)

    paths = (
        "/events/",
        "/events/?q=i1",
        "/events/?needs=any&region=r1",
        "/events/history/",
        "/",
        "/instances/",
    )
    add(range(2))
    browser.get("/")  # the session learns the time zone, and that the dialog was shown
    before = [queries(path) for path in paths]
    add(range(2, 40))
    assert [queries(path) for path in paths] == before
    assert max(before[:4]) <= 14
