"""The replication handshake and the framing of what follows it: bytes in, events out. No I/O.

Sources: `replication.c` of Redis and Valkey (`syncCommand`, `readSyncBulkPayload`), and what was seen on the wire: newlines as
keep-alive before `+FULLRESYNC` and before `$`; `$<length>` or `$EOF:<40 bytes>`; the stream follows in the same read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from migrations_app.engine.errors import NotRedis, ProtocolError, SnapshotError, SourceNotReady, SourceRefused
from migrations_app.engine.protocol.resp import encode

MARK_LENGTH: Final = 40
_MAX_LINE: Final = 1024


def psync(replication_id: str, offset: int) -> bytes:
    """Ask for what follows byte `offset` of the stream of `replication_id`; ("?", -1) asks for everything."""
    return encode("PSYNC", replication_id, offset if replication_id == "?" else offset + 1)


def acknowledge(offset: int) -> bytes:
    return encode("REPLCONF", "ACK", offset)


@dataclass(frozen=True, slots=True)
class FullResync:
    """A snapshot comes; the stream goes on behind byte `offset` of `replication_id`."""

    replication_id: str
    offset: int


@dataclass(frozen=True, slots=True)
class Continue:
    """The stream goes on where it was asked for; `replication_id` is a new one after a failover, else empty."""

    replication_id: str


@dataclass(frozen=True, slots=True)
class SnapshotBegin:
    """`size` in bytes, None for a diskless snapshot."""

    size: int | None


@dataclass(frozen=True, slots=True)
class SnapshotBytes:
    """A part of the snapshot. Of a diskless one it may go beyond the end: see `PsyncDecoder.end_snapshot`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SnapshotEnd:
    """The snapshot is complete."""


@dataclass(frozen=True, slots=True)
class StreamBytes:
    data: bytes


Event = FullResync | Continue | SnapshotBegin | SnapshotBytes | SnapshotEnd | StreamBytes


class _State(Enum):
    REPLY = auto()  # to PSYNC
    HEADER = auto()  # of the snapshot
    SIZED = auto()  # snapshot of known length
    MARKED = auto()  # snapshot that ends in a mark
    MARK = auto()
    STREAM = auto()


class PsyncDecoder:
    """From the first byte behind the PSYNC that was sent, however the bytes are cut."""

    _verb = "PSYNC"

    def __init__(self) -> None:
        self._state = _State.REPLY
        self._buffer = b""
        self._left = 0
        self._mark = b""

    @property
    def waiting(self) -> bool:
        """Whether the source has sent neither snapshot nor stream yet."""
        return self._state in (_State.REPLY, _State.HEADER)

    @property
    def left(self) -> int | None:
        """Bytes of the snapshot that are missing; None where that is not known, 0 in the stream."""
        if self._state in (_State.MARKED, _State.MARK):
            return None
        return self._left if self._state is _State.SIZED else 0

    @property
    def in_snapshot(self) -> bool:
        return self._state in (_State.SIZED, _State.MARKED, _State.MARK)

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; what they mean, in order."""
        events: list[Event] = []
        while data:
            if self._state is _State.STREAM:
                events.append(StreamBytes(data))
                return events
            if self._state is _State.MARKED:
                if self._buffer == self._mark:
                    # Read as part of a value: a length is damaged, and the end would be waited for until the stream has filled it.
                    raise SnapshotError("the snapshot's end mark has come before its end")
                self._buffer = (self._buffer + data[-MARK_LENGTH:])[-MARK_LENGTH:]
                events.append(SnapshotBytes(data))
                return events
            if self._state is _State.SIZED:
                part = data[: self._left]
                events.append(SnapshotBytes(part))
                self._left -= len(part)
                data = data[len(part) :]
                if not self._left:
                    self._state = _State.STREAM
                    events.append(SnapshotEnd())
                continue
            if self._state is _State.MARK:
                self._buffer += data[: MARK_LENGTH - len(self._buffer)]
                data = data[len(self._buffer) - self._left :]
                self._left = len(self._buffer)
                self._check_mark(events)
                continue
            line, data = self._line(data)
            if line is None:
                return events
            event = self._reply(line) if self._state is _State.REPLY else self._header(line)
            if event is not None:
                events.append(event)
        return events

    def end_snapshot(self, rest: bytes) -> list[Event]:
        """The reader of a diskless snapshot has found its end; `rest` is what it was given beyond it."""
        if self._state is not _State.MARKED:
            if rest:
                raise SnapshotError(f"the snapshot ends {len(rest)} bytes before its announced length")
            return []
        self._state, self._buffer, self._left = _State.MARK, b"", 0
        return self.feed(rest)

    def _check_mark(self, events: list[Event]) -> None:
        if len(self._buffer) < MARK_LENGTH:
            return
        if self._buffer != self._mark:
            raise SnapshotError("the snapshot does not end in the mark that the source announced")
        self._state, self._buffer = _State.STREAM, b""
        events.append(SnapshotEnd())

    def _line(self, data: bytes) -> tuple[bytes | None, bytes]:
        """A line without its end and what follows it; None when it is not complete. Bare newlines are keep-alives."""
        data = self._buffer + data
        self._buffer = b""
        data = data.lstrip(b"\n") if not data.startswith(b"\r") else data
        end = data.find(b"\n")
        if max(end, len(data) if end < 0 else 0) > _MAX_LINE:
            raise NotRedis(f"the source answered {self._verb} with {data[:32]!r}…")
        if end < 0:
            self._buffer = data
            return None, b""
        return data[:end].rstrip(b"\r"), data[end + 1 :]

    def _reply(self, line: bytes) -> Event | None:
        text = line.decode("utf-8", "replace")
        if text.startswith("-"):
            raise refused(text[1:])
        words = text.split(" ")
        if words[0] == "+FULLRESYNC" and len(words) == 3 and words[2].isascii() and words[2].isdigit():
            self._state = _State.HEADER
            return FullResync(words[1], int(words[2]))
        if words[0] == "+CONTINUE":
            self._state = _State.STREAM
            return Continue(words[1] if len(words) > 1 else "")
        raise ProtocolError(f"the source answered PSYNC with {text[:64]!r}")

    def _header(self, line: bytes) -> Event | None:
        if line.startswith(b"-"):
            raise refused(line[1:].decode("utf-8", "replace"), self._verb)
        if not line.startswith(b"$"):
            raise ProtocolError(f"the source sent {line[:64]!r} where the snapshot was to begin")
        if line.startswith(b"$EOF:"):
            self._mark = line[5:]
            if len(self._mark) != MARK_LENGTH:
                raise ProtocolError(f"the source announced an end mark of {len(self._mark)} bytes")
            self._state = _State.MARKED
            return SnapshotBegin(None)
        if not line[1:].isdigit() or len(line) > 16:
            raise ProtocolError(f"the source announced a snapshot of {line[1:64]!r} bytes")
        self._left = int(line[1:])
        self._state = _State.SIZED
        return SnapshotBegin(self._left)


class SyncDecoder(PsyncDecoder):
    """From the first byte behind the SYNC that was sent: the snapshot comes at once, without identifier and offset."""

    _verb = "SYNC"

    def __init__(self) -> None:
        super().__init__()
        self._state = _State.HEADER
        self._announced = False

    def feed(self, data: bytes) -> list[Event]:
        events = super().feed(data)
        if events and not self._announced:
            self._announced = True
            events.insert(0, FullResync("", 0))
        return events


def refused(text: str, verb: str = "PSYNC") -> SourceNotReady | SourceRefused:
    """The error that a refusal of PSYNC (or SYNC) stands for."""
    code = text.partition(" ")[0]
    if code in {"NOMASTERLINK", "LOADING", "TRYAGAIN", "MASTERDOWN", "BUSY"} or "aborting" in text.lower():
        return SourceNotReady(f"the source cannot serve a replica just now: {text}")
    if verb == "SYNC":
        return SourceRefused(
            f"the source refuses SYNC: {text}",
            advice="Enable SYNC on the source (rename-command, ACL +sync), or read it by its keys (--method scan).",
        )
    return SourceRefused(f"the source refuses {verb}: {text}")
