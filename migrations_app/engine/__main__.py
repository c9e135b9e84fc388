"""The engine from the command line, without Django: `run` one link, `verify` two servers.

Progress goes to standard error; with `--json`, one line with the result goes to standard output. Exit codes: 0 done, 1 failed, 2 bad
usage, 3 differences.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from migrations_app.engine import kernel
from migrations_app.engine.choice import GROUPS, CommandChoice
from migrations_app.engine.config import SPOOL_LIMIT, Conflict, LinkConfig, Method, Notifications, Phases
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import EngineError, UsageError
from migrations_app.engine.keyfilter import KeyFilter
from migrations_app.engine.link import run_link
from migrations_app.engine.ports import Level, Phase, Progress, Wanted
from migrations_app.engine.rate import CLASSES, UNLIMITED, Rate, RateFile, records_of
from migrations_app.engine.units import size_of
from migrations_app.engine.verify import VerifyProgress, verify
from migrations_app.engine.verify.report import as_dict, as_text

DONE, FAILED, USAGE, DIFFERENCES = 0, 1, 2, 3


class _Stop:
    """Set by SIGTERM and SIGINT; the second one ends the process at once."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.asked = True


class _Terminal:
    """The ports of a link that runs in a terminal or under a script: lines on standard error."""

    def __init__(self, stop: _Stop, rate: Rate | RateFile = UNLIMITED) -> None:
        self._stop = stop
        self._rate = rate
        self._last = 0.0
        self._phase: Phase | None = None

    def wanted(self) -> Wanted:
        return Wanted.STOP if self._stop.asked else Wanted.RUN

    def rate(self) -> Rate:
        given = self._rate
        if isinstance(given, Rate):
            return given
        try:
            if given.changed():
                self.log(Level.INFO, "rate.changed", f"the rate is {given.rate}")
        except UsageError as error:
            self.log(Level.WARNING, "rate.unreadable", f"{error.message}; the rate stays {given.rate}")
        return given.rate

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.phase is self._phase and now - self._last < 2.0:
            return
        self._last, self._phase = now, progress.phase
        _say(_line(progress))

    def log(self, level: Level, event: str, message: str, **fields: Any) -> None:
        details = "".join(f" {name}={value}" for name, value in fields.items())
        _say(f"{level.value}: {message}{details} [{event}]")


def _line(progress: Progress) -> str:
    parts = [progress.phase.value]
    if progress.phase is Phase.FULL:
        if progress.percent is not None:
            parts.append(f"{progress.percent:.1f} %")
        parts.append(f"{progress.keys_done} keys, {progress.keys_per_second:.0f}/s")
    if progress.phase is Phase.INCREMENTAL:
        parts.append(f"{progress.commands} commands, {progress.commands_per_second:.0f}/s")
        if progress.lag_bytes is not None and progress.lag_seconds is not None:
            parts.append(f"lag {progress.lag_bytes} bytes, {progress.lag_seconds:.1f} s")
        elif progress.lag_seconds is not None:
            parts.append(f"lag {progress.lag_seconds:.1f} s")
        if progress.latency_ms is not None:
            parts.append(f"latency {progress.latency_ms} ms")
    parts.append(f"{progress.bytes_in / 2**20:.1f} MB received")
    if progress.spool_bytes:
        parts.append(f"{progress.spool_bytes / 2**20:.1f} MB of it in the spool")
    return " · ".join(parts)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _say(f"{self.prog}: {message}")
        _say(f"{self.prog} --help tells more; nothing was changed")
        sys.exit(USAGE)


def _parser() -> argparse.ArgumentParser:
    urls = (
        "redis://[user][:password]@host:port, rediss://… (TLS; ?ca_file=PATH, ?verify=no, ?server_name=NAME), unix:///path,\n"
        "sentinel://[user][:password]@host:port,host:port/master-name (?sentinel_user=NAME, ?sentinel_password=WORD) or\n"
        "sentinels://… (TLS)"
    )
    source = "SOURCE may also be a snapshot file, rdb:///path/to/dump.rdb (--phases full), or any node of a cluster"
    parser = _Parser(
        prog="python -m migrations_app.engine",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"switchyard engine, {kernel.DESCRIPTION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="run | verify")

    run = commands.add_parser(
        "run",
        help="copy a source to a target, and follow it",
        description=f"SOURCE and TARGET: {urls}\n{source}",
    )
    run.add_argument("source", metavar="SOURCE")
    run.add_argument("target", metavar="TARGET")
    run.add_argument(
        "--phases",
        choices=[phases.value for phases in Phases],
        help="full+incremental; of a snapshot file: full",
    )
    run.add_argument(
        "--method",
        choices=[method.value for method in Method],
        default=Method.PSYNC.value,
        help="how the source is read: psync; sync, where PSYNC is refused (cannot go on after a lost "
        "connection);\nscan, by its keys, where replication is refused",
    )
    run.add_argument(
        "--notifications",
        choices=[wish.value for wish in Notifications],
        default=Notifications.CHECK.value,
        help="of a scan that follows: check that the source sends keyspace notifications; enable them while it runs;\n"
        "assume that they are on, where the source does not tell",
    )
    run.add_argument(
        "--link",
        metavar="NAME",
        default="default",
        help="a run with the same name goes on where the last one stopped",
    )
    run.add_argument(
        "--stop-when-caught-up", action="store_true", help="end when the target has caught up with the source"
    )
    run.add_argument(
        "--allow-full-resync",
        action="store_true",
        help="start the full phase again when nothing else is possible",
    )
    run.add_argument(
        "--retry-minutes",
        type=_minutes,
        default=120.0,
        metavar="N",
        help="how long a lost side is tried again (120)",
    )
    run.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="after which a side that does not answer is lost (60)",
    )
    run.add_argument(
        "--heartbeat",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="write a key of the link's own to the source so often, to measure the latency (0: never)",
    )
    run.add_argument(
        "--on-conflict",
        choices=[policy.value for policy in Conflict],
        default=Conflict.FAIL.value,
        help="keys that the target has already: fail before the first write, keep or overwrite them (fail)",
    )
    run.add_argument(
        "--commands",
        action="append",
        default=[],
        metavar="[DB:]SET,@hash",
        help="apply only these commands and groups of the stream (of one database: DB:)",
    )
    run.add_argument(
        "--without-commands",
        action="append",
        default=[],
        metavar="[DB:]DEL,@pubsub",
        help="leave these out\n" + f"groups: @{', @'.join(GROUPS)}",
    )
    _add_flow(run)

    check = commands.add_parser(
        "verify", help="compare two servers by value", description=f"SOURCE and TARGET: {urls}"
    )
    check.add_argument("source", metavar="SOURCE")
    check.add_argument("target", metavar="TARGET")
    for command in (run, check):
        command.add_argument("--db", type=_databases, metavar="0,3", help="databases (all)")
        for option, example, meaning in (
            ("--include-prefix", "user:", "keys that begin so"),
            ("--include-pattern", "'order:*:paid'", "keys that fit a pattern of KEYS"),
            ("--exclude-prefix", "tmp:", "but not these"),
            ("--exclude-pattern", "'*:cache'", "but not these"),
        ):
            command.add_argument(
                option,
                action="append",
                default=[],
                type=os.fsencode,
                metavar=example,
                help=f"{meaning}; may come several times",
            )
        command.add_argument(
            "--json", action="store_true", help="one line with the result on standard output"
        )
    return parser


def _add_flow(run: argparse.ArgumentParser) -> None:
    """Options of the spool and of the speed."""
    run.add_argument(
        "--spool-dir",
        metavar="DIR",
        help="where to keep what the source sends while the target does not keep up (TMPDIR or /var/tmp)",
    )
    run.add_argument(
        "--spool-limit",
        type=_size,
        default=SPOOL_LIMIT,
        metavar="SIZE",
        help="how much of it at most; 0 for none (4GB)",
    )
    run.add_argument(
        "--class",
        dest="speed_class",
        choices=CLASSES,
        default="unlimited",
        help="how fast the link may work, in records per second: "
        + ", ".join(
            f"{name} {rate.records_per_second:.0f}"
            for name, rate in CLASSES.items()
            if rate.records_per_second
        ),
    )
    run.add_argument(
        "--rate-records", type=_records, metavar="N", help="at most N keys or commands per second"
    )
    run.add_argument(
        "--rate-bytes", type=_size, metavar="SIZE", help="at most so much per second, as the source sends it"
    )
    run.add_argument(
        "--rate-file",
        metavar="PATH",
        help="a file with lines class=NAME, records=N, bytes=SIZE; it counts alone and is read again when it changes",
    )


def _databases(text: str) -> frozenset[int]:
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of databases like 0,3")
    return frozenset(int(part) for part in parts)


def _keys(args: argparse.Namespace) -> KeyFilter:
    return KeyFilter(
        tuple(args.include_prefix),
        tuple(args.include_pattern),
        tuple(args.exclude_prefix),
        tuple(args.exclude_pattern),
    )


def _choices(only: Sequence[str], without: Sequence[str]) -> dict[int | None, CommandChoice]:
    """By database, from words like `SET,@hash` and `3:DEL`; what is said of a database replaces what is said of all."""
    chosen, left_out = _by_database(only), _by_database(without)
    return {
        database: CommandChoice(chosen.get(database), left_out.get(database, frozenset()))
        for database in chosen | left_out
    }


def _by_database(lists: Sequence[str]) -> dict[int | None, frozenset[str]]:
    found: dict[int | None, frozenset[str]] = {}
    for text in lists:
        before, colon, names = text.rpartition(":")
        if colon and not before.isdigit():
            raise UsageError(f"{text!r}: a number of a database stands before the colon; nothing was changed")
        database = int(before) if colon else None
        words = {name.strip() for name in names.split(",")}
        found[database] = found.get(database, frozenset()) | words
    return found


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 <= minutes < float("inf"):  # not a number is neither
        raise argparse.ArgumentTypeError(f"{text!r} is no time in minutes")
    return minutes


def _size(text: str) -> int:
    try:
        return size_of(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(error.message) from None


def _records(text: str) -> float:
    try:
        return records_of(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(error.message) from None


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    stop = _Stop()
    try:
        return _run(args, stop) if args.command == "run" else _verify(args, stop)
    except EngineError as error:
        _say(f"error: {error.message} [{error.id}]")
        _say(f"what to do: {error.advice}")
        if args.json:
            print(
                json.dumps(
                    {"outcome": "failed", "error": error.id, "message": error.message, "advice": error.advice}
                )
            )
        return USAGE if isinstance(error, UsageError) else FAILED


def _run(args: argparse.Namespace, stop: _Stop) -> int:
    source = Endpoint.parse(args.source)
    config = LinkConfig(
        name=args.link,
        source=source,
        target=Endpoint.parse(args.target),
        phases=Phases(args.phases or (Phases.FULL if source.file else Phases.FULL_INCREMENTAL)),
        method=Method(args.method),
        notifications=Notifications(args.notifications),
        databases=args.db,
        stop_when_caught_up=args.stop_when_caught_up,
        retry_seconds=args.retry_minutes * 60,
        allow_full_resync=args.allow_full_resync,
        keys=_keys(args),
        commands=_choices(args.commands, args.without_commands),
        timeout=args.timeout,
        heartbeat_seconds=args.heartbeat,
        conflict=Conflict(args.on_conflict),
        spool_folder=args.spool_dir,
        spool_limit=args.spool_limit,
    )
    result = run_link(config, _Terminal(stop, _rate(args)))
    progress = result.progress
    _say(
        f"{result.outcome.value}: {progress.keys_done} keys, {progress.commands} commands; full synchronizations "
        f"{progress.full_syncs}, partial {progress.partial_syncs}, reconnects {progress.reconnects}"
    )
    if args.json:
        print(json.dumps({"outcome": result.outcome.value, **dataclasses.asdict(progress)}))
    return DONE


def _rate(args: argparse.Namespace) -> Rate | RateFile:
    if args.rate_file is not None:
        return RateFile(args.rate_file)
    given = CLASSES[args.speed_class]
    return Rate(
        given.records_per_second if args.rate_records is None else args.rate_records,
        given.bytes_per_second if args.rate_bytes is None else args.rate_bytes,
    )


def _verify(args: argparse.Namespace, stop: _Stop) -> int:
    last = 0.0

    def tell(progress: VerifyProgress) -> None:
        nonlocal last
        if time.monotonic() - last >= 2.0:
            last = time.monotonic()
            _say(
                f"verifying · {progress.keys_done} of {progress.keys_total} keys · {progress.differences} differences"
            )

    report = verify(
        Endpoint.parse(args.source),
        Endpoint.parse(args.target),
        databases=args.db,
        keys=_keys(args),
        on_progress=tell,
        should_stop=lambda: stop.asked,
    )
    _say(as_text(report))
    if args.json:
        print(json.dumps(as_dict(report)))
    if not report.complete:
        return FAILED
    return DIFFERENCES if report.differences else DONE


if __name__ == "__main__":
    sys.exit(main())
