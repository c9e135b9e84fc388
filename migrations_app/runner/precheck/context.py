"""The two sides as the items see them: connections that are opened once, what the servers tell of themselves, kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final

from django.conf import settings

from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import EngineError
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.protocol.resp import Reply, ReplyError
from migrations_app.engine.topology import Topology
from migrations_app.models import MigrationTask
from migrations_app.runner.inspections import Reporter
from migrations_app.runner.precheck.registry import SOURCE, TARGET, Skip
from migrations_app.runner.sides import endpoint_of
from migrations_app.services.retry import effective_retry
from portal.models import Instance

CLIENT_NAME: Final = "switchyard:precheck"

Command = tuple[bytes | str | int, ...]


class Node:
    """One server of a side: the only one, or a master of a cluster."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.address = client.endpoint.address
        self.rate: tuple[float, bool] | None = None  # see replication.rate_of
        self.sample_of_keys: object = None  # see data.sample
        self._config: dict[str, str | None] = {}
        self.take_sample()

    def take_sample(self) -> dict[str, int]:
        """How much has come in until now, of the stream and over the network; `own` of it on this connection."""
        info = self.client.info("replication", "stats")
        self.sampled_at = time.monotonic()
        self.sample = {
            "active": number(info.get("repl_backlog_active")) or 0,
            "offset": number(info.get("master_repl_offset")) or 0,
            "input": number(info.get("total_net_input_bytes")) or 0,
            "own": self.client.connection.sent,
        }
        return self.sample

    @cached_property
    def info(self) -> dict[str, str]:
        """INFO as it was at the first question."""
        return self.client.info()

    @cached_property
    def facts(self) -> ServerFacts:
        return ServerFacts.of(self.client)

    def number(self, name: str) -> int | None:
        """A number of INFO; None where the server does not tell."""
        return number(self.info.get(name))

    def config(self, name: str) -> str | None:
        """CONFIG GET; None where it is refused, renamed or unknown."""
        if name not in self._config:
            (reply,) = self.client.pipeline([("CONFIG", "GET", name)])
            known = isinstance(reply, list) and len(reply) == 2
            self._config[name] = text(reply[1]) if known else None  # type: ignore[index]
        return self._config[name]

    def may_configure(self, name: str) -> bool:
        """Whether CONFIG SET of this setting would be carried out: it is tried in a transaction that is thrown away."""
        value = self.config(name)
        if value is None or isinstance(self.ask("MULTI"), ReplyError):
            return False
        self.ask("DISCARD")
        return not self.refusals([("CONFIG", "SET", name, value)])

    def refusals(
        self, commands: Sequence[Command], *, harmless: bool = False
    ) -> list[tuple[str, ReplyError]]:
        """The commands that the server would not take now, each with its reply.

        They are queued in a transaction that is thrown away, so nothing is carried out; but rights, names, the role of the
        server, its memory and its replicas are looked at, as for a command that is. Commands that are `harmless` are carried out
        where the user may not have a transaction.
        """
        begun = self.ask("MULTI")
        if not isinstance(begun, ReplyError):
            replies = [begun, *self.client.pipeline([*commands, ("DISCARD",)])]
        elif harmless:
            replies = [begun, *self.client.pipeline(commands), begun]
        else:
            raise self.client.error(begun, "MULTI")
        return [
            (
                " ".join(str(word) for word in command[:2]) if command[0] in _TWO_WORDS else str(command[0]),
                reply,
            )
            for command, reply in zip(commands, replies[1:-1], strict=True)
            if isinstance(reply, ReplyError)
        ]

    def ask(self, *command: bytes | str | int) -> Reply:
        """One question; an error reply is returned."""
        (reply,) = self.client.pipeline([command])
        return reply


_TWO_WORDS: Final = frozenset(
    {"ACL", "CLIENT", "CLUSTER", "CONFIG", "FUNCTION", "MEMORY", "SCRIPT", "XGROUP"}
)


class Side:
    """Source or target of the task."""

    def __init__(self, name: str, instance: Instance) -> None:
        self.name = name
        self.instance = instance
        self._nodes: list[Node] | None = None
        self.failure: EngineError | None = None
        self.seconds = 0.0  # that the connection took

    @cached_property
    def endpoint(self) -> Endpoint:
        return endpoint_of(self.instance)

    @property
    def is_file(self) -> bool:
        return bool(self.endpoint.file)

    @property
    def called(self) -> str:
        """`the source orders (10.0.0.1:6379)`."""
        return f"the {self.name} {self.instance.name} ({self.endpoint.address})"

    @property
    def connected(self) -> bool:
        return self._nodes is not None

    def connect(self) -> list[Node]:
        """Connect to the server, or to every master of the cluster. Raises EngineError, the same one again once it has failed."""
        if self.failure is not None:
            raise self.failure
        if self._nodes is None:
            begun = time.monotonic()
            try:
                self._nodes = self._connect()
            except EngineError as error:
                self.failure = error
                raise
            self.seconds = time.monotonic() - begun
        return self._nodes

    def _connect(self) -> list[Node]:
        first = self._client(self.endpoint)
        opened = [first]
        try:
            if not ServerFacts.of(first).cluster:
                return [Node(first)]
            masters = [shard.master.address for shard in Topology.of(first).shards]
            for host, port in masters:
                opened.append(self._client(replace(first.endpoint, host=host, port=port, unix_path="")))
            if not masters:  # no slot is served: the node that was named stands for the cluster
                return [Node(first)]
            first.close()
            return [Node(client) for client in opened[1:]]
        except BaseException:
            for client in opened:
                client.close()
            raise

    def _client(self, endpoint: Endpoint) -> Client:
        client = Client(endpoint, timeout=float(settings.INSTANCE_TIMEOUT))
        client.pipeline(
            [("CLIENT", "SETNAME", CLIENT_NAME)]
        )  # for who looks at CLIENT LIST; no loss where refused
        return client

    @property
    def nodes(self) -> list[Node]:
        """The servers, connected. Only where `connected`."""
        if self._nodes is None:
            raise Skip(f"The {self.name} is not connected.")
        return self._nodes

    @property
    def node(self) -> Node:
        """The server, or the first master of the cluster."""
        return self.nodes[0]

    @property
    def is_cluster(self) -> bool:
        return self.node.facts.cluster

    @cached_property
    def keyspace(self) -> dict[int, tuple[int, int]]:
        """Database → (keys, of these with expiry), over all nodes."""
        total: dict[int, tuple[int, int]] = {}
        for node in self.nodes:
            for database, (keys, expiring) in node.client.keyspace().items():
                before = total.get(database, (0, 0))
                total[database] = (before[0] + keys, before[1] + expiring)
        return total

    def renew(self) -> None:
        try:
            for node in self._nodes or ():
                node.client.close()
                node.client = self._client(replace(node.client.endpoint, lookup=None))
        except EngineError as error:
            self._nodes, self.failure = None, error

    def close(self) -> None:
        for node in self._nodes or ():
            node.client.close()


class Context:
    """What every item gets."""

    def __init__(self, task: MigrationTask, report: Reporter) -> None:
        self.task = task
        self.report = report
        source, target = task.both_sides()
        self.source = Side(SOURCE, source)
        self.target = Side(TARGET, target)
        self.timeout = float(settings.INSTANCE_TIMEOUT)
        self.done, self.total, self.title = 0, 0, ""  # for `tick`
        self.told: list[dict[str, str]] = []
        self.retry_minutes, self.retry_set_by = effective_retry(task)

    def side(self, name: str) -> Side:
        return self.source if name == SOURCE else self.target

    def other(self, side: Side) -> Side:
        return self.target if side is self.source else self.source

    def tick(self, text: str) -> None:
        """Tell how far an item has come that takes its time. Raises Cancelled once the precheck is to end."""
        self.report.progress(self.done, self.total, f"{self.title}: {text}", items=list(self.told))

    def wants(self, database: int) -> bool:
        """Whether the task migrates this database."""
        return self.task.databases is None or database in self.task.databases

    def renew(self) -> None:
        """Connect anew: an answer that did not come in time would be taken for that of the next question."""
        for side in (self.source, self.target):
            side.renew()

    def close(self) -> None:
        self.source.close()
        self.target.close()


def text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def number(value: str | None) -> int | None:
    try:
        return int(value) if value is not None else None
    except ValueError:
        return None
