"""What a server knows, by its product and version. Pure.

Measured on Redis 3.2–8.6 and Valkey 8.0–9.1 (`tests/engine/test_abilities.py` asks them again). Valkey began as Redis 7.2.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from migrations_app.engine.facts import ServerFacts, version_of

Version = tuple[int, ...]

_FORK: Final = (7, 2)  # what Redis has up to here, Valkey has too
_NEVER: Final = (1000,)

# Feature → the first version of Redis that has it, and of Valkey where that is not said by the fork.
_FEATURES: Final[dict[str, tuple[Version, Version | None]]] = {
    "ASYNC": ((4,), None),  # FLUSHALL ASYNC
    "HSET many": ((4,), None),  # also LPUSHX, RPUSHX with several elements
    "SWAPDB": ((4,), None),
    "UNLINK": ((4,), None),
    "ABSTTL": ((5,), None),  # and IDLETIME, FREQ
    "ZPOPMIN": ((5,), None),
    "streams": ((5,), None),
    "KEEPTTL": ((6,), None),
    "COPY": ((6, 2), None),
    "CREATECONSUMER": ((6, 2), None),
    "GEOSEARCHSTORE": ((6, 2), None),
    "LMOVE": ((6, 2), None),
    "LPOP count": ((6, 2), None),
    "MINID": ((6, 2), None),
    "NOMKSTREAM": ((6, 2), None),
    "PXAT": ((6, 2), None),
    "SYNC": ((6, 2), None),  # FLUSHALL SYNC, SCRIPT FLUSH ASYNC
    "ZADD GT": ((6, 2), None),
    "ZDIFFSTORE": ((6, 2), None),
    "ZRANGESTORE": ((6, 2), None),
    "ENTRIESREAD": ((7,), None),  # and XSETID ENTRIESADDED; pending entries without message go away
    "EXPIRE GT": ((7,), None),
    "functions": ((7,), None),
    "SPUBLISH": ((7,), None),
    "field expiry": ((7, 4), (9,)),
    "HSETEX": ((8,), (9,)),
    "vector sets": ((8,), _NEVER),
    "BITOP DIFF": ((8, 2), _NEVER),
    "KEEPREF": ((8, 2), _NEVER),
    "DELEX": ((8, 4), _NEVER),
    "IFEQ": ((8, 4), (8, 1)),
    "IFNE": ((8, 4), _NEVER),
    "MSETEX": ((8, 4), (9, 1)),
    "BYPOLYGON": (_NEVER, (9,)),
    "HGETDEL": ((8,), (9, 1)),
    "IDMP": ((8, 6), _NEVER),
}

# Type byte of a snapshot → the first version of Redis, of Valkey, that loads it. What is not here is loaded by all (from 3.0 on).
_TYPES: Final[dict[int, tuple[Version, Version | None]]] = {
    5: ((4,), None),  # sorted set, binary scores
    7: ((4,), None),  # module
    14: ((3, 2), None),  # quicklist
    15: ((5,), None),  # stream
    16: ((7,), None),  # hash, listpack
    17: ((7,), None),  # sorted set, listpack
    18: ((7,), None),  # quicklist of listpacks
    19: ((7,), None),  # stream 2
    20: ((7, 2), None),  # set, listpack
    21: ((7, 2), None),  # stream 3
    22: (_NEVER, (9,)),  # hash with field expiry, Valkey's form
    24: ((7, 4), _NEVER),  # hash with field expiry, Redis' form
    25: ((7, 4), _NEVER),  # the same as a listpack
    26: ((8, 6), _NEVER),  # stream 4
}


@dataclass(frozen=True, slots=True)
class Abilities:
    """`valkey` is Valkey's own version, empty for Redis; `redis` the version of Redis that the server is, or says to equal."""

    redis: Version
    valkey: Version = ()

    @classmethod
    def of(cls, facts: ServerFacts) -> Abilities:
        return cls(facts.version, version_of(facts.valkey_version))

    def knows(self, feature: str) -> bool:
        """Whether the server has a feature of the table."""
        return self._has(_FEATURES[feature])

    def beyond(self, other: Abilities) -> list[str]:
        """The features of the table that this server has and the other one lacks."""
        return [feature for feature in _FEATURES if self.knows(feature) and not other.knows(feature)]

    def loads(self, kind: int) -> bool:
        """Whether RESTORE takes values of this type byte, stamped with the server's own version."""
        return kind not in _TYPES or self._has(_TYPES[kind])

    @property
    def unloadable(self) -> frozenset[int]:
        """Type bytes whose values have to be rewritten for this server."""
        return frozenset(kind for kind in _TYPES if not self.loads(kind))

    def _has(self, since: tuple[Version, Version | None]) -> bool:
        redis, valkey = since
        if not self.valkey:
            return self.redis >= redis
        return redis <= _FORK if valkey is None else self.valkey >= valkey

    def __str__(self) -> str:
        name, version = ("Valkey", self.valkey) if self.valkey else ("Redis", self.redis)
        return f"{name} {'.'.join(map(str, version))}"
