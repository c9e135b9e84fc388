"""A small world for tests: one account with a person of each role; another account, and somebody who belongs there; and a partner's
account, which lets the first one read an instance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User

from portal.choices import Architecture, Edition, InstanceStatus, NodeRole, Role
from portal.models import AccessRole, Account, Endpoint, Instance, Membership, RoleCoverage

PASSWORD = "correct-horse-battery"  # of instances, in tests: looked for in everything that is shown or logged

# Partner: owns the account at the other side of what the first account migrates across accounts.
ROLES = ("anonymous", "outsider", "viewer", "operator", "owner", "admin", "partner")


@dataclass
class World:
    account: Account
    other_account: Account
    instance: Instance
    other_instance: Instance
    partner_account: Account
    partner_instance: Instance
    access_role: AccessRole
    """Of the partner, who lets the account read the partner's instance."""
    users: dict[str, User]
    extra: dict[str, Any] = field(default_factory=dict)
    """Objects of other apps, for their rows of the table of URLs."""

    def user(self, role: str) -> User:
        return self.users[role]


def make_user(name: str, **kwargs: Any) -> User:
    user = get_user_model()(username=name, **kwargs)
    user.set_unusable_password()
    user.save()
    return user


def make_instance(
    account: Account, name: str, *, host: str = "", password: str = "", **kwargs: Any
) -> Instance:
    values: dict[str, Any] = {
        "status": InstanceStatus.ONLINE,
        "edition": Edition.VALKEY,
        "version": "9.1.2",
        "compatible_version": "9.1",
        "architecture": Architecture.STANDARD,
        "role": NodeRole.MASTER,
        "region": "eu-central",
        "memory_used": 2**20,
        "databases": [{"index": 0, "keys": 12, "expires": 2}],
    }
    instance = Instance.objects.create(account=account, name=name, **(values | kwargs))
    Endpoint.objects.create(instance=instance, host=host or f"{name}.internal", port=6379, password=password)
    return instance


def make_world() -> World:
    account = Account.objects.create(name="Payments")
    other = Account.objects.create(name="Search")
    partner = Account.objects.create(name="Logistics")
    users = {role: make_user(role) for role in ("outsider", "viewer", "operator", "owner", "partner")}
    users["admin"] = make_user("admin", is_staff=True, is_superuser=True)
    Membership.objects.create(account=other, user=users["outsider"], role=Role.OWNER)
    Membership.objects.create(account=partner, user=users["partner"], role=Role.OWNER)
    shared = make_instance(partner, "parcels", password=PASSWORD)
    access_role = AccessRole.objects.create(account=partner, name="parcels-reader", trusted_account=account)
    RoleCoverage.objects.create(role=access_role, instance=shared)
    for role in Role:
        Membership.objects.create(account=account, user=users[role.value], role=role)
    return World(
        account=account,
        other_account=other,
        instance=make_instance(account, "sessions", password=PASSWORD),
        other_instance=make_instance(other, "search-index", password=PASSWORD),
        partner_account=partner,
        partner_instance=shared,
        access_role=access_role,
        users=users,
    )
