"""How a task gets going: the compare-and-swap of start and resume, and the bell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from migrations_app.choices import Desired, TaskStatus
from migrations_app.models import Link, MigrationTask
from migrations_app.services import access, checks, links, status
from portal.errors import Conflict


def launch(task: MigrationTask, old: Iterable[TaskStatus], *, unchanged: str, **changes: Any) -> None:
    """To Starting, and a worker is asked for once that is committed. Raises Conflict, or Invalid where a role is gone."""
    access.require(task, unchanged=unchanged)
    checks.check_other_tasks(*task.both_sides(), unchanged=unchanged, but=task.pk)
    try:
        with transaction.atomic():
            changed = status.move(
                task.pk, old, TaskStatus.STARTING, start_when_ready=False, pause_reason="", paused_at=None, **changes
            )  # fmt: skip
    except IntegrityError:
        # Another task into this target was started between the check and here: the constraint decides.
        raise checks.target_taken(None, unchanged) from None
    if not changed:
        raise Conflict(
            f"The task {task.name} was started, deleted or changed by somebody else meanwhile. {unchanged}",
            advice="Load the page again.",
        )
    Link.objects.filter(task=task).update(desired=Desired.RUN, rung_at=Now())
    link_id = task.link.pk
    transaction.on_commit(lambda: links.ring(link_id))
