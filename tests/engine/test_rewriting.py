"""Collections that go as commands while they are read: with the limit at a few bytes, every type in every encoding does."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from migrations_app.demo.dataset import fill
from migrations_app.engine import full, session
from migrations_app.engine.abilities import Abilities
from migrations_app.engine.kernel import SnapshotPlan
from migrations_app.engine.rdb.rewrite import rewriter_for

from .conftest import Shared
from .links import assert_equal, run


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("redis-3.2", "redis-3.2"), ("redis-5.0", "redis-7.0"), ("redis-6.2", "valkey-9"), ("redis-7.0", "redis-7.0"),
        ("redis-7.4", "redis-7.4"), ("redis-8.6", "redis-8.6"), ("valkey-9", "valkey-9"),
    ],
)  # fmt: skip
def test_nothing_differs(shared: Shared, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Blocks of a few hundred bytes, so that each value but the smallest is met before it is complete."""
    source, target = shared(old, "source"), shared(new, "target")
    fill(source.url, keys=0, big_value_bytes=0, large_elements=3000, databases=(0, 3))
    kinds: Counter[int] = Counter()

    def counted(kind: int, key: bytes, *, target: Abilities, stamp: int) -> object:
        made = rewriter_for(kind, key, target=target, stamp=stamp)
        kinds[kind] += made is not None
        return made

    monkeypatch.setattr(full, "rewriter_for", counted)
    monkeypatch.setattr(full, "SnapshotPlan", partial(SnapshotPlan, rewrite_from=16, stream_from=2000))
    monkeypatch.setattr(session, "_SNAPSHOT_BLOCK", 300)
    run(source, target)
    assert len([kind for kind, count in kinds.items() if count]) >= 4, kinds
    assert_equal(source, target)
