"""What the engine asks of the world around it, and what it tells: the only way out of the room.

A caller (the runner of the Django side, or `__main__`) hands an object with these methods to `run_link`. The engine
calls them from its own thread, never while it holds anything; they must return quickly (a few ms on average).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from migrations_app.engine.rate import Rate


class Wanted(StrEnum):
    """What the owner of the link wants of it now."""

    RUN = "run"
    STOP = "stop"


class Phase(StrEnum):
    """Where a link is."""

    CONNECTING = "connecting"
    WAITING = "waiting"  # the source prepares the snapshot
    FULL = "full"
    INCREMENTAL = "incremental"
    RETRYING = "retrying"
    STOPPING = "stopping"
    DONE = "done"


class Level(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(slots=True)
class Progress:
    """The counters of one link. They count since `run_link` began, unless said otherwise.

    Offsets are positions in the replication stream of the source, in bytes; `None` where they are not known yet.
    """

    phase: Phase = Phase.CONNECTING
    percent: float | None = None  # of the full phase, 0–100; None where the size is not known
    keys_done: int = 0  # keys of the snapshot written and confirmed
    keys_total: int | None = (
        None  # keys that the source counted in the chosen databases when the full phase began
    )
    keys_skipped: int = 0  # keys of databases and names not chosen, and the product's own
    keys_kept: int = 0  # keys of the snapshot that the target had already and that were left as they were; known at its end
    commands: int = 0  # commands of the stream applied and confirmed
    bytes_in: int = 0  # received from the source
    bytes_out: int = 0  # sent to the target
    snapshot_bytes: int = 0  # of the snapshot, received
    snapshot_size: int | None = None  # None for a diskless snapshot, whose size nobody knows
    replication_id: str = ""
    received_offset: int | None = None
    applied_offset: int | None = None  # durable: a new start goes on behind this byte
    source_offset: int | None = None
    lag_bytes: int | None = None
    lag_seconds: float | None = None
    caught_up: bool = False
    full_syncs: int = 0
    partial_syncs: int = 0
    reconnects: int = 0
    keys_per_second: float = 0.0
    commands_per_second: float = 0.0
    bytes_per_second: float = 0.0  # received
    spool_bytes: int = 0  # received from the source and not yet taken up, because the target does not keep up
    spool_limit: int = 0
    spool_full: bool = False  # the source is not read: there is no room
    backlog_bytes: int | None = (
        None  # repl-backlog-size of the source; None for one that is not replicated from
    )
    written_per_second: float | None = (
        None  # bytes that the source adds to its stream, over the last minute; None until some seconds are known
    )
    latency_ms: int | None = None  # of the heartbeat, from its write to the source until it was applied
    databases: dict[int, int] = field(default_factory=dict)  # database → keys of the snapshot written


class Ports(Protocol):
    """The caller's side of a running link."""

    def wanted(self) -> Wanted:
        """What is wanted now. Asked some ten times a second; `STOP` ends the link cleanly at its next safe point.

        May raise `engine.errors.Fenced` when the caller has lost the link to another owner.
        """

    def rate(self) -> Rate:
        """How fast the link may work now. Asked as often as `wanted`; `rate.UNLIMITED` for as fast as it can."""

    def progress(self, progress: Progress) -> None:
        """The counters as they are now, about twice a second and whenever the phase changes. Copy what is kept."""

    def log(self, level: Level, event: str, message: str, **fields: Any) -> None:
        """One thing that happened: `event` is a stable id, `message` a sentence, `fields` its figures. No secrets."""
