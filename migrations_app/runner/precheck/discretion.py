"""What the items tell of a server of another account: everything but where it is.

The account that reads it or writes to it by a role is shown name, region and version, never the address (R63, R68). Items are written
for the owner, with the address in their sentences; here it is taken out before they are stored.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from migrations_app.engine.endpoint import Sentinels
from migrations_app.runner.precheck.context import Context, Side
from migrations_app.runner.precheck.registry import Finding
from migrations_app.runner.sides import own_address
from portal.models.instances import format_address

_PLACES: Final = frozenset({"addresses", "nodes"})  # of an item's data
_IPV4: Final = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?(?![\d.]*\d)")


def discreet(finding: Finding, side: str, context: Context) -> Finding:
    """The finding without the addresses of sides of other accounts. `side`: the item's, "" for both."""
    foreign = [
        one
        for one in (context.source, context.target)
        if one.instance.account_id != context.task.account_id and side in ("", one.name)
    ]
    for one in foreign:
        finding = _without(finding, one, alone=bool(side))
    return finding


def _without(finding: Finding, side: Side, *, alone: bool) -> Finding:
    """`alone`: the item is about this side only, so that every IP address in it but the worker's is one of the side."""
    name = side.instance.name
    places = sorted(_places(side), key=len, reverse=True)
    own = own_address()

    def hide(text: str) -> str:
        for place in places:
            text = re.sub(rf"(?<![\w.]){re.escape(place)}(?!\w)", name, text)
        if alone:
            text = _IPV4.sub(lambda found: found[0] if found[0] == own else name, text)
        return text

    def hidden(value: Any) -> Any:
        if isinstance(value, str):
            return hide(value)
        if isinstance(value, dict):
            return {hide(str(key)): hidden(one) for key, one in value.items()}
        return [hidden(one) for one in value] if isinstance(value, list | tuple) else value

    data = {key: hidden(value) for key, value in finding.data.items() if not (alone and key in _PLACES)}
    return replace(
        finding,
        found=hide(finding.found),
        advice=hide(finding.advice),
        repair=hide(finding.repair),
        data=data,
    )


def _places(side: Side) -> set[str]:
    """How the servers of a side are called by their addresses."""
    endpoint = side.endpoint
    found = {endpoint.address, endpoint.host, endpoint.unix_path}
    if isinstance(endpoint.lookup, Sentinels):
        found |= {format_address(*place) for place in endpoint.lookup.addresses}
    if side.connected:
        for node in side.nodes:
            found |= {node.address, node.client.endpoint.host, node.client.endpoint.unix_path}
    return found - {""}
