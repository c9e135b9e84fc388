"""From an address to a target that is taken over."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from migrations_app.engine import errors
from migrations_app.engine.checkpoint import client_prefix
from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.target.base import TargetPipeline
from migrations_app.engine.target.cluster import ClusterMemory, ClusterTarget
from migrations_app.engine.target.cluster_pipeline import ClusterPipeline, Log
from migrations_app.engine.target.pipeline import Pipeline
from migrations_app.engine.target.standalone import StandaloneTarget


def open_target(
    endpoint: Endpoint, link: str, epoch: int | None, timeout: float, memory: ClusterMemory | None = None
) -> StandaloneTarget | ClusterTarget:
    """Connect, look what is there, and become its one writer. `memory` is kept from one attempt of a link to the next."""
    memory = memory or ClusterMemory()
    client = _connect(endpoint, link, timeout, memory)
    try:
        facts = ServerFacts.of(client)
        if facts.loading:
            raise errors.ServerLoading(f"{endpoint.address}: the target is loading its data")
        if facts.cluster:
            return ClusterTarget(client, facts, link, epoch, memory)
        return StandaloneTarget(client, facts, link, epoch)
    except BaseException:
        client.close()
        raise


def pipeline_to(target: StandaloneTarget | ClusterTarget, log: Log, patience: float) -> TargetPipeline:
    """The way to it; `patience` is how long (s) a slot of a cluster may refuse writes."""
    if isinstance(target, ClusterTarget):
        return ClusterPipeline(target, log, patience)
    return Pipeline(target.client.connection)


def _connect(endpoint: Endpoint, link: str, timeout: float, memory: ClusterMemory) -> Client:
    """To the address that was given or, if that node of a cluster is down, to one that the link knows from before."""
    # Named before the first look at the checkpoint: a newer owner finds this connection, or this one its epoch.
    name = client_prefix(link)
    try:
        return Client(endpoint, timeout=timeout, name=name)
    except errors.ConnectError as error:
        for host, port in memory.addresses:
            other = replace(endpoint, host=host, port=port, unix_path="")
            if other != endpoint:
                with contextlib.suppress(errors.ConnectError):
                    return Client(other, timeout=timeout, name=name)
        raise error
