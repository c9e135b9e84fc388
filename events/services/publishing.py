"""Announcing events: for one instance, a list, or all that fit a filter. What the preview shows is what is then published.

An instance for which a rule refuses the event is left out, and said to be; the others get theirs, in one transaction. If all are
refused, nothing is published. The times are those of plans.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.utils import timezone

from events.choices import EventStatus, OccasionKind
from events.models import Campaign, Event
from events.services import occasions
from events.services.by import By, require_publisher
from events.services.drafts import Draft, Terms
from events.services.plans import CHUNK, Plan, Row, plan_of
from events.services.selection import NOTHING, Selection
from portal.errors import Conflict
from portal.patience import patient
from portal.services import audit

MOST_LEFT_OUT: Final = 1000
"""Of the instances that were left out, a campaign names this many."""


def preview(by: By, draft: Draft) -> Plan:
    """Nothing is written. Raises NotPermitted, NotFound, Conflict and Invalid where the draft itself cannot be published."""
    require_publisher(by)
    return plan_of(draft, timezone.now().replace(microsecond=0))


def publish(by: By, draft: Draft, *, seen: str = "") -> Campaign | Event:
    """The event, where one instance is named and no campaign; else the campaign. `seen`: the digest of the preview that was shown.

    Raises as `preview`; what refuses the first instance, if all are refused; Conflict (`event.plan_changed`) if it is not what was seen.
    """
    require_publisher(by)
    try:
        return _publish(by, draft, seen)
    except IntegrityError as error:
        raise Conflict(
            f"An instance was deleted meanwhile. {NOTHING}",
            advice="Look at the preview again.",
            id="event.plan_changed",
        ) from error


@patient
@transaction.atomic
def _publish(by: By, draft: Draft, seen: str) -> Campaign | Event:
    now = timezone.now().replace(microsecond=0)
    plan = plan_of(draft, now, lock=True)
    if seen and seen != plan.digest:
        raise Conflict(
            f"Something has changed since the preview. {NOTHING}",
            advice="Look at what would be published now, and publish that.",
            id="event.plan_changed",
        )
    rows = plan.published
    if not rows:
        refusal = plan.rows[0].refusal
        assert refusal is not None
        raise refusal
    campaign = None if _is_single(draft) else _campaign(by, plan)
    events = [_event(plan.terms, row, campaign, by) for row in rows]
    Event.objects.bulk_create(events, batch_size=CHUNK)
    _tell(events, campaign, by, now)
    audit.record_many(by.user, "event.published", ((event, _details(event, by)) for event in events))
    return campaign or events[0]


def _is_single(draft: Draft) -> bool:
    return not isinstance(draft.instances, Selection) and len(set(draft.instances)) == 1 and not draft.name


def _campaign(by: By, plan: Plan) -> Campaign:
    draft, left_out = plan.terms.draft, plan.left_out
    chosen = draft.instances
    selection: dict[str, Any] = (
        {"filter": chosen.values()} if isinstance(chosen, Selection) else {"list": len(plan.rows)}
    )
    if left_out:
        selection["left_out_count"] = len(left_out)
        selection["left_out"] = [left_out_values(row) for row in left_out[:MOST_LEFT_OUT]]
    campaign = Campaign.objects.create(
        name=draft.name.strip() or f"{draft.type.name}, {plan.terms.now:%Y-%m-%d}",
        type=draft.type,
        description=draft.description.strip(),
        selection=selection,
        created_by=by.user,
    )
    audit.record(
        by.user,
        "campaign.published",
        campaign,
        events=len(plan.published),
        left_out=len(left_out),
        chosen=chosen.words if isinstance(chosen, Selection) else "a list",
        **by.details(),
    )
    return campaign


def left_out_values(row: Row) -> dict[str, str]:
    """An instance that gets no event, and why, as JSON."""
    assert row.refusal is not None
    return {
        "instance": row.instance.public_id,
        "name": row.instance.name,
        "id": row.refusal.id,
        "message": row.reason,
    }


def _event(terms: Terms, row: Row, campaign: Campaign | None, by: By) -> Event:
    kind, instance, moment = terms.type, row.instance, row.switch_at
    return Event(
        type=kind,
        campaign=campaign,
        account=instance.account,
        instance=instance,
        instance_name=instance.name,
        instance_public_id=instance.public_id,
        region=instance.region,
        zone=instance.zone,
        level=terms.level,
        cause=terms.cause,
        impacts=kind.impacts,
        advice=kind.advice,
        version_from=row.version_from,
        version_to=row.version_to,
        release_notes=terms.draft.release_notes,
        created_at=terms.now,
        created_by=by.user,
        starts_at=moment - terms.preparation if moment else None,
        switch_at=moment,
        proposed_at=moment,
        deadline=row.deadline,
        preparation_seconds=kind.preparation_seconds,
        switch_seconds=kind.switch_seconds,
        impact_seconds=kind.impact_seconds,
        may_change=terms.may_change,
        may_cancel=terms.may_cancel,
        status=EventStatus.PENDING if moment else EventStatus.WAITING,
        executor=terms.executor,
    )


def _tell(events: Sequence[Event], campaign: Campaign | None, by: By, now: datetime) -> None:
    batch = campaign.public_id if campaign else ""
    rows = []
    for event in events:
        facts = {"by": by.name}
        rows.append(
            occasions.draft(event, OccasionKind.PUBLISHED, "published", facts=facts, batch=batch, due_at=now)
        )
        rows += occasions.reminders(event, now)
    occasions.note_many(rows)


def _details(event: Event, by: By) -> Mapping[str, Any]:
    return {
        "level": event.level,
        "switch_at": event.switch_at.isoformat() if event.switch_at else "",
        "deadline": event.deadline.isoformat(),
        "campaign": event.campaign.public_id if event.campaign else "",
    } | by.details()
