"""Events, campaigns and plans as plain values: what the HTTP API answers and what commands print with --json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from django.utils import timezone

from events import rules
from events.choices import EventStatus
from events.models import Campaign, Event, EventType
from events.services import execution
from events.services.bulk_judging import Handlers
from events.services.by import By
from events.services.campaigns import counts_of
from events.services.plans import Plan, Row
from events.services.scheduling import cancel_refusal
from events.services.several import Result
from events.services.surroundings import facts_of
from portal.errors import ServiceError
from portal.models import Account

EVENT: Final = (
    "level", "status", "cause", "impacts", "advice", "version_from", "version_to", "release_notes", "created_at", "starts_at",
    "switch_at", "proposed_at", "deadline", "preparation_seconds", "impact_seconds", "may_change", "may_cancel", "deferrals", "revision",
    "hold_reason", "executor", "acknowledged_at", "acknowledged_by", "started_at", "switched_at", "finished_at", "measured_seconds",
    "result",
)  # fmt: skip
TYPE: Final = (
    "code", "name", "level", "cause", "impacts", "advice", "needs_proxy", "shows_versions", "same_major", "notice_hours", "may_change", "may_cancel",
    "preparation_seconds", "impact_seconds", "open_days", "max_deferrals", "max_deferral_days", "executor", "is_active",
)  # fmt: skip


def event_values(event: Event, by: By) -> dict[str, Any]:
    return events_values([event], by)[0]


def events_values(events: Iterable[Event], by: By) -> list[dict[str, Any]]:
    """With what `by` may do to them. `type`, `account` and `campaign` should be loaded already."""
    handlers, now = Handlers(by), timezone.now()
    return [_event_values(event, by, handlers, now) for event in events]


def _event_values(event: Event, by: By, handlers: Handlers, now: datetime) -> dict[str, Any]:
    facts, not_permitted = facts_of(event, now), handlers.refusal(event)
    return {name: getattr(event, name) for name in EVENT} | {
        "id": event.public_id,
        "type": event.type.code,
        "type_name": event.type.name,
        "status_label": str(event.status_badge.label),
        "urgent": event.is_urgent,
        "simulated": event.is_simulated,
        "account": event.account.public_id,
        "instance": {
            "id": event.instance_public_id,
            "name": event.instance_name,
            "region": event.region,
            "zone": event.zone,
        },
        "campaign": event.campaign.public_id if event.campaign else None,
        "earliest_at": facts.earliest if event.is_open else None,
        "latest_at": rules.latest_choice(facts) if event.is_open else None,
        "actions": {
            "reschedule": _verdict(rules.check_change(facts) or not_permitted),
            "cancel": _verdict(cancel_refusal(by, event, now) or not_permitted),
        },
        "url": event.get_absolute_url(),
    }


def _verdict(refusal: ServiceError | None) -> dict[str, Any]:
    reason = refusal.message.removesuffix(rules.NOTHING).strip() if refusal else ""
    return {"open": refusal is None, "reason": reason}


def type_values(kind: EventType) -> dict[str, Any]:
    return {name: getattr(kind, name) for name in TYPE}


def campaign_values(campaign: Campaign, counts: Mapping[EventStatus, int]) -> dict[str, Any]:
    """`counts`: its events by status, as far as they may be seen."""
    selection = campaign.selection
    return {
        "id": campaign.public_id,
        "name": campaign.name,
        "type": campaign.type.code,
        "description": campaign.description,
        "filter": selection.get("filter"),
        "created_at": campaign.created_at,
        "events": sum(counts.values()),
        "by_status": {status.value: count for status, count in counts.items()},
        "left_out": selection.get("left_out_count", 0),
        "url": campaign.get_absolute_url(),
    }


def refusal_values(refusal: ServiceError) -> dict[str, str]:
    return {"id": refusal.id, "message": refusal.message, "advice": refusal.advice, "field": refusal.field}


def published_values(made: Event | Campaign, by: By, account: Account | None = None) -> dict[str, Any]:
    """What came of a publication; `account`: as far as this one is concerned."""
    if isinstance(made, Event):
        return {"event": event_values(made, by), "campaign": None, "published": 1, "left_out": []}
    values = campaign_values(made, counts_of([made], account)[made.pk])
    return {
        "event": None,
        "campaign": values,
        "published": values["events"],
        "left_out": made.selection.get("left_out", []),
    }


def result_values(result: Result) -> dict[str, Any]:
    return {
        "id": result.id,
        "ok": result.error is None,
        "switch_at": result.event.switch_at if result.event else None,
        "error": refusal_values(result.error) if result.error else None,
    }


STAGE: Final = (
    "code",
    "name",
    "phase",
    "status",
    "impact",
    "began_at",
    "ended_at",
    "impact_seconds",
    "detail",
)
LOGGED: Final = 500
"""The newest lines of a log."""


def work_values(event: Event) -> dict[str, Any]:
    """How far the work has come, which stage waits for a person, and the log, the oldest line first. Four queries."""
    waiting = execution.waiting_stage(event)
    lines = list(event.log.order_by("-pk")[:LOGGED])
    return {
        "event": event.public_id,
        "status": event.status,
        "waiting": waiting.code if waiting else None,
        "stages": [
            {name: getattr(stage, name) for name in STAGE} for stage in event.stages.order_by("position")
        ],
        "log": [{"at": line.at, "level": line.level, "message": line.message} for line in reversed(lines)],
    }


def plan_values(plan: Plan) -> dict[str, Any]:
    """What publishing would do."""
    terms = plan.terms
    return {
        "plan": plan.digest,
        "type": terms.type.code,
        "level": terms.level,
        "deadline": terms.deadline,
        "published": len(plan.published),
        "left_out": len(plan.left_out),
        "rows": [row_values(row) for row in plan.rows],
    }


def row_values(row: Row) -> dict[str, Any]:
    return {
        "instance": row.instance.public_id,
        "name": row.instance.name,
        "account": row.instance.account.public_id,
        "switch_at": row.switch_at,
        "deadline": row.deadline,
        "notice_seconds": int(row.notice.total_seconds()),
        "version_from": row.version_from,
        "version_to": row.version_to,
        "told": [
            {"contact": one.name, "ways": one.ways, "at": one.at, "if_unseen": one.if_unseen}
            for one in row.told
        ],
        "warnings": [{"id": one.id, "message": one.text} for one in row.warnings],
        "error": refusal_values(row.refusal) if row.refusal else None,
    }
