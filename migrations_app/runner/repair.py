"""Repairs of what a precheck has found: CONFIG SET on the servers of a side, and back; or clearing the target."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from django.conf import settings

from migrations_app.choices import InspectionKind
from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import EngineError
from migrations_app.engine.protocol.resp import ReplyError
from migrations_app.models import AppliedRepair
from migrations_app.runner.inspections import Reporter, Result, kind
from migrations_app.runner.precheck.context import Side, text
from migrations_app.runner.sides import endpoint_of
from migrations_app.services import repairs
from portal.errors import Conflict, Invalid

_BUFFERS: Final = "client-output-buffer-limit"
_REPLICAS: Final = ("slave", "replica")  # one class of clients under two names
_FLAGS: Final = "notify-keyspace-events"


@kind(InspectionKind.REPAIR)
def repair(report: Reporter) -> Result:
    """`parameters`: {"code", "side", "set": {setting: value}}, {"code": "target.clear", "databases", "confirmed"} or {"restore": true}."""
    parameters = report.inspection.parameters
    if parameters.get("restore"):
        return _restore(report)
    if parameters["code"] == repairs.CLEAR:
        return _clear(report, parameters)
    return _apply(report, parameters["side"], parameters["set"])


# --- settings -------------------------------------------------------------------------------------------------------------


def _apply(report: Reporter, name: str, wanted: dict[str, str]) -> Result:
    """`values`: {"changed": [{setting, address, old, new}], "unchanged": […]}."""
    instance = getattr(report.task, name)
    side = Side(name, instance)
    changed: list[dict[str, str]] = []
    same: list[dict[str, str]] = []
    try:
        for node in side.connect():
            for setting, new in wanted.items():
                report.progress(len(changed), None, f"{setting} of {node.address}")
                old = read(node.client, setting)
                if old is None:
                    raise Invalid(
                        f"{node.address} does not tell {setting} (CONFIG GET). It was not changed.",
                        advice="Change it on the server.",
                        id="repair.unreadable",
                    )
                if alike(setting, old, new):
                    same.append({"setting": setting, "address": node.address, "new": old})
                    continue
                row = repairs.begin(report.inspection, instance, node.address, setting, old, new)
                now = _set(node.client, row, new)
                changed.append({"setting": setting, "address": node.address, "old": old, "new": now})
    finally:
        side.close()
    return Result({"changed": changed, "unchanged": same}, passed=True)


def _set(client: Client, row: AppliedRepair, new: str) -> str:
    """Set it; what the server then tells."""
    (reply,) = client.pipeline([("CONFIG", "SET", row.setting, new)])
    if isinstance(reply, ReplyError):
        repairs.not_applied(row, str(reply))
        raise Conflict(
            f"{row.address} refuses CONFIG SET {row.setting}: {reply}. It was not changed.",
            advice="Change it on the server.",
            id="repair.refused",
        )
    now = read(client, row.setting) or new
    repairs.applied(row, now)
    return now


def read(client: Client, setting: str) -> str | None:
    """What the server tells of a setting; of the limits of output buffers only those of replicas. None where it is refused."""
    (reply,) = client.pipeline([("CONFIG", "GET", setting)])
    if not isinstance(reply, list) or len(reply) != 2:
        return None
    value = text(reply[1])
    if setting != _BUFFERS:
        return value
    words = value.split()
    for place in range(0, len(words) - 3, 4):
        if words[place] in _REPLICAS:
            return " ".join(["slave", *words[place + 1 : place + 4]])
    return None


def alike(setting: str, one: str, other: str) -> bool:
    """Whether two values of a setting are the same; the order of flags says nothing."""
    if setting == _FLAGS:
        return _flags(one) == _flags(other)
    return one == other


def _flags(value: str) -> set[str]:
    return set(value.replace("A", "g$lshzxetd"))


def _restore(report: Reporter) -> Result:
    """`values`: {"restored": [address and setting], "left": […], "failed": […]}."""
    values: dict[str, Any] = {"restored": [], "left": [], "failed": []}
    rows = list(repairs.pending(report.task).select_related("task", "instance__endpoint"))
    for number, row in enumerate(rows):
        report.progress(number, len(rows), f"{row.setting} of {row.address}")
        what = f"{row.setting} of {row.address}"
        try:
            values[_put_back(row)].append(what)
        except EngineError as error:
            repairs.not_restored(row, f"{error.message}.")
            values["failed"].append(what)
    return Result(values, passed=not values["failed"])


def _put_back(row: AppliedRepair) -> str:
    """`restored` or `left`. Raises EngineError while the server cannot be asked."""
    with Client(
        _at(endpoint_of(row.instance), row.address), timeout=float(settings.INSTANCE_TIMEOUT)
    ) as client:
        now = read(client, row.setting)
        if now is None:
            raise EngineError(f"{row.address} does not tell {row.setting} (CONFIG GET is refused)")
        if alike(row.setting, now, row.old):
            repairs.restored(row)
            return "restored"
        if not alike(row.setting, now, row.new):
            repairs.restored(row, f"somebody has changed it to {now or '(empty)'} meanwhile.")
            return "left"
        client.execute("CONFIG", "SET", row.setting, row.old)
        repairs.restored(row)
        return "restored"


def _at(endpoint: Endpoint, address: str) -> Endpoint:
    """The very server that was changed: also if sentinels name another one by now."""
    if endpoint.address == address or not address or endpoint.unix_path:
        return endpoint
    host, _, port = address.rpartition(":")
    return replace(endpoint, host=host.strip("[]"), port=int(port), unix_path="", lookup=None)


# --- clearing ---------------------------------------------------------------------------------------------------------------


def _clear(report: Reporter, parameters: dict[str, Any]) -> Result:
    """Empty the chosen databases of the target, or all. `values`: {"cleared": {database: keys}}."""
    task, inspection = report.task, report.inspection
    source, target = task.both_sides()
    if parameters["confirmed"] != target.name:
        raise Conflict("The target is another one by now. Nothing was cleared.", id="repair.not_current")
    repairs.check_unused(task)
    there = Side("target", target)
    here = Side("source", source)
    try:
        nodes = there.connect()
        _check_not_the_source(here, there)
        keys = {str(number): count for number, (count, _) in there.keyspace.items()}
        chosen = parameters["databases"]
        if chosen is not None:
            keys = {number: count for number, count in keys.items() if int(number) in chosen}
        for number, node in enumerate(nodes):
            report.progress(number, len(nodes), f"clearing {node.address}")
            _flush(node.client, chosen, sync=node.facts.version < (4,))
    finally:
        there.close()
        here.close()
    repairs.cleared(inspection, keys)
    return Result({"cleared": keys}, passed=True)


def _check_not_the_source(here: Side, there: Side) -> None:
    """The most expensive of all mistakes: two names of one server, or of master and replica."""
    if here.is_file:
        return
    nodes = here.connect()  # a source that cannot be asked might be the target
    same = {node.facts.run_id for node in nodes} & {node.facts.run_id for node in there.nodes}
    stream = here.node.info.get("master_replid", "").strip("0")
    if same - {""} or (stream and stream == there.node.info.get("master_replid", "").strip("0")):
        raise Conflict(
            "Source and target are one server, or one replicates the other. Nothing was cleared.",
            advice="Choose another target.",
            id="repair.same_server",
        )


def _flush(client: Client, databases: list[int] | None, *, sync: bool) -> None:
    how = () if sync else ("ASYNC",)
    if databases is None:
        client.execute("FLUSHALL", *how)
        return
    for number in databases:
        client.execute("SELECT", number)
        client.execute("FLUSHDB", *how)
