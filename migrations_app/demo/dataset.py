"""Fill a Redis or Valkey server with a sample data set: every type, every encoding, large and small.

``python -m migrations_app.demo.dataset redis://127.0.0.1:6379 --keys 220000``
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

import redis

from . import corner_times, corners, population
from .clients import Capabilities, Command, DemoError, Pipe, Source, factory_for

DATABASES = (0, 1, 3, 9, 15)
SHARES = {0: 0.62, 1: 0.2, 3: 0.1, 9: 0.05, 15: 0.03}
"""How the bulk of the keys is spread; a database that is not named gets the share of the smallest."""

CHUNK = 1 << 20
SEED = 20
KEYS = 220_000
"""More than 200,000 stay after the minutes in which the shortest expiries pass."""


@dataclass
class DatasetSummary:
    """What a fill has made. ``keys`` and ``expires`` are per database, as INFO keyspace counts them;
    ``skipped`` says in words what the server does not have."""

    server: str
    keys: dict[int, int] = field(default_factory=dict)
    expires: dict[int, int] = field(default_factory=dict)
    commands: int = 0
    bytes_sent: int = 0
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)

    @property
    def total_keys(self) -> int:
        """Keys of all databases."""
        return sum(self.keys.values())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "total_keys": self.total_keys}


def fill(
    source: Source,
    *,
    keys: int = KEYS,
    seed: int = SEED,
    big_value_bytes: int = 64 * 2**20,
    large_elements: int = 100_000,
    databases: Sequence[int] = DATABASES,
    now_ms: int | None = None,
    flush: bool = False,
    progress: Callable[[int], None] | None = None,
) -> DatasetSummary:
    """Fill a server: ``keys`` keys altogether (or the corner cases alone, if those are more).

    The first of ``databases`` also gets the large keys: one string of ``big_value_bytes`` and a hash, list,
    set and sorted set (and stream) of ``large_elements`` each; 0 leaves them out. The same seed and
    ``now_ms`` (ms since 1970, default now) make the same data, up to what a server stamps itself.
    ``progress`` is called with the number of commands sent so far. The client's memory stays at some
    megabytes whatever the sizes.

    Raises `DemoError` if a database that would be filled is not empty (``flush`` empties it first) or if the
    server refuses a command, and `redis.RedisError` if it cannot be reached.
    """
    began = time.monotonic()
    client_of = factory_for(source)
    caps = Capabilities.of(client_of(databases[0]))
    summary = DatasetSummary(server=str(caps))
    usable = _usable(client_of, caps, databases, summary)
    for db in usable:
        _empty(client_of(db), db, flush=flush)
    moment = now_ms if now_ms is not None else int(time.time() * 1000)

    def run(db: int, made: Iterator[Command]) -> None:
        with Pipe(client_of(db)) as pipe:
            for number, command in enumerate(made):
                pipe.add(*command)
                if progress and number % 1000 == 0:
                    progress(summary.commands + pipe.sent)
            pipe.flush()
            summary.commands += pipe.sent
            summary.bytes_sent += pipe.sent_bytes

    def random(purpose: str, db: int) -> Random:
        return Random(f"{seed}:{purpose}:{db}")

    for db in usable:
        run(db, _corner_cases(random("corners", db), caps, db, moment))
    with _compressed_nodes(client_of(usable[0]), summary):
        for db in usable:
            run(db, corners.compressed_lists(random("compressed", db), db))
    with _plain_nodes(client_of(usable[0]), caps, summary):
        for db in usable:
            run(db, corners.packed_lists(random("packed", db), db))
    _functions(client_of(usable[0]), caps, summary)
    run(usable[0], _large(random("large", usable[0]), caps, usable[0], big_value_bytes, large_elements))
    made = {db: client_of(db).dbsize() for db in usable}
    for db, count in _spread(keys - sum(made.values()), usable).items():
        run(db, population.commands(population.Shop(random("population", db), caps, moment), count))
    for db in usable:
        figures = client_of(db).info("keyspace").get(f"db{db}", {})
        summary.keys[db] = figures.get("keys", 0)
        summary.expires[db] = figures.get("expires", 0)
    summary.seconds = time.monotonic() - began
    return summary


def _corner_cases(random: Random, caps: Capabilities, db: int, now_ms: int) -> Iterator[Command]:
    for kind in (corners.strings, corners.lists, corners.sets, corners.sorted_sets, corners.hashes):
        yield from kind(random, caps, db)
    for timed in (corner_times.expiries, corner_times.streams, corner_times.field_expiries):
        yield from timed(random, caps, db, now_ms)


def _large(random: Random, caps: Capabilities, db: int, value_bytes: int, elements: int) -> Iterator[Command]:
    """One key each that is large; sent in pieces, so that neither side ever needs it whole in a buffer."""
    for start in range(0, value_bytes, CHUNK):
        length = min(CHUNK, value_bytes - start)
        # Every other megabyte compresses.
        yield (
            "APPEND",
            "archive:2026:orders.tar",
            corners.text(length) if start // CHUNK % 2 else random.randbytes(length),
        )
    step = 500
    for start in range(0, elements, step):
        numbers = range(start, min(start + step, elements))
        yield (
            "HMSET",
            "archive:prices",
            *(part for n in numbers for part in (f"item:{n}", f"{n * 7 % 10007 / 100} in {db}")),
        )
        yield "RPUSH", "archive:journal", *(f"{n}: {population.ITEMS[n % 12]} sold" for n in numbers)
        yield "SADD", "archive:customers", *(f"customer:{population.token(n)}" for n in numbers)
        yield (
            "ZADD",
            "archive:ranking",
            *(part for n in numbers for part in (random.gauss(0, 1e4), f"customer:{n}")),
        )
        if caps.has("XADD"):
            for n in numbers[: step // 10]:
                yield (
                    "XADD",
                    "archive:audit",
                    f"{n + 1}-0",
                    "actor",
                    f"user:{n % 97}",
                    "action",
                    population.PAGES[n % 6],
                )


def _spread(keys: int, databases: Sequence[int]) -> dict[int, int]:
    shares = {db: SHARES.get(db, min(SHARES.values())) for db in databases}
    whole = sum(shares.values())
    counts = {db: int(max(keys, 0) * share / whole) for db, share in shares.items()}
    counts[databases[0]] += max(keys, 0) - sum(counts.values())
    return counts


def _usable(
    client_of: Callable[[int], redis.Redis],
    caps: Capabilities,
    databases: Sequence[int],
    summary: DatasetSummary,
) -> list[int]:
    """The databases that the server has. Raises `DemoError` if it has none of them."""
    usable = []
    for db in databases:
        try:
            client_of(db).ping()
        except redis.ResponseError:
            # Refused at SELECT: a cluster, or `databases` is set to fewer.
            summary.skipped.append(f"database {db}: the server has no such database")
        else:
            usable.append(db)
    if not usable:
        raise DemoError(f"The server has none of the databases {', '.join(map(str, databases))}.")
    return usable


def _empty(client: redis.Redis, db: int, *, flush: bool) -> None:
    if flush:
        client.flushdb()
    elif count := client.dbsize():
        raise DemoError(
            f"Database {db} already holds {count} keys. "
            "Choose an empty server, or let the fill empty it (--flush)."
        )


@contextlib.contextmanager
def _compressed_nodes(client: redis.Redis, summary: DatasetSummary) -> Iterator[None]:
    """Meanwhile ``list-compress-depth`` is 1: a list keeps the depth that it was born with."""
    name = "list-compress-depth"
    try:
        before = str(client.config_get(name)[name])
        client.config_set(name, 1)
    except (redis.ResponseError, KeyError) as error:
        summary.skipped.append(f"compressed list nodes: {name} cannot be set ({error})")
        yield
        return
    try:
        yield
    finally:
        client.config_set(name, before)


@contextlib.contextmanager
def _plain_nodes(client: redis.Redis, caps: Capabilities, summary: DatasetSummary) -> Iterator[None]:
    """Meanwhile list entries from 4 KB become plain nodes. Only servers that allow DEBUG can do that (7.0 and
    later)."""
    allowed = caps.at_least(7, 0) and _debug(client, "4096b")
    if caps.at_least(7, 0) and not allowed:
        summary.skipped.append(
            "plain list nodes smaller than the server's own threshold: DEBUG is not allowed"
        )
    try:
        yield
    finally:
        if allowed:
            _debug(client, "0")


def _debug(client: redis.Redis, threshold: str) -> bool:
    """Whether the server has let the threshold be set."""
    reply = Pipe(client).ask([("DEBUG", "QUICKLIST-PACKED-THRESHOLD", threshold)])[0]
    return not isinstance(reply, Exception)


def _functions(client: redis.Redis, caps: Capabilities, summary: DatasetSummary) -> None:
    try:
        with Pipe(client) as pipe:
            pipe.extend(corner_times.functions(caps))
    except DemoError as error:
        summary.skipped.append(f"functions: {error}")


def _say(text: str, *, error: bool = False) -> None:
    (sys.stderr if error else sys.stdout).write(f"{text}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit codes: 0 done, 1 failed, 2 bad usage."""
    parser = argparse.ArgumentParser(
        prog="python -m migrations_app.demo.dataset", description="Fill a server with sample data."
    )
    parser.add_argument("url", help="redis://, rediss:// or unix:// address of an empty server")
    parser.add_argument(
        "--keys", type=int, default=KEYS, help="how many keys altogether (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--big-value",
        type=int,
        default=64,
        metavar="MB",
        help="size of the largest string (default %(default)s MB)",
    )
    parser.add_argument("--flush", action="store_true", help="empty the databases first")
    options = parser.parse_args(arguments)
    if options.keys < 0 or options.big_value < 0:
        parser.error("--keys and --big-value cannot be negative")
    try:
        summary = fill(
            options.url,
            keys=options.keys,
            seed=options.seed,
            big_value_bytes=options.big_value * 2**20,
            flush=options.flush,
        )
    except ValueError as error:
        parser.error(str(error))
    except (DemoError, redis.RedisError, OSError) as error:
        _say(f"The fill failed: {error}", error=True)
        return 1
    for line in summary.skipped:
        _say(f"left out: {line}", error=True)
    per_database = ", ".join(f"db {db}: {count}" for db, count in summary.keys.items())
    _say(f"{summary.total_keys} keys on {summary.server} in {summary.seconds:.1f} s ({per_database})")
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
