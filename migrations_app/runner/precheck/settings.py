"""The settings of the task as the engine takes them, to ask the engine what it thinks of them."""

from __future__ import annotations

from migrations_app.choices import Method
from migrations_app.engine.config import Conflict, LinkConfig, Phases
from migrations_app.engine.config import Method as EngineMethod
from migrations_app.runner.precheck.context import Context


def link_config(ctx: Context) -> LinkConfig:
    """Raises UsageError for settings that cannot be."""
    task = ctx.task
    return LinkConfig(
        name=task.public_id,
        source=ctx.source.endpoint,
        target=ctx.target.endpoint,
        phases=Phases(task.phases),
        method=EngineMethod.SCAN if task.method == Method.SCAN else EngineMethod.PSYNC,
        databases=None if task.databases is None else frozenset(task.databases),
        conflict=Conflict(task.conflict),
        timeout=float(ctx.timeout),
    )
