"""Fixtures for real servers, and the reports on them: logs of failed tests, servers that were missing, processes left over."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from . import catalogue
from .environment import RUN
from .ports import free_port as next_free_port
from .postgres import Postgres
from .process import describe
from .proxy import FaultProxy
from .servers import Server
from .wait import wait_for

LOGS = pytest.StashKey[list[Server | Postgres]]()


class ServerFactory(Protocol):
    def __call__(self, version: str = "valkey-9", *, start: bool = True, **options: Any) -> Server: ...


@pytest.fixture
def redis_server(request: pytest.FixtureRequest) -> Iterator[ServerFactory]:
    """`redis_server("redis-7.0", config={…}, tls=True)` → a started Server; see tests/support/servers.py for the options.

    All of them are ended with the test, and their logs are in its report if it fails.
    """
    made: list[Server] = []

    def make(version: str = "valkey-9", *, start: bool = True, **options: Any) -> Server:
        server = Server(version, **options)
        made.append(server)
        request.node.stash.setdefault(LOGS, []).append(server)
        return server.start() if start else server

    yield make
    for server in reversed(made):
        server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for the whole run; a test makes its own database in it."""
    with Postgres() as server:
        yield server


@pytest.fixture
def fault_proxy() -> Iterator[Callable[[Server | tuple[str, int]], FaultProxy]]:
    """`fault_proxy(server)` or `fault_proxy((host, port))` → a FaultProxy before it."""
    made: list[FaultProxy] = []

    def make(target: Server | tuple[str, int]) -> FaultProxy:
        made.append(FaultProxy(target.address if isinstance(target, Server) else target))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def free_port() -> Callable[[], int]:
    return next_free_port


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        for server in item.stash.get(LOGS, []):
            report.sections.append((f"log of {server}", server.tail()))


def left_over() -> list[int]:
    """Processes of this run, orphans too: they carry its mark in their environment."""
    mark = f"SWITCHYARD_TEST_RUN={RUN}".encode()
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        pid = int(file.parent.name)
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if mark in file.read_bytes().split(b"\0"):
                found.append(pid)
    return found


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    with contextlib.suppress(AssertionError):
        wait_for(lambda: not left_over(), timeout=5)
    pids = left_over()
    session.config.stash[LEFT_OVER] = [describe(pid) for pid in pids]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if pids and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


LEFT_OVER = pytest.StashKey[list[str]]()


def pytest_report_header(config: pytest.Config) -> list[str]:
    servers = ", ".join(catalogue.available()) or "none: `make servers` fetches them"
    return [f"servers: {servers}", f"engine kernel: {kernel_state()}"]


def kernel_state() -> str:
    engine = Path(__file__).resolve().parents[2] / "migrations_app" / "engine"
    return "compiled" if any(engine.glob("kernel.*.so")) else "interpreted (`make setup` compiles it)"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if catalogue.missing:
        terminalreporter.section("servers that were missing")
        for name, count in sorted(catalogue.missing.items()):
            terminalreporter.line(f"{name}: {count} test(s) could not run")
    if lines := config.stash.get(LEFT_OVER, []):
        terminalreporter.section("processes left over by the tests (ended now)", red=True)
        for line in lines:
            terminalreporter.line(line)
