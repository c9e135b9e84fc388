"""Settings of servers that an item advises to change: what to type, and the button where that may be done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from migrations_app.runner.precheck.context import Side
from migrations_app.runner.precheck.words import listed


class Repair(TypedDict, total=False):
    """The keyword arguments of a finding that is repaired by CONFIG SET."""

    repair: str
    repair_code: str
    set: dict[str, str]


def by_setting(side: Side, code: str, settings: Mapping[str, str]) -> Repair:
    """`code` becomes a button where every server of the side would take the settings; what to type is said in any case."""
    commands = "; ".join(f"CONFIG SET {name} {_quoted(value)}" for name, value in settings.items())
    where = listed(node.address for node in side.nodes)
    if all(node.may_configure(name) for node in side.nodes for name in settings):
        return {
            "repair": f"{commands} on {where}. The button does it, and puts the old value back when the task has ended.",
            "repair_code": code,
            "set": dict(settings),
        }
    return {
        "repair": f"{commands} on {where}, and in its configuration file. The user of the task may not do it (CONFIG is refused or "
        "renamed): ask the operator of the server."
    }


def _quoted(value: str) -> str:
    return f'"{value}"' if not value or " " in value else value
