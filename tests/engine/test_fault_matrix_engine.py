"""The fault matrix, the engine's own part (see matrix.py): the engine is a process."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.wait import wait_for

from .conftest import Shared
from .links import EngineProcess, RunningLink, assert_audit, assert_equal, full_counts, offset_of
from .matrix import FULL, GOES_ON, NAME, Stage, cells, populate, stage, start

# Read at the start of every Python process that has its folder on the path: moves the wall clock once a file is there.
CLOCK = """
import os, time
def shifted(real, unit):
    def now():
        if not os.path.exists({flag!r}):
            return real()
        open({flag!r} + ".seen", "w").close()
        return real() + unit * {seconds}
    return now
time.time, time.time_ns = shifted(time.time, 1), shifted(time.time_ns, 10**9)
"""
DAY = 86_400
LARGE = 18  # keys of 1 MB: more than the buffers between engine and target take


def to_the_end(scene: Stage, folder: Path) -> dict[str, object]:
    """A new process from here on."""
    scene.slow.quick.set()
    scene.more()
    expected = scene.writer.stop()
    with start(folder, scene, "--stop-when-caught-up") as engine:
        assert engine.wait(60) == 0, engine.said()
        result = engine.result()
    assert_equal(scene.source, scene.target)
    assert_audit(scene.target, expected)
    return result


def kill(scene: Stage, folder: Path) -> None:
    scene.process.kill()
    result = to_the_end(scene, folder / "second")
    assert result["full_syncs"] == (1 if scene.phase == FULL else 0)


def two_owners(scene: Stage, folder: Path) -> None:
    """The old one is frozen in the middle, a new one takes over, the old one wakes up: it ends, and has written nothing more."""
    old = scene.process
    old.signal(signal.SIGSTOP)
    scene.slow.quick.set()
    with RunningLink(scene.source, scene.target, name=NAME) as new:
        new.wait_caught_up()
        old.signal(signal.SIGCONT)
        assert old.wait(30) == 1, old.said()
        assert old.result()["error"] == "link.fenced"
        scene.more()
        expected = scene.writer.stop()
        new.settle(scene.source, scene.target)
        assert new.progress.full_syncs == (1 if scene.phase == FULL else 0)
    assert_equal(scene.source, scene.target)
    assert_audit(scene.target, expected)


def catches_up_and_stops(scene: Stage, folder: Path) -> None:
    """The process comes to its end by itself; a second one goes on from there."""
    goal = offset_of(scene.source)
    wait_for(lambda: scene.stored() >= ("incremental", goal) or not scene.alive, 30, scene.told)
    scene.process.signal(signal.SIGTERM)
    assert scene.process.wait(20) == 0, scene.process.said()
    fulls = full_counts(scene.source)[0]
    to_the_end(scene, folder / "second")
    assert full_counts(scene.source)[0] == fulls


def fill_disk(scene: Stage, folder: Path) -> None:
    """The target stands still, and the spool may not grow beyond 1 MB: the source is held back until the target goes on."""
    resource.prlimit(scene.process.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    scene.behind.stall()
    scene.slow.quick.set()
    if scene.phase != FULL:
        populate(scene.source, LARGE)
    scene.process.wait_for_words("spool.full")
    scene.behind.resume()
    scene.more()
    catches_up_and_stops(scene, folder)


def move_clock(scene: Stage, folder: Path) -> None:
    """While it runs. The same process comes to its end; expiries too are those of the source."""
    (folder / "moved").touch()
    scene.slow.quick.set()
    scene.more()
    catches_up_and_stops(scene, folder)
    assert (folder / "moved.seen").exists()


FAULTS: dict[str, Callable[[Stage, Path], None]] = {
    "kill-9": kill,
    "two-owners": two_owners,
    "spool-disk-full": fill_disk,
    "clock-forward": move_clock,
    "clock-back": move_clock,
}


def set_clock(folder: Path, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every Python process from here on, once the file `moved` is there."""
    (folder / "sitecustomize.py").write_text(CLOCK.format(seconds=seconds, flag=str(folder / "moved")))
    monkeypatch.setenv("PYTHONPATH", str(folder))


@cells("engine")
def test_cell(
    shared: Shared, tmp_path: Path, fault: str, phase: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert expected == GOES_ON
    # Servers before 7.0 send expiries as they were given: so many seconds from now.
    source = shared("redis-6.0" if fault.startswith("clock") else "redis-7.0", "source")
    target = shared("redis-7.0", "target")
    if fault.startswith("clock"):
        set_clock(tmp_path, DAY if fault == "clock-forward" else -DAY, monkeypatch)
    spool = fault == "spool-disk-full"
    extra = ("--spool-dir", str(tmp_path)) if spool else ()
    with stage(
        phase, source, target, folder=tmp_path / "first", extra=extra, large=LARGE if spool else 0
    ) as scene:
        FAULTS[fault](scene, tmp_path)


@pytest.mark.parametrize("seconds", [DAY, -DAY], ids=["ahead", "behind"])
@pytest.mark.parametrize("version", ["redis-3.2", "redis-7.0"])
def test_a_wrong_clock_from_the_start(
    shared: Shared, tmp_path: Path, version: str, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a target that takes no absolute expiry gets the right one, in the snapshot and in the stream."""
    source, target = shared("redis-3.2", "source"), shared(version, "target")
    set_clock(tmp_path, seconds, monkeypatch)
    (tmp_path / "moved").touch()
    with source.client() as client:
        client.set("snapshot:string", "v", ex=3600)
        client.rpush("snapshot:list", "a", "b")
        client.expire("snapshot:list", 7200)
        client.set("snapshot:near", "v", ex=300)
        with EngineProcess(tmp_path, "run", source.url, target.url) as engine:
            engine.wait_for_words("link.caught_up")
            client.execute_command("SETEX", "stream:string", 1800, "v")
            client.hset("stream:hash", "f", "v")
            client.pexpire("stream:hash", 900_000)
            goal = offset_of(source)
            wait_for(
                lambda: (
                    int(target.client().hget("switchyard:checkpoint:default", "offset") or 0) >= goal
                    or not engine.alive
                ),
                30,
                engine.said,
            )
            engine.signal(signal.SIGTERM)
            assert engine.wait(20) == 0, engine.said()
    assert (tmp_path / "moved.seen").exists()
    assert_equal(source, target)
