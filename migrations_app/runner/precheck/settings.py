"""The settings of the task as the engine takes them, to ask the engine what it thinks of them."""

from __future__ import annotations

from dataclasses import replace

from migrations_app.engine.config import LinkConfig
from migrations_app.runner.configuration import config_of
from migrations_app.runner.precheck.context import Context


def link_config(ctx: Context) -> LinkConfig:
    """Raises UsageError for settings that cannot be."""
    return replace(config_of(ctx.task, None), timeout=ctx.timeout)
