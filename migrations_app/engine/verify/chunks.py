"""Values that are too big to be read whole: chunk by chunk, both sides at the same time.

A hash, set or sorted set is scanned on one side and looked up on the other. All of the source's members being on the
target, and the counts being equal, proves equality, since a scan returns every member at least once; only where the counts
differ the other direction is walked too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from migrations_app.engine.protocol.resp import Reply, encode, encode_many
from migrations_app.engine.verify.model import CHANGED, Finding, short
from migrations_app.engine.verify.pair import Changed, Pair, Side
from migrations_app.engine.verify.values import (
    expiry_finding,
    list_finding,
    mapping_finding,
    score,
    string_finding,
)

STRING_CHUNK = 1024 * 1024  # bytes
_CHUNK = 512 * 1024  # bytes of elements that one page of a collection should have
_MAX_ELEMENTS = 1000
_UNKNOWN = 100  # elements of a page where the server does not tell how big the value is


def big_finding(
    pair: Pair, kind: bytes, key: bytes, memory: int | None, ttl_tolerance: int, field_ttls: bool
) -> Finding | None:
    """Compare one big string, list, set, hash or sorted set; `memory` is its size in bytes on the larger side.

    Holds one chunk of each side at a time: some 0.5 MB, or `page_size` elements where single ones are larger than the average.
    """
    if kind == b"string":
        return _string(pair, key)
    if kind == b"list":
        return _list(pair, key, memory)
    if kind == b"hash":
        return _hash(pair, key, memory, ttl_tolerance, field_ttls)
    compare = _set_page if kind == b"set" else _zset_page
    counts = pair.numbers("SCARD" if kind == b"set" else "ZCARD", key)
    size = page_size(max(counts), memory)
    return _both_ways(pair, lambda way: compare(way, key, size), always=counts[0] != counts[1])


def page_size(count: int, memory: int | None) -> int:
    """How many elements make up a chunk, by the average size of one."""
    if memory is None:
        return _UNKNOWN
    return max(1, min(_MAX_ELEMENTS, _CHUNK * max(count, 1) // max(memory, 1)))


def _string(pair: Pair, key: bytes) -> Finding | None:
    lengths = pair.numbers("STRLEN", key)
    if lengths[0] != lengths[1]:
        return Finding(f"{lengths[0]} bytes", f"{lengths[1]} bytes", "length")
    for at in range(0, lengths[0], STRING_CHUNK):
        replies = pair.both("GETRANGE", key, at, at + STRING_CHUNK - 1)
        source, target = pair.source.data(replies[0], "GETRANGE"), pair.target.data(replies[1], "GETRANGE")
        if not source or not target or len(source) != len(target):
            raise Changed("GETRANGE")
        if finding := string_finding(source, target, at):
            return finding
    return None


def _list(pair: Pair, key: bytes, memory: int | None) -> Finding | None:
    lengths = pair.numbers("LLEN", key)
    size = page_size(max(lengths), memory)
    for at in range(0, max(lengths), size):
        replies = pair.both("LRANGE", key, at, at + size - 1)
        source, target = pair.source.strings(replies[0], "LRANGE"), pair.target.strings(replies[1], "LRANGE")
        if finding := list_finding(source, target, at):
            return finding
    return None


def _hash(pair: Pair, key: bytes, memory: int | None, tolerance: int, field_ttls: bool) -> Finding | None:
    counts = pair.numbers("HLEN", key)
    size = page_size(max(counts), memory)

    def compare(way: Pair) -> Finding | None:
        for page, values in _walk(way, "HSCAN", key, size, lambda names: (encode("HMGET", key, *names), 1)):
            names, found = page[::2], way.target.items(values[0], "HMGET")
            for name, value, other in zip(names, page[1::2], found, strict=True):
                if value != other:
                    return Finding(
                        short(value),
                        short(way.target.data(other, "HMGET")),
                        f"field {short(name)}",
                        aspect="field",
                    )
            if field_ttls and (expiries := field_expiries(way, [(key, names)], tolerance)):
                return expiries[0][1]
        return None

    # HLEN also counts fields that have expired and are not deleted yet: where fields can expire, it proves nothing.
    return _both_ways(pair, compare, always=counts[0] != counts[1] or field_ttls)


def field_expiries(
    pair: Pair, hashes: Sequence[tuple[bytes, Sequence[bytes]]], tolerance: int
) -> list[tuple[bytes, Finding]]:
    """Compare the expiries of fields (key, names) of hashes, in one round trip; a server that knows none has none."""
    commands = encode_many(("HPEXPIRETIME", key, "FIELDS", len(names), *names) for key, names in hashes)
    sides = (pair.source, pair.target)
    counts = [len(hashes) if side.field_ttl else 0 for side in sides]
    data = [commands if count else b"" for count in counts]
    replies = pair.ask(data[0], data[1], counts[0], counts[1])
    found = []
    for index, (key, names) in enumerate(hashes):
        none: list[Reply] = [-1] * len(names)
        try:
            times = [
                side.items(answers[index], "HPEXPIRETIME") if answers else none
                for side, answers in zip(sides, replies, strict=True)
            ]
            finding = expiry_finding(names, times[0], times[1], tolerance)
        except Changed:
            finding = CHANGED
        if finding:
            found.append((key, finding))
    return found


def _set_page(pair: Pair, key: bytes, size: int) -> Finding | None:
    if pair.target.smismember:

        def lookup(page: Sequence[bytes]) -> tuple[bytes, int]:
            return encode("SMISMEMBER", key, *page), 1
    else:

        def lookup(page: Sequence[bytes]) -> tuple[bytes, int]:
            return encode_many(("SISMEMBER", key, member) for member in page), len(page)

    for page, replies in _walk(pair, "SSCAN", key, size, lookup, pairs=False):
        found = pair.target.items(replies[0], "SMISMEMBER") if pair.target.smismember else replies
        for member, there in zip(page, found, strict=True):
            if pair.target.number(there, "SISMEMBER") != 1:
                return Finding("present", "absent", f"member {short(member)}", aspect="member")
    return None


def _zset_page(pair: Pair, key: bytes, size: int) -> Finding | None:
    if pair.target.zmscore:

        def lookup(names: Sequence[bytes]) -> tuple[bytes, int]:
            return encode("ZMSCORE", key, *names), 1
    else:

        def lookup(names: Sequence[bytes]) -> tuple[bytes, int]:
            return encode_many(("ZSCORE", key, name) for name in names), len(names)

    for page, replies in _walk(pair, "ZSCAN", key, size, lookup):
        names = page[::2]
        found = pair.target.items(replies[0], "ZMSCORE") if pair.target.zmscore else replies
        here = {name: float(value) for name, value in zip(names, page[1::2], strict=True)}
        there = {
            name: float(value)
            for name, reply in zip(names, found, strict=True)
            if (value := pair.target.data(reply, "ZSCORE")) is not None
        }
        if finding := mapping_finding("member", here, there, score):
            return finding
    return None


def _both_ways(pair: Pair, compare: Callable[[Pair], Finding | None], *, always: bool) -> Finding | None:
    finding = compare(pair)
    if finding is None and always:
        finding = compare(pair.swapped())
        if finding is not None:
            finding = replace(finding, source=finding.target, target=finding.source)
    return finding


def _walk(
    pair: Pair,
    scan: str,
    key: bytes,
    size: int,
    lookup: Callable[[Sequence[bytes]], tuple[bytes, int]],
    *,
    pairs: bool = True,
) -> Iterator[tuple[list[bytes], list[Reply]]]:
    """Scan the source's value; with each page come the target's replies to the commands of `lookup`.

    The source prepares a page while the target looks the one before it up.
    """
    cursor, page = _page(pair.source, pair.source.ask(scan, key, 0, "COUNT", size), scan)
    while True:
        more = encode(scan, key, cursor, "COUNT", size) if cursor != b"0" else b""
        question, count = lookup(page[::2] if pairs else page) if page else (b"", 0)
        following, replies = pair.ask(more, question, bool(more), count)
        if page:
            yield page, replies
        if not following:
            return
        cursor, page = _page(pair.source, following[0], scan)


def _page(side: Side, reply: Reply, scan: str) -> tuple[bytes, list[bytes]]:
    cursor, page = side.items(reply, scan)
    if not isinstance(cursor, bytes):
        raise side.unexpected(scan)
    return cursor, side.strings(page, scan)
