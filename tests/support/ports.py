"""Free ports of the loopback interface."""

from __future__ import annotations

import itertools
import os
import socket

LOOPBACK = "127.0.0.1"
FIRST_OUTGOING = 32_768
# Below the ports that the kernel gives to outgoing connections: a port that was free a moment ago is not
# taken by a client's connection before the server binds it. Runs side by side begin at different places.
_ports = itertools.cycle(range(15_000, 32_000))
_start = (os.getpid() * 61) % 17_000
for _ in range(_start):
    next(_ports)


def free_port() -> int:
    """A port that nothing listens on, and that no other call in this run has returned lately."""
    for port in itertools.islice(_ports, 17_000):
        with socket.socket() as probe:
            # As the servers bind: connections in TIME_WAIT do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")
