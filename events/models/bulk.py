"""A change of many events: previewed row by row, applied in the background, undone while the events are still pending."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.urls import reverse

from events.choices import BulkAction, BulkStatus, RowOutcome, Via
from events.models.events import Event
from portal.models.ids import public_id


def bulk_id() -> str:
    return public_id("bc")


class BulkChange(models.Model):
    public_id = models.CharField(max_length=16, unique=True, default=bulk_id, editable=False)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    via = models.CharField(max_length=8, choices=Via.choices, default=Via.CONSOLE)
    action = models.CharField(max_length=12, choices=BulkAction.choices)
    parameters = models.JSONField(default=dict, blank=True)
    undoes = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.CASCADE, related_name="undone_by"
    )
    status = models.CharField(max_length=8, choices=BulkStatus.choices, default=BulkStatus.PLANNING)
    total = models.PositiveIntegerField(default=0)
    done = models.PositiveIntegerField(default=0, help_text="Rows that were looked at since it was begun.")
    created_at = models.DateTimeField(auto_now_add=True)
    applied_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    owner = models.CharField(max_length=120, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    failure = models.TextField(blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.get_action_display()} ({self.public_id})"

    def get_absolute_url(self) -> str:
        return reverse("event_bulk", args=[self.public_id])

    @property
    def status_badge(self) -> BulkStatus:
        return BulkStatus(self.status)

    @property
    def percent(self) -> int:
        return 100 * self.done // self.total if self.total else 0


class BulkRow(models.Model):
    bulk = models.ForeignKey(BulkChange, on_delete=models.CASCADE, related_name="rows")
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="bulk_rows")
    position = models.PositiveIntegerField()
    seen_revision = models.PositiveIntegerField(default=0)
    old_switch_at = models.DateTimeField(null=True, blank=True)
    new_switch_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=8, choices=RowOutcome.choices, default=RowOutcome.PLANNED)
    refusal_id = models.CharField(max_length=64, blank=True)
    message = models.TextField(blank=True)
    applied_revision = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["bulk", "position"]
        constraints = [models.UniqueConstraint(fields=["bulk", "event"], name="bulk_event_once")]
        indexes = [models.Index(fields=["bulk", "position"], name="bulk_in_order")]

    def __str__(self) -> str:
        return f"{self.bulk_id}: {self.event_id}"

    @property
    def outcome_badge(self) -> RowOutcome:
        return RowOutcome(self.outcome)
