"""What has to be true of the settings of a task, and of two instances before a task between them may be started or resumed.

Only what the console knows without asking the servers: no network call is made here.
"""

from __future__ import annotations

from collections.abc import Iterable

from migrations_app.choices import HOLDING, Method, Phases
from migrations_app.models import MigrationTask
from portal.choices import Architecture, EndpointKind, NodeRole
from portal.errors import Conflict, Invalid
from portal.models import Instance

MAX_DATABASES = 16384  # no server is configured with more; it only keeps nonsense out
RETRY_MINUTES = range(10, 1441)
UNCHANGED = "Nothing was changed."


def is_file(instance: Instance) -> bool:
    return instance.endpoint.kind == EndpointKind.FILE


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
            advice="Choose another target, or correct the address of one of the two.",
            id="task.same_server",
            field="target",
        )
    check_target(target)


def check_target(target: Instance) -> None:
    """Whether it can be written to. Raises Invalid."""
    if is_file(target):
        raise Invalid(
            f"The target {target.name} is a snapshot file, which can only be read. {UNCHANGED}",
            advice="Choose a server or a cluster as the target.",
            id="task.target_is_file",
            field="target",
        )
    if target.role == NodeRole.REPLICA:
        raise Invalid(
            f"The target {target.name} is a replica and refuses writes. {UNCHANGED}",
            advice="Choose its master as the target.",
            id="task.target_is_replica",
            field="target",
        )


def check_method(source: Instance | None, target: Instance | None, task: MigrationTask) -> None:
    """Whether the engine can read this source in this way, and write as wanted. Raises Invalid."""
    method, phases = Method(task.method), Phases(task.phases)
    if source is not None and is_file(source):
        if method != Method.FILE:
            raise Invalid(
                f"The source {source.name} is a snapshot file, which is read as it is. {UNCHANGED}",
                advice="Choose the method Snapshot file.",
                id="task.method_of_file",
                field="method",
            )
        if phases != Phases.FULL:
            raise Invalid(
                f"The source {source.name} is a snapshot file, which no changes follow. {UNCHANGED}",
                advice="Choose the full phase alone.",
                id="task.file_is_full_only",
                field="phases",
            )
    elif source is not None and method == Method.FILE:
        raise Invalid(
            f"The source {source.name} is a server, not a snapshot file. {UNCHANGED}",
            advice="Choose replication or the key scan, or a snapshot file as the source.",
            id="task.method_of_server",
            field="method",
        )
    if method == Method.SCAN:
        if source is not None and source.architecture == Architecture.CLUSTER:
            raise Invalid(
                f"The source {source.name} is a cluster: a key scan reads a single server only. {UNCHANGED}",
                advice="Choose replication (PSYNC).",
                id="task.scan_of_cluster",
                field="method",
            )
        if task.commands:
            raise Invalid(
                f"A key scan carries values, not commands, so commands cannot be chosen with it. {UNCHANGED}",
                advice="Choose all commands, or replication (PSYNC).",
                id="task.scan_has_no_commands",
                field="commands",
            )
    if task.heartbeat and (method != Method.PSYNC or phases != Phases.FULL_INCREMENTAL):
        raise Invalid(
            f"The heartbeat measures the incremental phase of a replication, which this task does not have. {UNCHANGED}",
            advice="Switch the heartbeat off, or choose replication with the incremental phase.",
            id="task.heartbeat_needs_stream",
            field="heartbeat",
        )


def check_databases(
    source: Instance | None, target: Instance | None, databases: Iterable[int] | None
) -> list[int] | None:
    """The chosen databases, sorted and each once; None for all. Raises Invalid."""
    if databases is None:
        beyond = [row["index"] for row in source.databases if _lacks(target, row["index"])] if source else []
        if beyond and target is not None:
            raise Invalid(
                f"The source has keys in database {max(beyond)}: {_has(target)}. {UNCHANGED}",
                advice="Choose single databases, empty that one on the source, or choose another target."
                if target.architecture == Architecture.CLUSTER
                else "Choose single databases, or raise `databases` in the configuration of the target.",
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
                advice=f"Choose databases from 0 to {_count(source) - 1}.",
                id="task.source_lacks_database",
                field="databases",
            )
        if target is not None and _lacks(target, number):
            raise Invalid(
                f"The target has no database {number}: {_has(target)}. {UNCHANGED}",
                advice="Leave the database out, or choose another target."
                if target.architecture == Architecture.CLUSTER
                else "Leave the database out, or raise `databases` in the configuration of the target.",
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
    """Raises Conflict if another task (than the one with the key `but`) holds the target, or writes back from it."""
    others = MigrationTask.objects.exclude(pk=but) if but is not None else MigrationTask.objects.all()
    other = others.filter(target=target, status__in=HOLDING).first()
    if other is not None:
        raise target_taken(other, unchanged)
    back = others.active().filter(source=target, target=source).first()
    if back is not None:
        raise Conflict(
            f"The running task {back.name} ({back.public_id}) migrates in the opposite direction: every write would go in a "
            f"circle. {unchanged}",
            advice="Stop that task first.",
            id="task.opposite_direction",
            field="target",
        )


def target_taken(other: MigrationTask | None, unchanged: str) -> Conflict:
    which = "Another running task"
    if other is not None:
        kind = "paused" if not other.status_badge.is_active else "running"
        which = f"The {kind} task {other.name} ({other.public_id})"
    return Conflict(
        f"{which} writes into the same target. {unchanged}",
        advice="Stop that task first, or choose another target.",
        id="task.target_taken",
        field="target",
    )


def _lacks(instance: Instance | None, number: int) -> bool:
    if instance is None:
        return False
    if instance.architecture == Architecture.CLUSTER:
        return number > 0
    return instance.database_count is not None and number >= instance.database_count


def _count(instance: Instance | None) -> int:
    if instance is not None and instance.architecture == Architecture.CLUSTER:
        return 1
    return (instance.database_count if instance else None) or MAX_DATABASES


def _has(target: Instance) -> str:
    """What the target has instead, as the rest of a sentence."""
    if target.architecture == Architecture.CLUSTER:
        return "the target is a cluster, which has database 0 only"
    return f"the target has {target.database_count} databases (0 to {(target.database_count or 1) - 1})"
