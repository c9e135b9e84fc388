"""The fence of a released task: its target is told to shut out every worker that may still have a connection (R56).

In the database the release is valid at once. What is told here reaches the target as soon as that answers; for a while it is
tried again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.utils import timezone

from migrations_app.choices import InspectionKind, InspectionStatus, LogLevel, TaskStatus
from migrations_app.models import Inspection, MigrationTask
from migrations_app.services import inspections, links
from portal.errors import Conflict

ATTEMPTS: Final = 10
FIRST_PAUSE: Final = 15  # seconds; doubled after each attempt
LONGEST_PAUSE: Final = 1800
FOR: Final = timedelta(days=1)


def ask(task: MigrationTask) -> None:
    """Have the target told, unless no worker has ever had the link."""
    task.link.refresh_from_db()
    if task.link.epoch > 1:  # the release itself has raised it by one
        # Also when a role was revoked: to keep off a target needs nobody's permission.
        inspections.request(None, task, InspectionKind.FENCE, check_roles=False, epoch=task.link.epoch)


def concluded(inspection: Inspection) -> None:
    """What the log says of an attempt."""
    task = inspection.task
    if inspection.status == InspectionStatus.DONE:
        links.note(
            task,
            "task.fenced",
            "The target has been told: whatever an earlier worker of this task may still send is refused there.",
        )
        return
    count = Inspection.objects.filter(task=task, kind=InspectionKind.FENCE).count()
    further = (
        "It will be tried again."
        if count < ATTEMPTS
        else "It is not tried again: close the connections whose name begins with "
        f"switchyard:{task.public_id}: on the target yourself (CLIENT LIST, CLIENT KILL), or revoke the write permission."
    )
    links.note(
        task,
        "task.not_fenced",
        f"The target could not be told of the release: {inspection.failure_message or 'the job was cancelled'} {further}",
        LogLevel.WARNING,
    )


def due() -> list[int]:
    """Released tasks whose target is to be told once more, by their keys."""
    now = timezone.now()
    found = []
    recent = MigrationTask.objects.filter(status=TaskStatus.RELEASED, finished_at__gte=now - FOR)
    for task_id in (
        recent.filter(inspections__kind=InspectionKind.FENCE).distinct().values_list("pk", flat=True)
    ):
        tries = list(
            Inspection.objects.filter(task_id=task_id, kind=InspectionKind.FENCE)
            .order_by("-pk")
            .values_list("status", "finished_at")
        )
        last, ended = tries[0]
        pause = min(FIRST_PAUSE * 2 ** (len(tries) - 1), LONGEST_PAUSE)
        is_open = last in (InspectionStatus.FAILED, InspectionStatus.CANCELLED) and len(tries) < ATTEMPTS
        if is_open and ended is not None and ended + timedelta(seconds=pause) <= now:
            found.append(task_id)
    return found


def ask_again(task_id: int) -> bool:
    """Once more, unless somebody else has just asked."""
    task = MigrationTask.objects.select_related("account", "link").filter(pk=task_id).first()
    if task is None or task_id not in due():
        return False
    try:
        ask(task)
    except Conflict:
        return False
    return True


inspections.ENDED[InspectionKind.FENCE] = concluded
