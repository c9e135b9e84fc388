"""What the replies to expiry, DUMP, expiry become, however they are cut; and replies that are not what was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations_app.engine.errors import ProtocolError
from migrations_app.engine.protocol.dump import DumpReader
from migrations_app.engine.protocol.resp import ReplyError

from . import build

NOW = 1_700_000_000_000
TRAILER = b"\x0b\x00" + b"checksum"


class Refused(Exception):
    pass


def reader(*keys: bytes, absolute: bool = True) -> DumpReader:
    def refusal(reply: ReplyError, key: bytes) -> Refused:
        return Refused(f"{key!r}: {reply}")

    found = DumpReader(lambda: NOW, refusal, absolute=absolute)
    found.begin(keys)
    return found


def replies(expiry: int, kind: int | None, value: bytes = b"", after: int | None = None) -> bytes:
    payload = b"$-1\r\n"
    if kind is not None:
        body = bytes([kind]) + value + TRAILER
        payload = b"$%d\r\n%b\r\n" % (len(body), body)
    return b":%d\r\n%b:%d\r\n" % (expiry, payload, expiry if after is None else after)


LONG = build.string(b"x" * 70_000)
ALL = (
    replies(-1, 0, build.string(b"v"))
    + replies(NOW + 5000, 2, build.length(1) + build.string(b"\r\n$-1\r\n"))
    + replies(-2, None)
    + replies(-1, 0, LONG)
    + replies(-1, 15, b"stream")
    + replies(-1, None)
)
KEYS = (b"a", b"k" * 100, b"none", b"long", b"groups", b"came")
ENTRIES = (
    build.entry(b"a", build.string(b"v"))
    + build.entry(b"k" * 100, build.length(1) + build.string(b"\r\n$-1\r\n"), 2, expiry=NOW + 5000)
    + build.entry(b"long", LONG)
    + build.entry(b"groups", b"stream", 15)
)


@given(st.lists(st.integers(0, len(ALL)), max_size=40))
def test_however_it_is_cut(cuts: list[int]) -> None:
    found = reader(*KEYS)
    assert b"".join(found.feed(piece) for piece in build.pieces(ALL, cuts)) == ENTRIES
    assert found.done
    assert (found.gone, found.unsure, found.quiet) == ([b"none"], [b"came"], [b"groups"])


def test_byte_by_byte() -> None:
    found = reader(*KEYS)
    assert b"".join(found.feed(bytes([byte])) for byte in ALL) == ENTRIES
    assert found.done


@pytest.mark.parametrize(
    ("before", "after", "absolute", "sure"),
    [
        (-1, -1, True, True), (NOW, NOW, True, True), (NOW, NOW + 1, True, False), (-1, NOW, True, False), (NOW, -2, True, False),
        (5000, 5000, False, True), (5000, 4990, False, True), (5000, 4000, False, False), (5000, 9000, False, False),
        (-1, 5000, False, False), (5000, -1, False, False), (5000, -2, False, False), (0, 0, False, True),
    ],
)  # fmt: skip
def test_a_key_that_changed_between_the_questions_is_read_again(
    before: int, after: int, absolute: bool, sure: bool
) -> None:
    found = reader(b"k", absolute=absolute)
    found.feed(replies(before, 0, build.string(b"v"), after))
    assert found.unsure == ([] if sure else [b"k"])


def test_times_from_now_become_times() -> None:
    found = reader(b"k", absolute=False)
    assert found.feed(replies(5000, 0, build.string(b"v"))) == build.entry(
        b"k", build.string(b"v"), expiry=NOW + 5000
    )


@pytest.mark.parametrize(
    "data",
    [
        b"+OK\r\n", b"$3\r\nabc\r\n", b":abc\r\n", b"x" * 70_000, b":-1\r\n:5\r\n", b":-1\r\n$4\r\nabcd\r\n", b":-1\r\n*1\r\n",
        replies(-1, None) + b":1\r\n", b":-1\r\n$99999999999999999999\r\n", b"\r\n",
    ],
)  # fmt: skip
def test_what_was_not_asked_for_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        reader(b"k").feed(data)


@pytest.mark.parametrize(
    "data", [b"-NOPERM no\r\n", b":-1\r\n-NOPERM no\r\n", b":-1\r\n$-1\r\n-NOPERM no\r\n"]
)
def test_a_refusal_names_the_key(data: bytes) -> None:
    with pytest.raises(Refused, match=r"k.*NOPERM no"):
        reader(b"k").feed(data)
