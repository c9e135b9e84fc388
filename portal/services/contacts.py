"""Contacts of an account (R8): who is told about what, how they are reached, and when not to wake them.

Operators and owners change them; every member of the account may see them. What is entered is checked here for every way in, but for
the addresses of channels, whose form only the senders know (portal/delivery): `Reach` holds those that were checked.
"""

from __future__ import annotations

import secrets
import zoneinfo
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from portal.choices import Category, ChannelKind
from portal.errors import Invalid, NotFound
from portal.keys import CredentialUnreadable
from portal.models import Account, Channel, Contact, Instance, InstanceContact, Notification
from portal.services import audit, notifications
from portal.services.permissions import require_operator

if TYPE_CHECKING:
    from django.contrib.auth.models import User

UNCHANGED: Final = "Nothing was saved."
MARK: Final = "whsec_"  # how every secret of a webhook begins
MOST_CHANNELS: Final = 5  # of one kind


@dataclass(frozen=True, slots=True)
class Details:
    """What a contact is to be. Quiet hours are both set or both empty."""

    name: str
    user: User | None = None
    """Whose inbox; a member of the account."""
    email: str = ""
    categories: Sequence[str] = ()
    quiet_from: time | None = None
    quiet_to: time | None = None
    time_zone: str = "UTC"
    order: int = 0


@dataclass(frozen=True, slots=True)
class Reach:
    """Channels with an address of their own that are added (their addresses) or removed (their keys)."""

    apprise: str = ""
    webhook: str = ""
    removed: Sequence[int] = field(default_factory=list)


def save_contact(
    actor: User | None, account: Account, details: Details, reach: Reach, contact: Contact | None = None
) -> tuple[Contact, str]:
    """A new contact, or `contact` changed. Returns it and the secret of a webhook that was added, which is never shown again.

    Raises NotFound, NotPermitted, and Invalid with the field: `contact.name_needed`, `contact.bad_email`, `contact.not_a_member`,
    `contact.bad_category`, `contact.quiet_hours`, `contact.bad_zone`, `contact.unreachable`, `contact.many_channels`.
    """
    require_operator(actor, account)
    _check(account, details)
    with transaction.atomic():
        if contact is None:
            row = Contact(account=account)
        else:
            row = _locked(account, contact.pk)
        before = _summary(row) if row.pk else {}
        for name in ("user", "email", "quiet_from", "quiet_to", "time_zone", "order"):
            setattr(row, name, getattr(details, name))
        row.name = details.name.strip()
        row.categories = [one.value for one in Category if one in details.categories]
        row.save()
        secret = _set_channels(row, reach)
        if row.categories and not notifications.reach_of(row):
            raise Invalid(
                f"Messages are switched on, but there is no way to reach {row.name}. {UNCHANGED}",
                advice="Enter a mail address, choose a user, or add a channel.",
                id="contact.unreachable",
                field="email",
            )
        after = _summary(row)
        changes = {key: value for key, value in after.items() if value != before.get(key)}
        audit.record(
            actor, "contact.changed" if contact else "contact.created", row, account=account, **changes
        )
    return row, secret


def delete_contact(actor: User | None, contact: Contact) -> None:
    """What it was told stays in the log of deliveries, and in the inbox of its user."""
    require_operator(actor, contact.account)
    with transaction.atomic():
        row = _locked(contact.account, contact.pk)
        audit.record(actor, "contact.deleted", row, account=row.account)
        row.delete()


def rotate_secret(actor: User | None, channel: Channel) -> str:
    """A new secret of a webhook; the old one signs nothing from now on. Shown once."""
    account = channel.contact.account
    require_operator(actor, account)
    secret = _new_secret()
    with transaction.atomic():
        row = Channel.objects.select_for_update().filter(pk=channel.pk, kind=ChannelKind.WEBHOOK).first()
        if row is None:
            raise NotFound(f"The contact has no such webhook any more. {UNCHANGED}")
        row.secret = secret
        row.save(update_fields=["secret"])
        audit.record(actor, "contact.secret_rotated", channel.contact, account=account)
    return secret


def send_test(actor: User | None, contact: Contact) -> Notification:
    """A message over all channels at once, also in quiet hours. Raises Invalid (`contact.unreachable`)."""
    require_operator(actor, contact.account)
    if not notifications.reach_of(contact):
        raise Invalid(
            f"There is no way to reach {contact.name}. Nothing was sent.",
            advice="Enter a mail address, choose a user, or add a channel.",
            id="contact.unreachable",
        )
    who = actor.get_username() if actor else "the system"
    message = notifications.Message(
        f"Test message for {contact.name}",
        f"{who} has sent this test message from Switchyard. It arrived: nothing else is to be done.",
        url=contact.account.get_absolute_url(),
        payload={"test": True},
    )
    category = Category(contact.categories[0]) if contact.categories else Category.MAINTENANCE
    with transaction.atomic():
        told = notifications.tell(contact, f"test:{uuid4().hex}", category, message, urgent=True)
        assert told is not None  # the occasion is new
        audit.record(actor, "contact.tested", contact, account=contact.account)
    return told


def name_for_instance(
    actor: User | None, instance: Instance, contacts: Iterable[Contact]
) -> list[InstanceContact]:
    """The contacts that the instance names for itself; none: those of the account are told. Raises Invalid for foreign ones."""
    require_operator(actor, instance.account)
    chosen = {one.pk: one for one in contacts}
    if any(one.account_id != instance.account_id for one in chosen.values()):
        raise Invalid(
            f"A contact belongs to another account. {UNCHANGED}", id="contact.foreign", field="contacts"
        )
    with transaction.atomic():
        InstanceContact.objects.filter(instance=instance).exclude(contact__in=chosen).delete()
        for contact in chosen.values():
            InstanceContact.objects.get_or_create(instance=instance, contact=contact)
        audit.record(
            actor,
            "instance.contacts_changed",
            instance,
            contacts=[one.name for one in chosen.values()] or ["those of the account"],
        )
    return list(InstanceContact.objects.filter(instance=instance))


def told_for(instance: Instance) -> list[Contact]:
    """Who is really told of faults and maintenance of the instance. Empty: nobody, which is worth a warning (R8)."""
    found = notifications.contacts_for(instance.account, Category.MAINTENANCE, instance)
    return [one for one in found if notifications.reach_of(one)]


def shown_address(channel: Channel) -> str:
    """Where a channel leads, without what can be a token."""
    if channel.kind == ChannelKind.MAIL:
        return channel.contact.email
    if channel.kind == ChannelKind.INBOX:
        return channel.contact.user.get_username() if channel.contact.user else ""
    try:
        parts = urlsplit(channel.address.reveal())
    except (CredentialUnreadable, ValueError):
        return "cannot be read"
    # What stands before an @ is a user name and a password.
    host = parts.netloc.rpartition("@")[2] if channel.kind == ChannelKind.WEBHOOK else ""
    return f"{parts.scheme}://{host}/…" if host else f"{parts.scheme}://…"


def _check(account: Account, details: Details) -> None:
    if not details.name.strip():
        raise _refuse("name", "A contact needs a name.", "contact.name_needed")
    if details.email:
        try:
            validate_email(details.email)
        except ValidationError as error:
            raise _refuse(
                "email", f"“{details.email}” is no mail address.", "contact.bad_email",
                "It looks like oncall@example.org.",
            ) from error  # fmt: skip
    user = details.user
    if user is not None and not user.is_superuser and not account.memberships.filter(user=user).exists():
        raise _refuse("user", f"{user.get_username()} is no member of the account.", "contact.not_a_member")
    if unknown := [one for one in details.categories if one not in Category.values]:
        raise _refuse("categories", f"There is no category “{unknown[0]}”.", "contact.bad_category")
    if (details.quiet_from is None) != (details.quiet_to is None):
        missing = "quiet_from" if details.quiet_from is None else "quiet_to"
        raise _refuse(
            missing, "Quiet hours need a beginning and an end.", "contact.quiet_hours",
            "Enter both, or empty both to be told at any time.",
        )  # fmt: skip
    if details.quiet_from is not None and details.quiet_from == details.quiet_to:
        raise _refuse(
            "quiet_to", "The quiet hours end when they begin.", "contact.quiet_hours",
            "Empty both to be told at any time.",
        )  # fmt: skip
    if details.time_zone not in zoneinfo.available_timezones():
        raise _refuse("time_zone", f"There is no time zone “{details.time_zone}”.", "contact.bad_zone")


def _set_channels(contact: Contact, reach: Reach) -> str:
    for kind, wanted in (
        (ChannelKind.MAIL, bool(contact.email)),
        (ChannelKind.INBOX, contact.user_id is not None),
    ):
        if not wanted:
            contact.channels.filter(kind=kind).delete()
        elif not contact.channels.filter(kind=kind).exists():
            Channel.objects.create(contact=contact, kind=kind)
    contact.channels.filter(
        pk__in=reach.removed, kind__in=(ChannelKind.APPRISE, ChannelKind.WEBHOOK)
    ).delete()
    secret = ""
    for kind, address in ((ChannelKind.APPRISE, reach.apprise), (ChannelKind.WEBHOOK, reach.webhook)):
        if not address:
            continue
        if contact.channels.filter(kind=kind).count() >= MOST_CHANNELS:
            raise _refuse(
                kind.value, f"A contact has at most {MOST_CHANNELS} channels of a kind.", "contact.many_channels",
                "Remove one.",
            )  # fmt: skip
        values: dict[str, Any] = {"address": address}
        if kind == ChannelKind.WEBHOOK:
            values["secret"] = secret = _new_secret()
        Channel.objects.create(contact=contact, kind=kind, **values)
    return secret


def _new_secret() -> str:
    return MARK + secrets.token_urlsafe(32)


def _locked(account: Account, pk: int) -> Contact:
    row = Contact.objects.select_for_update(of=("self",)).filter(pk=pk, account=account).first()
    if row is None:
        raise NotFound(f"The contact was deleted meanwhile. {UNCHANGED}")
    return row


def _summary(contact: Contact) -> dict[str, Any]:
    """For the audit: what changed, without addresses of channels, which can hold tokens."""
    hours = (
        f"{contact.quiet_from:%H:%M}–{contact.quiet_to:%H:%M} {contact.time_zone}"
        if contact.quiet_from and contact.quiet_to
        else ""
    )
    return {
        "contact": contact.name,
        "user": contact.user.get_username() if contact.user else "",
        "email": contact.email,
        "categories": list(contact.categories),
        "quiet_hours": hours,
        "order": contact.order,
        "channels": [channel.get_kind_display() for channel in contact.channels.all()],
    }


def _refuse(field: str, sentence: str, id: str, advice: str = "") -> Invalid:
    return Invalid(f"{sentence} {UNCHANGED}", advice=advice, id=id, field=field)
