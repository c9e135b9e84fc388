"""What a server tells of itself."""

from __future__ import annotations

from dataclasses import dataclass

from migrations_app.engine.client import Client
from migrations_app.engine.clock import ahead_of


def version_of(text: str) -> tuple[int, ...]:
    """`7.0.15` → (7, 0, 15); empty for text without numbers."""
    return tuple(int(part) for part in text.split(".") if part.isdigit())


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What INFO tells of a server, and its clock (see `clock.ahead_of`)."""

    version: tuple[int, ...]
    valkey_version: str  # empty for Redis
    run_id: str
    master: bool
    cluster: bool
    loading: bool
    ahead: int | None = None

    @classmethod
    def of(cls, client: Client) -> ServerFacts:
        info = client.info("server", "replication", "cluster", "persistence")
        # Valkey keeps redis_version at the version of Redis that it is compatible with.
        return cls(
            version=version_of(info.get("redis_version", "0")),
            valkey_version=info.get("valkey_version", ""),
            run_id=info.get("run_id", ""),
            master=info.get("role", "master") == "master",
            cluster=info.get("cluster_enabled", "0") == "1",
            loading=info.get("loading", "0") == "1",
            ahead=ahead_of(client),
        )
