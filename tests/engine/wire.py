"""What a source sends to its replicas for a command of a client."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from migrations_app.engine import kernel
from migrations_app.engine.commands import actions
from migrations_app.engine.kernel import Emitted, Entry, SnapshotKernel, SnapshotPlan, StreamKernel
from migrations_app.engine.protocol.psync import FullResync, SnapshotBytes, StreamBytes
from migrations_app.engine.source.psync import PsyncSource
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import endpoint, offset_of


class Wire:
    """Reads the stream of a server as a replica; `sent` gives the commands that have come since the last call."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._source = PsyncSource(endpoint(server), "wire", 10.0)
        self._snapshot = SnapshotKernel(SnapshotPlan(stamp=9, target_version=(7, 0)))
        self._stream: StreamKernel | None = None
        self._offset = -1
        self._came: list[list[bytes]] = []

    def sent(self) -> list[list[bytes]]:
        """(without SELECT, MULTI and EXEC, PING and REPLCONF)"""
        offset = offset_of(self._server)
        wait_for(lambda: self._read(offset), 20, lambda: f"offset {offset}: {self._came}")
        came, self._came = self._came, []
        return came

    def _read(self, offset: int) -> bool:
        while data := self._source.connection.recv(1 << 20):
            self._handle(data)
        if self._offset >= 0:
            self._source.acknowledge(0)
        return self._stream is not None and self._stream.offset >= offset

    def _handle(self, data: bytes) -> None:
        events = list(self._source.decoder.feed(data))
        for event in events:
            if isinstance(event, FullResync):
                self._offset = event.offset
            elif isinstance(event, SnapshotBytes):
                batch = self._snapshot.feed(event.data)
                if batch.done:
                    seen = {
                        name: kernel.RULE if action in (kernel.FORWARD, kernel.RULE_LONG) else action
                        for name, action in actions().items()
                    }
                    self._stream = StreamKernel(seen, self._rule, offset=self._offset, database=0)
                    events += self._source.decoder.end_snapshot(batch.rest)
            elif isinstance(event, StreamBytes) and self._stream is not None:
                self._stream.feed(event.data)

    def _rule(self, entry: Entry) -> Emitted:
        self._came.append(entry.args)
        return []

    def __enter__(self) -> Self:
        self._source.start("?", -1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._source.close()
