"""Asking for a rehearsal: a dry run that reads a part of the source's snapshot, and writes nothing (`runner/rehearsal.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from migrations_app.choices import CONFIGURABLE, InspectionKind, TaskStatus
from migrations_app.models import Inspection, MigrationTask
from migrations_app.services import access, inspections
from portal.errors import Conflict, Invalid
from portal.patience import patient
from portal.services.permissions import require_operator

if TYPE_CHECKING:
    from django.contrib.auth.models import User

UNCHANGED = "No rehearsal was begun."
MEGABYTES: Final = 256
SECONDS: Final = 30
MOST_MEGABYTES: Final = 16 * 1024
MOST_SECONDS: Final = 3600


@patient
def request_rehearsal(
    actor: User | None, task: MigrationTask, *, megabytes: int = MEGABYTES, seconds: int = SECONDS
) -> Inspection:
    """A worker begins in a moment, and reads at most so much for so long. A server makes a snapshot for it, as for a replica: it forks.

    Raises NotPermitted, Invalid (a side is missing, a limit is none, or a role does not let the task read) or Conflict.
    """
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
    for field, value, most in (("megabytes", megabytes, MOST_MEGABYTES), ("seconds", seconds, MOST_SECONDS)):
        if not 1 <= value <= most:
            raise Invalid(
                f"A rehearsal cannot read {value:,} {field}. {UNCHANGED}",
                advice=f"Choose 1 to {most:,}.",
                id="rehearsal.limit",
                field=field,
            )
    access.require(task, unchanged=UNCHANGED)
    return inspections.request(actor, task, InspectionKind.REHEARSAL, megabytes=megabytes, seconds=seconds)
