"""The same to several events, one after the other: a result for each, and one refusal does not keep the others from it.

For programs, which name some events and want to know of each. People who change thousands get a preview and a job: services/bulk.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.db.models import QuerySet

from events.models import Event
from events.services.by import By
from portal.errors import NotFound, ServiceError


@dataclass(frozen=True, slots=True)
class Result:
    id: str
    event: Event | None
    """As it is now; None if there is none."""
    error: ServiceError | None = None


def each(
    by: By, rows: QuerySet[Event], ids: Iterable[str], act: Callable[[By, Event], Event]
) -> list[Result]:
    """`rows`: those that may be reached. In the order of the IDs, each once."""
    ids = list(dict.fromkeys(ids))
    there = {one.public_id: one for one in rows.filter(public_id__in=ids)}
    return [_one(by, there.get(one), one, act) for one in ids]


def not_found(public_id: str) -> NotFound:
    return NotFound(f"There is no event {public_id} in your accounts.", id="event.not_found")


def _one(by: By, event: Event | None, public_id: str, act: Callable[[By, Event], Event]) -> Result:
    if event is None:
        return Result(public_id, None, not_found(public_id))
    try:
        return Result(public_id, act(by, event))
    except ServiceError as refusal:
        return Result(public_id, event, refusal)
