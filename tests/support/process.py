"""A child process of a test: its log, its end, and what was left over."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from .wait import wait_for


class Process:
    """Starts a command with its output in a file. Always ended by `end()`, whatever state it is in."""

    running: ClassVar[list[Process]] = []  # for the fixtures: nothing may be left when the run is over

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        user: int | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=dict(env) if env is not None else None,
                user=user,
                group=user,
                extra_groups=[] if user is not None else None,
                start_new_session=True,  # a Ctrl-C at the terminal reaches pytest alone, which then ends its children
            )
        Process.running.append(self)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(number)

    def wait(self, timeout: float = 10) -> int:
        """The exit code (negative: the signal). Raises AssertionError if it does not end."""
        wait_for(lambda: not self.alive, timeout, lambda: f"{self} did not end. Its log:\n{self.tail()}")
        self._forget()
        return self.popen.returncode

    def end(self) -> None:
        """Kills what still runs, a stopped process too."""
        if self.alive:
            self.signal(signal.SIGKILL)
            self.popen.wait(10)
        self._forget()

    def tail(self, lines: int = 40) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return "(no log)"

    def _forget(self) -> None:
        if self in Process.running:
            Process.running.remove(self)

    def __repr__(self) -> str:
        return f"<Process {self.pid} {' '.join(self.command)[:120]}>"


def children_of(pid: int) -> list[int]:
    """Direct children, zombies included; empty where there is no /proc."""
    return _families().get(pid, [])


def descendants_of(pid: int) -> list[int]:
    """Parents before their children. From one look at all processes: meanwhile those go on, and are to be caught in the middle of it."""
    families = _families()
    found: list[int] = []
    queue = [pid]
    while queue:
        below = families.get(queue.pop(), [])
        found += below
        queue += below
    return found


def is_gone(pid: int) -> bool:
    """Whether it does nothing any more; somebody may still have to reap it."""
    try:
        return _fields(Path(f"/proc/{pid}/stat"))[0] == "Z"
    except OSError:
        return True


def _families() -> dict[int, list[int]]:
    """Process → its children."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            found.setdefault(int(_fields(entry)[1]), []).append(int(entry.parent.name))
    return found


def _fields(stat: Path) -> list[str]:
    """From the state on. The name in parentheses before it may hold anything, so read on from the last one."""
    return stat.read_text().rpartition(")")[2].split()


def describe(pid: int) -> str:
    try:
        command = (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        )
    except OSError:
        command = "?"
    return f"{pid} {command[:160]}"


def unprivileged() -> int | None:
    """A user ID for servers that refuse root (`nobody`); None if this is not root."""
    if os.geteuid() != 0:
        return None
    import pwd

    return pwd.getpwnam("nobody").pw_uid
