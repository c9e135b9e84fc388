"""Loop safety: two opposite links, A → B and B → A, never send each other's writes back.

Every transaction that a link writes begins with a marker that names the stream from which it comes. A link that reads the marker and knows
the name as one of its own target leaves the transaction out. A stream has several names in its life (replication IDs, which change
with restarts and failovers, and the run ID of old servers), so the names are collected in the target, with its data.

Full phases are not marked (they are not transactions) unless there is an opposite link. To know that, each link registers in its target
before it looks for its like in its source: of two links that begin at the same time at least one sees the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from migrations_app.engine import errors
from migrations_app.engine.checkpoint import FULL, INCREMENTAL, OWN_PREFIX, checkpoint_key, client_prefix
from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.kernel import Entry
from migrations_app.engine.protocol.resp import ReplyError, encode

LINKS_KEY: Final = OWN_PREFIX + b"links"  # hash, database 0: link → names of its source's stream, and "marks"
_ORIGIN: Final = OWN_PREFIX + b"origin:"
_CHECKPOINT: Final = checkpoint_key("")
_MARKS: Final = b"marks"
_MOST = 20  # names of a stream that are kept

Names = frozenset[bytes]


def origin_key(link: str) -> bytes:
    """Of the string, in database 0, that each transaction of the link writes first: names of the source's stream."""
    return _ORIGIN + link.encode()


def streams_key(link: str) -> bytes:
    """Of the set, in database 0, of the names that the target's stream has had since the link knows it."""
    return OWN_PREFIX + b"streams:" + link.encode()


@dataclass(slots=True)
class Loop:
    """`names` are those of the target's stream; `opposite` the links from there to the source; `marks` says whether the full phase is
    marked, too. Without `run_id` (of the source) nothing is told and nothing is known.
    """

    link: str
    run_id: bytes = b""
    names: Names = frozenset()
    opposite: set[bytes] = field(default_factory=set)
    marks: bool = False
    _earlier: list[bytes] = field(default_factory=list)  # names under which the link has read its source
    _now: list[bytes] = field(default_factory=list)
    _marker_ends: int = field(default=-1, init=False)

    def reads(self, stream: str, *, anew: bool) -> list[list[bytes]]:
        """The source's stream has this name now; commands that tell so in the target. `anew`: with a full phase, it may be another server."""
        if not self.run_id:
            return []
        self._now = [name for name in dict.fromkeys((stream.encode(), self.run_id)) if name]
        self._earlier = [] if anew else [name for name in self._earlier if name not in self._now]
        names = [*self._earlier, *self._now][-_MOST:]
        return [
            [b"HSET", LINKS_KEY, self.link.encode(), b" ".join([*names, _MARKS] if self.marks else names)]
        ]

    def marker(self) -> list[bytes] | None:
        """The command to begin a transaction with; None where there is nothing to tell."""
        return [b"SET", origin_key(self.link), b" ".join(self._now)] if self._now else None

    def own(self, entry: Entry) -> bool:
        """For each command of the stream on a key of the product: whether the rest of its transaction is left out."""
        args = entry.args
        name, key = args[0].upper(), args[1]
        if name == b"SET" and key.startswith(_ORIGIN) and entry.open:
            if not self.names.isdisjoint(args[2].split()):
                self._marker_ends = entry.offset
                return True
            if key.removeprefix(_ORIGIN) in self.opposite:
                # Connecting again brings the names that are known now.
                raise errors.LinkLoopWaiting(
                    f"link {_text(key.removeprefix(_ORIGIN))} has written something that may come from the target of this link, under a name "
                    "of that server which is not known",
                    advice="The link tries again. If that does not help, run a full synchronization of this link "
                    "(delete its checkpoint key on the target).",
                )
        elif name == b"HSET" and key == LINKS_KEY and not self.names.isdisjoint(args[3].split()):
            self.opposite.add(args[2])
            self.names |= {name for name in args[3].split() if name != _MARKS}
        elif name == b"HMSET" and key.startswith(_CHECKPOINT):
            fields = dict(zip(args[2::2], args[3::2], strict=False))
            other = key.removeprefix(_CHECKPOINT)
            marked = entry.offset - len(encode(*args)) == self._marker_ends
            mine = other in self.opposite or fields.get(b"replid") in self.names
            if fields.get(b"phase") == FULL.encode() and mine and not marked:
                raise errors.LinkLoop(
                    f"link {_text(other)} copies the target of this link into its source, in a full phase that began without knowledge "
                    "of this link"
                )
        return False


def meet(
    link: str, run_id: str, source: Endpoint, target: Endpoint, timeout: float, warn: Callable[[str], None]
) -> Loop:
    """Register the link in its target, and look whether there is an opposite one; `run_id` is the source's.

    Raises `LinkLoopWaiting` while an opposite link, which does not know of this one, is in its full phase.
    """
    # Named like all connections of the link that write: a newer owner closes it.
    with Client(target, timeout=timeout, name=client_prefix(link)) as client:
        info = client.info("server", "replication")
        given = {info.get(name, "").encode() for name in ("run_id", "master_replid", "master_replid2")}
        given = {name for name in given if name.strip(b"0")}
        _, names, earlier = client.transaction(
            [
                ("SADD", streams_key(link), *sorted(given)),
                ("SMEMBERS", streams_key(link)),
                ("HGET", LINKS_KEY, link),
            ]
        )
        loop = Loop(link, run_id.encode(), frozenset(names))  # type: ignore[arg-type]
        if isinstance(earlier, bytes):
            loop._earlier = [name for name in earlier.split() if name != _MARKS]
        for command in loop.reads("", anew=False):
            client.execute(*command)
        for name, streams, marks, phase in _opposite(source, loop.names, timeout, warn):
            loop.opposite.add(name)
            loop.names |= streams
            loop.marks = True
            for command in loop.reads("", anew=False):
                client.execute(*command)
            if not marks and phase != INCREMENTAL.encode():
                raise errors.LinkLoopWaiting(
                    f"link {_text(name)} copies the target of this link into its source, and is not done with its full phase"
                )
        return loop


def part(link: str) -> list[list[bytes]]:
    """The commands with which a link that is done leaves nothing behind."""
    return [[b"HDEL", LINKS_KEY, link.encode()], [b"DEL", origin_key(link), streams_key(link)]]


def _opposite(
    source: Endpoint, names: Names, timeout: float, warn: Callable[[str], None]
) -> list[tuple[bytes, Names, bool, bytes]]:
    """The links that write to the source and read from the target: (link, all names of its source, whether it marks its full
    phase, phase)."""
    found = []
    with Client(source, timeout=timeout) as client:
        (links,) = client.pipeline([("HGETALL", LINKS_KEY)])
        if isinstance(links, ReplyError) or not isinstance(links, list):
            warn(f"the source does not tell whether an opposite link writes to it: {links!r}")
            return []
        for name, value in zip(links[::2], links[1::2], strict=True):
            assert isinstance(name, bytes)
            assert isinstance(value, bytes)
            words = frozenset(value.split())
            if not names.isdisjoint(words):
                phase = client.execute("HGET", _CHECKPOINT + name, "phase")
                found.append(
                    (name, words - {_MARKS}, _MARKS in words, phase if isinstance(phase, bytes) else b"")
                )
    return found


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
