"""Commands of the full phase, as bytes, to the slots that they belong to. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from migrations_app.engine.checkpoint import OWN_PREFIX
from migrations_app.engine.errors import UnsupportedData
from migrations_app.engine.keys import positions, slot
from migrations_app.engine.protocol.resp import encode
from migrations_app.engine.target.slots import tags

EVERYWHERE: Final = -1  # in place of a slot: for every master
# Sets of keys that a link notes: one of each kind in each slot.
NOTES: Final = (OWN_PREFIX + b"deferred:", OWN_PREFIX + b"repair:")

# Their first argument is their only key. All others are looked up.
_FIRST: Final = frozenset(
    b"SET RESTORE RPUSH LPUSH SADD ZADD HSET HMSET HSETEX XADD XSETID PEXPIREAT HPEXPIREAT APPEND SETRANGE".split()
)
_THROUGH_FROM: Final = 64 * 1024  # bytes of a command from which on it goes through while it arrives


@dataclass(slots=True)
class Piece:
    """A command, or a part of one: `slot` and `key` are those of the command, which `ends` here or goes on in the next piece."""

    slot: int
    key: bytes
    data: bytes
    ends: bool


class Router:
    """Give it RESP in any cut; it gives the commands with their slots, in order.

    `SELECT 0` is left out; what is added to the sets of the product's own notes goes to the slots of the keys that are noted. Raises `UnsupportedData` for another database, and for a command whose keys are in several slots.
    """

    def __init__(self) -> None:
        self._script = b""  # whose calls name one key only,
        self._names: tuple[bytes, ...] = ()  # and are to name these of its slot, too
        self._buf = b""
        self._slot = 0  # of the command that goes through
        self._key = b""
        self._args = 0  # of it that have not begun
        self._left = 0  # bytes of its argument that is under way, with the line end
        self._through = False

    def complete(self, script: bytes, names: tuple[bytes, ...]) -> None:
        """Calls of the script with this digest (EVALSHA digest 1 key …) get further keys: these names of the product's, in the form of the
        key's slot."""
        self._script, self._names = script, names

    def feed(self, data: bytes) -> list[Piece]:
        pieces: list[Piece] = []
        buf = self._buf + data if self._buf else data
        pos, end, find = 0, len(buf), buf.find
        if self._through:
            pos = self._go_on(buf, 0, pieces)
        while pos < end and not self._through:
            line = find(b"\r\n", pos)
            if line < 0:
                break
            left = int(buf[pos + 1 : line])
            at = line + 2
            spans: list[tuple[int, int]] = []
            while left:
                line = find(b"\r\n", at)
                if line < 0:
                    break
                begin = line + 2
                stop = begin + int(buf[at + 1 : line])
                if stop + 2 > end:
                    break
                spans.append((begin, stop))
                at = stop + 2
                left -= 1
            if left:
                if len(spans) > 1 and end - pos >= _THROUGH_FROM:
                    if buf[slice(*spans[0])] in _FIRST:
                        self._key, begun = buf[slice(*spans[1])], buf[pos:at]
                    elif len(spans) > 3 and self._incomplete(buf, spans):
                        self._key, begun = (
                            buf[slice(*spans[3])],
                            self._completed(buf, spans, len(spans) + left, at),
                        )
                    else:
                        break
                    self._slot = slot(self._key)
                    self._args, self._left, self._through = left, 0, True
                    pieces.append(Piece(self._slot, self._key, begun, ends=False))
                    pos = self._go_on(buf, at, pieces)
                break
            name = buf[slice(*spans[0])]
            key = buf[slice(*spans[1])]
            if self._incomplete(buf, spans):
                key = buf[slice(*spans[3])]
                pieces.append(Piece(slot(key), key, self._completed(buf, spans, len(spans), at), ends=True))
            elif key.startswith(NOTES) and name in (b"SADD", b"SREM"):
                for place, args in noted([buf[begin:stop] for begin, stop in spans]):
                    pieces.append(Piece(place, args[1], encode(*args), ends=True))
            elif name in _FIRST:
                pieces.append(Piece(slot(key), key, buf[pos:at], ends=True))
            else:
                args = [buf[begin:stop] for begin, stop in spans]
                found = self._place(args)
                if found is not None:
                    pieces.append(Piece(*found, buf[pos:at], ends=True))
            pos = at
        self._buf = buf[pos:]
        return pieces

    def _incomplete(self, buf: bytes, spans: list[tuple[int, int]]) -> bool:
        return bool(self._script) and len(spans) > 3 and buf[slice(*spans[1])] == self._script

    def _completed(self, buf: bytes, spans: list[tuple[int, int]], count: int, stop: int) -> bytes:
        """A call, or what there is of it up to `stop`, with all of its keys; `count` are the arguments that it came with."""
        key = buf[slice(*spans[3])]
        place = slot(key)
        words = [b"EVALSHA", self._script, b"%d" % (1 + len(self._names)), key]
        words += [in_slot(name, place) for name in self._names]
        head = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        return b"*%d\r\n%b%b" % (count + len(self._names), head, buf[spans[3][1] + 2 : stop])

    def _place(self, args: list[bytes]) -> tuple[int, bytes] | None:
        """Slot and first key; None for a SELECT."""
        if args[0] == b"SELECT":
            if args[1] != b"0":
                raise UnsupportedData(
                    f"the source holds keys in database {args[1].decode()}, and a cluster has database 0 only",
                    advice="Choose database 0 alone (--db 0), or a standalone target.",
                )
            return None
        keys = [args[place] for place in positions(args)]
        if not keys:
            return EVERYWHERE, b""
        return one_slot(args, keys), keys[0]

    def _go_on(self, buf: bytes, start: int, pieces: list[Piece]) -> int:
        """Go on with the command that goes through; the position up to which the bytes are used."""
        pos, end = start, len(buf)
        while True:
            take = min(self._left, end - pos)
            pos += take
            self._left -= take
            if self._left:
                break
            if not self._args:
                self._through = False
                break
            line = buf.find(b"\r\n", pos)
            if line < 0:
                break
            self._left = int(buf[pos + 1 : line]) + 2
            self._args -= 1
            pos = line + 2
        if pos > start or not self._through:
            pieces.append(Piece(self._slot, self._key, buf[start:pos], ends=not self._through))
        return pos


def one_slot(args: list[bytes], keys: list[bytes]) -> int:
    """The slot of all keys; `UnsupportedData` where there are several."""
    first = slot(keys[0])
    for key in keys[1:]:
        if slot(key) != first:
            raise UnsupportedData(
                f"{args[0].decode('utf-8', 'replace').upper()} works on keys in several slots of the target cluster: "
                f"{keys[0][:128]!r} and {key[:128]!r}",
                advice="Give the keys a common hash tag ({…}) in the application, or choose a standalone target; "
                "nothing of this command was applied.",
            )
    return first


def in_slot(name: bytes, slot: int) -> bytes:
    """The form that one of the product's own keys has in a slot."""
    return b"%b:{%b}" % (name, tags()[slot])


def placed(marker: list[bytes], slot: int) -> list[bytes]:
    """The command by which an opposite link knows what this one has written (`loop.py`), in the form that it has in a slot."""
    return [marker[0], in_slot(marker[1], slot), *marker[2:]]


def noted(args: list[bytes]) -> list[tuple[int, list[bytes]]]:
    """SADD or SREM of noted keys → (slot, the same for the set of that slot)."""
    parts: dict[int, list[bytes]] = {}
    for key in args[2:]:
        parts.setdefault(slot(key), []).append(key)
    return [(place, [args[0], in_slot(args[1], place), *keys]) for place, keys in parts.items()]
