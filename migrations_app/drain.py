"""Whether this process is to stop its work, and the memory that the processes of one cluster share.

A running job asks `requested()`: true once the cluster shuts down, once this worker got SIGTERM, and once its parent is
gone. Outside a cluster (a test, a command) only `request()` makes it true.

The shared page is a plain anonymous mapping made before the fork. An `Event` of multiprocessing would do the same with a lock
inside, and a process killed while it holds that lock would hang all others at their next look.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Final

POLL: Final = 0.25  # seconds between two looks at the parent
ORPHAN_GRACE: Final = 2.0  # seconds that an orphan has for a clean end before it ends itself


class Flag:
    """One byte of the board: set once, read by everybody, no lock. Has what django-q2 uses of an `Event`."""

    def __init__(self, page: mmap.mmap, offset: int) -> None:
        self._page = page
        self._offset = offset

    def is_set(self) -> bool:
        return self._page[self._offset] == 1

    def set(self) -> None:
        self._page[self._offset] = 1


class Board:
    """What the processes of one pool tell each other. Every cell has one writer, or is a flag that is only ever set."""

    _FLAGS = 0
    _BEAT = 8
    _SLOTS = 64
    _SLOT = struct.Struct("<QQ")  # busy (0 or 1), jobs taken

    def __init__(self, slots: int, cluster: str) -> None:
        self.slots = slots
        self.cluster = cluster
        self._page = mmap.mmap(-1, self._SLOTS + slots * self._SLOT.size)
        self.started = Flag(self._page, self._FLAGS)
        self.draining = Flag(self._page, self._FLAGS + 1)
        self.no_more_messages = Flag(self._page, self._FLAGS + 2)
        self.broken = Flag(self._page, self._FLAGS + 3)
        self.beat()

    def beat(self) -> None:
        """The sentinel lives."""
        struct.pack_into("<d", self._page, self._BEAT, time.monotonic())

    def silence(self) -> float:
        """Seconds since the sentinel's last sign of life."""
        (beat,) = struct.unpack_from("<d", self._page, self._BEAT)
        return time.monotonic() - float(beat)

    def set_busy(self, slot: int, busy: bool) -> None:
        _, taken = self._read(slot)
        self._SLOT.pack_into(self._page, self._SLOTS + slot * self._SLOT.size, int(busy), taken + int(busy))

    def idle(self) -> int:
        """How many workers wait for a job."""
        return sum(1 for slot in range(self.slots) if not self._read(slot)[0])

    def taken(self) -> int:
        """How many jobs the workers have taken so far."""
        return sum(self._read(slot)[1] for slot in range(self.slots))

    def _read(self, slot: int) -> tuple[int, int]:
        busy, taken = self._SLOT.unpack_from(self._page, self._SLOTS + slot * self._SLOT.size)
        return int(busy), int(taken)


_local = threading.Event()
_board: Board | None = None


def requested() -> bool:
    """Whether the work of this process is to end now, cleanly."""
    return _local.is_set() or (_board is not None and _board.draining.is_set())


def request() -> None:
    """End the work of this process."""
    _local.set()


def reset() -> None:
    """Forget a request: for a process that goes on, such as a test run."""
    _local.clear()


def bind(board: Board) -> None:
    """This process belongs to the cluster of this board."""
    global _board
    _board = board


def owner() -> str:
    """`host:pid:cluster`: who this process is when it owns a link."""
    return f"{socket.gethostname()}:{os.getpid()}:{_board.cluster if _board else 'none'}"


def watch_parent(
    parent: int, *, grace: float = ORPHAN_GRACE, leave: Callable[[int], None] = os._exit
) -> None:
    """Starts a thread that ends this process when its parent is gone: cleanly if that works within `grace` seconds.

    A killed sentinel cannot tell its workers anything. They would live on as orphans, beside those of its successor.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        request()
        time.sleep(grace)
        leave(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()
