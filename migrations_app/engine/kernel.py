"""The hot path: walking snapshots, splitting the stream, counting replies, checksums.

Plain typed functions and small classes over contiguous buffers. Every length from the wire is checked against the buffer
before it is used. Nothing here knows sockets, filters or the shape of a link.

Formats: `rdb.h`, `rdb.c`, `lzf_d.c` and `cluster.c` (DUMP trailer) of Redis and Valkey, read as descriptions.

This file is Cython in its pure-Python mode. Compiled, a `p_uchar` is a pointer into the caller's buffer; interpreted, the buffer
itself, which is indexed in the same way. Where both need different words for speed, `cython.compiled` chooses; what comes out is the
same. Loops that run without the interpreter's lock never raise: they stop in front of whatever is damaged, incomplete or rare, and
the code behind them says what it is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import anycrc
import cython

from migrations_app.engine.checkpoint import OWN_PREFIX
from migrations_app.engine.errors import (
    ProtocolError,
    SnapshotChecksumError,
    SnapshotError,
    UnknownCommand,
    UnsupportedData,
)
from migrations_app.engine.protocol.resp import encode

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
    from cython.cimports.libc.stdlib import free, malloc, realloc
    from cython.cimports.libc.string import memcmp, memcpy

COMPILED: Final = bool(cython.compiled)
DESCRIPTION: Final = (
    "kernel compiled" if COMPILED else "kernel interpreted (slower: there was no C compiler at setup)"
)
_crc64 = anycrc.Model("CRC64-REDIS").calc

MAX_LENGTH: Final = 1 << 40  # no length on the wire is near this; a larger one is damage
_MAX = cython.declare(cython.ulonglong, MAX_LENGTH)
_LZF: Final = 3
_STRINGS_ROOM = cython.declare(
    cython.Py_ssize_t, 512 * 1024
)  # bytes for arguments that are made of strings at once
_PACKED_MOST = cython.declare(
    cython.Py_ssize_t, 1 << 20
)  # bytes of a node whose elements are taken apart by compiled code


def crc64(data: bytes | bytearray | memoryview, crc: int = 0) -> int:
    """CRC-64 of Redis (Jones polynomial, reflected, no final xor), going on from `crc`."""
    return int(_crc64(data, crc))


# --- lengths and strings of a snapshot ------------------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _length_width(first: cython.int) -> cython.Py_ssize_t:
    """How many bytes a length takes that begins with `first`; 0 where none does."""
    if first < 0x40:
        return 1
    if first < 0x80:
        return 2
    return 5 if first == 0x80 else 9 if first == 0x81 else 0


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _length_at(p: cython.p_uchar, pos: cython.Py_ssize_t, width: cython.Py_ssize_t) -> cython.longlong:
    """The length there, which takes `width` bytes; one that cannot be true comes out as `MAX_LENGTH` + 1."""
    value: cython.ulonglong = 0
    place: cython.Py_ssize_t
    if width <= 2:
        return p[pos] if width == 1 else (p[pos] & 0x3F) << 8 | p[pos + 1]
    for place in range(pos + 1, pos + width):
        value = value << 8 | p[place]
    return value if value <= _MAX else _MAX + 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _string_end(p: cython.p_uchar, pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Where the string at `pos` ends, maybe beyond `end`; -1: its header is not complete; -2: it is damaged."""
    first: cython.int
    width: cython.Py_ssize_t
    length: cython.longlong
    plain: cython.longlong
    if pos >= end:
        return -1
    first = p[pos]
    if first < 0x40:
        return pos + 1 + first
    if first < 0xC0:
        width = _length_width(first)
        if not width:
            return -2
        if pos + width > end:
            return -1
        length = _length_at(p, pos, width)
        return pos + width + length if length <= _MAX else -2
    if first < 0xC3:
        return pos + 1 + (1 << (first - 0xC0))
    if first != 0xC3:
        return -2
    pos += 1
    if pos >= end:
        return -1
    width = _length_width(p[pos])
    if not width:
        return -2
    if pos + width >= end:
        return -1
    length = _length_at(p, pos, width)
    pos += width
    width = _length_width(p[pos])
    if not width:
        return -2
    if pos + width > end:
        return -1
    plain = _length_at(p, pos, width)
    if length > _MAX or plain > _MAX:
        return -2
    return pos + width + length


def read_length(buf: bytes | bytearray, pos: int, end: int) -> tuple[int, int]:
    """The length at `pos` → (length, position behind it); (0, -1) when it is not complete yet."""
    if pos >= end:
        return 0, -1
    first = buf[pos]
    kind = first >> 6
    if kind == 0:
        return first, pos + 1
    if kind == 1:
        if pos + 2 > end:
            return 0, -1
        return ((first & 0x3F) << 8) | buf[pos + 1], pos + 2
    if first == 0x80:
        if pos + 5 > end:
            return 0, -1
        return int.from_bytes(buf[pos + 1 : pos + 5], "big"), pos + 5
    if first == 0x81:
        if pos + 9 > end:
            return 0, -1
        return int.from_bytes(buf[pos + 1 : pos + 9], "big"), pos + 9
    raise SnapshotError(f"the snapshot is damaged: byte 0x{first:02x} where a length was expected")


def string_extent(buf: bytes | bytearray, pos: int, end: int) -> tuple[int, int]:
    """The string at `pos` → (where its content begins, where the string ends); (0, -1): its header is not complete.

    The end may lie beyond `end`: the content is then still to come. Nothing is decoded.
    """
    if pos >= end:
        return 0, -1
    first = buf[pos]
    if first >> 6 != 3:
        length, start = read_length(buf, pos, end)
        if start < 0:
            return 0, -1
        if length > MAX_LENGTH:
            raise SnapshotError(f"the snapshot is damaged: a string of {length} bytes")
        return start, start + length
    encoding = first & 0x3F
    if encoding < _LZF:
        return pos + 1, pos + 1 + (1 << encoding)
    if encoding != _LZF:
        raise SnapshotError(f"the snapshot is damaged: string encoding {encoding} does not exist")
    packed, start = read_length(buf, pos + 1, end)
    if start < 0:
        return 0, -1
    plain, start = read_length(buf, start, end)
    if start < 0:
        return 0, -1
    if packed > MAX_LENGTH or plain > MAX_LENGTH:
        raise SnapshotError(f"the snapshot is damaged: a compressed string of {packed} bytes")
    return start, start + packed


def skip_strings(
    buf: bytes | bytearray, pos: cython.Py_ssize_t, end: cython.Py_ssize_t, count: cython.longlong
) -> tuple[int, int]:
    """Step over up to `count` complete strings → (position, strings left)."""
    p: cython.p_uchar = buf
    stop: cython.Py_ssize_t
    first: cython.int
    while count and pos < end:
        first = p[pos]
        if first < 0x40:
            stop = pos + 1 + first
        elif first == 0xC3 and pos + 5 <= end and p[pos + 1] < 0x40 and p[pos + 2] < 0x80:
            stop = pos + (3 if p[pos + 2] < 0x40 else 4) + p[pos + 1]
        else:
            stop = _string_end(p, pos, end)
        if stop == -2:
            string_extent(buf, pos, end)  # raises
        if stop < 0 or stop > end:
            break
        pos = stop
        count -= 1
    return pos, count


def read_string(buf: bytes | bytearray, pos: int, end: int) -> tuple[bytes, int]:
    """The string at `pos`, decoded → (content, position behind it); (b"", -1) when it is not complete yet."""
    start, stop = string_extent(buf, pos, end)
    if stop < 0 or stop > end:
        return b"", -1
    first = buf[pos]
    if first >> 6 != 3:
        return bytes(buf[start:stop]), stop
    if first & 0x3F != _LZF:
        return b"%d" % int.from_bytes(buf[start:stop], "little", signed=True), stop
    _, behind = read_length(buf, pos + 1, end)
    plain, _ = read_length(buf, behind, end)
    return lzf_decompress(bytes(buf[start:stop]), plain), stop


def lzf_decompress(data: bytes, length: int) -> bytes:
    """Undo LZF; `length` is what must come out. Raises `SnapshotError` for damaged input."""
    out = bytearray()
    pos, end = 0, len(data)
    try:
        while pos < end:
            control = data[pos]
            pos += 1
            if control < 32:
                out += data[pos : pos + control + 1]
                pos += control + 1
                continue
            run = control >> 5
            if run == 7:
                run += data[pos]
                pos += 1
            run += 2
            back = ((control & 0x1F) << 8) + data[pos] + 1
            pos += 1
            start = len(out) - back
            if start < 0 or len(out) + run > length:
                raise SnapshotError("the snapshot is damaged: a compressed string points outside of itself")
            if back >= run:
                out += out[start : start + run]
            else:
                pattern = bytes(out[start:])
                out += (pattern * (run // back + 1))[:run]
    except IndexError:
        raise SnapshotError("the snapshot is damaged: a compressed string is cut short") from None
    if len(out) != length or pos != end:
        raise SnapshotError("the snapshot is damaged: a compressed string has the wrong length")
    return bytes(out)


# --- values of a snapshot ---------------------------------------------------------------------------------------------

# What a value is made of, as steps that can be resumed at any byte: (kind, how many are left).
_STRINGS: Final = 0  # strings
_STRING_RAW8: Final = 1  # a string and 8 bytes (sorted set, new form)
_STRING_SCORE: Final = 2  # a string and a number as text (sorted set, old form)
_LENGTH_STRING: Final = 3  # a length and a string (quicklist 2: container and node)
_LENGTHS: Final = 4  # lengths, to be stepped over
_RAW: Final = 5  # bytes
_TTL_PAIR: Final = 6  # a length, a string, a string (Redis hash with field expiry)
_PAIR_RAW8: Final = 7  # a string, a string, 8 bytes (Valkey hash with field expiry)
_COUNT: Final = 8  # a length that says how many of the step that `_then` names follow
_GROUPS: Final = 9  # consumer groups of a stream
_CONSUMERS: Final = 10  # consumers of a group
_MODULE: Final = 11  # a module's value: opcodes until 0
_PENDING: Final = 12  # pending entries of a group: 24 bytes and a length
_PRODUCERS: Final = 13  # producers of a stream that repeat themselves safely (Redis 8.6)
_PRODUCED: Final = 14  # what one of them has sent: a string and the identifier of the entry

Step = tuple[int, int]


def _count(then: int, multiply: int = 1) -> Step:
    """A step that reads a length and puts `length × multiply` of `then` in its place."""
    return (_COUNT | then << 8 | multiply << 16, 1)


_STREAM_TAIL_1: Final[tuple[Step, ...]] = ((_LENGTHS, 3), _count(_GROUPS))
_STREAM_TAIL_2: Final[tuple[Step, ...]] = ((_LENGTHS, 8), _count(_GROUPS))

# Type byte → steps, in the order of the bytes. Types made of one string alone are not here: see SINGLE.
_PROGRAMS: Final[dict[int, tuple[Step, ...]]] = {
    1: (_count(_STRINGS),),  # list
    2: (_count(_STRINGS),),  # set
    3: (_count(_STRING_SCORE),),  # sorted set, scores as text
    4: (_count(_STRINGS, 2),),  # hash
    5: (_count(_STRING_RAW8),),  # sorted set 2
    7: ((_LENGTHS, 1), (_MODULE, 1)),  # module 2: id, then opcodes
    14: (_count(_STRINGS),),  # quicklist
    15: (_count(_STRINGS, 2), *_STREAM_TAIL_1),  # stream
    18: (_count(_LENGTH_STRING),),  # quicklist 2
    19: (_count(_STRINGS, 2), *_STREAM_TAIL_2),  # stream 2
    21: (_count(_STRINGS, 2), *_STREAM_TAIL_2),  # stream 3
    # stream 4: then how long and how many are remembered, what is, and two counters
    26: (_count(_STRINGS, 2), *_STREAM_TAIL_2, (_LENGTHS, 2), _count(_PRODUCERS), (_LENGTHS, 2)),
}
_REDIS_ONLY: Final[dict[int, tuple[Step, ...]]] = {
    24: ((_RAW, 8), _count(_TTL_PAIR)),  # hash with field expiry
    25: ((_RAW, 8), (_STRINGS, 1)),  # the same as a listpack
}
_VALKEY_ONLY: Final[dict[int, tuple[Step, ...]]] = {
    22: (_count(_PAIR_RAW8),),  # hash with field expiry
}
# Types whose whole value is one string: string, zipmap, ziplists, intset, listpacks.
SINGLE: Final = frozenset({0, 9, 10, 11, 12, 13, 16, 17, 20})
STREAMS: Final = frozenset({15, 19, 21, 26})

# How the quick way finds the end of a value, by type byte; 0: it does not.
_FORM_SINGLE = cython.declare(cython.int, 1)  # one string
_FORM_STRINGS = cython.declare(cython.int, 2)  # a count, strings
_FORM_PAIRS = cython.declare(cython.int, 3)  # a count, pairs of strings
_FORM_SCORED = cython.declare(cython.int, 4)  # a count, strings with 8 bytes behind each
_FORM_NODES = cython.declare(cython.int, 5)  # a count, lengths with a string behind each
_FORMS: Final = dict.fromkeys(SINGLE, _FORM_SINGLE) | {
    1: _FORM_STRINGS, 2: _FORM_STRINGS, 14: _FORM_STRINGS, 4: _FORM_PAIRS, 5: _FORM_SCORED, 18: _FORM_NODES
}  # fmt: skip


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _value_end(
    form: cython.int, p: cython.p_uchar, pos: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Where the value at `pos` ends; -1: it is not complete; -2: it is damaged."""
    width: cython.Py_ssize_t
    count: cython.longlong
    first: cython.int
    if form == _FORM_SINGLE:
        pos = _string_end(p, pos, end)
        return pos if pos <= end else -1
    if pos >= end:
        return -1
    width = _length_width(p[pos])
    if not width:
        return -2
    if pos + width > end:
        return -1
    count = _length_at(p, pos, width)
    if count > _MAX:
        return -2
    pos += width
    if form == _FORM_PAIRS:
        count *= 2
    while count:
        if pos >= end:
            return -1
        if form == _FORM_NODES:
            width = _length_width(p[pos])
            if not width:
                return -2
            pos += width
            if pos >= end:
                return -1
        first = p[pos]
        if first < 0x40:
            pos += 1 + first
        elif first == 0xC3 and pos + 5 <= end and p[pos + 1] < 0x40 and p[pos + 2] < 0x80:
            # Compressed, and both lengths are short: the most common of the long forms.
            pos += (3 if p[pos + 2] < 0x40 else 4) + p[pos + 1]
        else:
            pos = _string_end(p, pos, end)
            if pos < 0:
                return pos
        if form == _FORM_SCORED:
            pos += 8
        count -= 1
    return pos if pos <= end else -1


class ValueWalker:
    """Finds the end of one value without decoding it, over any number of calls.

    `begin` at the first byte behind the key, then `walk` until it returns True; `pos` is then the end. Positions refer to
    the caller's buffer; when bytes are removed from its front, call `shift`.
    """

    __slots__ = ("_steps", "_stream", "pos", "valkey")

    def __init__(self) -> None:
        self.valkey = False
        self.pos = 0
        self._steps: list[Step] = []
        self._stream = 1

    def begin(self, kind: int, pos: int) -> None:
        """Start at `pos` with a value of type byte `kind`; raises `UnsupportedData` for an unknown type."""
        self.pos = pos
        if kind in SINGLE:
            self._steps = [(_STRINGS, 1)]
            return
        program = _PROGRAMS.get(kind) or (_VALKEY_ONLY if self.valkey else _REDIS_ONLY).get(kind)
        if program is None:
            raise UnsupportedData(
                f"the snapshot holds a value of type {kind}, which this engine does not know"
            )
        self._steps = list(reversed(program))
        self._stream = {15: 1, 19: 2, 21: 3, 26: 3}.get(kind, 0)

    def shift(self, count: int) -> None:
        """The caller has removed `count` bytes from the front of its buffer."""
        self.pos -= count

    def walk(self, buf: bytes | bytearray, end: int) -> bool:
        """Go on up to `end`; True when the value is complete."""
        steps = self._steps
        while steps:
            kind, left = steps.pop()
            if kind == _STRINGS:
                self.pos, left = skip_strings(buf, self.pos, end, left)
            elif kind == _RAW:
                take = min(left, end - self.pos)
                self.pos += take
                left -= take
            elif kind & 0xFF == _COUNT:
                count, pos = read_length(buf, self.pos, end)
                if pos >= 0:
                    if count > MAX_LENGTH:
                        raise SnapshotError(f"the snapshot is damaged: a value of {count} elements")
                    self.pos, left = pos, 0
                    steps.append((kind >> 8 & 0xFF, count * (kind >> 16)))
            elif kind == _GROUPS:
                if left:
                    steps.append((kind, left - 1))
                    steps.extend(self._group())
                continue
            elif kind == _CONSUMERS:
                if left:
                    steps.append((kind, left - 1))
                    # name, seen time (and active time from stream 3 on), identifiers of the pending entries
                    steps += [_count(_RAW, 16), (_RAW, 16 if self._stream == 3 else 8), (_STRINGS, 1)]
                continue
            elif kind == _PRODUCERS:
                if left:
                    steps += [(kind, left - 1), _count(_PRODUCED), (_STRINGS, 1)]
                continue
            else:
                left = self._elements(kind, left, buf, end)
            if left:
                steps.append((kind, left))
                return False
        return True

    def _group(self) -> list[Step]:
        """One consumer group, last step first: name, last identifier (and entries read), pending entries, consumers."""
        return [
            _count(_CONSUMERS),
            _count(_PENDING),
            (_LENGTHS, 2 if self._stream == 1 else 3),
            (_STRINGS, 1),
        ]

    def _elements(self, kind: int, left: int, buf: bytes | bytearray, end: int) -> int:
        """Whole elements of the composite kinds; returns how many are left."""
        pos = self.pos
        while left:
            if kind == _STRING_RAW8:
                pos, rest = skip_strings(buf, pos, end, 1)
                if rest or pos + 8 > end:
                    break
                pos += 8
            elif kind == _LENGTH_STRING:
                _, pos = read_length(buf, pos, end)
                if pos < 0:
                    break
                pos, rest = skip_strings(buf, pos, end, 1)
                if rest:
                    break
            elif kind == _LENGTHS:
                _, pos = read_length(buf, pos, end)
                if pos < 0:
                    break
            elif kind == _STRING_SCORE:
                pos, rest = skip_strings(buf, pos, end, 1)
                if rest or pos >= end:
                    break
                pos += 1 if buf[pos] >= 253 else 1 + buf[pos]
                if pos > end:
                    break
            elif kind == _TTL_PAIR:
                _, pos = read_length(buf, pos, end)
                if pos < 0:
                    break
                pos, rest = skip_strings(buf, pos, end, 2)
                if rest:
                    break
            elif kind == _PRODUCED:
                pos, rest = skip_strings(buf, pos, end, 1)
                if rest:
                    break
                _, pos = read_length(buf, pos, end)
                if pos >= 0:
                    _, pos = read_length(buf, pos, end)
                if pos < 0:
                    break
            elif kind == _PENDING:
                if pos + 24 > end:
                    break
                _, pos = read_length(buf, pos + 24, end)
                if pos < 0:
                    break
            elif kind == _PAIR_RAW8:
                pos, rest = skip_strings(buf, pos, end, 2)
                if rest or pos + 8 > end:
                    break
                pos += 8
            else:  # _MODULE
                opcode, pos = read_length(buf, pos, end)
                if pos < 0:
                    break
                if opcode == 0:  # end of the value
                    self.pos = pos
                    return 0
                pos = _module_operand(opcode, buf, pos, end)
                if pos < 0 or pos > end:
                    break
                self.pos = pos
                continue
            self.pos = pos
            left -= 1
        return left


def _module_operand(opcode: int, buf: bytes | bytearray, pos: int, end: int) -> int:
    """Step over the operand of a module opcode (signed, unsigned, float, double, string); -1 when it is not complete."""
    if opcode in (1, 2):
        return read_length(buf, pos, end)[1]
    if opcode == 3:
        return pos + 4
    if opcode == 4:
        return pos + 8
    if opcode == 5:
        return string_extent(buf, pos, end)[1]
    raise SnapshotError(f"the snapshot is damaged: module opcode {opcode} does not exist")


# --- snapshot → commands ----------------------------------------------------------------------------------------------

_OP_FUNCTION: Final = 0xF5
_OP_MODULE_AUX: Final = 0xF7
_LOWEST_OPCODE: Final = 0xF3


class Rewriting(Protocol):
    """Takes a serialised value in pieces and gives the commands that build it; `note` says what they cannot carry."""

    note: str
    encoded: bool  # whether commands may come as RESP

    def feed(self, piece: bytes) -> Sequence[list[bytes] | bytes]: ...

    def finish(self) -> Sequence[list[bytes] | bytes]: ...


class SnapshotPlan:
    """What the target takes and what the link wants; made once per snapshot.

    `stamp` is the version number of DUMP payloads that the target writes itself (so accepts). `defer_before` is a time in ms:
    a key that expires before it is written without expiry and reported in `SnapshotBatch.deferred`. A string that is larger than
    `stream_from` bytes goes through while it arrives; a collection larger than `rewrite_from` (a stream: four times that, since
    commands cannot carry all of it) goes as commands, which the object that `rewriter` makes for its type byte and key gives
    (`rdb.base.Rewriter`).

    `wants_key` says whether a key is copied. Values whose type byte is in `rewrite_kinds` (the target does not load them) go as
    commands, however small they are. With `replace` off a key that exists answers BUSYKEY, and strings go as RESTORE, too. `verb`
    stands before the key instead of RESTORE, such as EVALSHA, its script, 1. A value that goes as commands is built under
    `stage(key)` and finished by `commit(key, staged)`. `mset` off keeps strings out of MSET, which a cluster does not take.
    `on_aux` gives the commands that a fact (name, value) of the snapshot becomes. `unpack` has short strings that came compressed go
    uncompressed, which spares the target work; only compiled code is quick enough for it to pay.
    """

    __slots__ = (
        "commit", "databases", "defer_before", "mset", "on_aux", "own_prefix", "replace", "rewrite_from", "rewrite_kinds",
        "rewriter", "stage", "stamp", "stream_from", "target_version", "unpack", "verb", "wants_key",
    )  # fmt: skip

    def __init__(
        self,
        *,
        stamp: int,
        target_version: tuple[int, ...],
        databases: frozenset[int] | None = None,
        defer_before: int = 0,
        own_prefix: bytes = OWN_PREFIX,
        stream_from: int = 1 << 20,
        rewrite_from: int = 4 << 20,
        rewriter: Callable[[int, bytes], Rewriting | None] = lambda kind, key: None,
        wants_key: Callable[[bytes], bool] | None = None,
        rewrite_kinds: frozenset[int] = frozenset(),
        replace: bool = True,
        verb: Sequence[bytes] = (b"RESTORE",),
        stage: Callable[[bytes], bytes] | None = None,
        commit: Callable[[bytes, bytes], list[list[bytes]]] | None = None,
        mset: bool = True,
        on_aux: Callable[[bytes, bytes], list[list[bytes]]] | None = None,
        unpack: bool = COMPILED,
    ) -> None:
        self.unpack = unpack
        self.rewrite_from = rewrite_from
        self.rewriter = rewriter
        self.stamp = stamp.to_bytes(2, "little")
        self.target_version = target_version
        self.databases = databases
        self.defer_before = defer_before
        self.own_prefix = own_prefix
        self.stream_from = stream_from
        self.wants_key = wants_key
        self.rewrite_kinds = rewrite_kinds
        self.replace = replace
        self.verb = tuple(verb)
        self.stage = stage
        self.commit = commit
        self.mset = mset
        self.on_aux = on_aux

    def now_ms(self) -> int:
        """The time now, in ms, for targets that take no absolute expiry."""
        return time.time_ns() // 1_000_000


class SnapshotBatch:
    """What one block of the snapshot became.

    `data` is RESP for the target: `commands` commands end in it (the last one may go on in the next batch). `keys` counts per
    database. `deferred` has (database, key, expiry in ms) of keys written without their expiry.
    """

    __slots__ = ("commands", "data", "deferred", "done", "keys", "notes", "rest", "skipped")

    def __init__(self) -> None:
        self.data: list[bytes | bytearray] = []
        self.commands = 0
        self.keys: dict[int, int] = {}
        self.skipped = 0
        self.deferred: list[tuple[int, bytes, int]] = []
        self.notes: list[str] = []  # what a person should know
        self.done = False
        self.rest = b""  # what follows the snapshot in the block that ended it


_GROUP_KEYS = cython.declare(cython.Py_ssize_t, 32)  # strings in one MSET, at most
_GROUP_BYTES = cython.declare(cython.Py_ssize_t, 64 * 1024)
_GROUP_ROOM = cython.declare(
    cython.Py_ssize_t, 160 * 1024
)  # of an open MSET, and of what follows it: `_GROUP_BYTES`, one more value and key at their longest, and what frames them
_SPARE = cython.declare(
    cython.Py_ssize_t, 64
)  # what is read to find the extent of a key is in the buffer if so many bytes follow
_PART: Final = 64 * 1024  # of a value that goes as commands, taken at a time
_WAIT: Final = (
    128 * 1024
)  # an incomplete value is waited for up to here; a longer one is walked over several blocks
_SLACK = cython.declare(cython.Py_ssize_t, 32)  # bytes that a copy may write beyond its end
_LONG = cython.declare(
    cython.Py_ssize_t, 64 * 1024
)  # a string that is longer goes as SET of its own, and compressed if it came so


def _crc_table() -> bytes:
    """Eight tables of 256 numbers of 64 bits, for eight bytes at a time (slicing by eight)."""
    rows = [[0] * 256 for _ in range(8)]
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
        rows[0][byte] = crc
    for byte in range(256):
        for row in range(1, 8):
            before = rows[row - 1][byte]
            rows[row][byte] = before >> 8 ^ rows[0][before & 0xFF]
    return b"".join(number.to_bytes(8, sys.byteorder) for row in rows for number in row)


# What the interpreter would else format for each key.
_KINDS: Final = [bytes((kind,)) for kind in range(256)]
_SIZES: Final = [b"$%d\r\n" % size for size in range(1024)]

if cython.compiled:
    _CRC_BYTES = cython.declare(bytes, _crc_table())
    _CRC = cython.declare(cython.p_uchar, _CRC_BYTES)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _crc64_of(p: cython.p_uchar, pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.ulonglong:
    """CRC-64 of the bytes from `pos` to `end`. Compiled only: quicker than a call of the library for what is short."""
    table: cython.p_ulonglong = cython.cast(cython.p_ulonglong, _CRC)
    crc: cython.ulonglong = 0
    word: cython.ulonglong
    while end - pos >= 8:
        word = p[pos]
        word |= cython.cast(cython.ulonglong, p[pos + 1]) << 8
        word |= cython.cast(cython.ulonglong, p[pos + 2]) << 16
        word |= cython.cast(cython.ulonglong, p[pos + 3]) << 24
        word |= cython.cast(cython.ulonglong, p[pos + 4]) << 32
        word |= cython.cast(cython.ulonglong, p[pos + 5]) << 40
        word |= cython.cast(cython.ulonglong, p[pos + 6]) << 48
        word |= cython.cast(cython.ulonglong, p[pos + 7]) << 56
        crc ^= word
        crc = (
            table[0x700 + (crc & 0xFF)]
            ^ table[0x600 + (crc >> 8 & 0xFF)]
            ^ table[0x500 + (crc >> 16 & 0xFF)]
            ^ table[0x400 + (crc >> 24 & 0xFF)]
            ^ table[0x300 + (crc >> 32 & 0xFF)]
            ^ table[0x200 + (crc >> 40 & 0xFF)]
            ^ table[0x100 + (crc >> 48 & 0xFF)]
            ^ table[crc >> 56]
        )
        pos += 8
    while pos < end:
        crc = table[(crc ^ p[pos]) & 0xFF] ^ crc >> 8
        pos += 1
    return crc


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _put(
    out: cython.p_uchar, at: cython.Py_ssize_t, p: cython.p_uchar, size: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Copy `size` bytes to `out` at `at` → the position behind them. Compiled only."""
    memcpy(out + at, p, size)
    return at + size


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _put_number(out: cython.p_uchar, at: cython.Py_ssize_t, number: cython.longlong) -> cython.Py_ssize_t:
    """Decimal digits of a number → the position behind them. Compiled only."""
    digits = cython.declare(cython.uchar[24])
    count: cython.Py_ssize_t = 0
    rest: cython.ulonglong
    if number < 0:
        out[at] = 0x2D
        at += 1
        rest = 0 - cython.cast(cython.ulonglong, number)
    else:
        rest = number
    while True:
        digits[count] = 0x30 + cython.cast(cython.int, rest % 10)
        count += 1
        rest //= 10
        if not rest:
            break
    while count:
        count -= 1
        out[at] = digits[count]
        at += 1
    return at


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _put_bulk(
    out: cython.p_uchar, at: cython.Py_ssize_t, p: cython.p_uchar, size: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """A bulk string → the position behind it. Compiled only."""
    out[at] = 0x24
    at = _put_number(out, at + 1, size)
    out[at] = 13
    out[at + 1] = 10
    memcpy(out + at + 2, p, size)
    at += 2 + size
    out[at] = 13
    out[at + 1] = 10
    return at + 2


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _put_plain(
    out: cython.p_uchar,
    at: cython.Py_ssize_t,
    p: cython.p_uchar,
    pos: cython.Py_ssize_t,
    stop: cython.Py_ssize_t,
    plain: cython.Py_ssize_t,
    limit: cython.Py_ssize_t,
) -> cython.bint:
    """Undo LZF: `plain` bytes to `out` at `at`; False for damaged input. Compiled only.

    Short pieces are copied 16 or 32 bytes at a time, whatever their size: `p` may be read up to `limit`, and `out` has `_SLACK` bytes of
    room behind the last.
    """
    begin: cython.Py_ssize_t = at
    end: cython.Py_ssize_t = at + plain
    wide = cython.declare(cython.uchar[16])
    control: cython.Py_ssize_t
    run: cython.Py_ssize_t
    back: cython.Py_ssize_t
    while pos < stop:
        control = p[pos]
        pos += 1
        if control < 32:
            run = control + 1
            if pos + run > stop or at + run > end:
                return False
            if pos + 32 <= limit:
                memcpy(out + at, p + pos, 32)
            else:
                memcpy(out + at, p + pos, run)
            pos += run
            at += run
            continue
        run = control >> 5
        if run == 7:
            if pos >= stop:
                return False
            run += p[pos]
            pos += 1
        run += 2
        if pos >= stop:
            return False
        back = ((control & 0x1F) << 8) + p[pos] + 1
        pos += 1
        if at - back < begin or at + run > end:
            return False
        while run > 0:
            # A pattern that repeats itself is longer behind each copy.
            if back >= 16:
                memcpy(out + at, out + at - back, 16)
                at += 16
                run -= 16
            else:
                memcpy(wide, out + at - back, 16)
                memcpy(out + at, wide, 16)
                at += back
                run -= back
                back *= 2
        at += run
    return at == end


@cython.cclass
class _Writer:
    """The quick way for what most keys are: complete in the buffer, of a common form, nothing special about them.

    Short strings go as MSET in groups, with a PEXPIREAT behind the group for each that has an expiry: together that costs the target less
    than SET … PXAT. All else goes as RESTORE, also while a group is open. What is not like that is left to `SnapshotKernel`. `unpack`
    has short strings that came compressed go as what they are; the interpreter is too slow for that.
    """

    _data: cython.p_uchar
    _size: cython.Py_ssize_t
    _room: cython.Py_ssize_t
    _group: cython.p_uchar  # keys and values of the open MSET
    _group_size: cython.Py_ssize_t
    _group_keys: cython.int
    _times: cython.p_uchar  # the commands that follow it
    _times_size: cython.Py_ssize_t
    _times_keys: cython.int
    _mset: cython.bint
    _pxat: cython.bint
    _unpack: cython.bint
    _own: bytes
    _forms: bytes
    _stamp: bytes
    _restore: bytes
    _restore_timed: bytes
    _tail_timed: bytes
    _timed_at: cython.p_uchar
    _timed_tail_at: cython.p_uchar
    _timed_tail_size: cython.Py_ssize_t
    _tail: bytes
    _defer_before: cython.longlong
    _parts: list[bytes]
    _group_parts: list[bytes]
    _times_parts: list[bytes]
    _failed: cython.bint
    _restore_at: cython.p_uchar
    _restore_size: cython.Py_ssize_t
    _stamp_at: cython.p_uchar
    _tail_at: cython.p_uchar
    _tail_size: cython.Py_ssize_t
    commands = cython.declare(cython.Py_ssize_t, visibility="readonly")
    done = cython.declare(cython.Py_ssize_t, visibility="readonly")  # keys

    def __init__(self, plan: SnapshotPlan, pxat: bool) -> None:
        if cython.compiled:
            self._group = cython.cast(cython.p_uchar, malloc(_GROUP_ROOM))
            self._times = cython.cast(cython.p_uchar, malloc(_GROUP_ROOM))
            if self._group == cython.NULL or self._times == cython.NULL:
                raise MemoryError
        self._group_size = self._group_keys = 0
        self._times_size = self._times_keys = 0
        self._group_parts = []
        self._times_parts = []
        self._mset = plan.mset
        self._pxat = pxat
        self._unpack = plan.unpack
        self._own = plan.own_prefix
        self._forms = bytes(0 if kind in plan.rewrite_kinds else _FORMS.get(kind, 0) for kind in range(256))
        self._stamp = plan.stamp
        self._restore = b"*5\r\n$7\r\nRESTORE\r\n"
        self._tail = b"\r\n$7\r\nREPLACE\r\n"
        # A key with an expiry gets here only where the target takes an absolute one.
        self._restore_timed = b"*6\r\n$7\r\nRESTORE\r\n"
        self._tail_timed = self._tail + b"$6\r\nABSTTL\r\n"
        self._defer_before = plan.defer_before
        self._parts = []
        self.commands = 0
        self.done = 0
        self._failed = False
        self._restore_at, self._restore_size = self._restore, len(self._restore)
        self._timed_at, self._timed_tail_at, self._timed_tail_size = (
            self._restore_timed, self._tail_timed, len(self._tail_timed)
        )  # fmt: skip
        self._stamp_at = self._stamp
        self._tail_at, self._tail_size = self._tail, len(self._tail)

    def __dealloc__(self) -> None:
        free(self._data)
        free(self._group)
        free(self._times)

    def keys(
        self,
        buf: bytearray,
        pos: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        expiry: cython.longlong,
        deferred: list[tuple[bytes, int]],
    ) -> int:
        """Write the keys from `pos` on → the position of the first that takes the long way.

        `expiry` (ms, 0: none) belongs to the first of them. `deferred` takes (key, expiry in ms) of keys that are written without
        theirs. `take` gives the bytes; `commands` and `done` (keys) count those of this call.
        """
        p: cython.p_uchar = buf
        forms: cython.p_uchar = self._forms
        own: cython.p_uchar = self._own
        own_size: cython.Py_ssize_t = len(self._own)
        limit: cython.Py_ssize_t = end - _SPARE
        at: cython.Py_ssize_t
        size: cython.Py_ssize_t
        value: cython.Py_ssize_t
        stop: cython.Py_ssize_t
        kind: cython.int
        form: cython.int
        first: cython.int
        place: cython.int
        self.commands = self.done = 0
        with cython.nogil:
            while pos < limit:
                at = pos + 1
                kind = p[pos]
                if kind == 0xFC:
                    if cython.compiled:
                        expiry = 0
                        for place in range(8):
                            expiry |= cython.cast(cython.longlong, p[at + place]) << (8 * place)
                    else:
                        expiry = int.from_bytes(p[at : at + 8], "little", signed=True)
                    kind = p[at + 8]
                    at += 9
                form = forms[kind]
                if not form:
                    break
                size = p[at]
                if size < 0x40:
                    at += 1
                elif size < 0x80:
                    size = (size & 0x3F) << 8 | p[at + 1]
                    at += 2
                else:
                    break
                value = at + size
                if value > limit:
                    break
                first = p[value]
                if form == _FORM_SINGLE and first < 0x80:
                    stop = (
                        value + 1 + first
                        if first < 0x40
                        else value + 2 + ((first & 0x3F) << 8 | p[value + 1])
                    )
                elif form == _FORM_SINGLE and first == 0xC3 and p[value + 1] < 0x40 and p[value + 2] < 0x80:
                    stop = value + (3 if p[value + 2] < 0x40 else 4) + p[value + 1]
                elif form == _FORM_SINGLE and first == 0xC3 and p[value + 1] < 0x80 and p[value + 3] < 0x80:
                    stop = (
                        value
                        + (4 if p[value + 3] < 0x40 else 5)
                        + ((p[value + 1] & 0x3F) << 8 | p[value + 2])
                    )
                else:
                    stop = _value_end(form, p, value, end)
                if stop < 0 or stop > end:
                    break
                if size >= own_size:
                    if cython.compiled:
                        if memcmp(p + at, own, own_size) == 0:
                            break
                    elif p.startswith(own, at):
                        break
                if expiry:
                    if expiry < self._defer_before:
                        with cython.gil:
                            deferred.append((bytes(buf[at:value]), expiry))
                        expiry = 0
                    elif not self._pxat:
                        break
                if (
                    kind
                    or (first == 0xC3 and not self._unpack)
                    or not self._string(p, at, size, value, stop, end, expiry)
                ):
                    self._value(p, at, size, kind, value, stop, expiry)
                self.done += 1
                expiry = 0
                pos = stop
            self._close()
        return pos

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _string(
        self,
        p: cython.p_uchar,
        key: cython.Py_ssize_t,
        key_size: cython.Py_ssize_t,
        value: cython.Py_ssize_t,
        stop: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        expiry: cython.longlong,
    ) -> cython.bint:
        """A key of the type string as MSET or SET; False if it has to go as RESTORE."""
        first: cython.int = p[value]
        content: cython.Py_ssize_t = value
        size: cython.Py_ssize_t
        number: cython.longlong = 0
        place: cython.int
        if first < 0xC0:
            content = value + _length_width(first)
            size = stop - content
        elif first < 0xC3:
            size = 24
            if cython.compiled:
                for place in range(1 << (first - 0xC0)):
                    number |= cython.cast(cython.longlong, p[value + 1 + place]) << (8 * place)
                place = 64 - (8 << (first - 0xC0))
                number = cython.cast(cython.longlong, cython.cast(cython.ulonglong, number) << place) >> place
            else:
                number = int.from_bytes(p[value + 1 : stop], "little", signed=True)
        elif self._unpack:
            content = value + 1 + _length_width(p[value + 1])
            size = _length_at(p, content, _length_width(p[content]))
            content += _length_width(p[content])
            if size > _LONG:
                return False
        else:
            return False
        grouped: cython.bint = self._mset and size <= _LONG
        if cython.compiled:
            if not self._need(key_size + size + 160 + _SLACK):
                return False
            digits = cython.declare(cython.uchar[24])
            out: cython.p_uchar = self._group if grouped else self._data
            at: cython.Py_ssize_t = self._group_size if grouped else self._size
            if not grouped:
                if expiry:
                    at = _put(out, at, b"*5\r\n$3\r\nSET\r\n", 13)
                else:
                    at = _put(out, at, b"*3\r\n$3\r\nSET\r\n", 13)
            at = _put_bulk(out, at, p + key, key_size)
            if first < 0xC0:
                at = _put_bulk(out, at, p + content, size)
            elif first < 0xC3:
                size = _put_number(digits, 0, number)
                at = _put_bulk(out, at, digits, size)
            else:
                out[at] = 0x24
                at = _put_number(out, at + 1, size)
                out[at] = 13
                out[at + 1] = 10
                if not _put_plain(out, at + 2, p, content, stop, size, end):
                    return False
                at += 2 + size
                out[at] = 13
                out[at + 1] = 10
                at += 2
            if grouped:
                self._group_size = at
            if expiry:
                size = _put_number(digits, 0, expiry)
                if grouped:
                    out = self._times
                    at = _put(out, self._times_size, b"*3\r\n$9\r\nPEXPIREAT\r\n", 19)
                    at = _put_bulk(out, at, p + key, key_size)
                    self._times_size = _put_bulk(out, at, digits, size)
                    self._times_keys += 1
                else:
                    at = _put(out, at, b"$4\r\nPXAT\r\n", 10)
                    at = _put_bulk(out, at, digits, size)
            if not grouped:
                self._size = at
        else:
            name = p[key : key + key_size]
            if first < 0xC0:
                data = p[content:stop]
            elif first < 0xC3:
                data = b"%d" % number
            else:
                try:
                    data = lzf_decompress(bytes(p[content:stop]), size)
                except SnapshotError:
                    return False
            when = b"%d" % expiry if expiry else b""
            part = b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (key_size, name, len(data), data)
            if grouped:
                self._group_parts.append(part)
                self._group_size += len(part)
                if expiry:
                    part = b"*3\r\n$9\r\nPEXPIREAT\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
                        key_size,
                        name,
                        len(when),
                        when,
                    )
                    self._times_parts.append(part)
                    self._times_size += len(part)
                    self._times_keys += 1
            elif expiry:
                self._parts.append(
                    b"*5\r\n$3\r\nSET\r\n%b$4\r\nPXAT\r\n$%d\r\n%b\r\n" % (part, len(when), when)
                )
            else:
                self._parts.append(b"*3\r\n$3\r\nSET\r\n" + part)
        if grouped:
            self._group_keys += 1
            if self._group_keys == _GROUP_KEYS or self._group_size + self._times_size > _GROUP_BYTES:
                self._close()
        else:
            self.commands += 1
        return True

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _value(
        self,
        p: cython.p_uchar,
        key: cython.Py_ssize_t,
        key_size: cython.Py_ssize_t,
        kind: cython.int,
        value: cython.Py_ssize_t,
        stop: cython.Py_ssize_t,
        expiry: cython.longlong,
    ) -> cython.void:
        """A key as RESTORE: its value as it is, with the version and the checksum behind it."""
        size: cython.Py_ssize_t = stop - value + 11
        if cython.compiled:
            if not self._need(key_size + size + 160):
                return
            out: cython.p_uchar = self._data
            at: cython.Py_ssize_t = self._size
            begin: cython.Py_ssize_t
            digits = cython.declare(cython.uchar[24])
            crc: cython.ulonglong
            place: cython.int
            at = _put(out, at, self._timed_at if expiry else self._restore_at, self._restore_size)
            at = _put_bulk(out, at, p + key, key_size)
            place = cython.cast(cython.int, _put_number(digits, 0, expiry))
            at = _put_bulk(out, at, digits, place)
            out[at] = 0x24
            at = _put_number(out, at + 1, size)
            out[at] = 13
            out[at + 1] = 10
            at += 2
            begin = at
            out[at] = cython.cast(cython.uchar, kind)
            at = _put(out, at + 1, p + value, stop - value)
            at = _put(out, at, self._stamp_at, 2)
            crc = _crc64_of(out, begin, at)
            for place in range(8):
                out[at + place] = cython.cast(cython.uchar, crc >> (8 * place) & 0xFF)
            if expiry:
                self._size = _put(out, at + 8, self._timed_tail_at, self._timed_tail_size)
            else:
                self._size = _put(out, at + 8, self._tail_at, self._tail_size)
        else:
            payload = _KINDS[kind] + p[value:stop] + self._stamp
            when = b"\r\n$1\r\n0\r\n" if not expiry else b"\r\n$%d\r\n%d\r\n" % (len(str(expiry)), expiry)
            self._parts += (
                self._restore_timed if expiry else self._restore, _SIZES[key_size] if key_size < 1024 else b"$%d\r\n" % key_size, p[key : key + key_size], when,
                _SIZES[size] if size < 1024 else b"$%d\r\n" % size, payload, _crc64(payload).to_bytes(8, "little"),
                self._tail_timed if expiry else self._tail,
            )  # fmt: skip
        self.commands += 1

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _close(self) -> cython.void:
        """End the open MSET."""
        count: cython.int = 1 + 2 * self._group_keys
        if count == 1:
            return
        if cython.compiled:
            if not self._need(self._group_size + self._times_size + 32):
                return
            out: cython.p_uchar = self._data
            at: cython.Py_ssize_t = self._size
            out[at] = 0x2A
            at = _put_number(out, at + 1, count)
            at = _put(out, at, b"\r\n$4\r\nMSET\r\n", 12)
            at = _put(out, at, self._group, self._group_size)
            self._size = _put(out, at, self._times, self._times_size)
        else:
            self._parts.append(b"*%d\r\n$4\r\nMSET\r\n" % count)
            self._parts += self._group_parts
            self._parts += self._times_parts
            self._group_parts = []
            self._times_parts = []
        self.commands += 1 + self._times_keys
        self._group_size = self._group_keys = 0
        self._times_size = self._times_keys = 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _need(self, size: cython.Py_ssize_t) -> cython.bint:
        """Make room for so many bytes more. Compiled only."""
        room: cython.Py_ssize_t = self._room
        if self._size + size <= room:
            return True
        room = 2 * (self._size + size)
        data: cython.p_uchar = cython.cast(cython.p_uchar, realloc(self._data, room))
        if data == cython.NULL:
            self._failed = True
            return False
        self._data = data
        self._room = room
        return True

    def take(self) -> bytes:
        """What `keys` has written since the last time."""
        if cython.compiled:
            if self._failed:
                raise MemoryError
            size: cython.Py_ssize_t = self._size
            self._size = 0
            data: bytes = PyBytes_FromStringAndSize(cython.cast(cython.p_char, self._data), size)
            if self._room > 1 << 20:
                free(self._data)
                self._data = cython.NULL
                self._room = 0
            return data
        data = b"".join(self._parts)
        self._parts = []
        return data


class SnapshotKernel:
    """Turns the bytes of a snapshot into commands for the target, block by block, however the blocks are cut.

    Values are sliced out and sent on as RESTORE (or SET, for plain strings); they are not decoded. A value that is one long
    string is passed through while it arrives. Raises `SnapshotError` for damage and `UnsupportedData` for what is not known.
    """

    def __init__(self, plan: SnapshotPlan) -> None:
        self.plan = plan
        self.version = 0
        self.database = 0
        self._buf = bytearray()
        self._crc = 0
        self._walker = ValueWalker()
        self._key: bytes | None = None  # of the value that is being walked
        self._kind = 0
        self._start = 0  # where that value begins in the buffer
        self._expiry = 0
        self._idle = -1
        self._freq = -1
        self._wanted = plan.databases is None or 0 in plan.databases
        self._sent_database = -1  # that the commands so far have selected
        self._through = 0  # bytes of a passed-through value still to come
        self._through_skip = False
        self._through_text = False  # it goes as SET
        self._through_crc = 0
        self._through_tail = b""
        self._rewriting = False  # the value that is walked goes as commands
        self._rewriter: Rewriting | None = None  # of that value; None when it is not wanted
        self._staged = b""  # the name under which it is built
        version = plan.target_version
        self._absttl = version >= (5,)
        self._pxat = version >= (6, 2)
        self._deferred: list[tuple[bytes, int]] = []
        self._writer = _Writer(plan, self._pxat)
        self._plain = plan.replace and plan.verb == (b"RESTORE",)
        self._quick = self._plain and plan.wants_key is None
        self._head = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in plan.verb)

    @property
    def mid_command(self) -> bool:
        """Whether a command has begun and is not complete, so that no other may come between."""
        return bool(self._through) and not self._through_skip

    def selected(self, database: int) -> None:
        """The owner has selected a database on the target's connection."""
        self._sent_database = database

    def feed(self, data: bytes) -> SnapshotBatch:
        """Take the next block and return what it became."""
        batch = SnapshotBatch()
        if not self._buf and 0 < len(data) <= self._through:  # all of it goes through: nothing is copied
            self._crc = crc64(data, self._crc)
            self._pass_piece(data, batch)
            return batch
        self._buf += data
        pos = 0
        if not self.version:
            pos = self._header()
        if self.version:
            pos = self._walk(pos, batch)
        self._consume(pos, batch)
        return batch

    def _header(self) -> int:
        buf = self._buf
        if len(buf) < 9:
            return 0
        magic = bytes(buf[:9])
        if magic[:5] == b"REDIS" and magic[5:].isdigit():
            self.version = int(magic[5:])
        elif magic[:6] == b"VALKEY" and magic[6:].isdigit():
            self.version = int(magic[6:])
            self._walker.valkey = True
        else:
            raise SnapshotError(f"the snapshot does not begin like one: {magic!r}")
        if not self.version:
            raise SnapshotError(f"the snapshot says that its version is 0: {magic!r}")
        return 9

    def _consume(self, pos: int, batch: SnapshotBatch) -> None:
        """Bytes before `pos` are done with: add them to the checksum and drop them."""
        buf = self._buf
        if batch.done:
            if self.version >= 5:
                with memoryview(buf) as view:
                    crc = crc64(view[: pos - 8], self._crc)
                stored = int.from_bytes(buf[pos - 8 : pos], "little")
                if stored and stored != crc:
                    raise SnapshotChecksumError(
                        f"the snapshot is damaged: its checksum is {stored:016x}, that of what arrived {crc:016x}"
                    )
            batch.rest = bytes(buf[pos:])
            self._buf = bytearray()
            return
        if pos:
            with memoryview(buf) as view:
                self._crc = crc64(view[:pos], self._crc)
            del buf[:pos]
            self._start -= pos
            self._walker.shift(pos)

    def _walk(self, pos: int, batch: SnapshotBatch) -> int:
        """Convert what is complete, from `pos` on; returns the position up to which the buffer is done with."""
        buf = self._buf
        end = len(buf)
        walker = self._walker
        while True:
            if self._through:
                pos = self._pass_through(pos, end, batch)
                if self._through:
                    return pos
                continue
            if self._key is not None:
                if not walker.walk(buf, end):
                    size = end - self._start
                    if (
                        self._kind in SINGLE
                        and not self._rewriting
                        and size >= self.plan.stream_from
                        and self._begin_through(batch)
                    ):
                        pos = self._start
                        continue
                    limit = self.plan.rewrite_from * (4 if self._kind in STREAMS else 1)
                    if self._rewriting or (size >= limit and self._begin_rewriting(batch)):
                        self._rewrite(walker.pos, batch)
                    return self._start
                if self._rewriting:
                    self._rewrite(walker.pos, batch)
                    self._end_rewriting(batch)
                else:
                    self._emit(self._start, walker.pos, batch)
                pos = walker.pos
                self._key = None
                continue
            if (
                self._quick and self._wanted and self.database == self._sent_database
                and self._idle < 0 and self._freq < 0
            ):  # fmt: skip
                pos = self._quick_keys(pos, end, batch)
            if pos >= end:
                return pos
            kind = buf[pos]
            if kind >= _LOWEST_OPCODE:
                behind = self._opcode(kind, pos, end, batch)
                if behind < 0:
                    return pos
                pos = behind
                if batch.done:
                    return pos
                continue
            key, behind = read_string(buf, pos + 1, end)
            if behind < 0:
                return pos
            form = _FORMS.get(kind, 0)
            if form and end - pos < _WAIT and _value_end(form, buf, behind, end) == -1:
                return pos  # the quick way takes it when it is complete
            try:
                walker.begin(kind, behind)
            except UnsupportedData as error:
                raise UnsupportedData(
                    f"key {key[:128]!r} in database {self.database}: {error.message}"
                ) from None
            self._key, self._kind, self._start = key, kind, behind
            if kind in self.plan.rewrite_kinds and not self._begin_rewriting(batch) and self._wants(key):
                raise UnsupportedData(
                    f"key {key[:128]!r} in database {self.database}: the target does not know this form of value "
                    f"(type {kind} of the snapshot), and no commands could build it",
                )
            # The type byte and the key are done with: only the value stays in the buffer while it is walked.
            pos = behind

    def _quick_keys(self, pos: int, end: int, batch: SnapshotBatch) -> int:
        """Let the writer take what it can → the position of the first key that takes the long way."""
        writer, deferred = self._writer, self._deferred
        pos = writer.keys(self._buf, pos, end, self._expiry, deferred)
        count = writer.done
        if count:
            self._expiry = 0
            commands = writer.commands
            batch.data.append(writer.take())
            batch.commands += commands
            batch.keys[self.database] = batch.keys.get(self.database, 0) + count
            if deferred:
                batch.deferred += [(self.database, key, expiry) for key, expiry in deferred]
                deferred.clear()
        return pos

    def _opcode(self, kind: int, pos: int, end: int, batch: SnapshotBatch) -> int:
        """One opcode at `pos` → position behind it, or -1 when it is not complete."""
        buf = self._buf
        pos += 1
        if kind == 0xFC:  # expiry in ms
            if pos + 8 > end:
                return -1
            self._expiry = int.from_bytes(buf[pos : pos + 8], "little", signed=True)
            return pos + 8
        if kind == 0xFD:  # expiry in s
            if pos + 4 > end:
                return -1
            self._expiry = int.from_bytes(buf[pos : pos + 4], "little", signed=True) * 1000
            return pos + 4
        if kind == 0xFE:  # database
            number, behind = read_length(buf, pos, end)
            if behind >= 0:
                self.database = number
                self._wanted = self.plan.databases is None or number in self.plan.databases
            return behind
        if kind == 0xF8:  # seconds since the last use
            idle, behind = read_length(buf, pos, end)
            if behind >= 0:
                self._idle = idle
            return behind
        if kind == 0xF9:  # frequency of use
            if pos >= end:
                return -1
            self._freq = buf[pos]
            return pos + 1
        if kind == 0xFB or kind == 0xF4:  # sizes of a database; of a slot
            for _ in range(2 if kind == 0xFB else 3):
                _, pos = read_length(buf, pos, end)
                if pos < 0:
                    return -1
            return pos
        if kind == 0xFA:  # a fact about the server, by name: nothing that is data
            behind, left = skip_strings(buf, pos, end, 2)
            if left:
                return -1
            if self.plan.on_aux is not None:
                name, value = read_string(buf, pos, end)
                self._commands(self.plan.on_aux(name, read_string(buf, value, end)[0]), batch)
            return behind
        if kind == _OP_FUNCTION:
            code, behind = read_string(buf, pos, end)
            if behind >= 0:
                self._function(code, batch)
            return behind
        if kind == 0xFF:
            tail = 8 if self.version >= 5 else 0  # the checksum
            if pos + tail > end:
                return -1
            batch.done = True
            return pos + tail
        if kind == _OP_MODULE_AUX:
            walker = ValueWalker()
            walker.begin(7, pos)
            if not walker.walk(buf, end):
                return -1
            raise UnsupportedData(
                f"the snapshot holds data of the module {module_name(buf, pos, end)} that belongs to no key",
                advice="Unload the module on the source, or leave this source to the module's own tools.",
            )
        raise UnsupportedData(f"the snapshot holds the opcode 0x{kind:02x}, which this engine does not know")

    def _function(self, code: bytes, batch: SnapshotBatch) -> None:
        if self.plan.target_version < (7,):
            raise UnsupportedData(
                f"the source holds a function library, which the target does not know: {code[:64]!r}",
                advice="Choose a target of version 7.0 or later, or delete the functions on the source.",
            )
        batch.data.append(encode(b"FUNCTION", b"LOAD", b"REPLACE", code))
        batch.commands += 1

    def _wants(self, key: bytes) -> bool:
        plan = self.plan
        return (
            self._wanted
            and not key.startswith(plan.own_prefix)
            and (plan.wants_key is None or plan.wants_key(key))
        )

    def _attributes(self, batch: SnapshotBatch) -> tuple[int, list[bytes], bool]:
        """Expiry in ms (0: none), further arguments of RESTORE, and whether the key is wanted; counts the key."""
        key = self._key
        assert key is not None
        wanted = self._wants(key)
        expiry, extra = self._expiry, []
        if not wanted:
            batch.skipped += 1
        else:
            database = self.database
            batch.keys[database] = batch.keys.get(database, 0) + 1
            if database != self._sent_database:
                self._select(batch)
            if expiry and expiry < self.plan.defer_before:
                batch.deferred.append((database, key, expiry))
                expiry = 0
            if self._absttl:
                if self._idle >= 0:
                    idle = b"%d" % self._idle
                    extra = [b"$8\r\nIDLETIME\r\n$%d\r\n%b\r\n" % (len(idle), idle)]
                elif self._freq >= 0:
                    freq = b"%d" % self._freq
                    extra = [b"$4\r\nFREQ\r\n$%d\r\n%b\r\n" % (len(freq), freq)]
        self._expiry, self._idle, self._freq = 0, -1, -1
        return expiry, extra, wanted

    def _select(self, batch: SnapshotBatch) -> None:
        batch.data.append(encode(b"SELECT", self.database))
        batch.commands += 1
        self._sent_database = self.database

    def _emit(self, start: int, stop: int, batch: SnapshotBatch) -> None:
        """The value from `start` to `stop` is complete: one command for it."""
        expiry, extra, wanted = self._attributes(batch)
        if not wanted:
            return
        buf, key, kind = self._buf, self._key, self._kind
        assert key is not None
        value = self._text(start, stop) if self._may_set(expiry, extra) else None
        if value is not None:
            command = [b"SET", key, value]
            batch.data.append(encode(*command, b"PXAT", expiry) if expiry else encode(*command))
        else:
            payload = b"%c%b%b" % (kind, bytes(buf[start:stop]), self.plan.stamp)
            batch.data.append(self._restore_head(key, expiry, extra, len(payload) + 8))
            batch.data.append(payload)
            batch.data.append(crc64(payload).to_bytes(8, "little") + self._restore_tail(extra, expiry))
        batch.commands += 1

    def _may_set(self, expiry: int, extra: list[bytes]) -> bool:
        """Whether the value is a string and SET says all that there is to say of it."""
        return self._kind == 0 and self._plain and not extra and (not expiry or self._pxat)

    def _text(self, start: int, stop: int) -> bytes | None:
        """A string as what it is; None where it goes as it came, compressed."""
        buf = self._buf
        if buf[start] == 0xC0 | _LZF:
            _, pos = read_length(buf, start + 1, stop)
            size, _ = read_length(buf, pos, stop)
            if not self.plan.unpack or size > _LONG:
                return None
        return read_string(buf, start, stop)[0]

    def _restore_head(self, key: bytes, expiry: int, extra: list[bytes], size: int) -> bytes:
        plan = self.plan
        count = 3 + len(plan.verb) + plan.replace + (self._absttl and expiry != 0) + 2 * len(extra)
        ttl = b"%d" % (expiry if self._absttl or not expiry else max(1, expiry - plan.now_ms()))
        return b"*%d\r\n%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n" % (
            count, self._head, len(key), key, len(ttl), ttl, size
        )  # fmt: skip

    def _restore_tail(self, extra: list[bytes], expiry: int) -> bytes:
        tail = b"\r\n$7\r\nREPLACE\r\n" if self.plan.replace else b"\r\n"
        if self._absttl and expiry:
            tail += b"$6\r\nABSTTL\r\n"
        return tail + b"".join(extra)

    # A collection that is too large for one RESTORE goes as commands while it arrives.

    def _begin_rewriting(self, batch: SnapshotBatch) -> bool:
        key = self._key
        assert key is not None
        plan = self.plan
        self._staged = plan.stage(key) if plan.stage is not None else key
        rewriter = plan.rewriter(self._kind, self._staged)
        if rewriter is None:
            return False
        rewriter.encoded = COMPILED
        self._expiry, _, wanted = self._attributes(batch)
        self._rewriting = True
        self._rewriter = rewriter if wanted else None
        if wanted:
            self._commands([[b"DEL", self._staged]], batch)
        return True

    def _rewrite(self, stop: int, batch: SnapshotBatch) -> None:
        """Whole elements up to `stop` are there."""
        if self._rewriter is not None:
            # In parts: of all that has come until here, the elements alone would take many times as much.
            for start in range(self._start, stop, _PART):
                self._commands(self._rewriter.feed(bytes(self._buf[start : min(start + _PART, stop)])), batch)
        self._start = stop

    def _end_rewriting(self, batch: SnapshotBatch) -> None:
        if self._rewriter is not None:
            commands = list(self._rewriter.finish())
            if self._rewriter.note:
                batch.notes.append(self._rewriter.note)
            assert self._key is not None
            if self._expiry:
                commands.append([b"PEXPIREAT", self._staged, b"%d" % self._expiry])
            if self.plan.commit is not None:
                commands += self.plan.commit(self._key, self._staged)
            self._commands(commands, batch)
        self._rewriting, self._rewriter, self._expiry = False, None, 0

    def _commands(self, commands: Sequence[list[bytes] | bytes], batch: SnapshotBatch) -> None:
        if commands and self._sent_database != self.database:
            self._select(batch)
        for args in commands:
            batch.data.append(args if isinstance(args, bytes) else encode(*args))
        batch.commands += len(commands)

    # A value that is one long string goes through while it arrives: as SET, which costs the target neither a copy nor a checksum, or,
    # where it is compressed or no string for its users, as RESTORE with the checksum as it goes.

    def _begin_through(self, batch: SnapshotBatch) -> bool:
        """A value of which a part is there, from `_start` on, begins its command; False: it is not known yet how long it is."""
        buf = self._buf
        content, stop = string_extent(buf, self._start, len(buf))
        if stop < 0:
            return False
        expiry, extra, wanted = self._attributes(batch)
        self._through_text = buf[self._start] < 0xC0 and self._may_set(expiry, extra)
        if self._through_text:
            self._start = content
        size = stop - self._start
        self._through, self._through_skip = size, not wanted
        key, self._key = self._key, None
        if not wanted:
            return True
        assert key is not None
        if self._through_text:
            batch.data.append(
                b"*%d\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (5 if expiry else 3, len(key), key, size)
            )
            self._through_tail = b"\r\n"
            if expiry:
                self._through_tail += b"$4\r\nPXAT\r\n$%d\r\n%d\r\n" % (len(str(expiry)), expiry)
        else:
            kind = bytes((self._kind,))
            batch.data.append(self._restore_head(key, expiry, extra, 1 + size + 2 + 8) + kind)
            self._through_crc = crc64(kind)
            self._through_tail = self._restore_tail(extra, expiry)
        return True

    def _pass_through(self, pos: int, end: int, batch: SnapshotBatch) -> int:
        take = min(self._through, end - pos)
        self._pass_piece(self._buf[pos : pos + take], batch)
        return pos + take

    def _pass_piece(self, piece: bytes | bytearray, batch: SnapshotBatch) -> None:
        self._through -= len(piece)
        if self._through_skip:
            return
        batch.data.append(piece)
        if not self._through_text:
            self._through_crc = crc64(piece, self._through_crc)
        if not self._through:
            if not self._through_text:
                stamp = self.plan.stamp
                batch.data.append(stamp + crc64(stamp, self._through_crc).to_bytes(8, "little"))
            batch.data.append(self._through_tail)
            batch.commands += 1


def module_name(buf: bytes | bytearray, pos: int, end: int) -> str:
    """The name of a module from its 64-bit identifier: nine characters of six bits, then the version in ten."""
    number, _ = read_length(buf, pos, end)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return "".join(letters[number >> (10 + 6 * place) & 0x3F] for place in range(8, -1, -1))


# --- the elements of packed nodes as arguments ------------------------------------------------------------------------


@cython.cclass
class Packer:
    """Makes arguments of the elements of a listpack or ziplist, or of strings in a row, without an object for each. Compiled only: `pack` says
    False where it cannot, and `strings` stops, also in front of what is damaged; the readers of `rdb` do the same or say what is wrong.
    """

    data = cython.declare(bytes, visibility="readonly")  # bulk strings, one behind the other
    count = cython.declare(cython.Py_ssize_t, visibility="readonly")
    size = cython.declare(cython.Py_ssize_t, visibility="readonly")  # bytes of the elements alone
    _out: cython.p_uchar
    _room: cython.Py_ssize_t

    def __init__(self) -> None:
        self.data = b""
        self.count = 0
        self.size = 0
        self._room = 0
        if cython.compiled:
            self._out = cython.NULL

    def __dealloc__(self) -> None:
        free(self._out)

    def pack(self, node: bytes, ziplist: bool) -> bool:
        """Fill `data`, `count` and `size` from a node."""
        if not cython.compiled or len(node) > _PACKED_MOST:
            return False
        # No element becomes longer than this: one byte of a listpack, with its length behind it, becomes at most nine.
        room: cython.Py_ssize_t = 9 * len(node) + 64
        if self._room < room:
            free(self._out)
            self._out = cython.cast(cython.p_uchar, malloc(room))
            if self._out == cython.NULL:
                self._room = 0
                raise MemoryError
            self._room = room
        p: cython.p_uchar = node
        end: cython.Py_ssize_t = len(node)
        packed: cython.bint = ziplist
        at: cython.Py_ssize_t
        with cython.nogil:
            at = self._ziplist(p, end) if packed else self._listpack(p, end)
        if at < 0:
            return False
        self.data = PyBytes_FromStringAndSize(cython.cast(cython.p_char, self._out), at)
        return True

    def strings(
        self,
        buf: bytes,
        pos: cython.Py_ssize_t,
        left: cython.longlong,
        width: cython.int,
        most: cython.Py_ssize_t,
        room: cython.Py_ssize_t,
    ) -> int:
        """Up to `left` elements of `width` strings each, from `pos` on → the position behind them. It ends with the element with which there
        are `most` arguments or `room` bytes of them, and in front of one that is compressed, long or not complete.
        """
        self.count = 0
        self.size = 0
        if not cython.compiled:
            return pos
        if self._room < _STRINGS_ROOM:
            free(self._out)
            self._out = cython.cast(cython.p_uchar, malloc(_STRINGS_ROOM))
            if self._out == cython.NULL:
                self._room = 0
                raise MemoryError
            self._room = _STRINGS_ROOM
        p: cython.p_uchar = buf
        end: cython.Py_ssize_t = len(buf)
        done: cython.Py_ssize_t = 0  # bytes that are written, of whole elements
        at: cython.Py_ssize_t
        next_pos: cython.Py_ssize_t
        stop: cython.Py_ssize_t
        size: cython.Py_ssize_t
        start: cython.Py_ssize_t
        number: cython.int
        with cython.nogil:
            while left > 0 and self.count < most and self.size < room:
                at = done
                next_pos = pos
                size = self.size
                number = 0
                while number < width:
                    stop = _string_end(p, next_pos, end)
                    if (
                        stop < 0
                        or stop > end
                        or p[next_pos] == 0xC3
                        or at + (stop - next_pos) + 64 > self._room
                    ):
                        next_pos = -1
                        break
                    if p[next_pos] >= 0xC0:
                        self.size = size
                        at = self._number(at, _little(p, next_pos + 1, stop - next_pos - 1))
                        size = self.size
                    else:
                        start = next_pos + _length_width(p[next_pos])
                        at = _put_bulk(self._out, at, p + start, stop - start)
                        size += stop - start
                    next_pos = stop
                    number += 1
                if next_pos < 0:
                    break
                done = at
                pos = next_pos
                self.size = size
                self.count += width
                left -= 1
        self.data = PyBytes_FromStringAndSize(cython.cast(cython.p_char, self._out), done)
        return pos

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _listpack(self, p: cython.p_uchar, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
        pos: cython.Py_ssize_t = 6
        at: cython.Py_ssize_t = 0
        start: cython.Py_ssize_t
        size: cython.Py_ssize_t
        first: cython.int
        number: cython.longlong
        self.count = 0
        self.size = 0
        while pos < end and p[pos] != 0xFF:
            first = p[pos]
            size = -1
            number = 0
            start = pos + 1
            if first < 0x80:
                number = first
            elif first < 0xC0:
                size = first & 0x3F
            elif first < 0xE0:
                if pos + 1 >= end:
                    return -1
                number = (first & 0x1F) << 8 | p[pos + 1]
                if number >= 0x1000:
                    number -= 0x2000
                start = pos + 2
            elif first < 0xF0:
                if pos + 1 >= end:
                    return -1
                size = (first & 0x0F) << 8 | p[pos + 1]
                start = pos + 2
            elif first == 0xF0:
                if pos + 5 > end:
                    return -1
                size = (
                    cython.cast(cython.Py_ssize_t, p[pos + 4]) << 24
                    | cython.cast(cython.Py_ssize_t, p[pos + 3]) << 16
                    | cython.cast(cython.Py_ssize_t, p[pos + 2]) << 8
                    | cython.cast(cython.Py_ssize_t, p[pos + 1])
                )
                start = pos + 5
            elif first <= 0xF4:
                start = pos + 1 + (8 if first == 0xF4 else first - 0xEF)
                if start > end:
                    return -1
                number = _little(p, pos + 1, start - pos - 1)
            else:
                return -1
            if size >= 0:
                if size > end - start:
                    return -1
                at = _put_bulk(self._out, at, p + start, size)
                start += size
                self.size += size
            else:
                at = self._number(at, number)
            size = start - pos  # the element goes before its own length
            pos = start + (
                1
                if size <= 127
                else 2
                if size < 16383
                else 3
                if size < 2097151
                else 4
                if size < 268435455
                else 5
            )
            if pos >= end:
                return -1
            self.count += 1
        return at if pos < end else -1

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _ziplist(self, p: cython.p_uchar, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
        pos: cython.Py_ssize_t = 10
        at: cython.Py_ssize_t = 0
        start: cython.Py_ssize_t
        size: cython.Py_ssize_t
        first: cython.int
        self.count = 0
        self.size = 0
        while pos < end and p[pos] != 0xFF:
            pos += 5 if p[pos] == 0xFE else 1
            if pos >= end:
                return -1
            first = p[pos]
            size = -1
            if first < 0x40:
                size = first
                start = pos + 1
            elif first < 0x80:
                if pos + 1 >= end:
                    return -1
                size = (first & 0x3F) << 8 | p[pos + 1]
                start = pos + 2
            elif first < 0xC0:
                if pos + 5 > end:
                    return -1
                size = (
                    cython.cast(cython.Py_ssize_t, p[pos + 1]) << 24
                    | cython.cast(cython.Py_ssize_t, p[pos + 2]) << 16
                    | cython.cast(cython.Py_ssize_t, p[pos + 3]) << 8
                    | cython.cast(cython.Py_ssize_t, p[pos + 4])
                )
                start = pos + 5
            elif 0xF1 <= first <= 0xFD:
                at = self._number(at, (first & 0x0F) - 1)
                self.count += 1
                pos += 1
                continue
            else:
                start = (
                    8
                    if first == 0xE0
                    else 4
                    if first == 0xD0
                    else 3
                    if first == 0xF0
                    else 2
                    if first == 0xC0
                    else 1
                )
                if start == 1 and first != 0xFE:
                    return -1
                if pos + 1 + start >= end:
                    return -1
                at = self._number(at, _little(p, pos + 1, start))
                self.count += 1
                pos += 1 + start
                continue
            if size >= end - start:
                return -1
            at = _put_bulk(self._out, at, p + start, size)
            self.count += 1
            self.size += size
            pos = start + size
        return at if pos < end else -1

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _number(self, at: cython.Py_ssize_t, number: cython.longlong) -> cython.Py_ssize_t:
        """An integer as a bulk string."""
        digits = cython.declare(cython.uchar[24])
        size: cython.Py_ssize_t = _put_number(cython.cast(cython.p_uchar, digits), 0, number)
        self.size += size
        return _put_bulk(self._out, at, cython.cast(cython.p_uchar, digits), size)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _little(p: cython.p_uchar, pos: cython.Py_ssize_t, size: cython.Py_ssize_t) -> cython.longlong:
    """A signed little-endian integer of 1 to 8 bytes. Compiled only."""
    number: cython.ulonglong = 0
    place: cython.Py_ssize_t
    for place in range(size):
        number |= cython.cast(cython.ulonglong, p[pos + place]) << (8 * place)
    if size < 8 and p[pos + size - 1] & 0x80:
        number |= (0 - cython.cast(cython.ulonglong, 1)) << (8 * size)
    return cython.cast(cython.longlong, number)


# --- replies ----------------------------------------------------------------------------------------------------------


_WINDOW: Final = 4096  # bytes in which the interpreter counts lines at once


@cython.cclass
class ReplyCounter:
    """Counts the replies of a pipeline in bulk and finds each error among them, however the bytes are cut.

    Contents are not kept. `errors` collects (number of the top-level reply, position in its array or -1, text) since the
    counter was made; the first reply has number 0. `nulls` has the numbers of top-level null arrays (an EXEC that did not run).
    While `watching`, `refusals` collects where something tells that a key or a field of a hash was not there: 0 as an element of an array, and
    -2 within an element that is an array itself. Each is one number, that of the reply times 2³², and the position in its array.
    """

    count = cython.declare(cython.Py_ssize_t, visibility="readonly")
    errors = cython.declare(list, visibility="readonly")
    nulls = cython.declare(list, visibility="readonly")
    refusals = cython.declare(list, visibility="readonly")
    watching = cython.declare(cython.bint, visibility="public")
    _tail: bytes
    _skip: cython.Py_ssize_t  # bytes of a bulk string that are still to come, with its line end
    _depth: cython.int  # of the arrays that are open
    _left: cython.longlong  # elements left of the innermost one
    _outer: list[int]  # of those around it
    _index: cython.Py_ssize_t  # position in the outermost array

    def __init__(self) -> None:
        self.count = 0
        self.errors = []
        self.nulls = []
        self.refusals = []
        self.watching = False
        self._tail = b""
        self._skip = 0
        self._depth = 0
        self._left = 0
        self._outer = []
        self._index = 0

    def feed(self, data: bytes) -> int:
        """Take the next bytes; the number of replies complete so far, in all."""
        pos: cython.Py_ssize_t = 0
        if self._skip:
            pos = min(self._skip, len(data))
            self._skip -= pos
            if self._skip:
                return self.count
            self._done()
        if self._tail:
            data = self._tail + data[pos:]
            pos = 0
            self._tail = b""
        self._read(data, pos)
        if len(self._tail) > 65536:
            raise ProtocolError("the target sent a line that is longer than any reply")
        return self.count

    @cython.cfunc
    def _read(self, data: bytes, pos: cython.Py_ssize_t) -> cython.void:
        end: cython.Py_ssize_t = len(data)
        p: cython.p_uchar = data
        stop: cython.Py_ssize_t
        kind: cython.int
        number: cython.longlong
        while pos < end:
            if cython.compiled:
                stop = pos
                while stop < end and (p[stop] != 13 or stop + 1 == end or p[stop + 1] != 10):
                    stop += 1
                if stop == end:
                    stop = -1
            else:
                stop = self._lines(data, pos)
                if stop > pos:
                    pos = stop
                    continue
                stop = data.find(b"\r\n", pos)
            if stop < 0:
                self._tail = data[pos:]
                return
            kind = p[pos]
            if kind == 0x24 or kind == 0x2A:  # a bulk string or an array
                number = _number(data[pos + 1 : stop])
                pos = stop + 2
                if kind == 0x24:
                    if number >= 0:
                        pos += number + 2
                        if pos > end:
                            self._skip = pos - end
                            return
                elif number > 0:
                    if self._depth:
                        self._outer.append(self._left)
                    else:
                        self._index = 0
                    self._depth += 1
                    self._left = number
                    continue
                elif number < 0 and not self._depth:
                    self.nulls.append(self.count)
            else:
                if kind == 0x2D:  # an error
                    text = data[pos + 1 : stop].decode("utf-8", "replace")
                    self.errors.append((self.count, self._index if self._depth else -1, text))
                elif kind == 0x3A:
                    if self.watching and (
                        (self._depth == 1 and stop == pos + 2 and p[pos + 1] == 0x30)
                        or (
                            self._depth == 2 and stop == pos + 3 and p[pos + 1] == 0x2D and p[pos + 2] == 0x32
                        )
                    ):
                        self.refusals.append((cython.cast(cython.longlong, self.count) << 32) + self._index)
                elif kind != 0x2B:
                    raise ProtocolError(
                        f"the target sent {data[pos : pos + 16]!r}, which is no reply of Redis"
                    )
                pos = stop + 2
            self._done()

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _done(self) -> cython.void:
        """One reply or element is complete."""
        while self._depth:
            if self._depth == 1:
                self._index += 1
            self._left -= 1
            if self._left:
                return
            self._depth -= 1
            if self._depth:
                self._left = self._outer.pop()
        self.count += 1

    def _lines(self, data: bytes, pos: int) -> int:
        """Count the simple replies from `pos` on at once → position behind them. Interpreted only."""
        if self._depth > 1 or data[pos] not in b"+:":
            return pos
        stop = data.rfind(b"\n", pos, pos + _WINDOW) + 1
        for other in (b"\n$", b"\n*", b"\n-"):
            found = data.find(other, pos, stop) + 1
            if found:
                stop = found
        count = data.count(b"\r\n", pos, stop)
        begun = 1 + data.count(b"\n+", pos, stop) + data.count(b"\n:", pos, stop)
        if not count or count != begun or data.count(b"\n", pos, stop) != count:
            return pos  # a line that is no reply is named by the loop
        if self.watching and self._depth:
            found = data.find(b":0\r\n", pos, stop)
            while found >= 0:
                place = data.count(b"\n", pos, found)
                if place < self._left and (found == pos or data[found - 1] == 10):
                    self.refusals.append((self.count << 32) + self._index + place)
                found = data.find(b":0\r\n", found + 4, stop)
        if self._depth and count >= self._left:
            count = self._left
            stop -= len(data[pos:stop].split(b"\n", count)[-1])
            self._depth = 0
            self.count += 1
        elif self._depth:
            self._index += count
            self._left -= count
        else:
            self.count += count
        return stop


def _number(text: bytes) -> int:
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(digits) > 18:
        raise ProtocolError(f"{text[:32]!r} stands where a number was expected")
    return int(text)


# --- stream → batches -------------------------------------------------------------------------------------------------

FORWARD: Final = 0  # goes on as the bytes that came
SELECT: Final = 1
MULTI: Final = 2
EXEC: Final = 3
DROP: Final = 4  # PING: counts towards the offset, nothing to apply
CONTROL: Final = 5  # REPLCONF
RULE: Final = 6  # a rule has to look at it
RULE_LONG: Final = 8  # a rule has to look at it when it has more than three arguments (SET with options)
OWN: Final = 7  # writes a key of the product itself, which does not travel
RULE_WORD: Final = (
    10  # a rule has to look at it unless its third argument begins with a digit (XADD without options)
)
LEFT_OUT: Final = 9  # belongs to a transaction that does not go on

Emitted = Sequence[tuple[int, Sequence[bytes]]]


class Entry:
    """One command of the stream, taken apart because a rule has to look at it."""

    __slots__ = ("args", "database", "offset", "open")

    def __init__(self, args: list[bytes], database: int, offset: int, inside: bool = False) -> None:
        self.args = args
        self.database = database
        self.offset = offset  # of the stream, behind this command
        self.open = inside  # whether it stands inside of a transaction of the source


class StreamBatch:
    """What one block of the stream became.

    `data` is RESP for the target: `commands` commands end in it. `offset` is the last safe point of the stream: behind it no
    transaction and no command is open. `boundary` says whether `data` ends there, so that a checkpoint may follow. `watched` are the
    commands that the owner has asked for: how many stand before it in `data`, its database and its key.
    """

    __slots__ = ("boundary", "commands", "data", "dropped", "getack", "offset", "watched")

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.commands = 0
        self.dropped = 0  # commands left out by the choice of databases, and the product's own
        self.getack = False
        self.watched: list[tuple[int, int, bytes]] = []
        self.offset = 0
        self.boundary = True


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _header(p: cython.p_uchar, pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.longlong:
    """The number between the byte at `pos` and the next line end; -1: not complete, or no number. Compiled only."""
    value: cython.longlong = 0
    first: cython.Py_ssize_t = pos + 1
    last: cython.Py_ssize_t = pos + 13
    pos += 1
    while pos < end and pos < last:
        if p[pos] == 13:
            return value if pos > first and pos + 1 < end and p[pos + 1] == 10 else -1
        if p[pos] < 0x30 or p[pos] > 0x39:
            return -1
        value = value * 10 + (p[pos] - 0x30)
        pos += 1
    return -1


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _behind_line(p: cython.p_uchar, pos: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """The position behind the line that `_header` has read. Compiled only."""
    while p[pos] != 13:
        pos += 1
    return pos + 2


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _place_of(
    p: cython.p_uchar,
    pos: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
    names: cython.p_uchar,
    sizes: cython.p_uchar,
) -> cython.int:
    """The place of a name in the scanner's table, or the free one that it would take. Compiled only."""
    total: cython.uint = 2166136261
    at: cython.Py_ssize_t
    place: cython.int
    for at in range(pos, pos + size):
        total = (total ^ p[at]) * 16777619
    place = (total ^ total >> 10) & 1023
    while sizes[place] and (sizes[place] != size or memcmp(names + 24 * place, p + pos, size) != 0):
        place = (place + 1) & 1023
    return place


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _decimal(p: cython.p_uchar, pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.longlong:
    """The number in decimal digits, at most 15; -1 for what is none. Compiled only."""
    value: cython.longlong = 0
    while pos < end:
        if p[pos] < 0x30 or p[pos] > 0x39:
            return -1
        value = value * 10 + (p[pos] - 0x30)
        pos += 1
    return value


_NEVER: Final = 1 << 62  # ms
_ALWAYS = cython.declare(cython.int, 1)
_NUMBER_THIRD = cython.declare(cython.int, 3)  # with a number as its third argument
_SHORT_OR_FAR = cython.declare(cython.int, 2)  # with three arguments, or with PXAT and a time that is far


@cython.cclass
class _Scanner:
    """Steps over commands that go on as they came. Compiled only: `StreamKernel._split` does the same for each command.

    A SET with PXAT goes on as it came where the rule would leave it alone: from `far_from` (ms) on. The scanner remembers names of commands with what is done with them, in a table whose places are found by a sum over the name.
    """

    _own: bytes
    _names: cython.uchar[24576]  # 1,024 of 24 bytes each
    _sizes: cython.uchar[1024]  # 0: the place is free
    _ways: cython.uchar[1024]  # when the command goes on as it is
    _free: cython.int
    far_from = cython.declare(cython.longlong, visibility="public")
    commands = cython.declare(cython.Py_ssize_t, visibility="readonly")

    def __init__(self, own_prefix: bytes) -> None:
        self._own = own_prefix
        self.far_from = _NEVER
        if cython.compiled:
            place: cython.int
            self._free = 700
            for place in range(1024):
                self._sizes[place] = 0

    def learn(self, name: bytes, action: int) -> None:
        """Remember a name, in the case in which it came."""
        if cython.compiled:
            size: cython.Py_ssize_t = len(name)
            way: cython.int = 0
            if action == FORWARD:
                way = _ALWAYS
            elif action == RULE_LONG:
                way = _SHORT_OR_FAR
            elif action == RULE_WORD:
                way = _NUMBER_THIRD
            if not way or size > 24 or not self._free:
                return
            p: cython.p_uchar = name
            place: cython.int = _place_of(p, 0, size, self._names, self._sizes)
            if not self._sizes[place]:
                self._free -= 1
            memcpy(cython.cast(cython.p_uchar, self._names) + 24 * place, p, size)
            self._sizes[place] = size
            self._ways[place] = way

    def scan(self, buf: bytes, pos: cython.Py_ssize_t) -> int:
        """From the beginning of a command on → where the first one begins that has to be looked at, or is not complete.

        `commands` says how many were stepped over.
        """
        self.commands = 0
        if cython.compiled:
            p: cython.p_uchar = buf
            own: cython.p_uchar = self._own
            names: cython.p_uchar = self._names
            own_size: cython.Py_ssize_t = len(self._own)
            end: cython.Py_ssize_t = len(buf)
            at: cython.Py_ssize_t
            first: cython.Py_ssize_t
            size: cython.longlong
            length: cython.longlong
            left: cython.longlong
            place: cython.int
            way: cython.int
            when: cython.longlong  # how many arguments are left where the time stands; -1: there is none
            with cython.nogil:
                while pos < end and p[pos] == 0x2A:
                    size = _header(p, pos, end)
                    if size < 1:
                        break
                    at = _behind_line(p, pos)
                    # The name
                    if at >= end or p[at] != 0x24:
                        break
                    length = _header(p, at, end)
                    if length < 1 or length > 24:
                        break
                    first = _behind_line(p, at)
                    at = first + length + 2
                    if at > end or p[at - 2] != 13 or p[at - 1] != 10:
                        break
                    place = _place_of(p, first, length, names, self._sizes)
                    if not self._sizes[place]:
                        break
                    way = self._ways[place]
                    when = -1
                    if way == _NUMBER_THIRD and size < 3:
                        break
                    if way == _SHORT_OR_FAR and size > 3:
                        if size != 5:
                            break
                        when = 1
                    left = size - 1
                    while left:
                        if at >= end or p[at] != 0x24:
                            break
                        length = _header(p, at, end)
                        if length < 0:
                            break
                        at = _behind_line(p, at)
                        if (
                            left == size - 1
                            and length >= own_size
                            and end - at >= own_size
                            and memcmp(p + at, own, own_size) == 0
                        ):
                            break  # a key of the product itself
                        if (
                            way == _NUMBER_THIRD
                            and left == size - 2
                            and (not length or at >= end or p[at] < 0x30 or p[at] > 0x39)
                        ):
                            break
                        if when == left:
                            if (
                                length > 15
                                or end - at < length
                                or _decimal(p, at, at + length) < self.far_from
                            ):
                                break
                        elif (
                            when > 0
                            and left == 2
                            and (
                                length != 4
                                or end - at < 4
                                or not (
                                    (p[at] | 0x20) == 0x70
                                    and (p[at + 1] | 0x20) == 0x78
                                    and (p[at + 2] | 0x20) == 0x61
                                    and (p[at + 3] | 0x20) == 0x74
                                )
                            )
                        ):
                            break  # the option is not PXAT
                        at += length + 2
                        if at > end or p[at - 2] != 13 or p[at - 1] != 10:
                            break
                        left -= 1
                    if left:
                        break
                    self.commands += 1
                    pos = at
        return pos


class StreamKernel:
    """Splits the stream into commands and passes on what the target has to apply, however the blocks are cut.

    `actions` maps command names to what is done with them; a name that is not in it ends the link with `UnknownCommand`.
    Transactions of the source lose their MULTI and EXEC here: the link wraps every batch in one of its own and closes it at a
    `boundary` only. `target_database` is the database that the target's connection has selected; the owner sets it when it
    selects another one. `far_from` (ms) may be set to spare the rule what it would not change: a SET with nothing but
    PXAT that expires then or later; unset, the rule sees them all. Commands with a name in `watched`, as the rule gives them, are told of
    in the batch. `own` sees each command whose first key is the product's own (it never goes on); where it returns True,
    the rest of the transaction that is open is left out, too.
    """

    def __init__(
        self,
        actions: dict[bytes, int],
        rule: Callable[[Entry], Emitted],
        *,
        offset: int,
        database: int,
        databases: frozenset[int] | None = None,
        own_prefix: bytes = OWN_PREFIX,
        stream_from: int = 1 << 20,
        own: Callable[[Entry], bool] | None = None,
        watched: frozenset[bytes] = frozenset(),
    ) -> None:
        self._own_rule = own
        self._watched = watched
        self._left_out = False  # the rest of the open transaction of the source does not go on
        self._actions = dict(actions)
        self._scanner = _Scanner(own_prefix)
        for name, action in actions.items():
            self._scanner.learn(name, action)
        self._rule = rule
        self._databases = databases
        self._own = own_prefix
        self._stream_from = stream_from
        self._buf = b""
        self._open = False  # inside a transaction of the source
        self._through_args = 0  # arguments of a passed-through command that have not begun
        self._through = 0  # bytes of its argument that is under way, with the line end
        self._passing = False
        self.offset = offset  # behind the last complete command
        self._safe = offset
        self.database = database
        self._safe_database = database
        self.target_database = -1

    @property
    def far_from(self) -> int:
        return self._scanner.far_from

    @far_from.setter
    def far_from(self, milliseconds: int) -> None:
        self._scanner.far_from = milliseconds

    @property
    def safe_database(self) -> int:
        """The database of the source's stream at the last safe point."""
        return self._safe_database

    def feed(self, data: bytes) -> StreamBatch:
        """Take the next block and return what it became."""
        batch = StreamBatch()
        buf = self._buf + data if self._buf else data
        pos = 0
        if self._passing:
            pos = self._pass_through(buf, batch)
        if not self._passing:
            pos = self._split(buf, pos, batch)
        self._buf = buf[pos:]
        batch.offset = self._safe
        batch.boundary = not self._open and not self._passing
        return batch

    def _split(self, buf: bytes, pos: int, batch: StreamBatch) -> int:
        """Whole commands from `pos` on → the position of the first one that is not complete."""
        end = len(buf)
        actions, find, number_of = self._actions, buf.find, _NUMBERS.get
        own = self._own in buf
        wanted = self._databases is None or self.database in self._databases
        run = pos  # where the bytes begin that go on as they are
        run_count = 0
        offset = self.offset
        scanner = self._scanner
        while pos < end:
            if COMPILED and wanted and self.target_database == self.database and not self._left_out:
                at = scanner.scan(buf, pos)
                if at > pos:
                    run_count += scanner.commands
                    offset += at - pos
                    pos = at
                    if not self._open:
                        self._safe, self._safe_database = offset, self.database
                    continue
            line = find(b"\r\n", pos)
            if line < 0:
                self._check_line(buf, pos)
                break
            if buf[pos] != 0x2A:
                raise ProtocolError(f"the source sent {buf[pos : pos + 16]!r} where a command was expected")
            count = number_of(buf[pos + 1 : line])
            size = left = _count_of(buf, pos + 1, line) if count is None else count
            at = line + 2
            first = second = 0
            first_end = second_end = 0
            argument = 0
            while left:
                line = find(b"\r\n", at)
                if line < 0:
                    self._check_line(buf, at)
                    break
                if buf[at] != 0x24:
                    raise ProtocolError(
                        f"the source sent {buf[at : at + 16]!r} where an argument was expected"
                    )
                begin = line + 2
                count = number_of(buf[at + 1 : line])
                at = begin + (_count_of(buf, at + 1, line) if count is None else count) + 2
                if at > end:
                    break
                if buf[at - 1] != 10 or buf[at - 2] != 13:
                    raise _ends_elsewhere(buf, begin)
                if argument < 2:
                    if argument:
                        second, second_end = begin, at - 2
                    else:
                        first, first_end = begin, at - 2
                    argument += 1
                left -= 1
            if left:
                own_key = argument > 1 and buf.startswith(self._own, second)  # is waited for, and left out
                if argument and not own_key and end - pos >= self._stream_from:
                    self.offset = offset
                    begun = self._begin_through(buf, pos, run, run_count, first, first_end, wanted, batch)
                    if begun >= 0:
                        return begun
                break
            name = buf[first:first_end]
            action = actions.get(name, -1)
            if action < 0:
                action = self._lookup(name)
            offset += at - pos
            if action == RULE_LONG:
                action = RULE if size > 3 else FORWARD
            elif action == RULE_WORD:
                action = RULE
            if own and action in (FORWARD, RULE) and second and buf.startswith(self._own, second):
                action = OWN
            elif self._left_out and action in (FORWARD, RULE):
                action = LEFT_OUT
            if action == FORWARD and wanted:
                if self.target_database != self.database:
                    self._flush(buf, run, pos, run_count, batch)
                    self._select(batch)
                    run, run_count = pos, 0
                run_count += 1
            else:
                self._flush(buf, run, pos, run_count, batch)
                run, run_count = at, 0
                if action == SELECT:
                    self.database = _count_of(buf, second, second_end)
                    wanted = self._databases is None or self.database in self._databases
                elif action == MULTI:
                    self._open = True
                elif action == EXEC:
                    self._open = self._left_out = False
                elif action == CONTROL:
                    batch.getack = batch.getack or buf[second:second_end].upper() == b"GETACK"
                elif action == RULE:
                    self._apply(Entry(_arguments(buf, pos), self.database, offset, self._open), batch)
                elif action == OWN:
                    batch.dropped += 1
                    if self._own_rule is not None:
                        entry = Entry(_arguments(buf, pos), self.database, offset, self._open)
                        self._left_out = (self._own_rule(entry) and self._open) or self._left_out
                elif action != DROP:
                    batch.dropped += 1
            if not self._open:
                self._safe, self._safe_database = offset, self.database
            pos = at
        self._flush(buf, run, pos, run_count, batch)
        self.offset = offset
        return pos

    def _apply(self, entry: Entry, batch: StreamBatch) -> None:
        """Let the rule say what this command becomes."""
        count = 0
        for database, args in self._rule(entry):
            if database != self.target_database:
                batch.data.append(encode(b"SELECT", database))
                batch.commands += 1
                self.target_database = database
            if args[0] in self._watched:
                batch.watched.append((batch.commands, database, args[1]))
            batch.data.append(encode(*args))
            batch.commands += 1
            count += 1
        if not count:
            batch.dropped += 1

    def _select(self, batch: StreamBatch) -> None:
        batch.data.append(encode(b"SELECT", self.database))
        batch.commands += 1
        self.target_database = self.database

    @staticmethod
    def _flush(buf: bytes, run: int, pos: int, count: int, batch: StreamBatch) -> None:
        if pos > run and count:
            batch.data.append(buf[run:pos])
            batch.commands += count

    def _lookup(self, name: bytes) -> int:
        """Names come in the case in which the client wrote them."""
        action = self._actions.get(name.upper())
        if action is None:
            raise UnknownCommand(
                f"the source sent the command {name[:64].decode('utf-8', 'replace')!r}, which this engine does not know"
            )
        self._actions[name] = action
        self._scanner.learn(name, action)
        return action

    @staticmethod
    def _check_line(buf: bytes, pos: int) -> None:
        if len(buf) - pos > 64:
            raise ProtocolError(f"the source sent {buf[pos : pos + 32]!r} where a length was expected")

    # A command that is too large to wait for goes through while it arrives.

    def _begin_through(
        self,
        buf: bytes,
        pos: int,
        run: int,
        run_count: int,
        first: int,
        first_end: int,
        wanted: bool,
        batch: StreamBatch,
    ) -> int:
        name = buf[first:first_end]
        action = self._actions.get(name, -1)
        if action < 0:
            action = self._lookup(name)
        line = buf.find(b"\r\n", pos)
        if action == RULE_LONG and _count_of(buf, pos + 1, line) == 3:
            action = FORWARD
        if action != FORWARD or not wanted or self._left_out:
            return -1  # a rule needs it whole; a skipped one is short-lived
        self._flush(buf, run, pos, run_count, batch)
        if self.target_database != self.database:
            self._select(batch)
        self._through_args = _count_of(buf, pos + 1, line)
        self._through = 0
        self._passing = True
        batch.data.append(buf[pos : line + 2])
        self.offset += line + 2 - pos
        rest = buf[line + 2 :]
        return line + 2 + self._pass_through(rest, batch)

    def _pass_through(self, buf: bytes, batch: StreamBatch) -> int:
        """Go on with the open command; returns the position up to which the block is used."""
        pos, end = 0, len(buf)
        while True:
            take = min(self._through, end - pos)
            pos += take
            self._through -= take
            if self._through:
                break
            if not b"\r\n".endswith(buf[pos - min(2, take) : pos]):
                raise _ends_elsewhere(buf, max(0, pos - 16))
            if not self._through_args:
                self._passing = False
                batch.commands += 1
                break
            line = buf.find(b"\r\n", pos)
            if line < 0:
                self._check_line(buf, pos)
                break
            if buf[pos] != 0x24:
                raise ProtocolError(f"the source sent {buf[pos : pos + 16]!r} where an argument was expected")
            self._through = _count_of(buf, pos + 1, line) + 2
            self._through_args -= 1
            pos = line + 2
        if pos:
            batch.data.append(buf[:pos])
            self.offset += pos
        if not self._passing and not self._open:
            self._safe, self._safe_database = self.offset, self.database
        return pos


_NUMBERS: Final = {b"%d" % number: number for number in range(1000)}  # found sooner than read


def _ends_elsewhere(buf: bytes, pos: int) -> ProtocolError:
    return ProtocolError(
        f"the source sent an argument that does not end where it says: {buf[pos : pos + 16]!r}"
    )


def _count_of(buf: bytes, start: int, stop: int) -> int:
    """The number in ASCII digits between two positions."""
    digits = buf[start:stop]
    if not digits.isdigit() or len(digits) > 12:
        raise ProtocolError(f"{digits[:32]!r} stands where a length was expected")
    return int(digits)


def _arguments(buf: bytes, pos: int) -> list[bytes]:
    """The arguments of the complete command at `pos`."""
    line = buf.index(b"\r\n", pos)
    args = []
    for _ in range(_count_of(buf, pos + 1, line)):
        begin = line + 2
        line = buf.index(b"\r\n", begin)
        length = _count_of(buf, begin + 1, line)
        args.append(buf[line + 2 : line + 2 + length])
        line += 2 + length
    return args


def split_commands(data: bytes) -> list[list[bytes]]:
    """All complete commands of a byte string: for messages that have to name one of a batch."""
    commands = []
    pos = 0
    while pos < len(data):
        try:
            args = _arguments(data, pos)
        except (ValueError, ProtocolError):
            break
        commands.append(args)
        pos += len(encode(*args))
    return commands
