"""The decoder of the replication handshake: every form of an answer, however the bytes are cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations_app.engine.errors import (
    EngineError,
    NotRedis,
    ProtocolError,
    SnapshotError,
    SourceNotReady,
    SourceRefused,
)
from migrations_app.engine.protocol.psync import (
    Continue,
    Event,
    FullResync,
    PsyncDecoder,
    SnapshotBegin,
    SnapshotBytes,
    SnapshotEnd,
    StreamBytes,
    acknowledge,
    psync,
)

from .build import MARK, pieces

ID = "8c09c9f2ab4a2f0c3d2e62ba5ebd95e13b9df1a0"
BODY = b"REDIS0011" + b"snapshot\r\n$EOF:" * 5
STREAM = b"*1\r\n$4\r\nPING\r\n\n\n$5\r\n"


def decode(parts: Sequence[bytes], body: int = len(BODY)) -> list[Event]:
    """Events with adjoining bytes joined. As the link does, the end of a diskless snapshot is told when it is found."""
    decoder, events, seen, open_end = PsyncDecoder(), [], 0, False
    for part in parts:
        queue = decoder.feed(part)
        while queue:
            event = queue.pop(0)
            if isinstance(event, SnapshotBegin):
                open_end = event.size is None
            if isinstance(event, SnapshotBytes) and open_end:
                rest = event.data[body - seen :]
                event = SnapshotBytes(event.data[: body - seen])
                seen += len(event.data)
                if seen == body:
                    queue = decoder.end_snapshot(rest) + queue
            events.append(event)
    joined: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, SnapshotBytes | StreamBytes) and type(last) is type(event):
            joined[-1] = type(event)(last.data + event.data)
        else:
            joined.append(event)
    return joined


SIZED = b"\n\n+FULLRESYNC %b 1234\r\n\n\n\n$%d\r\n" % (ID.encode(), len(BODY)) + BODY + STREAM
MARKED = b"+FULLRESYNC %b 0\r\n\n$EOF:%b\r\n" % (ID.encode(), MARK) + BODY + MARK + STREAM
PARTIAL = b"\n+CONTINUE %b\r\n" % ID.encode() + STREAM
PARTIAL_OLD = b"+CONTINUE\r\n" + STREAM

EXPECTED: dict[bytes, list[Event]] = {
    SIZED: [
        FullResync(ID, 1234),
        SnapshotBegin(len(BODY)),
        SnapshotBytes(BODY),
        SnapshotEnd(),
        StreamBytes(STREAM),
    ],
    MARKED: [FullResync(ID, 0), SnapshotBegin(None), SnapshotBytes(BODY), SnapshotEnd(), StreamBytes(STREAM)],
    PARTIAL: [Continue(ID), StreamBytes(STREAM)],
    PARTIAL_OLD: [Continue(""), StreamBytes(STREAM)],
}


@pytest.mark.parametrize("data", EXPECTED)
def test_every_answer_is_understood(data: bytes) -> None:
    """In one piece, byte by byte, and cut in two anywhere."""
    assert decode([data]) == EXPECTED[data]
    assert decode([data[n : n + 1] for n in range(len(data))]) == EXPECTED[data]
    for cut in range(len(data)):
        assert decode([data[:cut], data[cut:]]) == EXPECTED[data]


@given(st.sampled_from(list(EXPECTED)), st.lists(st.integers(0, 500), max_size=12))
def test_any_chunking_gives_the_same_events(data: bytes, cuts: list[int]) -> None:
    assert decode(pieces(data, cuts)) == EXPECTED[data]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"-NOAUTH Authentication required.\r\n", SourceRefused),
        (b"-ERR unknown command 'PSYNC'\r\n", SourceRefused),
        (b"-NOPERM this user has no permissions to run the 'psync' command\r\n", SourceRefused),
        (b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n", SourceNotReady),
        (b"-LOADING Redis is loading the dataset in memory\r\n", SourceNotReady),
        (b"\n-ERR BGSAVE failed, replication can't continue, aborting\r\n", SourceNotReady),
        (b"+FULLRESYNC %b 1\r\n\n-ERR BGSAVE failed, aborting\r\n" % ID.encode(), SourceNotReady),
        (b"+OK\r\n", ProtocolError),
        (b":1\r\n", ProtocolError),
        (b"\r\n", ProtocolError),
        (b"+FULLRESYNC\r\n", ProtocolError),
        (b"+FULLRESYNC id x\r\n", ProtocolError),
        (b"+FULLRESYNC id -5\r\n", ProtocolError),
        ("+FULLRESYNC id ²\r\n".encode(), ProtocolError),
        (b"+FULLRESYNC id 1\r\n+OK\r\n", ProtocolError),
        (b"+FULLRESYNC id 1\r\n$\r\n", ProtocolError),
        (b"+FULLRESYNC id 1\r\n$-1\r\n", ProtocolError),
        (b"+FULLRESYNC id 1\r\n$99999999999999999999\r\n", ProtocolError),
        (b"+FULLRESYNC id 1\r\n$EOF:short\r\n", ProtocolError),
        (b"HTTP" * 300, NotRedis),
    ],
)
def test_refusals_and_nonsense(answer: bytes, error: type[EngineError]) -> None:
    for parts in ([answer], [answer[n : n + 1] for n in range(len(answer))]):
        with pytest.raises(error):
            decode(parts)


def test_a_wrong_mark_is_damage() -> None:
    data = MARKED.replace(MARK + STREAM, MARK[:-1] + b"X" + STREAM)
    for parts in ([data], [data[n : n + 1] for n in range(len(data))]):
        with pytest.raises(SnapshotError, match="mark"):
            decode(parts)


def test_a_snapshot_that_ends_before_its_announced_length_is_damage() -> None:
    decoder = PsyncDecoder()
    decoder.feed(SIZED[: SIZED.index(BODY)])
    with pytest.raises(SnapshotError, match="5 bytes before"):
        decoder.end_snapshot(b"12345")


def test_what_is_asked_for_is_the_byte_behind_the_last() -> None:
    assert psync("?", -1) == b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n"
    assert psync(ID, 99).endswith(b"$3\r\n100\r\n")
    assert acknowledge(99) == b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n99\r\n"


def test_whether_anything_has_come_is_known() -> None:
    decoder = PsyncDecoder()
    decoder.feed(b"\n\n+FULLRESYNC %b 1\r\n\n" % ID.encode())
    assert decoder.waiting
    decoder.feed(b"$5\r\nRE")
    assert (decoder.waiting, decoder.in_snapshot) == (False, True)
    decoder.feed(b"DIS" + STREAM)
    assert (decoder.waiting, decoder.in_snapshot) == (False, False)


@given(st.binary(max_size=120), st.lists(st.integers(0, 120), max_size=6))
def test_any_bytes_are_understood_or_refused(data: bytes, cuts: list[int]) -> None:
    for head in (b"", b"+FULLRESYNC id 1\r\n"):
        try:
            decode(pieces(head + data, cuts), body=10**9)
        except EngineError:
            continue


@pytest.mark.parametrize("cuts", [[], [100], list(range(60, 140))])
def test_a_mark_that_was_read_as_data(cuts: list[int]) -> None:
    """Nobody has found the end of the snapshot before it, and more comes: a damaged length would swallow the stream."""
    decoder = PsyncDecoder()
    data = b"+FULLRESYNC %b 7\r\n$EOF:%b\r\n" % (ID.encode(), MARK) + BODY + MARK
    for piece in pieces(data, cuts):
        decoder.feed(piece)
    with pytest.raises(SnapshotError, match="end mark"):
        decoder.feed(STREAM)
