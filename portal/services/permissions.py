"""What a person may do in an account. Every service asks here before it changes anything.

`actor` None is the system (a job, a command on the server itself) and may do everything. So may an active superuser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.choices import Role
from portal.errors import NotFound, NotPermitted
from portal.models import Account, Membership

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def role_in(actor: User, account: Account) -> Role | None:
    """The person's role, or None for somebody who is not a member. A superuser counts as an owner everywhere."""
    if not actor.is_active:
        return None
    if actor.is_superuser:
        return Role.OWNER
    role = Membership.objects.filter(user=actor, account=account).values_list("role", flat=True).first()
    return Role(role) if role else None


def require_operator(actor: User | None, account: Account) -> None:
    """Raises NotFound for somebody who may not even see the account, NotPermitted for a viewer."""
    if not _role(actor, account).can_operate:
        raise NotPermitted()


def require_owner(actor: User | None, account: Account) -> None:
    """Raises NotFound for somebody who may not even see the account, NotPermitted for other roles."""
    if not _role(actor, account).can_manage:
        raise NotPermitted(
            "Only an owner of the account may do this. Nothing was changed.",
            advice="Ask an owner of the account to do it, or to make you an owner.",
        )


def _role(actor: User | None, account: Account) -> Role:
    if actor is None:
        return Role.OWNER
    role = role_in(actor, account)
    if role is None:
        raise NotFound()
    return role
