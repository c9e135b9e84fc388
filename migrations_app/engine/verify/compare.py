"""The comparison: databases, keys, types, values and expiries of a source and a target.

What is equal:

- Keys are compared in both directions: those of the source with the target's, then those that only the target has. Keys that begin
  with `switchyard:` are the product's own and left out.
- Values are compared by what clients see, so encodings, versions and vendors do not matter. Scores are compared as numbers,
  HyperLogLogs by their registers, hashes with the expiries of their fields; for streams see `streams.py`.
  An equal DUMP payload proves equality and is tried first where it tends to succeed; an unequal one proves nothing, and then the
  value itself is read. A type that has no reader here (modules) is equal if the payload is, and otherwise `uncomparable`.
- Expiries agree when they are at most the tolerance apart, or absent on both sides. Where both servers know PEXPIRETIME (7.0) the
  absolute times are compared; otherwise the remaining times, which are read on both sides within one round trip.
- A key that differs is read again once, and only what differs the second time is reported: it may have expired in between.
  A key that is on one side only, with no more left to live than the tolerance, is no difference either: the other side has just
  expired it.

Writers that go on while the comparison runs make real differences; they are reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from migrations_app.engine.checkpoint import OWN_PREFIX
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import UsageError
from migrations_app.engine.keyfilter import KeyFilter
from migrations_app.engine.protocol.resp import encode_many
from migrations_app.engine.verify.keys import KeyComparer
from migrations_app.engine.verify.model import (
    Difference,
    Kind,
    Tally,
    VerifyProgress,
    VerifyReport,
)
from migrations_app.engine.verify.pair import Pair, Side, Stopped, close, connect

# Two seconds: NTP keeps the servers' clocks closer than this, and a remaining time is read on both sides within less.
DEFAULT_TTL_TOLERANCE_MS = 2000
_PROGRESS_SECONDS = 0.5
_REMEMBERED = 100_000  # keys that differ, so that one which SCAN returns twice is reported once


def verify(
    source: Endpoint,
    target: Endpoint,
    *,
    databases: frozenset[int] | None = None,
    keys: KeyFilter | None = None,
    ttl_tolerance_ms: int = DEFAULT_TTL_TOLERANCE_MS,
    max_reported: int = 100,
    batch_keys: int = 512,
    timeout: float = 20.0,
    on_progress: Callable[[VerifyProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> VerifyReport:
    """Compare two servers by value, type and expiry; the module says what is equal.

    `databases` limits the comparison (None: all that hold keys on either side), `keys` too, by name. `batch_keys` keys are asked for at a time.
    `timeout` is in seconds, for each wait on the network. `on_progress` is called about twice a second and at the end,
    `should_stop` before each round trip; when it answers true, the report of what was compared so far is returned with
    `complete` false. Memory does not grow with the data set or the size of a value: some 20 MB, plus a page of a
    collection where single elements are huge. Nothing is written to either server.

    Raises `EngineError`: `UsageError` for arguments out of range, otherwise what kept a server from being read.
    """
    if ttl_tolerance_ms < 0 or max_reported < 0 or batch_keys < 1 or timeout <= 0:
        raise UsageError(
            "tolerance and number of reported differences are not negative, batch size and timeout positive"
        )
    run = _Run(Tally(max_reported), on_progress, should_stop)
    pair = connect(source, target, timeout, run.tick)
    complete = True
    try:
        _compare(pair, run, databases, keys, ttl_tolerance_ms, batch_keys)
    except Stopped:
        complete = False
    finally:
        close(pair)
    return run.finish(complete)


@dataclass(slots=True)
class _Run:
    """What is counted and told while a comparison runs."""

    tally: Tally
    on_progress: Callable[[VerifyProgress], None] | None
    should_stop: Callable[[], bool] | None
    database: int = 0
    keys_total: int = 0
    started: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def tick(self) -> None:
        """Before each round trip: tell how far it is, and stop if that is wanted."""
        if self.should_stop is not None and self.should_stop():
            raise Stopped
        if self.on_progress is not None and time.monotonic() - self.told >= _PROGRESS_SECONDS:
            self._tell()

    def finish(self, complete: bool) -> VerifyReport:
        self._tell()
        tally = self.tally
        return VerifyReport(
            keys=tally.keys,
            differences=tally.differences,
            by_kind=dict(tally.by_kind),
            items=tuple(tally.items),
            databases=dict(tally.databases),
            seconds=time.monotonic() - self.started,
            complete=complete,
        )

    def _tell(self) -> None:
        self.told = time.monotonic()
        if self.on_progress is not None:
            tally = self.tally
            self.on_progress(
                VerifyProgress(
                    self.database, tally.keys, self.keys_total, tally.differences, self.told - self.started
                )
            )


def _compare(
    pair: Pair,
    run: _Run,
    chosen: frozenset[int] | None,
    keys: KeyFilter | None,
    tolerance: int,
    batch_keys: int,
) -> None:
    sides = (pair.source, pair.target)
    keyspaces = [side.client.keyspace() for side in sides]
    holding = {database for keyspace in keyspaces for database in keyspace}
    databases = sorted(holding if chosen is None else holding & chosen)
    run.keys_total = sum(max(space.get(database, (0, 0))[0] for space in keyspaces) for database in databases)
    for database in databases:
        run.database = database
        run.tally.databases[database] = 0
        pair.select(database)
        comparer = KeyComparer(pair, tolerance)
        comparer.field_ttls = any(_may_expire_fields(side, database) for side in sides)
        _Database(pair, run.tally, database, comparer, keys, batch_keys).compare()


class _Database:
    """One database, in both directions."""

    def __init__(
        self,
        pair: Pair,
        tally: Tally,
        number: int,
        comparer: KeyComparer,
        keys: KeyFilter | None,
        batch_keys: int,
    ) -> None:
        self._pair = pair
        self._tally = tally
        self._number = number
        self._comparer = comparer
        self._wants = keys.wants if keys else None
        self._batch_keys = batch_keys
        self._reported: set[bytes] = set()

    def compare(self) -> None:
        size = self._size()
        own: set[bytes] = set()
        for batch in self._batches(self._pair.source, own):
            self._check(batch)
            self._tally.databases[self._number] += len(batch)
        # SCAN returns a key twice when its table shrinks meanwhile; the server's own count bounds what is distinct.
        most = max(size, self._size()) - len(own)
        self._tally.databases[self._number] = min(self._tally.databases[self._number], most)
        for batch in self._batches(self._pair.target, set()):
            if only_here := self._unknown_to_source(batch):
                self._tally.databases[self._number] += self._check(only_here)

    def _size(self) -> int:
        side = self._pair.source
        return side.number(side.ask("DBSIZE"), "DBSIZE")

    def _batches(self, side: Side, own: set[bytes]) -> Iterator[list[bytes]]:
        """The user's keys of one side, `batch_keys` at a time; the product's own go to `own`."""
        waiting: dict[bytes, None] = {}
        for page in side.client.scan(count=self._batch_keys):
            for key in page:
                if key.startswith(OWN_PREFIX):
                    own.add(key)
                elif self._wants is None or self._wants(key):
                    waiting[key] = None
            if len(waiting) >= self._batch_keys:
                yield list(waiting)
                waiting = {}
        if waiting:
            yield list(waiting)

    def _check(self, keys: list[bytes]) -> int:
        """Report what differs now and still differs on a second look; the number of keys that only the target has."""
        extra = 0
        suspects = _keys(self._comparer.findings(keys))
        lasting = self._comparer.findings(suspects) if suspects else []
        for key, finding in lasting:
            extra += finding.kind is Kind.EXTRA
            if key not in self._reported:
                self._tally.add(
                    Difference(
                        self._number, key, finding.kind, finding.source, finding.target, finding.detail
                    )
                )
        self._reported.update(_keys(lasting)[: _REMEMBERED - len(self._reported)])
        return extra

    def _unknown_to_source(self, keys: list[bytes]) -> list[bytes]:
        source = self._pair.source
        if not source.cluster:  # a cluster takes only keys of one slot in one command
            together = source.ask("EXISTS", *keys)
            if together == len(keys):
                return []
        self._pair.tick()
        source.client.send(encode_many(("EXISTS", key) for key in keys))
        replies = source.client.receive(len(keys))
        return [key for key, reply in zip(keys, replies, strict=True) if not source.number(reply, "EXISTS")]


def _keys(found: Iterable[tuple[bytes, object]]) -> list[bytes]:
    return list(dict.fromkeys(key for key, _ in found))


def _may_expire_fields(side: Side, database: int) -> bool:
    """Whether hashes of the database may have fields that expire: INFO counts such hashes where fields can expire."""
    if not side.field_ttl:
        return False
    line = side.client.info("keyspace").get(f"db{database}", "")
    counts = dict(part.split("=", 1) for part in line.split(",") if "=" in part)
    for name in ("subexpiry", "keys_with_volatile_items"):  # Redis, Valkey
        if name in counts:
            return counts[name] != "0"
    return bool(line)
