"""Slots of a cluster: who serves each, and a word that hashes to each.

Source of the format: https://redis.io/docs/latest/reference/cluster-spec/ and CLUSTER SLOTS.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from migrations_app.engine.keys import SLOTS, slot
from migrations_app.engine.protocol.resp import Reply

Address = tuple[str, int]

REDIRECTS: Final = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})
"""Codes of errors by which a node says that it does not carry out a command now, and that it has not."""


@cache
def tags() -> tuple[bytes, ...]:
    """For each slot the smallest number, in digits, that hashes to it: the hash tag of the product's own key in that slot."""
    found: list[bytes] = [b""] * SLOTS
    left, number = SLOTS, 0
    while left:
        tag = b"%d" % number
        place = slot(tag)
        if not found[place]:
            found[place] = tag
            left -= 1
        number += 1
    return tuple(found)


class SlotMap:
    """Who serves which slot. It ages: a node that is asked for a slot that it no longer serves says who does (`moved`)."""

    def __init__(self, masters: list[Address | None], replicas: frozenset[Address]) -> None:
        self._masters = masters
        self.replicas = replicas

    @classmethod
    def parse(cls, reply: Reply, asked: str) -> SlotMap:
        """From the answer to CLUSTER SLOTS of a node that was reached under the host `asked`; ValueError for anything else."""
        masters: list[Address | None] = [None] * SLOTS
        replicas = set()
        if not isinstance(reply, list):
            raise ValueError("no list")
        for entry in reply:
            if not isinstance(entry, list) or len(entry) < 3:
                raise ValueError("no range of slots")
            first, last, *nodes = entry
            addresses = [_address(node, asked) for node in nodes]
            if not isinstance(first, int) or not isinstance(last, int) or not 0 <= first <= last < SLOTS:
                raise ValueError(f"slots {first!r} to {last!r}")
            masters[first : last + 1] = [addresses[0]] * (last + 1 - first)
            replicas |= set(addresses[1:])
        return cls(masters, frozenset(replicas))

    @property
    def complete(self) -> bool:
        """Whether every slot is served."""
        return None not in self._masters

    @property
    def masters(self) -> list[Address]:
        """In the order of their slots."""
        return [address for address in dict.fromkeys(self._masters) if address is not None]

    def of(self, number: int) -> Address | None:
        return self._masters[number]

    def moved(self, number: int, address: Address) -> None:
        self._masters[number] = address

    def by_master(self) -> dict[Address, list[int]]:
        """Master → its slots."""
        result: dict[Address, list[int]] = {}
        for number, address in enumerate(self._masters):
            if address is not None:
                result.setdefault(address, []).append(number)
        return result


def redirected(text: str, asked: str) -> tuple[int, Address] | None:
    """Slot and node of `MOVED 3999 127.0.0.1:6381` or `ASK …`; an empty host is that of the node that said so."""
    words = text.split(" ")
    if len(words) < 3 or words[0] not in {"MOVED", "ASK"} or not words[1].isdigit():
        return None
    host, colon, port = words[2].rpartition(":")
    if not colon or not port.isdigit() or int(words[1]) >= SLOTS:
        return None
    return int(words[1]), (host if host not in {"", "?"} else asked, int(port))


def _address(node: Reply, asked: str) -> Address:
    if not isinstance(node, list) or len(node) < 2 or not isinstance(node[1], int):
        raise ValueError(f"node {node!r}")
    host = node[0].decode("utf-8", "replace") if isinstance(node[0], bytes) else ""
    return (host if host not in {"", "?"} else asked), node[1]
