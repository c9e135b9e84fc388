"""Connectivity test: can this worker reach the sides of a task and sign in there? (R73, R103, R106, R114)"""

from __future__ import annotations

from typing import Any

from migrations_app.choices import InspectionKind
from migrations_app.runner.inspections import Reporter, Result, kind
from portal.choices import EndpointKind
from portal.errors import ServiceError
from portal.models import Instance
from portal.redis_control import params_of, probe


@kind(InspectionKind.CONNECTIVITY)
def test_connectivity(report: Reporter) -> Result:
    """One entry a side: `{"ok", "product", "message", "advice"}`. Passed when every side that is chosen answers."""
    sides = [(side, getattr(report.task, side)) for side in ("source", "target")]
    values: dict[str, Any] = {}
    for number, (side, instance) in enumerate(sides):
        report.progress(number, len(sides), f"asking the {side}")
        if instance is not None:
            values[side] = _ask(instance)
    return Result(values, passed=len(values) == len(sides) and all(one["ok"] for one in values.values()))


def _ask(instance: Instance) -> dict[str, Any]:
    if instance.endpoint.kind != EndpointKind.SERVER:
        return {"ok": True, "product": "", "message": "", "advice": ""}
    try:
        found = probe(params_of(instance.endpoint))
    except ServiceError as error:
        return {"ok": False, "product": "", "id": error.id, "message": error.message, "advice": error.advice}
    return {"ok": True, "product": found.product, "message": "", "advice": ""}
