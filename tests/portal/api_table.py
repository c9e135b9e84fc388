"""Who may do what over the HTTP API. Every operation has a row in an `API_ROWS` of some `tests/<app>/api_table.py`.

The statuses stand in the order of world.ROLES, each with a token of all scopes; anonymous has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.portal.world import World

Statuses = tuple[int, int, int, int, int, int]


def nothing(world: World) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class ApiRow:
    method: str
    path: str
    """As the description of the API has it, behind /api/v1."""
    statuses: Statuses
    kwargs: Callable[[World], Mapping[str, Any]] = nothing
    data: Callable[[World], Mapping[str, Any]] | None = None
    """What is sent as JSON."""
    scope: str = ""
    """What a token needs; "" for nothing but being valid."""
    partner: int | None = None
    """For the last role, the owner of the other side of a migration across accounts; None: as for an outsider."""

    def status(self, index: int) -> int:
        if index < len(self.statuses):
            return self.statuses[index]
        return self.statuses[1] if self.partner is None else self.partner


def instance(world: World) -> dict[str, Any]:
    return {"instance_id": world.instance.public_id}


def new_window(world: World) -> dict[str, Any]:
    return {"days": ["tue", "thu"], "from": "02:00", "to": "04:00", "time_zone": "Europe/Berlin"}


API_ROWS = [
    ApiRow("get", "/me", (401, 200, 200, 200, 200, 200)),
    ApiRow("get", "/instances", (401, 200, 200, 200, 200, 200), scope="fleet:read"),
    ApiRow("get", "/instances/{instance_id}", (401, 404, 200, 200, 200, 200), instance, scope="fleet:read"),
    ApiRow(
        "put",
        "/instances/{instance_id}/maintenance-window",
        (401, 404, 403, 200, 200, 200),
        instance,
        new_window,
        scope="fleet:write",
    ),
    ApiRow(
        "delete",
        "/instances/{instance_id}/maintenance-window",
        (401, 404, 403, 204, 204, 204),
        instance,
        scope="fleet:write",
    ),
]
