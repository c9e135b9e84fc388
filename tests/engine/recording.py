"""Records what a source sends to a replica, and plays it through decoder and kernels as a link does, without any socket."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from migrations_app.demo.dataset import fill
from migrations_app.demo.writer import Writer
from migrations_app.engine.commands import actions
from migrations_app.engine.errors import SnapshotError
from migrations_app.engine.kernel import (
    Emitted,
    Entry,
    SnapshotKernel,
    SnapshotPlan,
    StreamKernel,
    split_commands,
)
from migrations_app.engine.protocol.psync import (
    Event,
    FullResync,
    PsyncDecoder,
    SnapshotBegin,
    SnapshotBytes,
    SnapshotEnd,
    StreamBytes,
)
from migrations_app.engine.source.psync import PsyncSource
from tests.support.servers import Server
from tests.support.wait import wait_for

from .build import single
from .links import endpoint, offset_of

DATABASES = (0, 3)


class Recording:
    """`data` is everything behind PSYNC; `offset` is where the source says that its stream stands at the end of it."""

    def __init__(self, data: bytes, offset: int, keys: dict[int, int]) -> None:
        self.data = data
        self.offset = offset
        self.keys = keys  # database → keys of the source at the time of the snapshot

    def __repr__(self) -> str:
        return f"<Recording of {len(self.data)} bytes>"  # a failed example is shown with it


class Player:
    """Takes the bytes in pieces. What it collects does not depend on how they are cut."""

    def __init__(self) -> None:
        self._decoder = PsyncDecoder()
        self._snapshot: SnapshotKernel | None = SnapshotKernel(
            SnapshotPlan(stamp=9, target_version=(7, 0), defer_before=2_000_000_000_500)
        )
        self.stream: StreamKernel | None = None
        self.events: list[Event] = []  # but for the bytes
        self.snapshot_data: list[bytes | bytearray] = []
        self.stream_data: list[bytes] = []
        self.commands = [0, 0]  # of snapshot and stream
        self.keys: dict[int, int] = {}
        self.deferred: list[tuple[int, bytes, int]] = []
        self.entries: list[tuple[list[bytes], int, int]] = []
        self.safe_points: list[
            tuple[int, int, int]
        ] = []  # offset, database, commands so far: of each batch that ends in one

    def play(self, pieces: Iterable[bytes]) -> Player:
        for piece in pieces:
            self._handle(self._decoder.feed(piece))
        return self

    @property
    def offset(self) -> int:
        return self.stream.offset if self.stream is not None else -1

    def _handle(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, SnapshotBytes):
                self._on_snapshot(event.data)
            elif isinstance(event, StreamBytes):
                self._on_stream(event.data)
            else:
                self.events.append(event)
                if isinstance(event, SnapshotEnd) and self._snapshot is not None:
                    raise SnapshotError("the snapshot ends before its last byte")  # as a link does

    def _on_snapshot(self, data: bytes) -> None:
        if self._snapshot is None:
            raise SnapshotError("the snapshot goes on behind its end")
        batch = self._snapshot.feed(data)
        self.snapshot_data += batch.data
        self.commands[0] += batch.commands
        self.deferred += batch.deferred
        for number, count in batch.keys.items():
            self.keys[number] = self.keys.get(number, 0) + count
        if batch.done:
            self._snapshot = None
            self._handle(self._decoder.end_snapshot(batch.rest))

    def _on_stream(self, data: bytes) -> None:
        if self.stream is None:
            (full,) = (event for event in self.events if isinstance(event, FullResync))
            self.stream = StreamKernel(actions(), self._rule, offset=full.offset, database=0)
        batch = self.stream.feed(data)
        self.stream_data += batch.data
        self.commands[1] += batch.commands
        if batch.boundary:
            self.safe_points.append((batch.offset, self.stream.safe_database, self.commands[1]))

    def _rule(self, entry: Entry) -> Emitted:
        self.entries.append((entry.args, entry.database, entry.offset))
        return [(entry.database, entry.args)]

    def told(self) -> tuple[object, ...]:
        """What two plays of one recording have to agree on."""
        return (
            self.events,
            single(split_commands(b"".join(self.snapshot_data))),
            b"".join(self.stream_data),
            self.commands[1],
            self.keys,
            self.deferred,
            self.entries,
            self.offset,
            self.safe_points[-1:],
        )


def record(server: Server, *, commands: int) -> Recording:
    """The demo's corner cases are there; its writer makes so many commands. The server's INFO says when all has come."""
    source = PsyncSource(endpoint(server), "recorder", 10.0)
    parts: list[bytes] = []
    player = Player()

    def arrived(offset: int) -> bool:
        while data := source.connection.recv(1 << 20):
            parts.append(data)
            player.play([data])
        if player.events:
            # A diskless source sends its stream after the first one. Before the snapshot, it would keep old sources waiting.
            source.acknowledge(0)
        return player.offset >= offset

    try:
        keys = {number: counts[0] for number, counts in source.keyspace().items()}
        source.start("?", -1)
        wait_for(lambda: arrived(0) or any(isinstance(event, SnapshotEnd) for event in player.events), 30)
        with Writer(server.url, seed=2, rate=4000, databases=DATABASES) as writer:
            wait_for(lambda: arrived(-1) and (writer.commands >= commands or not writer.running), 30)
        end = offset_of(server)
        wait_for(lambda: arrived(end), 30)
        return Recording(b"".join(parts), end, keys)
    finally:
        source.close()


def prepare(server: Server) -> None:
    fill(server.url, keys=0, big_value_bytes=200_000, large_elements=100, databases=DATABASES)


__all__ = ["DATABASES", "Player", "Recording", "SnapshotBegin", "prepare", "record"]
