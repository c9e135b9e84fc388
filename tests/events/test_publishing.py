"""Publishing: what the preview says is what is then there; who gets which time; what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events.choices import EventStatus, OccasionKind, Via
from events.models import Blackout, Campaign, Event, EventType, Occasion, RegionLimit
from events.services import plans, publishing
from events.services.by import By
from events.services.drafts import Draft
from events.services.plans import Plan, plan_of
from events.services.selection import Chosen, Selection
from portal.errors import Conflict, Invalid, NotFound, NotPermitted, ServiceError
from portal.models import Account, AuditEntry, Channel, Contact, Endpoint, Instance, InstanceContact
from portal.services import contacts, windows
from portal.services.reach import reached_by
from tests.portal.world import World, make_instance, make_user

from .conftest import make_contact, make_event

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MONDAY = datetime(2026, 3, 2, 10, 7, 13, tzinfo=UTC)
"""A moment like any other, not at a full minute."""


def kind(code: str = "instance-migration") -> EventType:
    return EventType.objects.get(code=code)


def draft(*instances: Instance, code: str = "instance-migration", **values: Any) -> Draft:
    return Draft(type=kind(code), instances=[one.public_id for one in instances], **values)


def window(owner: Instance | Account, days: set[int], starts: int = 2, ends: int = 4) -> None:
    windows.set_window(None, owner, days, time(starts), time(ends), "UTC")


def staff_by(staff: User) -> By:
    return By(staff, via=Via.CONSOLE)


def only(plan: Plan) -> plans.Row:
    (row,) = plan.rows
    return row


def refused(plan: Plan) -> str:
    refusal = only(plan).refusal
    assert refusal is not None
    return refusal.id


class TestOneEvent:
    def test_what_is_written(self, instance: Instance, staff: User) -> None:
        switch_at = timezone.now().replace(microsecond=0) + 4 * DAY
        made = publishing.publish(
            staff_by(staff), draft(instance, switch_at=switch_at, cause="The rack is taken down.")
        )
        event = Event.objects.get()
        assert made == event
        assert (event.status, event.switch_at, event.proposed_at) == ("pending", switch_at, switch_at)
        assert event.starts_at == switch_at - HOUR  # the preparation of the type
        assert event.deadline == event.created_at + 14 * DAY
        assert (event.cause, event.impacts, event.region) == (
            "The rack is taken down.",
            kind().impacts,
            "eu-central",
        )
        assert (event.account, event.instance_name, event.campaign) == (instance.account, "sessions", None)
        assert (event.created_by, event.level, event.may_change) == (staff, "S1", True)
        entry = AuditEntry.objects.get(action="event.published")
        assert (entry.actor, entry.account, entry.object_id) == (staff, instance.account, event.public_id)
        assert entry.details["via"] == "the console"

    def test_what_is_to_be_told(self, instance: Instance, staff: User) -> None:
        switch_at = timezone.now().replace(microsecond=0) + 4 * DAY
        publishing.publish(staff_by(staff), draft(instance, switch_at=switch_at))
        event = Event.objects.get()
        told = Occasion.objects.get(kind=OccasionKind.PUBLISHED)
        assert (told.due_at, told.batch, told.facts["by"]) == (event.created_at, "", "staff")
        reminders = Occasion.objects.filter(kind=OccasionKind.REMINDER).order_by("due_at")
        assert [row.due_at for row in reminders] == [switch_at - hours * HOUR for hours in (72, 24, 1)]

    def test_a_command_on_the_server_may(self, instance: Instance) -> None:
        made = publishing.publish(By(via=Via.COMMAND), draft(instance))
        assert isinstance(made, Event) and made.created_by is None

    @pytest.mark.parametrize("role", ["viewer", "operator", "owner", "outsider"])
    def test_others_may_not(self, world: World, role: str) -> None:
        for act in (publishing.preview, publishing.publish):
            with pytest.raises(NotPermitted):
                act(By(world.user(role)), draft(world.instance))
        assert not Event.objects.exists()

    def test_staff_without_the_permission_may_not(self, instance: Instance) -> None:
        with pytest.raises(NotPermitted):
            publishing.publish(By(make_user("clerk", is_staff=True)), draft(instance))


class TestTimes:
    """`plan_of` with a moment of the test's own, so that edges are met to the second."""

    def test_maintenance_in_the_first_window_that_keeps_the_notice(self, instance: Instance) -> None:
        window(instance, {0, 3})  # Thursday 02:00 is less than 72 hours away
        row = only(plan_of(draft(instance), MONDAY))
        assert row.switch_at == datetime(2026, 3, 9, 2, tzinfo=UTC)
        assert row.notice == row.switch_at - MONDAY and not row.refusal

    def test_in_the_midst_of_a_window_at_a_quarter_of_an_hour(self, instance: Instance) -> None:
        window(instance, {3}, 8, 12)
        row = only(plan_of(draft(instance), MONDAY))
        assert row.switch_at == datetime(2026, 3, 5, 10, 15, tzinfo=UTC)

    def test_the_window_of_the_account_where_there_is_no_other(self, instance: Instance) -> None:
        window(instance.account, {5})
        assert only(plan_of(draft(instance), MONDAY)).switch_at == datetime(2026, 3, 7, 2, tzinfo=UTC)
        window(instance, {6})
        assert only(plan_of(draft(instance), MONDAY)).switch_at == datetime(2026, 3, 8, 2, tzinfo=UTC)

    def test_without_a_window_a_time_is_to_be_chosen(self, instance: Instance, staff: User) -> None:
        row = only(plan_of(draft(instance), MONDAY))
        assert row.switch_at is None and "no_window" in [one.id for one in row.warnings]
        event = publishing.publish(staff_by(staff), draft(instance))
        assert isinstance(event, Event)
        assert (event.status, event.switch_at, event.starts_at) == (EventStatus.WAITING, None, None)
        assert not Occasion.objects.filter(kind=OccasionKind.REMINDER).exists()

    def test_without_a_window_and_a_choice_the_deadline_is_the_time(self, instance: Instance) -> None:
        row = only(plan_of(draft(instance, may_change=False), MONDAY))
        assert row.switch_at == row.deadline == MONDAY + 14 * DAY

    def test_without_a_free_window_up_to_the_deadline(self, instance: Instance) -> None:
        window(instance, {0})
        wanted = draft(instance, deadline=MONDAY + 4 * DAY)
        row = only(plan_of(wanted, MONDAY))
        assert row.switch_at is None and row.warnings[0].text.startswith(
            "No maintenance window has a free place"
        )

    def test_a_blackout_is_passed_over(self, instance: Instance) -> None:
        window(instance, {0})
        closed = datetime(2026, 3, 9, tzinfo=UTC)
        Blackout.objects.create(starts_at=closed, ends_at=closed + DAY, reason="Sale")
        assert only(plan_of(draft(instance), MONDAY)).switch_at == datetime(2026, 3, 16, 2, tzinfo=UTC)

    def test_the_notice_to_the_second(self, instance: Instance) -> None:
        least = MONDAY + 72 * HOUR
        assert not only(plan_of(draft(instance, switch_at=least), MONDAY)).refusal
        assert (
            refused(plan_of(draft(instance, switch_at=least - timedelta(seconds=1)), MONDAY))
            == "event.short_notice"
        )

    def test_the_notice_of_a_time_that_is_to_be_chosen(self, instance: Instance) -> None:
        least = MONDAY + 72 * HOUR
        assert not only(plan_of(draft(instance, deadline=least), MONDAY)).refusal
        assert (
            refused(plan_of(draft(instance, deadline=least - timedelta(seconds=1)), MONDAY))
            == "event.short_notice"
        )

    def test_a_type_with_a_notice_of_its_own(self, instance: Instance) -> None:
        soon = MONDAY + 168 * HOUR - timedelta(seconds=1)
        wanted = draft(instance, code="major-version", switch_at=soon)
        assert refused(plan_of(wanted, MONDAY)) == "event.short_notice"

    def test_a_risk_fix_to_the_second(self, instance: Instance) -> None:
        most = MONDAY + 72 * HOUR
        wanted = draft(instance, code="vulnerability-fix", deadline=most)
        assert not only(plan_of(wanted, MONDAY)).refusal
        later = draft(instance, code="vulnerability-fix", deadline=most + timedelta(seconds=1))
        assert refused(plan_of(later, MONDAY)) == "event.not_urgent"

    def test_a_risk_fix_of_another_type_gets_72_hours(self, instance: Instance) -> None:
        row = only(plan_of(draft(instance, level="S0"), MONDAY))
        assert row.deadline == MONDAY + 72 * HOUR and not row.refusal

    def test_a_risk_fix_waits_for_the_window_of_its_instance_only(self, instance: Instance) -> None:
        wanted = draft(instance, code="vulnerability-fix")
        window(instance.account, {2})
        soon = datetime(2026, 3, 2, 14, 15, tzinfo=UTC)  # in four hours, at a quarter
        assert only(plan_of(wanted, MONDAY)).switch_at == soon
        window(instance, {2})
        assert only(plan_of(wanted, MONDAY)).switch_at == datetime(2026, 3, 4, 2, tzinfo=UTC)
        window(instance, {6})  # after the deadline
        assert only(plan_of(wanted, MONDAY)).switch_at == soon

    def test_a_risk_fix_with_a_near_deadline(self, instance: Instance) -> None:
        deadline = MONDAY + HOUR
        assert (
            only(plan_of(draft(instance, code="vulnerability-fix", deadline=deadline), MONDAY)).switch_at
            == deadline
        )

    def test_a_risk_fix_knows_no_blackout(self, instance: Instance) -> None:
        Blackout.objects.create(starts_at=MONDAY, ends_at=MONDAY + 9 * DAY, reason="Sale")
        at = MONDAY + 2 * HOUR
        assert not only(plan_of(draft(instance, code="vulnerability-fix", switch_at=at), MONDAY)).refusal

    def test_a_given_time_moves_the_deadline_along(self, instance: Instance) -> None:
        row = only(plan_of(draft(instance, switch_at=MONDAY + 20 * DAY), MONDAY))
        assert row.deadline == MONDAY + 20 * DAY and not row.refusal

    @pytest.mark.parametrize(
        ("values", "refusal"),
        [
            ({"switch_at": MONDAY - DAY}, "event.short_notice"),
            ({"deadline": MONDAY}, "event.in_past"),
            ({"switch_at": MONDAY + 9 * DAY, "deadline": MONDAY + 8 * DAY}, "event.after_deadline"),
            ({"level": "S0", "switch_at": MONDAY + timedelta(seconds=3599)}, "event.too_soon"),
            ({"level": "S0", "deadline": MONDAY + timedelta(seconds=3599)}, "event.after_deadline"),
        ],
    )
    def test_refusals(self, instance: Instance, values: dict[str, Any], refusal: str) -> None:
        assert refused(plan_of(draft(instance, **values), MONDAY)) == refusal


class TestSeveral:
    def test_staggered_from_a_first_time(self, account: Account, staff: User) -> None:
        chosen = [make_instance(account, name) for name in ("c", "a", "b")]
        first = timezone.now().replace(microsecond=0) + 5 * DAY
        made = publishing.publish(
            staff_by(staff), draft(*chosen, switch_at=first, stagger=timedelta(minutes=10), name="Rack 4")
        )
        assert isinstance(made, Campaign) and made.name == "Rack 4"
        times = {event.instance_name: event.switch_at for event in made.events.all()}
        assert times == {name: first + number * timedelta(minutes=10) for number, name in enumerate("cab")}
        assert set(Occasion.objects.values_list("batch", flat=True)) == {made.public_id, ""}

    def test_one_that_is_refused_leaves_no_gap_and_is_named(self, account: Account, staff: User) -> None:
        chosen = [
            make_instance(account, name, proxy_version=proxy) for name, proxy in (("a", ""), ("b", "2.8"))
        ]
        first = timezone.now().replace(microsecond=0) + 5 * DAY
        made = publishing.publish(
            staff_by(staff),
            draft(*chosen, code="proxy-version", switch_at=first, stagger=HOUR, version_to="2.9"),
        )
        assert isinstance(made, Campaign)
        event = made.events.get()
        assert (event.instance_name, event.switch_at) == ("b", first)
        assert (event.version_from, event.version_to) == ("2.8", "2.9")
        assert made.selection["left_out_count"] == 1
        assert made.selection["left_out"][0] | {"message": ""} == {
            "instance": chosen[0].public_id, "name": "a", "id": "event.no_proxy", "message": "",
        }  # fmt: skip

    def test_all_refused_publishes_nothing(self, account: Account, staff: User) -> None:
        chosen = [make_instance(account, name) for name in ("a", "b")]
        with pytest.raises(Invalid) as error:
            publishing.publish(staff_by(staff), draft(*chosen, code="proxy-version"))
        assert error.value.id == "event.no_proxy"
        assert not Event.objects.exists() and not Campaign.objects.exists() and not Occasion.objects.exists()

    def test_a_region_that_is_full(self, account: Account) -> None:
        RegionLimit.objects.create(region="eu-central", most=2)
        window(account, {0})
        chosen = [make_instance(account, f"i{number}") for number in range(5)]
        rows = plan_of(draft(*chosen), MONDAY).rows
        begin = datetime(2026, 3, 9, 2, tzinfo=UTC)
        # Ten minutes each, two at a time.
        assert [row.switch_at for row in rows] == [
            begin + timedelta(minutes=minutes) for minutes in (0, 0, 10, 10, 20)
        ]
        given = plan_of(draft(*chosen, switch_at=begin), MONDAY).rows
        assert [row.refusal.id if row.refusal else "" for row in given] == ["", ""] + [
            "event.region_full"
        ] * 3

    def test_what_is_planned_already_counts(self, account: Account, staff: User) -> None:
        RegionLimit.objects.create(region="", most=1)
        first, second = (make_instance(account, name) for name in "ab")
        at = timezone.now().replace(microsecond=0) + 5 * DAY
        publishing.publish(staff_by(staff), draft(first, switch_at=at))
        with pytest.raises(Invalid) as error:
            publishing.publish(staff_by(staff), draft(second, switch_at=at + timedelta(minutes=9)))
        assert error.value.id == "event.region_full"

    def test_the_preview_is_what_is_published(self, account: Account, staff: User) -> None:
        window(account, {0, 1, 2, 3, 4, 5, 6})
        RegionLimit.objects.create(region="eu-central", most=1)
        make_contact(account)
        for number in range(7):
            make_instance(account, f"i{number}", version="7.2.4" if number % 3 else "8.0.1")
        wanted = Draft(kind("minor-version"), Selection(account=account.public_id), version_to="7.2.5")
        by = staff_by(staff)
        plan = publishing.preview(by, wanted)
        assert not Event.objects.exists()
        made = publishing.publish(by, wanted, seen=plan.digest)
        assert isinstance(made, Campaign)
        published = {event.instance_id: event.switch_at for event in made.events.all()}
        assert published == {row.instance.pk: row.switch_at for row in plan.published}
        assert (
            made.selection["left_out_count"] == len(plan.left_out) == 4
        )  # three of 8.0.1, and the world's of 9.1.2
        assert made.selection["filter"] == {"account": account.public_id}

    def test_what_has_changed_since_the_preview_is_looked_at_again(
        self, instance: Instance, staff: User
    ) -> None:
        window(instance, {0, 1, 2, 3, 4, 5, 6})
        plan = publishing.preview(staff_by(staff), draft(instance))
        window(instance, {0, 1, 2, 3, 4, 5, 6}, 5, 6)
        with pytest.raises(Conflict) as error:
            publishing.publish(staff_by(staff), draft(instance), seen=plan.digest)
        assert error.value.id == "event.plan_changed" and not Event.objects.exists()

    def test_a_thousand_in_a_constant_number_of_queries(self, account: Account, staff: User) -> None:
        window(account, {0, 1, 2, 3, 4, 5, 6})
        contact = make_contact(account)
        made = Instance.objects.bulk_create(
            Instance(account=account, name=f"bulk-{number:04}", region="eu-west", version="7.2.4")
            for number in range(1000)
        )
        Endpoint.objects.bulk_create(Endpoint(instance=one, host=f"{one.name}.internal") for one in made)
        InstanceContact.objects.create(instance=made[3], contact=contact)
        by = staff_by(staff)

        def reads(wanted: Draft) -> int:
            with CaptureQueriesContext(connection) as queries:
                plan = publishing.preview(by, wanted)
            assert not plan.left_out
            return len(queries)

        few = Draft(kind(), [one.public_id for one in made[:10]])
        all_of_them = Draft(kind(), Selection(region="eu-west"))
        reads(few)  # the permissions of a person are looked up once
        assert reads(few) == reads(all_of_them) <= 11
        with CaptureQueriesContext(connection) as queries:
            publishing.publish(by, all_of_them)
        texts = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
        assert len(texts) <= 12 and len(queries) < 400  # SQLite takes about 999 values in a statement
        assert Event.objects.count() == 1000
        assert Occasion.objects.filter(kind=OccasionKind.PUBLISHED).count() == 1000
        assert AuditEntry.objects.filter(action="event.published").count() == 1000


class TestRefusals:
    @pytest.mark.parametrize(
        ("current", "target", "refusal"),
        [
            ("7.2.4", "7.2.5", ""),
            ("7.2.9", "7.2.10", ""),
            ("7.2", "7.2.1", ""),
            ("7.2.4", "7.4", ""),
            ("7.2.4", "8", "event.version_not_minor"),
            ("6.2.14", "7.2.5", "event.version_not_minor"),
            ("7", "8", "event.version_not_minor"),
            ("7.2.4", "7.2.4", "event.version_not_newer"),
            ("7.2.0", "7.2", "event.version_not_newer"),
            ("7.2.4", "7.2", "event.version_not_newer"),
            ("7.2.10", "7.2.9", "event.version_not_newer"),
            ("", "7.2.5", ""),
        ],
    )
    def test_versions(self, instance: Instance, current: str, target: str, refusal: str) -> None:
        Instance.objects.update(version=current)
        row = only(plan_of(draft(instance, code="minor-version", version_to=target), MONDAY))
        assert (row.refusal.id if row.refusal else "") == refusal
        assert (row.version_from, row.version_to) == (current, target)
        assert ("version_unknown" in [one.id for one in row.warnings]) == (not current)

    def test_a_filter_without_a_condition_is_not_everything(self, instance: Instance) -> None:
        for code, selection in (("event.no_condition", Selection()), ("", Selection(everything=True))):
            if not code:
                assert len(plan_of(Draft(kind(), selection), MONDAY).rows) == Instance.objects.count()
                continue
            with pytest.raises(Invalid) as error:
                plan_of(Draft(kind(), selection), MONDAY)
            assert error.value.id == code and "Nothing was published." in error.value.message

    def test_only_a_minor_update_keeps_the_major_version(self, instance: Instance) -> None:
        Instance.objects.update(version="6.2.14")
        assert not only(plan_of(draft(instance, code="major-version", version_to="7.2.5"), MONDAY)).refusal

    def test_no_proxy_no_event_of_the_proxy(self, instance: Instance, staff: User) -> None:
        wanted = draft(instance, code="proxy-version", version_to="2.9.0")
        with pytest.raises(Invalid) as error:
            publishing.publish(staff_by(staff), wanted)
        assert error.value.id == "event.no_proxy"
        Instance.objects.update(proxy_version="2.9.0")
        assert refused(plan_of(wanted, MONDAY)) == "event.version_not_newer"
        Instance.objects.update(proxy_version="2.8.7")
        assert not only(plan_of(wanted, MONDAY)).refusal

    @pytest.mark.parametrize(
        ("code", "values", "refusal"),
        [
            ("minor-version", {"version_to": "newest"}, "event.bad_version_to"),
            ("switchover", {"version_to": "7.2.5"}, "event.bad_version_to"),
            ("minor-version", {"release_notes": "javascript:alert(1)"}, "event.bad_release_notes"),
            ("switchover", {"level": "S9"}, "event.bad_level"),
            ("switchover", {"executor": "magic"}, "event.bad_executor"),
            ("switchover", {"stagger": HOUR}, "event.bad_switch_at"),
            ("switchover", {"stagger": -HOUR, "switch_at": MONDAY + 9 * DAY}, "event.bad_stagger"),
        ],
    )
    def test_of_the_draft(self, instance: Instance, code: str, values: dict[str, Any], refusal: str) -> None:
        with pytest.raises(Invalid) as error:
            plan_of(draft(instance, code=code, **values), MONDAY)
        assert error.value.id == refusal and "Nothing was published." in error.value.message

    def test_a_type_that_is_not_used_any_more(self, instance: Instance, staff: User) -> None:
        EventType.objects.update(is_active=False)
        with pytest.raises(ServiceError) as error:
            publishing.publish(staff_by(staff), draft(instance))
        assert error.value.id == "event.type_inactive"

    def test_unknown_instances(self, instance: Instance) -> None:
        with pytest.raises(NotFound) as error:
            plan_of(Draft(kind(), [instance.public_id, "r-nowhere1"]), MONDAY)
        assert error.value.id == "event.no_instance" and "r-nowhere1" in error.value.message
        nobody: list[Chosen] = [[], Selection(region="nowhere")]
        for nothing in nobody:
            with pytest.raises(Invalid):
                plan_of(Draft(kind(), nothing), MONDAY)

    def test_what_a_token_for_one_account_reaches(self, world: World) -> None:
        both = Draft(kind(), Selection(everything=True), account=world.account)
        assert [row.instance for row in plan_of(both, MONDAY).rows] == [world.instance]
        with pytest.raises(NotFound):
            plan_of(Draft(kind(), [world.other_instance.public_id], account=world.account), MONDAY)


class TestSelection:
    def test_versions_in_whole_parts(self, world: World) -> None:
        for name, version in (("a", "6.2"), ("b", "6.2.14"), ("c", "6.20.1"), ("d", "7.6.2")):
            make_instance(world.account, name, version=version, edition="redis", region="eu-west")
        assert [one.name for one in Selection(version="6.2").rows()] == ["a", "b"]
        assert [one.name for one in Selection(edition="redis", region="eu-west", version="7").rows()] == ["d"]
        assert Selection(edition="redis", version="6.2", region="eu-west").words == [
            "Redis 6.2",
            "region eu-west",
        ]

    def test_account_name_and_proxy(self, world: World) -> None:
        Instance.objects.filter(pk=world.instance.pk).update(proxy_version="2.8")
        assert list(Selection(account=world.other_account.name).rows()) == [world.other_instance]
        assert list(Selection(account=world.other_account.public_id).rows()) == [world.other_instance]
        assert list(Selection(name="SESS").rows()) == list(Selection(proxy=True).rows()) == [world.instance]


class TestWhoIsTold:
    def test_at_once_and_after_quiet_hours(self, instance: Instance) -> None:
        make_contact(instance.account, "Day", order=0)
        make_contact(instance.account, "Night", order=1, quiet_from=time(9), quiet_to=time(11, 30))
        make_contact(instance.account, "Tasks", categories=["tasks"])
        told = only(plan_of(draft(instance), MONDAY)).told
        assert [(one.name, one.ways, one.at) for one in told] == [
            ("Day", "Mail", None),
            ("Night", "Mail", datetime(2026, 3, 2, 11, 30, tzinfo=UTC)),
        ]

    def test_the_inbox_has_no_quiet_hours(self, world: World) -> None:
        hours = {"quiet_from": time(9), "quiet_to": time(11, 30)}
        member = make_contact(world.account, "Night", user=world.user("viewer"), **hours)
        Channel.objects.create(contact=member, kind="inbox")
        told = only(plan_of(draft(world.instance), MONDAY)).told
        assert [(one.ways, one.at) for one in told] == [
            ("Inbox", None),
            ("Mail", datetime(2026, 3, 2, 11, 30, tzinfo=UTC)),
        ]

    def test_urgent_ones_go_from_one_to_the_next(self, instance: Instance) -> None:
        make_contact(instance.account, "First", order=0, quiet_from=time(9), quiet_to=time(11, 30))
        make_contact(instance.account, "Second", order=1)
        make_contact(instance.account, "Third", order=2)
        told = only(plan_of(draft(instance, code="vulnerability-fix"), MONDAY)).told
        assert [(one.name, one.at, one.if_unseen) for one in told] == [
            ("First", None, False),
            ("Second", MONDAY + timedelta(minutes=15), True),
            ("Third", MONDAY + timedelta(minutes=30), True),
        ]

    def test_nobody(self, instance: Instance) -> None:
        Contact.objects.create(account=instance.account, name="Mute", categories=["maintenance"])
        row = only(plan_of(draft(instance), MONDAY))
        assert not row.told and "no_contact" in [one.id for one in row.warnings]

    def test_as_for_each_one_alone(self, world: World) -> None:
        own = make_contact(world.account, "Own")
        make_contact(world.account, "General")
        make_contact(world.account, "Off", categories=[])
        off = make_contact(world.account, "Other off", categories=["tasks"])
        member = make_contact(world.account, "Member", email="", user=world.user("viewer"))
        Channel.objects.create(contact=member, kind="inbox")
        stranger = make_contact(world.account, "Stranger", email="", user=world.user("outsider"))
        Channel.objects.create(contact=stranger, kind="inbox")
        more = [make_instance(world.account, name) for name in ("a", "b")]
        InstanceContact.objects.create(instance=more[0], contact=own)
        InstanceContact.objects.create(instance=more[1], contact=off)
        every = [world.instance, world.other_instance, *more]
        found = reached_by(every)
        for one in every:
            assert [reached.contact for reached in found[one.pk]] == contacts.told_for(one)
        assert [reached.contact.name for reached in found[more[0].pk]] == ["Own"]
        assert [reached.contact.name for reached in found[more[1].pk]] == ["General", "Member", "Own"]


class TestWarnings:
    def ids(self, instance: Instance, **values: Any) -> list[str]:
        return [one.id for one in only(plan_of(draft(instance, **values), MONDAY)).warnings]

    def test_a_raw_address(self, account: Account) -> None:
        assert "raw_address" in self.ids(make_instance(account, "ip", host="10.0.0.7"))
        assert "raw_address" not in self.ids(make_instance(account, "name"))

    def test_another_event_of_the_instance(self, instance: Instance) -> None:
        at = MONDAY + 5 * DAY
        other = make_event(instance, "switchover", switch_at=at - timedelta(minutes=65), deadline=at + DAY)
        assert "waits" in self.ids(instance, switch_at=at)
        assert "waits" not in self.ids(instance, switch_at=at + 3 * HOUR)
        row = only(plan_of(draft(instance, switch_at=at), MONDAY))
        assert other.public_id in row.warnings[-1].text

    def test_versions(self, instance: Instance) -> None:
        Instance.objects.update(version="6.2.14", proxy_version="2.8")
        assert "no_target" in self.ids(instance, code="minor-version")
        assert "no_target" not in self.ids(instance, code="switchover")
        make_event(instance, "proxy-version", version_to="2.9")
        assert "other_version" not in self.ids(instance, code="minor-version", version_to="6.2.20")
        make_event(instance, "major-version", version_to="7.0.15")
        assert "other_version" in self.ids(instance, code="minor-version", version_to="6.2.20")
        assert "other_version" in self.ids(instance, code="proxy-version", version_to="2.10")

    def test_the_same_work_twice(self, instance: Instance) -> None:
        make_event(instance)
        assert "same_type" in self.ids(instance)
