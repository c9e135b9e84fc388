"""Accounts and their members."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction

from portal.choices import Role
from portal.errors import Conflict, Invalid, NotPermitted
from portal.models import Account, Membership
from portal.services import audit
from portal.services.permissions import require_owner

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class LastOwner(Conflict):
    id = "account.last_owner"
    message = "This is the account's only owner. Nothing was changed."
    advice = "Make somebody else an owner first."


def create_account(actor: User | None, name: str, *, owner: User | None = None) -> Account:
    """A new account, with `owner` as its first member. Superusers and the system only.

    Raises NotPermitted, Conflict (`account.name_taken`).
    """
    if actor is not None and not (actor.is_active and actor.is_superuser):
        raise NotPermitted(
            "Only an administrator may create accounts. Nothing was changed.", advice="Ask an administrator."
        )
    try:
        with transaction.atomic():
            account = Account.objects.create(name=name)
            if owner is not None:
                Membership.objects.create(account=account, user=owner, role=Role.OWNER)
            audit.record(actor, "account.created", account, owner=owner.get_username() if owner else None)
    except IntegrityError as error:
        raise _name_taken(name) from error
    return account


def rename_account(actor: User | None, account: Account, name: str) -> None:
    """Raises NotFound, NotPermitted, Conflict (`account.name_taken`)."""
    require_owner(actor, account)
    old = account.name
    if name == old:
        return
    try:
        with transaction.atomic():
            account.name = name
            account.save(update_fields=["name"])
            audit.record(actor, "account.renamed", account, old=old)
    except IntegrityError as error:
        account.name = old
        raise _name_taken(name) from error


def add_member(actor: User | None, account: Account, username: str, role: str) -> Membership:
    """Raises NotFound, NotPermitted, Invalid (`member.unknown_user`), Conflict (`member.exists`)."""
    require_owner(actor, account)
    user = get_user_model().objects.filter(username=username, is_active=True).first()
    if user is None:
        raise Invalid(
            f"There is no user named {username}. Nobody was added.",
            advice="Check the spelling; an administrator creates users.",
            id="member.unknown_user",
            field="username",
        )
    try:
        with transaction.atomic():
            membership = Membership.objects.create(account=account, user=user, role=Role(role))
            audit.record(actor, "member.added", account, user=user.get_username(), role=role)
    except IntegrityError as error:
        raise Conflict(
            f"{username} is a member already. Nothing was changed.",
            advice="Change the role in the list of members.",
            id="member.exists",
            field="username",
        ) from error
    return membership


def change_role(actor: User | None, membership: Membership, role: str) -> None:
    """Raises NotFound, NotPermitted, LastOwner."""
    require_owner(actor, membership.account)
    old = membership.role
    with transaction.atomic():
        if Role(role) is not Role.OWNER:
            _keep_an_owner(membership)
        if not Membership.objects.filter(pk=membership.pk, role=old).update(role=Role(role)):
            raise Conflict()
        membership.role = role
        audit.record(
            actor,
            "member.role_changed",
            membership.account,
            user=membership.user.get_username(),
            old=old,
            new=role,
        )


def remove_member(actor: User | None, membership: Membership) -> None:
    """Raises NotFound, NotPermitted, LastOwner."""
    require_owner(actor, membership.account)
    with transaction.atomic():
        _keep_an_owner(membership)
        audit.record(
            actor,
            "member.removed",
            membership.account,
            user=membership.user.get_username(),
            role=membership.role,
        )
        membership.delete()


def _keep_an_owner(membership: Membership) -> None:
    # The owners are locked, or two owners who remove each other at the same moment would leave none.
    owners = Membership.objects.select_for_update().filter(account=membership.account, role=Role.OWNER)
    if list(owners.values_list("pk", flat=True)) == [membership.pk]:
        raise LastOwner()


def _name_taken(name: str) -> Conflict:
    return Conflict(
        f"There is an account named {name} already. Nothing was changed.",
        advice="Choose another name.",
        id="account.name_taken",
        field="name",
    )
