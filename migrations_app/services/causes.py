"""Which failures can pass by themselves, and when it is looked at whether one has (R55; `recovery.py`)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.utils import timezone

from migrations_app.choices import TaskStatus
from migrations_app.models import MigrationTask, PhaseSpan

# Ids of the engine's errors whose cause can pass without anybody touching the task.
PASSING: Final = frozenset(
    {
        "connection.failed", "connection.host_unknown", "connection.refused", "connection.timeout", "connection.lost",
        "connection.tls", "connection.not_tls", "connection.not_redis",
        "sentinel.unreachable", "sentinel.unknown_master",
        "server.loading", "server.not_master", "cluster.down", "cluster.not_ready", "cluster.changed",
        "auth.refused", "auth.permission", "credential.unreadable",
        "source.not_ready", "source.output_buffer", "source.repl_timeout",
        "target.out_of_memory", "target.read_only", "target.demoted",
        "spool.failed", "link.retry_time_exceeded",
    }
)  # fmt: skip
# A write that is refused for one of these reasons is taken later: the disk is full, replicas are missing.
_PASSING_REFUSALS: Final = ("MISCONF", "NOREPLICAS")
PAUSES: Final = (15, 30, 60, 120, 300, 600, 1800)  # seconds before each look, the last one from then on
WELL_AFTER: Final = timedelta(minutes=15)  # a run that has lasted so long was no mere attempt


def can_pass(failure_id: str, message: str) -> bool:
    return failure_id in PASSING or (
        failure_id == "target.refused" and any(sign in message for sign in _PASSING_REFUSALS)
    )


def after_failure(task: MigrationTask, failure_id: str, message: str) -> dict[str, Any]:
    """The columns that say whether and when the first look is due."""
    if not can_pass(failure_id, message):
        return {"resume_next_at": None}
    now = timezone.now()
    began = (
        PhaseSpan.objects.filter(task=task, status=TaskStatus.STARTING)
        .order_by("-pk")
        .values_list("began_at", flat=True)
        .first()
    )
    lasted = began is not None and now - began > WELL_AFTER
    attempts = 0 if lasted else task.resume_attempts
    return {"resume_attempts": attempts, "resume_next_at": now + pause_after(attempts)}


def pause_after(attempts: int) -> timedelta:
    return timedelta(seconds=PAUSES[min(attempts, len(PAUSES) - 1)])
