"""What a session needs of a source, whichever way the source is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.protocol.psync import Event


class Incoming(Protocol):
    """Where the bytes come from. The loop polls it, and reads when it is readable or has something `buffered`."""

    last_received: float  # monotonic

    def fileno(self) -> int: ...

    @property
    def buffered(self) -> bool: ...

    def recv(self, size: int) -> bytes | None: ...


class Decoder(Protocol):
    """What the bytes mean: see `protocol.psync`."""

    @property
    def waiting(self) -> bool: ...

    @property
    def left(self) -> int | None: ...

    def feed(self, data: bytes) -> Sequence[Event]: ...

    def end_snapshot(self, rest: bytes) -> Sequence[Event]: ...


class Source(Protocol):
    """A source that gives a snapshot and, if it `follows`, a stream behind it.

    `resumes`: the stream can be had from an offset on, so that a checkpoint of the incremental phase is worth something.
    `pushes`: it gives up on a link that does not read, so that a spool is of use. `limits`: what this way of reading cannot promise, as a sentence for the log; empty where nothing is to be said.
    """

    follows: bool
    resumes: bool
    pushes: bool
    limits: str
    endpoint: Endpoint  # with the address that was found, where it is looked up

    @property
    def connection(self) -> Incoming: ...

    @property
    def decoder(self) -> Decoder: ...

    @property
    def facts(self) -> ServerFacts: ...

    def keyspace(self) -> dict[int, tuple[int, int]] | None:
        """Database → (keys, of these with expiry); None where nobody knows before the end. Only before `start`."""

    def replication(self) -> dict[str, str]:
        """INFO replication and stats, as far as there is one. Only before `start`."""

    def start(self, replication_id: str, offset: int) -> None:
        """Ask for what follows byte `offset`; ("?", -1) asks for everything."""

    def acknowledge(self, offset: int) -> None:
        """Tell the source how far the target is. Never waits."""

    def close(self) -> None: ...
