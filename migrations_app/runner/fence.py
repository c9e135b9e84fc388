"""Shuts every worker of a released task out of its target, by the engine's own takeover (R56).

The new epoch is stored in the checkpoint, and the connections of earlier owners are closed; one that connects later finds the
newer epoch before its first write.
"""

from __future__ import annotations

import time
from typing import Final

from migrations_app.choices import InspectionKind
from migrations_app.engine import errors
from migrations_app.engine.checkpoint import shard_name
from migrations_app.engine.shards.layout import ranges_of
from migrations_app.engine.target.opening import open_target
from migrations_app.runner.inspections import Reporter, Result, kind
from migrations_app.runner.sides import endpoint_of

PATIENCE: Final = (
    20.0  # seconds for one job; after that the worker does something else, and it is tried again later
)
TIMEOUT: Final = 5.0
PAUSE: Final = 0.5


@kind(InspectionKind.FENCE)
def fence(report: Reporter) -> Result:
    """Raises EngineError when the target cannot be told."""
    until = time.monotonic() + PATIENCE
    while True:
        report.progress(0, None, "telling the target")
        try:
            return Result({"epochs": _take_over(report)}, passed=True)
        except errors.EngineError as error:
            if not error.retryable or time.monotonic() > until:
                raise
        pause = time.monotonic() + PAUSE
        while time.monotonic() < pause:
            report.check()
            time.sleep(0.1)


def _take_over(report: Reporter) -> dict[str, int]:
    """Link (and the link of each shard, where the source is a cluster) → the epoch that is stored now."""
    _, target = report.task.both_sides()
    endpoint, epoch = endpoint_of(target), int(report.inspection.parameters["epoch"])
    name = report.task.link.name
    names, stored = [name], {}
    while names:
        one = names.pop()
        taken = open_target(endpoint, one, epoch, TIMEOUT)
        try:
            stored[one] = taken.checkpoint.epoch
            if one == name and taken.checkpoint.shards:
                names = [
                    shard_name(name, ranges[0][0]) for ranges in ranges_of(taken.checkpoint.shards) if ranges
                ]
        finally:
            taken.close()
    return stored
