"""A TCP proxy between client and server that breaks the network on demand."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from .ports import LOOPBACK
from .wait import wait_for

CHUNK = 65_536


class Way(Enum):
    UP = "client to server"
    DOWN = "server to client"


@dataclass
class Counters:
    """Connections accepted, and bytes handed on, over the proxy's life."""

    connections: int = 0
    refused: int = 0
    bytes: dict[Way, int] = field(default_factory=lambda: dict.fromkeys(Way, 0))


class Link:
    """One connection through the proxy: a socket on each side and a thread for each way."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, server: socket.socket, number: int) -> None:
        self.proxy = proxy
        self.number = number  # 1 for the first connection
        self.ends = {Way.UP: (client, server), Way.DOWN: (server, client)}
        self.closed = threading.Event()
        self.seen = dict.fromkeys(Way, 0)
        self.threads = [threading.Thread(target=self._pump, args=(way,), daemon=True) for way in Way]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def _pump(self, way: Way) -> None:
        source, target = self.ends[way]
        try:
            # Stalled, it does not even read: the peer's send buffer fills up, as when the network is gone.
            while self._may_go_on() and (data := source.recv(CHUNK)):
                if not self._may_go_on():
                    return
                data = self.proxy.rewrite(self, way, data)
                if self.proxy.breaks_off(way, data):
                    target.sendall(data[: len(data) // 2])
                    self.proxy.count(self, way, len(data) // 2)
                    self.close(reset=True)
                    return
                if (limit := self.proxy.limits.get(way)) is not None and self.seen[way] + len(data) >= limit:
                    rest = max(0, limit - self.seen[way])
                    target.sendall(data[:rest])
                    self.proxy.count(self, way, rest)
                    self.close()
                    return
                if data:
                    target.sendall(data)
                    self.proxy.count(self, way, len(data))
            if not self.closed.is_set():
                with contextlib.suppress(OSError):
                    target.shutdown(socket.SHUT_WR)
                self.proxy.ended(self, way)
        except OSError:
            self.close()

    def _may_go_on(self) -> bool:
        while not self.closed.is_set():
            if self.proxy.flowing.wait(0.1):
                return not self.closed.is_set()
        return False

    def close(self, reset: bool = False) -> None:
        if self.closed.is_set():
            return
        self.closed.set()
        for end in self.ends[Way.UP]:
            if reset:
                # A linger time of zero makes close() send RST. shutdown() would send FIN before it.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # The other thread may sit in recv(), which keeps the socket open behind close(); reading is shut first.
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RD)
            else:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                # Bytes that nobody has read would turn the FIN into an RST, and the peer would lose what it has not read.
                with contextlib.suppress(OSError):
                    while end.recv(CHUNK, socket.MSG_DONTWAIT):
                        pass
            end.close()
        self.proxy.forget(self)


Hook = Callable[[Way, bytes], bytes]


class FaultProxy:
    """Listens on a port of its own and hands connections on to `target`, a (host, port).

    cut()              close every connection (FIN)
    reset()            break every connection off (RST)
    stall() / resume() nothing is handed on, connections stay open
    refuse() / accept()  new connections are closed at once; the established ones stay
    break_off(way)     the next piece that way is handed on by half, then its connection is broken off (RST)
    truncate_after(n)  hand on n bytes of each connection that way, then close it; None ends that
    hook               called with (way, bytes) of each piece, returns what to hand on instead; see also `replace_once`

    All of them can be called from the test's thread at any time.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.hook: Hook | None = None
        self.limits: dict[Way, int | None] = {}
        self._stall: tuple[Way, int, threading.Event] | None = None
        self._break: tuple[Way, int, threading.Event] | None = None
        self.counters = Counters()
        self.flowing = threading.Event()
        self.flowing.set()
        self._accepting = True
        self._lock = threading.Lock()
        self._links: list[Link] = []
        self._done: dict[Link, set[Way]] = {}
        self._listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self.host, self.port = self._listener.getsockname()
        self._closing = False
        self._thread = threading.Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    # --- Faults -------------------------------------------------------------------------------------------------------

    def cut(self) -> int:
        """Returns how many connections there were."""
        return self._close_all(reset=False)

    def reset(self) -> int:
        return self._close_all(reset=True)

    def stall(self) -> None:
        self.flowing.clear()

    def stall_after(self, count: int, way: Way) -> threading.Event:
        """Once so many bytes more went that way; the event is set when that has happened."""
        stalled = threading.Event()
        with self._lock:
            self._stall = (way, self.counters.bytes[way] + count, stalled)
        return stalled

    def resume(self) -> None:
        self.flowing.set()

    def refuse(self) -> None:
        self._accepting = False

    def accept(self) -> None:
        self._accepting = True

    def break_off(self, way: Way = Way.DOWN, *, longer_than: int = 1) -> threading.Event:
        """The next piece that way that is longer than so many bytes; the event is set when that has happened."""
        self._break = (way, longer_than, threading.Event())
        return self._break[2]

    def truncate_after(self, count: int | None, way: Way = Way.DOWN) -> None:
        """Counted per connection from its first byte; a connection that is past it already is closed at its next byte."""
        self.limits[way] = count

    def replace_once(self, old: bytes, new: bytes, way: Way = Way.DOWN) -> threading.Event:
        """Rewrites the first occurrence of `old` within one piece; the event is set when that has happened."""
        happened = threading.Event()

        def hook(of: Way, data: bytes) -> bytes:
            if of is way and old in data and not happened.is_set():
                happened.set()
                return data.replace(old, new, 1)
            return data

        self.hook = hook
        return happened

    # --- What is known of it ------------------------------------------------------------------------------------------

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def open(self) -> int:
        """Connections that are open now."""
        with self._lock:
            return len(self._links)

    def wait_for_connections(self, count: int, timeout: float = 10) -> None:
        """Until `count` connections have been accepted since the start."""
        wait_for(
            lambda: self.counters.connections >= count,
            timeout,
            f"fewer than {count} connections through the proxy",
        )

    def wait_for_bytes(self, count: int, way: Way = Way.DOWN, timeout: float = 10) -> None:
        wait_for(lambda: self.counters.bytes[way] >= count, timeout, f"fewer than {count} bytes {way.value}")

    def close(self) -> None:
        self._closing = True
        # close() alone does not wake a thread in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            threads = [thread for link in self._links for thread in link.threads]
        self.cut()
        self.flowing.set()
        for thread in (self._thread, *threads):
            thread.join(5)

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- For the links ------------------------------------------------------------------------------------------------

    def rewrite(self, link: Link, way: Way, data: bytes) -> bytes:
        return self.hook(way, data) if self.hook else data

    def breaks_off(self, way: Way, data: bytes) -> bool:
        with self._lock:
            if self._break is None or self._break[0] is not way or len(data) <= self._break[1]:
                return False
            self._break[2].set()
            self._break = None
            return True

    def count(self, link: Link, way: Way, length: int) -> None:
        with self._lock:
            link.seen[way] += length
            self.counters.bytes[way] += length
            if self._stall and self._stall[0] is way and self.counters.bytes[way] >= self._stall[1]:
                self.flowing.clear()
                self._stall[2].set()
                self._stall = None

    def ended(self, link: Link, way: Way) -> None:
        """One side has sent its last byte; when both have, the connection is over."""
        with self._lock:
            ways = self._done.setdefault(link, set())
            ways.add(way)
            over = len(ways) == len(Way)
        if over:
            link.close()

    def forget(self, link: Link) -> None:
        with self._lock:
            if link in self._links:
                self._links.remove(link)
            self._done.pop(link, None)

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._accepting:
                self.counters.refused += 1
                client.close()
                continue
            try:
                server = socket.create_connection(self.target, timeout=10)
            except OSError:
                self.counters.refused += 1
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.counters.connections += 1
                link = Link(self, client, server, self.counters.connections)
                self._links.append(link)
            link.start()

    def _close_all(self, reset: bool) -> int:
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close(reset)
        return len(links)
