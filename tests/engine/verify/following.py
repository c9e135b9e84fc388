"""What a link under test tells a comparison, and differences that are planted in its target while it works."""

from __future__ import annotations

from dataclasses import dataclass

from tests.engine.links import RunningLink
from tests.engine.verify.plants import LATER, Command


class Following:
    """`engine.verify.Follow` of a link in this process."""

    def __init__(self, link: RunningLink) -> None:
        self.link = link

    def lag(self) -> float | None:
        return self.link.progress.lag_seconds

    def reached(self, offset: int) -> bool | None:
        return (self.link.progress.applied_offset or 0) >= offset


@dataclass(frozen=True)
class Planted:
    """`base` is written to the source, and `change` to the target once the link has carried it there."""

    key: str
    base: tuple[Command, ...]
    change: tuple[Command, ...]
    found: tuple[tuple[int, str], ...]  # (database, aspect)


def planted() -> list[Planted]:
    """Twelve kinds of difference, each with something that the target lacks and with something that it has too much."""
    stream = (
        ("XADD", "@", "1-1", "f", "v"),
        ("XADD", "@", "2-1", "f", "v"),
        ("XADD", "@", "3-1", "f", "v"),
        ("XGROUP", "CREATE", "@", "g", "0"),
        ("XREADGROUP", "GROUP", "g", "c", "COUNT", "2", "STREAMS", "@", ">"),
    )
    hashed = ("HSET", "@", "f", "1", "g", "2")
    rows: list[tuple[str, tuple[Command, ...], tuple[Command, ...], tuple[tuple[int, str], ...]]] = [
        ("missing", (("SET", "@", "1"),), (("DEL", "@"),), ((0, "missing"),)),
        ("extra", (), (("SET", "@", "1"),), ((0, "extra"),)),
        ("value", (("SET", "@", "1"),), (("SET", "@", "2"),), ((0, "value"),)),
        ("value-more", (("SET", "@", "1"),), (("APPEND", "@", "2"),), ((0, "value"),)),
        ("type", (("SET", "@", "1"),), (("DEL", "@"), ("RPUSH", "@", "1")), ((0, "type"),)),
        ("type-other", (("RPUSH", "@", "1"),), (("SET", "@", "1"),), ((0, "type"),)),
        ("ttl", (("SET", "@", "1"), ("PEXPIREAT", "@", LATER)), (("PERSIST", "@"),), ((0, "ttl"),)),
        ("ttl-more", (("SET", "@", "1"),), (("PEXPIREAT", "@", LATER),), ((0, "ttl"),)),
        ("field", (hashed,), (("HDEL", "@", "f"),), ((0, "field"),)),
        ("field-more", (hashed,), (("HSET", "@", "x", "1"),), ((0, "field"),)),
        ("score", (("ZADD", "@", "1", "m"),), (("ZADD", "@", "2", "m"),), ((0, "score"),)),
        ("score-less", (("ZADD", "@", "1", "m", "2", "n"),), (("ZADD", "@", "1.5", "n"),), ((0, "score"),)),
        ("order", (("RPUSH", "@", "a", "b"),), (("LPOP", "@"), ("RPUSH", "@", "a")), ((0, "order"),)),
        ("order-more", (("RPUSH", "@", "a", "b"),), (("RPUSH", "@", "c"),), ((0, "order"),)),
        ("entry", stream, (("XDEL", "@", "3-1"),), ((0, "entry"),)),
        ("entry-more", stream, (("XADD", "@", "9-1", "f", "v"),), ((0, "entry"),)),
        ("group", stream, (("XGROUP", "DESTROY", "@", "g"),), ((0, "group"),)),
        ("group-more", stream, (("XGROUP", "CREATE", "@", "h", "0"),), ((0, "group"),)),
        ("pending", stream, (("XACK", "@", "g", "1-1"),), ((0, "pending"),)),
        ("pending-more", stream, (("XREADGROUP", "GROUP", "g", "c", "STREAMS", "@", ">"), ("XGROUP", "SETID", "@", "g", "2-1")), ((0, "pending"),)),
        ("database", (("SET", "@", "1"),), (("MOVE", "@", "5"),), ((0, "missing"), (5, "extra"))),
        ("member", (("SADD", "@", "a", "b"),), (("SREM", "@", "b"),), ((0, "member"),)),
    ]  # fmt: skip
    made = []
    for name, base, change, found in rows:
        key = f"plant:{name}"
        named = [
            tuple(tuple(key if word == "@" else word for word in command) for command in commands)
            for commands in (base, change)
        ]
        made.append(Planted(key, named[0], named[1], found))
    return made
