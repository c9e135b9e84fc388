"""A writer of what a cluster can take, and what links towards clusters are asked."""

from __future__ import annotations

import itertools
import threading
from random import Random
from typing import Any, Self

import redis

from tests.engine.links import RunningLink, assert_equal, offset_of
from tests.support.cluster import Cluster
from tests.support.servers import Server
from tests.support.wait import wait_for


class SlotWriter:
    """Writes to a source from a thread: counters and lists, in which a lost, doubled or displaced write shows, and much else.

    `written` counts commands. It goes on until `stop`, or to `most` commands.
    """

    def __init__(self, source: Server, *, seed: int = 1, keys: int = 300, pause: float = 0.0) -> None:
        self.written = 0
        self._source = source
        self._random = Random(seed)
        self._keys = keys
        self._pause = pause
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="slot-writer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error

    def wait_for_more(self, count: int, timeout: float = 30) -> None:
        goal = self.written + count
        wait_for(lambda: self.written >= goal or self._error is not None, timeout, lambda: f"{self.written}")

    def _run(self) -> None:
        try:
            with self._source.client() as client:
                for number in itertools.count():
                    if self._stop.is_set():
                        return
                    self._batch(client, number)
                    self._stop.wait(self._pause)
        except BaseException as error:  # noqa: BLE001 - raised by `stop`
            self._error = error

    def _batch(self, client: redis.Redis, number: int) -> None:
        pick = self._random
        pipe: Any = client.pipeline(transaction=number % 7 == 0)
        for _ in range(10):
            key = pick.randrange(self._keys)
            pipe.incr(f"counter:{key}")
            pipe.rpush(f"list:{key}", number)
            pipe.hset(f"hash:{key}", f"f{number % 50}", number)
            pipe.set(f"string:{key}", f"{number}" * pick.randrange(1, 20))
        key = pick.randrange(self._keys)
        pipe.mset({f"m:{key + step}": number for step in range(4)})
        pipe.delete(*(f"m:{pick.randrange(self._keys)}" for _ in range(3)))
        pipe.set(f"string:{key}", number)
        pipe.rename(f"string:{key}", f"{{string:{key}}}:renamed")
        pipe.set(f"string:{key}", number)
        pipe.zadd(f"zset:{key}", {str(number % 90): number})
        pipe.sadd(f"set:{key}", number % 200)
        pipe.smove(f"set:{key}", f"{{set:{key}}}:other", number % 200)
        pipe.set(f"expires:{key}", number, ex=900 + key)
        pipe.expire(f"hash:{key}", 3600 + key)
        pipe.execute()
        self.written += 54


def settle(link: RunningLink, source: Server, cluster: Cluster, timeout: float = 60) -> None:
    """Until all that the source has written is applied, and no expiry waits to be set."""
    link.wait_offset(offset_of(source), timeout)
    wait_for(lambda: not notes(cluster, link.config.name) or not link.running, timeout, link.told)
    assert link.running, link.told()


def notes(cluster: Cluster, link: str) -> list[bytes]:
    """The sets of keys that a link has noted."""
    found: list[bytes] = []
    for node in cluster.holders():
        with node.client() as client:
            found += client.scan_iter(match=f"switchyard:deferred:{link}:*", count=10_000)
    return found


def same(source: Server, cluster: Cluster) -> None:
    """The cluster holds what the source holds."""
    assert_equal(source, cluster.holders()[0])
