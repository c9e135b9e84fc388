"""The stream: split into commands, selected, filtered, kept in transactions, and counted to the byte, however the blocks are cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrations_app.engine.commands import actions
from migrations_app.engine.errors import EngineError, ProtocolError, UnknownCommand
from migrations_app.engine.kernel import (
    COMPILED,
    RULE_WORD,
    Emitted,
    Entry,
    StreamBatch,
    StreamKernel,
    split_commands,
)
from migrations_app.engine.protocol.resp import encode

from .build import pieces

START = 1000


def stream(*commands: str | Sequence[Any]) -> bytes:
    return b"".join(
        encode(*(command.split() if isinstance(command, str) else command)) for command in commands
    )


class Reading:
    """What a stream became, block by block."""

    def __init__(self, **options: Any) -> None:
        self.entries: list[Entry] = []
        self.kernel = StreamKernel(actions(), self._rule, **({"offset": START, "database": 0} | options))
        self.kernel.target_database = 0
        self.data = b""
        self.counted = self.dropped = 0
        self.safe: list[tuple[int, int]] = []
        self.batches: list[StreamBatch] = []

    def _rule(self, entry: Entry) -> Emitted:
        self.entries.append(entry)
        return [(entry.database, [b"RULED", *entry.args[1:2]])]

    def feed(self, *blocks: bytes) -> Reading:
        for block in blocks:
            batch = self.kernel.feed(block)
            self.batches.append(batch)
            self.data += b"".join(batch.data)
            self.counted += batch.commands
            self.dropped += batch.dropped
            self.safe.append((batch.offset, self.kernel.safe_database))
        return self

    @property
    def lines(self) -> list[str]:
        return [b" ".join(args).decode("latin-1") for args in split_commands(self.data)]


def read(data: bytes, **options: Any) -> Reading:
    found = Reading(**options).feed(data)
    assert found.counted == len(found.lines)
    return found


def test_commands_go_on_as_they_came() -> None:
    data = stream("SET a 1", ["set", "b", b"\r\n$3\r\n*1\r\n"], "LPUSH l x y", "INCR n")
    found = read(data)
    assert found.data == data
    assert found.batches[0].offset == START + len(data)
    assert found.batches[0].boundary


def test_select_travels_only_where_something_follows() -> None:
    """PING, SELECT and REPLCONF count towards the offset, and are not applied."""
    data = stream(
        "SELECT 3", "PING", "SELECT 5", "SET a 1", "SELECT 5", "SET b 1", "REPLCONF GETACK *", "SELECT 0"
    )
    found = read(data)
    assert found.lines == ["SELECT 5", "SET a 1", "SET b 1"]
    assert found.kernel.target_database == 5
    assert found.safe == [(START + len(data), 0)]
    assert found.batches[0].getack


def test_a_link_goes_on_in_the_database_of_its_checkpoint() -> None:
    """After +CONTINUE there is no SELECT."""
    assert read(stream("SET a 1"), database=4).lines == ["SELECT 4", "SET a 1"]


def test_only_the_chosen_databases() -> None:
    data = stream("SET a 1", "SELECT 2", "SET b 1", "EXPIRE b 5", "SELECT 0", "SET c 1", "SELECT 2", "INCR n")
    found = read(data, databases=frozenset({2}))
    assert found.lines == ["SELECT 2", "SET b 1", "RULED b", "INCR n"]
    assert found.dropped == 2
    assert found.batches[0].offset == START + len(data)


def test_the_products_own_keys_do_not_travel() -> None:
    found = read(
        stream(
            "SET switchyard:x 1",
            "SET a switchyard:x",
            "HMSET switchyard:checkpoint:y f v",
            "EXPIRE switchyard:x 5",
        )
    )
    assert found.lines == ["SET a switchyard:x"]
    assert found.dropped == 3


def test_transactions_are_safe_points_only_behind_their_end() -> None:
    first, open_part, rest = (
        stream("SET a 1"),
        stream("MULTI", "SELECT 3", "SET b 1"),
        stream("SET c 1", "EXEC"),
    )
    found = Reading().feed(first, open_part, rest)
    assert [batch.boundary for batch in found.batches] == [True, False, True]
    whole = START + len(first + open_part + rest)
    assert found.safe == [(START + len(first), 0), (START + len(first), 0), (whole, 3)]
    assert found.lines == ["SET a 1", "SELECT 3", "SET b 1", "SET c 1"], (
        "without MULTI and EXEC: the link has its own"
    )


def test_a_rule_sees_the_command_its_database_and_its_end() -> None:
    head, command = stream("SELECT 2"), stream("set key value PX 5000")
    found = read(head + command + stream("SET plain v"))
    (entry,) = found.entries
    assert (entry.args, entry.database) == ([b"set", b"key", b"value", b"PX", b"5000"], 2)
    assert entry.offset == START + len(head + command)
    assert found.lines == ["SELECT 2", "RULED key", "SET plain v"]


@pytest.mark.parametrize("name", ["GETACK", "getack"])
def test_getack_is_noted(name: str) -> None:
    assert read(stream(["REPLCONF", name, "*"])).batches[0].getack
    assert not read(stream("REPLCONF ACK 5")).batches[0].getack


def test_a_command_that_is_not_known_is_named() -> None:
    with pytest.raises(UnknownCommand, match=r"TS\.ADD"):
        read(stream("SET a 1", "TS.ADD x 1 2"))


@pytest.mark.parametrize(
    "data",
    [b"+OK\r\n", b"SET a 1\r\n", b"\n*1\r\n", b"*x\r\n", b"*-1\r\n", b"*1\r\n+PING\r\n", b"*1\r\n$x\r\n", b"*1\r\n$-1\r\n",
     b"*1\r\n$99999999999999\r\n", b"*" + b"1" * 100, b"*1\r\n$" + b"1" * 100],
)  # fmt: skip
def test_what_is_no_command_is_refused(data: bytes) -> None:
    with pytest.raises(EngineError):
        Reading().feed(stream("SET a 1"), data)


def test_a_large_command_goes_through_while_it_arrives() -> None:
    """In blocks; the batch says that no checkpoint may follow until it is complete."""
    data = stream("SELECT 1", ["SET", "big", b"x" * 100_000], "INCR n")
    found = Reading(stream_from=1000)
    blocks = [data[place : place + 4096] for place in range(0, len(data), 4096)]
    found.feed(*blocks)
    assert sum(len(part) for part in found.batches[1].data) >= 4000, "passed on before it was complete"
    assert [batch.boundary for batch in found.batches] == [False] * (len(blocks) - 1) + [True]
    assert {batch.offset for batch in found.batches[:-1]} <= {START, START + len(stream("SELECT 1"))}
    assert found.lines[0] == "SELECT 1"
    assert len(found.lines[1]) == 100_008
    assert found.lines[2] == "INCR n"
    assert (found.counted, found.batches[-1].offset) == (3, START + len(data))


def test_a_large_command_that_is_not_wanted_is_dropped() -> None:
    data = stream(
        ["SET", "big", b"x" * 50_000], ["SET", "switchyard:own", b"x" * 50_000], "SELECT 1", "INCR n"
    )
    found = Reading(stream_from=1000, databases=frozenset({1}))
    found.feed(*(data[place : place + 4096] for place in range(0, len(data), 4096)))
    assert found.lines == ["SELECT 1", "INCR n"]
    found = Reading(stream_from=1000)
    found.feed(*(data[place : place + 4096] for place in range(0, len(data), 4096)))
    assert [line[:12] for line in found.lines] == ["SET big xxxx", "SELECT 1", "INCR n"]


def test_a_large_command_that_a_rule_needs_is_waited_for() -> None:
    data = stream(["SET", "big", b"x" * 50_000, "PXAT", "99"])
    found = Reading(stream_from=1000)
    found.feed(*(data[place : place + 4096] for place in range(0, len(data), 4096)))
    assert found.lines == ["RULED big"]
    assert len(found.entries[0].args) == 5


COMMANDS = st.one_of(
    st.sampled_from(
        ["SET k v", "set k v", "SET k v PX 5000", "SELECT 0", "SELECT 3", "PING", "REPLCONF GETACK *", "EXPIRE k 5", "MULTI", "EXEC",
         "SET switchyard:x 1", "RENAME a b", "INCR n", "FLUSHALL"]
    ),
    st.binary(max_size=60).map(lambda value: ("SET", "binary", value)),
    st.integers(0, 3000).map(lambda size: ("APPEND", "large", b"\r\n*1\r\n$" * (size // 7))),
)  # fmt: skip


@given(
    st.lists(COMMANDS, max_size=30),
    st.lists(st.integers(0, 20_000), max_size=40),
    st.sampled_from([64, 1 << 20]),
    st.booleans(),
)
@settings(deadline=None)
def test_any_chunking_gives_the_same(commands: list[Any], cuts: list[int], limit: int, some: bool) -> None:
    """The same bytes, counts, rules, database and offset; and every safe point is the end of a command outside of a transaction."""
    options = {"databases": frozenset({0})} if some else {}
    data = stream(*commands)
    whole = read(data, **options)
    parts = Reading(stream_from=limit, **options).feed(*pieces(data, cuts))
    assert (parts.data, parts.counted, parts.dropped) == (whole.data, whole.counted, whole.dropped)
    assert [entry.args for entry in parts.entries] == [entry.args for entry in whole.entries]
    assert [entry.offset for entry in parts.entries] == [entry.offset for entry in whole.entries]
    assert parts.kernel.offset == START + len(data)
    if data:
        assert parts.safe[-1] == whole.safe[-1]
    places, at, is_open = {START}, START, False
    for command in commands:
        at += len(stream(command))
        is_open = command == "MULTI" or (is_open and command != "EXEC")
        if not is_open:
            places.add(at)
    assert {offset for offset, _ in parts.safe} <= places


@given(st.lists(COMMANDS, max_size=8))
@settings(deadline=None, max_examples=30)
def test_one_byte_at_a_time(commands: list[Any]) -> None:
    data = stream(*commands)
    found = Reading().feed(*(data[n : n + 1] for n in range(len(data))))
    assert found.data == read(data).data
    assert found.kernel.offset == START + len(data)


@given(st.lists(COMMANDS, min_size=1, max_size=8), st.data())
@settings(deadline=None)
def test_damage_is_refused_or_waited_for(commands: list[Any], data: st.DataObject) -> None:
    damaged = bytearray(stream(*commands))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.sampled_from(b"*$\r\n+-0123456789ax\0\xff"))
    try:
        found = Reading(stream_from=data.draw(st.sampled_from([64, 1 << 20]))).feed(
            *pieces(bytes(damaged), [7, 100])
        )
    except (ProtocolError, UnknownCommand):
        return
    assert found.kernel.offset <= START + len(damaged)


def test_options_are_for_the_rule() -> None:
    commands = [
        ["XADD", "s", "1-1", "f", "v"], ["XADD", "s", "2-1", "f", "v", "LIMIT", "1"], ["XADD", "s", "MAXLEN", "=", "5", "3-1", "f", "v"],
        ["XADD", "s", "", "f", "v"], ["XADD", "s"], ["XADD", "s", "4-1", "f", "v"],
    ]  # fmt: skip
    seen: list[list[bytes]] = []

    def rule(entry: Entry) -> Emitted:
        seen.append(entry.args)
        return [(entry.database, entry.args)]

    kernel = StreamKernel(actions() | {b"XADD": RULE_WORD}, rule, offset=START, database=0)
    kernel.target_database = 0
    data = stream(*commands)
    assert b"".join(kernel.feed(data).data) == data
    assert [[word.decode() for word in args] for args in seen] == (commands[2:5] if COMPILED else commands)


def test_a_time_that_is_far_needs_no_rule() -> None:
    """What the rule leaves as it is may pass it by; interpreted, the rule sees it and leaves it as it is."""
    far, near = "1800000000000", "1700000000000"
    commands = [
        ["SET", "a", "v", "PXAT", far], ["SET", "b", "v", "pxat", far], ["SET", "c", "v", "PXAT", near], ["PEXPIREAT", "a", far], ["PEXPIREAT", "a", far, "GT"],
        ["SET", "d", "v", "EX", "10"], ["SET", "e", "v", "NX", far], ["SET", "f", "v", "PXAT", "-1"], ["EXPIREAT", "a", far],
    ]  # fmt: skip
    seen: list[list[bytes]] = []

    def rule(entry: Entry) -> Emitted:
        seen.append(entry.args)
        return [(entry.database, entry.args)]

    kernel = StreamKernel(actions(), rule, offset=START, database=0)
    kernel.target_database = 0
    kernel.far_from = 1_750_000_000_000
    data = stream(*commands)
    batch = kernel.feed(data)
    assert b"".join(batch.data) == data
    assert batch.commands == len(commands)
    assert [[word.decode() for word in args] for args in seen] == commands[2 if COMPILED else 0 :]
