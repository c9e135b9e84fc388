"""Real Redis and Valkey clusters for tests: some masters, optionally with replicas, made by commands alone."""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from .ports import LOOPBACK, free_port
from .servers import Server, Value
from .wait import wait_for

SLOTS = 16384
_BUS = 10_000  # the port of the cluster bus is this much above the port for clients


def slot_of(key: bytes | str) -> int:
    """The slot of a key: of what stands in its first braces, where something does."""
    key = key.encode() if isinstance(key, str) else key
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    return binascii.crc_hqx(key[start + 1 : end] if end > start + 1 else key, 0) % SLOTS


class Cluster:
    """`masters` servers that share the slots evenly, each with `replicas` replicas.

        with Cluster("redis-7.0", masters=3) as cluster:
            cluster.set("a", 1)

    `config` goes to every node. `nodes` are the servers, masters first; node `masters + n` replicates node `n % masters`.
    Who is a master may change later: `holder(slot)` asks.
    """

    def __init__(
        self,
        version: str = "redis-7.0",
        *,
        masters: int = 3,
        replicas: int = 0,
        config: Mapping[str, Value | list[Value]] | None = None,
        node_timeout_ms: int = 2000,
        **options: Any,
    ) -> None:
        self.masters = masters
        self.node_timeout_ms = node_timeout_ms
        given: dict[str, Value | list[Value]] = {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": node_timeout_ms,
            "cluster-announce-ip": LOOPBACK,
            "cluster-require-full-coverage": "yes",
            "repl-diskless-sync": "yes",
            "repl-diskless-sync-delay": 0,
            "repl-ping-slave-period": 1,
            "hz": 50,
        }
        self.nodes: list[Server] = []
        for _ in range(masters * (1 + replicas)):
            server = Server(version, config=given | dict(config or {}), port=free_port(above=_BUS), **options)
            if server.product == "redis" and server.version < (4,):
                del server.config["cluster-announce-ip"]
            self.nodes.append(server)

    # --- Life ---------------------------------------------------------------------------------------------------------

    def start(self, timeout: float = 40) -> Cluster:
        """Starts the servers, gives them their slots, and waits until every node agrees that the cluster is well."""
        try:
            for node in self.nodes:
                node.start(timeout)
            self._form(timeout)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Ends all nodes, by process. Can be called twice."""
        for node in self.nodes:
            node.close()

    def __enter__(self) -> Cluster:
        return self if self.nodes[0].running else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _form(self, timeout: float) -> None:
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if number < self.masters:
                    chosen = range(SLOTS * number // self.masters, SLOTS * (number + 1) // self.masters)
                    client.execute_command("CLUSTER", "ADDSLOTS", *chosen)
        for node in self.nodes[1:]:
            with first.client() as client:
                client.execute_command("CLUSTER", "MEET", node.host, node.port)
        wait_for(self._met, timeout, "the nodes do not find one another")
        for number, node in enumerate(self.nodes[self.masters :]):
            with node.client() as client:
                client.execute_command(
                    "CLUSTER", "REPLICATE", self.node_id(self.nodes[number % self.masters])
                )
        self.wait_well(timeout)

    def _met(self) -> bool:
        return all(len(self._table(node)) == len(self.nodes) for node in self.nodes)

    def wait_well(self, timeout: float = 40) -> None:
        """Until every running node says so, and every replica follows its master."""
        wait_for(
            self._well,
            timeout,
            lambda: f"the cluster is not well: {[self.state(node) for node in self.running]}",
        )

    def _well(self) -> bool:
        maps = [self._map(node) for node in self.running]
        for node in self.running:
            state, info = self.state(node), node.info("replication")
            if state["cluster_state"] != "ok" or int(state["cluster_slots_ok"]) != SLOTS:
                return False
            if info["role"] == "slave":
                if info["master_link_status"] != "up":
                    return False
            elif node.port not in {port for _, _, port in maps[0]}:
                return False  # it is to become a replica
        # Slots that are moved while a node does not know the newest epoch of another can end up with two owners.
        return all(found == maps[0] for found in maps) and len({*map(self._epochs, self.running)}) == 1

    # --- What is known of it ------------------------------------------------------------------------------------------

    @property
    def running(self) -> list[Server]:
        return [node for node in self.nodes if node.running]

    @property
    def version(self) -> tuple[int, ...]:
        return self.nodes[0].version

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def state(self, node: Server) -> dict[str, str]:
        """CLUSTER INFO of a node."""
        with node.client() as client:
            text = _text(client.execute_command("CLUSTER", "INFO"))
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def node_id(self, node: Server) -> str:
        with node.client() as client:
            return _text(client.execute_command("CLUSTER", "MYID"))

    def holder(self, slot: int) -> Server:
        """The master that serves a slot."""
        for first, last, port in self._map(self.running[0]):
            if first <= slot <= last:
                return next(server for server in self.nodes if server.port == port)
        raise AssertionError(f"nobody serves slot {slot}")

    def holders(self) -> list[Server]:
        """The running masters that serve slots."""
        ports = {port for _, _, port in self._map(self.running[0])}
        return [server for server in self.nodes if server.port in ports and server.running]

    def _map(self, node: Server) -> list[tuple[int, int, int]]:
        """(first slot, last slot, port of the master), as one node sees it."""
        with node.client() as client:
            reply = client.execute_command("CLUSTER", "SLOTS")
        return sorted((entry[0], entry[1], entry[2][1]) for entry in reply)

    def _epochs(self, node: Server) -> frozenset[tuple[str, str]]:
        """(node, configuration epoch) as this node knows them."""
        return frozenset((line.split()[0], line.split()[6]) for line in self._table(node))

    def _table(self, node: Server) -> list[str]:
        """The lines of CLUSTER NODES whose nodes are known and reached."""
        with node.client() as client:
            lines = _text(client.execute_command("CLUSTER", "NODES")).splitlines()
        return [line for line in lines if "handshake" not in line and " disconnected" not in line]

    # --- What is done to it -------------------------------------------------------------------------------------------

    def execute(self, key: bytes | str, *command: Any) -> Any:
        """A command at the master that serves the slot of the key."""
        with self.holder(slot_of(key)).client() as client:
            return client.execute_command(*command)

    def get(self, key: str) -> Any:
        return self.execute(key, "GET", key)

    def set(self, key: str, value: Any) -> None:
        self.execute(key, "SET", key, value)

    def keys(self) -> int:
        """Of all masters."""
        total = 0
        for node in self.holders():
            with node.client() as client:
                total += int(client.dbsize())
        return total

    def empty(self) -> Cluster:
        """All masters without keys and without clients but this one."""
        self.wait_well()
        for node in self.holders():
            with node.client() as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                client.flushall()
        return self

    def open_move(self, slot: int, to: Server) -> Server:
        """Begin to move a slot: keys that are not there any more are asked for at the other node. → who still serves it."""
        source = self.holder(slot)
        with to.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.node_id(source))
        with source.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.node_id(to))
        return source

    def move_keys(self, slot: int, source: Server, to: Server, most: int | None = None) -> int:
        """Up to `most` keys of a slot that is being moved go over; how many."""
        moved = 0
        with source.client() as client:
            while most is None or moved < most:
                keys = client.execute_command(
                    "CLUSTER", "GETKEYSINSLOT", slot, min(100, 100 if most is None else most - moved)
                )
                if not keys:
                    break
                client.execute_command("MIGRATE", to.host, to.port, "", 0, 10_000, *_auth(to), "KEYS", *keys)
                moved += len(keys)
        return moved

    def close_move(self, slot: int, source: Server, to: Server) -> None:
        """The slot belongs to the other node now."""
        identifier = self.node_id(to)
        for node in [to, source, *(node for node in self.holders() if node not in (to, source))]:
            with node.client() as client:
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", identifier)

    def move(self, slots: Sequence[int], to: Server) -> None:
        """Slots with all their keys, one after the other, as a rebalancing does it."""
        for slot in slots:
            source = self.open_move(slot, to)
            self.move_keys(slot, source, to)
            self.close_move(slot, source, to)
            self.wait_well()


def _auth(server: Server) -> list[str]:
    return ["AUTH", server.password] if server.password and not server.username else []


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
