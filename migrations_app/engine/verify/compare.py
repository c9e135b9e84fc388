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

Writers that go on while the comparison runs make real differences; they are reported. Where a link carries them to the target
meanwhile, `follow` tells how far it is, and what is only on its way is no difference: see `settling.py`.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from migrations_app.engine.checkpoint import OWN_PREFIX
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import UsageError
from migrations_app.engine.keyfilter import KeyFilter
from migrations_app.engine.protocol.resp import encode_many
from migrations_app.engine.rate import UNLIMITED, Rate, Throttle
from migrations_app.engine.verify.keys import Found, KeyComparer
from migrations_app.engine.verify.model import (
    Difference,
    Finding,
    Kind,
    Tally,
    VerifyProgress,
    VerifyReport,
)
from migrations_app.engine.verify.pair import Pair, Side, Stopped, close, connect
from migrations_app.engine.verify.preview import previews
from migrations_app.engine.verify.settling import Follow, Settling, together

# Two seconds: NTP keeps the servers' clocks closer than this, and a remaining time is read on both sides within less.
DEFAULT_TTL_TOLERANCE_MS = 2000
_PROGRESS_SECONDS = 0.5
_SLICE = 0.1  # seconds of a pause between two looks whether it is to stop
_PREVIEWED = 10_000  # differences with what a side has altogether; of more, the type is told
_ALTOGETHER = frozenset({Kind.MISSING, Kind.EXTRA, Kind.TYPE})
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
    percent: float = 100.0,
    both_directions: bool = True,
    rate: Rate = UNLIMITED,
    follow: Follow | None = None,
    on_progress: Callable[[VerifyProgress], None] | None = None,
    on_difference: Callable[[Difference], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> VerifyReport:
    """Compare two servers by value, type and expiry; the module says what is equal.

    `databases` limits the comparison (None: all that hold keys on either side), `keys` too, by name. `batch_keys` keys are asked for at a time.
    `timeout` is in seconds, for each wait on the network. `percent` of the keys are compared, the same ones on both sides (a
    digest of the name decides). Without `both_directions` the source's keys alone are looked up, and what only the target has is not
    found. `rate` limits keys per second, and bytes per second read from both sides together. `follow` is the link that works
    meanwhile. `on_difference` gets every difference once it is certain, also beyond `max_reported`; those of a key
    come one after the other. `on_progress` is called about twice a second and at the end,
    `should_stop` before each round trip; when it answers true, the report of what was compared so far is returned with
    `complete` false. Memory does not grow with the data set or the size of a value: some 20 MB, plus a page of a
    collection where single elements are huge. Nothing is written to either server.

    Raises `EngineError`: `UsageError` for arguments out of range, otherwise what kept a server from being read.
    """
    if ttl_tolerance_ms < 0 or max_reported < 0 or batch_keys < 1 or timeout <= 0:
        raise UsageError(
            "tolerance and number of reported differences are not negative, batch size and timeout positive"
        )
    if not 0 < percent <= 100:
        raise UsageError(f"{percent:g} % is no sample: choose more than 0 and at most 100")
    if rate.records_per_second:
        # A batch is paid for after it was read: none should take more than a quarter of a second.
        batch_keys = max(1, min(batch_keys, int(rate.records_per_second / 4)))
    run = _Run(Tally(max_reported), on_progress, on_difference, should_stop)
    run.throttle.set(rate, time.monotonic())
    pair = run.pair = connect(source, target, timeout, run.tick)
    complete = True
    wants = _Wants(keys, percent)
    try:
        _compare(pair, run, databases, wants, ttl_tolerance_ms, batch_keys, both_directions, follow)
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
    on_difference: Callable[[Difference], None] | None
    should_stop: Callable[[], bool] | None
    throttle: Throttle = field(default_factory=Throttle)
    pair: Pair | None = None
    settling: Settling | None = None
    database: int = 0
    keys_total: int = 0
    walked: int = 0
    to_walk: int = 0
    paid: int = 0  # bytes
    started: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def tick(self) -> None:
        """Before each round trip: tell how far it is, stop if that is wanted, and keep to the rate."""
        if self.pair is not None:
            received = self.pair.source.client.received + self.pair.target.client.received
            self.throttle.took(0, received - self.paid, time.monotonic())
            self.paid = received
        self.pause(self.throttle.wait(time.monotonic()))

    def pause(self, seconds: float) -> None:
        """Look and tell at least once, and go on so for some seconds."""
        until = time.monotonic() + seconds
        while True:
            if self.should_stop is not None and self.should_stop():
                raise Stopped
            if self.on_progress is not None and time.monotonic() - self.told >= _PROGRESS_SECONDS:
                self._tell()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _SLICE))

    def differs(self, difference: Difference) -> None:
        self.tally.add(difference)
        if self.on_difference is not None:
            self.on_difference(difference)

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
            unsettled=tally.unsettled,
        )

    def _tell(self) -> None:
        self.told = time.monotonic()
        if self.on_progress is not None:
            tally = self.tally
            self.on_progress(
                VerifyProgress(
                    self.database,
                    tally.keys,
                    self.keys_total,
                    tally.differences,
                    self.told - self.started,
                    self.walked,
                    self.to_walk,
                    len(self.settling) if self.settling is not None else 0,
                )
            )


class _Wants:
    """Which keys are compared, by their names."""

    def __init__(self, keys: KeyFilter | None, percent: float) -> None:
        self._wants = keys.wants if keys else None
        self._below = max(1, round(percent * 2**32 / 100)) if percent < 100 else 0
        self.share = percent / 100

    def __call__(self, key: bytes) -> bool:
        if self._below and zlib.crc32(key) >= self._below:
            return False
        return self._wants is None or self._wants(key)


def _compare(
    pair: Pair,
    run: _Run,
    chosen: frozenset[int] | None,
    wants: _Wants,
    tolerance: int,
    batch_keys: int,
    both_directions: bool,
    follow: Follow | None,
) -> None:
    sides = (pair.source, pair.target)
    keyspaces = [side.client.keyspace() for side in sides]
    holding = {database for keyspace in keyspaces for database in keyspace}
    databases = sorted(holding if chosen is None else holding & chosen)
    counts = [[space.get(database, (0, 0))[0] for space in keyspaces] for database in databases]
    run.keys_total = round(wants.share * sum(max(pair_of) for pair_of in counts))
    run.to_walk = sum(sum(pair_of) if both_directions else pair_of[0] for pair_of in counts)
    for database in databases:
        run.database = database
        run.tally.databases[database] = 0
        pair.select(database)
        comparer = KeyComparer(pair, tolerance)
        comparer.field_ttls = any(_may_expire_fields(side, database) for side in sides)
        run.settling = Settling(pair, comparer, follow, run.pause) if follow is not None else None
        _Database(pair, run, database, comparer, wants, batch_keys).compare(both_directions)


class _Database:
    """One database, in one direction or both."""

    def __init__(
        self, pair: Pair, run: _Run, number: int, comparer: KeyComparer, wants: _Wants, batch_keys: int
    ) -> None:
        self._pair = pair
        self._run = run
        self._tally = run.tally
        self._settling = run.settling
        self._number = number
        self._comparer = comparer
        self._wants = wants
        self._batch_keys = batch_keys
        self._reported: set[bytes] = set()

    def compare(self, both_directions: bool) -> None:
        size = self._size()
        own: set[bytes] = set()
        for batch in self._batches(self._pair.source, own):
            self._check(batch)
            self._tally.databases[self._number] += len(batch)
        # SCAN returns a key twice when its table shrinks meanwhile; the server's own count bounds what is distinct.
        most = max(size, self._size()) - len(own)
        self._tally.databases[self._number] = min(self._tally.databases[self._number], most)
        if both_directions:
            for batch in self._batches(self._pair.target, set()):
                if only_here := self._unknown_to_source(batch):
                    self._check(only_here)
        if self._settling is not None:
            self._report(self._settling.settle(all_of_them=True))

    def _size(self) -> int:
        side = self._pair.source
        return side.number(side.ask("DBSIZE"), "DBSIZE")

    def _batches(self, side: Side, own: set[bytes]) -> Iterator[list[bytes]]:
        """The user's keys of one side, `batch_keys` at a time; the product's own go to `own`."""
        waiting: dict[bytes, None] = {}
        for page in side.client.scan(count=self._batch_keys):
            self._run.walked += len(page)
            for key in page:
                if key.startswith(OWN_PREFIX):
                    own.add(key)
                elif self._wants(key):
                    waiting[key] = None
            if len(waiting) >= self._batch_keys:
                yield list(waiting)
                waiting = {}
            elif not waiting:
                self._run.tick()  # a small sample of many keys: there is no other round trip
        if waiting:
            yield list(waiting)

    def _check(self, keys: list[bytes]) -> None:
        """Report what differs now and still differs on a second look; or have it looked at for longer."""
        self._run.throttle.took(len(keys), 0, time.monotonic())
        suspects = _keys(self._comparer.findings(keys))
        lasting = self._comparer.findings(suspects) if suspects else []
        settling = self._settling
        if settling is None:
            self._report(lasting)
            return
        settling.add([(key, finding) for key, finding in lasting if key not in self._reported])
        self._report(settling.look())
        if settling.full:
            self._report(settling.settle(all_of_them=False))

    def _report(self, found: Found) -> None:
        fresh = {key: findings for key, findings in together(found).items() if key not in self._reported}
        if self._tally.differences < _PREVIEWED:
            fresh = self._with_values(fresh)
        for key, finding in ((key, finding) for key, findings in fresh.items() for finding in findings):
            self._tally.databases[self._number] += finding.kind is Kind.EXTRA
            self._run.differs(
                Difference(
                    self._number,
                    key,
                    finding.kind,
                    finding.source,
                    finding.target,
                    finding.detail,
                    finding.aspect,
                    finding.type,
                )
            )
        self._reported.update(_keys(found)[: _REMEMBERED - len(self._reported)])

    def _with_values(self, found: dict[bytes, tuple[Finding, ...]]) -> dict[bytes, tuple[Finding, ...]]:
        """Where a side has something else altogether: what it has."""
        made = {key: list(findings) for key, findings in found.items()}
        for side, name in ((self._pair.source, "source"), (self._pair.target, "target")):
            shown = [
                (key, place, getattr(finding, name))
                for key, findings in made.items()
                for place, finding in enumerate(findings)
                if finding.kind in _ALTOGETHER and getattr(finding, name) != "absent"
            ]
            texts = previews(side, [(key, kind) for key, _, kind in shown])
            for (key, place, _), text in zip(shown, texts, strict=True):
                finding = made[key][place]
                made[key][place] = (
                    replace(finding, source=text) if name == "source" else replace(finding, target=text)
                )
        return {key: tuple(findings) for key, findings in made.items()}

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
