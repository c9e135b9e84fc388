"""After the login (R2): the banner, the count in the sidebar, and the dialog where a time is to be chosen."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events.services.attention import Needs, needs_of
from portal.models import Instance
from tests.portal.world import World

from .conftest import make_event

DIALOG = "<dialog"
BANNER = 'aria-label="Events that need attention"'


def text(response: Any) -> str:
    return " ".join(response.content.decode().split())


@pytest.fixture
def browser(operator: User) -> Client:
    client = Client()
    client.force_login(operator)
    return client


def test_what_counts(world: World, instance: Instance, operator: User, staff: User) -> None:
    now = timezone.now()
    assert needs_of(operator) == Needs()
    make_event(instance)
    make_event(instance, switch_at=None)
    make_event(instance, "vulnerability-fix", switch_at=now + timedelta(hours=23))
    make_event(instance, "vulnerability-fix", switch_at=now + timedelta(hours=25), acknowledged_at=now)
    make_event(instance, status="running", switch_at=now)
    make_event(world.other_instance, switch_at=None)
    assert needs_of(operator) == Needs(total=2, waiting=1, urgent=1, soon=1)
    assert needs_of(staff) == Needs(total=3, waiting=2, urgent=1, soon=1)


def test_nothing_is_said_where_nothing_is_to_be_done(browser: Client, instance: Instance) -> None:
    make_event(instance)
    found = text(browser.get("/"))
    assert BANNER not in found and DIALOG not in found and "nav-count" not in found


def test_the_banner_stands_on_every_page(browser: Client, instance: Instance) -> None:
    make_event(instance, switch_at=None)
    make_event(instance, "vulnerability-fix", switch_at=timezone.now() + timedelta(hours=3))
    for path in ("/", "/instances/", "/migrations/", "/audit/", "/events/"):
        found = text(browser.get(path))
        assert "2 events need attention" in found, path
        assert "1 waits for a time" in found and "1 urgent, not acknowledged" in found
        assert '<span class="nav-count">2<' in found


def test_the_dialog_comes_once_in_a_session(browser: Client, instance: Instance, operator: User) -> None:
    event = make_event(instance, switch_at=None)
    found = text(browser.get("/instances/"))
    assert DIALOG in found and f"/events/{event.public_id}/reschedule/" in found
    until = event.deadline - timedelta(days=1)  # then the system chooses
    assert f"choose by {until:%a} " in found and f"{until:%Y-%m-%d %H:%M}" in found
    page = text(browser.get(event.get_absolute_url()))
    assert f"Choose a time by {until:%a} " in page and f"{until:%Y-%m-%d %H:%M}" in page
    # It can be put away without scripts, and does not come back with the next click.
    assert '<form method="dialog"' in found
    assert DIALOG not in text(browser.get("/"))
    browser.logout()
    browser.force_login(operator)
    assert DIALOG in text(browser.get("/"))


def test_somebody_at_the_events_is_not_interrupted(browser: Client, instance: Instance) -> None:
    event = make_event(instance, switch_at=None)
    for path in ("/events/", event.get_absolute_url(), f"{event.get_absolute_url()}reschedule/"):
        assert DIALOG not in text(browser.get(path))
    # And has not been asked by that.
    assert DIALOG in text(browser.get("/"))


def test_who_may_not_choose_is_not_asked(world: World, instance: Instance) -> None:
    make_event(instance, switch_at=None)
    viewer = Client()
    viewer.force_login(world.user("viewer"))
    found = text(viewer.get("/"))
    assert BANNER in found and DIALOG not in found
    outsider = Client()
    outsider.force_login(world.user("outsider"))
    found = text(outsider.get("/"))
    assert BANNER not in found and DIALOG not in found


def test_nobody_is_asked_before_the_login(instance: Instance) -> None:
    make_event(instance, switch_at=None)
    found = text(Client().get("/login/"))
    assert BANNER not in found and DIALOG not in found


def test_one_query_for_a_page_and_none_for_a_fragment(browser: Client, instance: Instance) -> None:
    def asked(**options: Any) -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            assert browser.get("/instances/", **options).status_code == 200
        return [one["sql"] for one in captured if "events_event" in one["sql"]]

    for _ in range(30):
        make_event(instance, switch_at=None)
    assert len(asked()) == 2  # with the dialog
    assert len(asked()) == 1
    assert asked(headers={"HX-Request": "true"}) == []
