"""A writer on a cluster that knows, key by key, what it has written."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, Self

import redis

from .cluster import Cluster, slot_of
from .servers import Server

_KEYS = 60


class ClusterWriter:
    """Writes from a thread to keys in all parts of the cluster; `stop` says how far each of them has come.

    `audit:list:n` holds 0, 1, 2 …; `audit:count:n` how many; `audit:hash:n` and `audit:zset:n` the last one. Whatever else there is
    (keys that come and go, keys that expire, scripts and transactions) only has to be equal on both sides.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cluster-writer", daemon=True)
        self._failure: Exception | None = None
        self._counts = [0] * _KEYS
        self._clients: dict[int, redis.Redis] = {}
        self._map: dict[int, Server] = {}
        self.rounds = 0
        self.lost = 0  # connections

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def stop(self) -> dict[str, int]:
        """End; key → how many elements were written. What was not acknowledged is read back."""
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure
        return {f"audit:list:{number}": count for number, count in enumerate(self._counts)}

    def _run(self) -> None:
        try:
            number = 0
            while not self._stop.is_set():
                number = (number + 1) % _KEYS
                try:
                    self._write(number)
                except (redis.RedisError, OSError, AssertionError):
                    self.lost += 1
                    self._map.clear()
                    self._clients.clear()
                    self._read_back(number)
                self.rounds += 1
        except Exception as error:  # noqa: BLE001 - told by stop()
            self._failure = error

    def _write(self, number: int) -> None:
        tag = f"{{{number}}}"
        count = self._counts[number]
        client = self._client(number)
        pipe = client.pipeline(transaction=number % 2 == 0)
        pipe.rpush(f"audit:list:{tag}", count)
        pipe.incr(f"audit:count:{tag}")
        pipe.hset(f"audit:hash:{tag}", f"field{count % 20}", count)
        pipe.zadd(f"audit:zset:{tag}", {f"member{count % 20}": count})
        pipe.set(f"other:{tag}:{count % 50}", "x" * (count % 200), px=600_000 + count)
        pipe.delete(f"other:{tag}:{(count + 25) % 50}")
        pipe.eval("redis.call('INCR', KEYS[1]) redis.call('LPUSH', KEYS[2], ARGV[1])", 2, f"n:{tag}", f"l:{tag}", count)  # fmt: skip
        pipe.ltrim(f"l:{tag}", 0, 30)
        pipe.execute()
        self._counts[number] = count + 1

    def _read_back(self, number: int) -> None:
        while not self._stop.wait(0.1):
            with contextlib.suppress(redis.RedisError, OSError, AssertionError):
                self._counts[number] = int(self._client(number).llen(f"audit:list:{{{number}}}"))
                return
            self._map.clear()
            self._clients.clear()
        self._counts[number] = -1  # nobody knows

    def _client(self, number: int) -> redis.Redis:
        server = self._map.get(number)
        if server is None:
            server = self._map[number] = self._cluster.holder(slot_of(str(number)))
        if server.port not in self._clients:
            self._clients[server.port] = server.client(socket_timeout=5, socket_connect_timeout=2)
        return self._clients[server.port]


def audit(get: Callable[[str], redis.Redis], expected: dict[str, int]) -> list[str]:
    """What is wrong on a server, or on the cluster, that `get` gives for a key; empty is well."""
    wrong = []
    for name, count in expected.items():
        tag = "{" + name.rpartition(":")[2] + "}"
        found = [int(value) for value in get(tag).lrange(f"audit:list:{tag}", 0, -1)]
        if count >= 0 and found != list(range(count)):
            wrong.append(f"audit:list:{tag}: {len(found)} elements instead of {count}: …{found[-5:]}")
        if int(get(tag).get(f"audit:count:{tag}") or 0) != len(found):
            wrong.append(f"audit:count:{tag}")
    return wrong


def contents(client: Any) -> dict[bytes, tuple[Any, int]]:
    """Every key → (value, expiry in ms), of database 0; the product's own keys left out."""
    reads = {
        b"string": lambda pipe, key: pipe.get(key),
        b"list": lambda pipe, key: pipe.lrange(key, 0, -1),
        b"hash": lambda pipe, key: pipe.hgetall(key),
        b"zset": lambda pipe, key: pipe.zrange(key, 0, -1, withscores=True),
        b"none": lambda pipe, key: pipe.get(key),
    }
    keys = [key for key in client.scan_iter(count=5000) if not key.startswith(b"switchyard:")]
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.type(key)
    kinds = pipe.execute()
    for key, kind in zip(keys, kinds, strict=True):
        reads[kind](pipe, key)
        pipe.execute_command("PEXPIRETIME", key)
    replies = pipe.execute()
    return {key: (replies[2 * n], replies[2 * n + 1]) for n, key in enumerate(keys) if kinds[n] != b"none"}
