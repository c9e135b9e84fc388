"""Links of the engine for tests: in a thread of this process, or as a process of their own; and proof that two servers are equal."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from migrations_app.demo.writer import check_audit
from migrations_app.engine.config import LinkConfig, LinkResult, Outcome
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import EngineError
from migrations_app.engine.link import run_link
from migrations_app.engine.ports import Level, Phase, Progress, Wanted
from migrations_app.engine.rate import UNLIMITED, Rate
from migrations_app.engine.verify import VerifyReport, verify
from migrations_app.engine.verify.report import as_text
from tests.support.notes import expiries_wait
from tests.support.proxy import FaultProxy
from tests.support.servers import Server
from tests.support.wait import PATIENCE, wait_for

ROOT = Path(__file__).resolve().parents[2]
Side = Server | Endpoint | FaultProxy


def endpoint(side: Side, **changes: Any) -> Endpoint:
    """Where a server (or the proxy before it) is, with its credentials."""
    if isinstance(side, Endpoint):
        return side
    if isinstance(side, FaultProxy):
        return Endpoint(host=side.host, port=side.port, **changes)
    given = {"host": side.host, "port": side.port, "password": side.password, "username": side.username}
    return Endpoint(**(given | changes))


class Recorder:
    """The ports of a link under test: what it told, and the switch to stop it."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.last = Progress()
        self.phases: list[Phase] = []
        self.lines: list[tuple[Level, str, str]] = []
        self.limit = UNLIMITED

    def rate(self) -> Rate:
        return self.limit

    def wanted(self) -> Wanted:
        return Wanted.STOP if self.stop.is_set() else Wanted.RUN

    def progress(self, progress: Progress) -> None:
        self.last = copy.deepcopy(progress)
        if not self.phases or self.phases[-1] is not progress.phase:
            self.phases.append(progress.phase)

    def log(self, level: Level, event: str, message: str, **_: Any) -> None:
        self.lines.append((level, event, message))

    @property
    def events(self) -> list[str]:
        return [event for _, event, _ in self.lines]


class RunningLink:
    """A link in a thread. Leaving the `with` block stops it; its error, if any, is raised by `result`."""

    def __init__(self, source: Side, target: Side, *, limit: Rate = UNLIMITED, **options: Any) -> None:
        given: dict[str, Any] = {"name": "test", "timeout": 10.0, "retry_seconds": 60.0}
        self.config = LinkConfig(source=endpoint(source), target=endpoint(target), **(given | options))
        self.ports = Recorder()
        self.ports.limit = limit
        self._result: LinkResult | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="link-under-test", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = run_link(self.config, self.ports)
        except BaseException as error:  # noqa: BLE001 - raised where the test asks for the result
            self.error = error

    @property
    def progress(self) -> Progress:
        return self.ports.last

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait_until(self, phase: Phase, timeout: float = 30) -> None:
        wait_for(
            lambda: phase in self.ports.phases or not self.running,
            timeout,
            lambda: f"not in {phase}: {self.told()}",
        )
        assert phase in self.ports.phases, self.told()

    def wait_caught_up(self, timeout: float = 60) -> None:
        """Until the target has caught up, with nothing left to do, since this call."""
        before = self.ports.last  # held, so that no later report can be taken for it

        def caught_up() -> bool:
            assert self.running, self.told()
            last = self.ports.last
            return (
                last is not before
                and last.caught_up
                and last.lag_bytes == 0
                and last.phase is Phase.INCREMENTAL
            )

        wait_for(caught_up, timeout, self.told)

    def wait_offset(self, offset: int, timeout: float = 60) -> None:
        """Until everything up to this byte of the source's stream is applied."""

        def reached() -> bool:
            assert self.running, self.told()
            return (self.ports.last.applied_offset or 0) >= offset

        wait_for(reached, timeout, lambda: f"offset {offset}: {self.told()}")

    def settle(self, source: Server, target: Server, timeout: float = 60) -> None:
        """Until all that the source has written so far is applied, and no expiry waits to be set."""
        self.wait_until(Phase.INCREMENTAL, timeout)
        self.wait_offset(offset_of(source), timeout)
        wait_for(lambda: not expiries_wait(target, self.config.name) or not self.running, timeout, self.told)
        assert self.running, self.told()

    def result(self, timeout: float = 60) -> LinkResult:
        """How it ended; raises what ended it."""
        self._thread.join(timeout * PATIENCE)
        assert not self.running, f"the link has not ended: {self.told()}"
        if self.error is not None:
            raise self.error
        assert self._result is not None
        return self._result

    def failure(self, timeout: float = 60) -> EngineError:
        """The error that ended it."""
        self._thread.join(timeout * PATIENCE)
        assert not self.running, f"the link has not ended: {self.told()}"
        assert isinstance(self.error, EngineError), self.error or self._result
        return self.error

    def stop(self, timeout: float = 20) -> LinkResult:
        self.ports.stop.set()
        return self.result(timeout)

    def told(self) -> str:
        lines = "\n".join(
            f"{level.value} {event}: {message}" for level, event, message in self.ports.lines[-12:]
        )
        return f"{self.ports.last}\n{self.error!r}\n{lines}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.ports.stop.set()
        self._thread.join(20 * PATIENCE)
        if kind is None:
            assert not self.running, f"the link does not stop: {self.told()}"


def run(source: Side, target: Side, **options: Any) -> LinkResult:
    """A link that ends when it has caught up."""
    with RunningLink(source, target, **({"stop_when_caught_up": True} | options)) as link:
        return link.result(120)


class EngineProcess:
    """`python -m migrations_app.engine …` with standard output and standard error in files. Always ended by `close`."""

    def __init__(self, folder: Path, *arguments: str | Path, name: str = "engine") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.stdout, self.stderr = folder / f"{name}.out", folder / f"{name}.err"
        # What earlier ones of this name have said stays in the file; nobody is to take it for what this one says.
        self._begins = self.stderr.stat().st_size if self.stderr.exists() else 0
        command = [sys.executable, "-m", "migrations_app.engine", *map(str, arguments)]
        with self.stdout.open("wb") as out, self.stderr.open("ab") as err:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=ROOT,
                env=environment(),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def kill(self) -> None:
        """SIGKILL, and gone."""
        self.popen.kill()
        self.popen.wait(10 * PATIENCE)

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self, timeout: float = 60) -> int:
        try:
            return self.popen.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the engine did not end:\n{self.said()}") from None

    def said(self) -> str:
        """What this process has written to standard error."""
        return self.stderr.read_bytes()[self._begins :].decode(errors="replace")

    def wait_for_words(self, words: str, timeout: float = 30) -> None:
        """Until standard error says this."""
        wait_for(
            lambda: words in self.said() or not self.alive,
            timeout,
            lambda: f"{words!r} is not in\n{self.said()}",
        )
        assert words in self.said(), self.said()

    def result(self) -> dict[str, Any]:
        """The one line of JSON on standard output."""
        text = self.stdout.read_text()
        assert text.endswith("\n"), f"no result line: {text!r}\n{self.said()}"
        assert text.count("\n") == 1, f"more than one line on standard output: {text!r}"
        return dict(json.loads(text))

    def close(self) -> None:
        if self.alive:
            self.popen.send_signal(signal.SIGCONT)
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def environment() -> dict[str, str]:
    """Without Django's settings: the engine needs none."""
    return {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}


def report(
    source: Server, target: Server, databases: Sequence[int] | None = None, tolerance: int = 2000
) -> VerifyReport:
    chosen = frozenset(databases) if databases is not None else None
    return verify(endpoint(source), endpoint(target), databases=chosen, ttl_tolerance_ms=tolerance)


def assert_equal(
    source: Server, target: Server, databases: Sequence[int] | None = None, tolerance: int = 2000
) -> VerifyReport:
    """Both sides hold the same, by value, type and expiry."""
    found = report(source, target, databases, tolerance)
    assert found.complete
    assert found.differences == 0, as_text(found)
    return found


def assert_audit(target: Server, expected: dict[int, dict[str, int]]) -> None:
    """No write of the demo's writer was lost, applied twice or out of order; and there were writes."""
    assert sum(sum(counts.values()) for counts in expected.values()) > 0
    assert check_audit(target.url, expected) == []


def offset_of(server: Server) -> int:
    return int(server.info("replication")["master_repl_offset"])


def pass_time(client: redis.Redis, milliseconds: int) -> None:
    """Until the server's clock has gone on by so much."""

    def now() -> int:
        seconds, micros = client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    end = now() + milliseconds
    wait_for(lambda: now() > end, milliseconds / 1000 + 5)


def full_counts(server: Server) -> tuple[int, int]:
    """(full, partial) synchronizations that a source has served since its statistics began."""
    stats = server.info("stats")
    return int(stats["sync_full"]), int(stats["sync_partial_ok"])


__all__ = [
    "EngineProcess",
    "Outcome",
    "Phase",
    "RunningLink",
    "assert_audit",
    "assert_equal",
    "endpoint",
    "full_counts",
    "offset_of",
    "pass_time",
    "report",
    "run",
]
