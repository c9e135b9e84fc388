"""Tasks across accounts, seen from the side that has granted the role: what works on its instances, and how it is ended.

A role that is revoked, runs out or no longer covers what a task uses pauses the task with that reason: at once after a change of the
role, else within seconds, because the keeper of each running link and every cluster `default` ask again and again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import structlog
from django.db.models import Q

from migrations_app.choices import LogLevel, TaskStatus
from migrations_app.models import Inspection, MigrationTask, TaskQuerySet
from migrations_app.services import access, inspections, links, tasks
from migrations_app.services.access import SIDES, Side
from portal.errors import Conflict, Invalid, NotFound
from portal.models import AccessRole, Account
from portal.patience import patient
from portal.services import audit
from portal.services.permissions import require_operator, role_in
from portal.services.roles import Use

if TYPE_CHECKING:
    from django.contrib.auth.models import User

log = structlog.get_logger(__name__)

# Something is read from the source, or written to the target. What is stopping ends by itself.
WORKING: Final = frozenset(
    {TaskStatus.STARTING, TaskStatus.FULL, TaskStatus.INCREMENTAL, TaskStatus.RETRYING}
)
REASON_LIMIT: Final = 500
USES: Final = 50  # that the page of a role lists, the newest
_ACROSS: Final = Q(source_role__isnull=False) | Q(target_role__isnull=False)


# --- what a role is asked for again and again -----------------------------------------------------------------------------


def enforce(task_id: int | None) -> bool:
    """Pause the task if it may not use a side any more. True if it may go on."""
    return task_id is None or _enforce(_across().filter(pk=task_id)) == 0


def enforce_all() -> None:
    """Every task that works across accounts, and whatever is being found out for one."""
    busy = Inspection.objects.filter(status__in=inspections.OPEN).values("task")
    _enforce(_across().filter(Q(status__in=WORKING) | Q(pk__in=busy)))


def role_changed(role_id: int) -> None:
    """A role was revoked or changed, and that is committed."""
    _enforce(_across().filter(Q(source_role=role_id) | Q(target_role=role_id)))


def _across() -> TaskQuerySet:
    rows = MigrationTask.objects.filter(_ACROSS)
    return rows.select_related("account", "source", "target", "source_role", "target_role", "link")


def _enforce(rows: Iterable[MigrationTask]) -> int:
    """How many of them may not go on."""
    denied = 0
    for task in rows:
        if not (reason := access.problem(task)):
            continue
        denied += 1
        if task.status_badge in WORKING and tasks.pause_by_system(task, reason):
            log.info("task.access_lost", task=task.public_id, reason=reason)
        for inspection in task.inspections.filter(status__in=inspections.OPEN, cancel_requested=False):
            _cancel(inspection, reason)
    return denied


def _cancel(inspection: Inspection, reason: str) -> None:
    try:
        inspections.cancel(None, inspection)
    except Conflict:
        return  # it has ended meanwhile
    what = inspection.get_kind_display().lower()
    links.note(
        inspection.task, "inspection.access_lost", f"The {what} was cancelled: {reason}", LogLevel.WARNING
    )


# --- for the owner of the instances ---------------------------------------------------------------------------------------


def shared_with(user: User) -> TaskQuerySet:
    """Tasks of accounts that the person does not belong to, which work on instances of one that they belong to."""
    if not user.is_active or not user.pk or user.is_superuser:
        return MigrationTask.objects.none()
    own = Account.objects.filter(members=user).values("pk")
    # As numbers, so that the database looks tasks up by them instead of looking through all; most often there are none.
    granted = list(AccessRole.objects.filter(account__in=own).values_list("pk", flat=True))
    if not granted:
        return MigrationTask.objects.none()
    return MigrationTask.objects.filter(Q(source_role__in=granted) | Q(target_role__in=granted)).exclude(
        account__in=own
    )


def sides_of(user: User, task: MigrationTask) -> list[Side]:
    """The sides of the task that belong to the person's accounts by way of a role."""
    found: list[Side] = []
    for side in SIDES:
        role = getattr(task, f"{side}_role")
        if role is not None and role_in(user, role.account) is not None:
            found.append(side)
    return found


def uses(role: AccessRole) -> list[Use]:
    """What works under a role, for its page and for the question before it is revoked."""
    rows = MigrationTask.objects.filter(Q(source_role=role) | Q(target_role=role))
    rows = rows.select_related("account").order_by("-pk")[:USES]
    return [
        Use(
            # Not the name of the task: it may tell the names of the other account's servers.
            name=f"Migration of {task.account.name}",
            public_id=task.public_id,
            url=task.get_absolute_url(),
            status=task.status_badge,
            running=task.status_badge in WORKING,
        )
        for task in rows
    ]


@patient
def stop_by_owner(
    actor: User | None, task: MigrationTask, reason: str, *, for_good: bool = False
) -> MigrationTask:
    """End the use of an instance by a task of another account: pause the task, or with `for_good` stop it.

    The reason is told to the account of the task. A paused task can be resumed by its account for as long as the role is valid: to
    rule that out, revoke the role. Raises NotFound for somebody who owns no side, NotPermitted for a viewer, Invalid
    (`task.reason_needed`) and Conflict.
    """
    used = [role for role in (task.source_role, task.target_role) if role is not None]
    if actor is not None:
        used = [role for role in used if role_in(actor, role.account) is not None]
    if not used:
        raise NotFound(f"There is no migration task {task.public_id} in your accounts.")
    role, owner = used[0], used[0].account
    require_operator(actor, owner)
    reason = " ".join(reason.split())[:REASON_LIMIT]
    if not reason:
        raise Invalid(
            "No reason is given. Nothing was changed.",
            advice="Say why in a sentence: the account of the task reads it.",
            id="task.reason_needed",
            field="reason",
        )
    told = (
        f"The account {owner.name} ({owner.public_id}), which owns the instance, has ended its use: {reason}"
    )
    if for_good:
        links.note(task, "task.stopped_by_owner", told, LogLevel.WARNING)
        tasks.stop_task(None, task)
    elif not tasks.pause_by_system(task, told):
        raise Conflict(
            "The task does not run at the moment. Nothing was changed.",
            advice="To keep it from being resumed, revoke the role.",
            id="task.cannot_pause",
        )
    audit.record(actor, "task.stopped_by_owner", task, role=role.name, reason=reason, for_good=for_good)
    audit.record(
        actor, "task.stopped_by_owner", role, account=owner, task=task.public_id, reason=reason, for_good=for_good,
        other_account=task.account.public_id,
    )  # fmt: skip
    task.refresh_from_db()
    return task
