"""The expiries that were left out while the link was behind are set once it has caught up.

The names stand in the target, as a set in each database (`checkpoint.deferred_key`) that is written with the data: so FLUSHDB and
SWAPDB of the stream take them along as they should. For some at a time, the source is asked for the expiry that each key has
now, and how far its stream is at that moment. When the link has applied the stream up to there, the answer is right for
every key that the stream has not named since; the others are asked for again.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from migrations_app.engine.checkpoint import deferred_key
from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import ConnectError
from migrations_app.engine.protocol.resp import ReplyError

_CHUNK = 5000
_AFTER_FAILURE = 1.0  # seconds
_PAUSE = 0.2  # seconds between two rounds when nothing was left over
_TOUCHED_MOST = 4 * 2**20  # bytes of the stream that are kept while an answer is under way


@dataclass(slots=True)
class Answers:
    """What the source said: `expiries` maps (database, key) → expiry in ms, 0 for none; true at stream offset `offset`."""

    expiries: dict[tuple[int, bytes], int] = field(default_factory=dict)
    offset: int = 0
    left: int = 0  # keys noted in all


class Deferred:
    """Works through the noted keys. All network calls are made in a thread; `poll` and `touch` only look and note."""

    def __init__(self, source: Endpoint, target: Endpoint, link: str, name: str, timeout: float) -> None:
        self._source, self._target = source, target
        self._name, self._timeout = name, timeout
        self.key = deferred_key(link)
        self._future: Future[Answers] | None = None
        self._answers: Answers | None = None
        self._touched: list[bytes] = []
        self._touched_size = 0
        self._next = 0.0
        self._again = False  # keys were noted since the target was asked
        self._unwritten: dict[int, list[bytes]] = {}  # database → keys to be noted
        self.left: int | None = None  # keys still noted; None until the target has been asked

    @property
    def busy(self) -> bool:
        """Whether an answer is under way or waits to be used."""
        return self._future is not None or self._answers is not None

    @property
    def unsettled(self) -> bool:
        """Whether some key may have no expiry yet that should have one."""
        return bool(self._unwritten) or self.left != 0

    @property
    def unwritten(self) -> bool:
        """Whether there are keys that the next batch has to note."""
        return bool(self._unwritten)

    def note(self, database: int, key: bytes) -> None:
        """A key whose expiry has to be looked at again; `notes` gives the command that stores its name."""
        self._unwritten.setdefault(database, []).append(key)

    def notes(self) -> list[tuple[int, list[bytes]]]:
        """(database, command) that store the names; to be written with the data. Tell `written` once that is confirmed."""
        commands = [(database, [b"SADD", self.key, *keys]) for database, keys in self._unwritten.items()]
        self._unwritten = {}
        self.written()
        return commands

    def written(self) -> None:
        """More keys are noted: there is work again. A question that was asked before this was confirmed has not seen them."""
        self.left = None
        self._again = True

    def touch(self, data: bytes) -> None:
        """A block of the stream has arrived: what it names while answers are under way is asked for again.

        Beyond `_TOUCHED_MOST` bytes nothing is kept, and everything is asked for again: the lag may be as large as it likes.
        """
        if self.busy and self._touched_size <= _TOUCHED_MOST:
            self._touched.append(data)
            self._touched_size += len(data)
            if self._touched_size > _TOUCHED_MOST:
                self._touched = []

    def poll(self, offset: int) -> list[tuple[int, list[bytes]]]:
        """To be called while caught up; `offset` is how far the stream has been taken in.

        Returns (database, command) to put behind it in the same order: the expiries that are certain now.
        """
        if self._answers is not None and offset >= self._answers.offset:
            return self._certain(self._answers)
        if self._future is not None:
            if self._future.done():
                future, self._future = self._future, None
                try:
                    self._answers = future.result()
                except ConnectError:
                    # The link's own connections tell whether a side is lost; here it is asked again.
                    self._next = time.monotonic() + _AFTER_FAILURE
                else:
                    self.left = None if self._again else self._answers.left
            return []
        if self._answers is None and self.left != 0 and time.monotonic() >= self._next:
            self._touched, self._touched_size = [], 0
            self._again = False
            self._future = Future()
            # Not a pool: the interpreter waits for a pool's thread at its end, and this one may wait for a hanging server.
            threading.Thread(target=self._work, args=(self._future,), name="deferred", daemon=True).start()
        return []

    def _certain(self, answers: Answers) -> list[tuple[int, list[bytes]]]:
        commands: list[tuple[int, list[bytes]]] = []
        touched = _Touched(b"".join(self._touched))  # a key may be cut by the blocks
        void = touched.swapped or self._touched_size > _TOUCHED_MOST
        done: dict[int, list[bytes]] = {}
        for (database, key), expiry in answers.expiries.items():
            if void or touched.names(key):
                continue
            if expiry:
                commands.append((database, [b"PEXPIREAT", key, b"%d" % expiry]))
            done.setdefault(database, []).append(key)
        commands += [(database, [b"SREM", self.key, *keys]) for database, keys in done.items()]
        count = sum(map(len, done.values()))
        self.left = None if self._again else max(0, answers.left - count)
        self._next = time.monotonic() + (0 if count and count == len(answers.expiries) else _PAUSE)
        self._answers, self._touched, self._touched_size = None, [], 0
        return commands

    def _work(self, future: Future[Answers]) -> None:
        try:
            future.set_result(self._ask())
        except Exception as error:  # noqa: BLE001 - raised by `poll`, in the link's thread
            future.set_exception(error)

    def _ask(self) -> Answers:
        answers = Answers()
        keys: dict[int, list[bytes]] = {}
        with Client(self._target, timeout=self._timeout, name=self._name) as target:
            for database in target.keyspace():
                target.execute("SELECT", database)
                count = int(target.execute("SCARD", self.key) or 0)  # type: ignore[arg-type]
                room = _CHUNK - sum(map(len, keys.values()))
                answers.left += count
                if count and room > 0:
                    # Any of them: the first ones may be hot keys, whose answers are never certain.
                    keys[database] = target.execute("SRANDMEMBER", self.key, room)  # type: ignore[assignment]
        if not keys:
            return answers
        with Client(self._source, timeout=self._timeout, name=self._name) as source:
            for database, some in keys.items():
                source.execute("SELECT", database)
                for key, expiry in zip(some, _expiries(source, some), strict=True):
                    answers.expiries[database, key] = expiry
            answers.offset = int(source.info("replication").get("master_repl_offset", "0"))
        return answers


class _Touched:
    """Which keys a piece of the stream may concern."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        upper = stream.upper()
        self.swapped = b"SWAPDB" in upper
        self._scripts = b"EVAL" in upper  # old servers replicate scripts, which may hold names of keys
        self._words = set(stream.split(b"\r\n"))

    def names(self, key: bytes) -> bool:
        if not key:
            return bool(self._stream)  # the empty key cannot be told from what ends a line
        # To search the bytes for each key would take seconds.
        return key in self._words or ((self._scripts or b"\r\n" in key) and key in self._stream)


def _expiries(source: Client, keys: list[bytes]) -> list[int]:
    """Expiry in ms since the epoch of each key, 0 where there is none. PEXPIRETIME is known from 7.0 on."""
    replies = source.pipeline([("PEXPIRETIME", key) for key in keys])
    if any(isinstance(reply, ReplyError) for reply in replies):
        replies = source.pipeline([("PTTL", key) for key in keys])
        now = time.time_ns() // 1_000_000
        return [now + reply if isinstance(reply, int) and reply > 0 else 0 for reply in replies]
    return [reply if isinstance(reply, int) and reply > 0 else 0 for reply in replies]
