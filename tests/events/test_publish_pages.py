"""The pages on which staff publish events and look at campaigns."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from events.choices import EventStatus
from events.models import BulkChange, Campaign, Event, EventType
from portal.models import Account, Endpoint, Instance, UserProfile
from portal.services import windows
from tests.portal.world import World, make_instance

from .conftest import make_contact

URL = "/events/publish/"


@pytest.fixture
def client(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client


def text(response: Any) -> str:
    """Without tags, with single spaces."""
    body = re.sub(r"<(script|style|title)\b.*?</\1>", " ", response.content.decode(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def hidden(response: Any) -> dict[str, str]:
    """What the form of the preview sends along."""
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', response.content.decode())
    return {name: html.unescape(value) for name, value in found if name != "csrfmiddlewaretoken"}


def entered(code: str = "instance-migration", **values: str) -> dict[str, str]:
    kind = EventType.objects.get(code=code)
    first = {
        "type": code, "choose_by": "filter", "level": kind.level, "cause": kind.cause, "executor": "manual", "may_change": "on",
        "step": "preview", "everything": "on",
    }  # fmt: skip
    return first | values


def in_days(days: int) -> datetime:
    return timezone.now().replace(second=0, microsecond=0) + timedelta(days=days)


def every_day(account: Account) -> None:
    windows.set_window(None, account, range(7), time(2), time(4), "UTC")


def test_the_way_from_the_types_to_the_event(client: Client, instance: Instance) -> None:
    every_day(instance.account)
    make_contact(instance.account)
    types = client.get(URL)
    assert "Network upgrade" in text(types) and f"{URL}?type=instance-migration" in types.content.decode()

    form = client.get(f"{URL}?type=instance-migration&instance={instance.public_id}")
    assert "Clients that connect again at once go on where they stopped." in text(form)
    assert instance.public_id in form.content.decode()

    preview = client.post(URL, entered(choose_by="list", instances=instance.public_id))
    assert preview.status_code == 200 and not Event.objects.exists()
    shown = text(preview)
    assert "Publish 1 event?" in shown and "On call Mail at once" in shown and "no instance left out" in shown

    done = client.post(URL, hidden(preview) | {"step": "publish"})
    event = Event.objects.get()
    assert (done.status_code, done.headers["Location"]) == (302, event.get_absolute_url())
    assert event.switch_at is not None and f"{event.switch_at:%Y-%m-%d %H:%M}" in shown


def test_a_campaign_of_a_filter(client: Client, account: Account) -> None:
    every_day(account)
    for number in range(3):
        make_instance(account, f"old-{number}", version=f"6.2.{number + 12}", edition="redis")
    data = entered(
        "minor-version", version="6.2", version_to="6.2.14", campaign="Redis 6.2", description="Rack 4"
    )
    preview = client.post(URL, data)
    shown = text(preview)
    assert "Publish 2 events?" in shown and "1 instance left out" in shown
    assert "6.2.14 is not later" in shown and "no release notes" in shown
    assert "of 2 instances nobody" in shown

    done = client.post(URL, hidden(preview) | {"step": "publish"})
    campaign = Campaign.objects.get()
    assert done.headers["Location"] == campaign.get_absolute_url()
    assert (campaign.name, campaign.description, campaign.events.count()) == ("Redis 6.2", "Rack 4", 2)
    page = text(client.get(campaign.get_absolute_url()))
    assert (
        "a filter: 6.2" in page and "1 instance left out when it was published" in page and "Rack 4" in page
    )


def test_what_was_entered_comes_back_to_be_changed(client: Client, instance: Instance) -> None:
    data = entered(name="SESS", cause="The rack is “old” & hot.", switch_at=f"{in_days(5):%Y-%m-%dT%H:%M}")
    preview = client.post(URL, data)
    again = client.post(URL, hidden(preview) | {"step": "edit"})
    body = html.unescape(again.content.decode())
    assert again.status_code == 200 and 'value="SESS"' in body and "The rack is “old” & hot." in body
    assert data["switch_at"] in body
    assert not Event.objects.exists()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"switch_at": "2020-01-01T02:00"}, "left out"),
        ({"everything": ""}, "Choose a condition above, or tick this if all instances are meant."),
        ({"choose_by": "list"}, "Enter the ID of at least one instance."),
        ({"choose_by": "list", "instances": "r-nowhere1"}, "There is no instance r-nowhere1."),
        ({"region": "nowhere"}, "Select a valid choice"),
        ({"name": "nothing like that"}, "none fits the filter"),
        ({"stagger": "10"}, "none is given"),
        ({"stagger": "100000"}, "less than or equal"),
        ({"cause": " "}, "This field is required"),
        ({"switch_at": "soon"}, "2026-03-01 02:00"),
    ],
)
def test_refusals(client: Client, instance: Instance, values: dict[str, str], sentence: str) -> None:
    response = client.post(URL, entered(**values))
    assert response.status_code in (200, 422) and sentence in text(response)
    assert not Event.objects.exists()


def test_what_is_refused_at_the_press_of_the_button(client: Client, instance: Instance) -> None:
    every_day(instance.account)
    preview = client.post(URL, entered(name="sessions"))
    windows.set_window(None, instance, [0], time(5), time(6), "UTC")
    late = client.post(URL, hidden(preview) | {"step": "publish"})
    assert late.status_code == 409 and "Something has changed since the preview." in text(late)
    assert not Event.objects.exists()
    assert client.post(URL, hidden(late) | {"step": "publish"}).status_code == 302
    assert Event.objects.count() == 1


def test_a_type_that_is_not_there(client: Client) -> None:
    assert client.get(f"{URL}?type=nothing").status_code == 404


def test_thousands_in_pages(client: Client, account: Account) -> None:
    made = Instance.objects.bulk_create(
        Instance(account=account, name=f"many-{number:03}", region="eu-west", version="7.2.4")
        for number in range(120)
    )
    Endpoint.objects.bulk_create(Endpoint(instance=one, host=f"{one.name}.internal") for one in made)
    every_day(account)
    Instance.objects.filter(name="many-007").update(version="9.9")
    first = client.post(URL, entered("minor-version", region="eu-west", version_to="7.2.5"))
    assert "1–50 of 120 instances" in text(first) and "many-049" in text(first)
    second = client.post(URL, hidden(first) | {"page": "2"})
    assert "51–100 of 120 instances" in text(second) and "many-050" in text(second)
    left_out = client.post(URL, hidden(first) | {"show": "refused"})
    assert "many-007" in text(left_out) and "many-008" not in text(left_out)
    warned = client.post(f"{URL}?show=warned", hidden(first) | {"page": "3"})
    assert "101–119 of 119 instances" in text(warned)


def test_urgent_and_simulated_are_said(client: Client, instance: Instance) -> None:
    shown = text(client.post(URL, entered("vulnerability-fix", executor="simulated")))
    assert "Urgent (S0)." in shown and "Simulated. Nothing is really done" in shown


def test_times_are_the_readers(client: Client, staff: User, instance: Instance) -> None:
    UserProfile.objects.create(user=staff, time_zone="Asia/Tokyo")
    day = in_days(6).date()
    preview = client.post(URL, entered(switch_at=f"{day}T02:00", name="sessions"))
    client.post(URL, hidden(preview) | {"step": "publish"})
    at = Event.objects.get().switch_at
    assert at == datetime(day.year, day.month, day.day, 2, tzinfo=UTC) - timedelta(hours=9)


class TestCampaigns:
    def test_progress_and_filters(self, client: Client, account: Account) -> None:
        every_day(account)
        for name in ("a", "b", "c"):
            make_instance(account, name)
        client.post(URL, entered(campaign="Rack 4", step="publish", region="eu-central"))
        campaign = Campaign.objects.get()
        Event.objects.filter(instance_name="a").update(status=EventStatus.SUCCEEDED, measured_seconds=12.0)
        page = client.get(campaign.get_absolute_url())
        assert "1 ended" in text(page) and "impact 12 s" in text(page)
        assert Event.objects.get(instance_name="b").get_absolute_url() in page.content.decode()
        few = text(client.get(f"{campaign.get_absolute_url()}?status=succeeded"))
        assert "1–1 of 1 events" in few
        listed = text(client.get("/events/campaigns/"))
        assert "Rack 4" in listed and "Succeeded 1" in listed and "by staff" in listed

    def test_all_that_are_open_are_changed_over_a_preview(self, client: Client, account: Account) -> None:
        every_day(account)
        for name in ("a", "b", "c"):
            make_instance(account, name)
        client.post(URL, entered(step="publish", region="eu-central", name="a"))
        client.post(URL, entered(step="publish", region="eu-central", name="b"))
        campaign = Campaign.objects.latest("pk")
        count = campaign.events.count()
        page = client.get(campaign.get_absolute_url())
        assert f"Preview for {count} open event" in text(page)
        assert "Reschedule, staggered by minutes" in text(page)
        sent = hidden(page) | {"action": "cancel"}
        asked = client.post("/events/bulk/", sent)
        assert "reason" in text(asked).lower()
        plan = client.post("/events/bulk/", sent | {"planned": "1", "reason": "The rack stays."})
        change = BulkChange.objects.get()
        assert plan.headers["Location"] == change.get_absolute_url()
        assert {row.event.campaign for row in change.rows.all()} == {campaign} and change.total == count

    def test_a_constant_number_of_queries(
        self, client: Client, account: Account, django_assert_max_num_queries: Any
    ) -> None:
        every_day(account)
        for number in range(20):
            make_instance(account, f"i{number}")
        client.post(URL, entered(step="publish"))
        with django_assert_max_num_queries(25):
            client.get(Campaign.objects.get().get_absolute_url())

    def test_buttons_are_there_for_those_who_may(self, client: Client, world: World) -> None:
        assert URL in client.get("/events/").content.decode()
        other = Client()
        other.force_login(world.user("owner"))
        assert URL not in other.get("/events/").content.decode()
