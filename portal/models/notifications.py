"""Whom to tell, how to reach them, and what they were told."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from portal.choices import Category, ChannelKind, DeliveryStatus
from portal.fields import EncryptedTextField
from portal.models.accounts import Account
from portal.models.ids import public_id
from portal.models.instances import Instance


def notification_id() -> str:
    return public_id("msg")


class Contact(models.Model):
    """A person (or a team) of an account who is told about some categories of things."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="contacts")
    name = models.CharField(max_length=120)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="contacts",
        help_text="Whose inbox is meant; empty: nobody's.",
    )  # fmt: skip
    email = models.EmailField(blank=True)
    categories = models.JSONField(default=list, blank=True, help_text="Values of portal.choices.Category.")
    quiet_from = models.TimeField(null=True, blank=True)
    quiet_to = models.TimeField(null=True, blank=True)
    time_zone = models.CharField(
        max_length=64, default="UTC", help_text="Of the quiet hours and of times in messages."
    )
    order = models.PositiveIntegerField(default=0, help_text="Who is asked first when something is urgent.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["order", "name", "pk"]

    def __str__(self) -> str:
        return self.name


class InstanceContact(models.Model):
    """A contact that an instance names for itself, instead of those of its account."""

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="instance_contacts")
    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, related_name="instance_contacts")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["instance", "contact"], name="instance_contact_once")]

    def __str__(self) -> str:
        return f"{self.contact} for {self.instance}"


class Channel(models.Model):
    """One way to reach a contact."""

    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, related_name="channels")
    kind = models.CharField(max_length=12, choices=ChannelKind.choices)
    address = EncryptedTextField(
        blank=True, default="", help_text="The URL of apprise or of the webhook: it can hold a token."
    )
    secret = EncryptedTextField(blank=True, default="", help_text="Of the webhook: signs what is sent.")
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.contact}"


class Notification(models.Model):
    """What one contact is told on one occasion. `occasion` names it for ever: the same one is told once."""

    public_id = models.CharField(max_length=16, unique=True, default=notification_id, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="notifications")
    contact = models.ForeignKey(Contact, null=True, on_delete=models.SET_NULL, related_name="notifications")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="inbox"
    )
    occasion = models.CharField(max_length=200, help_text="For example task:mt-…:alert:12:raised.")
    category = models.CharField(max_length=16, choices=Category.choices)
    urgent = models.BooleanField(default=False)
    subject = models.CharField(max_length=200)
    text = models.TextField()
    html = models.TextField(blank=True)
    attachments = models.JSONField(default=list, blank=True, help_text="[{name, type, text}]")
    url = models.CharField(max_length=300, blank=True, help_text="The page it is about, without the host.")
    payload = models.JSONField(default=dict, blank=True, help_text="What a webhook gets.")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [models.UniqueConstraint(fields=["contact", "occasion"], name="told_once")]
        indexes = [models.Index(fields=["user", "read_at", "-id"], name="inbox_of_user")]

    def __str__(self) -> str:
        return self.subject


class Delivery(models.Model):
    """A notification on its way over one channel."""

    notification = models.ForeignKey(Notification, on_delete=models.CASCADE, related_name="deliveries")
    channel = models.ForeignKey(Channel, null=True, on_delete=models.SET_NULL, related_name="deliveries")
    kind = models.CharField(max_length=12, choices=ChannelKind.choices)
    status = models.CharField(max_length=8, choices=DeliveryStatus.choices, default=DeliveryStatus.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField(null=True, blank=True, help_text="Empty: not again.")
    lease_until = models.DateTimeField(
        null=True, blank=True, help_text="Until then one worker is sending it."
    )
    sent_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["pk"]
        verbose_name_plural = "deliveries"
        constraints = [models.UniqueConstraint(fields=["notification", "channel"], name="delivered_once")]
        indexes = [models.Index(fields=["status", "next_at"], name="delivery_waiting")]

    def __str__(self) -> str:
        return f"{self.notification} by {self.kind}"

    @property
    def status_badge(self) -> DeliveryStatus:
        return DeliveryStatus(self.status)

    @property
    def has_ended(self) -> bool:
        """Nothing more is tried unless somebody asks for it."""
        return self.status in (DeliveryStatus.SENT, DeliveryStatus.FAILED)
