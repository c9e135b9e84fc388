"""The state machine of a migration task: one table of what may follow, one of what a person may do.

    draft → prechecking → ready → starting → full → incremental → stopping → completed
                        → precheck-failed                                  → stopped (before the incremental phase was reached)
    any active status → retrying → back; any active status → failed; full, incremental, retrying → pausing → paused
    paused, failed, stopped → starting (resume); paused, failed, stopped, completed → released

Pure: no database, no request. Services ask `allowed()` and `before()`, pages draw their buttons from `actions()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from migrations_app.choices import TaskStatus

S = TaskStatus

RESUMABLE_FOR: Final = timedelta(days=7)  # after a failure (R55)


class Action(StrEnum):
    """What a person can do to a task."""

    CONFIGURE = "configure"
    PRECHECK = "precheck"
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    RELEASE = "release"
    DELETE = "delete"


# From each status, the ones that may follow it. Whatever is not here does not happen.
NEXT: Final[dict[TaskStatus, frozenset[TaskStatus]]] = {
    S.NOT_CONFIGURED: frozenset({S.PRECHECKING}),
    S.PRECHECKING: frozenset({S.READY, S.PRECHECK_FAILED, S.NOT_CONFIGURED}),
    S.PRECHECK_FAILED: frozenset({S.PRECHECKING, S.NOT_CONFIGURED, S.READY}),
    S.READY: frozenset({S.STARTING, S.PRECHECKING, S.NOT_CONFIGURED}),
    S.STARTING: frozenset(
        {S.FULL, S.INCREMENTAL, S.RETRYING, S.PAUSING, S.PAUSED, S.STOPPING, S.COMPLETED, S.FAILED}
    ),
    S.FULL: frozenset({S.INCREMENTAL, S.RETRYING, S.PAUSING, S.STOPPING, S.COMPLETED, S.FAILED}),
    # Full again: where the task allows it and the source no longer has the changes that the link needs.
    S.INCREMENTAL: frozenset({S.FULL, S.RETRYING, S.PAUSING, S.STOPPING, S.FAILED}),
    S.RETRYING: frozenset({S.FULL, S.INCREMENTAL, S.PAUSING, S.STOPPING, S.COMPLETED, S.FAILED}),
    S.PAUSING: frozenset({S.PAUSED, S.STOPPING, S.COMPLETED, S.FAILED}),
    S.PAUSED: frozenset({S.STARTING, S.COMPLETED, S.STOPPED, S.RELEASED}),
    S.STOPPING: frozenset({S.COMPLETED, S.STOPPED, S.FAILED}),
    S.STOPPED: frozenset({S.STARTING, S.RELEASED}),
    S.FAILED: frozenset({S.STARTING, S.RELEASED}),
    S.COMPLETED: frozenset({S.RELEASED}),
    S.RELEASED: frozenset(),
}

_BUSY = "The task is running. Stop it first."
_IDLE = "The task is not running."
_DONE = "The task has ended successfully: after its stop nothing more is written to the target. Create a new task."
_RELEASED = "The task was released: it does not write any more. Create a new task."
_UNFINISHED = "The task is not configured completely. Finish its set-up first."
_CHECKING = "The precheck is running. Wait until it has ended."
_FAILED_CHECK = "The precheck has failed. Repair what it names, and run it again."
_STARTED = "The task was started already: it keeps the settings that it was started with."
_PAUSED = "The task is paused. Resume it, and it goes on where it stood."
_PAUSING = "The task is just being paused. Wait until it stands."
_STOPPING = "The task is just being stopped. Wait until it has ended."
_RUNNING = "The task is running already."
_RETRYING = "The task is running already, and tries to reach its servers again."
_RESUMABLE = "The task was started before: resume it, and it goes on where it stood."
_NEVER_STARTED = "The task has not been started yet: start it."

_TOO_LATE = "The task failed more than 7 days ago: it cannot be resumed any more. Create a new task."

_ALL_STARTED: Final = dict.fromkeys((S.STARTING, S.FULL, S.INCREMENTAL, S.RETRYING, S.PAUSING, S.PAUSED, S.STOPPING, S.STOPPED, S.FAILED, S.COMPLETED), _STARTED) | {S.RELEASED: _RELEASED}  # fmt: skip

# For each action, why it is closed in a status. A status without an entry has the action open.
CLOSED: Final[dict[Action, dict[TaskStatus, str]]] = {
    Action.CONFIGURE: {S.PRECHECKING: _CHECKING, **_ALL_STARTED},
    Action.PRECHECK: {S.PRECHECKING: "The precheck is running already.", **_ALL_STARTED},
    Action.START: {
        S.NOT_CONFIGURED: _UNFINISHED,
        S.PRECHECKING: _CHECKING,
        S.PRECHECK_FAILED: _FAILED_CHECK,
        S.STARTING: "The task has been started already.",
        S.FULL: _RUNNING,
        S.INCREMENTAL: _RUNNING,
        S.RETRYING: _RETRYING,
        S.PAUSING: _PAUSING,
        S.PAUSED: _PAUSED,
        S.STOPPING: "The task is just being stopped.",
        S.STOPPED: _RESUMABLE,
        S.FAILED: _RESUMABLE,
        S.COMPLETED: _DONE,
        S.RELEASED: _RELEASED,
    },
    Action.PAUSE: {
        S.NOT_CONFIGURED: _IDLE,
        S.PRECHECKING: _IDLE,
        S.PRECHECK_FAILED: _IDLE,
        S.READY: _IDLE,
        S.PAUSING: "The task is being paused already.",
        S.PAUSED: "The task is paused already.",
        S.STOPPING: "The task is just being stopped.",
        S.STOPPED: _IDLE,
        S.FAILED: _IDLE,
        S.COMPLETED: _IDLE,
        S.RELEASED: _IDLE,
    },
    Action.RESUME: {
        S.NOT_CONFIGURED: _NEVER_STARTED,
        S.PRECHECKING: _NEVER_STARTED,
        S.PRECHECK_FAILED: _NEVER_STARTED,
        S.READY: _NEVER_STARTED,
        S.STARTING: _RUNNING,
        S.FULL: _RUNNING,
        S.INCREMENTAL: _RUNNING,
        S.RETRYING: _RETRYING,
        S.PAUSING: _PAUSING,
        S.STOPPING: _STOPPING,
        S.COMPLETED: _DONE,
        S.RELEASED: _RELEASED,
    },
    Action.STOP: {
        S.NOT_CONFIGURED: "The task has not been started.",
        S.PRECHECKING: "The task has not been started.",
        S.PRECHECK_FAILED: "The task has not been started.",
        S.READY: "The task has not been started.",
        S.STOPPING: "The task is being stopped already.",
        S.STOPPED: _IDLE,
        S.COMPLETED: _IDLE,
        S.FAILED: _IDLE,
        S.RELEASED: _IDLE,
    },
    Action.RELEASE: {
        S.NOT_CONFIGURED: "The task has never written to its target: delete it instead.",
        S.PRECHECKING: _CHECKING,
        S.PRECHECK_FAILED: "The task has never written to its target: delete it instead.",
        S.READY: "The task has never written to its target: delete it instead.",
        S.STARTING: _BUSY,
        S.FULL: _BUSY,
        S.INCREMENTAL: _BUSY,
        S.RETRYING: _BUSY,
        S.PAUSING: _PAUSING,
        S.STOPPING: _STOPPING,
        S.RELEASED: "The task was released already.",
    },
    Action.DELETE: {
        S.PRECHECKING: _CHECKING,
        S.STARTING: _BUSY,
        S.FULL: _BUSY,
        S.INCREMENTAL: _BUSY,
        S.RETRYING: _BUSY,
        S.PAUSING: _PAUSING,
        S.PAUSED: "The task is paused. Stop or release it first.",
        S.STOPPING: _STOPPING,
    },
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an action is open, and if not, the sentence that says why."""

    open: bool
    reason: str = ""


def allowed(action: Action, status: TaskStatus, *, too_late: bool = False) -> Verdict:
    """`too_late`: it failed longer ago than RESUMABLE_FOR."""
    reason = CLOSED[action].get(status)
    if too_late and action is Action.RESUME and status == S.FAILED:
        reason = _TOO_LATE
    return Verdict(open=reason is None, reason=reason or "")


def actions(status: TaskStatus, *, too_late: bool = False) -> dict[str, Verdict]:
    """Every action with its verdict; what pages draw their buttons from."""
    return {action.value: allowed(action, status, too_late=too_late) for action in Action}


def before(new: TaskStatus) -> frozenset[TaskStatus]:
    """The statuses from which `new` can be reached: the left side of a compare-and-swap."""
    return frozenset(old for old, following in NEXT.items() if new in following)


def after_stop(reached_incremental: bool) -> TaskStatus:
    """What a stopped task is: successful once the target had caught up with the source, stopped early before that."""
    return S.COMPLETED if reached_incremental else S.STOPPED


# Where an action leads; a stop leads to what `after_stop` says. Deleting leads nowhere.
LEADS_TO: Final[dict[Action, TaskStatus]] = {
    Action.PRECHECK: S.PRECHECKING,
    Action.START: S.STARTING,
    Action.PAUSE: S.PAUSED,
    Action.RESUME: S.STARTING,
    Action.RELEASE: S.RELEASED,
}


def leads_to(action: Action, reached_incremental: bool) -> TaskStatus | None:
    """The status that a task has once the action is carried out: what is told before it is confirmed."""
    return after_stop(reached_incremental) if action is Action.STOP else LEADS_TO.get(action)
