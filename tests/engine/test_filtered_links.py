"""Links that apply a part of their source: keys, and commands."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from migrations_app.engine.choice import CommandChoice
from migrations_app.engine.config import LinkConfig, Phases
from migrations_app.engine.errors import UnsupportedData, UsageError
from migrations_app.engine.keyfilter import KeyFilter
from migrations_app.engine.verify import verify
from migrations_app.engine.verify.report import as_text
from tests.engine.conftest import Shared
from tests.engine.links import EngineProcess, RunningLink, endpoint, run
from tests.support.servers import Server
from tests.support.wait import wait_for

KEYS = KeyFilter(include_prefixes=(b"k:",), include_patterns=(b"order:*",), exclude_patterns=(b"*:tmp",))
PAIRS = [("redis-7.0", "redis-7.0"), ("redis-3.2", "redis-6.2"), ("valkey-9.1", "valkey-9.1")]


def fill(source: Server) -> None:
    for database in (0, 4):
        with source.client(db=database) as client:
            for prefix in ("k:", "x:", "order:"):
                client.set(prefix + "string", prefix)
                client.set(prefix + "expiring", prefix, ex=20)
                client.rpush(prefix + "list", *range(300))
                client.execute_command(
                    "HMSET", prefix + "hash", *("v" * 70 + str(number) for number in range(400))
                )
                client.zadd(prefix + "zset", {str(number): number for number in range(200)})
                client.sadd(prefix + "set", "a", "b")
                client.set(prefix + "string:tmp", prefix)
                client.set(prefix + "long", "v" * 3_000_000)
                client.set(prefix + "long:tmp", "v" * 3_000_000)


def assert_only_wanted(source: Server, target: Server) -> None:
    found = verify(endpoint(source), endpoint(target), keys=KEYS)
    assert found.differences == 0, as_text(found)
    assert found.keys > 20
    for database in (0, 4):
        with target.client(db=database) as client:
            others = [key for key in client.keys("*") if not KEYS.wants(key)]
            assert all(key.startswith(b"switchyard:") for key in others), others


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_keys_of_snapshot_and_stream(shared: Shared, source: str, target: str) -> None:
    origin, goal = shared(source, "source"), shared(target, "target")
    fill(origin)
    with RunningLink(origin, goal, keys=KEYS) as link:
        link.settle(origin, goal)
        progress = link.progress
        # Of nine keys with each of three prefixes, two of the wanted prefixes end in :tmp.
        assert (progress.keys_done, progress.keys_skipped, progress.keys_total) == (28, 26, 54)
        assert progress.percent == 100.0
        with origin.client() as client:
            client.mset({"k:a": 1, "x:a": 1, "order:a": 1})
            client.delete("k:string", "x:string")
            client.rename("k:list", "x:gone")
            client.rename("x:hash", "x:hash2")
            client.rename("k:hash", "order:hash2")
            client.smove("k:set", "x:set", "a")
            client.smove("x:set", "order:set", "a")
            client.execute_command("RPOPLPUSH", "order:list", "x:list")
            client.sunionstore("x:union", "k:set", "x:set")
            client.sunionstore("k:union", "k:set", "order:set")
            client.expire("k:zset", 1000)
            client.expire("x:zset", 1000)
            client.pexpire("k:union", 5000)
            client.execute_command("SETEX", "order:soon", 30, "v")
            client.move("x:set", 3)
            client.move("order:zset", 3)
            client.publish("channel", "message")
            pipeline = client.pipeline()
            pipeline.spop("order:set").incrbyfloat("k:a", 1.5).incrbyfloat("x:a", 1.5).append("k:long", "w")
            pipeline.append("x:long", "w").set("k:long:tmp", "").execute()
        link.settle(origin, goal)
        assert_only_wanted(origin, goal)
        assert link.progress.commands > 0


def test_what_remains_of_a_transaction_is_applied_at_once(pair: tuple[Server, Server]) -> None:
    source, target = pair
    ended = threading.Event()
    seen: list[list[bytes | None]] = []

    def look() -> None:
        with target.client() as client:
            while not ended.is_set():
                seen.append(client.mget("k:one", "k:two"))

    with RunningLink(source, target, keys=KEYS) as link, source.client() as client:
        link.wait_caught_up()
        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            for number in range(300):
                pipeline = client.pipeline()
                pipeline.set("k:one", number).set("x:between", number).lpush("x:list", number)
                pipeline.mset({"x:other": number, "k:two": number}).execute()
            link.settle(source, target)
        finally:
            ended.set()
            watcher.join()
        assert target.client().mget("k:one", "k:two") == [b"299", b"299"]
    assert len({tuple(pair) for pair in seen}) > 1
    assert [pair for pair in seen if pair[0] != pair[1]] == []


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        (
            [("RENAME", "x:a", "k:a")],
            r"RENAME concerns chosen keys \(b'k:a'\) together with others \(b'x:a'\)",
        ),
        ([("SUNIONSTORE", "k:u", "k:s", "x:s")], r"SUNIONSTORE concerns chosen keys"),
        ([("FLUSHDB",)], "FLUSHDB"),
        ([("COPY", "x:a", "k:a", "DB", "1")], "COPY"),
    ],
)
def test_what_cannot_be_taken_apart_stops_the_link_and_nothing_of_it_is_applied(
    pair: tuple[Server, Server], commands: list[tuple[str, ...]], said: str
) -> None:
    source, target = pair
    with source.client() as client, RunningLink(source, target, keys=KEYS) as link:
        client.execute_command("SET", "x:a", "v")
        client.execute_command("SADD", "x:s", "v")
        client.execute_command("SADD", "k:s", "w")
        link.settle(source, target)
        client.execute_command("MULTI")
        client.execute_command("SET", "k:first", "v")
        for command in commands:
            client.execute_command(*command)
        client.execute_command("EXEC")
        error = link.failure()
    assert isinstance(error, UnsupportedData)
    assert error.advice
    with pytest.raises(UnsupportedData, match=said):
        raise error
    assert target.client().exists("k:first", "k:a", "k:u") == 0
    assert target.client().smembers("k:s") == {b"w"}


def test_commands_by_database(pair: tuple[Server, Server]) -> None:
    source, target = pair
    commands = {
        None: CommandChoice(only=frozenset({"@string", "expire", "SPOP", "INCRBYFLOAT"})),
        2: CommandChoice(without=frozenset({"DEL", "@list"})),
    }
    with source.client() as client:
        client.sadd("set", *range(10))
    with RunningLink(source, target, commands=commands) as link:
        link.settle(source, target)
        assert "filter.commands" in link.ports.events
        for database in (0, 2):
            with source.client(db=database) as client:
                client.set("a", 1)
                client.execute_command("SETEX", "b", 100, 1)
                client.incrbyfloat("a", 1.5)
                client.pexpire("a", 90_000)
                client.spop("set", 3)
                client.hset("hash", "f", "v")
                client.rpush("list", "v")
                client.set("gone", 1)
                client.delete("gone")
        link.settle(source, target)
    with target.client() as client:
        assert client.mget("a", "b", "gone") == [b"2.5", b"1", None]
        assert client.ttl("a") > 0
        assert client.ttl("b") > 0
        assert client.smembers("set") == source.client().smembers("set")
        assert client.exists("hash", "list") == 0
    with target.client(db=2) as client:
        assert client.mget("a", "b", "gone") == [b"2.5", b"1", b"1"]
        assert client.ttl("a") > 0
        assert client.hgetall("hash") == {b"f": b"v"}
        assert client.exists("list") == 0


def test_a_script_that_is_passed_over_is_known_where_it_is_wanted(shared: Shared) -> None:
    """An old source sends a script once, by EVAL, and then its digest."""
    source, target = shared("redis-3.2", "source"), shared("redis-6.2", "target")
    script = "return redis.call('INCR', KEYS[1])"
    with RunningLink(source, target, databases=frozenset({1})) as link:
        link.settle(source, target)
        with source.client() as other, source.client(db=1) as client:
            other.eval(script, 1, "n")
            digest = other.script_load(script)
            other.evalsha(digest, 1, "n")
            client.evalsha(digest, 1, "n")
        link.settle(source, target)
    assert target.client(db=1).get("n") == b"1"
    assert target.client().get("n") is None


def test_from_the_command_line(pair: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = pair
    fill(source)
    with target.client() as client:
        client.set("x:not of the source", "v")
    chosen = ["--include-prefix", "k:", "--include-pattern", "order:*", "--exclude-pattern", "*:tmp"]
    sides = [source.url, target.url]
    with EngineProcess(
        tmp_path, "run", *sides, "--stop-when-caught-up", "--json", *chosen, "--without-commands", ["@pubsub", "0:DEL"][0]
    ) as engine:  # fmt: skip
        assert engine.wait() == 0, engine.said()
        assert engine.result()["keys_done"] == 28
    with EngineProcess(tmp_path, "verify", *sides, "--json", *chosen, name="verify") as check:
        assert check.wait() == 0, check.said()
        assert check.result()["keys"] == 28
    with EngineProcess(tmp_path, "verify", *sides, name="all") as check:
        assert check.wait() == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--include-prefix", ""], "empty"),
        (["--commands", "NOSUCH"], "NOSUCH"),
        (["--commands", "x:SET"], "number of a database"),
        (["--without-commands", "SPOP"], "SPOP cannot be left out alone: it travels as SREM, like SREM"),
        (["--db", "1", "--commands", "2:SET"], "database 2, which itself is not chosen"),
    ],
)
def test_bad_choices_are_refused_before_anything_is_connected(
    tmp_path: Path, options: list[str], said: str
) -> None:
    with EngineProcess(tmp_path, "run", "redis://127.0.0.1:1", "redis://127.0.0.1:2", *options) as engine:
        assert engine.wait() == 2
        assert said in engine.said()


def test_a_choice_for_a_database_that_is_not_chosen_is_refused(pair: tuple[Server, Server]) -> None:
    with pytest.raises(UsageError, match="database 2"):
        LinkConfig(
            "x", endpoint(pair[0]), endpoint(pair[1]), databases=frozenset({1}), commands={2: CommandChoice()}
        )


def test_a_filtered_copy_of_some_databases(pair: tuple[Server, Server]) -> None:
    source, target = pair
    fill(source)
    result = run(source, target, phases=Phases.FULL, databases=frozenset({4}), keys=KEYS)
    assert (result.progress.keys_done, result.progress.keys_skipped, result.progress.percent) == (
        14,
        40,
        100.0,
    )
    wait_for(lambda: target.client(db=4).dbsize() == 14, 5)
    assert target.client().dbsize() == 0
