"""Changing one event: another time, cancelled, acknowledged. Bulk changes (services/bulk.py) share the same rules and the same words."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from django.db import transaction
from django.utils import timezone

from events import rules
from events.choices import FINAL, EventStatus, OccasionKind
from events.models import Event
from events.services import occasions
from events.services.by import By, is_of_the_owner, may_publish, require_handler
from events.services.surroundings import around, facts_of, planned_others
from portal.errors import Conflict, NotFound, ServiceError
from portal.patience import patient
from portal.services import audit
from portal.services.windows import window_for
from portal.windows import Window

if TYPE_CHECKING:
    from django.contrib.auth.models import User

Wish = datetime | Literal["now", "window"]
"""A moment; as soon as the preparation is done; or the next maintenance window of the instance."""

GRACE: Final = timedelta(seconds=1)  # "now" that was asked for a moment ago is still now


def get_event(user: User | None, public_id: str) -> Event:
    """What the person may see; None is the system. Raises NotFound."""
    rows = Event.objects.all() if user is None else Event.objects.visible_to(user)
    found = rows.select_related("type", "account", "instance", "campaign").filter(public_id=public_id).first()
    if found is None:
        raise NotFound(f"There is no event {public_id} in your accounts.", id="event.not_found")
    return found


def reschedule(by: By, event: Event, wish: Wish, *, seen: int | None = None) -> Event:
    """Another switch time. `seen` is the revision that the person saw: if somebody has changed the event since, it is refused.

    Returns the event as it is now, unchanged where it has that time already. Raises NotFound, NotPermitted, Conflict
    (`event.changed`, `event.not_pending`, `event.fixed`, `event.no_window`), Invalid (see events/rules.py).
    """
    require_handler(by, event)
    with transaction.atomic():
        row = locked(event)
        refuse_stale(row, seen)
        now = timezone.now()
        moment = moment_of(row, wish, now)
        if moment == row.switch_at and row.status == EventStatus.PENDING:
            return row
        if refusal := _refusal(row, wish, moment, now):
            raise refusal
        apply_time(row, moment, by, now)
    return row


def _refusal(event: Event, wish: Wish, moment: datetime, now: datetime) -> ServiceError | None:
    return rules.check_reschedule(facts_of(event, now), moment, around(event, now, lock=True))


def moment_of(event: Event, wish: Wish, now: datetime) -> datetime:
    """What a wish means for this event. Raises Conflict where nothing fits it."""
    facts = facts_of(event, now)
    if wish == "now":
        if refusal := rules.check_change(facts):
            raise refusal
        return rules.at_once(facts)
    if wish == "window":
        if refusal := rules.check_change(facts):
            raise refusal
        return _in_window(event, facts, now)
    # To the second: what people and messages name has no smaller parts.
    return wish.replace(microsecond=0)


def _in_window(event: Event, facts: rules.Facts, now: datetime) -> datetime:
    window = window_for(event.instance)
    if window is None:
        raise no_window(event)
    found = rules.propose(facts, window, around(event, now, lock=True))
    if found is None:
        raise no_slot(event)
    return found


def no_window(event: Event) -> ServiceError:
    return Conflict(
        f"{event.instance_name} has no maintenance window, and neither has its account. {rules.NOTHING}",
        advice="Choose a time, or set a maintenance window first.",
        id="event.no_window",
    )


def no_slot(event: Event) -> ServiceError:
    return Conflict(
        f"No maintenance window of {event.instance_name} has a free place up to {rules.text_of(event.deadline)}. {rules.NOTHING}",
        advice="Choose a time outside the window, or change the window.",
        id="event.no_window",
    )


def next_window(event: Event, window: Window | None, now: datetime | None = None) -> datetime | None:
    """The moment that “next window” means for this event; None where nothing fits. For pages and messages."""
    now = now or timezone.now()
    if window is None or not event.is_open:
        return None
    return rules.propose(facts_of(event, now), window, around(event, now))


def apply_time(
    event: Event,
    moment: datetime,
    by: By,
    now: datetime,
    *,
    kind: OccasionKind = OccasionKind.CHANGED,
    why: str = "",
) -> None:
    """Write a time that was judged before, with the audit and what contacts are to be told. `event` is locked by the caller."""
    before = event.switch_at
    set_time(event, moment, now)
    fields = list(TIME_FIELDS)
    if event.acknowledged_at is None and is_of_the_owner(by, event):
        # Who moves it has seen it.
        event.acknowledged_at, event.acknowledged_by = now, by.name[:150]
        fields += ACKNOWLEDGED_FIELDS
    event.save(update_fields=fields)
    audit.record(by.user, f"event.{ACTIONS[kind]}", event, **time_details(event, before, by, why))
    occasions.note_many([change_occasion(event, kind, before, by, why), *occasions.reminders(event, now)])


TIME_FIELDS: Final = (
    "switch_at",
    "starts_at",
    "status",
    "deferrals",
    "revision",
    "hold_reason",
    "proposed_at",
)
ACKNOWLEDGED_FIELDS: Final = ("acknowledged_at", "acknowledged_by")
ACTIONS: Final = {OccasionKind.CHANGED: "rescheduled", OccasionKind.POSTPONED: "postponed"}


def set_time(event: Event, moment: datetime, now: datetime) -> None:
    """The fields of a new time, unsaved."""
    if rules.is_deferral(facts_of(event, now), moment):
        event.deferrals += 1
    event.switch_at = moment
    event.starts_at = moment - event.preparation
    event.proposed_at = event.proposed_at or moment
    event.status = EventStatus.PENDING
    event.hold_reason = ""
    event.revision += 1


def time_details(event: Event, before: datetime | None, by: By, why: str = "") -> dict[str, Any]:
    """What the audit says of a new time."""
    details = {
        "from": before.isoformat() if before else "",
        "to": (event.switch_at or event.deadline).isoformat(),
    }
    return details | by.details() | ({"why": why} if why else {})


def change_occasion(
    event: Event, kind: OccasionKind, before: datetime | None, by: By, why: str = "", batch: str = ""
) -> Any:
    """The occasion of a new time, unsaved."""
    facts = {
        "revision": event.revision,
        "old": before.isoformat() if before else "",
        "new": event.switch_at.isoformat() if event.switch_at else "",
        "by": by.name,
        "why": why,
    }
    return occasions.draft(event, kind, f"{kind}:{event.revision}", facts=facts, batch=batch)


def cancel(by: By, event: Event, reason: str = "", *, seen: int | None = None) -> Event:
    """Before it begins, and only if the event allows it; staff who publish events may cancel any of them (R4).

    Raises NotFound, NotPermitted, Conflict (`event.changed`, `event.not_pending`, `event.not_cancellable`).
    """
    require_handler(by, event)
    with transaction.atomic():
        row = locked(event)
        refuse_stale(row, seen)
        now = timezone.now()
        if refusal := cancel_refusal(by, row, now):
            raise refusal
        set_cancelled(row, reason, now)
        row.save(update_fields=CANCEL_FIELDS)
        audit.record(by.user, "event.cancelled", row, reason=reason, **by.details())
        occasions.note_many([cancel_occasion(row, by)])
    return row


CANCEL_FIELDS: Final = ("status", "revision", "finished_at", "result", "hold_reason")


def cancel_refusal(by: By, event: Event, now: datetime) -> ServiceError | None:
    """Those who announce events take back their own, whatever the owner may do."""
    facts = facts_of(event, now)
    refusal = rules.check_cancel(facts)
    announces = by.contact is None and may_publish(by.user)
    if refusal is not None and refusal.id == "event.not_cancellable" and announces:
        return None
    return refusal


def set_cancelled(event: Event, reason: str, now: datetime) -> None:
    event.status = EventStatus.CANCELLED
    event.revision += 1
    event.finished_at = now
    event.result = reason.strip()
    event.hold_reason = ""


def cancel_occasion(event: Event, by: By, batch: str = "") -> Any:
    facts = {"by": by.name, "why": event.result}
    return occasions.draft(event, OccasionKind.CANCELLED, "cancelled", facts=facts, batch=batch)


@patient
def acknowledge(by: By, event: Event) -> Event:
    """Somebody has seen it: an urgent one stops asking further contacts. Repeated, the first one counts.

    Raises NotFound, NotPermitted, Conflict (`event.ended`).
    """
    require_handler(by, event)
    rows = Event.objects.filter(pk=event.pk, acknowledged_at__isnull=True)
    if rows.exclude(status__in=FINAL).update(acknowledged_at=timezone.now(), acknowledged_by=by.name[:150]):
        audit.record(by.user, "event.acknowledged", event, **by.details())
    event.refresh_from_db(fields=["acknowledged_at", "acknowledged_by", "status"])
    if event.acknowledged_at is None:
        raise ended(event)
    return event


def ended(event: Event) -> ServiceError:
    """There is nothing left of it to be seen in time."""
    return Conflict(
        f"It has ended: {event.status_badge.label.lower()}. {rules.NOTHING}", advice="", id="event.ended"
    )


def locked(event: Event) -> Event:
    """The row as it is now, which nobody else can change until this transaction ends. Raises NotFound."""
    row = (
        Event.objects.select_for_update(of=("self",))
        .select_related("type", "account", "instance")
        .filter(pk=event.pk)
        .first()
    )
    if row is None:
        raise NotFound(f"There is no event {event.public_id} any more.", id="event.not_found")
    return row


def refuse_stale(event: Event, seen: int | None) -> None:
    """Raises Conflict (`event.changed`) if the event is not as the person saw it."""
    if seen is not None and seen != event.revision:
        raise changed_meanwhile(event)


def changed_meanwhile(event: Event) -> ServiceError:
    if event.status == EventStatus.PENDING and event.switch_at is not None:
        now_is = f"it is planned for {rules.text_of(event.switch_at)} now"
    else:
        now_is = f"it is {event.status_badge.label.lower()} now"
    return Conflict(
        f"Somebody else has changed this event meanwhile: {now_is}. {rules.NOTHING}",
        advice="Look at it again, and repeat what you wanted to do if it is still needed.",
        id="event.changed",
    )


def waits_for(event: Event, moment: datetime | None = None) -> str:
    """The event of the same instance that this one has to wait for, in words; "" where none is in its way."""
    moment = moment or event.switch_at
    if moment is None or not event.is_open:
        return ""
    other = rules.waits_for(facts_of(event, timezone.now()), moment, planned_others(event))
    return other.name if other else ""
