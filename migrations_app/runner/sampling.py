"""What becomes a sample: the counters of a running link, put together over ten seconds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any, Final

from migrations_app.services.samples import SPANS

SECONDS: Final = SPANS[0]

_RATES: Final = {
    "keys_per_second": "keys_done",
    "commands_per_second": "commands",
    "bytes_per_second": "bytes_in",
}


class Sampler:
    """Takes the columns of LinkProgress about once a second. Times are seconds since 1970, so that spans of one link lie on a grid."""

    def __init__(self) -> None:
        self._span = 0
        self._first: tuple[float, Mapping[str, Any]] | None = None  # where the rates are counted from
        self._last: tuple[float, Mapping[str, Any]] | None = None
        self._lags: list[tuple[int | None, float | None]] = []

    def add(self, now: float, values: Mapping[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Note the counters. When they are the first of a new span, the span before: (its beginning, columns of Sample)."""
        done = self._close(now)
        if self._first is None:
            self._first = (now, values)
        self._last = (now, values)
        self._lags.append((values.get("lag_bytes"), values.get("lag_seconds")))
        return done

    def _close(self, now: float) -> tuple[int, dict[str, Any]] | None:
        span = int(now // SECONDS * SECONDS)
        if span == self._span:
            return None
        begun, self._span = self._span, span
        first, last, lags = self._first, self._last, self._lags
        self._first, self._lags = last, []
        if first is None or last is None or last[0] <= first[0] or not lags:
            return None
        seconds = last[0] - first[0]
        columns: dict[str, Any] = {
            # A repeated full phase counts its keys from nought again.
            rate: max(0, last[1].get(counter, 0) - first[1].get(counter, 0)) / seconds
            for rate, counter in _RATES.items()
        }
        sizes = [size for size, _ in lags if size is not None]
        times = [time for _, time in lags if time is not None]
        columns["lag_bytes"] = round(fmean(sizes)) if sizes else None
        columns["lag_seconds"] = fmean(times) if times else None
        return begun, columns
