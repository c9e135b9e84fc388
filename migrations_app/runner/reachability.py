"""Whether what made a task fail has passed: both sides answer, let the worker in, and the target takes writes."""

from __future__ import annotations

import os
from typing import Final

from migrations_app.engine import errors
from migrations_app.engine.checkpoint import checkpoint_key
from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.protocol.resp import ReplyError
from migrations_app.models import MigrationTask
from migrations_app.runner.sides import endpoint_of
from portal.errors import ServiceError

TIMEOUT: Final = 5.0
_OTHER_NODE: Final = frozenset({"MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN"})


def trouble(task: MigrationTask) -> str:
    """What still keeps the task from going on; "" if nothing does. Writes nothing."""
    source, target = task.both_sides()
    try:
        _look(endpoint_of(source), None)
        _look(endpoint_of(target), checkpoint_key(task.link.name))
    except (errors.EngineError, ServiceError) as error:
        return error.message
    return ""


def _look(endpoint: Endpoint, written: bytes | None) -> None:
    """`written`: a key that will be written there. Raises EngineError."""
    if endpoint.file:
        if not os.access(endpoint.file, os.R_OK):
            raise errors.UsageError(f"{endpoint.file} cannot be read")
        return
    with Client(endpoint, timeout=TIMEOUT) as client:
        facts = ServerFacts.of(client)
        if facts.loading:
            raise errors.ServerLoading(f"{endpoint.address}: the server is loading its data")
        if written is None:
            return
        # Queued and thrown away: rights, memory, disk, replicas and the role of the server are looked at, nothing is written.
        replies = client.pipeline([("MULTI",), ("HSET", written, "format", 1), ("DISCARD",)])
        refused = [one for one in replies if isinstance(one, ReplyError)]
        if refused and not (facts.cluster and refused[0].code in _OTHER_NODE):
            raise client.error(refused[0], "HSET")
