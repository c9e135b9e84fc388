"""Full synchronization: seconds from the moment when the source takes the request until everything is applied."""

from __future__ import annotations

import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders import Contender
from tests.benchmarks.data import DataSet, pieces, send
from tests.support.servers import Server

_TICKS = os.sysconf("SC_CLK_TCK")
_CONFIG: dict[str, Any] = {
    "repl-diskless-sync": "yes",
    "repl-diskless-sync-delay": "0",
    "repl-diskless-load": "swapdb",
    "client-output-buffer-limit": "replica 0 0 0",
    "repl-backlog-size": "512mb",
    "enable-debug-command": "yes",
}


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds, CPU seconds of the one who copies, of the source (with its child) and of the target, and peak memory."""

    seconds: float
    cpu: float
    source_cpu: float
    target_cpu: float
    peak_mb: float


def server(version: str, *, compressed: bool = True) -> Server:
    config = _CONFIG | {"rdbcompression": "yes" if compressed else "no"}
    if version.startswith(("redis-5", "redis-6", "redis-3", "valkey")):
        config.pop("enable-debug-command")
    return Server(version, config=config)


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


class Peak:
    """The highest resident memory of a process, in MB, as long as it runs: looked up every 20 ms."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._end = threading.Event()
        self._mb = 0.0
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def end(self) -> float:
        self._end.set()
        self._thread.join()
        return self._mb

    def _look(self) -> None:
        while not self._end.wait(0.02):
            found = re.search(r"VmHWM:\s+(\d+) kB", self._status.read_text())
            self._mb = int(found[1]) / 1024 if found else self._mb


def measure(
    version: str, chosen: DataSet, who: list[Contender], rounds: int, scale: float, *, compressed: bool = True
) -> list[dict[str, Run]]:
    """One dictionary a round: who copied → what it took."""
    with server(version, compressed=compressed) as source:
        send(source.port, pieces(chosen.commands(scale)))
        return [
            {contender.name: _run(contender, source, version) for contender in who} for _ in range(rounds)
        ]


def _run(contender: Contender, source: Server, version: str) -> Run:
    """From the moment when the source has taken the request."""
    with server(version) as target:
        client = source.client()
        syncs = client.info("stats")["sync_full"]
        with contender.copying(source, target) as process:
            while client.info("stats")["sync_full"] == syncs and (process is None or process.poll() is None):
                time.sleep(0.002)
            start = time.perf_counter()
            pids = [source.pid, target.pid, *([process.pid] if process is not None else [])]
            before = [cpu_of(pid) for pid in pids]
            peak = Peak(process.pid) if process is not None else None
            try:
                contender.wait(process, source, target)
            finally:
                peak_mb = peak.end() if peak is not None else 0.0
            seconds = time.perf_counter() - start
            used = [cpu_of(pid) - earlier for pid, earlier in zip(pids, before, strict=True)]
            # What the source's child has used counts for the source once it has ended.
            while client.info("persistence")["rdb_bgsave_in_progress"]:
                time.sleep(0.01)
            used[0] = cpu_of(source.pid) - before[0]
        if target.client().dbsize() != client.dbsize():
            raise RuntimeError(f"{contender.name}: the target does not hold as many keys as the source")
        return Run(seconds, used[2] if process is not None else 0.0, used[0], used[1], peak_mb)
