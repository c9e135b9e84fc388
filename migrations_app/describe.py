"""Tasks and their checks as plain values: what the HTTP API answers and what commands print with --json."""

from __future__ import annotations

from typing import Any, Final

from migrations_app.choices import CONFIGURABLE
from migrations_app.models import Difference, Inspection, MigrationTask, PrecheckItem
from migrations_app.services import retry, setup

PROGRESS: Final = (
    "phase",
    "percent",
    "keys_done",
    "keys_total",
    "commands",
    "bytes_in",
    "lag_bytes",
    "lag_seconds",
    "caught_up",
    "applied_offset",
    "replication_id",
    "reconnects",
    "keys_per_second",
    "commands_per_second",
    "bytes_per_second",
    "databases",
    "updated_at",
)
ITEM: Final = (
    "code",
    "side",
    "title",
    "severity",
    "outcome",
    "found",
    "advice",
    "repair",
    "repair_code",
    "ignorable",
)


def failure(row: MigrationTask | Inspection) -> dict[str, str] | None:
    if not row.failure_id:
        return None
    return {"id": row.failure_id, "message": row.failure_message, "advice": row.failure_advice}


def side_of(task: MigrationTask, side: str) -> dict[str, Any] | None:
    instance = getattr(task, side)
    if instance is None:
        return None
    foreign = instance.account_id != task.account_id
    return {
        "id": instance.public_id,
        "name": instance.name,
        "address": None if foreign else instance.endpoint.address,
        "product": instance.product,
        "architecture": instance.architecture,
    }


def task_values(task: MigrationTask) -> dict[str, Any]:
    same = (
        "name", "description", "status", "phases", "method", "databases", "commands", "conflict", "retry_minutes", "speed_class",
        "speed_hours", "heartbeat", "created_at", "started_at", "incremental_at", "finished_at", "pause_reason",
    )  # fmt: skip
    progress = task.link.progress
    return {name: getattr(task, name) for name in same} | {
        "id": task.public_id,
        "account": task.account.public_id,
        "status_label": str(task.status_badge.label),
        "source": side_of(task, "source"),
        "target": side_of(task, "target"),
        "retry_effective_minutes": retry.effective_retry(task)[0],
        "failure": failure(task),
        "missing": [one.sentence for one in setup.missing(task)] if task.status_badge in CONFIGURABLE else [],
        "actions": {
            name: {"open": verdict.open, "reason": verdict.reason} for name, verdict in task.actions.items()
        },
        "progress": {name: getattr(progress, name) for name in PROGRESS},
        "url": task.get_absolute_url(),
    }


def inspection_values(row: Inspection) -> dict[str, Any]:
    same = (
        "kind",
        "status",
        "passed",
        "progress",
        "result",
        "created_at",
        "finished_at",
        "worker_host",
        "worker_ip",
    )
    return {name: getattr(row, name) for name in same} | {"id": row.public_id, "failure": failure(row)}


def item_values(row: PrecheckItem) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ITEM}


def difference_values(row: Difference) -> dict[str, Any]:
    return {
        "id": row.pk,
        "database": row.database,
        "key": bytes(row.key).decode("utf-8", "backslashreplace"),
        "kind": row.kind,
        "source": row.source_text,
        "target": row.target_text,
        "detail": row.detail,
        "repaired_at": row.repaired_at,
    }
