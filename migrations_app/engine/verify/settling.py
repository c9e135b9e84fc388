"""Keys that differ while a link works: which of them are only on their way.

A key that differs is looked at again and again until it agrees, or until what differs in it has stayed the same for longer than the
link needs. For that the link must have applied everything that the source had written when the difference was first seen so, and
two seconds or twice the lag must have passed, with eight looks at uneven distances (a key that is written all the time could
otherwise be met in the same state twice). What is written so often that it neither agrees nor stays the same is `unsettled`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from migrations_app.engine.errors import EngineError
from migrations_app.engine.verify.keys import Found, KeyComparer
from migrations_app.engine.verify.model import CHANGED, Finding, Kind
from migrations_app.engine.verify.pair import Pair

LOOKS: Final = 8
STEADY_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = (
    60.0  # at the end, for keys that are written all the time; more where the lag is larger
)
MOST: Final = 10_000  # keys that wait at once
_PAUSE: Final = (0.2, 0.35)  # between two looks
_BATCH: Final = 256


class Follow(Protocol):
    """What is known of the link that writes to the target meanwhile."""

    def lag(self) -> float | None:
        """Seconds that it is behind at most; None: it does not follow just now, so nothing can be told yet."""

    def reached(self, offset: int) -> bool | None:
        """Whether it has applied the source's stream up to this offset; None: it does not count so (the lag decides)."""


@dataclass(slots=True)
class _Suspect:
    findings: tuple[Finding, ...]
    first: float
    since: float  # when it was first seen so
    offset: int | None  # of the source, then
    looks: int = 1


class Settling:
    """The waiting keys of the selected database. `pause` sleeps (and may raise `Stopped`)."""

    def __init__(
        self, pair: Pair, comparer: KeyComparer, follow: Follow, pause: Callable[[float], None]
    ) -> None:
        self._pair = pair
        self._comparer = comparer
        self._follow = follow
        self._pause = pause
        self._waiting: dict[bytes, _Suspect] = {}
        self._due = 0.0
        self._known = True  # the source tells its offset

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        return len(self._waiting) >= MOST

    def add(self, found: Found) -> None:
        """Keys with what differs in them now."""
        now, offset = time.monotonic(), self._offset()
        for key, findings in together(found).items():
            if key not in self._waiting:
                self._waiting[key] = _Suspect(findings, now, now, offset)

    def look(self) -> Found:
        """If it is time: look at all of them again. What is certain to differ, and is not waited for any more."""
        if not self._waiting or time.monotonic() < self._due:
            return []
        certain: Found = []
        keys = list(self._waiting)
        for start in range(0, len(keys), _BATCH):
            certain += self._look_at(keys[start : start + _BATCH])
        self._due = time.monotonic() + random.uniform(*_PAUSE)
        return certain

    def settle(self, *, all_of_them: bool) -> Found:
        """Wait until there is room again, or until nothing waits any more. What differs, the unsettled ones included."""
        certain: Found = []
        while self._waiting and (all_of_them or len(self._waiting) > MOST // 2):
            self._pause(max(0.0, self._due - time.monotonic()))
            certain += self.look()
            certain += self._given_up()
        return certain

    def _look_at(self, keys: Sequence[bytes]) -> Found:
        # Before the look: what the source holds now has been written up to here.
        lag, offset, now = self._follow.lag(), self._offset(), time.monotonic()
        found = together(self._comparer.findings(keys))
        certain: Found = []
        for key in keys:
            findings = found.get(key)
            suspect = self._waiting[key]
            if not findings:
                del self._waiting[key]
            elif not _same(findings, suspect.findings) or lag is None:
                self._waiting[key] = _Suspect(findings, suspect.first, now, offset)
            else:
                suspect.looks += 1
                if self._steady(suspect, lag, now):
                    certain += [(key, finding) for finding in findings]
                    del self._waiting[key]
        return certain

    def _steady(self, suspect: _Suspect, lag: float, now: float) -> bool:
        if suspect.looks < LOOKS or now - suspect.since < max(STEADY_SECONDS, 2 * lag):
            return False
        if suspect.offset is None:
            return True
        return self._follow.reached(suspect.offset) is not False

    def _given_up(self) -> Found:
        lag = self._follow.lag()
        if lag is None:
            return []  # its retry time decides how long that may be
        until = time.monotonic() - max(PATIENCE_SECONDS, 5 * lag)
        late = {key: suspect for key, suspect in self._waiting.items() if suspect.first < until}
        for key in late:
            del self._waiting[key]
        return [
            (key, _unsettled(finding)) for key, suspect in late.items() for finding in suspect.findings[:1]
        ]

    def _offset(self) -> int | None:
        """Of the source's stream, now; None where it does not tell (or is a cluster, which has one for each node)."""
        if not self._known or self._pair.source.cluster:
            return None
        try:
            fields = self._pair.source.client.info("replication")
            return int(fields.get("master_repl_offset", ""))
        except (EngineError, ValueError):
            self._known = False
            return None


def together(found: Found) -> dict[bytes, tuple[Finding, ...]]:
    """The findings of each key."""
    result: dict[bytes, tuple[Finding, ...]] = {}
    for key, finding in found:
        result[key] = (*result.get(key, ()), finding)
    return result


def _same(now: Sequence[Finding], before: Sequence[Finding]) -> bool:
    """Whether the same differs as before. A value that changed while it was read says nothing."""
    if any(finding.detail == CHANGED.detail for finding in now):
        return False
    return [_mark(finding) for finding in now] == [_mark(finding) for finding in before]


def _mark(finding: Finding) -> tuple[str, ...]:
    if finding.kind is Kind.TTL and "expires in" in finding.source + finding.target:
        # What is left gets less by itself: on servers before 7.0 nothing else is known.
        return (finding.kind, finding.source[:10], finding.target[:10])
    return (finding.kind, finding.source, finding.target, finding.detail)


def _unsettled(finding: Finding) -> Finding:
    detail = "written so often while it was compared that it cannot be told whether it differs"
    return Finding(finding.source, finding.target, detail, Kind.UNSETTLED, Kind.UNSETTLED.value, finding.type)
