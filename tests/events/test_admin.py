"""The administration of the events: look-only lists, what staff set, and actions of many events that lead to a preview."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from events.choices import BulkAction, BulkStatus, EventStatus, Via
from events.models import Blackout, BulkChange, CalendarFeed, Event, EventType, RegionLimit
from events.services import bulk, bulk_running, feeds
from portal.models import AuditEntry, Instance
from tests.portal.world import World, make_user
from tests.support.bulk_events import many_events

from .conftest import make_event, make_staff

EVENTS = "/admin/events/event/"
LISTS = (
    "event",
    "campaign",
    "eventrun",
    "eventstage",
    "occasion",
    "bulkchange",
    "linkuse",
    "calendarfeed",
    "eventtype",
    "blackout",
    "regionlimit",
)
LOOK_ONLY = LISTS[:8]


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def admin(world: World) -> Client:
    return browser(world.user("admin"))


@pytest.fixture
def planner(db: None) -> Client:
    """Staff who may look at events, change and publish them, and nothing else."""
    return browser(make_staff("planner"))


def in_field(days: float) -> str:
    return (timezone.now() + timedelta(days=days)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M")


# --- Looking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", LISTS)
def test_lists_open_for_staff_alone(model: str, admin: Client, world: World, event: Event) -> None:
    assert admin.get(f"/admin/events/{model}/?q=x").status_code == 200
    assert browser(world.user("owner")).get(f"/admin/events/{model}/").status_code == 302


@pytest.mark.parametrize("model", LOOK_ONLY)
def test_what_was_written_is_not_edited(model: str, admin: Client, event: Event) -> None:
    assert admin.get(f"/admin/events/{model}/add/").status_code == 403
    assert admin.post(f"/admin/events/event/{event.pk}/delete/", {"post": "yes"}).status_code == 403
    admin.post(f"/admin/events/event/{event.pk}/change/", {"status": "cancelled"})
    event.refresh_from_db()
    assert event.status == EventStatus.PENDING
    assert "delete_selected" not in admin.get(f"/admin/events/{model}/").content.decode()


def test_each_page_says_in_which_zone_its_times_are(admin: Client, event: Event) -> None:
    admin.post("/profile/", {"time_zone": "Asia/Tokyo", "theme": "auto"})
    page = admin.get(EVENTS).content.decode()
    assert "Times: Asia/Tokyo" in page
    tokyo = event.deadline.astimezone(ZoneInfo("Asia/Tokyo"))
    assert f"{tokyo:%Y-%m-%d}</span> {tokyo:%H:%M}" in page


def test_an_event_is_found_and_looked_at(admin: Client, event: Event) -> None:
    page = admin.get(f"{EVENTS}?q={event.public_id}&status__exact=pending").content.decode()
    assert event.public_id in page and "Pending" in page
    assert admin.get(f"{EVENTS}{event.pk}/change/").status_code == 200


def test_the_list_shows_what_cannot_wait_before_the_rest(admin: Client, event: Event) -> None:
    Event.objects.filter(pk=event.pk).update(switch_at=None, status=EventStatus.WAITING)
    page = admin.get(EVENTS).content.decode()
    columns = (
        "public_id",
        "shown_level",
        "shown_type",
        "shown_instance",
        "shown_switch",
        "shown_deadline",
        "shown_status",
        "account",
    )
    places = [page.index(f"column-{name}") for name in columns]
    assert places == sorted(places) and "none yet" in page
    for number in range(1, 8):
        assert admin.get(f"{EVENTS}?o={number}.-{number + 1}").status_code == 200


def test_the_digest_of_a_feed_is_not_shown(admin: Client, operator: User) -> None:
    feeds.create_feed(operator, "phone")
    feed = CalendarFeed.objects.get()
    for path in ("", f"{feed.pk}/change/"):
        page = admin.get(f"/admin/events/calendarfeed/{path}").content.decode()
        assert "phone" in page and feed.digest not in page and "igest" not in page


# --- Actions of many events -------------------------------------------------------------------------------------------


def test_a_time_is_asked_for_and_the_preview_follows(planner: Client, instance: Instance) -> None:
    events = [make_event(instance) for _ in range(3)]
    chosen = {"action": "to_time", "_selected_action": [event.pk for event in events[:2]]}
    asked = planner.post(EVENTS, chosen)
    html = asked.content.decode()
    assert asked.status_code == 200 and "2 events." in html
    assert html.count('name="_selected_action"') == 2 and 'type="datetime-local"' in html

    sent = chosen | {"planned": "1"}
    assert "Please correct" in planner.post(EVENTS, sent | {"at": ""}).content.decode()
    assert "has passed" in planner.post(EVENTS, sent | {"at": in_field(-1)}).content.decode()
    answer = planner.post(EVENTS, sent | {"at": in_field(5)})
    change = BulkChange.objects.get()
    assert answer.headers["Location"] == change.get_absolute_url()
    assert (change.via, change.action, change.total) == (Via.ADMIN, BulkAction.TO_TIME, 2)

    done = planner.post(change.get_absolute_url(), {"do": "apply"}, follow=True).content.decode()
    assert "Undo for 2 events" in done
    assert set(Event.objects.filter(revision=1)) == set(events[:2])
    entry = AuditEntry.objects.filter(action="event.rescheduled").latest("pk")
    assert entry.actor_name == "planner" and entry.details["via"] == "the administration"


@pytest.mark.parametrize(
    ("action", "data", "expected"),
    [
        ("stagger", {"at": 5, "minutes": "5", "order": "name"}, BulkAction.STAGGER),
        ("cancel_many", {"reason": "Not needed."}, BulkAction.CANCEL),
        ("acknowledge_many", {}, BulkAction.ACKNOWLEDGE),
        ("to_window", {}, BulkAction.TO_WINDOW),
    ],
)
def test_each_action(
    planner: Client, instance: Instance, action: str, data: dict[str, Any], expected: BulkAction
) -> None:
    events = [make_event(instance) for _ in range(2)]
    if "at" in data:
        data = data | {"at": in_field(data["at"])}
    sent = {"action": action, "_selected_action": [event.pk for event in events], "planned": "1"} | data
    answer = planner.post(EVENTS, sent)
    change = BulkChange.objects.get()
    assert answer.headers["Location"] == change.get_absolute_url()
    assert (change.action, change.total, change.status) == (expected, 2, BulkStatus.PLANNED)


def test_the_whole_list_is_chosen_without_a_field_for_each(
    planner: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a form may have fields, filtered, and carried out by the job."""
    monkeypatch.setattr(bulk, "SMALL", 100)
    many_events(world.account, 1200)
    others = [make_event(world.other_instance, region="us-west") for _ in range(2)]
    url = f"{EVENTS}?region=eu-central"
    chosen = {"action": "to_time", "select_across": "1", "_selected_action": [Event.objects.first().pk]}
    html = planner.post(url, chosen).content.decode()
    assert "1,200 events." in html and 'name="select_across" value="1"' in html
    assert html.count("_selected_action") == 1
    planner.post(url, chosen | {"planned": "1", "at": in_field(5)})
    change = BulkChange.objects.get()
    assert (change.total, change.status) == (1200, BulkStatus.PLANNING)
    assert bulk_running.run(change.pk) == "done"
    planner.post(change.get_absolute_url(), {"do": "apply"})
    assert bulk_running.run(change.pk) == "done"
    assert Event.objects.filter(revision=1).count() == 1200
    for event in others:
        event.refresh_from_db()
        assert event.revision == 0


def test_who_may_only_look_has_no_actions(world: World, event: Event) -> None:
    user = make_user("watcher", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_event"))
    client = browser(user)
    page = client.get(EVENTS)
    assert page.status_code == 200 and "to_window" not in page.content.decode()
    client.post(EVENTS, {"action": "to_window", "_selected_action": [event.pk]})
    client.post(EVENTS, {"action": "acknowledge_many", "_selected_action": [event.pk]})
    assert not BulkChange.objects.exists()


# --- What staff set ---------------------------------------------------------------------------------------------------


def type_data(row: EventType, **changes: Any) -> dict[str, Any]:
    names = [
        "name",
        "level",
        "cause",
        "impacts",
        "advice",
        "notice_hours",
        "preparation_seconds",
        "switch_seconds",
        "impact_seconds",
        "open_days",
        "max_deferrals",
        "max_deferral_days",
        "executor",
    ]
    data = {name: getattr(row, name) for name in names}
    data["impacts"] = '[{"kind": "transient", "text": "Connections are closed once."}]'
    flags = ("has_switchover", "needs_proxy", "shows_versions", "may_change", "may_cancel", "is_active")
    data |= {name: "on" for name in flags if getattr(row, name)}
    return {name: "" if value is None else value for name, value in (data | changes).items()}


def test_a_type_that_staff_change_is_theirs(admin: Client) -> None:
    row = EventType.objects.get(code="switchover")
    url = f"/admin/events/eventtype/{row.pk}/change/"
    assert admin.post(url, type_data(row, name="Failover", code="other", max_deferrals=2)).status_code == 302
    row.refresh_from_db()
    assert (row.name, row.code, row.max_deferrals, row.is_customised) == ("Failover", "switchover", 2, True)
    entry = AuditEntry.objects.get(action="event_type.changed")
    assert entry.details["changed"] == ["impacts", "max_deferrals", "name"]

    from events import catalogue

    catalogue.load()
    row.refresh_from_db()
    assert row.name == "Failover"


@pytest.mark.parametrize(
    "impacts",
    [
        "{}",
        '["transient"]',
        '[{"kind": "transient"}]',
        '[{"kind": "loud", "text": "x"}]',
        '[{"kind": "transient", "text": " "}]',
        '[{"kind": "transient", "text": 3}]',
        '[{"kind": ["transient"], "text": "x"}]',
        '[{"kind": "transient", "text": "x", "more": 1}]',
        "not JSON",
    ],
)
def test_impacts_that_no_page_could_show(admin: Client, impacts: str) -> None:
    row = EventType.objects.get(code="switchover")
    answer = admin.post(f"/admin/events/eventtype/{row.pk}/change/", type_data(row, impacts=impacts))
    assert answer.status_code == 200 and "errorlist" in answer.content.decode()
    row.refresh_from_db()
    assert not row.is_customised


def test_a_type_of_ones_own_is_added_and_never_deleted(admin: Client) -> None:
    row = EventType.objects.get(code="switchover")
    data = type_data(row, name="Rack move", code="rack-move")
    assert admin.post("/admin/events/eventtype/add/", data).status_code == 302
    made = EventType.objects.get(code="rack-move")
    assert made.is_customised and AuditEntry.objects.filter(action="event_type.created").count() == 1
    assert admin.post(f"/admin/events/eventtype/{made.pk}/delete/", {"post": "yes"}).status_code == 403


def test_blackouts_are_set_with_an_entry_in_the_audit(admin: Client, world: World) -> None:
    data = {
        "account": world.account.pk,
        "region": "eu-central",
        "reason": "Sale",
        "starts_at_0": "2030-01-01",
        "starts_at_1": "00:00",
        "ends_at_0": "2030-01-02",
        "ends_at_1": "00:00",
    }
    backwards = data | {"ends_at_0": "2029-01-01"}
    refused = admin.post("/admin/events/blackout/add/", backwards)
    assert refused.status_code == 200
    found = refused.content.decode()
    assert (
        "before it has begun. Nothing was saved. Enter a later end." in found
        and "blackout_ends_later" not in found
    )
    assert admin.post("/admin/events/blackout/add/", data).status_code == 302
    row = Blackout.objects.get()
    url = f"/admin/events/blackout/{row.pk}/"
    assert admin.post(f"{url}change/", data | {"reason": "Winter sale"}).status_code == 302
    assert admin.post(f"{url}delete/", {"post": "yes"}).status_code == 302
    actions = list(AuditEntry.objects.order_by("pk").values_list("action", flat=True))
    assert actions == ["blackout.created", "blackout.changed", "blackout.deleted"]


def test_limits_are_set_with_an_entry_in_the_audit(admin: Client) -> None:
    for region, most in (("", "5"), ("eu-central", "2")):
        assert (
            admin.post("/admin/events/regionlimit/add/", {"region": region, "most": most}).status_code == 302
        )
    assert admin.post("/admin/events/regionlimit/add/", {"region": "", "most": "9"}).status_code == 200
    keys = list(RegionLimit.objects.values_list("pk", flat=True))
    data = {"action": "delete_selected", "_selected_action": keys, "post": "yes"}
    admin.post("/admin/events/regionlimit/", data)
    assert not RegionLimit.objects.exists()
    assert AuditEntry.objects.filter(action="limit.created").count() == 2
    assert AuditEntry.objects.filter(action="limit.deleted").count() == 2


def test_without_the_permission_to_publish_nothing_is_set(world: World) -> None:
    user = make_user("clerk", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="events", content_type__model="blackout")
    )
    client = browser(user)
    assert client.get("/admin/events/blackout/").status_code == 200
    assert client.get("/admin/events/blackout/add/").status_code == 403
