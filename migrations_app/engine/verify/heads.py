"""What is asked of every key first: its type, its expiry and its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from migrations_app.engine.protocol.resp import Reply, encode_many
from migrations_app.engine.verify.pair import Changed, Pair, Side

# Without MEMORY USAGE (before 4.0) the size is guessed from the number of elements.
_LENGTHS = {b"string": "STRLEN", b"list": "LLEN", b"set": "SCARD", b"hash": "HLEN", b"zset": "ZCARD"}
_ELEMENT = 256
_ABSENT = b"none"


@dataclass(frozen=True, slots=True)
class Head:
    """One key on one side. `expiry` is in ms, absolute or remaining (the same kind on both sides), negative for none.

    `memory` is the server's estimate in bytes, or None where nothing tells it.
    """

    kind: bytes
    expiry: int
    memory: int | None

    @property
    def absent(self) -> bool:
        return self.kind == _ABSENT or self.expiry == -2  # -2: it expired between the two questions


def read_heads(pair: Pair, keys: Sequence[bytes]) -> list[tuple[Head, Head]]:
    """The heads of the keys on source and target, in one round trip (two where the size has to be guessed)."""
    bulks = [b"$%d\r\n%b\r\n" % (len(key), key) for key in keys]
    expiry = b"PEXPIRETIME" if pair.source.pexpiretime and pair.target.pexpiretime else b"PTTL"
    questions = [_questions(side, bulks, expiry) for side in (pair.source, pair.target)]
    replies = pair.ask(questions[0][0], questions[1][0], questions[0][1], questions[1][1])
    source = _heads(pair.source, keys, replies[0])
    target = _heads(pair.target, keys, replies[1])
    return list(zip(source, target, strict=True))


def _questions(side: Side, bulks: Sequence[bytes], expiry: bytes) -> tuple[bytes, int]:
    # Built by hand: this is what is sent for each key of the data set.
    first = b"*2\r\n$4\r\nTYPE\r\n"
    second = b"*2\r\n$%d\r\n%b\r\n" % (len(expiry), expiry)
    if not side.memory:
        return b"".join([first + bulk + second + bulk for bulk in bulks]), 2 * len(bulks)
    third = b"*3\r\n$6\r\nMEMORY\r\n$5\r\nUSAGE\r\n"
    return b"".join([first + bulk + second + bulk + third + bulk for bulk in bulks]), 3 * len(bulks)


def _heads(side: Side, keys: Sequence[bytes], replies: list[Reply]) -> list[Head]:
    step = 3 if side.memory else 2
    kinds, expiries = replies[::step], replies[1::step]
    sizes = replies[2::step] if side.memory else _lengths(side, keys, kinds)
    heads = []
    for kind, expiry, size in zip(kinds, expiries, sizes, strict=True):
        if not isinstance(kind, bytes) or not isinstance(expiry, int) or not isinstance(size, int | None):
            side.checked(kind, "TYPE")
            side.checked(expiry, "PTTL")
            side.checked(size, "MEMORY USAGE")
            raise side.unexpected("TYPE")
        heads.append(Head(kind, expiry, size))
    return heads


def _lengths(side: Side, keys: Sequence[bytes], kinds: Sequence[Reply]) -> list[Reply]:
    asked = [
        (index, kind, key)
        for index, (key, kind) in enumerate(zip(keys, kinds, strict=True))
        if isinstance(kind, bytes) and kind in _LENGTHS
    ]
    side.client.send(encode_many((_LENGTHS[kind], key) for _, kind, key in asked))
    sizes: list[Reply] = [None] * len(keys)
    for (index, kind, _), reply in zip(asked, side.client.receive(len(asked)), strict=True):
        try:
            length = side.number(reply, _LENGTHS[kind])
        except Changed:  # the comparison of the value will meet it, too
            continue
        sizes[index] = length if kind == b"string" else length * _ELEMENT
    return sizes
