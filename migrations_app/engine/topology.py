"""Which master of a cluster serves which slots, as one node sees it. Source of the format: CLUSTER SLOTS, of the Redis documentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from migrations_app.engine import errors
from migrations_app.engine.endpoint import Address, shown_address

if TYPE_CHECKING:
    from migrations_app.engine.client import Client

SLOTS: Final = 16384
Ranges = tuple[tuple[int, int], ...]  # (first, last) in ascending order, not adjacent


@dataclass(frozen=True, slots=True)
class Node:
    """`id` is empty where the server does not tell it (before 4.0)."""

    id: str
    host: str
    port: int

    @property
    def address(self) -> Address:
        return self.host, self.port

    def __str__(self) -> str:
        return shown_address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Shard:
    """A master, the slots that it serves, and its replicas."""

    master: Node
    ranges: Ranges
    replicas: tuple[Node, ...] = ()

    @property
    def first(self) -> int:
        return self.ranges[0][0]


@dataclass(frozen=True, slots=True)
class Topology:
    """`shards` are the masters that serve slots, by their first slot."""

    shards: tuple[Shard, ...]

    @classmethod
    def of(cls, client: Client) -> Topology:
        """Ask a node (CLUSTER SLOTS)."""
        reply = client.execute("CLUSTER", "SLOTS")
        served: dict[Node, list[tuple[int, int]]] = {}
        replicas: dict[Node, tuple[Node, ...]] = {}
        try:
            for first, last, *nodes in reply:  # type: ignore[union-attr, misc, str-unpack]
                master, *others = (_node(node, client.endpoint.host) for node in nodes)
                served.setdefault(master, []).append((int(first), int(last)))  # type: ignore[arg-type]
                replicas[master] = tuple(others)
        except (TypeError, ValueError, IndexError, AttributeError):
            raise errors.ProtocolError(
                f"{client.endpoint.address}: CLUSTER SLOTS did not answer with a map of slots"
            ) from None
        shards = (Shard(master, joined(ranges), replicas[master]) for master, ranges in served.items())
        return cls(tuple(sorted(shards, key=lambda shard: shard.first)))

    def owner(self, slot: int) -> Node | None:
        """The master that serves a slot."""
        for shard in self.shards:
            if any(first <= slot <= last for first, last in shard.ranges):
                return shard.master
        return None

    @property
    def missing(self) -> Ranges:
        """The slots that nobody serves."""
        found, expected = [], 0
        for first, last in sorted(one for shard in self.shards for one in shard.ranges):
            if first > expected:
                found.append((expected, first - 1))
            expected = last + 1
        if expected < SLOTS:
            found.append((expected, SLOTS - 1))
        return tuple(found)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Of all nodes, masters first."""
        masters = [shard.master.address for shard in self.shards]
        return tuple(
            dict.fromkeys([*masters, *(node.address for shard in self.shards for node in shard.replicas)])
        )


def joined(ranges: list[tuple[int, int]]) -> Ranges:
    """Ranges in order, adjacent ones as one."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return tuple(result)


def as_text(ranges: Ranges) -> str:
    """`0-5460,5462,…`, as redis-cli writes it."""
    return ",".join(f"{first}-{last}" if first != last else str(first) for first, last in ranges)


def _node(fields: object, asked: str) -> Node:
    """A node of CLUSTER SLOTS. It leaves its address out where it does not know it: it is the one that was asked."""
    if not isinstance(fields, list):
        raise TypeError
    host, port, *more = fields
    name = host.decode() if host else ""
    identifier = more[0].decode() if more else ""
    return Node(identifier, asked if name in {"", "?"} else name, int(port))
