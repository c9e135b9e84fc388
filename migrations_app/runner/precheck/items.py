"""All items of the precheck, in the order in which they are looked at and shown."""

from __future__ import annotations

from typing import Final

from migrations_app.runner.precheck import identity, reach, replication
from migrations_app.runner.precheck.registry import Item

ITEMS: Final[tuple[Item, ...]] = (*reach.checks, *identity.checks, *replication.checks)
