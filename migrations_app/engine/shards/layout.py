"""How a source cluster has divided its slots, and what has changed since. Sources: CLUSTER SLOTS, CLUSTER NODES, CLUSTER INFO."""

from __future__ import annotations

from dataclasses import dataclass

from migrations_app.engine import errors
from migrations_app.engine.client import Client
from migrations_app.engine.topology import SLOTS, Ranges, Topology, as_text, joined

_SHOWN = 5  # movements that a message names


@dataclass(frozen=True, slots=True)
class Scope:
    """The part of a source cluster that one link copies.

    `layout` is how the slots were divided when the links began (see `text_of`), `held` what the target held then.
    """

    ranges: Ranges
    layout: str
    held: frozenset[int] = frozenset()

    @property
    def first(self) -> int:
        return self.ranges[0][0]

    def has(self, slot: int) -> bool:
        return any(first <= slot <= last for first, last in self.ranges)

    def __str__(self) -> str:
        return f"slots {as_text(self.ranges)}"


def text_of(topology: Topology) -> str:
    """`0-5460;5461-10922;…`: the same whoever is the master of a shard."""
    return ";".join(as_text(shard.ranges) for shard in topology.shards)


def ranges_of(text: str) -> list[Ranges]:
    """Undo `text_of`."""
    result = []
    for shard in text.split(";"):
        bounds = [part.partition("-") for part in shard.split(",")]
        result.append(tuple((int(first), int(last or first)) for first, _, last in bounds))
    return result


def movements(before: str, now: Topology) -> str:
    """Which slots have gone from where to where, as a sentence."""
    old = ranges_of(before)
    home = {slot: number for number, ranges in enumerate(old) for slot in _slots(ranges)}
    told = []
    for shard in now.shards:
        counts: dict[int, int] = {}
        for slot in _slots(shard.ranges):
            counts[home.get(slot, -1)] = counts.get(home.get(slot, -1), 0) + 1
        mine = max(counts, key=lambda number: (counts[number], -number))
        for number in sorted(set(counts) - {mine}):
            slots = [slot for slot in _slots(shard.ranges) if home.get(slot, -1) == number]
            moved = as_text(joined([(slot, slot) for slot in slots]))
            source = f"the shard of {as_text(old[number])}" if number >= 0 else "nobody"
            told.append(f"slots {moved} from {source} to {shard.master}")
    if not told:
        return f"it has {len(now.shards)} shards now instead of {len(old)}"
    more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return "; ".join(told[:_SHOWN]) + more


def moved(before: str, now: Topology) -> errors.SlotsMoved:
    """The error for a layout that is another one now."""
    return errors.SlotsMoved(f"slots of the source cluster have moved: {movements(before, now)}")


def check(client: Client, layout: str) -> Topology:
    """What a node says must be `layout`; else `SlotsMoved`, or `ClusterDown` while slots have no owner."""
    topology = Topology.of(client)
    if topology.missing:
        raise errors.ClusterDown(
            f"{client.endpoint.address}: nobody serves slots {as_text(topology.missing)} of the source cluster just now"
        )
    if text_of(topology) != layout:
        raise moved(layout, topology)
    if opened := open_slots(client):
        raise errors.SlotsMoved(
            f"slots of the source cluster are being moved: {client.endpoint.address} {opened}"
        )
    return topology


def open_slots(client: Client) -> str:
    """What a node says of slots that are on their way to or from it: `imports slot 7 from …`; empty if there are none."""
    reply = client.execute("CLUSTER", "NODES")
    told = []
    for line in (reply if isinstance(reply, bytes) else b"").decode("utf-8", "replace").splitlines():
        words = line.split(" ")
        if len(words) < 8 or "myself" not in words[2].split(","):
            continue
        for word in words[8:]:
            # [93-<-node] is imported, [93->-node] migrates away.
            if word.startswith("["):
                slot, _, rest = word.strip("[]").partition("-")
                told.append(f"{'imports' if rest.startswith('<') else 'gives away'} slot {slot}")
    more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return ", ".join(told[:_SHOWN]) + more


def check_complete(client: Client) -> Topology:
    """The cluster as a source to begin with; raises `ClusterIncomplete` unless every slot is served and none is on its way."""
    topology = Topology.of(client)
    if topology.missing:
        raise errors.ClusterIncomplete(
            f"{client.endpoint.address}: nobody serves slots {as_text(topology.missing)} of the source cluster; nothing was written"
        )
    reply = client.execute("CLUSTER", "INFO")
    state = (reply if isinstance(reply, bytes) else b"").decode("utf-8", "replace")
    if "cluster_state:ok" not in state:
        raise errors.ClusterIncomplete(
            f"{client.endpoint.address}: the source cluster is down (cluster_state); nothing was written"
        )
    return topology


def _slots(ranges: Ranges) -> list[int]:
    return [slot for first, last in ranges for slot in range(first, min(last, SLOTS - 1) + 1)]
