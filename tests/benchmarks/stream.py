"""The stream: how fast a million writes drain, and how late a paced write arrives."""

from __future__ import annotations

import statistics
import threading
import time
from typing import Any

from tests.benchmarks.contenders import Contender
from tests.benchmarks.data import Piece, changes, pieces, send
from tests.benchmarks.full import server
from tests.support.servers import Server


def measure(version: str, who: list[Contender], rounds: int, scale: float) -> dict[str, dict[str, Any]]:
    """Who followed → `drain` (ratio of speeds, commands per second), `lag` and `latency` in milliseconds: medians of the rounds."""
    count = int(1_000_000 * scale)
    writes = list(pieces(changes(count)))  # made beforehand: to make them would take the CPU that is measured
    seconds: dict[str, list[float]] = {contender.name: [] for contender in who}
    lags: dict[str, list[float]] = {contender.name: [] for contender in who}
    late: dict[str, list[tuple[float, float, float]]] = {contender.name: [] for contender in who}
    for _ in range(rounds):
        for contender in who:
            with (
                server(version) as source,
                server(version) as target,
                contender.following(source, target),
            ):
                seconds[contender.name].append(_drain(source, target, writes))
                lags[contender.name].append(_lag(source, target, writes))
                late[contender.name].append(_latency(source, target, int(20_000 * scale)))
    result = {}
    for name in seconds:
        ratio = statistics.median(a / b for a, b in zip(seconds["native"], seconds[name], strict=True))
        p50, p99, most = (round(statistics.median(values), 2) for values in zip(*late[name], strict=True))
        result[name] = {
            "drain": {
                "native_ratio": round(ratio, 3),
                "commands_per_second": round(count / statistics.median(seconds[name])),
            },
            "lag": {"median_ms": round(statistics.median(lags[name]), 2)},
            "latency": {"p50_ms": p50, "p99_ms": p99, "max_ms": most},
        }
    return result


def _drain(source: Server, target: Server, writes: list[Piece]) -> float:
    """Seconds from the first of the pipelined writes until the last one is applied."""
    client = target.client()
    start = time.perf_counter()
    send(source.port, writes)
    source.client().set("bench:end", "reached")
    while client.get("bench:end") != b"reached":
        time.sleep(0.001)
    return time.perf_counter() - start


def _lag(source: Server, target: Server, writes: list[Piece]) -> float:
    """Milliseconds (median) until a write shows on the target while others are pipelined as fast as the source takes them."""
    writer = threading.Thread(target=lambda: send(source.port, writes))
    one, other = source.client(), target.client()
    seen: list[float] = []
    writer.start()
    while writer.is_alive():
        value = b"%d" % len(seen)
        one.set("bench:mark", value)
        start = time.perf_counter()
        while other.get("bench:mark") != value:
            time.sleep(0.0005)
        seen.append(1000 * (time.perf_counter() - start))
    writer.join()
    return statistics.median(seen)


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
