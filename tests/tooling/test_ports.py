"""The ports of the tests' servers: two processes never hold the same, whatever listens at the moment."""

from __future__ import annotations

import socket
import subprocess
import sys

from tests.support.ports import LOOPBACK, free_port

LEASE = """
import sys
from tests.support.ports import free_port
print(*(free_port(above=int(sys.argv[2])) for _ in range(int(sys.argv[1]))), flush=True)
sys.stdin.read()
"""


class Leaseholder:
    """Another process that leases ports and keeps them until it is killed."""

    def __init__(self, count: int, above: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LEASE, str(count), str(above)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.ports = {*map(int, self.process.stdout.readline().split())}

    def __enter__(self) -> set[int]:
        return self.ports

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_two_processes_hold_different_ports() -> None:
    mine = free_port()
    with Leaseholder(20) as some, Leaseholder(20) as others:
        assert len(some) == len(others) == 20
        assert not some & others
        assert mine not in some | others


def test_what_a_killed_process_held_can_be_had_again() -> None:
    with Leaseholder(40) as before:
        pass
    with Leaseholder(40) as after:
        assert before & after


def test_the_port_above_is_leased_as_well() -> None:
    """As the bus of a cluster's node needs it."""
    with Leaseholder(3, above=1) as some, Leaseholder(20) as others:
        assert len({port + 1 for port in some} | some) == 6
        assert not {port + 1 for port in some} & others


def test_a_port_that_somebody_without_a_lease_listens_on_is_left_out() -> None:
    with socket.socket() as stranger:
        with Leaseholder(1) as leased:
            (port,) = leased
            # As the servers bind: connections of an earlier run may still be in TIME_WAIT.
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stranger.bind((LOOPBACK, port))
            stranger.listen()
        with Leaseholder(40) as others:
            assert port not in others
