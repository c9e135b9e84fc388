"""All items of the precheck, in the order in which they are looked at and shown."""

from __future__ import annotations

from typing import Final

from migrations_app.runner.precheck import capacity, data, identity, reach, replication, rights
from migrations_app.runner.precheck.registry import Item

ITEMS: Final[tuple[Item, ...]] = (
    *reach.checks,
    *identity.checks,
    *rights.checks,
    *replication.checks,
    *data.checks,
    *capacity.checks,
)
