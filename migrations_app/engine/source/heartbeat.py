"""A key that the link writes to its source from time to time, and finds in the stream: how long a write takes to the target.

The time in the value is this machine's, at both ends; only after the link has moved to another machine the first values are that one's.
"""

from __future__ import annotations

import time
from collections import deque

from migrations_app.engine.client import Client
from migrations_app.engine.kernel import Entry
from migrations_app.engine.protocol.resp import ReplyError

_KEPT_MS = 60_000  # the key goes away by itself
_WAITS = frozenset({"LOADING", "BUSY", "TRYAGAIN", "MASTERDOWN", "CLUSTERDOWN"})


class Heartbeat:
    """`beat` is called by the watch, in its thread; all else by the link. `refused` says why the source did not take it: it is off then."""

    def __init__(self, key: bytes, seconds: float) -> None:
        self.key = key
        self.refused = ""
        self._every_ms = int(seconds * 1000)
        self._next = 0
        self._worst: int | None = None
        self._coming: deque[tuple[int, int]] = deque()  # (offset, when it was written)

    def beat(self, client: Client) -> None:
        """Write the key, if it is time. The client has database 0 selected."""
        now = _now_ms()
        if self.refused or 0 < self._next - now <= self._every_ms:
            return
        self._next = now + self._every_ms
        (reply,) = client.pipeline([("SET", self.key, now, "PX", _KEPT_MS + self._every_ms)])
        if isinstance(reply, ReplyError) and reply.code not in _WAITS:
            self.refused = str(reply)

    def seen(self, entry: Entry) -> None:
        """A command on a key of the product has come in the stream."""
        args = entry.args
        if len(args) > 2 and args[1] == self.key and args[0].upper() == b"SET" and args[2].isdigit():
            self._coming.append((entry.offset, int(args[2])))

    def applied(self, offset: int) -> None:
        """The stream is applied up to there."""
        while self._coming and self._coming[0][0] <= offset:
            written = self._coming.popleft()[1]
            self._worst = max(self._worst or 0, _now_ms() - written)

    def latency(self) -> int | None:
        """Milliseconds from write to applied: the most since the last call, or so far of one that still waits; None without any."""
        worst, self._worst = self._worst, None
        if self._coming:
            worst = max(worst or 0, _now_ms() - self._coming[0][1])
        return worst


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
