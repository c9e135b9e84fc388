"""Every item of the precheck on real servers, in both outcomes."""

from __future__ import annotations

import pytest

from migrations_app.choices import Outcome
from migrations_app.runner.precheck.items import ITEMS
from migrations_app.runner.precheck.registry import Item

from . import cases_data, cases_identity, cases_reach, cases_replication, cases_rights
from .world import CASES, Case, World

MODULES = (cases_data, cases_identity, cases_reach, cases_replication, cases_rights)


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_finds(one: Case, world: World) -> None:
    one.setup(world)
    finding = world.look(one.code)
    text = f"{finding.found} {finding.advice} {finding.repair}"
    assert finding.outcome == one.outcome, text
    for word in one.words:
        assert word in text
    assert finding.advice or finding.outcome in (Outcome.PASSED, Outcome.SKIPPED)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.code)
def test_every_item_has_cases_of_both_outcomes(item: Item) -> None:
    outcomes = {one.outcome for one in CASES if one.code == item.code}
    assert Outcome.PASSED in outcomes
    assert outcomes & {Outcome.WARNING, Outcome.FAILED}


def test_codes_are_single() -> None:
    codes = [item.code for item in ITEMS]
    assert len(codes) == len(set(codes))
