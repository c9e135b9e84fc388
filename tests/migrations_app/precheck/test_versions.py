"""The one table of versions, and that the documentation agrees with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrations_app.choices import Outcome
from migrations_app.engine.abilities import _FEATURES, Abilities
from migrations_app.runner.precheck import versions

ROOT = Path(__file__).resolve().parents[3]


def redis(*version: int) -> Abilities:
    return Abilities(version)


def valkey(*version: int) -> Abilities:
    return Abilities((7, 2, 4), version)


@pytest.mark.parametrize(
    ("source", "target", "outcome", "word"),
    [
        (redis(2, 8, 24), redis(7, 0, 15), Outcome.FAILED, "source is older than 3.0"),
        (redis(5, 0, 10), redis(2, 8, 24), Outcome.FAILED, "target is older than 3.0"),
        (redis(3, 0, 7), valkey(9, 1, 2), Outcome.PASSED, "served"),
        (redis(4, 0, 14), redis(4, 0, 9), Outcome.PASSED, "served"),
        (redis(7, 0, 15), redis(6, 2, 14), Outcome.WARNING, "earlier version"),
        (valkey(9, 1, 2), valkey(8, 0, 1), Outcome.WARNING, "earlier version"),
        (redis(8, 6, 3), valkey(8, 0, 1), Outcome.PASSED, "served"),
        (redis(9, 0, 0), redis(9, 0, 0), Outcome.WARNING, "newer than 8.6"),
        (redis(7, 0, 15), valkey(10, 0, 0), Outcome.WARNING, "newer than 9.1"),
    ],
)
def test_matrix(source: Abilities, target: Abilities, outcome: Outcome, word: str) -> None:
    finding = versions.judge(source, target)
    assert finding.outcome == outcome
    assert word in finding.found


def test_between_products_the_abilities_count() -> None:
    finding = versions.translation(redis(8, 6, 3), valkey(8, 0, 1))
    assert finding.outcome == Outcome.WARNING
    assert "vector sets" in finding.found


def test_names_are_those_of_the_abilities() -> None:
    assert set(versions.STOPS) | versions.BY_SCRIPT <= set(_FEATURES)
    assert not set(versions.STOPS) & versions.BY_SCRIPT


def test_the_documentation_agrees() -> None:
    text = (ROOT / "docs" / "compatibility.md").read_text()
    newest = (versions.NEWEST_REDIS, versions.NEWEST_VALKEY)
    assert f"Redis 3.2 to {newest[0][0]}.{newest[0][1]}" in text
    assert f"Valkey 8.0 to {newest[1][0]}.{newest[1][1]}" in text
    assert f"{versions.OLDEST[0]}.0 and 4.0 are served" in text
    stopping = [line for line in text.splitlines() if "**stop" in line]
    for name in (
        "SWAPDB",
        "streams",
        "functions",
        "fields expire",
        "vector sets",
        "BITOP DIFF",
        "BYPOLYGON",
        "IDMP",
    ):
        assert any(name in line for line in stopping), name
