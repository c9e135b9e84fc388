"""Repair of keys that a verification has found to differ: each gets the source's present value, if it still differs.

`values`: `counts` {repaired, agrees, failed}, `keys` [{id, database, key, outcome, note}], `stopped` why not all were looked at.
"""

from __future__ import annotations

from typing import Any

from migrations_app.choices import InspectionKind
from migrations_app.engine import errors
from migrations_app.engine.verify.pair import Stopped
from migrations_app.engine.verify.repair import Repaired, Repairer
from migrations_app.models import Difference
from migrations_app.runner.following import follow_of
from migrations_app.runner.inspections import Reporter, Result, kind
from migrations_app.runner.sides import endpoint_of
from migrations_app.services import access, verifications
from migrations_app.services.verification_report import escaped

_SAID = {
    Repaired.WRITTEN: "the source's value was written",
    Repaired.DELETED: "deleted: the source does not have it",
    Repaired.AGREES: "agrees already: nothing was written",
}


@kind(InspectionKind.CORRECTION)
def repair_keys(report: Reporter) -> Result:
    task = report.task
    source, target = task.both_sides()
    access.require(task)
    rows = Difference.objects.filter(
        inspection__public_id=report.inspection.parameters["verification"],
        inspection__task=task,
        pk__in=report.inspection.parameters["keys"],
    ).order_by("pk")
    chosen = list(rows)
    counts = {"repaired": 0, "agrees": 0, "failed": 0}
    keys: list[dict[str, Any]] = []
    stopped = ""
    repairer = Repairer(
        endpoint_of(source),
        endpoint_of(target),
        task.link.name,
        follow=follow_of(task),
        may_write=lambda: verifications.may_still_write(task.pk),
        should_stop=report.stopped,
    )
    try:
        for number, row in enumerate(chosen):
            report.progress(number, len(chosen), f"repairing key {number + 1} of {len(chosen)}", **counts)
            try:
                result = repairer.repair(row.database, bytes(row.key))
            except (Stopped, errors.ConnectionLost):
                report.check()
                if verifications.may_still_write(task.pk):
                    raise
                # Released meanwhile: its fence may have closed the connection already.
                stopped = (
                    "The task may not write to its target any more: the other keys were left as they are."
                )
                break
            written = result.outcome in (Repaired.WRITTEN, Repaired.DELETED)
            name = "repaired" if written else result.outcome.value
            counts[name] += 1
            note = _SAID.get(result.outcome, result.reason)
            verifications.mark_repaired(row, report.inspection.requested_by, note, repaired=written)
            keys.append(
                {
                    "id": row.pk,
                    "database": row.database,
                    "key": escaped(bytes(row.key), 200),
                    "outcome": name,
                    "note": note,
                }
            )
    finally:
        repairer.close()
    complete = not stopped and not counts["failed"] and len(keys) == len(report.inspection.parameters["keys"])
    return Result({"counts": counts, "keys": keys, "stopped": stopped}, passed=complete)
