"""The state table, without a database."""

from __future__ import annotations

import pytest

from migrations_app import states
from migrations_app.choices import ACTIVE, CONFIGURABLE, FINAL, HOLDING, TaskStatus
from migrations_app.states import Action

S = TaskStatus


def test_every_status_is_in_the_table() -> None:
    assert set(states.NEXT) == set(TaskStatus)
    for following in states.NEXT.values():
        assert following <= set(TaskStatus)


def test_a_status_is_of_one_sort() -> None:
    """It is still set up, is being checked, is active, is paused, or is final."""
    sorts = [CONFIGURABLE, {S.PRECHECKING}, ACTIVE, {S.PAUSED}, FINAL]
    assert sum(len(one) for one in sorts) == len(TaskStatus)
    assert frozenset().union(*sorts) == set(TaskStatus)
    assert ACTIVE | {S.PAUSED} == HOLDING


def test_every_status_can_be_reached_from_the_draft() -> None:
    reached, edge = {S.NOT_CONFIGURED}, {S.NOT_CONFIGURED}
    while edge:
        edge = {new for old in edge for new in states.NEXT[old]} - reached
        reached |= edge
    assert reached == set(TaskStatus)


def test_every_active_task_can_end() -> None:
    for status in ACTIVE:
        assert S.FAILED in states.NEXT[status]
        assert status is S.STOPPING or S.STOPPING in states.NEXT[status]


def test_nothing_follows_a_release() -> None:
    assert states.NEXT[S.RELEASED] == frozenset()
    assert states.before(S.RELEASED) == {S.PAUSED, S.STOPPED, S.FAILED, S.COMPLETED}


def test_a_successful_task_can_only_be_released() -> None:
    assert states.NEXT[S.COMPLETED] == {S.RELEASED}


def test_a_task_is_stopped_early_only_by_being_stopped() -> None:
    assert states.before(S.STOPPED) == {S.STOPPING, S.PAUSED}


def test_a_task_is_paused_only_by_being_paused() -> None:
    """Nothing that a worker tells can make a paused task run, and only a start leads out of it to writing."""
    assert states.NEXT[S.PAUSED] == {S.STARTING, S.COMPLETED, S.STOPPED, S.RELEASED}
    assert states.before(S.PAUSED) <= {S.STARTING, S.PAUSING}


# What may be done in which status. A new status or action fails here until somebody has decided.
OPEN = {
    S.NOT_CONFIGURED: {Action.CONFIGURE, Action.PRECHECK, Action.DELETE},
    S.PRECHECKING: set(),
    S.PRECHECK_FAILED: {Action.CONFIGURE, Action.PRECHECK, Action.DELETE},
    S.READY: {Action.CONFIGURE, Action.PRECHECK, Action.START, Action.DELETE},
    S.STARTING: {Action.PAUSE, Action.STOP},
    S.FULL: {Action.PAUSE, Action.STOP},
    S.INCREMENTAL: {Action.PAUSE, Action.STOP},
    S.RETRYING: {Action.PAUSE, Action.STOP},
    S.PAUSING: {Action.STOP},
    S.PAUSED: {Action.RESUME, Action.STOP, Action.RELEASE},
    S.STOPPING: set(),
    S.STOPPED: {Action.RESUME, Action.RELEASE, Action.DELETE},
    S.COMPLETED: {Action.RELEASE, Action.DELETE},
    S.FAILED: {Action.RESUME, Action.RELEASE, Action.DELETE},
    S.RELEASED: {Action.DELETE},
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
    assert states.allowed(Action.STOP, status).open == (status in HOLDING - {S.STOPPING})
    assert states.allowed(Action.CONFIGURE, status).open == (status in CONFIGURABLE)
    assert states.allowed(Action.PAUSE, status).open == (S.PAUSING in states.NEXT[status])
    assert states.allowed(Action.RELEASE, status).open == (S.RELEASED in states.NEXT[status])
    assert states.allowed(Action.PRECHECK, status).open == (S.PRECHECKING in states.NEXT[status])
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
