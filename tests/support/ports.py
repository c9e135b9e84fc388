"""Free ports of the loopback interface, each given to one process of this machine at a time.

A port on which nothing listens may still be somebody's: a server of another worker is about to bind it, or is down for a
moment to be started again. So a port is leased before it is given: a lock on the byte with the port's number, in a file
that all runs of a user on a machine share. The kernel gives such a lock back when the process ends, however it ends, and
children (the servers) do not inherit it.
"""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import socket
import tempfile
from collections import deque
from pathlib import Path

LOOPBACK = "127.0.0.1"
FIRST, FIRST_OUTGOING = 15_000, 32_768
# Below the ports that the kernel gives to outgoing connections: a port that was free a moment ago is not taken by a
# client's connection before the server binds it.
LEASES = 1_000  # a process keeps so many, the newest: longer than any server that is started again
_ports = itertools.cycle(range(FIRST, 32_000))
_leased: deque[int] = deque()


def free_port(above: int = 0) -> int:
    """A port that nothing listens on, leased to this process; with `above`, so is the port that much higher."""
    for port in itertools.islice(_ports, 32_000 - FIRST):
        if port + above >= FIRST_OUTGOING:
            continue
        wanted = {port, port + above}
        if _lease(wanted):
            if all(map(_is_free, wanted)):
                return port
            _release(wanted)
    raise RuntimeError("no free port")


def _lease(ports: set[int]) -> bool:
    if ports & {*_leased}:  # a process is not refused its own locks
        return False
    for taken, port in enumerate(ports):
        try:
            fcntl.lockf(_locks(os.getpid()), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            for other in itertools.islice(ports, taken):
                _unlock(other)
            return False
    _leased.extend(ports)
    while len(_leased) > LEASES:
        _unlock(_leased.popleft())
    return True


def _release(ports: set[int]) -> None:
    for port in ports:
        _leased.remove(port)
        _unlock(port)


def _unlock(port: int) -> None:
    fcntl.lockf(_locks(os.getpid()), fcntl.LOCK_UN, 1, port)


@functools.cache
def _locks(pid: int) -> int:
    """The file of the leases, opened once by each process: closing any descriptor of it would give all its locks back."""
    path = Path(tempfile.gettempdir()) / f"switchyard-test-ports-{os.getuid()}"
    _leased.clear()  # of the parent, in a child that was forked
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers bind: connections in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
