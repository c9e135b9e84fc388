"""The counters over time: what the keeper writes, and how it is thinned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from migrations_app import jobs
from migrations_app.choices import TaskStatus
from migrations_app.models import Link, Sample
from migrations_app.runner.sampling import Sampler
from migrations_app.services import samples

from .conftest import TaskMaker

NOW = datetime(2026, 5, 4, 12, 0, 7, tzinfo=UTC)


def counters(second: int, *, lag: int | None = 0) -> dict[str, Any]:
    lags = {"lag_bytes": lag, "lag_seconds": None if lag is None else lag / 100}
    return {"keys_done": 5 * second, "commands": 10 * second, "bytes_in": 100 * second} | lags


class TestSampler:
    def test_ten_seconds_make_a_sample(self) -> None:
        sampler = Sampler()
        made = [sampler.add(1000.5 + second, counters(second, lag=second)) for second in range(25)]
        first, second = (one for one in made if one is not None)
        assert first[0] == 1000
        # From 1000.5 to 1009.5, and what was behind then.
        assert first[1] == {
            "keys_per_second": 5,
            "commands_per_second": 10,
            "bytes_per_second": 100,
            "lag_bytes": 4,
            "lag_seconds": pytest.approx(0.045),
        }
        assert second[0] == 1010
        assert second[1]["bytes_per_second"] == 100, "counted from where the span before has ended"

    def test_nothing_is_made_up(self) -> None:
        sampler = Sampler()
        assert sampler.add(1000, counters(0)) is None
        assert sampler.add(1010, counters(10, lag=None)) is None, "one look alone has no rate"
        made = sampler.add(1020, counters(20, lag=None))
        assert made is not None
        assert (made[1]["lag_bytes"], made[1]["lag_seconds"]) == (None, None)

    def test_keys_that_are_counted_anew_are_no_negative_rate(self) -> None:
        sampler = Sampler()
        sampler.add(1000, counters(50))
        sampler.add(1005, counters(50) | {"keys_done": 3})
        made = sampler.add(1010, counters(60))
        assert made is not None and made[1]["keys_per_second"] == 0


@pytest.mark.django_db
class TestThinning:
    @pytest.fixture
    def link(self, make_task: TaskMaker) -> Link:
        return make_task(TaskStatus.INCREMENTAL).link

    def fill(self, link: Link, ages: range, span: int = 10, **values: Any) -> None:
        """Rows of these ages (seconds) on the grid."""
        base = int(NOW.timestamp()) // span * span
        Sample.objects.bulk_create(
            Sample(link=link, span=span, at=datetime.fromtimestamp(base - age, UTC), **values) for age in ages
        )

    def spans(self) -> dict[int, int]:
        return {span: Sample.objects.filter(span=span).count() for span in samples.SPANS}

    def test_one_insert(self, link: Link) -> None:
        with CaptureQueriesContext(connection) as queries:
            samples.record(link.pk, 1_700_000_000, {"lag_bytes": 5, "keys_per_second": 2.5})
        assert len([one for one in queries if "INSERT" in one["sql"]]) == 1
        samples.record(link.pk, 1_700_000_000, {"lag_bytes": 7})
        assert Sample.objects.get().lag_bytes == 5, "what another owner has written for the same span stays"

    def test_rows_become_means_with_age(self, link: Link) -> None:
        self.fill(link, range(3600 + 120, 3600 + 300, 10), lag_bytes=None, keys_per_second=4)
        Sample.objects.filter(pk=Sample.objects.earliest("at").pk).update(lag_bytes=9, keys_per_second=10)
        assert samples.thin(NOW) == 4
        assert self.spans() == {10: 0, 60: 4, 600: 0}
        first = Sample.objects.earliest("at")
        assert first.lag_bytes == 9, "the mean of what is known"
        assert first.keys_per_second > 4
        assert first.at.second == 0
        assert samples.thin(NOW) == 0, "nothing is left to do"

    def test_the_last_hour_stays_as_it_is(self, link: Link) -> None:
        self.fill(link, range(0, 3600, 10))
        samples.thin(NOW)
        assert self.spans()[10] == 360

    def test_a_day_and_a_month(self, link: Link) -> None:
        day = 24 * 3600
        self.fill(link, range(day + 1200, day + 2400, 60), span=60)
        self.fill(link, range(31 * day, 31 * day + 1800, 600), span=600)
        samples.thin(NOW)
        assert self.spans()[60] == 0
        assert 2 <= self.spans()[600] <= 3

    def test_links_do_not_mix(self, link: Link, make_task: TaskMaker) -> None:
        other = make_task(TaskStatus.FAILED).link
        self.fill(link, range(3600 + 120, 3600 + 180, 10), lag_bytes=1)
        self.fill(other, range(3600 + 120, 3600 + 180, 10), lag_bytes=3)
        samples.thin(NOW)
        assert set(Sample.objects.values_list("link_id", "lag_bytes")) == {(link.pk, 1), (other.pk, 3)}

    def test_a_call_is_bounded(self, link: Link) -> None:
        """After days without a cluster the work is done bit by bit, and the number of queries stays small."""
        self.fill(link, range(7200, 7200 + 600 * samples.BUCKETS, 10))
        with CaptureQueriesContext(connection) as queries:
            assert samples.thin(NOW) == samples.BUCKETS
        assert len(queries) < 8 * samples.BUCKETS

    def test_two_machines_at_once(self, link: Link) -> None:
        self.fill(link, range(3600 + 120, 3600 + 180, 10), lag_bytes=1)
        begun = samples._floor(Sample.objects.earliest("at").at, 60)
        Sample.objects.create(link=link, span=60, at=begun, lag_bytes=1)  # the other one was quicker
        samples.thin(NOW)
        assert self.spans()[10] == 0
        assert Sample.objects.filter(span=60, at=begun).count() == 1

    def test_the_tick_thins(self, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
        old = datetime.now(UTC) - timedelta(hours=2)
        Sample.objects.create(link=link, at=old)
        monkeypatch.setattr(jobs, "_thinned_at", float("-inf"))
        jobs.tick_default("here")
        assert Sample.objects.get().span == 60

    def test_they_go_with_their_task(self, link: Link) -> None:
        self.fill(link, range(0, 60, 10))
        link.task.delete()
        assert not Sample.objects.exists()
