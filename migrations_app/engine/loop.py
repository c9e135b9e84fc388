"""Loop safety: two opposite links, A → B and B → A, never send each other's writes back.

Every transaction that a link writes begins with a marker that names the stream from which it comes. A link that reads the marker and knows
the name as one of its own target leaves the transaction out. A stream has several names in its life (replication IDs, which change
with restarts and failovers, and the run ID of old servers), so the names are collected in the target, with its data.

A cluster has a stream of each master: its names are those of all of them. What is written to a cluster are transactions of single slots,
and the mark of the slot (`target.cluster.applied_key`), which each of them writes first, holds the names, too.

Full phases are not marked (they are not transactions) unless there is an opposite link. To know that, each link registers in its target
before it looks for its like in its source: of two links that begin at the same time at least one sees the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from migrations_app.engine import errors
from migrations_app.engine.checkpoint import FULL, INCREMENTAL, OWN_PREFIX, checkpoint_key, client_prefix
from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.kernel import Entry
from migrations_app.engine.protocol.resp import Reply, ReplyError, encode
from migrations_app.engine.target.base import Target
from migrations_app.engine.target.slots import redirected

LINKS_KEY: Final = OWN_PREFIX + b"links"  # hash, database 0: link → names of its source's stream, and words
_ORIGIN: Final = OWN_PREFIX + b"origin:"
_APPLIED: Final = OWN_PREFIX + b"applied:"
_CHECKPOINT: Final = checkpoint_key("")
_MARKS: Final = b"marks"  # word: the full phase is marked
_SCAN: Final = b"scan"  # word: nothing is marked, the source is read by its keys
_WORDS: Final = frozenset({_MARKS, _SCAN})
_MOST = 20  # names of a stream that are kept

Names = frozenset[bytes]
Warn = Callable[[str], None]


def origin_key(link: str) -> bytes:
    """Of the string, in database 0 (of a cluster: in each slot that needs one), that the link's transactions write first: names of the
    source's stream."""
    return _ORIGIN + link.encode()


def streams_key(link: str) -> bytes:
    """Of the set, in database 0, of the names that the target's stream has had since the link knows it."""
    return OWN_PREFIX + b"streams:" + link.encode()


@dataclass(slots=True)
class Opposite:
    """A link that writes to the source and reads from the target: all names of its source, the words it has registered with, its phase."""

    link: bytes
    names: Names
    words: Names
    phase: bytes


@dataclass(slots=True)
class Loop:
    """`names` are those of the target's stream; `opposite` the links from there to the source; `marks` says whether the full phase is
    marked, too. Without `run_id` (of the source) nothing is told and nothing is known.

    `look` asks both sides again, where one of them is a cluster: there the stream does not bring in order what has to be known.
    """

    link: str
    run_id: bytes = b""
    names: Names = frozenset()
    opposite: set[bytes] = field(default_factory=set)
    marks: bool = False
    look: Callable[[], tuple[Names, list[Opposite]]] | None = None
    renew: Callable[[], None] | None = (
        None  # registers the link again, if a flush of the target has taken that away
    )
    _earlier: list[bytes] = field(default_factory=list)  # names under which the link has read its source
    _now: list[bytes] = field(default_factory=list)
    _foreign: set[Names] = field(default_factory=set)  # names of markers that are none of the target's
    _marker_ends: int = field(default=-1, init=False)

    def reads(self, stream: str, *, anew: bool) -> list[list[bytes]]:
        """The source's stream has this name now; commands that tell so in the target. `anew`: with a full phase, it may be another server."""
        if not self.run_id:
            return []
        self._now = [name for name in dict.fromkeys((stream.encode(), self.run_id)) if name]
        self._earlier = [] if anew else [name for name in self._earlier if name not in self._now]
        return self.registration()[:1]

    def registration(self) -> list[list[bytes]]:
        """Commands, each on one key of the target, that tell of the link, and what it knows of the target."""
        if not self.run_id:
            return []
        names = [*self._earlier, *self._now][-_MOST:]
        told = b" ".join([*names, _MARKS] if self.marks else names)
        return [
            [b"HSET", LINKS_KEY, self.link.encode(), told],
            [b"SADD", streams_key(self.link), *sorted(self.names)],
        ]

    @property
    def signature(self) -> bytes:
        """What the markers hold; empty where there is nothing to tell."""
        return b" ".join(self._now)

    def marker(self) -> list[bytes] | None:
        """The command to begin a transaction with; None where there is nothing to tell."""
        return [b"SET", origin_key(self.link), self.signature] if self._now else None

    def own(self, entry: Entry) -> bool:
        """For each command of the stream on a key of the product: whether the rest of its transaction is left out."""
        args = entry.args
        name, key = args[0].upper(), args[1]
        if name == b"SET" and key.startswith((_ORIGIN, _APPLIED)):
            if entry.open:
                return self._marked(key, args[2], entry.offset)
            words = args[2].split()
            if _SCAN in words and not self.names.isdisjoint(words):
                raise errors.LinkLoop(
                    f"link {_text(key.removeprefix(_ORIGIN).partition(b':')[0])} has copied the target of this link into its source, key by "
                    "key, while this one did not run; what it has written cannot be told from what others have",
                    advice="Run a full synchronization of this link (--allow-full-resync).",
                )
        elif name == b"HSET" and key == LINKS_KEY and not self.names.isdisjoint(args[3].split()):
            words = args[3].split()
            if _SCAN not in words:  # that one finds this link, and does not begin
                self.opposite.add(args[2])
                self.names |= frozenset(words) - _WORDS
                if self.renew is not None:
                    self.renew()
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

    def _marked(self, key: bytes, value: bytes, offset: int) -> bool:
        if key.startswith(_ORIGIN):
            link, names = key.removeprefix(_ORIGIN), frozenset(value.split())
        else:
            link, names = key.removeprefix(_APPLIED), frozenset(value.split()[1:])
        link = link.partition(b":")[0]  # behind it is the tag of the slot
        if not names:
            return False
        if self.names.isdisjoint(names) and self.look is not None and names not in self._foreign:
            self._look_again(names)
        if not self.names.isdisjoint(names):
            self._marker_ends = offset
            return True
        if link in self.opposite:
            # Connecting again brings the names that are known now.
            raise errors.LinkLoopWaiting(
                f"link {_text(link)} has written something that may come from the target of this link, under a name "
                "of that server which is not known",
                advice="The link tries again. If that does not help, run a full synchronization of this link "
                "(delete its checkpoint key on the target).",
            )
        return False

    def _look_again(self, names: Names) -> None:
        """Names of another stream that are not known: masters may have changed, and a link may have begun."""
        assert self.look is not None
        mine, found = self.look()
        self.names |= mine
        for other in found:
            self.opposite.add(other.link)
            self.names |= other.names
        if self.names.isdisjoint(names):
            self._foreign.add(names)


def meet(
    link: str,
    run_id: str,
    source: Endpoint,
    target: Target,
    timeout: float,
    warn: Warn,
    *,
    cluster: bool,
    marks: bool = False,
) -> Loop:
    """Register the link in its target, and look whether there is an opposite one; `run_id` is the source's. Not while the target's
    connections are in use. `cluster`: one of the sides is one; `marks`: an opposite link has been seen before.

    Raises `LinkLoopWaiting` while an opposite link, which does not know of this one, is in its full phase, and `UsageError` where one
    reads its source by keys.
    """
    loop = Loop(link, run_id.encode(), target.stream_names(), marks=marks)
    known, earlier = target.at_keys(
        [
            ("SADD", streams_key(link), *sorted(loop.names)),
            ("SMEMBERS", streams_key(link)),
            ("HGET", LINKS_KEY, link),
        ],
    )[1:]
    loop.names |= frozenset(known)  # type: ignore[arg-type]
    if isinstance(earlier, bytes):
        loop._earlier = [name for name in earlier.split() if name not in _WORDS]
    target.at_keys(loop.reads("", anew=False))

    def renew() -> None:
        if target.at_keys([("HGET", LINKS_KEY, link)], beside=True) == [None]:
            target.at_keys(loop.registration(), beside=True)

    loop.renew = renew
    if cluster:

        def look() -> tuple[Names, list[Opposite]]:
            names = loop.names | target.stream_names(beside=True)
            target.at_keys([("SADD", streams_key(link), *sorted(names))], beside=True)
            return names, _opposite(source, names, timeout, warn)

        loop.look = look
    for other in _opposite(source, loop.names, timeout, warn):
        if _SCAN in other.words and _works(source, other.link, timeout):
            if earlier is None:  # it has found no registration of this link
                target.at_keys(part(link))
            raise errors.UsageError(
                f"link {_text(other.link)} copies the target of this link into its source, and reads it by its keys: what it writes cannot "
                "be told from what others write, and would be sent back; no key was written",
                advice=_SCAN_ADVICE,
            )
        if _SCAN in other.words:
            continue
        loop.opposite.add(other.link)
        loop.names |= other.names
        loop.marks = True
        target.at_keys(loop.reads("", anew=False))
        if _MARKS not in other.words and other.phase != INCREMENTAL.encode():
            raise errors.LinkLoopWaiting(
                f"link {_text(other.link)} copies the target of this link into its source, and is not done with its full phase"
            )
    return loop


def meet_by_scan(
    link: str, run_id: str, source: Endpoint, target: Target, timeout: float, warn: Warn
) -> None:
    """For a link that reads its source by keys, and cannot mark what it writes: register, and raise `UsageError` if there is an opposite link.

    One that does not run now finds a notice in the stream of each server of the target, where it goes on.
    """
    value = b" ".join([run_id.encode(), _SCAN]) if run_id else _SCAN
    target.at_keys([("HSET", LINKS_KEY, link, value)])
    for other in _opposite(source, target.stream_names(), timeout, warn):
        if not _works(source, other.link, timeout):
            continue  # should it begin again, it finds this one
        target.at_keys(part(link))
        raise errors.UsageError(
            f"link {_text(other.link)} copies the target of this link into its source; a link that reads keys cannot tell its writes from "
            "those of others, and would send them back; no key was written",
            advice=_SCAN_ADVICE,
        )
    target.notice([b"SET", origin_key(link), value, b"EX", b"60"])


_SCAN_ADVICE: Final = "Run both links by replication (without --method scan), or one after the other."


def names_of(link: str, links: Reply) -> bytes:
    """The names of the link's source, of all of its shards where that is a cluster, from what HGETALL of `LINKS_KEY` answers in the target."""
    fields = links if isinstance(links, list) else []
    names: set[bytes] = set()
    for field_name, value in zip(fields[::2], fields[1::2], strict=True):
        if isinstance(field_name, bytes) and link.encode() in (field_name, field_name.partition(b"@")[0]):
            names |= set(value.split()) if isinstance(value, bytes) else set()
    return b" ".join(sorted(names - _WORDS))


def part(link: str) -> list[list[bytes]]:
    """The commands with which a link that is done leaves nothing behind; each on one key."""
    return [[b"HDEL", LINKS_KEY, link.encode()], [b"DEL", origin_key(link)], [b"DEL", streams_key(link)]]


def _opposite(source: Endpoint, names: Names, timeout: float, warn: Warn) -> list[Opposite]:
    """The links that write to the source and read from the stream with these names."""
    found = []
    with Client(source, timeout=timeout) as client:
        links = _ask_source(client, "HGETALL", LINKS_KEY)
        if isinstance(links, ReplyError) or not isinstance(links, list):
            warn(f"the source does not tell whether an opposite link writes to it: {links!r}")
            return []
        for link, value in zip(links[::2], links[1::2], strict=True):
            assert isinstance(link, bytes)
            assert isinstance(value, bytes)
            words = frozenset(value.split())
            if names.isdisjoint(words):
                continue
            phase = _ask_source(client, "HGET", _CHECKPOINT + link, "phase")
            if isinstance(phase, ReplyError):
                raise client.error(phase, "HGET")
            found.append(
                Opposite(link, words - _WORDS, words & _WORDS, phase if isinstance(phase, bytes) else b"")
            )
    return found


def _works(source: Endpoint, link: bytes, timeout: float) -> bool:
    """Whether a link has connections to the server (of a cluster: to the one with the registrations), which it writes to. Yes, where that
    is not told."""
    with Client(source, timeout=timeout) as client, _holder(client, LINKS_KEY) as holder:
        (listing,) = holder.pipeline([("CLIENT", "LIST")])
        return not isinstance(listing, bytes) or b" name=" + client_prefix(_text(link)).encode() in listing


@contextlib.contextmanager
def _holder(client: Client, key: bytes) -> Iterator[Client]:
    """The node that has the key; the client itself, where that is no cluster."""
    (reply,) = client.pipeline([("EXISTS", key)])
    place = redirected(reply, client.endpoint.host) if isinstance(reply, ReplyError) else None
    if place is None:
        yield client
        return
    host, port = place[1]
    node = replace(client.endpoint, host=host, port=port, unix_path="", lookup=None)
    with Client(node, timeout=client.timeout) as other:
        yield other


def _ask_source(client: Client, *command: bytes | str) -> Reply:
    """One command; of a cluster at the node that has the key."""
    (reply,) = client.pipeline([command])
    if isinstance(reply, ReplyError) and redirected(reply, client.endpoint.host):
        with _holder(client, command[1] if isinstance(command[1], bytes) else command[1].encode()) as holder:
            reply = holder.pipeline([("ASKING",), command])[1]
    return reply


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
