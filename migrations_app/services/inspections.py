"""Inspections: asking for one, and what the worker that makes it may store.

Like a link, an inspection is run by whoever has its lease; the message of the broker only rings a bell. A worker that has lost
the lease changes nothing any more. All times of leases are the database's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django_q.tasks import async_task

from migrations_app.choices import InspectionKind, InspectionStatus
from migrations_app.models import Inspection, MigrationTask
from migrations_app.services import access, privacy
from portal.errors import Conflict, NotFound
from portal.patience import patient
from portal.services import audit
from portal.services.permissions import require_operator

if TYPE_CHECKING:
    from django.contrib.auth.models import User

LEASE_SECONDS: Final = 10
BELL_SECONDS: Final = 10
ATTEMPTS: Final = 5  # workers that may die of it before it is given up
CLUSTER: Final = "default"
OPEN: Final = (InspectionStatus.QUEUED, InspectionStatus.RUNNING)

# What else a request has to respect, and what follows an inspection, by kind: called inside the transaction that begins or
# ends it. Services of a kind add theirs when they are imported, which the app does when it is loaded (apps.py).
ENDED: Final[dict[InspectionKind, Callable[[Inspection], None]]] = {}


@dataclass(frozen=True, slots=True)
class InspectionLease:
    """The right to work on an inspection, until it is lost."""

    inspection_id: int
    owner: str
    attempt: int

    def _row(self) -> QuerySet[Inspection]:
        return Inspection.objects.filter(
            pk=self.inspection_id, owner=self.owner, attempt=self.attempt, status=InspectionStatus.RUNNING
        )


# --- for people -----------------------------------------------------------------------------------------------------------


@patient
def request(
    actor: User | None,
    task: MigrationTask,
    kind: InspectionKind,
    *,
    fingerprint: str = "",
    check_roles: bool = True,
    **parameters: Any,
) -> Inspection:
    """Ask for an inspection; a worker begins in a moment. `parameters` must be JSON and hold no secret.

    Raises NotPermitted, Conflict (`inspection.running`) while another one of this kind is under way, or Invalid where a role of
    another account does not let the task use a side any more (not asked without `check_roles`: what was done is undone all the same).
    """
    require_operator(actor, task.account)
    # The row of the task is the lock: two requests at the same moment make one inspection.
    if not MigrationTask.objects.select_for_update().filter(pk=task.pk).exists():
        raise NotFound(f"The task {task.name} was deleted meanwhile. Nothing was changed.")
    if check_roles:
        access.require_roles(task)
    if Inspection.objects.filter(task=task, kind=kind, status__in=OPEN).exists():
        raise Conflict(
            f"A {kind.label.lower()} of this task is running already. No other one was started.",
            advice="Wait until it has ended, or cancel it.",
            id="inspection.running",
        )
    inspection = Inspection.objects.create(
        task=task, kind=kind, parameters=parameters, fingerprint=fingerprint, requested_by=actor
    )
    audit.record(actor, f"{kind.value}.requested", task, inspection=inspection.public_id)
    transaction.on_commit(lambda: ring(inspection.pk))
    return inspection


@patient
def cancel(actor: User | None, inspection: Inspection) -> Inspection:
    """End it within seconds, at its next safe point. Raises NotPermitted or Conflict (`inspection.ended`)."""
    require_operator(actor, inspection.task.account)
    if not Inspection.objects.filter(pk=inspection.pk, status__in=OPEN).update(cancel_requested=True):
        raise Conflict(
            f"The {inspection.get_kind_display().lower()} has ended already. Nothing was changed.",
            advice="Load the page again.",
            id="inspection.ended",
        )
    audit.record(actor, f"{inspection.kind}.cancelled", inspection.task, inspection=inspection.public_id)
    settle(inspection.pk)
    inspection.refresh_from_db()
    return inspection


def newest(task: MigrationTask, kind: InspectionKind) -> Inspection | None:
    return Inspection.objects.filter(task=task, kind=kind).order_by("-pk").first()


# --- for workers ----------------------------------------------------------------------------------------------------------


def ring(inspection_id: int) -> None:
    """Ask for a worker. The message may be lost or doubled: only the lease decides."""
    async_task(
        "migrations_app.jobs.run_inspection",
        inspection_id,
        cluster=CLUSTER,
        task_name=f"inspection-{inspection_id}",
        timeout=-1,  # a verification may take hours; its lease tells whether its worker lives
        save=False,
    )


def task_of(inspection_id: int) -> int | None:
    """The key of its task."""
    return Inspection.objects.filter(pk=inspection_id).values_list("task_id", flat=True).first()


def _free() -> Q:
    return Q(lease_until__isnull=True) | Q(lease_until__lt=Now())


@patient
def acquire(inspection_id: int, owner: str, *, host: str, ip: str) -> InspectionLease | None:
    """Take it if nobody has it and it has not ended; None otherwise."""
    row = Inspection.objects.filter(
        _free(), pk=inspection_id, status__in=OPEN, cancel_requested=False, attempt__lt=ATTEMPTS
    ).first()
    if row is None:
        return None
    changed = Inspection.objects.filter(_free(), pk=row.pk, status__in=OPEN, attempt=row.attempt).update(
        status=InspectionStatus.RUNNING,
        owner=owner,
        attempt=F("attempt") + 1,
        lease_until=Now() + timedelta(seconds=LEASE_SECONDS),
        rung_at=None,
        started_at=row.started_at or timezone.now(),
        worker_host=host[:255],
        worker_ip=ip[:64],
        progress={},
    )
    return InspectionLease(row.pk, owner, row.attempt + 1) if changed else None


@patient
def renew(lease: InspectionLease, progress: Mapping[str, Any] | None = None) -> bool:
    """Keep it for LEASE_SECONDS more and store how far it has come. False: it is to end, or belongs to another worker."""
    changes: dict[str, Any] = {"lease_until": Now() + timedelta(seconds=LEASE_SECONDS)}
    if progress is not None:
        scrubber = _scrubber(lease._row().values_list("task_id", "worker_ip").first())
        changes["progress"] = scrubber.value(progress) if scrubber else dict(progress)
    return bool(lease._row().filter(cancel_requested=False).update(**changes))


@patient
def release(lease: InspectionLease) -> bool:
    """Give it back: another worker begins it anew. It does not count as an attempt."""
    return bool(
        lease._row().update(
            owner="", lease_until=None, rung_at=None, attempt=F("attempt") - 1, status=InspectionStatus.QUEUED
        )
    )


@patient
def finish(
    lease: InspectionLease,
    *,
    passed: bool | None,
    result: Mapping[str, Any],
    store: Callable[[Inspection], None] | None = None,
) -> bool:
    """It has been carried out. False if the lease was lost: nothing is stored then.

    `store` writes the rows that belong to it, in the same transaction, before what follows the end of its kind.
    """
    return _end(lease._row(), InspectionStatus.DONE, store, passed=passed, result=dict(result))


@patient
def fail(lease: InspectionLease, *, failure_id: str, message: str, advice: str) -> bool:
    """It could not be carried out."""
    return _end(
        lease._row(),
        InspectionStatus.FAILED,
        passed=False,
        failure_id=failure_id[:64],
        failure_message=message[:4000],
        failure_advice=advice[:4000],
    )


@patient
def settle(inspection_id: int) -> bool:
    """End one that nobody works on: it was cancelled, or too many workers have died of it."""
    row = Inspection.objects.filter(_free(), pk=inspection_id, status__in=OPEN).first()
    if row is None:
        return False
    rows = Inspection.objects.filter(_free(), pk=row.pk, status__in=OPEN, attempt=row.attempt)
    if row.cancel_requested:
        return _end(rows, InspectionStatus.CANCELLED, passed=False)
    if row.attempt >= ATTEMPTS:
        return _end(
            rows,
            InspectionStatus.FAILED,
            passed=False,
            failure_id="inspection.workers_died",
            failure_message=f"{row.attempt} workers have ended in the middle of it. Nothing was changed.",
            failure_advice="Look into the log of the cluster `default`, and run it again.",
        )
    return False


def unsettled() -> list[int]:
    """Open ones that nobody works on, and that no worker may take."""
    over = Q(cancel_requested=True) | Q(attempt__gte=ATTEMPTS)
    return list(Inspection.objects.filter(_free(), over, status__in=OPEN).values_list("pk", flat=True))


def waiting() -> list[int]:
    """Those that nobody works on, the oldest first."""
    return list(
        Inspection.objects.filter(_free(), status__in=OPEN, cancel_requested=False, attempt__lt=ATTEMPTS)
        .order_by("pk")
        .values_list("pk", flat=True)
    )


@patient
def ring_again(inspection_id: int) -> bool:
    """Ask for a worker unless that has been done within BELL_SECONDS."""
    due = Q(rung_at__isnull=True, created_at__lt=Now() - timedelta(seconds=BELL_SECONDS)) | Q(
        rung_at__lt=Now() - timedelta(seconds=BELL_SECONDS)
    )
    if not Inspection.objects.filter(_free(), due, pk=inspection_id, status__in=OPEN).update(rung_at=Now()):
        return False
    transaction.on_commit(lambda: ring(inspection_id))
    return True


@patient
def cancelled(lease: InspectionLease) -> bool:
    """The worker has noticed that it is to end. False if the lease was lost."""
    return _end(lease._row(), InspectionStatus.CANCELLED, passed=False)


def _end(
    rows: QuerySet[Inspection],
    status: InspectionStatus,
    store: Callable[[Inspection], None] | None = None,
    **changes: Any,
) -> bool:
    with transaction.atomic():
        row = rows.select_related("task").first()
        if row is not None and (scrubber := _scrubber((row.task_id, row.worker_ip))):
            changes = {
                name: scrubber.text(value)
                if isinstance(value, str) and name != "failure_id"
                else scrubber.value(value)
                for name, value in changes.items()
            }
        if row is None or not rows.update(
            status=status, owner="", lease_until=None, finished_at=timezone.now(), **changes
        ):
            return False
        row.refresh_from_db()
        if store is not None:
            store(row)
            privacy.clean_items(row)
        if follow := ENDED.get(InspectionKind(row.kind)):
            follow(row)
    return True


def _scrubber(found: tuple[int, str] | None) -> privacy.Scrubber | None:
    """For (key of the task, address of the worker): which may be told, for the lists of what a server lets in."""
    return privacy.of_task(found[0], keep=[found[1]]) if found else None
