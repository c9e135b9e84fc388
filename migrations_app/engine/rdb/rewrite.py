"""Lists, sets, sorted sets and hashes as commands, and the choice of the rewriter for a type (see `base.py`)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final

from migrations_app.engine.abilities import Abilities
from migrations_app.engine.errors import SnapshotError, UnsupportedData
from migrations_app.engine.kernel import Packer, module_name
from migrations_app.engine.protocol.resp import encode
from migrations_app.engine.rdb.base import Command, Rewriter
from migrations_app.engine.rdb.convert import StreamConverter
from migrations_app.engine.rdb.packed import listpack, ziplist
from migrations_app.engine.rdb.stream import StreamRewriter

_CHUNK_ELEMENTS: Final = 512
_CHUNK_BYTES: Final = 128 * 1024


class ElementsRewriter(Rewriter):
    """Lists, sets, sorted sets and hashes: a count, then so many elements, each of which adds arguments to one command."""

    def __init__(
        self,
        key: bytes,
        command: bytes,
        element: Callable[[ElementsRewriter], list[bytes]],
        header: int = 0,
        width: int = 0,
    ) -> None:
        super().__init__(key)
        self._width = width  # strings of an element that is nothing else; 0 for others
        self._packer = Packer()
        self._command = command
        self._element = element
        self._header = header  # bytes before the count
        self._left = 0
        self._args: list[bytes] = []
        self._parts: list[bytes] = []  # instead of them, where commands are encoded: bulk strings
        self._count_of_args = 0
        self._bytes = 0
        self.expiries: dict[int, list[bytes]] = {}  # ms → fields, of the open chunk
        self.step = self._count

    def _count(self) -> None:
        self.raw(self._header)
        self._left = self.length()
        self.step = self._next if self._left else None

    def _next(self) -> None:
        if not (self.encoded and self._width and self._pack()):
            self.add(self._element(self))
            self._left -= 1
        if not self._left:
            self.step = None

    def _pack(self) -> bool:
        """Add as many elements as compiled code takes at once; whether there were any."""
        packer = self._packer
        left = min(self._left, _CHUNK_ELEMENTS)  # what a damaged value says may be any number
        args, room = _CHUNK_ELEMENTS - self._count_of_args, _CHUNK_BYTES - self._bytes
        behind = packer.strings(self._buf, self._pos, left, self._width, args, room)
        if not packer.count:
            return False
        self._pos = behind
        self._left -= packer.count // self._width
        self.add_packed(packer)
        return True

    def add(self, args: list[bytes]) -> None:
        """Arguments of one element, for the open command."""
        if self.encoded:
            self._parts += [b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args]
        else:
            self._args += args
        self._added(len(args), sum(map(len, args)))

    def add_packed(self, packer: Packer) -> None:
        """The same for elements that are encoded already."""
        if packer.count:  # a node may be empty: a command without elements would be none
            self._parts.append(packer.data)
            self._added(packer.count, packer.size)

    def _added(self, count: int, size: int) -> None:
        self._count_of_args += count
        self._bytes += size
        if self._count_of_args >= _CHUNK_ELEMENTS or self._bytes >= _CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._parts:
            head = encode(self._command, self.key).partition(b"\r\n")[2]
            self._out.append(b"*%d\r\n%b%b" % (2 + self._count_of_args, head, b"".join(self._parts)))
            self._parts = []
        elif self._args:
            self.emit(self._command, self.key, *self._args)
            self._args = []
        self._count_of_args = self._bytes = 0
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


class ListRewriter(ElementsRewriter):
    """Lists of packed nodes: each node adds its elements at once."""

    def __init__(self, key: bytes, *, ziplists: bool) -> None:
        super().__init__(key, b"RPUSH", _one)
        self._ziplists = ziplists

    def _next(self) -> None:
        container = 2 if self._ziplists else self.length()
        node = self.string()
        if container == 1:
            self.add([node])
        elif container != 2:
            raise SnapshotError(f"the snapshot is damaged: a list node of kind {container} does not exist")
        elif self.encoded and self._packer.pack(node, self._ziplists):
            self.add_packed(self._packer)
        else:
            self.add(list(ziplist(node) if self._ziplists else listpack(node)))
        self._left -= 1
        if not self._left:
            self.step = None


class PackedRewriter(Rewriter):
    """Small collections whose value is one string: its elements, `width` at a time, become arguments of one command."""

    def __init__(
        self,
        key: bytes,
        command: bytes,
        width: int,
        elements: Callable[[bytes], Iterable[bytes]],
        *,
        swap: bool = False,
    ) -> None:
        super().__init__(key)
        self._command = command
        self._width = width
        self._elements = elements
        self._swap = swap  # member, score → score, member
        self.step = self._whole

    def _whole(self) -> None:
        args: list[bytes] = []
        size = 0
        group: list[bytes] = []
        for element in self._elements(self.string()):
            group.append(element)
            if len(group) < self._width:
                continue
            args += reversed(group) if self._swap else group
            size += sum(map(len, group))
            group = []
            if len(args) >= _CHUNK_ELEMENTS or size >= _CHUNK_BYTES:
                self.emit(self._command, self.key, *args)
                args, size = [], 0
        if group:
            raise SnapshotError(
                f"the snapshot is damaged: an element of key {self.key[:128]!r} lacks its other half"
            )
        if args:
            self.emit(self._command, self.key, *args)
        self.step = None


class _FieldExpiry:
    """Hash fields with times of their own: Redis stores ms since the earliest of the hash plus one, 0 for none."""

    def __init__(self, target: Abilities, *, valkey: bool) -> None:
        self._valkey = valkey
        self._target = target
        self.earliest = 0

    def __call__(self, reader: ElementsRewriter) -> list[bytes]:
        if self._valkey:
            field, value = reader.string(), reader.string()
            at = int.from_bytes(reader.raw(8), "little", signed=True)
            self.note(reader, field, max(0, at))
        else:
            since, field, value = reader.length(), reader.string(), reader.string()
            self.note(reader, field, self.earliest + since - 1 if since else 0)
        return [field, value]

    def note(self, reader: ElementsRewriter, field: bytes, at: int) -> None:
        """The field expires at that time (ms), 0 for never."""
        if not at:
            return
        if not self._target.knows("field expiry"):
            raise UnsupportedData(
                f"key {reader.key[:128]!r} is a hash whose field {field[:128]!r} has an expiry of its own, which the target "
                f"({self._target}) does not know"
            )
        reader.expiries.setdefault(at, []).append(field)


class _RedisHashRewriter(ElementsRewriter):
    """Type 24."""

    def __init__(self, key: bytes, target: Abilities) -> None:
        self._expiry = _FieldExpiry(target, valkey=False)
        super().__init__(key, b"HMSET", self._expiry)

    def _count(self) -> None:
        earliest = int.from_bytes(self.raw(8), "little", signed=True)
        super()._count()
        self._expiry.earliest = earliest


class _RedisPackedHashRewriter(ElementsRewriter):
    """Type 25: the earliest expiry, then a listpack of field, value and expiry in ms (0: none)."""

    def __init__(self, key: bytes, target: Abilities) -> None:
        self._expiry = _FieldExpiry(target, valkey=False)
        super().__init__(key, b"HMSET", self._expiry)

    def _count(self) -> None:
        self.raw(8)
        elements = list(listpack(self.string()))
        if len(elements) % 3:
            raise SnapshotError(f"the snapshot is damaged: the hash {self.key[:128]!r} is cut short")
        for place in range(0, len(elements), 3):
            field, value, at = elements[place : place + 3]
            if not at.isdigit() or len(at) > 19:
                raise SnapshotError(
                    f"the snapshot is damaged: a field of the hash {self.key[:128]!r} expires at {at[:32]!r}, which is no time"
                )
            self._expiry.note(self, field, int(at))
            self.add([field, value])
        self.step = None


class Refusal(Rewriter):
    """For a value that the target cannot hold in any form: the link stops, with the key and the reason."""

    def __init__(self, kind: int, key: bytes, target: Abilities) -> None:
        super().__init__(key)
        self._kind = kind
        self._target = target

    def feed(self, piece: bytes) -> list[Command]:
        if self._kind == 7:
            what = (
                f"a value of the module {module_name(piece, 0, len(piece))}, which the target does not have"
            )
        else:
            what = f"a stream, which the target ({self._target}) does not know"
        raise UnsupportedData(f"key {self.key[:128]!r} is {what}")


def score_text(score: float) -> bytes:
    """A score so that it reads back as the same number."""
    if score != score:
        return b"nan"
    if score in (float("inf"), float("-inf")):
        return b"inf" if score > 0 else b"-inf"
    return b"%.17g" % score


def rewriter_for(kind: int, key: bytes, *, target: Abilities, stamp: int) -> Rewriter | None:
    """For a value of type byte `kind`; None where the type has no commands that could build it.

    `stamp` is the version number of the target's own DUMP payloads.
    """
    if kind in (15, 19, 21, 26):
        if not target.knows("streams"):
            return Refusal(kind, key, target)
        if not target.loads(kind):
            return StreamConverter(kind, key, target=target, stamp=stamp)
        return StreamRewriter(kind, key, target_version=target.redis) if kind != 26 else None
    if kind == 7:
        return Refusal(kind, key, target)
    if kind == 24:
        return _RedisHashRewriter(key, target)
    if kind == 25:
        return _RedisPackedHashRewriter(key, target)
    if kind in (14, 18):
        return ListRewriter(key, ziplists=kind == 14)
    if kind == 16:
        return PackedRewriter(key, b"HMSET", 2, listpack)
    if kind == 17:
        return PackedRewriter(key, b"ZADD", 2, listpack, swap=True)
    if kind == 20:
        return PackedRewriter(key, b"SADD", 1, listpack)
    makers: dict[int, tuple[bytes, Callable[[ElementsRewriter], list[bytes]], int]] = {
        1: (b"RPUSH", _one, 1),
        2: (b"SADD", _one, 1),
        3: (b"ZADD", _scored_text, 0),
        4: (b"HMSET", _pair, 2),
        5: (b"ZADD", _scored, 0),
        22: (b"HMSET", _FieldExpiry(target, valkey=True), 0),
    }
    if kind not in makers:
        return None
    command, element, width = makers[kind]
    return ElementsRewriter(key, command, element, width=width)
