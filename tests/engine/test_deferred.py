"""Expiries that were left out: set when the answer of the source is certain, asked for again when it is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from migrations_app.engine.deferred import Deferred
from migrations_app.engine.errors import AuthError
from migrations_app.engine.protocol.resp import encode
from tests.support.ports import free_port
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import endpoint, offset_of

Noted = Callable[..., Deferred]


@pytest.fixture
def noted(pair: tuple[Server, Server]) -> Noted:
    """Keys that are noted in the target, and have an expiry on the source."""
    source, target = pair

    def make(**keys: int) -> Deferred:
        for key, milliseconds in keys.items():
            source.client().set(key, 1, px=milliseconds)
            target.client().sadd("switchyard:deferred:test", key)
        return Deferred(endpoint(source), endpoint(target), "test", "switchyard:test:1", 5.0)

    return make


def ask(deferred: Deferred) -> None:
    """Until the answer is there and not yet used."""
    offset = -1  # behind every answer
    deferred.poll(offset)
    wait_for(lambda: (deferred.poll(offset), deferred.busy and deferred._future is None)[1], 10)


def test_the_expiry_that_the_source_has_now_is_set_and_the_note_removed(
    noted: Noted, pair: tuple[Server, Server]
) -> None:
    deferred = noted(key=100_000, other=200_000)
    ask(deferred)
    assert deferred.left == 2
    commands = deferred.poll(offset_of(pair[0]))
    at = int(pair[0].client().execute_command("PEXPIRETIME", "key"))
    assert (0, [b"PEXPIREAT", b"key", b"%d" % at]) in commands
    assert len(commands) == 3
    assert commands[-1][1][:2] == [b"SREM", b"switchyard:deferred:test"]
    assert deferred.left == 0


def test_an_answer_waits_until_the_stream_is_applied_up_to_it(
    noted: Noted, pair: tuple[Server, Server]
) -> None:
    deferred = noted(key=100_000)
    ask(deferred)
    offset = offset_of(pair[0])
    assert deferred.poll(offset - 1) == []
    assert len(deferred.poll(offset)) == 2


@pytest.mark.parametrize("cut", range(1, 12, 2))
def test_a_key_that_the_stream_names_meanwhile_is_asked_for_again(
    noted: Noted, pair: tuple[Server, Server], cut: int
) -> None:
    """Wherever the blocks of the stream cut its name."""
    deferred = noted(**{"long-key-name": 100_000, "other": 100_000})
    ask(deferred)
    command = encode("SET", "long-key-name", "value")
    place = command.index(b"long-key-name") + cut
    deferred.touch(command[:place])
    deferred.touch(command[place:])
    commands = deferred.poll(offset_of(pair[0]))
    assert [args[1] for _, args in commands] == [b"other", b"switchyard:deferred:test"]
    assert deferred.left == 1


def test_a_key_that_is_noted_while_the_question_is_under_way_is_not_forgotten(
    noted: Noted, pair: tuple[Server, Server]
) -> None:
    deferred = noted()
    ask(deferred)
    pair[0].client().set("late", 1, px=100_000)
    pair[1].client().sadd("switchyard:deferred:test", "late")
    deferred.written()
    deferred.poll(offset_of(pair[0]))
    assert deferred.left != 0
    wait_for(lambda: deferred.poll(offset_of(pair[0])), 10)
    assert deferred.left == 0


def test_a_key_that_has_no_expiry_any_more_gets_none(noted: Noted, pair: tuple[Server, Server]) -> None:
    deferred = noted(key=100_000, gone=100_000)
    pair[0].client().persist("key")
    pair[0].client().delete("gone")
    ask(deferred)
    assert [args[0] for _, args in deferred.poll(offset_of(pair[0]))] == [b"SREM"]


def test_a_long_lag_is_not_kept(noted: Noted, pair: tuple[Server, Server]) -> None:
    """While an answer waits for the link to catch up; then all of it is asked for again."""
    deferred = noted(key=100_000)
    ask(deferred)
    for number in range(100):
        deferred.touch(encode("SET", "unrelated", bytes([number]) * 100_000))
    assert sum(map(len, deferred._touched)) < 5_000_000
    assert deferred.poll(offset_of(pair[0])) == []
    assert deferred.left == 1
    assert [args[0] for _, args in wait_for(lambda: deferred.poll(offset_of(pair[0])), 10)] == [
        b"PEXPIREAT",
        b"SREM",
    ]


def test_names_with_line_ends_and_names_in_scripts_are_seen(
    noted: Noted, pair: tuple[Server, Server]
) -> None:
    deferred = noted(**{"a\r\nb": 100_000, "scripted": 100_000, "other": 100_000})
    ask(deferred)
    deferred.touch(encode("SET", "a\r\nb", 1) + encode("EVAL", "redis.call('SET', 'scripted', 1)", 0))
    assert next(args[1] for _, args in deferred.poll(offset_of(pair[0]))) == b"other"
    assert deferred.left == 2


def test_the_empty_key_is_certain_where_nothing_has_come(noted: Noted, pair: tuple[Server, Server]) -> None:
    deferred = noted(**{"": 100_000})
    ask(deferred)
    assert deferred.poll(offset_of(pair[0]))[0][1][:2] == [b"PEXPIREAT", b""]
    assert deferred.left == 0


def test_databases_that_are_swapped_make_all_answers_void(noted: Noted, pair: tuple[Server, Server]) -> None:
    deferred = noted(key=100_000)
    ask(deferred)
    deferred.touch(encode("swapdb", 0, 1))
    assert deferred.poll(offset_of(pair[0])) == []
    assert deferred.left == 1


def test_a_server_that_cannot_be_reached_is_asked_again(pair: tuple[Server, Server]) -> None:
    """The link's own connections tell whether a side is lost; the notes are not forgotten."""
    nowhere = endpoint(pair[0], port=free_port())
    deferred = Deferred(nowhere, nowhere, "test", "switchyard:test:1", 5.0)
    deferred.poll(0)
    wait_for(lambda: (deferred.poll(0), not deferred.busy)[1], 10)
    assert deferred.left is None


def test_a_refusal_is_raised_in_the_thread_of_the_link(pair: tuple[Server, Server]) -> None:
    locked = endpoint(pair[1], username="nobody", password="wrong")
    deferred = Deferred(endpoint(pair[0]), locked, "test", "switchyard:test:1", 5.0)
    deferred.poll(0)
    with pytest.raises(AuthError):
        wait_for(lambda: deferred.poll(0), 10)
