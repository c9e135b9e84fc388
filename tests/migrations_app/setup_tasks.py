"""Tasks on their way through the set-up, for the tests of its steps."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from migrations_app.choices import InspectionKind, InspectionStatus, Outcome, Severity, TaskStatus
from migrations_app.models import Inspection, MigrationTask, PrecheckItem
from migrations_app.services import connectivity, tasks
from portal.models import Account, Instance


def draft(actor: User, account: Account, source: Instance, target: Instance, **settings: Any) -> MigrationTask:  # fmt: skip
    """A task whose sides are chosen and have passed the connectivity test."""
    task = tasks.create_draft(actor, account)
    task = tasks.configure(actor, task, source=source, target=target, **settings)
    Inspection.objects.create(
        task=task,
        kind=InspectionKind.CONNECTIVITY,
        status=InspectionStatus.DONE,
        passed=True,
        fingerprint=connectivity.fingerprint(task),
        finished_at=timezone.now(),
        worker_ip="192.0.2.9",
    )
    return task


def item(inspection: Inspection, code: str, outcome: Outcome = Outcome.PASSED, **values: Any) -> PrecheckItem:
    standard = {
        "title": code.rpartition(".")[2].replace("_", " ").capitalize(),
        "severity": Severity.ERROR,
        "side": code.partition(".")[0].replace("pair", ""),
        "position": inspection.items.count(),
        "found": f"What was found by {code}.",
        "ignorable": True,
    }
    return PrecheckItem.objects.create(
        inspection=inspection, code=code, outcome=outcome, **(standard | values)
    )


def checked(
    task: MigrationTask, outcomes: dict[str, Outcome], *, status: TaskStatus | None = None, **values: Any
) -> Inspection:
    """A precheck that has ended with these items, and the status of the task that follows from it."""
    passed = Outcome.FAILED not in outcomes.values()
    standard = {
        "status": InspectionStatus.DONE,
        "passed": passed,
        "fingerprint": tasks.fingerprint(task),
        "finished_at": timezone.now(),
    }
    inspection = Inspection.objects.create(task=task, kind=InspectionKind.PRECHECK, **(standard | values))
    for code, outcome in outcomes.items():
        item(inspection, code, outcome)
    task.status = status or (TaskStatus.READY if passed else TaskStatus.PRECHECK_FAILED)
    task.save(update_fields=["status"])
    return inspection
