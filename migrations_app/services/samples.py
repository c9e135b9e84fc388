"""The counters of links over time: written while they run, thinned as they get older, read for the charts.

A row stands for 10 seconds during its first hour, for a minute during its first day, for ten minutes during 30 days. Every cluster
`default` thins; what two of them do at the same moment is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from django.db import transaction
from django.db.models import Avg, Min
from django.utils import timezone

from migrations_app.models import Sample
from portal.patience import patient

SPANS: Final = (10, 60, 600)
# How old a row may be before it becomes part of one of the next span; the last ones are deleted.
KEPT: Final = {10: timedelta(hours=1), 60: timedelta(days=1), 600: timedelta(days=30)}
BUCKETS: Final = 20  # that one call makes: a cluster that was away for days catches up bit by bit

RATES: Final = ("keys_per_second", "commands_per_second", "bytes_per_second")
LAGS: Final = ("lag_bytes", "lag_seconds")


@patient
def record(link_id: int, begun: int, columns: Mapping[str, Any]) -> None:
    """One INSERT. A row of another owner for the same ten seconds stays."""
    at = datetime.fromtimestamp(begun, UTC)
    Sample.objects.bulk_create([Sample(link_id=link_id, at=at, **columns)], ignore_conflicts=True)


def thin(now: datetime | None = None) -> int:
    """Put rows that are old enough together, and delete the oldest. The number of buckets that were made."""
    now = now or timezone.now()
    made = 0
    for span, wider in pairwise(SPANS):
        for begun in _due(span, wider, now):
            _merge(span, wider, begun)
            made += 1
    Sample.objects.filter(span=SPANS[-1], at__lt=now - KEPT[SPANS[-1]]).delete()
    return made


def _due(span: int, wider: int, now: datetime) -> Iterator[datetime]:
    """The beginnings of the wider spans, all of whose rows are old enough, from the oldest on."""
    limit = _floor(now - KEPT[span], wider)
    for _ in range(BUCKETS):
        oldest = Sample.objects.filter(span=span, at__lt=limit).aggregate(oldest=Min("at"))["oldest"]
        if oldest is None:
            return
        yield _floor(oldest, wider)


@patient
def _merge(span: int, wider: int, begun: datetime) -> None:
    rows = Sample.objects.filter(span=span, at__gte=begun, at__lt=begun + timedelta(seconds=wider))
    means = rows.order_by().values("link_id").annotate(**{f"mean_{name}": Avg(name) for name in RATES + LAGS})
    merged = []
    rows_of_means: list[dict[str, Any]] = list(means)  # type: ignore[arg-type]  # the names of the means are made here
    for row in rows_of_means:
        columns = {name: row[f"mean_{name}"] for name in RATES + LAGS}
        if columns["lag_bytes"] is not None:
            columns["lag_bytes"] = round(columns["lag_bytes"])
        merged.append(Sample(link_id=row["link_id"], span=wider, at=begun, **columns))
    with transaction.atomic():
        # Another machine may have made the same rows a moment ago.
        Sample.objects.bulk_create(merged, ignore_conflicts=True, batch_size=1000)
        rows.delete()


def _floor(at: datetime, span: int) -> datetime:
    return datetime.fromtimestamp(at.timestamp() // span * span, UTC)


def since(link_id: int, begin: datetime) -> list[Sample]:
    """The rows from `begin` on, by time; one query, at most some 1,800 rows for a day."""
    return list(Sample.objects.filter(link_id=link_id, span__in=SPANS, at__gte=begin).order_by("at"))
