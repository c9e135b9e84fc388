"""Whether both machines, and the worker's, have room for it (R39, R42, R47, R48, R53, R54, R97)."""

from __future__ import annotations

import os
from typing import Final

from django.conf import settings

from migrations_app.choices import Method, Severity
from migrations_app.engine.spool import default_folder
from migrations_app.runner.precheck.context import Context, Node, Side, number
from migrations_app.runner.precheck.registry import (
    SOURCE,
    TARGET,
    Checks,
    Finding,
    Skip,
    failed,
    passed,
    warning,
)
from migrations_app.runner.precheck.replication import rate_of
from migrations_app.runner.precheck.setting import by_setting
from migrations_app.runner.precheck.words import duration, size

checks = Checks()

MARGIN: Final = 0.2  # of the data, on top of it: other encodings, and fragmentation
SNAPSHOT_GROWS: Final = 3  # times: values of a snapshot file are packed, and take more in memory
HOST_SHARE: Final = 0.8  # of a host's memory that a server without maxmemory may fill
QUIET_OPERATIONS: Final = 1000  # per second
SMALL_BYTES: Final = 2**30
_SLOW, _FAST = 100_000_000 / 8, 1_000_000_000 / 8  # bytes per second


def data_of(ctx: Context) -> int:
    """Bytes of memory that the chosen data takes at the source, as far as known; of a file its size, grown."""
    source = ctx.source
    if source.is_file:
        try:
            return os.path.getsize(source.endpoint.file) * SNAPSHOT_GROWS
        except OSError:
            raise Skip("The file cannot be read.") from None
    total = 0
    for node in source.nodes:
        used = node.number("used_memory") or 0
        start = node.number("used_memory_startup") or 0  # from 4.0 on
        overhead = sum(
            node.number(name) or 0
            for name in ("mem_clients_normal", "mem_replication_backlog", "mem_clients_slaves")
        )
        total += max(0, used - start - overhead)
    keys = sum(keys for keys, _ in source.keyspace.values())
    chosen = sum(keys for database, (keys, _) in source.keyspace.items() if ctx.wants(database))
    return int(total * chosen / keys) if keys else 0


@checks.target(
    "memory", "Memory for the data", Severity.ERROR, ignorable=False, needs=(SOURCE, TARGET), file=True
)
def memory(ctx: Context, side: Side) -> Finding:
    """Free memory of the target against the data of the source, with a margin (R39, R54)."""
    data = data_of(ctx)
    needed = int(data * (1 + MARGIN))
    free = 0
    limits: list[str] = []
    for node in side.nodes:
        room, of = _room(node)
        if room is None:
            return warning(
                f"The data takes {size(data)}; how much memory the target has is not known (maxmemory 0, and it does not tell the host's).",
                f"Make sure that {size(needed)} are free: the data, and {MARGIN:.0%} on top of it.",
            )
        free += room
        limits.append(of)
    ratio = side.node.info.get("mem_fragmentation_ratio", "")
    fragmented = f" Its fragmentation ratio is {ratio}." if ratio else ""
    told = (
        f"The data of the source takes {size(data)}{' (three times the file)' if ctx.source.is_file else ''}; the target has "
        f"{size(max(0, free))} free ({limits[0]}), advised are {size(needed)}: the data and {MARGIN:.0%} on top.{fragmented}"
    )
    if free >= needed:
        return passed(told, data=data, free=free)
    advice = "Raise maxmemory of the target, clear it, choose fewer databases, or choose a larger target."
    least = data if not ctx.source.is_file else data // SNAPSHOT_GROWS
    if free < least:
        return failed(told, advice, data=data, free=free)
    return warning(told, f"It fits, but without the margin. {advice}", data=data, free=free)


def _room(node: Node) -> tuple[int | None, str]:
    """(bytes that the server can still take, of what)."""
    used = node.number("used_memory") or 0
    limit = node.number("maxmemory") or number(node.config("maxmemory")) or 0
    if limit:
        return limit - used, f"maxmemory {size(limit)}"
    host = node.number("total_system_memory")
    if not host:
        return None, ""
    return int(
        host * HOST_SHARE
    ) - used, f"no maxmemory; {HOST_SHARE:.0%} of the host's {size(host)}, other programs not counted"


@checks.target("eviction", "Eviction policy", Severity.WARNING, repairs=("target.eviction",))
def eviction(ctx: Context, side: Side) -> Finding:
    """A target that evicts keys loses data in silence (R48)."""
    for node in side.nodes:
        policy = node.info.get("maxmemory_policy") or node.config("maxmemory-policy")
        if policy is None:
            return warning(
                "The eviction policy is not known. Advised: noeviction.",
                "Look it up on the server (maxmemory-policy).",
            )
        if policy != "noeviction":
            return warning(
                f"maxmemory-policy is {policy}; advised: noeviction.",
                "When its memory is full, the target throws keys away by itself, and the data of both sides no longer agrees.",
                current=policy,
                recommended="noeviction",
                **by_setting(side, "target.eviction", {"maxmemory-policy": "noeviction"}),
            )
    return passed("maxmemory-policy is noeviction.")


@checks.target("persistence", "Persistence of the target", Severity.WARNING)
def persistence(ctx: Context, side: Side) -> Finding:
    """A target without persistence loses its data with a restart."""
    for node in side.nodes:
        if node.info.get("aof_enabled") == "1":
            continue
        save = node.config("save")
        if save is None:
            return warning(
                "The target has no append-only file, and does not tell whether it saves snapshots (CONFIG GET is refused).",
                "Make sure that it saves: after a restart without its data the whole migration begins again.",
            )
        if not save:
            return warning(
                f"{node.address} saves neither snapshots nor an append-only file: after a restart its data is gone, and the whole "
                "migration begins again.",
                'Switch one of them on (CONFIG SET appendonly yes, or CONFIG SET save "3600 1"), now or once the full phase is done.',
            )
    return passed("The target saves its data.")


@checks.pair("spool", "Disk of the worker", Severity.WARNING, needs=())
def spool(ctx: Context) -> Finding:
    """What the source sends while the target does not keep up is kept on the worker's disk (R43, R47)."""
    if ctx.task.method != Method.PSYNC:
        raise Skip("The source is not read by replication.")
    limit = settings.SPOOL_LIMIT_MB * 2**20
    if not limit:
        return warning(
            "The spool is switched off (SPOOL_LIMIT_MB 0): the source has to keep what a slower target does not take.",
            "Give the workers a spool, unless the target is faster than the source.",
        )
    folder = settings.SPOOL_FOLDER or default_folder()
    try:
        facts = os.statvfs(folder)
    except OSError as error:
        return failed(
            f"The worker's folder {folder} cannot be used: {error.strerror}.",
            "Set SPOOL_FOLDER of the workers to a folder on a disk.",
        )
    free = facts.f_bavail * facts.f_frsize
    told = f"{folder} of the worker has {size(free)} free; up to {size(limit)} may wait there while the target does not keep up."
    if free >= limit * 1.25:
        return passed(told)
    return warning(
        told,
        "Free some space, or set SPOOL_FOLDER of the workers to a folder on a larger disk; else the source has to keep what does not fit.",
    )


@checks.source("load", "Load on the source", Severity.NOTICE)
def load(ctx: Context, side: Side) -> Finding:
    """The full phase loads the source like a new replica (R53, R97)."""
    data = sum(node.number("used_memory") or 0 for node in side.nodes)
    operations = sum(node.number("instantaneous_ops_per_sec") or 0 for node in side.nodes)
    told = f"The source holds {size(data)} and serves {operations:,} commands/s."
    if operations < QUIET_OPERATIONS and data < SMALL_BYTES:
        return passed(f"{told} The full phase loads it like a new replica, for a short time.")
    return warning(
        f"{told} The full phase loads both sides: the source forks and sends all of its data, as to a new replica.",
        "Start it in hours of low demand. In the busy hours of the day the task can be held to a smaller speed class (set-up, Speed).",
    )


@checks.source("egress", "Data that leaves the source", Severity.NOTICE)
def egress(ctx: Context, side: Side) -> Finding:
    """Without enough bandwidth the migration is slow (R42)."""
    data = data_of(ctx)
    rate = sum(rate_of(ctx, node)[0] for node in side.nodes) if ctx.task.method == Method.PSYNC else 0.0
    told = (
        f"Up to {size(data)} leave the source ({duration(data / _SLOW)} at 100 Mbit/s, {duration(data / _FAST)} at 1 Gbit/s), and "
        f"then {size(rate)}/s of changes."
    )
    if data < SMALL_BYTES and rate < _SLOW / 2:
        return passed(told)
    return warning(
        told,
        "Make sure that the source's network has that much to spare beside its clients: else the migration is slow, or slows them.",
    )
