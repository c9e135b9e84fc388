"""What a link is asked to do, and how it ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from migrations_app.engine.checkpoint import check_name
from migrations_app.engine.choice import CommandChoice
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import UsageError
from migrations_app.engine.keyfilter import KeyFilter
from migrations_app.engine.ports import Progress
from migrations_app.engine.shards.layout import Scope

SPOOL_LEAST: Final = 4 * 2**20  # bytes
SPOOL_LIMIT: Final = 4 * 2**30


class Phases(StrEnum):
    """What a link does: copy once, or copy and then follow."""

    FULL = "full"
    FULL_INCREMENTAL = "full+incremental"


class Method(StrEnum):
    """How a server is read as the source. (A snapshot file is read as what it is.)"""

    PSYNC = "psync"
    SYNC = "sync"  # where PSYNC is renamed or refused: no position to go on from
    SCAN = "scan"  # by its keys, where replication is refused


class Notifications(StrEnum):
    """What a key scan that follows its source does about keyspace notifications."""

    CHECK = "check"  # they must be on
    ENABLE = "enable"  # are switched on while the link runs
    ASSUME = "assume"  # are on, also if the source does not tell


class Outcome(StrEnum):
    """How a link ended when it did not fail."""

    COMPLETED = "completed"  # full only: everything is written; or caught up, where that was asked for
    STOPPED = "stopped"  # somebody wanted it to stop; it goes on where it stood


class Conflict(StrEnum):
    """What the full phase does with keys that are in the target already (`conflict.py`)."""

    FAIL = "fail"  # stop before the first write
    KEEP = "keep"  # leave them as they are
    OVERWRITE = "overwrite"


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """Everything that one link needs to know. Raises `UsageError` for values that cannot be.

    `name` (1–64 of `A–Z a–z 0–9 . _ -`) identifies the link in the target, where its checkpoint is kept under
    `switchyard:checkpoint:<name>`. `databases` None means all. `epoch` is a number that only grows from owner to owner; None takes
    the next one. Times are in seconds. `retry_now`, where it is given, is asked for the retry time at each lost connection, and goes
    over `retry_seconds`. `allow_full_resync` lets a link whose source can no longer go on where it stood start the full phase again.
    `patient_start` treats the first connection like a lost one: it is tried again within the retry time; else a side that cannot be
    reached at the start is an error at once. `followed` says that the link has been in the incremental phase before: a target without
    its checkpoint has then lost the data, too. `keys` chooses keys by name; `commands` chooses what is applied of the stream, by
    database, and under None for the databases that have no choice of their own. `spool_folder` and `spool_limit` (bytes) say where the
    link may keep what the source sends while the target does not keep up, and how much of it; None is a folder of the
    system for such files, a limit of 0 switches that off. With `heartbeat_seconds` the link writes a key of its own to the source so
    often (and never to the target), to measure how long a write takes; 0 for never.
    """

    name: str
    source: Endpoint
    target: Endpoint
    phases: Phases = Phases.FULL_INCREMENTAL
    method: Method = Method.PSYNC
    notifications: Notifications = Notifications.CHECK
    databases: frozenset[int] | None = None
    stop_when_caught_up: bool = False
    epoch: int | None = None
    retry_seconds: float = 7200.0
    retry_now: Callable[[], float] | None = field(default=None, repr=False, compare=False)
    timeout: float = 60.0
    allow_full_resync: bool = False
    patient_start: bool = False
    followed: bool = False
    keys: KeyFilter = field(default_factory=KeyFilter)
    commands: Mapping[int | None, CommandChoice] = field(default_factory=dict)
    conflict: Conflict = Conflict.OVERWRITE
    spool_folder: str | None = None
    spool_limit: int = SPOOL_LIMIT
    shard: Scope | None = None
    heartbeat_seconds: float = 0.0

    def __post_init__(self) -> None:
        check_name(self.name if self.shard is None else self.name.partition("@")[0])
        if self.databases is not None and (not self.databases or min(self.databases) < 0):
            raise UsageError("choose at least one database, by its number from 0 up; nothing was changed")
        strange = [
            number
            for number in self.commands
            if number is not None and number not in (self.databases or {number})
        ]
        if strange:
            raise UsageError(
                f"commands are chosen for database {strange[0]}, which itself is not chosen; nothing was changed"
            )
        if self.source.file and self.method is not Method.PSYNC:
            raise UsageError(
                f"{self.source} is a snapshot file, which is read as it is: leave out --method; nothing was changed"
            )
        if self.source.file and self.phases is not Phases.FULL:
            raise UsageError(
                f"{self.source} is a snapshot file, which no changes follow: choose the full phase alone (--phases full); "
                "nothing was changed"
            )
        if self.method is Method.SCAN and self.commands:
            raise UsageError(
                "a key scan carries values, not commands: commands cannot be chosen with it; nothing was changed"
            )
        if self.target.file:
            raise UsageError(f"{self.target}: a snapshot file cannot be the target; nothing was changed")
        if self.source == self.target:
            raise UsageError("source and target are the same address; nothing was changed")
        if self.heartbeat_seconds and not 0.1 <= self.heartbeat_seconds <= 3600:
            raise UsageError(
                f"a heartbeat every {self.heartbeat_seconds:g} s: give 0.1 to 3600 s, or 0 for none"
            )
        if not 0.1 <= self.timeout < float("inf"):
            raise UsageError(f"{self.timeout:g} s is no time-out: give at least 0.1 s")
        if self.spool_limit and self.spool_limit < SPOOL_LEAST:
            raise UsageError(
                f"a spool of {self.spool_limit} bytes is too small: give it {SPOOL_LEAST // 2**20} MB, or 0 for none"
            )
        if self.spool_limit and self.spool_folder is not None:
            _check_folder(self.spool_folder)


def _check_folder(folder: str) -> None:
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"{folder}: the folder of the spool does not exist or cannot be written; nothing was changed"
        )


@dataclass(frozen=True, slots=True)
class LinkResult:
    """How it ended and the counters at that moment."""

    outcome: Outcome
    progress: Progress
