"""The connectivity test of a task's two sides: asking for it, and whether it has passed for the sides as they are now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.utils.crypto import salted_hmac

from migrations_app.choices import InspectionKind, InspectionStatus
from migrations_app.models import Inspection, MigrationTask
from migrations_app.services import inspections
from portal.errors import Invalid
from portal.keys import CredentialUnreadable
from portal.models import ConnectionFields, Instance

if TYPE_CHECKING:
    from django.contrib.auth.models import User

UNCHANGED = "No test was begun."
_SHOWN = (
    "kind", "host", "port", "unix_path", "tls", "tls_verify", "tls_ca_pem", "tls_server_name", "username", "sentinels",
    "master_name", "sentinel_username", "sentinel_tls", "file_path",
)  # fmt: skip
_SECRET = ("password", "sentinel_password")


def request_test(actor: User | None, task: MigrationTask) -> Inspection:
    """A worker tries both sides in a moment; one that is under way for the same sides is taken.

    Raises NotPermitted, Invalid (a side is missing) or Conflict (a worker is just ending the test of other sides).
    """
    for side in ("source", "target"):
        if getattr(task, side) is None:
            raise Invalid(
                f"The {side} is not chosen yet. {UNCHANGED}",
                advice=f"Choose the {side} first.",
                id="task.side_missing",
                field=side,
            )
    digest = fingerprint(task)
    open_one = inspections.newest(task, InspectionKind.CONNECTIVITY)
    if open_one is not None and not open_one.status_badge.is_final:
        if open_one.fingerprint == digest:
            return open_one
        inspections.cancel(actor, open_one)  # of sides that have been changed since
    return inspections.request(actor, task, InspectionKind.CONNECTIVITY, fingerprint=digest)


def newest(task: MigrationTask) -> Inspection | None:
    """The last test of the sides as they are now; None if they were changed since, or never tested."""
    found = inspections.newest(task, InspectionKind.CONNECTIVITY)
    return found if found is not None and found.fingerprint == fingerprint(task) else None


def is_passed(task: MigrationTask) -> bool:
    found = newest(task)
    return found is not None and found.status == InspectionStatus.DONE and bool(found.passed)


def conclude(inspection: Inspection) -> None:
    """A test has ended: passed, the set-up goes on with the next step when the task is opened again."""
    if inspection.passed:
        rows = MigrationTask.objects.filter(pk=inspection.task_id, wizard_step__in=("", "sides"))
        rows.update(wizard_step="objects")


inspections.ENDED[InspectionKind.CONNECTIVITY] = conclude


def fingerprint(task: MigrationTask) -> str:
    """Digest of where the two sides are and how to get in there. It tells nothing of the passwords."""
    sides = [_of(side) if side is not None else None for side in (task.source, task.target)]
    return salted_hmac("migrations_app.connectivity", json.dumps(sides), algorithm="sha256").hexdigest()


def _of(instance: Instance) -> list[Any]:
    endpoint: ConnectionFields = instance.endpoint
    return [
        instance.public_id,
        *(getattr(endpoint, name) for name in _SHOWN),
        *(_secret(endpoint, name) for name in _SECRET),
    ]


def _secret(endpoint: ConnectionFields, name: str) -> str:
    secret = getattr(endpoint, name)
    try:
        return str(secret.reveal())
    except CredentialUnreadable:
        return str(secret.token())
