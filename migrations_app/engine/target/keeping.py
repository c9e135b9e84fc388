"""What a target keeps of the names that a full phase has written, and left as they were, among keys of others.

`written` holds the names, `kept` the number of keys that were left, or for a key scan, which comes by them again, their names.
At one server there is one of each in every database, in a cluster one in every slot.
"""

from __future__ import annotations

from typing import Protocol

from migrations_app.engine import errors
from migrations_app.engine.checkpoint import kept_key, staged_key, written_key
from migrations_app.engine.protocol.resp import Reply
from migrations_app.engine.target.base import Target
from migrations_app.engine.target.cluster import ClusterTarget
from migrations_app.engine.target.router import in_slot
from migrations_app.engine.target.standalone import StandaloneTarget

_AT_ONCE = 1000

Marker = list[bytes] | None  # with which the link's transactions begin (`loop.py`)


class Keeping(Protocol):
    """Questions and writes beside the pipeline; only while that is idle."""

    def load_script(self, script: bytes) -> bytes:
        """Make a script known; its digest, for EVALSHA."""

    def delete_written(self, database: int, marker: Marker) -> int:
        """Delete some of the keys that are noted as written; how many are left."""

    def kept(self, *, names: bool) -> dict[int, int]:
        """Database → keys that were left as they were; `names`: they stand there by their names."""

    def settle(self, final: list[list[bytes]], *, lasting: bool) -> None:
        """Forget which keys were kept and, unless they are to be known for longer, which were written; and run commands on the checkpoint."""


def keeping_of(target: Target) -> Keeping:
    """For either kind of target."""
    if isinstance(target, ClusterTarget):
        return ClusterKeeping(target)
    assert isinstance(target, StandaloneTarget)
    return ServerKeeping(target)


class ServerKeeping:
    """At one server."""

    def __init__(self, target: StandaloneTarget) -> None:
        self._target = target
        self._client = target.client
        self._written, self._kept = written_key(target.link), kept_key(target.link)

    def load_script(self, script: bytes) -> bytes:
        return self._target.load_script(script)

    def delete_written(self, database: int, marker: Marker) -> int:
        client, noted = self._client, self._written
        select = [b"SELECT", b"%d" % database]
        client.execute(*select)
        names = client.execute("SRANDMEMBER", noted, _AT_ONCE)
        left = client.execute("SCARD", noted)
        client.execute("SELECT", 0)
        if not isinstance(names, list) or not isinstance(left, int):
            raise errors.ProtocolError(f"{client.endpoint.address}: {noted!r} is no set")
        if names:
            begin = [] if marker is None else [marker]
            delete: list[list[bytes]] = [[b"DEL", *names], [b"SREM", noted, *names]]  # type: ignore[list-item]
            self._target.run([*begin, select, *delete, [b"SELECT", b"0"]])
        return left - len(names)

    def kept(self, *, names: bool) -> dict[int, int]:
        client, found = self._client, dict[int, int]()
        for database in client.keyspace():
            client.execute("SELECT", database)
            if count := _number(client.execute("SCARD" if names else "GET", self._kept)):
                found[database] = count
        client.execute("SELECT", 0)
        return found

    def settle(self, final: list[list[bytes]], *, lasting: bool) -> None:
        """In one transaction."""
        delete = b"UNLINK" if self._target.facts.version >= (4,) else b"DEL"
        names = [self._kept] if lasting else [self._written, self._kept]
        commands: list[list[bytes]] = []
        for database in sorted(self._client.keyspace()):
            commands += [[b"SELECT", b"%d" % database], [delete, *names]]
        self._target.run([*commands, [b"SELECT", b"0"], *final])


class ClusterKeeping:
    """In a cluster. There is no transaction over slots: the checkpoint comes first, so that until then all is known to a next
    attempt, and what an interruption leaves behind it is forgotten when the incremental phase begins (`forget`)."""

    def __init__(self, target: ClusterTarget) -> None:
        self._target = target
        self._written, self._kept = written_key(target.link), kept_key(target.link)

    def load_script(self, script: bytes) -> bytes:
        return self._target.load_script(script)

    def delete_written(self, database: int, marker: Marker) -> int:
        target, written, done = self._target, self._written, 0
        some: list[int] = []
        left = 0
        for number, reply in list(target.of_all_slots("SCARD", written)):
            left += reply if isinstance(reply, int) else 0
            if reply:
                some.append(number)
        for number in some:
            noted = in_slot(written, number)
            (names,) = target.ask(number, [("SRANDMEMBER", noted, _AT_ONCE)], following=True)
            if not isinstance(names, list):
                raise errors.ProtocolError(f"{target.endpoint.address}: {noted!r} is no set")
            deleted: list[list[bytes]] = [[b"DEL", *names], [b"SREM", noted, *names]]  # type: ignore[list-item]
            target.run(deleted, slot=number, marker=marker)
            done += len(names)
            if done >= _AT_ONCE:
                break
        return left - done

    def kept(self, *, names: bool) -> dict[int, int]:
        replies = self._target.of_all_slots("SCARD" if names else "GET", self._kept)
        total = sum(_number(reply) for _, reply in replies)
        return {0: total} if total else {}

    def settle(self, final: list[list[bytes]], *, lasting: bool) -> None:
        self._target.run(final)
        self.forget(lasting=lasting)

    def forget(self, *, lasting: bool = False) -> None:
        names = [self._kept, staged_key(self._target.link), *([] if lasting else [self._written])]
        self._target.forget(*names)


def _number(reply: Reply) -> int:
    return int(reply) if isinstance(reply, int | bytes) else 0
