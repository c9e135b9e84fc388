"""A stream as commands: entries, position, groups, consumers, pending entries.

Format: `rdb.c` (RDB_TYPE_STREAM_LISTPACKS, _2, _3, _4) and `t_stream.c`. What no command can set is left: when a consumer was last seen.
"""

from __future__ import annotations

from typing import Final

from migrations_app.engine.errors import SnapshotError, UnsupportedData
from migrations_app.engine.rdb.base import Rewriter
from migrations_app.engine.rdb.packed import listpack

_DELETED: Final = 1
_SAME_FIELDS: Final = 2
_MASK: Final = (1 << 64) - 1
_UNKNOWN: Final = _MASK  # entries read by a group that nobody knows


class StreamRewriter(Rewriter):
    """See `Rewriter`. `kind` is the type byte: 15, 19, 21 or 26."""

    def __init__(self, kind: int, key: bytes, *, target_version: tuple[int, ...]) -> None:
        super().__init__(key)
        self._kind = kind
        self._version = target_version
        self._left = 0  # nodes, groups, pending entries or consumers still to come, by step
        self._entries = 0
        self._groups = self._consumers = 0
        self._group = self._consumer = b""
        self._pending: dict[bytes, tuple[int, int]] = {}  # identifier → (delivery time in ms, deliveries)
        self.step = self._count

    def _count(self) -> None:
        self._left = self.length()
        self.step = self._node if self._left else self._tail

    def _node(self) -> None:
        first, data = self.string(), self.string()
        for identifier, fields in entries(first, data):
            self.emit(b"XADD", self.key, identifier, *fields)
            self._entries += 1
        self._left -= 1
        if not self._left:
            self.step = self._tail

    def _tail(self) -> None:
        self.length()  # entries
        last = _identifier(self.length(), self.length())
        extra: list[bytes] = []
        if self._kind > 15:
            self.length(), self.length()  # the first identifier follows from the entries
            deleted = _identifier(self.length(), self.length())
            added = self.length()
            if self._version >= (7,):
                extra = [b"ENTRIESADDED", b"%d" % added, b"MAXDELETEDID", deleted]
        groups = self.length()
        if not self._entries:
            # A stream without entries comes into being with a group only.
            self.emit(b"XGROUP", b"CREATE", self.key, b"switchyard", b"0", b"MKSTREAM")
            self.emit(b"XGROUP", b"DESTROY", self.key, b"switchyard")
        if last != b"0-0":
            self.emit(b"XSETID", self.key, last, *extra)
        self._groups = groups
        self._next_group()

    def _next_group(self) -> None:
        self.step = self._begin_group if self._groups else self._settings if self._kind == 26 else None

    def _begin_group(self) -> None:
        name = self.string()
        last = _identifier(self.length(), self.length())
        extra: list[bytes] = []
        if self._kind > 15:
            read = self.length()
            if self._version >= (7,):
                extra = [b"ENTRIESREAD", b"-1" if read == _UNKNOWN else b"%d" % read]
        pending = self.length()
        if pending:
            self.note = (
                f"the stream {self.key[:128]!r} is so large that it goes as commands: pending entries whose message has been deleted "
                "are not carried over"
            )
        self.emit(b"XGROUP", b"CREATE", self.key, name, last, *extra)
        self._group, self._left, self._pending = name, pending, {}
        self.step = self._pending_entry if pending else self._count_consumers

    def _pending_entry(self) -> None:
        raw = self.raw(24)
        deliveries = self.length()
        self._pending[raw[:16]] = (int.from_bytes(raw[16:], "little"), deliveries)
        self._left -= 1
        if not self._left:
            self.step = self._count_consumers

    def _count_consumers(self) -> None:
        self._consumers = self.length()
        self.step = self._begin_consumer if self._consumers else self._end_group

    def _begin_consumer(self) -> None:
        name = self.string()
        self.raw(16 if self._kind >= 21 else 8)
        self._left = self.length()
        if self._version >= (6, 2):
            self.emit(b"XGROUP", b"CREATECONSUMER", self.key, self._group, name)
        else:
            self.emit(*touch_consumer(self.key, self._group, name))
        self._consumer = name
        self._consumers -= 1
        self.step = self._claim if self._left else self._next_consumer

    def _claim(self) -> None:
        raw = self.raw(16)
        time, deliveries = self._pending.get(raw, (0, 1))
        identifier = _identifier(int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big"))
        self.emit(
            b"XCLAIM", self.key, self._group, self._consumer, b"0", identifier, b"TIME", b"%d" % time,
            b"RETRYCOUNT", b"%d" % deliveries, b"FORCE", b"JUSTID",
        )  # fmt: skip
        self._left -= 1
        if not self._left:
            self.step = self._next_consumer

    def _next_consumer(self) -> None:
        self.step = self._begin_consumer if self._consumers else self._end_group

    def _end_group(self) -> None:
        self._groups -= 1
        self._next_group()

    def _settings(self) -> None:
        """How long and how many are remembered of producers that repeat themselves, and of whom something is."""
        self.length(), self.length()
        producers = self.length()
        if producers:
            raise UnsupportedData(
                f"key {self.key[:128]!r} is a stream that remembers what {producers} producers have sent (XADD … IDMP), which the "
                "target does not know"
            )
        self.length(), self.length()
        self.step = None


def entries(first: bytes, data: bytes) -> list[tuple[bytes, list[bytes]]]:
    """The entries of one node → (identifier, field, value, …); deleted ones are left out.

    `first` is the node's key: 16 bytes, big endian, the identifier that the entries count from.
    """
    if len(first) != 16:
        raise SnapshotError("the snapshot is damaged: the key of a stream node is no identifier")
    ms, sequence = int.from_bytes(first[:8], "big"), int.from_bytes(first[8:], "big")
    elements = listpack(data)
    result = []
    try:
        left = int(next(elements)) + int(next(elements))
        names = [next(elements) for _ in range(int(next(elements)))]
        next(elements)  # 0: end of the master entry
        for _ in range(left):
            flags = int(next(elements))
            # The differences are stored as signed numbers; identifiers are unsigned and wrap around.
            identifier = _identifier(
                (ms + int(next(elements))) & _MASK, (sequence + int(next(elements))) & _MASK
            )
            fields: list[bytes] = []
            if flags & _SAME_FIELDS:
                for name in names:
                    fields += (name, next(elements))
            else:
                for _ in range(int(next(elements))):
                    fields += (next(elements), next(elements))
            next(elements)  # number of elements, for reading backwards
            if not flags & _DELETED:
                result.append((identifier, fields))
    except (StopIteration, ValueError):
        raise SnapshotError("the snapshot is damaged: a stream node is cut short") from None
    return result


def touch_consumer(key: bytes, group: bytes, name: bytes) -> list[bytes]:
    """A consumer comes into being by reading what it holds; behind the last identifier there is nothing to read.

    The last one but one: before 6.2 the very last means `>`, what no consumer has read yet.
    """
    last = _identifier(_MASK, _MASK - 1)
    return [b"XREADGROUP", b"GROUP", group, name, b"COUNT", b"1", b"STREAMS", key, last]


def _identifier(ms: int, sequence: int) -> bytes:
    return b"%d-%d" % (ms, sequence)
