"""Maintenance windows of instances and accounts: services, pages, HTTP API, administration."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, time, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from portal.choices import Origin
from portal.errors import Invalid, NotFound, NotPermitted
from portal.models import Account, AuditEntry, Instance, MaintenanceWindow
from portal.services import windows
from portal.services.tokens import create_token
from portal.windows import describe, spans
from tests.portal.world import World, make_instance

As = Callable[[str], Client]

NIGHT = ([1, 3], time(2), time(4), "Europe/Berlin")
WEEKEND = ([5], time(23), time(3), "America/New_York")
NIGHT_WORDS, WEEKEND_WORDS = "Tue, Thu 02:00–04:00 Europe/Berlin", "Sat 23:00–03:00 America/New_York"


def data(days: Iterable[int], starts: str, ends: str, zone: str) -> dict[str, Any]:
    return {"days": [str(day) for day in days], "starts": starts, "ends": ends, "time_zone": zone}


NIGHT_DATA = data([1, 3], "02:00", "04:00", "Europe/Berlin")


# --- services -----------------------------------------------------------------------------------------------------------------


def test_own_before_general_before_none(
    world: World, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    plain = make_instance(world.account, "plain")
    everything = [world.instance, plain, world.other_instance]
    assert windows.windows_for(everything) == {}
    windows.set_window(world.user("owner"), world.account, *NIGHT)
    windows.set_window(world.user("operator"), world.instance, *WEEKEND)
    with django_assert_num_queries(1):
        found = windows.windows_for(everything)
    assert {pk: describe(one) for pk, one in found.items()} == {
        world.instance.pk: WEEKEND_WORDS,
        plain.pk: NIGHT_WORDS,
    }
    assert windows.window_for(plain) == found[plain.pk]
    assert windows.window_for(world.other_instance) is None
    windows.clear_window(world.user("operator"), world.instance)
    windows.clear_window(world.user("owner"), world.account)
    windows.clear_window(world.user("owner"), world.account)  # there is none any more
    assert windows.windows_for(everything) == {}
    assert [
        (entry.action, entry.object_name, entry.details) for entry in AuditEntry.objects.order_by("pk")
    ] == [
        ("account.window_set", "Payments", {"old": "", "new": NIGHT_WORDS}),
        ("instance.window_set", "sessions", {"old": "", "new": WEEKEND_WORDS}),
        ("instance.window_cleared", "sessions", {"old": WEEKEND_WORDS, "new": ""}),
        ("account.window_cleared", "Payments", {"old": NIGHT_WORDS, "new": ""}),
    ]


def test_changed_and_saved_again(world: World) -> None:
    first = windows.set_window(None, world.instance, *NIGHT)
    again = windows.set_window(None, world.instance, *NIGHT)
    assert again == first and AuditEntry.objects.count() == 1
    changed = windows.set_window(None, world.instance, *WEEKEND)
    assert changed == first and MaintenanceWindow.objects.count() == 1
    assert AuditEntry.objects.latest("pk").details == {"old": NIGHT_WORDS, "new": WEEKEND_WORDS}
    stored = MaintenanceWindow.objects.get()
    assert stored.days == {5} and (stored.starts, stored.ends, stored.time_zone) == WEEKEND[1:]


@pytest.mark.parametrize(
    ("changed", "id", "field"),
    [
        ({"days": []}, "window.no_day", "days"),
        ({"days": [0, 7]}, "window.bad_day", "days"),
        ({"days": [-1]}, "window.bad_day", "days"),
        ({"ends": time(2)}, "window.no_length", "ends"),
        ({"starts": time(2, 0, 1)}, "window.bad_time", "starts"),
        ({"ends": time(4, tzinfo=UTC)}, "window.bad_time", "ends"),
        ({"time_zone": ""}, "window.bad_zone", "time_zone"),
        ({"time_zone": "Nowhere/Land"}, "window.bad_zone", "time_zone"),
        ({"time_zone": "localtime"}, "window.bad_zone", "time_zone"),
    ],
)
@pytest.mark.parametrize("owner", ["instance", "account"])
def test_what_is_refused(world: World, owner: str, changed: dict[str, Any], id: str, field: str) -> None:
    values: dict[str, Any] = dict(zip(("days", "starts", "ends", "time_zone"), NIGHT, strict=True))
    with pytest.raises(Invalid) as refused:
        windows.set_window(world.user("owner"), getattr(world, owner), **(values | changed))
    assert (refused.value.id, refused.value.field) == (id, field)
    assert "Nothing was saved." in str(refused.value)
    assert not MaintenanceWindow.objects.exists() and not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    ("role", "of_instance", "of_account"),
    [
        ("outsider", NotFound, NotFound),
        ("viewer", NotPermitted, NotPermitted),
        ("operator", None, NotPermitted),
        ("owner", None, None),
    ],
)
def test_who_may(
    world: World, role: str, of_instance: type[Exception] | None, of_account: type[Exception] | None
) -> None:
    owners: list[tuple[Instance | Account, type[Exception] | None]] = [
        (world.instance, of_instance),
        (world.account, of_account),
    ]
    for owner, refusal in owners:
        windows.set_window(None, owner, *NIGHT)
        if refusal is None:
            windows.set_window(world.user(role), owner, *WEEKEND)
            windows.clear_window(world.user(role), owner)
            assert windows.row_of(owner) is None
            continue
        with pytest.raises(refusal):
            windows.set_window(world.user(role), owner, *WEEKEND)
        with pytest.raises(refusal):
            windows.clear_window(world.user(role), owner)
        assert str(windows.row_of(owner)) == NIGHT_WORDS


def test_an_instance_that_is_gone(world: World) -> None:
    gone = world.instance
    windows.set_window(None, gone, *NIGHT)
    Instance.objects.get(pk=gone.pk).delete()
    assert not MaintenanceWindow.objects.exists()
    with pytest.raises(NotFound, match="deleted meanwhile"):
        windows.set_window(None, gone, *NIGHT)


@pytest.mark.parametrize(
    "broken",
    [
        {"account": None},
        {"instance": True},
        {"day_bits": 0},
        {"day_bits": 128},
        {"ends": time(2)},
    ],
)
def test_the_database_holds_it_too(world: World, broken: dict[str, Any]) -> None:
    values: dict[str, Any] = {"account": world.account, "day_bits": 1, "starts": time(2), "ends": time(4)}
    if "instance" in broken:
        broken = {"instance": world.instance}
    with pytest.raises(IntegrityError), transaction.atomic():
        MaintenanceWindow.objects.create(**(values | broken), time_zone="UTC")
    MaintenanceWindow.objects.create(**values, time_zone="UTC")
    with pytest.raises(IntegrityError), transaction.atomic():
        MaintenanceWindow.objects.create(**values, time_zone="UTC")


# --- pages --------------------------------------------------------------------------------------------------------------------


def page_of(client: Client, thing: Instance | Account) -> str:
    response = client.get(thing.get_absolute_url())
    assert response.status_code == 200
    html = response.content.decode()
    return html[html.index('id="maintenance-window"') :].split("</section>")[0]


def test_the_card_says_where_a_window_comes_from(world: World, as_role: As) -> None:
    viewer, operator, owner = as_role("viewer"), as_role("operator"), as_role("owner")
    assert "neither of the instance nor of its account" in page_of(viewer, world.instance)
    assert "no general maintenance window" in page_of(viewer, world.account)
    windows.set_window(None, world.account, *NIGHT)
    card = page_of(operator, world.instance)
    assert NIGHT_WORDS in card and "general one" in card and "Set its own" in card
    assert NIGHT_WORDS in page_of(viewer, world.account)
    windows.set_window(None, world.instance, *WEEKEND)
    card = page_of(operator, world.instance)
    assert WEEKEND_WORDS in card and "its own" in card and NIGHT_WORDS not in card
    assert "1 has one" in page_of(owner, world.account)
    # Who may not change it is not led there.
    assert reverse("instance_window", args=[world.instance.public_id]) not in page_of(viewer, world.instance)
    link = reverse("account_window", args=[world.account.public_id])
    assert link in page_of(owner, world.account) and link not in page_of(operator, world.account)


def test_the_next_three_in_the_readers_zone_and_utc(world: World, as_role: As) -> None:
    windows.set_window(None, world.instance, range(7), time(2), time(4), "Asia/Kathmandu")
    client = as_role("viewer")
    client.post("/profile/", {"time_zone": "America/New_York", "theme": "auto"})
    row = windows.row_of(world.instance)
    assert row is not None
    card = page_of(client, world.instance)
    upcoming = spans(row.window, timezone.now())
    for span in (next(upcoming), next(upcoming), next(upcoming)):
        for moment in (span.begins, span.ends):
            assert f'datetime="{moment.isoformat(timespec="seconds")}"' in card
    assert ">UTC<" in card and (">EDT<" in card or ">EST<" in card)
    assert card.count("<time ") == 6


def test_a_window_that_is_open_says_so(world: World, as_role: As) -> None:
    now = timezone.now()
    begin, end = ((now + timedelta(hours=hours)).replace(second=0, microsecond=0).time() for hours in (-2, 2))
    windows.set_window(None, world.instance, range(7), begin, end, "UTC")
    assert "Now, since" in page_of(as_role("viewer"), world.instance)


def test_a_side_of_a_task_has_none(world: World, as_role: As) -> None:
    windows.set_window(None, world.account, *NIGHT)
    side = make_instance(world.account, "theirs", origin=Origin.SELF_HOSTED)
    client = as_role("operator")
    assert "maintenance-window" not in client.get(side.get_absolute_url()).content.decode()
    assert client.get(reverse("instance_window", args=[side.public_id])).status_code == 404


def test_set_changed_and_removed_in_the_browser(world: World, as_role: As) -> None:
    client = as_role("operator")
    url = reverse("instance_window", args=[world.instance.public_id])
    windows.set_window(None, world.account, *WEEKEND)
    page = client.get(url)
    # It begins with what applies, and says whose that is.
    assert page.context["form"]["time_zone"].value() == "America/New_York"
    assert WEEKEND_WORDS in page.content.decode() and 'name="remove"' not in page.content.decode()
    saved = client.post(url, NIGHT_DATA | {"time_zone": "europe/BERLIN"}, follow=True)
    assert saved.redirect_chain == [(world.instance.get_absolute_url(), 302)]
    assert f"The maintenance window was saved: {NIGHT_WORDS}." in saved.content.decode()
    page = client.get(url)
    html = page.content.decode()
    assert 'name="remove"' in html and 'value="02:00"' in html
    assert page.context["form"]["days"].value() == [1, 3] and html.count(" checked") == 2
    removed = client.post(url, {"remove": "1"}, follow=True)
    assert "The maintenance window was removed." in removed.content.decode()
    assert windows.rows_for([world.instance])[world.instance.pk].is_general


def test_of_the_account_in_the_browser(world: World, as_role: As) -> None:
    client = as_role("owner")
    url = reverse("account_window", args=[world.account.public_id])
    client.post("/profile/", {"time_zone": "Asia/Kathmandu", "theme": "auto"})
    assert client.get(url).context["form"]["time_zone"].value() == "Asia/Kathmandu"
    client.post(url, NIGHT_DATA)
    assert str(windows.row_of(world.account)) == NIGHT_WORDS
    assert NIGHT_WORDS in client.get(url).content.decode()
    client.post(url, {"remove": "1"})
    assert windows.row_of(world.account) is None


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"days": []}, "days", "Choose at least one day"),
        ({"days": ["7"]}, "days", "not one of the available choices"),
        ({"ends": "02:00"}, "ends", "The window ends when it begins, at 02:00."),
        ({"starts": "2 o'clock"}, "starts", "hours and minutes, such as 02:00"),
        ({"starts": "24:00"}, "starts", "hours and minutes, such as 02:00"),
        ({"ends": ""}, "ends", "hours and minutes, such as 04:00"),
        ({"time_zone": "Nowhere/Land"}, "time_zone", "There is no time zone “Nowhere/Land”."),
        ({"time_zone": ""}, "time_zone", "Enter a time zone"),
    ],
)
def test_what_the_form_says(
    world: World, as_role: As, changed: dict[str, Any], field: str, words: str
) -> None:
    url = reverse("instance_window", args=[world.instance.public_id])
    page = as_role("operator").post(url, NIGHT_DATA | changed)
    assert page.status_code == 422
    assert words in " ".join(page.context["form"].errors[field])
    assert not MaintenanceWindow.objects.exists()
    if field == "days":
        assert 'href="#id_days_0"' in page.content.decode()


# --- HTTP API -----------------------------------------------------------------------------------------------------------------


def call(world: World, method: str, tail: str, body: dict[str, Any] | None = None) -> Any:
    _, token = create_token(world.user("operator"), "script", ["fleet:write"])
    return getattr(Client(), method)(
        f"/api/v1/instances/{world.instance.public_id}{tail}",
        data=json.dumps(body) if body else "",
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )


NIGHT_JSON = {"days": ["thu", "tue"], "from": "02:00", "to": "04:00", "time_zone": "Europe/Berlin"}
TAIL = "/maintenance-window"


def test_over_the_api(world: World) -> None:
    assert call(world, "get", "").json()["maintenance_window"] is None
    windows.set_window(None, world.account, *WEEKEND)
    weekend = {"days": ["sat"], "from": "23:00", "to": "03:00", "time_zone": "America/New_York"}
    assert call(world, "get", "").json()["maintenance_window"] == weekend | {"inherited": True}
    own = NIGHT_JSON | {"days": ["tue", "thu"], "inherited": False}
    answer = call(world, "put", TAIL, NIGHT_JSON)
    assert (answer.status_code, answer.json()) == (200, own)
    assert call(world, "get", "").json()["maintenance_window"] == own
    assert call(world, "delete", TAIL).status_code == 204
    assert call(world, "delete", TAIL).status_code == 204
    assert call(world, "get", "").json()["maintenance_window"] == weekend | {"inherited": True}


@pytest.mark.parametrize(
    ("changed", "id", "field"),
    [
        ({"days": []}, "window.no_day", "days"),
        ({"days": ["tuesday"]}, "input.invalid", "days.0"),
        ({"from": "2:00"}, "input.invalid", "from"),
        ({"to": "24:00"}, "input.invalid", "to"),
        ({"to": "04:00:30"}, "input.invalid", "to"),
        ({"to": "02:00"}, "window.no_length", "to"),
        ({"time_zone": "Nowhere/Land"}, "window.bad_zone", "time_zone"),
    ],
)
def test_what_the_api_refuses(world: World, changed: dict[str, Any], id: str, field: str) -> None:
    answer = call(world, "put", TAIL, NIGHT_JSON | changed)
    assert (answer.status_code, answer.json()["id"], answer.json()["field"]) == (422, id, field)
    assert not MaintenanceWindow.objects.exists()


def test_the_description_names_the_fields(world: World, as_role: As) -> None:
    schemas = as_role("viewer").get("/api/v1/openapi.json").json()["components"]["schemas"]
    assert set(schemas["WindowIn"]["properties"]) == {"days", "from", "to", "time_zone"}
    assert set(schemas["WindowOut"]["properties"]) == {"days", "from", "to", "time_zone", "inherited"}


# --- administration -----------------------------------------------------------------------------------------------------------


def test_staff_look_only(world: World, as_role: As) -> None:
    row = windows.set_window(None, world.instance, *NIGHT)
    client = as_role("admin")
    listed = client.get("/admin/portal/maintenancewindow/?q=sessions")
    assert listed.status_code == 200 and NIGHT_WORDS in listed.content.decode()
    assert client.get(f"/admin/portal/maintenancewindow/{row.pk}/change/").status_code == 200
    assert client.get("/admin/portal/maintenancewindow/add/").status_code == 403
    for what in ("change", "delete"):
        answer = client.post(f"/admin/portal/maintenancewindow/{row.pk}/{what}/", {"post": "yes"})
        assert answer.status_code == 403
    assert MaintenanceWindow.objects.get() == row
    assert as_role("owner").get("/admin/portal/maintenancewindow/").status_code == 302
