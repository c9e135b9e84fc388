"""What a comparison finds and tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

_SHOWN = 60


class Kind(StrEnum):
    """In what a key differs."""

    MISSING = "missing"  # on the source only
    EXTRA = "extra"  # on the target only
    TYPE = "type"
    VALUE = "value"
    TTL = "ttl"  # of the key, or of a field of a hash
    UNCOMPARABLE = "uncomparable"  # there is no way to tell; never counted as equal
    UNSETTLED = "unsettled"  # written so often that it could not be told; counted on its own


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference of one key.

    `source` and `target` are short printable descriptions of what each side has, `detail` says where in the value
    (`field 'a'`, `index 3`, `group 'g', pending entry 5-1`) or why nothing can be said. A key has at most one
    difference of its content (the first that was found in it) and one of its expiry. `aspect` says in one word what differs:
    the kind, or within a value `field`, `member`, `score`, `order` (of a list), `entry`, `group`, `pending`; `type` is the
    type of the source's value (of the target's, where the source has none).
    """

    database: int
    key: bytes
    kind: Kind
    source: str
    target: str
    detail: str = ""
    aspect: str = ""
    type: str = ""


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """Where a running comparison stands.

    `keys_total` is the number of keys that both sides' INFO told at the start (of the side that has more, summed over
    the databases), so `keys_done` may end a little above or below it. `walked` of `to_walk` names have been seen, which is how
    far it is: both sides are walked where both directions are compared. `waiting` keys differed when they were read and are
    looked at again.
    """

    database: int
    keys_done: int
    keys_total: int
    differences: int
    seconds: float
    walked: int = 0
    to_walk: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of a comparison.

    `keys` counts distinct keys (a key that both sides have counts once), `databases` the same per database compared.
    `items` holds the first differences, `differences` counts all of them. `complete` is false when the comparison was
    stopped: then the counts are of what was compared until then. `unsettled` keys were written so often that it could not be
    told whether they differ (only where a link works meanwhile); they are no differences, and not equal either.
    """

    keys: int
    differences: int
    by_kind: dict[Kind, int]
    items: tuple[Difference, ...]
    databases: dict[int, int]
    seconds: float
    complete: bool = True
    unsettled: int = 0

    @property
    def equal(self) -> bool:
        """Whether everything was compared and nothing differs."""
        return self.complete and not self.differences and not self.unsettled


@dataclass(slots=True)
class Tally:
    """Collects what a comparison finds; bounded however much differs."""

    max_reported: int
    differences: int = 0
    by_kind: dict[Kind, int] = field(default_factory=dict)
    items: list[Difference] = field(default_factory=list)
    databases: dict[int, int] = field(default_factory=dict)
    unsettled: int = 0

    def add(self, difference: Difference) -> None:
        if difference.kind is Kind.UNSETTLED:
            self.unsettled += 1
            return
        self.differences += 1
        self.by_kind[difference.kind] = self.by_kind.get(difference.kind, 0) + 1
        if len(self.items) < self.max_reported:
            self.items.append(difference)

    @property
    def keys(self) -> int:
        return sum(self.databases.values())


@dataclass(frozen=True, slots=True)
class Finding:
    """The first difference inside a value, before it is known to last: see `Difference`."""

    source: str
    target: str
    detail: str = ""
    kind: Kind = Kind.VALUE
    aspect: str = ""
    type: str = ""


CHANGED = Finding("changed", "changed", "the value changed while it was read")


def escaped(data: bytes, limit: int | None = None) -> str:
    """Bytes as printable ASCII, other bytes and the backslash as `\\xNN`; cut behind `limit` bytes."""
    cut = data if limit is None else data[:limit]
    text = "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\x{byte:02x}" for byte in cut)
    return text + ("…" if len(cut) < len(data) else "")


def short(data: bytes | None) -> str:
    """A value for a person: quoted, escaped, cut, with its length where it was cut."""
    if data is None:
        return "absent"
    text = f"'{escaped(data, _SHOWN)}'"
    return f"{text} ({len(data)} bytes)" if len(data) > _SHOWN else text


def around(data: bytes, offset: int) -> str:
    """The part of a value where a difference is, for a person."""
    start = max(0, offset - 10)
    end = start + _SHOWN
    return f"'{'…' if start else ''}{escaped(data[start:end])}{'…' if end < len(data) else ''}'"


def first_unequal(a: bytes, b: bytes) -> int:
    """The offset of the first byte that differs; of two equal strings, their length."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:  # a[:low] == b[:low] always holds
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low
