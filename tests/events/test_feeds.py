"""Calendar feeds: a secret address, worth what its person may see at that moment."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import icalendar
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from events.choices import EventStatus
from events.models import CalendarFeed, Event
from events.services import feeds
from portal.errors import Conflict, Invalid, NotFound, NotPermitted
from portal.models import Account, AuditEntry, Instance, Membership
from tests.portal.world import World

from .conftest import make_event


def read(text: str, **headers: str) -> Any:
    return Client().get(reverse("event_feed", args=[text]), headers=headers)


def names(response: Any) -> set[str]:
    """Of the events in the calendar. Long lines are folded (RFC 5545)."""
    unfolded = response.content.decode().replace("\r\n ", "")
    return set(re.findall(r"^UID:(ev-\w+)", unfolded, re.MULTILINE))


def test_the_secret_is_stored_as_a_digest_alone(operator: User, account: Account) -> None:
    feed, text = feeds.create_feed(operator, "phone", account=account)

    assert len(text) == 32 and text not in str(CalendarFeed.objects.filter(pk=feed.pk).values().get())
    assert feeds.feed_of(text) == feed
    entry = AuditEntry.objects.get(action="feed.created")
    assert entry.account == account and text not in str(entry.details)


def test_the_calendar_has_what_the_person_sees(event: Event, operator: User, world: World) -> None:
    other = make_event(world.other_instance)
    _, text = feeds.create_feed(operator, "phone")

    response = read(text)

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/calendar; charset=utf-8"
    assert response.headers["Cache-Control"] == "private, max-age=300"
    assert names(response) == {event.public_id}
    Membership.objects.create(account=world.other_account, user=operator)
    assert names(read(text)) == {event.public_id, other.public_id}


def test_a_calendar_of_one_account(event: Event, operator: User, account: Account, world: World) -> None:
    Membership.objects.create(account=world.other_account, user=operator)
    make_event(world.other_instance)
    _, text = feeds.create_feed(operator, "phone", account=account)
    assert names(read(text)) == {event.public_id}


def test_who_has_left_the_account_sees_nothing_of_it(
    event: Event, operator: User, account: Account, world: World
) -> None:
    texts = [feeds.create_feed(operator, "phone", account=one)[1] for one in (account, None)]
    Membership.objects.filter(user=operator).delete()
    # An empty calendar, so that programs take out what they have shown.
    assert [(read(text).status_code, names(read(text))) for text in texts] == [(200, set())] * 2
    assert all(event.instance_name not in read(text).content.decode() for text in texts)


def test_revoked_unknown_and_of_somebody_who_may_not_sign_in(event: Event, operator: User) -> None:
    feed, text = feeds.create_feed(operator, "phone")
    _, second = feeds.create_feed(operator, "tablet")
    assert read(text).status_code == 200

    feeds.revoke_feed(operator, feed.public_id)
    feeds.revoke_feed(operator, feed.public_id)

    assert [read(one).status_code for one in (text, text[:-1], text + "a", "x", second)] == [
        404,
        404,
        404,
        404,
        200,
    ]
    assert AuditEntry.objects.filter(action="feed.revoked").count() == 1
    User.objects.filter(pk=operator.pk).update(is_active=False)
    assert read(second).status_code == 404


def test_an_unchanged_calendar_is_not_sent_again(event: Event, operator: User) -> None:
    _, text = feeds.create_feed(operator, "phone")
    etag = read(text).headers["ETag"]

    again = read(text, **{"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == etag and again.headers["Cache-Control"] == "private, max-age=300"

    Event.objects.filter(pk=event.pk).update(switch_at=event.deadline, revision=1)
    changed = read(text, **{"If-None-Match": etag})
    assert changed.status_code == 200 and changed.headers["ETag"] != etag


def test_programs_are_asked_to_look_as_often_as_they_may(event: Event, operator: User) -> None:
    _, text = feeds.create_feed(operator, "phone")
    response = read(text)
    assert response.headers["Cache-Control"] == "private, max-age=300"
    calendar = icalendar.Calendar.from_ical(response.content)
    assert calendar["x-published-ttl"] == calendar["refresh-interval"].to_ical().decode() == "PT5M"


def test_one_that_waits_reminds_before_the_system_chooses(instance: Instance, operator: User) -> None:
    now = timezone.now().replace(microsecond=0)
    make_event(instance, switch_at=None, deadline=now + timedelta(days=7))
    _, text = feeds.create_feed(operator, "phone")
    response = read(text)
    (entry,) = icalendar.Calendar.from_ical(response.content).walk("VEVENT")
    assert entry.decoded("dtstart") == now + timedelta(days=7)
    # The system chooses a day before the deadline.
    assert entry.walk("VALARM")[0].decoded("trigger") == -timedelta(hours=25)
    assert f"Choose a time by {now + timedelta(days=6):%Y-%m-%d %H:%M} UTC." in str(entry["description"])
    assert "Preparation from" not in str(entry["description"]) and "Typical impact: 30 s" in str(
        entry["description"]
    )
    assert read(text, **{"If-None-Match": response.headers["ETag"]}).status_code == 304


def test_head_and_nothing_else(operator: User) -> None:
    _, text = feeds.create_feed(operator, "phone")
    path = reverse("event_feed", args=[text])
    assert Client().head(path).status_code == 200
    assert Client().post(path).status_code == 405


def test_what_has_ended_stays_for_a_while(event: Event, operator: User) -> None:
    _, text = feeds.create_feed(operator, "phone")
    ended = {"status": EventStatus.SUCCEEDED, "finished_at": timezone.now() - timedelta(days=59)}
    Event.objects.filter(pk=event.pk).update(**ended)
    assert names(read(text)) == {event.public_id}
    Event.objects.filter(pk=event.pk).update(finished_at=timezone.now() - timedelta(days=61))
    assert names(read(text)) == set()


def test_the_last_use_is_noted(operator: User) -> None:
    feed, text = feeds.create_feed(operator, "phone")
    assert feed.last_used_at is None
    read(text)
    feed.refresh_from_db()
    assert feed.last_used_at is not None


def test_queries_do_not_grow(
    world: World, operator: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    _, text = feeds.create_feed(operator, "phone")
    for _ in range(30):
        make_event(world.instance)
    with django_assert_max_num_queries(4):
        assert len(names(read(text))) == 30
    for _ in range(10):
        make_event(world.instance, switch_at=None)
    with django_assert_max_num_queries(5):
        assert len(names(read(text))) == 40


def test_what_is_refused(operator: User, world: World) -> None:
    with pytest.raises(Invalid):
        feeds.create_feed(operator, "  ")
    with pytest.raises(NotPermitted):
        feeds.create_feed(operator, "phone", account=world.other_account)
    feed, _ = feeds.create_feed(operator, "phone")
    with pytest.raises(NotFound):
        feeds.revoke_feed(world.user("owner"), feed.public_id)
    for number in range(feeds.MOST_FEEDS - 1):
        feeds.create_feed(operator, f"phone {number}")
    with pytest.raises(Conflict):
        feeds.create_feed(operator, "one more")


def test_the_page_shows_the_address_once(operator: User, account: Account, settings: Any) -> None:
    settings.SITE_URL = "https://console.example"
    browser = Client()
    browser.force_login(operator)

    made = browser.post(reverse("event_feeds"), {"name": "phone", "account": account.public_id})

    found = re.search(r"https://console\.example/events/feed/([\w-]+)\.ics", made.content.decode())
    assert made.status_code == 200 and found
    assert read(found[1]).status_code == 200
    page = browser.get(reverse("event_feeds"))
    assert "phone" in page.content.decode() and found[1] not in page.content.decode()
    assert page.headers["Cache-Control"].startswith("max-age=0")

    feed = CalendarFeed.objects.get()
    revoked = browser.post(reverse("event_feed_revoke", args=[feed.public_id]), follow=True)
    assert "was revoked" in revoked.content.decode()
    assert read(found[1]).status_code == 404
    assert browser.post(reverse("event_feeds"), {"name": ""}).status_code == 422
