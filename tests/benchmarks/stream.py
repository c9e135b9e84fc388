"""The stream: how fast a million writes drain, and how late a paced write arrives."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tests.benchmarks.data import changes, send
from tests.benchmarks.full import ROOT, kernel, server
from tests.support.servers import Server
from tests.support.wait import wait_for

Follow = Callable[[Server, Server], AbstractContextManager[None]]


@contextmanager
def native(source: Server, target: Server) -> Iterator[None]:
    """The target follows as a replica."""
    client = target.client()
    client.replicaof(source.host, source.port)
    wait_for(lambda: client.info("replication")["master_link_status"] == "up", 60, "the replica follows")
    yield
    client.replicaof("NO", "ONE")


@contextmanager
def engine(source: Server, target: Server) -> Iterator[None]:
    """The target is followed by a link."""
    command = [
        sys.executable,
        "-m",
        "migrations_app.engine",
        "run",
        source.url,
        target.url,
        "--link",
        "bench",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        client = target.client()
        wait_for(
            lambda: client.hget("switchyard:checkpoint:bench", "phase") == b"incremental",
            60,
            "the link follows",
        )
        yield
    finally:
        process.terminate()
        process.wait(30)


def measure(version: str, rounds: int, scale: float) -> dict[str, Any]:
    """`drain`: median ratio of speeds; `latency`: milliseconds, median of the rounds."""
    count = int(1_000_000 * scale)
    ways: dict[str, Follow] = {"native": native, "engine": engine}
    drained: dict[str, list[float]] = {name: [] for name in ways}
    late: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, follow in ways.items():
            with server(version) as source, server(version) as target, follow(source, target):
                drained[name].append(_drain(source, target, count))
                late[name].append(_latency(source, target, int(20_000 * scale)))
    ratio = statistics.median(a / b for a, b in zip(drained["native"], drained["engine"], strict=True))
    result: dict[str, Any] = {
        "drain": {
            "native_ratio": round(ratio, 3),
            "commands_per_second": round(count / statistics.median(drained["engine"])),
            "kernel": kernel(),
        }
    }
    for name in ways:
        p50, p99, most = (round(statistics.median(values), 2) for values in zip(*late[name], strict=True))
        result["latency" if name == "engine" else "latency_native"] = {
            "p50_ms": p50,
            "p99_ms": p99,
            "max_ms": most,
        }
    return result


def _drain(source: Server, target: Server, count: int) -> float:
    """Seconds from the first of `count` pipelined writes until the last one is applied."""
    client = target.client()
    start = time.perf_counter()
    send(source.port, changes(count))
    source.client().set("bench:end", count)
    while client.get("bench:end") != b"%d" % count:
        time.sleep(0.001)
    return time.perf_counter() - start


def _latency(source: Server, target: Server, count: int) -> tuple[float, float, float]:
    """Milliseconds (p50, p99, max) until a write shows on the target, at 10,000 writes/s in the background."""
    stop = threading.Event()

    def pace() -> None:
        client = source.client()
        due = time.perf_counter()
        while not stop.is_set():
            pipe = client.pipeline(transaction=False)
            for number in range(20):
                pipe.set(f"pace:{number}", "x" * 100)
            pipe.execute()
            due += 0.002
            if (left := due - time.perf_counter()) > 0:
                time.sleep(left)

    writer = threading.Thread(target=pace)
    writer.start()
    try:
        one, other = source.client(), target.client()
        seen = []
        for number in range(max(50, count // 40)):
            value = b"%d" % number
            start = time.perf_counter()
            one.set("bench:probe", value)
            while other.get("bench:probe") != value:
                pass
            seen.append(1000 * (time.perf_counter() - start))
            time.sleep(0.002)
    finally:
        stop.set()
        writer.join()
    seen.sort()
    return seen[len(seen) // 2], seen[int(len(seen) * 0.99)], seen[-1]
