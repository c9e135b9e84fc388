"""Rehearsal of a task: what its full phase would meet, read from a part of the source. Nothing is written anywhere.

`values`: expected `keys`, `bytes` (as they travel) and `seconds`; `sampled_keys`, `sampled_bytes`, `read_seconds`,
`bytes_per_second`; `how` (replication, scan, file) and `ended` (complete, bytes, seconds, refused); `used_memory` of the source,
`room` in the target, `fits`; `same_names` among the sampled keys; `by_type` {type: {keys, bytes}}; `databases`; `largest`
[{database, key, type, bytes}]; `refused` [{database, key, type, reason}] and `refused_count`; `notes`. Keys are escaped.
"""

from __future__ import annotations

from typing import Any, Final

from migrations_app.choices import ConflictPolicy, InspectionKind, Method
from migrations_app.engine.rate import class_of
from migrations_app.engine.rehearsal import Rehearsal, Rehearsed
from migrations_app.models import MigrationTask
from migrations_app.runner.inspections import Reporter, Result, kind
from migrations_app.runner.sides import endpoint_of
from migrations_app.services import access, rehearsals
from migrations_app.services.verification_report import escaped

_KEY: Final = 200  # bytes of a key that are shown
_MARGIN: Final = 1.1  # of memory that the target should have beyond what the source uses


@kind(InspectionKind.REHEARSAL)
def rehearse(report: Reporter) -> Result:
    task, asked = report.task, report.inspection.parameters
    source, target = task.both_sides()
    access.require_roles(task)
    limit = asked.get("megabytes", rehearsals.MEGABYTES) * 2**20
    report.progress(0, limit, "asking the source for a snapshot")

    def tick(read: int) -> None:
        label = "reading a part of the source" if read else "waiting for the source's snapshot"
        report.progress(min(read, limit), limit, label)

    done = Rehearsal(
        endpoint_of(source),
        endpoint_of(target),
        databases=None if task.databases is None else frozenset(task.databases),
        scan=task.method == Method.SCAN,
        refuse_same_names=task.conflict == ConflictPolicy.FAIL,
        max_bytes=limit,
        max_seconds=asked.get("seconds", rehearsals.SECONDS),
        tick=tick,
    ).run()
    values = _values(task, done)
    return Result(values, passed=not values["refused_count"] and values["fits"] is not False)


def _values(task: MigrationTask, done: Rehearsed) -> dict[str, Any]:
    survey = done.survey
    rate = class_of(task.speed_class).records_per_second
    by_speed = done.bytes / max(1.0, done.bytes_per_second)
    fits = None
    if done.room is not None:
        fits = (done.used_memory or done.bytes) * _MARGIN <= done.room
    return {
        "keys": done.keys,
        "bytes": done.bytes,
        "seconds": round(max(by_speed, done.keys / rate if rate else 0.0), 1),
        "sampled_keys": done.sampled_keys,
        "sampled_bytes": done.sampled_bytes,
        "read_seconds": round(done.read_seconds, 2),
        "bytes_per_second": round(done.bytes_per_second),
        "how": done.how,
        "ended": done.ended,
        "used_memory": done.used_memory,
        "room": done.room,
        "fits": fits,
        "same_names": done.same_names,
        "by_type": {
            name: {"keys": keys, "bytes": size} for name, (keys, size) in sorted(survey.by_type.items())
        },
        "databases": {str(number): keys for number, keys in sorted(survey.databases.items())},
        "largest": [
            {"database": database, "key": escaped(key, _KEY), "type": name, "bytes": size}
            for size, database, key, name in survey.largest
        ],
        "refused": [
            {"database": one.database, "key": escaped(one.key, _KEY), "type": one.type, "reason": one.reason}
            for one in survey.refused
        ],
        "refused_count": survey.refused_count,
        "notes": [*_notes(done, fits), *survey.notes],
    }


def _notes(done: Rehearsed, fits: bool | None) -> list[str]:
    notes = []
    if done.refusal:
        notes.append(
            f"The source was sampled by its keys, since it cannot be read as a replica reads it: {done.refusal}."
        )
    if done.ended in ("bytes", "seconds"):
        notes.append(
            "The reading ended at its limit; what is expected of the whole is worked out from the part that was read."
        )
    if done.ended == "refused":
        notes.append("Behind what the engine does not know the snapshot could not be read on.")
    if fits is False:
        notes.append(
            "The target's memory is too small: it has room for "
            f"{(done.room or 0) / 2**20:,.0f} MB, and the source uses {(done.used_memory or done.bytes) / 2**20:,.0f} MB."
        )
    if done.same_names:
        notes.append(
            f"{done.same_names:,} of the keys that were looked at have a namesake in the target already."
        )
    return notes
