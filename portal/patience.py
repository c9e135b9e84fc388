"""Short writes that wait for their turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from django.db import OperationalError, connection, transaction

P = ParamSpec("P")
T = TypeVar("T")

ATTEMPTS: Final = 5
PAUSE: Final = 0.1  # seconds before the second attempt; doubled from one to the next


def patient(function: Callable[P, T]) -> Callable[P, T]:
    """Run `function` in a transaction of its own, and again if the database was locked or has chosen it as a victim.

    SQLite lets one process write at a time and PostgreSQL resolves deadlocks by failing one side; both pass in a moment.
    `function` must be free of effects outside the database. Inside a transaction of the caller it runs once, as only the caller
    can repeat the whole.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        if connection.in_atomic_block:
            return function(*args, **kwargs)
        pause = PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with transaction.atomic():
                    return function(*args, **kwargs)
            except OperationalError as error:
                if attempt == ATTEMPTS or not _passes(error):
                    raise
            time.sleep(pause)
            pause *= 2
        raise AssertionError("not reached")

    return wrapper


def _passes(error: OperationalError) -> bool:
    text = str(error).lower()
    return any(
        sign in text
        for sign in ("database is locked", "table is locked", "deadlock detected", "could not serialize")
    )
