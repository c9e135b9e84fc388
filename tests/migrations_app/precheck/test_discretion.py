"""A side of another account is told of, but not where it is."""

from __future__ import annotations

import json

import pytest

from migrations_app.runner.precheck.context import Context
from migrations_app.runner.precheck.discretion import discreet
from migrations_app.runner.precheck.items import ITEMS
from migrations_app.runner.precheck.run import look
from portal.models import Account

from .world import World

pytestmark = pytest.mark.django_db


class Silent:
    """What an item reports to while it works."""

    def progress(self, *args: object, **more: object) -> None:
        """Nobody listens."""

    def check(self) -> None:
        """Nobody has cancelled it."""


def told(world: World) -> dict[str, str]:
    """Everything that each item would store."""
    task = world.made_task()
    context = Context(task, Silent())
    try:
        found = {}
        for item in ITEMS:
            finding = discreet(look(item, context), item.side, context)
            found[item.code] = json.dumps([finding.found, finding.advice, finding.repair, finding.data])
        return found
    finally:
        context.close()


@pytest.mark.parametrize("side", ["source", "target"])
def test_no_item_tells_the_address_of_another_accounts_server(world: World, side: str) -> None:
    task = world.made_task()
    instance = getattr(task, side)
    address = instance.endpoint.address
    own = told(world)
    assert any(address in text for text in own.values())
    instance.account = Account.objects.create(name="Their account")
    instance.save()
    foreign = told(world)
    assert [code for code, text in foreign.items() if address in text] == []
    # What concerns that side alone holds no address at all; the name stands for it.
    assert not any(instance.endpoint.host in text for code, text in foreign.items() if code.startswith(side))
    assert instance.name in foreign[f"{side}.reachable"]
    assert foreign.keys() == own.keys()
