"""Where the source's stream ends: asked on a connection of its own, so that the lag is known also while data is under way."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from migrations_app.engine.client import Client
from migrations_app.engine.clock import Clock
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import EngineError
from migrations_app.engine.source.heartbeat import Heartbeat

_INTERVAL = 0.2  # seconds between two questions
_WRITTEN_WINDOW = 60.0  # seconds over which the pace of the source's writes is taken
_WRITTEN_LEAST = 5.0  # before it is told

_QUIET = 3  # questions in a row with the same answer, and nothing received meanwhile


class SourceWatch:
    """Samples `master_repl_offset` in a thread; `lag` compares it with what is applied, `since` says how old a part of the stream may be.

    A sample that cannot be had is left out: the replication connection notices a lost source by itself.

    The link counts from `base` in the source's stream: 0 where it knows the source's own offsets. A source that was read with SYNC
    may not tell where its stream began; `find_base` then finds it: the difference between both counters in moments in which neither
    moves, and the smallest one that was seen. Until then there are no samples.

    Whoever asks for the offset asks for the time, too: `clock` follows the source's.
    """

    def __init__(
        self, endpoint: Endpoint, name: str, timeout: float, clock: Clock, heartbeat: Heartbeat | None = None
    ) -> None:
        self._endpoint = endpoint
        self._name = name
        self._timeout = timeout
        self._clock = clock
        self._heartbeat = heartbeat
        self._samples: deque[tuple[float, int]] = deque(maxlen=10_000)  # not reached yet
        # When the stream ended there for certain, the last time.
        self._known: deque[tuple[float, int]] = deque(maxlen=10_000)
        self._stop = threading.Event()
        self.offset: int | None = None
        self.sampled_at = 0.0  # monotonic
        self.base: int | None = 0
        self.backlog: int | None = None  # bytes, repl-backlog-size
        self._ends: deque[tuple[float, int]] = (
            deque()
        )  # the stream's end in the last minute, as the source counts
        self._received: Callable[[], int | None] | None = None
        self._quiet = (0, (-1, -1))  # how often in a row, (source's offset, received)
        self._thread = threading.Thread(target=self._run, name="source-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop asking; does not wait for a question that is under way."""
        self._stop.set()

    def find_base(self, received: Callable[[], int | None]) -> None:
        """The link counts its stream from 0; `received` tells how many bytes of it have come (None: a command is incomplete)."""
        self.base, self.offset = None, None
        self._samples.clear()
        self._received = received

    def lag(self, applied: int) -> tuple[int | None, float | None]:
        """(bytes, seconds) that the byte `applied` is behind the newest sample; None while there is no sample."""
        offset = self.offset
        if offset is None or self.base is None:
            return None, None
        samples = self._samples
        while samples and samples[0][1] <= applied:
            samples.popleft()
        seconds = time.monotonic() - samples[0][0] if samples else 0.0
        return max(0, offset - applied), seconds

    def since(self, position: int) -> float:
        """A time (monotonic) before which nothing behind byte `position` was written; -inf where that is not known.

        Positions must not go back from call to call. Where `base` had to be found, it may be too large for a while: nothing is certain.
        """
        if self._received is not None:
            return float("-inf")
        known = self._known
        while len(known) > 1 and known[1][1] <= position:
            known.popleft()
        if not known or known[0][1] > position:
            return float("-inf")
        return known[0][0]

    def written_per_second(self) -> float | None:
        """Bytes that the source adds to its stream, over the last minute; None until some seconds of it are known."""
        ends = self._ends
        with suppress(IndexError):  # the thread may just begin anew
            (begun, first), (asked, last) = ends[0], ends[-1]
            if asked - begun >= _WRITTEN_LEAST:
                return (last - first) / (asked - begun)
        return None

    def _run(self) -> None:
        client: Client | None = None
        while not self._stop.is_set():
            try:
                client = client or Client(self._endpoint, timeout=min(5.0, self._timeout), name=self._name)
                if self._heartbeat is not None:
                    self._heartbeat.beat(client)
                asked = time.monotonic()
                received = self._received() if self._received is not None else None
                info = client.info("replication")
                self._clock.ask(client)
                offset = int(info.get("master_repl_offset", "0"))
                self._note_pace(asked, offset, int(info.get("repl_backlog_size", "0")))
                if self._received is not None:
                    self._look_for_base(offset, received)
                base = self.base
                if base is None:
                    continue
                offset -= base
                if not self._samples or self._samples[-1][1] != offset:
                    self._samples.append((asked, offset))
                if self._known and self._known[-1][1] == offset:
                    self._known[-1] = (asked, offset)
                else:
                    self._known.append((asked, offset))
                self.offset, self.sampled_at = offset, asked
            except (EngineError, ValueError):
                if client is not None:
                    client.close()
                client = None
            finally:
                self._stop.wait(_INTERVAL)
        if client is not None:
            client.close()

    def _note_pace(self, asked: float, offset: int, backlog: int) -> None:
        self.backlog = backlog or None
        ends = self._ends
        if ends and offset < ends[-1][1]:  # another server, or one that began anew
            ends.clear()
        ends.append((asked, offset))
        while asked - ends[0][0] > _WRITTEN_WINDOW:
            ends.popleft()

    def _look_for_base(self, offset: int, received: int | None) -> None:
        state = (offset, received if received is not None else -1)
        self._quiet = (self._quiet[0] + 1 if state == self._quiet[1] else 1, state)
        if received is None or self._quiet[0] < _QUIET:
            return
        base = offset - received
        if self.base is None or base < self.base:
            self._samples.clear()
            self.base = base
