"""Events at their time, with a clock that the test sets: what begins, what waits, what is postponed, and what a step changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, time, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from events import executors, jobs
from events.choices import EventStatus, Level, LogLevel, OccasionKind, Phase, StageStatus
from events.executors import Again, Done, Failed, Outcome, StageSpec, Step
from events.models import Blackout, Event, EventRun, EventStage, Occasion, RegionLimit
from events.services import execution, steps
from events.services.by import By
from events.services.choosing import choose_by_of
from portal.errors import Conflict, Invalid, NotFound, NotPermitted
from portal.models import AuditEntry, Instance
from portal.services.windows import set_window
from tests.portal.world import World, make_instance

from .conftest import make_event

MINUTE = timedelta(minutes=1)
S, St = EventStatus, StageStatus


class Scripted:
    """Does what the test says next, and remembers what it was asked."""

    name = "scripted"
    label = "Of the test"
    simulated = False

    def __init__(self) -> None:
        self.outcomes: list[Outcome | Exception | Callable[[Step], Outcome]] = []
        self.asked: list[str] = []

    def stages(self, event: Event) -> Sequence[StageSpec]:
        return (
            StageSpec("one", "One", Phase.PREPARE),
            StageSpec("two", "Two", Phase.SWITCH, "Connections are closed."),
            StageSpec("three", "Three", Phase.SWITCH),
        )

    def step(self, step: Step) -> Outcome:
        self.asked.append(step.stage)
        outcome = self.outcomes.pop(0) if self.outcomes else Done()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome(step) if callable(outcome) else outcome


@pytest.fixture
def script() -> Iterator[Scripted]:
    found = Scripted()
    executors.register(found)
    yield found
    executors.base._executors.pop("scripted")


@pytest.fixture
def planned() -> datetime:
    return timezone.now().replace(microsecond=0) + timedelta(days=4)


def make(instance: Instance, planned: datetime, **values: Any) -> Event:
    return make_event(instance, switch_at=planned, executor="scripted", **values)


def begin(event: Event, now: datetime | None = None) -> EventStatus | None:
    assert event.starts_at is not None
    found = execution.begin(event.pk, now or event.starts_at)
    event.refresh_from_db()
    return found


def work(event: Event, now: datetime, most: int = 20) -> None:
    """Steps, as long as one is due at `now`."""
    for _ in range(most):
        if steps.take(event.pk, "worker", now).startswith("nothing"):
            break
    event.refresh_from_db()


def statuses(event: Event) -> list[str]:
    return list(EventStage.objects.filter(event=event).order_by("position").values_list("status", flat=True))


def told(event: Event) -> list[str]:
    return list(
        Occasion.objects.filter(event=event)
        .exclude(kind=OccasionKind.REMINDER)
        .values_list("kind", flat=True)
    )


def log_of(event: Event) -> str:
    return "\n".join(event.log.values_list("message", flat=True))


# --- In time ----------------------------------------------------------------------------------------------------------


def cut(step: Step) -> Outcome:
    step.log("cut")
    step.state["at"] = 3
    return Again(MINUTE)


def test_from_the_beginning_to_the_end(script: Scripted, instance: Instance, planned: datetime) -> None:
    event = make(instance, planned)
    script.outcomes = [
        Done("prepared"),
        cut,
        lambda step: Done("switched", 10.0 + step.state["at"]),
        Done("checked", 1.5),
    ]
    assert event.starts_at is not None
    assert execution.begin(event.pk, event.starts_at - timedelta(seconds=1)) is None
    assert begin(event) == S.RUNNING
    assert (event.revision, event.started_at, event.switch_at) == (1, event.starts_at, planned)
    assert told(event) == ["started"]
    assert Occasion.objects.get(event=event).facts["switch_at"] == planned.isoformat()

    work(event, event.starts_at)
    # Prepared, and not a second too soon with what clients feel.
    work(event, planned - timedelta(seconds=1))
    assert script.asked == ["one"] and statuses(event) == [St.DONE, St.WAITING, St.WAITING]
    assert EventRun.objects.get(event=event).next_step_at == planned and event.switched_at is None

    work(event, planned)
    assert statuses(event)[1] == St.RUNNING
    work(event, planned + MINUTE)
    assert event.switched_at == planned
    assert statuses(event) == [St.DONE] * 3
    assert (event.status, event.finished_at, event.measured_seconds) == (S.SUCCEEDED, planned + MINUTE, 14.5)
    assert event.revision == 2 and told(event) == ["started", "succeeded"]
    assert "cut" in log_of(event) and "14.5 s" in event.result
    actions = (
        AuditEntry.objects.filter(object_id=event.public_id).order_by("pk").values_list("action", flat=True)
    )
    assert list(actions) == ["event.started", "event.succeeded"]


def test_a_failure_ends_it_and_says_why(script: Scripted, instance: Instance, planned: datetime) -> None:
    event = make(instance, planned)
    script.outcomes = [
        Done(),
        Done("", 7),
        Failed("The new master does not answer. The old one serves again."),
    ]
    begin(event)
    work(event, planned)

    assert (event.status, event.measured_seconds) == (S.FAILED, 7)
    assert statuses(event) == [St.DONE, St.DONE, St.FAILED]
    assert event.result.startswith("The new master")
    facts = Occasion.objects.get(event=event, kind="failed").facts
    assert (facts["stage"], facts["result"]) == ("Three", event.result)
    assert event.log.filter(level=LogLevel.ERROR).count() == 1


def test_what_comes_after_a_failed_stage_is_skipped(
    script: Scripted, instance: Instance, planned: datetime
) -> None:
    event = make(instance, planned)
    script.outcomes = [Failed("No memory.")]
    begin(event)
    work(event, planned)
    assert statuses(event) == [St.FAILED, St.SKIPPED, St.SKIPPED] and event.switched_at is None


def test_an_event_that_nobody_can_carry_out_says_so(instance: Instance, planned: datetime) -> None:
    event = make(instance, planned)
    assert begin(event) == S.PENDING
    assert "no executor “scripted”" in event.hold_reason
    assert execution.due(planned) == [] and execution.blocked(planned) == []
    begin(event)
    assert event.log.count() == 1  # said once


@pytest.mark.parametrize(
    ("code", "there", "target", "status"),
    [
        ("minor-version", {"version": "7.2.4"}, "7.2.5", S.RUNNING),
        ("minor-version", {"version": "7.2.5"}, "7.2.5", S.PENDING),
        ("minor-version", {"version": "8.0.1"}, "7.2.5", S.PENDING),
        ("minor-version", {"version": ""}, "7.2.5", S.RUNNING),
        ("minor-version", {"version": "8.0.1"}, "", S.RUNNING),
        ("proxy-version", {"version": "7.2.5", "proxy_version": "2.8"}, "2.9", S.RUNNING),
        ("proxy-version", {"version": "7.2.5", "proxy_version": "2.9"}, "2.9", S.PENDING),
    ],
)
def test_nothing_is_updated_to_a_version_that_is_no_later_by_then(
    instance: Instance, planned: datetime, code: str, there: dict[str, str], target: str, status: EventStatus
) -> None:
    event = make_event(instance, code, switch_at=planned, executor="simulated", version_to=target)
    Instance.objects.update(**there)
    assert begin(event) == status
    assert ("is not later: it is not begun" in event.hold_reason) is (status == S.PENDING)
    begin(event)
    assert event.log.filter(message__contains="is not later").count() == (status == S.PENDING)


# --- Two at a time ----------------------------------------------------------------------------------------------------


def test_the_second_event_of_an_instance_waits_and_then_begins(
    script: Scripted, instance: Instance, planned: datetime
) -> None:
    first, second = make(instance, planned), make(instance, planned, level=Level.S1)
    assert execution.due(planned) == [first.pk, second.pk]
    begin(first)
    assert execution.due(planned) == [] and execution.blocked(planned) == [second.pk]
    assert begin(second) == S.PENDING
    assert second.hold_reason == f"Waits for {first.type.name} ({first.public_id}) to end."
    assert execution.blocked(planned) == []

    end = planned + 20 * MINUTE
    work(first, end)
    assert first.status == S.SUCCEEDED and execution.due(end) == [second.pk]
    assert begin(second, end) == S.RUNNING
    assert second.hold_reason == "" and second.switch_at == end + timedelta(seconds=600)
    facts = Occasion.objects.get(event=second).facts
    assert facts["late_seconds"] == 30 * 60
    assert facts["why"] == f"It waited for {first.type.name} ({first.public_id}) to end."


def test_urgent_ones_come_first(script: Scripted, instance: Instance, planned: datetime) -> None:
    make(instance, planned - MINUTE)
    urgent = make(instance, planned, level=Level.S0)
    assert execution.due(planned)[0] == urgent.pk


def test_a_region_has_so_many_switchovers_at_a_time(
    script: Scripted, world: World, planned: datetime
) -> None:
    RegionLimit.objects.create(region="", most=1)
    one, two = (make(make_instance(world.account, name, region="eu"), planned) for name in ("a", "b"))
    elsewhere = make(make_instance(world.account, "c", region="us"), planned)
    script.outcomes = [Done(), Again(MINUTE)] * 3
    for event in (one, two, elsewhere):
        begin(event)
    work(one, planned)
    work(elsewhere, planned)
    assert one.switched_at and elsewhere.switched_at

    script.outcomes = [Done()]
    work(two, planned)
    assert two.switched_at is None and "under way in region eu" in two.hold_reason
    run = EventRun.objects.get(event=two)
    assert (run.next_step_at, run.owner, run.attempts) == (planned + steps.HOLD, "", 0)
    work(two, planned + steps.HOLD)
    assert two.switched_at is None and two.log.filter(message__contains="under way").count() == 1

    later = planned + 2 * MINUTE
    work(one, later)
    work(two, later)
    two = Event.objects.get(pk=two.pk)
    assert (two.status, two.switched_at, two.hold_reason) == (S.SUCCEEDED, later, "")


# --- Late -------------------------------------------------------------------------------------------------------------


def window(instance: Instance, planned: datetime) -> None:
    """Two hours from the planned time, every day."""
    end = (planned + timedelta(hours=2)).time().replace(second=0)
    set_window(None, instance, range(7), planned.time().replace(second=0), end, "UTC")


def at_two(planned: datetime) -> datetime:
    return planned.replace(hour=2, minute=0, second=0)


def test_late_within_the_window(script: Scripted, instance: Instance, planned: datetime) -> None:
    planned = at_two(planned)
    window(instance, planned)
    event = make(instance, planned)
    now = planned + 90 * MINUTE
    assert begin(event, now) == S.RUNNING
    assert (event.starts_at, event.switch_at) == (now, now + 10 * MINUTE)
    facts = Occasion.objects.get(event=event).facts
    assert (facts["planned"], facts["late_seconds"]) == (planned.isoformat(), 100 * 60)
    assert "100 min late" in log_of(event)
    work(event, now)
    assert event.switched_at is None  # what contacts were told holds


def test_too_late_is_postponed_to_the_next_window(
    script: Scripted, instance: Instance, planned: datetime
) -> None:
    planned = at_two(planned)
    window(instance, planned)
    event = make(instance, planned, deferrals=1, deadline=planned + MINUTE)
    next_day = planned + timedelta(days=1)
    assert begin(event, planned + timedelta(hours=5)) == S.PENDING
    assert (event.switch_at, event.starts_at) == (next_day, next_day - 10 * MINUTE)
    assert (event.deadline, event.deferrals, event.revision) == (next_day, 1, 1)
    occasion = Occasion.objects.get(event=event, kind="postponed")
    assert occasion.facts["why"] == "It could not begin in time." and occasion.facts["by"] == "the system"
    assert AuditEntry.objects.get(action="event.postponed").actor is None


@pytest.mark.parametrize(("late", "status"), [(60, S.RUNNING), (61, S.PENDING)])
def test_without_a_window_the_setting_counts(
    script: Scripted, instance: Instance, planned: datetime, late: int, status: str
) -> None:
    event = make(instance, planned)
    assert event.starts_at is not None
    assert begin(event, event.starts_at + late * MINUTE) == status
    if status == S.PENDING:
        assert event.switch_at == planned + timedelta(days=1)


def test_a_second_event_that_has_waited_too_long_says_for_which(
    script: Scripted, instance: Instance, planned: datetime
) -> None:
    first, second = make(instance, planned), make(instance, planned)
    begin(first)
    begin(second)
    work(first, planned)
    begin(second, planned + timedelta(hours=3))
    why = Occasion.objects.get(event=second, kind="postponed").facts["why"]
    assert first.public_id in why


def test_late_into_a_blackout_is_postponed(script: Scripted, instance: Instance, planned: datetime) -> None:
    event = make(instance, planned)
    urgent = make(make_instance(instance.account, "b"), planned, level=Level.S0)
    Blackout.objects.create(starts_at=planned, ends_at=planned + 30 * MINUTE, reason="Sale")
    assert [begin(one, planned + MINUTE) for one in (event, urgent)] == [S.PENDING, S.RUNNING]
    assert event.switch_at == planned + timedelta(days=1)
    assert "Sale" in Occasion.objects.get(event=event, kind="postponed").facts["why"]


# --- Prepared, and late for the switchover ----------------------------------------------------------------------------


def prepared(event: Event, planned: datetime) -> Event:
    """Everything before its switchover is done, and waits for its time."""
    begin(event)
    work(event, planned - MINUTE)
    assert statuses(event) == [St.DONE, St.WAITING, St.WAITING] and told(event) == ["started"]
    return event


@pytest.mark.parametrize(("seconds", "is_told"), [(60, False), (61, True)])
def test_a_switchover_a_minute_late_is_in_time(
    script: Scripted, instance: Instance, planned: datetime, seconds: int, is_told: bool
) -> None:
    event = prepared(make(instance, planned), planned)
    now = planned + timedelta(seconds=seconds)
    work(event, now)
    assert (event.status, event.switched_at, event.switch_at) == (
        S.SUCCEEDED,
        now,
        now if is_told else planned,
    )
    assert told(event) == ["started", *(["postponed"] if is_told else []), "succeeded"]


@pytest.mark.parametrize(("minutes", "goes_on"), [(119, True), (120, False)])
def test_after_an_outage_it_is_switched_over_in_its_window_or_in_the_next_one(
    script: Scripted, instance: Instance, planned: datetime, minutes: int, goes_on: bool
) -> None:
    planned = at_two(planned)
    window(instance, planned)
    event = prepared(make(instance, planned, deadline=planned + MINUTE), planned)
    now, next_day = planned + minutes * MINUTE, planned + timedelta(days=1)
    work(event, now)
    occasion = Occasion.objects.get(event=event, kind="postponed")
    assert (occasion.facts["old"], occasion.facts["by"]) == (planned.isoformat(), "the system")
    assert "It could not begin in time." in occasion.facts["why"]
    if goes_on:
        assert (event.status, event.switched_at, event.switch_at) == (S.SUCCEEDED, now, now)
        return
    assert (event.status, event.switch_at) == (S.RUNNING, next_day)
    assert (event.deadline, event.deferrals) == (next_day, 0)
    assert occasion.facts["why"].endswith("It stays prepared until then.")
    assert "postponed to" in log_of(event)
    assert AuditEntry.objects.filter(action="event.postponed").count() == 1
    # The time of old reminders is over, and the new one has its own.
    reminder = Occasion.objects.filter(event=event, kind="reminder", facts__revision=event.revision).get()
    assert reminder.due_at == next_day - timedelta(hours=1)
    work(event, next_day - timedelta(seconds=1))
    assert script.asked == ["one"]
    work(event, next_day)
    assert statuses(event) == [St.DONE] * 3 and (event.status, event.switched_at) == (S.SUCCEEDED, next_day)


@pytest.mark.parametrize(("late", "status"), [(60, S.SUCCEEDED), (61, S.RUNNING)])
def test_a_late_switchover_without_a_window(
    script: Scripted, instance: Instance, planned: datetime, late: int, status: str
) -> None:
    event = prepared(make(instance, planned), planned)
    work(event, planned + late * MINUTE)
    assert event.status == status
    if status == S.RUNNING:
        assert event.switch_at == planned + timedelta(days=1)


def test_a_risk_fix_is_switched_over_however_late(
    script: Scripted, instance: Instance, planned: datetime
) -> None:
    planned = at_two(planned)
    window(instance, planned)
    event = prepared(make(instance, planned, level=Level.S0), planned)
    work(event, planned + timedelta(hours=5))
    assert event.status == S.SUCCEEDED and told(event) == ["started", "postponed", "succeeded"]


def test_a_late_switchover_is_kept_out_of_a_blackout(
    script: Scripted, instance: Instance, planned: datetime
) -> None:
    event = prepared(make(instance, planned), planned)
    Blackout.objects.create(starts_at=planned, ends_at=planned + 30 * MINUTE, reason="Sale")
    work(event, planned + 5 * MINUTE)
    assert (event.switched_at, event.switch_at) == (None, planned + timedelta(days=1))
    assert "Sale" in Occasion.objects.get(event=event, kind="postponed").facts["why"]


def test_a_preparation_that_took_too_long_waits_for_the_next_window(
    script: Scripted, instance: Instance, planned: datetime
) -> None:
    planned = at_two(planned)
    window(instance, planned)
    script.outcomes = [Again(3 * 60 * MINUTE)]
    event = make(instance, planned)
    begin(event)
    work(event, planned)
    work(event, planned + 180 * MINUTE)
    assert (event.status, event.switch_at) == (S.RUNNING, planned + timedelta(days=1))
    assert statuses(event) == [St.DONE, St.WAITING, St.WAITING]


def test_one_that_has_waited_for_its_region_says_so(
    script: Scripted, world: World, planned: datetime
) -> None:
    RegionLimit.objects.create(region="", most=1)
    one, two = (make(make_instance(world.account, name, region="eu"), planned) for name in ("a", "b"))
    script.outcomes = [Done(), Again(5 * MINUTE)]
    for event in (one, two):
        begin(event)
        work(event, planned)
    work(one, planned + 5 * MINUTE)
    work(two, planned + 5 * MINUTE)
    why = Occasion.objects.get(event=two, kind="postponed").facts["why"]
    assert why == "As many switchovers were under way in region eu as there may be at a time (1)."


# --- Nobody has chosen ------------------------------------------------------------------------------------------------


def test_the_system_chooses_when_nobody_has(script: Scripted, instance: Instance) -> None:
    event = make_event(instance, switch_at=None, executor="scripted")
    until = event.deadline - timedelta(days=1)
    assert choose_by_of([event], timezone.now())[event.pk] == until
    assert execution.undecided(until - timedelta(seconds=1)) == ([], 0)
    assert not execution.decide(event.pk, until - timedelta(seconds=1))

    assert execution.undecided(until) == ([event.pk], 0)
    assert execution.decide(event.pk, until) and not execution.decide(event.pk, until)
    event.refresh_from_db()
    assert (event.status, event.switch_at, event.deferrals) == (S.PENDING, event.deadline, 0)
    occasion = Occasion.objects.get(event=event, kind="changed")
    assert occasion.facts["why"] == "Nobody has chosen a time." and occasion.facts["by"] == "the system"


def test_the_system_chooses_the_last_window(script: Scripted, instance: Instance) -> None:
    event = make_event(instance, switch_at=None)
    deadline = event.deadline
    last = at_two(deadline) - timedelta(days=1)
    set_window(None, instance, [last.weekday()], time(2), time(4), "UTC")
    assert choose_by_of([event], timezone.now())[event.pk] == last - timedelta(days=1)
    assert execution.decide(event.pk, last - timedelta(days=1))
    event.refresh_from_db()
    assert event.switch_at == last


def test_a_look_at_waiting_events_is_bounded_and_comes_to_all(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "MOST", 2)
    waiting = [make_event(instance, switch_at=None) for _ in range(3)]
    now = waiting[0].deadline
    first, after = execution.undecided(now)
    second, end = execution.undecided(now, after)
    assert first + second == [event.pk for event in waiting] and end == 0


# --- Leases -----------------------------------------------------------------------------------------------------------


def test_one_worker_at_a_time_and_a_result_counts_once(
    script: Scripted, instance: Instance, planned: datetime
) -> None:
    event = make(instance, planned)
    begin(event)
    mine = steps.acquire(event.pk, "first", planned)
    assert mine is not None and steps.acquire(event.pk, "second", planned) is None
    entered = steps.enter(mine, planned)
    assert entered is not None
    entered.step.log("of the first")

    # The first one is silent for longer than its lease: another one takes the same step.
    EventRun.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    other = steps.acquire(event.pk, "first", planned)  # even one of the same name
    assert other is not None
    again = steps.enter(other, planned)
    assert again is not None and again.stage_id == entered.stage_id
    assert not steps.store(mine, entered, Done("late", 99), planned)
    assert steps.store(other, again, Done("in time", 1), planned)
    assert not steps.store(other, again, Done("twice", 1), planned)
    stage = EventStage.objects.get(pk=again.stage_id)
    assert (stage.detail, stage.impact_seconds) == ("in time", 1)
    assert "of the first" not in log_of(event)


def test_a_step_that_breaks_is_taken_again_and_not_for_ever(
    script: Scripted, instance: Instance, planned: datetime
) -> None:
    event = make(instance, planned)
    script.outcomes = [RuntimeError("password=secret")] * steps.ATTEMPTS
    begin(event)
    now = planned
    for attempt in range(1, steps.ATTEMPTS + 1):
        work(event, now)
        run = EventRun.objects.get(event=event)
        assert run.attempts == attempt == len(script.asked)
        assert run.next_step_at is not None
        now = run.next_step_at
    work(event, now)
    assert event.status == S.FAILED and "5 steps in a row broke off in “One”" in event.result
    assert "secret" not in log_of(event) + event.result and "RuntimeError" in log_of(event)


def test_a_step_that_ends_well_begins_the_count_anew(
    script: Scripted, instance: Instance, planned: datetime
) -> None:
    event = make(instance, planned)
    script.outcomes = [RuntimeError(), Again(MINUTE)]
    begin(event)
    work(event, planned)
    work(event, planned + MINUTE)
    assert EventRun.objects.get(event=event).attempts == 0


def test_the_bell_rings_once_for_a_step(
    script: Scripted, instance: Instance, planned: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[int] = []
    monkeypatch.setattr(steps, "ring", rung.append)
    event = make(instance, planned)
    begin(event)
    EventRun.objects.update(rung_at=None)
    assert (steps.ring_due(planned), steps.ring_due(planned)) == (1, 0)
    EventRun.objects.update(rung_at=timezone.now() - steps.BELL * 2)
    assert steps.ring_due(planned) == 1
    steps.acquire(event.pk, "worker", planned)
    assert steps.ring_due(planned) == 0 and rung == [event.pk, event.pk]


def test_the_tick_begins_what_is_due_whatever_is_wrong_with_others(
    script: Scripted, world: World, planned: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    bad, good = (make(make_instance(world.account, name), now) for name in ("a", "b"))
    stages = script.stages

    def of(event: Event) -> Sequence[StageSpec]:
        if event == bad:
            raise ValueError("not for this one")
        return stages(event)

    monkeypatch.setattr(script, "stages", of)
    jobs.tick()
    assert dict(Event.objects.values_list("pk", "status")) == {bad.pk: S.PENDING, good.pk: S.RUNNING}


# --- By hand ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def by_hand(instance: Instance, planned: datetime) -> Event:
    """Waits for a person who prepares it."""
    event = make_event(instance, switch_at=planned)
    begin(event)
    work(event, planned)
    return event


def test_manual_work_to_its_end(by_hand: Event, staff: User, planned: datetime) -> None:
    by = By(staff)
    now = planned - 5 * MINUTE
    assert EventRun.objects.get(event=by_hand).next_step_at is None
    execution.confirm(by, by_hand, "prepare", note_text="all there", now=now)
    with pytest.raises(Conflict):  # not before its time
        execution.confirm(by, by_hand, "switch", 12, now=now)
    work(by_hand, planned)
    execution.confirm(by, by_hand, "switch", 12, "went well", now=planned + MINUTE)
    work(by_hand, planned + MINUTE)
    event = execution.confirm(by, by_hand, "check", now=planned + 2 * MINUTE)

    assert (event.status, event.measured_seconds, event.switched_at) == (S.SUCCEEDED, 12, planned)
    assert "staff has confirmed “Switch over”. went well" in log_of(event)
    assert AuditEntry.objects.filter(action="event.stage_confirmed", actor=staff).count() == 3


def test_a_person_reports_a_failure(by_hand: Event, staff: User, planned: datetime) -> None:
    with pytest.raises(Invalid) as refused:
        execution.report_failure(By(staff), by_hand, "  ")
    assert refused.value.id == "event.reason_needed"
    event = execution.report_failure(By(staff), by_hand, "No replica.", now=planned)
    assert (event.status, event.result) == (S.FAILED, "No replica.")
    assert AuditEntry.objects.get(action="event.failed").actor == staff
    with pytest.raises(Conflict):
        execution.report_failure(By(staff), by_hand, "Once more.")


@pytest.mark.parametrize("impact", [-0.1, 7 * 24 * 3600 + 1, float("nan"), float("inf")])
def test_an_impact_that_cannot_be(by_hand: Event, staff: User, impact: float) -> None:
    with pytest.raises(Invalid) as refused:
        execution.confirm(By(staff), by_hand, "prepare", impact)
    assert refused.value.id == "event.bad_impact"


@pytest.mark.parametrize(("role", "refusal"), [("owner", NotPermitted), ("outsider", NotFound)])
def test_only_staff_confirm(by_hand: Event, world: World, role: str, refusal: type[Exception]) -> None:
    by = By(world.user(role))
    with pytest.raises(refusal):
        execution.confirm(by, by_hand, "prepare")
    with pytest.raises(refusal):
        execution.report_failure(by, by_hand, "No.")
    assert statuses(by_hand)[0] == St.RUNNING


def test_a_worker_of_before_changes_nothing_that_a_person_has_confirmed(
    instance: Instance, staff: User, planned: datetime
) -> None:
    event = make_event(instance, switch_at=planned)
    begin(event)
    lease = steps.acquire(event.pk, "worker", planned)
    assert lease is not None
    with pytest.raises(Conflict):  # a worker is about to say what is to be done
        execution.confirm(By(staff), event, "prepare")
    entered = steps.enter(lease, planned)
    assert entered is not None
    assert steps.store(lease, entered, entered.executor.step(entered.step), planned)
    execution.confirm(By(staff), event, "prepare", now=planned)
    assert not steps.store(lease, entered, Failed("late"), planned)


def test_what_nobody_confirms_is_remarked_once(by_hand: Event, staff: User, planned: datetime) -> None:
    assert execution.overdue(planned - timedelta(seconds=1)) == []
    assert execution.overdue(planned) == [by_hand.pk]
    assert execution.remark_overdue(by_hand.pk, planned) and not execution.remark_overdue(by_hand.pk, planned)
    by_hand.refresh_from_db()
    assert by_hand.hold_reason == "Nobody has confirmed “Prepare”, and the time of the switchover has come."
    assert execution.overdue(planned) == []

    # The switchover is overdue an hour after it could be confirmed, and so is each stage after it.
    assert execution.confirm(By(staff), by_hand, "prepare", now=planned).hold_reason == ""
    for stage, since in ("switch", planned + MINUTE), ("check", planned + timedelta(hours=5)):
        work(by_hand, since)
        late = since + timedelta(hours=1)
        for moment, found in (late - timedelta(seconds=1), False), (late, True):
            assert (execution.overdue(moment) == [by_hand.pk]) is found
            assert execution.remark_overdue(by_hand.pk, moment) is found
        execution.confirm(By(staff), by_hand, stage, now=planned + timedelta(hours=5))
    assert "Nobody has confirmed “Check”, an hour after it could be done." in log_of(by_hand)
