"""What was left open while the link was behind, where the target is a cluster: the names of the keys stand in sets of each slot."""

from __future__ import annotations

from migrations_app.engine.client import Client
from migrations_app.engine.deferred import Deferred, Question
from migrations_app.engine.protocol.resp import ReplyError
from migrations_app.engine.target.cluster import ClusterTarget
from migrations_app.engine.target.router import in_slot
from migrations_app.engine.target.slots import Address


class ClusterDeferred(Deferred):
    """What it notes goes to the slots on its way (`router.noted`); here the names are found there again."""

    _cluster: ClusterTarget
    _stamp: int

    def look_in(self, target: ClusterTarget) -> None:
        """Before anything is asked: whose slots they are."""
        self._cluster, self._stamp = target, target.stamp()

    def _find(self, question: Question) -> None:
        # Asked anew: of a slot that has moved and is not written any more, nobody else would notice it.
        masters = self._cluster.read_map(self._timeout).by_master()
        expiries, left = self._noted(masters, self.key, self._most[0])
        values, question.left_values = self._noted(masters, self.repair_key, self._most[1])
        question.left = left + question.left_values
        if expiries:
            question.expiries[0] = expiries
        if values:
            question.values[0] = values
        question.stamp = self._stamp

    def _noted(self, masters: dict[Address, list[int]], name: bytes, most: int) -> tuple[list[bytes], int]:
        """Some of the keys that are noted under this name in any slot, and how many there are."""
        keys: list[bytes] = []
        left = 0
        for address, slots in masters.items():
            endpoint = self._cluster.endpoint_at(address)
            with Client(endpoint, timeout=self._timeout, name=self._name) as client:
                counts = client.pipeline([("SCARD", in_slot(name, slot)) for slot in slots])
                chosen: list[tuple[int, int]] = []
                room = most - len(keys)
                for slot, count in zip(slots, counts, strict=True):
                    if isinstance(count, ReplyError):
                        left += 1  # the slot moves: it is asked again
                    elif isinstance(count, int) and count:
                        left += count
                        if room > 0:
                            chosen.append((slot, min(count, room)))
                            room -= count
                for reply in client.pipeline(
                    [("SRANDMEMBER", in_slot(name, slot), count) for slot, count in chosen]
                ):
                    if isinstance(reply, list):
                        keys += [key for key in reply if isinstance(key, bytes)]
        return keys, left
