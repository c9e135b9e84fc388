"""What can be wrong with a task that its contacts want to hear of (R80), and in which words they do. No writing here.

`of_task` looks at the rows as they are; services/alerts.py remembers since when, and decides when somebody is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from migrations_app.choices import AlertKind, TaskStatus
from migrations_app.models import LinkProgress, MigrationTask
from portal.services.notifications import Message

S = TaskStatus
RUNS: Final = frozenset({S.FULL, S.INCREMENTAL, S.COMPLETED})
"""Reached again, what had stopped the task is over."""
STALE: Final = timedelta(seconds=15)
"""Counters that are older come from a worker that is gone: the delay grows by their age."""
SETTLED: Final = timedelta(seconds=30)
"""How long a task runs again before a failure or a pause counts as over: else one that fails again and again would be a storm."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One kind of trouble of one task as it is now. `bad` None: nobody knows, or it does not matter any more what it is."""

    kind: AlertKind
    bad: bool | None
    raise_after: timedelta = timedelta(0)
    over_after: timedelta = timedelta(0)
    since: datetime | None = None
    """When it began, where a row says so."""
    moot: bool = False
    """There is nothing to watch any more: an alert is closed without a word."""


def of_task(
    task: MigrationTask, progress: LinkProgress | None, status_since: datetime | None, now: datetime
) -> list[Trouble]:
    """Each kind, whether it is one or not. `status_since`: when the task came to its status."""
    status = S(task.status)
    return [
        _failure(task, status),
        _pause(task, status, status_since),
        _latency(task, status, status_since, progress, now),
        _retrying(task, status, status_since),
    ]


def _failure(task: MigrationTask, status: TaskStatus) -> Trouble:
    if status == S.FAILED:
        return Trouble(AlertKind.FAILED, True, since=task.finished_at)
    return Trouble(
        AlertKind.FAILED,
        False if status in RUNS else None,
        over_after=timedelta(0) if status == S.COMPLETED else SETTLED,
        moot=status in (S.STOPPED, S.RELEASED),
    )


def _pause(task: MigrationTask, status: TaskStatus, since: datetime | None) -> Trouble:
    if status in (S.PAUSING, S.PAUSED) and task.pause_reason:
        return Trouble(AlertKind.PAUSED, True, since=since)
    return Trouble(
        AlertKind.PAUSED,
        False if status in RUNS else None,
        over_after=timedelta(0) if status == S.COMPLETED else SETTLED,
        # A failure is told by itself, and somebody who pauses it knows.
        moot=status in (S.STOPPED, S.RELEASED, S.FAILED, S.PAUSED),
    )


def _latency(
    task: MigrationTask,
    status: TaskStatus,
    status_since: datetime | None,
    progress: LinkProgress | None,
    now: datetime,
) -> Trouble:
    after = timedelta(seconds=task.alert_after_seconds)
    follows = status in (S.INCREMENTAL, S.RETRYING) and task.reached_incremental
    if task.alert_lag_seconds is None or (not follows and status != S.STARTING):
        return Trouble(AlertKind.LATENCY, None, moot=True)
    lag = lag_now(progress, now)
    bad = None if lag is None or not follows else lag > task.alert_lag_seconds
    if bad is None and status == S.RETRYING and status_since is not None:
        # Without a connection nobody can measure it, but it is at least as long as there is none.
        bad = now - status_since > timedelta(seconds=task.alert_lag_seconds) or None
    return Trouble(AlertKind.LATENCY, bad, raise_after=after, over_after=after)


def _retrying(task: MigrationTask, status: TaskStatus, since: datetime | None) -> Trouble:
    minutes = task.alert_retrying_minutes
    if minutes is None or status not in (S.RETRYING, *RUNS, S.STARTING):
        return Trouble(AlertKind.RETRYING, None, moot=True)
    if status == S.RETRYING:
        return Trouble(AlertKind.RETRYING, True, raise_after=timedelta(minutes=minutes), since=since)
    return Trouble(AlertKind.RETRYING, False if status in RUNS else None, over_after=SETTLED)


def lag_now(progress: LinkProgress | None, now: datetime) -> float | None:
    """Seconds, as well as they are known."""
    if progress is None or progress.lag_seconds is None or progress.updated_at is None:
        return None
    age = now - progress.updated_at
    return progress.lag_seconds + (age.total_seconds() if age > STALE else 0)


# --- words ----------------------------------------------------------------------------------------------------------------


def begun(kind: AlertKind, task: MigrationTask, lag: float | None, *, reminder: int = 0) -> Message:
    """The message that tells of a trouble; `reminder` counts those that say that it goes on."""
    subject, lines = _BEGUN[kind](task, lag)
    if reminder:
        subject, lines = f"Still: {subject}", ["This goes on.", *lines]
    return _message(task, kind, subject, lines, lag, "goes on" if reminder else "began")


def over(kind: AlertKind, task: MigrationTask, lag: float | None) -> Message:
    subject, lines = _OVER[kind](task, lag)
    return _message(task, kind, subject, lines, lag, "over")


def _failed(task: MigrationTask, lag: float | None) -> tuple[str, list[str]]:
    what = task.failure_message or "The cause is in the log of the task."
    advice = task.failure_advice or "Open the task, look at its log, remove the cause, then resume it."
    return f"{task.name} has failed", [
        f"The migration {task.name} ({task.public_id}) has stopped with a failure: {what}",
        "The source was not changed. What was written to the target stays there; nothing more is written until the task is resumed.",
        f"What to do: {advice}",
    ]


def _paused(task: MigrationTask, lag: float | None) -> tuple[str, list[str]]:
    return f"{task.name} was paused by the system", [
        f"The migration {task.name} ({task.public_id}) was paused: {task.pause_reason}",
        "The source was not changed. The target keeps what it has and gets nothing more until the task is resumed.",
        "What to do: open the task, remove the cause, then resume it. The longer it is paused, the more the source has to keep for it.",
    ]


def _late(task: MigrationTask, lag: float | None) -> tuple[str, list[str]]:
    return f"{task.name}: the target is more than {task.alert_lag_seconds} s behind", [
        f"The migration {task.name} ({task.public_id}) has been more than {task.alert_lag_seconds} s behind its source for "
        f"{task.alert_after_seconds} s. The delay now: {_seconds(lag)}.",
        "Nothing is lost: what the source has written meanwhile is still to come. The task goes on by itself.",
        "What to do: do not switch over yet. Look whether the source writes more than usual, and whether the target, the network or "
        "the speed class of the task limits it.",
    ]


def _retries(task: MigrationTask, lag: float | None) -> tuple[str, list[str]]:
    return f"{task.name} has been retrying for more than {task.alert_retrying_minutes} min", [
        f"The migration {task.name} ({task.public_id}) has lost a connection and has tried for more than "
        f"{task.alert_retrying_minutes} minutes to get it back. The delay now: {_seconds(lag)}.",
        "Nothing is lost so far, and nothing was changed at the source. When the retry time is over, the task fails.",
        "What to do: look whether both sides are up and can be reached from the worker; the log of the task says which one is not.",
    ]


_BEGUN: Final[dict[AlertKind, Callable[[MigrationTask, float | None], tuple[str, list[str]]]]] = {
    AlertKind.FAILED: _failed,
    AlertKind.PAUSED: _paused,
    AlertKind.LATENCY: _late,
    AlertKind.RETRYING: _retries,
}


def _runs_again(task: MigrationTask, lag: float | None) -> tuple[str, list[str]]:
    if task.status == S.COMPLETED:
        return f"{task.name} has ended successfully", [
            f"The migration {task.name} ({task.public_id}) has ended successfully after all. Nothing is to be done."
        ]
    return f"{task.name} runs again", [
        f"The migration {task.name} ({task.public_id}) runs again: {task.get_status_display().lower()}. The delay now: {_seconds(lag)}.",
        "Nothing is to be done.",
    ]


def _back_to_normal(task: MigrationTask, lag: float | None) -> tuple[str, list[str]]:
    return f"{task.name}: the delay is back to normal", [
        f"The migration {task.name} ({task.public_id}) follows its source again. The delay now: {_seconds(lag)}; the threshold is "
        f"{task.alert_lag_seconds} s.",
        "Nothing is to be done.",
    ]


_OVER: Final[dict[AlertKind, Callable[[MigrationTask, float | None], tuple[str, list[str]]]]] = {
    AlertKind.FAILED: _runs_again,
    AlertKind.PAUSED: _runs_again,
    AlertKind.LATENCY: _back_to_normal,
    AlertKind.RETRYING: _runs_again,
}


def _message(
    task: MigrationTask, kind: AlertKind, subject: str, lines: list[str], lag: float | None, state: str
) -> Message:
    payload = {
        "task": task.public_id,
        "name": task.name,
        "status": task.status,
        "alert": kind.value,
        "state": state,
        "lag_seconds": lag,
        "failure": task.failure_id if kind == AlertKind.FAILED else "",
    }
    return Message(subject, "\n\n".join(lines), url=task.get_absolute_url(), payload=payload)


def _seconds(lag: float | None) -> str:
    if lag is None:
        return "not known"
    return f"{lag:.1f} s" if lag < 10 else f"{lag:,.0f} s"
