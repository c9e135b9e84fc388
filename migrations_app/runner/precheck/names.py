"""The names of both sides: full, streamed, in bounded memory, and not faster than the servers bear."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from dataclasses import replace
from typing import Final

from migrations_app.engine import conflict
from migrations_app.engine.checkpoint import OWN_PREFIX
from migrations_app.engine.conflict import Found
from migrations_app.engine.errors import ClusterNotReady
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.filter import Filter
from migrations_app.engine.keys import slot
from migrations_app.engine.protocol.resp import ReplyError
from migrations_app.engine.topology import Topology
from migrations_app.runner.precheck.context import CLIENT_NAME, Context, Node, Side
from migrations_app.runner.precheck.settings import link_config

PAUSE: Final = (
    0.01  # seconds after a page of a thousand names: some 50,000 a second, the servers' own time counted
)


class TargetNames:
    """A target that is only looked at (engine.conflict.Names)."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._owners: list[tuple[int, int, Node]] = []
        if side.is_cluster:
            by_address = {node.address: node for node in side.nodes}
            self._owners = [
                (first, last, by_address[str(shard.master)])
                for shard in Topology.of(side.node.client).shards
                for first, last in shard.ranges
                if str(shard.master) in by_address
            ]

    @property
    def facts(self) -> ServerFacts:
        return self._side.node.facts

    def keyspace(self) -> dict[int, tuple[int, int]]:
        return self._side.keyspace

    def names(self, database: int) -> Generator[list[bytes], None, None]:
        for node in self._side.nodes:
            self._select(node, database)
            try:
                yield from node.client.scan()
            finally:
                self._select(node, 0)

    def _select(self, node: Node, database: int) -> None:
        if not self._owners:
            node.client.execute("SELECT", database)

    def existing(self, database: int, names: list[bytes]) -> list[bytes]:
        found: list[bytes] = []
        for node, some in self._by_owner(names):
            self._select(node, database)
            replies = node.client.pipeline([("EXISTS", name) for name in some])
            self._select(node, 0)
            for name, reply in zip(some, replies, strict=True):
                if isinstance(reply, ReplyError):
                    raise node.client.error(reply, "EXISTS")
                if reply:
                    found.append(name)
        return found

    def _by_owner(self, names: list[bytes]) -> list[tuple[Node, list[bytes]]]:
        if not self._owners:
            return [(self._side.node, names)]
        parts: dict[str, tuple[Node, list[bytes]]] = {}
        for name in names:
            node = self._owner(slot(name))
            parts.setdefault(node.address, (node, []))[1].append(name)
        return list(parts.values())

    def _owner(self, number: int) -> Node:
        for first, last, node in self._owners:
            if first <= number <= last:
                return node
        raise ClusterNotReady(f"no node of the target cluster serves slot {number}")

    def occupied(self) -> frozenset[int]:
        return frozenset(database for database in self._side.keyspace if _others(self, database))


def held(ctx: Context) -> dict[int, int]:
    """Database → keys, of the databases of the task in which the target has keys that are not the product's own."""
    target = TargetNames(ctx.target)
    return {
        number: keys
        for number, (keys, _) in sorted(target.keyspace().items())
        if ctx.wants(number) and _others(target, number)
    }


def _others(target: TargetNames, database: int) -> bool:
    with contextlib.closing(target.names(database)) as pages:
        return any(not name.startswith(OWN_PREFIX) for page in pages for name in page)


def both(ctx: Context) -> Found:
    """The names that are on both sides. Raises Cancelled when the precheck is to end."""
    config = link_config(ctx)
    chosen = Filter(config.databases)
    target = TargetNames(ctx.target)
    pages = 0

    def tick() -> bool:
        nonlocal pages
        pages += 1
        ctx.tick(f"{pages:,} {'MiB of the file read' if ctx.source.is_file else 'thousand names looked at'}")
        time.sleep(PAUSE)
        return True

    if ctx.source.is_file:
        return conflict.same_names(config, target, chosen, ctx.source.endpoint, CLIENT_NAME, tick)
    total = Found()
    for node in ctx.source.nodes:
        at = replace(node.client.endpoint, lookup=None)
        found = conflict.same_names(config, target, chosen, at, CLIENT_NAME, tick)
        total.count += found.count
        total.first = [*total.first, *found.first][:10]
    return total
