"""Expiries that the source renewed in time, and that struck on the target before the renewal could be read: nothing is lost.

The target expires by itself what it was given. Whatever builds on a key that was lost so (counters, lists, copies …) is right in the end, too.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

import pytest
import redis

from migrations_app.engine import incremental
from migrations_app.engine.ports import Phase
from migrations_app.engine.verify.report import as_text
from tests.support.cluster import Cluster
from tests.support.notes import expiries_wait
from tests.support.proxy import FaultProxy
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import EngineProcess, RunningLink, assert_equal, offset_of, pass_time, report
from .test_faults import Slow

MakeProxy = Callable[..., FaultProxy]
# ms. On a machine that is not busy, what is to be done in time is done in a tenth of the short one.
SHORT, LONG = 2500, 500_000
FIELDS = ["redis-7.4", "redis-8.0", "valkey-9.1"]  # know expiries of single fields


def during_a_slow_full_phase(
    source: Server, target: Server, proxy: FaultProxy, change: Callable[[redis.Redis], object]
) -> None:
    """Make a change while the snapshot is on its way, with the expiries of near keys left out; then let the link catch up."""
    source.client().set("ballast", Random(1).randbytes(2_000_000))
    proxy.hook = slow = Slow(700_000)
    with RunningLink(proxy, target) as link:
        link.wait_until(Phase.FULL)
        change(source.client())
        slow.quick.set()
        link.settle(source, target)


@contextmanager
def while_the_link_is_down(
    source: Server, target: Server, proxy: FaultProxy, prepare: Callable[[redis.Redis], object]
) -> Iterator[RunningLink]:
    """The link is cut in the body, then comes back and catches up. What `prepare` writes has reached the target before."""
    with RunningLink(source, proxy, timeout=2.0) as link:
        link.wait_caught_up()
        prepare(source.client())
        link.wait_offset(offset_of(source))
        proxy.refuse()
        proxy.cut()
        yield link
        proxy.accept()
        link.settle(source, target)


def test_a_flush_of_database_0_while_expiries_of_others_wait(
    pair: tuple[Server, Server], fault_proxy: MakeProxy
) -> None:
    source, target = pair
    source.client(db=1).set("k", 1, px=300_000)
    during_a_slow_full_phase(source, target, fault_proxy(source), lambda client: client.flushdb())
    assert target.client(db=1).pttl("k") > 0


@pytest.mark.parametrize("other", [0, 2])
def test_swapped_databases_while_expiries_wait(
    pair: tuple[Server, Server], fault_proxy: MakeProxy, other: int
) -> None:
    source, target = pair
    source.client(db=1).set("k", 1, px=300_000)
    during_a_slow_full_phase(source, target, fault_proxy(source), lambda client: client.swapdb(1, other))
    assert target.client(db=other).pttl("k") > 0


def user_keys(server: Server) -> set[bytes]:
    return {bytes(key) for key in server.client().keys("*") if not key.startswith(b"switchyard:")}


def fill(client: redis.Redis) -> None:
    """A key of each type that later commands build on; all of them expire soon."""
    client.set("string", 41)
    client.set("text", "abc")
    client.hset("hash", mapping={"n": 1, "other": "x"})
    client.rpush("list", "a", "b", "c")
    client.rpush("queue", *range(5))
    client.sadd("set", "a", "b", "c")
    client.zadd("zset", {"a": 1, "b": 2})
    client.xadd("stream", {"f": 1}, id="1-1")
    client.xgroup_create("stream", "group", 0)
    client.set("renamed", "old")
    client.set("copied", "old")
    client.set("overwritten", "old")
    client.set("dies", "old")
    client.pfadd("hll", *range(500))
    client.setbit("bits", 100, 1)
    keys = [key.decode() for key in client.keys("*")]
    client.rpush("to", "old")  # has no expiry, but gets what others lose
    client.set("name", "old")
    with client.pipeline() as pipe:
        for key in keys:
            pipe.pexpire(key, SHORT)
        pipe.execute()


def fill_once_followed(client: redis.Redis, target: Server, engine: EngineProcess) -> None:
    """What `fill` writes is in the target, while it still has almost all of its time."""
    with target.client() as arrived:
        for name, write in (("ready", lambda _: None), ("mark", fill)):
            write(client)
            client.set(name, 1)
            wait_for(partial(arrived.exists, name), 30, engine.said)


def build_on(client: redis.Redis) -> None:
    """Commands on these keys, each in time, and the renewals, some before and some behind them."""
    client.incr("string")
    client.append("text", "def")
    client.hincrby("hash", "n", 5)
    client.lset("list", 1, "B")
    client.linsert("list", "after", "c", "d")
    client.lmove("queue", "to", "LEFT", "RIGHT")
    client.smove("set", "moved", "a")
    client.sunionstore("union", ["set", "other set"])
    client.zincrby("zset", 5, "a")
    client.zunionstore("zunion", ["zset"])
    client.xadd("stream", {"f": 2}, id="2-1")
    client.xreadgroup("group", "one", {"stream": ">"}, count=1)
    client.xgroup_create("stream", "second", 0)
    client.rename("renamed", "name")
    client.copy("copied", "copy")
    client.copy("copied", "copy", destination_db=1)
    client.pfmerge("merged", "hll")
    client.bitop("OR", "more bits", "bits")
    client.setrange("text", 1, "X")
    client.set("overwritten", "new")
    client.set("copied", "newer", keepttl=True)
    client.execute_command("GETEX", "text", "PX", LONG)
    client.persist("list")
    client.lset("list", 0, "A")
    for key in ["string", "hash", "queue", "set", "zset", "stream", "name", "copy", "copied", "hll", "bits"]:
        assert client.pexpire(key, LONG), key
    with client.pipeline(transaction=True) as pipe:
        pipe.incr("string")
        pipe.hincrby("hash", "n", 1)
        pipe.execute()
    client.move("queue", 2)


def test_what_builds_on_keys_that_are_renewed_while_the_link_is_down(
    pair: tuple[Server, Server], fault_proxy: MakeProxy
) -> None:
    source, target = pair
    proxy = fault_proxy(target)
    with source.client() as client:
        with while_the_link_is_down(source, target, proxy, fill) as link:
            assert target.client().pttl("string") > 0
            build_on(client)
            pass_time(client, SHORT + 500)
            assert not target.client().exists("string", "list", "renamed"), (
                "nothing was lost: the test does not show what it says"
            )
        assert client.get("string") == b"43"
    assert_equal(source, target)
    assert link.progress.full_syncs == 1
    assert "link.repaired" in link.ports.events


def test_without_the_repair_they_are_lost(
    pair: tuple[Server, Server], fault_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counterpart: no doubt, no repair."""
    monkeypatch.setattr(incremental, "doubtful", lambda _: False)
    monkeypatch.setattr(incremental.IncrementalPhase, "_missed", lambda *_: None)
    source, target = pair
    with (
        source.client() as client,
        while_the_link_is_down(
            source, target, fault_proxy(target), lambda client: client.set("counter", 41, px=SHORT)
        ),
    ):
        client.incr("counter")
        client.pexpire("counter", LONG)
        pass_time(client, SHORT + 500)
    assert target.client().get("counter") == b"1"


def at_the_last_moment(client: redis.Redis) -> None:
    """Renewals, each in time on the source, and what builds on them."""
    client.pexpire("renewed", LONG)
    client.persist("persisted")
    client.execute_command("GETEX", "read", "PX", LONG)
    client.sunionstore("{set}union", ["{set}"])
    client.pexpire("{set}", LONG)
    client.pexpire("dead", LONG)
    client.delete("dead")


LAST_MOMENT = ["renewed", "persisted", "read", "dead"]


@pytest.mark.parametrize("cluster", [False, True], ids=["server", "cluster"])
def test_a_renewal_at_the_last_moment(
    pair: tuple[Server, Server], fault_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch, cluster: bool
) -> None:
    """Later than the expiry, but by less than what counts as late: the answer to it tells. (What counts as late is raised, so that the
    test does not depend on the speed of the machine.)"""
    monkeypatch.setattr(incremental, "_DOUBT_SECONDS", 30.0)
    source, target = pair
    proxy = fault_proxy(source)
    with contextlib.ExitStack() as stack:
        goal = stack.enter_context(Cluster("redis-7.0")).nodes[0] if cluster else target
        client = stack.enter_context(source.client())
        link = stack.enter_context(RunningLink(proxy, goal, timeout=30.0))
        link.wait_caught_up()
        for key in LAST_MOMENT:
            client.set(key, 1, px=SHORT)
        client.sadd("{set}", 1, 2)
        client.pexpire("{set}", SHORT)
        link.wait_offset(offset_of(source))
        proxy.stall()
        at_the_last_moment(client)
        client.set("behind", 1)
        pass_time(client, SHORT + 500)
        proxy.resume()
        link.wait_offset(offset_of(source))
        wait_for(lambda: "link.repaired" in link.ports.events, 10, link.told)
        wait_for(lambda: not report(source, goal).differences, 20, lambda: as_text(report(source, goal)))
        assert client.exists(*LAST_MOMENT, "{set}", "{set}union") == 5


@pytest.mark.parametrize("version", FIELDS)
def test_fields_that_are_renewed_at_the_last_moment(
    shared: Callable[..., Server], fault_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(incremental, "_DOUBT_SECONDS", 30.0)
    source, target = shared(version, "source"), shared(version, "target")
    proxy = fault_proxy(source)
    with RunningLink(proxy, target, timeout=30.0) as link, source.client() as client:
        link.wait_caught_up()
        names = hashes(client)
        link.wait_offset(offset_of(source))
        proxy.stall()
        for number, name in enumerate(names):
            if number % 2:
                client.execute_command("HPEXPIRE", name, LONG, "FIELDS", 1, "a")
            else:
                client.execute_command("HPERSIST", name, "FIELDS", 1, "a")
        pass_time(client, SHORT + 500)
        proxy.resume()
        link.wait_offset(offset_of(source))
        wait_for(lambda: not report(source, target).differences, 20, lambda: as_text(report(source, target)))
        assert all(client.hexists(name, "a") for name in names)


def test_answers_that_are_no_loss(pair: tuple[Server, Server]) -> None:
    """Commands that answer 0 for other reasons, and renewals of keys that are there: nothing is read again."""
    source, target = pair
    with RunningLink(source, target) as link, source.client() as client:
        link.wait_caught_up()
        for number in range(300):
            with client.pipeline(transaction=number % 3 == 0) as pipe:
                pipe.hset("hash", "field", number)
                pipe.hset("hash", "field", number)
                pipe.expire("hash", 500 + number)
                pipe.set("key", 1)
                pipe.expire("key", 500)
                pipe.persist("key")
                pipe.expire("key", 0)
                pipe.execute()
        link.settle(source, target)
        assert "link.repaired" not in link.ports.events
        assert_equal(source, target)


@pytest.mark.parametrize("who", ["engine", "target"])
def test_a_link_that_stood_still_for_longer_than_the_expiry(
    pair: tuple[Server, Server], tmp_path: Path, who: str
) -> None:
    """Nothing is disconnected: the process of the engine, or that of the target, is stopped and goes on."""
    source, target = pair
    with (
        source.client() as client,
        EngineProcess(tmp_path, "run", source.url, target.url, "--link", "test") as engine,
    ):
        fill_once_followed(client, target, engine)
        if who == "engine":
            engine.signal(signal.SIGSTOP)
        else:
            target.pause()
        try:
            build_on(client)
            pass_time(client, SHORT + 500)
        finally:  # the server goes on to serve other tests
            if who == "engine":
                engine.signal(signal.SIGCONT)
            else:
                target.resume()
        client.set("mark", 2)
        wait_for(lambda: target.client().get("mark") == b"2" or not engine.alive, 20, engine.said)
        wait_for(
            lambda: (
                (target.client().get("string") == b"43" and not expiries_wait(target, "test"))
                or not engine.alive
            ),
            20,
            engine.said,
        )
        assert engine.alive, engine.said()
        assert_equal(source, target)


def test_a_kill_before_the_repair(
    pair: tuple[Server, Server], tmp_path: Path, fault_proxy: MakeProxy
) -> None:
    """What is to be read again stands in the target with the data: the next run does it."""
    source, target = pair
    proxy = fault_proxy(target)
    run = ("run", source.url, target.url_to(proxy.host, proxy.port), "--link", "test")
    with source.client() as client:
        with EngineProcess(tmp_path, *run, name="first") as first:
            fill_once_followed(client, target, first)
            first.kill()
        build_on(client)
        client.set("mark", 2)
        pass_time(client, SHORT + 500)
        with EngineProcess(tmp_path, *run, name="second") as second:
            wait_for(
                lambda: target.client().get("mark") == b"2" or not second.alive, 20, second.said, interval=0
            )
            second.kill()
        with EngineProcess(tmp_path, *run, "--stop-when-caught-up", name="third") as third:
            assert third.wait(30) == 0, third.said()
    assert not expiries_wait(target, "test")
    assert_equal(source, target)


def test_expiries_of_the_past(pair: tuple[Server, Server], fault_proxy: MakeProxy) -> None:
    """A time that lies in the past deletes the key: on the source at once, and so on the target."""
    source, target = pair
    with source.client() as client:
        with while_the_link_is_down(source, target, fault_proxy(target), fill):
            payload = client.dump("to")
            for key in client.keys("*"):
                if client.pttl(key) > 0:
                    client.pexpireat(key, 1000)
            client.restore("restored", 1000, payload, absttl=True)
            client.set("short", 1, px=1)
            client.set("kept", 1)
            pass_time(client, 100)
        wait_for(lambda: user_keys(target) == user_keys(source), 10)
    assert target.client().exists("kept", "to", "name") == 3
    assert_equal(source, target)


def hashes(client: redis.Redis) -> list[str]:
    """Some are early in the snapshot, some late; some lose all of their fields."""
    names = [f"hash:{number}" for number in range(30)]
    for number, name in enumerate(names):
        client.hset(name, mapping={"a": 1} if number % 3 == 0 else {"a": 1, "b": 2})
        client.execute_command("HPEXPIRE", name, SHORT, "FIELDS", 1, "a")
    return names


def renew(client: redis.Redis, names: list[str]) -> None:
    for number, name in enumerate(names):
        client.hincrby(name, "a", 1)
        if number % 2:
            client.execute_command("HPEXPIRE", name, LONG, "FIELDS", 1, "a")
        else:
            client.execute_command("HPERSIST", name, "FIELDS", 1, "a")
        client.hincrby(name, "a", 1)


@pytest.mark.parametrize("version", FIELDS)
def test_fields_that_are_renewed_during_a_slow_full_phase(
    shared: Callable[..., Server], fault_proxy: MakeProxy, version: str
) -> None:
    source, target = shared(version, "source"), shared(version, "target")
    names = hashes(source.client())

    def change(client: redis.Redis) -> None:
        renew(client, names)
        pass_time(client, SHORT + 500)

    during_a_slow_full_phase(source, target, fault_proxy(source), change)
    assert [name for name in names if target.client().hget(name, "a") != b"3"] == []
    assert_equal(source, target)


@pytest.mark.parametrize("version", FIELDS)
def test_fields_that_are_renewed_while_the_link_is_down(
    shared: Callable[..., Server], fault_proxy: MakeProxy, version: str
) -> None:
    source, target = shared(version, "source"), shared(version, "target")
    with source.client() as client:
        names: list[str] = []
        with while_the_link_is_down(
            source, target, fault_proxy(target), lambda client: names.extend(hashes(client))
        ):
            renew(client, names)
            pass_time(client, SHORT + 500)
            assert not any(target.client().hget(name, "a") for name in names)
    assert [name for name in names if target.client().hget(name, "a") != b"3"] == []
    assert_equal(source, target)


def test_hot_keys_do_not_keep_a_link_from_ending(pair: tuple[Server, Server]) -> None:
    """A hundred keys whose expiries of three or four seconds are renewed all the time."""
    source, target = pair
    done = threading.Event()

    def write() -> None:
        with source.client() as client:
            number = 0
            while not done.is_set():
                number += 1
                with client.pipeline(transaction=False) as pipe:
                    for key in range(100):
                        pipe.incr(f"hot:{key}")
                        pipe.pexpire(f"hot:{key}", 3000 + 10 * (number % 100))
                    pipe.execute()
                done.wait(0.01)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        with RunningLink(source, target, stop_when_caught_up=True) as link:
            link.result(60)
            with target.client() as client, client.pipeline(transaction=True) as pipe:
                for key in range(100):
                    pipe.pttl(f"hot:{key}")
                left = pipe.execute()
            assert [key for key in range(100) if left[key] <= 0] == []
        with RunningLink(source, target) as link:
            link.wait_caught_up()
            done.set()
            thread.join(10)
            for key in range(100):
                source.client().pexpire(f"hot:{key}", LONG)
            link.settle(source, target)
        assert_equal(source, target)
    finally:
        done.set()
        thread.join(10)
