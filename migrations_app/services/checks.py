"""What has to be true of two instances before a task between them may be created, started or resumed.

Only what the console knows without asking the servers: no network call is made here.
"""

from __future__ import annotations

from collections.abc import Iterable

from migrations_app.models import MigrationTask
from portal.choices import Architecture, NodeRole
from portal.errors import Conflict, Invalid
from portal.models import Instance

MAX_DATABASES = 16384  # no server is configured with more; it only keeps nonsense out
RETRY_MINUTES = range(10, 1441)
UNCHANGED = "No task was created."


def check_sides(source: Instance, target: Instance) -> None:
    """Raises Invalid, naming the field of the form that it is about."""
    if source.pk == target.pk:
        raise Invalid(
            f"Source and target are the same instance. {UNCHANGED}",
            advice="Choose another target.",
            id="task.same_instance",
            field="target",
        )
    if source.run_id and source.run_id == target.run_id:
        raise Invalid(
            f"Source and target are one and the same server: both answer with the run ID {source.run_id[:8]}…. {UNCHANGED}",
            advice="Choose another target, or correct the address of one of the two instances.",
            id="task.same_server",
            field="target",
        )
    if target.role == NodeRole.REPLICA:
        master = f" Its master is {target.replica_of}." if target.replica_of else ""
        raise Invalid(
            f"The target {target.name} is a replica and refuses writes.{master} {UNCHANGED}",
            advice="Choose the master as the target.",
            id="task.target_is_replica",
            field="target",
        )
    for field, instance in (("source", source), ("target", target)):
        if instance.architecture == Architecture.CLUSTER:
            raise Invalid(
                f"The {field} {instance.name} is a cluster; a task migrates between two standard instances. {UNCHANGED}",
                advice="Choose an instance of the architecture Standard.",
                id=f"task.{field}_is_cluster",
                field=field,
            )


def check_databases(source: Instance, target: Instance, databases: Iterable[int] | None) -> list[int] | None:
    """The chosen databases, sorted and each once; None for all. Raises Invalid."""
    if databases is None:
        beyond = [row["index"] for row in source.databases if _lacks(target, row["index"])]
        if beyond:
            raise Invalid(
                f"The source has keys in database {max(beyond)}, the target has {target.database_count} databases "
                f"(0 to {(target.database_count or 1) - 1}). {UNCHANGED}",
                advice="Choose single databases, or raise `databases` in the configuration of the target.",
                id="task.target_lacks_database",
                field="databases",
            )
        return None
    chosen = sorted(set(databases))
    if not chosen:
        raise Invalid(
            f"No database is chosen. {UNCHANGED}",
            advice="Choose at least one database, or all.",
            id="task.no_database",
            field="databases",
        )
    for number in chosen:
        if not 0 <= number < MAX_DATABASES or _lacks(source, number):
            raise Invalid(
                f"The source has no database {number}. {UNCHANGED}",
                advice=f"Choose databases from 0 to {(source.database_count or MAX_DATABASES) - 1}.",
                id="task.source_lacks_database",
                field="databases",
            )
        if _lacks(target, number):
            raise Invalid(
                f"The target has no database {number}: it has {target.database_count} (0 to "
                f"{(target.database_count or 1) - 1}). {UNCHANGED}",
                advice="Leave the database out, or raise `databases` in the configuration of the target.",
                id="task.target_lacks_database",
                field="databases",
            )
    return chosen


def check_retry_minutes(minutes: int) -> None:
    if minutes not in RETRY_MINUTES:
        raise Invalid(
            f"The retry time is {minutes} minutes; it must be from {RETRY_MINUTES[0]} to {RETRY_MINUTES[-1]}. {UNCHANGED}",
            advice="More than 30 minutes are recommended.",
            id="task.retry_time",
            field="retry_minutes",
        )


def check_other_tasks(source: Instance, target: Instance, *, unchanged: str, but: int | None = None) -> None:
    """Raises Conflict if a running task (other than the one with the key `but`) writes into the target, or back."""
    active = MigrationTask.objects.active()
    if but is not None:
        active = active.exclude(pk=but)
    other = active.filter(target=target).first()
    if other is not None:
        raise target_taken(other, unchanged)
    back = active.filter(source=target, target=source).first()
    if back is not None:
        raise Conflict(
            f"The running task {back.name} ({back.public_id}) migrates in the opposite direction: every write would go in a "
            f"circle. {unchanged}",
            advice="Stop that task first.",
            id="task.opposite_direction",
            field="target",
        )


def target_taken(other: MigrationTask | None, unchanged: str) -> Conflict:
    which = f"The running task {other.name} ({other.public_id})" if other else "Another running task"
    return Conflict(
        f"{which} writes into the same target. {unchanged}",
        advice="Stop that task first, or choose another target.",
        id="task.target_taken",
        field="target",
    )


def _lacks(instance: Instance, number: int) -> bool:
    return instance.database_count is not None and number >= instance.database_count
