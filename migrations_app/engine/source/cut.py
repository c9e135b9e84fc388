"""Why a source has closed the connection of a link: what it counts, what its limits are, and what was seen of the link.

From 7.4 and Valkey 8.0 on the source counts the clients that it cut because of their output buffers; before, that is concluded from what
waited for the link. A source whose limits cannot be read (CONFIG refused) or that cannot be reached tells nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from migrations_app.engine import errors
from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.protocol.resp import Reply

_PATIENCE = 2.0  # seconds for each answer
_MB = 2**20


@dataclass(frozen=True, slots=True)
class Seen:
    """What the link knows at the moment of the loss.

    `received` is the position in the source's stream up to which the link has read; None before a snapshot. `overflows` is the source's
    counter at the beginning. `unread`, `unanswered`: the longest time, in seconds, in which the link has not read, and has not
    acknowledged.
    """

    received: int | None
    overflows: int | None
    unread: float
    unanswered: float


def overflows_of(info: dict[str, str]) -> int | None:
    """Clients cut because of their output buffers, from INFO stats; None where the source does not count them."""
    value = info.get("client_output_buffer_limit_disconnections", "")
    return int(value) if value.isdigit() else None


def explain(endpoint: Endpoint, error: errors.EngineError, seen: Seen) -> errors.EngineError:
    """A more telling error than `error`, the loss of the connection, if there is one."""
    try:
        with Client(endpoint, timeout=_PATIENCE) as client:
            info = client.info("replication", "stats")
            replies = client.pipeline(
                [("CONFIG", "GET", "client-output-buffer-limit"), ("CONFIG", "GET", "repl-timeout")]
            )
    except (errors.EngineError, ValueError):
        return error
    limits = _limits(_value(replies[0]))
    waiting = (
        max(0, _number(info.get("master_repl_offset")) - seen.received) if seen.received is not None else 0
    )
    counted = overflows_of(info)
    if counted is not None and seen.overflows is not None:
        if counted > seen.overflows:
            return _overflow(endpoint, limits, waiting, "; its counter of such cuts has risen")
    elif limits and limits[0] and waiting >= limits[0]:
        # A limit below the size of the backlog counts as that from 7.0 on; it only makes the cut come later.
        return _overflow(endpoint, limits, waiting, ": probably, as so much waited for the link")
    patience = _number(_value(replies[1]))
    if patience and max(seen.unread, seen.unanswered) >= patience - 1:
        did = "read" if seen.unread >= seen.unanswered else "answered"
        return errors.SourceImpatient(
            f"{endpoint.address}: the source closed the connection, probably because the link had not {did} for "
            f"{max(seen.unread, seen.unanswered):.0f} s (repl-timeout of the source: {patience} s)"
        )
    return error


def _overflow(
    endpoint: Endpoint, limits: tuple[int, int, int] | None, waiting: int, how: str
) -> errors.EngineError:
    told = "its value could not be read"
    if limits:
        hard, soft, seconds = limits
        told = f"now {hard} bytes, or {soft} for {seconds} s; 0 is no limit"
    least = max(2 * waiting, 2 * limits[0] if limits else 0, 256 * _MB)
    megabytes = -(-least // _MB)
    return errors.OutputBufferExceeded(
        f"{endpoint.address}: the source cut the link because its output buffer for the link was full{how} "
        f"(client-output-buffer-limit of replicas: {told}; {waiting} bytes waited)",
        advice="Raise the limit on the source, for example "
        f'CONFIG SET client-output-buffer-limit "replica {megabytes}mb {megabytes}mb 60" (before 5.0: slave), '
        "and give the link a spool (--spool-limit) where the target is slower than the source.",
    )


def _limits(text: str) -> tuple[int, int, int] | None:
    """Hard limit, soft limit (bytes) and seconds of the replicas, from `normal 0 0 0 slave 268435456 67108864 60 …`."""
    words = text.split()
    for name, *values in zip(words[::4], words[1::4], words[2::4], words[3::4], strict=False):
        if name in {"slave", "replica"} and all(value.isdigit() for value in values):
            hard, soft, seconds = map(int, values)
            return hard, soft, seconds
    return None


def _value(reply: Reply) -> str:
    """Of a CONFIG GET of one name; empty if it was refused."""
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], bytes):
        return reply[1].decode("utf-8", "replace")
    return ""


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
