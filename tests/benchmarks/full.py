"""Full synchronization: seconds from the moment when the source takes the request until everything is applied."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrations_app.engine import kernel as kernel_module
from tests.benchmarks.data import DataSet, send
from tests.support.servers import Server

ROOT = Path(__file__).resolve().parents[2]
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


def kernel() -> str:
    return "compiled" if kernel_module.__file__.endswith(".so") else "interpreted"


def server(version: str) -> Server:
    config = dict(_CONFIG)
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


def measure(version: str, chosen: DataSet, rounds: int, scale: float) -> list[dict[str, Run]]:
    """One dictionary a round: who copied → what it took."""
    with server(version) as source:
        send(source.port, chosen.commands(scale))
        return [
            {"native": _native(source, version), "engine": _engine(source, version)} for _ in range(rounds)
        ]


def _native(source: Server, version: str) -> Run:
    with server(version) as target:
        client = target.client()
        before = cpu_of(source.pid), cpu_of(target.pid)
        start = time.perf_counter()
        client.replicaof(source.host, source.port)
        while client.info("replication")["master_link_status"] != "up":
            time.sleep(0.002)
        seconds = time.perf_counter() - start
        client.replicaof("NO", "ONE")
        return Run(seconds, 0.0, cpu_of(source.pid) - before[0], cpu_of(target.pid) - before[1], 0.0)


def _engine(source: Server, version: str) -> Run:
    command = [sys.executable, "-m", "migrations_app.engine", "run", source.url]
    with server(version) as target:
        return _run([*command, target.url, "--phases", "full", "--json"], source, target)


def _run(command: list[str], source: Server, target: Server) -> Run:
    client = source.client()
    syncs = client.info("stats")["sync_full"]
    before = cpu_of(source.pid), cpu_of(target.pid)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while client.info("stats")["sync_full"] == syncs and process.poll() is None:
            time.sleep(0.002)
        start = time.perf_counter()
        assert process.stdout is not None
        peak = Peak(process.pid)
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
        peak_mb = peak.end()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    if process.returncode or json.loads(line)["outcome"] != "completed":
        raise RuntimeError(f"{command[0]} failed: {process.stderr.read() if process.stderr else ''}")
    if target.client().dbsize() != client.dbsize():
        raise RuntimeError("the target does not hold as many keys as the source")
    return Run(
        seconds,
        usage.ru_utime + usage.ru_stime,
        cpu_of(source.pid) - before[0],
        cpu_of(target.pid) - before[1],
        peak_mb,
    )
