"""What contacts are still to be told: written in the transaction of what happened, turned into messages by a job."""

from __future__ import annotations

from django.db import models

from events.choices import OccasionKind
from events.models.events import Event


class Occasion(models.Model):
    """One thing that happened to one event, to be told once. `key` makes it one for ever, whoever writes it twice.

    `facts` is what the messages need and the event no longer says by then (the old time, who changed it).
    """

    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="occasions")
    key = models.CharField(max_length=60, help_text="For example changed:3 or reminder:2:24.")
    kind = models.CharField(max_length=12, choices=OccasionKind.choices)
    facts = models.JSONField(default=dict, blank=True)
    batch = models.CharField(
        max_length=40, blank=True, db_index=True,
        help_text="Of a campaign or a bulk change: one contact gets one message of many of the same batch.",
    )  # fmt: skip
    at = models.DateTimeField(auto_now_add=True)
    due_at = models.DateTimeField(help_text="When it is to be told.")
    told_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["event", "key"], name="occasion_once")]
        indexes = [
            models.Index(fields=["due_at"], name="occasion_waiting", condition=models.Q(told_at__isnull=True))
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.event_id}"
