"""The retry time that takes effect: of tasks that share a source or a target, the lowest (R82)."""

from __future__ import annotations

from django.db.models import Q

from migrations_app.choices import HOLDING
from migrations_app.models import MigrationTask


def effective_retry(task: MigrationTask) -> tuple[int, MigrationTask]:
    """Minutes, and the task that sets them: the task itself, unless one that runs or is paused beside it has a lower value."""
    shared = Q()
    for side in ("source", "target"):
        instance = getattr(task, side)
        if instance is not None:
            shared |= Q(**{side: instance})
            if instance.run_id:  # the same server, entered once more
                shared |= Q(**{f"{side}__run_id": instance.run_id})
    if shared:
        lower = MigrationTask.objects.filter(
            shared, status__in=HOLDING, retry_minutes__lt=task.retry_minutes
        ).exclude(pk=task.pk)
        if (other := lower.order_by("retry_minutes", "pk").first()) is not None:
            return other.retry_minutes, other
    return task.retry_minutes, task
