"""What the cluster `default` runs for the events. A job is a few lines around services; the row in the database decides, not the message."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from datetime import datetime

import structlog
from django.db import DatabaseError
from django.utils import timezone

from events.services import bulk, bulk_running, execution, steps, telling

log = structlog.get_logger(__name__)

_looked_up_to = 0  # of the events that wait for a time: a look is at some of them


def step(event_id: int) -> str:
    """Take the next step of the work of an event, if it is due and nobody else does."""
    return steps.take(event_id, f"{socket.gethostname()}:{os.getpid()}")


def tell() -> str:
    """Make messages of what contacts are to be told."""
    return f"{telling.tell_due()} occasions"


def run_bulk(bulk_id: int) -> str:
    """Go on with a bulk change, if nobody else does."""
    return bulk_running.run(bulk_id)


def tick() -> None:
    """What has to be looked after every few seconds in each cluster `default`: any machine may do any of it, twice as well."""
    _carry_out()
    telling.ring_due()
    bulk_running.ring_waiting()
    bulk.sweep()


def _carry_out() -> None:
    """Begin what is due, ring for steps, choose a time where nobody has."""
    global _looked_up_to
    now = timezone.now()
    _each(execution.begin, execution.due(now), now)
    _each(execution.begin, execution.blocked(now), now)
    steps.ring_due(now)
    _each(execution.remark_overdue, execution.overdue(now), now)
    undecided, _looked_up_to = execution.undecided(now, _looked_up_to)
    _each(execution.decide, undecided, now)


def _each(look: Callable[[int, datetime], object], event_ids: Iterable[int], now: datetime) -> None:
    for event_id in event_ids:
        try:
            look(event_id, now)
        except DatabaseError:
            raise
        except Exception:
            # What is wrong with one event, or with its executor, keeps the others from nothing.
            log.exception("event.look_failed", event_id=event_id)
