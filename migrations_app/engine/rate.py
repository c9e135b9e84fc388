"""How fast a link may work: limits, their classes, and the clock that keeps them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from migrations_app.engine.errors import UsageError
from migrations_app.engine.units import size_of

_BURST = 0.05  # seconds of unused time that may be made up for
_BLOCK_SECONDS = 0.05  # what one block should take of the time
_BLOCK = (
    16 * 1024
)  # the most that is taken at once where records are limited: how many are in it shows only afterwards
_SMALLEST_BLOCK = 32
_RECORD_BYTES = 16.0  # of a record, until some were seen


@dataclass(frozen=True, slots=True)
class Rate:
    """Keys of the snapshot and commands of the stream per second, and bytes of both as the source sends them; None: no limit."""

    records_per_second: float | None = None
    bytes_per_second: float | None = None

    def __post_init__(self) -> None:
        for value in (self.records_per_second, self.bytes_per_second):
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{value:g} is no rate: it must be more than 0")

    def __str__(self) -> str:
        parts = []
        if self.records_per_second:
            parts.append(f"{self.records_per_second:g} records/s")
        if self.bytes_per_second:
            parts.append(f"{self.bytes_per_second:.0f} bytes/s")
        return " and ".join(parts) or "unlimited"


UNLIMITED: Final = Rate()
CLASSES: Final[Mapping[str, Rate]] = {
    "small": Rate(2000),
    "medium": Rate(5000),
    "large": Rate(6000),
    "xlarge": Rate(7000),
    "2xlarge": Rate(11000),
    "unlimited": UNLIMITED,
}


def class_of(name: str) -> Rate:
    """The rate of a class, or `UsageError`."""
    if name not in CLASSES:
        raise UsageError(f"{name!r} is no class; there are {', '.join(CLASSES)}")
    return CLASSES[name]


def parse_rate(text: str) -> Rate:
    """Lines `class=NAME`, `records=N`, `bytes=N[KB|MB|GB]`; empty ones and those from `#` on are skipped. `UsageError` for any other.

    `records` and `bytes` go over those of the class.
    """
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = (part.strip() for part in line.partition("#")[0].partition("="))
        if not name and not equals:
            continue
        if name not in {"class", "records", "bytes"} or not value or name in values:
            raise UsageError(
                f"{line.strip()[:80]!r} is no limit: write class=NAME, records=N or bytes=N, each once"
            )
        values[name] = value
    given = class_of(values["class"]) if "class" in values else UNLIMITED
    records = records_of(values["records"]) if "records" in values else given.records_per_second
    return Rate(records, size_of(values["bytes"]) if "bytes" in values else given.bytes_per_second)


def records_of(text: str) -> float:
    """A number of records per second, or `UsageError`."""
    try:
        return Rate(float(text)).records_per_second or 0.0
    except ValueError:
        raise UsageError(f"{text!r} is no number of records per second") from None


class RateFile:
    """A rate that is kept in a file, which may change at any time."""

    def __init__(self, path: str) -> None:
        """Raises `UsageError` for a file that cannot be read, or that holds no rate."""
        self._path = path
        self._seen = self._state()
        self.rate = self._read()

    def changed(self) -> bool:
        """Read the file again if it is another one; whether it was. `UsageError` leaves the rate as it is, once for each change."""
        state = self._state()
        if state == self._seen:
            return False
        self._seen = state
        self.rate = self._read()
        return True

    def _state(self) -> tuple[int, ...]:
        try:
            facts = os.stat(self._path)
        except OSError:
            return ()
        return (facts.st_mtime_ns, facts.st_size, facts.st_ino)

    def _read(self) -> Rate:
        try:
            with open(self._path, encoding="utf-8") as file:
                text = file.read(65536)
        except (OSError, UnicodeError) as error:
            raise UsageError(f"{self._path}: {getattr(error, 'strerror', None) or error}") from None
        try:
            return parse_rate(text)
        except UsageError as error:
            raise UsageError(f"{self._path}: {error.message}") from None


class Throttle:
    """When the next block may be taken, and how large it may be. Times are monotonic, in seconds.

    A block is paid for after it was taken: `_due` is when all that was taken would have been taken at exactly the rate.
    """

    def __init__(self) -> None:
        self._rate = UNLIMITED
        self._costs: tuple[float, float] = (0.0, 0.0)  # seconds for each record, for each byte
        self._due = [0.0, 0.0]  # of the records, of the bytes
        self._record_bytes = _RECORD_BYTES

    def set(self, rate: Rate, now: float) -> None:
        """The rate from now on; what was taken already counts at the new rate, too."""
        if rate == self._rate:
            return
        before, self._rate = self._costs, rate
        self._costs = (
            1 / rate.records_per_second if rate.records_per_second else 0.0,
            1 / rate.bytes_per_second if rate.bytes_per_second else 0.0,
        )
        for index, (old, new) in enumerate(zip(before, self._costs, strict=True)):
            self._due[index] = now + max(0.0, self._due[index] - now) * (new / old if old else 0.0)

    def wait(self, now: float) -> float:
        """Seconds until the next block may be taken."""
        return max(0.0, max(self._due) - now)

    def block(self, most: int) -> int:
        """How many bytes to take at once."""
        for_record, for_byte = self._costs
        if for_record:
            most = min(most, _BLOCK, int(_BLOCK_SECONDS / for_record * self._record_bytes))
        if for_byte:
            most = min(most, int(_BLOCK_SECONDS / for_byte))
        return max(_SMALLEST_BLOCK, most) if for_record or for_byte else most

    def took(self, records: int, size: int, now: float) -> None:
        """So many records have ended in so many bytes."""
        if self._rate is UNLIMITED:
            return
        seen = size / records if records else self._record_bytes * 2
        # Small records may follow large ones at once: that must not be a burst.
        self._record_bytes = min(seen, self._record_bytes * 1.2) if records else min(seen, float(_BLOCK))
        for index, amount in enumerate((records, size)):
            if self._costs[index]:
                self._due[index] = max(self._due[index], now - _BURST) + amount * self._costs[index]
