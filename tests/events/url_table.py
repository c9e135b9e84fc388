"""Who may open what of the events: see tests/portal/url_table.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from events.choices import BulkAction
from events.models import Campaign, EventRun, EventType
from events.services import bulk, feeds
from events.services.by import By
from tests.events.conftest import make_event
from tests.portal.url_table import Row
from tests.portal.world import World


def prepare(world: World) -> None:
    world.extra["feed"], _ = feeds.create_feed(world.user("operator"), "phone")
    world.extra["event"] = make_event(world.instance, may_cancel=True)


def event(world: World) -> Mapping[str, Any]:
    return {"public_id": world.extra["event"].public_id}


def by_hand(world: World) -> Mapping[str, Any]:
    """An event in which a stage waits for staff."""
    row = make_event(world.instance, status="running")
    row.stages.create(position=0, code="switch", name="Switch over", phase="switch", status="running")
    EventRun.objects.create(event=row)
    return {"public_id": row.public_id}


def campaign(world: World) -> Mapping[str, Any]:
    kind = EventType.objects.get(code="switchover")
    return {"public_id": Campaign.objects.create(name="Rack 4", type=kind).public_id}


def publication(world: World) -> Mapping[str, Any]:
    """Its preview."""
    return {
        "type": "switchover",
        "choose_by": "list",
        "instances": world.instance.public_id,
        "level": "S1",
        "cause": "The rack is taken down.",
        "executor": "manual",
    }


def preview(world: World) -> Mapping[str, Any]:
    """A change of many events that the operator has asked for."""
    by = By(world.user("operator"))
    ids = [world.extra["event"].public_id]
    return {"public_id": bulk.plan(by, BulkAction.ACKNOWLEDGE, ids).public_id}


ROWS: list[Row] = [
    Row("event_list", get=(302, 200, 200, 200, 200, 200)),
    Row("event_history", get=(302, 200, 200, 200, 200, 200)),
    Row("event_export", get=(302, 200, 200, 200, 200, 200)),
    Row(
        "event_publish",
        get=(302, 403, 403, 403, 403, 200),
        post=(302, 403, 403, 403, 403, 200),
        data=publication,
    ),
    Row("event_campaign_list", get=(302, 403, 403, 403, 403, 200)),
    Row("event_campaign", campaign, get=(302, 403, 403, 403, 403, 200)),
    Row("event_detail", event, get=(302, 404, 200, 200, 200, 200)),
    Row(
        "event_reschedule",
        event,
        get=(302, 404, 403, 200, 200, 200),
        post=(302, 404, 403, 302, 302, 302),
        data=lambda world: {"wish": "now"},
    ),
    Row("event_acknowledge", event, post=(302, 404, 403, 302, 302, 302)),
    Row(
        "event_cancel",
        event,
        get=(302, 404, 403, 200, 200, 200),
        post=(302, 404, 403, 302, 302, 302),
        data=lambda world: {"reason": "Not needed any more."},
    ),
    Row(
        "event_confirm",
        by_hand,
        get=(302, 404, 403, 403, 403, 200),
        post=(302, 404, 403, 403, 403, 302),
        data=lambda world: {"stage": "switch", "do": "done"},
    ),
    # Works without a login; a forged token is told nothing, whoever brings it.
    Row(
        "event_link",
        lambda world: {"token": "1-1-0.forged"},
        get=(404, 404, 404, 404, 404, 404),
        post=(404, 404, 404, 404, 404, 404),
        data=lambda world: {"do": "now"},
    ),
    Row("event_calendar", get=(302, 200, 200, 200, 200, 200)),
    Row(
        "event_feeds",
        get=(302, 200, 200, 200, 200, 200),
        post=(302, 200, 200, 200, 200, 200),
        data=lambda world: {"name": "phone"},
    ),
    # Somebody's own; an unknown one for all the others.
    Row(
        "event_feed_revoke",
        lambda world: {"public_id": world.extra["feed"].public_id},
        get=(302, 404, 404, 200, 404, 404),
        post=(302, 404, 404, 302, 404, 404),
    ),
    # Works without a login, for whoever has its secret.
    Row("event_feed", lambda world: {"token": "made-up"}, get=(404, 404, 404, 404, 404, 404)),
    # What nobody of the account has chosen is no selection: back to the list.
    Row(
        "event_bulk_start",
        post=(302, 302, 302, 302, 302, 302),
        data=lambda world: {"action": "acknowledge", "event": world.extra["event"].public_id},
    ),
    # A person's own; staff look at it, and apply what they have asked for themselves.
    Row(
        "event_bulk",
        preview,
        get=(302, 404, 404, 200, 404, 200),
        post=(302, 404, 404, 302, 404, 403),
        data=lambda world: {"do": "apply"},
    ),
]
