"""Telling contacts: one message per contact and occasion, and its way over each of the contact's channels.

`notify` is called inside the transaction of what it tells of. It only writes rows; a job then sends each delivery
(services/deliveries.py, portal/delivery).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from portal.choices import Category, ChannelKind, DeliveryStatus
from portal.models import Account, Channel, Contact, Delivery, Instance, Membership, Notification
from portal.services.deliveries import BELL, ring_later
from portal.services.quiet import end_of_quiet_hours


@dataclass(frozen=True, slots=True)
class Message:
    """What a contact is told. `url` is the path of the page it is about; `payload` goes to webhooks and must be JSON."""

    subject: str
    text: str
    html: str = ""
    url: str = ""
    payload: Mapping[str, Any] | None = None
    attachments: Sequence[Mapping[str, str]] = ()
    """Each {"name", "type", "text"}."""


def notify(
    contacts: Iterable[Contact], occasion: str, category: Category, message: Message, *, urgent: bool = False
) -> list[Notification]:
    """Tell each of them who wants to hear of this category, once for this occasion, ever. Returns what is new.

    Quiet hours hold everything but the inbox back, unless it is urgent.
    """
    made = []
    with transaction.atomic():
        for contact in contacts:
            if category in contact.categories:
                told = tell(contact, occasion, category, message, urgent=urgent)
                if told is not None:
                    made.append(told)
    return made


def tell(
    contact: Contact, occasion: str, category: Category, message: Message, *, urgent: bool = False
) -> Notification | None:
    """One contact, whatever it wants to hear of. None if it was told of this occasion before. Call it inside a transaction."""
    channels = reach_of(contact)
    has_inbox = any(channel.kind == ChannelKind.INBOX for channel in channels)
    notification, is_new = Notification.objects.get_or_create(
        contact=contact,
        occasion=occasion[:200],
        defaults={
            "account_id": contact.account_id,
            "user_id": contact.user_id if has_inbox else None,
            "category": category,
            "urgent": urgent,
            "subject": " ".join(message.subject.split())[:200],
            "text": message.text,
            "html": message.html,
            "url": message.url[:300],
            "payload": dict(message.payload or {}),
            "attachments": [dict(one) for one in message.attachments],
        },
    )
    if not is_new:
        return None
    _send_on(notification, contact, channels)
    return notification


def _send_on(notification: Notification, contact: Contact, channels: Iterable[Channel]) -> None:
    """A delivery for each channel that leaves the console. The inbox has it by being there."""
    now = timezone.now()
    quiet_until = None if notification.urgent else end_of_quiet_hours(contact, now)
    for channel in channels:
        if channel.kind == ChannelKind.INBOX:
            continue
        delivery = Delivery.objects.create(
            notification=notification,
            channel=channel,
            kind=channel.kind,
            status=DeliveryStatus.HELD if quiet_until else DeliveryStatus.PENDING,
            next_at=quiet_until or now + BELL,
        )
        if not quiet_until:
            ring_later(delivery.pk)


def reach_of(contact: Contact) -> list[Channel]:
    """The channels by which the contact is really reached: a mail needs an address, an inbox a member of the account."""
    found = []
    for channel in contact.channels.filter(enabled=True):
        if channel.kind == ChannelKind.MAIL and not contact.email:
            continue
        if channel.kind == ChannelKind.INBOX and not _reads_inbox(contact):
            continue
        found.append(channel)
    return found


def _reads_inbox(contact: Contact) -> bool:
    user = contact.user
    if user is None or not user.is_active:
        return False
    return user.is_superuser or Membership.objects.filter(account_id=contact.account_id, user=user).exists()


def contacts_for(account: Account, category: Category, instance: Instance | None = None) -> list[Contact]:
    """Whom to tell: the contacts that the instance names for itself, else those of the account, in their order."""
    if instance is not None:
        own = Contact.objects.filter(instance_contacts__instance=instance)
        found = [one for one in own if category in one.categories]
        if found:
            return found
    return [one for one in Contact.objects.filter(account=account) if category in one.categories]
