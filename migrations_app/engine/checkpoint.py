"""How far a link has come: kept in the target, with the data. Pure.

A hash in database 0 under `switchyard:checkpoint:<link>`, written in the same MULTI/EXEC as the batch that it follows, with all its
fields every time, so that a FLUSHALL in the stream does not take it away.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from migrations_app.engine.errors import EngineError, UsageError

OWN_PREFIX: Final = b"switchyard:"
FORMAT: Final = 1
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

FULL: Final = "full"  # the full phase has begun and is not complete
INCREMENTAL: Final = "incremental"
CLUSTER: Final = "cluster"  # of a link whose shards have checkpoints of their own


class CheckpointError(EngineError):
    id = "checkpoint.unreadable"
    advice = "The checkpoint was written by another version or altered. Delete its key on the target to start from the beginning."


def check_name(name: str) -> str:
    """The name of a link, or `UsageError`."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a link: 1 to 64 letters, digits, dots, dashes and underscores"
        )
    return name


def shard_name(link: str, first: int) -> str:
    """Of the link of one shard of a source cluster, by its first slot. `@` cannot be in the name of a link that a person gives."""
    return f"{link}@{first}"


def checkpoint_key(link: str) -> bytes:
    return OWN_PREFIX + b"checkpoint:" + link.encode()


def deferred_key(link: str) -> bytes:
    """Of the set, in each database, of the keys that have got no expiry yet."""
    return OWN_PREFIX + b"deferred:" + link.encode()


def scripts_key(link: str) -> bytes:
    """Of the hash, in database 0, of the scripts that the source names by their digests: digest → code."""
    return OWN_PREFIX + b"scripts:" + link.encode()


def repair_key(link: str) -> bytes:
    """Of the set, in each database, of the keys whose value may be wrong and is read from the source again."""
    return OWN_PREFIX + b"repair:" + link.encode()


def heartbeat_key(link: str) -> bytes:
    """Of the string, in the source, that tells how long a write takes to the target."""
    return OWN_PREFIX + b"heartbeat:" + link.encode()


def written_key(link: str) -> bytes:
    """Of the set, in each database, of the keys that a full phase has written among keys that it keeps."""
    return OWN_PREFIX + b"written:" + link.encode()


def kept_key(link: str) -> bytes:
    """Of the number, in each database, of keys that a full phase has left as they were."""
    return OWN_PREFIX + b"kept:" + link.encode()


def staged_key(link: str) -> bytes:
    """Of a value that is being built and gets its own name at the end."""
    return OWN_PREFIX + b"staged:" + link.encode()


def client_name(link: str, epoch: int) -> str:
    """How connections of a link are named on both servers (CLIENT SETNAME)."""
    return f"{client_prefix(link)}{epoch}"


def client_prefix(link: str) -> str:
    return f"{OWN_PREFIX.decode()}{link}:"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`offset` is the last byte of the source's stream that is applied; `database` the one that the stream has selected there.

    `held` are the databases of the target that were not empty before the link's first write: when a full phase repeats, the
    others are cleared, these are not. `conflict` is the policy with which the full phase began (see `conflict.py`); `fail` says that
    no name was on both sides then, `keep:noted` that the names of the link's own keys stay noted. `fault` says why the data cannot be trusted any more; empty is well. `shards` is how a source
    cluster has divided its slots (`shards/layout.py`); it stands in the checkpoint of the link as a whole, which has no position.
    """

    epoch: int
    phase: str = ""
    replication_id: str = ""
    offset: int = -1
    database: int = 0
    held: frozenset[int] = frozenset()
    fault: str = ""
    shards: str = ""
    conflict: str = ""

    @property
    def resumable(self) -> bool:
        return self.phase == INCREMENTAL and bool(self.replication_id) and not self.fault

    def at(self, offset: int, database: int) -> Checkpoint:
        return replace(self, offset=offset, database=database)

    def in_phase(self, phase: str) -> Checkpoint:
        return replace(self, phase=phase)

    def under(self, replication_id: str) -> Checkpoint:
        """The same place in the same stream, which has another name now."""
        return replace(self, replication_id=replication_id)

    def command(self, link: str) -> list[bytes]:
        """HSET (HMSET, for servers before 4.0) with all fields."""
        fields = {
            "format": FORMAT,
            "epoch": self.epoch,
            "phase": self.phase,
            "replid": self.replication_id,
            "offset": self.offset,
            "db": self.database,
            "held": ",".join(map(str, sorted(self.held))),
            "fault": self.fault,
            "conflict": self.conflict,
        } | ({"shards": self.shards} if self.shards else {})
        args = [b"HMSET", checkpoint_key(link)]
        for name, value in fields.items():
            args += [name.encode(), str(value).encode()]
        return args

    @classmethod
    def read(cls, fields: dict[bytes, bytes]) -> Checkpoint:
        """From the fields of the hash; none means that no link of this name was ever here (epoch 0)."""
        if not fields:
            return cls(epoch=0)
        try:
            if int(fields[b"format"]) != FORMAT:
                raise CheckpointError(
                    f"the checkpoint has format {fields[b'format'].decode()}, this engine knows {FORMAT}"
                )
            held = fields.get(b"held", b"").decode()
            return cls(
                epoch=int(fields[b"epoch"]),
                phase=fields[b"phase"].decode(),
                replication_id=fields[b"replid"].decode(),
                offset=int(fields[b"offset"]),
                database=int(fields[b"db"]),
                held=frozenset(int(number) for number in held.split(",") if number),
                fault=fields.get(b"fault", b"").decode("utf-8", "replace"),
                shards=fields.get(b"shards", b"").decode(),
                conflict=fields.get(b"conflict", b"").decode(),
            )
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"the checkpoint cannot be read: {error}") from None
