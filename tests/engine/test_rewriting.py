"""Collections that go as commands while they are read: with the limit at a few bytes, every type in every encoding does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from migrations_app.demo.dataset import fill
from migrations_app.engine import full
from migrations_app.engine.abilities import Abilities
from migrations_app.engine.clock import Clock
from migrations_app.engine.errors import SnapshotError
from migrations_app.engine.rdb.rewrite import rewriter_for

from . import build
from .conftest import Shared
from .links import assert_equal, run
from .test_kernel_packer import made_listpack

REWRITTEN = frozenset({1, 2, 3, 4, 5, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24, 25})


class AllRewritten(full._Plan):
    def __init__(self, clock: Clock, **options: Any) -> None:
        limits = {"rewrite_kinds": REWRITTEN, "rewrite_from": 16, "stream_from": 2000}
        super().__init__(clock, **(options | limits))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("redis-3.2", "redis-3.2"), ("redis-5.0", "redis-7.0"), ("redis-6.2", "valkey-9"), ("redis-7.0", "redis-7.0"),
        ("redis-7.4", "redis-7.4"), ("redis-8.6", "redis-8.6"), ("valkey-9", "valkey-9"),
    ],
)  # fmt: skip
def test_nothing_differs(shared: Shared, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Values in all forms that have commands go as such, however small they are; the large ones before they are complete."""
    source, target = shared(old, "source"), shared(new, "target")
    fill(source.url, keys=0, big_value_bytes=0, large_elements=3000, databases=(0, 3))
    kinds: Counter[int] = Counter()

    def counted(kind: int, key: bytes, *, target: Abilities, stamp: int) -> object:
        made = rewriter_for(kind, key, target=target, stamp=stamp)
        kinds[kind] += made is not None
        return made

    monkeypatch.setattr(full, "rewriter_for", counted)
    monkeypatch.setattr(full, "_Plan", AllRewritten)
    run(source, target)
    assert len([kind for kind, count in kinds.items() if count]) >= 4, kinds
    assert_equal(source, target)


@pytest.mark.parametrize("at", [b"soon", b"", b"-1", b"1_0", b" 10", b"9" * 20, b"9" * 5000])
def test_a_field_that_expires_at_no_time_is_damage(at: bytes) -> None:
    """A packed hash with expiries, whose third element of three can be any bytes where the snapshot has no checksum."""
    node = made_listpack([b"f", b"v", 10, b"g", b"w", at])
    rewriter = rewriter_for(25, b"key", target=Abilities((7, 4)), stamp=9)
    assert rewriter is not None
    with pytest.raises(SnapshotError, match="which is no time"):
        rewriter.feed(bytes(8) + build.string(node))


def test_fields_that_expire() -> None:
    node = made_listpack([b"f", b"v", 0, b"g", b"w", 1_700_000_000_000, b"h", b"x", b"1700000000000"])
    rewriter = rewriter_for(25, b"key", target=Abilities((7, 4)), stamp=9)
    assert rewriter is not None
    assert [*rewriter.feed(bytes(8) + build.string(node)), *rewriter.finish()] == [
        [b"HMSET", b"key", b"f", b"v", b"g", b"w", b"h", b"x"],
        [b"HPEXPIREAT", b"key", b"1700000000000", b"FIELDS", b"2", b"g", b"h"],
    ]
