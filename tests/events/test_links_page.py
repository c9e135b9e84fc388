"""The page behind a link: what its buttons say and do with one tap, what it tells of the event, and the pages after a press."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone

from events.choices import EventStatus, OccasionKind
from events.models import Event, LinkUse, Occasion
from events.present_links import apart, first_minute, soon_word
from events.services import links, scheduling
from events.services.by import By
from portal.models import Account, AuditEntry, Contact, Endpoint, Instance
from portal.services import windows
from tests.portal.world import World, make_instance

from .conftest import make_contact, make_event
from .test_links import press, text_of

BERLIN = ZoneInfo("Europe/Berlin")
FILLED = "btn-primary btn-lg"


@pytest.fixture
def engineer() -> Client:
    return Client(enforce_csrf_checks=True, headers={"User-Agent": "Phone/1.0"})


@pytest.fixture
def first() -> datetime:
    """The begin of the next window: half a day away, as what is offered in one that is open moves on with the clock."""
    return (timezone.now() + timedelta(hours=12)).replace(minute=0, second=0, microsecond=0)


@pytest.fixture
def window(world: World, instance: Instance, first: datetime) -> None:
    """Two hours of each day."""
    opens, closes = time(first.hour), time((first.hour + 2) % 24)
    windows.set_window(world.user("operator"), instance, range(7), opens, closes, "UTC")


def brief(moment: datetime) -> str:
    year = "" if moment.year == timezone.now().astimezone(moment.tzinfo).year else f" {moment.year}"
    return f"{moment:%a} {moment.day} {moment:%b}{year} {moment:%H:%M}"


def part(page: str, name: str) -> str:
    """What is behind a button that needs a second tap, its label included."""
    found = re.search(rf'<details class="link-more" id="{name}".*?</details>', page, re.DOTALL)
    return found[0] if found else ""


def filled(page: str) -> list[str]:
    """The labels of the buttons that catch the eye, but for those of parts that are closed."""
    found = re.findall(rf'class="btn {FILLED}"[^>]*><span>(.*?)<span', page)
    return [str(one) for one in found]


# --- Words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        (24, "1 day later"),
        (168, "7 days later"),
        (-24, "1 day earlier"),
        (3, "3 h later"),
        (-0.75, "45 min earlier"),
        (30, "30 h later"),
        (51, "2 days 3 h later"),
        (0.001, "1 min later"),
        (200, "8 days later"),
        (71.9, "3 days later"),
    ],
)
def test_how_far_it_is_from_the_time_that_stands(hours: float, said: str) -> None:
    stands = datetime(2026, 12, 7, 1, tzinfo=UTC)
    assert apart(stands + timedelta(hours=hours), stands, BERLIN) == said


def test_the_same_hour_on_the_other_side_of_a_clock_change_is_days_away() -> None:
    stands = datetime(2026, 10, 24, 1, tzinfo=BERLIN)
    later = datetime(2026, 10, 26, 1, tzinfo=BERLIN)
    assert later.astimezone(UTC) - stands.astimezone(UTC) == timedelta(hours=49)
    assert apart(later, stands, BERLIN) == "2 days later"


@pytest.mark.parametrize(
    ("now", "moment", "said"),
    [
        ("29T19:00", "30T02:00", "tonight"),
        ("29T12:00", "29T23:00", "tonight"),
        ("30T01:00", "30T02:00", "tonight"),
        ("30T01:00", "30T14:00", "today"),
        ("30T01:00", "30T22:00", "today"),
        ("29T12:00", "29T14:00", "today"),
        ("29T12:00", "30T14:00", "tomorrow"),
        ("28T12:00", "30T02:00", ""),
        ("28T12:00", "28T10:00", ""),
    ],
)
def test_tonight_is_the_night_that_comes_or_is(now: str, moment: str, said: str) -> None:
    then, at = (
        datetime.fromisoformat(f"2026-11-{text}").replace(tzinfo=BERLIN).astimezone(UTC)
        for text in (moment, now)
    )
    assert soon_word(then, BERLIN, at) == said


# --- Buttons ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("window")
def test_the_one_tap_puts_off_and_an_earlier_window_takes_two(
    instance: Instance, contact: Contact, engineer: Client, first: datetime
) -> None:
    stands = first + timedelta(days=6)
    event = make_event(instance, "switchover", switch_at=stands, deadline=stands + timedelta(days=5))
    page = text_of(engineer.get(links.link_for(event, contact)))

    assert filled(page) == [f"Next window: {brief(stands + timedelta(days=1))}"]
    assert f"1 day later · {stands:%H:%M} UTC" in page
    earlier = part(page, "window")
    soon = soon_word(first, ZoneInfo("UTC"), timezone.now())
    assert f"Earlier: {soon}, {brief(first)}" in earlier and soon
    assert "6 days earlier" in earlier and "btn-primary" not in earlier
    assert '<button class="btn btn-danger" type="submit" name="at"' in earlier and " open" not in earlier[:60]
    assert "6 days earlier" not in page.replace(earlier, "")
    opened = text_of(engineer.get(links.link_for(event, contact) + "?do=window"))
    assert 'id="window" open' in opened

    assert press(engineer, links.link_for(event, contact), "window", at=first.isoformat()).status_code == 200
    event.refresh_from_db()
    assert event.switch_at == first


@pytest.mark.usefixtures("window")
def test_an_event_without_a_time_gets_the_next_window_by_one_tap(
    instance: Instance, contact: Contact, engineer: Client, first: datetime
) -> None:
    event = make_event(instance, switch_at=None)
    page = text_of(engineer.get(links.link_for(event, contact)))
    offered = links.offers(event).window
    assert offered is not None
    assert filled(page) == [f"Next window: {brief(offered)}"]
    assert not part(page, "window")
    assert "later ·" not in page and "deferral" not in page.partition("<h2>")[0].replace("Deferrals", "")


@pytest.mark.usefixtures("window")
def test_a_risk_fix_is_to_be_acknowledged_first(
    instance: Instance, contact: Contact, engineer: Client, first: datetime
) -> None:
    event = make_event(instance, "vulnerability-fix", switch_at=first, deadline=first + timedelta(hours=40))
    path = links.link_for(event, contact)
    page = text_of(engineer.get(path))

    assert filled(page) == [f"Acknowledge: keep {brief(first)}"]
    later = f"Next window: {brief(first + timedelta(days=1))}"
    assert page.index("Acknowledge: keep") < page.index(later) < page.index("Choose a time")
    assert "puts it off by 24 h; 1 more deferral after that" in page
    assert "2 of 2 left" in page

    seen = text_of(press(engineer, path, "acknowledge"))
    assert "Acknowledge:" not in seen and later in seen
    assert filled(seen) == []  # it should not be put off

    press(engineer, path, "later", at=(first + timedelta(days=1)).isoformat())
    event.refresh_from_db()
    event.deferrals = 2
    event.save()
    spent = text_of(engineer.get(links.link_for(event, contact)))
    assert "It cannot be put off any more: it was put off 2 times." in spent and "0 of 2 left" in spent
    assert "Next window:" not in spent and part(spent, "window")


def test_why_a_button_is_missing(
    world: World, instance: Instance, contact: Contact, engineer: Client
) -> None:
    def page(**values: Any) -> str:
        return text_of(engineer.get(links.link_for(make_event(instance, **values), contact)))

    assert "There is no “Next window”: the instance has no maintenance window." in page()
    assert "It may not be cancelled." in page() and "may not be cancelled" not in page(may_cancel=True)
    late = page(deadline=timezone.now() + timedelta(minutes=5), switch_at=timezone.now())
    assert "It is too late for another time" in late and "Choose a time" not in late
    fixed = page(may_change=False)
    assert "The time of this event is fixed. Ask those who announced it." in fixed
    assert "Nothing was changed" not in fixed and "Next window" not in fixed
    assert [one.partition(":")[0] for one in filled(fixed)] == ["Acknowledge"]

    windows.set_window(world.user("operator"), instance, range(7), time(2), time(4), "UTC")
    before = timezone.now() + timedelta(days=1)
    last = before.replace(hour=3, minute=0, second=0, microsecond=0)
    ends = page(switch_at=last, deadline=last + timedelta(hours=4))
    assert (
        f"no later maintenance window has a free place up to {brief(last + timedelta(hours=4))} UTC" in ends
    )


def test_the_first_time_is_the_same_wherever_it_is_said(
    event: Event, contact: Contact, engineer: Client
) -> None:
    page = text_of(engineer.get(links.link_for(event, contact)))
    low = re.search(r'min="[\d-]+T([\d:]+)"', page)
    said = re.search(r"From \w+ \d+ \w+(?: \d{4})? ([\d:]+) UTC to", page)
    assert low and said and low[1] == said[1]
    moment = datetime(2026, 11, 29, 19, 29, 0, 1, tzinfo=UTC)
    assert first_minute(moment) == datetime(2026, 11, 29, 19, 30, tzinfo=UTC)
    assert first_minute(first_minute(moment)) == first_minute(moment)


# --- What it tells ----------------------------------------------------------------------------------------------------


def test_what_an_engineer_has_to_know(instance: Instance, account: Account, engineer: Client) -> None:
    for seconds in (20.0, 12.0):
        make_event(
            instance,
            status="succeeded",
            finished_at=timezone.now() - timedelta(days=1),
            measured_seconds=seconds,
        )
    contact = make_contact(account, time_zone="Europe/Berlin")
    event = make_event(instance, preparation_seconds=3600, advice="Let clients connect again.")
    page = text_of(engineer.get(links.link_for(event, contact)))

    assert event.switch_at is not None
    begins = (event.switch_at - timedelta(hours=1)).astimezone(BERLIN)
    for said in (
        Endpoint.objects.get(instance=instance).address,
        f"from {brief(begins)} {begins:%Z}",
        "3 of 3 left",
        "Typically 30 s (measured before: median 16 s of 2 runs).",
        "<h2>What clients notice</h2>",
        "<h2>Why</h2>",
        "<h2>What to do</h2>",
        f"<p>{event.cause}</p>",
        "This page is for On call.",
    ):
        assert said in page, said
    assert "is the IP address" not in page


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("instance-migration", "clients that use it would be cut off if it changed."),
        ("network-upgrade-zone", "clients that use it are cut off when it changes."),
    ],
)
def test_an_endpoint_that_is_an_ip_address_is_warned_of(
    code: str, said: str, instance: Instance, contact: Contact, engineer: Client
) -> None:
    Endpoint.objects.filter(instance=instance).update(host="10.20.0.4")
    page = text_of(engineer.get(links.link_for(make_event(instance, code), contact)))
    assert f"The endpoint is the IP address 10.20.0.4, not a domain name: {said}" in page
    Endpoint.objects.filter(instance=instance).delete()
    page = text_of(engineer.get(links.link_for(make_event(instance, code), contact)))
    assert "Endpoint" not in page.partition("<h2>")[0]


# --- After a press ----------------------------------------------------------------------------------------------------


def again_of(page: str) -> str:
    found = re.search(r'href="(/events/link/[^"]+)">Change it again', page)
    return found[1] if found else ""


@pytest.mark.usefixtures("window")
def test_what_it_was_and_the_way_back(
    instance: Instance, contact: Contact, engineer: Client, first: datetime
) -> None:
    stands, later = first + timedelta(days=2), first + timedelta(days=3)
    event = make_event(instance, switch_at=stands)
    path = links.link_for(event, contact)

    response = press(engineer, path, "later", at=later.isoformat())

    page = text_of(response)
    assert "The switchover is moved" in page
    assert f"was {brief(stands)} UTC, so it is 1 day later" in page
    assert f"Put back to {brief(stands)}" in page and "the deferral stays counted" in page
    event.refresh_from_db()
    assert again_of(page) == links.link_for(event, contact)  # the one that the next message has
    assert response.headers["Referrer-Policy"] == "strict-origin"
    assert response.headers["Cache-Control"] == "no-store, private"

    # The link that was pressed tells nobody the new one, and does nothing.
    for replayed in (engineer.get(path), Client().post(path, {"do": "later", "at": later.isoformat()})):
        assert replayed.status_code == 410
        assert "/events/link/" not in text_of(replayed) and "<form" not in text_of(replayed)

    back = press(engineer, again_of(page), "time", at=stands.isoformat())
    assert back.status_code == 200
    assert f"was {brief(later)} UTC, so it is 1 day earlier" in text_of(back)
    event.refresh_from_db()
    assert (event.switch_at, event.revision, event.deferrals) == (stands, 2, 1)
    assert engineer.get(again_of(page)).status_code == 410
    assert LinkUse.objects.count() == 2
    assert AuditEntry.objects.filter(action="event.link_used").count() == 2
    assert Occasion.objects.filter(kind=OccasionKind.CHANGED).count() == 2


def test_the_page_after_a_press_works_with_the_forms_token(
    event: Event, contact: Contact, engineer: Client
) -> None:
    stands = event.switch_at
    assert stands is not None
    page = text_of(
        press(engineer, links.link_for(event, contact), "time", at=(stands + timedelta(hours=1)).isoformat())
    )
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token
    sent = {"do": "time", "at": stands.isoformat(), "csrfmiddlewaretoken": token[1]}
    assert engineer.post(again_of(page), sent).status_code == 200
    event.refresh_from_db()
    assert event.switch_at == stands


def test_no_way_back_to_a_time_that_the_rules_do_not_allow(
    instance: Instance, contact: Contact, engineer: Client
) -> None:
    event = make_event(instance, deferrals=3)  # all of them
    assert event.switch_at is not None
    sooner = event.switch_at - timedelta(hours=5)
    page = text_of(press(engineer, links.link_for(event, contact), "time", at=sooner.isoformat()))
    assert "so it is 5 h earlier" in page
    assert "Put back to" not in page and again_of(page)

    waiting = make_event(instance, switch_at=None)
    page = text_of(press(engineer, links.link_for(waiting, contact), "time", at=sooner.isoformat()))
    assert "The switchover is set" in page and "Put back to" not in page and ">was " not in page
    assert again_of(page)


def test_putting_the_time_back_may_be_a_deferral(
    instance: Instance, contact: Contact, engineer: Client
) -> None:
    event = make_event(instance)
    assert event.switch_at is not None
    sooner = event.switch_at - timedelta(hours=5)
    page = text_of(press(engineer, links.link_for(event, contact), "time", at=sooner.isoformat()))
    assert "the old time; a deferral; 2 more deferrals after that" in page


def test_the_time_it_has_already_is_said_to_be_none(event: Event, contact: Contact, engineer: Client) -> None:
    assert event.switch_at is not None
    path = links.link_for(event, contact)
    page = text_of(press(engineer, path, "time", at=event.switch_at.isoformat()))
    assert "It has that time already" in page and "used up" not in page
    assert f'href="{path}">Back to the event' in page
    assert engineer.get(path).status_code == 200


def test_what_begins_now_cannot_be_taken_back(instance: Instance, contact: Contact, engineer: Client) -> None:
    event = make_event(instance)
    path = links.link_for(event, contact)
    page = text_of(press(engineer, path, "now"))
    event.refresh_from_db()
    assert event.switch_at is not None
    assert "The preparation begins now" in page and "It cannot be taken back." in page
    assert f"{event.switch_at:%H:%M} UTC" in page and "Begins now" in page
    assert "Pending" not in page and "<form" not in page and not again_of(page)
    used = text_of(engineer.get(path))
    assert "It begins now, and cannot be changed any more." in used and "newest message" not in used

    at_once = make_event(make_instance(instance.account, "carts"), preparation_seconds=0)
    page = text_of(press(engineer, links.link_for(at_once, contact), "now"))
    assert "The switchover begins now" in page and "preparation" not in page


def test_cancelling_asks_why_and_tells_everybody(
    instance: Instance, contact: Contact, engineer: Client
) -> None:
    event = make_event(instance, may_cancel=True)
    path = links.link_for(event, contact)
    assert 'name="reason"' in part(text_of(engineer.get(path)), "cancel")

    for reason, said in (("  ", "Say why it is cancelled."), ("x" * 501, "at most 500 characters")):
        refused = press(engineer, path, "cancel", reason=reason)
        assert refused.status_code == 422
        page = text_of(refused)
        assert said in page and "Nothing was changed." in page and 'id="cancel" open' in page
    assert "x" * 501 in page  # it need not be written again
    assert not LinkUse.objects.exists()
    refusals = AuditEntry.objects.filter(action="event.link_refused")
    assert {entry.details["refused"] for entry in refusals} == {"link.no_reason"}

    page = text_of(press(engineer, path, "cancel", reason="It is done with another event."))
    assert "Why: It is done with another event." in page and "is told that it is cancelled" in page
    assert "new link" not in page and "new one" not in page and not again_of(page) and "<form" not in page
    event.refresh_from_db()
    assert (event.status, event.result) == (EventStatus.CANCELLED, "It is done with another event.")
    assert Occasion.objects.get(kind=OccasionKind.CANCELLED).facts["why"] == "It is done with another event."

    closed = text_of(engineer.get(path))
    assert "It was cancelled by On call, a link in a message" in closed and "does not happen" in closed
    assert "Why: It is done with another event." in closed and "It is over" not in closed


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"status": "running"}, ["It has begun", "It can no longer be changed."]),
        ({"status": "succeeded", "measured_seconds": 4.2}, ["It is done", "4.2 s", "typical: 30 s"]),
        ({"status": "failed", "result": "A node is gone."}, ["<h1>It has failed</h1>", "It has failed: A node is gone."]),
        ({"status": "failed", "measured_seconds": 9.0}, ["It has failed: the reason is not known.", "for 9 s"]),
        ({"status": "cancelled"}, ["<h1>It was cancelled</h1>", "does not happen"]),
    ],
)  # fmt: skip
def test_what_became_of_it(
    values: dict[str, Any], said: list[str], instance: Instance, contact: Contact, engineer: Client
) -> None:
    event = make_event(instance, finished_at=timezone.now(), **values)
    page = text_of(engineer.get(links.link_for(event, contact)))
    for one in said:
        assert one in page, one
    assert "It is over" not in page and "newest message" not in page


# --- Quiet hours ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "held"), [("instance-migration", True), ("vulnerability-fix", False)])
def test_the_newest_message_may_still_be_held_back(
    code: str, held: bool, instance: Instance, account: Account, engineer: Client
) -> None:
    now = timezone.now()
    around = ((now - timedelta(hours=2)).time(), (now + timedelta(hours=2)).time().replace(microsecond=0))
    contact = make_contact(account, quiet_from=around[0], quiet_to=around[1])
    event = make_event(
        instance, code, switch_at=now + timedelta(hours=30), deadline=now + timedelta(hours=60)
    )
    path, other = links.link_for(event, contact), links.link_for(event, make_contact(account, "Day shift"))
    scheduling.reschedule(By(), event, now + timedelta(hours=40))

    said = f"Your quiet hours may hold that message back until {brief(now + timedelta(hours=2))} UTC"
    stale = text_of(engineer.get(path))
    assert "the newest message about this event has one that works" in stale
    assert (said in stale) is held and (("To change it before" in stale) or not held)
    assert "Log in to see the event" in stale
    assert "quiet hours" not in text_of(engineer.get(other))

    event.refresh_from_db()
    done = text_of(
        press(engineer, links.link_for(event, contact), "time", at=(now + timedelta(hours=45)).isoformat())
    )
    assert (said in done) is held
