"""Who may do what to migrations over the HTTP API; walked by tests/portal/test_api_table.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from migrations_app.choices import InspectionKind, InspectionStatus, Outcome, Severity, TaskStatus
from migrations_app.models import Inspection, PrecheckItem
from tests.migrations_app.url_table import prepare as prepare_tasks
from tests.portal.api_table import ApiRow
from tests.portal.world import World

READ, WRITE = "migrations:read", "migrations:write"
# anonymous, outsider, viewer, operator, owner, admin
LOOK = (401, 404, 200, 200, 200, 200)


def prepare(world: World) -> None:
    prepare_tasks(world)
    ready = world.extra[TaskStatus.READY]
    precheck = Inspection.objects.create(
        task=ready, kind=InspectionKind.PRECHECK, status=InspectionStatus.DONE, passed=False
    )
    PrecheckItem.objects.create(
        inspection=precheck, position=0, code="target.eviction", side="target", title="Eviction policy",
        severity=Severity.WARNING, outcome=Outcome.FAILED, found="allkeys-lru", ignorable=True,
    )  # fmt: skip
    world.extra["precheck"] = precheck
    world.extra["running"] = Inspection.objects.create(
        task=world.extra[TaskStatus.FULL], kind=InspectionKind.VERIFICATION
    )


def changed(allowed: int) -> tuple[int, int, int, int, int, int]:
    """What an operator gets; viewers are refused, others do not find it."""
    return (401, 404, 403, allowed, allowed, allowed)


def task(status: TaskStatus) -> Callable[[World], dict[str, Any]]:
    return lambda world: {"task_id": world.extra[status].public_id}


def precheck(world: World) -> dict[str, Any]:
    return READY(world) | {"inspection_id": world.extra["precheck"].public_id}


def running(world: World) -> dict[str, Any]:
    return FULL(world) | {"inspection_id": world.extra["running"].public_id}


def nothing(world: World) -> dict[str, Any]:
    return {}


READY, FULL, FAILED = task(TaskStatus.READY), task(TaskStatus.FULL), task(TaskStatus.FAILED)

API_ROWS = [
    ApiRow("get", "/migrations", (401, 200, 200, 200, 200, 200), scope=READ),
    ApiRow(
        "post",
        "/migrations",
        (401, 404, 403, 201, 201, 201),
        data=lambda world: {"account": world.account.public_id, "name": "by program"},
        scope=WRITE,
    ),
    ApiRow("get", "/migrations/{task_id}", LOOK, READY, scope=READ),
    ApiRow(
        "patch", "/migrations/{task_id}", changed(200), READY, lambda world: {"name": "other"}, scope=WRITE
    ),
    ApiRow("delete", "/migrations/{task_id}", changed(204), FAILED, scope=WRITE),
    # The precheck of the task has failed, or another task writes into the target: an operator is told so.
    ApiRow("post", "/migrations/{task_id}/start", changed(409), READY, scope=WRITE),
    ApiRow("post", "/migrations/{task_id}/pause", changed(200), FULL, scope=WRITE),
    ApiRow("post", "/migrations/{task_id}/resume", changed(409), FULL, nothing, scope=WRITE),
    ApiRow("post", "/migrations/{task_id}/stop", changed(200), FULL, scope=WRITE),
    ApiRow("post", "/migrations/{task_id}/release", changed(200), FAILED, scope=WRITE),
    # Both sides are instances of the fleet: they are changed where the instance is.
    ApiRow(
        "post",
        "/migrations/{task_id}/connection",
        changed(409),
        FULL,
        lambda world: {"side": "source", "url": "redis://127.0.0.1:6379"},
        scope=WRITE,
    ),
    # A result per task: what a person may not see or do is told there.
    ApiRow(
        "post",
        "/migrations/actions/bulk",
        (401, 200, 200, 200, 200, 200),
        data=lambda world: {"action": "pause", "ids": [world.extra[TaskStatus.FULL].public_id]},
        scope=WRITE,
    ),
    ApiRow("get", "/migrations/{task_id}/log", LOOK, FULL, scope=READ),
    ApiRow("post", "/migrations/{task_id}/connectivity", changed(202), READY, scope=WRITE),
    ApiRow("post", "/migrations/{task_id}/precheck", changed(202), READY, scope=WRITE),
    ApiRow("get", "/migrations/{task_id}/precheck", LOOK, READY, scope=READ),
    ApiRow(
        "post",
        "/migrations/{task_id}/precheck/ignore",
        changed(409),  # the task is ready: nothing is left to be ignored
        READY,
        lambda world: {"code": "target.eviction", "side": "target", "reason": "a cache"},
        scope=WRITE,
    ),
    ApiRow(
        "post",
        "/migrations/{task_id}/precheck/repair",
        changed(409),  # it has no repair of its own
        READY,
        lambda world: {"code": "target.eviction", "side": "target"},
        scope=WRITE,
    ),
    ApiRow("post", "/migrations/{task_id}/rehearsal", changed(202), READY, scope=WRITE),
    ApiRow("post", "/migrations/{task_id}/verification", changed(202), FAILED, nothing, scope=WRITE),
    ApiRow("get", "/migrations/{task_id}/inspections", LOOK, READY, scope=READ),
    ApiRow("get", "/migrations/{task_id}/inspections/{inspection_id}", LOOK, precheck, scope=READ),
    ApiRow(
        "post", "/migrations/{task_id}/inspections/{inspection_id}/cancel", changed(200), running, scope=WRITE
    ),
    ApiRow(
        "get", "/migrations/{task_id}/inspections/{inspection_id}/differences", LOOK, precheck, scope=READ
    ),
    # The task has never run, so nothing of it can be repaired.
    ApiRow(
        "post",
        "/migrations/{task_id}/inspections/{inspection_id}/repair",
        changed(409),
        precheck,
        lambda world: {"keys": [1]},
        scope=WRITE,
    ),
]
