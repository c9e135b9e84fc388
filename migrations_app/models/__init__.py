"""Migration tasks with everything that belongs to them.

A *task* is what people see; its *link* is what a worker owns while it runs. Progress and log are rows of their own, so that
writing them never waits for, and is never undone with, a change of the task.
"""

from migrations_app.models.alerts import TaskAlert
from migrations_app.models.inspections import AppliedRepair, Difference, IgnoredItem, Inspection, PrecheckItem
from migrations_app.models.links import Link, LinkProgress, Sample
from migrations_app.models.log import LogEntry, PhaseSpan
from migrations_app.models.snapshots import SnapshotFile
from migrations_app.models.tasks import MigrationTask, TaskQuerySet

__all__ = [
    "AppliedRepair",
    "Difference",
    "IgnoredItem",
    "Inspection",
    "Link",
    "LinkProgress",
    "LogEntry",
    "MigrationTask",
    "PhaseSpan",
    "PrecheckItem",
    "Sample",
    "SnapshotFile",
    "TaskAlert",
    "TaskQuerySet",
]
