"""Replication clusters as machines: which processes they have, how to kill them, and that nothing of them is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from django.db import OperationalError, connection, transaction

from migrations_app.models import Link, LinkProgress, MigrationTask
from tests.migrations_app.clusters import Cluster
from tests.support.process import children_of, descendants_of, describe
from tests.support.wait import wait_for

MARK = "SWITCHYARD_TEST_MACHINE"


def state_of(pid: int) -> str:
    """`R`, `S`, `Z` (has ended, nobody has collected it) …; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def alive(pid: int) -> bool:
    return state_of(pid) not in ("", "Z")


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def freeze(pids: Callable[[], list[int]]) -> None:
    """SIGSTOP to these processes, at a moment when none of them holds a lock in the database that all others would wait for."""
    while True:
        for pid in pids():
            kill(pid, signal.SIGSTOP)
        wait_for(lambda: all(state_of(pid) in "TtZ" for pid in pids()), 5, "they run on")
        if not _is_locked():
            return
        for pid in pids():
            kill(pid, signal.SIGCONT)


def _is_locked() -> bool:
    """Whether a write of ours would have to wait. SQLite has one lock, PostgreSQL one for each row."""
    lite = connection.vendor == "sqlite"
    try:
        if lite:
            connection.cursor().execute("PRAGMA busy_timeout = 0")
        with transaction.atomic():
            for model in (MigrationTask, Link, LinkProgress):
                list(model.objects.select_for_update(nowait=True, of=("self",)).all())
    except OperationalError:
        return True
    finally:
        if lite:
            connection.cursor().execute("PRAGMA busy_timeout = 20000")
    return False


def descriptors(pid: int) -> int:
    """Open files of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_kb(pid: int) -> int:
    """Memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"no such process: {pid}")


class Machine(Cluster):
    """One replication cluster. All its processes carry a mark, so that orphans are found whoever their parent is."""

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        workers: int = 2,
        name: str = "replication",
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(url, folder, workers=workers, name=name)
        self.workers = workers
        self.mark = uuid4().hex
        self._env |= {MARK: self.mark, **(env or {})}
        self.logs: list[Path] = []

    def start(self) -> Machine:
        super().start()
        self.logs.append(self.process.log)
        return self

    def all_logs(self) -> str:
        """What every process of every start has written."""
        return "".join(path.read_text(errors="replace") for path in self.logs)

    def processes(self) -> list[int]:
        """Every living process of this machine, orphans too."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for file in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if wanted in file.read_bytes().split(b"\0"):
                    found.append(int(file.parent.name))
        return [pid for pid in found if alive(pid)]

    def orphans(self) -> list[int]:
        """Processes that the guard of now does not know."""
        known = {self.main, *descendants_of(self.main)}
        return [pid for pid in self.processes() if pid not in known]

    def zombies(self) -> list[int]:
        """Processes that have ended and that nobody has collected."""
        return [pid for pid in descendants_of(self.main) if state_of(pid) == "Z"]

    def kill_all(self) -> None:
        """Every process, as when the machine loses its power."""
        # Stopped first: one that is killed later could else start another meanwhile.
        for _ in range(2):
            for pid in self.processes():
                kill(pid, signal.SIGSTOP)
        for pid in self.processes():
            kill(pid)
        self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP to every process, as when a virtual machine is suspended."""
        freeze(self.processes)

    def thaw(self) -> None:
        for pid in self.processes():
            kill(pid, signal.SIGCONT)

    def kill_guard(self) -> None:
        kill(self.main)
        self.process.wait()

    def kill_sentinel(self) -> None:
        for pid in children_of(self.main):
            kill(pid)

    def stop(self, seconds: float = 20) -> int:
        """SIGTERM to the guard alone; the exit code."""
        self.process.signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def wait_until_tidy(self, seconds: float = 15) -> None:
        """No orphan and no zombie is left."""
        wait_for(
            lambda: not self.orphans() and not self.zombies(),
            seconds,
            lambda: f"left: {[describe(pid) for pid in self.orphans()]} zombies: {self.zombies()}",
        )

    def wait_for_processes(self, number: int, seconds: float = 15) -> None:
        """So many processes are alive: none is just being replaced."""
        wait_for(
            lambda: len(self.processes()) == number,
            seconds,
            lambda: f"not {number}: {[describe(pid) for pid in self.processes()]}",
        )

    def close(self) -> None:
        for pid in self.processes():
            kill(pid)
        if hasattr(self, "process"):
            self.process.end()
