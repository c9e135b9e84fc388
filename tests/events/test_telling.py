"""What is told, to whom, and what is passed over: once for each contact, event and occasion."""

from __future__ import annotations

from collections.abc import Callable
from datetime import time, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from django_q.models import OrmQ

from events import jobs
from events.choices import EventStatus, LogLevel, OccasionKind
from events.models import Campaign, Event, EventLogEntry, EventType, Occasion
from events.services import occasions, scheduling, telling
from events.services.by import SYSTEM, By
from portal.choices import DeliveryStatus
from portal.models import Account, Channel, Contact, Delivery, Instance, InstanceContact, Notification
from portal.services import inbox
from tests.events.conftest import make_contact, make_event
from tests.events.mails import note, tell, told_to, untold
from tests.portal.world import World

K = OccasionKind
MINUTES = timedelta(minutes=15)  # EVENT_ESCALATION_MINUTES
Names = Callable[[], list[str]]


def kinds() -> list[str]:
    return [str(one.payload.get("kind")) for one in Notification.objects.order_by("pk")]


def newest() -> Notification | None:
    return Notification.objects.order_by("pk").last()


def names(since: int = 0) -> list[str]:
    """Who was told, in order."""
    return [one.contact.name for one in Notification.objects.order_by("pk")[since:]]


# --- Once -------------------------------------------------------------------------------------------------------------


def test_each_contact_is_told_once_of_each_occasion(event: Event, account: Account) -> None:
    first, second = make_contact(account, "First"), make_contact(account, "Second")
    note(event, K.PUBLISHED)
    note(event, K.PUBLISHED)
    assert tell() == 1 and tell() == 0
    assert {(one.contact, one.occasion) for one in Notification.objects.all()} == {
        (first, f"event:{event.public_id}:published"),
        (second, f"event:{event.public_id}:published"),
    }
    assert Delivery.objects.count() == 2
    assert Occasion.objects.get().told_at is not None


def test_what_was_told_before_is_not_told_again_whatever_the_outbox_says(
    event: Event, contact: Contact
) -> None:
    note(event, K.PUBLISHED)
    tell()
    Occasion.objects.update(told_at=None)
    assert tell() == 1
    assert Notification.objects.count() == 1 and Delivery.objects.count() == 1


def test_nothing_is_told_before_it_is_due(event: Event, contact: Contact) -> None:
    occasions.note_many(occasions.reminders(event, timezone.now()))
    assert tell() == 0
    assert Occasion.objects.filter(told_at=None).count() == 3


def test_commit_rings_and_so_does_the_tick(
    event: Event, contact: Contact, django_capture_on_commit_callbacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_rung_at", float("-inf"))
    with django_capture_on_commit_callbacks(execute=True):
        note(event, K.PUBLISHED)
    assert [message.func() for message in OrmQ.objects.all()] == ["events.jobs.tell"]
    telling.ring_due()
    telling.ring_due()  # within seconds: not again
    assert OrmQ.objects.count() == 2
    assert jobs.tell() == "1 occasions"
    monkeypatch.setattr(telling, "_rung_at", float("-inf"))
    telling.ring_due()
    assert [message.func() for message in OrmQ.objects.all()].count("events.jobs.tell") == 2


def test_what_is_wrong_with_one_keeps_nobody_from_hearing_of_the_others(
    instance: Instance, contact: Contact, account: Account
) -> None:
    broken, well = make_event(instance), make_event(instance)
    note(broken, K.CHANGED, "changed:1", revision="not a number")
    note(well, K.PUBLISHED)
    tell()
    assert [one.occasion for one in Notification.objects.all()] == [f"event:{well.public_id}:published"]
    assert untold() == ["changed:1"]  # to be tried again


def test_nobody_is_left_out_because_a_text_cannot_be_made(event: Event, contact: Contact) -> None:
    event.impacts = ["not what it should be"]
    event.save()
    note(event, K.PUBLISHED)
    tell()
    told = Notification.objects.get()
    assert told.subject == f"Instance migration of sessions ({event.public_id}): Announced"
    assert told.url == event.get_absolute_url()


# --- Who --------------------------------------------------------------------------------------------------------------


def test_contacts_of_the_instance_come_before_those_of_the_account(
    event: Event, account: Account, instance: Instance
) -> None:
    make_contact(account, "Account")
    own = make_contact(account, "Own")
    InstanceContact.objects.create(instance=instance, contact=own)
    note(event, K.PUBLISHED)
    tell()
    assert names() == ["Own"]


def test_who_does_not_want_to_hear_of_maintenance_is_not_told(event: Event, account: Account) -> None:
    make_contact(account, "Tasks only", categories=["tasks"])
    make_contact(account, "Both", categories=["tasks", "maintenance"])
    note(event, K.PUBLISHED)
    tell()
    assert names() == ["Both"]


def test_contacts_of_another_account_hear_nothing(event: Event, world: World, contact: Contact) -> None:
    make_contact(world.other_account, "Elsewhere")
    note(event, K.PUBLISHED)
    tell()
    assert names() == ["On call"]


def test_an_event_whose_instance_was_deleted_is_told_to_the_account(event: Event, contact: Contact) -> None:
    Event.objects.filter(pk=event.pk).update(instance=None, status=EventStatus.CANCELLED)
    note(event, K.CANCELLED)
    tell()
    assert names() == ["On call"]


def test_an_event_without_a_contact_is_noted_once_and_shown(event: Event, account: Account) -> None:
    unreachable = make_contact(account, "No way", email="")
    note(event, K.PUBLISHED)
    note(event, K.STARTED)
    Event.objects.update(status=EventStatus.RUNNING)
    assert tell() == 2
    note(event, K.FAILED)
    tell()
    (line,) = EventLogEntry.objects.all()
    assert line.level == LogLevel.WARNING and line.message == telling.NOBODY
    assert telling.nobody_told(event) is True
    unreachable.email = "way@example.org"
    unreachable.save()
    assert telling.nobody_told(event) is False
    assert not Notification.objects.exists()


def test_quiet_hours_hold_back_maintenance_and_neither_risk_fixes_nor_failures(
    instance: Instance, account: Account, contact: Contact
) -> None:
    now = timezone.now()
    contact.quiet_from, contact.quiet_to = time((now.hour - 1) % 24), time((now.hour + 2) % 24)
    contact.save()
    urgent = make_event(instance, "vulnerability-fix")
    failed = make_event(instance, status=EventStatus.FAILED)
    over = make_event(instance, "vulnerability-fix", status=EventStatus.SUCCEEDED)
    note(make_event(instance), K.PUBLISHED)
    note(urgent, K.PUBLISHED)
    note(failed, K.FAILED)
    note(over, K.SUCCEEDED)
    tell()
    found = {
        one.notification.occasion.split(":", 1)[1]: one.status
        for one in Delivery.objects.select_related("notification")
    }
    held = [name for name, status in found.items() if status == DeliveryStatus.HELD]
    assert len(found) == 4 and len(held) == 2
    assert found[f"{urgent.public_id}:published"] == found[f"{failed.public_id}:failed"] == "pending"
    assert found[f"{over.public_id}:succeeded"] == "held"  # nothing is left to be done: nobody is woken


@pytest.mark.parametrize(
    ("code", "minutes", "seen", "status"),
    [
        ("instance-migration", 30, False, "pending"),
        ("instance-migration", 5 * 60, False, "held"),
        ("vulnerability-fix", 5 * 60, False, "pending"),
        ("vulnerability-fix", 5 * 60, True, "held"),
        ("vulnerability-fix", 30, True, "pending"),
    ],
)
def test_a_time_that_would_come_before_the_end_of_the_quiet_hours_breaks_through(
    instance: Instance, contact: Contact, code: str, minutes: int, seen: bool, status: str
) -> None:
    now = timezone.now()
    contact.quiet_from, contact.quiet_to = time((now.hour - 1) % 24), time((now.hour + 2) % 24)
    contact.save()
    event = make_event(instance, code, switch_at=now + timedelta(minutes=minutes), preparation_seconds=0)
    if seen:
        Event.objects.update(acknowledged_at=now, acknowledged_by="somebody")
    old = (now + timedelta(days=4)).isoformat()
    note(event, K.CHANGED, "changed:0", revision=0, old=old, by="somebody")
    tell()
    delivery = Delivery.objects.get()
    assert delivery.status == status and delivery.notification.urgent is (status == "pending")


# --- What is passed over ----------------------------------------------------------------------------------------------


def test_reminders_are_of_the_time_that_stands(event: Event, contact: Contact, operator: User) -> None:
    now = timezone.now()
    occasions.note_many(occasions.reminders(event, now))  # in four days: 72, 24 and 1 h before
    tell(timedelta(days=1, minutes=1))
    assert kinds() == ["reminder"]
    assert event.switch_at is not None
    scheduling.reschedule(By(operator), event, event.switch_at + timedelta(days=2))  # in six days
    tell()
    assert kinds() == ["reminder", "changed"]
    # Those of the old time are passed over; those of the new one come: 72 h before is in three days.
    tell(timedelta(days=3, minutes=-1))
    assert kinds() == ["reminder", "changed"]
    tell(timedelta(days=3, minutes=1))
    tell(timedelta(days=5, minutes=1))
    tell(timedelta(days=5, hours=23, minutes=1))
    assert kinds() == ["reminder", "changed", "reminder", "reminder", "reminder"]
    assert [one.occasion.split(":", 2)[2] for one in Notification.objects.order_by("pk")[2:]] == [
        "reminder:1:72", "reminder:1:24", "reminder:1:1",
    ]  # fmt: skip
    passed = Occasion.objects.filter(facts__passed=True).values_list("key", flat=True)
    assert set(passed) == {"reminder:0:24", "reminder:0:1"}
    assert untold() == []


def test_of_reminders_that_are_due_together_the_last_one_is_told(event: Event, contact: Contact) -> None:
    occasions.note_many(occasions.reminders(event, timezone.now()))
    tell(timedelta(days=3, hours=23, minutes=30))  # after an outage
    assert [one.occasion.split(":", 2)[2] for one in Notification.objects.all()] == ["reminder:0:1"]
    assert "30 min left" in Notification.objects.get().text


@pytest.mark.parametrize(
    "values",
    [
        {"status": EventStatus.RUNNING, "revision": 1},
        {"status": EventStatus.CANCELLED},
        {"switch_at": "past"},
    ],
)
def test_nobody_is_reminded_of_what_has_begun_or_is_over(
    event: Event, contact: Contact, values: dict[str, Any]
) -> None:
    occasions.note_many(occasions.reminders(event, timezone.now()))
    if values.get("switch_at"):
        values = {"switch_at": timezone.now() - timedelta(hours=1)}
    Event.objects.update(**values)
    tell(timedelta(days=3, hours=23, minutes=30))
    assert not Notification.objects.exists() and untold() == []


def test_of_several_changes_one_message_says_the_first_old_and_the_last_new_time(
    event: Event, contact: Contact, operator: User
) -> None:
    note(event, K.PUBLISHED)
    tell()
    first = event.switch_at
    assert first is not None
    for days in (1, 2):
        event = scheduling.reschedule(By(operator), event, first + timedelta(days=days))
    tell()
    assert kinds() == ["published", "changed"]
    told = newest()
    assert told is not None and told.occasion.endswith(":changed:2")
    assert told.payload["old_switch_at"] == first.isoformat()
    assert told.payload["switch_at"] == (first + timedelta(days=2)).isoformat()
    event = scheduling.reschedule(By(operator), event, first + timedelta(days=1))
    tell()
    told = newest()
    assert told is not None and told.payload["old_switch_at"] == (first + timedelta(days=2)).isoformat()


def test_a_change_before_the_announcement_was_told_is_told_with_it(
    event: Event, contact: Contact, operator: User
) -> None:
    note(event, K.PUBLISHED)
    assert event.switch_at is not None
    moved = scheduling.reschedule(By(operator), event, event.switch_at + timedelta(days=1))
    tell()
    (told,) = Notification.objects.all()
    assert told.payload["kind"] == "published" and told.payload["switch_at"] == moved.switch_at.isoformat()


def test_what_was_cancelled_before_anybody_heard_of_it_is_not_told(
    event: Event, contact: Contact, staff: User
) -> None:
    note(event, K.PUBLISHED)
    scheduling.cancel(By(staff), event)
    assert tell() == 2
    assert not Notification.objects.exists()


def test_a_beginning_that_is_over_is_passed_over(event: Event, contact: Contact) -> None:
    note(event, K.STARTED)
    note(event, K.SUCCEEDED)
    Event.objects.update(status=EventStatus.SUCCEEDED)
    tell()
    assert kinds() == ["succeeded"]


# --- Urgent -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def urgent(instance: Instance, account: Account) -> Event:
    """With three contacts; the second one cannot be reached."""
    for order, name in enumerate(("First", "Unreachable", "Second", "Third")):
        make_contact(account, name, order=order, email="" if name == "Unreachable" else f"{name}@example.org")
    now = timezone.now()
    event = make_event(instance, "vulnerability-fix", switch_at=now + timedelta(hours=20), deadline=now + timedelta(hours=40))  # fmt: skip
    note(event, K.PUBLISHED)
    tell()
    return event


def test_an_urgent_event_goes_from_one_contact_to_the_next_until_all_were_told_twice(urgent: Event) -> None:
    assert names() == ["First"]
    assert Notification.objects.get().urgent is True
    tell(MINUTES - timedelta(seconds=5))
    assert names() == ["First"]
    tell(MINUTES + timedelta(seconds=5))
    assert names() == ["First", "Second"]
    second = newest()
    assert second is not None and second.occasion == f"event:{urgent.public_id}:escalation:1"
    assert second.subject.startswith(
        "URGENT: Nobody has seen this yet: High-risk vulnerability fix of sessions: "
    )
    assert "Nobody has reacted to it yet. Told before: First." in second.text
    assert second.attachments
    tell(2 * MINUTES + timedelta(seconds=10))
    assert names() == ["First", "Second", "Third"]
    tell(3 * MINUTES + timedelta(seconds=15))
    assert names(3) == ["First", "Second", "Third"]
    assert untold() == []
    lines = [(line.level, line.message) for line in urgent.log.all()]
    assert lines[-1] == (LogLevel.WARNING, "Nobody has seen this urgent event: everybody is told once more (First, Second, Third).")  # fmt: skip
    assert lines[0][1] == "Nobody has seen it for 15 min: Second is told as well."
    tell(timedelta(hours=5))
    assert len(names()) == 6


def test_one_contact_alone_is_told_once_more(instance: Instance, contact: Contact) -> None:
    note(make_event(instance, "vulnerability-fix"), K.PUBLISHED)
    tell()
    tell(MINUTES + timedelta(seconds=5))
    tell(timedelta(hours=5))
    assert names() == ["On call", "On call"]


@pytest.mark.parametrize("how", ["acknowledged", "moved", "read", "begun", "cancelled"])
def test_it_ends_when_somebody_has_seen_it(urgent: Event, world: World, operator: User, how: str) -> None:
    if how == "acknowledged":
        scheduling.acknowledge(By(operator), urgent)
    elif how == "moved":
        scheduling.reschedule(By(operator), urgent, timezone.now() + timedelta(hours=10))
    elif how == "read":
        # Whoever reads any message about it in the inbox.
        Notification.objects.update(user=operator)
        inbox.mark(operator, Notification.objects.get().public_id)
    elif how == "begun":
        Event.objects.update(status=EventStatus.RUNNING)
    else:
        Event.objects.update(status=EventStatus.CANCELLED)
    tell(MINUTES + timedelta(seconds=5))
    tell(timedelta(hours=3))
    escalated = Notification.objects.filter(occasion__contains=":escalation:")
    assert not escalated.exists()
    assert not Occasion.objects.filter(kind=K.ESCALATION, told_at=None).exists()


def test_a_time_that_the_system_has_chosen_is_seen_by_nobody(urgent: Event) -> None:
    moment = timezone.now() + timedelta(hours=10)
    scheduling.apply_time(scheduling.locked(urgent), moment, SYSTEM, timezone.now())
    tell(MINUTES + timedelta(seconds=5))
    assert names()[-1] == "Second"
    assert Notification.objects.filter(occasion__contains=":escalation:").count() == 1


def test_other_messages_of_an_urgent_event_go_to_everybody(urgent: Event) -> None:
    Event.objects.update(status=EventStatus.FAILED)
    note(urgent, K.FAILED)
    tell()
    assert sorted(names(1)) == ["First", "Second", "Third"]


def test_an_urgent_event_without_a_contact_is_not_escalated(instance: Instance, account: Account) -> None:
    event = make_event(instance, "vulnerability-fix")
    note(event, K.PUBLISHED)
    tell()
    assert Occasion.objects.count() == 1 and event.log.get().message == telling.NOBODY


# --- Many -------------------------------------------------------------------------------------------------------------


def many(
    instance: Instance, count: int, kind: OccasionKind = K.CHANGED, batch: str = "bc-1", **values: Any
) -> list[Event]:
    """Events of one account with an occasion each."""
    found = [make_event(instance, **values) for _ in range(count)]
    before = timezone.now().isoformat()
    occasions.note_many(
        occasions.draft(
            one, kind, f"{kind}:1", facts={"revision": 1, "old": before, "by": "staff"}, batch=batch
        )
        for one in found
    )
    return found


LATER = timedelta(seconds=11)  # a batch is told once it has grown for no more than that


def test_five_messages_of_a_batch_are_five(instance: Instance, contact: Contact) -> None:
    many(instance, 5)
    assert tell() == 0  # it may still be growing
    assert tell(LATER) == 5
    assert Notification.objects.count() == 5


def test_six_messages_of_a_batch_are_one(instance: Instance, contact: Contact) -> None:
    found = many(instance, 6)
    urgent = found[0]
    assert tell(LATER) == 6 and tell(LATER) == 0
    told = Notification.objects.get()
    assert told.occasion.startswith("events:bc-1:changed:")
    assert told.subject.startswith("6 O&M events moved, now at ")
    assert told.url == "/events/?type=instance-migration"
    assert told.payload["count"] == 6
    assert {one["event"] for one in told.payload["events"]} == {one.public_id for one in found}
    for event in found:
        assert event.instance_public_id in told.text and event.instance_public_id in told.html
    assert told.text.count("/events/link/") == 6
    assert "Moved by staff." in told.text and " → " in told.text and "Deadline: " in told.text
    assert told.attachments[0]["text"].count("BEGIN:VEVENT") == 6
    assert urgent.type.name in told.html


def test_many_that_were_moved_and_moved_back(instance: Instance, contact: Contact) -> None:
    for event in many(instance, 6):
        event.occasions.update(facts={"revision": 1, "old": event.switch_at.isoformat(), "by": "staff"})
    tell(LATER)
    told = Notification.objects.get()
    assert told.subject.startswith("6 O&M events moved, and moved back, still at ")
    assert " → " not in told.text
    assert told.text.count("as before: it was moved, and moved back") == 6


def test_two_kinds_of_one_batch_are_two_messages(instance: Instance, contact: Contact) -> None:
    many(instance, 6)
    many(instance, 6, K.CANCELLED, status=EventStatus.CANCELLED)
    tell(LATER)
    assert Notification.objects.count() == 2


def test_who_gets_many_and_who_gets_few(world: World, account: Account) -> None:
    make_contact(account, "All")
    few = make_contact(account, "Few", categories=[])
    other = world.instance.__class__.objects.create(account=account, name="other", region="eu-central")
    few.categories = ["maintenance"]
    few.save()
    InstanceContact.objects.create(instance=other, contact=few)
    InstanceContact.objects.create(instance=world.instance, contact=Contact.objects.get(name="All"))
    many(world.instance, 7)
    many(other, 2)
    tell(LATER)
    assert len(told_to("All")) == 1 and len(told_to("Few")) == 2


def test_reminders_that_come_at_the_same_time_are_one(instance: Instance, contact: Contact) -> None:
    now = timezone.now()
    for _ in range(8):
        occasions.note_many(occasions.reminders(make_event(instance), now))
    tell(timedelta(days=1, minutes=1))
    told = Notification.objects.get()
    assert told.subject.startswith("8 O&M events coming up: ")
    assert not told.attachments


def test_an_urgent_campaign_is_escalated_as_one(instance: Instance, account: Account) -> None:
    first, second = make_contact(account, "A first", order=0), make_contact(account, "B second", order=1)
    found = [make_event(instance, "vulnerability-fix") for _ in range(7)]
    occasions.note_many(occasions.draft(one, K.PUBLISHED, "published", batch="cp-1") for one in found)
    tell(LATER)
    told = Notification.objects.get()
    assert told.contact == first and told.urgent and told.subject.startswith("URGENT: 7 O&M events announced")
    tell(LATER + MINUTES + timedelta(seconds=11))
    assert [one.contact for one in Notification.objects.order_by("pk")] == [first, second]
    # One of them reads the one message: it was about all of them.
    Notification.objects.filter(contact=second).update(read_at=timezone.now())
    tell(timedelta(hours=5))
    assert Notification.objects.count() == 2 and untold() == []


def test_a_thousand_take_as_many_queries_as_ten(
    instance: Instance, account: Account, django_assert_max_num_queries: Any
) -> None:
    contact = make_contact(account)
    Channel.objects.create(contact=contact, kind="webhook", address="http://127.0.0.1:9/")
    template = make_event(instance)
    Event.objects.bulk_create(_copy(template, number) for number in range(1000))
    found = list(Event.objects.exclude(pk=template.pk))
    occasions.note_many(occasions.draft(one, K.PUBLISHED, "published", batch="cp-1") for one in found)
    with django_assert_max_num_queries(40):
        assert tell(LATER) == 1000
    assert Notification.objects.count() == 1
    told = Notification.objects.get()
    assert told.html.count("/events/link/") == 100 and "And 900 more" in told.text


@pytest.mark.parametrize(
    ("kind", "status", "page"),
    [(K.PUBLISHED, "pending", "/events/"), (K.SUCCEEDED, "succeeded", "/events/history/")],
)
def test_one_message_of_many_leads_to_the_list_of_these(
    instance: Instance, account: Account, operator: User, kind: OccasionKind, status: str, page: str
) -> None:
    """Of the campaign; of those that have ended to the history."""
    make_contact(account)
    code = "instance-migration"
    campaign = Campaign.objects.create(name="Rack 4", type=EventType.objects.get(code=code))
    ended = {"finished_at": timezone.now()} if status == "succeeded" else {}
    for of in (campaign, None):
        for _ in range(8):
            event = make_event(instance, code, campaign=of, status=status, **ended)
            if of is not None:
                note(event, kind, batch="rack")
    tell(LATER)
    (told,) = Notification.objects.all()
    assert told.url == f"{page}?q={campaign.public_id}" and told.url in told.text and told.url in told.html
    client = Client()
    client.force_login(operator)
    shown = client.get(told.url).context["listing"].page
    assert [one.campaign for one in shown.object_list] == [campaign] * 8


def _copy(event: Event, number: int) -> Event:
    values = {
        field.attname: getattr(event, field.attname)
        for field in Event._meta.concrete_fields
        if field.attname not in ("id", "public_id")
    }
    return Event(public_id=f"ev-{number:08}", **values)
