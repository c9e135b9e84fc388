"""What staff have to do is told to the contacts of operations, whichever account the event is of."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from events.choices import OccasionKind
from events.models import Campaign, Event, EventRun, Occasion
from events.services import execution, steps
from events.services.by import SYSTEM
from portal.choices import Category
from portal.models import Account, Contact, Instance, Notification
from tests.portal.world import make_instance, make_user
from tests.support.receivers import Mailbox

from .conftest import make_contact, make_event
from .mails import html_of, send, tell, text_of, told_to

HOUR = timedelta(hours=1)


@pytest.fixture
def night_shift(db: None) -> Contact:
    """Of operations, which has no instances of its own."""
    return make_contact(Account.objects.create(name="Operations", is_operations=True), "Night shift")


def work(event: Event, at: timedelta = timedelta(0)) -> None:
    """Begun, and its steps up to this long after the switch time."""
    assert event.starts_at is not None and event.switch_at is not None
    if not EventRun.objects.filter(event=event).exists():
        execution.begin(event.pk, event.starts_at)
    while not steps.take(event.pk, "worker", event.switch_at + at).startswith(("nothing", "not yet")):
        pass
    event.refresh_from_db()


def subjects() -> list[str]:
    return [one.subject for one in told_to("Night shift")]


def test_each_phase_that_waits_for_a_person_is_told_once(
    event: Event, contact: Contact, night_shift: Contact, mailbox: Mailbox
) -> None:
    work(event)
    tell()
    execution.confirm(SYSTEM, event, "prepare", now=event.switch_at)
    work(event)
    tell()
    execution.confirm(SYSTEM, event, "switch", 4, now=event.switch_at)
    work(event)  # the check: who has just confirmed the switchover sees it
    tell()
    first, second = told_to("Night shift")
    assert first.subject.startswith("To do: Prepare: Instance migration of sessions, switchover ")
    assert second.subject.startswith("To do: Switch over: Instance migration of sessions, switchover ")
    assert first.urgent and first.url == event.get_absolute_url()
    assert (
        first.payload["kind"] == "work"
        and first.payload["about"] == "waiting"
        and first.payload["stage"] == "Prepare"
    )
    # The owner hears of the event, and of no work.
    assert {one.payload["kind"] for one in told_to(contact.name)} == {"started"}

    send()
    mail = next(one for one in mailbox.mails if str(one["Subject"]).startswith("To do: Prepare"))
    text = text_of(mail)
    assert "Prepare everything up to the switchover, without any impact on clients, and confirm it." in text
    assert f"Account: {event.account.name}" in text and event.get_absolute_url() in text
    assert "/events/link/" not in text + html_of(mail)  # it is not theirs to move


def test_what_nobody_confirms_and_what_has_failed(event: Event, night_shift: Contact) -> None:
    work(event)
    assert event.switch_at is not None
    execution.remark_overdue(event.pk, event.switch_at)
    tell()
    execution.report_failure(SYSTEM, event, "No replica could be had.", now=event.switch_at)
    tell()
    _, overdue, failed = told_to("Night shift")
    assert overdue.subject.startswith("OVERDUE: Prepare: Instance migration of sessions, switchover ")
    assert "Nobody has confirmed “Prepare”, and the time of the switchover has come." in overdue.text
    assert failed.subject == "FAILED: Instance migration of sessions"
    assert "It has failed in the stage “Prepare”: No replica could be had." in failed.text
    assert "Check that clients of the instance are connected" in failed.text


def test_what_was_done_meanwhile_is_told_to_nobody(event: Event, night_shift: Contact) -> None:
    work(event)
    execution.report_failure(SYSTEM, event, "No replica could be had.", now=event.switch_at)
    tell()
    assert subjects() == ["FAILED: Instance migration of sessions"]


def test_a_campaign_over_accounts_is_one_message(
    instance: Instance, account: Account, night_shift: Contact
) -> None:
    other = Account.objects.create(name="Other")
    campaign = Campaign.objects.create(name="Hosts leave", type=make_event(instance).type)
    for number in range(8):
        work(make_event(make_instance((account, other)[number % 2], f"many-{number}"), campaign=campaign))
    tell(timedelta(minutes=1))
    assert [one.split(":")[0] for one in subjects()] == [
        "Instance migration of 8 instances waiting for staff"
    ]
    (told,) = told_to("Night shift")
    assert "Instance migration of 8 instances of 2 accounts: waiting for staff" in told.text
    assert "Prepare everything up to the switchover" in told.text


def test_only_contacts_of_operations_who_want_to_hear_of_it(event: Event, night_shift: Contact) -> None:
    make_contact(night_shift.account, "Fault desk")
    Contact.objects.filter(pk=night_shift.pk).update(categories=[Category.TASKS])
    work(event)
    tell()
    assert {one.contact.name for one in Notification.objects.filter(payload__kind="work")} == {"Fault desk"}


def test_without_operations_nobody_is_told_and_the_page_does_not_say_so(
    event: Event, contact: Contact, client: Client, account: Account
) -> None:
    work(event)
    tell()
    assert Occasion.objects.get(kind=OccasionKind.WORK).told_at is not None
    assert not Notification.objects.filter(payload__kind="work").exists()
    client.force_login(make_user("root", is_superuser=True, is_staff=True))
    page = client.get(event.get_absolute_url()).content.decode()
    assert "Contacts told: begun" in page and "work for staff" not in page


def test_a_stage_that_waits_again_is_not_told_again(event: Event, night_shift: Contact) -> None:
    work(event)
    tell()
    EventRun.objects.filter(event=event).update(next_step_at=timezone.now())
    work(event, HOUR)
    tell()
    assert len(subjects()) == 1
