"""Repairs of what a precheck has found: settings of a server that are changed for a task, and put back when it has ended (R95, R101).

The old value is stored before the new one is set, so whatever happens in between is found. It is put back once the task is done
(successful, stopped early, released, failed for longer than it could be resumed) unless somebody has changed the value meanwhile.
Clearing the target is a repair as well: it is asked for with the typed name, and cannot be put back.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from migrations_app import states
from migrations_app.choices import HOLDING, InspectionKind, LogLevel, TaskStatus
from migrations_app.models import AppliedRepair, Inspection, MigrationTask, PrecheckItem
from migrations_app.services import inspections, links, prechecks
from migrations_app.services.inspections import OPEN
from migrations_app.services.setup import drop_side, who
from migrations_app.states import Action
from portal.choices import Origin
from portal.errors import Conflict, Invalid
from portal.models import Instance
from portal.patience import patient
from portal.services import audit
from portal.services.permissions import require_operator, role_in
from portal.services.roles import check_role

if TYPE_CHECKING:
    from django.contrib.auth.models import User

CLEAR: Final = "target.clear"
RESUMABLE: Final = timedelta(days=7)  # a failed task goes on by itself that long (R55)
AGAIN: Final = timedelta(minutes=1)  # after a server that could not be reached, times the attempts
ATTEMPTS: Final = 60  # then somebody has to do it by hand, as the log says
BEFORE_DELETE: Final = 3  # attempts that the deletion of a task waits for
_OVER: Final = (TaskStatus.COMPLETED, TaskStatus.STOPPED, TaskStatus.RELEASED)
UNCHANGED: Final = "Nothing was changed."

CODES: Final = frozenset(
    {
        "source.repl_timeout",
        "source.output_buffer",
        "source.backlog",
        "source.notifications",
        "target.eviction",
        CLEAR,
    }
)


# --- for people -----------------------------------------------------------------------------------------------------------


@patient
def request_repair(actor: User | None, item: PrecheckItem, *, confirmation: str = "") -> Inspection:
    """Apply the button of an item: a worker sets the advised values, or clears the target.

    `confirmation` is the name of the target, typed, where it is to be cleared. Raises NotFound, NotPermitted, Invalid
    (`repair.confirmation`) or Conflict (`repair.none`, `repair.not_current`, `repair.not_own`, `repair.in_use`, `inspection.running`).
    """
    inspection = item.inspection
    task = MigrationTask.objects.select_related("account", "source", "target", "target_role").get(
        pk=inspection.task_id
    )
    require_operator(actor, task.account)
    if item.repair_code not in CODES:
        raise Conflict(
            f"“{item.title}” has no repair that could be made from here. {UNCHANGED}",
            advice=item.repair or item.advice,
            id="repair.none",
        )
    verdict = states.allowed(Action.CONFIGURE, task.status_badge)
    newest = prechecks.newest(task)
    if not verdict.open or newest is None or newest.pk != inspection.pk:
        raise Conflict(
            f"{verdict.reason or 'This item is not of the newest precheck.'} {UNCHANGED}",
            advice="Load the page again.",
            id="repair.not_current",
        )
    source, target = task.both_sides()
    if item.repair_code == CLEAR:
        parameters = _clearing(task, target, confirmation)
    else:
        _check_own(actor, task, source if item.side == "source" else target)
        parameters = {"set": item.data.get("set", {})}
    asked = inspections.request(
        actor, task, InspectionKind.REPAIR, code=item.repair_code, side=item.side, item=item.pk, **parameters
    )
    if item.repair_code == CLEAR:
        where = "all databases" if parameters["databases"] is None else f"databases {parameters['databases']}"
        links.note(
            task, "repair.clear_confirmed", f"{who(actor)} has confirmed by its name that the target {target.name} is to be cleared "
            f"({where}).", LogLevel.WARNING,
        )  # fmt: skip
        audit.record(
            actor, "target.clear_confirmed", target, task=task.public_id, databases=parameters["databases"]
        )
    return asked


def _check_own(actor: User | None, task: MigrationTask, instance: Instance) -> None:
    """The configuration of another account's server is not touched, whatever a role lets one do with its data."""
    if instance.account_id == task.account_id or actor is None:
        return
    role = role_in(actor, instance.account)
    if role is None or not role.can_operate:
        raise Conflict(
            f"{instance.name} belongs to another account: its settings are not changed from here. {UNCHANGED}",
            advice="Ask its owner to make the change.",
            id="repair.not_own",
        )


def _clearing(task: MigrationTask, target: Instance, confirmation: str) -> dict[str, Any]:
    """The parameters of a repair that clears the target."""
    if confirmation.strip() != target.name:
        raise Invalid(
            f"What was typed is not the name of the target. {UNCHANGED}",
            advice=f"Type {target.name}, exactly as it is written, if all that the target holds may be lost.",
            id="repair.confirmation",
            field="confirmation",
        )
    if task.target_role is not None:
        check_role(task.target_role, task.account, target, task.databases, True, unchanged=UNCHANGED)
    check_unused(task)
    return {"databases": task.databases, "confirmed": target.name}


def check_unused(task: MigrationTask) -> None:
    """Raises Conflict (`repair.in_use`) while another task writes to the target, or reads from it."""
    _, target = task.both_sides()
    others = MigrationTask.objects.exclude(pk=task.pk).filter(status__in=HOLDING)
    other = others.filter(_at(target, "target") | _at(target, "source")).first()
    if other is not None:
        called = (
            f"The task {other.name} ({other.public_id})"
            if other.account_id == task.account_id
            else "A task of another account"
        )
        raise Conflict(
            f"{called} writes to this target or reads from it. It was not cleared.",
            advice="Stop or release that task first.",
            id="repair.in_use",
        )


def _at(instance: Instance, side: str) -> Q:
    """The same server, also where it is another row."""
    endpoint = instance.endpoint
    known = Q(**{side: instance})
    if endpoint.host:
        known |= Q(**{f"{side}__endpoint__host": endpoint.host, f"{side}__endpoint__port": endpoint.port})
    return known | Q(**{f"{side}__run_id": instance.run_id}) if instance.run_id else known


@patient
def request_restore(actor: User | None, task: MigrationTask) -> Inspection:
    """Put everything back now that was changed for the task. Raises NotPermitted or Conflict (`repair.nothing`)."""
    require_operator(actor, task.account)
    verdict = states.allowed(Action.DELETE, TaskStatus(task.status))
    if not verdict.open:
        raise Conflict(f"{verdict.reason} {UNCHANGED}", id="repair.task_runs")
    if not pending(task).update(restore_wanted=True):
        raise Conflict("No setting of a server is changed for this task.", advice="", id="repair.nothing")
    return inspections.request(actor, task, InspectionKind.REPAIR, check_roles=False, restore=True)


def pending(task: MigrationTask) -> Any:
    """The changes that are not put back yet."""
    return AppliedRepair.objects.filter(task=task, restored_at=None)


def before_delete(actor: User | None, task: MigrationTask) -> None:
    """Raises Conflict (`repair.pending`) while settings have to be put back: it is begun by that. Not inside a transaction."""
    if not pending(task).filter(attempts__lt=BEFORE_DELETE).exists():
        return
    with suppress(Conflict):  # it is under way
        _restore_now(task)
    names = sorted(set(pending(task).values_list("setting", flat=True)))
    raise Conflict(
        f"Settings that were changed for this task are being put back first ({', '.join(names)}). The task was not deleted.",
        advice="Delete it again in some seconds.",
        id="repair.pending",
    )


@patient
def _restore_now(task: MigrationTask) -> Inspection:
    pending(task).update(restore_wanted=True)
    return inspections.request(None, task, InspectionKind.REPAIR, check_roles=False, restore=True)


# --- when the task has ended --------------------------------------------------------------------------------------------------


def due() -> list[int]:
    """Tasks with settings that are to be put back now, and for which nobody does it."""
    now = timezone.now()
    over = (
        Q(restore_wanted=True)
        | Q(task__status__in=_OVER)
        | Q(task__status=TaskStatus.FAILED, task__finished_at__lt=now - RESUMABLE)
    )
    rows = AppliedRepair.objects.filter(over, restored_at=None, attempts__lt=ATTEMPTS).select_related("task")
    waiting = {
        row.task_id for row in rows if row.tried_at is None or row.tried_at < now - AGAIN * row.attempts
    }
    if not waiting:
        return []
    busy = Inspection.objects.filter(
        task__in=waiting, kind=InspectionKind.REPAIR, status__in=OPEN
    ).values_list("task_id", flat=True)
    return sorted(waiting - set(busy))


def restore_due(task_id: int) -> None:
    """Ask a worker to put back what was changed for the task. Nothing while one does."""
    task = MigrationTask.objects.select_related("account").filter(pk=task_id).first()
    if task is None or hand_over(task):
        return
    with suppress(Conflict):
        inspections.request(None, task, InspectionKind.REPAIR, check_roles=False, restore=True)


@patient
def hand_over(task: MigrationTask) -> bool:
    """Another task that is not over uses the same servers: what it needs stays, and is put back when that one has ended.

    True if nothing is left to be put back for this task.
    """
    for row in pending(task).filter(restore_wanted=False).select_related("instance__endpoint"):
        others = (
            MigrationTask.objects.exclude(pk=task.pk)
            .exclude(status__in=[*_OVER, TaskStatus.NOT_CONFIGURED])
            .order_by("pk")
        )
        side = row.code.partition(".")[0]
        other = others.filter(_at(row.instance, side)).first()
        if other is None:
            continue
        AppliedRepair.objects.filter(pk=row.pk).update(task=other, instance=getattr(other, side))
        told = f"{row.setting} of {row.address} stays at {row.new}"
        links.note(task, "repair.handed_over", f"{told}: another task at this server needs it.")
        links.note(
            other,
            "repair.taken_over",
            f"{told} for this task, and is put back to {row.old} when it has ended.",
        )
    return not pending(task).exists()


# --- for the worker -----------------------------------------------------------------------------------------------------------


@patient
def begin(
    inspection: Inspection, instance: Instance, address: str, setting: str, old: str, new: str
) -> AppliedRepair:
    """Note the old value, before the new one is set. One that is noted already, and not put back, stays the old one."""
    row = AppliedRepair.objects.filter(
        task=inspection.task, instance=instance, address=address, setting=setting, restored_at=None
    ).first()
    if row is not None:
        AppliedRepair.objects.filter(pk=row.pk).update(new=new, restore_wanted=False)
        row.refresh_from_db()
        return row
    return AppliedRepair.objects.create(
        task=inspection.task,
        instance=instance,
        address=address,
        code=inspection.parameters["code"],
        setting=setting,
        old=old,
        new=new,
        by=inspection.requested_by,
    )


@patient
def applied(row: AppliedRepair, new: str) -> None:
    """The server has it, and tells it as `new`."""
    AppliedRepair.objects.filter(pk=row.pk).update(
        applied_at=timezone.now(), new=new, tried_at=None, attempts=0
    )
    details: dict[str, Any] = {"setting": row.setting, "address": row.address, "old": row.old, "new": new}
    told = f"{who(row.by)} has changed {row.setting} of {row.address} from {row.old or '(empty)'} to {new}; it is put back when the task has ended."
    links.note(row.task, "repair.applied", told, **details)
    audit.record(row.by, "repair.applied", row.task, **details)


@patient
def not_applied(row: AppliedRepair, why: str) -> None:
    """The server has refused it: there is nothing to put back."""
    if row.applied_at is None:
        AppliedRepair.objects.filter(pk=row.pk).update(restored_at=timezone.now(), note=why[:2000])
    links.note(
        row.task, "repair.refused", f"{row.address} refuses to change {row.setting}: {why}", LogLevel.ERROR
    )


@patient
def restored(row: AppliedRepair, note: str = "") -> None:
    """The old value is there again; with a `note`, the server's present value was left as it is."""
    if not AppliedRepair.objects.filter(pk=row.pk, restored_at=None).update(
        restored_at=timezone.now(), note=note[:2000]
    ):
        return
    details: dict[str, Any] = {"setting": row.setting, "address": row.address, "old": row.old, "new": row.new}
    if note:
        links.note(
            row.task,
            "repair.left",
            f"{row.setting} of {row.address} was not put back: {note}",
            LogLevel.WARNING,
            **details,
        )
        audit.record(None, "repair.left", row.task, note=note, **details)
    else:
        links.note(
            row.task,
            "repair.restored",
            f"{row.setting} of {row.address} is {row.old or '(empty)'} again.",
            **details,
        )
        audit.record(None, "repair.restored", row.task, **details)
    instance = row.instance
    if instance.origin == Origin.SELF_HOSTED:
        transaction.on_commit(lambda: drop_side(instance))


@patient
def not_restored(row: AppliedRepair, why: str) -> None:
    """It could not be put back now; it is tried again."""
    AppliedRepair.objects.filter(pk=row.pk).update(
        attempts=F("attempts") + 1, tried_at=timezone.now(), note=why[:2000]
    )
    if row.attempts == 0 or row.attempts + 1 >= ATTEMPTS:
        again = (
            "It is tried again."
            if row.attempts + 1 < ATTEMPTS
            else f"Do it by hand: CONFIG SET {row.setting} “{row.old}”."
        )
        links.note(
            row.task,
            "repair.not_restored",
            f"{row.setting} of {row.address} could not be put back: {why} {again}",
            LogLevel.WARNING,
        )


@patient
def cleared(inspection: Inspection, keys: dict[str, int]) -> None:
    """The target was cleared. `keys` had been in it, by database."""
    task = inspection.task
    _, target = task.both_sides()
    actor = inspection.requested_by
    total = sum(keys.values())
    links.note(
        task,
        "target.cleared",
        f"{who(actor)} has cleared the target {target.name}: {total:,} keys are gone.",
        LogLevel.WARNING,
        keys=total,
    )
    for obj in (task, target):
        audit.record(
            actor,
            "target.cleared",
            obj,
            target=target.public_id,
            task=task.public_id,
            databases=keys,
            keys=total,
        )
