"""RESP2, the protocol between clients and servers: bytes in, replies out. No I/O.

Source of the format: https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from migrations_app.engine.errors import ProtocolError

MAX_BULK = 512 * 2**20  # a server's own limit for one bulk string (proto-max-bulk-len)
_MAX_LINE = 64 * 1024
_MAX_DEPTH = 32
_SMALL = {b"%d" % number: number for number in range(-2, 2048)}  # most numbers and lengths: parsed once


class ReplyError(str):
    """An error reply as a value (`-ERR …` without the dash): a pipeline has to go on behind it."""

    __slots__ = ()

    @property
    def code(self) -> str:
        """The first word: ERR, NOAUTH, WRONGTYPE …"""
        return self.partition(" ")[0]


Reply = bytes | int | None | ReplyError | list["Reply"]


def encode(*args: bytes | str | int | float) -> bytes:
    """One command as an array of bulk strings; text as UTF-8."""
    out = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = arg if isinstance(arg, bytes) else str(arg).encode()
        out.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(out)


def encode_many(commands: Iterable[Sequence[bytes | str | int | float]]) -> bytes:
    """Several commands, one behind the other."""
    return b"".join(encode(*command) for command in commands)


class ReplyReader:
    """Splits a byte stream into replies, however it is cut.

    Simple strings and bulk strings come as `bytes`, integers as `int`, null as `None`, errors as `ReplyError`, arrays
    as `list`. Raises `ProtocolError` for bytes that are no RESP.
    """

    def __init__(self) -> None:
        self._chunks: list[bytes] = []  # what has come and is not part of a complete value yet
        self._size = 0
        self._need = 0  # bytes that `_chunks` must hold before it is worth looking again
        self._stack: list[tuple[int, list[Reply]]] = []  # arrays that have begun: length, elements so far

    def feed(self, data: bytes) -> list[Reply]:
        """Take the next bytes and return the replies that are complete now."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size < self._need:
            return []  # a long string is joined once, not at each piece of it
        buffer = data if len(self._chunks) == 1 else b"".join(self._chunks)
        replies: list[Reply] = []
        used = self._parse(buffer, replies)
        rest = buffer[used:]
        self._chunks = [rest] if rest else []
        self._size = len(rest)
        return replies

    @property
    def pending(self) -> bool:
        """Whether a reply has begun and is not complete."""
        return bool(self._size) or bool(self._stack)

    def _parse(self, buffer: bytes, replies: list[Reply]) -> int:
        """Append the complete replies, and return how much of the buffer they and begun arrays took."""
        # One flat loop: the comparison of two servers reads millions of small replies.
        pos, size, find, stack, small = 0, len(buffer), buffer.find, self._stack, _SMALL
        value: Reply
        self._need = 0
        while True:
            end = find(b"\r\n", pos)
            if end < 0:
                if size - pos > _MAX_LINE:
                    raise ProtocolError("the server sent a line that is longer than any reply")
                return pos
            kind = buffer[pos]
            if kind == 0x3A:  # :
                line = buffer[pos + 1 : end]
                value = small[line] if line in small else _integer(line)
                pos = end + 2
            elif kind == 0x24:  # $
                line = buffer[pos + 1 : end]
                length = small[line] if line in small else _integer(line)
                start = end + 2
                stop = start + length
                if 0 <= length <= MAX_BULK:
                    if stop + 2 > size:
                        self._need = stop + 2 - pos
                        return pos
                    if not buffer.startswith(b"\r\n", stop):
                        raise ProtocolError("a string of the server does not end where it said")
                    value = buffer[start:stop]
                    pos = stop + 2
                elif length == -1:
                    value = None
                    pos = start
                else:
                    raise ProtocolError(f"the server announced a string of {length} bytes")
            elif kind == 0x2B:  # +
                value = buffer[pos + 1 : end]
                pos = end + 2
            elif kind == 0x2A:  # *
                count = _integer(buffer[pos + 1 : end])
                pos = end + 2
                if count > 0:
                    if len(stack) >= _MAX_DEPTH:
                        raise ProtocolError("the server sent arrays nested too deeply")
                    stack.append((count, []))
                    continue
                if count < -1:
                    raise ProtocolError(f"the server announced an array of {count} elements")
                value = [] if count == 0 else None
            elif kind == 0x2D:  # -
                value = ReplyError(buffer[pos + 1 : end].decode("utf-8", "replace"))
                pos = end + 2
            elif end == pos:
                raise ProtocolError("the server sent an empty line where a reply was expected")
            else:
                raise ProtocolError(f"the server sent {buffer[pos : pos + 16]!r}, which is no reply of Redis")
            while stack:
                length, items = stack[-1]
                items.append(value)
                if len(items) < length:
                    break
                stack.pop()
                value = items
            else:
                replies.append(value)


def _integer(line: bytes) -> int:
    if line.isdigit() and len(line) <= 19:
        return int(line)
    digits = line[1:]
    if line[:1] != b"-" or not digits.isdigit() or len(digits) > 19:
        raise ProtocolError(f"the server sent {line[:32]!r} where a number was expected")
    return int(line)
