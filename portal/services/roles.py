"""Access roles (R63, R68): an account lets one other account read, or write to, some of its instances.

Only owners make, change and revoke them; both accounts find each step in their audit log. Whoever uses a role asks `check_role`
each time it matters (and again while it goes on); `uses` and `changed` tell portal and the apps that use roles of each other,
so that portal need not know them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import structlog
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from portal.choices import Access, BadgedChoices, RoleState
from portal.errors import Conflict, Invalid, NotFound
from portal.models import AccessRole, Account, Instance, RoleCoverage
from portal.services import audit
from portal.services.permissions import require_owner

if TYPE_CHECKING:
    from django.contrib.auth.models import User

log = structlog.get_logger(__name__)

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_DATABASES: Final = 16384
UNCHANGED: Final = "Nothing was changed."


@dataclass(frozen=True, slots=True)
class Cover:
    """An instance that a role is to cover. `databases` None: all of them."""

    instance: Instance
    databases: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """Something that works under a role, as the owner of the role may see it."""

    name: str
    public_id: str
    url: str
    status: BadgedChoices
    running: bool
    """It is paused when the role is revoked."""


# What other apps add in `AppConfig.ready()`.
_uses: dict[str, Callable[[AccessRole], list[Use]]] = {}
_listeners: dict[str, Callable[[int], None]] = {}


def register(name: str, *, uses: Callable[[AccessRole], list[Use]], changed: Callable[[int], None]) -> None:
    """`uses(role)` lists what works under a role; `changed(key of the role)` is called after each commit that narrows it."""
    _uses[name] = uses
    _listeners[name] = changed


def uses(role: AccessRole) -> list[Use]:
    """What works under the role, what runs first."""
    found = [use for function in _uses.values() for use in function(role)]
    return sorted(found, key=lambda use: not use.running)


# --- for the owner of the instances ---------------------------------------------------------------------------------------


def create_role(
    actor: User | None,
    account: Account,
    *,
    name: str,
    trusted_account_id: str,
    coverage: Iterable[Cover],
    access: str = Access.READ,
    description: str = "",
    expires_at: datetime | None = None,
) -> AccessRole:
    """A new role of `account`, which the account with the ID `trusted_account_id` may use.

    Raises NotFound, NotPermitted, Conflict (`role.name_taken`), and Invalid with the field: `role.bad_name`,
    `role.account_needed`, `role.unknown_account`, `role.own_account`, `role.no_instance`, `role.no_database`,
    `role.unknown_database`, `role.expires_in_past`.
    """
    require_owner(actor, account)
    if not NAME.fullmatch(name):
        raise Invalid(
            "A role needs a name of letters, digits, dots, hyphens and underscores, up to 64 characters. No role was created.",
            advice="The other account types it when it sets up a migration.",
            id="role.bad_name",
            field="name",
        )
    trusted = _other_account(account, trusted_account_id, field="trusted_account")
    covers = _checked(account, coverage)
    _check_expiry(expires_at)
    try:
        with transaction.atomic():
            role = AccessRole.objects.create(
                account=account,
                name=name,
                description=description,
                trusted_account=trusted,
                access=Access(access),
                expires_at=expires_at,
                created_by=actor,
            )
            _store(role, covers)
            _record(actor, "role.created", role)
    except IntegrityError as error:
        raise Conflict(
            f"The account has a role named {name} already, or had one that was revoked. No role was created.",
            advice="Choose another name.",
            id="role.name_taken",
            field="name",
        ) from error
    return role


def update_role(
    actor: User | None,
    role: AccessRole,
    *,
    coverage: Iterable[Cover],
    access: str,
    description: str = "",
    expires_at: datetime | None = None,
) -> AccessRole:
    """Other instances, access or expiry. Name and trusted account stay: whoever was told of the role relies on them.

    Raises as create_role, and Conflict (`role.revoked`).
    """
    require_owner(actor, role.account)
    covers = _checked(role.account, coverage)
    _check_expiry(expires_at)
    with transaction.atomic():
        # The row is the lock: a revocation at the same moment comes before this, and ends it, or after.
        locked = AccessRole.objects.select_for_update().filter(pk=role.pk).first()
        if locked is None or locked.revoked_at is not None:
            raise Conflict(
                f"The role {role.name} was revoked, which is final. {UNCHANGED}",
                advice="Create a new role.",
                id="role.revoked",
            )
        before = _summary(role)
        locked.access, locked.expires_at, locked.description = Access(access), expires_at, description
        locked.save(update_fields=["access", "expires_at", "description"])
        _store(locked, covers)
        changes = {key: value for key, value in _summary(locked).items() if value != before[key]}
        _record(actor, "role.changed", locked, changes)
        transaction.on_commit(lambda: _changed(role.pk))
    role.refresh_from_db()
    return role


def revoke_role(actor: User | None, role: AccessRole) -> AccessRole:
    """Ends the role for good: what runs under it is paused within seconds. Raises NotFound, NotPermitted, Conflict."""
    require_owner(actor, role.account)
    running = [use.public_id for use in uses(role) if use.running]
    with transaction.atomic():
        if not AccessRole.objects.filter(pk=role.pk, revoked_at__isnull=True).update(
            revoked_at=timezone.now()
        ):
            raise Conflict(
                f"The role {role.name} was revoked already. {UNCHANGED}", advice="", id="role.revoked"
            )
        _record(actor, "role.revoked", role, {"paused": running})
        transaction.on_commit(lambda: _changed(role.pk))
    role.refresh_from_db()
    return role


def _changed(role_id: int) -> None:
    for name, listener in _listeners.items():
        try:
            listener(role_id)
        except Exception:
            # The role is changed; what works under it asks again by itself within seconds.
            log.exception("role.listener_failed", listener=name, role=role_id)


# --- for the trusted account ----------------------------------------------------------------------------------------------


def find_role(account: Account, owner_id: str, role_name: str) -> AccessRole:
    """The role of this name of the account with the ID `owner_id`, which `account` wants to use now.

    Each way to be wrong has an error of its own (R68): Invalid with `role.account_needed`, `role.unknown_account`,
    `role.own_account` (field `owner_account`), `role.name_needed`, `role.unknown`, `role.not_trusted`, `role.expired` and
    `role.revoked` (field `role_name`).
    """
    owner = _other_account(account, owner_id, field="owner_account")
    role_name = role_name.strip()
    if not role_name:
        raise Invalid(
            f"No role is named. {UNCHANGED}",
            advice=f"Enter the name of the role that the account {owner.public_id} has created for yours.",
            id="role.name_needed",
            field="role_name",
        )
    role = AccessRole.objects.filter(account=owner, name=role_name).first()
    if role is None:
        raise Invalid(
            f"The account {owner.public_id} has no role named {role_name}. {UNCHANGED}",
            advice="Check the spelling, capital letters included, with an owner of that account.",
            id="role.unknown",
            field="role_name",
        )
    _check_in_force(role, account, UNCHANGED)
    return role


def covered(role: AccessRole) -> QuerySet[Instance]:
    """The instances that the role opens at this moment; none once it is revoked or expired."""
    if role.state is not RoleState.VALID:
        return Instance.objects.none()
    return Instance.objects.fleet().filter(covered_by__role=role, account=role.account_id).order_by("name")


def check_role(
    role: AccessRole,
    account: Account,
    instance: Instance,
    databases: Iterable[int] | None,
    write: bool,
    *,
    unchanged: str = UNCHANGED,
) -> None:
    """Whether the role lets `account` read (or write to) these databases of the instance at this moment; None: all of them.

    Raises Invalid: `role.revoked`, `role.expired`, `role.not_trusted`, `role.not_covered`, `role.read_only`,
    `role.database_not_covered`. The role is read anew, not taken as it was loaded.
    """
    current = AccessRole.objects.select_related("account").filter(pk=role.pk).first()
    if current is None:
        raise Invalid(
            f"There is no role {role.name} any more. {unchanged}", id="role.unknown", field="role_name"
        )
    _check_in_force(current, account, unchanged)
    cover = RoleCoverage.objects.filter(
        role=current, instance=instance, instance__account=current.account_id
    ).first()
    if cover is None:
        raise Invalid(
            f"The role {current.name} of the account {current.account.public_id} does not cover the instance "
            f"{instance.name}. {unchanged}",
            advice="Choose an instance that it covers, or ask an owner of that account to add this one.",
            id="role.not_covered",
            field="instance",
        )
    if write and not current.can_write:
        raise Invalid(
            f"The role {current.name} allows reading only, so {instance.name} cannot be written to. {unchanged}",
            advice=f"Ask an owner of the account {current.account.public_id} for a role with read and write access.",
            id="role.read_only",
            field="instance",
        )
    if cover.databases is None:
        return
    chosen = None if databases is None else sorted(set(databases))
    beyond = [] if chosen is None else [number for number in chosen if number not in cover.databases]
    if chosen is None or beyond:
        wanted = f"database {', '.join(map(str, beyond))}" if beyond else "all databases"
        raise Invalid(
            f"The role {current.name} covers {_lower(cover.databases_label)} of {instance.name}, not {wanted}. {unchanged}",
            advice="Choose only databases that it covers.",
            id="role.database_not_covered",
            field="databases",
        )


def _check_in_force(role: AccessRole, account: Account, unchanged: str) -> None:
    owner = role.account.public_id
    if role.trusted_account_id != account.pk:
        raise Invalid(
            f"The role {role.name} does not trust the account {account.name} ({account.public_id}). {unchanged}",
            advice=f"Ask an owner of the account {owner} for a role that names {account.public_id} as the trusted account.",
            id="role.not_trusted",
            field="role_name",
        )
    if role.state is RoleState.REVOKED:
        raise Invalid(
            f"The role {role.name} was revoked by the account {owner}. {unchanged}",
            advice="Ask an owner of that account for a new role.",
            id="role.revoked",
            field="role_name",
        )
    if role.state is RoleState.EXPIRED:
        raise Invalid(
            f"The role {role.name} expired on {_moment(role.expires_at)}. {unchanged}",
            advice=f"Ask an owner of the account {owner} to extend it.",
            id="role.expired",
            field="role_name",
        )


# --- helpers --------------------------------------------------------------------------------------------------------------


def _other_account(account: Account, public_id: str, *, field: str) -> Account:
    public_id = public_id.strip()
    if not public_id:
        raise Invalid(
            f"No account is named. {UNCHANGED}",
            advice="Enter the ID of the other account, for example acc-7k2m9qwe: its members find it on the account's page.",
            id="role.account_needed",
            field=field,
        )
    if public_id == account.public_id:
        raise Invalid(
            f"{public_id} is your own account. {UNCHANGED}",
            advice="Within an account no role is needed. Enter the ID of the other account.",
            id="role.own_account",
            field=field,
        )
    other = Account.objects.filter(public_id=public_id).first()
    if other is None:
        raise Invalid(
            f"There is no account with the ID {public_id[:40]}. {UNCHANGED}",
            advice="Its members find the ID on the page of the account, with a button that copies it.",
            id="role.unknown_account",
            field=field,
        )
    return other


def _checked(account: Account, coverage: Iterable[Cover]) -> list[Cover]:
    """Each instance once, its databases sorted. Raises Invalid or NotFound."""
    covers: dict[int, Cover] = {}
    for cover in coverage:
        instance = cover.instance
        if not Instance.objects.fleet().filter(pk=instance.pk, account=account).exists():
            raise NotFound(f"There is no such instance in the account {account.name}. {UNCHANGED}")
        numbers = None if cover.databases is None else sorted(set(cover.databases))
        if numbers == []:
            raise Invalid(
                f"No database of {instance.name} is chosen. {UNCHANGED}",
                advice="Name at least one database, or all.",
                id="role.no_database",
                field="coverage",
            )
        end = MAX_DATABASES if instance.database_count is None else instance.database_count
        for number in numbers or []:
            if not 0 <= number < end:
                raise Invalid(
                    f"{instance.name} has no database {number}. {UNCHANGED}",
                    advice=f"Name databases from 0 to {end - 1}.",
                    id="role.unknown_database",
                    field="coverage",
                )
        covers[instance.pk] = Cover(instance, numbers)
    if not covers:
        raise Invalid(
            f"The role covers no instance. {UNCHANGED}",
            advice="Choose at least one. To take everything back, revoke the role.",
            id="role.no_instance",
            field="coverage",
        )
    return list(covers.values())


def _check_expiry(expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= timezone.now():
        raise Invalid(
            f"{_moment(expires_at)} is in the past. {UNCHANGED}",
            advice="Choose a later time, or none for a role that does not expire.",
            id="role.expires_in_past",
            field="expires_at",
        )


def _store(role: AccessRole, covers: list[Cover]) -> None:
    role.coverage.exclude(instance__in=[cover.instance for cover in covers]).delete()
    for cover in covers:
        RoleCoverage.objects.update_or_create(
            role=role, instance=cover.instance, defaults={"databases": cover.databases}
        )


def _summary(role: AccessRole) -> dict[str, Any]:
    """What the audit keeps: names and IDs of the instances, never an address."""
    return {
        "access": str(role.access),
        "expires": role.expires_at.isoformat(timespec="seconds") if role.expires_at else None,
        "instances": [
            f"{cover.instance.public_id} ({_lower(cover.databases_label)})"
            for cover in role.coverage.select_related("instance")
        ],
    }


def _record(actor: User | None, action: str, role: AccessRole, details: dict[str, Any] | None = None) -> None:
    """One entry in each of the two accounts, which names the other one."""
    values = _summary(role) if details is None else details
    for account, other in ((role.account, role.trusted_account), (role.trusted_account, role.account)):
        audit.record(actor, action, role, account=account, other_account=other.public_id, **values)


def _moment(value: datetime | None) -> str:
    return f"{timezone.localtime(value):%Y-%m-%d %H:%M %Z}" if value else "—"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
