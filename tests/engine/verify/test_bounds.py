"""The memory that a comparison takes grows neither with the data set nor with a value."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from migrations_app.engine.verify import Kind
from tests.engine.verify.steps import apply, compare
from tests.support.servers import Server

ROOT = Path(__file__).resolve().parents[3]
# The peak of a process of its own (VmHWM, in kB), above what it takes before it has compared anything.
MEASURE = """
import sys
from pathlib import Path
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.verify import verify

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

source, target = (Endpoint.parse(url) for url in sys.argv[1:])
verify(source, target, databases=frozenset())
before = peak()
report = verify(source, target)
print(report.keys, report.differences, peak() - before)
"""
BOUND = 16_000_000
ELEMENTS = 50_000  # of some 600 bytes: 30 MB
FILL = "for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do local v = string.rep(i, 120) {} end"
HUGE = {
    "string": "redis.call('SETRANGE', 'k', i * 600, v)",
    "list": "redis.call('RPUSH', 'k', v)",
    "hash": "redis.call('HSET', 'k', i, v)",
    "set": "redis.call('SADD', 'k', v)",
    "zset": "redis.call('ZADD', 'k', i, v)",
    "stream": "redis.call('XADD', 'k', i .. '-1', 'f', v)",
}
CHANGE: dict[str, tuple[str | int, ...]] = {
    "string": ("SETRANGE", "k", (ELEMENTS + 1) * 600 - 601, "x"),
    "list": ("LSET", "k", -1, "x"),
    "hash": ("HSET", "k", ELEMENTS, "x"),
    "set": ("SADD", "k", "x"),
    "zset": ("ZADD", "k", 1, "x"),
    "stream": ("XDEL", "k", f"{ELEMENTS}-1"),
}


def measure(source: Server, target: Server) -> tuple[int, int, int]:
    """Keys, differences, and the bytes that the comparison took."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, source.url, target.url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    keys, differences, peak = map(int, done.stdout.split())
    return keys, differences, peak


@pytest.mark.parametrize("kind", HUGE)
def test_a_huge_value(pair: tuple[Server, Server], kind: str) -> None:
    """It is compared within the bound, and a difference at its end is found."""
    for server in pair:
        with server.client() as client:
            for start in range(1, ELEMENTS, 5000):
                client.eval(FILL.format(HUGE[kind]), 0, start, start + 4999)
    keys, differences, peak = measure(*pair)
    assert (keys, differences) == (1, 0)
    assert peak < BOUND
    apply(pair[1], [CHANGE[kind]])
    assert compare(*pair).by_kind == {Kind.VALUE: 1}


def test_many_keys(pair: tuple[Server, Server]) -> None:
    for server in pair:
        apply(server, [("DEBUG", "POPULATE", 200_000, "key", 100)])
    keys, differences, peak = measure(*pair)
    assert (keys, differences) == (200_000, 0)
    assert peak < BOUND


def test_many_differences(pair: tuple[Server, Server]) -> None:
    for server in pair:
        apply(server, [("DEBUG", "POPULATE", 100_000, f"of {server.port}", 100)])
    keys, differences, peak = measure(*pair)
    assert (keys, differences) == (200_000, 200_000)
    assert peak < 3 * BOUND  # the names of differing keys are remembered, up to a number
