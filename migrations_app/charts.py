"""Charts of a running link: samples in, lines of SVG, labels of axes and a table of figures out. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean
from typing import Final

from migrations_app.models import Sample
from portal.templatetags.portal import filesize

WIDTH: Final = 600  # of the box that the lines are drawn in; the page stretches it
HEIGHT: Final = 100
POINTS: Final = 120  # that a line is drawn through, at most
ROWS: Final = 12  # of the table

Value = float | int | None


@dataclass(frozen=True, slots=True)
class Period:
    key: str
    label: str
    length: timedelta
    marks: tuple[str, ...]
    """Labels of the time axis, from the left to the right."""


PERIODS: Final = {
    period.key: period
    for period in (
        Period("hour", "Last hour", timedelta(hours=1), ("−60 min", "−45 min", "−30 min", "−15 min", "now")),
        Period("day", "Last day", timedelta(days=1), ("−24 h", "−18 h", "−12 h", "−6 h", "now")),
    )
}


def number(value: float) -> str:
    """`0`, `0.25`, `7.5`, `1,200`."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2g}"


def _seconds(value: float) -> str:
    return f"{number(value)} s"


def _bytes(value: float) -> str:
    return filesize(round(value))


def _bytes_per_second(value: float) -> str:
    return f"{filesize(round(value))}/s"


@dataclass(frozen=True, slots=True)
class Metric:
    field: str
    label: str
    unit: str
    """What the vertical axis shows."""
    text: Callable[[float], str]
    binary: bool = False
    highest: bool = False
    """Of a span of time the highest value is shown, not the mean: a short delay must not vanish."""

    def of(self, samples: Sequence[Sample]) -> Value:
        known = [value for one in samples if (value := getattr(one, self.field)) is not None]
        if not known:
            return None
        return max(known) if self.highest else fmean(known)


METRICS: Final = (
    Metric("lag_seconds", "Lag in seconds", "seconds", _seconds, highest=True),
    Metric("lag_bytes", "Lag in bytes", "bytes", _bytes, binary=True, highest=True),
    Metric("bytes_per_second", "Received", "bytes per second", _bytes_per_second, binary=True),
    Metric("commands_per_second", "Commands applied", "commands per second", number),
    Metric("keys_per_second", "Keys written", "keys per second", number),
)


@dataclass(frozen=True, slots=True)
class Chart:
    """One line. Its coordinates are those of a box of WIDTH × HEIGHT; the labels of the axes stand outside of it."""

    metric: Metric
    line: str
    """The `d` of a path; one stroke for each stretch of time without a gap."""
    area: str
    marks: tuple[str, str, str]
    """Labels of the value axis, from the top: the highest, its half, 0."""
    summary: str
    """The same in words, for those who do not see the line."""


@dataclass(frozen=True, slots=True)
class Row:
    begin: datetime
    cells: list[str]


@dataclass(frozen=True, slots=True)
class Charts:
    period: Period
    charts: list[Chart]
    rows: list[Row]
    """The same figures as a table, the newest first."""

    @property
    def headings(self) -> list[str]:
        return [f"{metric.label}{', highest' if metric.highest else ', mean'}" for metric in METRICS]


def draw(samples: Sequence[Sample], period: Period, now: datetime) -> Charts | None:
    """None where there is nothing to be drawn."""
    begin = now - period.length
    rows = [one for one in samples if one.at + timedelta(seconds=one.span) > begin and one.at <= now]
    if not rows:
        return None
    points = _divided(rows, begin, now, POINTS)
    parts = _divided(rows, begin, now, ROWS)
    step = period.length / ROWS
    table = [
        Row(begin + place * step, [_told(metric, metric.of(part)) for metric in METRICS])
        for place, part in reversed(list(enumerate(parts)))
        if part
    ]
    return Charts(period, [_chart(metric, points, period) for metric in METRICS], table)


def _divided(samples: Sequence[Sample], begin: datetime, end: datetime, count: int) -> list[list[Sample]]:
    """The samples of each of `count` equal parts of the time. One that stands for longer than a part is in all that it covers."""
    parts: list[list[Sample]] = [[] for _ in range(count)]
    seconds = (end - begin).total_seconds() / count
    for one in samples:
        first = (one.at - begin).total_seconds() / seconds
        last = first + one.span / seconds
        beginning = math.floor(first)
        for place in range(beginning, max(beginning + 1, math.ceil(last - 0.01))):
            if 0 <= place < count:
                parts[place].append(one)
    return parts


def _told(metric: Metric, value: Value) -> str:
    return "—" if value is None else metric.text(value)


def _chart(metric: Metric, points: Sequence[Sequence[Sample]], period: Period) -> Chart:
    values = [metric.of(part) for part in points]
    known = [value for value in values if value is not None]
    top = nice(max(known, default=0), binary=metric.binary)
    strokes: list[list[tuple[float, float]]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            strokes.append([])
            continue
        strokes[-1].append(((place + 0.5) * WIDTH / len(values), HEIGHT - value / top * HEIGHT))
    drawn = [_widened(stroke, WIDTH / len(values)) for stroke in strokes if stroke]
    line = " ".join("M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in stroke) for stroke in drawn)
    area = " ".join(
        f"M{stroke[0][0]:.1f} {HEIGHT} L"
        + " L".join(f"{x:.1f} {y:.1f}" for x, y in stroke)
        + f" L{stroke[-1][0]:.1f} {HEIGHT} Z"
        for stroke in drawn
    )
    return Chart(
        metric,
        line,
        area,
        (metric.text(top), metric.text(top / 2), metric.text(0)),
        _summary(metric, known, period),
    )


def _widened(stroke: list[tuple[float, float]], width: float) -> list[tuple[float, float]]:
    """A single point is no line: it becomes one as wide as the time it stands for."""
    if len(stroke) > 1:
        return stroke
    ((x, y),) = stroke
    return [(x - width / 2, y), (x + width / 2, y)]


def _summary(metric: Metric, known: Sequence[float | int], period: Period) -> str:
    if not known:
        return f"{period.label}: not measured."
    return f"{period.label}: from {metric.text(min(known))} to {metric.text(max(known))}, at the end {metric.text(known[-1])}."


def nice(value: float, *, binary: bool = False) -> float:
    """The end of an axis: the next of 1, 2, 5, 10, 20 … that is not below the value; of bytes in their own units."""
    if value <= 0:
        return 1
    base = 1.0
    if binary:
        while value / base >= 1024:
            base *= 1024
    scaled = value / base
    power = 10.0 ** math.floor(math.log10(scaled))
    step = next((n for n in (1, 2, 5, 10) if n * power >= scaled * 0.999), 10)
    end = step * power * base
    # 1,000 KiB would be told as such; 1 MiB is what people read.
    return base * 1024 if binary and step * power >= 1000 else max(end, 1.0) if binary else end
