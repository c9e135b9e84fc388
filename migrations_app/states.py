"""The state machine of a migration task: one table of what may follow, one of what a person may do.

    ready → starting → full → incremental → stopping → completed
                                                     → stopped (before the incremental phase was reached)
    any active status → retrying → back; any active status → failed; failed and stopped → starting (resume)

Pure: no database, no request. Services ask `allowed()` and `before()`, pages draw their buttons from `actions()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from migrations_app.choices import TaskStatus

S = TaskStatus


class Action(StrEnum):
    """What a person can do to a task."""

    START = "start"
    STOP = "stop"
    RESUME = "resume"
    DELETE = "delete"


# From each status, the ones that may follow it. Whatever is not here does not happen.
NEXT: Final[dict[TaskStatus, frozenset[TaskStatus]]] = {
    S.READY: frozenset({S.STARTING}),
    S.STARTING: frozenset({S.FULL, S.INCREMENTAL, S.RETRYING, S.STOPPING, S.COMPLETED, S.FAILED}),
    S.FULL: frozenset({S.INCREMENTAL, S.RETRYING, S.STOPPING, S.COMPLETED, S.FAILED}),
    # Full again: where the task allows it and the source no longer has the changes that the link needs.
    S.INCREMENTAL: frozenset({S.FULL, S.RETRYING, S.STOPPING, S.FAILED}),
    S.RETRYING: frozenset({S.FULL, S.INCREMENTAL, S.STOPPING, S.COMPLETED, S.FAILED}),
    S.STOPPING: frozenset({S.COMPLETED, S.STOPPED, S.FAILED}),
    S.STOPPED: frozenset({S.STARTING}),
    S.FAILED: frozenset({S.STARTING}),
    S.COMPLETED: frozenset(),
}

_BUSY = "The task is running. Stop it first."
_IDLE = "The task is not running."
_DONE = "The task has ended successfully: after its stop nothing more is written to the target. Create a new task."

# For each action, why it is closed in a status. A status without an entry has the action open.
CLOSED: Final[dict[Action, dict[TaskStatus, str]]] = {
    Action.START: {
        S.STARTING: "The task has been started already.",
        S.FULL: "The task is running already.",
        S.INCREMENTAL: "The task is running already.",
        S.RETRYING: "The task is running already, and tries to reach its servers again.",
        S.STOPPING: "The task is just being stopped.",
        S.STOPPED: "The task was started before: resume it, and it goes on where it stood.",
        S.FAILED: "The task was started before: resume it, and it goes on where it stood.",
        S.COMPLETED: _DONE,
    },
    Action.STOP: {
        S.READY: "The task has not been started.",
        S.STOPPING: "The task is being stopped already.",
        S.STOPPED: _IDLE,
        S.COMPLETED: _IDLE,
        S.FAILED: _IDLE,
    },
    Action.RESUME: {
        S.READY: "The task has not been started yet: start it.",
        S.STARTING: "The task is running already.",
        S.FULL: "The task is running already.",
        S.INCREMENTAL: "The task is running already.",
        S.RETRYING: "The task is running already, and tries to reach its servers again.",
        S.STOPPING: "The task is just being stopped. Wait until it has ended.",
        S.COMPLETED: _DONE,
    },
    Action.DELETE: {
        S.STARTING: _BUSY,
        S.FULL: _BUSY,
        S.INCREMENTAL: _BUSY,
        S.RETRYING: _BUSY,
        S.STOPPING: "The task is just being stopped. Wait until it has ended.",
    },
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an action is open, and if not, the sentence that says why."""

    open: bool
    reason: str = ""


def allowed(action: Action, status: TaskStatus) -> Verdict:
    reason = CLOSED[action].get(status)
    return Verdict(open=reason is None, reason=reason or "")


def actions(status: TaskStatus) -> dict[str, Verdict]:
    """Every action with its verdict; what pages draw their buttons from."""
    return {action.value: allowed(action, status) for action in Action}


def before(new: TaskStatus) -> frozenset[TaskStatus]:
    """The statuses from which `new` can be reached: the left side of a compare-and-swap."""
    return frozenset(old for old, following in NEXT.items() if new in following)


def after_stop(reached_incremental: bool) -> TaskStatus:
    """What a stopped task is: successful once the target had caught up with the source, stopped early before that."""
    return S.COMPLETED if reached_incremental else S.STOPPED
