"""Verifications: asking for one, by hand or by itself, and what the worker that makes it stores; and the repair of keys.

A verification reads both sides and changes neither. A repair writes to the target what the source has, key by key, while the task
holds its target; see `engine/verify/repair.py` for why that is safe while the link runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog
from django.db.models import Count, Exists, OuterRef, QuerySet, Subquery
from django.utils import timezone

from migrations_app.choices import ACTIVE, HOLDING, InspectionKind, InspectionStatus, LogLevel, TaskStatus
from migrations_app.models import Difference, Inspection, MigrationTask
from migrations_app.models.inspections import key_digest
from migrations_app.services import access, inspections, links, verification_report
from portal.choices import EndpointKind
from portal.errors import Conflict, Invalid, NotFound, ServiceError
from portal.models import Instance
from portal.patience import patient
from portal.services import audit
from portal.services.permissions import require_operator, role_in

if TYPE_CHECKING:
    from django.contrib.auth.models import User

log = structlog.get_logger(__name__)

QUICK: Final = "quick"
VALUES: Final = "values"
MODES: Final = (QUICK, VALUES)
LISTED: Final = 10_000  # differences that are kept; all are counted
KEPT: Final = 20  # verifications of a task whose differences are kept
AT_ONCE: Final = 1000  # keys of one repair
GENTLE_KEYS: Final = 5000  # per second
GENTLE_MEGABYTES: Final = 20  # per second, read from both sides together
TTL_TOLERANCE_MS: Final = 2000

# Who is told, inside the transaction, of differences that a verification by itself has found: `services/alerts.py` adds itself.
DIFFERS: Final[list[Callable[[Inspection], None]]] = []

S = TaskStatus
# The first copy is not there yet: everything that is still to come would be a difference.
_COPYING: Final = frozenset({S.STARTING, S.FULL})
_CANNOT_REPAIR: Final = {
    S.NOT_CONFIGURED: "The task has never been started: nothing was copied that could be repaired.",
    S.PRECHECKING: "The task has never been started: nothing was copied that could be repaired.",
    S.PRECHECK_FAILED: "The task has never been started: nothing was copied that could be repaired.",
    S.READY: "The task has never been started: nothing was copied that could be repaired.",
    S.STARTING: "The task is just being started.",
    S.FULL: "The full synchronization has not ended yet: what is missing is still to come.",
    S.PAUSING: "The task is just being paused.",
    S.STOPPING: "The task is just being stopped.",
    S.COMPLETED: "The task has ended: applications may use its target now, so nothing more is written there.",
    S.RELEASED: "The task was released: nothing more is written to its target.",
}


# --- for people -----------------------------------------------------------------------------------------------------------


@patient
def request_verification(
    actor: User | None,
    task: MigrationTask,
    mode: str = QUICK,
    *,
    percent: float = 100,
    both_directions: bool = True,
    ttl_tolerance_ms: int = TTL_TOLERANCE_MS,
    keys_per_second: int | None = GENTLE_KEYS,
    megabytes_per_second: float | None = GENTLE_MEGABYTES,
    automatic: bool = False,
) -> Inspection:
    """Ask for a comparison of both sides; `quick` counts keys, `values` reads them. No limit where a rate is None.

    Raises NotPermitted, Invalid (with the field) or Conflict.
    """
    require_operator(actor, task.account)
    if mode not in MODES:
        raise Invalid(
            f"There is no verification {mode!r}. Nothing was started.",
            advice="Choose quick or values.",
            id="verification.mode",
            field="mode",
        )
    if not 0 < percent <= 100:
        raise Invalid(
            f"{percent:g} % of the keys cannot be compared. Nothing was started.",
            advice="Choose more than 0 and at most 100.",
            id="verification.percent",
            field="percent",
        )
    if not 0 <= ttl_tolerance_ms <= 3_600_000:
        raise Invalid(
            "The tolerance of expiries is out of range. Nothing was started.",
            advice="Choose 0 to 3,600 seconds.",
            id="verification.tolerance",
            field="tolerance",
        )
    for field, rate in (("keys_per_second", keys_per_second), ("megabytes_per_second", megabytes_per_second)):
        if rate is not None and rate <= 0:
            raise Invalid(
                "A limit must be more than 0. Nothing was started.",
                advice="Leave the field empty for no limit.",
                id="verification.rate",
                field=field,
            )
    # As it is now, not as the caller has loaded it.
    _check_comparable(
        MigrationTask.objects.select_related("source__endpoint", "target__endpoint").get(pk=task.pk)
    )
    return inspections.request(
        actor,
        task,
        InspectionKind.VERIFICATION,
        mode=mode,
        percent=percent,
        both_directions=both_directions,
        ttl_tolerance_ms=ttl_tolerance_ms,
        keys_per_second=keys_per_second,
        megabytes_per_second=megabytes_per_second,
        automatic=automatic,
    )


def why_not_verify(task: MigrationTask) -> str:
    """Why a verification cannot be asked for now; empty where it can."""
    try:
        _check_comparable(task)
    except ServiceError as refusal:
        return refusal.message.removesuffix(" Nothing was started.")
    return ""


def why_not_repair(task: MigrationTask) -> str:
    """Why keys of this task cannot be repaired now; empty where they can."""
    return _CANNOT_REPAIR.get(TaskStatus(task.status), "")


@patient
def request_correction(actor: User | None, verification: Inspection, keys: Iterable[int]) -> Inspection:
    """Write the source's present values of the chosen differences (their primary keys) to the target.

    Raises NotPermitted, Invalid or Conflict; what is chosen and not a difference of this verification is NotFound.
    """
    task = verification.task
    require_operator(actor, task.account)
    status = MigrationTask.objects.filter(pk=task.pk).values_list("status", flat=True).first()
    if status is None:
        raise NotFound(f"The task {task.name} was deleted meanwhile. Nothing was changed.")
    if reason := _CANNOT_REPAIR.get(TaskStatus(status)):
        raise Conflict(
            f"{reason} Nothing was changed.",
            advice="Repair the keys by hand, or create a new task.",
            id="correction.not_now",
        )
    access.require(task)
    _check_target_free(task, status)
    if verification.kind != InspectionKind.VERIFICATION or not InspectionStatus(verification.status).is_final:
        raise Conflict(
            "The verification has not ended yet. Nothing was changed.",
            advice="Wait until it has ended, then choose the keys.",
            id="correction.verification_runs",
        )
    wanted = list(dict.fromkeys(keys))
    if not wanted:
        raise Invalid(
            "No key is chosen. Nothing was changed.",
            advice="Tick the keys that are to be repaired.",
            id="correction.nothing_chosen",
            field="keys",
        )
    if len(wanted) > AT_ONCE:
        raise Invalid(
            f"{len(wanted):,} keys are chosen, more than the {AT_ONCE:,} that are repaired at once. Nothing was changed.",
            advice="Repair them in several steps; if most keys differ, repeat the full synchronization instead.",
            id="correction.too_many",
            field="keys",
        )
    found = Difference.objects.filter(inspection=verification, pk__in=wanted).count()
    if found != len(wanted):
        raise NotFound(
            "Some of the chosen keys are no differences of this verification. Nothing was changed.",
            id="correction.unknown_key",
            advice="Load the page again, and choose anew.",
        )
    made = inspections.request(
        actor, task, InspectionKind.CORRECTION, verification=verification.public_id, keys=wanted
    )
    audit.record(
        actor,
        "keys.repair_confirmed",
        task,
        inspection=made.public_id,
        verification=verification.public_id,
        count=len(wanted),
    )
    return made


def _check_comparable(task: MigrationTask) -> None:
    if task.source is None or task.target is None:
        raise Conflict(
            "The sides of the task are not chosen yet, so there is nothing to compare. Nothing was started.",
            advice="Finish the set-up of the task first.",
            id="verification.no_sides",
        )
    access.require(task, unchanged="Nothing was started.")
    if task.source.endpoint.kind == EndpointKind.FILE:
        raise Invalid(
            "The source is a snapshot file, which cannot be asked for its keys: there is nothing to compare with. Nothing was started.",
            advice="Load the file into an empty server, register it, and verify a task from there; or compare the number of keys "
            "that the full phase has written with what the file holds.",
            id="verification.file_source",
        )
    status = TaskStatus(task.status)
    if status in _COPYING or (status in ACTIVE and not task.reached_incremental):
        raise Conflict(
            "The full synchronization has not ended yet: every key that is still to come would differ. Nothing was started.",
            advice="Wait until the task is in its incremental phase or has ended.",
            id="verification.too_early",
        )


def _check_target_free(task: MigrationTask, status: str) -> None:
    other = (
        MigrationTask.objects.filter(target=task.target_id, status__in=HOLDING).exclude(pk=task.pk).first()
        if status not in HOLDING
        else None
    )
    if other is not None:
        raise Conflict(
            f"The task {other.name} writes to this target now. Nothing was changed.",
            advice="Repair the keys once it has ended.",
            id="correction.target_taken",
        )


# --- what is shown --------------------------------------------------------------------------------------------------------


def verifications(task: MigrationTask) -> QuerySet[Inspection]:
    return Inspection.objects.filter(task=task, kind=InspectionKind.VERIFICATION).order_by("-pk")


def visible_sides(user: User, task: MigrationTask) -> frozenset[str]:
    """Whose values the person may see: both for members of the task's account (its roles let it read), else those of one's own."""
    if role_in(user, task.account) is not None:
        return frozenset({"source", "target"})
    sides: list[tuple[str, Instance | None]] = [("source", task.source), ("target", task.target)]
    return frozenset(
        side
        for side, instance in sides
        if instance is not None and role_in(user, instance.account) is not None
    )


def counts(inspection: Inspection) -> dict[str, dict[Any, int]]:
    """How many listed differences there are of each kind, and in each database."""
    rows = Difference.objects.filter(inspection=inspection)
    by_kind = rows.values_list("kind").annotate(number=Count("pk")).order_by("kind")
    by_database = rows.values_list("database").annotate(number=Count("pk")).order_by("database")
    return {"kind": dict(by_kind), "database": dict(by_database)}


# --- for workers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A difference as it is stored."""

    database: int
    key: bytes
    kind: str
    source: str
    target: str
    detail: str


@patient
def begin_anew(inspection: Inspection) -> None:
    """An earlier worker may have stored what it had found before it died."""
    Difference.objects.filter(inspection=inspection).delete()


@patient
def store(inspection: Inspection, rows: Sequence[Row]) -> None:
    # A worker that has lost the inspection may have stored the same key a moment ago.
    Difference.objects.bulk_create(
        [
            Difference(
                inspection=inspection,
                database=row.database,
                key=row.key,
                digest=key_digest(row.key),
                kind=row.kind[:24],
                source_text=row.source,
                target_text=row.target,
                detail=row.detail,
            )
            for row in rows
        ],
        ignore_conflicts=True,
    )


@patient
def mark_moved(inspection: Inspection) -> int:
    """Keys that are missing in one database and too many in another have changed databases: both rows say so. The number of rows."""
    rows = Difference.objects.filter(inspection=inspection)
    places: dict[str, dict[str, Difference]] = {}
    for row in rows.filter(kind__in=("missing", "extra")).defer("key", "source_text", "target_text"):
        places.setdefault(row.digest, {}).setdefault(row.kind, row)
    changed = []
    for found in places.values():
        if len(found) == 2:
            missing, extra = found["missing"], found["extra"]
            missing.detail = f"the target has a key of this name in database {extra.database}"
            extra.detail = f"the source has a key of this name in database {missing.database}"
            changed += [missing, extra]
    for row in changed:
        row.kind = "database"
    Difference.objects.bulk_update(changed, ["kind", "detail"], batch_size=500)
    return len(changed)


@patient
def mark_repaired(difference: Difference, actor: User | None, note: str, *, repaired: bool) -> None:
    Difference.objects.filter(pk=difference.pk).update(
        repair_note=note,
        **({"repaired_at": timezone.now(), "repaired_by": actor} if repaired else {}),
    )


def may_still_write(task_id: int) -> bool:
    """Asked right before each write of a repair: the task may have been stopped or released meanwhile."""
    task = (
        MigrationTask.objects.select_related("account", "source", "target", "target_role")
        .filter(pk=task_id)
        .first()
    )
    if task is None or TaskStatus(task.status) in _CANNOT_REPAIR:
        return False
    return not access.problem(task)


def verification_ended(inspection: Inspection) -> None:
    """Sum its report up, log it, tell those who are to know, and forget the differences of old ones."""
    task, result = inspection.task, inspection.result
    if inspection.status == InspectionStatus.DONE:
        # Of what is stored: a result may have been rewritten on its way (services/privacy.py).
        inspection.result = result | {"sha256": verification_report.digest(inspection, result)}
        inspection.save(update_fields=["result"])
        number = result.get("differences", 0)
        level = LogLevel.INFO if inspection.passed is not False else LogLevel.WARNING
        links.note(
            task,
            "verification.done",
            _sentence(inspection),
            level,
            inspection=inspection.public_id,
            differences=number,
        )
        if inspection.passed is False:
            log.warning(
                "verification.differences",
                task=task.public_id,
                inspection=inspection.public_id,
                differences=number,
            )
            if inspection.parameters.get("automatic"):
                for tell in DIFFERS:  # nobody has waited for it
                    tell(inspection)
    old = list(verifications(task).values_list("pk", flat=True)[KEPT:])
    if old:
        Difference.objects.filter(inspection__in=old).delete()


def _sentence(inspection: Inspection) -> str:
    result = inspection.result
    if inspection.parameters.get("mode") == QUICK:
        number = result.get("differences", 0)
        return (
            "Quick verification: every database holds as many keys without expiry on both sides."
            if not number
            else f"Quick verification: {number} database{'s' if number != 1 else ''} with another number of keys without expiry."
        )
    number = result.get("differences", 0)
    return f"Verification by value: {result.get('keys', 0):,} keys compared, {number:,} differ."


def correction_ended(inspection: Inspection) -> None:
    if inspection.status not in (InspectionStatus.DONE, InspectionStatus.CANCELLED):
        return
    counted = inspection.result.get("counts", {})
    links.note(
        inspection.task,
        "keys.repaired",
        f"Keys repaired: {counted.get('repaired', 0)} written, {counted.get('agrees', 0)} agreed already, "
        f"{counted.get('failed', 0)} failed.",
        inspection=inspection.public_id,
        **counted,
    )
    audit.record(
        inspection.requested_by, "keys.repaired", inspection.task, inspection=inspection.public_id, **counted
    )


# --- by itself ------------------------------------------------------------------------------------------------------------


def due_tasks() -> list[int]:
    """Tasks whose next verification is due: in the incremental phase, none open, the last one asked for long enough ago."""
    of_task = Inspection.objects.filter(task=OuterRef("pk"), kind=InspectionKind.VERIFICATION)
    rows = (
        MigrationTask.objects.filter(status=TaskStatus.INCREMENTAL, verify_every_hours__gt=0)
        .exclude(Exists(of_task.filter(status__in=inspections.OPEN)))
        .annotate(newest=Subquery(of_task.order_by("-pk").values("created_at")[:1]))
        .values_list("pk", "verify_every_hours", "incremental_at", "newest")
    )
    now = timezone.now()
    return [
        pk
        for pk, hours, *moments in rows
        if hours and all(moment is None or now - moment >= timedelta(hours=hours) for moment in moments)
    ]


@patient
def verify_by_itself(task_id: int) -> Inspection | None:
    """Ask for a due verification, unless another machine has done so meanwhile."""
    task = MigrationTask.objects.select_for_update(of=("self",)).filter(pk=task_id).first()
    if task is None or task_id not in due_tasks():  # asked again under the lock of the row
        return None
    task = MigrationTask.objects.select_related("source__endpoint", "target__endpoint", "account").get(
        pk=task_id
    )
    try:
        return request_verification(None, task, VALUES, percent=task.verify_percent or 100, automatic=True)
    except (Conflict, Invalid):
        return None


inspections.ENDED[InspectionKind.VERIFICATION] = verification_ended
inspections.ENDED[InspectionKind.CORRECTION] = correction_ended
