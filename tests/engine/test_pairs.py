"""Every type in every encoding, from each version to the same one and upward, while a writer goes on: nothing differs at the end."""

from __future__ import annotations

from typing import Any

import pytest

from migrations_app.demo.clients import Capabilities
from migrations_app.demo.dataset import fill
from migrations_app.demo.encodings import encodings, expected_encodings
from migrations_app.demo.writer import Writer
from migrations_app.engine.config import Phases
from tests.support.servers import Server
from tests.support.wait import wait_for

from .conftest import Shared
from .links import Outcome, RunningLink, assert_audit, assert_equal, run

# The pairs that the product promises first, with more data and a longer writer.
PROMISED = [
    ("redis-5.0", "redis-7.0"),
    ("redis-6.2", "redis-7.0"),
    ("redis-7.0", "redis-7.0"),
    ("redis-7.0", "valkey-9"),
]
UPWARD = [
    ("redis-3.2", "redis-5.0"), ("redis-6.0", "redis-7.2"), ("redis-7.2", "redis-7.4"), ("redis-7.4", "redis-8.0"),
    ("redis-8.0", "redis-8.6"), ("valkey-8.0", "valkey-8.1"), ("valkey-8.1", "valkey-9"),
]  # fmt: skip
SAME = ["redis-3.2", "redis-5.0", "redis-6.2", "redis-7.4", "redis-8.6", "valkey-8.1", "valkey-9"]


def carry(source: Server, target: Server, *, keys: int, commands: int, **sizes: Any) -> None:
    """Full and incremental with the demo's data and writer; both sides are equal, and the audit is exact."""
    fill(source.url, keys=keys, **sizes)
    writer = Writer(source.url, seed=11, rate=3000).start()
    try:
        with RunningLink(source, target) as link:
            link.wait_caught_up()
            written = writer.commands
            wait_for(lambda: writer.commands >= written + commands or not writer.running, 60)
            expected = writer.stop()
            link.settle(source, target)
            progress = link.stop().progress
    finally:
        writer.stop()
    assert writer.messages == {}
    assert (progress.full_syncs, progress.reconnects) == (1, 0), link.told()
    assert progress.keys_done >= 3000
    assert progress.commands > commands / 2
    compared = assert_equal(source, target)
    assert compared.keys >= 3000
    assert_audit(target, expected)


@pytest.mark.parametrize(("old", "new"), PROMISED)
def test_the_demo_is_carried_with_its_writer(shared: Shared, old: str, new: str) -> None:
    carry(
        shared(old, "source"),
        shared(new, "target"),
        keys=12_000,
        commands=4000,
        big_value_bytes=3 << 20,
        large_elements=10_000,
    )


@pytest.mark.parametrize(("old", "new"), UPWARD + [(version, version) for version in SAME])
def test_every_version_is_carried_upward(shared: Shared, old: str, new: str) -> None:
    """With all the encodings that a server of the source's version has: that they are there is checked too."""
    source, target = shared(old, "source"), shared(new, "target")
    carry(source, target, keys=0, commands=1500, big_value_bytes=1_100_000, large_elements=600)
    caps = Capabilities.of(source.client())
    made = encodings(source.client())
    for kind, wanted in expected_encodings(caps).items():
        assert wanted <= set(made.get(kind, ())), f"{kind} of {caps}"


def test_functions_are_carried(shared: Shared) -> None:
    """In the full and in the incremental phase; they answer on the target."""
    source, target = shared("redis-7.0", "source"), shared("valkey-9", "target")
    library = "#!lua name={0}\nredis.register_function('{0}_get', function(keys) return redis.call('GET', keys[1]) end)"
    with source.client() as client:
        client.set("k", "v")
        client.function_load(library.format("one"))
        with RunningLink(source, target) as link:
            link.wait_caught_up()
            client.function_load(library.format("two"))
            link.settle(source, target)
    with target.client() as client:
        assert client.execute_command("FCALL", "one_get", 1, "k") == b"v"
        assert client.execute_command("FCALL", "two_get", 1, "k") == b"v"


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu"])
def test_idle_time_and_frequency_are_kept(redis_server: Any, policy: str) -> None:
    """What the eviction of the target will judge by: under LRU when a key was used, under LFU how often."""
    source, target = (
        redis_server("redis-7.0", config={"maxmemory-policy": policy, "repl-diskless-sync-delay": 0})
        for _ in "ab"
    )
    question = "IDLETIME" if policy.endswith("lru") else "FREQ"
    values = (
        {b"plain": 5000, b"number": 70, b"list": 300_000}
        if question == "IDLETIME"
        else {b"plain": 200, b"number": 3, b"list": 255}
    )
    with source.client() as client:
        client.set("plain", "x" * 100)
        client.set("number", 12345)
        client.rpush("list", *range(20))
        for key, value in values.items():
            client.restore(
                key,
                0,
                client.dump(key),
                replace=True,
                **{question.lower().replace("freq", "frequency"): value},
            )
    run(source, target)
    with target.client() as client:
        for key, value in values.items():
            found = client.object(question, key)
            assert (
                value - 1 <= found <= value + 30 if question == "IDLETIME" else value - 3 <= found <= value
            ), (key, found)


def test_only_the_chosen_databases_are_copied(pair: tuple[Server, Server]) -> None:
    """In both phases; what is not chosen is not written, and what the target had there stays."""
    source, target = pair
    for number in range(4):
        source.client(db=number).set("full", number)
    target.client(db=1).set("mine", "stays")
    with RunningLink(source, target, databases=frozenset({0, 3})) as link:
        link.wait_caught_up()
        for number in range(4):
            source.client(db=number).set("later", number)
        pipe = source.client(db=3).pipeline()
        pipe.set("in", 1).execute_command("SELECT", 1).set("out", 1).execute_command("SELECT", 3).set(
            "in again", 1
        )
        pipe.execute()
        source.client(db=3).set("leaves", 1)
        source.client(db=3).move("leaves", 2)
        link.settle(source, target)
        skipped = link.progress.keys_skipped
    assert skipped == 2
    keys = {number: sorted(target.client(db=number).keys("[^s]*")) for number in range(4)}
    assert keys == {0: [b"full", b"later"], 1: [b"mine"], 2: [], 3: [b"full", b"in", b"in again", b"later"]}


@pytest.mark.parametrize(("old", "new"), [("redis-7.0", "redis-7.0"), ("redis-7.0", "valkey-9")])
def test_expiries_are_kept_to_the_millisecond(shared: Shared, old: str, new: str) -> None:
    """Far ones at once, near ones once the link has caught up, those set in the stream too; what has expired is not there."""
    source, target = shared(old, "source"), shared(new, "target")
    with source.client() as client:
        client.set("expired", 1, px=1)
        for key, milliseconds in {"near": 300_001, "far": 5_000_123, "soon": 20_007}.items():
            client.set(key, 1, px=milliseconds)
            client.rpush(f"{key} list", 1)
            client.pexpire(f"{key} list", milliseconds)
        with RunningLink(source, target) as link:
            link.wait_caught_up()
            client.set("stream", 1, ex=1000)
            client.getex("far", px=7_000_001)
            client.persist("near")
            link.settle(source, target)
        with target.client() as other:
            keys = sorted(set(client.keys()) | {b"expired"})
            ask = lambda side: [side.execute_command("PEXPIRETIME", key) for key in keys]  # noqa: E731
            assert ask(other) == ask(client)
            assert not other.exists("expired")


@pytest.mark.parametrize(("version", "tolerance"), [("redis-7.4", 5), ("valkey-9", 5)])
def test_expiries_of_fields_are_kept(shared: Shared, version: str, tolerance: int) -> None:
    """Of the snapshot and of the stream, for each field its own."""
    source, target = shared(version, "source"), shared(version, "target")
    with source.client() as client:
        client.hset("hash", mapping={f"f{n}": n for n in range(20)})
        client.execute_command("HPEXPIRE", "hash", 1_000_001, "FIELDS", 2, "f1", "f2")
        with RunningLink(source, target) as link:
            link.wait_caught_up()
            client.execute_command("HEXPIRE", "hash", 3000, "FIELDS", 1, "f3")
            client.execute_command("HPERSIST", "hash", "FIELDS", 1, "f2")
            link.settle(source, target)
        ask = ("HPEXPIRETIME", "hash", "FIELDS", 20, *(f"f{n}" for n in range(20)))
        wanted, found = client.execute_command(*ask), target.client().execute_command(*ask)
    assert all(abs(one - other) <= tolerance for one, other in zip(wanted, found, strict=True)), (
        wanted,
        found,
    )
    assert [number for number, value in enumerate(found) if value > 0] == [1, 3]


def test_a_full_copy_ends_by_itself_and_leaves_nothing_of_its_own(pair: tuple[Server, Server]) -> None:
    source, target = pair
    fill(source.url, keys=0, big_value_bytes=0, large_elements=0)
    result = run(source, target, phases=Phases.FULL, stop_when_caught_up=False)
    assert result.outcome is Outcome.COMPLETED
    assert list(target.client().scan_iter("switchyard:*")) == []
    assert_equal(source, target)
