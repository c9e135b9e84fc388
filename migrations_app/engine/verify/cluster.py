"""All masters of a cluster behind the interface of one client, for reading."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from migrations_app.engine import errors
from migrations_app.engine.client import Arg, Client, Command
from migrations_app.engine.kernel import split_commands
from migrations_app.engine.keys import slot
from migrations_app.engine.protocol.resp import Reply, ReplyError, encode, encode_many
from migrations_app.engine.target.slots import REDIRECTS, Address, SlotMap, redirected

_SECOND = frozenset({b"MEMORY", b"XINFO", b"OBJECT"})  # their key stands behind a subcommand
_EVERY = frozenset({b"DBSIZE"})  # the sum of all masters
_TRIES = 20


class ClusterClient(Client):
    """Begins with a client to any node, which it closes. Replies come in the order of the commands, whoever gives them."""

    def __init__(self, seed: Client) -> None:
        self.endpoint = seed.endpoint
        self.timeout = seed.timeout
        self._clients: dict[Address, Client] = {}
        self._asked: deque[tuple[list[bytes], list[Address]]] = deque()
        try:
            self._map = SlotMap.parse(seed.execute("CLUSTER", "SLOTS"), seed.endpoint.host)
        except ValueError as error:
            raise errors.ProtocolError(
                f"{seed.endpoint.address}: CLUSTER SLOTS cannot be read: {error}"
            ) from None
        finally:
            seed.close()
        if not self._map.complete:
            raise errors.ClusterNotReady(
                f"{self.endpoint.address}: the cluster does not serve all of its slots"
            )
        try:
            for address in self._map.masters:
                self._at(address)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    @property
    def received(self) -> int:
        return sum(client.received for client in self._clients.values())

    def execute(self, *args: Arg) -> Reply:
        self.send(encode(*args))
        (reply,) = self.receive(1)
        if isinstance(reply, ReplyError):
            raise self.error(reply, str(args[0]).upper())
        return reply

    def pipeline(self, commands: Iterable[Command]) -> list[Reply]:
        commands = list(commands)
        self.send(encode_many(commands))
        return self.receive(len(commands))

    def send(self, data: bytes) -> None:
        queues: dict[Address, list[bytes]] = {}
        for args in split_commands(data):
            addresses = self._places(args)
            self._asked.append((args, addresses))
            for address in addresses:
                queues.setdefault(address, []).append(encode(*args))
        for address, parts in queues.items():
            self._at(address).send(b"".join(parts))

    def receive(self, count: int) -> list[Reply]:
        replies: list[Reply] = []
        for _ in range(count):
            args, addresses = self._asked.popleft()
            got: list[Reply] = []
            for address in addresses:
                got += self._at(address).receive(1)
            replies.append(got[0] if len(got) == 1 else _sum(got))
            self._followed(replies, args, addresses[0])
        return replies

    def keyspace(self) -> dict[int, tuple[int, int]]:
        total = (0, 0)
        for address in self._map.masters:
            keys, expiring = self._at(address).keyspace().get(0, (0, 0))
            total = total[0] + keys, total[1] + expiring
        return {0: total} if total[0] else {}

    def info(self, *sections: str) -> dict[str, str]:
        """Of the first master; of the key space, the one whose line says most."""
        if sections != ("keyspace",):
            return self._at(self._map.masters[0]).info(*sections)
        lines = [self._at(address).info("keyspace") for address in self._map.masters]
        volatile = [line for line in lines if any(_fields_expire(value) for value in line.values())]
        return (volatile or [line for line in lines if line] or [{}])[0]

    def scan(self, pattern: bytes | str = b"", count: int = 1000) -> Iterator[list[bytes]]:
        for address in self._map.masters:
            yield from self._at(address).scan(pattern, count)

    def holder(self, key: bytes) -> Client:
        """The client of the master that holds the key, as far as is known."""
        address = self._map.of(slot(key))
        assert address is not None  # the map is complete
        return self._at(address)

    def _at(self, address: Address) -> Client:
        client = self._clients.get(address)
        if client is None:
            endpoint = replace(self.endpoint, host=address[0], port=address[1], unix_path="")
            client = self._clients[address] = Client(endpoint, timeout=self.timeout)
        return client

    def _places(self, args: list[bytes]) -> list[Address]:
        name = args[0].upper()
        if name in _EVERY or name == b"CLIENT":
            return self._map.masters
        key = args[2 if name in _SECOND else 1] if len(args) > 1 else b""
        address = self._map.of(slot(key)) if name != b"SELECT" else self._map.masters[0]
        assert address is not None
        return [address]

    def _followed(self, replies: list[Reply], args: list[bytes], asked: Address) -> None:
        """Where the last reply says that the key is at another node, ask there."""
        for _ in range(_TRIES):
            reply = replies[-1]
            if not isinstance(reply, ReplyError) or reply.code not in REDIRECTS:
                return
            place = redirected(reply, asked[0])
            if place is None:
                return
            number, address = place
            endpoint = replace(self.endpoint, host=address[0], port=address[1], unix_path="")
            with Client(endpoint, timeout=self.timeout) as client:
                # Over a connection of its own: on the others, answers to later commands are under way.
                replies[-1] = client.pipeline([("ASKING",), args])[1]
            if reply.code == "MOVED":
                self._map.moved(number, address)
            asked = address


def _sum(replies: list[Reply]) -> Reply:
    """Of numbers; of anything else the first error, or the first."""
    for reply in replies:
        if isinstance(reply, ReplyError):
            return reply
    numbers = [reply for reply in replies if isinstance(reply, int)]
    return sum(numbers) if len(numbers) == len(replies) else replies[0]


def _fields_expire(line: str) -> bool:
    counts = dict(part.split("=", 1) for part in line.split(",") if "=" in part)
    return any(counts.get(name, "0") != "0" for name in ("subexpiry", "keys_with_volatile_items"))
