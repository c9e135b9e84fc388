"""The work of an event: who has it, its stages and its log."""

from __future__ import annotations

from django.db import models

from events.choices import LogLevel, Phase, StageStatus
from events.models.events import Event


class EventRun(models.Model):
    """The execution of an event, in steps. The row is the truth: any worker takes the next step under a lease.

    `state` is the executor's own, JSON, stored with each step. `next_step_at` empty: it waits for a person, or is over. `steps` counts
    those that were begun, and is the number of the lease; `attempts` those in a row of which no result was stored.
    """

    event = models.OneToOneField(Event, on_delete=models.CASCADE, related_name="run")
    phase = models.CharField(max_length=8, choices=Phase.choices, default=Phase.PREPARE)
    state = models.JSONField(default=dict, blank=True)
    next_step_at = models.DateTimeField(null=True, blank=True, db_index=True)
    owner = models.CharField(max_length=120, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    rung_at = models.DateTimeField(null=True, blank=True)
    steps = models.PositiveIntegerField(default=0)
    attempts = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"Execution of {self.event_id}"


class EventStage(models.Model):
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="stages")
    position = models.PositiveIntegerField()
    code = models.CharField(max_length=40)
    name = models.CharField(max_length=120)
    impact = models.CharField(max_length=200, blank=True, help_text="What clients notice of it.")
    phase = models.CharField(max_length=8, choices=Phase.choices)
    status = models.CharField(max_length=8, choices=StageStatus.choices, default=StageStatus.WAITING)
    began_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    impact_seconds = models.FloatField("measured impact", null=True, blank=True)
    detail = models.TextField(blank=True)

    class Meta:
        ordering = ["event", "position"]
        constraints = [models.UniqueConstraint(fields=["event", "position"], name="stage_once")]

    def __str__(self) -> str:
        return self.name

    @property
    def status_badge(self) -> StageStatus:
        return StageStatus(self.status)


class EventLogEntry(models.Model):
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="log")
    at = models.DateTimeField(auto_now_add=True)
    level = models.CharField(max_length=8, choices=LogLevel.choices, default=LogLevel.INFO)
    message = models.TextField()

    class Meta:
        ordering = ["pk"]
        verbose_name_plural = "event log entries"

    def __str__(self) -> str:
        return self.message

    @property
    def level_badge(self) -> LogLevel:
        return LogLevel(self.level)
