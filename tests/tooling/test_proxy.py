"""The fault proxy, before a server that answers each line with the same line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.proxy import FaultProxy, Way
from tests.support.wait import wait_for


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    connection.sendall(data)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
            threads[-1].start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for each in (thread, *threads):
        each.join(5)


@pytest.fixture
def proxy(echo: tuple[str, int], fault_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    return fault_proxy(echo)


@pytest.fixture
def connect(proxy: FaultProxy) -> Iterator[Callable[[], socket.socket]]:
    made: list[socket.socket] = []

    def make() -> socket.socket:
        made.append(socket.create_connection(proxy.address, timeout=5))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


def ask(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return receive(connection, len(data))


def receive(connection: socket.socket, count: int) -> bytes:
    """`count` bytes, fewer if the connection ends before."""
    got = b""
    while len(got) < count and (data := connection.recv(count - len(got))):
        got += data
    return got


def test_hands_on_both_ways_and_counts(proxy: FaultProxy, connect: Callable[[], socket.socket]) -> None:
    first, second = connect(), connect()
    assert ask(first, b"one") == b"one"
    assert ask(second, b"second") == b"second"
    wait_for(lambda: proxy.counters.bytes[Way.DOWN] == 9, message="bytes are counted")
    assert proxy.counters.connections == 2
    assert proxy.counters.bytes == {Way.UP: 9, Way.DOWN: 9}
    assert proxy.open == 2


def test_a_megabyte_arrives_whole(connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    data = bytes(range(256)) * 4096
    sender = threading.Thread(target=connection.sendall, args=(data,))
    sender.start()
    assert receive(connection, len(data)) == data
    sender.join(5)


def test_one_side_may_end_before_the_other(proxy: FaultProxy, connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    connection.sendall(b"last")
    connection.shutdown(socket.SHUT_WR)
    assert receive(connection, 100) == b"last"
    wait_for(lambda: proxy.open == 0, message="the connection is over")


def test_cut_closes_every_connection(proxy: FaultProxy, connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    ask(connection, b"x")
    assert proxy.cut() == 1
    assert connection.recv(1) == b""
    assert ask(connect(), b"again") == b"again"


def test_reset_breaks_off(proxy: FaultProxy, connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    ask(connection, b"x")
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        connection.recv(1)


def test_stall_keeps_the_connection_and_loses_nothing(
    proxy: FaultProxy, connect: Callable[[], socket.socket]
) -> None:
    connection = connect()
    ask(connection, b"x")
    proxy.stall()
    connection.sendall(b"held")
    connection.settimeout(0.3)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    assert proxy.open == 1
    proxy.resume()
    connection.settimeout(5)
    assert receive(connection, 4) == b"held"


def test_a_stalled_connection_can_be_cut(proxy: FaultProxy, connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    ask(connection, b"x")
    proxy.stall()
    proxy.cut()
    assert connection.recv(1) == b""


def test_truncate_hands_on_so_many_bytes(proxy: FaultProxy, connect: Callable[[], socket.socket]) -> None:
    proxy.truncate_after(5)
    connection = connect()
    connection.sendall(b"123456789")
    assert receive(connection, 9) == b"12345"
    proxy.truncate_after(None)
    assert ask(connect(), b"123456789") == b"123456789"


def test_refuse_leaves_the_established_ones(proxy: FaultProxy, connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    ask(connection, b"x")
    proxy.refuse()
    assert connect().recv(1) == b""
    assert ask(connection, b"y") == b"y"
    assert proxy.counters.refused == 1
    proxy.accept()
    assert ask(connect(), b"z") == b"z"


def test_hook_rewrites_one_way(proxy: FaultProxy, connect: Callable[[], socket.socket]) -> None:
    happened = proxy.replace_once(b"good", b"evil", Way.DOWN)
    connection = connect()
    assert ask(connection, b"good") == b"evil"
    assert happened.is_set()
    assert ask(connection, b"good") == b"good"


def test_a_dead_server_is_a_closed_connection(
    fault_proxy: Callable[..., FaultProxy], free_port: Callable[[], int]
) -> None:
    proxy = fault_proxy(("127.0.0.1", free_port()))
    with socket.create_connection(proxy.address, timeout=5) as connection:
        assert connection.recv(1) == b""
