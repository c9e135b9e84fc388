"""A writer that goes on changing a server while it is migrated, and knows exactly what it has written.

``python -m migrations_app.demo.writer redis://127.0.0.1:6379 --seconds 60 --rate 2000``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Self, cast

import redis

from .audit import AuditExpected, Auditor, check_audit, check_invariant, invariant_steps
from .clients import Capabilities, Command, DemoError, Pipe, Source, factory_for
from .operations import Context, available, setup

__all__ = ["Writer", "WriterError", "check_audit", "check_invariant", "main"]

DATABASES = (0, 1, 3, 9, 15)
DEMO_RATE = 2000
"""Commands per second in the demo: enough to be seen, little enough for a laptop."""
BATCH = 24
"""Operations (of one to some commands) that are sent in one piece."""
SAMPLE = 20_000
"""Keys per database among which the writer looks for sample data to change."""
RETRY_S = 0.2


class WriterError(DemoError):
    """The writer cannot say what it has written."""


class Writer:
    """Writes a random mix of commands from a thread, one connection per database.

    ``rate`` is in commands per second over all databases, None for as quick as it goes. Everything in the mix
    is known to the server; a refusal is counted in ``errors``. A connection that breaks is made anew, and the
    audit counts are then read back from the server, so that they are exact again. ``flush_database`` names a
    scratch database that is emptied now and then and therefore has no audit.

    Figures, all readable while it runs: ``commands`` acknowledged, ``errors`` replies, ``reconnects``,
    ``by_command``, ``messages`` (the error replies).
    """

    def __init__(
        self,
        source: Source,
        *,
        seed: int = 1,
        rate: float | None = None,
        databases: Sequence[int] = DATABASES,
        flush_database: int | None = None,
        shortest_ttl_s: int = 120,
    ) -> None:
        self._client_of = factory_for(source)
        self._random = Random(seed)
        self._rate = rate
        self._databases = tuple(databases)
        self._flush_database = flush_database
        self._shortest_ttl_s = shortest_ttl_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._stale: set[int] = set()
        self._contexts: dict[int, Context] = {}
        self._auditors: dict[int, Auditor] = {}
        self._failure: Exception | None = None
        self.commands = 0
        self.errors = 0
        self.reconnects = 0
        self.by_command: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Connect, prepare, and start to write. Raises `redis.RedisError` or `DemoError` if that is not
        possible."""
        if self._thread:
            raise WriterError("The writer has been started already.")
        caps = Capabilities.of(self._client_of(self._databases[0]))
        self._pipes = {db: Pipe(self._client_of(db)) for db in self._databases}
        for db in self._databases:
            self._contexts[db] = Context(
                self._random, caps, db, self._databases, shortest_ttl_s=self._shortest_ttl_s
            )
            if db != self._flush_database:
                self._auditors[db] = Auditor(caps, self._random)
        self._operations, self._weights = available(caps)
        for db in self._databases:
            self._look_around(db)
            self._prepare(db)
        self._thread = threading.Thread(target=self._run, name="demo-writer", daemon=True)
        self._thread.start()
        return self

    def stop(self, timeout: float = 90.0) -> AuditExpected:
        """Stop; when this returns, every write has been acknowledged and no more will come. Returns
        `expected`.

        Raises `WriterError` if the writer does not end within ``timeout`` seconds, has failed, or has lost
        its server and cannot read back what was applied.
        """
        self._stop.set()
        if self._thread:
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise WriterError(f"The writer has not stopped within {timeout:g} s.")
        if self._failure:
            raise WriterError(f"The writer failed: {self._failure}") from self._failure
        for db in sorted(self._stale):
            try:
                self._read_back(db)
            except (redis.RedisError, OSError, DemoError) as error:
                raise WriterError(f"What was applied in database {db} is not known: {error}") from error
        return self.expected

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        return bool(self._thread and self._thread.is_alive())

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    @property
    def expected(self) -> AuditExpected:
        """What the audit keys must hold, exact once the writer has stopped."""
        return {db: dict(auditor.counts) for db, auditor in self._auditors.items()}

    def _run(self) -> None:
        began, done = time.monotonic(), 0
        shares = [3.0 if position == 0 else 1.0 for position in range(len(self._databases))]
        try:
            while not self._stop.is_set():
                db = self._random.choices(self._databases, shares)[0]
                try:
                    if db in self._stale:
                        self._prepare(db)
                    done += self._send(db)
                except (redis.ConnectionError, redis.TimeoutError, OSError):
                    self._stale.add(db)
                    self.reconnects += 1
                    self._stop.wait(RETRY_S)
                except DemoError as error:
                    # Refused while it takes up again: no writes are allowed at present, or it still loads its
                    # data.
                    self.errors += 1
                    self.messages[str(error)[:200]] += 1
                    self._stop.wait(RETRY_S)
                if self._rate:
                    ahead = done / self._rate - (time.monotonic() - began)
                    if ahead > 0:
                        self._stop.wait(ahead)
                    elif ahead < -1:
                        # What a stalled server has kept back is not made up for by a burst.
                        began, done = time.monotonic(), 0
        except Exception as error:  # noqa: BLE001 - told by stop(), in the caller's thread
            self._failure = error

    def _send(self, db: int) -> int:
        batch = self._batch(db)
        # Until the replies are in, nobody knows which steps of the audit were applied.
        self._stale.add(db)
        replies = self._pipes[db].ask(batch)
        refused = 0
        for command, reply in zip(batch, replies, strict=True):
            for part in reply if isinstance(reply, list) else (reply,):
                if isinstance(part, Exception):
                    refused += 1
                    self.messages[f"{command[0]!s}: {part}"[:200]] += 1
        self.by_command.update(str(command[0]) for command in batch)
        self.commands += len(batch)
        self.errors += refused
        if not refused:
            self._stale.discard(db)
        return len(batch)

    def _batch(self, db: int) -> list[Command]:
        context, random = self._contexts[db], self._random
        commands: list[Command] = []
        size = BATCH if not self._rate else max(1, min(BATCH, int(self._rate / 50)))
        for operation in random.choices(self._operations, cum_weights=self._weights, k=size):
            commands += operation(context)
            chance = random.random()
            if chance < 0.15 and db in self._auditors:
                commands += self._auditors[db].steps()
            elif chance < 0.25 and db in self._auditors:
                commands += invariant_steps(random)
        if db == self._flush_database and random.random() < 0.02:
            commands += [("FLUSHDB",), *setup(context.caps)]
        return commands

    def _prepare(self, db: int) -> None:
        """Make what the operations need, and take the audit counts from the server."""
        context, pipe = self._contexts[db], self._pipes[db]
        steps = setup(context.caps)
        sample = "live:sample"
        steps += [("DEL", sample), ("RPUSH", sample, *range(30), "end"), ("DUMP", sample)]
        replies = pipe.ask(steps)
        for step, reply in zip(steps, replies, strict=True):
            if isinstance(reply, Exception) and not str(reply).startswith("BUSYGROUP"):
                raise DemoError(f"The server refused {step[0]!s} {step[1]!s}: {reply}")
        context.script_digest, context.payload = replies[0], replies[-1]
        self._read_back(db)

    def _read_back(self, db: int) -> None:
        if db in self._auditors:
            self._auditors[db].read_back(self._pipes[db])
        self._stale.discard(db)

    def _look_around(self, db: int) -> None:
        """Find keys of the sample data, so that they are changed too."""
        client, known, seen, cursor = self._client_of(db), self._contexts[db].known, 0, 0
        while seen < SAMPLE:
            cursor, names = cast("tuple[int, list[bytes]]", client.scan(cursor, count=2000))
            seen += len(names)
            for name in names:
                word, colon, _ = name.partition(b":")
                if colon and len(word) < 20:
                    known.setdefault(word.decode("latin-1"), []).append(name)
            if cursor == 0:
                break
        for reserved in ("corner", "archive", "live", "audit", "invariant", "switchyard"):
            known.pop(reserved, None)

    def as_dict(self) -> dict[str, Any]:
        """Figures for people and for JSON."""
        return {
            "commands": self.commands,
            "errors": self.errors,
            "reconnects": self.reconnects,
            "by_command": dict(self.by_command.most_common()),
            "messages": dict(self.messages.most_common(20)),
        }


def _say(text: str, *, error: bool = False) -> None:
    (sys.stderr if error else sys.stdout).write(f"{text}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit codes: 0 done, 1 failed, 2 bad usage. SIGTERM and Ctrl-C stop it cleanly."""
    parser = argparse.ArgumentParser(
        prog="python -m migrations_app.demo.writer", description="Go on changing a server until told to stop."
    )
    parser.add_argument("url", help="redis://, rediss:// or unix:// address")
    parser.add_argument("--seconds", type=float, help="stop after this time (default: at Ctrl-C)")
    parser.add_argument(
        "--rate", type=float, default=DEMO_RATE, help="commands/s, 0: no limit (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--db", default=",".join(map(str, DATABASES)), help="databases (default %(default)s)")
    parser.add_argument(
        "--expect", type=Path, metavar="FILE", help="write down what the audit keys must hold (JSON)"
    )
    parser.add_argument("--json", action="store_true", help="the figures as a line of JSON")
    options = parser.parse_args(arguments)
    if options.rate < 0 or (options.seconds is not None and options.seconds < 0):
        parser.error("--rate and --seconds cannot be negative")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        databases = [int(db) for db in options.db.split(",")]
        writer = Writer(
            options.url, seed=options.seed, rate=options.rate or None, databases=databases
        ).start()
        began = time.monotonic()
        until = began + (options.seconds if options.seconds is not None else float("inf"))
        while writer.running and time.monotonic() < until and not stopped.is_set():
            stopped.wait(min(0.2, until - time.monotonic()))
        expected = writer.stop()
    except ValueError as error:
        parser.error(str(error))
    except (DemoError, redis.RedisError, OSError) as error:
        _say(f"The writer failed: {error}", error=True)
        return 1
    if options.expect:
        options.expect.write_text(json.dumps(expected))
    seconds = time.monotonic() - began
    if options.json:
        _say(json.dumps(writer.as_dict()))
    else:
        _say(
            f"{writer.commands} commands in {seconds:.1f} s, {writer.errors} errors, "
            f"{writer.reconnects} reconnects"
        )
        for message, count in writer.messages.most_common(5):
            _say(f"  {count} × {message}", error=True)
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
