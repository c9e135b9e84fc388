"""What is open or running for many instances already, in one query."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from events.choices import UNFINISHED
from events.models import Event
from events.rules import Planned
from portal.models import Instance


@dataclass(frozen=True, slots=True)
class Unfinished:
    public_id: str
    type_id: int
    planned: Planned | None
    """None while a time is to be chosen."""
    version_to: str = ""
    of_proxy: bool = False


def unfinished_of(instances: Iterable[Instance]) -> dict[int, list[Unfinished]]:
    """By the primary key of the instance."""
    rows = Event.objects.filter(instance__in=[one.pk for one in instances], status__in=UNFINISHED)
    found: dict[int, list[Unfinished]] = {}
    for row in rows.select_related("type").order_by("pk"):
        assert row.instance_id is not None
        planned = None
        if row.switch_at is not None:
            ends = row.switch_at + timedelta(seconds=row.switch_seconds)
            name = f"{row.type.name} ({row.public_id})"
            planned = Planned(name, row.starts_at or row.switch_at, ends)
        found.setdefault(row.instance_id, []).append(
            Unfinished(row.public_id, row.type_id, planned, row.version_to, row.type.needs_proxy)
        )
    return found
