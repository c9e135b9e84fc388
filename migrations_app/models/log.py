"""What happened to a task: its log, and how long it was in each phase."""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models

from migrations_app.choices import LogLevel, TaskStatus
from migrations_app.models.tasks import MigrationTask


class LogQuerySet(models.QuerySet["LogEntry"]):
    def update(self, **kwargs: Any) -> NoReturn:
        raise TypeError("Log entries are not changed.")


class LogEntry(models.Model):
    """One thing that happened to a task. Rows are added and never changed; they go with their task."""

    task = models.ForeignKey(MigrationTask, on_delete=models.CASCADE, related_name="log", db_index=False)
    at = models.DateTimeField()
    level = models.CharField(max_length=8, choices=LogLevel.choices, default=LogLevel.INFO)
    event = models.CharField(max_length=64)
    message = models.TextField()
    fields = models.JSONField(default=dict, blank=True)

    objects = LogQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        verbose_name_plural = "log entries"
        # Pages read one task from the newest on. It serves the foreign key as well, which has no index of its own.
        indexes = [
            models.Index(fields=["task", "id"], name="log_of_task"),
            # The few lines that are more than information, among millions that are not.
            models.Index(
                fields=["task", "id"], name="log_trouble", condition=models.Q(level__in=["warning", "error"])
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event}: {self.message}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk is not None:
            raise TypeError("Log entries are not changed.")
        super().save(*args, **kwargs)

    @property
    def level_badge(self) -> LogLevel:
        return LogLevel(self.level)


class PhaseSpan(models.Model):
    """For how long a task was in a status. The newest row of a task has no end."""

    task = models.ForeignKey(MigrationTask, on_delete=models.CASCADE, related_name="spans", db_index=False)
    status = models.CharField(max_length=16, choices=TaskStatus.choices)
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]
        indexes = [models.Index(fields=["task", "id"], name="span_of_task")]

    def __str__(self) -> str:
        return f"{self.task}: {self.status} from {self.began_at}"
