"""A stream in the form of an older server, as one RESTORE: nothing of it is lost that the older form can hold.

The forms (type bytes 15, 19, 21, 26) differ in what stands beside the entries: 19 adds the first and the highest deleted identifier, the
number of entries ever added and those read by each group; 21 when a consumer was last active; 26 the memory of
producers that repeat themselves. Formats: see `stream.py`.
"""

from __future__ import annotations

from typing import Final

from migrations_app.engine.abilities import Abilities
from migrations_app.engine.errors import UnsupportedData
from migrations_app.engine.kernel import crc64
from migrations_app.engine.rdb.base import Command, Rewriter
from migrations_app.engine.rdb.stream import StreamRewriter

LARGEST: Final = 16 << 20  # bytes of a stream that are held for one RESTORE; a larger one goes as commands


def stamped(body: bytes, stamp: int) -> bytes:
    """The payload of DUMP for a type byte and its value: with the version number and the checksum behind it."""
    payload = body + stamp.to_bytes(2, "little")
    return payload + crc64(payload).to_bytes(8, "little")


class StreamConverter(Rewriter):
    """See `Rewriter`. `kind` is the type byte that came; the target's newest form is older."""

    def __init__(self, kind: int, key: bytes, *, target: Abilities, stamp: int) -> None:
        super().__init__(key)
        self._kind = kind
        self._form = next(form for form in (26, 21, 19, 15) if target.loads(form))
        self._target = target
        self._stamp = stamp
        self._parts: list[bytes] = [bytes((self._form,))]
        self._raw: list[bytes] = []
        self._size = 0
        self._commands: StreamRewriter | None = None
        self._left = 0  # strings, groups, pending entries, consumers or producers still to come, by step
        self._groups = self._consumers = 0
        self.step = self._count

    def feed(self, piece: bytes) -> list[Command]:
        if self._commands is not None:
            return self._commands.feed(piece)
        self._raw.append(piece)
        self._size += len(piece)
        if self._size > LARGEST:
            self._commands = StreamRewriter(self._kind, self.key, target_version=self._target.redis)
            raw, self._raw, self._parts = b"".join(self._raw), [], []
            return self._commands.feed(raw)
        return super().feed(piece)

    def finish(self) -> list[Command]:
        if self._commands is not None:
            commands = self._commands.finish()
            self.note = self._commands.note
            return commands
        return super().finish()

    def flush(self) -> None:
        payload = stamped(b"".join(self._parts), self._stamp)
        self.emit(b"RESTORE", self.key, b"0", payload, b"REPLACE")

    def _copy(self, start: int) -> None:
        """What has been read since `start` stays as it is."""
        self._parts.append(self._buf[start : self._pos])

    # Steps: each reads all that it needs before it changes anything.

    def _count(self) -> None:
        start = self._pos
        self._left = 2 * self.length()
        self._copy(start)
        self.step = self._string if self._left else self._tail

    def _string(self) -> None:
        start = self._pos
        self.skip_string()
        self._copy(start)
        self._left -= 1
        if not self._left:
            self.step = self._tail

    def _tail(self) -> None:
        start = self._pos
        for _ in range(3):
            self.length()
        middle = self._pos
        if self._kind > 15:
            for _ in range(5):
                self.length()
        behind = self._pos
        groups = self.length()
        self._parts.append(self._buf[start : behind if self._form > 15 else middle])
        self._copy(behind)
        self._groups = groups
        self._next_group()

    def _next_group(self) -> None:
        self.step = self._group if self._groups else self._settings if self._kind == 26 else None

    def _group(self) -> None:
        start = self._pos
        self.skip_string()
        self.length(), self.length()
        middle = self._pos
        if self._kind > 15:
            self.length()
        behind = self._pos
        pending = self.length()
        self._parts.append(self._buf[start : behind if self._form > 15 else middle])
        self._copy(behind)
        self._groups -= 1
        self._left = pending
        self.step = self._pending if pending else self._count_consumers

    def _pending(self) -> None:
        start = self._pos
        self.raw(24)
        self.length()
        self._copy(start)
        self._left -= 1
        if not self._left:
            self.step = self._count_consumers

    def _count_consumers(self) -> None:
        start = self._pos
        consumers = self.length()
        self._copy(start)
        self._consumers = consumers
        self._next_consumer()

    def _next_consumer(self) -> None:
        if self._consumers:
            self.step = self._consumer
        else:
            self._next_group()

    def _consumer(self) -> None:
        start = self._pos
        self.skip_string()
        self.raw(8)  # when it was last seen
        middle = self._pos
        if self._kind >= 21:
            self.raw(8)  # when it was last active
        behind = self._pos
        held = self.length()
        self._parts.append(self._buf[start : behind if self._form >= 21 else middle])
        self._copy(behind)
        self._consumers -= 1
        self._left = held
        if held:
            self.step = self._held
        else:
            self._next_consumer()

    def _held(self) -> None:
        start = self._pos
        self.raw(16)
        self._copy(start)
        self._left -= 1
        if not self._left:
            self._next_consumer()

    def _settings(self) -> None:
        """How long and how many are remembered, and the producers of whom something is."""
        self.length(), self.length()
        producers = self.length()
        if producers:
            raise UnsupportedData(
                f"key {self.key[:128]!r} is a stream that remembers what {producers} producers have sent (XADD … IDMP), which the "
                f"target ({self._target}) does not know"
            )
        self.length(), self.length()
        self.step = None
