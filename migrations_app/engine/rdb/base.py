"""Large values as commands of their type, in bounded chunks, while they are read.

One RESTORE would need the length of the value first, and so all of it in memory. A rewriter takes the serialised value in pieces
and gives the commands that build the same value; the caller deletes the key before and sets the expiry behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from migrations_app.engine.errors import SnapshotError
from migrations_app.engine.kernel import read_length, read_string, string_extent

Command = list[bytes] | bytes  # its arguments; or it as RESP, for who has set `encoded`


def arguments(commands: Iterable[Command]) -> list[list[bytes]]:
    """Of a rewriter that is not asked to encode them."""
    return [command for command in commands if not isinstance(command, bytes)]


class More(Exception):
    """The piece ends inside of an element."""


class Rewriter:
    """Base: reads elements from pieces that may end anywhere.

    A subclass names the step to begin with; a step reads one element with `length`, `string` and `raw`, and either stays or sets
    `self.step` to the next one (None at the end of the value). A step that meets the end of the piece is run again from its
    beginning with the next one, so it reads first and changes state after.
    """

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.note = ""
        self.encoded = False
        self.step: Callable[[], None] | None = None
        self._buf = b""
        self._pos = 0
        self._out: list[Command] = []

    def feed(self, piece: bytes) -> list[Command]:
        """The commands that this piece completes."""
        self._buf = self._buf[self._pos :] + piece
        self._pos = 0
        try:
            while self.step is not None:
                mark = self._pos
                self.step()
        except More:
            self._pos = mark
        out, self._out = self._out, []
        return out

    def finish(self) -> list[Command]:
        """What is left once the whole value has been fed."""
        if self.step is not None or self._pos != len(self._buf):
            raise SnapshotError(
                f"the snapshot is damaged: the value of key {self.key[:128]!r} does not end where it should"
            )
        self.flush()
        out, self._out = self._out, []
        return out

    def flush(self) -> None:
        """Emit what has been collected for a command."""

    def emit(self, *args: bytes) -> None:
        self._out.append(list(args))

    def length(self) -> int:
        value, pos = read_length(self._buf, self._pos, len(self._buf))
        if pos < 0:
            raise More
        self._pos = pos
        return value

    def string(self) -> bytes:
        value, pos = read_string(self._buf, self._pos, len(self._buf))
        if pos < 0:
            raise More
        self._pos = pos
        return value

    def skip_string(self) -> None:
        """Step over a string without decoding it."""
        _, pos = string_extent(self._buf, self._pos, len(self._buf))
        if pos < 0 or pos > len(self._buf):
            raise More
        self._pos = pos

    def raw(self, count: int) -> bytes:
        stop = self._pos + count
        if stop > len(self._buf):
            raise More
        value = self._buf[self._pos : stop]
        self._pos = stop
        return value
