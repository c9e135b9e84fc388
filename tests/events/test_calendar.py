"""The calendar of the month: by the reader's clock, with what may be seen, in a constant number of queries."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events import month
from events.choices import EventStatus
from events.models import Blackout, Event
from portal.models import Account, Instance, UserProfile
from tests.portal.world import World

from .conftest import make_event

PATH = "/events/calendar/"


@pytest.fixture
def browser(operator: User) -> Client:
    UserProfile.objects.create(user=operator, time_zone="Europe/Berlin")
    client = Client()
    client.force_login(operator)
    return client


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def event_at(instance: Instance, text: str, **values: Any) -> Event:
    moment = at(text)
    return make_event(instance, switch_at=moment, deadline=moment + timedelta(days=1), **values)


def days_of(page: str) -> dict[str, str]:
    """The text of each day's cell."""
    cells = re.findall(r"<td class=.*?</td>", page, re.DOTALL)
    found = {}
    for cell in cells:
        day = re.search(r'<time datetime="(\d{4}-\d\d-\d\d)">', cell)
        assert day
        found[day[1]] = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", cell))
    return found


def page_of(browser: Client, query: str) -> str:
    response = browser.get(PATH + query)
    assert response.status_code == 200
    return response.content.decode()


def test_an_event_stands_on_the_day_of_the_readers_clock(browser: Client, instance: Instance) -> None:
    event = event_at(instance, "2026-03-11T23:30")  # half past midnight in Berlin
    page = page_of(browser, "?month=2026-03")

    days = days_of(page)
    assert "sessions" not in days["2026-03-11"]
    assert all(said in days["2026-03-12"] for said in ("00:30", "23:30 UTC", "sessions", "Pending", "S1"))
    assert f'href="/events/{event.public_id}/"' in page
    assert "March 2026" in page and "Europe/Berlin" in page


def test_weeks_begin_on_monday_and_are_whole(browser: Client) -> None:
    days = list(days_of(page_of(browser, "?month=2026-03")))
    assert (days[0], days[-1], len(days) % 7) == ("2026-02-23", "2026-04-05", 0)


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2026-03-28T22:59", "2026-03-28"),
        ("2026-03-28T23:00", "2026-03-29"),  # the day of 23 hours
        ("2026-03-29T21:59", "2026-03-29"),
        ("2026-03-29T22:00", "2026-03-30"),
        ("2026-10-24T22:00", "2026-10-25"),  # the day of 25 hours
        ("2026-10-25T22:59", "2026-10-25"),
        ("2026-10-25T23:00", "2026-10-26"),
    ],
)
def test_the_days_on_which_the_clock_is_set(
    moment: str, day: str, instance: Instance, operator: User
) -> None:
    event = event_at(instance, moment)
    with timezone.override(ZoneInfo("Europe/Berlin")):
        found = month.whole_day(operator, date.fromisoformat(day), date(2026, 1, 1))
    assert [entry.event for entry in found.entries] == [event]


def test_one_that_waits_for_a_time_stands_at_the_latest(browser: Client, instance: Instance) -> None:
    make_event(instance, switch_at=None, deadline=at("2026-03-20T10:00"))
    day = days_of(page_of(browser, "?month=2026-03"))["2026-03-20"]
    assert "Waiting for a time" in day and "(deadline)" in day


def test_simulated_cancelled_and_urgent_ones_say_so(browser: Client, instance: Instance) -> None:
    event_at(instance, "2026-03-10T10:00", executor="simulated", level="S0", status=EventStatus.CANCELLED)
    day = days_of(page_of(browser, "?month=2026-03"))["2026-03-10"]
    assert "simulated" in day and "Cancelled" in day and "S0 · Risk fix" in day


def test_events_of_others_are_not_there(browser: Client, world: World) -> None:
    event_at(world.other_instance, "2026-03-10T10:00")
    assert "search-index" not in page_of(browser, "?month=2026-03")
    assert "Nothing is planned in March 2026" in page_of(browser, "?month=2026-03")


def test_blackouts_of_all_and_of_ones_own(browser: Client, account: Account, world: World) -> None:
    span = {"starts_at": at("2026-03-10T00:00"), "ends_at": at("2026-03-11T23:00")}
    Blackout.objects.create(reason="stocktaking", region="eu-central", account=account, **span)
    Blackout.objects.create(reason="secret plans", account=world.other_account, **span)
    days = days_of(page_of(browser, "?month=2026-03"))
    touched = [day for day, text in days.items() if "stocktaking" in text]
    assert touched == ["2026-03-10", "2026-03-11"]  # it ends as the 12th begins in Berlin
    assert "eu-central" in days["2026-03-10"] and "Payments" in days["2026-03-10"]
    assert "from 01:00" in days["2026-03-10"] and "all day" in days["2026-03-11"]
    assert not any("secret plans" in text for text in days.values())


def test_a_full_day_leads_to_its_own_page(browser: Client, instance: Instance) -> None:
    for minute in range(7):
        event_at(instance, f"2026-03-10T10:0{minute}")
    page = page_of(browser, "?month=2026-03")
    assert days_of(page)["2026-03-10"].count("sessions") == month.PER_DAY
    assert 'href="?day=2026-03-10"' in page and "3 more" in page
    whole = page_of(browser, "?day=2026-03-10")
    assert whole.count("<strong>sessions</strong>") == 7
    assert "Tuesday, 10 March 2026" in whole and 'href="/events/calendar/?month=2026-03"' in whole
    assert "Nothing is planned on this day" in page_of(browser, "?day=2026-03-09")


def test_to_the_months_around_and_back(browser: Client) -> None:
    page = page_of(browser, "?month=2026-01")
    assert 'href="?month=2025-12"' in page and 'href="?month=2026-02"' in page
    assert 'href="?month=2101' not in page_of(browser, "?month=2100-12")


@pytest.mark.parametrize("query", ["", "?month=", "?month=2026-13", "?month=0000-01", "?month=nonsense", "?day=2026-02-30", "?month=٢٠٢٦-03"])  # fmt: skip
def test_anything_else_is_the_present_month(browser: Client, query: str) -> None:
    page = page_of(browser, query)
    today = datetime.now(ZoneInfo("Europe/Berlin")).date()
    assert f"<h1>{today:%B %Y}</h1>" in page
    assert 'aria-current="date"' in page


def test_queries_do_not_grow(browser: Client, instance: Instance, account: Account) -> None:
    page_of(browser, "")  # the first request of a session asks for the person's zone
    counts = []
    for number in range(3):
        for day in range(1, 28):
            for hour in range(number * 3):
                event_at(instance, f"2026-03-{day:02}T{hour + 8:02}:00")
            Blackout.objects.create(
                reason="quiet", account=account, starts_at=at(f"2026-03-{day:02}T00:00"), ends_at=at(f"2026-03-{day:02}T01:00")
            )  # fmt: skip
        with CaptureQueriesContext(connection) as queries:
            page_of(browser, "?month=2026-03")
        counts.append(len(queries))
    assert counts[1] == counts[2] and max(counts) <= 8, counts
