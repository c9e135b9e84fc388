"""Child processes of one command, and the promise that none of them outlives it.

A `Supervisor` starts children, notices when one ends, and stops them in order. Beside it runs a *guardian*: a
small process that holds the read end of a pipe whose write end only the supervisor has. When the supervisor
ends in any way, `kill -9` included, the pipe closes and the guardian ends what is left and removes the
temporary folder. This module is also the guardian's program, so it imports the standard library only.

Each child leads a session and process group of its own: a Ctrl-C in the terminal reaches the supervisor
alone, which then stops its children one by one (a signal to a whole group breaks django-q2's shutdown), and
what a child leaves behind can be ended by its group.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Self

GRACE_S = 20.0
"""Seconds between SIGTERM and SIGKILL: a cluster drains and gives its leases back meanwhile."""
GUARDIAN_GRACE_S = 8.0
POLL_S = 0.05
TAIL_LINES = 20
_ASKING = (signal.SIGINT, signal.SIGTERM)


class ChildFailed(Exception):
    """A child did not start or has ended by itself. The text says which, how, and the end of what it
    wrote."""


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. Not an `Exception`: nothing on the way to the supervisor may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass
class Child:
    """A process that the supervisor has started. ``last``: stopped after all others (a server that they
    use)."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None
    last: bool
    grace: float

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines that it wrote to its log; empty if it writes to the terminal."""
        if self.log is None:
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


class Guardian:
    """The process that tidies up when this one cannot: it removes ``folder`` and ends the children that were named to it."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, *([str(folder)] if folder else [])],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def watch(self, pid: int) -> None:
        """End this child (the leader of a group), too, when this process is gone."""
        self._tell(f"+{pid}")

    def forget(self, pid: int) -> None:
        """The child has ended, and its number may soon be another's."""
        self._tell(f"-{pid}")

    def close(self) -> None:
        """Let it do now what is left to do: remove the folder."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        if self.folder:
            # It does that; if somebody has killed it, it has not.
            shutil.rmtree(self.folder, ignore_errors=True)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        # Without its guardian everything still works, only `kill -9` of this process would leave something behind.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()


class Supervisor:
    """Starts and stops children. A context manager: at its end nothing is left, whatever happened.

    A ``guardian`` that was started earlier, because there was something to guard already, is taken over. With ``logs``, the
    output of each child goes to ``<logs>/<name>.log``, otherwise to the terminal.
    """

    def __init__(self, *, guardian: Guardian | None = None, logs: Path | None = None) -> None:
        self._children: list[Child] = []
        self._logs = logs
        self._guardian = guardian or Guardian()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        last: bool = False,
        grace: float = GRACE_S,
    ) -> Child:
        """Start a child. Raises `ChildFailed` if there is no such program."""
        log = self._logs / f"{name}.log" if self._logs else None
        with contextlib.ExitStack() as stack:
            # A signal between the start of the child and the note of its number would leave it to nobody.
            stack.enter_context(deferred_signals())
            output = stack.enter_context(log.open("ab")) if log else None
            try:
                process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT if output else None,
                    env=dict(env) if env is not None else None,
                    start_new_session=True,
                )
            except OSError as error:
                raise ChildFailed(f"{name} cannot be started: {command[0]}: {error.strerror}") from error
            child = Child(name, process, log, last, grace)
            self._children.append(child)
            self._guardian.watch(process.pid)
        return child

    def check(self) -> None:
        """Raises `ChildFailed` if a child has ended by itself."""
        for child in self._children:
            if not child.running:
                raise ChildFailed(_ended(child))

    def wait_for(self, condition: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
        """Wait until ``condition()`` is true. Raises `ChildFailed` if a child ends or ``timeout`` seconds
        pass before that."""
        end = time.monotonic() + timeout
        while not condition():
            self.check()
            if time.monotonic() > end:
                raise ChildFailed(f"{what} took longer than {timeout:g} s.")
            time.sleep(POLL_S)

    def wait(self) -> None:
        """Wait until a child ends, which is a failure: raises `ChildFailed`. A signal ends the wait by its
        exception."""
        while True:
            self.check()
            time.sleep(0.2)

    def stop(self) -> None:
        """End all children: SIGTERM, SIGKILL after their grace; those marked ``last`` after the others."""
        for last in (False, True):
            group = [child for child in self._children if child.last is last]
            for child in group:
                if child.running:
                    child.process.terminate()
            began = time.monotonic()
            for child in group:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(max(0.0, child.grace - (time.monotonic() - began)))
                # The group outlives its leader as long as one of its processes does.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()
                self._guardian.forget(child.process.pid)
        self._children.clear()

    def close(self) -> None:
        """`stop`, and let the guardian go. Ctrl-C is ignored meanwhile; it takes twice the longest grace at the most."""
        with ignored_signals():
            self.stop()
            self._guardian.close()


def web_command(base: Path, address: str, *, workers: int) -> list[str]:
    """gunicorn for the console at ``address`` (host:port). ``base`` is the folder of manage.py."""
    options = ["--bind", address, "--workers", str(workers), "--threads", "4", "--graceful-timeout", "5"]
    return [
        sys.executable,
        "-m",
        "gunicorn",
        "portal.wsgi",
        "--chdir",
        str(base),
        *options,
        "--no-control-socket",  # one for all consoles of this user, in their home
        "--log-level",
        "warning",
    ]


def cluster_command(base: Path, name: str) -> list[str]:
    """One django-q2 cluster, ``default`` or ``replication``."""
    return [sys.executable, str(base / "manage.py"), "runcluster", name]


def _ended(child: Child) -> str:
    code = child.process.returncode
    how = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
    tail = child.tail()
    return f"{child.name} has ended {how}." + (f" The end of its log:\n{tail}" if tail else "")


def temporary_folder(prefix: str) -> Path:
    """A new folder that only this user can enter."""
    return Path(tempfile.mkdtemp(prefix=prefix))


def raise_on_signals() -> None:
    """From now on SIGINT and SIGTERM raise `Interrupted` in the main thread."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    for number in _ASKING:
        signal.signal(number, interrupt)


@contextlib.contextmanager
def deferred_signals() -> Iterator[None]:
    """SIGINT and SIGTERM are delivered at the end. (A blocked signal would stay blocked in children that are
    started.)"""
    arrived: list[int] = []
    before = [
        (number, signal.signal(number, lambda number, frame: arrived.append(number))) for number in _ASKING
    ]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        for deferred in arrived[:1]:
            signal.raise_signal(deferred)


@contextlib.contextmanager
def ignored_signals() -> Iterator[None]:
    """SIGINT and SIGTERM are ignored meanwhile: the clean-up that they ask for is under way."""
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in _ASKING]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _guard(folder: str | None) -> None:
    """The guardian: wait until the supervisor is gone, then end its children and remove its folder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    left: set[int] = set()
    for line in sys.stdin:
        (left.add if line[0] == "+" else left.discard)(int(line[1:]))
    for pid in left:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + GUARDIAN_GRACE_S
    while any(map(_alive, left)) and time.monotonic() < end:
        time.sleep(POLL_S)
    for pid in left:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    if folder:
        # What was just killed may still hold, or have just made, a file in it.
        for _ in range(20):
            shutil.rmtree(folder, ignore_errors=True)
            if not Path(folder).exists():
                break
            time.sleep(POLL_S)


def _alive(group: int) -> bool:
    """Whether the group still has a process."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    _guard(sys.argv[1] if len(sys.argv) > 1 else None)
