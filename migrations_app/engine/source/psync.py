"""A source that is read as a replica reads it: login, REPLCONF, PSYNC, acknowledgements."""

from __future__ import annotations

from migrations_app.engine import errors
from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.net import Connection
from migrations_app.engine.protocol.psync import PsyncDecoder, acknowledge, psync, refused
from migrations_app.engine.protocol.resp import ReplyError
from migrations_app.engine.shards import layout
from migrations_app.engine.shards.layout import Scope


class PsyncSource:
    """The replication connection. `connection` is to be polled; what is read from it goes through `decoder`."""

    follows = True
    resumes = True
    pushes = True
    limits = ""

    def __init__(self, endpoint: Endpoint, name: str, timeout: float, shard: Scope | None = None) -> None:
        client = Client(endpoint, timeout=timeout, name=name)
        self.endpoint = client.endpoint
        self.connection: Connection = client.connection
        self.decoder = PsyncDecoder()
        self._client = client
        self._unsent = b""
        try:
            self.facts = ServerFacts.of(client)
            check(self.facts, endpoint.address, shard)
            if shard is not None:
                layout.check(client, shard.layout)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.connection.close()

    def keyspace(self) -> dict[int, tuple[int, int]]:
        """Database → (keys, of these with expiry). Only before `start`."""
        return self._client.keyspace()

    def replication(self) -> dict[str, str]:
        """INFO replication and stats: identifiers, offset, backlog, counters. Only before `start`."""
        return self._client.info("replication", "stats")

    def start(self, replication_id: str, offset: int) -> None:
        """Ask for what follows byte `offset`; ("?", -1) asks for everything."""
        options: list[tuple[str, ...]] = [("REPLCONF", "capa", "eof", "capa", "psync2")]
        if self.facts.valkey_version:
            # Valkey writes the snapshot in the format of the version that the replica names, or in that of 7.2, which fails
            # at the first value that 7.2 does not know.
            options.append(("REPLCONF", "version", self.facts.valkey_version))
        for reply in self._client.pipeline(options):
            # Servers that do not know a capability say so; that is no reason to stop.
            if isinstance(reply, ReplyError) and "Unrecognized" not in reply:
                raise refused(f"REPLCONF: {reply}")
        self.connection.send_all(psync(replication_id, offset), self._client.timeout)

    def acknowledge(self, offset: int) -> None:
        """Tell the source how far the target is. Never waits."""
        if not self._unsent:
            self._unsent = acknowledge(offset)
        self._unsent = self._unsent[self.connection.send(self._unsent) :]


def check(facts: ServerFacts, address: str, shard: Scope | None = None) -> None:
    """Raise for a source that cannot be read (just now). A node of a cluster is read for the `shard` that it serves."""
    if facts.loading:
        raise errors.ServerLoading(f"{address}: the source is loading its data")
    if facts.cluster and shard is None:
        raise errors.SourceIsCluster(
            f"{address}: the source is a node of a cluster, which holds a part of the data"
        )
    if facts.version < (3,):
        raise errors.UnsupportedData(
            f"{address}: the source has version {'.'.join(map(str, facts.version))}; 3.0 is the oldest that is served",
            advice="Upgrade the source to 3.0 or later.",
        )
