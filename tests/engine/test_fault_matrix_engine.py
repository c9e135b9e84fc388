"""The fault matrix, the engine's own part (see matrix.py): the engine is a process."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import RunningLink, assert_audit, assert_equal, full_counts, offset_of
from .matrix import FULL, NAME, Stage, cells, stage, start

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


def move_clock(scene: Stage, folder: Path) -> None:
    """While it runs. The same process comes to its end; expiries too are those of the source."""
    (folder / "moved").touch()
    scene.slow.quick.set()
    scene.more()
    goal = offset_of(scene.source)
    wait_for(lambda: scene.stored() >= ("incremental", goal) or not scene.alive, 30, scene.told)
    scene.process.signal(signal.SIGTERM)
    assert scene.process.wait(20) == 0, scene.process.said()
    fulls = full_counts(scene.source)[0]
    to_the_end(scene, folder / "second")
    assert full_counts(scene.source)[0] == fulls
    assert (folder / "moved.seen").exists()


FAULTS: dict[str, Callable[[Stage, Path], None]] = {
    "kill-9": kill,
    "two-owners": two_owners,
    "clock-forward": move_clock,
    "clock-back": move_clock,
}


@cells("engine")
def test_cell(
    pair: tuple[Server, Server],
    tmp_path: Path,
    fault: str,
    phase: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = pair
    variables = None
    if fault.startswith("clock"):
        seconds = DAY if fault == "clock-forward" else -DAY
        (tmp_path / "sitecustomize.py").write_text(
            CLOCK.format(seconds=seconds, flag=str(tmp_path / "moved"))
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # of the second process, too
    with stage(phase, source, target, folder=tmp_path / "first", variables=variables) as scene:
        FAULTS[fault](scene, tmp_path)
