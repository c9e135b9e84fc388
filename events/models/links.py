"""Links that work without a login: those in messages, and calendar feeds."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from events.models.events import Event
from portal.models import Account, Contact
from portal.models.ids import public_id


def feed_id() -> str:
    return public_id("cal")


class LinkUse(models.Model):
    """One press of a button behind a link of a message. A link changes a time once: the constraint decides between two presses."""

    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="link_uses")
    contact = models.ForeignKey(Contact, null=True, on_delete=models.SET_NULL, related_name="link_uses")
    contact_name = models.CharField(max_length=120)
    revision = models.PositiveIntegerField(help_text="Of the event, as the message told it.")
    action = models.CharField(max_length=20)
    at = models.DateTimeField(auto_now_add=True, db_index=True)
    address = models.CharField(max_length=60, blank=True, help_text="Where the request came from.")
    agent = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["event", "contact", "revision", "action"], name="link_used_once")
        ]

    def __str__(self) -> str:
        return f"{self.action} by {self.contact_name}"


class CalendarFeed(models.Model):
    """A secret address under which a person's calendar program reads the events of an account, or of all of the person's. Only a
    digest of the secret is stored."""

    public_id = models.CharField(max_length=16, unique=True, default=feed_id, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="calendar_feeds"
    )
    account = models.ForeignKey(
        Account, null=True, blank=True, on_delete=models.CASCADE, related_name="calendar_feeds"
    )
    name = models.CharField(max_length=120)
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.name


class RequestCount(models.Model):
    """How many requests without a login came from one address, or with one link, in the current minute. A row, as several processes
    answer requests."""

    key = models.CharField(max_length=100, unique=True)
    since = models.DateTimeField(db_index=True)
    count = models.PositiveIntegerField(default=1)

    def __str__(self) -> str:
        return f"{self.key}: {self.count}"
