"""What contacts were told about a task."""

from __future__ import annotations

from django.db import models

from migrations_app.choices import AlertKind
from migrations_app.models.tasks import MigrationTask


class TaskAlert(models.Model):
    """A trouble of a task, from its beginning to its end. At most one of a kind is open."""

    task = models.ForeignKey(MigrationTask, on_delete=models.CASCADE, related_name="task_alerts")
    kind = models.CharField(max_length=16, choices=AlertKind.choices)
    since = models.DateTimeField(help_text="When the condition began.")
    raised_at = models.DateTimeField(null=True, blank=True, help_text="Empty: not for long enough yet.")
    last_sent_at = models.DateTimeField(null=True, blank=True)
    times_sent = models.PositiveIntegerField(default=0)
    better_since = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    details = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["task", "kind"],
                condition=models.Q(resolved_at__isnull=True),
                name="one_open_alert_of_a_kind",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.task}"
