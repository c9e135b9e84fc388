"""Failed tasks that resume by themselves (R55): within seven days, once what made them fail has passed.

Only failures that can pass are waited for (a server that was away, a password, memory or disk that was full). What needs a person's
consent, or tells of data that cannot be trusted, is never resumed. Every tick may look; the row decides who does.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import F, Q
from django.utils import timezone
from django_q.tasks import async_task

from migrations_app.choices import LogLevel, TaskStatus
from migrations_app.models import MigrationTask
from migrations_app.services import causes, inspections, links
from migrations_app.services.launch import launch
from migrations_app.states import RESUMABLE_FOR
from portal.errors import ServiceError
from portal.patience import patient
from portal.services import audit


def due() -> list[tuple[int, datetime]]:
    """Failed tasks that are to be looked at now, each with the moment for which that was planned."""
    rows = MigrationTask.objects.filter(status=TaskStatus.FAILED, resume_next_at__lte=timezone.now())
    return [(pk, moment) for pk, moment in rows.values_list("pk", "resume_next_at") if moment is not None]


@patient
def claim(task_id: int, moment: datetime) -> bool:
    """Be the one who looks. Plans the next look; once the seven days are over there is none, which the log says."""
    planned = MigrationTask.objects.filter(pk=task_id, status=TaskStatus.FAILED, resume_next_at=moment)
    now = timezone.now()
    if planned.filter(finished_at__lt=now - RESUMABLE_FOR).update(resume_next_at=None):
        task = MigrationTask.objects.get(pk=task_id)
        links.note(
            task,
            "task.not_resumed",
            "The cause of the failure has not passed within 7 days: the task cannot be resumed any more. Create a new one.",
            LogLevel.WARNING,
        )
        audit.record(None, "task.not_resumed", task)
        return False
    attempts = planned.values_list("resume_attempts", flat=True).first()
    if attempts is None:
        return False
    return bool(
        planned.update(
            resume_attempts=F("resume_attempts") + 1, resume_next_at=now + causes.pause_after(attempts + 1)
        )
    )


def ring(task_id: int) -> None:
    """Have a worker of the cluster `default` look whether both sides answer."""
    async_task(
        "migrations_app.jobs.try_resume",
        task_id,
        cluster=inspections.CLUSTER,
        task_name=f"resume-{task_id}",
        save=False,
    )


def candidate(task_id: int) -> MigrationTask | None:
    """The task, if it still waits for its cause to pass."""
    return (
        MigrationTask.objects.select_related("account", "source__endpoint", "target__endpoint", "link")
        .filter(
            Q(resume_next_at__isnull=False),
            pk=task_id,
            status=TaskStatus.FAILED,
            finished_at__gte=timezone.now() - RESUMABLE_FOR,
        )
        .first()
    )


@patient
def resume(task: MigrationTask) -> bool:
    """Both sides are well again: go on where the link stood. False if somebody else has acted meanwhile, or it may not run."""
    cause = task.failure_id
    try:
        launch(
            task,
            (TaskStatus.FAILED,),
            unchanged="The task was not resumed.",
            finished_at=None,
            failure_id="",
            failure_message="",
            failure_advice="",
            resume_next_at=None,
        )
    except ServiceError:
        return False
    links.note(
        task, "task.resumed", "Both sides are well again: the system resumed the task by itself.", cause=cause
    )
    audit.record(None, "task.resumed", task, by_itself=True, cause=cause)
    return True
