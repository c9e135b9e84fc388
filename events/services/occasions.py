"""What contacts are to be told, noted in the transaction of what happened (the outbox). `telling` makes messages of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django_q.tasks import async_task

from events.choices import EventStatus, OccasionKind
from events.models import Event, Occasion

CLUSTER: Final = "default"
REMINDED: Final = (EventStatus.PENDING, EventStatus.RUNNING)
"""In progress: one that is prepared, and whose switchover was postponed."""
SPARED: Final = timedelta(minutes=10)
"""A reminder that would come sooner than this after the announcement, or the change, that it reminds of is left out."""


def note(
    event: Event,
    kind: OccasionKind,
    key: str,
    *,
    facts: Mapping[str, Any] | None = None,
    batch: str = "",
    due_at: datetime | None = None,
) -> None:
    """Once for this key, ever. Call it inside the transaction of what happened."""
    note_many([draft(event, kind, key, facts=facts, batch=batch, due_at=due_at)])


def draft(
    event: Event,
    kind: OccasionKind,
    key: str,
    *,
    facts: Mapping[str, Any] | None = None,
    batch: str = "",
    due_at: datetime | None = None,
) -> Occasion:
    """The row, unsaved: for `note_many`."""
    return Occasion(
        event=event, kind=kind, key=key, facts=dict(facts or {}), batch=batch, due_at=due_at or timezone.now()
    )


def note_many(rows: Iterable[Occasion]) -> None:
    """Many at once. The jobs are asked for when all of this is committed."""
    rows = list(rows)
    Occasion.objects.bulk_create(rows, ignore_conflicts=True, batch_size=1000)
    if any(row.due_at <= timezone.now() for row in rows):
        ring_later()


def reminders(event: Event, now: datetime) -> list[Occasion]:
    """The reminders of the time that the event has now. They are for this revision: after another change they are passed over."""
    if event.switch_at is None or event.status not in REMINDED:
        return []
    found = []
    for hours in settings.EVENT_REMINDER_HOURS:
        due_at = event.switch_at - timedelta(hours=hours)
        if due_at > now + SPARED:
            key = f"reminder:{event.revision}:{hours}"
            facts = {"revision": event.revision, "hours": hours}
            found.append(draft(event, OccasionKind.REMINDER, key, facts=facts, due_at=due_at))
    return found


def ring() -> None:
    """Ask for a worker that tells what is due."""
    async_task("events.jobs.tell", cluster=CLUSTER, task_name="events-tell", save=False)


def ring_later() -> None:
    """Once all of this is committed. A broker that cannot be reached undoes nothing: each tick looks again."""
    transaction.on_commit(ring, robust=True)
