"""What a link needs of its target, whether that is one server or the masters of a cluster."""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from migrations_app.engine.checkpoint import Checkpoint
from migrations_app.engine.client import Client, Command
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.protocol.resp import Reply
from migrations_app.engine.target.pipeline import Group


class Target(Protocol):
    """Taken over for one link; `close` it."""

    key: bytes  # of the checkpoint
    endpoint: Endpoint  # with the address that was found, where it is looked up
    facts: ServerFacts
    checkpoint: Checkpoint  # as it was when the target was taken over

    def close(self) -> None: ...

    def widening(self) -> list[bytes]:
        """A command to send first where much follows, if one speeds that up."""

    def stamp(self) -> int:
        """The version number of the DUMP payloads that it writes: the newest that it accepts."""

    def has_modules(self) -> bool:
        """Whether modules are loaded that may hold values; also where the server does not say."""

    def stored_scripts(self) -> dict[bytes, bytes]:
        """What is kept under `scripts_key`: digest → code."""

    def knows_script(self, digest: bytes) -> bool:
        """Whether EVALSHA would find it. Asked over a connection of its own."""

    def has_databases(self, databases: frozenset[int]) -> None:
        """Raise when it lacks one of them."""

    def keyspace(self) -> dict[int, tuple[int, int]]:
        """Database → (keys, of these with expiry), the product's own among them."""

    def names(self, database: int) -> Iterator[list[bytes]]:
        """All keys of a database, in pages; a key may come more than once."""

    def existing(self, database: int, names: list[bytes]) -> list[bytes]:
        """Those of the names that are keys there."""

    def occupied(self) -> frozenset[int]:
        """Databases that hold keys other than the product's own."""

    def other_links(self) -> list[bytes]:
        """Checkpoints of other links in it."""

    def start_over(
        self,
        clear: list[int],
        command: list[bytes],
        marker: list[bytes] | None = None,
        *,
        forget_written: bool = True,
    ) -> None:
        """Begin a full phase: forget what an earlier one has noted, empty the databases `clear`, store the checkpoint.

        `forget_written`: also which keys are the link's own, among those of others (`keeping.py`).
        """

    def run(self, commands: list[list[bytes]], *, marker: list[bytes] | None = None) -> None:
        """Commands on the checkpoint alone, in one transaction, each checked. Only while the pipeline is idle.

        `marker` begins it, for an opposite link (`loop.py`).
        """

    def notice(self, command: list[bytes]) -> None:
        """A command on one key of the product; in a cluster one at each master, with the key in the form of a slot there."""

    def at_keys(self, commands: Sequence[Command], *, beside: bool = False) -> list[Reply]:
        """Commands that each concern one key of the product in database 0, wherever that is; an error is raised. Only while the pipeline is
        idle, or `beside` it over other connections."""

    def stream_names(self, *, beside: bool = False) -> frozenset[bytes]:
        """Replication IDs and run IDs of the servers that it consists of, as they are now. `beside`: as above."""

    def secure(self) -> list[str]:
        """Wait until the replicas of a cluster's masters have what was written; the addresses of masters whose replicas have not."""

    def mark_fault(self, message: str) -> None:
        """Note in the checkpoint, over a connection of its own, why the data cannot be trusted."""


class TargetPipeline(Protocol):
    """What is queued belongs to a group; a group is complete when all of it is confirmed. Groups complete in order."""

    @property
    def unsent(self) -> int:
        """Bytes that wait here."""

    @property
    def waiting_since(self) -> float | None:
        """When the oldest unanswered command began to wait (monotonic)."""

    @property
    def sent(self) -> int:
        """Bytes, since the attempt began."""

    @property
    def idle(self) -> bool:
        """Whether everything is confirmed."""

    def open(self, mark: Any, *, transaction: bool = False) -> Group: ...

    def add(self, group: Group, data: bytes, replies: int) -> None: ...

    def close(self, group: Group) -> None: ...

    def register(self, poller: select.poll) -> None:
        """Ask the poller for what is waited for now."""

    def ready(self, events: dict[int, int]) -> list[Any]:
        """Take what came with these events (file descriptor → events); the marks of the groups that are complete now."""

    def completed(self) -> list[Any]:
        """The marks of the groups that are complete now, in order; they are forgotten."""

    def write(self) -> None:
        """Send what goes without waiting."""


def names_of_stream(client: Client) -> frozenset[bytes]:
    """What a server's stream is called: its replication IDs, and for servers before 4.0 the run ID."""
    info = client.info("server", "replication")
    given = {info.get(name, "").encode() for name in ("run_id", "master_replid", "master_replid2")}
    return frozenset(name for name in given if name.strip(b"0"))
