"""Scripts, functions and channels: what clients of the source call is there on the target, and what they say is heard."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import pytest

from migrations_app.engine.errors import ScriptUnknown
from migrations_app.engine.scripts import Scripts
from tests.support.servers import Server
from tests.support.wait import wait_for

from .conftest import QUICK, Shared
from .links import RunningLink, assert_equal, pass_time
from .writes import plain

ADD = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('INCR', KEYS[2])"
KEY = "switchyard:scripts:test"


def digest(code: str) -> str:
    return hashlib.sha1(code.encode(), usedforsecurity=False).hexdigest()


# Servers that send EVAL and EVALSHA as the client did.
VERBATIM = [
    ("redis-3.2", {}),
    ("redis-5.0", {"lua-replicate-commands": "no"}),
    ("redis-6.2", {"lua-replicate-commands": "no"}),
]


@pytest.fixture(params=VERBATIM, ids=lambda param: param[0])
def verbatim(request: pytest.FixtureRequest, redis_server: Any) -> Server:
    version, config = request.param
    server: Server = redis_server(version, config={**QUICK, **config})
    return server


def test_scripts_by_code_and_by_digest(verbatim: Server, shared: Shared) -> None:
    """Loaded, called by code, called by digest; and again after the target has lost its scripts."""
    target = shared("redis-7.0", "target")
    target.client().script_flush()
    other = "return redis.call('RPUSH', KEYS[1], ARGV[1])"
    with verbatim.client() as client:
        with RunningLink(verbatim, target) as link:
            link.wait_caught_up()
            client.script_load(ADD)
            client.eval(other, 1, "list", "one")
            for number in range(3):
                client.evalsha(digest(ADD), 2, "k", "n", number)
                client.evalsha(digest(other), 1, "list", "more")
            link.settle(verbatim, target)
            assert target.client().script_exists(digest(ADD), digest(other)) == [True, True]
            link.stop()
        assert_equal(verbatim, target)
        assert set(target.client().hgetall(KEY)) == {digest(ADD).encode(), digest(other).encode()}
        target.client().script_flush()
        with RunningLink(verbatim, target) as link:
            link.wait_caught_up()
            assert target.client().script_exists(digest(ADD), digest(other)) == [True, True]
            target.client().script_flush()  # while the link runs: it sends the code
            client.evalsha(digest(ADD), 2, "k", "n", "last")
            client.evalsha(digest(other), 1, "list", "last")
            link.settle(verbatim, target)
            assert link.progress.full_syncs == 0
            link.stop()
    assert_equal(verbatim, target)


def test_a_script_that_nobody_has_stops_the_link(redis_server: Any, shared: Shared) -> None:
    """With the digest and the remedy; nothing behind it is applied, and once it is loaded the link goes on where it stood."""
    source = redis_server("redis-3.2", config=QUICK)
    target = shared("redis-7.0", "target")
    target.client().script_flush()
    with source.client() as client:
        with RunningLink(source, target) as link:
            link.wait_caught_up()
            client.script_load(ADD)
            client.evalsha(digest(ADD), 2, "k", "n", 0)  # goes by its code, and from then on by its digest
            link.settle(source, target)
            link.stop()
        # As if the link had kept nothing.
        target.client().delete(KEY)
        target.client().script_flush()
        client.evalsha(digest(ADD), 2, "k", "n", 1)
        client.set("behind", 1)
        with RunningLink(source, target) as link:
            error = link.failure(20)
        assert isinstance(error, ScriptUnknown)
        assert error.id == "target.no_script"
        assert digest(ADD) in error.message
        assert "SCRIPT LOAD" in error.advice
        assert target.client().mget("k", "n", "behind") == [b"0", b"1", None]
        target.client().script_load(ADD)
        with RunningLink(source, target) as link:
            link.settle(source, target)
            assert link.progress.full_syncs == 0
    assert_equal(source, target)


@pytest.mark.parametrize("version", ["redis-5.0", "redis-6.2"])
def test_scripts_come_with_the_snapshot(shared: Shared, version: str) -> None:
    """A source of 4.0 to 6.2 puts its scripts there; later flushes are carried, too."""
    source, target = shared(version, "source"), shared("redis-7.0", "target")
    target.client().script_flush()
    with source.client() as client:
        client.script_flush()
        client.script_load(ADD)
        client.set("k", 1)
        with RunningLink(source, target) as link:
            link.wait_caught_up()
            assert target.client().script_exists(digest(ADD)) == [True]
            assert target.client().hkeys(KEY) == [digest(ADD).encode()]
            client.flushall()  # takes away what is kept in the target, too: it comes back
            client.set("k", 2)
            link.settle(source, target)
            assert target.client().hkeys(KEY) == [digest(ADD).encode()]
            client.script_flush()
            client.set("k", 3)
            link.settle(source, target)
            assert target.client().script_exists(digest(ADD)) == [False]
            assert not target.client().exists(KEY)
    assert_equal(source, target)


def test_a_script_that_sets_a_relative_expiry(redis_server: Any, shared: Shared) -> None:
    """It runs later on the target: the expiry is corrected to that of the source."""
    source = redis_server("redis-3.2", config=QUICK)
    target = shared("redis-7.0", "target")
    code = "redis.call('SET', KEYS[1], ARGV[1]) redis.call('EXPIRE', KEYS[1], 1000) redis.call('SETEX', KEYS[2], 2000, 'x')"
    with source.client() as client:
        with RunningLink(source, target) as link:
            link.wait_caught_up()
            link.stop()
        client.eval(code, 2, "k", "k2", "v")
        pass_time(client, 1500)
        with RunningLink(source, target) as link:
            link.settle(source, target)
    assert_equal(source, target, tolerance=500)


def test_what_scripts_are_kept_again() -> None:
    scripts = Scripts(b"kept", lambda digest: False)
    assert scripts.before([b"EVAL", b"return 1", b"0"]) == [
        (0, [b"HSET", b"kept", digest("return 1").encode(), b"return 1"])
    ]
    assert scripts.before([b"eval", b"return 1", b"0"]) == []
    kept = [(0, [b"HSET", b"kept", digest("return 1").encode(), b"return 1"])]
    for database, words, again in [
        (0, "FLUSHDB", True), (1, "FLUSHDB", False), (1, "FLUSHALL", True), (3, "SWAPDB 0 1", True), (0, "SWAPDB 1 2", False),
    ]:  # fmt: skip
        assert scripts.behind(database, words.encode().split()) == (kept if again else []), words
    assert scripts.by_code([b"EVALSHA", digest("return 1").upper().encode(), b"0"]) == [
        b"EVAL",
        b"return 1",
        b"0",
    ]
    assert scripts.expiring_keys([b"EVAL", b"redis.call('set', KEYS[1], 1, 'EX', 9)", b"1", b"k", b"v"]) == [
        b"k"
    ]
    assert scripts.expiring_keys([b"EVAL", b"redis.call('set', KEYS[1], 1)", b"1", b"k", b"v"]) == ()


LIBRARY = (
    "#!lua name={0}\nredis.register_function('{0}_get', function(keys) return redis.call('GET', keys[1]) end)"
)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ("redis-7.0", "redis-7.0"),
        ("redis-7.4", "redis-7.0"),
        ("valkey-9", "redis-7.2"),
        ("redis-8.6", "valkey-9"),
    ],
)
def test_functions_are_loaded_deleted_restored_and_flushed(shared: Shared, new: str, old: str) -> None:
    source, target = shared(new, "source"), shared(old, "target")

    def names(server: Server) -> set[bytes]:
        return {
            library[library.index(b"library_name") + 1]
            for library in plain(server).execute_command("FUNCTION", "LIST")
        }

    with plain(source) as client:
        client.execute_command("FUNCTION", "LOAD", LIBRARY.format("one"))
        with RunningLink(source, target) as link:
            link.wait_caught_up()
            assert names(target) == {b"one"}
            client.execute_command("FUNCTION", "LOAD", LIBRARY.format("two"))
            dump = client.execute_command("FUNCTION", "DUMP")
            client.execute_command("FUNCTION", "DELETE", "one")
            link.settle(source, target)
            assert names(target) == names(source) == {b"two"}
            client.execute_command("FUNCTION", "RESTORE", dump, "REPLACE")
            link.settle(source, target)
            assert names(target) == names(source) == {b"one", b"two"}
            client.set("k", "v")
            link.settle(source, target)
            assert plain(target).execute_command("FCALL", "two_get", 1, "k") == b"v"
            client.execute_command("FUNCTION", "FLUSH", "SYNC")
            link.settle(source, target)
            assert names(target) == set()


def test_what_is_published_is_heard(shared: Shared) -> None:
    """By subscribers of the target; but what Sentinels say to each other is not."""
    source, target = shared("redis-7.0", "source"), shared("valkey-9", "target")
    with source.client() as client, RunningLink(source, target) as link:
        link.wait_caught_up()
        with target.client().pubsub() as hearing:
            hearing.psubscribe("*")
            hearing.ssubscribe("shard")
            heard: list[tuple[bytes, bytes]] = []
            subscribed: set[str] = set()

            def listen() -> list[tuple[bytes, bytes]]:
                while message := hearing.get_message(timeout=0.05) or hearing.get_sharded_message(
                    timeout=0.05
                ):
                    if message["type"] in ("pmessage", "smessage"):
                        heard.append((message["channel"], message["data"]))
                    else:
                        subscribed.add(message["type"])
                return heard

            wait_for(lambda: not listen() and len(subscribed) == 2, 20, lambda: str(subscribed))
            client.publish("__sentinel__:hello", "10.0.0.1,26379")
            client.publish("news", "one")
            client.execute_command("SPUBLISH", "shard", "two")
            client.publish("news", "last")
            wait_for(lambda: len(listen()) >= 3, 20, lambda: str(heard))
            link.settle(source, target)
        assert sorted(listen()) == [(b"news", b"last"), (b"news", b"one"), (b"shard", b"two")]


@pytest.mark.parametrize("version", ["redis-5.0", "redis-7.0"])
def test_nobody_sees_half_of_a_transaction(shared: Shared, version: str) -> None:
    """A reader of the target, while transactions over several keys and databases are applied."""
    source, target = shared(version, "source"), shared("redis-7.0", "target")
    keys = [f"k{number}" for number in range(8)]
    done = threading.Event()
    seen: list[list[bytes | None]] = []

    def read() -> None:
        with target.client() as client:
            while not done.is_set():
                values = client.mget(keys)
                if len(set(values)) > 1:
                    seen.append(values)

    with source.client() as client, RunningLink(source, target) as link:
        link.wait_caught_up()
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        for number in range(400):
            pipe = client.pipeline(transaction=True)
            for key in keys:
                pipe.set(key, number).execute_command("PUBLISH", "c", key)
            if number % 2:
                pipe.execute()
            else:
                client.eval(
                    "for _, k in ipairs(KEYS) do redis.call('SET', k, ARGV[1]) end", len(keys), *keys, number
                )
        link.settle(source, target)
        done.set()
        reader.join(10)
        assert not reader.is_alive()
    assert seen == []
    assert_equal(source, target)
