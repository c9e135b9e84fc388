"""Whole values in memory, compared canonically: by what a client can see of them, not by how they are encoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from migrations_app.engine.protocol.resp import Reply
from migrations_app.engine.verify import hyperloglog
from migrations_app.engine.verify.model import Finding, Kind, around, first_unequal, short
from migrations_app.engine.verify.pair import Changed, Side

T = TypeVar("T")

# How a small value is read in one command: what stands before and behind the key.
WHOLE: dict[bytes, tuple[str, tuple[str, ...]]] = {
    b"string": ("GET", ()),
    b"list": ("LRANGE", ("0", "-1")),
    b"set": ("SMEMBERS", ()),
    b"hash": ("HGETALL", ()),
    b"zset": ("ZRANGE", ("0", "-1", "WITHSCORES")),
}


def whole_finding(kind: bytes, source: Side, target: Side, a: Reply, b: Reply) -> Finding | None:
    """Compare two replies to the command of `WHOLE` for the type; raise `Changed` when the key is another one now."""
    command = WHOLE[kind][0]
    if kind == b"string":
        left, right = source.data(a, command), target.data(b, command)
        if left is None or right is None:
            raise Changed(command)
        return string_finding(left, right)
    lefts, rights = source.strings(a, command), target.strings(b, command)
    if lefts == rights:
        return None
    if kind == b"list":
        return list_finding(lefts, rights, 0)
    if kind == b"set":
        return set_finding(set(lefts), set(rights))
    if kind == b"hash":
        return mapping_finding("field", _pairs(lefts, bytes), _pairs(rights, bytes), short)
    return mapping_finding("member", _pairs(lefts, float), _pairs(rights, float), score)


def string_finding(a: bytes, b: bytes, at: int = 0) -> Finding | None:
    """`at` is where in the value `a` and `b` begin."""
    if a == b or (not at and hyperloglog.same(a, b)):
        return None
    offset = first_unequal(a, b)
    sizes = f", {len(a)} and {len(b)} bytes" if len(a) != len(b) else ""
    return Finding(around(a, offset), around(b, offset), f"byte {at + offset}{sizes}")


def list_finding(a: Sequence[bytes], b: Sequence[bytes], at: int) -> Finding | None:
    """`at` is the index of the first element of `a` and `b`."""
    for index in range(max(len(a), len(b))):
        left = a[index] if index < len(a) else None
        right = b[index] if index < len(b) else None
        if left != right:
            return Finding(short(left), short(right), f"index {at + index}", aspect="order")
    return None


def set_finding(a: set[bytes], b: set[bytes]) -> Finding | None:
    if gone := a - b:
        return Finding("present", "absent", f"member {short(min(gone))}", aspect="member")
    if more := b - a:
        return Finding("absent", "present", f"member {short(min(more))}", aspect="member")
    return None


def mapping_finding(
    what: str, a: dict[bytes, T], b: dict[bytes, T], show: Callable[[T], str]
) -> Finding | None:
    if a == b:
        return None
    for name in sorted(a.keys() | b.keys()):
        left, right = a.get(name), b.get(name)
        if left != right:
            return Finding(
                "absent" if left is None else show(left),
                "absent" if right is None else show(right),
                f"{what} {short(name)}",
                aspect="score" if what == "member" and left is not None and right is not None else what,
            )
    return None


def score(value: float | None) -> str:
    """A score as Redis would print it: the shortest decimal form that reads back as the same number."""
    if value is None:
        return "absent"
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e17 else repr(value)


def expiry_finding(
    fields: Sequence[bytes], a: Sequence[Reply], b: Sequence[Reply], tolerance: int
) -> Finding | None:
    """Compare expiry times (ms since 1970; negative: none or no such field) of the fields of a hash."""
    for name, left, right in zip(fields, a, b, strict=True):
        if not isinstance(left, int) or not isinstance(right, int):
            raise Changed("HPEXPIRETIME")
        if left == -2 or right == -2:  # expired since its value was read
            raise Changed("HPEXPIRETIME")
        if not expiry_agrees(left, right, tolerance):
            return Finding(moment(left), moment(right), f"expiry of field {short(name)}", Kind.TTL)
    return None


def expiry_agrees(a: int, b: int, tolerance: int) -> bool:
    """Whether two expiries (ms; negative: none) are the same within the tolerance, itself included."""
    if a < 0 or b < 0:
        return a < 0 and b < 0
    return abs(a - b) <= tolerance


def moment(expiry: int) -> str:
    """An absolute expiry (ms since 1970; negative: none) for a person."""
    if expiry < 0:
        return "no expiry"
    seconds, milliseconds = divmod(expiry, 1000)
    try:
        return f"expires {datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{milliseconds:03} UTC"
    except (OverflowError, ValueError, OSError):  # beyond the year 9999
        return f"expires at {expiry} ms"


def _pairs(flat: list[bytes], convert: Callable[[bytes], T]) -> dict[bytes, T]:
    if len(flat) % 2:
        raise Changed("pairs")
    return {flat[at]: convert(flat[at + 1]) for at in range(0, len(flat), 2)}
