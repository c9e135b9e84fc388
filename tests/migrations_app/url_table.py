"""Who may open which page of the migration tasks; walked by tests/portal/test_url_table.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from migrations_app.choices import InspectionKind, InspectionStatus, TaskStatus
from migrations_app.models import Difference, Inspection, Link, LinkProgress, MigrationTask
from tests.portal.url_table import Row
from tests.portal.world import World, make_instance


def prepare(world: World) -> None:
    target = make_instance(world.account, "sessions-new", databases=[])
    for status in (TaskStatus.READY, TaskStatus.FULL, TaskStatus.FAILED, TaskStatus.PRECHECK_FAILED):
        task = MigrationTask.objects.create(
            name=f"{status} task",
            account=world.account,
            # Across accounts, so that each page is tried by the owner of the source, too.
            source=world.partner_instance,
            source_role=world.access_role,
            target=target,
            status=status,
        )
        LinkProgress.objects.create(link=Link.objects.create(task=task, name=task.public_id))
        world.extra[status] = task
    for kind in (InspectionKind.VERIFICATION, InspectionKind.CORRECTION):
        world.extra[kind] = Inspection.objects.create(
            task=world.extra[TaskStatus.FAILED],
            kind=kind,
            status=InspectionStatus.DONE,
            parameters={"mode": "values", "verification": "in-0"},
            result={"counts": {}, "keys": []}
            if kind == InspectionKind.CORRECTION
            else {"result": "different", "keys": 1, "differences": 1},
        )
    world.extra["difference"] = Difference.objects.create(
        inspection=world.extra[InspectionKind.VERIFICATION], database=0, key=b"a", kind="missing"
    )
    world.extra["target"] = target


def task(status: TaskStatus) -> Callable[[World], dict[str, Any]]:
    return lambda world: {"public_id": world.extra[status].public_id}


def inspection(kind: InspectionKind, **more: str) -> Callable[[World], dict[str, Any]]:
    return lambda world: FAILED(world) | {"inspection_id": world.extra[kind].public_id} | more


def at(status: TaskStatus, **more: Any) -> Callable[[World], dict[str, Any]]:
    return lambda world: {"public_id": world.extra[status].public_id} | more


def ignored(world: World) -> dict[str, Any]:
    """A failed item of the precheck of a task."""
    checked = world.extra[TaskStatus.PRECHECK_FAILED]
    inspection = Inspection.objects.filter(task=checked, kind=InspectionKind.PRECHECK).first()
    if inspection is None:
        inspection = Inspection.objects.create(
            task=checked, kind=InspectionKind.PRECHECK, status=InspectionStatus.DONE, passed=False
        )
        inspection.items.create(
            position=1, code="target.eviction", side="target", title="Eviction", severity="warning", outcome="failed", ignorable=True
        )  # fmt: skip
    return {"public_id": checked.public_id, "item": inspection.items.get().pk}


def rehearsal(world: World) -> dict[str, Any]:
    """A rehearsal that is under way."""
    ready = world.extra[TaskStatus.READY]
    running, _ = Inspection.objects.get_or_create(task=ready, kind=InspectionKind.REHEARSAL)
    return {"public_id": ready.public_id, "inspection": running.public_id}


READY, FULL, FAILED = task(TaskStatus.READY), task(TaskStatus.FULL), task(TaskStatus.FAILED)

ROWS = [
    Row("task_list", get=(302, 200, 200, 200, 200, 200)),
    # A viewer operates no account. The outsider does not operate this one.
    Row(
        "task_create",
        get=(302, 200, 200, 200, 200, 200),
        post=(302, 422, 422, 302, 302, 302),
        data=lambda world: {"account": world.account.public_id},
    ),
    # The question, which lists only what the person may see (of nothing, none is asked); the answer to it is a result per task.
    Row(
        "task_bulk",
        post=(302, 302, 200, 200, 200, 200),
        data=lambda world: {"task": world.extra[TaskStatus.FULL].public_id, "action": "pause"},
    ),
    # The owner of the source sees a page of its own, and may end the reading; nothing else.
    Row("task_detail", FULL, get=(302, 404, 200, 200, 200, 200), partner=(200, 405)),
    Row("task_shared_list", get=(302, 200, 200, 200, 200, 200)),
    Row(
        "task_shared_stop",
        FULL,
        get=(302, 404, 404, 404, 404, 404),
        post=(302, 404, 404, 404, 404, 404),
        data=lambda world: {"how": "pause", "reason": "Peak hours."},
        partner=(200, 302),
    ),
    Row(
        "task_setup",
        lambda world: READY(world) | {"step": "sides"},
        get=(302, 404, 302, 200, 200, 200),
        post=(302, 404, 403, 422, 422, 422),
    ),
    Row("task_settings", FULL, get=(302, 404, 403, 200, 200, 200), post=(302, 404, 403, 422, 422, 422)),
    # A side of the fleet is changed on its own page.
    Row(
        "task_connection",
        lambda world: FULL(world) | {"side": "source"},
        get=(302, 404, 403, 302, 302, 302),
        post=(302, 404, 403, 302, 302, 302),
    ),
    Row("task_checks", FULL, get=(302, 404, 200, 200, 200, 200)),
    Row("task_charts", FULL, get=(302, 404, 200, 200, 200, 200)),
    Row("task_log", FULL, get=(302, 404, 200, 200, 200, 200)),
    Row("task_log_tail", FULL, get=(302, 404, 204, 204, 204, 204)),
    Row("task_log_download", FULL, get=(302, 404, 200, 200, 200, 200)),
    # Another task runs into the same target: an operator is told so.
    Row("task_start", READY, post=(302, 404, 403, 409, 409, 409)),
    Row("task_pause", FULL, post=(302, 404, 403, 302, 302, 302)),
    Row("task_release", FAILED, get=(302, 404, 403, 200, 200, 200), post=(302, 404, 403, 302, 302, 302)),
    Row("task_stop", FULL, get=(302, 404, 403, 200, 200, 200), post=(302, 404, 403, 302, 302, 302)),
    Row("task_resume", FAILED, get=(302, 404, 403, 200, 200, 200), post=(302, 404, 403, 409, 409, 409)),
    Row("task_delete", FAILED, get=(302, 404, 403, 200, 200, 200), post=(302, 404, 403, 302, 302, 302)),
    Row("verification_list", FULL, get=(302, 404, 200, 200, 200, 200)),
    Row(
        "verification_start",
        FAILED,
        get=(302, 404, 403, 200, 200, 200),
        post=(302, 404, 403, 302, 302, 302),
        data=lambda world: {"mode": "quick", "percent": "100", "tolerance": "2"},
    ),
    Row("verification_detail", inspection(InspectionKind.VERIFICATION), get=(302, 404, 200, 200, 200, 200)),
    # It has ended.
    Row("verification_cancel", inspection(InspectionKind.VERIFICATION), post=(302, 404, 403, 409, 409, 409)),
    Row(
        "verification_repair",
        inspection(InspectionKind.VERIFICATION),
        post=(302, 404, 403, 200, 200, 200),
        data=lambda world: {"key": world.extra["difference"].pk},
    ),
    Row(
        "verification_download",
        inspection(InspectionKind.VERIFICATION, form="differences.csv"),
        get=(302, 404, 200, 200, 200, 200),
    ),
    Row("correction_detail", inspection(InspectionKind.CORRECTION), get=(302, 404, 200, 200, 200, 200)),
    # The connectivity test comes first: whoever may set the task up is led there.
    Row(
        "task_setup_commands",
        at(TaskStatus.READY, database="all"),
        get=(302, 404, 302, 302, 302, 302),
        post=(302, 404, 403, 302, 302, 302),
    ),
    Row("task_precheck", READY, post=(302, 404, 403, 302, 302, 302)),
    Row(
        "task_precheck_ignore",
        ignored,
        get=(302, 404, 403, 200, 200, 200),
        post=(302, 404, 403, 302, 302, 302),
        data=lambda world: {"reason": "The target has room."},
    ),
    # The item has no repair: an operator is told so.
    Row(
        "task_precheck_repair",
        ignored,
        get=(302, 404, 403, 200, 200, 200),
        post=(302, 404, 403, 409, 409, 409),
    ),
    Row("task_repairs_restore", READY, post=(302, 404, 403, 409, 409, 409)),
    Row("task_inspection_cancel", rehearsal, post=(302, 404, 403, 302, 302, 302)),
    Row("task_rehearsal", READY, get=(302, 404, 200, 200, 200, 200), post=(302, 404, 403, 302, 302, 302)),
]
