"""Which events have to wait for another one of the same instance, for many at once: one query."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from events import rules
from events.choices import UNFINISHED
from events.models import Event
from events.services.surroundings import facts_of


def waits_of(events: Iterable[Event], now: datetime) -> dict[int, str]:
    """By the primary key of the event, the name of the one that it waits for; without those that wait for none."""
    asking = [event for event in events if event.is_open and event.switch_at and event.instance_id]
    if not asking:
        return {}
    others: dict[int, list[tuple[int, rules.Planned]]] = {}
    rows = Event.objects.filter(
        instance__in={event.instance_id for event in asking}, status__in=UNFINISHED, switch_at__isnull=False
    ).select_related("type")
    for row in rows:
        assert row.switch_at is not None
        assert row.instance_id is not None
        planned = rules.Planned(
            f"{row.type.name} ({row.public_id})",
            row.starts_at or row.switch_at,
            row.switch_at + timedelta(seconds=row.switch_seconds),
        )
        others.setdefault(row.instance_id, []).append((row.pk, planned))
    found = {}
    for event in asking:
        assert event.switch_at is not None
        assert event.instance_id is not None
        near = [planned for pk, planned in others.get(event.instance_id, ()) if pk != event.pk]
        if other := rules.waits_for(facts_of(event, now), event.switch_at, near):
            found[event.pk] = other.name
    return found
