"""Removing from the target what one shard's link has written, and nothing of its siblings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from migrations_app.engine import errors
from migrations_app.engine.checkpoint import OWN_PREFIX
from migrations_app.engine.client import Client
from migrations_app.engine.keys import slot
from migrations_app.engine.protocol.resp import ReplyError
from migrations_app.engine.shards.layout import Scope
from migrations_app.engine.target.base import Target
from migrations_app.engine.target.router import placed
from migrations_app.engine.topology import Topology


def clear(
    target: Target,
    scope: Scope,
    wants: Callable[[bytes], bool] | None,
    timeout: float,
    marker: list[bytes] | None = None,
) -> int:
    """Delete the keys of the shard's slots (that `wants` chooses) from the target; how many there were.

    With a `marker` every deletion is a transaction that begins with it, for an opposite link to leave it out. While this goes on the link
    itself writes nothing. Writes of others to these slots are not expected: they would be left or lost.
    """
    count = 0
    verb = b"UNLINK" if target.facts.version >= (4,) else b"DEL"
    for client in _servers(target, timeout):
        for page in client.scan():
            keys = [
                key
                for key in page
                if not key.startswith(OWN_PREFIX) and scope.has(slot(key)) and (wants is None or wants(key))
            ]
            commands = [[verb, key] for key in keys]
            if marker is not None:
                commands = [
                    command
                    for key in keys
                    for command in _marked([verb, key], marker, slot(key) if target.facts.cluster else None)
                ]
            for command, reply in zip(commands, client.pipeline(commands), strict=True):
                if isinstance(reply, ReplyError):
                    if reply.code in {"MOVED", "ASK"}:
                        raise errors.ConnectionLost(
                            f"{client.endpoint.address}: slots of the target are being moved while it is cleared"
                        )
                    raise client.error(reply, f"{command[0].decode()} of key {command[-1][:128]!r}")
                count += reply if isinstance(reply, int) else 0
                count += int(reply[-1] or 0) if isinstance(reply, list) else 0  # type: ignore[arg-type]
    return count


def _marked(command: list[bytes], marker: list[bytes], slot: int | None) -> list[list[bytes]]:
    return [[b"MULTI"], marker if slot is None else placed(marker, slot), command, [b"EXEC"]]


def _servers(target: Target, timeout: float) -> Iterator[Client]:
    """The target, or each of its masters."""
    with Client(target.endpoint, timeout=timeout) as client:
        if not target.facts.cluster:
            yield client
            return
        masters = [shard.master.address for shard in Topology.of(client).shards]
    for host, port in masters:
        with Client(replace(target.endpoint, host=host, port=port, unix_path=""), timeout=timeout) as node:
            yield node
