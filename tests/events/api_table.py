"""Who may do what to events over the HTTP API; walked by tests/portal/test_api_table.py."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from events.models import Campaign, EventType
from events.services import execution, steps
from tests.events.conftest import make_event
from tests.portal.api_table import ApiRow
from tests.portal.world import World

READ, WRITE, PUBLISH = "events:read", "events:write", "events:publish"
# anonymous, outsider, viewer, operator, owner, admin
ALL = (401, 200, 200, 200, 200, 200)
STAFF = (401, 403, 403, 403, 403, 200)


def prepare(world: World) -> None:
    campaign = Campaign.objects.create(name="Rack 4", type=EventType.objects.get(code="instance-migration"))
    world.extra["campaign"] = campaign
    world.extra["event"] = make_event(world.instance, campaign=campaign)
    soon = timezone.now() + timedelta(minutes=5)
    work = make_event(world.instance, switch_at=soon, executor="manual")
    execution.begin(work.pk)
    steps.take(work.pk, "worker")
    world.extra["work"] = work


def event(world: World) -> dict[str, Any]:
    return {"event_id": world.extra["event"].public_id}


def work(world: World) -> dict[str, Any]:
    return {"event_id": world.extra["work"].public_id}


def campaign(world: World) -> dict[str, Any]:
    return {"campaign_id": world.extra["campaign"].public_id}


def ids(world: World) -> dict[str, Any]:
    return {"ids": [world.extra["event"].public_id]}


def publication(world: World) -> dict[str, Any]:
    return {"type": "instance-migration", "instances": [world.instance.public_id]}


def later(world: World) -> dict[str, Any]:
    return {"switch_at": (timezone.now() + timedelta(days=5)).isoformat()}


API_ROWS = [
    ApiRow("get", "/events", ALL, scope=READ),
    ApiRow("post", "/events", (401, 403, 403, 403, 403, 201), data=publication, scope=PUBLISH),
    ApiRow("get", "/events/types", ALL, scope=READ),
    ApiRow("get", "/events/campaigns", STAFF, scope=READ),
    ApiRow("get", "/events/campaigns/{campaign_id}", STAFF, campaign, scope=READ),
    # A result per event: what a person may not see or do is told there.
    ApiRow("post", "/events/modify", ALL, data=lambda world: ids(world) | {"switch_at": "now"}, scope=WRITE),
    ApiRow("post", "/events/cancel", ALL, data=ids, scope=WRITE),
    ApiRow("post", "/events/acknowledge", ALL, data=ids, scope=WRITE),
    ApiRow("get", "/events/{event_id}", (401, 404, 200, 200, 200, 200), event, scope=READ),
    ApiRow(
        "post", "/events/{event_id}/reschedule", (401, 404, 403, 200, 200, 200), event, later, scope=WRITE
    ),
    ApiRow("get", "/events/{event_id}/work", (401, 404, 200, 200, 200, 200), work, scope=READ),
    ApiRow(
        "post",
        "/events/{event_id}/confirm",
        (401, 404, 403, 403, 403, 200),
        work,
        lambda world: {"stage": "prepare"},
        scope=WRITE,
    ),
    ApiRow(
        "post",
        "/events/{event_id}/fail",
        (401, 404, 403, 403, 403, 200),
        work,
        lambda world: {"stage": "prepare", "reason": "No replica."},
        scope=WRITE,
    ),
]
