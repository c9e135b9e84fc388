"""The beginning of a value, for a person: what one side has that the other lacks, or has as another type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from migrations_app.engine.protocol.resp import Reply, ReplyError, encode_many
from migrations_app.engine.verify.model import escaped
from migrations_app.engine.verify.pair import Side

_SHOWN: Final = 60  # bytes of a string, and of each element
_ELEMENTS: Final = 3
_COMMANDS: Final[dict[str, tuple[str, tuple[str | int, ...]]]] = {
    "string": ("GETRANGE", (0, _SHOWN)),
    "list": ("LRANGE", (0, _ELEMENTS)),
    "hash": ("HSCAN", (0, "COUNT", _ELEMENTS)),
    "set": ("SSCAN", (0, "COUNT", _ELEMENTS)),
    "zset": ("ZRANGE", (0, _ELEMENTS, "WITHSCORES")),
    "stream": ("XRANGE", ("-", "+", "COUNT", _ELEMENTS)),
}


def previews(side: Side, keys: Sequence[tuple[bytes, str]]) -> list[str]:
    """`type value…` for each (key, type); the type alone where nothing can be shown. One round trip."""
    known = [(place, key, kind) for place, (key, kind) in enumerate(keys) if kind in _COMMANDS]
    texts = [kind for _, kind in keys]
    side.client.send(encode_many((_COMMANDS[kind][0], key, *_COMMANDS[kind][1]) for _, key, kind in known))
    for (place, _, kind), reply in zip(known, side.client.receive(len(known)), strict=True):
        if shown := _shown(kind, reply):
            texts[place] = f"{kind} {shown}"
    return texts


def _shown(kind: str, reply: Reply) -> str:
    if isinstance(reply, bytes):
        return _text(reply)
    if not isinstance(reply, list) or isinstance(reply, ReplyError):
        return ""
    if kind in ("hash", "set"):
        reply = reply[1] if len(reply) == 2 and isinstance(reply[1], list) else []
    if kind in ("hash", "zset"):
        pairs = zip(reply[::2], reply[1::2], strict=False)
        parts = [f"{_text(name)}: {_text(value)}" for name, value in pairs]
    elif kind == "stream":
        parts = [
            escaped(row[0]) for row in reply if isinstance(row, list) and row and isinstance(row[0], bytes)
        ]
    else:
        parts = [_text(item) for item in reply]
    more = ", …" if len(parts) > _ELEMENTS else ""
    return ", ".join(parts[:_ELEMENTS]) + more


def _text(value: Reply) -> str:
    return f"'{escaped(value, _SHOWN)}'" if isinstance(value, bytes) else str(value)
