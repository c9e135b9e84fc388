"""A source that is read by its keys: all of them, then those that notifications name; rights, interruptions, what is removed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from migrations_app.demo.clients import Pipe
from migrations_app.demo.dataset import fill
from migrations_app.demo.writer import Writer
from migrations_app.engine import scan as session
from migrations_app.engine.choice import CommandChoice
from migrations_app.engine.config import LinkConfig, Method, Notifications, Phases
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import (
    Fenced,
    FullResyncNeeded,
    PermissionDenied,
    UnsupportedData,
    UsageError,
)
from migrations_app.engine.keyfilter import KeyFilter
from migrations_app.engine.source import scan
from migrations_app.engine.source.notify import NotificationsMissing
from migrations_app.engine.verify.report import as_text
from tests.support.cluster import Cluster
from tests.support.proxy import FaultProxy
from tests.support.servers import Server
from tests.support.wait import wait_for

from .conftest import QUICK, Shared
from .links import EngineProcess, Outcome, Phase, RunningLink, assert_equal, endpoint, pass_time, report, run
from .test_memory import LIMIT_MB, peak_mb

PAIRS = [
    ("redis-3.2", "redis-7.0"), ("redis-5.0", "redis-5.0"), ("redis-7.0", "redis-7.0"), ("redis-7.0", "valkey-9"),
    ("redis-8.6", "redis-8.6"), ("valkey-9", "valkey-9"),
]  # fmt: skip


@pytest.fixture
def pair(pair: tuple[Server, Server]) -> Iterator[tuple[Server, Server]]:
    yield pair
    pair[0].client().config_set("notify-keyspace-events", "")


def following(source: Any, target: Any, **options: Any) -> RunningLink:
    given: dict[str, Any] = {"method": Method.SCAN, "notifications": Notifications.ENABLE}
    return RunningLink(source, target, **(given | options))


def once(source: Any, target: Any, **options: Any) -> Any:
    return run(source, target, method=Method.SCAN, phases=Phases.FULL, **options)


def settle(link: RunningLink) -> None:
    """Until the link says that everything is written."""
    seen = id(link.ports.last)

    def caught_up() -> bool:
        assert link.running, link.told()
        last = link.ports.last
        return id(last) != seen and last.caught_up and last.lag_seconds == 0.0

    wait_for(caught_up, 60, link.told)


def follows(link: RunningLink, source: Server, target: Server) -> None:
    """Keys are written in the order in which they changed: with this one, all that changed before it is there.

    Of changes of groups of streams the source tells nothing (before 6.0 of MOVE neither): they follow a moment later.
    """
    value = source.client().incr("marker")
    wait_for(lambda: target.client().get("marker") == b"%d" % value, 30, link.told)
    if source.version >= (6,):
        assert kinds(source, target) <= {"stream"}, as_text(report(source, target))
    wait_for(lambda: not kinds(source, target), 20, lambda: as_text(report(source, target)), 0.5)


def kinds(source: Server, target: Server) -> set[str]:
    """Types of the keys that differ."""
    found = report(source, target)
    assert found.complete
    differing = set()
    for item in found.items:
        with source.client(db=item.database) as client:
            differing.add(client.type(item.key).decode())
    return differing


# --- full ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_every_key_is_copied(shared: Shared, old: str, new: str) -> None:
    """All types and encodings, expiries, several databases, small and large values."""
    source, target = shared(old, "source"), shared(new, "target")
    fill(source.url, keys=4000, big_value_bytes=3 << 20, large_elements=3000)
    keys = sum(row["keys"] for row in source.info("keyspace").values())
    with RunningLink(source, target, method=Method.SCAN, phases=Phases.FULL) as link:
        result = link.result()
    assert result.outcome is Outcome.COMPLETED
    assert keys - 20 <= result.progress.keys_done <= keys + 20  # some expire meanwhile
    assert result.progress.percent == 100.0
    assert link.ports.events.count("source.limits") == 1
    assert_equal(source, target)
    assert target.client().keys("switchyard:*") == []


def test_values_that_are_too_large_for_one_command_go_in_chunks(pair: tuple[Server, Server]) -> None:
    """The list needs more than the 16 MB beyond which a collection is rebuilt by its commands; the string goes through."""
    source, target = pair
    with source.client() as client:
        for _ in range(40):
            client.rpush("list", *(f"{n:06d}" + "x" * 500 for n in range(1000)))
        client.set("string", b"\x00\xff\r\n" * (6 << 20))
        client.set("after", "v", ex=1000)
    assert once(source, target).progress.keys_done == 3
    assert_equal(source, target)


def test_only_the_chosen_databases(pair: tuple[Server, Server]) -> None:
    source, target = pair
    for number in range(4):
        source.client(db=number).set(f"k{number}", number)
    source.client(db=1).set("switchyard:checkpoint:other", "x")
    once(source, target, databases=frozenset({1, 3}))
    assert {name: row["keys"] for name, row in target.info("keyspace").items()} == {"db1": 1, "db3": 1}


def test_a_second_copy_removes_what_is_gone_where_the_link_has_filled(pair: tuple[Server, Server]) -> None:
    """The first is cut short (the target goes away); what held keys before stays as it is."""
    source, target = pair
    fill(source.url, keys=3000, big_value_bytes=0, large_elements=500)
    target.client(db=3).set("mine", "stays")
    with following(source, target) as link:
        settle(link)
        link.stop()
    for number in (0, 3):
        source.client(db=number).set("late", 1)
    names = list(source.client().scan_iter(count=1000))[:700]
    source.client().delete(*names)
    with RunningLink(source, target, method=Method.SCAN, phases=Phases.FULL) as link:
        link.result()
    assert "scan.not_swept" in link.ports.events  # database 3
    assert target.client(db=3).get("mine") == b"stays"
    target.client(db=3).delete("mine")
    assert_equal(source, target)


def test_other_links_keep_their_keys(pair: tuple[Server, Server]) -> None:
    source, target = pair
    source.client().set("a", 1)
    with following(source, target) as link:
        settle(link)
        link.stop()
    target.client().hset("switchyard:checkpoint:another", "format", 1)
    target.client().set("of:another", 1)
    source.client().delete("a")
    with following(source, target) as link:
        settle(link)
        link.stop()
    assert "scan.not_swept" in link.ports.events
    assert target.client().get("of:another") == b"1"
    target.client().delete("switchyard:checkpoint:another")


def test_a_value_that_is_too_large_stops_the_link_by_name(
    pair: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = pair
    monkeypatch.setattr(scan, "DUMP_MOST", 1 << 20)
    source.client().set("huge", "x" * (2 << 20))
    with RunningLink(source, target, method=Method.SCAN, phases=Phases.FULL) as link:
        failure = link.failure()
    assert isinstance(failure, UnsupportedData)
    assert "huge" in failure.message
    assert "2 MB" in failure.message


def test_only_the_chosen_keys(pair: tuple[Server, Server]) -> None:
    """In both phases, and when keys that are gone are removed."""
    source, target = pair
    client = source.client()
    client.mset({"in:1": 1, "in:2": 2, "out:1": 1})
    target.client(db=4).set("out:2", "stays")
    keys = KeyFilter(include_prefixes=(b"in:",))
    for _ in range(2):
        with following(source, target, keys=keys) as link:
            settle(link)
            client.set("out:3", 1)
            client.incr("in:1")
            wait_for(lambda: target.client().get("in:1") == client.get("in:1"), 10, link.told)
            link.stop()
        assert target.client().keys("out:*") == []
        assert target.client(db=4).get("out:2") == b"stays"
        client.delete("in:2")
    assert target.client().keys("in:*") == [b"in:1"]


def test_over_tls(redis_server: Callable[..., Server], shared: Shared) -> None:
    """Bytes that are decrypted already wait where no poll of the socket sees them."""
    source = redis_server("redis-7.0", tls=True, password="secret")
    target = shared("redis-7.0", "target")
    client = source.client()
    client.mset({f"k{n}": "x" * (n * 37 % 5000) for n in range(3000)})
    client.set("big", "y" * (20 << 20))
    place = Endpoint(
        host=source.host, port=source.port, password="secret", tls=True, tls_ca_pem=source.ca.read_text()
    )
    with following(place, target) as link:
        settle(link)
        client.mset({f"k{n}": n for n in range(0, 3000, 3)})
        client.set("last", 1)
        wait_for(lambda: target.client().get("last") == b"1", 20, link.told)
    assert target.client().dbsize() == 3003
    assert target.client().mget([f"k{n}" for n in range(3000)]) == client.mget([f"k{n}" for n in range(3000)])


# --- following ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_changes_are_followed(shared: Shared, old: str, new: str) -> None:
    """The demo's writer goes on during the scan and after it; at the end both sides are equal by value."""
    source, target = shared(old, "source"), shared(new, "target")
    fill(source.url, keys=0, big_value_bytes=1 << 20, large_elements=600)
    writer = Writer(source.url, seed=7, rate=1500).start()
    try:
        with following(source, target) as link:
            link.wait_until(Phase.INCREMENTAL)
            written = writer.commands
            wait_for(lambda: writer.commands >= written + 2000 or not writer.running, 60)
            writer.stop()
            follows(link, source, target)
            progress = link.stop().progress
    finally:
        writer.stop()
    assert writer.messages == {}
    assert (progress.full_syncs, progress.reconnects) == (1, 0), link.told()
    assert progress.commands > 100
    assert_equal(source, target)
    assert source.client().config_get("notify-keyspace-events") == {"notify-keyspace-events": ""}


def test_each_kind_of_change_arrives(pair: tuple[Server, Server]) -> None:
    """Deleted, renamed, moved, expired, renewed, made persistent, of another type; in a new database; and by FLUSHDB."""
    source, target = pair
    one, other = source.client(), source.client(db=5)
    one.mset({f"k{n}": n for n in range(50)})
    # Long enough for a busy machine to scan all keys and to come back to these.
    one.set("renewed", 1, px=5000)
    one.set("kept", 1, px=5000)
    one.set("passes", 1, px=5000)
    with following(source, target) as link:
        settle(link)
        assert one.expire("renewed", 5000)
        assert one.persist("kept")
        one.delete("k1")
        one.rename("k2", "renamed")
        one.move("k3", 5)
        one.copy("k4", "copied")
        pipe = one.pipeline(transaction=True)
        pipe.delete("k5")
        pipe.rpush("k5", 1, 2)
        pipe.execute()
        one.eval("redis.call('SADD', KEYS[1], 1, 2)", 1, "by:script")
        one.pfadd("log", *range(1000))
        other.set("new", "database")
        wait_for(lambda: not one.exists("passes"), 10)
        follows(link, source, target)
        assert_equal(source, target)
        assert target.client().get("renewed") == b"1"
        assert target.client(db=5).get("k3") == b"3"
        other.flushdb()
        wait_for(lambda: not target.client(db=5).dbsize(), 20, link.told)
        assert "scan.again" in link.ports.events
        follows(link, source, target)
        assert_equal(source, target)
        one.swapdb(0, 6)
        wait_for(lambda: target.client(db=6).dbsize() > 10, 20, link.told)
        follows(link, source, target)
        assert_equal(source, target)
        one.flushall()
        wait_for(lambda: target.client(db=6).dbsize() == 0, 20, link.told)
        last = link.progress
        assert last.keys_done == last.keys_total, "what is read again counts as changed"


def test_groups_of_streams_are_followed(pair: tuple[Server, Server]) -> None:
    """XREADGROUP and XACK tell nothing: they are noticed by the counters of the source."""
    source, target = pair
    client = source.client()
    for n in range(20):
        client.xadd("stream", {"n": n}, id=f"{n + 1}-1")
    client.xgroup_create("stream", "group", 0)
    with following(source, target) as link:
        settle(link)
        client.execute_command(
            "XREADGROUP", "GROUP", "group", "consumer", "COUNT", 10, "STREAMS", "stream", ">"
        )
        client.xack("stream", "group", *(f"{n}-1" for n in range(1, 5)))
        wait_for(lambda: target.client().xpending("stream", "group")["pending"] == 6, 30, link.told)
        settle(link)
    with_end = following(source, target, stop_when_caught_up=True)
    with with_end as link:
        link.result()
    assert_equal(source, target)


def test_it_ends_when_it_has_caught_up(pair: tuple[Server, Server]) -> None:
    """While a writer goes on, too; and what was written before is there."""
    source, target = pair
    client = source.client()
    client.mset({f"k{n}": n for n in range(2000)})
    writer = Writer(source.url, seed=3, rate=500).start()
    try:
        wait_for(lambda: writer.commands > 100, 20)
        client.set("mark", 1)
        with following(source, target, stop_when_caught_up=True) as link:
            result = link.result()
        assert result.outcome is Outcome.COMPLETED
        assert result.progress.caught_up
        assert target.client().get("mark") == b"1"
    finally:
        writer.stop()


def test_notifications_must_be_on(pair: tuple[Server, Server]) -> None:
    """They are looked at, and set only where that was asked for; then set back to what they were."""
    source, target = pair
    client = source.client()
    client.set("a", 1)
    for flags in ("", "A", "Kg$", "Eg$lshz"):
        client.config_set("notify-keyspace-events", flags)
        with following(source, target, notifications=Notifications.CHECK) as link:
            failure = link.failure()
        assert isinstance(failure, NotificationsMissing)
        assert "--notifications enable" in failure.advice
        assert target.client().exists("a") == 0
    for flags in ("KA", "EA", "Kg$lshzxet"):
        client.config_set("notify-keyspace-events", flags)
        with following(source, target, notifications=Notifications.CHECK) as link:
            settle(link)
            client.incr("a")
            wait_for(lambda: target.client().get("a") == client.get("a"), 10, link.told)
        assert "source.notifications_enabled" not in link.ports.events
    client.config_set("notify-keyspace-events", "Kx")
    before = client.config_get("notify-keyspace-events")
    with following(source, target) as link:
        settle(link)
        assert "A" in str(client.config_get("notify-keyspace-events"))
        client.incr("a")
        wait_for(lambda: target.client().get("a") == client.get("a"), 10, link.told)
    assert "source.notifications_enabled" in link.ports.events
    assert client.config_get("notify-keyspace-events") == before


# --- interruptions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_lost_side_means_a_new_scan(
    pair: tuple[Server, Server], fault_proxy: Callable[..., FaultProxy], side: str
) -> None:
    """Nothing that changed meanwhile is missed, deletions included."""
    source, target = pair
    fill(source.url, keys=2000, big_value_bytes=0, large_elements=300)
    proxy = fault_proxy(source if side == "source" else target)
    ends = (proxy, target) if side == "source" else (source, proxy)
    client = source.client()
    with following(*ends) as link:
        settle(link)
        proxy.refuse()
        proxy.cut()
        link.wait_until(Phase.RETRYING)
        names = list(client.scan_iter(count=500))[:300]
        client.delete(*names[:100])
        for name in names[100:]:
            client.expire(name, 7000)
        client.set("meanwhile", 1)
        proxy.accept()
        wait_for(lambda: link.progress.full_syncs >= 2, 30, link.told)
        settle(link)
    assert link.progress.reconnects >= 1
    assert_equal(source, target)


def test_notifications_that_are_cut_off_are_noticed(pair: tuple[Server, Server]) -> None:
    """The source drops the subscription alone, as it does when its output buffer is full."""
    source, target = pair
    client = source.client()
    client.mset({f"k{n}": n for n in range(100)})
    with following(source, target) as link:
        settle(link)
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        client.delete("k1")
        wait_for(lambda: link.progress.full_syncs >= 2, 30, link.told)
        follows(link, source, target)
        assert_equal(source, target)
    assert any("notifications" in line for _, event, line in link.ports.lines if event == "connection.lost")


def test_too_many_changes_mean_a_new_scan(
    pair: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of changed keys is bounded."""
    source, target = pair
    monkeypatch.setattr(session, "_CHANGED_MOST", 50)
    client = source.client()
    with following(source, target) as link:
        settle(link)
        for _ in range(5):
            client.mset({f"k{n}": n for n in range(3000)})
        wait_for(lambda: "scan.again" in link.ports.events, 30, link.told)
        settle(link)
    assert_equal(source, target)


def test_killed_and_started_again(pair: tuple[Server, Server], tmp_path: Any) -> None:
    source, target = pair
    client = source.client()
    fill(source.url, keys=3000, big_value_bytes=0, large_elements=300)
    arguments = (
        "run",
        source.url,
        target.url,
        "--method",
        "scan",
        "--notifications",
        "enable",
        "--link",
        "k",
    )
    with EngineProcess(tmp_path, *arguments) as engine:
        engine.wait_for_words("has caught up")
        engine.kill()
    client.delete(*list(client.scan_iter(count=500))[:200])
    client.set("new", 1)
    with EngineProcess(tmp_path, *arguments, "--stop-when-caught-up", "--json", name="again") as engine:
        assert engine.wait() == 0, engine.said()
        assert engine.result()["full_syncs"] == 1
    assert_equal(source, target)


def test_an_old_owner_is_closed_out(pair: tuple[Server, Server]) -> None:
    """At its end it may take back the notifications that the new one follows: nothing is missed all the same."""
    source, target = pair
    source.client().set("a", 1)
    with following(source, target, epoch=1) as old:
        settle(old)
        with following(source, target, epoch=2) as new:
            assert isinstance(old.failure(), Fenced)
            settle(new)
            source.client().set("b", 1)
            wait_for(lambda: target.client().exists("b"), 20, new.told)


def test_notifications_that_are_switched_off_are_noticed(pair: tuple[Server, Server]) -> None:
    source, target = pair
    client = source.client()
    with following(source, target) as link:
        settle(link)
        client.config_set("notify-keyspace-events", "")
        client.set("unseen", 1)
        wait_for(lambda: target.client().exists("unseen"), 20, link.told)
        assert "source.notifications_off" in link.ports.events
        follows(link, source, target)


def test_a_position_is_given_up_only_with_consent(pair: tuple[Server, Server]) -> None:
    """A link that was read by PSYNC loses its place in the stream; the other way round it has none."""
    source, target = pair
    source.client().set("a", 1)
    run(source, target)
    with following(source, target) as link:
        assert isinstance(link.failure(), FullResyncNeeded)
    with following(source, target, allow_full_resync=True) as link:
        settle(link)
    with RunningLink(source, target) as link:
        assert isinstance(link.failure(), FullResyncNeeded)
    target.client().flushall()
    with following(source, target, followed=True) as link:
        assert isinstance(link.failure(), FullResyncNeeded)
    assert target.client().dbsize() == 1


def test_into_a_cluster(pair: tuple[Server, Server]) -> None:
    """Every master gets its part of the keys and of the changes; what is gone is removed from each after an interruption."""
    source = pair[0]
    client = source.client()
    client.mset({f"k{n}": n for n in range(3000)})
    for n in range(200):
        client.rpush(f"l{n}", *range(n + 1))
        client.set(f"e{n}", n, ex=500 + n)
    with Cluster("redis-7.0") as cluster:
        with following(source, cluster.nodes[0]) as link:
            settle(link)
            client.delete(*(f"k{n}" for n in range(500)))
            client.rpush("l7", "more")
            client.set("last", 1)
            wait_for(lambda: not report(source, cluster.holders()[0]).differences, 30, link.told)
            link.stop()
        client.delete(*(f"k{n}" for n in range(500, 1000)))
        with following(source, cluster.nodes[1], stop_when_caught_up=True) as link:
            link.result()
        assert "scan.not_swept" not in link.ports.events
        assert_equal(source, cluster.holders()[0])


# --- time to live, memory -------------------------------------------------------------------------------------------------


def test_an_expiry_that_is_renewed_while_the_target_stands_still(pair: tuple[Server, Server]) -> None:
    """The target lets the key go in time; when it goes on, it gets it back."""
    source, target = pair
    client = source.client()
    client.set("renewed", "v", px=4000)
    client.set("passes", "v", px=4000)
    with following(source, target) as link:
        settle(link)
        target.pause()
        try:
            assert client.expire("renewed", 5000)
            pass_time(client, 4500)
        finally:
            target.resume()
        wait_for(lambda: target.client().get("renewed") == b"v", 20, link.told)
        follows(link, source, target)
        assert target.client().pttl("renewed") > 4_000_000


@pytest.mark.parametrize("command", ["PERSIST kept", "MOVE moved 3", "RESTORE restored 0 @"])
def test_what_old_servers_do_not_notify(shared: Shared, command: str) -> None:
    """Before 6.0."""
    source, target = shared("redis-5.0", "source"), shared("redis-7.0", "target")
    client = source.client()
    client.mset({"moved": 1, "restored": 1, "other": 2})
    client.set("kept", 1, ex=1000)
    with following(source, target) as link:
        settle(link)
        if "RESTORE" in command:
            client.restore("restored", 0, client.dump("other"), replace=True)
        else:
            client.execute_command(*command.split())
        wait_for(lambda: "scan.again" in link.ports.events, 20, link.told)
        wait_for(lambda: not kinds(source, target), 20, link.told)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_bounded(pair: tuple[Server, Server], tmp_path: Path) -> None:
    """A string of 200 MB, a hash of 60 MB and many values of 1 MB, to a target that does not keep up at first."""
    source, target = pair
    client = source.client()
    client.setrange("big", 200 * 2**20 - 3, "end")
    with Pipe(client) as pipe:
        for start in range(0, 300_000, 500):
            words = (word for n in range(start, start + 500) for word in (f"field:{n}", f"{n:0180}"))
            pipe.add("HSET", "hash", *words)
        for number in range(100):
            pipe.add("SET", f"key:{number}", "y" * (1 << 20))
    arguments = ("run", source.url, target.url, "--method", "scan", "--notifications", "enable")
    with EngineProcess(tmp_path, *arguments) as engine:
        engine.wait_for_words("link.caught_up", 100)
        assert peak_mb(engine) < LIMIT_MB
    assert target.client().strlen("big") == 200 * 2**20
    assert target.client().hlen("hash") == 300_000


# --- rights -----------------------------------------------------------------------------------------------------------------


FULL_RIGHTS = "+info +select +ping +scan +dump +pttl"
FOLLOWING_RIGHTS = f"{FULL_RIGHTS} +psubscribe +config|get"


def server_with(rights: str, channels: str = "resetchannels") -> tuple[Server, Endpoint]:
    user: list[Any] = [("eve", "on", ">pw", "~*", channels, "-@all", *rights.split())]
    server = Server("redis-7.0", config={**QUICK, "user": user})
    return server, Endpoint(host=server.host, port=server.port, username="eve", password="pw")


def test_the_least_rights_for_one_copy(shared: Shared) -> None:
    target = shared("redis-7.0", "target")
    server, eve = server_with(FULL_RIGHTS)
    with server as source:
        fill(source.url, keys=0, big_value_bytes=1 << 20, large_elements=300)
        once(eve, target)
        assert_equal(source, target)


def test_the_least_rights_to_follow(shared: Shared) -> None:
    """And what is said of each that is missing."""
    target = shared("redis-7.0", "target")
    server, eve = server_with(FOLLOWING_RIGHTS, "&__keyevent@*__:*")
    with server as source:
        admin = source.client()
        admin.set("a", 1)
        admin.config_set("notify-keyspace-events", "KEA")
        with following(eve, target, notifications=Notifications.CHECK) as link:
            settle(link)
            admin.set("b", 1, ex=1000)
            admin.delete("a")
            follows(link, source, target)
        assert_equal(source, target)

        def refused(*rules: str, **options: Any) -> Any:
            admin.execute_command("ACL", "SETUSER", "eve", *rules)
            with following(eve, target, **({"notifications": Notifications.CHECK} | options)) as link:
                failure = link.failure()
            admin.execute_command(
                "ACL", "SETUSER", "eve", *FOLLOWING_RIGHTS.split(), "~*", "&__keyevent@*__:*"
            )
            return failure

        assert "--notifications assume" in refused("-config|get").advice
        assert isinstance(refused("-psubscribe"), PermissionDenied)
        assert "&__keyevent@*__:*" in refused("resetchannels").advice
        for command in ("scan", "dump", "pttl"):
            assert isinstance(refused(f"-{command}"), PermissionDenied)
        failure = refused("resetkeys", "~other:*")
        assert isinstance(failure, PermissionDenied)
        assert "reading key b'" in failure.message
        admin.execute_command("ACL", "SETUSER", "eve", "-config|get")
        with following(eve, target, notifications=Notifications.ASSUME) as link:
            settle(link)
            admin.set("c", 1)
            follows(link, source, target)
        assert_equal(source, target)


def test_what_cannot_be_asked_for(shared: Shared) -> None:
    source, target = endpoint(shared("redis-7.0", "source")), endpoint(shared("redis-7.0", "target"))
    choice = (
        {None: CommandChoice.parse(["-SET"])} if hasattr(CommandChoice, "parse") else {None: CommandChoice()}
    )
    with pytest.raises(UsageError, match="values, not commands"):
        LinkConfig(name="x", source=source, target=target, method=Method.SCAN, commands=choice)
    with pytest.raises(UsageError, match="snapshot file"):
        LinkConfig(
            name="x",
            source=Endpoint(file="/d", port=0),
            target=target,
            phases=Phases.FULL,
            method=Method.SCAN,
        )


def test_a_change_during_the_scan_is_not_missed(pair: tuple[Server, Server]) -> None:
    """Many threads' worth of increments on few keys, from before the scan to after it: the last value is there."""
    source, target = pair
    source.client().mset({f"k{n}": n for n in range(20_000)})
    done = threading.Event()

    def write() -> None:
        with source.client() as client:
            n = 0
            while not done.is_set():
                pipe: redis.client.Pipeline = client.pipeline(transaction=False)
                for _ in range(50):
                    n += 1
                    pipe.incr(f"k{n * 7919 % 20_000}")
                    pipe.delete(f"k{n * 104729 % 20_000}")
                pipe.execute()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with following(source, target) as link:
            link.wait_until(Phase.INCREMENTAL)
            wait_for(lambda: link.progress.commands > 2000, 30, link.told)
            done.set()
            thread.join(10)
            follows(link, source, target)
    finally:
        done.set()
        thread.join(10)
    assert_equal(source, target)
