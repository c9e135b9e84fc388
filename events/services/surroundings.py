"""Loads what the rules look at (events/rules.py): a constant number of queries, for one event as for ten thousand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import QuerySet

from events.choices import UNFINISHED
from events.models import Blackout, Event, RegionLimit
from events.rules import Closed, Facts, Occupancy, Planned, Surroundings

MARGIN: Final = timedelta(days=2)  # longer than any switchover is planned to take


def facts_of(event: Event, now: datetime) -> Facts:
    """`event.type` should be loaded already."""
    days = event.type.max_deferral_days
    return Facts(
        now=now,
        level=event.level,
        status=event.status,
        deadline=event.deadline,
        preparation=event.preparation,
        length=timedelta(seconds=event.switch_seconds),
        switch_at=event.switch_at,
        proposed_at=event.proposed_at,
        may_change=event.may_change,
        may_cancel=event.may_cancel,
        deferrals=event.deferrals,
        max_deferrals=event.type.max_deferrals,
        max_deferral=None if days is None else timedelta(days=days),
        region=event.region,
        account_id=event.account_id,
    )


def surroundings(
    regions: Iterable[str],
    since: datetime,
    until: datetime,
    *,
    without: Event | QuerySet[Any] | None = None,
    lock: bool = False,
) -> Surroundings:
    """For switch times from `since` to `until` in these regions. `without`: the event that is to be moved, which must not be in its own way;
    or the primary keys of many of them.

    `lock` (inside a transaction that goes on to write times): nobody else can take the last place of a region meanwhile.
    """
    regions = set(regions)
    closed = [
        Closed(row.starts_at, row.ends_at, row.reason, row.region, row.account_id)
        for row in Blackout.objects.filter(ends_at__gt=since - MARGIN, starts_at__lt=until + MARGIN)
    ]
    rows_of_limits = RegionLimit.objects.filter(region__in=[*regions, ""]).order_by("pk")
    if lock:
        rows_of_limits = rows_of_limits.select_for_update()
    limits = {row.region: row.most for row in rows_of_limits}
    limited = [region for region in regions if region in limits or "" in limits]
    if not limited:
        return Surroundings(closed, limits)
    rows = Event.objects.filter(
        region__in=limited, status__in=UNFINISHED, switch_at__gt=since - MARGIN, switch_at__lt=until + MARGIN
    )
    if isinstance(without, Event):
        rows = rows.exclude(pk=without.pk)
    elif without is not None:
        rows = rows.exclude(pk__in=without)
    taken: dict[str, list[tuple[datetime, timedelta]]] = {region: [] for region in limited}
    for region, begin, seconds in rows.values_list("region", "switch_at", "switch_seconds"):
        if begin is not None:
            taken[region].append((begin, timedelta(seconds=seconds)))
    return Surroundings(closed, limits, {region: Occupancy(spans) for region, spans in taken.items()})


def around(event: Event, now: datetime, *, lock: bool = False) -> Surroundings:
    """For one event, up to its deadline."""
    return surroundings([event.region], now, event.deadline, without=event, lock=lock)


def planned_others(event: Event) -> list[Planned]:
    """The other unfinished events of the same instance that have a time."""
    if event.instance_id is None:
        return []
    rows = (
        Event.objects.filter(instance=event.instance_id, status__in=UNFINISHED, switch_at__isnull=False)
        .exclude(pk=event.pk)
        .select_related("type")
    )
    return [
        Planned(
            f"{row.type.name} ({row.public_id})",
            row.starts_at or row.switch_at,
            row.switch_at + timedelta(seconds=row.switch_seconds),
        )
        for row in rows
        if row.switch_at is not None
    ]
