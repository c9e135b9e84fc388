"""The clusters that tests start."""

from __future__ import annotations

import pytest

from tests.support.cluster import Cluster, slot_of


def test_slot_of_a_key() -> None:
    # From the specification of Redis Cluster.
    assert slot_of("123456789") == 0x31C3 % 16384
    assert slot_of("{user1000}.following") == slot_of("{user1000}.followers") == slot_of("user1000")
    assert slot_of("foo{}{bar}") != slot_of("bar")
    assert slot_of("foo{{bar}}zap") == slot_of("{bar")


@pytest.mark.parametrize("version", ["redis-7.0", "valkey-9.1"])
def test_a_slot_moves_with_its_keys(version: str) -> None:
    with Cluster(version, replicas=1) as cluster:
        slot = slot_of("{a}")
        for number in range(250):
            cluster.set(f"{{a}}{number}", number)
        assert cluster.keys() == 250
        old = cluster.holder(slot)
        new = next(node for node in cluster.holders() if node is not old)
        cluster.move([slot], new)
        assert cluster.holder(slot) is new
        assert cluster.get("{a}249") == b"249"
        assert cluster.keys() == 250
