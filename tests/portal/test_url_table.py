"""Walks every URL × every role. A URL that is in no table fails."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from portal.redis_control import EndpointParams
from tests.portal.url_table import Row
from tests.portal.world import ROLES, World

TABLES = [
    importlib.import_module(f"tests.{path.parent.name}.url_table")
    for path in sorted(Path(__file__).parent.parent.glob("*/url_table.py"))
]
CASES = [
    (table, row, index, role) for table in TABLES for row in table.ROWS for index, role in enumerate(ROLES)
]


def url_names(resolver: URLResolver) -> Iterator[str | None]:
    """The names of all URLs, but those of the admin (Django's own permissions govern it, and test_admin.py walks it) and of the API
    (test_api_table.py)."""
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLPattern):
            yield pattern.name
        elif pattern.namespace not in ("admin", "api"):
            yield from url_names(pattern)


def test_every_url_has_exactly_one_row() -> None:
    rows = [row.name for table in TABLES for row in table.ROWS]
    assert sorted(rows) == sorted(str(name) for name in url_names(get_resolver()))


@pytest.mark.parametrize(
    ("table", "row", "index", "role"), CASES, ids=[f"{row.name}-{role}" for _, row, _, role in CASES]
)
def test_status(
    table: object,
    row: Row,
    index: int,
    role: str,
    world: World,
    as_role: Callable[[str], Client],
    answers: list[EndpointParams],
) -> None:
    if prepare := getattr(table, "prepare", None):
        prepare(world)
    url = reverse(row.name, kwargs=dict(row.kwargs(world)))
    client = as_role(role)
    for method in ("get", "post"):
        expected = row.status(method, index)
        # Both in one test: the GET must have changed nothing, or the POST would not find what it needs.
        response = getattr(client, method)(url, dict(row.data(world)) if method == "post" else {})
        if expected is None:
            assert response.status_code in ((302, 405) if role == "anonymous" else (405,)), (method, url)
        else:
            assert response.status_code == expected, (method, url)
        if role == "anonymous" and response.status_code == 302 and row.name != "logout":
            assert response.headers["Location"].startswith("/login/?next=")
