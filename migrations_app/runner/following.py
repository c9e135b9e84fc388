"""How far the link of a task is, for an inspection that reads both sides while it works."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

from django.utils import timezone

from migrations_app.choices import ACTIVE, Method, TaskStatus
from migrations_app.models import MigrationTask

_ASK_SECONDS: Final = 0.5
_FRESH: Final = timedelta(seconds=10)
_SCAN_LAG: Final = (
    5.0  # at least: what no notification tells of (groups of streams) follows later than the lag says
)


class LinkFollow:
    """`engine.verify.Follow` from what the worker of the link stores, about once a second."""

    def __init__(self, task: MigrationTask) -> None:
        self._task_id = task.pk
        self._least = _SCAN_LAG if task.method == Method.SCAN else 0.0
        self._asked = float("-inf")
        self.ended = False

    def lag(self) -> float | None:
        """None while nothing is known, as in a retry or a new full phase. A link that has ended delays nothing any more."""
        self._ask()
        return 0.0 if self.ended else None if self._lag is None else max(self._lag, self._least)

    def reached(self, offset: int) -> bool | None:
        self._ask()
        if self.ended:
            return True
        return None if self._applied is None else self._applied >= offset

    def _ask(self) -> None:
        if time.monotonic() - self._asked < _ASK_SECONDS:
            return
        task = MigrationTask.objects.select_related("link__progress").get(pk=self._task_id)
        self._asked = time.monotonic()
        self.ended = task.status not in ACTIVE
        progress = task.link.progress
        fresh = progress.updated_at is not None and timezone.now() - progress.updated_at < _FRESH
        known = (
            progress.lag_seconds if progress.lag_seconds is not None else 0.0 if progress.caught_up else None
        )
        self._lag: float | None = known if fresh and task.status == TaskStatus.INCREMENTAL else None
        self._applied: int | None = progress.applied_offset


def follow_of(task: MigrationTask) -> LinkFollow | None:
    """None where no link works: what differs then is not on its way."""
    return LinkFollow(task) if task.status in ACTIVE else None
