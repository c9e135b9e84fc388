"""A batch of keys: from their heads to what differs in each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from migrations_app.engine.protocol.resp import Reply, ReplyError, encode_many
from migrations_app.engine.verify.chunks import big_finding, field_expiries
from migrations_app.engine.verify.heads import Head, read_heads
from migrations_app.engine.verify.model import CHANGED, Finding, Kind
from migrations_app.engine.verify.pair import Changed, Pair
from migrations_app.engine.verify.streams import stream_finding
from migrations_app.engine.verify.values import WHOLE, expiry_agrees, moment, whole_finding

_SMALL = 32 * 1024  # bytes in the server's memory, up to which a value is read whole, many in one round trip
_FLIGHT = 2 * 1024 * 1024  # bytes of values that one round trip asks of each side
_OPAQUE = 64 * 1024 * 1024  # bytes up to which a value that has no reader is compared by its payload
_TRAILER = 10  # of a DUMP payload: version of the format (2) and CRC64 (8)
_SHARED_TYPES = 21  # up to this type byte Redis and Valkey mean the same by a payload
_TRIES = 32

Found = list[tuple[bytes, Finding]]


@dataclass(frozen=True, slots=True)
class _Item:
    """A key that both sides have, with the same type."""

    key: bytes
    kind: bytes
    memory: int | None  # of the side that has more

    @property
    def small(self) -> bool:
        known = self.kind in WHOLE or self.kind == b"stream"
        return known and self.memory is not None and self.memory <= _SMALL

    @property
    def group(self) -> tuple[bytes, int]:
        """Values of one type and order of size tend to have the same encoding."""
        return self.kind, (self.memory or 0).bit_length()


class KeyComparer:
    """Compares keys of the selected database. `field_ttls` says whether fields of hashes may expire in it."""

    def __init__(self, pair: Pair, ttl_tolerance_ms: int) -> None:
        self.field_ttls = False
        self._pair = pair
        self._tolerance = ttl_tolerance_ms
        self._payloads: dict[tuple[bytes, int], tuple[int, int]] = {}  # group → payloads tried, of them equal

    def findings(self, keys: Sequence[bytes]) -> Found:
        """What differs now, at most one difference of the content and one of the expiry per key."""
        found: Found = []
        alone: list[tuple[bytes, Head, Head]] = []
        items: list[_Item] = []
        types: dict[bytes, bytes] = {}
        for key, (source, target) in zip(keys, read_heads(self._pair, keys), strict=True):
            types[key] = target.kind if source.absent else source.kind
            if source.absent or target.absent:
                if source.absent != target.absent:
                    alone.append((key, source, target))
                continue
            if source.kind != target.kind:
                found.append((key, Finding(_text(source.kind), _text(target.kind), "", Kind.TYPE)))
                continue
            if not expiry_agrees(source.expiry, target.expiry, self._tolerance):
                found.append((key, self._expiry_finding(source.expiry, target.expiry)))
            sizes = [head.memory for head in (source, target) if head.memory is not None]
            items.append(_Item(key, source.kind, max(sizes) if sizes else None))
        if alone:
            found += self._one_sided(alone)
        small = [item for item in items if item.small]
        big = [item for item in items if not item.small]
        for flight in _flights(small):
            found += self._small(flight, big)
        for item in big:
            if finding := self._single(item):
                found.append((item.key, finding))
        return [
            (key, replace(finding, aspect=finding.aspect or finding.kind.value, type=_text(types[key])))
            for key, finding in found
        ]

    def _expiry_finding(self, source: int, target: int) -> Finding:
        absolute = self._pair.source.pexpiretime and self._pair.target.pexpiretime
        shown = [
            moment(expiry) if absolute or expiry < 0 else f"expires in {expiry} ms"
            for expiry in (source, target)
        ]
        detail = f"{abs(source - target)} ms apart" if source >= 0 and target >= 0 else ""
        return Finding(shown[0], shown[1], detail, Kind.TTL)

    def _one_sided(self, alone: list[tuple[bytes, Head, Head]]) -> Found:
        """Keys that one side does not have, unless they are about to expire on the other."""
        missing = [key for key, _, target in alone if target.absent]
        extra = [key for key, source, _ in alone if source.absent]
        left, right = self._pair.ask(
            encode_many(("PTTL", key) for key in missing),
            encode_many(("PTTL", key) for key in extra),
            len(missing),
            len(extra),
        )
        kinds = {key: source.kind if target.absent else target.kind for key, source, target in alone}
        found: Found = []
        for key, remaining in zip(missing, left, strict=True):
            if not self._expiring(remaining):
                found.append((key, Finding(_text(kinds[key]), "absent", "", Kind.MISSING)))
        for key, remaining in zip(extra, right, strict=True):
            if not self._expiring(remaining):
                found.append((key, Finding("absent", _text(kinds[key]), "", Kind.EXTRA)))
        return found

    def _expiring(self, remaining: Reply) -> bool:
        return isinstance(remaining, int) and (remaining == -2 or 0 <= remaining <= self._tolerance)

    def _small(self, flight: list[_Item], big: list[_Item]) -> Found:
        """Small values of one round trip. Streams whose payloads do not settle it are added to `big`."""
        found: Found = []
        payloads = [item for item in flight if self._try_payload(item)]
        asked = {item.key for item in payloads}
        whole = [item for item in flight if item.key not in asked]
        for item, a, b in self._ask([("DUMP", item.key) for item in payloads], payloads):
            if not self._same_payload(item, a, b):
                whole.append(item)
        big += [item for item in whole if item.kind == b"stream"]
        whole = [item for item in whole if item.kind != b"stream"]
        commands: list[tuple[bytes | str, ...]] = [
            (WHOLE[item.kind][0], item.key, *WHOLE[item.kind][1]) for item in whole
        ]
        hashes: list[tuple[bytes, list[bytes]]] = []
        for item, a, b in self._ask(commands, whole):
            try:
                finding = whole_finding(item.kind, self._pair.source, self._pair.target, a, b)
            except Changed:
                finding = CHANGED
            if finding:
                found.append((item.key, finding))
            elif item.kind == b"hash" and self.field_ttls:
                names = self._pair.source.strings(a, "HGETALL")[::2]
                if names:  # else all of its fields have just expired on both sides
                    hashes.append((item.key, names))
        if hashes:
            found += field_expiries(self._pair, hashes, self._tolerance)
        return found

    def _ask(
        self, commands: list[tuple[bytes | str, ...]], items: list[_Item]
    ) -> Iterator[tuple[_Item, Reply, Reply]]:
        if not items:
            return
        data = encode_many(commands)
        source, target = self._pair.ask(data, data, len(commands), len(commands))
        yield from zip(items, source, target, strict=True)

    def _single(self, item: _Item) -> Finding | None:
        try:
            if item.kind == b"stream":
                return stream_finding(self._pair, item.key, item.memory)
            if item.kind in WHOLE:
                return big_finding(
                    self._pair, item.kind, item.key, item.memory, self._tolerance, self.field_ttls
                )
            return self._opaque(item)
        except Changed:
            return CHANGED

    def _opaque(self, item: _Item) -> Finding | None:
        name = _text(item.kind)
        if not (self._pair.source.dump and self._pair.target.dump):
            reason = "it has no reader and DUMP is not allowed"
        elif item.memory is None or item.memory > _OPAQUE:
            reason = "it has no reader and is too big to compare payloads"
        elif self._same_payload(item, *self._pair.both("DUMP", item.key)):
            return None
        else:
            reason = "it has no reader, and the payloads differ, which does not tell whether the values do"
        return Finding(name, name, f"type {name}: {reason}", Kind.UNCOMPARABLE)

    def _try_payload(self, item: _Item) -> bool:
        if item.kind == b"string" or not (self._pair.source.dump and self._pair.target.dump):
            return False  # GET is cheaper than DUMP
        tries, equal = self._payloads.get(item.group, (0, 0))
        return tries < _TRIES or equal * 4 >= tries

    def _same_payload(self, item: _Item, source: Reply, target: Reply) -> bool:
        """Whether two DUMP payloads prove that the values are equal."""
        if isinstance(source, ReplyError) or isinstance(target, ReplyError):
            self._pair.source.checked(source, "DUMP")
            self._pair.target.checked(target, "DUMP")
        same = isinstance(source, bytes) and isinstance(target, bytes) and _equal_bodies(source, target)
        tries, equal = self._payloads.get(item.group, (0, 0))
        self._payloads[item.group] = (tries + 1, equal + same)
        return same


def _equal_bodies(a: bytes, b: bytes) -> bool:
    if a == b:
        return True
    return len(a) == len(b) > _TRAILER and a[0] <= _SHARED_TYPES and a[:-_TRAILER] == b[:-_TRAILER]


def _flights(items: list[_Item]) -> Iterator[list[_Item]]:
    flight: list[_Item] = []
    size = 0
    for item in items:
        if flight and size + (item.memory or 0) > _FLIGHT:
            yield flight
            flight, size = [], 0
        flight.append(item)
        size += item.memory or 0
    if flight:
        yield flight


def _text(kind: bytes) -> str:
    return kind.decode("utf-8", "replace")
