"""What the views of a task share."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404

from migrations_app import present
from migrations_app.models import MigrationTask
from portal.htmx import HtmxHttpRequest
from portal.services.permissions import role_in

STOP_POLLING = 286  # htmx swaps the answer and asks no more


def visible_task(request: HtmxHttpRequest, public_id: str) -> MigrationTask:
    """The task, or 404 whether it does not exist or belongs to others."""
    rows = MigrationTask.objects.visible_to(request.user).select_related(
        "account",
        "created_by",
        "source__endpoint",
        "source__account",
        "target__endpoint",
        "target__account",
        "source_role",
        "target_role",
        "link__progress",
    )
    return get_object_or_404(rows, public_id=public_id)


def task_context(request: HtmxHttpRequest, task: MigrationTask) -> dict[str, Any]:
    role = role_in(request.user, task.account)
    return {
        "task": task,
        "view": present.TaskView(task),
        "can_operate": role is not None and role.can_operate,
    }
