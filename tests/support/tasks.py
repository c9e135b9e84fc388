"""Tasks that need no cluster `default` to come to their start."""

from __future__ import annotations

from django.utils import timezone

from migrations_app.choices import InspectionKind, InspectionStatus, TaskStatus
from migrations_app.models import Inspection, MigrationTask
from migrations_app.services import status, tasks


def prechecked(task: MigrationTask) -> MigrationTask:
    """As if a worker had just made its precheck, and it had passed: the task is ready."""
    assert not tasks.missing(task), tasks.missing(task)
    before = (TaskStatus.NOT_CONFIGURED, TaskStatus.PRECHECK_FAILED, TaskStatus.READY)
    assert status.move(task.pk, before, TaskStatus.READY)
    task.refresh_from_db()
    return passed(task)


def passed(task: MigrationTask) -> MigrationTask:
    """The row of the precheck alone."""
    Inspection.objects.create(
        task=task,
        kind=InspectionKind.PRECHECK,
        status=InspectionStatus.DONE,
        passed=True,
        fingerprint=tasks.fingerprint(task),
        started_at=timezone.now(),
        finished_at=timezone.now(),
    )
    return task
