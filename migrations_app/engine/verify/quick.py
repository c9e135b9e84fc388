"""The quick comparison: what INFO says that each database holds, without reading a key.

Keys that do not expire are compared (keys − expires): a server counts keys whose time has passed until it has deleted them, each
at its own moment, so the counts of all keys may differ between two sides that hold the same. The product's own keys are taken off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from migrations_app.engine.checkpoint import (
    OWN_PREFIX,
    checkpoint_key,
    deferred_key,
    heartbeat_key,
    kept_key,
    repair_key,
    scripts_key,
    staged_key,
    written_key,
)
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.loop import LINKS_KEY, origin_key, streams_key
from migrations_app.engine.protocol.resp import encode_many
from migrations_app.engine.verify.pair import Pair, Side, close, connect

_OWN: Final = (
    checkpoint_key, deferred_key, heartbeat_key, kept_key, origin_key, repair_key, scripts_key, staged_key, streams_key,
    written_key,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Count:
    """What one side holds in one database, without the product's own keys."""

    keys: int
    expires: int

    @property
    def lasting(self) -> int:
        """Keys that do not expire."""
        return self.keys - self.expires


@dataclass(frozen=True, slots=True)
class DatabaseCount:
    """Both sides of one database."""

    database: int
    source: Count
    target: Count

    @property
    def equal(self) -> bool:
        return self.source.lasting == self.target.lasting


def count(
    source: Endpoint,
    target: Endpoint,
    links: Iterable[str],
    *,
    databases: frozenset[int] | None = None,
    timeout: float = 20.0,
    again: Callable[[list[DatabaseCount]], bool] | None = None,
) -> list[DatabaseCount]:
    """The databases that hold keys on either side (of the chosen ones). `links` are names whose own keys are known to be there.

    While a link works the two sides are counted at two moments: `again` gets what differs and says whether to count once more.
    """
    pair = connect(source, target, timeout, lambda: None)
    try:
        names = set(links) | _links(pair.source) | _links(pair.target)
        while True:
            counted = _count(pair, names, databases)
            unequal = [one for one in counted if not one.equal]
            if not unequal or again is None or not again(unequal):
                return counted
    finally:
        close(pair)


def _count(pair: Pair, names: set[str], databases: frozenset[int] | None) -> list[DatabaseCount]:
    spaces = [side.client.keyspace() for side in (pair.source, pair.target)]
    holding = sorted(
        {number for space in spaces for number in space if databases is None or number in databases}
    )
    result = []
    for number in holding:
        sides = []
        for side, space in zip((pair.source, pair.target), spaces, strict=True):
            keys, expires = space.get(number, (0, 0))
            own = _own(side, number, names) if number in space else (0, 0)
            sides.append(Count(max(0, keys - own[0]), max(0, expires - own[1])))
        if any(side.keys for side in sides):
            result.append(DatabaseCount(number, sides[0], sides[1]))
    return result


def _own(side: Side, database: int, names: set[str]) -> tuple[int, int]:
    """The product's own keys in a database, and those of them that expire."""
    if side.cluster:
        # There they are spread over the slots by a suffix: they have to be looked for.
        keys = list({key for page in side.client.scan(OWN_PREFIX + b"*") for key in page})
    else:
        side.checked(side.ask("SELECT", database), "SELECT")
        keys = [LINKS_KEY, *(make(name) for name in names for make in _OWN)]
    found = []
    for start in range(0, len(keys), 500):
        some = keys[start : start + 500]
        side.client.send(encode_many(("PTTL", key) for key in some))
        found += [side.number(reply, "PTTL") for reply in side.client.receive(len(some))]
    return sum(ttl != -2 for ttl in found), sum(ttl >= 0 for ttl in found)


def _links(side: Side) -> set[str]:
    """Links that are known in the server itself: other tasks may write to it, too."""
    if side.cluster:
        return set()
    reply = side.ask("HKEYS", LINKS_KEY)
    names = reply if isinstance(reply, list) else []
    return {name.decode("utf-8", "replace") for name in names if isinstance(name, bytes)}
