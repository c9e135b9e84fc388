"""Lists, sets, sorted sets and hashes as commands, and the choice of the rewriter for a type (see `base.py`)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from migrations_app.engine.errors import SnapshotError
from migrations_app.engine.rdb.base import Rewriter
from migrations_app.engine.rdb.packed import listpack, ziplist
from migrations_app.engine.rdb.stream import StreamRewriter

_CHUNK_ELEMENTS: Final = 512
_CHUNK_BYTES: Final = 128 * 1024


class ElementsRewriter(Rewriter):
    """Lists, sets, sorted sets and hashes: a count, then so many elements, each of which adds arguments to one command."""

    def __init__(
        self, key: bytes, command: bytes, element: Callable[[ElementsRewriter], list[bytes]], header: int = 0
    ) -> None:
        super().__init__(key)
        self._command = command
        self._element = element
        self._header = header  # bytes before the count
        self._left = 0
        self._args: list[bytes] = []
        self._bytes = 0
        self.expiries: dict[int, list[bytes]] = {}  # ms → fields, of the open chunk
        self.step = self._count

    def _count(self) -> None:
        self.raw(self._header)
        self._left = self.length()
        self.step = self._next if self._left else None

    def _next(self) -> None:
        args = self._element(self)
        self._args += args
        self._bytes += sum(map(len, args))
        self._left -= 1
        if not self._left:
            self.step = None
        if len(self._args) >= _CHUNK_ELEMENTS or self._bytes >= _CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._args:
            self.emit(self._command, self.key, *self._args)
            self._args, self._bytes = [], 0
        for at, fields in self.expiries.items():
            self.emit(b"HPEXPIREAT", self.key, b"%d" % at, b"FIELDS", b"%d" % len(fields), *fields)
        self.expiries = {}


def _one(reader: ElementsRewriter) -> list[bytes]:
    return [reader.string()]


def _pair(reader: ElementsRewriter) -> list[bytes]:
    return [reader.string(), reader.string()]


def _scored(reader: ElementsRewriter) -> list[bytes]:
    member = reader.string()
    return [score_text(struct.unpack("<d", reader.raw(8))[0]), member]


def _scored_text(reader: ElementsRewriter) -> list[bytes]:
    member = reader.string()
    size = reader.raw(1)[0]
    special = {253: b"nan", 254: b"inf", 255: b"-inf"}
    return [special[size] if size in special else reader.raw(size), member]


def _ziplist_node(reader: ElementsRewriter) -> list[bytes]:
    return list(ziplist(reader.string()))


def _quicklist_node(reader: ElementsRewriter) -> list[bytes]:
    container, node = reader.length(), reader.string()
    if container == 1:
        return [node]
    if container != 2:
        raise SnapshotError(f"the snapshot is damaged: a list node of kind {container} does not exist")
    return list(listpack(node))


class _FieldExpiry:
    """Hash fields with times of their own: Redis stores ms since the earliest of the hash plus one, 0 for none."""

    def __init__(self, *, valkey: bool) -> None:
        self._valkey = valkey
        self.earliest = 0

    def __call__(self, reader: ElementsRewriter) -> list[bytes]:
        if self._valkey:
            field, value = reader.string(), reader.string()
            at = int.from_bytes(reader.raw(8), "little", signed=True)
            if at > 0:
                reader.expiries.setdefault(at, []).append(field)
            return [field, value]
        since, field, value = reader.length(), reader.string(), reader.string()
        if since:
            reader.expiries.setdefault(self.earliest + since - 1, []).append(field)
        return [field, value]


class _RedisHashRewriter(ElementsRewriter):
    def __init__(self, key: bytes) -> None:
        self._expiry = _FieldExpiry(valkey=False)
        super().__init__(key, b"HMSET", self._expiry)

    def _count(self) -> None:
        earliest = int.from_bytes(self.raw(8), "little", signed=True)
        super()._count()
        self._expiry.earliest = earliest


def score_text(score: float) -> bytes:
    """A score so that it reads back as the same number."""
    if score != score:
        return b"nan"
    if score in (float("inf"), float("-inf")):
        return b"inf" if score > 0 else b"-inf"
    return b"%.17g" % score


def rewriter_for(kind: int, key: bytes, *, target_version: tuple[int, ...]) -> Rewriter | None:
    """For a value of type byte `kind`; None where the type has no commands that could build it."""
    if kind in (15, 19, 21):
        return StreamRewriter(kind, key, target_version=target_version)
    if kind == 24:
        return _RedisHashRewriter(key)
    makers: dict[int, tuple[bytes, Callable[[ElementsRewriter], list[bytes]]]] = {
        1: (b"RPUSH", _one),
        2: (b"SADD", _one),
        3: (b"ZADD", _scored_text),
        4: (b"HMSET", _pair),
        5: (b"ZADD", _scored),
        14: (b"RPUSH", _ziplist_node),
        18: (b"RPUSH", _quicklist_node),
        22: (b"HMSET", _FieldExpiry(valkey=True)),
    }
    return ElementsRewriter(key, *makers[kind]) if kind in makers else None
