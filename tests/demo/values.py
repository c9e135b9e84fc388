"""A database as plain Python values, to compare two fills: independent of the engine's own comparison, and of hash order."""

from __future__ import annotations

from typing import Any

import redis

IDLE_FIELDS = (b"idle", b"inactive", b"lag", b"seen-time", b"active-time")


def client(url: str, db: int = 0) -> redis.Redis:
    return redis.Redis.from_url(url, db=db, protocol=2)


def values(url: str, db: int) -> dict[bytes, Any]:
    """{key: (type, value, moment of expiry in seconds since 1970, 0 without one)}."""
    server = client(url, db)
    now = int(float(server.time()[0]) * 1000)
    found = {}
    for key in server.scan_iter(count=1000):
        kind = server.type(key)
        left = server.pttl(key)
        found[key] = (kind, _value(server, key, kind), (now + left) / 1000 if left >= 0 else 0)
    return found


def differences(one: dict[bytes, Any], other: dict[bytes, Any], seconds: float = 0) -> list[bytes]:
    """Keys that only one side has, or that differ in type, value, or by more than ``seconds`` in their expiry."""
    return [
        key
        for key in one.keys() | other.keys()
        if key not in one
        or key not in other
        or one[key][:2] != other[key][:2]
        or abs(one[key][2] - other[key][2]) > seconds
    ]


def _value(server: redis.Redis, key: bytes, kind: bytes) -> Any:
    match kind:
        case b"string":
            return server.get(key)
        case b"list":
            return server.lrange(key, 0, -1)
        case b"set":
            return sorted(server.smembers(key))
        case b"zset":
            return sorted(server.zrange(key, 0, -1, withscores=True))
        case b"hash":
            return sorted(server.hgetall(key).items())
        case _:
            groups = [
                (
                    group["name"],
                    group["last-delivered-id"],
                    sorted(c["name"] for c in server.xinfo_consumers(key, group["name"])),
                )
                for group in server.xinfo_groups(key)
            ]
            pending = [
                [
                    (p["message_id"], p["consumer"], p["times_delivered"])
                    for p in server.xpending_range(key, group[0], "-", "+", 1000)
                ]
                for group in groups
            ]
            return server.xrange(key), groups, pending, server.xinfo_stream(key)["last-generated-id"]
