"""One key of the target is brought to what the source has, also while a link works on both.

Order, for each attempt, and why a write of the source is neither lost nor applied twice:

1. WATCH the key at the source, then note the source's offset. Wait until the link has applied the stream up to there: from now on
   no write to the key is on its way, unless the key changes.
2. WATCH the key at the target, compare once more, then read the key at the source. An empty transaction at the source tells whether the key was changed
   since 1; if so, begin again.
3. Write to the target in a transaction. It fails if the key was changed there since 2: a write that the source has made after 2 has
   overtaken. Then begin again. A write that comes later is applied to the value that it was made for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from migrations_app.engine.abilities import Abilities
from migrations_app.engine.checkpoint import checkpoint_key, client_name
from migrations_app.engine.client import Client
from migrations_app.engine.downgrade import Downgrade
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import EngineError, Fenced, UnsupportedData
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.keys import slot
from migrations_app.engine.loop import LINKS_KEY, names_of, origin_key
from migrations_app.engine.protocol.resp import Reply, ReplyError
from migrations_app.engine.target.router import in_slot
from migrations_app.engine.target.standalone import has_modules
from migrations_app.engine.verify.cluster import ClusterClient
from migrations_app.engine.verify.compare import DEFAULT_TTL_TOLERANCE_MS
from migrations_app.engine.verify.keys import KeyComparer
from migrations_app.engine.verify.model import Finding
from migrations_app.engine.verify.pair import Stopped, close, connect
from migrations_app.engine.verify.settling import Follow, Settling

ATTEMPTS: Final = 20
MOST: Final = 256 * 1024 * 1024  # bytes of a payload that are held in memory
_REACH_SECONDS: Final = 30.0  # for the link to come to where the source is
_STEP: Final = 0.02
_BUSY: Final = "the key is written so often that it could not be repaired without harm; nothing was changed"


class Repaired(StrEnum):
    """What has become of a key."""

    WRITTEN = "written"  # the target has the source's value now
    DELETED = "deleted"  # the source does not have the key, so the target has it no more
    AGREES = "agrees"  # it does not differ any more: nothing was written
    FAILED = "failed"  # the reason is told with it


@dataclass(frozen=True, slots=True)
class RepairResult:
    outcome: Repaired
    reason: str = ""


class _Again(Exception):
    """Somebody has written the key meanwhile."""


class Repairer:
    """Both sides, for any number of keys. `follow` is the link that works meanwhile (None: none does).

    `may_write` is asked right before each write; when it answers false, nothing is written any more and `Stopped` is raised, as it is
    when `should_stop` answers true. Raises `EngineError` where a side cannot be reached.
    """

    def __init__(
        self,
        source: Endpoint,
        target: Endpoint,
        link: str,
        *,
        follow: Follow | None = None,
        may_write: Callable[[], bool] = lambda: True,
        should_stop: Callable[[], bool] = lambda: False,
        ttl_tolerance_ms: int = DEFAULT_TTL_TOLERANCE_MS,
        timeout: float = 20.0,
    ) -> None:
        self._link = link
        self._follow = follow
        self._may_write = may_write
        self._should_stop = should_stop
        self._tolerance = ttl_tolerance_ms
        self._selected = 0
        self._state: Client | None = (
            None  # a second connection, to what the link keeps in database 0 of the target
        )
        self._pair = connect(source, target, timeout, self._tick)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        source, target = self._pair.source.client, self._pair.target.client
        if not isinstance(target, ClusterClient):
            self._state = Client(target.endpoint, timeout=target.timeout)
            self._belong(target)
        facts = ServerFacts.of(_node(target, checkpoint_key(self._link)))
        self._able = Abilities.of(facts)
        self._stamp = self._stamp_of_target()
        self._downgrade = Downgrade(
            Abilities.of(ServerFacts.of(_node(source, b""))),
            self._able,
            self._stamp,
            modules=has_modules(_node(target, b"")),
        )

    def _belong(self, target: Client) -> None:
        """Bear the name of the link's owner: a newer one, also the fence of a released task, closes this connection before it begins.

        The epoch is read again behind the name: who has come in between has not seen it.
        """
        key = checkpoint_key(self._link)
        epoch = target.execute("HGET", key, "epoch")
        if not isinstance(epoch, bytes):
            return  # no link has been here
        target.execute("CLIENT", "SETNAME", client_name(self._link, int(epoch)))
        if target.execute("HGET", key, "epoch") != epoch:
            raise Fenced(f"{target.endpoint.address}: the link has just got a new owner; nothing was changed")

    def close(self) -> None:
        close(self._pair)
        if self._state is not None:
            self._state.close()

    def repair(self, database: int, key: bytes) -> RepairResult:
        """Look again, and write if the key still differs; then look once more."""
        pair = self._pair
        pair.select(database)
        self._selected = database
        comparer = KeyComparer(pair, self._tolerance)
        comparer.field_ttls = pair.source.field_ttl or pair.target.field_ttl
        try:
            if not comparer.findings([key]):
                return RepairResult(Repaired.AGREES)
            outcome = self._replace(comparer, key)
            if outcome is not Repaired.AGREES and (left := self._differs(comparer, key)):
                return RepairResult(
                    Repaired.FAILED,
                    f"it was written, and still differs: {left.detail or left.kind} (source {left.source}, target {left.target})",
                )
        except UnsupportedData as error:
            return RepairResult(Repaired.FAILED, error.message)
        return RepairResult(outcome)

    def _tick(self) -> None:
        if self._should_stop():
            raise Stopped

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._tick()
            time.sleep(min(left, _STEP))

    def _differs(self, comparer: KeyComparer, key: bytes) -> Finding | None:
        """What differs for certain: under a link, after the time that it needs."""
        found = comparer.findings([key])
        if not found or self._follow is None:
            return found[0][1] if found else None
        settling = Settling(self._pair, comparer, self._follow, self._pause)
        settling.add(found)
        certain = settling.settle(all_of_them=True)
        return certain[0][1] if certain else None

    def _replace(self, comparer: KeyComparer, key: bytes) -> Repaired:
        for _ in range(ATTEMPTS):
            try:
                return self._attempt(comparer, key)
            except _Again:
                self._pause(_STEP)
        raise UnsupportedData(_BUSY)

    def _attempt(self, comparer: KeyComparer, key: bytes) -> Repaired:
        source, target = _node(self._pair.source.client, key), _node(self._pair.target.client, key)
        source.execute("WATCH", key)
        try:
            self._wait_for_link(source)
            target.execute("WATCH", key)
            if not comparer.findings([key]):
                return Repaired.AGREES
            value = self._read(source, key)
            if source.pipeline([("MULTI",), ("PING",), ("EXEC",)])[2] is None:
                raise _Again
            if not self._may_write():
                raise Stopped
            self._write(target, key, value)
        finally:
            for client in (source, target):
                client.pipeline([("UNWATCH",)])
        return Repaired.DELETED if value is None else Repaired.WRITTEN

    def _wait_for_link(self, source: Client) -> None:
        if self._follow is None:
            return
        until = time.monotonic() + _REACH_SECONDS
        offset = int(source.info("replication").get("master_repl_offset", "0"))
        if self._pair.source.cluster or self._follow.reached(offset) is None:
            self._pause(
                2 * (self._follow.lag() or 0.5) + 0.5
            )  # the looks afterwards tell whether it was enough
            return
        while not self._reached(offset):
            if time.monotonic() > until:
                raise UnsupportedData(
                    f"the link has not come to where the source is within {_REACH_SECONDS:g} s; nothing was changed"
                )
            self._pause(_STEP)

    def _reached(self, offset: int) -> bool:
        """By the checkpoint, which moves with each write; what holds nothing to write may move the worker's report alone."""
        applied = self._state.execute("HGET", checkpoint_key(self._link), "offset") if self._state else None
        if isinstance(applied, bytes) and applied.isdigit() and int(applied) >= offset:
            return True
        return self._follow is None or bool(self._follow.reached(offset))

    def _read(self, source: Client, key: bytes) -> tuple[bytes, int, bool] | None:
        """(payload, expiry in ms or 0, whether that is absolute); None where there is no such key."""
        absolute = self._pair.source.pexpiretime and self._able.knows("ABSTTL")
        size: Reply = None
        if self._pair.source.memory:
            size = self._checked(source, source.execute("MEMORY", "USAGE", key), "MEMORY")
        if isinstance(size, int) and size > MOST:
            raise UnsupportedData(
                f"its value takes {size >> 20} MB, more than can be written at once ({MOST >> 20} MB); nothing was changed"
            )
        expiry, payload = source.pipeline([("PEXPIRETIME" if absolute else "PTTL", key), ("DUMP", key)])
        expiry = self._checked(source, expiry, "PTTL")
        payload = self._checked(source, payload, "DUMP")
        if not isinstance(payload, bytes) or not isinstance(expiry, int):
            return None
        # 0 would mean none: a key about to expire gets its last millisecond.
        return payload, max(1, expiry) if expiry >= 0 else 0, absolute

    def _write(self, target: Client, key: bytes, value: tuple[bytes, int, bool] | None) -> None:
        commands: list[Sequence[bytes | str]] = []
        if value is None:
            commands.append(("DEL", key))
        else:
            payload, expiry, absolute = value
            options = [b"REPLACE", *([b"ABSTTL"] if absolute else [])]
            commands += self._downgrade.apply([b"RESTORE", key, b"%d" % expiry, payload, *options])
        commands = [*self._marker(key), *commands]
        replies = target.pipeline([("MULTI",), *commands, ("EXEC",)])
        for reply in replies:
            self._checked(target, reply, "the repair")
        done = replies[-1]
        if done is None:
            raise _Again
        for reply in done if isinstance(done, list) else []:
            if isinstance(reply, ReplyError):
                raise UnsupportedData(f"the target refused the value: {reply}")

    def _marker(self, key: bytes) -> list[Sequence[bytes | str]]:
        """What the link's own transactions begin with: a link in the opposite direction leaves them out by it.

        At one server it stands in database 0, so elsewhere the transaction goes there and back; in a cluster in the slot of the key.
        """
        names = names_of(self._link, (self._state or self._pair.target.client).execute("HGETALL", LINKS_KEY))
        if not names:
            return []
        name, selected = origin_key(self._link), self._selected
        if self._state is None:
            return [("SET", in_slot(name, slot(key)), names)]
        return [("SELECT", "0"), ("SET", name, names), ("SELECT", str(selected))]

    def _stamp_of_target(self) -> int:
        client = self._pair.target.client
        for key in (checkpoint_key(self._link), None):
            name = key if key is not None else client.execute("RANDOMKEY")
            payload = client.execute("DUMP", name) if isinstance(name, bytes) else None
            if isinstance(payload, bytes) and len(payload) > 10:
                return int.from_bytes(payload[-10:-8], "little")
        raise UnsupportedData(
            "the target holds no key at all, not even the state of the link",
            advice="It was cleared, or is another server than before: repeat the full synchronization instead.",
        )

    @staticmethod
    def _checked(client: Client, reply: Reply, command: str) -> Reply:
        if isinstance(reply, ReplyError):
            raise _refusal(client.error(reply, command))
        return reply


def _refusal(error: EngineError) -> EngineError:
    """Of one key: the others go on."""
    return UnsupportedData(error.message)


def _node(client: Client, key: bytes) -> Client:
    """The server that holds the key: a transaction needs one connection."""
    return client.holder(key) if isinstance(client, ClusterClient) else client
