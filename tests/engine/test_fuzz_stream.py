"""Damaged streams, handshakes and replies: an error of the engine or a result, whatever the bytes; and both kernels tell the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations_app.engine import commands
from migrations_app.engine.protocol.psync import PsyncDecoder, SnapshotBegin, SnapshotBytes, StreamBytes
from migrations_app.engine.protocol.resp import ReplyReader, encode
from tests.support.servers import Server

from . import fuzzing
from .build import MARK, pieces
from .conftest import QUICK
from .fuzzing import CHANGES, CUTS, RESP_HOSTILE, Corpus, Told, World, agreed, damage, examples, failed

VERSIONS = ["redis-3.2", "redis-6.0", "redis-7.4", "redis-8.6", "valkey-9"]
START = 5000


@pytest.fixture(scope="module", autouse=True)
def _kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    fuzzing.keep_inputs_in(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param, config=QUICK) as running:
        yield running


@pytest.fixture(scope="module")
def stream(server: Server) -> Corpus:
    """The commands that a source has sent."""
    found = Corpus(fuzzing.commands_of(server))
    assert len(found) > 300
    return found


@pytest.fixture(scope="module")
def replies(server: Server) -> Corpus:
    return Corpus(fuzzing.replies_of(server))


# --- the stream ---------------------------------------------------------------------------------------------------------

OPTIONS: dict[str, dict[str, Any]] = {
    "usual": {},
    "all goes through": {"stream_from": 1},
    "large ones go through": {"stream_from": 100},
    "one database": {"databases": frozenset({3})},
    "own transactions left out": {"own": lambda entry: True},
    "own prefix common": {"own_prefix": b"live:", "own": lambda entry: len(entry.args) == 3},
}
OWN = [
    encode("MULTI"), encode("HMSET", "switchyard:checkpoint:other", "offset", 1), encode("INCR", "n"), encode("EXEC"),
    encode("SELECT", 3), encode("SELECT", 0), encode("PING"), encode("REPLCONF", "GETACK", "*"), encode("set", "Mixed", "case"),
    encode("SET", "k", "x" * 300), encode("SET", "k", "v", "PX", 1000), encode("MSET", *range(40)), encode("FLUSHALL"),
]  # fmt: skip


def splitting(parts: Sequence[bytes], option: str, *, all_by_rule: bool = False) -> Any:
    """A run: the stream in these parts, block by block."""
    actions = commands.actions()

    def run(world: World) -> Iterator[tuple[object, ...]]:
        table = dict.fromkeys(actions, world.kernel.RULE) if all_by_rule else actions
        entries: list[object] = []

        def rule(entry: Any) -> Any:
            entries.append((entry.args, entry.database, entry.offset, entry.open))
            if len(entry.args) % 7 == 6:
                return []
            return [(entry.database + len(entry.args) % 5 // 4, entry.args)]

        kernel = world.kernel.StreamKernel(table, rule, offset=START, database=0, **OPTIONS[option])
        kernel.target_database = 0
        for part in parts:
            batch = kernel.feed(part)
            yield (
                b"".join(bytes(piece) for piece in batch.data), batch.commands, batch.dropped, batch.getack, batch.offset, batch.boundary,
                kernel.offset, kernel.database, kernel.safe_database, kernel.target_database, entries[:],
            )  # fmt: skip
            entries.clear()

    return run


def read(steps: Told) -> tuple[object, ...]:
    """What a run gives in all: does not depend on how the input is cut."""
    return (
        b"".join(step[0] for step in steps),
        sum(step[1] for step in steps),
        any(step[3] for step in steps),
        *steps[-1][4:10],
        list(itertools.chain.from_iterable(step[10] for step in steps)),
    )


CHOSEN = st.lists(st.integers(-len(OWN), 1 << 16), min_size=1, max_size=30)


def assemble(stream: Corpus, chosen: Sequence[int]) -> bytes:
    return b"".join(stream[number % len(stream)] if number >= 0 else OWN[-number - 1] for number in chosen)


@given(chosen=CHOSEN, cuts=CUTS, option=st.sampled_from(sorted(OPTIONS)), ruled=st.booleans())
@examples(60)
def test_an_undamaged_stream_is_read_to_its_end(
    stream: Corpus, chosen: list[int], cuts: list[int], option: str, ruled: bool
) -> None:
    data = assemble(stream, chosen)
    cut = agreed(splitting(pieces(data, cuts), option, all_by_rule=ruled), data)
    whole = agreed(splitting([data], option, all_by_rule=ruled), data)
    assert not failed(cut) and not failed(whole), (cut[-1], whole[-1])
    assert read(cut) == read(whole)
    assert whole[-1][6] == START + len(data)


@given(
    chosen=CHOSEN, changes=CHANGES, cuts=CUTS, option=st.sampled_from(sorted(OPTIONS)), ruled=st.booleans()
)
@examples(300)
def test_a_damaged_stream_is_refused_or_is_a_result(
    stream: Corpus,
    chosen: list[int],
    changes: list[fuzzing.Change],
    cuts: list[int],
    option: str,
    ruled: bool,
) -> None:
    judged_stream(damage(assemble(stream, chosen), changes, RESP_HOSTILE), cuts, option, ruled=ruled)


def judged_stream(data: bytes, cuts: Sequence[int], option: str, *, ruled: bool) -> None:
    """What is put out is never more than what came in, and no command is counted that is not there."""
    cut = agreed(splitting(pieces(data, cuts), option, all_by_rule=ruled), data)
    whole = agreed(splitting([data], option, all_by_rule=ruled), data)
    # A command whose bytes go through before its end is there may break off later.
    assert failed(cut) == failed(whole) or "through" in option, (cut[-1], whole[-1])
    for steps in (cut, whole):
        if not failed(steps):
            assert sum(len(step[0]) for step in steps) <= 2 * len(data) + 13_000
            assert steps[-1][6] <= START + len(data)
            assert steps[-1][4] <= steps[-1][6]
    if not failed(cut) and not failed(whole) and "through" not in option:
        assert read(cut) == read(whole)


@pytest.mark.parametrize("option", ["usual", "all goes through"])
@pytest.mark.parametrize("ruled", [False, True], ids=["forwarded", "by rule"])
def test_an_argument_that_does_not_end_where_it_says_is_refused(option: str, ruled: bool) -> None:
    """A byte too many in the last argument of a block: the next command tells, but then the wrong value would have gone on."""
    data = encode("SET", "key", "value").replace(b"value", b"Xvalue")[:-1]
    steps = agreed(splitting([data], option, all_by_rule=ruled), data)
    assert failed(steps), steps


# --- the handshake --------------------------------------------------------------------------------------------------------

ID = b"8c09c9f2ab4a2f0c3d2e62ba5ebd95e13b9df1a0"
HANDSHAKES = [
    b"+FULLRESYNC %b 12345\r\n\n\n\n$EOF:%b\r\nREDIS0011body%b*1\r\n$4\r\nPING\r\n" % (ID, MARK, MARK),
    b"\n\n+FULLRESYNC %b 0\r\n$13\r\nREDIS0011body*1\r\n$4\r\nPING\r\n" % ID,
    b"+CONTINUE\r\n*1\r\n$4\r\nPING\r\n",
    b"\n+CONTINUE %b\r\n*1\r\n$4\r\nPING\r\n" % ID,
    b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n",
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"+FULLRESYNC %b 77\r\n-ERR BGSAVE failed, replication can't continue\r\n" % ID,
]
HANDSHAKE_HOSTILE = [
    *RESP_HOSTILE, b"$EOF:\r\n", b"$EOF:" + b"x" * 39 + b"\r\n", b"$99999999999999999\r\n", b"+FULLRESYNC \r\n", b"+FULLRESYNC x -1\r\n",
    b"+FULLRESYNC x 99999999999999999999\r\n", b"+FULLRESYNC \xff\xfe 1\r\n", b"+FULLRESYNC x \xd9\xa1\r\n", b"+CONTINUE \xff\r\n",
    b"-\r\n", b"-\xff\r\n", b"\n" * 50, b"A" * 1100, b"\r", b"$\xc2\xb2\r\n", b"$1_0\r\n", b"$-0\r\n",
]  # fmt: skip


def decoding(parts: Sequence[bytes], body: int, kind: type[PsyncDecoder] = PsyncDecoder) -> Any:
    """A run: as the link does, the end of a diskless snapshot is told when its reader has found it."""

    def run(_: World) -> Iterator[tuple[object, ...]]:
        decoder, seen, open_end = kind(), 0, False
        for part in parts:
            queue = decoder.feed(part)
            while queue:
                event = queue.pop(0)
                open_end = open_end or (isinstance(event, SnapshotBegin) and event.size is None)
                if isinstance(event, SnapshotBytes) and open_end:
                    rest = event.data[body - seen :]
                    event = SnapshotBytes(event.data[: body - seen])
                    seen += len(event.data)
                    if seen == body:
                        queue = decoder.end_snapshot(rest) + queue
                yield (type(event).__name__, event)

    return run


def joined(steps: Told) -> list[object]:
    """Events, the bytes of neighbours in one."""
    found: list[Any] = []
    for _, event in steps:
        if found and isinstance(event, SnapshotBytes | StreamBytes) and type(found[-1]) is type(event):
            found[-1] = type(event)(found[-1].data + event.data)
        else:
            found.append(event)
    return found


@given(
    handshake=st.sampled_from(HANDSHAKES),
    changes=st.lists(fuzzing.CHANGES, max_size=1),
    cuts=st.lists(st.integers(0, 1 << 12), max_size=40),
    body=st.integers(1, 20),
)
@examples(1500)
def test_handshakes_in_any_pieces(
    handshake: bytes, changes: list[list[fuzzing.Change]], cuts: list[int], body: int
) -> None:
    judged_handshake(damage(handshake, changes[0], HANDSHAKE_HOSTILE) if changes else handshake, cuts, body)


def judged_handshake(
    data: bytes, cuts: Sequence[int], body: int, kind: type[PsyncDecoder] = PsyncDecoder
) -> None:
    """The same events or the same error, however it is cut."""
    cut = agreed(decoding(pieces(data, cuts), body, kind), data)
    whole = agreed(decoding([data], body, kind), data)
    if failed(whole):
        assert failed(cut) and cut[-1][1] == whole[-1][1], (cut[-1], whole[-1])
    else:
        assert not failed(cut), cut[-1]
        assert joined(cut) == joined(whole)


# --- replies ----------------------------------------------------------------------------------------------------------------


def counting(parts: Sequence[bytes]) -> Any:
    def run(world: World) -> Iterator[tuple[object, ...]]:
        counter = world.kernel.ReplyCounter()
        for part in parts:
            yield (counter.feed(part), counter.count, list(counter.errors), list(counter.nulls))

    return run


def taking_apart(parts: Sequence[bytes]) -> Any:
    def run(_: World) -> Iterator[tuple[object, ...]]:
        reader, count = ReplyReader(), 0
        for part in parts:
            count += len(reader.feed(part))
            yield (count, reader.pending)

    return run


@given(
    chosen=st.lists(st.integers(0, 1 << 16), min_size=1, max_size=40),
    changes=st.lists(CHANGES, max_size=1),
    cuts=CUTS,
)
@examples(300)
def test_replies_are_counted_or_refused(
    replies: Corpus, chosen: list[int], changes: list[list[fuzzing.Change]], cuts: list[int]
) -> None:
    """Undamaged, the counter and the reader agree; damaged, no more replies are counted than there are line ends."""
    data = b"".join(replies[number % len(replies)] for number in chosen)
    if changes:
        data = damage(data, changes[0], RESP_HOSTILE)
    cut, whole, taken = judged_replies(data, cuts)
    if not changes:
        assert not failed(whole) and not failed(taken)
        assert [step[0] for step in cut] == [step[0] for step in taken]
        assert whole[-1][0] == len(chosen)


def judged_replies(data: bytes, cuts: Sequence[int]) -> tuple[Told, Told, Told]:
    """What the counter and the reader make of it: counted in pieces, as a whole, taken apart in pieces."""
    cut = agreed(counting(pieces(data, cuts)), data)
    whole = agreed(counting([data]), data)
    taken = agreed(taking_apart(pieces(data, cuts)), data)
    if b"\n" not in data.replace(b"\r\n", b""):  # see below
        assert failed(cut) == failed(whole), (cut[-1], whole[-1])
        assert failed(whole) or cut[-1][1:] == whole[-1][1:]
    if not failed(whole):
        assert whole[-1][1] <= data.count(b"\n")
    return cut, whole, taken


def test_a_reply_ends_with_two_bytes() -> None:
    """A status with a bare newline in it, which no server sends, is one reply however it is cut."""
    data = b"+A\r\n+\nB\r\n$1\r\nx\r\n"
    assert agreed(counting([data]), data)[-1][0] == 3
    assert agreed(counting([data[:6], data[6:]]), data)[-1][0] == 3


@given(
    data=st.lists(
        st.sampled_from([*RESP_HOSTILE, b"$3\r\nabc\r\n", b"*2\r\n:1\r\n+x\r\n", b"-ERR no\r\n", b"*-1\r\n"]),
        max_size=12,
    ),
    cuts=CUTS,
)
@examples(600)
def test_hostile_replies(data: list[bytes], cuts: list[int]) -> None:
    for run in (counting, taking_apart):
        agreed(run(pieces(b"".join(data), cuts)), b"".join(data))
