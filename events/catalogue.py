"""Brings the types of `catalogue.toml` into the database, after each `migrate`. Rows that staff have changed stay as they are."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from events.models import EventType

FILE = Path(__file__).with_name("catalogue.toml")


@cache
def entries() -> tuple[dict[str, Any], ...]:
    """One dict of field values per type, as the file has them."""
    return tuple(tomllib.loads(FILE.read_text())["type"])


def load() -> int:
    """Adds what is missing and updates what nobody has changed here. Returns how many rows that were."""
    there = {row.code: row for row in EventType.objects.all()}
    changed = 0
    for entry in entries():
        row = there.get(entry["code"])
        if row is None:
            EventType.objects.create(**entry)
        elif row.is_customised or all(getattr(row, name) == value for name, value in entry.items()):
            continue
        else:
            for name, value in entry.items():
                setattr(row, name, value)
            row.save(update_fields=list(entry))
        changed += 1
    return changed


def after_migrate(**kwargs: Any) -> None:
    """Receiver of post_migrate, which `flush` sends as well."""
    if EventType._meta.db_table in _tables(kwargs["using"]):
        load()


def _tables(using: str) -> list[str]:
    from django.db import connections

    return connections[using].introspection.table_names()
