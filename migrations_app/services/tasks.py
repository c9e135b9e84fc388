"""Migration tasks, for people: precheck, start, pause, resume, stop, release, delete. (The functions of
setting up are in `setup.py` and can be had from here as well.)

Each function takes the actor (None is the system), checks the permission, changes the status by compare-and-swap, writes an
audit entry and the task's log, and asks for a worker once all that is committed. Refusals are `portal.errors.ServiceError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from migrations_app import states
from migrations_app.choices import Desired, InspectionKind, LogLevel, TaskStatus
from migrations_app.models import Inspection, Link, MigrationTask
from migrations_app.services import checks, inspections, links, prechecks, releases, repairs, status
from migrations_app.services.launch import launch
from migrations_app.services.running import change_connection, change_running
from migrations_app.services.setup import (
    Missing,
    configure,
    create_draft,
    create_task,
    drop_side,
    fingerprint,
    generated_name,
    missing,
    who,
)
from migrations_app.states import Action
from portal.choices import Origin
from portal.errors import Conflict, Invalid, NotFound, ServiceError
from portal.patience import patient
from portal.services import audit
from portal.services.permissions import require_operator

if TYPE_CHECKING:
    from django.contrib.auth.models import User

__all__ = [
    "Missing",
    "Result",
    "bulk",
    "change_connection",
    "change_running",
    "configure",
    "create_draft",
    "create_task",
    "delete_task",
    "fingerprint",
    "generated_name",
    "get_task",
    "missing",
    "pause_by_system",
    "pause_task",
    "precheck_task",
    "release_task",
    "resume_task",
    "start_task",
    "stop_task",
]

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
def precheck_task(actor: User | None, task: MigrationTask, *, then_start: bool = False) -> Inspection:
    """Ask for a precheck; with `then_start` the task starts by itself once it has passed.

    Raises NotPermitted or Conflict (`task.not_configured` with all that is missing).
    """
    _check(actor, task, Action.PRECHECK)
    row = MigrationTask.objects.select_related("account", "source", "target").get(pk=task.pk)
    lacking = missing(row)
    if lacking:
        raise Conflict(
            f"The task is not configured completely: {' '.join(one.sentence for one in lacking)} {UNCHANGED}",
            advice="Finish its set-up first.",
            id="task.not_configured",
        )
    with transaction.atomic():
        _move(row, Action.PRECHECK, TaskStatus.PRECHECKING, start_when_ready=then_start)
        inspection = inspections.request(
            actor, row, InspectionKind.PRECHECK, fingerprint=fingerprint(row), then_start=then_start
        )
    links.note(row, "precheck.requested", f"{who(actor)} asked for a precheck.", then_start=then_start)
    task.refresh_from_db()
    return inspection


@patient
def start_task(actor: User | None, task: MigrationTask) -> MigrationTask:
    """Ready → starting: a worker takes it in a moment.

    Where the last precheck does not hold any more (older than an hour, or something has changed), a new one is made first: the
    task is then Prechecking, and starts by itself once it has passed. Raises NotPermitted or Conflict.
    """
    _check(actor, task, Action.START)
    checks.check_other_tasks(*task.both_sides(), unchanged="The task was not started.", but=task.pk)
    if why := prechecks.why_again(task):
        precheck_task(actor, task, then_start=True)
        links.note(
            task, "precheck.again", f"Before the start the task is checked again: {why}. It starts once that has passed."
        )  # fmt: skip
        return task
    launch(task, (TaskStatus.READY,), unchanged="The task was not started.", started_at=timezone.now())
    return _told(actor, task, "task.started", f"{who(actor)} started the task.")


@patient
def resume_task(actor: User | None, task: MigrationTask, *, allow_full_resync: bool = False) -> MigrationTask:
    """Paused, failed or stopped early → starting: the link goes on where it stood.

    `allow_full_resync` consents to a new full phase, once, if the source no longer has the changes that the link needs.
    Raises NotPermitted or Conflict.
    """
    _check(actor, task, Action.RESUME)
    launch(
        task,
        _open(Action.RESUME),
        unchanged="The task was not resumed.",
        finished_at=None,
        failure_id="",
        failure_message="",
        failure_advice="",
        full_resync_allowed=allow_full_resync,
        resume_attempts=0,
        resume_next_at=None,
    )
    consent = " A new full synchronization is allowed." if allow_full_resync else ""
    return _told(
        actor,
        task,
        "task.resumed",
        f"{who(actor)} resumed the task.{consent}",
        allow_full_resync=allow_full_resync,
    )


@patient
def pause_task(actor: User | None, task: MigrationTask) -> MigrationTask:
    """Active → pausing: its worker applies what it has received, notes where it stands and ends within seconds. Then it is paused.

    Nothing is written while it is paused; resumed, it goes on where it stood. Raises NotPermitted or Conflict.
    """
    return _pause(actor, task, "")


@patient
def pause_by_system(task: MigrationTask, reason: str) -> bool:
    """Pause a task because something has taken its permission away. False if it does not run (any more)."""
    try:
        _pause(None, task, reason)
    except (Conflict, NotFound):
        return False
    return True


@patient
def stop_task(actor: User | None, task: MigrationTask) -> MigrationTask:
    """Active → stopping: its worker applies what it has received, notes where it stands and ends within seconds.

    In the incremental phase the task is then successful; before that it is stopped early and can be resumed. A paused task
    ends at once. Raises NotPermitted or Conflict.
    """
    _check(actor, task, Action.STOP)
    # Any status that may be stopped, not the one just read: the phase moves on by itself meanwhile.
    running = _open(Action.STOP) - {TaskStatus.PAUSED}
    paused = MigrationTask.objects.select_for_update().filter(pk=task.pk, status=TaskStatus.PAUSED)
    if not paused.exists() and not status.move(task.pk, running, TaskStatus.STOPPING):
        raise _ended_meanwhile(task)
    Link.objects.filter(task=task).update(desired=Desired.STOP)
    _told(actor, task, "task.stop_requested", f"{who(actor)} asked to stop the task.")
    # No worker has it (it is paused, waits for one, or its worker has died): nobody else would end it.
    links.settle(task.link.pk)
    task.refresh_from_db()
    return task


@patient
def release_task(actor: User | None, task: MigrationTask) -> MigrationTask:
    """The end of a task that has stopped, paused or failed: it never writes again (R56). Raises NotPermitted or Conflict.

    That holds at once for every worker of this console. A worker that hangs somewhere with a connection to the target is shut
    out there, too: a job tells the target, as soon as it can be reached.
    """
    _check(actor, task, Action.RELEASE)
    _move(task, Action.RELEASE, TaskStatus.RELEASED, finished_at=timezone.now(), resume_next_at=None)
    # A higher epoch: whoever still believes to have the link does not any more.
    Link.objects.filter(task=task).update(
        desired=Desired.STOP, owner="", lease_until=None, rung_at=None, epoch=F("epoch") + 1
    )
    _told(
        actor, task, "task.released", f"{who(actor)} released the task: it does not write to the target any more."
    )  # fmt: skip
    releases.ask(task)
    return task


def delete_task(actor: User | None, task: MigrationTask) -> None:
    """Remove a task that does not run, with its log and its self-hosted sides. Source and target stay as they are.

    Settings of servers that were changed for it are put back before (Conflict `repair.pending`: ask again). Raises NotPermitted or
    Conflict.
    """
    _check(actor, task, Action.DELETE)
    repairs.before_delete(actor, task)
    _delete(actor, task)


@patient
def _delete(actor: User | None, task: MigrationTask) -> None:
    # A start at the same moment waits for this row, and then finds it gone; or this finds the status changed.
    row = (
        MigrationTask.objects.select_for_update().filter(pk=task.pk, status__in=_open(Action.DELETE)).first()
    )
    if row is None:
        raise Conflict(
            f"The task {task.name} was started or deleted meanwhile. {UNCHANGED}",
            advice="Load the page again.",
        )
    audit.record(actor, "task.deleted", task, status=row.status)
    sides = [one for one in (row.source, row.target) if one is not None and one.origin == Origin.SELF_HOSTED]
    task.delete()
    for side in sides:
        drop_side(side)


ACTIONS: Final[dict[Action, Callable[[Any, MigrationTask], object]]] = {
    Action.PRECHECK: precheck_task,
    Action.START: start_task,
    Action.PAUSE: pause_task,
    Action.RESUME: resume_task,
    Action.STOP: stop_task,
    Action.RELEASE: release_task,
    Action.DELETE: delete_task,
}


def bulk(actor: User | None, action: Action | str, public_ids: Iterable[str]) -> list[Result]:
    """Do it to each on its own: one refusal does not keep it from the others. In the order given, each once.

    Raises Invalid for what is no action of many tasks.
    """
    function = ACTIONS.get(Action(action)) if action in list(Action) else None
    if function is None:
        raise Invalid(f"“{action}” cannot be done to several tasks. {UNCHANGED}", id="task.bad_action")
    results = []
    for public_id in dict.fromkeys(public_ids):
        name = ""
        try:
            task = get_task(actor, public_id)
            name = task.name
            function(actor, task)
        except ServiceError as refusal:
            results.append(Result(public_id, name, False, str(refusal)))
            continue
        row = MigrationTask.objects.filter(pk=task.pk).first() if task.pk else None
        results.append(Result(public_id, name, True, row.status_badge.label if row else "Deleted"))
    return results


def _pause(actor: User | None, task: MigrationTask, reason: str) -> MigrationTask:
    _check(actor, task, Action.PAUSE)
    if not status.move(task.pk, _open(Action.PAUSE), TaskStatus.PAUSING, pause_reason=reason):
        raise _ended_meanwhile(task)
    Link.objects.filter(task=task).update(desired=Desired.PAUSE)
    sentence = f"The task is paused: {reason}" if reason else f"{who(actor)} asked to pause the task."
    links.note(task, "task.pause_requested", sentence, LogLevel.WARNING if reason else LogLevel.INFO)
    audit.record(actor, "task.pause_requested", task, reason=reason)
    links.settle(task.link.pk)
    task.refresh_from_db()
    return task


def _open(action: Action) -> set[TaskStatus]:
    return {one for one in TaskStatus if states.allowed(action, one).open}


def _move(task: MigrationTask, action: Action, new: TaskStatus, **changes: Any) -> None:
    if not status.move(task.pk, _open(action), new, **changes):
        raise Conflict(
            f"The task {task.name} was changed by somebody else meanwhile. {UNCHANGED}",
            advice="Load the page again.",
        )


def _ended_meanwhile(task: MigrationTask) -> Conflict:
    return Conflict(f"The task {task.name} has ended meanwhile. {UNCHANGED}", advice="Load the page again.")


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
    now = MigrationTask.objects.filter(pk=task.pk).only("status", "finished_at").first()
    if now is None:
        raise NotFound(f"The task {task.name} was deleted meanwhile. {UNCHANGED}")
    verdict = states.allowed(action, now.status_badge, too_late=now.is_too_late)
    if not verdict.open:
        raise Conflict(f"{verdict.reason} {UNCHANGED}", advice="", id=f"task.cannot_{action.value}")
