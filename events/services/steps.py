"""The work of an event, step by step: who may take the next one, and what its result changes.

`take` is what a job does: it takes the lease of the run, asks the executor for one step outside of any transaction, and stores the
result if the lease is still its own. A worker that dies is followed by another one when its lease has run out; so a step can be
carried out twice, and counts once. All times of leases are the database's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import Now
from django.utils import timezone
from django_q.tasks import async_task

from events.choices import EventStatus, LogLevel, OccasionKind, Phase, StageStatus
from events.executors import Again, Done, Executor, Failed, Outcome, Step, WaitsForPerson, executor_of
from events.models import Event, EventLogEntry, EventRun, EventStage, RegionLimit
from events.services import occasions, postponing, staff
from events.services.by import SYSTEM, By
from events.services.journal import TEXT_LIMIT, hold, note
from events.services.scheduling import locked
from portal.patience import patient
from portal.services import audit

log = structlog.get_logger(__name__)

LEASE: Final = timedelta(seconds=130)  # longer than the cluster lets a job run
BELL: Final = timedelta(seconds=10)  # before a worker is asked for once more
HOLD: Final = timedelta(seconds=5)  # before a region that was full is looked at again
ATTEMPTS: Final = 5  # steps in a row that leave no result, before the event has failed
PAUSE: Final = timedelta(seconds=10)  # after a step that broke; doubled from one to the next
MOST: Final = 200  # rows that one look handles


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to take one step, until it is lost. `number` is larger than that of every earlier one."""

    event_id: int
    owner: str
    number: int

    def rows(self) -> QuerySet[EventRun]:
        return EventRun.objects.filter(event_id=self.event_id, owner=self.owner, steps=self.number)


@dataclass(frozen=True, slots=True)
class Entered:
    """A step that may be taken."""

    step: Step
    stage_id: int
    executor: Executor


# --- The bell ---------------------------------------------------------------------------------------------------------


def ring(event_id: int) -> None:
    """Ask for a worker that takes the next step. The message may be lost or doubled: only the lease decides."""
    async_task(
        "events.jobs.step", event_id, cluster=occasions.CLUSTER, task_name=f"event-{event_id}", save=False
    )


def ring_later(event_id: int) -> None:
    """Once all of this is committed. A broker that cannot be reached undoes nothing: each tick looks again."""
    transaction.on_commit(lambda: ring(event_id), robust=True)


def ring_due(now: datetime | None = None) -> int:
    """Ask for workers for the steps that are due and that nobody takes."""
    late = Q(rung_at__isnull=True) | Q(rung_at__lt=Now() - BELL)
    rows = EventRun.objects.filter(
        _free(), late, event__status=EventStatus.RUNNING, next_step_at__lte=now or timezone.now()
    )
    count = 0
    for event_id in list(rows.order_by("next_step_at").values_list("event_id", flat=True)[:MOST]):
        # One of several machines that look at the same time rings.
        if EventRun.objects.filter(_free(), late, event_id=event_id).update(rung_at=Now()):
            ring(event_id)
            count += 1
    return count


def _free() -> Q:
    return Q(lease_until__isnull=True) | Q(lease_until__lt=Now())


# --- One step ---------------------------------------------------------------------------------------------------------


def take(event_id: int, owner: str, now: datetime | None = None) -> str:
    """Take the next step, if it is due and nobody else does. What it returns is for the log of the cluster."""
    lease = acquire(event_id, owner, now or timezone.now())
    if lease is None:
        return "nothing to do: no step is due, or another worker takes it"
    entered = enter(lease, now or timezone.now())
    if entered is None:
        return "not yet"
    step = entered.step
    try:
        outcome = entered.executor.step(step)
    except Exception as error:
        # Not the error's text: what it says may not be for everybody who reads the log of the event.
        log.exception("event.step_broke", event_id=step.event.public_id, stage=step.stage)
        broke(lease, entered, type(error).__name__, now or timezone.now())
        return "broke"
    return (
        "stored" if store(lease, entered, outcome, now or timezone.now()) else "lost: another worker goes on"
    )


@patient
def acquire(event_id: int, owner: str, now: datetime) -> Lease | None:
    """The lease, if the next step is due and nobody has it."""
    due = EventRun.objects.filter(
        _free(), event_id=event_id, event__status=EventStatus.RUNNING, next_step_at__lte=now
    )
    run = due.first()
    if run is None:
        return None
    if run.attempts >= ATTEMPTS:
        _give_up(run, now)
        return None
    # By the number: the step has not been taken meanwhile.
    mine = EventRun.objects.filter(_free(), pk=run.pk, steps=run.steps, next_step_at__isnull=False)
    if not mine.update(
        owner=owner, lease_until=Now() + LEASE, steps=F("steps") + 1, attempts=F("attempts") + 1, rung_at=None
    ):
        return None
    return Lease(event_id, owner, run.steps + 1)


@patient
def enter(lease: Lease, now: datetime) -> Entered | None:
    """The step to be taken, with its stage begun. None if it must wait, if all stages have ended, or if the lease is lost."""
    event = locked(Event(pk=lease.event_id))
    run = lease.rows().select_for_update().first()
    if run is None:
        return None
    stage = current(event) or _next(event)
    executor = executor_of(event.executor)
    if executor is None:
        _hold(event, lease, no_executor(event), now)
        return None
    if stage is None:
        _succeed(event, now)
        return None
    if stage.status == StageStatus.WAITING:
        if stage.phase == Phase.SWITCH and run.phase == Phase.PREPARE and not _may_switch(event, lease, now):
            return None
        stage.status, stage.began_at = StageStatus.RUNNING, now
        stage.save(update_fields=["status", "began_at"])
        note(event, f"{stage.name}: begun.")
    if event.hold_reason:
        event.hold_reason = ""
        event.save(update_fields=["hold_reason"])
    step = Step(event=event, stage=stage.code, state=run.state, now=now, began_at=stage.began_at or now)
    return Entered(step, stage.pk, executor)


def _may_switch(event: Event, lease: Lease, now: datetime) -> bool:
    """Whether the first stage that clients feel may begin: not before its time, too late by policy only, not while the region is full."""
    assert event.switch_at is not None  # the constraint of the row
    if event.switch_at > now:
        _release(lease, event.switch_at)
        return False
    judgement = postponing.judge(event, now)
    if judgement.why:
        postponing.postpone(event, judgement.why, now)
        _release(lease, event.switch_at)
        return False
    if full := _full_region(event):
        _hold(event, lease, full, now)
        return False
    if judgement.late:
        postponing.begin_late(event, judgement.late, now)
    event.switched_at = now
    event.save(update_fields=["switched_at"])
    lease.rows().update(phase=Phase.SWITCH)
    return True


def _full_region(event: Event) -> str:
    """Why the switchover has to wait for others in the region; "" if it has not. Nobody else can take the last place meanwhile."""
    rows = RegionLimit.objects.select_for_update().filter(region__in=[event.region, ""]).order_by("pk")
    limits = {row.region: row.most for row in rows}
    most = limits.get(event.region, limits.get(""))
    if most is None:
        return ""
    others = Event.objects.filter(
        region=event.region, status=EventStatus.RUNNING, run__phase=Phase.SWITCH
    ).exclude(pk=event.pk)
    if others.count() < most:
        return ""
    region = f"region {event.region}" if event.region else "the instances without a region"
    return f"As many switchovers are under way in {region} as there may be at a time ({most})."


def _hold(event: Event, lease: Lease, reason: str, now: datetime) -> None:
    _release(lease, now + HOLD)
    hold(event, reason)


def no_executor(event: Event) -> str:
    return f"Nobody carries it out: this console has no executor “{event.executor}”."


def _release(lease: Lease, next_step_at: datetime) -> None:
    lease.rows().update(owner="", lease_until=None, attempts=0, next_step_at=next_step_at)


@patient
def store(lease: Lease, entered: Entered, outcome: Outcome, now: datetime) -> bool:
    """What the step has brought. False if the lease was lost: nothing of it counts then."""
    event = locked(Event(pk=lease.event_id))
    step = entered.step
    if not lease.rows().update(owner="", lease_until=None, attempts=0, next_step_at=None, state=step.state):
        return False
    EventLogEntry.objects.bulk_create(
        EventLogEntry(event=event, level=level, message=message[:TEXT_LIMIT]) for level, message in step.lines
    )
    stage = EventStage.objects.get(pk=entered.stage_id)
    match outcome:
        case Again(after):
            EventRun.objects.filter(event=event).update(next_step_at=now + after)
        case WaitsForPerson(what):
            EventStage.objects.filter(pk=stage.pk).update(detail=what[:TEXT_LIMIT])
            note(event, f"{stage.name}: waits for a person. {what}")
            staff.note_waiting(event, stage, what)
        case Done(detail, impact_seconds):
            end_stage(event, stage, detail, impact_seconds, now)
        case Failed(reason):
            fail(event, reason, now, stage=stage)
    return True


@patient
def broke(lease: Lease, entered: Entered, error: str, now: datetime) -> None:
    """The step has met an error that the executor was not prepared for: it is taken again after a pause."""
    event = locked(Event(pk=lease.event_id))
    attempts = lease.rows().values_list("attempts", flat=True).first()
    if attempts is None:
        return
    pause = PAUSE * 2 ** (attempts - 1)
    lease.rows().update(owner="", lease_until=None, next_step_at=now + pause)
    stage = EventStage.objects.get(pk=entered.stage_id)
    note(
        event,
        f"{stage.name}: a step broke off ({error}). It is taken again, attempt {attempts} of {ATTEMPTS}.",
        LogLevel.WARNING,
    )


def _give_up(run: EventRun, now: datetime) -> None:
    event = locked(Event(pk=run.event_id))
    mine = EventRun.objects.filter(_free(), pk=run.pk, steps=run.steps)
    if event.status == EventStatus.RUNNING and mine.update(steps=F("steps") + 1):
        stage = current(event)
        where = f" in “{stage.name}”" if stage else ""
        reason = f"{run.attempts} steps in a row broke off{where}. How far the last one has come is not known: look at the instance."
        fail(event, reason, now, stage=stage)


# --- What ends --------------------------------------------------------------------------------------------------------


def end_stage(
    event: Event, stage: EventStage, detail: str, impact_seconds: float | None, now: datetime
) -> None:
    """The stage is done; the next one is due, or the event has succeeded. `event` is locked by the caller."""
    stage.status, stage.ended_at = StageStatus.DONE, now
    stage.detail, stage.impact_seconds = detail[:TEXT_LIMIT], impact_seconds
    stage.save(update_fields=["status", "ended_at", "detail", "impact_seconds"])
    felt = f" Clients were disturbed for {impact_seconds:g} s." if impact_seconds is not None else ""
    note(event, f"{stage.name}: done.{felt}")
    following = _next(event)
    if following is None:
        _succeed(event, now)
        return
    begins = now
    if following.phase == Phase.SWITCH and stage.phase == Phase.PREPARE and event.switch_at is not None:
        begins = max(now, event.switch_at)
    soon = begins <= now
    EventRun.objects.filter(event=event).update(next_step_at=begins, rung_at=Now() if soon else None)
    if soon:
        ring_later(event.pk)


def _succeed(event: Event, now: datetime) -> None:
    event.measured_seconds = _measured(event)
    felt = "" if event.measured_seconds is None else f"{event.measured_seconds:g} s"
    if event.is_simulated:
        result = "Simulated: nothing was really done" + (
            f", as if clients had been disturbed for {felt}." if felt else "."
        )
    else:
        result = "Carried out" + (f": clients were disturbed for {felt}." if felt else " as planned.")
    _end(event, EventStatus.SUCCEEDED, result, now)
    note(event, result)


def fail(
    event: Event, reason: str, now: datetime, *, stage: EventStage | None = None, by: By = SYSTEM
) -> None:
    """The event has failed, in this stage. `event` is locked by the caller."""
    reason = reason[:TEXT_LIMIT]
    if stage is not None:
        stage.status, stage.ended_at, stage.detail = StageStatus.FAILED, now, reason
        stage.save(update_fields=["status", "ended_at", "detail"])
    event.measured_seconds = _measured(event)
    _end(event, EventStatus.FAILED, reason, now, stage=stage.name if stage else "", by=by)
    note(event, reason, LogLevel.ERROR)


def _end(
    event: Event, status: EventStatus, result: str, now: datetime, *, stage: str = "", by: By = SYSTEM
) -> None:
    event.status, event.finished_at, event.result = status, now, result
    event.hold_reason = ""
    event.revision += 1
    event.save(
        update_fields=["status", "finished_at", "result", "hold_reason", "revision", "measured_seconds"]
    )
    EventStage.objects.filter(event=event, status=StageStatus.WAITING).update(status=StageStatus.SKIPPED)
    EventRun.objects.filter(event=event).update(
        next_step_at=None, owner="", lease_until=None, rung_at=None, attempts=0
    )
    kind = OccasionKind.SUCCEEDED if status == EventStatus.SUCCEEDED else OccasionKind.FAILED
    facts: dict[str, Any] = {
        "result": result,
        "measured_seconds": event.measured_seconds,
        "typical_seconds": event.impact_seconds,
    }
    if stage:
        facts["stage"] = stage
    occasions.note(event, kind, kind.value, facts=facts)
    if status == EventStatus.FAILED:
        staff.note_failed(event, stage)
    audit.record(
        by.user, f"event.{kind.value}", event, measured_seconds=event.measured_seconds, **by.details()
    )


def _measured(event: Event) -> float | None:
    """What the stages have measured; None if none of them has."""
    found: float | None = event.stages.aggregate(total=Sum("impact_seconds"))["total"]
    return None if found is None else round(found, 3)


def current(event: Event) -> EventStage | None:
    return event.stages.filter(status=StageStatus.RUNNING).order_by("position").first()


def _next(event: Event) -> EventStage | None:
    return event.stages.filter(status=StageStatus.WAITING).order_by("position").first()
