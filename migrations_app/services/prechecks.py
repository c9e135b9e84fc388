"""Prechecks: what follows from their items, and taking the risk of one that has failed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.utils import timezone

from migrations_app.choices import InspectionKind, InspectionStatus, LogLevel, Outcome, TaskStatus
from migrations_app.models import IgnoredItem, Inspection, MigrationTask, PrecheckItem
from migrations_app.services import inspections, links, status
from migrations_app.services.launch import launch
from migrations_app.services.setup import fingerprint, who
from portal.errors import Conflict, Invalid, ServiceError
from portal.patience import patient
from portal.services import audit
from portal.services.permissions import require_operator

if TYPE_CHECKING:
    from django.contrib.auth.models import User

HOLDS_FOR: Final = timedelta(hours=1)
_GOOD: Final = (Outcome.PASSED, Outcome.WARNING, Outcome.IGNORED)


def newest(task: MigrationTask) -> Inspection | None:
    return inspections.newest(task, InspectionKind.PRECHECK)


def holds(task: MigrationTask) -> bool:
    """Whether the newest precheck has passed within the last hour, for the settings as they are now."""
    return why_again(task) == ""


def why_again(task: MigrationTask) -> str:
    """Why the task has to be prechecked (again) before it may start; "" if it has not."""
    last = newest(task)
    if last is None or last.status != InspectionStatus.DONE or not last.passed:
        return "it has not been checked yet"
    return why_outdated(task, last)


def why_outdated(task: MigrationTask, last: Inspection) -> str:
    """Why what a precheck has found, whatever it was, does not count any more; "" while it does."""
    if last.fingerprint != fingerprint(task):
        return "the settings of the task or of one of its sides have changed since the last precheck"
    if last.finished_at is None or last.finished_at < timezone.now() - HOLDS_FOR:
        return "the last precheck is older than an hour"
    return ""


def success_rate(inspection: Inspection) -> int:
    """Percent of the checks that apply which have passed or were ignored (R87), rounded down: 100 means all of them."""
    outcomes = [one for one in inspection.items.values_list("outcome", flat=True) if one != Outcome.SKIPPED]
    if not outcomes:
        return 100 if inspection.passed else 0
    return sum(one in _GOOD for one in outcomes) * 100 // len(outcomes)


def conclude(inspection: Inspection) -> None:
    """A precheck has ended: the task is ready, or not; where a start has asked for it, it goes on by itself."""
    task = MigrationTask.objects.select_related("account", "source", "target", "link").get(
        pk=inspection.task_id
    )
    if inspection.status == InspectionStatus.CANCELLED:
        _move(task, TaskStatus.NOT_CONFIGURED)
        links.note(task, "precheck.cancelled", "The precheck was cancelled.")
        return
    if inspection.status == InspectionStatus.FAILED:
        _move(task, TaskStatus.PRECHECK_FAILED)
        links.note(task, "precheck.failed", inspection.failure_message, LogLevel.ERROR)
        return
    ignored = _apply_ignored(inspection, task)
    failed = inspection.items.filter(outcome=Outcome.FAILED).count()
    passed = not failed and (inspection.passed is not False or inspection.items.exists())
    inspection.passed = passed
    inspection.save(update_fields=["passed"])
    rate = success_rate(inspection)
    if not passed:
        _move(task, TaskStatus.PRECHECK_FAILED)
        what = "1 check has" if failed == 1 else f"{failed} checks have"
        links.note(task, "precheck.failed", f"The precheck is at {rate} %: {what} failed.", LogLevel.ERROR)
        audit.record(None, "precheck.failed", task, inspection=inspection.public_id, failed=failed)
        return
    wanted = task.start_when_ready
    _move(task, TaskStatus.READY)
    told = f" ({ignored} ignored)" if ignored else ""
    links.note(task, "precheck.passed", f"The precheck has passed{told}.")
    audit.record(None, "precheck.passed", task, inspection=inspection.public_id, ignored=ignored)
    if wanted:
        _go_on(task, inspection)


@patient
def ignore_item(actor: User | None, item: PrecheckItem, reason: str) -> PrecheckItem:
    """Take the risk of a failed item (R86): it holds for as long as what was found stays the same.

    With the last failed item ignored the task is ready. Raises NotFound, NotPermitted, Invalid (`precheck.reason`) or Conflict.
    """
    inspection = item.inspection
    task = inspection.task
    require_operator(actor, task.account)
    reason = " ".join(reason.split())
    if not reason:
        raise Invalid(
            "The risk is taken only with a reason. Nothing was changed.",
            advice="Write in a few words why it does no harm here: it is kept with your name.",
            id="precheck.reason",
            field="reason",
        )
    # The row of the task is the lock: a new precheck may be asked for at the same moment.
    row = MigrationTask.objects.select_for_update().get(pk=task.pk)
    last = newest(task)
    if row.status_badge != TaskStatus.PRECHECK_FAILED or last is None or last.pk != inspection.pk:
        raise Conflict(
            "This item is not of the failed precheck that counts. Nothing was changed.",
            advice="Load the page again.",
            id="precheck.not_current",
        )
    if not item.ignorable:
        raise Conflict(
            f"“{item.title}” protects data and cannot be ignored. Nothing was changed.",
            advice=item.repair or item.advice or "Repair it, and run the precheck again.",
            id="precheck.not_ignorable",
        )
    if not PrecheckItem.objects.filter(pk=item.pk, outcome=Outcome.FAILED).update(outcome=Outcome.IGNORED):
        raise Conflict(
            f"“{item.title}” has not failed. Nothing was changed.", advice="Load the page again.", id="precheck.not_failed"
        )  # fmt: skip
    IgnoredItem.objects.update_or_create(
        task=task,
        code=item.code,
        side=item.side,
        defaults={"found": _found(item), "reason": reason, "by": actor, "at": timezone.now()},
    )
    links.note(
        task,
        "precheck.ignored",
        f"{who(actor)} ignores “{item.title}”: {reason}",
        LogLevel.WARNING,
        code=item.code,
    )
    audit.record(actor, "precheck.ignored", task, code=item.code, side=item.side, reason=reason)
    if not inspection.items.filter(outcome=Outcome.FAILED).exists():
        Inspection.objects.filter(pk=inspection.pk).update(passed=True)
        status.move(task.pk, (TaskStatus.PRECHECK_FAILED,), TaskStatus.READY)
    item.refresh_from_db()
    return item


def _apply_ignored(inspection: Inspection, task: MigrationTask) -> int:
    """What was ignored before is so again where the same was found. How many."""
    before = {(one.code, one.side): one for one in IgnoredItem.objects.filter(task=task)}
    count = 0
    for item in inspection.items.filter(outcome=Outcome.FAILED, ignorable=True):
        known = before.get((item.code, item.side))
        if known is not None and known.found == _found(item):
            count += PrecheckItem.objects.filter(pk=item.pk).update(outcome=Outcome.IGNORED)
    return count


def _found(item: PrecheckItem) -> str:
    """What must stay the same: `data["same"]` where the sentence holds figures that change by themselves."""
    return str(item.data.get("same", item.found))


def _move(task: MigrationTask, new: TaskStatus) -> None:
    status.move(task.pk, (TaskStatus.PRECHECKING,), new, start_when_ready=False)


def _go_on(task: MigrationTask, inspection: Inspection) -> None:
    """To the start, for which this precheck was made. A refusal leaves the task ready, and says why."""
    try:
        if why := why_again(task):
            raise Conflict(f"{why[:1].upper()}{why[1:]}. The task was not started.", advice="Start it again.")
        with transaction.atomic():
            launch(
                task, (TaskStatus.READY,), unchanged="The task was not started.", started_at=timezone.now()
            )
    except ServiceError as refusal:
        links.note(task, "task.not_started", str(refusal), LogLevel.ERROR)
        return
    actor = inspection.requested_by
    links.note(task, "task.started", f"{who(actor)} started the task.")
    audit.record(actor, "task.started", task)


inspections.ENDED[InspectionKind.PRECHECK] = conclude
