"""What earlier events of a type really cost clients: measured when they ran."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Final

from events.choices import EventStatus
from events.models import Event

MOST: Final = 100  # of the newest: what was long ago was done by other software
SIMULATED: Final = "simulated"


@dataclass(frozen=True, slots=True)
class Measured:
    """The median over `count` runs."""

    seconds: float
    count: int

    @property
    def text(self) -> str:
        if self.count == 1:
            return f"{seconds_text(self.seconds)} (one run)"
        return f"median {seconds_text(self.seconds)} of {self.count} runs"


def measured_before(event: Event) -> Measured | None:
    """Of the earlier events of its type that succeeded; what was only simulated counts for simulated ones alone. One query."""
    rows = Event.objects.filter(
        type=event.type_id, status=EventStatus.SUCCEEDED, measured_seconds__isnull=False
    ).exclude(pk=event.pk)
    rows = (
        rows.filter(executor=SIMULATED) if event.executor == SIMULATED else rows.exclude(executor=SIMULATED)
    )
    if event.finished_at is not None:
        rows = rows.filter(finished_at__lt=event.finished_at)
    found = list(rows.order_by("-finished_at").values_list("measured_seconds", flat=True)[:MOST])
    return Measured(median(value for value in found if value is not None), len(found)) if found else None


def seconds_text(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"
