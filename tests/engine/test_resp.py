"""The reply reader: however the bytes are cut, the same replies."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrations_app.engine.errors import ProtocolError
from migrations_app.engine.protocol import resp
from migrations_app.engine.protocol.resp import Reply, ReplyError, ReplyReader, encode, encode_many

LINES = st.text(st.characters(codec="ascii", exclude_characters="\r\n"), max_size=30)
SCALARS: st.SearchStrategy[Reply] = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=60),
    st.sampled_from([b"", b"\r\n", b"$5\r\nhello\r\n", b"*1\r\n", b"x" * 5000]),
    LINES.map(ReplyError),
)
REPLIES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=5), max_leaves=20)


def wire(reply: Reply) -> bytes:
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, ReplyError):
        return b"-%b\r\n" % reply.encode()
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n" % len(reply) + b"".join(wire(item) for item in reply)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@settings(max_examples=300)
@given(st.lists(REPLIES, max_size=6), st.lists(st.integers(0, 10**6), max_size=12))
def test_any_chunking_gives_the_same_replies(replies: list[Reply], cuts: list[int]) -> None:
    reader = ReplyReader()
    data = b"".join(wire(reply) for reply in replies)
    got = [reply for piece in pieces(data, cuts) for reply in reader.feed(piece)]
    assert got == replies
    assert [type(reply) for reply in got] == [type(reply) for reply in replies]
    assert not reader.pending


@given(st.lists(REPLIES, min_size=1, max_size=3))
def test_one_byte_at_a_time(replies: list[Reply]) -> None:
    reader = ReplyReader()
    got: list[Reply] = []
    for reply in replies:
        data = wire(reply)
        for at in range(len(data) - 1):
            assert reader.feed(data[at : at + 1]) == []
            assert reader.pending
        got += reader.feed(data[-1:])
        assert not reader.pending
    assert got == replies


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"+OK\r\n", b"OK"),
        (b"+\r\n", b""),
        (b"*-1\r\n", None),
        (b"*0\r\n", []),
        (b"*2\r\n*0\r\n*-1\r\n", [[], None]),
        (b":-9223372036854775808\r\n", -(2**63)),
        (b"-WRONGTYPE Operation\r\n", ReplyError("WRONGTYPE Operation")),
        (b"-\xff\r\n", ReplyError("�")),
    ],
)
def test_forms(data: bytes, reply: Reply) -> None:
    assert ReplyReader().feed(data) == [reply]


def test_the_code_of_an_error() -> None:
    assert ReplyError("NOAUTH Authentication required.").code == "NOAUTH"
    assert ReplyError("ERR").code == "ERR"


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b":1x\r\n",
        b":\r\n",
        b":-\r\n",
        b": 1\r\n",
        b":1_0\r\n",
        b":+5\r\n",
        b":%d\r\n" % 10**19,
        b"$-2\r\n",
        b"$%d\r\n" % (resp.MAX_BULK + 1),
        b"$99999999999999999999\r\n",
        b"$x\r\n",
        b"$2\r\nabc\r\n",
        b"*-2\r\n",
        b"*1\r\n" * 33 + b":1\r\n",
        b"+" + b"x" * 70_000,
    ],
)
def test_what_is_no_reply(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        ReplyReader().feed(data)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_garbage_ends_in_replies_or_a_protocol_error_and_nothing_else(data: bytes, cuts: list[int]) -> None:
    reader = ReplyReader()
    with contextlib.suppress(ProtocolError):
        for piece in pieces(data, cuts):
            reader.feed(piece)


def test_replies_before_the_fault_are_not_lost_to_the_next_call() -> None:
    reader = ReplyReader()
    assert reader.feed(b"+OK\r\n+half") == [b"OK"]
    assert reader.feed(b" way\r\n:1") == [b"half way"]
    assert reader.pending


def test_a_long_string_in_small_pieces_is_not_joined_again_and_again() -> None:
    reader = ReplyReader()
    size = 8_000_000
    assert reader.feed(b"$%d\r\n" % size) == []
    piece = b"x" * 1000
    for _ in range(size // len(piece)):
        assert reader.feed(piece) == []  # quadratic work would take minutes here
    assert reader.feed(b"\r\n") == [b"x" * size]


def test_encode() -> None:
    assert encode("SET", b"k\r\n", 12, 1.5) == b"*4\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$2\r\n12\r\n$3\r\n1.5\r\n"
    assert encode("ключ") == b"*1\r\n$8\r\n" + "ключ".encode() + b"\r\n"
    assert encode_many([("PING",), ("GET", "a")]) == encode("PING") + encode("GET", "a")
    assert encode_many([]) == b""


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=8))
def test_what_is_encoded_reads_back(args: list[bytes]) -> None:
    assert ReplyReader().feed(encode(*args)) == [args]
