"""Snapshot files that were uploaded: kept below the data folder until their task is deleted, or nobody uses them any more."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from migrations_app.models import MigrationTask, SnapshotFile
from portal import uploads
from portal.errors import Invalid, NotFound
from portal.models import Account, Instance
from portal.services import audit
from portal.services.permissions import require_operator
from portal.uploads import ArrivedFile

if TYPE_CHECKING:
    from django.contrib.auth.models import User

UNCHANGED: Final = "Nothing was stored."


def keep(actor: User | None, account: Account, arrived: ArrivedFile) -> SnapshotFile:
    """Take an uploaded file over. Raises NotFound, NotPermitted, or Invalid (field upload); nothing is stored then."""
    require_operator(actor, account)
    _refuse(arrived)
    row = SnapshotFile(
        account=account,
        name=os.path.basename(arrived.name or "")[:255] or "dump.rdb",
        size=arrived.size or 0,
        version=uploads.snapshot_version(arrived.header),
        uploaded_by=actor,
    )
    target = path_of(row)
    # A second name for the same bytes: the first one goes away with the request.
    os.link(arrived.path, target)
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            audit.record(actor, "snapshot.uploaded", row, size=row.size, version=row.version)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return row


def path_of(row: SnapshotFile) -> Path:
    return Path(settings.UPLOADS) / row.public_id


def get(actor: User | None, account: Account, public_id: str) -> SnapshotFile:
    """A file of this account. Raises NotFound."""
    require_operator(actor, account)
    row = SnapshotFile.objects.filter(account=account, public_id=public_id).first()
    if row is None:
        raise NotFound(f"There is no uploaded file {public_id} in the account {account.name}.")
    return row


def forget(instance: Instance) -> None:
    """The uploaded file of a side that is about to be deleted goes with it. Call it inside the transaction of that."""
    folder, _, name = instance.endpoint.file_path.rpartition("/")
    if folder != str(settings.UPLOADS):
        return
    row = SnapshotFile.objects.filter(account=instance.account_id, public_id=name).first()
    if row is not None:
        row.delete()
        path = path_of(row)
        transaction.on_commit(lambda: path.unlink(missing_ok=True))


# The wizard names an upload as the source in the request that has brought it.
UNUSED: Final = timedelta(hours=1)
ABANDONED: Final = timedelta(days=1)


def sweep() -> int:
    """Delete uploads that no task uses any more, and those whose tasks have ended some days ago. Returns how many.

    Also the leftovers of a process that has died in the middle of an upload. Any machine that has the folder may do it.
    """
    folder = Path(settings.UPLOADS)
    if not folder.is_dir():
        return 0
    now = timezone.now()
    over = Q(finished_at__lt=now - timedelta(days=settings.SNAPSHOT_UPLOAD_DAYS))
    used = set(
        MigrationTask.objects.exclude(over)
        .filter(source__endpoint__file_path__startswith=f"{folder}/")
        .values_list("source__endpoint__file_path", flat=True)
    )
    removed = 0
    for row in SnapshotFile.objects.filter(created_at__lt=now - UNUSED):
        if str(path_of(row)) not in used:
            path_of(row).unlink(missing_ok=True)
            row.delete()
            removed += 1
    for path in folder.glob(".arriving-*"):
        with suppress(FileNotFoundError):
            if now.timestamp() - path.stat().st_mtime > ABANDONED.total_seconds():
                path.unlink()
    return removed


def _refuse(arrived: ArrivedFile) -> None:
    limit = settings.SNAPSHOT_UPLOAD_LIMIT
    if arrived.refused == uploads.TOO_LARGE:
        raise Invalid(
            f"The file is larger than the {limit / 2**30:g} GiB that may be uploaded. {UNCHANGED}",
            advice="Put it on the worker and give its path, or let an administrator raise SNAPSHOT_UPLOAD_LIMIT.",
            id="snapshot.too_large",
            field="upload",
        )
    if arrived.refused == uploads.NO_SPACE:
        raise Invalid(
            f"The file could not be stored: the disk is full or may not be written to. {UNCHANGED}",
            advice="Free space in the folder uploads of the data folder, or put the file on the worker and give its path.",
            id="snapshot.no_space",
            field="upload",
        )
    if arrived.refused or not arrived.path:
        raise Invalid(
            f"{arrived.name} is no snapshot file: it does not begin with REDIS or VALKEY and a version. {UNCHANGED}",
            advice="Give the file that SAVE or BGSAVE writes (CONFIG GET dir, CONFIG GET dbfilename).",
            id="snapshot.not_one",
            field="upload",
        )
