"""Limits of speed: what they are called, how they are written, and that links keep them while they run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migrations_app.engine.errors import UsageError
from migrations_app.engine.rate import CLASSES, UNLIMITED, Rate, RateFile, Throttle, class_of, parse_rate
from migrations_app.engine.units import size_of
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import EngineProcess, RunningLink, assert_equal, full_counts

KB, MB = 1 << 10, 1 << 20


def test_the_classes() -> None:
    assert {name: rate.records_per_second for name, rate in CLASSES.items()} == {
        "small": 2000,
        "medium": 5000,
        "large": 6000,
        "xlarge": 7000,
        "2xlarge": 11000,
        "unlimited": None,
    }
    assert class_of("unlimited") == UNLIMITED
    with pytest.raises(UsageError, match="tiny"):
        class_of("tiny")


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_no_rate(value: float) -> None:
    for rate in ({"records_per_second": value}, {"bytes_per_second": value}):
        with pytest.raises(UsageError):
            Rate(**rate)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("", UNLIMITED),
        ("# nothing\n\n", UNLIMITED),
        ("records=100", Rate(100)),
        ("bytes = 10MB  # night\r\nrecords=5e3\n", Rate(5000, 10 * MB)),
        ("class=small", Rate(2000)),
        ("class=small\nbytes=64k", Rate(2000, 64 * KB)),
        ("records=1\nclass=2xlarge", Rate(1)),
    ],
)
def test_written(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["fast", "records", "records=", "records=0", "records=many", "bytes=-1", "bytes=0", "class=tiny", "=1",
             "records=1\nrecords=2", "records=nan", "bytes=10 apples", "record=5"],
)  # fmt: skip
def test_written_wrong(text: str) -> None:
    with pytest.raises(UsageError):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1000", 1000), ("4GB", 4 << 30), ("512kb", 512 << 10), ("1.5m", 3 << 19), ("2 TiB", 2 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "4 XB", "1e3", "0x10", "nan", "²"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError):
        size_of(text)


class Drawn:
    """What a throttle lets through in a time that is told, not waited for."""

    def __init__(self, throttle: Throttle, record: Callable[[int], int]) -> None:
        self.throttle = throttle
        self._record = record  # number → bytes of it
        self.now = 1000.0
        self.records = self.bytes = 0
        self._rest = 0

    def go(self, seconds: float) -> tuple[int, int, float]:
        """→ (records, bytes, the longest stretch that was due at once, in seconds at the rate)."""
        records, size, end, most = self.records, self.bytes, self.now + seconds, 0.0
        while self.now < end:
            if wait := self.throttle.wait(self.now):
                most = max(most, wait)
                self.now = min(end, self.now + wait)
                continue
            block = self.throttle.block(256 * KB)
            self._rest += block
            count = 0
            while self._rest >= self._record(self.records + count):
                self._rest -= self._record(self.records + count)
                count += 1
            self.throttle.took(count, block, self.now)
            self.records, self.bytes = self.records + count, self.bytes + block
        return self.records - records, self.bytes - size, most


@pytest.mark.parametrize("size", [10, 100, 3000, 30_000])
@pytest.mark.parametrize("rate", [100, 2000, 11000])
def test_records_are_paced(size: int, rate: float) -> None:
    throttle = Throttle()
    drawn = Drawn(throttle, lambda _: size)
    throttle.set(Rate(rate), drawn.now)
    drawn.go(2)
    records, _, most = drawn.go(5)
    assert records == pytest.approx(5 * rate, rel=0.05)
    assert most < max(0.1, 3 / rate)


@pytest.mark.parametrize("size", [10, 3000, 100_000])
def test_bytes_are_paced(size: int) -> None:
    throttle = Throttle()
    drawn = Drawn(throttle, lambda _: size)
    throttle.set(Rate(None, 3 * MB), drawn.now)
    _, taken, most = drawn.go(5)
    assert taken == pytest.approx(5 * 3 * MB, rel=0.05)
    assert most < 0.1


def test_both_limits_hold_at_once() -> None:
    """Large records first, where the bytes are the limit, then small ones, where the records are."""
    throttle = Throttle()
    drawn = Drawn(throttle, lambda number: 10_000 if number < 500 else 50)
    throttle.set(Rate(1000, MB), drawn.now)
    records, taken, _ = drawn.go(4)
    assert taken == pytest.approx(4 * MB, rel=0.06)
    drawn.go(2)
    assert drawn.records > 500
    records, taken, _ = drawn.go(5)
    assert records == pytest.approx(5000, rel=0.05)


def test_a_change_counts_at_once() -> None:
    throttle = Throttle()
    throttle.set(Rate(1), 0.0)
    throttle.took(100, 10_000, 0.0)
    assert throttle.wait(0.0) > 90
    throttle.set(Rate(1000), 0.0)
    assert throttle.wait(0.0) < 0.2
    throttle.set(UNLIMITED, 0.0)
    assert throttle.wait(0.0) == 0
    assert throttle.block(MB) == MB


def test_a_file_that_changes(tmp_path: Path) -> None:
    path = tmp_path / "rate"
    with pytest.raises(UsageError, match="rate"):
        RateFile(str(path))
    path.write_text("records=5")
    file = RateFile(str(path))
    assert file.rate == Rate(5)
    assert not file.changed()
    path.write_text("records=50")
    assert file.changed()
    assert file.rate == Rate(50)
    for break_it in (
        lambda: path.write_text("records=fast"),
        lambda: path.write_bytes(b"\xff\xfe\xfd!"),
        path.unlink,
    ):
        break_it()
        with pytest.raises(UsageError, match="rate"):
            file.changed()
        assert not file.changed(), "it is told once"
        assert file.rate == Rate(50)
    path.write_text("bytes=1MB")
    assert file.changed()
    assert file.rate == Rate(None, MB)


# --- links ------------------------------------------------------------------------------------------------------------


def pace(
    server: Server,
    seconds: float,
    *question: str,
    count: Callable[[Any], int] = lambda reply: int(reply or 0),
) -> float:
    """By how much the answer of a server grows per second, over that time by its clock.

    Both are asked in one step: what this process does not get to in between is not in it.
    """
    with server.client() as client:

        def look() -> tuple[float, int]:
            with client.pipeline(transaction=True) as pipe:
                pipe.execute_command("TIME").execute_command(*question)
                (whole, micros), reply = pipe.execute()
            return float(whole) + float(micros) / 1e6, count(reply)

        looks = [look()]

        def over() -> bool:
            looks.append(look())
            return looks[-1][0] >= looks[0][0] + seconds

        wait_for(over, seconds + 10, interval=0.1)
    (begin, before), (now, after) = looks[0], looks[-1]
    return (after - before) / (now - begin)


def test_a_full_phase_keeps_its_rate_and_changes_it(redis_server: Callable[..., Server]) -> None:
    source = redis_server("redis-7.0", config={"repl-diskless-sync-delay": 0})
    target = redis_server("redis-7.0")
    source.client().execute_command("DEBUG", "POPULATE", 60_000, "key", 100)
    with RunningLink(source, target, limit=Rate(2000)) as link, target.client() as client:
        wait_for(lambda: client.dbsize() > 500, 20, link.told)
        assert pace(target, 5, "DBSIZE") == pytest.approx(2000, rel=0.05)
        link.ports.limit = Rate(6000)
        assert pace(target, 3, "DBSIZE") == pytest.approx(6000, rel=0.12)
        link.ports.limit = UNLIMITED
        link.settle(source, target)
        assert link.progress.full_syncs == 1
    assert_equal(source, target)


def test_a_stream_keeps_its_rate_and_stops_at_once(pair: tuple[Server, Server]) -> None:
    source, target = pair
    with RunningLink(source, target, limit=Rate(1000)) as link, source.client() as client:
        link.wait_caught_up()
        pipe = client.pipeline(transaction=False)
        for _ in range(30_000):
            pipe.incr("counter")
        pipe.execute()
        target_client = target.client()

        def counted() -> int:
            return int(target_client.get("counter") or 0)

        wait_for(lambda: counted() > 200, 20, link.told)
        assert pace(target, 5, "GET", "counter") == pytest.approx(1000, rel=0.05)
        assert link.stop(5).progress.reconnects == 0
    with RunningLink(source, target) as link:
        link.settle(source, target)
    assert counted() == 30_000
    assert full_counts(source)[0] == 1


def test_a_source_with_little_patience_is_not_held_back_by_a_limit(
    redis_server: Callable[..., Server], tmp_path: Path
) -> None:
    """64 KB/s for 24 MB that the source wants to be rid of at once: the spool takes it."""
    source = redis_server(
        "redis-7.0",
        config={
            "repl-diskless-sync-delay": 0,
            "rdbcompression": "no",
            "repl-backlog-size": "1mb",
            "client-output-buffer-limit": ("replica", "6mb", "6mb", 60),
        },
    )
    target = redis_server("redis-7.0")
    with source.client() as client:
        for number in range(16 * 1024):
            client.set(f"key:{number}", os.urandom(KB))
        with RunningLink(source, target, limit=Rate(None, 64 * KB), spool_folder=str(tmp_path)) as link:
            wait_for(lambda: link.progress.spool_bytes > 12 * MB, 20, link.told)
            for number in range(8):
                client.set(f"more:{number}", os.urandom(MB))
            wait_for(lambda: link.progress.bytes_in > 24 * MB, 20, link.told)
            received = pace(
                target, 3, "INFO", "stats", count=lambda stats: int(stats["total_net_input_bytes"])
            )
            assert received == pytest.approx(64 * KB, rel=0.1)
            link.ports.limit = UNLIMITED
            link.settle(source, target)
            assert link.progress.reconnects == 0
    assert_equal(source, target)


def test_from_the_command_line(redis_server: Callable[..., Server], tmp_path: Path) -> None:
    """A file that changes while it runs; what it cannot read it says, and goes on as before."""
    source = redis_server("redis-7.0", config={"repl-diskless-sync-delay": 0})
    target = redis_server("redis-7.0")
    source.client().execute_command("DEBUG", "POPULATE", 50_000, "key", 100)
    path = tmp_path / "rate"
    path.write_text("records=1000\n")
    with EngineProcess(
        tmp_path, "run", source.url, target.url, "--rate-file", path, "--stop-when-caught-up"
    ) as engine:
        engine.wait_for_words("full.started")
        path.write_text("faster!\n")
        engine.wait_for_words("[rate.unreadable]")
        assert "the rate stays 1000 records/s" in engine.said()
        assert 0 < target.client().dbsize() < 40_000
        path.write_text("class=unlimited\n")
        engine.wait_for_words("[rate.changed]")
        assert engine.wait(60) == 0
    assert_equal(source, target)


@pytest.mark.parametrize(
    "options",
    [
        ["--class", "tiny"], ["--rate-records", "0"], ["--rate-records", "x"], ["--rate-bytes", "10 apples"], ["--rate-bytes", "0"],
        ["--rate-file", "/nowhere"], ["--spool-limit", "1"], ["--spool-limit", "big"], ["--spool-dir", "/nowhere"],
    ],
)  # fmt: skip
def test_bad_usage(options: list[str], tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "run", "redis://127.0.0.1:1", "redis://127.0.0.1:2", *options) as engine:
        assert engine.wait(30) == 2, engine.said()
        assert "nothing was changed" in engine.said()
