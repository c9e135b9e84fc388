"""Migration tasks, for people: create, start, stop, resume, delete.

Each function takes the actor (None is the system), checks the permission, changes the status by compare-and-swap, writes an
audit entry and the task's log, and asks for a worker once all that is committed. Refusals are `portal.errors.ServiceError`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone

from migrations_app import states
from migrations_app.choices import ConflictPolicy, Desired, LogLevel, Phases, TaskStatus
from migrations_app.models import Link, LinkProgress, MigrationTask
from migrations_app.services import checks, links
from migrations_app.services.patience import patient
from migrations_app.states import Action
from portal.errors import Conflict, NotFound, ServiceError
from portal.models import Account, Instance
from portal.services import audit
from portal.services.permissions import require_operator

if TYPE_CHECKING:
    from django.contrib.auth.models import User

UNCHANGED = "Nothing was changed."


@dataclass(frozen=True, slots=True)
class Result:
    """What a bulk action did to one task. `name` is empty where the person may not see the task."""

    public_id: str
    name: str
    ok: bool
    message: str


def get_task(actor: User | None, public_id: str) -> MigrationTask:
    """The task, if the person may see it. Raises NotFound."""
    visible = MigrationTask.objects.all() if actor is None else MigrationTask.objects.visible_to(actor)
    task = visible.select_related("account", "source", "target", "link").filter(public_id=public_id).first()
    if task is None:
        raise NotFound(f"There is no migration task {public_id} in your accounts.")
    return task


@patient
def create_task(
    actor: User | None,
    account: Account,
    source: Instance,
    target: Instance,
    *,
    phases: Phases = Phases.FULL_INCREMENTAL,
    databases: Iterable[int] | None = None,
    name: str = "",
    retry_minutes: int = 120,
) -> MigrationTask:
    """A new task in the status Ready, with its link. `databases` None means all; an empty name becomes a telling one.

    Raises NotFound for what belongs to another account, NotPermitted, Invalid (with the field) or Conflict.
    """
    require_operator(actor, account)
    for side, instance in (("source", source), ("target", target)):
        if instance.account_id != account.pk:
            raise NotFound(
                f"There is no such {side} in the account {account.name}. {checks.UNCHANGED}", field=side
            )
    checks.check_sides(source, target)
    chosen = checks.check_databases(source, target, databases)
    checks.check_retry_minutes(retry_minutes)
    checks.check_other_tasks(source, target, unchanged=checks.UNCHANGED)
    task = MigrationTask.objects.create(
        name=" ".join(name.split())[:120] or generated_name(source, target),
        account=account,
        source=source,
        target=target,
        phases=phases,
        databases=chosen,
        retry_minutes=retry_minutes,
        conflict=ConflictPolicy.OVERWRITE,  # as the form says
        status=TaskStatus.READY,
        created_by=actor,
    )
    link = Link.objects.create(task=task, name=task.public_id)
    LinkProgress.objects.create(link=link)
    links.note(
        task,
        "task.created",
        f"{_who(actor)} created the task.",
        phases=str(task.phases),
        databases=task.databases_label,
    )
    audit.record(
        actor,
        "task.created",
        task,
        source=source.public_id,
        target=target.public_id,
        phases=str(phases),
        databases=chosen,
    )
    return task


def generated_name(source: Instance, target: Instance) -> str:
    """`orders to orders-new`. Names need not be unique: the ID is."""
    return f"{source.name[:56]} to {target.name[:56]}"


@patient
def start_task(actor: User | None, task: MigrationTask) -> MigrationTask:
    """Ready → starting: a worker takes it in a moment. Raises NotPermitted or Conflict."""
    _check(actor, task, Action.START)
    checks.check_other_tasks(*task.both_sides(), unchanged="The task was not started.", but=task.pk)
    _begin(task, (TaskStatus.READY,), unchanged="The task was not started.", started_at=timezone.now())
    return _told(actor, task, "task.started", f"{_who(actor)} started the task.")


@patient
def resume_task(actor: User | None, task: MigrationTask, *, allow_full_resync: bool = False) -> MigrationTask:
    """Failed or stopped early → starting: the link goes on where it stood.

    `allow_full_resync` consents to a new full phase, once, if the source no longer has the changes that the link needs.
    Raises NotPermitted or Conflict.
    """
    _check(actor, task, Action.RESUME)
    unchanged = "The task was not resumed."
    checks.check_other_tasks(*task.both_sides(), unchanged=unchanged, but=task.pk)
    _begin(
        task,
        (TaskStatus.FAILED, TaskStatus.STOPPED),
        unchanged=unchanged,
        finished_at=None,
        failure_id="",
        failure_message="",
        failure_advice="",
        full_resync_allowed=allow_full_resync,
    )
    consent = " A new full synchronization is allowed." if allow_full_resync else ""
    return _told(
        actor,
        task,
        "task.resumed",
        f"{_who(actor)} resumed the task.{consent}",
        allow_full_resync=allow_full_resync,
    )


@patient
def stop_task(actor: User | None, task: MigrationTask) -> MigrationTask:
    """Active → stopping: its worker applies what it has received, notes where it stands and ends within seconds.

    In the incremental phase the task is then successful; before that it is stopped early and can be resumed.
    Raises NotPermitted or Conflict.
    """
    _check(actor, task, Action.STOP)
    # Any status that may be stopped, not the one just read: the phase moves on by itself meanwhile.
    stoppable = [status for status in TaskStatus if states.allowed(Action.STOP, status).open]
    if not MigrationTask.objects.filter(pk=task.pk, status__in=stoppable).update(status=TaskStatus.STOPPING):
        raise Conflict(
            f"The task {task.name} has ended meanwhile. {UNCHANGED}", advice="Load the page again."
        )
    Link.objects.filter(task=task).update(desired=Desired.STOP)
    _told(actor, task, "task.stop_requested", f"{_who(actor)} asked to stop the task.")
    # No worker has it (it waits for one, or its worker has died): nobody else would end it.
    links.settle(task.link.pk)
    task.refresh_from_db()
    return task


def stop_tasks(actor: User | None, public_ids: Iterable[str]) -> list[Result]:
    """Stop each on its own: one refusal does not keep the others from being stopped. In the order given, each once."""
    results = []
    for public_id in dict.fromkeys(public_ids):
        name = ""
        try:
            task = get_task(actor, public_id)
            name = task.name
            stopped = stop_task(actor, task)
            results.append(Result(public_id, name, True, str(TaskStatus(stopped.status).label)))
        except ServiceError as refusal:
            results.append(Result(public_id, name, False, str(refusal)))
    return results


@patient
def delete_task(actor: User | None, task: MigrationTask) -> None:
    """Remove a task that does not run, with its log. Source and target stay as they are. Raises NotPermitted or Conflict."""
    _check(actor, task, Action.DELETE)
    deletable = [status for status in TaskStatus if states.allowed(Action.DELETE, status).open]
    # A start at the same moment waits for this row, and then finds it gone; or this finds the status changed.
    if not MigrationTask.objects.select_for_update().filter(pk=task.pk, status__in=deletable).exists():
        raise Conflict(
            f"The task {task.name} was started or deleted meanwhile. {UNCHANGED}",
            advice="Load the page again.",
        )
    audit.record(actor, "task.deleted", task, status=task.status)
    task.delete()


def _begin(task: MigrationTask, old: tuple[TaskStatus, ...], *, unchanged: str, **changes: Any) -> None:
    """The compare-and-swap of start and resume, and the bell."""
    try:
        with transaction.atomic():
            changed = MigrationTask.objects.filter(pk=task.pk, status__in=old).update(
                status=TaskStatus.STARTING, **changes
            )
    except IntegrityError:
        # Another task into this target was started between the check and here: the constraint decides.
        raise checks.target_taken(None, unchanged) from None
    if not changed:
        raise Conflict(
            f"The task {task.name} was started, deleted or changed by somebody else meanwhile. {unchanged}",
            advice="Load the page again.",
        )
    Link.objects.filter(task=task).update(desired=Desired.RUN, rung_at=Now())
    link_id = task.link.pk
    transaction.on_commit(lambda: links.ring(link_id))


def _told(
    actor: User | None, task: MigrationTask, action: str, sentence: str, **details: Any
) -> MigrationTask:
    links.note(task, action, sentence, LogLevel.INFO, **details)
    audit.record(actor, action, task, **details)
    task.refresh_from_db()
    return task


def _check(actor: User | None, task: MigrationTask, action: Action) -> None:
    """Permission first: a refusal because of the status would tell it to somebody who may not act."""
    require_operator(actor, task.account)
    # The status of now, not the one of the page that the person looked at.
    status = MigrationTask.objects.filter(pk=task.pk).values_list("status", flat=True).first()
    if status is None:
        raise NotFound(f"The task {task.name} was deleted meanwhile. {UNCHANGED}")
    verdict = states.allowed(action, TaskStatus(status))
    if not verdict.open:
        raise Conflict(f"{verdict.reason} {UNCHANGED}", advice="", id=f"task.cannot_{action.value}")


def _who(actor: User | None) -> str:
    return actor.get_username() if actor else "The system"
