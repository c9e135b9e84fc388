"""Which keys a command leaves wrong where a key that it builds on has expired on the target too early. Pure.

The target expires by itself what it was given. Where a command arrives late, the source may have renewed the expiry in time, and the
target has lost the key before the renewal came. Every such key is named by the command that renews it; and a command
that reads other keys than the one that it writes hands the loss on. A command that writes a key anew hides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from migrations_app.engine.keys import keys_of

# Change the expiry of a key, or of fields, and leave the value as it is.
RENEW: Final = frozenset(
    b"EXPIRE EXPIREAT PEXPIRE PEXPIREAT GETEX PERSIST "
    b"HEXPIRE HEXPIREAT HPEXPIRE HPEXPIREAT HGETEX HPERSIST".split()
)
# Take something from one key and put it into another: both are in doubt.
_MOVE: Final = frozenset(b"RENAME RENAMENX MOVE SMOVE LMOVE BLMOVE RPOPLPUSH BRPOPLPUSH".split())
_SCRIPT: Final = frozenset(b"EVAL EVALSHA FCALL".split())
# Write one key from what others hold: the first key of the command …
_STORE_FIRST: Final = frozenset(
    b"SDIFFSTORE SINTERSTORE SUNIONSTORE ZUNIONSTORE ZINTERSTORE ZDIFFSTORE ZRANGESTORE GEOSEARCHSTORE PFMERGE BITOP".split()
)
# … or the last one.
_STORE_LAST: Final = frozenset(b"SORT GEORADIUS GEORADIUSBYMEMBER COPY".split())

DERIVE: Final = _MOVE | _SCRIPT | _STORE_FIRST | _STORE_LAST
SUSPICIOUS: Final = RENEW | DERIVE | {b"HSETEX"}

# The forms in which the link applies them: their answers tell whether the key, or the field, was there. A PERSIST of the source is written
# small: the link makes others of expiries that it leaves out, and those say nothing.
PERSISTS: Final = b"persist"
ANSWERING: Final = frozenset({b"PEXPIREAT", b"HPEXPIREAT", b"HPERSIST", PERSISTS, b"HSETEX"})

# What a server says to a command whose key is missing, or has been made anew. Any other error is a divergence.
_MISSING: Final = (
    "ERR no such key",
    "ERR index out of range",
    "ERR source key does not exist",
    "ERR The XGROUP subcommand requires the key to exist",
    "ERR The ID specified in X",
    "NOGROUP ",
)


def suspects(args: Sequence[bytes], database: int) -> list[tuple[int, bytes]]:
    """(database, key) of each key that may be wrong behind this command."""
    name = args[0].upper()
    if name in RENEW:
        return [(database, args[1])]
    if name == b"HSETEX":
        # It writes the fields anew, but not those that must be there.
        return [(database, args[1])] if b"FXX" in (arg.upper() for arg in args[2:5]) else []
    if name not in DERIVE:
        return []
    keys = keys_of(args)
    if name == b"MOVE":
        return [(database, keys[0]), (int(args[2]), keys[0])]
    if name == b"COPY":
        for place in range(3, len(args) - 1):
            if args[place].upper() == b"DB":
                database = int(args[place + 1])
    if name in _STORE_FIRST:
        keys = keys[:1]
    elif name in _STORE_LAST:
        keys = keys[-1:]
    return [(database, key) for key in keys]


def missed(args: Sequence[bytes], error: str) -> bool:
    """Whether a command may have failed because its key had expired: with its keys repaired, all is well."""
    return args[0].upper() not in _SCRIPT and error.startswith(_MISSING)
