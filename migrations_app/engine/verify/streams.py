"""Streams: entries, what XINFO tells of the stream, groups and pending entries.

Compared: every entry; the last generated ID; where both sides know them (7.0), the highest deleted ID and the number of entries
ever added, which snapshots and the replication stream carry between such servers; per group the last delivered ID and each
pending entry with its consumer and its count of deliveries.

Not compared: idle times (when a pending entry was last delivered, a consumer last seen), since reading them takes longer than
they stay the same; consumers that have nothing pending, which no server replicates to its own replicas when they come into
being by reading (they come back the next time they read); pending entries that one side alone has and whose message
has been deleted: servers from 7.0 on drop them, at different moments; and the groups' `entries-read` where the source is
older than Redis 7.4 or Valkey 8.1, since those do not replicate it reliably.
"""

from __future__ import annotations

from collections.abc import Callable

from migrations_app.engine.protocol.resp import Reply, encode_many
from migrations_app.engine.verify.chunks import page_size
from migrations_app.engine.verify.model import Finding, escaped, short
from migrations_app.engine.verify.pair import Changed, Pair, Side

_PENDING = 1000  # pending entries of a page
_LAST = b"%d-%d" % (2**64 - 1, 2**64 - 1)
_STREAM_FIELDS = (b"last-generated-id", b"max-deleted-entry-id", b"entries-added")

Info = dict[bytes, Reply]


def stream_finding(pair: Pair, key: bytes, memory: int | None) -> Finding | None:
    """Compare one stream, whatever its size; a page of entries or of pending entries is held at a time."""
    command = encode_many([("XINFO", "STREAM", key), ("XINFO", "GROUPS", key)])
    source, target = pair.ask(command, command, 2, 2)
    infos = _info(pair.source, source[0]), _info(pair.target, target[0])
    lengths = [info.get(b"length") for info in infos]
    size = page_size(max(value if isinstance(value, int) else 0 for value in lengths), memory)
    if finding := _entries(pair, key, size):
        return finding
    if finding := _fields(infos[0], infos[1], _STREAM_FIELDS, ""):
        return finding
    return _groups(pair, key, _by_name(pair.source, source[1]), _by_name(pair.target, target[1]))


def _entries(pair: Pair, key: bytes, size: int) -> Finding | None:
    start = b"-"
    while True:
        source, target = pair.lists("XRANGE", key, start, "+", "COUNT", size)
        if finding := _rows(source, target, lambda row: escaped(_id(row)), _show_entry, "entry", "entry"):
            return finding
        if len(source) < size or _id(source[-1]) == _LAST:
            return None
        start = _after(_id(source[-1]))


def _groups(pair: Pair, key: bytes, source: dict[bytes, Info], target: dict[bytes, Info]) -> Finding | None:
    for name in sorted(source.keys() | target.keys()):
        where = f"group {short(name)}"
        if name not in source or name not in target:
            return Finding(_presence(name in source), _presence(name in target), where, aspect="group")
        fields = [b"last-delivered-id"]
        if pair.source.exact_entries_read:
            fields.append(b"entries-read")
        finding = _fields(source[name], target[name], fields, where + ", ")
        if finding := finding or _pending(pair, key, name, where):
            return finding
    return None


def _pending(pair: Pair, key: bytes, group: bytes, where: str) -> Finding | None:
    start = b"-"
    while True:
        pages = pair.lists("XPENDING", key, group, start, "+", _PENDING)
        # Behind the last row of a full page nothing is known of that side yet.
        end = min((_order(_id(page[-1])) for page in pages if len(page) == _PENDING), default=None)
        source, target = (
            [_pending_row(row) for row in page if end is None or _order(_id(row)) <= end] for page in pages
        )
        if source != target:
            source, target = _with_messages(pair, key, source, target)
        if finding := _rows(
            source, target, lambda row: escaped(_id(row)), _show_pending, f"{where}, pending entry", "pending"
        ):
            return finding
        if end is None or end == _order(_LAST):
            return None
        start = _after(b"%d-%d" % end)


def _with_messages(
    pair: Pair, key: bytes, source: list[Reply], target: list[Reply]
) -> tuple[list[Reply], list[Reply]]:
    """Both without the rows that one side alone has and whose message has been deleted."""
    alone = sorted({_id(row) for row in source} ^ {_id(row) for row in target})
    if not alone:
        return source, target
    command = encode_many(("XRANGE", key, identifier, identifier) for identifier in alone)
    answers = pair.ask(command, command, len(alone), len(alone))
    gone = {identifier for identifier, *found in zip(alone, *answers, strict=True) if not any(found)}
    return (
        [row for row in source if _id(row) not in gone],
        [row for row in target if _id(row) not in gone],
    )


def _rows(
    source: list[Reply],
    target: list[Reply],
    name: Callable[[Reply], str],
    show: Callable[[Reply], str],
    what: str,
    aspect: str,
) -> Finding | None:
    """The first difference of two lists that are ordered by stream ID and begin at the same ID."""
    if source == target:
        return None
    for index in range(max(len(source), len(target))):
        a = source[index] if index < len(source) else None
        b = target[index] if index < len(target) else None
        if a == b:
            continue
        if a is not None and b is not None and _id(a) == _id(b):
            return Finding(show(a), show(b), f"{what} {name(a)}", aspect=aspect)
        if b is None or (a is not None and _order(_id(a)) < _order(_id(b))):
            return Finding(show(a), "absent", f"{what} {name(a)}", aspect=aspect)
        return Finding("absent", show(b), f"{what} {name(b)}", aspect=aspect)
    return None


def _fields(source: Info, target: Info, names: tuple[bytes, ...] | list[bytes], where: str) -> Finding | None:
    for name in names:
        if name in source and name in target and source[name] != target[name]:
            return Finding(
                _plain(source[name]),
                _plain(target[name]),
                where + name.decode(),
                aspect="group" if where else "",
            )
    return None


def _info(side: Side, reply: Reply) -> Info:
    flat = side.items(reply, "XINFO")
    return {name: flat[at + 1] for at in range(0, len(flat) - 1, 2) if isinstance(name := flat[at], bytes)}


def _by_name(side: Side, reply: Reply) -> dict[bytes, Info]:
    infos = (_info(side, item) for item in side.items(reply, "XINFO"))
    return {name: info for info in infos if isinstance(name := info.get(b"name"), bytes)}


def _pending_row(row: Reply) -> Reply:
    """ID, consumer and deliveries, without the idle time."""
    if not isinstance(row, list) or len(row) != 4:
        raise Changed("XPENDING")
    return [row[0], row[1], row[3]]


def _id(row: Reply) -> bytes:
    if not isinstance(row, list) or not row or not isinstance(row[0], bytes):
        raise Changed("stream")
    return row[0]


def _order(identifier: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = identifier.partition(b"-")
    return int(milliseconds), int(sequence)


def _after(identifier: bytes) -> bytes:
    """The next possible ID: exclusive ranges came with 6.2 only."""
    milliseconds, sequence = _order(identifier)
    return b"%d-%d" % ((milliseconds, sequence + 1) if sequence < 2**64 - 1 else (milliseconds + 1, 0))


def _show_entry(row: Reply) -> str:
    fields = row[1] if isinstance(row, list) and len(row) > 1 else None
    if not isinstance(fields, list):
        return _plain(fields)
    return short(b" ".join(item for item in fields if isinstance(item, bytes)))


def _show_pending(row: Reply) -> str:
    if not isinstance(row, list):
        return _plain(row)
    return f"consumer {_plain(row[1])}, deliveries {_plain(row[2])}"


def _plain(value: Reply) -> str:
    if isinstance(value, bytes):
        return short(value)
    return "unknown" if value is None else str(value)


def _presence(present: bool) -> str:
    return "present" if present else "absent"
