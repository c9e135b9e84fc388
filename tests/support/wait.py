"""Waiting for a condition, with a deadline. Tests do not sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 3
"""Times are given for a machine that does nothing else; one that runs several files side by side gets so many times as long."""


def wait_for(
    condition: Callable[[], T],
    timeout: float = 10,
    message: str | Callable[[], str] = "",
    interval: float = 0.02,
    ignore: tuple[type[Exception], ...] = (),
) -> T:
    """Returns the condition's first true value. Raises AssertionError after `PATIENCE` times `timeout` seconds.

    `ignore` names exceptions that mean "not yet" (a server that does not answer); the last one is the cause of the failure.
    `message` may be a function: it is then asked at the end, when there is something to tell.
    """
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    cause: Exception | None = None
    while True:
        value: T | None
        try:
            value = condition()
        except ignore as error:
            value, cause = None, error
        else:
            cause = None
        if value:
            return value
        if time.monotonic() > deadline:
            said = message() if callable(message) else message
            raise AssertionError(f"not within {timeout:g} s: {said or condition}") from cause
        time.sleep(interval)
