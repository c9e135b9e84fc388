"""The HTTP API of the events: a few lines around the services that the console's pages call, too."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from django.db.models import Q, QuerySet
from ninja import Router, Schema, Status
from pydantic import BeforeValidator, Field, ValidationInfo

from events.choices import EventStatus, Level, Via
from events.clock import exact_moment_of
from events.describe import (
    campaign_values,
    event_values,
    events_values,
    plan_values,
    published_values,
    result_values,
    type_values,
    work_values,
)
from events.models import Campaign, Event, EventType
from events.services import campaigns, execution, publishing, scheduling, several
from events.services.by import By, require_publisher
from events.services.drafts import Draft, type_called
from events.services.selection import SEARCH, Chosen, Selection
from portal.api import PAGE, ApiRequest, In, Limit, RefusalOut, in_account, once, scope
from portal.errors import Invalid

router = Router(tags=["events"])
READ, WRITE, PUBLISH = "events:read", "events:write", "events:publish"
MOST_IDS = 300
Ids = Annotated[list[str], Field(min_length=1, max_length=MOST_IDS)]
WISHES = ("now", "window")


def _moment(value: object, info: ValidationInfo) -> datetime | None:
    """None is no time; see Moment | None."""
    return None if value is None else _exact(value, info)


def _wish(value: object, info: ValidationInfo) -> object:
    return value if value in WISHES else _exact(value, info)


def _exact(value: object, info: ValidationInfo) -> datetime:
    """Text alone: a number would be guessed to be seconds, or their thousandths."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return exact_moment_of(text, info.field_name or "")


Moment = Annotated[datetime, BeforeValidator(_moment)]
Wish = Annotated[datetime | Literal["now", "window"], BeforeValidator(_wish)]


# --- What comes and goes --------------------------------------------------------------------------------------------------


class ImpactOut(Schema):
    kind: str
    text: str


class InstanceOut(Schema):
    id: str
    name: str
    region: str
    zone: str


class VerdictOut(Schema):
    open: bool
    reason: str


class EventOut(Schema):
    id: str
    type: str
    type_name: str
    level: str
    urgent: bool
    simulated: bool = Field(description="Nothing is really done.")
    status: str
    status_label: str
    account: str
    instance: InstanceOut
    campaign: str | None
    cause: str
    impacts: list[ImpactOut]
    advice: str
    version_from: str
    version_to: str
    release_notes: str
    created_at: datetime
    starts_at: datetime | None
    switch_at: datetime | None = Field(description="Empty while a time is to be chosen.")
    proposed_at: datetime | None
    deadline: datetime
    earliest_at: datetime | None = Field(description="The earliest time that can be chosen now.")
    latest_at: datetime | None = Field(description="The latest time that can be chosen.")
    preparation_seconds: int
    impact_seconds: int
    may_change: bool
    may_cancel: bool
    deferrals: int
    revision: int = Field(description="Counts the changes of time and status.")
    hold_reason: str
    executor: str
    acknowledged_at: datetime | None
    acknowledged_by: str
    started_at: datetime | None
    switched_at: datetime | None
    finished_at: datetime | None
    measured_seconds: float | None
    result: str
    actions: dict[str, VerdictOut]
    url: str


class TypeOut(Schema):
    code: str
    name: str
    level: str
    cause: str
    impacts: list[ImpactOut]
    advice: str
    needs_proxy: bool
    shows_versions: bool
    same_major: bool
    notice_hours: int
    may_change: bool
    may_cancel: bool
    preparation_seconds: int
    impact_seconds: int
    open_days: int
    max_deferrals: int | None
    max_deferral_days: int | None
    executor: str
    is_active: bool


class CampaignOut(Schema):
    id: str
    name: str
    type: str
    description: str
    filter: dict[str, Any] | None
    created_at: datetime
    events: int
    by_status: dict[str, int]
    left_out: int = Field(description="Instances that got no event.")
    url: str


class FilterIn(In):
    """Everything that is given must hold."""

    edition: Literal["", "redis", "valkey"] = ""
    version: str = Field("", description="6.2 is 6.2 and 6.2.14, not 6.20.")
    region: str = ""
    account: str = Field("", description="ID or name.")
    name: str = Field("", description="Part of the name or of the ID.")
    proxy: bool = Field(False, description="Only instances that have a proxy.")
    everything: bool = Field(False, description="All instances: needed where there is no condition.")


class PublishIn(In):
    """Whatever is left out is as the type says."""

    type: str = Field(description="The code of a type, see GET /events/types.")
    instances: list[str] | None = Field(None, description="IDs, in the order of the switchovers.")
    filter: FilterIn | None = Field(None, description="Instead of `instances`.")
    switch_at: Moment | None = Field(
        None, description="Left out: each instance gets a time, see docs/events.md."
    )
    stagger_minutes: Annotated[int, Field(ge=0, le=10080)] = 0
    deadline: Moment | None = None
    level: Literal["S0", "S1"] | None = None
    cause: str = ""
    version_to: str = ""
    release_notes: str = ""
    may_change: bool | None = None
    may_cancel: bool | None = None
    executor: str = ""
    campaign: Annotated[str, Field(max_length=120)] = Field("", description="Its name.")
    description: str = ""
    dry_run: bool = Field(False, description="Tell what would be published, and publish nothing.")
    plan: str = Field("", description="As the dry run told it: refused with 409 if it has changed since.")


class ToldOut(Schema):
    contact: str
    ways: str
    at: datetime | None = Field(description="Empty: at once.")
    if_unseen: bool = Field(description="Only if nobody has seen it by then.")


class CautionOut(Schema):
    id: str
    message: str


class RowOut(Schema):
    instance: str
    name: str
    account: str
    switch_at: datetime | None
    deadline: datetime
    notice_seconds: int
    version_from: str
    version_to: str
    told: list[ToldOut]
    warnings: list[CautionOut]
    error: RefusalOut | None = Field(description="Why it gets no event.")


class PlanOut(Schema):
    plan: str
    type: str
    level: str
    deadline: datetime
    published: int
    left_out: int
    rows: list[RowOut]


class LeftOut(Schema):
    instance: str
    name: str
    id: str
    message: str


class PublishedOut(Schema):
    """Of one instance the event; else the campaign, whose events are GET /events?campaign=ID."""

    event: EventOut | None
    campaign: CampaignOut | None
    published: int
    left_out: list[LeftOut]


class ResultOut(Schema):
    id: str
    ok: bool
    switch_at: datetime | None
    error: RefusalOut | None


# --- Reading --------------------------------------------------------------------------------------------------------------


@router.get("", response=list[EventOut], summary="Events")
@scope(READ)
def event_list(
    request: ApiRequest,
    status: str = "",
    level: str = "",
    type: str = "",  # noqa: A002  # its name in the address
    region: str = "",
    instance: str = "",
    campaign: str = "",
    q: str = "",
    switch_from: Moment | None = None,
    switch_to: Moment | None = None,
    before: str = "",
    limit: Limit = PAGE,
) -> list[dict[str, Any]]:
    """The newest first; `before` is the ID of the last one of the page before. `status` takes several, with commas; `open` is both that can be changed.

    `q` finds words in names and IDs: of instance, event, type and campaign.
    """
    rows = _visible(request)
    if status:
        rows = rows.filter(status__in=_statuses(status))
    if level:
        _known("level", level, Level.values)
        rows = rows.filter(level=level)
    if type:
        _known("type", type, list(EventType.objects.order_by("code").values_list("code", flat=True)))
    exact = {
        "type__code": type,
        "region": region,
        "instance_public_id": instance,
        "campaign__public_id": campaign,
    }
    rows = rows.filter(**{name: value for name, value in exact.items() if value})
    if switch_from:
        rows = rows.filter(switch_at__gte=switch_from)
    if switch_to:
        rows = rows.filter(switch_at__lte=switch_to)
    for word in q[:200].split():
        rows = rows.filter(reduce(or_, (Q(**{f"{field}__icontains": word}) for field in SEARCH)))
    if before:
        rows = rows.filter(pk__lt=_event(request, before).pk)
    return events_values(rows.order_by("-pk")[:limit], _by(request))


@router.get("/types", response=list[TypeOut], summary="Types of events")
@scope(READ)
def type_list(request: ApiRequest) -> list[dict[str, Any]]:
    return [type_values(one) for one in EventType.objects.order_by("code")]


@router.get("/campaigns", response=list[CampaignOut], summary="Campaigns (staff)")
@scope(READ)
def campaign_list(request: ApiRequest, before: str = "", limit: Limit = PAGE) -> list[dict[str, Any]]:
    """The newest first; `before` is the ID of the last one of the page before."""
    rows = campaigns.visible(_by(request), request.auth.account)
    if before:
        rows = rows.filter(pk__lt=_campaign(request, before).pk)
    found = list(rows.order_by("-pk")[:limit])
    counts = campaigns.counts_of(found, request.auth.account)
    return [campaign_values(one, counts[one.pk]) for one in found]


@router.get("/campaigns/{campaign_id}", response=CampaignOut, summary="One campaign (staff)")
@scope(READ)
def campaign_get(request: ApiRequest, campaign_id: str) -> dict[str, Any]:
    found = _campaign(request, campaign_id)
    return campaign_values(found, campaigns.counts_of([found], request.auth.account)[found.pk])


# --- Publishing -----------------------------------------------------------------------------------------------------------


@router.post("", response={200: PlanOut, 201: PublishedOut}, summary="Publish events (staff)")
@scope(PUBLISH)
@once
def event_publish(request: ApiRequest, data: PublishIn) -> Status[dict[str, Any]]:
    """For instances, or for all that fit a filter. Instances that a rule refuses are left out, and named; if all are, nothing is published.

    `dry_run` tells time, contacts, warnings and refusal of each instance, with 200. `Idempotency-Key` makes a repetition harmless.
    """
    by = _by(request)
    require_publisher(by)  # before anything is told of types and instances
    draft = _draft(request, data)
    if data.dry_run:
        return Status(200, plan_values(publishing.preview(by, draft)))
    made = publishing.publish(by, draft, seen=data.plan)
    return Status(201, published_values(made, by, request.auth.account))


def _draft(request: ApiRequest, data: PublishIn) -> Draft:
    chosen: Chosen
    if data.instances is not None and data.filter is None:
        chosen = data.instances
    elif data.filter is not None and data.instances is None:
        chosen = Selection(**data.filter.model_dump())
    else:
        raise Invalid("Name either `instances` or a `filter`. Nothing was published.", field="instances")
    return Draft(
        type=type_called(data.type),
        instances=chosen,
        level=data.level or "",
        switch_at=data.switch_at,
        stagger=timedelta(minutes=data.stagger_minutes),
        deadline=data.deadline,
        cause=data.cause,
        version_to=data.version_to,
        release_notes=data.release_notes,
        may_change=data.may_change,
        may_cancel=data.may_cancel,
        executor=data.executor,
        name=data.campaign,
        description=data.description,
        account=request.auth.account,
    )


# --- Changing -------------------------------------------------------------------------------------------------------------


class RescheduleIn(In):
    switch_at: Wish = Field(description="A time, `now` or `window` (the instance’s next maintenance window).")
    revision: int | None = Field(
        None, description="As it was seen: refused with 409 if it has changed since."
    )


class ModifyIn(In):
    ids: Ids
    switch_at: Wish = Field(
        description="A time, `now` or `window` (each instance’s next maintenance window)."
    )


class CancelIn(In):
    ids: Ids
    reason: Annotated[str, Field(max_length=2000)] = ""


class AcknowledgeIn(In):
    ids: Ids


@router.post("/modify", response=list[ResultOut], summary="Another switch time for many")
@scope(WRITE)
def event_modify(request: ApiRequest, data: ModifyIn) -> list[dict[str, Any]]:
    """A result per event; one refusal does not keep the others from it."""
    return _each(request, data.ids, lambda by, event: scheduling.reschedule(by, event, data.switch_at))


@router.post("/cancel", response=list[ResultOut], summary="Cancel events")
@scope(WRITE)
def event_cancel(request: ApiRequest, data: CancelIn) -> list[dict[str, Any]]:
    """A result per event. Owners may cancel where the event says so, staff who publish events any that has not begun."""
    return _each(request, data.ids, lambda by, event: scheduling.cancel(by, event, data.reason))


@router.post("/acknowledge", response=list[ResultOut], summary="Acknowledge events")
@scope(WRITE)
def event_acknowledge(request: ApiRequest, data: AcknowledgeIn) -> list[dict[str, Any]]:
    """A result per event: somebody has seen it, and nobody else is asked."""
    return _each(request, data.ids, scheduling.acknowledge)


def _each(request: ApiRequest, ids: list[str], act: Callable[[By, Event], Event]) -> list[dict[str, Any]]:
    return [result_values(one) for one in several.each(_by(request), _visible(request), ids, act)]


# --- One event: behind the fixed words, which could be IDs ----------------------------------------------------------------


@router.get("/{event_id}", response=EventOut, summary="One event")
@scope(READ)
def event_get(request: ApiRequest, event_id: str) -> dict[str, Any]:
    return event_values(_event(request, event_id), _by(request))


@router.post("/{event_id}/reschedule", response=EventOut, summary="Another switch time")
@scope(WRITE)
def event_reschedule(request: ApiRequest, event_id: str, data: RescheduleIn) -> dict[str, Any]:
    event = _event(request, event_id)
    scheduling.reschedule(_by(request), event, data.switch_at, seen=data.revision)
    return event_values(_event(request, event_id), _by(request))


# --- The work of an event -------------------------------------------------------------------------------------------------


class StageOut(Schema):
    code: str
    name: str
    phase: str
    status: str
    impact: str
    began_at: datetime | None
    ended_at: datetime | None
    impact_seconds: float | None
    detail: str


class LineOut(Schema):
    at: datetime
    level: str
    message: str


class WorkOut(Schema):
    event: str
    status: str
    waiting: str | None = Field(description="The stage that waits for a confirmation.")
    stages: list[StageOut]
    log: list[LineOut]


class ConfirmIn(In):
    stage: str = Field(description="As `waiting` says: another one by now is refused with 409.")
    impact_seconds: float | None = Field(
        None, description="For how long clients could not write, where it was measured."
    )
    note: Annotated[str, Field(max_length=2000)] = ""


class FailIn(In):
    stage: str = Field(description="As `waiting` says: another one by now is refused with 409.")
    reason: Annotated[str, Field(max_length=2000)] = Field(
        description="What happened, and in which state the instance is: contacts are told."
    )


@router.get("/{event_id}/work", response=WorkOut, summary="Stages and log of an event")
@scope(READ)
def event_work(request: ApiRequest, event_id: str) -> dict[str, Any]:
    return work_values(_event(request, event_id))


@router.post("/{event_id}/confirm", response=WorkOut, summary="Confirm a stage of manual work (staff)")
@scope(WRITE)
def event_confirm(request: ApiRequest, event_id: str, data: ConfirmIn) -> dict[str, Any]:
    event = _event(request, event_id)
    execution.confirm(_by(request), event, data.stage, data.impact_seconds, data.note)
    return work_values(_event(request, event_id))


@router.post("/{event_id}/fail", response=WorkOut, summary="Report that manual work has failed (staff)")
@scope(WRITE)
def event_fail(request: ApiRequest, event_id: str, data: FailIn) -> dict[str, Any]:
    event = _event(request, event_id)
    execution.report_failure(_by(request), event, data.reason, data.stage)
    return work_values(_event(request, event_id))


# --- Helpers --------------------------------------------------------------------------------------------------------------


def _by(request: ApiRequest) -> By:
    return By(request.user, via=Via.API)


def _visible(request: ApiRequest) -> QuerySet[Event]:
    rows = Event.objects.visible_to(request.user).filter(**in_account(request))
    return rows.select_related("type", "account", "instance", "campaign")


def _event(request: ApiRequest, public_id: str) -> Event:
    found = _visible(request).filter(public_id=public_id).first()
    if found is None:
        raise several.not_found(public_id)
    return found


def _campaign(request: ApiRequest, public_id: str) -> Campaign:
    return campaigns.get(_by(request), public_id, request.auth.account)


def _statuses(text: str) -> list[str]:
    found: list[str] = []
    for one in text.split(","):
        if one == "open":
            found += [EventStatus.WAITING, EventStatus.PENDING]
        else:
            _known("status", one, ["open", *EventStatus.values])
            found.append(one)
    return found


def _known(field: str, value: str, values: list[str]) -> None:
    if value not in values:
        raise Invalid(f"There is no {field} {value}.", advice=f"Choose of {', '.join(values)}.", field=field)
