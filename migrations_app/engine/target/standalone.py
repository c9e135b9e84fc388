"""A standalone server as target: taking it over, and what it can do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from migrations_app.engine import errors
from migrations_app.engine.checkpoint import (
    OWN_PREFIX,
    Checkpoint,
    checkpoint_key,
    client_name,
    client_prefix,
    deferred_key,
    kept_key,
    repair_key,
    scripts_key,
    staged_key,
    written_key,
)
from migrations_app.engine.client import Client, Command
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.protocol.resp import Reply, ReplyError
from migrations_app.engine.target.base import names_of_stream

_NOTES = (deferred_key, repair_key, written_key, kept_key, staged_key)  # of an earlier full phase
_READ_AT_ONCE = 256 * 1024


class StandaloneTarget:
    """Owns the connection of one link to its target, from the takeover on."""

    def __init__(self, client: Client, facts: ServerFacts, link: str, epoch: int | None) -> None:
        self.link = link
        self.key = checkpoint_key(link)
        self.client = client
        self.endpoint = client.endpoint
        self.facts = facts
        if not facts.master and self.endpoint.lookup is not None:
            raise errors.TargetDemoted(
                f"{self.endpoint.address}: the target has just become a replica; nothing was written"
            )
        if not facts.master:
            raise errors.TargetReadOnly(
                f"{client.endpoint.address}: the target is a replica; nothing was written"
            )
        self.checkpoint = self._claim(epoch)

    def close(self) -> None:
        self.client.close()

    def _claim(self, epoch: int | None) -> Checkpoint:
        """Become the one writer: store the epoch, close the connections of earlier owners, then read how far they came.

        The order matters. What an earlier owner has sent and the target has not read yet dies with its connection, so the
        checkpoint is read after that; and an owner that connects later reads the newer epoch before its first write.
        """
        client = self.client
        while True:
            client.execute("WATCH", self.key)
            stored = self._read()
            mine = stored.epoch + 1 if epoch is None else epoch
            if stored.epoch > mine:
                raise errors.Fenced(
                    f"{client.endpoint.address}: link {self.link} belongs to a newer owner (epoch {stored.epoch}, this one {mine})"
                )
            write = replace(stored, epoch=mine).command(self.link)
            replies = client.pipeline(
                [("CLIENT", "SETNAME", client_name(self.link, mine)), ("MULTI",), write, ("EXEC",)]
            )
            for reply in replies:
                if isinstance(reply, ReplyError) and reply.code != "EXECABORT":
                    raise client.error(reply, "HMSET")
            if replies[-1] is not None:  # null: somebody else wrote the checkpoint meanwhile
                break
        kill_earlier(client, self.link, self.facts.version)
        return self._read()

    def _read(self) -> Checkpoint:
        reply = self.client.execute("HGETALL", self.key)
        if not isinstance(reply, list):
            raise errors.ProtocolError(f"{self.client.endpoint.address}: HGETALL did not answer with a list")
        return Checkpoint.read(dict(zip(reply[::2], reply[1::2], strict=True)))  # type: ignore[arg-type]

    def stamp(self) -> int:
        """The version number of the DUMP payloads that this server writes: the newest that it accepts."""
        return stamp_of(self.client, self.key)

    def has_modules(self) -> bool:
        """Whether modules are loaded that may hold values; also where the server does not say."""
        return has_modules(self.client)

    def stored_scripts(self) -> dict[bytes, bytes]:
        """What is kept under `scripts_key`: digest → code."""
        reply = self.client.execute("HGETALL", scripts_key(self.link))
        items = reply if isinstance(reply, list) else []
        return dict(zip(items[::2], items[1::2], strict=True))  # type: ignore[arg-type]

    def knows_script(self, digest: bytes) -> bool:
        """Whether EVALSHA would find it. Asked over a connection of its own."""
        with Client(self.client.endpoint, timeout=5.0) as client:
            return client.execute("SCRIPT", "EXISTS", digest) == [1]

    def has_databases(self, databases: frozenset[int]) -> None:
        """Raise when the target lacks one of them."""
        lacking = [
            database
            for database, reply in zip(
                sorted(databases),
                self.client.pipeline([("SELECT", database) for database in sorted(databases)]),
                strict=True,
            )
            if isinstance(reply, ReplyError)
        ]
        self.client.execute("SELECT", 0)
        if lacking:
            raise errors.UsageError(
                f"{self.client.endpoint.address}: the target has no database {lacking[0]}",
                advice="Raise `databases` on the target, or choose databases that it has. Nothing was written.",
            )

    def keyspace(self) -> dict[int, tuple[int, int]]:
        """Database → (keys, of these with expiry), the product's own among them."""
        return self.client.keyspace()

    def names(self, database: int) -> Iterator[list[bytes]]:
        """All keys of a database, in pages; a key may come more than once."""
        self.client.execute("SELECT", database)
        yield from self.client.scan()
        self.client.execute("SELECT", 0)

    def existing(self, database: int, names: list[bytes]) -> list[bytes]:
        """Those of the names that are keys there."""
        self.client.execute("SELECT", database)
        replies = self.client.pipeline([("EXISTS", name) for name in names])
        self.client.execute("SELECT", 0)
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise self.client.error(reply, "EXISTS")
        return [name for name, reply in zip(names, replies, strict=True) if reply]

    def load_script(self, script: bytes) -> bytes:
        """Make a script known; its digest, for EVALSHA."""
        digest = self.client.execute("SCRIPT", "LOAD", script)
        if not isinstance(digest, bytes):
            raise errors.ProtocolError(f"{self.client.endpoint.address}: SCRIPT LOAD gave no digest")
        return digest

    def occupied(self) -> frozenset[int]:
        """Databases that hold keys other than the product's own."""
        result = set()
        for database in self.client.keyspace():
            self.client.execute("SELECT", database)
            if any(not key.startswith(OWN_PREFIX) for page in self.client.scan() for key in page):
                result.add(database)
        self.client.execute("SELECT", 0)
        return frozenset(result)

    def other_links(self) -> list[bytes]:
        """Checkpoints of other links in this target."""
        pattern = OWN_PREFIX + b"checkpoint:*"
        return [key for page in self.client.scan(pattern) for key in page if key != self.key]

    def start_over(
        self,
        clear: list[int],
        command: list[bytes],
        marker: list[bytes] | None = None,
        *,
        forget_written: bool = True,
    ) -> None:
        """Begin a full phase: forget what an earlier one has noted, empty the databases `clear`, store the checkpoint.

        `marker` is for an opposite link: it stands in front of what it must leave out, and of the checkpoint.
        """
        notes = [name(self.link) for name in _NOTES if forget_written or name is not written_key]
        commands: list[list[bytes]] = []
        for database in self.client.keyspace():
            commands += [[b"SELECT", b"%d" % database], [b"DEL", *notes]]
        self.run([*commands, [b"SELECT", b"0"], [b"DEL", scripts_key(self.link)]])
        flush = [b"FLUSHDB", b"ASYNC"] if self.facts.version >= (4,) else [b"FLUSHDB"]
        commands = begin = [] if marker is None else [marker]
        for database in clear:
            commands = [*commands, [b"SELECT", b"%d" % database], flush]
        self.run([*commands, [b"SELECT", b"0"], *begin, command])

    def widening(self) -> list[bytes]:
        """The command to send in front of much: it has the server read this connection in large pieces.

        A server reads 16 KB at a time, and for each piece waits, writes answers and wakes this side: a tenth of what small keys cost it.
        Behind an argument that is longer it keeps its buffer as large as that was, while it is used (`processMultibulkBuffer` and
        `clientsCronResizeQueryBuffer` of Redis). This one asks for a key that is not there.
        """
        return [b"DUMP", (OWN_PREFIX + b"room:").ljust(_READ_AT_ONCE, b".")]

    def notice(self, command: list[bytes]) -> None:
        """A command on one key of the product."""
        self.at_keys([command])

    def run(self, commands: list[list[bytes]], *, marker: list[bytes] | None = None) -> None:
        """Commands in one MULTI/EXEC, each checked; they begin in database 0, whatever was selected before."""
        commands = [[b"SELECT", b"0"], *([] if marker is None else [marker]), *commands]
        replies = self.client.pipeline([[b"MULTI"], *commands, [b"EXEC"]])
        for command, reply in zip([[b"MULTI"], *commands], replies, strict=False):
            if isinstance(reply, ReplyError):
                raise self.client.error(reply, command[0].decode())
        results = replies[-1]
        if not isinstance(results, list):
            raise errors.TargetError(
                f"{self.client.endpoint.address}: the transaction was not applied: {results!r}"
            )
        for command, result in zip(commands, results, strict=True):
            if isinstance(result, ReplyError):
                raise self.client.error(result, command[0].decode())

    def at_keys(self, commands: Sequence[Command], *, beside: bool = False) -> list[Reply]:
        """Commands on the product's own keys in database 0, each checked."""
        with self._beside() if beside else contextlib.nullcontext(self.client) as client:
            replies = client.pipeline([("SELECT", 0), *commands])[1:]
            for command, reply in zip(commands, replies, strict=True):
                if isinstance(reply, ReplyError):
                    raise client.error(reply, _name_of(command))
        return replies

    def stream_names(self, *, beside: bool = False) -> frozenset[bytes]:
        """What the stream of this server is called."""
        with self._beside() if beside else contextlib.nullcontext(self.client) as client:
            return names_of_stream(client)

    def _beside(self) -> Client:
        """Named like all connections of the link that write: a newer owner closes it."""
        return Client(self.endpoint, timeout=self.client.timeout, name=client_prefix(self.link))

    def secure(self) -> list[str]:
        """What one server has confirmed is there."""
        return []

    def mark_fault(self, message: str) -> None:
        """Note in the checkpoint, over a connection of its own, why the data cannot be trusted."""
        with Client(self.client.endpoint, timeout=5.0) as client:
            client.execute("HSET", self.key, "fault", message)


def _name_of(command: Command) -> str:
    return command[0].decode() if isinstance(command[0], bytes) else str(command[0])


def kill_earlier(client: Client, link: str, version: tuple[int, ...]) -> None:
    """Close all other connections of the link at the server of this one."""
    # CLIENT ID is known from 5.0 on; before, the address of this end tells the connections apart.
    by_id = version >= (5,)
    own = str(client.execute("CLIENT", "ID")) if by_id else client.connection.local_address
    listing = client.execute("CLIENT", "LIST")
    for line in (listing if isinstance(listing, bytes) else b"").decode("utf-8", "replace").splitlines():
        fields = dict(part.split("=", 1) for part in line.split(" ") if "=" in part)
        ours = fields.get("id" if by_id else "addr") == own
        if fields.get("name", "").startswith(client_prefix(link)) and not ours:
            (reply,) = client.pipeline([("CLIENT", "KILL", "ID", fields["id"])])
            if isinstance(reply, ReplyError) and reply.code == "NOPERM":
                raise client.error(reply, "CLIENT KILL")  # any other error: it has gone by itself


def has_modules(client: Client) -> bool:
    """Whether a server has modules loaded that may hold values; also where it does not say."""
    (reply,) = client.pipeline([("MODULE", "LIST")])
    if isinstance(reply, ReplyError):
        return reply.code == "NOPERM"
    return any(isinstance(module, list) and b"lua" not in module for module in reply or ())  # type: ignore[union-attr]


def stamp_of(client: Client, key: bytes) -> int:
    """The version number of the DUMP payloads that a server writes; `key` is one that it has."""
    payload = client.execute("DUMP", key)
    if not isinstance(payload, bytes) or len(payload) < 10:
        raise errors.ProtocolError(f"{client.endpoint.address}: DUMP of the checkpoint gave no payload")
    return int.from_bytes(payload[-10:-8], "little")
