"""One message of many events, sent over SMTP and read back: what is the same for all once, what differs in the rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from events.choices import BulkAction, EventStatus, Impact, OccasionKind
from events.models import BulkChange, Campaign, Event, EventType
from events.services import bulk, occasions, scheduling
from events.services.by import By
from portal.models import Account, Contact, Instance
from tests.events.conftest import make_contact, make_event
from tests.events.mails import calendars_of, html_of, send, tell, text_of
from tests.portal.world import World
from tests.support.bulk_events import many_events
from tests.support.receivers import Mailbox

K = OccasionKind
YEAR = timezone.now().year + 2
MARCH = datetime(YEAR, 3, 3, 1, 0, tzinfo=UTC)
DAY = f"{MARCH:%a} 3 March {YEAR}"
LATER = timedelta(seconds=11)
NOTES = "https://notes.example/7.0.15"


@pytest.fixture(autouse=True)
def somebody(contact: Contact) -> Contact:
    return contact


def upgrades(account: Account, count: int = 6, **values: Any) -> list[Event]:
    """Of an instance each, half an hour after one another."""
    defaults: dict[str, Any] = {
        "code": "major-version", "version_from": "6.2.14", "version_to": "7.0.15", "release_notes": NOTES, "deadline": MARCH + timedelta(days=7),
    }  # fmt: skip
    found = many_events(account, count, **defaults | values)
    for number, event in enumerate(found):
        if event.switch_at is not None:
            event.switch_at = MARCH + timedelta(minutes=30 * number)
            event.save()
    return found


def told(events: Iterable[Event], kind: OccasionKind, mailbox: Mailbox, **facts: Any) -> EmailMessage:
    """The only mail about them, as it has arrived."""
    occasions.note_many(occasions.draft(one, kind, f"{kind}:1", facts=facts, batch="cp-1") for one in events)
    return only(mailbox)


def only(mailbox: Mailbox) -> EmailMessage:
    tell(LATER)
    send()
    (mail,) = mailbox.mails
    return mail


def opening_of(mail: EmailMessage) -> str:
    """Between the headline and the list."""
    return text_of(mail).partition("The list (you sign in first):")[0]


# --- What is the same for all -----------------------------------------------------------------------------------------


def test_what_is_the_same_for_all_is_said_once_and_at_the_top(account: Account, mailbox: Mailbox) -> None:
    campaign = Campaign.objects.create(
        name="To 7.0", type=EventType.objects.get(code="major-version"), description="6.2 is no longer maintained."
    )  # fmt: skip
    events = upgrades(account, campaign=campaign)
    mail = told(events, K.PUBLISHED, mailbox)
    assert mail["Subject"] == (
        f"Major version upgrade of 6 instances announced: {DAY}, 01:00 UTC to {DAY}, 03:30 UTC"
    )
    text, html = text_of(mail), html_of(mail)
    top, _, rows = text.partition(f"\n\n{events[0].instance_name} (")
    for said in (
        f"Campaign “To 7.0” ({campaign.public_id}): 6.2 is no longer maintained.",
        f"What clients notice\n- {Impact(events[0].impacts[0]['kind']).label}",
        "Typically ",
        "No earlier run of this type has been measured.",
        f"Why\n{events[0].cause}",
        f"- {events[0].advice}",
        "Region, zone: eu-central",
        "Version: 6.2.14 → 7.0.15",
        f"Release notes: {NOTES}",
        f"Deadline: {MARCH + timedelta(days=7):%a} 10 March {YEAR}, 01:00 UTC",
    ):
        assert said in top, said
        last = said.splitlines()[-1].removeprefix("- ").rpartition(": ")[2]
        assert last in unescape(html), said
    assert html.count("6.2.14 → 7.0.15") == html.count(f'href="{NOTES}"') == html.count("eu-central") == 1
    # What is left to say of each fits into three lines.
    first, second, third, nothing = rows.splitlines()[:4]
    assert first == f"{events[0].instance_public_id})" and second == f"  switchover: {DAY}, 01:00 UTC"
    assert "/events/link/" in third and nothing == ""
    for word in ("→", "deadline", "Major version upgrade", "RISK FIX"):
        assert word not in rows


def test_what_differs_stands_in_the_row(account: Account, mailbox: Mailbox) -> None:
    events = upgrades(account)
    Event.objects.filter(pk=events[0].pk).update(
        version_from="6.0.20", region="us-east", zone="b", deadline=MARCH + timedelta(days=3), release_notes=""
    )  # fmt: skip
    mail = told(events, K.PUBLISHED, mailbox)
    text, html = text_of(mail), html_of(mail)
    assert "Version: " not in text and "Region, zone: " not in text and "Deadline: " not in text
    first, second = (events[number] for number in (0, 1))
    assert (
        f"{first.instance_name} ({first.instance_public_id}), 6.0.20 → 7.0.15, Release notes: no notes, us-east, b\n"
        f"  switchover: {DAY}, 01:00 UTC\n"
        f"  deadline: {MARCH + timedelta(days=3):%a} 6 March {YEAR}, 01:00 UTC\n"
    ) in text
    assert (
        f"{second.instance_name} ({second.instance_public_id}), 6.2.14 → 7.0.15, Release notes: {NOTES}, eu-central\n"
        in text
    )
    assert html.count("6.2.14 → 7.0.15") == html.count(f'href="{NOTES}"') == 5
    # The same for all is said at the top nevertheless.
    assert "What clients notice" in text and f"Why\n{first.cause}" in text


def test_of_several_types_each_row_says_type_and_impact(
    account: Account, instance: Instance, mailbox: Mailbox
) -> None:
    events = [*upgrades(account), make_event(instance)]
    Event.objects.filter(pk=events[0].pk).update(impact_seconds=45)
    text = text_of(told(events, K.PUBLISHED, mailbox))
    assert "What clients notice" not in text and "Why" not in text and "Region, zone: eu-central" in text
    assert (
        f"sessions ({instance.public_id}), Instance migration, Transient connections, typically 30 s\n"
        in text
    )
    effects = "Transient connections, Differences between versions, typically 45 s"
    assert f"Major version upgrade, 6.2.14 → 7.0.15, Release notes: {NOTES}, {effects}\n" in text


def test_staff_read_whose_instances_they_are(world: World, mailbox: Mailbox) -> None:
    operations = Account.objects.create(name="Operations", is_operations=True)
    make_contact(operations, "Night shift")
    running = {"status": EventStatus.RUNNING, "region": "eu-central"}
    events = [make_event(one, **running) for one in (world.instance, world.other_instance) for _ in range(3)]
    mail = told(events, K.WORK, mailbox, about="waiting", stage="Prepare", text="Prepare it.")
    assert mail["To"] == "night-shift@example.org"
    for account in (world.account, world.other_account):
        assert text_of(mail).count(f"), {account.name}\n") == html_of(mail).count(f"<br>{account.name}") == 3


def test_effects_of_several_types_that_are_called_the_same(
    account: Account, instance: Instance, mailbox: Mailbox
) -> None:
    patches = [make_event(instance, "vulnerability-fix", version_to="7.0.16") for _ in range(3)]
    text = text_of(told([*upgrades(account, 3), *patches], K.PUBLISHED, mailbox))
    assert (
        "What clients notice\n- Transient connections\n- Differences between versions\nTypically 30 s."
        in text
    )
    assert "RISK FIX: sessions" in text and ", High-risk vulnerability fix, not known → 7.0.16" in text


def test_an_endpoint_that_is_an_address_is_warned_of_in_its_row(
    account: Account, instance: Instance, mailbox: Mailbox
) -> None:
    instance.endpoint.host = "10.1.2.3"
    instance.endpoint.save()
    mail = told([*many_events(account, 5), make_event(instance)], K.PUBLISHED, mailbox)
    said = "WARNING: the endpoint is the IP address 10.1.2.3, not a domain name"
    assert text_of(mail).count(said) == html_of(mail).count(said) == 1


def test_what_people_wrote_is_escaped(account: Account, mailbox: Mailbox) -> None:
    campaign = Campaign.objects.create(name="<b>x</b>", type=EventType.objects.get(code="major-version"))
    mail = told(upgrades(account, campaign=campaign, cause="<i>y</i>", region="<u>z</u>"), K.PUBLISHED, mailbox)  # fmt: skip
    html = html_of(mail)
    assert not any(tag in html for tag in ("<b>", "<i>", "<u>"))
    assert all(tag in text_of(mail) for tag in ("<b>", "<i>", "<u>"))


# --- Times ------------------------------------------------------------------------------------------------------------


def change(operator: User, events: Iterable[Event], *, back: bool = False) -> None:
    by = By(operator)
    ids = [one.public_id for one in events]
    made = bulk.plan(
        by, BulkAction.STAGGER, ids, {"at": MARCH + timedelta(days=1), "minutes": 5, "order": "name"}
    )
    done = bulk.apply(by, made)
    if back:
        bulk.undo(by, done)


def test_moved_names_the_new_times_as_such(account: Account, operator: User, mailbox: Mailbox) -> None:
    change(operator, upgrades(account))
    mail = only(mailbox)
    new = f"{MARCH + timedelta(days=1):%a} 4 March {YEAR}"
    assert mail["Subject"] == (
        f"Major version upgrade of 6 instances moved, now between {new}, 01:00 UTC and {new}, 01:25 UTC"
    )
    text = text_of(mail)
    assert "Moved by operator.\n" in text and "undone" not in text
    assert f"  time: {DAY}, 01:30 UTC → {new}, 01:05 UTC" in text


def test_moved_to_the_same_time(account: Account, mailbox: Mailbox) -> None:
    events = many_events(account, 6, switch_at=MARCH, deadline=MARCH)
    mail = told(
        events, K.CHANGED, mailbox, revision=0, old=(MARCH - timedelta(days=1)).isoformat(), by="staff"
    )
    assert mail["Subject"] == f"Instance migration of 6 instances moved, now at {DAY}, 01:00 UTC"


@pytest.mark.parametrize("count", [2, 6])
def test_undone_says_so(account: Account, operator: User, mailbox: Mailbox, count: int) -> None:
    events = upgrades(account, count)
    change(operator, events)
    tell(LATER)
    bulk.undo(By(operator), BulkChange.objects.get())
    tell(LATER)
    send()
    mail = mailbox.mails[-1]
    text = text_of(mail)
    assert "Moved back by operator." in text and "An earlier change was undone." in text
    if count == 2:
        assert mail["Subject"].startswith("Major version upgrade of cache-0000")
        assert f" moved back to {DAY}, 01:" in mail["Subject"]
    else:
        assert mail["Subject"] == (
            f"Major version upgrade of 6 instances moved back, now between {DAY}, 01:00 UTC and {DAY}, 03:30 UTC"
        )


def test_undone_before_anybody_was_told(account: Account, operator: User, mailbox: Mailbox) -> None:
    change(operator, upgrades(account), back=True)
    mail = only(mailbox)
    assert mail["Subject"].startswith(
        f"Major version upgrade of 6 instances moved, and moved back, still between {DAY}, 01:00 UTC and "
    )
    assert text_of(mail).count("as before: it was moved, and moved back") == 6


@pytest.mark.parametrize(
    ("waiting", "said"),
    [(1, "1 of them waits for a time"), (2, "2 of them wait for a time"), (6, "All of them wait for a time")],
)
def test_those_that_wait_for_a_time(account: Account, mailbox: Mailbox, waiting: int, said: str) -> None:
    events = upgrades(account)
    without = {"switch_at": None, "starts_at": None, "status": EventStatus.WAITING}
    Event.objects.filter(pk__in=[one.pk for one in events[:waiting]]).update(**without)
    mail = told(events, K.PUBLISHED, mailbox)
    by = f"{MARCH + timedelta(days=6):%a} 9 March {YEAR}, 01:00 UTC"
    text = text_of(mail)
    assert f"{said}: please choose one by {by}. If nobody has chosen by then, Switchyard takes " in text
    assert text.count(f"  choose one by {by}\n") == waiting
    assert mail["Subject"].endswith(f": choose a time by {by}") is (waiting == 6)
    assert calendars_of(mail)[0].get_content().count("TRIGGER:-P1DT1H") == waiting


# --- Urgent, over -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("urgent", "said"),
    [
        (1, "URGENT: 1 of them is a risk fix, "),
        (2, "URGENT: 2 of them are risk fixes, "),
        (6, "URGENT: all of them are risk fixes, "),
    ],
)
def test_risk_fixes_are_marked_in_red_at_the_top_and_in_their_rows(
    account: Account, mailbox: Mailbox, urgent: int, said: str
) -> None:
    events = many_events(account, 6)
    Event.objects.filter(pk__in=[one.pk for one in events[:urgent]]).update(level="S0")
    mail = told(events, K.REMINDER, mailbox, revision=0, hours=24)
    assert said in opening_of(mail)
    assert f'<p class="alarm" style="margin:0 0 12px;padding:10px 12px;border-left:4px solid #b42331;background:#fdecee;color:#5c1019">{said}' in html_of(mail)  # fmt: skip
    assert text_of(mail).count("RISK FIX: ") == html_of(mail).count(">RISK FIX<") == urgent


def test_risk_fixes_that_were_seen_and_moved_are_in_no_red_box(
    account: Account, operator: User, mailbox: Mailbox
) -> None:
    events = many_events(account, 6, level="S0", switch_at=MARCH, deadline=MARCH + timedelta(days=2))
    for event in events:
        scheduling.acknowledge(By(operator), event)
    mail = told(events, K.CHANGED, mailbox, revision=0, old=(MARCH - timedelta(days=1)).isoformat(), by="operator")  # fmt: skip
    first, second = opening_of(mail).split("\n\n")[1:3]
    assert first == "Moved by operator." and second.startswith("All of them are risk fixes, ")
    assert '<p class="alarm"' not in html_of(mail) and '<p class="note"' in html_of(mail)


def test_cancelled_done_and_failed_ones_say_so_first(account: Account, mailbox: Mailbox) -> None:
    events = upgrades(account, status=EventStatus.CANCELLED)
    mail = told(events, K.CANCELLED, mailbox, by="staff", why="The date was wrong.")
    text = text_of(mail)
    assert text.startswith("CANCELLED: Major version upgrade of 6 instances of the account Payments\n")
    assert "Cancelled by staff.\n\nWhy: The date was wrong.\n" in text
    assert f"  was planned for: {DAY}, 01:00 UTC" in text and ">Was planned for</th>" in html_of(mail)
    assert "What clients notice" not in text and "What to do" not in text and "Deadline" not in text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ([1.5, 5.2, 0.4], "DONE (clients cut off for up to 5.2 s): "),
        ([2], "DONE (clients cut off for 2 s): "),
    ],
)
def test_done_says_how_long_it_took_at_most(
    account: Account, mailbox: Mailbox, seconds: list[float], said: str
) -> None:
    events = upgrades(account, status=EventStatus.SUCCEEDED, finished_at=MARCH)
    for number, event in enumerate(events):
        event.measured_seconds = seconds[number % len(seconds)]
        event.save()
    text = text_of(told(events, K.SUCCEEDED, mailbox))
    assert text.startswith(f"{said}Major version upgrade of 6 instances of the account Payments\n")
    assert f"  clients were cut off for {seconds[0]:g} s\n" in text


def test_failed_ones_say_why_in_their_rows(account: Account, mailbox: Mailbox) -> None:
    events = upgrades(account, status=EventStatus.FAILED, result="The new node has no disk.")
    text = text_of(told(events, K.FAILED, mailbox))
    assert text.startswith("FAILED: Major version upgrade of 6 instances")
    assert text.count("  The new node has no disk.\n") == 6
    assert "What to do\n- Check that clients of the instance are connected" in text


def test_a_thousand_that_wait_take_as_many_queries_as_ten(
    account: Account, django_assert_max_num_queries: Any
) -> None:
    events = many_events(account, 1000, switch_at=None, status=EventStatus.WAITING)
    occasions.note_many(occasions.draft(one, K.PUBLISHED, "published", batch="cp-1") for one in events)
    with django_assert_max_num_queries(40):
        assert tell(LATER) == 1000
