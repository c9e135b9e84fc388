"""Events at their time: begun when their preparation is due, late or postponed by policy, and what people do in their work.

The tick asks for what is due; the row, locked, decides. Stages and steps are in `steps.py`, the policy in `lateness.py`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from events import rules, versions
from events.choices import EventStatus, LogLevel, OccasionKind, Phase, StageStatus
from events.executors import executor_of, known
from events.models import Event, EventRun, EventStage
from events.models.events import sees_all
from events.services import lateness, occasions, postponing, staff, steps
from events.services.attention import waits_for_staff
from events.services.by import SYSTEM, By, is_event_staff
from events.services.choosing import choose_by_of
from events.services.journal import hold, note
from events.services.postponing import make_room, utc_text
from events.services.scheduling import apply_time, locked
from events.services.steps import MOST
from events.services.surroundings import facts_of, surroundings
from portal.errors import Conflict, Invalid, NotFound, NotPermitted
from portal.models import Instance
from portal.patience import patient
from portal.services import audit
from portal.services.permissions import role_in
from portal.services.windows import window_for

OVERDUE: Final = timedelta(hours=1)
"""So long after the switchover could begin a person should have confirmed it."""
LONGEST_IMPACT: Final = 7 * 24 * 3600


# --- Beginning --------------------------------------------------------------------------------------------------------


def due(now: datetime) -> list[int]:
    """Events that should begin: urgent ones first. Without those that have to wait for another one of their instance."""
    rows = _preparation_due(now).exclude(_in_the_way()).filter(executor__in=[name for name, _ in known()])
    return list(rows.order_by("level", "starts_at", "pk").values_list("pk", flat=True)[:MOST])


def blocked(now: datetime) -> list[int]:
    """Events that should begin, cannot, and do not say why yet."""
    cannot = _in_the_way() | ~Q(executor__in=[name for name, _ in known()])
    rows = _preparation_due(now).filter(cannot, hold_reason="")
    return list(rows.order_by("starts_at", "pk").values_list("pk", flat=True)[:MOST])


def _preparation_due(now: datetime) -> QuerySet[Event]:
    return Event.objects.filter(status=EventStatus.PENDING, starts_at__lte=now)


def _in_the_way() -> Q:
    """Another event of the instance is being carried out."""
    running = Event.objects.filter(instance=OuterRef("instance"), status=EventStatus.RUNNING)
    return Q(Exists(running))


@patient
def begin(event_id: int, now: datetime | None = None) -> EventStatus | None:
    """Begin it, if it is due and nothing is in its way; a late one by policy. Returns the status it then has; None if it was not due.

    A pending event that stays pending says why (`hold_reason`), or has a new time.
    """
    now = now or timezone.now()
    event = locked(Event(pk=event_id))
    if event.status != EventStatus.PENDING or event.starts_at is None or event.starts_at > now:
        return None
    if reason := _reason_to_wait(event):
        hold(event, reason)
        return EventStatus.PENDING
    judgement = postponing.judge(event, now)
    if judgement.why:
        postponing.postpone(event, judgement.why, now)
    else:
        _start(event, judgement, now)
    return EventStatus(event.status)


def _reason_to_wait(event: Event) -> str:
    if executor_of(event.executor) is None:
        return steps.no_executor(event)
    if event.instance_id is None:
        return ""
    if there := _has_the_version(event):
        return there
    # The row of the instance is the lock: of two that begin at the same moment the second one sees the first.
    Instance.objects.select_for_update().filter(pk=event.instance_id).first()
    running = Event.objects.filter(instance=event.instance_id, status=EventStatus.RUNNING)
    other = running.select_related("type").exclude(pk=event.pk).first()
    return f"Waits for {other.type.name} ({other.public_id}) to end." if other else ""


def _has_the_version(event: Event) -> str:
    """Another event may have come first: nothing is updated to what is there already, and nothing goes back to an earlier version."""
    assert event.instance is not None
    now = event.instance.proxy_version if event.type.needs_proxy else event.instance.version
    if not event.version_to or not versions.numbers(now) or versions.is_later(event.version_to, now):
        return ""
    return f"The version is {now} already, and {event.version_to} is not later: it is not begun. Cancel it, or publish another one."


def _start(event: Event, judgement: lateness.Judgement, now: datetime) -> None:
    executor = executor_of(event.executor)
    assert (
        executor is not None and event.switch_at is not None
    )  # as _reason_to_wait has seen; the constraint of the row
    specs = list(executor.stages(event))
    planned, waited = event.switch_at, postponing.waited(event)
    event.status, event.started_at, event.hold_reason = EventStatus.RUNNING, now, ""
    event.switch_at, event.revision = judgement.switch_at, event.revision + 1
    if judgement.late:
        event.starts_at = now
    event.save(update_fields=["status", "started_at", "hold_reason", "switch_at", "starts_at", "revision"])
    EventStage.objects.bulk_create(
        EventStage(
            event=event, position=position, code=spec.code, name=spec.name, phase=spec.phase, impact=spec.impact[:200]
        )
        for position, spec in enumerate(specs)
    )  # fmt: skip
    EventRun.objects.create(event=event, next_step_at=now, rung_at=timezone.now())
    facts: dict[str, Any] = {
        "planned": planned.isoformat(),
        "switch_at": event.switch_at.isoformat(),
        "late_seconds": int(judgement.late.total_seconds()),
        "why": waited,
    }
    note(
        event, f"Begun by the executor “{executor.label}”. The switchover is at {utc_text(event.switch_at)}."
    )
    if judgement.late:
        because = f" {waited}" if waited else ""
        late = rules.duration_text(judgement.late)
        note(
            event,
            f"It has begun {late} late: the switchover was planned for {utc_text(planned)}.{because}",
            LogLevel.WARNING,
        )
    occasions.note(event, OccasionKind.STARTED, OccasionKind.STARTED.value, facts=facts)
    audit.record(None, "event.started", event, late_seconds=facts["late_seconds"], **SYSTEM.details())
    steps.ring_later(event.pk)


# --- Nobody has chosen ------------------------------------------------------------------------------------------------


def undecided(now: datetime, after: int = 0) -> tuple[list[int], int]:
    """Of the next events that wait for a time, by their keys: those whose time the system chooses now; and the key to go on from (0:
    from the first one again). A look is bounded, and a round comes to all of them."""
    rows = list(
        Event.objects.filter(status=EventStatus.WAITING, pk__gt=after)
        .select_related("type", "instance")
        .order_by("pk")[:MOST]
    )
    until = choose_by_of(rows, now)
    found = [row.pk for row in rows if until[row.pk] <= now]
    return found, rows[-1].pk if len(rows) == MOST else 0


@patient
def decide(event_id: int, now: datetime | None = None) -> bool:
    """The system chooses the last good time of an event for which nobody has. False if that is not due (any more)."""
    now = now or timezone.now()
    event = locked(Event(pk=event_id))
    until = choose_by_of([event], now).get(event.pk)
    if until is None or until > now:
        return False
    window = window_for(event.instance)
    around = surroundings([event.region], now, event.deadline, without=event, lock=True)
    moment = rules.last_slot(facts_of(event, now), window, around)
    note(event, f"Nobody has chosen a time. The switchover is at {utc_text(moment)}.")
    make_room(event, moment)
    apply_time(event, moment, SYSTEM, now, why="Nobody has chosen a time.")
    return True


# --- What people do ---------------------------------------------------------------------------------------------------


def waiting_stage(event: Event) -> EventStage | None:
    """The stage that somebody has to confirm; None where nothing waits for a person."""
    waits = EventRun.objects.filter(event=event, owner="", next_step_at__isnull=True)
    if event.status != EventStatus.RUNNING or not waits.exists():
        return None
    return steps.current(event)


def may_carry_out(by: By) -> bool:
    """Staff who look after events do the manual work, and commands on the server."""
    return by.contact is None and (by.user is None or is_event_staff(by.user))


def confirm(
    by: By,
    event: Event,
    stage: str,
    impact_seconds: float | None = None,
    note_text: str = "",
    *,
    now: datetime | None = None,
) -> Event:
    """The stage (its code) was carried out by a person, with the impact on clients where it was measured.

    Raises NotFound, NotPermitted, Conflict (`event.not_waiting`), Invalid (`event.bad_impact`).
    """  # fmt: skip
    _require_carrier(by, event)
    if impact_seconds is not None and not 0 <= impact_seconds <= LONGEST_IMPACT:
        raise Invalid(
            f"{impact_seconds:g} seconds is no measured impact. Nothing was changed.",
            advice="Enter the seconds in which clients could not write, from 0 to a week, or leave it empty.",
            id="event.bad_impact",
            field="impact_seconds",
        )
    now = now or timezone.now()
    with transaction.atomic():
        row, waiting = _waiting(event, stage)
        text = note_text.strip()
        note(row, f"{by.name} has confirmed “{waiting.name}”.{f' {text}' if text else ''}")
        steps.end_stage(row, waiting, text, impact_seconds, now)
        details = {"stage": waiting.name, "impact_seconds": impact_seconds, "note": text} | by.details()
        audit.record(by.user, "event.stage_confirmed", row, **details)
    return row


def report_failure(
    by: By, event: Event, reason: str, stage: str | None = None, *, now: datetime | None = None
) -> Event:
    """A person could not carry the waiting stage out: the event has failed.

    Raises NotFound, NotPermitted, Conflict (`event.not_waiting`), Invalid (`event.reason_needed`).
    """
    _require_carrier(by, event)
    if not reason.strip():
        raise Invalid(
            "It is not said why it failed. Nothing was changed.",
            advice="Say what happened, and in which state the instance is: the contacts are told.",
            id="event.reason_needed",
            field="reason",
        )
    with transaction.atomic():
        row, waiting = _waiting(event, stage)
        note(row, f"{by.name} reports that “{waiting.name}” has failed.", LogLevel.ERROR)
        steps.fail(row, reason.strip(), now or timezone.now(), stage=waiting, by=by)
    return row


def _require_carrier(by: By, event: Event) -> None:
    if may_carry_out(by):
        return
    if by.user is None or (role_in(by.user, event.account) is None and not sees_all(by.user)):
        raise NotFound(f"There is no event {event.public_id} in your accounts.", id="event.not_found")
    raise NotPermitted(advice="The work of events is confirmed by staff who may change events.")


def _waiting(event: Event, stage: str | None) -> tuple[Event, EventStage]:
    row = locked(event)
    waiting = waiting_stage(row)
    if waiting is None or stage not in (None, waiting.code):
        raise Conflict(
            "This stage does not wait for a confirmation (any more). Nothing was changed.",
            advice="Look at the event again: somebody else may have confirmed the stage.",
            id="event.not_waiting",
        )
    row.hold_reason = ""
    row.save(update_fields=["hold_reason"])
    return row, waiting


def overdue(now: datetime) -> list[int]:
    """Events in which a person should have confirmed something by now; without those that say so."""
    since = now - OVERDUE
    late = Q(stages__phase=Phase.PREPARE) | Q(switch_at__lte=since, stages__began_at__lte=since)
    rows = Event.objects.filter(
        late, waits_for_staff(), stages__status=StageStatus.RUNNING, hold_reason="", switch_at__lte=now
    )
    return list(rows.order_by("switch_at").values_list("pk", flat=True)[:MOST])


@patient
def remark_overdue(event_id: int, now: datetime | None = None) -> bool:
    """Say that nobody has confirmed what a person has to do: on the page, in the log, to the contacts of operations."""
    event = locked(Event(pk=event_id))
    waiting = waiting_stage(event)
    if waiting is None or event.hold_reason:
        return False
    reason = _overdue_reason(event, waiting, now or timezone.now())
    if reason:
        hold(event, reason)
        staff.note_overdue(event, waiting, reason)
    return bool(reason)


def _overdue_reason(event: Event, waiting: EventStage, now: datetime) -> str:
    if event.switch_at is None or waiting.began_at is None or event.switch_at > now:
        return ""
    if waiting.phase == Phase.PREPARE:
        return f"Nobody has confirmed “{waiting.name}”, and the time of the switchover has come."
    if max(event.switch_at, waiting.began_at) > now - OVERDUE:
        return ""
    return f"Nobody has confirmed “{waiting.name}”, an hour after it could be done."
