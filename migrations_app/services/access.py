"""Whether a task may use its two sides: instances of its own account, or those that an access role of another account covers.

Asked when sides and databases are chosen, before a precheck, at every start and resume (also by itself), and by whoever runs the task,
every few seconds (services/sharing.py). Refusals are those of `portal.services.roles.check_role`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from migrations_app.models import MigrationTask
from portal.errors import Invalid, NotFound
from portal.models import AccessRole, Account, Instance
from portal.services import roles

Side = Literal["source", "target"]
SIDES: Final[tuple[Side, Side]] = ("source", "target")


def check_side(
    account: Account,
    side: Side,
    instance: Instance | None,
    role: AccessRole | None,
    *,
    databases: Iterable[int] | None = (),
    heartbeat: bool = False,
    unchanged: str = roles.UNCHANGED,
) -> None:
    """Raises NotFound for an instance of another account without a role, else Invalid, with a field of the side.

    `databases`: those of the task, None for all of them; () while they have not been chosen.
    """
    if instance is None:
        return
    if role is None:
        if instance.account_id != account.pk:
            raise NotFound(f"There is no such {side} in the account {account.name}. {unchanged}", field=side)
        return
    try:
        roles.check_role(role, account, instance, databases, write=side == "target", unchanged=unchanged)
    except Invalid as refusal:
        refusal.field = {"instance": side, "role_name": f"{side}_role"}.get(refusal.field, refusal.field)
        raise
    if side == "source" and heartbeat and not role.can_write:
        raise Invalid(
            f"The heartbeat writes a key to {instance.name}, and the role {role.name} allows reading only. {unchanged}",
            advice="Switch the heartbeat off.",
            id="role.read_only",
            field="heartbeat",
        )


def require(task: MigrationTask, *, unchanged: str = roles.UNCHANGED) -> None:
    """Both sides of a task as they are chosen. Raises as check_side."""
    for side in SIDES:
        check_side(
            task.account,
            side,
            getattr(task, side),
            getattr(task, f"{side}_role"),
            databases=task.databases,
            heartbeat=task.heartbeat,
            unchanged=unchanged,
        )


def require_roles(task: MigrationTask) -> None:
    """As require, but whatever the databases: for what is found out while they are being chosen."""
    for side in SIDES:
        check_side(task.account, side, getattr(task, side), getattr(task, f"{side}_role"))


def problem(task: MigrationTask) -> str:
    """Why the task must not go on, as a sentence; "" if it may."""
    try:
        require(task, unchanged="")
    except (Invalid, NotFound) as refusal:
        return refusal.message.strip()
    return ""


def is_across(task: MigrationTask) -> bool:
    """Whether a side belongs to another account."""
    return task.source_role_id is not None or task.target_role_id is not None


def databases_of(role: AccessRole | None, instance: Instance) -> list[int] | None:
    """What a role covers of an instance; None for all of it."""
    if role is None:
        return None
    cover = role.coverage.filter(instance=instance).first()
    return cover.databases if cover is not None else None
