"""Many events at once: previewed, applied, undone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, time, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from events.choices import BulkAction, BulkStatus, EventStatus, OccasionKind, RowOutcome, Via
from events.models import Blackout, BulkChange, BulkRow, Event, Occasion, RegionLimit
from events.services import bulk, scheduling, telling
from events.services.by import SYSTEM, By
from portal.errors import Conflict, Invalid, NotFound, NotPermitted, ServiceError
from portal.models import AuditEntry, Instance, Notification
from portal.services import windows
from tests.portal.world import World, make_instance

from .conftest import make_contact, make_event, make_staff

NOW = timezone.now().replace(second=0, microsecond=0)


def person(user: User) -> By:
    return By(user, via=Via.CONSOLE)


def plan(
    by: By, action: BulkAction, events: Iterable[Event], **parameters: Any
) -> tuple[BulkChange, list[BulkRow]]:
    made = bulk.plan(by, action, [event.public_id for event in events], parameters)
    return made, rows(made)


def rows(change: BulkChange) -> list[BulkRow]:
    return list(change.rows.select_related("event", "event__type").order_by("position"))


def said(change: BulkChange) -> list[tuple[str, str]]:
    return [(row.outcome, row.refusal_id) for row in rows(change)]


def times(change: BulkChange) -> list[datetime | None]:
    return [row.new_switch_at for row in rows(change)]


def in_days(days: float) -> datetime:
    return NOW + timedelta(days=days)


@pytest.fixture
def events(instance: Instance) -> list[Event]:
    """Three of one instance's region, half an hour after each other."""
    return [
        make_event(instance, switch_at=in_days(4) + timedelta(minutes=30 * number)) for number in range(3)
    ]


# --- To a time --------------------------------------------------------------------------------------------------------


def test_a_preview_changes_nothing_and_says_what_would_be(events: list[Event], operator: User) -> None:
    to = in_days(5)
    made, found = plan(person(operator), BulkAction.TO_TIME, events, at=to)

    assert (made.status, made.total, made.done) == (BulkStatus.PLANNED, 3, 3)
    assert [(row.event, row.old_switch_at, row.new_switch_at, row.outcome) for row in found] == [
        (event, event.switch_at, to, RowOutcome.PLANNED) for event in events
    ]
    assert Event.objects.filter(revision=0).count() == 3
    assert not AuditEntry.objects.exists() and not Occasion.objects.exists()


def test_applied_it_is_written_audited_and_told_as_one(events: list[Event], operator: User) -> None:
    to = in_days(5)
    made, _ = plan(person(operator), BulkAction.TO_TIME, events, at=to)
    done = bulk.apply(person(operator), made)

    assert (done.status, done.done, done.total) == (BulkStatus.DONE, 3, 3)
    assert done.finished_at is not None and done.owner == ""
    for event in Event.objects.all():
        assert (event.switch_at, event.starts_at) == (to, to - event.preparation)
        assert (event.revision, event.deferrals, event.status) == (1, 1, EventStatus.PENDING)
    entries = AuditEntry.objects.filter(action="event.rescheduled")
    assert {entry.object_id for entry in entries} == {event.public_id for event in events}
    assert all(entry.actor == operator and entry.details["bulk"] == made.public_id for entry in entries)
    assert all(entry.account == events[0].account for entry in entries)
    assert AuditEntry.objects.get(action="bulk.applied").details["events"] == 3
    told = Occasion.objects.filter(kind=OccasionKind.CHANGED)
    assert [(one.batch, one.facts["by"], one.facts["new"]) for one in told] == [
        (made.public_id, "operator", to.isoformat())
    ] * 3
    assert Occasion.objects.filter(kind=OccasionKind.REMINDER).count() == 9
    assert said(done) == [(RowOutcome.DONE, "")] * 3
    assert {row.applied_revision for row in rows(done)} == {1}


def test_each_is_refused_for_the_reason_that_it_alone_would_be(
    instance: Instance, world: World, operator: User
) -> None:
    to = in_days(5)
    foreign = make_event(world.other_instance)
    mixed = {
        "": make_event(instance),
        "event.after_deadline": make_event(instance, switch_at=in_days(3), deadline=in_days(4)),
        "event.fixed": make_event(instance, may_change=False),
        "event.not_pending": make_event(instance, status=EventStatus.RUNNING),
        "event.too_soon": make_event(instance, preparation_seconds=6 * 86400),
        "event.deferrals_used": make_event(instance, deferrals=3),
        "event.same_time": make_event(instance, switch_at=to),
    }
    alone = {}
    for name in mixed.keys() - {"", "event.same_time"}:
        with pytest.raises(ServiceError) as refused:
            scheduling.reschedule(SYSTEM, mixed[name], to)
        alone[name] = str(refused.value).replace(" Nothing was changed.", "")

    made, found = plan(person(operator), BulkAction.TO_TIME, [*mixed.values(), foreign], at=to)

    by_event = {row.event_id: row for row in found}
    assert foreign.pk not in by_event and made.total == len(mixed)
    assert {name: by_event[event.pk].refusal_id for name, event in mixed.items()} == {
        name: name for name in mixed
    }
    for name, words in alone.items():
        assert by_event[mixed[name].pk].message == words
    assert bulk.counts(made) == bulk.Counts(planned=1, refused=6)
    done = bulk.apply(person(operator), made)
    assert bulk.counts(done) == bulk.Counts(done=1, refused=6)
    assert Occasion.objects.filter(batch=made.public_id).count() == 1


def test_who_changes_an_event_between_preview_and_application_is_not_overridden(
    events: list[Event], operator: User, world: World
) -> None:
    made, _ = plan(person(operator), BulkAction.TO_TIME, events, at=in_days(5))
    theirs = scheduling.reschedule(person(world.user("owner")), events[1], in_days(6))
    done = bulk.apply(person(operator), made)

    assert said(done) == [(RowOutcome.DONE, ""), (RowOutcome.LOST, "event.changed"), (RowOutcome.DONE, "")]
    assert f"{in_days(6):%Y-%m-%d %H:%M}" in rows(done)[1].message
    events[1].refresh_from_db()
    assert (events[1].switch_at, events[1].revision) == (theirs.switch_at, 1)


def test_the_rules_are_asked_again_when_it_is_applied(events: list[Event], operator: User) -> None:
    made, _ = plan(person(operator), BulkAction.TO_TIME, events, at=in_days(5))
    Event.objects.filter(pk=events[0].pk).update(deadline=in_days(4.5))
    Blackout.objects.create(region="elsewhere", starts_at=in_days(4), ends_at=in_days(6), reason="Sale")
    done = bulk.apply(person(operator), made)
    assert said(done)[0] == (RowOutcome.REFUSED, "event.after_deadline")
    assert bulk.counts(done) == bulk.Counts(done=2, refused=1)


def test_a_right_that_was_taken_away_meanwhile_counts(
    events: list[Event], operator: User, world: World
) -> None:
    made, _ = plan(person(operator), BulkAction.TO_TIME, events, at=in_days(5))
    world.account.memberships.filter(user=operator).update(role="viewer")
    done = bulk.apply(person(operator), made)
    assert said(done) == [(RowOutcome.REFUSED, "permission.denied")] * 3


def test_a_viewer_gets_a_preview_in_which_nothing_can_be_done(events: list[Event], world: World) -> None:
    by = person(world.user("viewer"))
    made, _ = plan(by, BulkAction.TO_TIME, events, at=in_days(5))
    assert said(made) == [(RowOutcome.REFUSED, "permission.denied")] * 3
    with pytest.raises(Conflict) as refused:
        bulk.apply(by, made)
    assert refused.value.id == "bulk.nothing_to_apply"


def test_staff_change_events_of_every_account(world: World, staff: User) -> None:
    both = [make_event(world.instance), make_event(world.other_instance)]
    made, _ = plan(By(staff, via=Via.ADMIN), BulkAction.TO_TIME, both, at=in_days(5))
    assert bulk.counts(bulk.apply(person(staff), made)) == bulk.Counts(done=2)


def test_of_two_presses_one_applies(events: list[Event], operator: User) -> None:
    made, _ = plan(person(operator), BulkAction.TO_TIME, events, at=in_days(5))
    bulk.apply(person(operator), made)
    with pytest.raises(Conflict) as refused:
        bulk.apply(person(operator), BulkChange.objects.get(pk=made.pk))
    assert refused.value.id == "bulk.not_planned"
    assert set(Event.objects.values_list("revision", flat=True)) == {1}


def test_nobody_applies_the_preview_of_somebody_else(
    events: list[Event], operator: User, staff: User, world: World
) -> None:
    made, _ = plan(person(operator), BulkAction.TO_TIME, events, at=in_days(5))
    for other in (staff, world.user("owner")):
        with pytest.raises(NotPermitted):
            bulk.apply(person(other), made)
    assert bulk.get_bulk(staff, made.public_id) == bulk.get_bulk(operator, made.public_id) == made
    for other in (world.user("owner"), world.user("outsider")):
        with pytest.raises(NotFound):
            bulk.get_bulk(other, made.public_id)


@pytest.mark.parametrize(
    ("action", "parameters", "refusal"),
    [
        (BulkAction.TO_TIME, {}, "bulk.bad_time"),
        (BulkAction.TO_TIME, {"at": "2030-01-01"}, "bulk.bad_time"),
        (BulkAction.TO_TIME, {"at": NOW - timedelta(minutes=1)}, "event.in_past"),
        (BulkAction.STAGGER, {"at": in_days(4), "minutes": 0}, "bulk.bad_minutes"),
        (BulkAction.STAGGER, {"at": in_days(4), "minutes": 1441}, "bulk.bad_minutes"),
        (BulkAction.STAGGER, {"at": in_days(4), "minutes": 1, "order": "colour"}, "bulk.bad_order"),
        (BulkAction.CANCEL, {"reason": "x" * 1001}, "bulk.bad_reason"),
    ],
)
def test_parameters_that_mean_nothing(
    event: Event, operator: User, action: BulkAction, parameters: dict[str, Any], refusal: str
) -> None:
    with pytest.raises(Invalid) as refused:
        plan(person(operator), action, [event], **parameters)
    assert refused.value.id == refusal and refused.value.field in ("at", "minutes", "order", "reason")
    assert not BulkChange.objects.exists()


def test_none_and_too_many(event: Event, operator: User, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid) as refused:
        bulk.plan(person(operator), BulkAction.ACKNOWLEDGE, ["ev-none"])
    assert refused.value.id == "bulk.nothing_chosen"
    make_event(event.instance)
    monkeypatch.setattr(bulk, "MOST", 1)
    with pytest.raises(Invalid) as refused:
        bulk.plan(person(operator), BulkAction.ACKNOWLEDGE, Event.objects.all())
    assert refused.value.id == "bulk.too_many"
    assert not BulkRow.objects.exists()


def test_refusals_are_in_the_zone_of_who_asks(event: Event, operator: User) -> None:
    from portal.models import UserProfile

    UserProfile.objects.create(user=operator, time_zone="Asia/Tokyo")
    _, (row,) = plan(person(operator), BulkAction.TO_TIME, [event], at=in_days(20))
    assert "JST" in row.message


# --- To windows -------------------------------------------------------------------------------------------------------


def test_each_gets_the_next_window_of_its_own_instance(world: World, operator: User) -> None:
    second, third, bare = (
        make_instance(world.account, name, region="eu-central") for name in ("b", "c", "d")
    )
    today = NOW.weekday()
    for owner, day in ((world.instance, today + 2), (second, today + 3)):
        windows.set_window(None, owner, [day % 7], time(1), time(2), "UTC")
    windows.set_window(None, third, [(today + 1) % 7], time(23), time(1), "Asia/Tokyo")
    events = [make_event(one) for one in (world.instance, second, third, bare)]
    made, found = plan(person(operator), BulkAction.TO_WINDOW, events)

    by_event = {row.event_id: row for row in found}
    for event, days, hour in ((events[0], 2, 1), (events[1], 3, 1)):
        moment = by_event[event.pk].new_switch_at
        assert moment == (NOW + timedelta(days=days)).replace(hour=hour, minute=0)
    moment = by_event[events[2].pk].new_switch_at
    assert moment is not None and (moment.hour, moment.minute) == (14, 0)  # 23:00 in Tokyo
    assert by_event[events[3].pk].refusal_id == "event.no_window"
    assert bulk.counts(bulk.apply(person(operator), made)) == bulk.Counts(done=3, refused=1)


def test_a_window_that_is_open_leaves_time_for_a_look_at_the_preview(event: Event, operator: User) -> None:
    windows.set_window(None, event.instance, range(7), time(0), time(23, 59), "UTC")
    made, (row,) = plan(person(operator), BulkAction.TO_WINDOW, [event])
    assert row.new_switch_at is not None
    earliest = timezone.now() + event.preparation
    assert row.new_switch_at > earliest + timedelta(minutes=5)
    assert bulk.counts(bulk.apply(person(operator), made)).done == 1


@pytest.mark.parametrize(("once", "expected"), [(False, [0, 20, 1440]), (True, [0, 0, 20])])
def test_events_of_one_instance_get_times_behind_one_another(
    world: World, operator: User, once: bool, expected: list[int]
) -> None:
    """With room for the preparation of the next one. Where their windows have none, one waits when its time has come."""
    days = [(NOW + timedelta(days=2)).weekday()] if once else range(7)
    hour = (NOW.hour + 12) % 24  # one that is open now has less room
    windows.set_window(None, world.instance, days, time(hour), time(hour, 30), "UTC")
    events = [make_event(world.instance, switch_at=None) for _ in range(3)]
    made, found = plan(person(operator), BulkAction.TO_WINDOW, events)

    moments = sorted(row.new_switch_at for row in found if row.new_switch_at)
    assert [int((one - moments[0]).total_seconds()) // 60 for one in moments] == expected
    assert bulk.counts(bulk.apply(person(operator), made)).done == 3


def test_windows_fill_up_to_the_limit_of_the_region(world: World, operator: User) -> None:
    windows.set_window(None, world.account, range(7), time(2), time(2, 20), "UTC")
    RegionLimit.objects.create(region="eu-central", most=1)
    events = [
        make_event(world.instance, switch_at=in_days(5), deadline=in_days(6).replace(hour=3))
        for _ in range(3)
    ]
    many = [make_event(world.instance, switch_at=None, deadline=in_days(3).replace(hour=1)) for _ in range(5)]
    made, _ = plan(person(operator), BulkAction.TO_WINDOW, [*events, *many])

    given = [moment for moment in times(made) if moment is not None]
    assert len(set(given)) == len(given)
    assert {(moment.hour, moment.minute) for moment in given} <= {(2, 0), (2, 10), (2, 20)}
    apply_and_check_limit(made, operator, most=1)


# --- Staggered --------------------------------------------------------------------------------------------------------


def apply_and_check_limit(made: BulkChange, operator: User, *, most: int) -> BulkChange:
    planned = bulk.counts(made).planned
    done = bulk.apply(person(operator), made)
    assert bulk.counts(done).done == planned
    taken = [
        (event.switch_at, event.switch_at + timedelta(seconds=event.switch_seconds))
        for event in Event.objects.filter(switch_at__isnull=False, status=EventStatus.PENDING)
        if event.switch_at is not None
    ]
    assert max(sum(one[0] <= begin < one[1] for one in taken) for begin, _ in taken) <= most
    return done


@pytest.mark.parametrize(("order", "expected"), [("time", "bca"), ("name", "abc")])
def test_one_after_the_other_in_the_chosen_order(
    world: World, operator: User, order: str, expected: str
) -> None:
    start = in_days(5)
    for name, days in (("a", 4.5), ("b", 4), ("c", 4.2)):
        make_event(make_instance(world.account, name), switch_at=in_days(days))
    made, found = plan(
        person(operator), BulkAction.STAGGER, Event.objects.all(), at=start, minutes=7, order=order
    )
    assert "".join(row.event.instance_name for row in found) == expected
    assert times(made) == [start + timedelta(minutes=7 * number) for number in range(3)]


def test_events_of_the_same_change_are_not_in_the_way_of_each_other(
    events: list[Event], operator: User
) -> None:
    """By 5 minutes later each: each would take the place that the next one still has."""
    RegionLimit.objects.create(region="", most=1)
    for number, event in enumerate(events):
        Event.objects.filter(pk=event.pk).update(switch_at=in_days(4) + timedelta(minutes=10 * number))
    start = in_days(4) + timedelta(minutes=5)
    made, found = plan(person(operator), BulkAction.STAGGER, events, at=start, minutes=10)
    assert [row.event for row in found] == events
    assert times(made) == [start + timedelta(minutes=10 * number) for number in range(3)]
    apply_and_check_limit(made, operator, most=1)


def test_one_that_must_stay_keeps_its_place(events: list[Event], operator: User) -> None:
    """Two may move, the third may not be put off: the place that it keeps is given to nobody."""
    RegionLimit.objects.create(region="eu-central", most=1)
    start = events[2].switch_at
    assert start is not None
    Event.objects.filter(pk=events[2].pk).update(deferrals=3)
    made, found = plan(person(operator), BulkAction.STAGGER, events, at=start, minutes=10)
    by_event = {row.event_id: row for row in found}
    assert by_event[events[2].pk].refusal_id == "event.deferrals_used"
    assert [by_event[one.pk].new_switch_at for one in events[:2]] == [
        start + timedelta(minutes=10),
        start + timedelta(minutes=20),
    ]
    apply_and_check_limit(made, operator, most=1)


def test_staggered_past_a_blackout_while_others_take_the_time(world: World, operator: User) -> None:
    """The blackout is of one region: events of the other one go on in their order."""
    start = in_days(5)
    Blackout.objects.create(
        region="eu-central",
        starts_at=start + timedelta(minutes=5),
        ends_at=start + timedelta(minutes=60),
        reason="Sale",
    )
    other = make_instance(world.account, "other", region="us-east")
    events = [make_event(world.instance) for _ in range(3)] + [make_event(other) for _ in range(2)]
    for number, event in enumerate(events):
        Event.objects.filter(pk=event.pk).update(switch_at=in_days(4) + timedelta(minutes=number))
    _, found = plan(person(operator), BulkAction.STAGGER, events, at=start, minutes=10)
    minutes = [
        (row.new_switch_at - start) / timedelta(minutes=1) for row in found if row.new_switch_at is not None
    ]
    # 10 minutes each: the first one would still run when the blackout begins.
    assert minutes == [60, 70, 80, 0, 10]


def test_staggered_as_far_as_the_deadline_lets(instance: Instance, operator: User) -> None:
    start = in_days(5)
    events = [
        make_event(
            instance, switch_at=in_days(4) + timedelta(minutes=number), deadline=start + timedelta(minutes=20)
        )
        for number in range(4)
    ]
    made, _ = plan(person(operator), BulkAction.STAGGER, events, at=start, minutes=10)
    assert said(made) == [(RowOutcome.PLANNED, "")] * 3 + [(RowOutcome.REFUSED, "event.after_deadline")]


def test_staggered_against_what_others_have_planned(world: World, operator: User) -> None:
    start = in_days(5)
    RegionLimit.objects.create(region="eu-central", most=2)
    for minute in (0, 5, 20):
        make_event(world.instance, switch_at=start + timedelta(minutes=minute))
    mine = [make_event(world.instance, switch_at=None) for _ in range(4)]
    made, _ = plan(person(operator), BulkAction.STAGGER, mine, at=start, minutes=5)
    given = times(made)
    assert given[0] == start + timedelta(minutes=10)
    apply_and_check_limit(made, operator, most=2)


# --- Cancelled, acknowledged ------------------------------------------------------------------------------------------


def test_many_are_cancelled(instance: Instance, operator: User) -> None:
    free, fixed, running = (
        make_event(instance, may_cancel=True),
        make_event(instance),
        make_event(instance, may_cancel=True, status=EventStatus.RUNNING),
    )
    made, found = plan(person(operator), BulkAction.CANCEL, [free, fixed, running], reason=" not needed ")
    assert {row.event_id: row.refusal_id for row in found} == {
        free.pk: "",
        fixed.pk: "event.not_cancellable",
        running.pk: "event.not_pending",
    }
    bulk.apply(person(operator), made)
    free.refresh_from_db()
    assert (free.status, free.result, free.revision) == (EventStatus.CANCELLED, "not needed", 1)
    (told,) = Occasion.objects.all()
    assert (told.kind, told.batch, told.facts) == (
        OccasionKind.CANCELLED,
        made.public_id,
        {"by": "operator", "why": "not needed"},
    )
    assert AuditEntry.objects.get(action="event.cancelled").details["reason"] == "not needed"


def test_those_who_announce_events_cancel_any(instance: Instance) -> None:
    event = make_event(instance)
    made, _ = plan(person(make_staff("planner")), BulkAction.CANCEL, [event])
    assert bulk.counts(made).planned == 1


def test_who_moves_many_of_their_own_has_seen_them(
    events: list[Event], operator: User, staff: User, world: World
) -> None:
    scheduling.acknowledge(person(world.user("owner")), events[0])
    for user, names in ((staff, ["owner", "", ""]), (operator, ["owner", "operator", "operator"])):
        by = person(user)
        made, _ = plan(by, BulkAction.TO_TIME, events, at=in_days(5 if user == staff else 6))
        bulk.apply(by, made)
        assert [event.acknowledged_by for event in Event.objects.order_by("pk")] == names


def test_many_are_acknowledged(events: list[Event], operator: User, world: World) -> None:
    scheduling.acknowledge(person(world.user("owner")), events[0])
    Event.objects.filter(pk=events[2].pk).update(status=EventStatus.CANCELLED)
    made, found = plan(person(operator), BulkAction.ACKNOWLEDGE, events)
    assert [(row.outcome, row.refusal_id) for row in found] == [
        (RowOutcome.REFUSED, "event.acknowledged"),
        (RowOutcome.PLANNED, ""),
        (RowOutcome.REFUSED, "event.ended"),
    ]
    bulk.apply(person(operator), made)
    names = [event.acknowledged_by for event in Event.objects.order_by("pk")]
    assert names == ["owner", "operator", ""]
    assert AuditEntry.objects.filter(action="event.acknowledged", actor=operator).count() == 1
    assert not Occasion.objects.exists()


# --- Undone -----------------------------------------------------------------------------------------------------------


def test_undone_all_is_as_it_was(events: list[Event], instance: Instance, operator: User) -> None:
    waiting = make_event(instance, switch_at=None, deadline=in_days(7))
    before = list(Event.objects.order_by("pk").values("status", "switch_at", "starts_at", "proposed_at"))
    made, _ = plan(person(operator), BulkAction.TO_TIME, [*events, waiting], at=in_days(5))
    done = bulk.apply(person(operator), made)
    assert bulk.undoable_rows(done).count() == 4
    back = bulk.undo(person(operator), done)

    assert (back.action, back.status, back.undoes) == (BulkAction.UNDO, BulkStatus.DONE, done)
    assert bulk.counts(back) == bulk.Counts(done=4)
    after = list(Event.objects.order_by("pk").values("status", "switch_at", "starts_at", "proposed_at"))
    assert after == before
    assert set(Event.objects.values_list("revision", "deferrals")) == {(2, 0)}
    assert bulk.counts(done) == bulk.Counts(undone=4)
    assert Occasion.objects.filter(batch=back.public_id, kind=OccasionKind.CHANGED).count() == 4
    entry = AuditEntry.objects.filter(action="event.rescheduled").order_by("pk").last()
    assert entry is not None and entry.details["undoes"] == made.public_id
    with pytest.raises(Conflict) as refused:
        bulk.undo(person(operator), done)
    assert refused.value.id == "bulk.nothing_to_undo"


def test_what_is_not_as_it_was_left_is_not_undone(instance: Instance, operator: User, world: World) -> None:
    moved, begun, past, kept = (make_event(instance) for _ in range(4))
    made, _ = plan(person(operator), BulkAction.TO_TIME, [moved, begun, past, kept], at=in_days(5))
    done = bulk.apply(person(operator), made)
    scheduling.reschedule(person(world.user("owner")), moved, in_days(6))
    Event.objects.filter(pk=begun.pk).update(status=EventStatus.RUNNING)
    BulkRow.objects.filter(bulk=done, event=past).update(old_switch_at=NOW - timedelta(hours=1))
    back = bulk.undo(person(operator), done)

    found = {row.event_id: (row.outcome, row.refusal_id) for row in rows(back)}
    assert found == {
        moved.pk: (RowOutcome.LOST, "event.changed"),
        begun.pk: (RowOutcome.REFUSED, "event.not_pending"),
        past.pk: (RowOutcome.REFUSED, "event.in_past"),
        kept.pk: (RowOutcome.DONE, ""),
    }
    assert {row.event_id: row.outcome for row in rows(done)} == {
        moved.pk: RowOutcome.DONE,
        begun.pk: RowOutcome.DONE,
        past.pk: RowOutcome.DONE,
        kept.pk: RowOutcome.UNDONE,
    }


def test_a_deferral_that_is_taken_back_was_none(instance: Instance, operator: User) -> None:
    """The last deferral that the type allows, and an earlier time: both go back without asking for a further one."""
    later, earlier = (
        make_event(instance, deferrals=2),
        make_event(instance, deferrals=3, switch_at=in_days(6)),
    )
    made, _ = plan(person(operator), BulkAction.TO_TIME, [later, earlier], at=in_days(5))
    done = bulk.apply(person(operator), made)
    assert bulk.counts(bulk.undo(person(operator), done)) == bulk.Counts(done=2)
    assert list(Event.objects.order_by("pk").values_list("deferrals", flat=True)) == [2, 3]


def test_contacts_hear_of_all_in_one_message(instance: Instance, operator: User) -> None:
    """Also of an undo, after which some wait for a time again."""
    make_contact(instance.account)
    events = [make_event(instance) for _ in range(6)] + [make_event(instance, switch_at=None)]
    soon = timezone.now() + timedelta(minutes=5)
    made, _ = plan(person(operator), BulkAction.TO_TIME, events, at=in_days(5))
    done = bulk.apply(person(operator), made)
    telling.tell_due(now=soon)
    assert Notification.objects.count() == 1
    bulk.undo(person(operator), done)
    telling.tell_due(now=soon)
    assert Notification.objects.count() == 2
    assert not Occasion.objects.filter(told_at__isnull=True, due_at__lte=soon).exists()


@pytest.mark.parametrize("action", [BulkAction.CANCEL, BulkAction.ACKNOWLEDGE])
def test_what_has_no_way_back(instance: Instance, operator: User, action: BulkAction) -> None:
    made, _ = plan(person(operator), action, [make_event(instance, may_cancel=True)])
    done = bulk.apply(person(operator), made)
    with pytest.raises(Conflict) as refused:
        bulk.undo(person(operator), done)
    assert refused.value.id == "bulk.not_undoable"


def test_an_undo_is_not_undone(events: list[Event], operator: User) -> None:
    made, _ = plan(person(operator), BulkAction.TO_TIME, events, at=in_days(5))
    back = bulk.undo(person(operator), bulk.apply(person(operator), made))
    with pytest.raises(Conflict):
        bulk.undo(person(operator), back)


def test_old_previews_are_forgotten(events: list[Event], operator: User) -> None:
    old, _ = plan(person(operator), BulkAction.TO_TIME, events, at=in_days(5))
    applied = bulk.apply(person(operator), plan(person(operator), BulkAction.ACKNOWLEDGE, events)[0])
    young, _ = plan(person(operator), BulkAction.TO_TIME, events, at=in_days(5))
    BulkChange.objects.filter(pk__in=[old.pk, applied.pk]).update(created_at=in_days(-8))
    bulk.sweep()
    assert set(BulkChange.objects.all()) == {applied, young}
