"""Who carries out an event at its time, by name. Other parts of the product register theirs when they are ready."""

from events.executors.base import (
    Again,
    Done,
    Executor,
    Failed,
    Outcome,
    StageSpec,
    Step,
    WaitsForPerson,
    executor_of,
    known,
    register,
)

__all__ = [
    "Again",
    "Done",
    "Executor",
    "Failed",
    "Outcome",
    "StageSpec",
    "Step",
    "WaitsForPerson",
    "executor_of",
    "known",
    "register",
]
