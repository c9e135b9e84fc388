"""kill -9, SIGTERM and SIGSTOP: an engine that ends in whatever way is followed by one that goes on at exactly the next write."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from migrations_app.demo.dataset import fill
from migrations_app.demo.writer import Writer
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import EngineProcess, RunningLink, assert_audit, assert_equal, full_counts

KILLS = int(os.environ.get("SWITCHYARD_TEST_KILLS") or 20)


def start(folder: Path, source: Server, target: Server, *extra: str) -> EngineProcess:
    return EngineProcess(folder, "run", source.url, target.url, "--link", "kills", "--json", *extra)


def finish(folder: Path, source: Server, target: Server) -> dict[str, object]:
    """Run once more until the target has caught up."""
    with start(folder, source, target, "--stop-when-caught-up") as engine:
        assert engine.wait(90) == 0, engine.said()
        return engine.result()


def done_by(server: Server) -> int:
    """Commands that a server has processed."""
    return int(server.info("stats")["total_commands_processed"])


def wait_for_more(count: Callable[[], int], more: int, engine: EngineProcess) -> None:
    """Until the count has grown by so much."""
    before = count()
    wait_for(lambda: count() >= before + more or not engine.alive, 30, engine.said, interval=0.001)


@pytest.mark.timeout(60 + 12 * KILLS)
def test_killed_at_random_moments_nothing_is_lost_or_applied_twice(
    pair: tuple[Server, Server], tmp_path: Path
) -> None:
    """A quarter of the kills falls into the full phase, the others into the stream. Every kill is at a random place: a random
    number of keys or writes after the start, not a time, so that slow machines see the same."""
    source, target = pair
    choose = random.Random(int(os.environ.get("SWITCHYARD_TEST_SEEDS") or 0))
    fill(source.url, keys=15_000, big_value_bytes=2 << 20, large_elements=1000)
    target_client, source_client = target.client(), source.client()
    killed = {"full": 0, "incremental": 0}
    with Writer(source.url, seed=3, rate=4000) as writer:
        for number in range(KILLS):
            in_full = number < KILLS // 4
            with start(tmp_path, source, target) as engine:
                if in_full:
                    source_client.config_set("rdbcompression", "yes" if number % 2 else "no")
                    wait_for_more(lambda: done_by(target), choose.randrange(1, 5000), engine)
                else:
                    engine.wait_for_words("incremental")
                    wait_for_more(lambda: writer.commands, choose.randrange(1500), engine)
                assert engine.alive, engine.said()
                phase = target_client.hget("switchyard:checkpoint:kills", "phase") or b""
                engine.kill()
                killed[phase.decode() or "full"] += 1
        expected = writer.stop()
    result = finish(tmp_path, source, target)
    assert killed["incremental"] >= KILLS // 2
    assert killed["full"] + killed["incremental"] == KILLS
    assert result["full_syncs"] == 0, "the last run went on by partial synchronization"
    assert_equal(source, target)
    assert_audit(target, expected)
    assert writer.messages == {}


def test_sigterm_stops_cleanly_and_a_new_run_goes_on(pair: tuple[Server, Server], tmp_path: Path) -> None:
    """Exit code 0, the position stored to the last byte, one full synchronization in all."""
    source, target = pair
    fill(source.url, keys=0, big_value_bytes=0, large_elements=0)
    with Writer(source.url, seed=4, rate=3000) as writer:
        for _ in range(3):
            with start(tmp_path, source, target) as engine:
                engine.wait_for_words("incremental")
                written = writer.commands
                wait_for(lambda: writer.commands > written + 300, 30)  # noqa: B023
                engine.signal(signal.SIGTERM)
                assert engine.wait(10) == 0, engine.said()
                result = engine.result()
                assert result["outcome"] == "stopped"
                stored = target.client().hget("switchyard:checkpoint:kills", "offset")
                assert int(stored or 0) == result["applied_offset"]
                engine.stderr.unlink()
        expected = writer.stop()
    finish(tmp_path, source, target)
    assert full_counts(source)[0] == 1
    assert full_counts(source)[1] == 3
    assert_equal(source, target)
    assert_audit(target, expected)


def test_sigterm_in_the_full_phase_stops_cleanly_too(pair: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = pair
    fill(source.url, keys=15_000, big_value_bytes=2 << 20, large_elements=0)
    target.pause()
    with start(tmp_path, source, target) as engine:
        target.resume()
        engine.wait_for_words("full.started")
        engine.signal(signal.SIGTERM)
        assert engine.wait(10) == 0, engine.said()
        assert engine.result()["outcome"] == "stopped"
    finish(tmp_path, source, target)
    assert_equal(source, target)


def test_a_second_signal_ends_the_process_at_once(pair: tuple[Server, Server], tmp_path: Path) -> None:
    """As somebody does who presses Ctrl-C twice while the target hangs."""
    source, target = pair
    with start(tmp_path, source, target) as engine:
        engine.wait_for_words("incremental")
        target.pause()
        source.client().incr("counter")
        engine.signal(signal.SIGINT)
        engine.wait_for_words("stopping")
        engine.signal(signal.SIGINT)
        assert engine.wait(3) in (-signal.SIGINT, 0)
        target.resume()
        assert "Traceback" not in engine.said()


def test_an_owner_that_was_stopped_writes_nothing_after_a_new_one_has_taken_over(
    pair: tuple[Server, Server], tmp_path: Path
) -> None:
    """The old owner sleeps (SIGSTOP) with writes under way, a new one takes over, the old one wakes up: the audit stays exact, and the
    old one ends because it is fenced."""
    source, target = pair
    with Writer(source.url, seed=5, rate=4000) as writer, start(tmp_path / "old", source, target) as old:
        old.wait_for_words("incremental")
        for _ in range(3):
            written = writer.commands
            wait_for(lambda: writer.commands > written + 200, 30)  # noqa: B023
        old.signal(signal.SIGSTOP)
        with RunningLink(source, target, name="kills") as new:
            new.wait_caught_up()
            old.signal(signal.SIGCONT)
            assert old.wait(30) == 1, old.said()
            assert old.result()["error"] == "link.fenced"
            assert "Traceback" not in old.said()
            expected = writer.stop()
            new.settle(source, target)
            assert new.progress.full_syncs == 0
    assert_equal(source, target)
    assert_audit(target, expected)


def test_without_fencing_the_old_owner_would_write_twice(pair: tuple[Server, Server], tmp_path: Path) -> None:
    """The race itself, by hand: what an old owner had sent before it lost its connection is applied before the new one reads the
    checkpoint, so the new owner begins behind it."""
    source, target = pair
    with RunningLink(source, target) as first:
        first.wait_caught_up()
        target.pause()
        with source.client() as client:
            for _ in range(500):
                client.incr("counter")
        wait_for(lambda: (first.progress.received_offset or 0) > (first.progress.applied_offset or 0), 10)
        second = RunningLink(source, target)
        target.resume()
        with second:
            second.wait_caught_up()
            second.settle(source, target)
            assert first.failure().id == "link.fenced"
    assert target.client().get("counter") == b"500"
