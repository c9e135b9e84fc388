"""What the engine is told about a task: its settings as a `LinkConfig`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings

from migrations_app.choices import Method
from migrations_app.engine import config as engine
from migrations_app.engine.choice import CommandChoice
from migrations_app.models import MigrationTask
from migrations_app.runner.sides import endpoint_of

HEARTBEAT_SECONDS = 1.0


def config_of(
    task: MigrationTask, epoch: int | None, *, retry_now: Callable[[], float] | None = None
) -> engine.LinkConfig:
    """Raises UsageError, or portal.keys.CredentialUnreadable. The task must have been loaded with both sides, link and progress."""
    source, target = task.both_sides()
    scans = task.method == Method.SCAN
    return engine.LinkConfig(
        name=task.link.name,
        source=endpoint_of(source),
        target=endpoint_of(target),
        phases=engine.Phases(task.phases),
        method=engine.Method.SCAN if scans else engine.Method.PSYNC,
        # What the source reports of its changes is switched on for as long as the link runs, and put back afterwards.
        notifications=engine.Notifications.ENABLE if scans else engine.Notifications.CHECK,
        databases=None if task.databases is None else frozenset(task.databases),
        conflict=engine.Conflict(task.conflict),
        commands=command_choices(task.commands),
        epoch=epoch,
        retry_seconds=task.retry_minutes * 60.0,
        retry_now=retry_now,
        allow_full_resync=task.full_resync_allowed,
        # Once the link has worked, a side that is away while the link changes hands is no reason to fail.
        patient_start=task.link.progress.full_syncs > 0,
        followed=task.reached_incremental,
        heartbeat_seconds=HEARTBEAT_SECONDS if task.heartbeat else 0.0,
        spool_folder=settings.SPOOL_FOLDER or None,
        spool_limit=settings.SPOOL_LIMIT_MB * 2**20,
    )


def command_choices(commands: Mapping[str, Any]) -> dict[int | None, CommandChoice]:
    """`{"": {"only": […]}, "3": {"without": […]}}` as the engine takes it. Raises UsageError."""
    choices: dict[int | None, CommandChoice] = {}
    for database, choice in commands.items():
        words = frozenset(choice.get("only") or choice.get("without") or ())
        # Nothing left out of one database says that it has all of them, whatever the others have.
        if words or database:
            chosen = CommandChoice(only=words) if "only" in choice else CommandChoice(without=words)
            choices[int(database) if database else None] = chosen
    return choices
