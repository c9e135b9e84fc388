"""Memory does not grow with the data set, a value or the lag: the peak of a process of its own, as the kernel counts it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from migrations_app.demo.clients import Pipe
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import EngineProcess

LIMIT_MB = 100
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def peak_mb(process: EngineProcess) -> float:
    """The largest resident size so far (VmHWM)."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", text)
    assert match, "the process has ended"
    return int(match[1]) / 1024


def peak_of_a_run(source: Server, target: Server, folder: Path, timeout: float = 100) -> float:
    with EngineProcess(folder, "run", source.url, target.url) as engine:
        engine.wait_for_words("link.caught_up", timeout)
        return peak_mb(engine)


@pytest.fixture
def fresh(redis_server: Callable[..., Server]) -> tuple[Server, Server]:
    source = redis_server("redis-7.0", config={"repl-diskless-sync-delay": 0, "rdbcompression": "no"})
    return source, redis_server("redis-7.0")


def test_a_string_of_256_megabytes(fresh: tuple[Server, Server], tmp_path: Path) -> None:
    """It goes through while it arrives."""
    source, target = fresh
    source.client().setrange("big", 256 * 2**20 - 3, "end")
    assert peak_of_a_run(source, target, tmp_path) < LIMIT_MB
    assert target.client().strlen("big") == 256 * 2**20
    assert target.client().getrange("big", -5, -1) == b"\0\0end"


def test_a_million_small_keys(fresh: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = fresh
    source.client().execute_command("DEBUG", "POPULATE", 1_000_000, "key", 20)
    assert peak_of_a_run(source, target, tmp_path) < LIMIT_MB
    own = len(target.client().keys("switchyard:*"))
    assert target.client().dbsize() == 1_000_000 + own


def test_a_large_collection(fresh: tuple[Server, Server], tmp_path: Path) -> None:
    """A hash of some 60 MB goes as commands while it is read."""
    source, target = fresh
    with Pipe(source.client()) as pipe:
        for start in range(0, 300_000, 500):
            pipe.add(
                "HSET",
                "hash",
                *(word for n in range(start, start + 500) for word in (f"field:{n}", f"{n:0180}")),
            )
    assert peak_of_a_run(source, target, tmp_path) < LIMIT_MB
    assert target.client().hlen("hash") == 300_000
    assert target.client().hget("hash", "field:299999") == source.client().hget("hash", "field:299999")


def test_large_writes_in_the_stream_and_a_target_that_does_not_keep_up(
    fresh: tuple[Server, Server], tmp_path: Path
) -> None:
    """A value of 64 MB and a lag of 100 MB while the target sleeps: the source is read no faster than the target takes it."""
    source, target = fresh
    source.client().config_set("client-output-buffer-limit", "replica 0 0 0")
    with EngineProcess(tmp_path, "run", source.url, target.url) as engine:
        engine.wait_for_words("link.caught_up")
        target.pause()
        with source.client() as client:
            client.set("big", b"x" * (64 << 20))
            for number in range(100):
                client.set(f"key:{number}", b"y" * (1 << 20))
        target.resume()
        wait_for(lambda: target.client().exists("key:99") or not engine.alive, 60, engine.said)
        assert peak_mb(engine) < LIMIT_MB
    assert target.client().strlen("big") == 64 << 20
