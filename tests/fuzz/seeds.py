"""What the fuzzer starts from: real input of servers and of hand-built values, as files in a folder for each entry point."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

from tests.engine import build, fuzzing
from tests.engine import test_fuzz_snapshot as snapshots
from tests.engine import test_fuzz_stream as streams
from tests.engine.conftest import QUICK
from tests.engine.fuzzing import RESP_HOSTILE, SNAPSHOT_HOSTILE, Value
from tests.support.catalogue import find
from tests.support.servers import Server

from .entries import ENTRIES

VERSIONS = ["redis-3.2", "redis-6.2", "redis-7.4", "redis-8.6", "valkey-9"]
_ALIKE = 2  # values of one type and about one size
_WORD = 60  # bytes of a word of the fuzzer's dictionary at most: it takes 64


def write(folder: Path, versions: Iterable[str]) -> list[str]:
    """Inputs of these servers, one after the other started for it; the ones that are not there are given back."""
    missing = []
    known: Counter[tuple[int, bool, int]] = Counter()
    for entry in ENTRIES:
        (folder / entry).mkdir(parents=True, exist_ok=True)
    for version in versions:
        if find(version) is None:
            missing.append(version)
            continue
        with Server(version, config=QUICK) as server:
            values, replies = fuzzing.values_of(server), fuzzing.replies_of(server)
            commands = fuzzing.commands_of(server)
        values = [value for value in values if _wanted(value, known)]
        for entry, data in (*of_values(values), *of_commands(commands), *of_replies(replies)):
            _put(folder / entry, data)
    for entry, data in (*of_hand(), *of_handshakes()):
        _put(folder / entry, data)
    return missing


def _wanted(value: Value, known: Counter[tuple[int, bool, int]]) -> bool:
    """Servers write most values alike; the fuzzer has to read all of its seeds before it begins."""
    alike = (value.kind, value.valkey, len(value.data).bit_length())
    known[alike] += 1
    return known[alike] <= _ALIKE


def _put(folder: Path, data: bytes) -> None:
    (folder / hashlib.sha256(data).hexdigest()[:20]).write_bytes(data)


def of_values(values: list[Value]) -> Iterator[tuple[str, bytes]]:
    """Each value by itself, and snapshots of some with all that may stand before a key."""
    random = Random(len(values))
    extras = ["", "idle", "frequency", "database", "other database", "seconds", "own", "packed key"]
    for number, value in enumerate(values):
        yield "value", bytes((number % 256, number % 8, value.kind)) + value.data
        chosen = [
            (place, random.choice([None, 5, fuzzing.NOW + 100_000]), random.choice(extras))
            for place in (number, random.randrange(len(values)))
        ]
        # Without a checksum: with one, hardly any change of the fuzzer's would be looked at to the end.
        data = snapshots.assemble(values, chosen, checksum=False)
        yield "snapshot", bytes((random.randrange(256), number % 8)) + data


def of_hand() -> Iterator[tuple[str, bytes]]:
    for valkey in (False, True):
        yield from of_values(snapshots.built_beside([Value(0, build.string(b"v"), valkey)]))


def of_commands(commands: list[bytes]) -> Iterator[tuple[str, bytes]]:
    for number in range(0, len(commands), 8):
        data = b"".join((*commands[number : number + 8], streams.OWN[number // 8 % len(streams.OWN)]))
        yield "stream", bytes((number // 8 % 256, number // 8 % 8)) + data


def of_handshakes() -> Iterator[tuple[str, bytes]]:
    for number, data in enumerate(streams.HANDSHAKES):
        for choice in (3, 131):  # PSYNC and SYNC, with the body's length
            yield "handshake", bytes((choice, number % 8)) + data


def of_replies(replies: list[bytes]) -> Iterator[tuple[str, bytes]]:
    for number, data in enumerate(replies):
        yield "replies", bytes((0, number % 8)) + data


def dictionary(entry: str) -> str:
    """Words that the fuzzer puts in, in libFuzzer's form."""
    words = {
        "snapshot": SNAPSHOT_HOSTILE,
        "value": SNAPSHOT_HOSTILE,
        "handshake": streams.HANDSHAKE_HOSTILE,
    }.get(entry, RESP_HOSTILE)
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in words if 0 < len(word) <= _WORD)
    return "".join(f'"{word}"\n' for word in escaped)
