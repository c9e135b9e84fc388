"""From an address to a target that is taken over."""

from __future__ import annotations

from migrations_app.engine import errors
from migrations_app.engine.checkpoint import client_prefix
from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.target.standalone import StandaloneTarget


def open_target(endpoint: Endpoint, link: str, epoch: int | None, timeout: float) -> StandaloneTarget:
    """Connect, look what is there, and become its one writer."""
    # Named before the first look at the checkpoint: a newer owner finds this connection, or this one its epoch.
    client = Client(endpoint, timeout=timeout, name=client_prefix(link))
    try:
        facts = ServerFacts.of(client)
        if facts.loading:
            raise errors.ServerLoading(f"{endpoint.address}: the target is loading its data")
        if facts.cluster:
            raise errors.UnsupportedData(
                f"{endpoint.address}: the target is a node of a cluster",
                advice="Choose a standalone server as the target.",
            )
        return StandaloneTarget(client, facts, link, epoch)
    except BaseException:
        client.close()
        raise
