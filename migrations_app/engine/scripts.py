"""Scripts of sources that send EVAL and EVALSHA as the client did: before 5.0, and up to 6.2 with `lua-replicate-commands no`.

Such a source names a script by its digest as soon as all its replicas have seen it, and after a partial synchronization it takes for
granted that they still know it. So the link keeps every script that it has seen in the target (`switchyard:scripts:<link>`, a
hash of digest → code in database 0) and sends its code instead of the digest: a target that has lost its scripts is no
problem. They are loaded again at the beginning of each session, for the target's clients. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Final

from migrations_app.engine.errors import ScriptUnknown

Emitted = list[tuple[int, list[bytes]]]

COMMANDS: Final = frozenset(b"EVAL EVALSHA SCRIPT FLUSHALL FLUSHDB SWAPDB".split())
# What gives a key an expiry that counts from now, or may.
_RELATIVE: Final = re.compile(rb"expire|setex|['\"](?:ex|px)['\"]", re.IGNORECASE)


class Scripts:
    """`key` is where they are kept; `exists` asks the target whether it knows a digest."""

    def __init__(self, key: bytes, exists: Callable[[bytes], bool]) -> None:
        self._key = key
        self._exists = exists
        self._known: dict[bytes, bytes] = {}  # digest → code
        self._unstored: dict[bytes, bytes] = {}

    def restore(self, stored: dict[bytes, bytes]) -> None:
        """What the target has kept of an earlier session."""
        self._known = dict(stored)

    def forget(self) -> None:
        """A full phase begins: the source tells its scripts again."""
        self._known, self._unstored = {}, {}

    def fact(self, name: bytes, value: bytes) -> list[list[bytes]]:
        """A fact of the snapshot; the ones named `lua` are scripts."""
        if name != b"lua":
            return []
        self._unstored |= self._learn(value)
        return [[b"SCRIPT", b"LOAD", value]]

    def begin(self) -> Emitted:
        """At the beginning of a stream: load what is known, keep what came with the snapshot."""
        commands: Emitted = [(0, [b"SCRIPT", b"LOAD", code]) for code in self._known.values()]
        unstored, self._unstored = self._unstored, {}
        return commands + self._keep(unstored)

    def before(self, args: Sequence[bytes]) -> Emitted:
        """What has to be kept before this command is applied, whatever becomes of it."""
        name = args[0].upper()
        if name == b"EVAL":
            return self._keep(self._learn(args[1]))
        if name == b"SCRIPT" and args[1].upper() == b"LOAD":
            return self._keep(self._learn(args[2]))
        if name == b"SCRIPT" and args[1].upper() == b"FLUSH":
            self._known = {}
            return [(0, [b"DEL", self._key])]
        return []

    def behind(self, database: int, args: Sequence[bytes]) -> Emitted:
        """What has to be kept again behind this command, which may have taken it away."""
        name = args[0].upper()
        if (
            name == b"FLUSHALL"
            or (name == b"FLUSHDB" and database == 0)
            or (name == b"SWAPDB" and b"0" in args[1:])
        ):
            return self._keep(self._known)
        return []

    def by_code(self, args: list[bytes]) -> list[bytes]:
        """EVALSHA as EVAL. Raises `ScriptUnknown` for a script that neither the link nor the target has."""
        if args[0].upper() != b"EVALSHA":
            return args
        digest = args[1].lower()
        code = self._known.get(digest)
        if code is not None:
            return [b"EVAL", code, *args[2:]]
        if self._exists(digest):
            return args
        raise ScriptUnknown(
            f"the source runs the script {digest.decode('utf-8', 'replace')} by its digest (EVALSHA), and nobody on this side has it"
        )

    @staticmethod
    def expiring_keys(args: Sequence[bytes]) -> Sequence[bytes]:
        """Keys whose expiry a script may count from the moment at which it runs, which is later here than on the source."""
        if args[0].upper() != b"EVAL" or not _RELATIVE.search(args[1]):
            return ()
        return args[3 : 3 + int(args[2])]

    def _learn(self, code: bytes) -> dict[bytes, bytes]:
        digest = hashlib.sha1(code, usedforsecurity=False).hexdigest().encode()
        if digest in self._known:
            return {}
        self._known[digest] = code
        return {digest: code}

    def _keep(self, scripts: dict[bytes, bytes]) -> Emitted:
        return [(0, [b"HSET", self._key, digest, code]) for digest, code in scripts.items()]
