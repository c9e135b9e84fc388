"""The fault matrix: every fault of the table in every phase of a link, under the demo's mixed writer.

A cell brings a link into its phase (`stage`), lets the fault strike, and ends in one of two ways: the link goes on by itself and both
sides are equal by value, with an exact audit; or it stops with the error that the table names, what is on the target is the beginning
of what the source was told, and a new start (with consent, where a full synchronization is needed) makes both sides equal.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from migrations_app.demo.audit import Auditor
from migrations_app.demo.clients import Capabilities, Pipe
from migrations_app.demo.dataset import fill
from migrations_app.demo.writer import Writer, check_audit, check_invariant
from tests.support.proxy import FaultProxy, Way
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import EngineProcess, RunningLink, assert_audit, assert_equal, full_counts, offset_of

FULL, INCREMENTAL, CATCHING_UP = "full", "incremental", "catching-up"
PHASES = (FULL, INCREMENTAL, CATCHING_UP)
GOES_ON = "goes on"
DATABASES = (0, 3)
NAME = "matrix"

NEEDS_CONSENT = {
    FULL: GOES_ON,
    INCREMENTAL: "source.full_resync_needed",
    CATCHING_UP: "source.full_resync_needed",
}
ALWAYS = dict.fromkeys(PHASES, GOES_ON)

# Group of cells (one test file each) → fault → phase → how the link takes it: GOES_ON, or the error that stops it.
MATRIX: dict[str, dict[str, dict[str, str]]] = {
    "network": {
        "drop-connection": ALWAYS,
        "stall": ALWAYS,
        "half-open": ALWAYS,
        "reset-in-a-reply-of-the-target": ALWAYS,
        "reset-in-the-data-of-the-source": ALWAYS,
        # Of a snapshot every byte is under a checksum, or refused before; the stream has its framing only.
        "bytes-altered": {FULL: "snapshot.* or refused", INCREMENTAL: "protocol.error", CATCHING_UP: "protocol.error"},
        "bytes-inserted": {FULL: "snapshot.* or refused", INCREMENTAL: "protocol.error", CATCHING_UP: "protocol.error"},
    },
    "source": {
        # A new history: it has no changes since the position of the link. In the full phase there is no position yet.
        "source-restart-with-persistence": NEEDS_CONSENT,
        "source-restart-without-persistence": NEEDS_CONSENT,
        "source-failover": ALWAYS,
    },
    "target": {
        "target-restart-with-persistence": ALWAYS,
        "target-restart-without-persistence": NEEDS_CONSENT,
        "target-full": dict.fromkeys(PHASES, "target.out_of_memory"),
        "target-turned-replica": dict.fromkeys(PHASES, "target.read_only"),
    },
    "engine": {
        "kill-9": ALWAYS,
        "two-owners": ALWAYS,
        "spool-disk-full": ALWAYS,
        "clock-forward": ALWAYS,
        "clock-back": ALWAYS,
    },
}  # fmt: skip
# Cells that make no sense, with the reason; none is left out without one.
SENSELESS: dict[tuple[str, str], str] = {}


def cells(group: str) -> Any:
    """The decorator for the test of a group: one test for each cell, `fault-phase` by name."""
    return pytest.mark.parametrize(
        ("fault", "phase", "expected"),
        [
            pytest.param(fault, phase, expected, id=f"{fault}-{phase}")
            for fault, phases in MATRIX[group].items()
            for phase, expected in phases.items()
        ],
    )


class Slow:
    """A hook of a proxy that lets `rate` bytes per second through until it is `quick`; `damage` may alter a piece."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.quick = threading.Event()
        self.damage: Any = None

    def __call__(self, way: Way, data: bytes) -> bytes:
        if way is Way.DOWN:
            self.quick.wait(len(data) / self._rate)
            if self.damage is not None:
                return bytes(self.damage(data))
        return data


class Stage:
    """A link in one of its phases, between two proxies, while the writer works on the source."""

    def __init__(
        self, phase: str, source: Server, target: Server, writer: Writer, writers: FaultProxy
    ) -> None:
        self.phase = phase
        self.source, self.target, self.writer = source, target, writer
        self.writers = writers  # the way of the writer to the source
        self.before, self.behind = (
            FaultProxy(source.address),
            FaultProxy(target.address),
        )  # as seen from the link
        self.slow = Slow(600_000 if phase == FULL else 300_000)
        self.link: RunningLink = None  # type: ignore[assignment]  # set by `stage`, one of both
        self.process: EngineProcess = None  # type: ignore[assignment]

    @property
    def proxies(self) -> tuple[FaultProxy, FaultProxy]:
        return self.before, self.behind

    def told(self) -> str:
        return self.link.told() if self.link is not None else self.process.said()

    @property
    def alive(self) -> bool:
        return self.link.running if self.link is not None else self.process.alive

    def more(self, count: int = 150) -> None:
        """Until the writer has written so much more."""
        written = self.writer.commands
        wait_for(lambda: self.writer.commands > written + count or not self.writer.running, 20)

    def stored(self) -> tuple[str, int]:
        """Phase and offset of the checkpoint."""
        with self.target.client() as client:
            phase, offset = client.hmget(f"switchyard:checkpoint:{NAME}", "phase", "offset")
        return (phase or b"").decode(), int(offset or -1)

    def keys(self) -> int:
        with self.target.client() as client:
            return sum(int(fields["keys"]) for fields in client.info("keyspace").values())

    def wait_in_phase(self) -> None:
        """Until the link is in the middle of its phase, by what is on the target."""
        start = self.stored()[1] if self.phase == CATCHING_UP else 0

        def there() -> bool:
            assert self.alive, self.told()
            phase, offset = self.stored()
            if self.phase == FULL:
                return phase == "full" and self.keys() > 200
            if self.phase == CATCHING_UP:
                return phase == "incremental" and offset > start
            return phase == "incremental" and offset >= self._goal

        self._goal = 1 << 62
        if self.phase == INCREMENTAL:
            wait_for(lambda: self.stored()[0] == "incremental" or not self.alive, 30, self.told)
            self._goal = offset_of(self.source)
        wait_for(there, 30, self.told, interval=0.005)
        if self.phase == CATCHING_UP:
            behind = offset_of(self.source) - self.stored()[1]
            assert behind > 20_000, f"it is only {behind} bytes behind"
        elif self.phase == FULL:
            assert self.stored()[0] == "full", "the full phase was over before the fault"

    def finish(self, *, audit: bool = True) -> None:
        """The link goes on: without the brake it comes to its end by itself, and all is there exactly once.

        Without `audit` where the source has lost what the writer counts.
        """
        self.slow.quick.set()
        self.more()
        expected = self.writer.stop()
        self.link.settle(self.source, self.target)
        self.link.stop()
        assert_equal(self.source, self.target)
        if audit:
            assert_audit(self.target, expected)

    def stops(self, expected: str) -> None:
        """The link stops with this error, and nothing wrong is applied."""
        self.slow.quick.set()
        error = self.link.failure(30)
        if expected.endswith("or refused"):
            assert error.id in {"snapshot.checksum", "snapshot.invalid", "data.unsupported", "protocol.error", "target.refused"}, self.told()  # fmt: skip
        else:
            assert error.id == expected, self.told()
        assert error.advice

    def again(self, *, consent: bool = False, audit: bool = True) -> None:
        """A new start from here makes both sides equal; without consent it goes on where the link stood."""
        expected = self.writer.stop()
        fulls = full_counts(self.source)[0]
        with RunningLink(self.source, self.target, name=NAME, timeout=5.0, allow_full_resync=consent) as link:
            link.settle(self.source, self.target)
            link.stop()
        if self.phase != FULL and not consent:
            assert full_counts(self.source)[0] == fulls, "it went on where the link stood"
        assert_equal(self.source, self.target)
        if audit:
            assert_audit(self.target, expected)


def assert_beginning(target: Server, *, whole_transactions: bool) -> None:
    """What the target holds of the audit is a beginning of it: no step is missing in the middle, doubled or out of order."""
    for database in DATABASES:
        with target.client(db=database) as client:
            auditor = Auditor(Capabilities.of(client), Random(0))
            auditor.read_back(Pipe(client))
        assert check_audit(target.url, {database: auditor.counts}) == []
    if whole_transactions:
        assert check_invariant(target.url, databases=DATABASES) == []


@contextmanager
def stage(
    phase: str,
    source: Server,
    target: Server,
    *,
    folder: Path | None = None,
    extra: Sequence[str] = (),
    large: int = 0,
) -> Iterator[Stage]:
    """A link in the middle of a phase. With `folder` it is a process of its own (with `extra` arguments), else a thread.

    In the full phase the snapshot has so many `large` keys behind the others.
    """
    with ExitStack() as stack:
        if phase == FULL and large:
            populate(source, large)
        if phase == FULL:
            fill(source.url, keys=2500, big_value_bytes=1 << 20, large_elements=200, databases=DATABASES)
        writers = stack.enter_context(FaultProxy(source.address))
        writer = stack.enter_context(
            Writer(source.url_to(*writers.address), seed=6, rate=2500, databases=DATABASES)
        )
        scene = Stage(phase, source, target, writer, writers)
        for proxy in scene.proxies:
            stack.enter_context(proxy)
        stack.callback(scene.slow.quick.set)
        if phase == CATCHING_UP:
            with RunningLink(source, target, name=NAME) as first:
                first.wait_caught_up()
            scene.more(2500)
        if phase != INCREMENTAL:
            scene.before.hook = scene.slow
        if folder is None:
            scene.link = stack.enter_context(RunningLink(scene.before, scene.behind, name=NAME, timeout=3.0))
        else:
            scene.process = stack.enter_context(start(folder, scene, *extra))
        scene.wait_in_phase()
        yield scene


def populate(source: Server, count: int) -> None:
    """So many keys of 1 MB each that do not compress, in a database of their own, the last that a snapshot comes to."""
    choose = Random(1)
    with source.client(db=5) as client:
        for number in range(count):
            client.set(f"large:{number}", choose.randbytes(1 << 20))


def start(folder: Path, scene: Stage, *extra: str) -> EngineProcess:
    """The engine as a process, through the proxies."""
    sides = [
        side.url_to(*proxy.address)
        for side, proxy in zip((scene.source, scene.target), scene.proxies, strict=True)
    ]
    return EngineProcess(folder, "run", *sides, "--link", NAME, "--json", *extra)
