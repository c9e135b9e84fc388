"""Where the server is just now: sentinels and nodes of a cluster are asked in turn, at each connection.

An answer may be old (the one that was asked has not heard of a failover yet), so the caller looks whether the server that was named is
a master, and takes the next answer where it is not. Sources: the guidelines for Sentinel clients, and CLUSTER SLOTS, of the
Redis documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from migrations_app.engine import errors
from migrations_app.engine.endpoint import Endpoint, Sentinels, SlotOwner
from migrations_app.engine.topology import Topology

if TYPE_CHECKING:
    from migrations_app.engine.client import Client

_ASK_SECONDS: Final = 5.0  # for each that is asked
Connect = Callable[[Endpoint], "Client"]


def ask_seconds(timeout: float) -> float:
    """How long one sentinel or node may take to answer."""
    return min(timeout, _ASK_SECONDS)


def found(endpoint: Endpoint, connect: Connect) -> Iterator[Endpoint]:
    """The servers that are named for `endpoint`, one after the other, each once. `connect` opens a client.

    Raises at the end why there are no (more) answers: `SentinelsUnreachable`, `UnknownMaster`, `AuthError` of a sentinel …
    """
    lookup = endpoint.lookup
    if isinstance(lookup, Sentinels):
        yield from _by_sentinels(endpoint, lookup, connect)
    elif lookup is not None:
        yield from _by_nodes(endpoint, lookup, connect)


def _by_sentinels(endpoint: Endpoint, lookup: Sentinels, connect: Connect) -> Iterator[Endpoint]:
    failures: list[errors.EngineError] = []
    unknown = 0
    seen: set[tuple[str, int]] = set()
    for host, port in lookup.addresses:
        sentinel = replace(
            endpoint, host=host, port=port, username=lookup.username, password=lookup.password, tls=lookup.tls, lookup=None
        )  # fmt: skip
        try:
            with connect(sentinel) as client:
                reply = client.execute("SENTINEL", "GET-MASTER-ADDR-BY-NAME", lookup.master_name)
        except errors.EngineError as error:
            failures.append(error)
            continue
        if reply is None:
            unknown += 1
            continue
        place = _address(reply, sentinel)
        if place not in seen:
            seen.add(place)
            yield endpoint.at(*place)
    if seen:
        return
    for one in failures:
        if isinstance(one, errors.AuthError):
            raise errors.AuthError(
                f"sentinel {one.message}",
                advice="Check user and password of the sentinels (?sentinel_user=…&sentinel_password=…): they are not "
                "those of the data server.",
            )
    if unknown:
        raise errors.UnknownMaster(f"the sentinels know no master of the name {lookup}")
    for one in failures:
        if not one.retryable:
            raise one
    told = "; ".join(one.message for one in failures)
    raise errors.SentinelsUnreachable(f"no sentinel of {lookup.master_name} can be reached: {told}")


def _address(reply: object, sentinel: Endpoint) -> tuple[str, int]:
    try:
        host, port = reply  # type: ignore[misc]
        return host.decode(), int(port)  # type: ignore[has-type]
    except (ValueError, TypeError, AttributeError):
        raise errors.ProtocolError(
            f"{sentinel.address}: the sentinel did not answer with an address",
            advice="Check that the address belongs to a sentinel.",
        ) from None


def _by_nodes(endpoint: Endpoint, lookup: SlotOwner, connect: Connect) -> Iterator[Endpoint]:
    failures: list[errors.EngineError] = []
    seen: set[tuple[str, int]] = set()
    for host, port in lookup.addresses:
        node = replace(endpoint, host=host, port=port, lookup=None)
        try:
            with connect(node) as client:
                owner = Topology.of(client).owner(lookup.slot)
        except errors.EngineError as error:
            failures.append(error)
            continue
        if owner is not None and owner.address not in seen:
            seen.add(owner.address)
            yield endpoint.at(*owner.address)
    if seen:
        return
    for one in failures:
        if not one.retryable:
            raise one
    if len(failures) < len(lookup.addresses):
        raise errors.ClusterDown(f"the cluster has no owner of slot {lookup.slot} just now")
    told = "; ".join(one.message for one in failures)
    raise errors.ClusterDown(f"no node of the cluster can be reached: {told}")
