"""The entry points: any bytes in; a result or an error of the engine, on both kernels alike, or an exception, which is a finding.

The first two bytes of an input say how the others are read (a plan, where they are cut), so that the fuzzer varies that, too.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from migrations_app.engine.protocol.psync import PsyncDecoder, SyncDecoder
from tests.engine import test_fuzz_snapshot as snapshots
from tests.engine import test_fuzz_stream as streams

HEAD = 2  # bytes
_PLANS = sorted(snapshots.PLANS)
_OPTIONS = sorted(streams.OPTIONS)
_TARGETS = [(3, 0), (5, 0), (6, 2), (7, 0)]


def _parts(data: bytes) -> tuple[int, list[int], bytes]:
    """(choice, where it is cut, the input itself); none for an input that has nothing behind its head."""
    choice, seed, body = data[0], data[1], data[HEAD:]
    random = Random(seed)
    return choice, [random.randrange(len(body) + 1) for _ in range(seed % 8)], body


def snapshot(data: bytes) -> None:
    choice, cuts, body = _parts(data)
    snapshots.judged(body, cuts, _PLANS[choice % len(_PLANS)])


def value(data: bytes) -> None:
    """The first byte behind the head is the type."""
    choice, cuts, body = _parts(data)
    snapshots.rewritten(body[0], body[1:], cuts, _TARGETS[choice % len(_TARGETS)])


def stream(data: bytes) -> None:
    choice, cuts, body = _parts(data)
    streams.judged_stream(body, cuts, _OPTIONS[choice // 2 % len(_OPTIONS)], ruled=choice % 2 == 1)


def handshake(data: bytes) -> None:
    choice, cuts, body = _parts(data)
    decoder = SyncDecoder if choice >= 128 else PsyncDecoder
    streams.judged_handshake(body, cuts, choice % 20 + 1, decoder)


def replies(data: bytes) -> None:
    _, cuts, body = _parts(data)
    streams.judged_replies(body, cuts)


ENTRIES: dict[str, Callable[[bytes], None]] = {
    "snapshot": snapshot,
    "value": value,
    "stream": stream,
    "handshake": handshake,
    "replies": replies,
}


def run(entry: str, data: bytes) -> None:
    """One input; nothing is made of one that is too short to say anything."""
    if len(data) > HEAD:
        ENTRIES[entry](data)
