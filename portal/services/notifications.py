"""Telling contacts: one message per contact and occasion, and its way over each of the contact's channels.

`notify` is called inside the transaction of what it tells of. It only writes rows; a job then sends each delivery
(services/deliveries.py, portal/delivery).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from portal.choices import Category, ChannelKind, DeliveryStatus
from portal.models import Account, Channel, Contact, Delivery, Instance, Membership, Notification
from portal.models.notifications import notification_id
from portal.services.deliveries import BELL, ring_later
from portal.services.quiet import end_of_quiet_hours

BATCH: Final = 500
RUNG_AT_ONCE: Final = 50
"""Of deliveries that are made together: the broker is not flooded."""


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
    notification, is_new = Notification.objects.get_or_create(
        contact=contact,
        occasion=occasion[:200],
        defaults=_fields(contact, channels, category, message, urgent=urgent),
    )
    if not is_new:
        return None
    _send_on(notification, contact, channels)
    return notification


def _fields(
    contact: Contact, channels: Iterable[Channel], category: Category, message: Message, *, urgent: bool
) -> dict[str, Any]:
    has_inbox = any(channel.kind == ChannelKind.INBOX for channel in channels)
    return {
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
    }


def _send_on(notification: Notification, contact: Contact, channels: Iterable[Channel]) -> None:
    """A delivery for each channel that leaves the console. The inbox has it by being there."""
    for delivery in _deliveries(notification, contact, channels):
        delivery.save()
        if delivery.status == DeliveryStatus.PENDING:
            ring_later(delivery.pk)


def _deliveries(notification: Notification, contact: Contact, channels: Iterable[Channel]) -> list[Delivery]:
    """Unsaved."""
    now = timezone.now()
    quiet_until = None if notification.urgent else end_of_quiet_hours(contact, now)
    return [
        Delivery(
            notification=notification,
            channel=channel,
            kind=channel.kind,
            status=DeliveryStatus.HELD if quiet_until else DeliveryStatus.PENDING,
            next_at=quiet_until or now + BELL,
        )
        for channel in channels
        if channel.kind != ChannelKind.INBOX
    ]


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


# --- Many at once -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Telling:
    """A contact, the channels that reach it (see reach_of), and what it is told on one occasion."""

    contact: Contact
    channels: Sequence[Channel]
    occasion: str
    message: Message
    urgent: bool = False


def tell_many(
    tellings: Iterable[Telling], category: Category, *, bells: int = RUNG_AT_ONCE
) -> list[Notification]:
    """What `tell` does for each of them, in a constant number of queries per thousand. Returns what is new. Call it inside a transaction.

    Workers are asked for the first so many deliveries; for the others the next ticks ask (deliveries.ring_due).
    """
    chosen = {(one.contact.pk, one.occasion[:200]): one for one in tellings}
    named = dict(zip(_free_ids(len(chosen)), chosen.values(), strict=True))
    rows = [
        Notification(
            public_id=public_id,
            contact=one.contact,
            occasion=one.occasion[:200],
            **_fields(one.contact, one.channels, category, one.message, urgent=one.urgent),
        )
        for public_id, one in named.items()
    ]
    Notification.objects.bulk_create(rows, ignore_conflicts=True, batch_size=BATCH)
    new: list[Notification] = []
    for part in _parts(list(named)):
        # Those that are not there were told before.
        told = Notification.objects.filter(public_id__in=part).order_by("pk")
        new += told.defer("text", "html", "attachments", "payload")
    waiting: list[Delivery] = []
    for row in new:
        one = named[row.public_id]
        waiting += _deliveries(row, one.contact, one.channels)
    ready = [row for row in waiting if row.status == DeliveryStatus.PENDING]
    for later in ready[bells:]:
        later.next_at = timezone.now()
    Delivery.objects.bulk_create(waiting, batch_size=BATCH)
    for bell in ready[:bells]:
        ring_later(bell.pk)
    return new


def _free_ids(count: int) -> list[str]:
    """Names that no message has yet: what is inserted under one of them, and ignored, was told before."""
    found: set[str] = set()
    while len(found) < count:
        fresh = {notification_id() for _ in range(count - len(found))}
        for part in _parts(list(fresh)):
            fresh -= set(Notification.objects.filter(public_id__in=part).values_list("public_id", flat=True))
        found |= fresh
    return list(found)


def _parts(values: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(values), BATCH):
        yield values[start : start + BATCH]
