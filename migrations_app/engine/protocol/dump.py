"""The replies to expiry, DUMP, expiry of each of some keys, as entries of a snapshot. Bytes in, bytes out, however they are cut.

The payload of DUMP is the type byte and the value as in a snapshot, then ten bytes (version and checksum), which are left out: the
reader of the snapshot puts the target's own there. A payload goes on while it arrives. Source of the format: `cluster.c` of Redis
(`createDumpPayload`), `rdb.c`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from migrations_app.engine.errors import ProtocolError
from migrations_app.engine.protocol.resp import ReplyError

GONE: Final = -2  # what PTTL and PEXPIRETIME say of a key that does not exist
_TRAILER: Final = 10
_MAX_LINE: Final = 64 * 1024
QUIET_KINDS: Final = frozenset(
    {7, 15, 19, 21, 26}
)  # values of modules, streams: not all their changes are notified


def length(number: int) -> bytes:
    """A length in the form that the snapshot has for it."""
    if number < 1 << 6:
        return bytes((number,))
    if number < 1 << 14:
        return bytes((0x40 | number >> 8, number & 0xFF))
    if number < 1 << 32:
        return b"\x80" + number.to_bytes(4, "big")
    return b"\x81" + number.to_bytes(8, "big")


class DumpReader:
    """`begin` with the keys that were asked for, then `feed` until it is `done`.

    `absolute` says whether the expiries are times in ms (PEXPIRETIME) or ms from now (PTTL); `now` gives ms since the epoch.
    What the keys turned out to be is collected in `gone` (they do not exist), `unsure` (changed between the questions: to be read
    again) and `quiet` (streams and values of modules). An error reply is raised as what `error_of` makes of it.
    """

    def __init__(
        self, now: Callable[[], int], error_of: Callable[[ReplyError, bytes], Exception], *, absolute: bool
    ) -> None:
        self._now = now
        self._error_of = error_of
        self._absolute = absolute
        self._keys: Sequence[bytes] = ()
        self._index = 0
        self._part = 0  # of the three replies to each key
        self._rest = b""
        self._left = 0  # bytes of the value that is on its way
        self._inside = False  # of a payload
        self._expiry = self._asked = 0
        self._found = False
        self.gone: list[bytes] = []
        self.unsure: list[bytes] = []
        self.quiet: list[bytes] = []

    def begin(self, keys: Sequence[bytes]) -> None:
        self._keys, self._index, self._part = keys, 0, 0
        self._asked = self._now()
        self.gone, self.unsure, self.quiet = [], [], []

    @property
    def done(self) -> bool:
        return self._index == len(self._keys)

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the replies; what they add to the snapshot."""
        out: list[bytes] = []
        buf = self._rest + data if self._rest else data
        pos, end = 0, len(buf)
        while pos < end:
            if self._inside:
                take = min(self._left, end - pos)
                out.append(buf[pos : pos + take])
                pos += take
                self._left -= take
                if self._left or end - pos < _TRAILER + 2:
                    break
                pos += _TRAILER + 2
                self._inside, self._part = False, 2
                continue
            line = buf.find(b"\r\n", pos)
            if line < 0:
                if end - pos > _MAX_LINE:
                    raise ProtocolError("the source sent a line that is longer than any reply")
                break
            if self.done:
                raise ProtocolError("the source sent more replies than there were questions")
            key = self._keys[self._index]
            first, text = buf[pos], buf[pos + 1 : line]
            if first == 0x2D:  # -
                raise self._error_of(ReplyError(text.decode("utf-8", "replace")), key)
            number = _number(text)
            if self._part != 1:
                if first != 0x3A:  # :
                    raise ProtocolError(
                        f"the source answered {buf[pos : pos + 16]!r} where an expiry was expected"
                    )
                self._times(key, number)
            elif first != 0x24:  # $
                raise ProtocolError(f"the source answered DUMP with {buf[pos : pos + 16]!r}")
            elif number < 0:
                self._found, self._part = False, 2
            elif number <= _TRAILER:
                raise ProtocolError(f"the source sent a DUMP of {number} bytes")
            else:
                if line + 2 >= end:
                    break
                out.append(self._head(key, buf[line + 2]))
                self._left, self._inside, self._found = number - 1 - _TRAILER, True, True
                pos = line + 3
                continue
            pos = line + 2
        self._rest = buf[pos:]
        return b"".join(out)

    def _times(self, key: bytes, value: int) -> None:
        if self._part == 0:
            self._expiry, self._part = value, 1
            return
        self._index, self._part = self._index + 1, 0
        before = self._expiry
        if not self._found:
            (self.gone if value == GONE else self.unsure).append(key)
        elif self._absolute or before < 0 or value < 0:
            if value != before:
                self.unsure.append(key)
        elif not 0 <= before - value <= self._now() - self._asked + 100:
            self.unsure.append(key)

    def _head(self, key: bytes, kind: int) -> bytes:
        if kind in QUIET_KINDS:
            self.quiet.append(key)
        head = b"%c%b%b" % (kind, length(len(key)), key)
        if self._expiry < 0:
            return head
        at = self._expiry if self._absolute else self._expiry + self._now()
        return b"\xfc" + at.to_bytes(8, "little", signed=True) + head


def _number(text: bytes) -> int:
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(digits) > 18:
        raise ProtocolError(f"the source sent {text[:32]!r} where a number was expected")
    return int(text)
