"""Asking a server what it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis import exceptions as redis_errors

from portal.choices import Architecture, Edition, NodeRole
from portal.redis_control import errors
from portal.redis_control.connect import (
    EndpointParams,
    PreparedConnection,
    open_socket,
    speaks_http,
    speaks_tls,
    wants_certificate,
)


@dataclass(frozen=True)
class NodeInfo:
    """A process that the server knows of, itself included. The version is known of the asked one only."""

    role: str
    host: str
    port: int
    version: str = ""
    run_id: str = ""


@dataclass(frozen=True)
class ProbeResult:
    """What a server says of itself. Sizes in bytes. None and "" stand for what it does not tell."""

    edition: str
    version: str
    compatible_version: str
    """Major and minor of `version`: what an upgrade counts in."""
    architecture: str
    role: str
    run_id: str
    replica_of: str = ""
    memory_used: int | None = None
    memory_max: int | None = None
    """0: no limit."""
    memory_host: int | None = None
    eviction_policy: str = ""
    database_count: int | None = None
    databases: list[dict[str, int]] = field(default_factory=list)
    """One {index, keys, expires} per database that holds keys."""
    nodes: list[NodeInfo] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """redis_version, os, uptime_seconds, clients, replicas, persistence, fragmentation_ratio, modules, config_readable."""

    @property
    def key_count(self) -> int:
        return sum(database["keys"] for database in self.databases)

    @property
    def product(self) -> str:
        return (
            f"{Edition(self.edition).label} {self.version}"
            if self.edition != Edition.UNKNOWN
            else self.version
        )

    @property
    def role_badge(self) -> NodeRole:
        return NodeRole(self.role)


def probe(params: EndpointParams) -> ProbeResult:
    """Connects, signs in and asks. Takes at most a few time-outs of `params`. Raises ProbeError."""
    connection = PreparedConnection(open_socket(params), params.timeout)
    try:
        connection.connect()  # type: ignore[no-untyped-call]
        _sign_in(connection, params)
        return _interrogate(connection, params)
    except redis_errors.TimeoutError as error:
        raise errors.TimedOut(
            f"{params.address} accepted the connection but did not reply within {params.timeout:g} seconds.",
            advice="Check that a Redis or Valkey server listens there, and that it is not blocked by a slow command.",
        ) from error
    except redis_errors.RedisError as error:
        raise _explain(error, params) from error
    finally:
        connection.disconnect()  # type: ignore[no-untyped-call]


def _sign_in(connection: PreparedConnection, params: EndpointParams) -> None:
    if not (params.password or params.username):
        return
    # A password without a user is sent alone: servers before 6.0 know no other form.
    credentials = (params.username, params.password) if params.username else (params.password,)
    try:
        connection.ask("AUTH", *credentials)
    except redis_errors.AuthenticationWrongNumberOfArgsError as error:
        raise errors.NoUsers() from error
    except redis_errors.RedisError as error:
        text = str(error).lower()
        if "without any password" in text or "no password is set" in text:
            raise errors.PasswordNotExpected() from error
        if (
            isinstance(error, redis_errors.AuthenticationError)
            or "wrongpass" in text
            or "invalid password" in text
        ):
            raise errors.WrongPassword() from error
        raise


def _interrogate(connection: PreparedConnection, params: EndpointParams) -> ProbeResult:
    try:
        info = parse_info(connection.ask("INFO"))
    except redis_errors.NoPermissionError as error:
        raise errors.NoPermission(
            "The user may not run INFO, so nothing can be learned of the server.",
            advice="Give the user +info, +role and +config|get, for example: ACL SETUSER NAME +info +role +config|get.",
        ) from error
    if "redis_version" not in info:
        raise errors.NotRedis()
    mode = info.get("server_mode") or info.get("redis_mode", "standalone")
    if mode == "sentinel":
        raise errors.IsSentinel(advice=_sentinel_advice(info))
    if info.get("loading") == "1":
        percent = info.get("loading_loaded_perc")
        raise errors.Loading(f"The server is still loading its data{f' ({percent} %)' if percent else ''}.")
    config = _config(connection)
    edition, version = _identify(info)
    role, replica_of, nodes = _topology(connection, info, params)
    if mode == "cluster":
        nodes = _cluster_nodes(connection) or nodes
    return ProbeResult(
        edition=edition,
        version=version,
        compatible_version=".".join(version.split(".")[:2]),
        architecture=Architecture.CLUSTER if mode == "cluster" else Architecture.STANDARD,
        role=role,
        run_id=info.get("run_id", "")[:40],
        replica_of=replica_of,
        memory_used=_int(info.get("used_memory")),
        memory_max=_int(info.get("maxmemory", config.get("maxmemory"))),
        memory_host=_int(info.get("total_system_memory")),
        eviction_policy=info.get("maxmemory_policy", config.get("maxmemory-policy", "")),
        database_count=1
        if mode == "cluster" and not _int(config.get("databases"))
        else _int(config.get("databases")),
        databases=_keyspace(info),
        nodes=[_with_identity(node, params, version, info) for node in nodes],
        facts=_facts(info, config),
    )


def parse_info(text: str) -> dict[str, str]:
    """`name:value` lines of INFO; comments and anything else are skipped."""
    pairs = (line.partition(":") for line in str(text).splitlines() if not line.startswith("#"))
    return {name: value.strip() for name, colon, value in pairs if colon}


def _identify(info: Mapping[str, str]) -> tuple[str, str]:
    """Edition and version. Valkey keeps `redis_version` at the level that it is compatible with, and adds its own."""
    if info.get("server_name") == "valkey" or "valkey_version" in info:
        return Edition.VALKEY.value, info.get("valkey_version") or info["redis_version"]
    # Compatible servers of others name themselves: they are served, but not taken for Redis.
    if any(
        name.endswith("_version") and name.startswith(("dragonfly", "keydb", "kvrocks", "garnet"))
        for name in info
    ):
        return Edition.UNKNOWN.value, info["redis_version"]
    return Edition.REDIS.value, info["redis_version"]


def _topology(
    connection: PreparedConnection, info: Mapping[str, str], params: EndpointParams
) -> tuple[str, str, list[NodeInfo]]:
    """Role, master's address if it is a replica, and the nodes: the server itself and what ROLE tells."""
    own_host, own_port = (params.unix_path, 0) if params.unix_path else (params.host, params.port)
    try:
        reply = connection.ask("ROLE")
    except redis_errors.ResponseError:
        reply = []  # no permission: INFO tells the role as well, but not the replicas' announced addresses
    kind = str(reply[0]) if reply else {"slave": "slave"}.get(info.get("role", ""), info.get("role", ""))
    if kind == "slave":
        host, port = (
            (str(reply[1]), int(reply[2]))
            if reply
            else (info.get("master_host", ""), int(info.get("master_port", 0)))
        )
        master = NodeInfo(NodeRole.MASTER.value, host, port)
        return (
            NodeRole.REPLICA.value,
            f"{host}:{port}" if host else "",
            [NodeInfo(NodeRole.REPLICA.value, own_host, own_port), *([master] if host else [])],
        )
    nodes = [NodeInfo(NodeRole.MASTER.value, own_host, own_port)]
    if kind == "master" and len(reply) > 2:
        nodes += [NodeInfo(NodeRole.REPLICA.value, str(host), int(port)) for host, port, *_ in reply[2]]
    return (NodeRole.MASTER.value if kind == "master" else NodeRole.UNKNOWN.value), "", nodes


def _cluster_nodes(connection: PreparedConnection) -> list[NodeInfo]:
    """The nodes of a cluster: `id host:port@bus,hostname flags …` per line."""
    try:
        lines = str(connection.ask("CLUSTER", "NODES")).splitlines()
    except redis_errors.ResponseError:
        return []
    nodes = []
    for line in lines:
        _, address, flags, *_ = line.split(" ")
        match = re.match(r"(?P<host>.*):(?P<port>\d+)", address.split("@")[0].split(",")[0])
        if match and match["host"] and "noaddr" not in flags:
            role = NodeRole.MASTER if "master" in flags else NodeRole.REPLICA
            nodes.append(NodeInfo(role.value, match["host"], int(match["port"])))
    return nodes


def _with_identity(node: NodeInfo, params: EndpointParams, version: str, info: Mapping[str, str]) -> NodeInfo:
    is_asked = (node.host, node.port) in ((params.host, params.port), (params.unix_path, 0))
    return (
        NodeInfo(node.role, node.host, node.port, version, info.get("run_id", "")[:40]) if is_asked else node
    )


def _config(connection: PreparedConnection) -> dict[str, str]:
    """The few settings that INFO does not tell; {} where CONFIG is forbidden or renamed, as managed servers have it."""
    found: dict[str, str] = {}
    # One by one: servers before 7.0 take one pattern only.
    for name in ("databases", "maxmemory", "maxmemory-policy", "appendonly", "save"):
        try:
            reply = connection.ask("CONFIG", "GET", name)
        except redis_errors.ResponseError:
            break
        if isinstance(reply, list) and len(reply) == 2:
            found[str(reply[0])] = str(reply[1])
    return found


def _keyspace(info: Mapping[str, str]) -> list[dict[str, int]]:
    """`db0:keys=1,expires=0,avg_ttl=0` as {index, keys, expires}, by index."""
    databases = []
    for name, value in info.items():
        if re.fullmatch(r"db\d+", name):
            parts = dict(part.split("=", 1) for part in value.split(",") if "=" in part)
            databases.append(
                {
                    "index": int(name[2:]),
                    "keys": int(parts.get("keys", 0)),
                    "expires": int(parts.get("expires", 0)),
                }
            )
    return sorted(databases, key=lambda database: database["index"])


def _facts(info: Mapping[str, str], config: Mapping[str, str]) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "redis_version": info.get("redis_version", ""),
        "os": info.get("os", ""),
        "uptime_seconds": _int(info.get("uptime_in_seconds")),
        "clients": _int(info.get("connected_clients")),
        "max_clients": _int(info.get("maxclients")),
        "replicas": _int(info.get("connected_slaves")),
        "operations_per_second": _int(info.get("instantaneous_ops_per_sec")),
        "fragmentation_ratio": _float(info.get("mem_fragmentation_ratio")),
        "aof": {"1": True, "0": False}.get(info.get("aof_enabled", "")),
        "snapshots": config["save"] != "" if "save" in config else None,
        "config_readable": bool(config),
    }
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _sentinel_advice(info: Mapping[str, str]) -> str:
    watched = [
        address.group(1)
        for name, value in info.items()
        if re.fullmatch(r"master\d+", name) and (address := re.search(r"address=([^,]+)", value))
    ]
    if watched:
        return f"Register the server that it watches: {', '.join(watched)}."
    return "Register one of the servers that it watches."


def _explain(error: redis_errors.RedisError, params: EndpointParams) -> errors.ProbeError:
    """The ProbeError for what redis-py raised."""
    text = str(error)
    upper = text.upper()
    if isinstance(error, redis_errors.BusyLoadingError):
        return errors.Loading("The server is still loading its data.")
    if "NOAUTH" in upper or "AUTHENTICATION REQUIRED" in upper:
        return errors.PasswordNeeded()
    if "PROTECTED MODE" in upper or upper.startswith("DENIED"):
        return errors.ProtectedMode()
    if isinstance(error, redis_errors.NoPermissionError):
        return errors.NoPermission(
            f"The user lacks a permission: {text}.", advice="Grant it with ACL SETUSER."
        )
    if "MAX NUMBER OF CLIENTS" in upper:
        return errors.Closed(
            "The server has reached its maximum number of clients.",
            advice="Close connections, or raise maxclients.",
        )
    if isinstance(error, (redis_errors.InvalidResponse, redis_errors.ConnectionError)):
        if not params.tls and speaks_tls(params):
            return errors.TlsNeeded()
        if params.tls and wants_certificate(params):
            return errors.ClientCertificateNeeded()
        if isinstance(error, redis_errors.InvalidResponse) or speaks_http(params):
            return errors.NotRedis()
        return errors.Closed(f"{params.address} closed the connection without an answer.")
    if "UNKNOWN COMMAND" in upper and "INFO" in upper:
        return errors.NotRedis()
    return errors.Unexpected(f"The server answered with an error: {text}.")


def _int(value: str | None) -> int | None:
    try:
        return int(value) if value is not None else None
    except ValueError:
        return None


def _float(value: str | None) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None
