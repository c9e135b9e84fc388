"""One link: source → target. (Contract; the wiring follows.)"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import EngineError
from migrations_app.engine.ports import Ports, Progress


class Phases(StrEnum):
    """What a link does: copy once, or copy and then follow."""

    FULL = "full"
    FULL_INCREMENTAL = "full+incremental"


class Outcome(StrEnum):
    """How `run_link` ended when it did not raise."""

    COMPLETED = "completed"  # full only: everything is written; or caught up, where that was asked for
    STOPPED = "stopped"  # somebody wanted it to stop; it goes on where it stood


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """Everything that one link needs to know.

    `name` (1–64 of `A–Z a–z 0–9 . _ -`) identifies the link in the target, where its checkpoint is kept under
    `switchyard:checkpoint:<name>`. `databases` None means all. `epoch` is a number that only grows from owner to owner; None takes
    the next one. Times are in seconds.
    """

    name: str
    source: Endpoint
    target: Endpoint
    phases: Phases = Phases.FULL_INCREMENTAL
    databases: frozenset[int] | None = None
    stop_when_caught_up: bool = False
    epoch: int | None = None
    retry_seconds: float = 7200.0
    timeout: float = 60.0
    allow_full_resync: bool = False


@dataclass(frozen=True, slots=True)
class LinkResult:
    """How it ended and the counters at that moment."""

    outcome: Outcome
    progress: Progress


def run_link(config: LinkConfig, ports: Ports) -> LinkResult:
    """Run the link until it is done, stopped, or cannot go on.

    Blocks. Raises `EngineError` (the cause, with advice) when it cannot go on; network failures are retried within
    `retry_seconds` first.
    """
    raise EngineError("not there yet")
