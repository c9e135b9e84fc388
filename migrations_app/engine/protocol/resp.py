"""RESP2, the protocol between clients and servers: bytes in, replies out. No I/O.

Source of the format: https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP2).
"""

from __future__ import annotations

from collections.abc import Iterable

from migrations_app.engine.errors import ProtocolError

MAX_BULK = 512 * 2**20  # a server's own limit for one bulk string (proto-max-bulk-len)
_MAX_LINE = 64 * 1024
_MAX_DEPTH = 32


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


def encode_many(commands: Iterable[tuple[bytes | str | int | float, ...]]) -> bytes:
    """Several commands, one behind the other."""
    return b"".join(encode(*command) for command in commands)


class ReplyReader:
    """Splits a byte stream into replies, however it is cut.

    Simple strings and bulk strings come as `bytes`, integers as `int`, null as `None`, errors as `ReplyError`, arrays
    as `list`. Raises `ProtocolError` for bytes that are no RESP.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._pos = 0
        self._stack: list[tuple[int, list[Reply]]] = []

    def feed(self, data: bytes) -> list[Reply]:
        """Take the next bytes and return the replies that are complete now."""
        self._buffer += data
        replies: list[Reply] = []
        while (complete := self._next()) is not _INCOMPLETE:
            replies.append(complete)  # type: ignore[arg-type]
        if self._pos:
            del self._buffer[: self._pos]
            self._pos = 0
        return replies

    @property
    def pending(self) -> bool:
        """Whether a reply has begun and is not complete."""
        return bool(self._buffer) or bool(self._stack)

    def _next(self) -> Reply | object:
        while True:
            value = self._value()
            if value is _INCOMPLETE:
                return _INCOMPLETE
            if value is _NESTED:
                continue
            while self._stack:
                count, items = self._stack[-1]
                items.append(value)  # type: ignore[arg-type]
                if len(items) < count:
                    break
                self._stack.pop()
                value = items
            else:
                return value

    def _value(self) -> Reply | object:
        buffer, start = self._buffer, self._pos
        end = buffer.find(b"\r\n", start)
        if end < 0:
            if len(buffer) - start > _MAX_LINE:
                raise ProtocolError("the server sent a line that is longer than any reply")
            return _INCOMPLETE
        if end == start:
            raise ProtocolError("the server sent an empty line where a reply was expected")
        kind, line = buffer[start], bytes(buffer[start + 1 : end])
        if kind == 0x2B:  # +
            self._pos = end + 2
            return line
        if kind == 0x2D:  # -
            self._pos = end + 2
            return ReplyError(line.decode("utf-8", "replace"))
        if kind == 0x3A:  # :
            self._pos = end + 2
            return _integer(line)
        if kind == 0x24:  # $
            length = _integer(line)
            if length == -1:
                self._pos = end + 2
                return None
            if not 0 <= length <= MAX_BULK:
                raise ProtocolError(f"the server announced a string of {length} bytes")
            stop = end + 2 + length
            if len(buffer) < stop + 2:
                return _INCOMPLETE
            if buffer[stop : stop + 2] != b"\r\n":
                raise ProtocolError("a string of the server does not end where it said")
            self._pos = stop + 2
            return bytes(memoryview(buffer)[end + 2 : stop])
        if kind == 0x2A:  # *
            count = _integer(line)
            self._pos = end + 2
            if count == -1:
                return None
            if count < -1:
                raise ProtocolError(f"the server announced an array of {count} elements")
            if count == 0:
                return []
            if len(self._stack) >= _MAX_DEPTH:
                raise ProtocolError("the server sent arrays nested too deeply")
            self._stack.append((count, []))
            return _NESTED
        raise ProtocolError(f"the server sent {bytes(buffer[start : start + 16])!r}, which is no reply of Redis")


_INCOMPLETE = object()
_NESTED = object()


def _integer(line: bytes) -> int:
    digits = line[1:] if line[:1] == b"-" else line
    if not digits.isdigit() or len(digits) > 19:
        raise ProtocolError(f"the server sent {line[:32]!r} where a number was expected")
    return int(line)
