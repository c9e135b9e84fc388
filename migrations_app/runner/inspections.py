"""Runs an inspection in this process: the function of its kind in the calling thread, its lease and progress in a second one.

An inspection that is interrupted (its worker dies, or the cluster shuts down) is begun anew by another worker, so the function
of a kind must be free to run twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from django.db import DatabaseError, connections

from migrations_app import drain
from migrations_app.choices import InspectionKind
from migrations_app.engine.errors import EngineError
from migrations_app.models import Inspection
from migrations_app.services import inspections
from migrations_app.services.inspections import InspectionLease
from portal.errors import ServiceError

log = structlog.get_logger(__name__)

RENEW_SECONDS: Final = 2.0
CYCLE: Final = 0.25
BLIND_SECONDS: Final = 30.0  # without the database nobody can cancel it


class Cancelled(Exception):
    """It is to end: somebody has cancelled it, another worker has it, or this process is to stop."""


@dataclass(slots=True)
class Result:
    """What has come out. `values` must be JSON; `passed` None where there is nothing to pass.

    `store` writes rows that belong to the inspection, in the transaction of its end: a worker that has lost it writes none.
    """

    values: dict[str, Any] = field(default_factory=dict)
    passed: bool | None = None
    store: Callable[[Inspection], None] | None = None


Kind = Callable[["Reporter"], Result]
KINDS: Final[dict[InspectionKind, Kind]] = {}


def kind(name: InspectionKind) -> Callable[[Kind], Kind]:
    """Register the function of a kind. The modules are imported by `runner/kinds.py`."""

    def register(function: Kind) -> Kind:
        KINDS[name] = function
        return function

    return register


class Reporter:
    """What the function of a kind gets: the inspection (with its task), and the way to tell how far it has come."""

    def __init__(self, lease: InspectionLease, inspection: Inspection) -> None:
        self.inspection = inspection
        self.task = inspection.task
        self._lease = lease
        self._progress: dict[str, Any] | None = None
        self._over = threading.Event()
        self._closing = threading.Event()

    def stopped(self) -> bool:
        """Whether it is to end now. Cheap: ask it often."""
        return self._over.is_set() or drain.requested()

    def check(self) -> None:
        """Raises Cancelled once it is to end."""
        if self.stopped():
            raise Cancelled

    def progress(self, done: float, total: float | None, label: str, **more: Any) -> None:
        """Tell how far it has come, as often as you like: it is stored every two seconds. Raises Cancelled as `check`."""
        self._progress = {"done": done, "total": total, "label": label, **more}
        self.check()

    def keep(self) -> None:
        """The keeper's loop, in a thread of its own, until `close()`."""
        renewed = time.monotonic()
        due = renewed
        while not self._closing.is_set():
            if time.monotonic() >= due and not self._over.is_set():
                try:
                    if inspections.renew(self._lease, self._progress):
                        renewed = time.monotonic()
                    else:
                        self._over.set()
                except DatabaseError as error:
                    log.warning("inspection.database_unreachable", error=str(error))
                    with suppress(DatabaseError):
                        connections.close_all()
                    if time.monotonic() - renewed > BLIND_SECONDS:
                        self._over.set()
                due = time.monotonic() + RENEW_SECONDS
            self._closing.wait(CYCLE)
        connections.close_all()

    def close(self) -> None:
        self._closing.set()


def run(lease: InspectionLease) -> None:
    """Carry out the inspection of this lease."""
    row = Inspection.objects.select_related("task__source__endpoint", "task__target__endpoint").get(
        pk=lease.inspection_id
    )
    logger = log.bind(inspection=row.public_id, kind=row.kind)
    reporter = Reporter(lease, row)
    keeper = threading.Thread(target=reporter.keep, name="keeper", daemon=True)
    keeper.start()
    end: Callable[[], object]
    try:
        result = KINDS[InspectionKind(row.kind)](reporter)
    except Cancelled:
        end = lambda: inspections.release(lease) if drain.requested() else inspections.cancelled(lease)  # noqa: E731
    except (EngineError, ServiceError) as error:
        failure = {"failure_id": error.id, "message": error.message, "advice": error.advice}
        logger.warning("inspection.failed", failure=error.id, message=error.message)
        end = lambda: inspections.fail(lease, **failure)  # noqa: E731
    except Exception as error:
        logger.exception("inspection.crashed")
        message = (
            f"The worker met an error that it was not prepared for ({type(error).__name__}). "
            "What had been found out before is not kept."
        )
        end = lambda: inspections.fail(  # noqa: E731
            lease,
            failure_id="internal.unexpected",
            message=message,
            advice="Run it again. If it fails again, the server's log has the details.",
        )
    else:
        end = lambda: inspections.finish(  # noqa: E731
            lease, passed=result.passed, result=result.values, store=result.store
        )
    finally:
        reporter.close()
        keeper.join()
    end()
    logger.info("inspection.ended")
