"""Charts: lines, axes and the table, from samples that were never stored."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from migrations_app import charts, speed
from migrations_app.choices import SpeedClass
from migrations_app.models import MigrationTask, Sample

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HOUR, DAY = charts.PERIODS["hour"], charts.PERIODS["day"]


def sample(age: float, span: int = 10, **values: Any) -> Sample:
    return Sample(at=NOW - timedelta(seconds=age), span=span, **values)


def numbers(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def chart_of(made: charts.Charts | None, field: str) -> charts.Chart:
    assert made is not None
    return next(one for one in made.charts if one.metric.field == field)


def test_nothing_measured() -> None:
    assert charts.draw([], HOUR, NOW) is None
    assert charts.draw([sample(7200)], HOUR, NOW) is None
    assert charts.draw([sample(7200)], DAY, NOW) is not None


def test_the_line_lies_in_its_box_and_time_goes_to_the_right() -> None:
    rows = [sample(age, lag_seconds=age / 100, lag_bytes=age) for age in range(3590, 0, -10)]
    chart = chart_of(charts.draw(rows, HOUR, NOW), "lag_seconds")
    points = numbers(chart.line)
    assert 100 < len(points) <= charts.POINTS
    assert all(0 <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT for x, y in points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert points[0][1] < points[-1][1], "the lag falls, and so does the line"
    assert chart.marks == ("50 s", "25 s", "0 s")
    assert "from" in chart.summary and "36 s" in chart.summary


def test_a_gap_stays_a_gap() -> None:
    rows = [sample(age) for age in [*range(3590, 2400, -10), *range(1200, 0, -10)]]
    chart = chart_of(charts.draw(rows, HOUR, NOW), "commands_per_second")
    assert chart.line.count("M") == 2
    assert chart.area.count("Z") == 2


def test_what_is_not_known_is_not_nought() -> None:
    made = charts.draw([sample(30, bytes_per_second=2048)], HOUR, NOW)
    assert chart_of(made, "lag_seconds").line == ""
    assert "not measured" in chart_of(made, "lag_seconds").summary
    assert numbers(chart_of(made, "bytes_per_second").line), "a single sample is drawn, too"
    assert made is not None
    assert made.rows[0].cells == ["—", "—", "2.0 KiB/s", "0", "0"]


def test_short_delays_do_not_vanish_in_a_day() -> None:
    rows = [sample(age, span=60, lag_seconds=0) for age in range(86000, 3600, -60)]
    rows.append(sample(1800, lag_seconds=42))
    made = charts.draw(rows, DAY, NOW)
    assert chart_of(made, "lag_seconds").marks[0] == "50 s"
    assert made is not None
    assert made.rows[0].cells[0] == "42 s"
    assert len(made.rows) <= charts.ROWS


def test_wider_rows_fill_what_they_stand_for() -> None:
    rows = [sample(age, span=600, commands_per_second=5) for age in range(3600, 0, -600)]
    assert chart_of(charts.draw(rows, HOUR, NOW), "commands_per_second").line.count("M") == 1


@pytest.mark.parametrize(
    ("value", "binary", "end"),
    [
        (0, False, 1),
        (0.3, False, 0.5),
        (7, False, 10),
        (130, False, 200),
        (1000, False, 1000),
        (0, True, 1),
        (700, True, 1024),
        (3000, True, 5 * 1024),
        (1 << 20, True, 1 << 20),
    ],
)
def test_ends_of_axes(value: float, binary: bool, end: float) -> None:
    assert charts.nice(value, binary=binary) == pytest.approx(end)


class TestSpeedInForce:
    def at(self, clock: str, *hours: dict[str, str], zone: str = "UTC") -> speed.InForce:
        task = MigrationTask(
            speed_class=SpeedClass.SMALL,
            speed_time_zone=zone,
            speed_hours=[{"class": SpeedClass.UNLIMITED} | one for one in hours],
        )
        return speed.in_force(task, datetime.fromisoformat(f"2026-05-04T{clock}:30+00:00"))

    def test_without_hours(self) -> None:
        assert self.at("12:00") == speed.InForce(SpeedClass.SMALL, None)

    def test_over_midnight(self) -> None:
        night = {"from": "22:00", "to": "06:00"}
        for clock, until in (("23:00", "2026-05-05T06:00"), ("05:59", "2026-05-04T06:00")):
            found = self.at(clock, night)
            assert found.speed == SpeedClass.UNLIMITED
            assert found.until == datetime.fromisoformat(f"{until}:00+00:00")
        found = self.at("06:00", night)
        assert found.speed == SpeedClass.SMALL
        assert found.until == datetime(2026, 5, 4, 22, tzinfo=UTC)

    def test_in_its_own_time_zone(self) -> None:
        found = self.at("21:00", {"from": "22:00", "to": "06:00"}, zone="Europe/Berlin")
        assert found.speed == SpeedClass.UNLIMITED, "it is 23:00 there"
        assert found.until == datetime(2026, 5, 5, 4, tzinfo=UTC)
