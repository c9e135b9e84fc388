"""Maintenance windows of instances, and general ones of accounts for instances without one of their own (R34).

Operators set those of instances, owners the general one of their account; every member sees them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import time
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.db.models import Q

from portal.errors import Invalid, NotFound
from portal.models import Account, Instance, MaintenanceWindow
from portal.models.windows import bits_of
from portal.services import audit
from portal.services.permissions import require_operator, require_owner
from portal.windows import Window, known_zones

if TYPE_CHECKING:
    from django.contrib.auth.models import User

UNCHANGED: Final = "Nothing was saved."


def set_window(
    actor: User | None,
    owner: Instance | Account,
    days: Iterable[int],
    starts: time,
    ends: time,
    time_zone: str,
) -> MaintenanceWindow:
    """The window of the instance, or the general one of the account, from now on. Days are 0 (Monday) to 6.

    Raises NotFound, NotPermitted, and Invalid with the field: `window.no_day`, `window.bad_day` (days), `window.bad_time` (starts,
    ends), `window.no_length` (ends), `window.bad_zone` (time_zone).
    """
    _require(actor, owner)
    chosen = frozenset(days)
    _check(chosen, starts, ends, time_zone)
    with transaction.atomic():
        row = _locked(owner)
        old = str(row) if row.pk else ""
        row.day_bits, row.starts, row.ends, row.time_zone = bits_of(chosen), starts, ends, time_zone
        if str(row) != old:
            row.save()
            audit.record(actor, f"{_kind(owner)}.window_set", owner, old=old, new=str(row))
    return row


def clear_window(actor: User | None, owner: Instance | Account) -> None:
    """The instance follows the general window of its account from now on; an account has none. Nothing happens where there is none.

    Raises NotFound, NotPermitted.
    """
    _require(actor, owner)
    with transaction.atomic():
        row = _locked(owner)
        if row.pk:
            audit.record(actor, f"{_kind(owner)}.window_cleared", owner, old=str(row), new="")
            row.delete()


def rows_for(instances: Iterable[Instance]) -> dict[int, MaintenanceWindow]:
    """What applies to each instance, by its primary key: its own row or the account's. One query; without those that have neither."""
    chosen = list(instances)
    rows = MaintenanceWindow.objects.filter(
        Q(instance__in=[one.pk for one in chosen]) | Q(account__in={one.account_id for one in chosen})
    )
    own: dict[int, MaintenanceWindow] = {}
    general: dict[int, MaintenanceWindow] = {}
    for row in rows:
        if row.instance_id is not None:
            own[row.instance_id] = row
        elif row.account_id is not None:
            general[row.account_id] = row
    found = ((one.pk, own.get(one.pk) or general.get(one.account_id)) for one in chosen)
    return {pk: row for pk, row in found if row is not None}


def windows_for(instances: Iterable[Instance]) -> dict[int, Window]:
    """The window of each instance, by its primary key: its own or the account's. One query; without those that have neither."""
    return {pk: row.window for pk, row in rows_for(instances).items()}


def window_for(instance: Instance | None) -> Window | None:
    """Its own or the account's; None also of an instance that was deleted since."""
    return None if instance is None else windows_for([instance]).get(instance.pk)


def row_of(owner: Instance | Account) -> MaintenanceWindow | None:
    """What was set for this very instance or account."""
    return MaintenanceWindow.objects.filter(**{_kind(owner): owner}).first()


def _require(actor: User | None, owner: Instance | Account) -> None:
    if isinstance(owner, Account):
        require_owner(actor, owner)
    else:
        require_operator(actor, owner.account)


def _check(days: frozenset[int], starts: time, ends: time, time_zone: str) -> None:
    if not days:
        raise _refuse("days", "The window has no day.", "window.no_day", "Choose at least one day.")
    if unknown := sorted(days - set(range(7))):
        raise _refuse(
            "days", f"There is no day {unknown[0]}.", "window.bad_day", "Days are 0 (Monday) to 6 (Sunday)."
        )
    for field, clock in (("starts", starts), ("ends", ends)):
        if clock.tzinfo or clock.second or clock.microsecond:
            raise _refuse(
                field, f"{clock.isoformat()} is no time of a window.", "window.bad_time",
                "Enter hours and minutes by the clock of the time zone, such as 02:00.",
            )  # fmt: skip
    if starts == ends:
        raise _refuse(
            "ends", f"The window ends when it begins, at {ends:%H:%M}.", "window.no_length",
            "Enter another end; one before the beginning is on the next day.",
        )  # fmt: skip
    if time_zone not in known_zones():
        raise _refuse(
            "time_zone", f"There is no time zone “{time_zone}”.", "window.bad_zone",
            "Enter an IANA name such as Europe/Berlin.",
        )  # fmt: skip


def _refuse(field: str, what: str, id: str, advice: str) -> Invalid:
    return Invalid(f"{what} {UNCHANGED}", advice=advice, id=id, field=field)


def _locked(owner: Instance | Account) -> MaintenanceWindow:
    """The row as it is now, or a new one. The owner is locked: of two first windows at the same moment one follows the other."""
    manager = Account.objects if isinstance(owner, Account) else Instance.objects
    if manager.select_for_update().filter(pk=owner.pk).first() is None:
        raise NotFound(f"The {_kind(owner)} was deleted meanwhile. {UNCHANGED}")
    return row_of(owner) or MaintenanceWindow(**{_kind(owner): owner})


def _kind(owner: Instance | Account) -> str:
    return "account" if isinstance(owner, Account) else "instance"
