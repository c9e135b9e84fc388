"""Links in messages: what a token opens, for whom, how long, and what pressing a button does."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.signing import Signer
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from events.choices import EventStatus, OccasionKind, Via
from events.models import Blackout, Event, LinkUse, Occasion, RequestCount
from events.services import links, scheduling
from events.services.by import By
from events.views.links import ADDRESS_LIMIT, LINK_LIMIT
from portal.models import Account, AuditEntry, Contact, Instance
from portal.services import windows
from tests.portal.world import World

from .conftest import make_contact, make_event

Answer = HttpResponse
BERLIN = ZoneInfo("Europe/Berlin")
CHANGES = (
    "event.rescheduled",
    "event.cancelled",
    "event.acknowledged",
    "event.link_used",
    "event.link_refused",
)


def snapshot(event: Event) -> dict[str, Any]:
    return dict(Event.objects.filter(pk=event.pk).values().get())


def nothing_happened(event: Event, before: dict[str, Any]) -> None:
    assert snapshot(event) == before
    assert not LinkUse.objects.exists()
    assert not AuditEntry.objects.filter(action__in=CHANGES).exists()
    assert not Occasion.objects.exists()


@pytest.fixture
def path(event: Event, contact: Contact) -> str:
    return links.link_for(event, contact)


@pytest.fixture
def engineer() -> Client:
    """On a phone: not logged in, with protection against forged requests as in life."""
    return Client(enforce_csrf_checks=True, headers={"User-Agent": "Phone/1.0"})


def press(browser: Client, path: str, do: str, **data: str) -> Any:
    """Opens the page, and presses a button of it."""
    opened = browser.get(path)
    token = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', opened.content)
    sent = {"do": do, "csrfmiddlewaretoken": token[1].decode() if token else ""} | data
    return browser.post(path, sent)


def text_of(response: Any) -> str:
    return response.content.decode()


# --- The token --------------------------------------------------------------------------------------------------------


def test_the_path_is_short_safe_and_holds_no_secret(event: Event, contact: Contact, path: str) -> None:
    assert re.fullmatch(r"/events/link/[A-Za-z0-9_.-]+/", path)
    assert len(path) < 80
    for secret in (contact.email, contact.name, event.instance_name, event.public_id):
        assert secret not in path
    assert links.open_link(path.split("/")[3]).state == "valid"


def altered(token: str) -> list[str]:
    """Each byte changed, dropped and doubled."""
    found = []
    for place, letter in enumerate(token):
        found += [token[:place] + other + token[place + 1 :] for other in "aB3-_." if other != letter]
        found += [token[:place] + token[place + 1 :], token[:place] + letter + token[place:]]
    return [one for one in found if one != token]


def test_an_altered_token_opens_nothing_whichever_byte(path: str) -> None:
    token = path.split("/")[3]
    states = {one: links.open_link(one).state for one in altered(token)}
    assert len(states) > 300
    assert {one for one, state in states.items() if state != "forged"} == set()


def forged_tokens(event: Event, contact: Contact) -> dict[str, str]:
    payload = "-".join(str(one) for one in (event.pk, contact.pk, event.revision))
    return {
        "no signature": payload,
        "of another salt": Signer(sep=".", salt="sessions").sign(payload),
        "of another key": Signer(key="x" * 50, sep=".", salt="events.link").sign(payload),
        "too few parts": links.SIGNER.sign("1-1"),
        "no numbers": links.SIGNER.sign("a!-b-c"),
        "of no event": links.SIGNER.sign(f"zzz-{contact.pk}-0"),
        "nonsense": "%20",
        "long": "a" * 5000,
    }


def test_a_forged_token_is_not_found_and_told_nothing(
    engineer: Client, event: Event, contact: Contact
) -> None:
    before = snapshot(event)
    for what, token in forged_tokens(event, contact).items():
        for method in ("get", "head", "post"):
            RequestCount.objects.all().delete()
            response = getattr(Client(), method)(f"/events/link/{token}/", {"do": "now"})
            assert response.status_code == 404, (what, method)
            assert event.instance_name not in text_of(response)
    nothing_happened(event, before)


def test_an_earlier_key_still_counts(event: Event, contact: Contact, settings: Any) -> None:
    token = links.link_for(event, contact).split("/")[3]
    old, settings.SECRET_KEY = settings.SECRET_KEY, "n" * 50
    settings.SECRET_KEY_FALLBACKS = [old]
    # As a process that was started with these settings.
    fresh = Signer(sep=".", salt=links.SIGNER.salt)
    assert fresh.unsign(token)
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(Exception, match="does not match"):
        Signer(sep=".", salt=links.SIGNER.salt).unsign(token)


def of_another_account(contact: Contact, world: World) -> None:
    Contact.objects.filter(pk=contact.pk).update(account=world.other_account)


def deleted(contact: Contact, world: World) -> None:
    contact.delete()


def no_longer_told(contact: Contact, world: World) -> None:
    Contact.objects.filter(pk=contact.pk).update(categories=["tasks"])


@pytest.mark.parametrize("become", [of_another_account, deleted, no_longer_told])
def test_of_a_foreign_contact_nothing_is_told(
    become: Callable[[Contact, World], None], event: Event, contact: Contact, path: str, world: World
) -> None:
    become(contact, world)
    before = snapshot(event)

    assert links.open_link(path.split("/")[3]).state == "foreign"
    answers = [Client().get(path), Client().post(path, {"do": "now"})]

    for response in answers:
        assert response.status_code == 404
        assert event.instance_name not in text_of(response) and event.public_id not in text_of(response)
    assert snapshot(event) == before and not LinkUse.objects.exists()
    entry = AuditEntry.objects.get(action="event.link_refused")
    assert (entry.details["refused"], entry.details["did"]) == ("foreign", "now")


@pytest.mark.parametrize("status", ["running", "succeeded", "failed", "cancelled"])
def test_an_event_that_has_begun_or_ended(
    status: str, event: Event, path: str, engineer: Client, contact: Contact
) -> None:
    Event.objects.filter(pk=event.pk).update(status=status, finished_at=timezone.now(), result="As planned.")
    before = snapshot(event)

    for response in (engineer.get(path), Client().post(path, {"do": "now"})):
        assert response.status_code == 410
        page = text_of(response)
        assert event.instance_name in page and str(EventStatus(status).label) in page
        assert f"/login/?next=%2Fevents%2F{event.public_id}%2F" in page
        assert "<form" not in page
    assert snapshot(event) == before
    assert AuditEntry.objects.get(action="event.link_refused").details["refused"] == "begun"


def test_somebody_else_was_quicker(event: Event, path: str, operator: Any, engineer: Client) -> None:
    to = event.deadline - timedelta(hours=1)
    scheduling.reschedule(By(operator, via=Via.CONSOLE), event, to)
    before = snapshot(event)

    for response in (engineer.get(path), Client().post(path, {"do": "now"})):
        page = text_of(response)
        assert response.status_code == 410
        assert "This link is out of date" in page and "by operator, the console" in page
        assert f"{to:%H:%M} UTC" in page
    assert snapshot(event) == before


# --- The page ---------------------------------------------------------------------------------------------------------


def test_the_page_says_what_happens_to_which_server_and_when(
    instance: Instance, account: Account, engineer: Client
) -> None:
    event = make_event(instance, switch_at=datetime.now(UTC).replace(microsecond=0) + timedelta(days=4))
    contact = make_contact(account, time_zone="Europe/Berlin")

    response = engineer.get(links.link_for(event, contact))

    assert event.switch_at is not None
    local = event.switch_at.astimezone(BERLIN)
    page = text_of(response)
    assert response.status_code == 200
    for said in (
        "Instance migration", "sessions", instance.public_id, f"{local:%H:%M %Z}", f"{event.switch_at:%H:%M} UTC",
        "in 3 days", event.cause[:40], event.impacts[0]["text"][:40], "S1 · Maintenance", "Acknowledge", "On call",
    ):  # fmt: skip
        assert said in page, said
    assert "Next window:" not in page  # it has none
    assert "Cancel the event" not in page and "imulated" not in page
    assert 'type="datetime-local"' in page
    latest = event.deadline.astimezone(BERLIN)
    assert f'max="{latest:%Y-%m-%dT%H:%M}"' in page


def test_a_simulated_and_urgent_event_says_so(instance: Instance, contact: Contact, engineer: Client) -> None:
    event = make_event(instance, "vulnerability-fix", executor="simulated", may_cancel=True)
    page = text_of(engineer.get(links.link_for(event, contact)))
    assert "Simulated: nothing is really done" in page and "Urgent" in page and "Cancel the event" in page


def test_a_fixed_event_can_only_be_acknowledged(
    instance: Instance, contact: Contact, engineer: Client
) -> None:
    event = make_event(instance, may_change=False)
    page = text_of(engineer.get(links.link_for(event, contact)))
    assert "The time of this event is fixed." in page
    assert "Choose a time" not in page and "Start now" not in page and "Acknowledge" in page


@pytest.mark.parametrize("headers", [{}, {"Purpose": "prefetch"}, {"Sec-Purpose": "prefetch;prerender"}])
@pytest.mark.parametrize("query", ["", "?do=now", "?do=acknowledge", "?do=cancel&at=2026-03-01T02:00"])
def test_a_scanner_changes_nothing(event: Event, path: str, headers: dict[str, str], query: str) -> None:
    before = snapshot(event)
    for method in ("get", "head"):
        assert getattr(Client(), method)(path + query, headers=headers).status_code == 200
    assert Client().options(path).status_code == 405
    assert Client().put(path).status_code == 405
    nothing_happened(event, before)


def test_a_post_without_the_pages_token_changes_nothing(event: Event, path: str) -> None:
    before = snapshot(event)
    response = Client(enforce_csrf_checks=True).post(path, {"do": "now"})
    assert response.status_code == 403
    nothing_happened(event, before)


def test_the_address_stays_secret(event: Event, path: str, engineer: Client) -> None:
    for response, referrer in (
        (engineer.get(path), "strict-origin"),  # names the host alone, and lets the form be sent
        (engineer.get("/events/link/forged/"), "no-referrer"),
        (press(engineer, path, "now"), "no-referrer"),
        (engineer.get(path), "no-referrer"),
    ):
        assert response.headers["Cache-Control"] == "no-store, private"
        assert response.headers["X-Robots-Tag"].startswith("noindex")
        assert response.headers["Referrer-Policy"] == referrer
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]


def test_the_address_is_not_logged(path: str, capsys: Any, caplog: Any) -> None:
    from portal.logs import redact_text

    token = path.split("/")[3]
    assert token not in redact_text(f"Gone: {path}") and "/events/link/[redacted]/" in redact_text(path)
    assert redact_text("/events/feed/abcdefgh_-12.ics") == "/events/feed/[redacted]"


# --- Buttons ----------------------------------------------------------------------------------------------------------


def test_a_chosen_time(event: Event, path: str, account: Account, engineer: Client) -> None:
    contact = make_contact(account, "Night shift", time_zone="Europe/Berlin")
    path = links.link_for(event, contact)
    to = (event.deadline - timedelta(hours=3)).replace(second=0)

    response = press(engineer, path, "time", at=f"{to.astimezone(BERLIN):%Y-%m-%dT%H:%M}")

    assert response.status_code == 200
    assert f"{to.astimezone(BERLIN):%H:%M %Z}" in text_of(response)
    event.refresh_from_db()
    assert (event.switch_at, event.revision) == (to, 1)
    use = LinkUse.objects.get()
    assert (use.contact, use.revision, use.address, use.agent) == (contact, 0, "127.0.0.1", "Phone/1.0")
    entries = {entry.action: entry for entry in AuditEntry.objects.filter(object_id=event.public_id)}
    assert entries["event.link_used"].details | {"refused": ""} == {
        "contact": "Night shift", "did": "time", "refused": "", "address": "127.0.0.1", "agent": "Phone/1.0",
    }  # fmt: skip
    assert entries["event.rescheduled"].details["via"] == str(Via.MAIL.label)
    assert Occasion.objects.get(kind=OccasionKind.CHANGED).facts["by"] == "Night shift"


def test_a_link_changes_a_time_once(event: Event, path: str, engineer: Client, contact: Contact) -> None:
    assert press(engineer, path, "now").status_code == 200
    before = snapshot(event)

    for do in ("now", "time", "acknowledge", "cancel"):
        replayed = Client().post(path, {"do": do, "at": "2030-01-01T00:00"})
        assert replayed.status_code == 410
        assert "This link has been used" in text_of(replayed)
    assert snapshot(event) == before
    assert LinkUse.objects.count() == 1
    event.refresh_from_db()
    assert links.open_link(links.link_for(event, contact).split("/")[3]).state == "valid"


def test_now_starts_the_preparation_at_once(event: Event, path: str, engineer: Client) -> None:
    page = text_of(engineer.get(path))
    assert "<details" in page and "Yes, start now" in page  # a second tap, also without scripts

    response = press(engineer, path, "now")

    event.refresh_from_db()
    assert response.status_code == 200
    assert event.starts_at is not None and abs(event.starts_at - timezone.now()) < timedelta(minutes=1)


def test_the_next_window_is_the_one_that_was_shown(
    event: Event, path: str, world: World, engineer: Client
) -> None:
    # Half a day away: what is offered in a window that is open moves on with the clock.
    hour = timezone.now().astimezone(BERLIN).hour + 12
    opens, closes = time(hour % 24), time((hour + 2) % 24)
    windows.set_window(world.user("operator"), world.instance, range(7), opens, closes, "Europe/Berlin")
    shown = links.offers(event).window
    assert shown is not None
    page = text_of(engineer.get(path))
    assert (
        "Next window: " in page and f'value="{shown.astimezone(UTC).isoformat(timespec="seconds")}"' in page
    )

    moved = press(engineer, path, "window", at=(shown - timedelta(days=1)).isoformat())
    assert moved.status_code == 409
    assert "That maintenance window is not free any more" in text_of(moved)
    assert press(engineer, path, "window").status_code == 409
    assert not LinkUse.objects.exists()

    assert press(engineer, path, "window", at=shown.isoformat(timespec="seconds")).status_code == 200
    event.refresh_from_db()
    assert event.switch_at is not None and abs(event.switch_at - shown) < timedelta(minutes=1)


def test_a_window_after_the_time_that_stands(
    instance: Instance, contact: Contact, world: World, engineer: Client
) -> None:
    windows.set_window(world.user("operator"), instance, range(7), time(2), time(4), "UTC")
    tomorrow = (timezone.now() + timedelta(days=1)).replace(hour=2, minute=0, second=0, microsecond=0)
    event = make_event(instance, switch_at=tomorrow + timedelta(days=2))
    offers = links.offers(event)
    assert offers.later == tomorrow + timedelta(days=3)

    path = links.link_for(event, contact)
    page = text_of(engineer.get(path))
    later = tomorrow + timedelta(days=3)
    assert f"Next window: {later:%a} {later.day} {later:%b}" in page and "1 day later" in page
    assert press(engineer, path, "later", at=(tomorrow + timedelta(days=3)).isoformat()).status_code == 200
    event.refresh_from_db()
    assert event.switch_at == tomorrow + timedelta(days=3)


def test_acknowledging_may_be_repeated_and_leaves_the_link(event: Event, path: str, engineer: Client) -> None:
    for _ in range(2):
        response = press(engineer, path, "acknowledge")
        assert response.status_code == 200
        assert "It is noted that you have seen this" in text_of(response)
    event.refresh_from_db()
    assert (event.acknowledged_by, event.revision) == ("On call", 0)
    assert AuditEntry.objects.filter(action="event.link_used").count() == 2
    assert AuditEntry.objects.filter(action="event.acknowledged").count() == 1
    assert press(engineer, path, "now").status_code == 200


def test_cancelling_only_what_may_be(instance: Instance, contact: Contact, engineer: Client) -> None:
    fixed, free = (make_event(instance, may_cancel=may) for may in (False, True))

    refused = press(engineer, links.link_for(fixed, contact), "cancel")
    assert refused.status_code == 409 and "may not be cancelled" in text_of(refused)
    assert press(engineer, links.link_for(free, contact), "cancel").status_code == 422  # nobody was told why
    response = press(engineer, links.link_for(free, contact), "cancel", reason="It is done with another one.")

    assert response.status_code == 200 and "The event is cancelled" in text_of(response)
    fixed.refresh_from_db()
    free.refresh_from_db()
    assert (fixed.status, free.status) == (EventStatus.PENDING, EventStatus.CANCELLED)
    assert engineer.get(links.link_for(free, contact)).status_code == 410


@pytest.mark.parametrize(
    ("at", "status", "said"),
    [
        (lambda event: event.deadline + timedelta(minutes=1), 422, "is after the deadline"),
        (lambda event: timezone.now() - timedelta(hours=1), 422, "has passed"),
        (lambda event: timezone.now() + timedelta(minutes=2), 422, "The preparation takes"),
        (lambda event: event.deadline - timedelta(hours=30), 422, "inventory"),
        (lambda event: None, 422, "No time was entered"),
    ],
)
def test_a_refusal_is_shown_with_what_to_do(
    at: Callable[[Event], datetime | None], status: int, said: str, event: Event, path: str, engineer: Client
) -> None:
    Blackout.objects.create(
        starts_at=event.deadline - timedelta(hours=31), ends_at=event.deadline - timedelta(hours=29), reason="inventory"
    )  # fmt: skip
    before = snapshot(event)
    moment = at(event)

    response = press(engineer, path, "time", at=f"{moment:%Y-%m-%dT%H:%M}" if moment else "")

    page = text_of(response)
    assert response.status_code == status
    assert said in page and "Nothing was changed" in page and 'role="alert"' in page
    assert 'id="time" open' in page  # where it can be put right
    assert snapshot(event) == before and not LinkUse.objects.exists()
    refused = AuditEntry.objects.get(action="event.link_refused").details["refused"]
    assert refused.startswith("event.")
    assert press(engineer, path, "now").status_code == 200  # it is not used up


def test_the_time_it_has_already_uses_nothing_up(event: Event, path: str, engineer: Client) -> None:
    assert event.switch_at is not None
    event.switch_at = event.switch_at.replace(second=0)
    event.save()
    assert press(engineer, path, "time", at=f"{event.switch_at:%Y-%m-%dT%H:%M}").status_code == 200
    assert not LinkUse.objects.exists()
    assert engineer.get(path).status_code == 200


def test_an_unknown_button(event: Event, path: str, engineer: Client) -> None:
    before = snapshot(event)
    assert press(engineer, path, "delete").status_code == 422
    assert snapshot(event) == before


def next_clock_change(forward: bool) -> datetime:
    """The next moment, tomorrow or later, at which the clock of Berlin is set forward (or back)."""
    moment = timezone.now().replace(minute=0, second=0, microsecond=0) + timedelta(days=1)
    while True:
        before, after = (one.astimezone(BERLIN).utcoffset() for one in (moment, moment + timedelta(hours=1)))
        assert before is not None and after is not None
        if before != after and (after > before) is forward:
            return moment + timedelta(hours=1)
        moment += timedelta(hours=1)


def test_the_night_on_which_the_clock_is_set_forward(
    instance: Instance, account: Account, engineer: Client
) -> None:
    change = next_clock_change(forward=True)
    contact = make_contact(account, time_zone="Europe/Berlin")
    event = make_event(instance, deadline=change + timedelta(days=3))
    path = links.link_for(event, contact)

    response = press(engineer, path, "time", at=f"{change.astimezone(BERLIN):%Y-%m-%d}T02:30")

    assert response.status_code == 422
    assert "02:30 does not exist" in text_of(response) and "such as 03:30 CEST" in text_of(response)
    assert press(engineer, path, "time", at=f"{change.astimezone(BERLIN):%Y-%m-%d}T03:00").status_code == 200
    event.refresh_from_db()
    assert event.switch_at == change


def test_the_night_on_which_the_clock_is_set_back(
    instance: Instance, account: Account, engineer: Client
) -> None:
    change = next_clock_change(forward=False)
    contact = make_contact(account, time_zone="Europe/Berlin")
    event = make_event(instance, deadline=change + timedelta(days=3))
    path = links.link_for(event, contact)

    response = press(engineer, path, "time", at=f"{change.astimezone(BERLIN):%Y-%m-%d}T02:30")

    page = text_of(response)
    assert response.status_code == 422 and "02:30 comes twice" in page
    answers = re.findall(r'name="at" value="([^"]+)">([^<]+)<', page)
    assert "02:30 CEST" in answers[0][1] and "02:30 CET" in answers[1][1]
    assert press(engineer, path, "time", at=answers[1][0]).status_code == 200
    event.refresh_from_db()
    assert event.switch_at == change + timedelta(minutes=30)


# --- How often --------------------------------------------------------------------------------------------------------


def test_one_link_too_often(event: Event, path: str, contact: Contact, account: Account) -> None:
    answers = [Client(REMOTE_ADDR=f"10.0.0.{number}").get(path) for number in range(LINK_LIMIT + 1)]
    assert [one.status_code for one in answers] == [200] * LINK_LIMIT + [429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    assert answers[-1].headers["Cache-Control"] == "no-store, private"
    before = snapshot(event)
    assert Client().post(path, {"do": "now"}).status_code == 429
    assert snapshot(event) == before
    other = links.link_for(event, make_contact(account, "Other"))
    assert Client().get(other).status_code == 200
    # A minute later it is open again.
    RequestCount.objects.update(since=timezone.now() - timedelta(minutes=1))
    assert Client().get(path).status_code == 200


def test_one_address_too_often(path: str) -> None:
    RequestCount.objects.create(key="address:10.0.0.1", since=timezone.now(), count=ADDRESS_LIMIT - 1)
    assert Client(REMOTE_ADDR="10.0.0.1").get("/events/link/forged/").status_code == 404
    assert Client(REMOTE_ADDR="10.0.0.1").get(path).status_code == 429
    assert Client(REMOTE_ADDR="10.0.0.2").get(path).status_code == 200


def test_whose_address_it_is(path: str, settings: Any) -> None:
    def noted(**headers: str) -> str:
        RequestCount.objects.all().delete()
        Client(REMOTE_ADDR="10.0.0.9").get(path, headers=headers)
        return str(RequestCount.objects.get(key__startswith="address:").key.removeprefix("address:"))

    made_up = {"X-Forwarded-For": "198.51.100.7"}
    assert noted(**made_up) == "10.0.0.9"
    settings.TRUST_PROXY_ADDRESS = True
    assert noted(**made_up) == "198.51.100.7"
    assert noted(**{"X-Forwarded-For": "1.2.3.4, 198.51.100.8"}) == "198.51.100.8"
    assert noted(**{"X-Forwarded-For": "2001:db8:1:2:3:4:5:6"}) == "2001:db8:1:2::/64"
    assert noted() == "10.0.0.9"


def test_old_counters_go(path: str) -> None:
    RequestCount.objects.create(key="address:10.0.0.1", since=timezone.now() - timedelta(hours=1))
    Client().get(path)
    assert not RequestCount.objects.filter(key="address:10.0.0.1").exists()
