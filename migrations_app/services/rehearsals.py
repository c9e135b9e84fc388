"""Asking for a rehearsal: a dry run that reads a part of the source's snapshot, and writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrations_app.choices import CONFIGURABLE, InspectionKind, TaskStatus
from migrations_app.models import Inspection, MigrationTask
from migrations_app.services import inspections
from portal.errors import Conflict, Invalid
from portal.services.permissions import require_operator

if TYPE_CHECKING:
    from django.contrib.auth.models import User

UNCHANGED = "No rehearsal was begun."


def request_rehearsal(actor: User | None, task: MigrationTask) -> Inspection:
    """A worker begins in a moment. Raises NotPermitted, Invalid (a side is missing) or Conflict."""
    require_operator(actor, task.account)
    if task.source is None or task.target is None:
        raise Invalid(
            f"Source and target are not chosen yet. {UNCHANGED}",
            advice="Choose both sides first.",
            id="task.side_missing",
        )
    if task.status_badge not in CONFIGURABLE | {TaskStatus.PRECHECKING}:
        raise Conflict(
            f"The task was started already, and a rehearsal comes before the start. {UNCHANGED}",
            advice="Create a new task to rehearse a new migration.",
            id="rehearsal.too_late",
        )
    return inspections.request(actor, task, InspectionKind.REHEARSAL)
