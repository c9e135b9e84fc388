from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from events.choices import EventStatus, OccasionKind, Via
from events.models import Event, Occasion
from events.services import scheduling
from events.services.by import By
from portal.errors import Conflict, Invalid, NotFound, NotPermitted
from portal.models import AuditEntry, Instance
from tests.portal.world import World

from .conftest import make_contact, make_event


def person(user: User) -> By:
    return By(user, via=Via.CONSOLE)


def test_a_new_time_is_written_audited_and_to_be_told(event: Event, operator: User) -> None:
    to = event.deadline - timedelta(hours=1)
    before = event.switch_at

    changed = scheduling.reschedule(person(operator), event, to, seen=0)

    assert (changed.switch_at, changed.starts_at) == (to, to - timedelta(seconds=600))
    assert (changed.revision, changed.deferrals, changed.proposed_at) == (1, 1, before)
    entry = AuditEntry.objects.get(action="event.rescheduled")
    assert entry.actor == operator and entry.details["via"] == "the console"
    told = Occasion.objects.get(kind=OccasionKind.CHANGED)
    assert told.facts["new"] == to.isoformat() and told.facts["by"] == "operator"
    reminders = Occasion.objects.filter(kind=OccasionKind.REMINDER).order_by("due_at")
    assert [row.due_at for row in reminders] == [to - timedelta(hours=hours) for hours in (72, 24, 1)]


def test_now_starts_the_preparation_at_once(event: Event, operator: User) -> None:
    changed = scheduling.reschedule(person(operator), event, "now")

    assert changed.starts_at is not None and changed.switch_at is not None
    assert abs(changed.starts_at - timezone.now()) < timedelta(seconds=30)
    assert changed.switch_at - changed.starts_at == timedelta(seconds=600)
    assert changed.deferrals == 0


def test_the_same_time_changes_nothing(event: Event, operator: User) -> None:
    assert event.switch_at is not None
    scheduling.reschedule(person(operator), event, event.switch_at)

    assert not AuditEntry.objects.filter(action="event.rescheduled").exists()
    event.refresh_from_db()
    assert event.revision == 0


def test_who_comes_second_is_told_what_the_first_one_chose(
    event: Event, operator: User, world: World
) -> None:
    first = event.deadline - timedelta(hours=1)
    scheduling.reschedule(person(operator), event, first, seen=0)

    with pytest.raises(Conflict) as refused:
        scheduling.reschedule(person(world.user("owner")), event, event.deadline, seen=0)

    assert refused.value.id == "event.changed"
    assert f"{first:%Y-%m-%d %H:%M}" in refused.value.message
    event.refresh_from_db()
    assert event.switch_at == first


def test_a_first_choice_is_no_deferral(instance: Instance, operator: User) -> None:
    event = make_event(instance, switch_at=None)
    changed = scheduling.reschedule(person(operator), event, event.deadline)

    assert (changed.status, changed.deferrals, changed.proposed_at) == (
        EventStatus.PENDING,
        0,
        event.deadline,
    )


@pytest.mark.parametrize(("role", "refusal"), [("viewer", NotPermitted), ("outsider", NotFound)])
def test_others_change_nothing(event: Event, world: World, role: str, refusal: type[Exception]) -> None:
    by = person(world.user(role))
    for change in (
        lambda: scheduling.reschedule(by, event, "now"),
        lambda: scheduling.cancel(by, event),
        lambda: scheduling.acknowledge(by, event),
    ):
        with pytest.raises(refusal):
            change()
    event.refresh_from_db()
    assert (event.revision, event.acknowledged_at) == (0, None)


def test_staff_for_events_change_those_of_every_account(event: Event, staff: User) -> None:
    assert scheduling.reschedule(person(staff), event, event.deadline).switch_at == event.deadline


def test_who_moves_their_own_event_has_seen_it(
    world: World, instance: Instance, operator: User, staff: User
) -> None:
    contact = make_contact(world.account, "Night shift")
    for by, name in (
        (person(operator), "operator"),
        (By(contact=contact, via=Via.MAIL), "Night shift"),
        (person(staff), ""),  # those whose instance it is have not
        (By(), ""),
    ):
        event = make_event(instance)
        scheduling.reschedule(by, event, event.deadline)
        event.refresh_from_db()
        assert (event.acknowledged_by, event.acknowledged_at is not None) == (name, bool(name))


def test_the_owner_cancels_only_what_may_be(instance: Instance, operator: User, staff: User) -> None:
    fixed, free, taken_back = (make_event(instance, may_cancel=may) for may in (False, True, False))
    with pytest.raises(Conflict) as refused:
        scheduling.cancel(person(operator), fixed)
    assert refused.value.id == "event.not_cancellable"

    assert scheduling.cancel(person(operator), free, "not needed").status == EventStatus.CANCELLED
    assert scheduling.cancel(person(staff), taken_back).status == EventStatus.CANCELLED
    assert Occasion.objects.filter(kind=OccasionKind.CANCELLED).count() == 2
    with pytest.raises(Conflict) as refused:
        scheduling.reschedule(person(operator), free, "now")
    assert refused.value.id == "event.not_pending"


@pytest.mark.parametrize("status", [EventStatus.SUCCEEDED, EventStatus.FAILED, EventStatus.CANCELLED])
def test_what_has_ended_is_acknowledged_no_more(event: Event, operator: User, status: EventStatus) -> None:
    Event.objects.update(status=status)
    with pytest.raises(Conflict) as refused:
        scheduling.acknowledge(person(operator), event)
    assert refused.value.id == "event.ended" and str(status.label).lower() in str(refused.value)
    event.refresh_from_db()
    assert event.acknowledged_at is None and not AuditEntry.objects.exists()
    # One that somebody has seen in time may be acknowledged again: the first one counts.
    Event.objects.update(acknowledged_at=timezone.now(), acknowledged_by="owner")
    assert scheduling.acknowledge(person(operator), event).acknowledged_by == "owner"


def test_the_first_acknowledgement_counts(event: Event, operator: User, world: World) -> None:
    scheduling.acknowledge(person(operator), event)
    scheduling.acknowledge(person(world.user("owner")), event)

    event.refresh_from_db()
    assert event.acknowledged_by == "operator"
    assert AuditEntry.objects.filter(action="event.acknowledged").count() == 1


def test_an_instance_with_unfinished_events_stays(event: Event, operator: User, world: World) -> None:
    from portal.services.instances import InstanceInUse, delete_instance

    with pytest.raises(InstanceInUse):
        delete_instance(operator, world.instance)
    Event.objects.update(status=EventStatus.SUCCEEDED)
    delete_instance(operator, world.instance)
    event.refresh_from_db()
    assert event.instance is None and event.instance_name == "sessions"


def test_no_window_no_next_window(event: Event, operator: User) -> None:
    with pytest.raises(Conflict) as refused:
        scheduling.reschedule(person(operator), event, "window")
    assert refused.value.id == "event.no_window"


def test_too_late_and_too_soon(event: Event, operator: User) -> None:
    now = timezone.now()
    for to, refusal in (
        (now - timedelta(seconds=1), "event.in_past"),
        (now + timedelta(seconds=300), "event.too_soon"),
        (event.deadline + timedelta(seconds=1), "event.after_deadline"),
    ):
        with pytest.raises(Invalid) as refused:
            scheduling.reschedule(person(operator), event, to)
        assert refused.value.id == refusal
