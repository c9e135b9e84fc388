"""The one place where the status of a task changes, and with it the record of how long it was in each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.utils import timezone

from migrations_app.choices import TaskStatus
from migrations_app.models import MigrationTask, PhaseSpan


def move(task_id: int, old: Iterable[TaskStatus], new: TaskStatus, **changes: Any) -> bool:
    """Compare-and-swap to `new` from one of `old`, with other `changes` of the row. False if the status is another one by now."""
    with transaction.atomic():
        rows = MigrationTask.objects.filter(pk=task_id, status__in=list(old))
        if not rows.update(status=new, **changes):
            return False
        now = timezone.now()
        PhaseSpan.objects.filter(task_id=task_id, ended_at__isnull=True).update(ended_at=now)
        PhaseSpan.objects.create(task_id=task_id, status=new, began_at=now)
    return True


def begin(task: MigrationTask) -> None:
    """The first row of a task that was just made."""
    PhaseSpan.objects.create(task=task, status=task.status, began_at=timezone.now())
