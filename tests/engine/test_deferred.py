"""What was left open is put right: the source is asked at a known place of its stream, and the answer is put at that place."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from migrations_app.engine import deferred as module
from migrations_app.engine.abilities import Abilities
from migrations_app.engine.checkpoint import Checkpoint
from migrations_app.engine.deferred import Deferred, restore
from migrations_app.engine.errors import AuthError, PermissionDenied, RepairTooLarge
from tests.support.fixtures import ServerFactory
from tests.support.ports import free_port
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import endpoint, offset_of

Make = Callable[..., Deferred]
NOW = 0  # no expiry is near


@pytest.fixture
def make(pair: tuple[Server, Server]) -> Iterator[Make]:
    """A `Deferred` of a link between the pair; the names given are noted in the target, in database 0."""
    made: list[Deferred] = []
    target = pair[1].client()
    target.execute_command(*Checkpoint(epoch=1).command("test"))

    def noted(*expiries: str | bytes, values: tuple[str | bytes, ...] = ()) -> Deferred:
        for name, keys in (("deferred", expiries), ("repair", values)):
            if keys:
                target.sadd(f"switchyard:{name}:test", *keys)
        made.append(Deferred(endpoint(pair[0]), endpoint(pair[1]), "test", "switchyard:test:1", 5.0))
        return made[-1]

    yield noted
    for one in made:
        one.close()


def polled_until(deferred: Deferred, condition: Callable[[], bool], *, start: bool = True) -> None:
    """Poll as the link's loop does."""

    def turn() -> bool:
        deferred.poll(start=start)
        return condition()

    wait_for(turn, 10)


def ask(deferred: Deferred) -> None:
    """Until the answer is there and not yet used."""
    polled_until(deferred, lambda: deferred.cut is not None)


def settled(deferred: Deferred, now: int = NOW) -> list[list[bytes]]:
    ask(deferred)
    return [args for _, args in deferred.settle(now)]


def test_the_expiry_that_the_source_has_now_is_set_and_the_note_removed(
    make: Make, pair: tuple[Server, Server]
) -> None:
    source = pair[0].client()
    source.set("key", 1, px=100_000)
    source.set("other", 1, px=200_000)
    deferred = make("key", "other")
    commands = settled(deferred)
    at = int(source.execute_command("PEXPIRETIME", "key"))
    assert [b"PEXPIREAT", b"key", b"%d" % at] in commands
    assert len(commands) == 3
    assert commands[-1][:2] == [b"SREM", b"switchyard:deferred:test"]
    assert deferred.left == 0
    assert not deferred.unsettled


def test_the_answer_holds_at_the_place_that_it_names(make: Make, pair: tuple[Server, Server]) -> None:
    """Nothing is read while the source is asked; what it writes afterwards lies behind."""
    source = pair[0].client()
    source.set("key", 1, px=100_000)
    before = offset_of(pair[0])
    deferred = make("key")
    polled_until(deferred, lambda: deferred.holding)
    ask(deferred)
    assert not deferred.holding
    assert deferred.cut is not None
    assert before <= deferred.cut <= offset_of(pair[0])
    assert deferred.replication_id == pair[0].info("replication")["master_replid"]
    source.pexpire("key", 999_000)
    ((_, (_, _, at)), _) = deferred.settle(NOW)
    assert int(at) < int(source.execute_command("PEXPIRETIME", "key"))


def test_a_key_that_is_noted_while_the_question_is_under_way_is_not_forgotten(
    make: Make, pair: tuple[Server, Server]
) -> None:
    pair[0].client().set("key", 1, px=100_000)
    deferred = make("key")
    ask(deferred)
    pair[0].client().set("late", 1, px=100_000)
    pair[1].client().sadd("switchyard:deferred:test", "late")
    deferred.written()
    deferred.settle(NOW)
    assert deferred.unsettled
    pair[1].client().srem("switchyard:deferred:test", "key")
    assert [args[1] for args in settled(deferred)] == [b"late", b"switchyard:deferred:test"]
    assert not deferred.unsettled


def test_what_was_noted_before_the_place_of_the_answer_is_answered(
    make: Make, pair: tuple[Server, Server]
) -> None:
    """A key that is noted again and again does not keep the link unsettled."""
    pair[0].client().set("key", 1, px=100_000)
    deferred = make("key")
    ask(deferred)
    deferred.note(0, b"key")
    deferred.note(0, b"new")
    deferred.settle(NOW)
    assert deferred.notes() == [(0, [b"SADD", b"switchyard:deferred:test", b"new"])]


def test_a_key_that_has_no_expiry_any_more_gets_none(make: Make, pair: tuple[Server, Server]) -> None:
    pair[0].client().set("key", 1)
    assert [args[0] for args in settled(make("key", "gone"))] == [b"SREM"]


def test_an_expiry_that_is_near_waits_until_nothing_can_renew_it(
    make: Make, pair: tuple[Server, Server]
) -> None:
    source = pair[0].client()
    source.set("near", 1, px=300_000)
    source.set("far", 1, px=600_000)
    at = int(source.execute_command("PEXPIRETIME", "near"))
    deferred = make("near", "far")
    assert [args[:2] for args in settled(deferred, at - 500)] == [
        [b"PEXPIREAT", b"far"],
        [b"SREM", b"switchyard:deferred:test"],
    ]
    assert (deferred.left, deferred.only_near) == (1, True)
    pair[1].client().srem("switchyard:deferred:test", "far")
    assert settled(deferred, at - 500) == []
    deferred.final = True
    assert len(settled(deferred, at - 500)) == 2
    assert not deferred.unsettled


def test_a_value_is_read_again(make: Make, pair: tuple[Server, Server]) -> None:
    source, target = pair[0].client(), pair[1].client()
    source.rpush("list", *range(1000))
    source.pexpire("list", 100_000)
    source.set("near", 1, px=50_000)
    target.set("gone", 1)
    deferred = make("list", values=("list", "gone", "near"))
    assert deferred.repairing
    at = int(source.execute_command("PEXPIRETIME", "near"))
    for args in settled(deferred, at - 500):
        target.execute_command(*args)
    assert target.lrange("list", 0, -1) == source.lrange("list", 0, -1)
    assert target.execute_command("PEXPIRETIME", "list") == source.execute_command("PEXPIRETIME", "list")
    assert not target.exists("gone", "switchyard:repair:test")
    assert target.ttl("near") == -1
    assert target.smembers("switchyard:deferred:test") == {b"list", b"near"}
    assert not deferred.repairing
    assert deferred.unsettled


def test_values_are_read_in_bounded_portions(
    make: Make, pair: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_VALUE_BYTES", 100_000)
    source, target = pair[0].client(), pair[1].client()
    for number in range(5):
        source.set(f"key {number}", b"x" * 60_000)
    deferred = make(values=tuple(f"key {number}" for number in range(5)))
    for left in range(4, -1, -1):
        for args in settled(deferred):
            target.execute_command(*args)
        assert deferred.left == left
    assert len(target.keys("key*")) == 5


def test_a_value_beyond_all_bounds_stops_the_link_by_name(
    make: Make, pair: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LARGEST", 100_000)
    pair[0].client().set("huge", b"x" * 200_000)
    deferred = make(values=("huge",))
    with pytest.raises(RepairTooLarge, match="huge"):
        ask(deferred)


@pytest.mark.parametrize("version", ["redis-3.2", "redis-5.0", "redis-6.2"])
def test_older_servers(redis_server: ServerFactory, pair: tuple[Server, Server], version: str) -> None:
    """No PEXPIRETIME, no MEMORY USAGE, no ABSTTL."""
    old, new = redis_server(version), pair[0]
    client, target = old.client(), new.client()
    client.hset("hash", "field", "value")
    client.pexpire("hash", 100_000)
    client.set("key", 1, px=100_000)
    target.sadd("switchyard:deferred:test", "key")
    target.sadd("switchyard:repair:test", "hash")
    target.execute_command(*Checkpoint(epoch=1).command("test"))
    target.set("key", 1)
    deferred = Deferred(endpoint(old), endpoint(new), "test", "name", 5.0, source_version=old.version)
    for args in settled(deferred):
        target.execute_command(*args)
    assert target.hgetall("hash") == {b"field": b"value"}
    for key in ("hash", "key"):
        # The target is asked between two answers of the source, however long that takes.
        most, left, least = client.pttl(key), target.pttl(key), client.pttl(key)
        assert least - 100 < left < most + 100, (key, most, left, least)
    for args in restore(b"copy", client.dump("hash"), 10**13, stamp=7, able=Abilities(old.version)):
        client.execute_command(*args)
    assert client.hgetall("copy") == {b"field": b"value"}
    assert client.pttl("copy") > 10**11


def test_a_payload_that_is_newer_than_the_target_goes_as_commands(
    redis_server: ServerFactory, pair: tuple[Server, Server]
) -> None:
    old = redis_server("redis-5.0").client()
    source = pair[0].client()
    source.rpush("list", *(b"x" * 100 for _ in range(500)))
    stamp = int.from_bytes(old.dump(old.set("a", 1) and "a")[-10:-8], "little")
    for args in restore(b"list", source.dump("list"), 10**13, stamp=stamp, able=Abilities((5, 0, 14))):
        old.execute_command(*args)
    assert old.lrange("list", 0, -1) == source.lrange("list", 0, -1)
    assert old.pttl("list") > 10**11


def test_databases_that_are_swapped_take_names_along(make: Make) -> None:
    deferred = make()
    deferred.note(0, b"a")
    deferred.note_repair(1, b"b")
    deferred.note(2, b"c")
    deferred.swapped(0, 1)
    assert sorted(deferred.notes()) == [
        (0, [b"SADD", b"switchyard:repair:test", b"b"]),
        (1, [b"SADD", b"switchyard:deferred:test", b"a"]),
        (2, [b"SADD", b"switchyard:deferred:test", b"c"]),
    ]


def test_a_server_that_cannot_be_reached_is_asked_again(pair: tuple[Server, Server]) -> None:
    """The link's own connections tell whether a side is lost; the notes are not forgotten."""
    nowhere = endpoint(pair[0], port=free_port())
    deferred = Deferred(nowhere, nowhere, "test", "switchyard:test:1", 5.0)
    deferred.poll()
    polled_until(deferred, lambda: not deferred.busy, start=False)
    assert deferred.left is None


def test_a_refusal_is_raised_in_the_thread_of_the_link(pair: tuple[Server, Server]) -> None:
    locked = endpoint(pair[1], username="nobody", password="wrong")
    deferred = Deferred(endpoint(pair[0]), locked, "test", "switchyard:test:1", 5.0)
    with pytest.raises(AuthError):
        ask(deferred)


def test_a_source_that_does_not_let_values_be_read_stops_the_link(
    make: Make, pair: tuple[Server, Server]
) -> None:
    with pair[0].client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">word", "~*", "+@all", "-dump")
    try:
        make(values=("key",))
        source = endpoint(pair[0], username="reader", password="word")
        deferred = Deferred(source, endpoint(pair[1]), "test", "switchyard:test:1", 5.0)
        with pytest.raises(PermissionDenied, match="DUMP"):
            ask(deferred)
    finally:
        pair[0].client().execute_command("ACL", "DELUSER", "reader")
