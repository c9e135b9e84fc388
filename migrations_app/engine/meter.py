"""The counters of a link, its rates, and the way to the caller's ports."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from migrations_app.engine.ports import Level, Phase, Ports, Progress, Wanted
from migrations_app.engine.rate import Rate
from migrations_app.engine.target.cluster import ClusterMemory

_WINDOW = 3.0  # seconds over which rates are taken


class Meter:
    """Lives as long as the link, over all its attempts."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self.progress = Progress()
        self.followed = False  # the link has been in the incremental phase
        self.anew = False  # the next attempt has to begin with a full phase, whatever the checkpoint says
        self.may_finish: Callable[[], bool] = lambda: True  # of a link that ends when it has caught up
        self.opposite = False  # there is a link in the other direction, or was
        self.target_memory = ClusterMemory()
        self.heartbeat_told = self.heartbeat_refused = False  # once for the link, not for each attempt
        self.source_seen: tuple[float, int] | None = (
            None  # monotonic, and where the source's stream ended then
        )
        self._samples: list[tuple[float, int, int, int]] = []

    def wanted(self) -> Wanted:
        return self._ports.wanted()

    def rate(self) -> Rate:
        return self._ports.rate()

    def log(self, level: Level, event: str, message: str, **fields: Any) -> None:
        self._ports.log(level, event, message, **fields)

    def phase(self, phase: Phase) -> None:
        """Enter a phase and tell so."""
        if self.progress.phase is not phase:
            self.progress.phase = phase
            self.report()

    def report(self) -> None:
        """Hand out the counters, with the rates of the last seconds."""
        now, progress = time.monotonic(), self.progress
        self._samples.append((now, progress.keys_done, progress.commands, progress.bytes_in))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _WINDOW:
            self._samples.pop(0)
        then, keys, commands, received = self._samples[0]
        span = now - then
        if span > 0.2:
            # A repeated full phase counts its keys from nought again.
            progress.keys_per_second = max(0, progress.keys_done - keys) / span
            progress.commands_per_second = (progress.commands - commands) / span
            progress.bytes_per_second = (progress.bytes_in - received) / span
        self._ports.progress(progress)
