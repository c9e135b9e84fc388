"""The state table, without a database."""

from __future__ import annotations

import pytest

from migrations_app import states
from migrations_app.choices import ACTIVE, FINAL, TaskStatus
from migrations_app.states import Action

S = TaskStatus


def test_every_status_is_in_the_table() -> None:
    assert set(states.NEXT) == set(TaskStatus)
    for following in states.NEXT.values():
        assert following <= set(TaskStatus)


def test_a_status_is_ready_active_or_final() -> None:
    assert {S.READY} | ACTIVE | FINAL == set(TaskStatus)
    assert not ACTIVE & FINAL


def test_every_status_can_be_reached_from_ready() -> None:
    reached, edge = {S.READY}, {S.READY}
    while edge:
        edge = {new for old in edge for new in states.NEXT[old]} - reached
        reached |= edge
    assert reached == set(TaskStatus)


def test_every_active_task_can_end() -> None:
    for status in ACTIVE:
        assert S.FAILED in states.NEXT[status]
        assert status is S.STOPPING or S.STOPPING in states.NEXT[status]


def test_success_is_the_end() -> None:
    assert states.NEXT[S.COMPLETED] == frozenset()


def test_a_task_is_stopped_early_only_by_being_stopped() -> None:
    assert states.before(S.STOPPED) == {S.STOPPING}


# What may be done in which status. A new status or action fails here until somebody has decided.
OPEN = {
    S.READY: {Action.START, Action.DELETE},
    S.STARTING: {Action.STOP},
    S.FULL: {Action.STOP},
    S.INCREMENTAL: {Action.STOP},
    S.RETRYING: {Action.STOP},
    S.STOPPING: set(),
    S.STOPPED: {Action.RESUME, Action.DELETE},
    S.COMPLETED: {Action.DELETE},
    S.FAILED: {Action.RESUME, Action.DELETE},
}


@pytest.mark.parametrize("status", TaskStatus)
@pytest.mark.parametrize("action", Action)
def test_allowed(action: Action, status: TaskStatus) -> None:
    verdict = states.allowed(action, status)
    assert verdict.open == (action in OPEN[status])
    # A closed action says why, in a sentence.
    assert verdict.open != bool(verdict.reason)
    assert verdict.open or verdict.reason.endswith(".")


@pytest.mark.parametrize("status", TaskStatus)
def test_actions_agree_with_the_transitions(status: TaskStatus) -> None:
    assert states.allowed(Action.STOP, status).open == (status in ACTIVE - {S.STOPPING})
    starts = states.allowed(Action.START, status).open or states.allowed(Action.RESUME, status).open
    assert starts == (S.STARTING in states.NEXT[status])


def test_what_a_stop_leaves() -> None:
    assert states.after_stop(reached_incremental=True) is S.COMPLETED
    assert states.after_stop(reached_incremental=False) is S.STOPPED


@pytest.mark.parametrize("status", TaskStatus)
def test_a_badge_has_a_label_an_icon_and_a_tone(status: TaskStatus) -> None:
    from portal.icons import ICONS

    assert status.label
    assert status.icon in ICONS
    assert status.tone in {"success", "info", "warning", "danger", "neutral"}
