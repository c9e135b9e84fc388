"""The counters of the links of all shards as those of one link. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Final

from migrations_app.engine.ports import Phase, Progress

# How far along a phase is; the link as a whole is where the last of its shards is.
_ORDER: Final = {
    phase: place
    for place, phase in enumerate(
        [
            Phase.RETRYING,
            Phase.CONNECTING,
            Phase.WAITING,
            Phase.FULL,
            Phase.INCREMENTAL,
            Phase.STOPPING,
            Phase.DONE,
        ]
    )
}
# Known only when they are known of every shard. Offsets of different streams add up to a figure that grows as they do.
_SUMS_OR_NONE: Final = {
    "keys_total",
    "snapshot_size",
    "received_offset",
    "applied_offset",
    "source_offset",
    "lag_bytes",
}
_SPECIAL: Final = {
    "phase",
    "percent",
    "replication_id",
    "lag_seconds",
    "caught_up",
    "spool_full",
    "backlog_bytes",
    "written_per_second",
    "latency_ms",
    "databases",
}


def combined(shards: Sequence[Progress]) -> Progress:
    """Counters are sums; the phase is that of the last, lag and latency the largest, and caught up are all or none."""
    result = Progress()
    for field in fields(Progress):
        if field.name in _SPECIAL:
            continue
        values = [getattr(shard, field.name) for shard in shards]
        known = None if field.name in _SUMS_OR_NONE and None in values else sum(values)
        setattr(result, field.name, known)
    result.phase = min((shard.phase for shard in shards), key=_ORDER.__getitem__)
    result.percent = _percent(shards)
    seconds = [shard.lag_seconds for shard in shards]
    result.lag_seconds = None if None in seconds else max(value for value in seconds if value is not None)
    result.caught_up = all(shard.caught_up for shard in shards)
    result.latency_ms = max((ms for shard in shards if (ms := shard.latency_ms) is not None), default=None)
    # Of the shard whose backlog is over first: one that cannot go on stops all.
    worst = min(shards, key=_seconds_covered)
    result.backlog_bytes, result.written_per_second = worst.backlog_bytes, worst.written_per_second
    result.spool_full = any(shard.spool_full for shard in shards)
    for shard in shards:
        for database, count in shard.databases.items():
            result.databases[database] = result.databases.get(database, 0) + count
    return result


def _seconds_covered(shard: Progress) -> float:
    """How long an interruption its source's backlog covers; what is not known counts as for ever."""
    if shard.backlog_bytes is None or not shard.written_per_second:
        return float("inf")
    return shard.backlog_bytes / shard.written_per_second


def _percent(shards: Sequence[Progress]) -> float | None:
    """By the keys, where they are known: shards may differ in size."""
    known = [shard.percent for shard in shards if shard.percent is not None]
    if len(known) < len(shards):
        return None
    totals = [shard.keys_total for shard in shards]
    weights = _weights(totals)
    return sum(percent * weight for percent, weight in zip(known, weights, strict=True)) / sum(weights)


def _weights(totals: Iterable[int | None]) -> list[int]:
    counts = list(totals)
    return [1] * len(counts) if None in counts else [max(1, count or 0) for count in counts]
