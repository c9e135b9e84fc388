"""Walks every operation of the HTTP API × every role, and × a token without its scope. An operation that is in no table fails."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from portal import scopes
from portal.api import api
from portal.models import ApiToken
from portal.services import tokens
from tests.portal.api_table import ApiRow
from tests.portal.world import ROLES, World

TABLES = [
    importlib.import_module(f"tests.{path.parent.name}.api_table")
    for path in sorted(Path(__file__).parent.parent.glob("*/api_table.py"))
]
ROWS = [(table, row) for table in TABLES for row in table.API_ROWS]


def ask(client: Client, row: ApiRow, world: World, token: str) -> Any:
    path = "/api/v1" + row.path.format(**row.kwargs(world))
    body = json.dumps(row.data(world)) if row.data else ""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return getattr(client, row.method)(path, data=body, content_type="application/json", headers=headers)


def test_every_operation_has_exactly_one_row() -> None:
    described = [
        (method, path.removeprefix("/api/v1"))
        for path, operations in api.get_openapi_schema()["paths"].items()
        for method in operations
    ]
    assert sorted((row.method, row.path) for _, row in ROWS) == sorted(described)


@pytest.mark.parametrize(
    ("table", "row", "index", "role"),
    [(table, row, index, role) for table, row in ROWS for index, role in enumerate(ROLES)],
    ids=[f"{row.method}{row.path}-{role}" for _, row in ROWS for role in ROLES],
)
def test_status(table: object, row: ApiRow, index: int, role: str, world: World) -> None:
    if prepare := getattr(table, "prepare", None):
        prepare(world)
    token = ""
    if role != "anonymous":
        _, token = tokens.create_token(world.user(role), "all", [name for name, _ in scopes.choices()])
    response = ask(Client(), row, world, token)
    assert response.status_code == row.status(index), response.content
    if response.status_code >= 400:
        refusal = response.json()
        assert set(refusal) == {"id", "message", "advice", "field"}
        assert refusal["id"] and refusal["message"]


@pytest.mark.parametrize(
    ("table", "row"),
    [pair for pair in ROWS if pair[1].scope],
    ids=[f"{row.method}{row.path}" for _, row in ROWS if row.scope],
)
def test_a_token_without_the_scope(table: object, row: ApiRow, world: World) -> None:
    if prepare := getattr(table, "prepare", None):
        prepare(world)
    others = [name for name, _ in scopes.choices() if not scopes.covers([name], row.scope)]
    made, token = tokens.create_token(world.user("owner"), "others", [row.scope])
    ApiToken.objects.filter(pk=made.pk).update(scopes=others)
    response = ask(Client(), row, world, token)
    assert (response.status_code, response.json()["id"]) == (403, "token.scope")
