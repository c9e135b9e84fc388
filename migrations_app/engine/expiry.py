"""Never expire early: what the link does with times to live. Pure.

Two rules (requirements, *Traps*). A relative expiry becomes an absolute one when it is received, or the lag of the link would
stretch it; one that is received late is noted, to be corrected. An expiry that has passed or is near while the link is behind
is left out, and noted: the source may have renewed it in a part of the stream that has not arrived. The noted keys get theirs
once the link has caught up (`engine/deferred.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from migrations_app.engine.kernel import Emitted, Entry

GUARD_FULL_MS = 600_000  # expiries nearer than this are left out of a snapshot
GUARD_BEHIND_MS = 60_000  # … of the stream, while the link is behind
GUARD_MS = 250  # … of the stream, while it is not

_UNIT: Final = {b"EX": 1000, b"PX": 1, b"EXAT": 1000, b"PXAT": 1}
_RELATIVE: Final = frozenset({b"EX", b"PX"})


class ExpiryRule:
    """`now` gives ms since the epoch; `near` says whether an expiry at that time (ms) must be left out for now; `late` whether
    the link is behind, so that a relative expiry comes out too far off and has to be corrected.

    `deferred` collects (database, key); the owner takes and clears it with every batch. `pxat` says whether the
    target knows SET … PXAT (6.2), `absttl` whether RESTORE … ABSTTL (5.0).
    """

    def __init__(
        self,
        now: Callable[[], int],
        near: Callable[[int], bool],
        late: Callable[[], bool],
        *,
        pxat: bool,
        absttl: bool = True,
    ) -> None:
        self._now = now
        self._near = near
        self._late = late
        self._pxat = pxat
        self._absttl = absttl
        self.deferred: set[tuple[int, bytes]] = set()

    def renamed(self, database: int, key: bytes) -> None:
        """A key has got its value, and its expiry, from another one, whose expiry may have been left out."""
        self.deferred.add((database, key))

    def apply(self, entry: Entry) -> Emitted:
        """What a command that carries an expiry becomes."""
        name = entry.args[0].upper()
        if name in _EXPIRE:
            return self._expire(entry, name)
        if name == b"SET":
            return self._set(entry)
        if name in (b"SETEX", b"PSETEX"):
            _, key, amount, value = entry.args
            at = self._now() + int(amount) * (1000 if name == b"SETEX" else 1)
            return self._write(entry, [b"SET", key, value], at, relative=True)
        if name == b"GETEX":
            return self._getex(entry)
        if name in (b"RESTORE", b"RESTORE-ASKING"):
            return self._restore(entry)
        return [(entry.database, self._field_expiry(entry.args, name))]

    def _expire(self, entry: Entry, name: bytes) -> Emitted:
        unit, relative = _EXPIRE[name]
        _, key, amount, *options = entry.args
        at = int(amount) * unit + (self._now() if relative else 0)
        if self._defer(entry.database, key, at, relative):
            return [
                (entry.database, [b"PERSIST", key])
            ]  # the expiry that it had must not strike meanwhile either
        return [(entry.database, [b"PEXPIREAT", key, b"%d" % at, *options])]

    def _set(self, entry: Entry) -> Emitted:
        args = entry.args
        for place in range(3, len(args) - 1):
            option = args[place].upper()
            if option in _UNIT:
                at = int(args[place + 1]) * _UNIT[option] + (self._now() if option in _RELATIVE else 0)
                return self._write(
                    entry, [*args[:place], *args[place + 2 :]], at, relative=option in _RELATIVE
                )
        return [(entry.database, args)]

    def _write(self, entry: Entry, command: list[bytes], at: int, *, relative: bool) -> Emitted:
        """A SET whose expiry has been taken out of it."""
        if self._defer(entry.database, command[1], at, relative):
            return [(entry.database, command)]
        if self._pxat:
            return [(entry.database, [*command, b"PXAT", b"%d" % at])]
        return [(entry.database, command), (entry.database, [b"PEXPIREAT", command[1], b"%d" % at])]

    def _getex(self, entry: Entry) -> Emitted:
        """Only its effect on the expiry travels: the value is nobody's business here."""
        args = entry.args
        if len(args) == 3 and args[2].upper() == b"PERSIST":
            return [(entry.database, [b"PERSIST", args[1]])]
        if len(args) != 4 or args[2].upper() not in _UNIT:
            return []
        option = args[2].upper()
        at = int(args[3]) * _UNIT[option] + (self._now() if option in _RELATIVE else 0)
        if self._defer(entry.database, args[1], at, option in _RELATIVE):
            return [(entry.database, [b"PERSIST", args[1]])]
        return [(entry.database, [b"PEXPIREAT", args[1], b"%d" % at])]

    def _restore(self, entry: Entry) -> Emitted:
        head, options = entry.args[:4], entry.args[4:]
        ttl = int(head[2])
        relative = not any(option.upper() == b"ABSTTL" for option in options)
        options = [option for option in options if option.upper() != b"ABSTTL"]
        if ttl:
            at = ttl + (self._now() if relative else 0)
            left_out = self._defer(entry.database, head[1], at, relative)
            ttl = 0 if left_out else at if self._absttl else max(1, at - self._now())
        if self._absttl and (ttl or not relative):
            options.append(b"ABSTTL")
        # RESTORE-ASKING, by which nodes of a cluster hand keys over, is the same command for a slot that is on its way.
        return [(entry.database, [b"RESTORE", head[1], b"%d" % ttl, head[3], *options])]

    def _field_expiry(self, args: list[bytes], name: bytes) -> list[bytes]:
        """Hash fields: relative times become absolute; the rest goes on as it came."""
        if name in (b"HEXPIRE", b"HPEXPIRE"):
            unit = 1000 if name == b"HEXPIRE" else 1
            return [b"HPEXPIREAT", args[1], b"%d" % (int(args[2]) * unit + self._now()), *args[3:]]
        if name in (b"HSETEX", b"HGETEX", b"MSETEX"):
            start = 2 + 2 * int(args[1]) if name == b"MSETEX" else 2
            for place in range(start, len(args) - 1):
                option = args[place].upper()
                if option == b"FIELDS":
                    break
                if option in _RELATIVE and args[place + 1].isdigit():
                    at = int(args[place + 1]) * _UNIT[option] + self._now()
                    return [*args[:place], b"PXAT", b"%d" % at, *args[place + 2 :]]
        return args

    def _defer(self, database: int, key: bytes, at: int, relative: bool) -> bool:
        """Whether the expiry is left out for now; notes the key where its expiry has to be looked at again."""
        near = self._near(at)
        if near or (relative and self._late()):
            self.deferred.add((database, key))
        return near


_EXPIRE: Final = {  # name → (ms in one unit, whether it counts from now)
    b"EXPIRE": (1000, True),
    b"PEXPIRE": (1, True),
    b"EXPIREAT": (1000, False),
    b"PEXPIREAT": (1, False),
}
