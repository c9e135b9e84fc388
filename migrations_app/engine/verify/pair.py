"""Two connections that work at the same time: what is asked goes to both before the answers of either are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import EngineError, ProtocolError
from migrations_app.engine.facts import version_of
from migrations_app.engine.protocol.resp import Reply, ReplyError, encode
from migrations_app.engine.verify.cluster import ClusterClient

_PROBE = "switchyard:probe"
_PROBES: dict[str, tuple[str, ...]] = {
    "memory": ("MEMORY", "USAGE", _PROBE),
    "pexpiretime": ("PEXPIRETIME", _PROBE),
    "smismember": ("SMISMEMBER", _PROBE, "x"),
    "zmscore": ("ZMSCORE", _PROBE, "x"),
    "field_ttl": ("HPEXPIRETIME", _PROBE, "FIELDS", "1", "x"),
    "dump": ("DUMP", _PROBE),
}


class Changed(Exception):
    """The key became something else between two reads of one comparison (a writer, or it expired)."""


class Stopped(Exception):
    """The caller does not want the comparison any more."""


@dataclass(frozen=True, slots=True)
class Side:
    """One server: its connection, and what it can do.

    Abilities are found by trying the commands, not by the version: so a renamed command, or one that the user may not
    run, is worked around like one that the server does not have yet.
    """

    client: Client
    name: str  # source | target
    exact_entries_read: bool  # it replicates how many entries a stream's group has read
    cluster: bool
    memory: bool
    pexpiretime: bool
    smismember: bool
    zmscore: bool
    field_ttl: bool
    dump: bool

    @classmethod
    def of(cls, client: Client, name: str) -> Side:
        info = client.info("server", "cluster")
        # The name is for who looks at CLIENT LIST; a user who may not set it may compare all the same.
        _, *replies = client.pipeline([("CLIENT", "SETNAME", "switchyard-verify"), *_PROBES.values()])
        can = {
            ability: not isinstance(reply, ReplyError)
            for ability, reply in zip(_PROBES, replies, strict=True)
        }
        # Redis 7.0.15 and 7.2.4 do not: after XREADGROUP their own replicas differ. Redis 7.4 and Valkey 8.1 do.
        if "valkey_version" in info:
            exact = version_of(info["valkey_version"]) >= (8, 1)
        else:
            exact = version_of(info.get("redis_version", "")) >= (7, 4)
        return cls(client, name, exact, info.get("cluster_enabled") == "1", **can)

    def checked(self, reply: Reply, command: str) -> Reply:
        """The reply, unless it is an error: `Changed` when it tells that the key is another one now."""
        if isinstance(reply, ReplyError):
            if reply.code in {"WRONGTYPE", "NOGROUP"} or "no such key" in reply:
                raise Changed(str(reply))
            raise self.client.error(reply, command)
        return reply

    def unexpected(self, command: str) -> EngineError:
        return ProtocolError(f"{self.client.endpoint.address}: {command} answered something unexpected")

    def number(self, reply: Reply, command: str) -> int:
        if not isinstance(reply := self.checked(reply, command), int):
            raise self.unexpected(command)
        return reply

    def data(self, reply: Reply, command: str) -> bytes | None:
        if not isinstance(reply := self.checked(reply, command), bytes | None):
            raise self.unexpected(command)
        return reply

    def items(self, reply: Reply, command: str) -> list[Reply]:
        """An array; null, which some versions answer for a key that is gone, is `Changed`."""
        if (reply := self.checked(reply, command)) is None:
            raise Changed(command)
        if not isinstance(reply, list):
            raise self.unexpected(command)
        return reply

    def strings(self, reply: Reply, command: str) -> list[bytes]:
        items = self.items(reply, command)
        if not all(isinstance(item, bytes) for item in items):
            raise self.unexpected(command)
        return items  # type: ignore[return-value]

    def ask(self, *args: bytes | str | int) -> Reply:
        """One command to this side alone."""
        self.client.send(encode(*args))
        return self.client.receive(1)[0]


class Pair:
    """Source and target of one comparison. `tick` is called before each round trip and may raise `Stopped`."""

    def __init__(self, source: Side, target: Side, tick: Callable[[], None]) -> None:
        self.source = source
        self.target = target
        self.tick = tick

    def ask(
        self, source: bytes, target: bytes, source_count: int, target_count: int
    ) -> tuple[list[Reply], list[Reply]]:
        """Send encoded commands to each side, then read the replies of each."""
        self.tick()
        self.source.client.send(source)
        self.target.client.send(target)
        return self.source.client.receive(source_count), self.target.client.receive(target_count)

    def both(self, *args: bytes | str | int) -> tuple[Reply, Reply]:
        """The same command to both sides."""
        command = encode(*args)
        source, target = self.ask(command, command, 1, 1)
        return source[0], target[0]

    def swapped(self) -> Pair:
        """The same two sides, walked from the target's."""
        return Pair(self.target, self.source, self.tick)

    def numbers(self, *args: bytes | str | int) -> tuple[int, int]:
        source, target = self.both(*args)
        name = str(args[0])
        return self.source.number(source, name), self.target.number(target, name)

    def lists(self, *args: bytes | str | int) -> tuple[list[Reply], list[Reply]]:
        source, target = self.both(*args)
        name = str(args[0])
        return self.source.items(source, name), self.target.items(target, name)

    def select(self, database: int) -> None:
        source, target = self.both("SELECT", database)
        self.source.checked(source, f"SELECT {database}")
        self.target.checked(target, f"SELECT {database}")


def connect(source: Endpoint, target: Endpoint, timeout: float, tick: Callable[[], None]) -> Pair:
    """Open both sides; the caller closes them with `close`."""
    first = _open(source, timeout)
    try:
        second = _open(target, timeout)
    except BaseException:
        first.close()
        raise
    try:
        return Pair(Side.of(first, "source"), Side.of(second, "target"), tick)
    except BaseException:
        first.close()
        second.close()
        raise


def _open(endpoint: Endpoint, timeout: float) -> Client:
    """A client, or what looks like one where the endpoint is a node of a cluster."""
    client = Client(endpoint, timeout=timeout)
    try:
        if client.info("cluster").get("cluster_enabled") == "1":
            return ClusterClient(client)
    except BaseException:
        client.close()
        raise
    return client


def close(pair: Pair) -> None:
    pair.source.client.close()
    pair.target.client.close()
