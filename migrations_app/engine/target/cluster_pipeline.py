"""The pipelined connections to all masters of a cluster, as one pipeline.

What is queued is split into units, each for one slot, which go to the node that serves it. A unit that a node refuses because the
slot has moved, or is moving, waits with everything that follows it in its slot, and is sent again; other slots go on. So the
order within a slot, and with it within a key, holds whatever happens to the slots.
"""

from __future__ import annotations

import select
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from typing import Any

from migrations_app.engine import errors
from migrations_app.engine.checkpoint import OWN_PREFIX
from migrations_app.engine.ports import Level
from migrations_app.engine.protocol.resp import encode
from migrations_app.engine.target.cluster import ClusterTarget
from migrations_app.engine.target.node import Node, Refusal, Unit
from migrations_app.engine.target.pipeline import Group
from migrations_app.engine.target.router import EVERYWHERE, Router, placed
from migrations_app.engine.target.slots import REDIRECTS, Address, redirected

_FIRST_PAUSE = 0.02  # seconds before what a moving slot refused is sent again
_LONGEST_PAUSE = 0.25
_TELL_AFTER = 2.0  # seconds
_FLIGHT = 16 * 2**20  # bytes that are sent and not answered, beyond which they count as unsent
REPLICAS_EVERY = 30.0  # seconds between two looks at how many replicas a master has
_REPLICAS_WITHIN_MS = 500
_REPLICAS_PAUSE = 5.0  # seconds without asking replicas that have not confirmed in time

Log = Callable[..., None]
Forgive = Callable[[list[list[bytes]], int, str], bool]
Missed = Callable[[list[int]], None]


class ClusterGroup(Group):
    """`left` counts its units that are not confirmed."""

    __slots__ = ("left",)

    def __init__(self, mark: Any) -> None:
        super().__init__(mark)
        self.left = 0


class _Hold:
    """A slot that waits: what was refused, in order, and what has come since."""

    __slots__ = ("keys", "later", "pause", "refused", "retry_at", "since", "told", "why")

    def __init__(self, since: float) -> None:
        self.refused: list[Unit] = []
        self.later: list[Unit] = []
        self.keys: set[bytes] = set()
        self.since = since
        self.retry_at = since
        self.pause = 0.0
        self.told = False
        self.why = ""

    @property
    def size(self) -> int:
        return sum(unit.size for unit in self.later)


class ClusterPipeline:
    """Over a target that is taken over. `log` is the meter's; a slot that waits longer than `patience` seconds is an error."""

    def __init__(self, target: ClusterTarget, log: Log, patience: float) -> None:
        self._check: Callable[[int, Node], None] = target.check_role
        self._used: dict[int, Address] = {}  # slot → node that it was written at last
        self._target = target
        self._log = log
        self._patience = patience
        self._nodes: dict[Address, Node] = {}
        self._groups: deque[ClusterGroup] = deque()
        self._router = Router()
        self._marker: list[bytes] | None = None
        self._passing: list[Unit] = []  # of the command that goes through in pieces
        self._flying: Counter[int] = Counter()  # slot → units that are sent and not answered
        self._flight = 0  # their bytes
        self._holds: dict[int, _Hold] = {}
        self._trouble: dict[int, _Hold] = {}  # slots that were sent again and have not answered yet
        self._moved = 0  # slots that were found at another node
        self._moved_told = 0.0
        self._touched: set[Address] = set()  # written to since their replicas have confirmed
        for address in target.map.masters:
            self._node(address)

    # --- the interface of a pipeline ------------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """Bytes that wait here."""
        waiting = sum(node.unsent for node in self._nodes.values()) + sum(
            hold.size for hold in self._holds.values()
        )
        return waiting + max(0, self._flight - _FLIGHT)

    @property
    def sent(self) -> int:
        return sum(node.connection.sent for node in self._nodes.values())

    @property
    def waiting_since(self) -> float | None:
        since = [node.waiting_since for node in self._nodes.values() if node.waiting_since is not None]
        return min(since, default=None)

    @property
    def idle(self) -> bool:
        return not self._groups

    def open(self, mark: Any, *, transaction: bool = False) -> ClusterGroup:
        group = ClusterGroup(mark)
        self._groups.append(group)
        return group

    def add(self, group: Group, data: bytes, replies: int) -> None:
        """Commands that each stand for themselves, in any cut."""
        assert isinstance(group, ClusterGroup)
        for piece in self._router.feed(data):
            marker = self._marker if not piece.key.startswith(OWN_PREFIX) else None
            units = self._passing
            if not units:
                if piece.slot == EVERYWHERE:
                    units = [self._begin(group, node) for node in self.everywhere()]
                else:
                    units = [self._unit(group, piece.slot, piece.key, transaction=marker is not None)]
                if marker is not None:
                    for unit in units:
                        place = (
                            piece.slot if unit.node is None or piece.slot >= 0 else self._slot_at(unit.node)
                        )
                        self._put(unit, encode(b"MULTI") + encode(*placed(marker, place)), 2)
            for unit in units:
                self._put(unit, piece.data, int(piece.ends))
                if piece.ends and marker is not None:
                    self._put(unit, encode(b"EXEC"), 1)
                unit.closed = piece.ends
            self._passing = [] if piece.ends else units

    def send(
        self,
        group: ClusterGroup,
        slot: int,
        data: bytes,
        replies: int,
        *,
        forgive: Forgive | None = None,
        missed: Missed | None = None,
    ) -> None:
        """One whole unit: one command or, with `forgive` (it and `missed`: see `Group`), a transaction on keys of one slot."""
        unit = self._unit(group, slot, b"", transaction=forgive is not None, missed=missed)
        unit.forgive = forgive
        self._put(unit, data, replies)
        unit.closed = True

    def close(self, group: Group) -> None:
        group.closed = True

    def register(self, poller: select.poll) -> None:
        for node in self._nodes.values():
            node.register(poller)

    def ready(self, events: dict[int, int]) -> list[Any]:
        for node in list(self._nodes.values()):
            if node.connection.fileno() in events or node.connection.buffered:
                for unit in node.take():
                    self._answered(node, unit)
        return self.completed()

    def completed(self) -> list[Any]:
        if self._holds:
            self._look_at_holds()
        marks = []
        while self._groups and self._groups[0].closed and not self._groups[0].left:
            marks.append(self._groups.popleft().mark)
        for node in self._nodes.values():
            if node.waiting_since is not None:
                node.completed()  # everything is answered: it waits for nothing
        return marks

    def write(self) -> None:
        for node in self._nodes.values():
            node.write()

    def mark(self, marker: list[bytes] | None) -> None:
        """From now on each command that is added becomes a transaction that begins with this one, in the slot of its key."""
        self._marker = marker

    def _slot_at(self, node: Node) -> int:
        """A slot that it serves."""
        endpoint = node.connection.endpoint
        return self._target.map.by_master()[endpoint.host, endpoint.port][0]

    def complete(self, script: bytes, names: tuple[bytes, ...]) -> None:
        """See `Router.complete`."""
        self._router.complete(script, names)

    def on_move(self, check: Callable[[int, Node], None]) -> None:
        """`check` is called with a slot that is found at another node, and the one where it was; it raises if data may be lost."""
        self._check = check

    # --- replicas ---------------------------------------------------------------------------------------------------

    def ask_replicas(self, group: ClusterGroup) -> None:
        """Queue a WAIT at each master that was written to, for all of its replicas; `safe` tells what came of it."""
        now = time.monotonic()
        for address in sorted(self._touched):
            node = self._nodes[address]
            if node.idle and now - node.replicas_known_at > REPLICAS_EVERY:
                self._count_replicas(node, now)
            if not node.replicas:
                self._touched.discard(address)
            elif now - node.awaited_at > _REPLICAS_PAUSE:
                unit = self._begin(group, node)
                unit.waits_for = node.replicas
                self._put(unit, encode(b"WAIT", node.replicas, _REPLICAS_WITHIN_MS), 1)
                unit.closed = True

    @property
    def safe(self) -> bool:
        """Whether a failover of any master would keep everything that is confirmed, as far as its replicas have said."""
        return not self._touched

    def _count_replicas(self, node: Node, now: float) -> None:
        info = node.client.info("replication")
        node.replicas = sum(
            name.startswith("slave") and name[5:].isdigit() and "state=online" in value
            for name, value in info.items()
        )
        node.replicas_known_at = now

    def _awaited(self, node: Node, unit: Unit) -> None:
        if node.last_number >= unit.waits_for:
            self._touched.discard((node.connection.endpoint.host, node.connection.endpoint.port))
            return
        node.awaited_at = time.monotonic()
        node.replicas_known_at = float("-inf")
        self._log(
            Level.WARNING,
            "cluster.replicas_behind",
            f"{node.connection.endpoint.address}: its replicas do not confirm what is written; the position of the link stays "
            "until they do",
            replicas=unit.waits_for,
            confirmed=max(0, node.last_number),
        )

    # --- units --------------------------------------------------------------------------------------------------------

    def everywhere(self) -> list[Node]:
        """All masters as they are now."""
        self._target.refresh()
        return [self._node(address) for address in self._target.map.masters]

    def _node(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = Node(self._target.client_at(address))
            self._count_replicas(node, time.monotonic())
        return node

    def _serving(self, slot: int) -> Node:
        """The node of a slot. Where it is another one than before, nothing of the slot may have been lost on the way."""
        address = self._target.map.of(slot)
        if address is None:
            raise errors.ClusterNotReady(f"no node of the target cluster serves slot {slot}")
        before = self._used.get(slot)
        if before != address:
            if before is not None:
                self._check(slot, self._nodes[before])
            self._used[slot] = address
        return self._node(address)

    def _begin(self, group: ClusterGroup, node: Node) -> Unit:
        unit = Unit(group, EVERYWHERE, b"", transaction=False)
        group.left += 1
        node.begin(unit)
        return unit

    def _unit(
        self, group: ClusterGroup, slot: int, key: bytes, *, transaction: bool, missed: Missed | None = None
    ) -> Unit:
        unit = Unit(group, slot, key, transaction=transaction)
        unit.missed = missed
        group.left += 1
        hold = self._holds.get(slot)
        if hold is not None:
            hold.later.append(unit)
        else:
            self._serving(slot).begin(unit)
            self._flying[slot] += 1
        return unit

    def _put(self, unit: Unit, data: bytes, replies: int) -> None:
        unit.size += len(data)
        if unit.node is not None:
            self._flight += len(data)
            unit.node.add(unit, data, replies)
            return
        unit.replies += replies
        unit.kept_bytes += len(data)
        assert unit.kept is not None
        unit.kept.append(data)

    def _answered(self, node: Node, unit: Unit) -> None:
        slot = unit.slot
        self._flight -= unit.size
        if unit.waits_for and not unit.refusals:
            self._awaited(node, unit)
        if slot < 0:
            if unit.refusals and unit.waits_for and unit.refusals[0].code not in {"NOPERM", "NOAUTH"}:
                raise errors.ClusterChanged(
                    f"{node.connection.endpoint.address}: this node of the target cluster is no master any more: "
                    f"{unit.refusals[0].text}"
                )
            if unit.refusals:
                raise node.error(unit, unit.refusals[0])
            unit.owner.left -= 1
            return
        self._flying[slot] -= 1
        if unit.refusals and not node.forgiven(unit):
            self._refused(node, unit)
            return
        if (hold := self._holds.get(slot)) is not None and unit.key in hold.keys and unit.key:
            raise errors.ClusterChanged(
                f"{node.connection.endpoint.address}: slot {slot} was refused and served in turns, so that commands on key "
                f"{unit.key[:128]!r} were applied in another order"
            )
        self._trouble.pop(slot, None)
        self._touched.add((node.connection.endpoint.host, node.connection.endpoint.port))
        unit.owner.left -= 1

    def _refused(self, node: Node, unit: Unit) -> None:
        """Not carried out: sent again when the slot is where it is said to be. Raises for any other error."""
        why: Refusal | None = None
        for refusal in unit.refusals:
            if refusal.inner >= 0 or (refusal.code not in REDIRECTS and refusal.code != "EXECABORT"):
                raise node.error(unit, refusal)
            why = why or refusal
        assert why is not None
        if why.code not in REDIRECTS:
            raise node.error(unit, why)
        if unit.kept is None:
            raise errors.ClusterChanged(
                f"{node.connection.endpoint.address}: {why.text}, for a value that is too large to be kept for a second try"
            )
        now = time.monotonic()
        slot = unit.slot
        hold = self._holds.get(slot)
        if hold is None:
            before = self._trouble.pop(slot, None)
            hold = self._holds[slot] = _Hold(before.since if before else now)
            if before:
                hold.pause, hold.told = before.pause, before.told
            elif why.code == "MOVED":
                self._moved += 1
        hold.why = why.text
        hold.keys.add(unit.key)
        hold.refused.append(unit)
        target = redirected(why.text, node.connection.endpoint.host)
        if why.code == "MOVED" and target is not None and not hold.pause:
            self._target.map.moved(*target)
            hold.pause = _FIRST_PAUSE / 2  # the first time at once; where nodes disagree, slowly
            hold.retry_at = now
        else:
            if why.code == "MOVED" and target is not None:
                self._target.map.moved(*target)
            hold.pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, hold.pause * 2))
            hold.retry_at = now + hold.pause
        unit.refusals = []

    def _look_at_holds(self) -> None:
        now = time.monotonic()
        if self._moved and now - self._moved_told > _TELL_AFTER:
            self._log(
                Level.INFO, "cluster.slots_moved", "slots were found at another node", slots=self._moved
            )
            self._moved, self._moved_told = 0, now
        for slot, hold in list(self._holds.items()):
            if now - hold.since > self._patience:
                raise errors.ClusterChanged(
                    f"slot {slot} of the target cluster has refused writes for {self._patience:g} s: {hold.why}"
                )
            if now - hold.since > _TELL_AFTER and not hold.told:
                hold.told = True
                self._log(
                    Level.WARNING,
                    "cluster.slot_waits",
                    f"a slot of the target cluster does not take writes now; it is tried again: {hold.why}",
                    slot=slot,
                )
            if now < hold.retry_at or self._flying[slot]:
                continue
            if hold.since + hold.pause * 2 < now and not hold.why.startswith("MOVED"):
                self._target.refresh()
            del self._holds[slot]
            self._trouble[slot] = hold
            node = self._serving(slot)
            for unit in [*hold.refused, *hold.later]:
                unit.refusals = []
                self._flight += unit.size
                node.queue(unit)
                self._flying[slot] += 1

    @property
    def holding(self) -> Collection[int]:
        """Slots that wait."""
        return self._holds.keys()
