"""The pages of changes of many events: chosen in the list, previewed, applied, undone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from events.choices import BulkStatus, EventStatus, RowOutcome
from events.models import BulkChange, Event
from events.services import bulk
from events.services.by import By
from portal.models import Account, Instance
from portal.services.windows import set_window
from tests.portal.world import World, make_instance
from tests.support.bulk_events import many_events

from .conftest import make_event

FRAGMENT = {"HX-Request": "true"}


@pytest.fixture
def client(world: World) -> Client:
    browser = Client()
    browser.force_login(world.user("operator"))
    return browser


@pytest.fixture
def events(instance: Instance) -> list[Event]:
    return [make_event(instance, may_cancel=True) for _ in range(3)]


def in_field(days: float) -> str:
    return (timezone.now() + timedelta(days=days)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M")


def test_from_the_list_to_the_results_and_back(client: Client, events: list[Event]) -> None:
    chosen = [event.public_id for event in events[:2]]
    asked = client.post("/events/bulk/", {"action": "to-time", "event": chosen, "query": ""})
    assert asked.status_code == 200
    html = asked.content.decode()
    assert 'type="datetime-local"' in html and html.count('name="event"') == 2
    assert not BulkChange.objects.exists()

    sent = {"action": "to-time", "event": chosen, "planned": "1"}
    wrong = client.post("/events/bulk/", sent | {"at": ""})
    assert wrong.status_code == 422 and "Enter the date and the time" in wrong.content.decode()
    past = client.post("/events/bulk/", sent | {"at": in_field(-1)})
    assert past.status_code == 422 and "has passed" in past.content.decode()
    answer = client.post("/events/bulk/", sent | {"at": in_field(5)})
    change = BulkChange.objects.get()
    assert answer.headers["Location"] == change.get_absolute_url()

    page = client.get(change.get_absolute_url()).content.decode()
    assert "nothing has been changed" in page and "Reschedule 2 events" in page
    assert "hx-trigger" not in page.partition('id="live"')[2].partition(">")[0]
    done = client.post(change.get_absolute_url(), {"do": "apply"}, follow=True).content.decode()
    assert "Undo for 2 events" in done and "Will be changed" not in done.partition("<table")[2]
    assert Event.objects.filter(revision=1).count() == 2

    back = client.post(change.get_absolute_url(), {"do": "undo"}, follow=True).content.decode()
    assert change.public_id in back and "Undo for" not in back
    assert Event.objects.filter(revision=2, deferrals=0).count() == 2
    assert "Undone" in client.get(change.get_absolute_url()).content.decode()


def test_a_preview_says_what_is_earlier_and_what_is_outside_of_its_window(
    client: Client, world: World, instance: Instance
) -> None:
    at = timezone.now().replace(microsecond=0, second=0) + timedelta(days=3)
    begin = (at - timedelta(hours=1)).time().replace(second=0)
    set_window(None, instance, range(7), begin, (at + timedelta(hours=1)).time(), "UTC")
    elsewhere = make_instance(world.account, "windowless")
    made = [make_event(instance, switch_at=at + timedelta(days=days)) for days in (3, -2)]
    made += [make_event(elsewhere, switch_at=at + timedelta(minutes=90))]

    def preview(at: datetime) -> tuple[str, list[list[str]]]:
        """The page, and what is said beside the new time of each."""
        sent = {"action": "to-time", "event": [one.public_id for one in made], "planned": "1"}
        answer = client.post("/events/bulk/", sent | {"at": at.strftime("%Y-%m-%dT%H:%M")}, follow=True)
        page = answer.content.decode()
        rows = page.partition("<tbody>")[2].split("</tr>")[:3]
        words = ("3 days earlier", "48 h later", "90 min earlier", "outside its maintenance window")
        return page, [[word for word in words if word in row] for row in rows]

    page, said = preview(at)
    assert "2 events would happen earlier than planned now." in page
    assert sorted(said) == [["3 days earlier"], ["48 h later"], ["90 min earlier"]]
    page, said = preview(at + timedelta(days=3, hours=2))
    assert "earlier than planned" not in page
    assert sorted(said) == [[], ["outside its maintenance window"], ["outside its maintenance window"]]


def test_an_action_without_parameters_leads_to_the_preview_at_once(
    client: Client, events: list[Event]
) -> None:
    answer = client.post("/events/bulk/", {"action": "acknowledge", "event": [events[0].public_id]})
    assert answer.headers["Location"] == BulkChange.objects.get().get_absolute_url()


def test_cancelling_asks_why(client: Client, events: list[Event]) -> None:
    sent = {"action": "cancel", "event": [event.public_id for event in events], "planned": "1"}
    assert client.post("/events/bulk/", sent | {"reason": ""}).status_code == 422
    client.post("/events/bulk/", sent | {"reason": "Not needed."})
    change = BulkChange.objects.get()
    page = client.get(change.get_absolute_url()).content.decode()
    assert "Reason: Not needed." in page and "Cancel 3 events" in page and "New time" not in page
    client.post(change.get_absolute_url(), {"do": "apply"})
    assert Event.objects.filter(status=EventStatus.CANCELLED, result="Not needed.").count() == 3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"action": "acknowledge"}, "No event was selected"),
        ({"action": "", "event": "ev-1"}, "No action was chosen"),
        ({"action": "undo", "event": "ev-1"}, "No action was chosen"),
        ({"action": "to-window", "event": "ev-unknown"}, "No event was chosen"),
    ],
)
def test_nothing_chosen_leads_back_to_the_list(
    client: Client, events: list[Event], data: dict[str, str], words: str
) -> None:
    answer = client.post("/events/bulk/", data, follow=True)
    assert words in answer.content.decode() and answer.redirect_chain == [("/events/", 302)]
    assert not BulkChange.objects.exists()


def test_all_that_match_the_list(client: Client, world: World) -> None:
    """By its query, not by thousands of fields: and only what the list shows to this person."""
    many_events(world.account, 30)
    others = make_instance(world.account, "west", region="us-west")
    for _ in range(3):
        make_event(others)
    make_event(others, status=EventStatus.RUNNING)
    make_event(make_instance(world.other_account, "foreign", region="us-west"))
    sent = {"action": "stagger", "all": "1", "query": "region=us-west&status=pending", "event": ["ev-1"]}
    html = client.post("/events/bulk/", sent).content.decode()
    assert "3 events that match the list" in html and 'name="event"' not in html
    assert 'name="query" value="region=us-west&amp;status=pending"' in html
    client.post("/events/bulk/", sent | {"planned": "1", "at": in_field(5), "minutes": "5", "order": "name"})
    change = BulkChange.objects.get()
    assert set(change.rows.values_list("event__instance_name", "event__status")) == {("west", "pending")}
    assert (change.total, change.parameters["minutes"]) == (3, 5)


def test_what_is_left_out_stands_first_and_can_be_filtered(
    client: Client, world: World, operator_by: By
) -> None:
    made = many_events(world.account, 60)
    late = make_event(world.instance, deadline=timezone.now() + timedelta(days=4, hours=1))
    change = bulk.plan(
        operator_by,
        bulk.BulkAction.TO_TIME,
        [event.public_id for event in [*made, late]],
        {"at": timezone.now() + timedelta(days=6)},
    )
    url = change.get_absolute_url()
    page = client.get(url).content.decode()
    table = page.partition("<tbody>")[2]
    assert table.index(late.public_id) < table.index("cache-")
    assert "is after the deadline" in page and "1–25 of 61" in page
    only = client.get(f"{url}?outcome=refused", headers=FRAGMENT | {"HX-Target": "rows"})
    assert only.status_code == 200
    html = only.content.decode()
    assert late.public_id in html and "cache-" not in html and "<h1>" not in html
    assert "After the deadline" in page
    assert "cache-" not in client.get(f"{url}?why=event.after_deadline").content.decode()
    assert "Nothing matches" in client.get(f"{url}?q=nowhere").content.decode()


def test_progress_is_polled_until_it_is_over(
    client: Client, account: Account, operator_by: By, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "SMALL", 2)
    events = many_events(account, 5)
    change = bulk.plan(
        operator_by,
        bulk.BulkAction.TO_TIME,
        [event.public_id for event in events],
        {"at": timezone.now() + timedelta(days=6)},
    )
    url = change.get_absolute_url()
    assert change.status == BulkStatus.PLANNING
    page = client.get(url).content.decode()
    assert 'hx-trigger="every 1s"' in page and "0 of 5 events" in page and "Look again" in page
    assert "<table" not in page
    assert client.get(url, headers=FRAGMENT | {"HX-Target": "live"}).status_code == 200
    BulkChange.objects.update(done=2)
    assert "40 %" in client.get(url).content.decode()

    from events import jobs

    BulkChange.objects.update(done=0)
    assert jobs.run_bulk(change.pk) == "done"
    answer = client.get(url, headers=FRAGMENT | {"HX-Target": "live"})
    assert answer.status_code == 286 and "Reschedule 5 events" in answer.content.decode()
    client.post(url, {"do": "apply"})
    assert "Changing the events" in client.get(url).content.decode()
    jobs.run_bulk(change.pk)
    assert client.get(url, headers=FRAGMENT | {"HX-Target": "live"}).status_code == 286
    assert set(change.rows.values_list("outcome", flat=True)) == {RowOutcome.DONE}


def test_staff_look_at_what_others_have_asked_for(
    events: list[Event], operator_by: By, staff: object, world: World
) -> None:
    change = bulk.plan(operator_by, bulk.BulkAction.ACKNOWLEDGE, [events[0].public_id])
    browser = Client()
    browser.force_login(world.user("admin"))
    page = browser.get(change.get_absolute_url()).content.decode()
    assert "Only operator can apply it." in page and 'value="apply"' not in page
    assert browser.post(change.get_absolute_url(), {"do": "apply"}).status_code == 403


@pytest.fixture
def operator_by(world: World) -> By:
    return By(world.user("operator"))
