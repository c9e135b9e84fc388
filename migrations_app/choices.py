"""Statuses, phases and levels of migration tasks, with the badge that shows each."""

from __future__ import annotations

from typing import Final

from django.db import models

from portal.choices import BadgedChoices


class TaskStatus(BadgedChoices):
    """Where a task stands. What may follow and which action is open is the table in `states.py`."""

    READY = "ready", "neutral", "clipboard", "Ready"
    STARTING = "starting", "info", "clock", "Starting"
    FULL = "full", "info", "copy", "Full sync"
    INCREMENTAL = "incremental", "info", "refresh", "Incremental"
    RETRYING = "retrying", "warning", "alert", "Retrying"
    STOPPING = "stopping", "warning", "stop-circle", "Stopping"
    STOPPED = "stopped", "neutral", "stop-circle", "Stopped early"
    COMPLETED = "completed", "success", "check-circle", "Successful"
    FAILED = "failed", "danger", "x-circle", "Failed"

    @property
    def is_active(self) -> bool:
        """A worker has the task's link, or is to take it: the task may write to its target."""
        return self in ACTIVE

    @property
    def is_final(self) -> bool:
        """Nothing happens any more unless somebody acts: live pages stop to poll."""
        return self in FINAL


ACTIVE: Final = frozenset(
    {TaskStatus.STARTING, TaskStatus.FULL, TaskStatus.INCREMENTAL, TaskStatus.RETRYING, TaskStatus.STOPPING}
)
FINAL: Final = frozenset({TaskStatus.STOPPED, TaskStatus.COMPLETED, TaskStatus.FAILED})


class Phases(models.TextChoices):
    """What a task does."""

    FULL_INCREMENTAL = "full+incremental", "Full + incremental"
    FULL = "full", "Full only"


class Desired(models.TextChoices):
    """What is wanted of a link. The worker that owns it looks every second or so."""

    RUN = "run", "Run"
    PAUSE = "pause", "Pause"
    STOP = "stop", "Stop"


class LogLevel(BadgedChoices):
    INFO = "info", "neutral", "info", "Info"
    WARNING = "warning", "warning", "alert", "Warning"
    ERROR = "error", "danger", "x-circle", "Error"
