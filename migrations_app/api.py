"""The HTTP API of the migrations: a few lines around the services that the console's pages call, too."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from django.db.models import QuerySet
from ninja import Router, Schema, Status
from pydantic import Field

from migrations_app.choices import CONFIGURABLE, InspectionKind, LogLevel, TaskStatus
from migrations_app.describe import difference_values, inspection_values, item_values, task_values
from migrations_app.models import Inspection, MigrationTask, PrecheckItem
from migrations_app.services import (
    inspections,
    named_sides,
    prechecks,
    rehearsals,
    repairs,
    running,
    tasks,
    verifications,
)
from migrations_app.states import Action
from portal.api import PAGE, ApiRequest, In, Limit, account_of, in_account, once, scope
from portal.errors import Conflict, Invalid, NotFound
from portal.models import Account, Contact
from portal.services.connection_urls import params_of_url

router = Router(tags=["migrations"])
READ, WRITE = "migrations:read", "migrations:write"


# --- What comes and goes --------------------------------------------------------------------------------------------------


class SideIn(In):
    """One of the three: an instance of the fleet, a server by its URL, an instance of another account by a role."""

    instance: str = Field("", description="The ID of an instance.")
    url: str = Field(
        "",
        description="redis://, rediss://, unix://, sentinel://, sentinels:// or rdb:///path (source only).",
    )
    account: str = Field("", description="The ID of the account that has granted the role.")
    role: str = Field("", description="The name of the role.")


class SettingsIn(In):
    """Whatever is left out stays as it is."""

    name: str | None = None
    description: str | None = None
    source: SideIn | None = None
    target: SideIn | None = None
    phases: Literal["full", "full+incremental"] | None = None
    method: Literal["psync", "scan", "file"] | None = None
    databases: list[int] | Literal["all"] | None = None
    commands: dict[str, dict[str, list[str]]] | None = Field(
        None, description='By database, "" for all others: {"": {"only": [...]}} or {"": {"without": [...]}}.'
    )
    conflict: Literal["fail", "keep", "overwrite"] | None = None
    retry_minutes: int | None = None
    speed_class: str | None = None
    speed_hours: list[dict[str, str]] | None = None
    speed_time_zone: str | None = None
    heartbeat: bool | None = None
    alerts: bool | None = None
    alert_lag_seconds: int | None = None
    alert_after_seconds: int | None = None
    alert_retrying_minutes: int | None = None
    alert_contacts: list[int] | None = None
    verify_every_hours: int | None = None
    verify_percent: int | None = None


class CreateIn(SettingsIn):
    account: str = Field("", description="An account's ID; may be left out where there is one only.")


class SideOut(Schema):
    id: str
    name: str
    address: str | None = Field(description="Empty where the server belongs to another account.")
    product: str
    architecture: str


class ActionOut(Schema):
    open: bool
    reason: str


class ProgressOut(Schema):
    phase: str
    percent: float | None
    keys_done: int
    keys_total: int | None
    commands: int
    bytes_in: int
    lag_bytes: int | None
    lag_seconds: float | None
    caught_up: bool
    applied_offset: int | None
    replication_id: str
    reconnects: int
    keys_per_second: float
    commands_per_second: float
    bytes_per_second: float
    databases: dict[str, int]
    updated_at: datetime | None


class FailureOut(Schema):
    id: str
    message: str
    advice: str


class TaskOut(Schema):
    id: str
    name: str
    description: str
    account: str
    status: str
    status_label: str
    source: SideOut | None
    target: SideOut | None
    phases: str
    method: str
    databases: list[int] | None
    commands: dict[str, dict[str, list[str]]]
    conflict: str
    retry_minutes: int
    retry_effective_minutes: int
    speed_class: str
    speed_hours: list[dict[str, str]]
    heartbeat: bool
    created_at: datetime
    started_at: datetime | None
    incremental_at: datetime | None
    finished_at: datetime | None
    pause_reason: str
    failure: FailureOut | None
    missing: list[str] = Field(description="What is still to be configured.")
    actions: dict[str, ActionOut]
    progress: ProgressOut
    url: str


class InspectionOut(Schema):
    id: str
    kind: str
    status: str
    passed: bool | None
    progress: dict[str, Any]
    result: dict[str, Any]
    failure: FailureOut | None
    created_at: datetime
    finished_at: datetime | None
    worker_host: str
    worker_ip: str


class ItemOut(Schema):
    code: str
    side: str
    title: str
    severity: str
    outcome: str
    found: str
    advice: str
    repair: str
    repair_code: str
    ignorable: bool


class PrecheckOut(InspectionOut):
    items: list[ItemOut]
    success_rate: float


class ResultOut(Schema):
    id: str
    name: str
    ok: bool
    message: str


class LineOut(Schema):
    id: int
    at: datetime
    level: str
    event: str
    message: str
    fields: dict[str, Any]


class DifferenceOut(Schema):
    id: int
    database: int
    key: str = Field(description="Escaped: bytes that are no text as \\\\xNN.")
    kind: str
    source: str
    target: str
    detail: str
    repaired_at: datetime | None


# --- Tasks ----------------------------------------------------------------------------------------------------------------


@router.get("", response=list[TaskOut], summary="Migration tasks")
@scope(READ)
def task_list(
    request: ApiRequest, status: str = "", q: str = "", before: str = "", limit: Limit = PAGE
) -> list[dict[str, Any]]:
    """The newest first; `before` is the ID of the last one of the page before."""
    rows = _visible(request)
    if status:
        if status not in TaskStatus.values:
            raise Invalid(
                f"There is no status {status}.",
                advice=f"Choose of {', '.join(TaskStatus.values)}.",
                field="status",
            )
        rows = rows.filter(status=status)
    if q:
        rows = rows.filter(name__icontains=q)
    if before:
        rows = rows.filter(pk__lt=_task(request, before).pk)
    return [task_values(one) for one in rows.order_by("-pk")[:limit]]


@router.post("", response={201: TaskOut}, summary="A new task")
@scope(WRITE)
@once
def task_create(request: ApiRequest, data: CreateIn) -> Status[dict[str, Any]]:
    """Configured as far as the request says; nothing is started. `Idempotency-Key` makes a repetition harmless."""
    account = account_of(request, data.account)
    settings = _given(account, data)
    task = named_sides.create(request.user, account, _sides(data), **settings)
    return Status(201, task_values(_task(request, task.public_id)))


@router.get("/{task_id}", response=TaskOut, summary="One task")
@scope(READ)
def task_get(request: ApiRequest, task_id: str) -> dict[str, Any]:
    return task_values(_task(request, task_id))


@router.patch("/{task_id}", response=TaskOut, summary="Change settings")
@scope(WRITE)
def task_change(request: ApiRequest, task_id: str, data: SettingsIn) -> dict[str, Any]:
    """Before the start anything; while it runs speed, retry time and alerts."""
    _configure(request, _task(request, task_id), data)
    return task_values(_task(request, task_id))


@router.delete("/{task_id}", response={204: None}, summary="Delete a task that does not run")
@scope(WRITE)
def task_delete(request: ApiRequest, task_id: str) -> Status[None]:
    tasks.delete_task(request.user, _task(request, task_id))
    return Status(204, None)


@router.post("/{task_id}/start", response=TaskOut, summary="Start")
@scope(WRITE)
def task_start(request: ApiRequest, task_id: str) -> dict[str, Any]:
    """A precheck that is older than an hour, or of other settings, is run again first; passed, the task starts by itself."""
    tasks.start_task(request.user, _task(request, task_id))
    return task_values(_task(request, task_id))


@router.post("/{task_id}/pause", response=TaskOut, summary="Pause")
@scope(WRITE)
def task_pause(request: ApiRequest, task_id: str) -> dict[str, Any]:
    tasks.pause_task(request.user, _task(request, task_id))
    return task_values(_task(request, task_id))


class ResumeIn(In):
    full_resync: bool = Field(
        False, description="Consent to a new full phase, if the source no longer has the changes."
    )


@router.post("/{task_id}/resume", response=TaskOut, summary="Resume")
@scope(WRITE)
def task_resume(request: ApiRequest, task_id: str, data: ResumeIn) -> dict[str, Any]:
    tasks.resume_task(request.user, _task(request, task_id), allow_full_resync=data.full_resync)
    return task_values(_task(request, task_id))


@router.post("/{task_id}/stop", response=TaskOut, summary="Stop")
@scope(WRITE)
def task_stop(request: ApiRequest, task_id: str) -> dict[str, Any]:
    """In the incremental phase it ends successfully, before that it is stopped early."""
    tasks.stop_task(request.user, _task(request, task_id))
    return task_values(_task(request, task_id))


@router.post("/{task_id}/release", response=TaskOut, summary="Release")
@scope(WRITE)
def task_release(request: ApiRequest, task_id: str) -> dict[str, Any]:
    """For good: the task never writes again."""
    tasks.release_task(request.user, _task(request, task_id))
    return task_values(_task(request, task_id))


class ConnectionIn(In):
    side: Literal["source", "target"]
    url: str = Field(description="The whole address, with account and password.")


@router.post("/{task_id}/connection", response=TaskOut, summary="Change how a self-hosted side is reached")
@scope(WRITE)
def task_connection(request: ApiRequest, task_id: str, data: ConnectionIn) -> dict[str, Any]:
    """Address, account or password, also while it runs: the link reconnects and goes on where it stood."""
    task = _task(request, task_id)
    running.change_connection(request.user, task, data.side, params_of_url(data.url))
    return task_values(_task(request, task_id))


class BulkIn(In):
    action: Literal["pause", "resume", "stop", "release"]
    ids: Annotated[list[str], Field(min_length=1, max_length=1000)]


@router.post("/actions/bulk", response=list[ResultOut], summary="One action on many tasks")
@scope(WRITE)
def task_bulk(request: ApiRequest, data: BulkIn) -> list[dict[str, Any]]:
    """A result per task; one refusal does not keep the others from it."""
    allowed = set(
        _visible(request).filter(public_id__in=data.ids).values_list("public_id", flat=True)
    )  # a token for one account must not reach the others
    ids = [one for one in data.ids if one in allowed]
    found = {one.public_id: one for one in tasks.bulk(request.user, Action(data.action), ids)}
    return [
        {"id": one, "name": found[one].name, "ok": found[one].ok, "message": found[one].message}
        if one in found
        else {
            "id": one,
            "name": "",
            "ok": False,
            "message": f"There is no migration task {one} in your accounts.",
        }
        for one in dict.fromkeys(data.ids)
    ]


@router.get("/{task_id}/log", response=list[LineOut], summary="The log")
@scope(READ)
def task_log(
    request: ApiRequest, task_id: str, level: str = "", q: str = "", after: int = 0, limit: Limit = PAGE
) -> list[dict[str, Any]]:
    """The oldest first; `after` is the ID of the last line of the page before."""
    rows = _task(request, task_id).log.filter(pk__gt=after).order_by("pk")
    if level:
        if level not in LogLevel.values:
            raise Invalid(f"There is no level {level}.", field="level")
        rows = rows.filter(level=level)
    for word in q[:200].split():
        rows = rows.filter(message__icontains=word)
    return [
        {
            "id": one.pk,
            "at": one.at,
            "level": one.level,
            "event": one.event,
            "message": one.message,
            "fields": one.fields,
        }
        for one in rows[:limit]
    ]


# --- Checks ---------------------------------------------------------------------------------------------------------------


@router.post("/{task_id}/connectivity", response={202: InspectionOut}, summary="Test the connections")
@scope(WRITE)
def connectivity(request: ApiRequest, task_id: str) -> Status[dict[str, Any]]:
    found = inspections.request(request.user, _task(request, task_id), InspectionKind.CONNECTIVITY)
    return Status(202, inspection_values(found))


@router.post("/{task_id}/precheck", response={202: InspectionOut}, summary="Run the precheck")
@scope(WRITE)
def precheck_run(request: ApiRequest, task_id: str) -> Status[dict[str, Any]]:
    return Status(202, inspection_values(tasks.precheck_task(request.user, _task(request, task_id))))


@router.get("/{task_id}/precheck", response=PrecheckOut, summary="The newest precheck, with its items")
@scope(READ)
def precheck_get(request: ApiRequest, task_id: str) -> dict[str, Any]:
    found = _newest(_task(request, task_id), InspectionKind.PRECHECK)
    return inspection_values(found) | {
        "items": [item_values(one) for one in found.items.all()],
        "success_rate": prechecks.success_rate(found),
    }


class IgnoreIn(In):
    code: str
    side: str = ""
    reason: str


@router.post("/{task_id}/precheck/ignore", response=TaskOut, summary="Take the risk of a failed item")
@scope(WRITE)
def precheck_ignore(request: ApiRequest, task_id: str, data: IgnoreIn) -> dict[str, Any]:
    task = _task(request, task_id)
    prechecks.ignore_item(request.user, _failed_item(task, data.code, data.side), data.reason)
    return task_values(_task(request, task_id))


class RepairIn(In):
    code: str
    side: str = ""
    confirmation: str = Field("", description="The name of the target, where the repair clears it.")


@router.post(
    "/{task_id}/precheck/repair", response={202: InspectionOut}, summary="Apply the repair of an item"
)
@scope(WRITE)
def precheck_repair(request: ApiRequest, task_id: str, data: RepairIn) -> Status[dict[str, Any]]:
    """A setting that is changed on a server is put back after the task. What was cleared is gone."""
    item = _failed_item(_task(request, task_id), data.code, data.side)
    asked = repairs.request_repair(request.user, item, confirmation=data.confirmation)
    return Status(202, inspection_values(asked))


@router.post(
    "/{task_id}/rehearsal", response={202: InspectionOut}, summary="Rehearse: read a sample, write nothing"
)
@scope(WRITE)
def rehearsal_run(request: ApiRequest, task_id: str) -> Status[dict[str, Any]]:
    return Status(202, inspection_values(rehearsals.request_rehearsal(request.user, _task(request, task_id))))


class VerifyIn(In):
    mode: Literal["quick", "values"] = "values"
    percent: Annotated[int, Field(ge=1, le=100)] = 100
    both_directions: bool = True


@router.post("/{task_id}/verification", response={202: InspectionOut}, summary="Compare both sides")
@scope(WRITE)
def verification_run(request: ApiRequest, task_id: str, data: VerifyIn) -> Status[dict[str, Any]]:
    found = verifications.request_verification(
        request.user,
        _task(request, task_id),
        mode=data.mode,
        percent=data.percent,
        both_directions=data.both_directions,
    )
    return Status(202, inspection_values(found))


@router.get("/{task_id}/inspections", response=list[InspectionOut], summary="Everything that was checked")
@scope(READ)
def inspection_list(
    request: ApiRequest, task_id: str, kind: str = "", limit: Limit = PAGE
) -> list[dict[str, Any]]:
    """The newest first."""
    rows = _task(request, task_id).inspections.order_by("-pk")
    if kind:
        if kind not in InspectionKind.values:
            raise Invalid(f"There is no kind {kind}.", field="kind")
        rows = rows.filter(kind=kind)
    return [inspection_values(one) for one in rows[:limit]]


@router.get("/{task_id}/inspections/{inspection_id}", response=InspectionOut, summary="One check")
@scope(READ)
def inspection_get(request: ApiRequest, task_id: str, inspection_id: str) -> dict[str, Any]:
    return inspection_values(_one_inspection(request, task_id, inspection_id))


@router.post(
    "/{task_id}/inspections/{inspection_id}/cancel", response=InspectionOut, summary="Cancel a check"
)
@scope(WRITE)
def inspection_cancel(request: ApiRequest, task_id: str, inspection_id: str) -> dict[str, Any]:
    return inspection_values(
        inspections.cancel(request.user, _one_inspection(request, task_id, inspection_id))
    )


@router.get(
    "/{task_id}/inspections/{inspection_id}/differences",
    response=list[DifferenceOut],
    summary="What a verification found to differ",
)
@scope(READ)
def difference_list(
    request: ApiRequest, task_id: str, inspection_id: str, offset: int = 0, limit: Limit = PAGE
) -> list[dict[str, Any]]:
    rows = _one_inspection(request, task_id, inspection_id).differences.order_by("pk")
    return [difference_values(one) for one in rows[max(0, offset) : max(0, offset) + limit]]


class KeysIn(In):
    keys: list[int] = Field(description="IDs of differences of this verification.", max_length=1000)


@router.post(
    "/{task_id}/inspections/{inspection_id}/repair",
    response={202: InspectionOut},
    summary="Write what the source has to keys of the target that a verification found to differ",
)
@scope(WRITE)
def difference_repair(
    request: ApiRequest, task_id: str, inspection_id: str, data: KeysIn
) -> Status[dict[str, Any]]:
    """Each key is looked at again, and written only if it still differs; what the source does not have is deleted."""
    inspection = _one_inspection(request, task_id, inspection_id)
    return Status(
        202, inspection_values(verifications.request_correction(request.user, inspection, data.keys))
    )


# --- Helpers --------------------------------------------------------------------------------------------------------------


def _visible(request: ApiRequest) -> QuerySet[MigrationTask]:
    rows = MigrationTask.objects.visible_to(request.user).filter(**in_account(request))
    return rows.select_related("account", "source__endpoint", "target__endpoint", "link__progress")


def _task(request: ApiRequest, public_id: str) -> MigrationTask:
    found = _visible(request).filter(public_id=public_id).first()
    if found is None:
        raise NotFound(f"There is no migration task {public_id} in your accounts.")
    return found


def _given(account: Account, data: SettingsIn) -> dict[str, Any]:
    """The settings that the request names, as the services take them, without the sides."""
    given = data.model_dump(exclude_unset=True, exclude={"source", "target", "account"})
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if settings.get("databases") == "all":
        settings["databases"] = None
    if "alert_contacts" in settings:
        wanted = set(settings["alert_contacts"])
        settings["alert_contacts"] = list(Contact.objects.filter(account=account, pk__in=wanted))
        if len(settings["alert_contacts"]) != len(wanted):
            raise NotFound("One of the contacts does not exist. Nothing was changed.", field="alert_contacts")
    return settings


def _sides(data: SettingsIn) -> dict[str, named_sides.Side]:
    named = {"source": data.source, "target": data.target}
    return {
        side: named_sides.Side(one.instance, one.url, one.account, one.role)
        for side, one in named.items()
        if one is not None
    }


def _configure(request: ApiRequest, task: MigrationTask, data: SettingsIn) -> None:
    settings, sides = _given(task.account, data), _sides(data)
    if task.status_badge in CONFIGURABLE:
        named_sides.configure(request.user, task, sides, **settings)
    elif sides:
        raise Conflict(
            "The task was started already: it keeps its sides. Nothing was changed.",
            advice="",
            id="task.cannot_configure",
        )
    else:
        running.change_running(request.user, task, **settings)


def _newest(task: MigrationTask, kind: InspectionKind) -> Inspection:
    found = inspections.newest(task, kind)
    if found is None:
        raise NotFound(f"There was no {kind.label.lower()} of {task.name} yet.")
    return found


def _failed_item(task: MigrationTask, code: str, side: str) -> PrecheckItem:
    found = _newest(task, InspectionKind.PRECHECK).items.filter(code=code, side=side).first()
    if found is None:
        raise NotFound(f"The newest precheck has no item {code} {side}".rstrip() + ".", field="code")
    return found


def _one_inspection(request: ApiRequest, task_id: str, inspection_id: str) -> Inspection:
    found = _task(request, task_id).inspections.filter(public_id=inspection_id).first()
    if found is None:
        raise NotFound(f"The task has no check {inspection_id}.")
    return found
