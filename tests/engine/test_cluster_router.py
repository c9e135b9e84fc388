"""Commands of the full phase on their way to the slots of a cluster, and what is known of the slots."""

from __future__ import annotations

import pytest

from migrations_app.engine.errors import UnsupportedData
from migrations_app.engine.keys import SLOTS, slot
from migrations_app.engine.protocol.resp import Reply, encode
from migrations_app.engine.target.router import EVERYWHERE, Router, in_slot
from migrations_app.engine.target.slots import SlotMap, redirected, tags

COMMANDS: list[list[bytes]] = [
    [b"SET", b"a", b"1"],
    [b"RESTORE", b"{tag}b", b"0", b"x" * 200_000, b"REPLACE"],
    [b"DEL", b"list"],
    [b"RPUSH", b"list", *[b"%d" % number for number in range(5000)]],
    [b"XGROUP", b"CREATE", b"stream", b"group", b"0-0"],
    [b"SET", b"", b""],
    [b"SET", b"k\r\n$3\r\n", b"*1\r\n"],
]


@pytest.mark.parametrize("size", [331, 5000, 70_000, 10**7])
def test_every_cut_gives_the_same_commands(size: int) -> None:
    data = b"".join(encode(*args) for args in COMMANDS)
    router = Router()
    found: list[tuple[int, bytes]] = []
    begun = b""
    for start in range(0, len(data), size):
        for piece in router.feed(data[start : start + size]):
            begun += piece.data
            if piece.ends:
                found.append((piece.slot, begun))
                begun = b""
    keys = [b"a", b"{tag}b", b"list", b"list", b"stream", b"", b"k\r\n$3\r\n"]
    assert found == [(slot(key), encode(*args)) for key, args in zip(keys, COMMANDS, strict=True)]
    assert not begun


@pytest.mark.parametrize("size", [3, 331, 70_000, 10**7])
def test_calls_of_a_script_get_the_names_of_their_slot(size: int) -> None:
    """Also one that goes through while it arrives."""
    router = Router()
    router.complete(b"digest", (b"switchyard:written:l", b"switchyard:kept:l"))
    calls = [
        [b"EVALSHA", b"digest", b"1", key, b"0", b"x" * long]
        for key, long in ((b"a", 10), (b"{t}b", 200_000), (b"c", 0))
    ]
    others = [[b"EVALSHA", b"other", b"1", b"a", b"1"], [b"SET", b"digest", b"digest"]]
    data = b"".join(encode(*args) for args in (*calls, *others))
    found, begun = list[tuple[int, bytes]](), b""
    for start in range(0, len(data), size):
        for piece in router.feed(data[start : start + size]):
            begun += piece.data
            if piece.ends:
                found.append((piece.slot, begun))
                begun = b""
    expected = []
    for args in calls:
        place = slot(args[3])
        names = [in_slot(b"switchyard:written:l", place), in_slot(b"switchyard:kept:l", place)]
        expected.append((place, encode(*args[:2], b"3", args[3], *names, *args[4:])))
    expected += [(slot(b"a"), encode(*others[0])), (slot(b"digest"), encode(*others[1]))]
    assert found == expected
    assert not begun


def test_databases_libraries_and_notes() -> None:
    router = Router()
    assert router.feed(encode(b"SELECT", b"0")) == []
    (piece,) = router.feed(encode(b"FUNCTION", b"LOAD", b"REPLACE", b"code"))
    assert piece.slot == EVERYWHERE
    pieces = router.feed(encode(b"SADD", b"switchyard:deferred:l", b"a", b"b", b"{a}c"))
    assert {(piece.slot, piece.data) for piece in pieces} == {
        (slot(b"a"), encode(b"SADD", in_slot(b"switchyard:deferred:l", slot(b"a")), b"a", b"{a}c")),
        (slot(b"b"), encode(b"SADD", in_slot(b"switchyard:deferred:l", slot(b"b")), b"b")),
    }
    with pytest.raises(UnsupportedData, match="database 3"):
        router.feed(encode(b"SELECT", b"3"))
    with pytest.raises(UnsupportedData, match="RENAME"):
        Router().feed(encode(b"RENAME", b"a", b"b"))


def test_a_tag_for_every_slot() -> None:
    assert [slot(in_slot(b"switchyard:applied:link", number)) for number in range(SLOTS)] == list(
        range(SLOTS)
    )
    assert len(set(tags())) == SLOTS


def test_the_map_of_slots() -> None:
    node: Reply = [b"10.0.0.1", 7000, b"id"]
    slots = SlotMap.parse([[0, 99, node, [b"", 7001, b"r"]], [100, 16383, [None, 7002, b"m"]]], "seed")
    assert slots.complete
    assert slots.masters == [("10.0.0.1", 7000), ("seed", 7002)]
    assert slots.replicas == {("seed", 7001)}
    slots.moved(5, ("other", 1))
    assert slots.of(5) == ("other", 1)
    assert not SlotMap.parse([[0, 99, node]], "seed").complete
    wrong: list[Reply] = [None, [[1]], [[0, 16384, node]], [[5, 4, node]], [[0, 1, 7]]]
    for reply in wrong:
        with pytest.raises(ValueError, match=r"list|range|slots|node"):
            SlotMap.parse(reply, "seed")


def test_redirections() -> None:
    assert redirected("MOVED 3999 127.0.0.1:6381", "h") == (3999, ("127.0.0.1", 6381))
    assert redirected("ASK 1 :6381", "h") == (1, ("h", 6381))
    assert redirected("MOVED 1 fe80::1:6381", "h") == (1, ("fe80::1", 6381))
    for wrong in ("MOVED", "MOVED x y", "MOVED 16384 h:1", "MOVED 1 h", "TRYAGAIN a b c"):
        assert redirected(wrong, "h") is None
