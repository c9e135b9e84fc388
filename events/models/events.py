"""Events and the campaigns that group them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.urls import reverse

from events.choices import FINAL, OPEN, UNFINISHED, EventStatus, Impact, Level
from events.models.catalogue import EventType
from portal.models import Account, Instance
from portal.models.ids import public_id


def event_id() -> str:
    return public_id("ev")


def campaign_id() -> str:
    return public_id("cp")


class Campaign(models.Model):
    """One piece of work over many instances."""

    public_id = models.CharField(
        "campaign ID", max_length=16, unique=True, default=campaign_id, editable=False
    )
    name = models.CharField(max_length=120)
    type = models.ForeignKey(EventType, on_delete=models.PROTECT, related_name="campaigns")
    description = models.TextField(blank=True)
    selection = models.JSONField(default=dict, blank=True, help_text="What its instances were chosen by.")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"

    def get_absolute_url(self) -> str:
        return reverse("event_campaign", args=[self.public_id])


def keep_history(collector: Any, field: Any, sub_objs: Any, using: str) -> None:
    """An instance with unfinished events is not deleted; those that have ended forget it, and keep its name."""
    unfinished = [event for event in sub_objs if event.status in UNFINISHED]
    if unfinished:
        raise models.ProtectedError("Unfinished events refer to the instance.", set(unfinished))
    models.SET_NULL(collector, field, sub_objs, using)


def sees_all(user: Any) -> bool:
    """Staff who look after the events of every account."""
    return bool(user.is_active and user.is_staff and user.has_perm("events.view_event"))


class EventQuerySet(models.QuerySet["Event"]):
    def visible_to(self, user: Any) -> EventQuerySet:
        """Of the person's accounts; all of them for staff who look after events."""
        if not user.is_active or not user.pk:
            return self.none()
        return self if sees_all(user) else self.filter(account__members=user)

    def open(self) -> EventQuerySet:
        """Announced and not begun."""
        return self.filter(status__in=OPEN)

    def ended(self) -> EventQuerySet:
        return self.filter(status__in=FINAL)


class Event(models.Model):
    """One piece of announced work on one instance.

    What the type and the instance say is copied when the event is published: it goes on saying what people were told. All times
    are moments; `switch_at` and `starts_at` are empty while a time is to be chosen. `revision` counts the changes of time and status:
    whoever changes an event says which one was seen.
    """

    public_id = models.CharField("event ID", max_length=16, unique=True, default=event_id, editable=False)
    type = models.ForeignKey(EventType, on_delete=models.PROTECT, related_name="events")
    campaign = models.ForeignKey(
        Campaign, null=True, blank=True, on_delete=models.PROTECT, related_name="events"
    )
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="events")
    instance = models.ForeignKey(
        Instance, null=True, blank=True, on_delete=keep_history, related_name="events",
        help_text="Empty once it was deleted; the event remembers name and ID.",
    )  # fmt: skip
    instance_name = models.CharField(max_length=120)
    instance_public_id = models.CharField("instance ID", max_length=16)
    region = models.CharField(max_length=60, blank=True, db_index=True)
    zone = models.CharField(max_length=60, blank=True)

    level = models.CharField(max_length=2, choices=Level.choices, default=Level.S1)
    cause = models.TextField()
    impacts = models.JSONField(default=list, blank=True)
    advice = models.TextField(blank=True)
    version_from = models.CharField("current version", max_length=60, blank=True)
    version_to = models.CharField("target version", max_length=60, blank=True)
    release_notes = models.URLField(max_length=300, blank=True)

    created_at = models.DateTimeField("announced")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    starts_at = models.DateTimeField("preparation starts", null=True, blank=True)
    switch_at = models.DateTimeField("switchover", null=True, blank=True)
    proposed_at = models.DateTimeField(
        null=True, blank=True, help_text="The first switch time that was announced."
    )
    deadline = models.DateTimeField(help_text="The latest switch time.")
    preparation_seconds = models.PositiveIntegerField(default=0)
    switch_seconds = models.PositiveIntegerField(default=600)
    impact_seconds = models.PositiveIntegerField("typical impact", default=30)
    may_change = models.BooleanField("time may be changed", default=True)
    may_cancel = models.BooleanField(default=False)
    deferrals = models.PositiveIntegerField(default=0, help_text="How often a later time was chosen.")

    status = models.CharField(max_length=10, choices=EventStatus.choices, default=EventStatus.PENDING)
    revision = models.PositiveIntegerField(default=0)
    hold_reason = models.TextField(blank=True, help_text="Why it has not begun although it is time.")
    executor = models.CharField(max_length=20, default="manual")
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)

    started_at = models.DateTimeField(null=True, blank=True)
    switched_at = models.DateTimeField(null=True, blank=True, help_text="When the switchover really began.")
    finished_at = models.DateTimeField(null=True, blank=True)
    measured_seconds = models.FloatField("measured impact", null=True, blank=True)
    result = models.TextField(blank=True, help_text="What became of it, or why it was cancelled.")

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        permissions = [("publish_event", "Can publish events")]
        constraints = [
            models.CheckConstraint(
                name="event_has_a_time",
                condition=models.Q(status__in=[EventStatus.WAITING, EventStatus.CANCELLED])
                | models.Q(switch_at__isnull=False, starts_at__isnull=False),
            )
        ]
        indexes = [
            models.Index(fields=["status", "starts_at"], name="event_due"),
            models.Index(fields=["account", "status", "switch_at"], name="event_of_account"),
            models.Index(fields=["instance", "status"], name="event_of_instance"),
            models.Index(fields=["region", "status", "switch_at"], name="event_in_region"),
            models.Index(fields=["type", "status", "-finished_at"], name="event_of_type"),
        ]

    def __str__(self) -> str:
        return f"{self.type.name} of {self.instance_name} ({self.public_id})"

    def get_absolute_url(self) -> str:
        return reverse("event_detail", args=[self.public_id])

    @property
    def status_badge(self) -> EventStatus:
        return EventStatus(self.status)

    @property
    def level_badge(self) -> Level:
        return Level(self.level)

    @property
    def is_urgent(self) -> bool:
        return self.level == Level.S0

    @property
    def is_simulated(self) -> bool:
        """Nothing is really done: for training and demonstrations. It must be said wherever the event is shown."""
        return self.executor == "simulated"

    @property
    def is_open(self) -> bool:
        return self.status_badge.is_open

    @property
    def preparation(self) -> timedelta:
        return timedelta(seconds=self.preparation_seconds)

    @property
    def changes_address(self) -> bool:
        return any(one.get("kind") == Impact.ADDRESS for one in self.impacts)
