"""A rehearsal: what a full phase would meet, found by reading a part of the source. Nothing is written to either side.

A server is asked for a snapshot as by a replica (so it forks), of which a limited part is read before the connection is closed; where it
refuses that, or is a cluster, keys are sampled with SCAN and DUMP. A snapshot file is read from its beginning.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from migrations_app.engine import errors
from migrations_app.engine.abilities import Abilities
from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.protocol.psync import SnapshotBegin, SnapshotBytes, SnapshotEnd, StreamBytes
from migrations_app.engine.protocol.resp import ReplyError, encode_many
from migrations_app.engine.source.base import Source
from migrations_app.engine.source.file import FileSource
from migrations_app.engine.source.psync import PsyncSource
from migrations_app.engine.survey import Survey, SurveyKernel, chosen, own, take
from migrations_app.engine.target.standalone import has_modules
from migrations_app.engine.verify.cluster import ClusterClient

NAME: Final = "switchyard-rehearsal"
_READ: Final = 256 * 1024
_PAGE: Final = 200  # keys
_DUMP_MOST: Final = 64 << 20  # bytes; a larger value is counted by what MEMORY USAGE says
_NAMES: Final = 500  # keys whose names are looked up in the target at once
_WAIT: Final = (
    120.0  # seconds until the snapshot begins: a diskless one may be delayed, one on disk is saved first
)
# What DUMP writes, by the version of Redis: for an empty target, which has no key to ask with.
_STAMPS: Final = (((7, 4), 12), ((7, 2), 11), ((7,), 10), ((5,), 9), ((4,), 8), ((3, 2), 7))


@dataclass(slots=True)
class Rehearsed:
    """The result. `keys` and `bytes` are expected of the whole, `sampled_*` were read; sizes as they travel, in bytes.

    `how`: replication, scan or file. `ended`: complete, bytes, seconds (limits), or refused (something in the snapshot cannot be read
    on behind). `same_names` of the sampled keys are in the target already. `room` is what the target's maxmemory leaves; None: no limit.
    """

    how: str
    ended: str
    keys: int
    bytes: int
    sampled_keys: int
    sampled_bytes: int
    read_seconds: float
    survey: Survey
    used_memory: int | None
    room: int | None
    same_names: int
    refusal: str  # why the source could not be read by replication

    @property
    def bytes_per_second(self) -> float:
        return self.sampled_bytes / max(self.read_seconds, 0.001)


class Rehearsal:
    """Call `run` once. `tick` is called often, with bytes read so far, and may raise to end it."""

    def __init__(
        self,
        source: Endpoint,
        target: Endpoint,
        *,
        databases: frozenset[int] | None = None,
        scan: bool = False,
        refuse_same_names: bool = False,
        max_bytes: int = 256 << 20,
        max_seconds: float = 30.0,
        timeout: float = 20.0,
        tick: Callable[[int], None] = lambda read: None,
    ) -> None:
        self._source, self._target = source, target
        self._databases = databases
        self._scan = scan
        self._refuse_same_names = refuse_same_names
        self._max_bytes, self._max_seconds = max_bytes, max_seconds
        self._timeout = timeout
        self._tick = tick
        self._read = 0
        self._began = 0.0  # when the first byte of the snapshot came
        self._size: int | None = None  # of the snapshot
        self._same_names = 0
        self._lacking: set[int] = set()

    def run(self) -> Rehearsed:
        """Raises `EngineError` where a side cannot be reached."""
        with _client(self._target, self._timeout) as target:
            self._into = target
            self._survey = _survey_for(target)
            room = _room(target)
            keyspace: dict[int, tuple[int, int]] | None = None
            used: int | None = None
            refusal = ""
            if self._source.file:
                how, ended = "file", self._snapshot(FileSource(self._source))
            else:
                with _client(self._source, self._timeout) as source:
                    keyspace = source.keyspace()
                    used = int(source.info("memory").get("used_memory", "0")) or None
                    if isinstance(source, ClusterClient):
                        used, refusal = None, "the source is a cluster"
                    how, ended = "replication", ""
                    if not self._scan and not refusal:
                        try:
                            ended = self._snapshot(PsyncSource(self._source, NAME, self._timeout))
                        except (
                            errors.SourceRefused,
                            errors.PermissionDenied,
                            errors.SourceNotReady,
                        ) as error:
                            refusal = error.message
                    if not ended:
                        how, ended = "scan", self._keys(source, keyspace)
            self._look_up(all_of_them=True)
        seconds = max(0.0, time.monotonic() - self._began) if self._began else 0.0
        keys, size = self._expected(keyspace, ended)
        survey = self._survey
        return Rehearsed(
            how,
            ended,
            keys,
            size,
            survey.keys,
            self._read,
            seconds,
            survey,
            used,
            room,
            self._same_names,
            refusal,
        )

    def _expected(self, keyspace: dict[int, tuple[int, int]] | None, ended: str) -> tuple[int, int]:
        """Keys and bytes of the whole."""
        survey = self._survey
        if ended == "complete":
            return survey.keys, self._read
        if keyspace is None:  # a file: by what of it was read
            share = (self._size or self._read) / max(1, self._read)
            return round(survey.keys * share), self._size or self._read
        keys = sum(keyspace[number][0] for number in chosen(keyspace, self._databases))
        return keys, self._size or round(self._read * keys / max(1, survey.keys))

    # --- by replication, or from a file -------------------------------------------------------------------------------

    def _snapshot(self, source: Source) -> str:
        try:
            source.start("?", -1)
            return self._blocks(source)
        finally:
            source.close()

    def _blocks(self, source: Source) -> str:
        kernel = SurveyKernel(self._survey, self._databases)
        asked = time.monotonic()
        while True:
            self._tick(self._read)
            if (limit := self._limit()) and self._began:
                return limit
            if not self._began and time.monotonic() - asked > _WAIT:
                raise errors.SourceNotReady(f"the source has not begun its snapshot within {_WAIT:g} s")
            if not source.connection.buffered:
                poller = select.poll()
                if not self._source.file:
                    poller.register(source.connection.fileno(), select.POLLIN)
                    if not poller.poll(100):
                        continue
            data = source.connection.recv(_READ)
            if data is None:
                continue
            for event in source.decoder.feed(data):
                if isinstance(event, SnapshotBegin):
                    self._size = event.size
                    self._began = time.monotonic()
                elif isinstance(event, SnapshotBytes):
                    self._read += len(event.data)
                    batch = take(kernel, event.data)
                    self._look_up(all_of_them=False)
                    if batch is None:
                        return "refused"
                    if batch.done:
                        return "complete"
                elif isinstance(event, SnapshotEnd | StreamBytes):
                    return "complete"

    def _limit(self) -> str:
        if self._read >= self._max_bytes:
            return "bytes"
        return "seconds" if time.monotonic() - self._began >= self._max_seconds else ""

    # --- by keys ------------------------------------------------------------------------------------------------------

    def _keys(self, client: Client, keyspace: dict[int, tuple[int, int]]) -> str:
        self._began = time.monotonic()
        for database in chosen(keyspace, self._databases):
            client.execute("SELECT", database)
            for page in client.scan(count=_PAGE):
                self._tick(self._read)
                self._dump(client, database, [key for key in dict.fromkeys(page) if not own(key)])
                self._look_up(all_of_them=False)
                if limit := self._limit():
                    return limit
        return "complete"

    def _dump(self, client: Client, database: int, keys: list[bytes]) -> None:
        client.send(encode_many(("MEMORY", "USAGE", key) for key in keys))
        sizes = client.receive(len(keys))
        small = [
            key
            for key, size in zip(keys, sizes, strict=True)
            if not (isinstance(size, int) and size > _DUMP_MOST)
        ]
        for start in range(0, len(small), 20):
            some = small[start : start + 20]
            client.send(encode_many(("DUMP", key) for key in some))
            for key, payload in zip(some, client.receive(len(some)), strict=True):
                if isinstance(payload, ReplyError):
                    raise client.error(payload, "DUMP")
                if isinstance(payload, bytes) and len(payload) > 10:
                    self._read += len(payload)
                    self._survey.payload(database, key, payload)
        for key, size in zip(keys, sizes, strict=True):
            if isinstance(size, int) and size > _DUMP_MOST:
                kind = client.execute("TYPE", key)
                self._survey.counted(database, key, kind.decode() if isinstance(kind, bytes) else "", size)
                self._read += size

    # --- the target ---------------------------------------------------------------------------------------------------

    def _look_up(self, *, all_of_them: bool) -> None:
        """Which of the names that were seen the target has already."""
        seen = self._survey.seen
        if not seen or (len(seen) < _NAMES and not all_of_them):
            return
        self._survey.seen = []
        for database, names in _by_database(seen):
            if not self._selects(database):
                continue
            for start in range(0, len(names), _NAMES):
                some = names[start : start + _NAMES]
                self._into.send(encode_many(("EXISTS", key) for key, _ in some))
                for (key, kind), reply in zip(some, self._into.receive(len(some)), strict=True):
                    if reply == 1:
                        self._same_names += 1
                        if self._refuse_same_names:
                            reason = "the target has a key of this name already"
                            self._survey.refuse(database, key, kind, reason)

    def _selects(self, database: int) -> bool:
        """Whether the target has the database; one that it lacks is told once."""
        if database in self._lacking:
            return False
        if isinstance(self._into, ClusterClient):
            has = database == 0
        else:
            (reply,) = self._into.pipeline([("SELECT", database)])
            has = not isinstance(reply, ReplyError)
        if not has:
            self._lacking.add(database)
            self._survey.refuse(database, b"", "database", f"the target has no database {database}")
        return has


def _by_database(seen: list[tuple[int, bytes, str]]) -> Iterator[tuple[int, list[tuple[bytes, str]]]]:
    for number in sorted({database for database, _, _ in seen}):
        yield number, [(key, kind) for database, key, kind in seen if database == number]


def _client(endpoint: Endpoint, timeout: float) -> Client:
    """A client, or what looks like one where the endpoint is a node of a cluster."""
    client = Client(endpoint, timeout=timeout, name=NAME)
    try:
        return ClusterClient(client) if client.info("cluster").get("cluster_enabled") == "1" else client
    except BaseException:
        client.close()
        raise


def _survey_for(target: Client) -> Survey:
    node = target.holder(b"") if isinstance(target, ClusterClient) else target
    able = Abilities.of(ServerFacts.of(node))
    (bulk,) = node.pipeline([("CONFIG", "GET", "proto-max-bulk-len")])
    limit = bulk[1] if isinstance(bulk, list) and len(bulk) == 2 else None
    return Survey(
        able,
        _stamp(node, able),
        modules=has_modules(node),
        largest_string=int(limit) if isinstance(limit, bytes) and limit.isdigit() else 512 << 20,
    )


def _stamp(target: Client, able: Abilities) -> int:
    key = target.execute("RANDOMKEY")
    payload = target.execute("DUMP", key) if isinstance(key, bytes) else None
    if isinstance(payload, bytes) and len(payload) > 10:
        return int.from_bytes(payload[-10:-8], "little")
    if able.valkey >= (9,):
        return 80
    return next((stamp for version, stamp in _STAMPS if able.redis >= version), 6)


def _room(target: Client) -> int | None:
    """Bytes that the target's limit leaves, of all masters together; None where there is no limit (or it is not told)."""
    if isinstance(target, ClusterClient):
        return None
    memory = target.info("memory")
    limit = int(memory.get("maxmemory", "0") or 0)
    return max(0, limit - int(memory.get("used_memory", "0"))) if limit else None
