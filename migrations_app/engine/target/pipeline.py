"""A pipelined connection to the target: queue bytes, count replies, find every error.

What is queued belongs to a group; a group is complete when all its replies have come. Groups complete in order. Nothing waits
here: the owner polls the socket and calls `write` and `read`.
"""

from __future__ import annotations

import select
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from migrations_app.engine.client import error_of
from migrations_app.engine.errors import EngineError, TargetDiverged, UnsupportedData
from migrations_app.engine.kernel import ReplyCounter, module_name, split_commands
from migrations_app.engine.net import Connection
from migrations_app.engine.protocol.resp import ReplyError, encode_many

_SMALL = 64 * 1024
_KEEP = 8 * 2**20  # bytes of a group that are kept to name a command in an error


def in_databases(commands: Iterable[tuple[int, Sequence[bytes]]], selected: int) -> tuple[bytes, int, int]:
    """Commands with the SELECTs that they need → (RESP, number of commands, database that is selected then)."""
    parts: list[Sequence[bytes]] = []
    for database, args in commands:
        if database != selected:
            parts.append((b"SELECT", b"%d" % database))
            selected = database
        parts.append(args)
    return encode_many(parts), len(parts), selected


class Group:
    """Commands whose replies belong together; `mark` is the owner's.

    `forgive` is asked for each command that failed inside of an applied transaction: given the group's commands, the place of the one that
    failed and the error, it says whether the owner deals with it. `missed` is told, before the group completes, at which places of the
    results a key was not there (`kernel.ReplyCounter.refusals`).
    """

    __slots__ = ("closed", "forgive", "kept", "kept_bytes", "mark", "missed", "replies", "transaction")

    def __init__(self, mark: Any, *, transaction: bool = False) -> None:
        self.mark = mark
        self.transaction = transaction  # MULTI … EXEC: the last reply holds the results
        self.replies = 0
        self.closed = False
        self.forgive: Callable[[list[list[bytes]], int, str], bool] | None = None
        self.missed: Callable[[list[int]], None] | None = None
        self.kept: list[bytes] | None = []
        self.kept_bytes = 0


class Pipeline:
    """Over a connection that is logged in and idle."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._queue: deque[memoryview] = deque()
        self._groups: deque[Group] = deque()
        self._counter = ReplyCounter()
        self._confirmed = 0  # replies of completed groups
        self._expected = 0  # replies to all that was queued
        self.unsent = 0  # bytes
        self.waiting_since: float | None = None  # monotonic; when the oldest unanswered command began to wait

    def open(self, mark: Any, *, transaction: bool = False) -> Group:
        """Begin a group; it completes only after `close`."""
        group = Group(mark, transaction=transaction)
        self._groups.append(group)
        return group

    def add(self, group: Group, data: bytes, replies: int) -> None:
        """Queue commands (or a part of one) of the newest group; `replies` is how many commands end in `data`."""
        if not data:
            return
        if group.kept is not None:
            group.kept_bytes += len(data)
            if group.kept_bytes > _KEEP:
                group.kept = None
            else:
                group.kept.append(data)
        group.replies += replies
        self._expected += replies
        self._queue.append(memoryview(data))
        self.unsent += len(data)
        if self.waiting_since is None:
            self.waiting_since = time.monotonic()

    def close(self, group: Group) -> None:
        """Nothing follows in this group."""
        group.closed = True
        if group.transaction:  # the only one whose results are to come
            self._counter.watching = group.missed is not None

    @property
    def idle(self) -> bool:
        """Whether everything is confirmed."""
        return not self._groups

    @property
    def sent(self) -> int:
        """Bytes that the connection has sent."""
        return self.connection.sent

    def register(self, poller: select.poll) -> None:
        """Ask the poller for answers, and for room where something waits to be sent."""
        poller.register(self.connection, select.POLLIN | (select.POLLOUT if self.unsent else 0))

    def ready(self, events: dict[int, int]) -> list[Any]:
        """Take what came with these events (file descriptor → events); the marks of the groups that are complete now."""
        if self.connection.fileno() in events or self.connection.buffered:
            return self.read()
        return []

    def write(self) -> None:
        """Send what the socket takes without waiting."""
        queue = self._queue
        while queue:
            view = queue[0]
            if len(view) < _SMALL and len(queue) > 1:
                view = self._join()
            sent = self.connection.send(view)
            self.unsent -= sent
            if sent == len(view):
                queue.popleft()
                continue
            if not sent:
                return
            queue[0] = view[sent:]

    def _join(self) -> memoryview:
        """Make one piece of the small ones at the front: a call for each would cost more than the copy."""
        queue, parts, size = self._queue, [], 0
        while queue and size < _SMALL:
            parts.append(queue.popleft())
            size += len(parts[-1])
        queue.appendleft(memoryview(b"".join(parts)))
        return queue[0]

    def read(self) -> list[Any]:
        """Take the replies that are there; the marks of the groups that are complete now. Raises for an error reply."""
        while (data := self.connection.recv(256 * 1024)) is not None:
            self._counter.feed(data)
            self.waiting_since = time.monotonic()
            if self._counter.nulls or (self._counter.errors and not self._forgiven()):
                raise self._error()
            if len(data) < 256 * 1024 and not self.connection.buffered:
                break
        return self.completed()

    def completed(self) -> list[Any]:
        """The marks of the groups that are closed and fully answered, in order; they are forgotten."""
        marks = []
        count = self._counter.count
        while self._groups:
            group = self._groups[0]
            if not group.closed or self._confirmed + group.replies > count:
                break
            self._confirmed += group.replies
            self._groups.popleft()
            if self._counter.refusals:
                self._tell(group)
            marks.append(group.mark)
        if count >= self._expected and not self.unsent:
            # Everything sent is answered: an open transaction waits for the source, not for the target.
            self.waiting_since = None
        return marks

    def _tell(self, group: Group) -> None:
        """Where in the results of a group, which is confirmed, keys were not there."""
        refusals = self._counter.refusals
        end = bisect_left(refusals, self._confirmed << 32)
        if end and group.missed is not None:
            group.missed([place & 0xFFFFFFFF for place in refusals[:end]])
        del refusals[:end]

    def _forgiven(self) -> bool:
        """Whether the owners of the groups deal with all errors so far; those with which they do are forgotten."""
        errors = self._counter.errors
        first, forgiven = self._confirmed, 0
        for group in self._groups:
            behind = first + group.replies
            mine = [(inner, text) for number, inner, text in errors if first <= number < behind]
            if mine:
                if group.forgive is None or group.kept is None or not group.transaction:
                    return False
                commands = split_commands(b"".join(group.kept))
                # Reply 0 is that of MULTI, so a result at `inner` belongs to command `inner + 1`.
                if not all(inner >= 0 and group.forgive(commands, inner + 1, text) for inner, text in mine):
                    return False
            first = behind
            forgiven += len(mine)
        if forgiven < len(errors):
            return False
        errors.clear()
        return True

    def _error(self) -> EngineError:
        """The error that stops the link: the first, with the command that met it."""
        if not self._counter.errors:
            number = self._counter.nulls[0]
            return TargetDiverged(
                f"{self.connection.endpoint.address}: the target dropped a transaction (reply {number})"
            )
        number, inner, text = self._counter.errors[0]
        reply = ReplyError(text)
        first = self._confirmed
        for group in self._groups:
            if number < first + group.replies or group is self._groups[-1]:
                return self._describe(group, number - first, inner, reply)
            first += group.replies
        return error_of(reply, "a command", self.connection.endpoint)

    def _describe(self, group: Group, index: int, inner: int, reply: ReplyError) -> EngineError:
        # In a transaction reply 0 is that of MULTI, so a result at `inner` belongs to command `inner + 1`.
        commands = split_commands(b"".join(group.kept)) if group.kept is not None else []
        place = inner + 1 if group.transaction and inner >= 0 else index
        name = "a command"
        if 0 <= place < len(commands):
            args = commands[place]
            name = args[0].decode("utf-8", "replace").upper()
            key = 3 if name in ("EVALSHA", "EVAL") else 1
            if len(args) > key:
                name += f" of key {args[key][:128]!r}"
            if name.startswith("RESTORE ") and "Bad data format" in reply and args[3][:1] == b"\x07":
                module = module_name(args[3], 1, len(args[3]))
                return UnsupportedData(
                    f"{self.connection.endpoint.address}: key {args[1][:128]!r} is a value of the module {module}, which the target does "
                    "not have, or in another version"
                )
        if inner >= 0:
            # Its neighbours in the transaction were applied, this command was not.
            return TargetDiverged(f"{self.connection.endpoint.address}: {name} failed on the target: {reply}")
        return error_of(reply, name, self.connection.endpoint)
