"""What an executor is: stages, and the next step of a stage.

An executor is asked for one step at a time, by any worker that has the lease of the run. A step takes less than a minute, and must be
free to run twice: a worker that dies in the middle is followed by another one, with the state of the last step that ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from events.choices import LogLevel, Phase
from events.models import Event


@dataclass(frozen=True, slots=True)
class StageSpec:
    """A stage as people see it. Stages of `Phase.SWITCH` do not begin before the switch time."""

    code: str
    name: str
    phase: Phase
    impact: str = ""


@dataclass(slots=True)
class Step:
    """What an executor gets for one step. `state` is its own, JSON, and is kept for the next one; `log` is for people."""

    event: Event
    stage: str
    state: dict[str, Any]
    now: datetime
    began_at: datetime
    """When the stage began."""
    lines: list[tuple[LogLevel, str]] = field(default_factory=list)

    def log(self, message: str, level: LogLevel = LogLevel.INFO) -> None:
        self.lines.append((level, message))


@dataclass(frozen=True, slots=True)
class Again:
    """The stage goes on: ask again after this time."""

    after: timedelta


@dataclass(frozen=True, slots=True)
class Done:
    """The stage has ended. `impact_seconds` is how long clients were cut off or could not write in it, as measured."""

    detail: str = ""
    impact_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class WaitsForPerson:
    """Nothing more happens until somebody confirms the stage. `what` says what is to be done."""

    what: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The event has failed; `reason` says what happened and in which state the instance is."""

    reason: str


Outcome = Again | Done | WaitsForPerson | Failed


class Executor(Protocol):
    name: str
    """As the type's `executor` names it."""
    label: str
    simulated: bool
    """Nothing is really done."""

    def stages(self, event: Event) -> Sequence[StageSpec]: ...

    def step(self, step: Step) -> Outcome: ...


_executors: dict[str, Executor] = {}


def register(executor: Executor) -> None:
    """Adds the executor, or replaces the one of this name."""
    _executors[executor.name] = executor


def executor_of(name: str) -> Executor | None:
    return _executors.get(name)


def known() -> list[tuple[str, str]]:
    """(name, label), for choices."""
    return sorted((one.name, one.label) for one in _executors.values())
