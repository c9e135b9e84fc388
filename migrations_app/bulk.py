"""What can be done to many tasks at once, and what it would do to each: told before it is confirmed, from the table of states alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from migrations_app import states
from migrations_app.choices import TaskStatus
from migrations_app.present import TaskView
from migrations_app.states import Action


@dataclass(frozen=True, slots=True)
class Kind:
    """An action of many tasks, and its words."""

    action: Action
    verb: str
    icon: str
    button: str
    about: str
    keep: str
    """The way out of the question."""


KINDS: Final = {
    kind.action.value: kind
    for kind in (
        Kind(
            Action.PAUSE, "Pause", "pause-circle", "btn-primary",
            "Each worker applies what it has received, notes where it stands and ends within seconds. Nothing is written to a target "
            "while its task is paused; resumed, the task goes on where it stood, if its source still has the changes.",
            "Let them run",
        ),
        Kind(
            Action.RESUME, "Resume", "play", "btn-primary",
            "A worker takes each task in a moment. It goes on where it stood; one whose full synchronization was not complete begins it "
            "again. Tasks whose source no longer has the changes that they need fail again, and say so.",
            "Leave them as they are",
        ),
        Kind(
            Action.STOP, "Stop", "stop-circle", "btn-danger",
            "Each worker applies what it has received, notes where it stands and ends within seconds. A task in its incremental phase "
            "then counts as Successful and cannot go on; one in its full phase leaves an incomplete target and can be resumed.",
            "Let them run",
        ),
        Kind(
            Action.RELEASE, "Release", "unlock", "btn-danger",
            "A released task never writes to its target again: it cannot be resumed. Its page, its figures and its log stay. Data on both "
            "sides are not touched.",
            "Leave them as they are",
        ),
    )
}  # fmt: skip

NO_ROLE: Final = "Your role in its account does not allow this."


@dataclass(frozen=True, slots=True)
class Prospect:
    """What an action would do to one task: `becomes`, or `reason` why it is refused."""

    view: TaskView
    becomes: TaskStatus | None
    reason: str

    @property
    def open(self) -> bool:
        return not self.reason


def prospects(kind: Kind, views: Iterable[TaskView], operated: frozenset[int]) -> list[Prospect]:
    """`operated`: the accounts (primary keys) whose tasks the person may operate."""
    found = []
    for view in views:
        verdict = view.task.actions[kind.action.value]
        reason = verdict.reason if view.task.account_id in operated else NO_ROLE
        becomes = None if reason else states.leads_to(kind.action, view.task.reached_incremental)
        found.append(Prospect(view, becomes, reason))
    return found
