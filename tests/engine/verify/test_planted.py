"""Every planted difference is found, whichever side it is on; and before it is planted, there is none."""

from __future__ import annotations

import pytest

from migrations_app.engine.verify import Kind
from tests.engine.conftest import Shared
from tests.engine.verify.plants import EVERYWHERE, FIELD_EXPIRIES, Plant
from tests.engine.verify.steps import apply, compare

PAIRS = [
    ("redis-5.0", "redis-5.0"),
    ("redis-5.0", "redis-7.0"),
    ("redis-6.2", "valkey-9"),
    ("redis-7.0", "redis-7.0"),
    ("redis-7.0", "valkey-9"),
]
EXPIRING_FIELDS = [("redis-7.4", "redis-7.4"), ("valkey-9", "valkey-9"), ("redis-7.4", "valkey-9")]


CASES = [
    pytest.param(versions, plant, id=f"{' to '.join(versions)}, {plant.name}")
    for versions in PAIRS
    for plant in EVERYWHERE
    if plant.since <= (5,) or min(versions) >= "redis-7"
]


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize(("versions", "plant"), CASES)
def test_planted(shared: Shared, versions: tuple[str, str], plant: Plant, side: str) -> None:
    check(shared, versions, plant, side)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("plant", FIELD_EXPIRIES, ids=lambda plant: plant.name)
@pytest.mark.parametrize("versions", EXPIRING_FIELDS, ids=" to ".join)
def test_planted_in_fields(shared: Shared, versions: tuple[str, str], plant: Plant, side: str) -> None:
    check(shared, versions, plant, side)


@pytest.mark.parametrize("plant", [FIELD_EXPIRIES[0], FIELD_EXPIRIES[2]], ids=lambda plant: plant.name)
def test_field_expiry_that_the_other_side_does_not_know(shared: Shared, plant: Plant) -> None:
    check(shared, ("redis-7.0", "redis-7.4"), plant, "target")


def check(shared: Shared, versions: tuple[str, str], plant: Plant, side: str) -> None:
    servers = {"source": shared(versions[0], "source"), "target": shared(versions[1], "target")}
    for server in servers.values():
        apply(server, plant.base)
    if plant.kind is Kind.TYPE:  # the other side has the key, too
        apply(servers["target" if side == "source" else "source"], [("SET", "a", "1")])
    else:
        before = compare(servers["source"], servers["target"])
        assert before.equal, before.items

    apply(servers[side], plant.change)
    report = compare(servers["source"], servers["target"])

    swapped = {Kind.MISSING: Kind.EXTRA}
    expected = plant.kind if side == "source" else swapped.get(plant.kind, plant.kind)
    assert [item.kind for item in report.items] == [expected], report.items
    (item,) = report.items
    assert item.database == 0
    assert item.key in (b"a", b"b")
    assert plant.detail in item.detail
    assert item.source != item.target
    assert report.differences == 1
    assert report.by_kind == {expected: 1}
    assert not report.equal
