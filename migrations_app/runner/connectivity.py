"""Connectivity test: can this worker reach the sides of a task and sign in there? (R73, R103, R106, R114)

What it finds out is stored with the instance: the later steps show its databases and their keys.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any, Final

from django.conf import settings

from migrations_app.choices import InspectionKind
from migrations_app.engine.client import Client
from migrations_app.engine.errors import EngineError
from migrations_app.engine.source.file import SnapshotFile
from migrations_app.models import MigrationTask
from migrations_app.runner.inspections import Reporter, Result, kind
from migrations_app.runner.sides import engine_endpoint
from portal.choices import Architecture, Edition, EndpointKind, InstanceStatus, NodeRole
from portal.errors import ServiceError
from portal.models import Endpoint, Instance
from portal.patience import patient
from portal.redis_control import EndpointParams, ProbeResult, params_of, probe
from portal.services import connections, instances

CLUSTER_NODES: Final = 200  # of which each master is asked


@kind(InspectionKind.CONNECTIVITY)
def test_connectivity(report: Reporter) -> Result:
    """One entry a side, as `_ask` gives it. Passed when both sides answer."""
    sides = [(side, getattr(report.task, side)) for side in ("source", "target")]
    values: dict[str, Any] = {}
    for number, (side, instance) in enumerate(sides):
        report.progress(number, len(sides), f"asking the {side}")
        if instance is not None:
            values[side] = _ask(instance, report)
    report.progress(len(sides), len(sides), "")
    _compare(report.task, values)
    return Result(values, passed=len(values) == len(sides) and all(one["ok"] for one in values.values()))


def _ask(instance: Instance, report: Reporter) -> dict[str, Any]:
    """`{"ok", "product", "keys", "latency_ms", "addresses": ["host:port"], "id", "field", "message", "advice"}`."""
    endpoint = instance.endpoint
    told: dict[str, Any] = {
        "ok": False,
        "address": endpoint.address,
        "addresses": [],
        "message": "",
        "advice": "",
    }
    try:
        if endpoint.kind == EndpointKind.FILE:
            return told | {"ok": True} | _look_at_file(instance)
        params = _server(endpoint)
        told["addresses"] = [params.address]
        begun = time.monotonic()
        found = probe(params)
        latency = (time.monotonic() - begun) * 1000
        if found.architecture == Architecture.CLUSTER:
            found, told["addresses"] = _whole_cluster(found, params, report)
    except (ServiceError, EngineError) as error:
        refusal = error if isinstance(error, ServiceError) else _as_refusal(error)
        patient(instances.store_failure)(instance, refusal)
        return told | {
            "id": refusal.id, "field": refusal.field, "message": refusal.message, "advice": refusal.advice,
        }  # fmt: skip
    patient(instances.store_found)(instance, found)
    return told | {
        "ok": True,
        "product": found.product,
        "architecture": found.architecture,
        "role": found.role,
        "keys": found.key_count,
        "databases": len(found.databases),
        "latency_ms": round(latency, 1),
    }


def _as_refusal(error: EngineError) -> ServiceError:
    message = error.message[:1].upper() + error.message[1:]
    return ServiceError(f"{message.rstrip('.')}.", advice=error.advice, id=error.id)


def _server(endpoint: Endpoint) -> EndpointParams:
    """How to reach the server: of sentinels, the master that they name now. Raises EngineError, ServiceError."""
    params = params_of(endpoint)
    if endpoint.kind != EndpointKind.SENTINEL:
        return params
    with Client(engine_endpoint(endpoint), timeout=params.timeout) as client:
        return replace(params, host=client.endpoint.host, port=client.endpoint.port, unix_path="")


def _whole_cluster(
    found: ProbeResult, params: EndpointParams, report: Reporter
) -> tuple[ProbeResult, list[str]]:
    """The keys of all masters together, and their addresses: the task needs each. Raises ProbeError for one that is not reached."""
    masters = [node for node in found.nodes if node.role == NodeRole.MASTER][:CLUSTER_NODES]
    keys = expires = memory = limit = 0
    addresses = []
    for node in masters:
        report.check()
        one = probe(replace(params, host=node.host, port=node.port, unix_path=""))
        addresses.append(replace(params, host=node.host, port=node.port, unix_path="").address)
        keys += one.key_count
        expires += sum(row["expires"] for row in one.databases)
        memory += one.memory_used or 0
        limit += one.memory_max or 0
    databases = [{"index": 0, "keys": keys, "expires": expires}] if keys else []
    whole = replace(found, databases=databases, memory_used=memory or None, memory_max=limit)
    return whole, addresses


def _look_at_file(instance: Instance) -> dict[str, Any]:
    """The file as this worker sees it. Raises ServiceError, EngineError."""
    path = instance.endpoint.file_path
    real = os.path.realpath(path)
    folders = [
        os.path.realpath(folder) for folder in (str(settings.UPLOADS), settings.SNAPSHOT_FOLDER) if folder
    ]
    if not any(connections.is_below(real, folder) for folder in folders):
        raise ServiceError(
            f"{path} leads out of the folder that snapshots may be read from. It was not opened.",
            advice="Put the file itself there, not a link.",
            id="connection.file_elsewhere",
            field="file_path",
        )
    uploaded = path.startswith(f"{settings.UPLOADS}/")
    if uploaded and not os.path.exists(real):
        raise ServiceError(
            "The worker does not have the uploaded file.",
            advice="Web server and workers must share the folder `uploads` of the data folder: one machine, or a shared file system.",
            id="connection.upload_not_here",
            field="upload",
        )
    file = SnapshotFile(engine_endpoint(instance.endpoint))
    try:
        magic = os.pread(file.fileno(), 10, 0)
    finally:
        file.close()
    valkey = magic.startswith(b"VALKEY")
    version = int(magic[6:9] if valkey else magic[5:9])
    instance.edition = Edition.UNKNOWN
    instance.version = ""
    instance.role = NodeRole.MASTER
    instance.architecture = Architecture.STANDARD
    instance.facts = {"snapshot_version": version, "snapshot_bytes": file.size, "snapshot_valkey": valkey}
    instance.status = InstanceStatus.ONLINE
    instance.last_error = ""
    changed = ["edition", "version", "role", "architecture", "facts", "status", "last_error"]
    patient(instance.save)(update_fields=changed)
    return {"product": f"Snapshot of format {version}", "bytes": file.size, "snapshot_version": version}


def _compare(task: MigrationTask, values: dict[str, Any]) -> None:
    """One server as both sides is an error of the target, told here already."""
    source, target = task.source, task.target
    if (
        source is None
        or target is None
        or not all(values.get(side, {}).get("ok") for side in ("source", "target"))
    ):
        return
    if source.run_id and source.run_id == target.run_id:
        values["target"] |= {
            "ok": False,
            "id": "task.same_server",
            "field": "address",
            "message": "Source and target are one and the same server: both answer with the same run ID.",
            "advice": "Choose another target, or correct one of the two addresses.",
        }
