"""Each kind of message about an event, sent over SMTP and read back: subject, text, HTML, link and calendar entry."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from email.message import EmailMessage
from html import unescape
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from events.choices import EventStatus, OccasionKind
from events.models import Event
from events.services import scheduling
from events.services.by import By
from events.services.links import LinkState, open_link
from portal.choices import Category
from portal.models import Account, Channel, Contact, Delivery, Instance, MaintenanceWindow, Notification
from portal.models.windows import bits_of
from portal.services import notifications
from portal.services.notifications import Message
from tests.events.conftest import make_contact, make_event
from tests.events.mails import calendars_of, entry_of, html_of, note, send, tell, text_of
from tests.portal.world import World
from tests.support.receivers import Mailbox, Receiver

K = OccasionKind
NOW = timezone.now()
YEAR = NOW.year + 2  # not the present one, which is left out, on New Year's Eve either
BERLIN = ZoneInfo("Europe/Berlin")
MARCH = datetime(YEAR, 3, 3, 1, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def somebody(contact: Contact) -> Contact:
    contact.time_zone = "Europe/Berlin"
    contact.save()
    return contact


@pytest.fixture
def event(instance: Instance) -> Event:
    return make_event(instance, switch_at=MARCH, deadline=MARCH + timedelta(days=7))


def words(html: str) -> str:
    """As a reader sees it."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def window_at(instance: Instance, moment: datetime) -> None:
    """An hour from then on, each week."""
    MaintenanceWindow.objects.create(
        instance=instance, day_bits=bits_of({moment.weekday()}), starts=moment.time(), ends=(moment + timedelta(hours=1)).time(),
        time_zone="UTC",
    )  # fmt: skip


def token_in(text: str) -> str:
    found = re.search(r"https://console\.example/events/link/([^/\s]+)/", text)
    assert found, text
    return found[1]


def test_an_announcement_says_what_happens_to_which_server_and_when(
    event: Event, instance: Instance, mailbox: Mailbox, contact: Contact
) -> None:
    note(event, K.PUBLISHED, by="staff")
    assert tell() == 1
    send()
    (mail,) = mailbox.mails
    day = f"{MARCH:%a} 3 March {YEAR}, 02:00 CET"
    assert mail["Subject"] == f"Instance migration of sessions: {day}"
    assert mail["Importance"] is None
    text, html = text_of(mail), html_of(mail)
    first = f"Instance migration of sessions ({instance.public_id}): {day} (01:00 UTC)"
    assert text.splitlines()[0] == first
    assert words(html.partition("</head>")[2]).startswith(first)
    for said in (
        "Transient connections",
        "At the switchover all connections are closed",
        "Typically 30 s. No earlier run of this type has been measured.",
        event.cause,
        "domain name of the endpoint",
        "DNS cache",
        "eu-central",
        "sessions.internal:6379",
        event.public_id,
        f"{MARCH + timedelta(days=7):%a} 10 March {YEAR}, 02:00 CET (01:00 UTC)",  # the deadline
        f"{MARCH:%a} 3 March {YEAR}, 01:50 CET (00:50 UTC)",  # the preparation
        f"https://console.example/events/{event.public_id}/",
    ):
        assert said in " ".join(text.split()), said
        assert said in words(html) or said in html, said
    assert "WARNING" not in text  # the endpoint is a name
    opened = open_link(token_in(text))
    assert opened.state == LinkState.VALID and opened.event == event and opened.contact == contact
    assert token_in(html) == token_in(text)


def test_html_is_for_phones_and_dark_mode_and_loads_nothing(event: Event, mailbox: Mailbox) -> None:
    note(event, K.PUBLISHED)
    tell()
    send()
    html = html_of(mailbox.mails[0])
    assert 'name="viewport"' in html and "prefers-color-scheme: dark" in html
    assert not re.search(r"<img|<script|<link|@import|url\(|background=|src=", html)
    assert set(re.findall(r'href="(https?://[^/"]+)', html)) == {"https://console.example"}


def test_what_people_wrote_is_escaped(event: Event, mailbox: Mailbox) -> None:
    event.cause = "<script>alert(1)</script>"
    event.save()
    note(event, K.PUBLISHED)
    tell()
    send()
    (mail,) = mailbox.mails
    assert "<script>" in text_of(mail) and "<script>" not in html_of(mail)


def test_versions_with_notes_and_without(instance: Instance, mailbox: Mailbox) -> None:
    without = make_event(instance, "minor-version", version_from="7.2.4", version_to="7.2.5")
    notes = "https://notes.example/7.2.6"
    with_notes = make_event(
        instance, "minor-version", version_from="7.2.5", version_to="7.2.6", release_notes=notes
    )
    for one in (without, with_notes):
        note(one, K.PUBLISHED)
    tell()
    send()
    first, second = mailbox.mails
    assert "Version: 7.2.4 → 7.2.5\nRelease notes: no notes\n" in text_of(first)
    assert f"Version: 7.2.5 → 7.2.6\nRelease notes: {notes}\n" in text_of(second)
    assert f'href="{notes}"' in html_of(second)


def test_an_endpoint_that_is_an_address_is_warned_of(
    event: Event, instance: Instance, mailbox: Mailbox
) -> None:
    instance.endpoint.host = "10.1.2.3"
    instance.endpoint.save()
    note(event, K.PUBLISHED)
    tell()
    send()
    (mail,) = mailbox.mails
    for said in ("IP address 10.1.2.3, not a domain name",):
        assert said in text_of(mail) and said in words(html_of(mail))


def test_measured_impact_of_earlier_runs_stands_beside_the_typical_one(
    event: Event, instance: Instance, mailbox: Mailbox
) -> None:
    for seconds in (2.0, 8.0, 50.0):
        make_event(
            instance, status=EventStatus.SUCCEEDED, measured_seconds=seconds, finished_at=timezone.now()
        )
    make_event(
        instance, status=EventStatus.SUCCEEDED, measured_seconds=0.1, finished_at=timezone.now(), executor="simulated",
    )  # fmt: skip
    note(event, K.PUBLISHED)
    tell()
    send()
    assert "Typically 30 s. Measured: 8 s (median of 3 earlier runs of this type)." in text_of(
        mailbox.mails[0]
    )


def test_one_that_waits_for_a_time_asks_for_it(instance: Instance, mailbox: Mailbox) -> None:
    event = make_event(instance, switch_at=None, deadline=MARCH)
    note(event, K.PUBLISHED)
    tell()
    send()
    (mail,) = mailbox.mails
    # A day before the deadline the system chooses.
    by = f"{MARCH - timedelta(days=1):%a} 2 March {YEAR}, 02:00 CET"
    assert mail["Subject"] == f"Instance migration of sessions: choose a time by {by}"
    text = text_of(mail)
    assert text.splitlines()[0].endswith(f": choose a time by {by} (01:00 UTC)")
    assert (
        "Please choose when it happens. If nobody has chosen by then, Switchyard takes the last time that fits before the "
        f"deadline, {MARCH:%a} 3 March {YEAR}, 02:00 CET (01:00 UTC)."
    ) in text
    assert f"Choose a time by: {by}" in text
    assert "Choose a time, without signing in:" in text and "Choose a time" in html_of(mail)
    _, entry = entry_of(mail)
    assert entry["status"] == "TENTATIVE" and entry.decoded("dtstart") == MARCH
    assert entry["summary"] == "Choose a time: Instance migration of sessions"
    assert f"Choose a time by {YEAR}-03-02 01:00 UTC." in str(entry["description"])
    (alarm,) = entry.walk("VALARM")
    assert alarm.decoded("trigger") == -timedelta(hours=25)


def test_the_time_is_chosen_before_the_last_maintenance_window(
    instance: Instance, mailbox: Mailbox, staff: User
) -> None:
    window_at(instance, MARCH - timedelta(days=2))
    note(make_event(instance, switch_at=None, deadline=MARCH), K.PUBLISHED)
    tell()
    send()
    (mail,) = mailbox.mails
    by = MARCH - timedelta(days=3)
    assert mail["Subject"].endswith(
        f": choose a time by {by.astimezone(BERLIN):%a} {by.day} February {YEAR}, 02:00 CET"
    )
    assert entry_of(mail)[1].walk("VALARM")[0].decoded("trigger") == -timedelta(days=3, hours=1)


def test_nobody_is_asked_for_a_time_that_the_system_has_chosen_by_then(
    instance: Instance, mailbox: Mailbox
) -> None:
    now = timezone.now()
    deadline = now + timedelta(hours=20)
    event = make_event(instance, switch_at=None, deadline=deadline, created_at=now - timedelta(days=5))
    note(event, K.PUBLISHED)
    tell()
    send()
    (mail,) = mailbox.mails
    assert ": no time yet, " in mail["Subject"] and mail["Subject"].endswith(" at the latest")
    assert "Nobody has chosen a time. Switchyard takes the last one that fits" in text_of(mail)
    assert "Choose a time by" not in text_of(mail)


def test_urgent_says_so_and_that_the_notice_is_shorter(instance: Instance, mailbox: Mailbox) -> None:
    now = timezone.now()
    event = make_event(
        instance, "vulnerability-fix", created_at=now, switch_at=now + timedelta(hours=20), deadline=now + timedelta(hours=30),
    )  # fmt: skip
    note(event, K.PUBLISHED)
    tell()
    send()
    (mail,) = mailbox.mails
    assert mail["Subject"].startswith("URGENT: High-risk vulnerability fix of sessions: ")
    assert mail["Importance"] == "high"
    said = "announced 20 h ahead. That is a shorter notice than the usual 72 hours"
    assert said in text_of(mail) and said in words(html_of(mail))


@pytest.fixture
def urgent(instance: Instance) -> Event:
    now = timezone.now().replace(microsecond=0)
    return make_event(
        instance, "vulnerability-fix", created_at=now, switch_at=now + timedelta(hours=20), deadline=now + timedelta(hours=30),
    )  # fmt: skip


def opening_of(mail: EmailMessage) -> str:
    """What stands between the headline and the button."""
    return "\n".join(text_of(mail).partition(", without signing in:")[0].splitlines()[1:-1]).strip()


def test_an_urgent_one_that_was_moved_says_the_new_time_first(
    urgent: Event, operator: User, mailbox: Mailbox
) -> None:
    scheduling.reschedule(By(operator), urgent, timezone.now() + timedelta(hours=21))
    tell()
    send()
    (mail,) = mailbox.mails
    opening = opening_of(mail)
    assert opening.startswith("Moved by operator. Old time: ")
    # Who moves an event of their own account has seen it: nothing is asked of anybody, in no red box.
    assert "It was acknowledged by operator." in opening and "URGENT" not in opening
    assert "This is a risk fix, announced 20 h ahead." in opening
    assert 'class="alarm"' not in html_of(mail)
    assert "Look at it, or move it, without signing in:" in text_of(mail)
    assert "I have seen it" not in html_of(mail)


def test_an_urgent_one_that_staff_have_moved_is_still_to_be_seen(
    urgent: Event, staff: User, mailbox: Mailbox
) -> None:
    scheduling.reschedule(By(staff), urgent, timezone.now() + timedelta(hours=21))
    tell()
    send()
    (mail,) = mailbox.mails
    opening = opening_of(mail)
    assert opening.startswith("Moved by staff. Old time: ") and "URGENT: a risk fix" in opening
    assert 'class="alarm"' in html_of(mail)
    assert "I have seen it, or move it, without signing in:" in text_of(mail)


def test_a_reminder_of_an_urgent_one_says_who_has_seen_it(
    urgent: Event, operator: User, mailbox: Mailbox
) -> None:
    scheduling.acknowledge(By(operator), urgent)
    note(urgent, K.REMINDER, "reminder:0:1", revision=0, hours=1)
    tell()
    send()
    (mail,) = mailbox.mails
    assert opening_of(mail).startswith("20 h left until the switchover.\n\nIt was acknowledged by operator.")


@pytest.mark.parametrize(
    ("may_change", "acknowledged", "button"),
    [
        (True, False, "Move it, or confirm the time"),
        (True, True, "Look at it, or move it"),
        (False, False, "I have seen it"),
        (False, True, "Look at it"),
    ],
)
def test_the_button_says_what_the_page_behind_it_offers(
    instance: Instance, mailbox: Mailbox, may_change: bool, acknowledged: bool, button: str
) -> None:
    seen = {"acknowledged_at": timezone.now(), "acknowledged_by": "Anna"} if acknowledged else {}
    note(make_event(instance, may_change=may_change, **seen), K.PUBLISHED)
    tell()
    send()
    (mail,) = mailbox.mails
    assert f"\n{button}, without signing in:\n" in text_of(mail) and f">{button}</a>" in html_of(mail)


def test_simulated_is_marked(instance: Instance, mailbox: Mailbox) -> None:
    note(make_event(instance, executor="simulated"), K.PUBLISHED)
    tell()
    send()
    (mail,) = mailbox.mails
    assert mail["Subject"].startswith("[Simulated] Instance migration of sessions: ")
    assert "SIMULATED: nothing is really done" in text_of(mail)
    assert "SIMULATED: nothing is really done" in html_of(mail)
    assert entry_of(mail)[1]["summary"].startswith("Simulated: ")


def test_a_new_time_says_old_and_new_and_who(
    event: Event, operator: object, mailbox: Mailbox, contact: Contact
) -> None:
    new = MARCH + timedelta(days=1, hours=1)
    scheduling.reschedule(By(operator), event, new)
    tell()
    send()
    (mail,) = mailbox.mails
    assert mail["Subject"] == f"Instance migration of sessions moved to {new:%a} 4 March {YEAR}, 03:00 CET"
    said = (
        f"Moved by operator. Old time: {MARCH:%a} 3 March {YEAR}, 02:00 CET (01:00 UTC). "
        f"New time: {new:%a} 4 March {YEAR}, 03:00 CET (02:00 UTC)."
    )
    assert said in text_of(mail) and said in words(html_of(mail))
    opened = open_link(token_in(text_of(mail)))
    assert opened.state == LinkState.VALID and opened.revision == 1
    _, entry = entry_of(mail)
    assert entry["sequence"] == 1 and entry.decoded("dtstart") == new


def test_moved_and_moved_back_is_no_new_time(
    event: Event, operator: object, mailbox: Mailbox, contact: Contact
) -> None:
    for number, moment in enumerate((MARCH + timedelta(hours=1), MARCH)):
        scheduling.reschedule(By(operator), event, moment, seen=number)
    tell()
    send()
    (mail,) = mailbox.mails
    assert mail["Subject"] == f"Instance migration of sessions stays at {MARCH:%a} 3 March {YEAR}, 02:00 CET"
    assert "It was moved, and moved back by operator: it stays at " in text_of(mail)
    assert "Old time" not in text_of(mail)
    assert open_link(token_in(text_of(mail))).state == LinkState.VALID


def test_postponed_says_why(event: Event, mailbox: Mailbox) -> None:
    new = MARCH + timedelta(days=1)
    event.switch_at, event.starts_at, event.revision = new, new, 1
    event.save()
    note(event, K.POSTPONED, "postponed:1", revision=1, old=MARCH.isoformat(), by="the system", why="It could not begin in time.")  # fmt: skip
    tell()
    send()
    (mail,) = mailbox.mails
    assert "sessions postponed to " in mail["Subject"]
    assert "Postponed by the system. Old time: " in text_of(mail)
    assert "Why: It could not begin in time." in text_of(mail)


def test_a_reminder_says_how_much_time_is_left(instance: Instance, mailbox: Mailbox) -> None:
    event = make_event(instance, switch_at=timezone.now() + timedelta(hours=24, seconds=-3))
    note(event, K.REMINDER, "reminder:0:24", revision=0, hours=24)
    tell()
    send()
    (mail,) = mailbox.mails
    assert mail["Subject"].startswith("Reminder: Instance migration of sessions: ")
    assert "24 h left until the switchover." in text_of(mail)
    assert not calendars_of(mail)  # the entry is there already


@pytest.mark.parametrize("held", [False, True])
def test_a_reminder_that_quiet_hours_hold_back_counts_from_their_end(
    instance: Instance, mailbox: Mailbox, contact: Contact, held: bool
) -> None:
    now = timezone.now()
    if held:
        contact.time_zone = "UTC"
        contact.quiet_from = time((now.hour - 1) % 24)
        contact.quiet_to = (now + timedelta(hours=10)).time().replace(minute=0, second=0, microsecond=0)
        contact.save()
    end = (now + timedelta(hours=10)).replace(minute=0, second=0, microsecond=0)
    event = make_event(instance, switch_at=end + timedelta(hours=14))
    note(event, K.REMINDER, "reminder:0:24", revision=0, hours=24)
    tell()
    (told,) = Notification.objects.all()
    assert ("14 h left until the switchover." in told.text) is held
    assert Delivery.objects.get().status == ("held" if held else "pending")


def test_begun_and_late(event: Event, mailbox: Mailbox) -> None:
    event.status, event.started_at = EventStatus.RUNNING, timezone.now()
    event.save()
    note(event, K.STARTED, late_seconds=600, why="Another event was in the way.")
    tell()
    send()
    (mail,) = mailbox.mails
    assert mail["Subject"].startswith("Begun: Instance migration of sessions, switchover ")
    assert "It has begun 10 min late. Another event was in the way." in text_of(mail)
    assert "/events/link/" not in text_of(mail)  # nothing can be changed any more


@pytest.mark.parametrize(
    ("executor", "said"), [("manual", "Staff are asked to prepare it now"), ("simulated", "The preparation has begun")]
)  # fmt: skip
def test_of_manual_work_only_the_question_has_begun(
    instance: Instance, mailbox: Mailbox, executor: str, said: str
) -> None:
    note(make_event(instance, executor=executor, status=EventStatus.RUNNING), K.STARTED)
    tell()
    send()
    assert f"{said}; clients notice nothing before the switchover." in text_of(mailbox.mails[0])


def test_done_with_the_measured_impact(event: Event, mailbox: Mailbox) -> None:
    event.status, event.measured_seconds, event.finished_at = EventStatus.SUCCEEDED, 1.4, timezone.now()
    event.switched_at = MARCH + timedelta(minutes=2)
    event.save()
    note(event, K.SUCCEEDED, measured_seconds=1.4)
    tell()
    send()
    (mail,) = mailbox.mails
    which = f"Instance migration of sessions ({event.instance_public_id})"
    assert text_of(mail).splitlines()[0] == f"DONE (clients cut off for 1.4 s): {which}"
    assert f"\nSwitched over: {MARCH:%a} 3 March {YEAR}, 02:02 CET (01:02 UTC)\n" in text_of(mail)
    assert "Switchover: " not in text_of(mail)
    assert mail["Subject"] == "Done: Instance migration of sessions, clients were cut off for 1.4 s"
    assert "Measured impact: clients were cut off, or could not write, for 1.4 s (typical: 30 s)." in text_of(
        mail
    )


def test_failed_with_the_reason_and_high_importance(event: Event, mailbox: Mailbox) -> None:
    event.status, event.result, event.finished_at = EventStatus.FAILED, "The new node has no disk.", timezone.now()  # fmt: skip
    event.save()
    note(event, K.FAILED, result=event.result, stage="Request resources")
    tell()
    send()
    (mail,) = mailbox.mails
    assert mail["Subject"] == "FAILED: Instance migration of sessions"
    first = text_of(mail).splitlines()[0]
    assert first == f"FAILED: Instance migration of sessions ({event.instance_public_id})"
    assert "\nWas planned for: " in text_of(mail) and "Switchover: " not in text_of(mail)
    assert mail["Importance"] == "high"
    assert "It has failed in the stage “Request resources”: The new node has no disk." in text_of(mail)


def test_cancelled_with_who_and_why(event: Event, staff: object, mailbox: Mailbox) -> None:
    scheduling.cancel(By(staff), event, "The machine was repaired.")
    tell()
    send()
    (mail,) = mailbox.mails
    assert mail["Subject"] == f"Cancelled: Instance migration of sessions, was planned for {MARCH:%a} 3 March {YEAR}, 02:00 CET"  # fmt: skip
    first = f"CANCELLED: Instance migration of sessions ({event.instance_public_id})"
    assert text_of(mail).splitlines()[0] == first and f">{first}</h1>" in html_of(mail)
    assert f"\nWas planned for: {MARCH:%a} 3 March {YEAR}, 02:00 CET (01:00 UTC)\n" in text_of(mail)
    assert "Switchover: " not in text_of(mail)
    assert "It was cancelled by staff and does not take place." in text_of(mail)
    assert "Why: The machine was repaired." in text_of(mail)
    calendar, entry = entry_of(mail)
    assert calendar["method"] == "CANCEL" and entry["status"] == "CANCELLED" and entry["sequence"] == 1


def test_calendar_entries_update_one_another(
    event: Event, operator: object, staff: object, mailbox: Mailbox
) -> None:
    note(event, K.PUBLISHED)
    tell()
    scheduling.reschedule(By(operator), event, MARCH + timedelta(days=2))
    tell()
    event.refresh_from_db()
    scheduling.cancel(By(staff), event)
    tell()
    send()
    found = [entry_of(mail) for mail in mailbox.mails]
    assert [calendar["method"] for calendar, _ in found] == ["PUBLISH", "PUBLISH", "CANCEL"]
    assert {str(entry["uid"]) for _, entry in found} == {f"{event.public_id}@switchyard"}
    assert [entry["sequence"] for _, entry in found] == [0, 1, 2]
    _, first = found[0]
    assert first.decoded("dtstart") == MARCH and first.decoded("dtend") == MARCH + timedelta(minutes=10)
    assert first["dtstart"].to_ical() == f"{MARCH:%Y%m%dT%H%M%SZ}".encode()
    assert first["status"] == "CONFIRMED" and first["organizer"] == "mailto:switchyard@localhost"
    assert first["url"] == f"https://console.example/events/{event.public_id}/"
    assert first["location"] == f"sessions ({event.instance_public_id}), eu-central"
    assert "Typical impact: 30 s" in str(first["description"])
    assert f"Preparation from: {YEAR}-03-03 00:50 UTC" in str(first["description"])
    (alarm,) = first.walk("VALARM")
    assert alarm.decoded("trigger") == -timedelta(hours=1)
    (part,) = calendars_of(mailbox.mails[0])
    assert part["Content-Type"] == 'text/calendar; charset="utf-8"; method="PUBLISH"'
    assert part.get_filename() == f"{event.public_id}.ics"
    assert all(line.endswith(b"\r\n") for line in part.get_payload(decode=True).splitlines(keepends=True))


def test_mails_of_one_event_are_kept_together(event: Event, instance: Instance, mailbox: Mailbox) -> None:
    other = make_event(instance)
    for one in (event, other):
        note(one, K.PUBLISHED)
    note(event, K.REMINDER, "reminder:0:24", revision=0, hours=24)
    tell()
    send()
    threads = [mail["References"] for mail in mailbox.mails]
    mine, others = (f"<event.{one.public_id}@localhost>" for one in (event, other))
    assert sorted(threads) == sorted([mine, mine, others])
    assert [mail["In-Reply-To"] for mail in mailbox.mails] == threads
    assert not {mail["Message-ID"] for mail in mailbox.mails} & set(threads)
    assert {mail["From"] for mail in mailbox.mails} == {"Switchyard <switchyard@localhost>"}


@pytest.mark.parametrize(
    ("occasion", "thread"),
    [
        ("task:mt-7w8k27tn:alert:12:raised", "<task.mt-7w8k27tn@localhost>"),
        ("events:cp-7w8k27tn:published:3", "<events.cp-7w8k27tn@localhost>"),
        ("events:together:reminder:3", None),
        ("test:0123456789abcdef", None),
    ],
)
def test_only_mails_about_the_same_thing_are_kept_together(
    contact: Contact, mailbox: Mailbox, occasion: str, thread: str | None
) -> None:
    notifications.notify([contact], occasion, Category.MAINTENANCE, Message("Subject", "Text"))
    send()
    (mail,) = mailbox.mails
    assert mail["References"] == mail["In-Reply-To"] == thread


# --- Clocks -----------------------------------------------------------------------------------------------------------

SPRING = datetime(YEAR, 3, 31, 1, 0, tzinfo=UTC)
SPRING -= timedelta(days=(SPRING.weekday() + 1) % 7)  # the last Sunday: 02:00 CET is 03:00 CEST
AUTUMN = datetime(YEAR, 10, 31, 0, 30, tzinfo=UTC)
AUTUMN -= timedelta(days=(AUTUMN.weekday() + 1) % 7)  # 02:30 CEST, and an hour later 02:30 CET


@pytest.mark.parametrize(
    ("zone", "moment", "said"),
    [
        ("UTC", MARCH, f"3 March {YEAR}, 01:00 UTC\n"),
        ("America/New_York", MARCH, f"2 March {YEAR}, 20:00 EST ({MARCH:%a} 3 Mar 01:00 UTC)\n"),
        ("Asia/Kathmandu", MARCH, f"3 March {YEAR}, 06:45 UTC+05:45 (01:00 UTC)\n"),
        ("America/Sao_Paulo", MARCH, f"2 March {YEAR}, 22:00 UTC-03:00 ({MARCH:%a} 3 Mar 01:00 UTC)\n"),
        ("Europe/Berlin", SPRING - timedelta(seconds=60), "01:59 CET (00:59 UTC)\n"),
        ("Europe/Berlin", SPRING, "03:00 CEST (01:00 UTC)\n"),
        ("Europe/Berlin", AUTUMN, "02:30 CEST (00:30 UTC)\n"),
        ("Europe/Berlin", AUTUMN + timedelta(hours=1), "02:30 CET (01:30 UTC)\n"),
        ("Nowhere/Unknown", MARCH, f"3 March {YEAR}, 01:00 UTC\n"),
    ],
)
def test_times_are_those_of_the_contact_and_of_utc(
    instance: Instance, contact: Contact, mailbox: Mailbox, zone: str, moment: datetime, said: str
) -> None:
    contact.time_zone = zone
    contact.save()
    note(make_event(instance, switch_at=moment, deadline=moment), K.PUBLISHED)
    tell()
    send()
    text = text_of(mailbox.mails[0])
    assert said in text
    twice = {
        AUTUMN: "the first one, CEST, is meant",
        AUTUMN + timedelta(hours=1): "the second one, CET, is meant",
    }
    if moment in twice:
        assert f"The clocks go back on that night and show 02:30 twice: {twice[moment]}." in text
    else:
        assert "clocks go back" not in text


# --- Other channels ---------------------------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def test_a_webhook_gets_the_event_as_data(event: Event, account: Account, receiver: Receiver) -> None:
    Channel.objects.all().delete()
    hook = make_contact(account, "Robot")
    hook.channels.all().delete()
    Channel.objects.create(contact=hook, kind="webhook", address=receiver.url)
    note(event, K.CHANGED, "changed:1", revision=1, old=MARCH.isoformat(), by="somebody", why="")
    tell()
    send()
    body = json.loads(receiver.requests[0].body)
    assert body["url"].endswith(f"/events/{event.public_id}/") and body["category"] == "maintenance"
    data = body["data"]
    assert data | {"switch_at": 0, "deadline": 0, "starts_at": 0} == {
        "event": event.public_id, "kind": "changed", "type": "instance-migration", "level": "S1", "status": "pending",
        "simulated": False, "account": account.public_id, "instance": event.instance_public_id, "instance_name": "sessions",
        "region": "eu-central", "zone": "", "switch_at": 0, "starts_at": 0, "deadline": 0, "revision": 0,
        "version_from": "", "version_to": "", "impacts": ["transient"], "typical_seconds": 30, "measured_seconds": None,
        "result": "", "old_switch_at": MARCH.isoformat(), "by": "somebody", "why": None, "hours": None,
        "stage": None, "about": None,
    }  # fmt: skip
    assert data["switch_at"] == MARCH.isoformat()


def test_the_inbox_has_it_too(event: Event, world: World, contact: Contact) -> None:
    contact.user = world.user("operator")
    contact.save()
    Channel.objects.create(contact=contact, kind="inbox")
    note(event, K.PUBLISHED)
    tell()
    told = Notification.objects.get()
    assert told.user == world.user("operator") and told.occasion == f"event:{event.public_id}:published"
    assert told.url == f"/events/{event.public_id}/"
