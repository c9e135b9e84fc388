"""What was left open while the link was behind is put right once it has caught up: expiries that were left out, and values that may be wrong.

The names stand in the target, as two sets in each database (`checkpoint.deferred_key`, `repair_key`) that are written with the data: so
FLUSHDB and SWAPDB of the stream take them along as they should. For some at a time, the source is asked, at one moment, how far its
stream is and what the keys hold. Meanwhile the link reads no further; then it takes the stream in up to exactly that place, and
puts the answer there. So an answer is right however often its key changes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

from migrations_app.engine import errors
from migrations_app.engine.abilities import Abilities
from migrations_app.engine.checkpoint import checkpoint_key, deferred_key, repair_key
from migrations_app.engine.client import Client, Command
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.protocol.resp import Reply, ReplyError
from migrations_app.engine.rdb.base import arguments
from migrations_app.engine.rdb.convert import stamped
from migrations_app.engine.rdb.rewrite import rewriter_for

Key = tuple[int, bytes]  # database, name
Noted = dict[int, list[bytes]]

_EXPIRIES = 5000  # keys of one question
_VALUES = 500
_VALUE_BYTES = 4 * 2**20  # of the values of one question, as far as the source can tell
_WITHOUT_MULTI = 100  # keys of one question to servers before 6.2 and nodes of clusters
_LARGEST = 128 * 2**20  # bytes of a value that is repaired
_AFTER_FAILURE = 1.0  # seconds
_PAUSE = 0.2  # seconds between two questions when nothing came of the last one
_NEAR_MS = 1000  # an expiry nearer than this is not set: the source may be renewing it just now


@dataclass(slots=True)
class Question:
    """Names that stand in the target; `left` of them in all. `source` is a connection with nothing under way."""

    source: Client
    stamp: int  # version number of the payloads that the target writes itself
    left: int = 0
    left_values: int = 0  # of these, how many for their value
    expiries: Noted = field(default_factory=dict)
    values: Noted = field(default_factory=dict)


@dataclass(slots=True)
class Answers:
    """What the source holds at `offset` of its stream: expiries in ms (0 for none), values as DUMP payloads (None: no such key)."""

    question: Question
    offset: int = 0
    replication_id: str = ""
    expiries: dict[Key, int] = field(default_factory=dict)
    values: dict[Key, bytes | None] = field(default_factory=dict)


class Deferred:
    """Works through the noted keys. Network calls are made in a thread; the methods only look and note.

    The owner calls `poll` as often as its loop turns. While `holding`, it must not read the source's stream. When the
    stream is taken in up to `cut`, it calls `settle` and puts the commands there; where that place cannot be met, `drop`.
    """

    def __init__(
        self,
        source: Endpoint,
        target: Endpoint,
        link: str,
        name: str,
        timeout: float,
        *,
        source_version: tuple[int, ...] = (7,),
        source_cluster: bool = False,
        able: Abilities = Abilities((7,)),  # noqa: B008 - a value, of the target
    ) -> None:
        self._source, self._target = source, target
        self._source_version, self._able = source_version, able
        self._name, self._timeout = name, timeout
        self._link = link
        self.key, self.repair_key = deferred_key(link), repair_key(link)
        self._future: Future[Question | Answers] | None = None
        self._question: Question | None = None
        self._answers: Answers | None = None
        # Before 6.2, INFO in a transaction makes MULTI and EXEC travel to the replicas, with the offset between them. A node of a
        # cluster refuses a transaction over keys of several slots.
        self._multi = source_version >= (6, 2) and not source_cluster
        self._most = (_EXPIRIES, _VALUES) if self._multi else (_WITHOUT_MULTI, _WITHOUT_MULTI)
        self._next = 0.0
        self._again = False  # keys were noted since the target was asked
        self._unwritten: dict[bytes, dict[int, set[bytes]]] = {self.key: {}, self.repair_key: {}}
        self.left: int | None = None  # keys still noted; None until the target has been asked
        self._left_values: int | None = None
        self.only_near = False  # all that is left are expiries that are near
        self.final = False  # near expiries are set, too: nothing follows that could renew them

    @property
    def busy(self) -> bool:
        """Whether an answer is under way or waits to be used."""
        return self._question is not None or self._future is not None

    @property
    def holding(self) -> bool:
        """Whether the source is being asked, so that the stream must stand still."""
        return self._question is not None and self._answers is None

    @property
    def cut(self) -> int | None:
        """The offset of the stream at which the answer holds."""
        return self._answers.offset if self._answers is not None else None

    @property
    def replication_id(self) -> str:
        """Of the stream in which `cut` counts."""
        return self._answers.replication_id if self._answers is not None else ""

    @property
    def unsettled(self) -> bool:
        """Whether some key may have no expiry yet that should have one, or a wrong value."""
        return self.unwritten or self.left != 0

    @property
    def repairing(self) -> bool:
        """Whether some key may have a wrong value."""
        return bool(self._unwritten[self.repair_key]) or self._left_values != 0

    @property
    def unwritten(self) -> bool:
        """Whether there are keys that the next batch has to note."""
        return any(self._unwritten.values())

    def note(self, database: int, key: bytes) -> None:
        """A key whose expiry has to be looked at again; `notes` gives the command that stores its name."""
        self._unwritten[self.key].setdefault(database, set()).add(key)

    def note_repair(self, database: int, key: bytes) -> None:
        """A key whose value has to be read again."""
        self._unwritten[self.repair_key].setdefault(database, set()).add(key)

    def swapped(self, one: int, other: int) -> None:
        """The stream exchanges two databases, and the names that the target does not know yet go with them."""
        for noted in self._unwritten.values():
            first, second = noted.pop(one, set()), noted.pop(other, set())
            if second:
                noted[one] = second
            if first:
                noted[other] = first

    def notes(self) -> list[tuple[int, list[bytes]]]:
        """(database, command) that store the names; to be written with the data. Tell `written` once that is confirmed."""
        commands = []
        if self._unwritten[self.repair_key]:
            self._left_values = None
        for name, noted in self._unwritten.items():
            commands += [(database, [b"SADD", name, *keys]) for database, keys in noted.items()]
            noted.clear()
        self.written()
        return commands

    def written(self) -> None:
        """More keys are noted: there is work again. A question that was asked before this was confirmed has not seen them."""
        self.left = None
        self._again = True
        self.only_near = False

    def poll(self, *, start: bool = True) -> None:
        """Take what the thread has found. `start`: whether the link has caught up, so that the next question may be asked."""
        if self._future is not None:
            if self._future.done():
                self._found(self._future)
            return
        if self._question is None and start and self.left != 0 and time.monotonic() >= self._next:
            self._again = False
            self._run(None)

    def settle(self, now: int) -> list[tuple[int, list[bytes]]]:
        """(database, command) to be put where the stream stands at `cut`; `now` in ms."""
        answers = self._answers
        assert answers is not None
        commands: list[tuple[int, list[bytes]]] = []
        done: dict[tuple[int, bytes], list[bytes]] = {}
        near: Noted = {}
        for (database, key), payload in answers.values.items():
            expiry = answers.expiries[database, key]
            if self._too_near(expiry, now):
                near.setdefault(database, []).append(key)
                expiry = 0
            restored = restore(key, payload, expiry, stamp=answers.question.stamp, able=self._able)
            commands += [(database, command) for command in restored]
            done.setdefault((database, self.repair_key), []).append(key)
        commands += [(database, [b"SADD", self.key, *keys]) for database, keys in near.items()]
        kept = 0
        for (database, key), expiry in answers.expiries.items():
            if (database, key) in answers.values:
                continue
            if self._too_near(expiry, now):
                kept += 1
                continue
            if expiry:
                commands.append((database, [b"PEXPIREAT", key, b"%d" % expiry]))
            done.setdefault((database, self.key), []).append(key)
        commands += [(database, [b"SREM", name, *keys]) for (database, name), keys in done.items()]
        for (
            database,
            name,
        ), keys in done.items():  # what the stream said of them before this place is in the answer
            if noted := self._unwritten[name].get(database):
                noted.difference_update(keys)
                if not noted:
                    del self._unwritten[name][database]
        count = sum(map(len, done.values()))
        left = max(0, answers.question.left - count) + sum(map(len, near.values()))
        self.left = None if self._again else left
        if not self._again:
            self._left_values = max(0, answers.question.left_values - len(answers.values))
        self.only_near = kept == left > 0 and not self._again
        self._next = time.monotonic() + (_PAUSE if kept or not count else 0)
        self._question = self._answers = None
        return commands

    def drop(self) -> None:
        """The answer cannot be used: ask again."""
        self._question = self._answers = None
        self._next = time.monotonic() + _PAUSE

    def close(self) -> None:
        """Nothing is asked any more; does not wait for what is under way."""
        if self._future is not None:
            self._future.add_done_callback(_close_source)

    def _too_near(self, expiry: int, now: int) -> bool:
        return not self.final and 0 < expiry < now + _NEAR_MS

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self, question: Question | None) -> None:
        self._future = Future()
        # Not a pool: the interpreter waits for a pool's thread at its end, and this one may wait for a hanging server.
        threading.Thread(
            target=self._work, args=(self._future, question), name="deferred", daemon=True
        ).start()

    def _found(self, future: Future[Question | Answers]) -> None:
        self._future = None
        try:
            found = future.result()
        except errors.ConnectError:
            # The link's own connections tell whether a side is lost; here it is asked again.
            self._question = None
            self._next = time.monotonic() + _AFTER_FAILURE
            return
        if isinstance(found, Answers):
            self._answers = found
        elif found.expiries or found.values:
            self._question = found
            self._run(found)
        else:
            found.source.close()
            if not self._again:
                self.left = self._left_values = 0

    def _work(self, future: Future[Question | Answers], question: Question | None) -> None:
        try:
            future.set_result(self._look() if question is None else self._ask(question))
        except Exception as error:  # noqa: BLE001 - raised by `poll`, in the link's thread
            future.set_exception(error)

    def _look(self) -> Question:
        """Which keys are noted; some of them, so many as one question takes."""
        source = Client(self._source, timeout=self._timeout, name=self._name)
        question = Question(source, 0)
        try:
            self._find(question)
            question.values = _within_bounds(source, question.values)
        except BaseException:
            source.close()
            raise
        return question

    def _find(self, question: Question) -> None:
        """Take names out of the target."""
        with Client(self._target, timeout=self._timeout, name=self._name) as target:
            for database in target.keyspace():
                target.execute("SELECT", database)
                for name, chosen, most in (
                    (self.key, question.expiries, self._most[0]),
                    (self.repair_key, question.values, self._most[1]),
                ):
                    count = int(target.execute("SCARD", name) or 0)  # type: ignore[arg-type]
                    question.left += count
                    question.left_values += count if name == self.repair_key else 0
                    room = most - sum(map(len, chosen.values()))
                    if count and room > 0:
                        chosen[database] = target.execute("SRANDMEMBER", name, room)  # type: ignore[assignment]
            if question.values:
                target.execute("SELECT", 0)
                question.stamp = _stamp(target.execute("DUMP", checkpoint_key(self._link)))

    def _ask(self, question: Question) -> Answers:
        """All of it at one moment of the source's stream.

        Without MULTI, by one block of commands, which a server carries out without a break if it has come in one piece. If the stream
        has moved meanwhile, the answer holds nowhere (offset -1), and the next question is smaller.
        """
        answers = Answers(question)
        absolute = self._source_version >= (7,)
        commands: list[Command] = [("INFO", "replication"), ("TIME",)]
        asked: list[tuple[Key, bool] | None] = [None] * 2
        for database in sorted({*question.expiries, *question.values}):
            commands.append(("SELECT", database))
            asked.append(None)
            for keys, with_value in ((question.expiries, False), (question.values, True)):
                for key in keys.get(database, ()):
                    # A key that has expired is deleted by the first look at it: the value is read before the expiry.
                    if with_value:
                        commands.append(("DUMP", key))
                        asked.append(((database, key), True))
                    commands.append(("PEXPIRETIME" if absolute else "PTTL", key))
                    asked.append(((database, key), False))
        with question.source as source:
            results = (
                source.transaction(commands) if self._multi else source.pipeline([*commands, commands[0]])
            )
        for command, result in zip(commands, results, strict=False):
            if isinstance(result, ReplyError):
                raise source.error(result, str(command[0]))
        info = _info(results[0])
        answers.offset = int(info.get("master_repl_offset", "-1"))
        answers.replication_id = info.get("master_replid", "")
        if not self._multi:
            moved = _info(results.pop()).get("master_repl_offset") != info.get("master_repl_offset")
            self._most = (max(1, self._most[0] // 2),) * 2 if moved else (_WITHOUT_MULTI,) * 2
            answers.offset = -1 if moved else answers.offset
        now = _milliseconds(results[1])
        for place, result in zip(asked, results, strict=True):
            if place is None:
                continue
            whose, with_value = place
            if with_value:
                answers.values[whose] = result if isinstance(result, bytes) else None
            elif isinstance(result, int) and result > 0:
                answers.expiries[whose] = result if absolute else now + result
            else:
                answers.expiries[whose] = 0
        return answers


def _close_source(future: Future[Question | Answers]) -> None:
    if future.exception() is None and isinstance(question := future.result(), Question):
        question.source.close()


def restore(
    key: bytes, payload: bytes | None, expiry: int, *, stamp: int, able: Abilities
) -> list[list[bytes]]:
    """Commands that make a key what a DUMP of the source says; `stamp` and `able` are the target's."""
    if payload is None:
        return [[b"DEL", key]]
    expire = [[b"PEXPIREAT", key, b"%d" % expiry]] if expiry else []
    kind, body = payload[0], payload[:-10]
    if not able.loads(kind):
        rewriter = rewriter_for(kind, key, target=able, stamp=stamp)
        if rewriter is None:
            raise errors.UnsupportedData(
                f"key {key[:128]!r} has to be read again, and its value (type {kind}) cannot be expressed on the target ({able})"
            )
        return [[b"DEL", key], *arguments([*rewriter.feed(body[1:]), *rewriter.finish()]), *expire]
    if not able.knows("ABSTTL"):
        return [[b"RESTORE", key, b"0", stamped(body, stamp), b"REPLACE"], *expire]
    return [[b"RESTORE", key, b"%d" % expiry, stamped(body, stamp), b"REPLACE", b"ABSTTL"]]


def _within_bounds(source: Client, keys: Noted) -> Noted:
    """As many keys as have room in one question."""
    chosen: Noted = {}
    total = 0
    for database, some in keys.items():
        source.execute("SELECT", database)
        sizes = source.pipeline([("MEMORY", "USAGE", key) for key in some])
        for key, size in zip(some, sizes, strict=True):
            # Where it cannot be told (before 4.0, or without the right), one at a time.
            size = size if isinstance(size, int) else _VALUE_BYTES if isinstance(size, ReplyError) else 0
            if size > _LARGEST:
                raise errors.RepairTooLarge(
                    f"key {key[:128]!r} of database {database} may be wrong on the target, because it expired there too early, and "
                    f"with {size >> 20} MB it is too large to be copied again by itself"
                )
            if total and total + size > _VALUE_BYTES:
                return chosen
            total += size
            chosen.setdefault(database, []).append(key)
    return chosen


def _stamp(payload: Reply) -> int:
    if not isinstance(payload, bytes) or len(payload) < 10:
        raise errors.ProtocolError("DUMP of the checkpoint gave no payload")
    return int.from_bytes(payload[-10:-8], "little")


def _info(text: Reply) -> dict[str, str]:
    lines: Iterable[str] = text.decode("utf-8", "replace").splitlines() if isinstance(text, bytes) else ()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def _milliseconds(time_reply: Reply) -> int:
    if not isinstance(time_reply, list):
        raise errors.ProtocolError("TIME did not answer with seconds and microseconds")
    seconds, micros = (int(part) for part in time_reply)  # type: ignore[arg-type]
    return seconds * 1000 + micros // 1000
