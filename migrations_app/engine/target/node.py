"""The pipelined connection to one master of a cluster: what it is sent are units, and each answer finds its unit."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any, cast

from migrations_app.engine.client import Client
from migrations_app.engine.errors import EngineError, TargetDiverged
from migrations_app.engine.kernel import split_commands
from migrations_app.engine.protocol.resp import ReplyError
from migrations_app.engine.target.pipeline import Group, Pipeline


@dataclass(slots=True)
class Refusal:
    """An error reply: to command `index` of the unit, or to command `inner` of the transaction that it is."""

    index: int
    inner: int
    text: str

    @property
    def code(self) -> str:
        return self.text.partition(" ")[0]


class Unit(Group):
    """What is carried out at one node or not at all: a command, or a transaction on keys of one slot.

    `slot` is -1 for what has no key. `waits_for` is the number of replicas that a WAIT asks for.
    """

    __slots__ = ("key", "node", "owner", "refusals", "size", "slot", "waits_for")

    def __init__(self, owner: Any, slot: int, key: bytes, *, transaction: bool) -> None:
        super().__init__(None, transaction=transaction)
        self.mark = self
        self.owner = owner
        self.slot = slot
        self.key = key
        self.node: Node | None = None  # None while it waits for its slot
        self.refusals: list[Refusal] = []
        self.size = 0  # bytes
        self.waits_for = 0


class Node(Pipeline):
    """Over a client that is logged in and idle. `replicas` is how many follow it, as far as is known."""

    def __init__(self, client: Client) -> None:
        super().__init__(client.connection)
        self.client = client
        self.replicas = 0
        self.replicas_known_at = float("-inf")  # monotonic
        self.awaited_at = float("-inf")  # monotonic; when its replicas did not confirm in time
        self._last = b""

    def begin(self, unit: Unit) -> None:
        """Queue a unit; its bytes come by `add`."""
        unit.node = self
        self._groups.append(unit)
        if unit.missed is not None:
            self._counter.watching = True

    def queue(self, unit: Unit) -> None:
        """Queue a unit whose bytes it holds already."""
        kept, replies = unit.kept or [], unit.replies
        unit.kept, unit.kept_bytes, unit.replies = [], 0, 0
        self.begin(unit)
        if kept:
            self.add(unit, b"".join(kept), replies)

    def take(self) -> list[Unit]:
        """Read what is there: the units that are answered now, in order, with what was refused of each."""
        while (data := self.connection.recv(256 * 1024)) is not None:
            self._counter.feed(data)
            self._last = (self._last + data)[-32:]
            self.waiting_since = time.monotonic()
            if len(data) < 256 * 1024 and not self.connection.buffered:
                break
        if self._counter.nulls:
            raise self._error()
        if self._counter.errors:
            self._assign()
        done = self.completed()
        if self.idle:
            self._counter.watching = False
        return done

    @property
    def last_number(self) -> int:
        """The integer that was the last answer; -1 when it was something else."""
        line = self._last.rstrip(b"\r\n").rpartition(b"\n")[2]
        return int(line[1:]) if line[:1] == b":" and line[1:].isdigit() else -1

    def error(self, unit: Unit, refusal: Refusal) -> EngineError:
        """The error that stops the link."""
        return self._describe(unit, refusal.index, refusal.inner, ReplyError(refusal.text))

    def forgiven(self, unit: Unit) -> bool:
        """Whether nothing but commands inside of an applied transaction has failed, and each of them may."""
        forgive = unit.forgive
        if forgive is None or unit.kept is None or any(refusal.inner < 0 for refusal in unit.refusals):
            return False
        commands = split_commands(b"".join(unit.kept))
        return all(forgive(commands, refusal.inner + 1, refusal.text) for refusal in unit.refusals)

    def _assign(self) -> None:
        """Give each error to the unit whose answer it is."""
        found = list(self._counter.errors)
        self._counter.errors.clear()
        first = self._confirmed
        for unit in cast("deque[Unit]", self._groups):
            end = first + unit.replies
            while found and (found[0][0] < end or not unit.closed):
                number, inner, text = found.pop(0)
                unit.refusals.append(Refusal(number - first, inner, text))
            first = end
        if found:
            raise TargetDiverged(f"{self.connection.endpoint.address}: an answer too many: {found[0][2]}")
