"""The counter of replies agrees with the reader that takes them apart, however the bytes are cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations_app.engine.errors import ProtocolError
from migrations_app.engine.kernel import ReplyCounter
from migrations_app.engine.protocol.resp import Reply, ReplyError, ReplyReader

from .build import pieces

TEXT = st.text(alphabet=st.sampled_from("OKQUEUED -*$:+1"), max_size=12).map(str.encode)
SCALAR = st.one_of(
    TEXT.map(lambda text: b"+%b\r\n" % text),
    TEXT.map(lambda text: b"-ERR %b\r\n" % text),
    st.integers(-(2**40), 2**40).map(lambda number: b":%d\r\n" % number),
    st.binary(max_size=30).map(lambda data: b"$%d\r\n%b\r\n" % (len(data), data)),
    st.sampled_from(
        [b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"$0\r\n\r\n", b"$4\r\n\r\n\r\n\r\n", b"$8\r\n-ERR no\n\r\n"]
    ),
)
REPLY = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=4).map(lambda parts: b"*%d\r\n%b" % (len(parts), b"".join(parts))),
    max_leaves=12,
)


def errors_of(replies: Sequence[Reply]) -> list[tuple[int, int, str]]:
    """What the counter is to report, from replies that were taken apart."""
    found: list[tuple[int, int, str]] = []

    def within(reply: Reply, number: int, place: int) -> None:
        if isinstance(reply, ReplyError):
            found.append((number, place, str(reply)))
        for element in reply if isinstance(reply, list) else ():
            within(element, number, place)

    for number, reply in enumerate(replies):
        if isinstance(reply, list):
            for place, element in enumerate(reply):
                within(element, number, place)
        else:
            within(reply, number, -1)
    return found


def refusals_of(replies: Sequence[Reply]) -> list[tuple[int, int]]:
    """0 as an element of a top-level array, and -2 in an array that is such an element."""
    found: list[tuple[int, int]] = []
    for number, reply in enumerate(replies):
        for place, element in enumerate(reply if isinstance(reply, list) else ()):
            if isinstance(element, list):
                found += [(number, place) for inner in element if isinstance(inner, int) and inner == -2]
            elif isinstance(element, int) and element == 0:
                found.append((number, place))
    return found


NUMBERS = st.one_of(st.sampled_from([b":0\r\n", b":-2\r\n", b":1\r\n", b"+:0\r\n"]), REPLY)
TRANSACTION = st.lists(NUMBERS, min_size=1, max_size=30).map(
    lambda parts: b"*%d\r\n%b" % (len(parts), b"".join(parts))
)


@given(
    st.lists(st.one_of(TRANSACTION, NUMBERS), max_size=6),
    st.lists(st.integers(0, 10_000), max_size=30),
    st.booleans(),
)
def test_what_was_not_there_is_told_with_its_place(
    replies: list[bytes], cuts: list[int], watching: bool
) -> None:
    data = b"".join(replies)
    counter, read = ReplyCounter(), ReplyReader().feed(data)
    counter.watching = watching
    for piece in pieces(data, cuts):
        counter.feed(piece)
    expected = refusals_of(read) if watching else []
    assert [divmod(place, 2**32) for place in counter.refusals] == expected


@given(st.lists(REPLY, max_size=20), st.lists(st.integers(0, 10_000), max_size=30))
def test_counter_and_reader_agree_at_any_chunking(replies: list[bytes], cuts: list[int]) -> None:
    data = b"".join(replies)
    counter, reader, read = ReplyCounter(), ReplyReader(), []
    for piece in pieces(data, cuts):
        read += reader.feed(piece)
        assert counter.feed(piece) == len(read), "no reply is counted before it is complete, none later"
    assert counter.count == len(replies)
    assert counter.errors == errors_of(read)


@given(st.lists(REPLY, max_size=6))
def test_one_byte_at_a_time(replies: list[bytes]) -> None:
    data = b"".join(replies)
    whole, single = ReplyCounter(), ReplyCounter()
    whole.feed(data)
    for place in range(len(data)):
        single.feed(data[place : place + 1])
    assert (single.count, single.errors, single.nulls) == (whole.count, whole.errors, whole.nulls)


def test_an_error_inside_of_the_results_of_a_transaction_is_found() -> None:
    """With the number of the reply and the place of the result, also behind a nested array."""
    counter = ReplyCounter()
    counter.feed(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n")
    assert counter.count == 4
    counter.feed(b"*3\r\n*2\r\n:1\r\n$1\r\nx\r\n:5\r\n-WRONGTYPE Operation\r\n+OK\r\n")
    assert counter.count == 6
    assert counter.errors == [(4, 2, "WRONGTYPE Operation")]


def test_a_transaction_that_did_not_run_is_noted() -> None:
    counter = ReplyCounter()
    counter.feed(b"+OK\r\n*-1\r\n*1\r\n*-1\r\n$-1\r\n")
    assert counter.count == 4
    assert counter.nulls == [1]


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"+OK\r\nSSH-2.0\r\n",
        b"$x\r\n",
        b"*1\r\n!\r\n",
        b"*99999999999999999999\r\n",
    ],
)
def test_what_is_no_reply_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        ReplyCounter().feed(data)


def test_a_line_without_end_is_refused() -> None:
    counter = ReplyCounter()
    counter.feed(b"+" + b"x" * 40_000)
    with pytest.raises(ProtocolError):
        counter.feed(b"x" * 40_000)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_any_bytes_are_counted_or_refused(data: bytes, cuts: list[int]) -> None:
    counter = ReplyCounter()
    try:
        for piece in pieces(data, cuts):
            counter.feed(piece)
    except ProtocolError:
        return
    assert counter.count <= len(data)
