"""Which encodings the corner cases really have on a server: proof that a test covers what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import cast

import redis

from .clients import Capabilities, Pipe
from .corners import PREFIX

Encodings = dict[str, dict[str, int]]
"""{type: {encoding: number of keys}}, in the words of TYPE and OBJECT ENCODING."""


def encodings(client: redis.Redis, *, prefix: bytes = PREFIX) -> Encodings:
    """Count the encodings of the keys of this client's database that begin with ``prefix``."""
    counts: dict[str, Counter[str]] = {}
    pipe = Pipe(client)
    for names in _batches(client, prefix):
        replies = pipe.ask(
            [question for name in names for question in (("TYPE", name), ("OBJECT", "ENCODING", name))]
        )
        for kind, encoding in zip(replies[::2], replies[1::2], strict=True):
            # A key that has expired in between has type none and no encoding.
            if isinstance(encoding, bytes):
                counts.setdefault(kind.decode(), Counter())[encoding.decode()] += 1
    return {kind: dict(sorted(found.items())) for kind, found in sorted(counts.items())}


def expected_encodings(caps: Capabilities) -> dict[str, frozenset[str]]:
    """The encodings that a server of this version has for data of its default settings."""
    packed = "listpack" if caps.at_least(7, 0) else "ziplist"
    newer = {"listpack"} if caps.at_least(7, 2) else set()
    expected = {
        "string": {"int", "embstr", "raw"},
        "list": {"quicklist"} | newer,
        "set": {"intset", "hashtable"} | newer,
        "zset": {packed, "skiplist"},
        "hash": {packed, "hashtable"},
    }
    if caps.has("XADD"):
        # 5.0 has no word for it.
        expected["stream"] = {"stream"} if caps.at_least(6, 0) else {"unknown"}
    if caps.product == "redis" and caps.has("HEXPIRE"):
        # Valkey turns a hash with field expiries into a hashtable.
        expected["hash"].add("listpackex")
    return {kind: frozenset(names) for kind, names in expected.items()}


def _batches(client: redis.Redis, prefix: bytes) -> Iterator[list[bytes]]:
    cursor = 0
    while True:
        cursor, names = cast("tuple[int, list[bytes]]", client.scan(cursor, match=prefix + b"*", count=1000))
        if names:
            yield names
        if cursor == 0:
            return
