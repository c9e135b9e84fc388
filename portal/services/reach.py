"""Who is told of the maintenance of many instances: what `contacts.told_for` says of one, in a constant number of queries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from portal.choices import Category, ChannelKind
from portal.models import Account, Channel, Contact, Instance, InstanceContact, Membership


@dataclass(frozen=True, slots=True)
class Reached:
    contact: Contact
    channels: tuple[Channel, ...]

    @property
    def ways(self) -> str:
        """`Mail, Inbox`, for people."""
        return ", ".join(dict.fromkeys(channel.get_kind_display() for channel in self.channels))


def reached_by(
    instances: Iterable[Instance], category: Category = Category.MAINTENANCE
) -> dict[int, list[Reached]]:
    """By the instance's primary key, in their order, those who want to hear of the category and can be reached. Empty: nobody."""
    instances = list(instances)
    accounts = {one.account_id for one in instances}
    known = _reachable(accounts, category)
    of_account: dict[int, list[int]] = {}
    for reached, wants in known.values():
        if wants:
            of_account.setdefault(reached.contact.account_id, []).append(reached.contact.pk)
    own: dict[int, set[int]] = {}
    rows = InstanceContact.objects.filter(instance__in=[one.pk for one in instances])
    for instance, contact in rows.values_list("instance", "contact"):
        if contact in known and known[contact][1]:
            own.setdefault(instance, set()).add(contact)
    found = {}
    for one in instances:
        named = own.get(one.pk)
        keys = [key for key in known if key in named] if named else of_account.get(one.account_id, [])
        found[one.pk] = [known[key][0] for key in keys if known[key][0].channels]
    return found


def operations(category: Category = Category.MAINTENANCE) -> list[Reached]:
    """Those who are told when staff have to do something: the contacts of the accounts that are marked so, in their order."""
    accounts = set(Account.objects.filter(is_operations=True).values_list("pk", flat=True))
    return [
        reached for reached, wants in _reachable(accounts, category).values() if wants and reached.channels
    ]


def _reachable(accounts: set[int], category: Category) -> dict[int, tuple[Reached, bool]]:
    """Every contact of the accounts with the channels that really reach it, and whether it wants to hear of the category."""
    members = set(Membership.objects.filter(account__in=accounts).values_list("account", "user"))
    rows = Contact.objects.filter(account__in=accounts).select_related("user").prefetch_related("channels")
    return {
        row.pk: (
            Reached(row, tuple(one for one in row.channels.all() if _reaches(row, one, members))),
            category in row.categories,
        )
        for row in rows
    }


def _reaches(contact: Contact, channel: Channel, members: set[tuple[int, int]]) -> bool:
    """As notifications.reach_of."""
    if not channel.enabled:
        return False
    if channel.kind == ChannelKind.MAIL:
        return bool(contact.email)
    if channel.kind == ChannelKind.INBOX:
        user = contact.user
        if user is None or not user.is_active:
            return False
        return user.is_superuser or (contact.account_id, user.pk) in members
    return True
