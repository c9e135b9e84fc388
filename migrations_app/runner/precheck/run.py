"""Runs the items of a precheck one after the other, and stores what they have found."""

from __future__ import annotations

import socket
import time
from typing import Any

import structlog

from migrations_app.choices import InspectionKind, Outcome, Severity
from migrations_app.engine.errors import ConnectionLost, EngineError
from migrations_app.models import Inspection, PrecheckItem
from migrations_app.runner.inspections import Cancelled, Reporter, Result, kind
from migrations_app.runner.precheck.context import Context
from migrations_app.runner.precheck.discretion import discreet
from migrations_app.runner.precheck.items import ITEMS
from migrations_app.runner.precheck.registry import Finding, Item, Skip, failed
from migrations_app.runner.sides import own_address
from portal.errors import ServiceError

log = structlog.get_logger(__name__)


@kind(InspectionKind.PRECHECK)
def precheck(report: Reporter) -> Result:
    """Look at every item. `values`: `{"counts": {outcome: n}, "seconds", "worker_host", "worker_ip"}`.

    Passed when no item has failed; items that somebody has ignored are counted later (services/prechecks.py).
    """
    begun = time.monotonic()
    context = Context(report.task, report)
    rows: list[PrecheckItem] = []
    try:
        for position, item in enumerate(ITEMS, start=1):
            context.done, context.total, context.title = position - 1, len(ITEMS), item.title
            report.progress(position - 1, len(ITEMS), item.title, items=list(context.told))
            finding = discreet(look(item, context), item.side, context)
            rows.append(_row(position, item, finding))
            context.told.append({"code": item.code, "outcome": finding.outcome.value})
    finally:
        context.close()
    counts = {outcome.value: sum(row.outcome == outcome for row in rows) for outcome in Outcome}

    def store(inspection: Inspection) -> None:
        for row in rows:
            row.pk, row.inspection = None, inspection
        PrecheckItem.objects.bulk_create(rows)

    values: dict[str, Any] = {
        "counts": counts,
        "seconds": round(time.monotonic() - begun, 1),
        "worker_host": socket.gethostname(),
        "worker_ip": own_address(),
    }
    return Result(values, passed=not counts[Outcome.FAILED.value], store=store)


def look(item: Item, context: Context) -> Finding:
    """What an item finds. An error of it is its own failure: the others are looked at all the same.

    A connection that was cut is made anew, once: servers close those that were idle while an item took its time.
    """
    return _look(item, context, again=True)


def _look(item: Item, context: Context, *, again: bool) -> Finding:
    try:
        if context.source.is_file and not item.file and item.side != "target":
            raise Skip("The source is a snapshot file.")
        for name in item.needs:
            side = context.side(name)
            if not side.connected and not side.is_file:
                raise Skip(f"Not looked at: the {name} could not be reached.")
        return item.check(context)
    except Cancelled:
        raise
    except Skip as skip:
        return Finding(Outcome.SKIPPED, str(skip))
    except (EngineError, ServiceError) as error:
        context.renew()
        if isinstance(error, ConnectionLost) and again:
            return _look(item, context, again=False)
        return failed(f"This could not be looked at: {error.message}", error.advice, id=error.id)
    except Exception as error:
        log.exception("precheck.item_crashed", item=item.code)
        context.renew()
        return failed(
            f"This could not be looked at: the worker met an error that it was not prepared for ({type(error).__name__}).",
            "Run the precheck again. If it happens again, the server's log has the details.",
            id="internal.unexpected",
        )


def _row(position: int, item: Item, finding: Finding) -> PrecheckItem:
    severity = item.severity
    if finding.outcome is Outcome.WARNING and severity is Severity.ERROR:
        severity = Severity.WARNING
    if finding.outcome is Outcome.FAILED:
        severity = Severity.ERROR
    return PrecheckItem(
        position=position,
        code=item.code,
        side=item.side,
        title=item.title,
        severity=severity,
        outcome=finding.outcome,
        found=finding.found,
        advice=finding.advice,
        repair=finding.repair,
        repair_code=finding.repair_code,
        ignorable=item.ignorable,
        data=finding.data,
    )
