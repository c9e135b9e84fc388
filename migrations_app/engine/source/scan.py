"""A source that is read by its keys: SCAN, then the expiry and DUMP of each key. Needs no right to replicate."""

from __future__ import annotations

from collections.abc import Sequence

from migrations_app.engine import errors
from migrations_app.engine.client import Client
from migrations_app.engine.config import LinkConfig, Phases
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.protocol.resp import Reply, ReplyError
from migrations_app.engine.source.psync import check

_PROBE = "switchyard:probe"
PAGE_BYTES = 8 << 20  # of values that the source is asked for at once
DUMP_MOST = 512 << 20  # bytes; DUMP makes a copy of the value in the source's memory
_BLIND = 8  # keys at once where the source does not tell their sizes

# Commands that change data without a notification, tried on 3.2 to 8.6 and Valkey 9: those over whole databases (and what may switch
# notifications off and on again), others of servers before 6.0, and those on groups of streams and on vector sets.
_SWEEPING = frozenset({"flushall", "flushdb", "swapdb", "config|set"})
_SWEEPING_OLD = _SWEEPING | {"move", "persist", "restore"}
_QUIET_KINDS = frozenset(
    ["xreadgroup", "xack", "xackdel", "xnack", "xcfgset", "xclaim", "xautoclaim", "vadd", "vrem", "vsetattr"]
)


class ScanSource:
    """The connection on which the questions are asked."""

    follows = False
    resumes = False

    def __init__(self, config: LinkConfig, name: str) -> None:
        self.client = Client(config.source, timeout=config.timeout)
        self.name = name
        self._following = config.phases is Phases.FULL_INCREMENTAL
        try:
            self.facts = ServerFacts.of(self.client)
            check(self.facts, config.source.address)
            # The name is for who looks at CLIENT LIST: it is no loss where it is refused.
            _, exact, sized = self.client.pipeline(
                [("CLIENT", "SETNAME", name), ("PEXPIRETIME", _PROBE), ("MEMORY", "USAGE", _PROBE)]
            )
        except BaseException:
            self.client.close()
            raise
        self.absolute = not isinstance(exact, ReplyError)  # PEXPIRETIME is known from 7.0 on
        self.sized = not isinstance(sized, ReplyError)  # MEMORY USAGE from 4.0 on

    def close(self) -> None:
        self.client.close()

    @property
    def limits(self) -> str:
        text = (
            "key scan: each key is copied as it is when it is read, not all of them at one moment; functions, the times of last use "
            "and what belongs to no key are not copied; a link in the opposite direction cannot run beside it"
        )
        if not self._following:
            return f"{text}; changes made during the scan may or may not be in the copy"
        return (
            f"{text}; changes are followed by keyspace notifications: a changed key is read again, so in the end each key has the source's "
            "value, but transactions, the order of writes and the values in between are not carried; groups of streams follow with "
            "some delay; after every interruption all keys are read again"
        )

    def questions(self, keys: Sequence[bytes]) -> list[tuple[str, bytes]]:
        """What `protocol.dump.DumpReader` reads the replies to."""
        expiry = "PEXPIRETIME" if self.absolute else "PTTL"
        return [pair for key in keys for pair in ((expiry, key), ("DUMP", key), (expiry, key))]

    def header(self) -> bytes:
        """Of the snapshot that the answers make up: it says whose numbers of types they have."""
        return b"VALKEY080" if self.facts.valkey_version.split(".")[0] not in ("", "7", "8") else b"REDIS0011"

    def portions(self, keys: Sequence[bytes], sizes: Sequence[Reply]) -> list[list[bytes]]:
        """Keys that are asked for at once, so that their values are not too much. `sizes` as MEMORY USAGE gave them, or empty."""
        if not sizes:
            return [list(keys[start : start + _BLIND]) for start in range(0, len(keys), _BLIND)]
        portions: list[list[bytes]] = [[]]
        total = 0
        for key, size in zip(keys, sizes, strict=True):
            if isinstance(size, ReplyError):
                raise self.client.error(size, "MEMORY USAGE")
            takes = size if isinstance(size, int) else 0
            if takes > DUMP_MOST:
                raise errors.UnsupportedData(
                    f"{self.client.endpoint.address}: the value of key {key[:128]!r} takes {takes >> 20} MB: too much for DUMP, which "
                    f"makes a copy of it in the source's memory (a scan takes up to {DUMP_MOST >> 20} MB)",
                    advice="Read this source by PSYNC, SYNC or a snapshot file, split the value, or leave its database out.",
                )
            if portions[-1] and total + takes > PAGE_BYTES:
                portions.append([])
                total = 0
            portions[-1].append(key)
            total += takes
        return portions


class SilentChanges:
    """Changes that no notification tells, from the counters of INFO commandstats: how often such commands ran."""

    def __init__(self, version: tuple[int, ...]) -> None:
        self._before: dict[str, str] | None = None
        self._sweeping = _SWEEPING if version >= (6,) else _SWEEPING_OLD

    def look(self, info: bytes) -> tuple[list[str], bool]:
        """(commands that ran and may have changed anything, whether streams or values of modules may have) since the last look.

        The first look says neither.
        """
        counts: dict[str, str] = {}
        for line in info.decode("utf-8", "replace").splitlines():
            name, colon, fields = line.partition(":")
            if colon and name.startswith("cmdstat_"):
                counts[name[8:].lower()] = fields.partition(",")[0]
        before, self._before = self._before, counts
        if before is None:
            return [], False
        # CONFIG RESETSTAT takes the counters away, which is a change as well.
        changed = {name for name in {*before, *counts} if before.get(name) != counts.get(name)}
        # A command with a dot is one of a module; what those tell is their own affair.
        return sorted(changed & self._sweeping), any(name in _QUIET_KINDS or "." in name for name in changed)
