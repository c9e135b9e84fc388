"""A comparison while a link works and somebody writes: what is planted is found, what is on its way is not, and is repaired."""

from __future__ import annotations

import threading

import pytest

from migrations_app.demo.writer import Writer
from migrations_app.engine.errors import ConnectionLost
from migrations_app.engine.ports import Phase
from migrations_app.engine.rate import Rate
from migrations_app.engine.target.opening import open_target
from migrations_app.engine.verify import Difference, Kind
from migrations_app.engine.verify.repair import Repaired, Repairer
from tests.engine.conftest import Shared
from tests.engine.links import RunningLink, endpoint
from tests.engine.verify.following import Following, planted
from tests.engine.verify.plants import LATER
from tests.engine.verify.steps import apply, compare
from tests.support.servers import Server

PAIRS = [("redis-7.0", "redis-7.0"), ("redis-5.0", "valkey-9")]


@pytest.mark.parametrize("versions", PAIRS, ids=" to ".join)
def test_planted_is_found_and_repaired_while_others_write(shared: Shared, versions: tuple[str, str]) -> None:
    source, target = shared(versions[0], "source"), shared(versions[1], "target")
    plants = planted()
    with Writer(source.url, seed=4, rate=1500, databases=(0, 1)), RunningLink(source, target) as link:
        for plant in plants:
            apply(source, plant.base)
        link.settle(source, target)
        follow = Following(link)
        clean = compare(source, target, follow=follow)
        assert clean.equal, clean.items
        assert clean.keys > len(plants)

        for plant in plants:
            apply(target, plant.change)
        found: list[Difference] = []
        report = compare(source, target, follow=follow, on_difference=found.append)
        assert report.complete
        expected = sorted(
            (place, plant.key.encode(), aspect) for plant in plants for place, aspect in plant.found
        )
        assert sorted((one.database, one.key, one.aspect) for one in found) == expected
        assert report.differences == len(expected)

        repairer = Repairer(endpoint(source), endpoint(target), "test", follow=follow)
        try:
            done = {(one.database, one.key): repairer.repair(one.database, one.key) for one in found}
        finally:
            repairer.close()
        assert {result.outcome for result in done.values()} == {Repaired.WRITTEN, Repaired.DELETED}, done
        assert done[0, b"plant:extra"].outcome is Repaired.DELETED
        after = compare(source, target, follow=follow)
        assert after.equal, after.items
        assert link.running, link.told()


def test_a_repair_and_the_stream_do_not_cross(pair: tuple[Server, Server]) -> None:
    """A counter that is written in bursts: whenever the repair is made, no write is lost and none is applied twice."""
    source, target = pair
    stop = threading.Event()

    def count() -> None:
        with source.client() as client:
            while not stop.is_set():
                for _ in range(50):
                    client.incr("counter")
                    client.rpush("list", "x")
                    stop.wait(0.004)
                stop.wait(1.5)

    with RunningLink(source, target) as link:
        writer = threading.Thread(target=count)
        writer.start()
        try:
            link.wait_until(Phase.INCREMENTAL)
            apply(target, [("INCRBY", "counter", "1000"), ("LPUSH", "list", "planted")])
            repairer = Repairer(endpoint(source), endpoint(target), "test", follow=Following(link))
            try:
                for key in (b"counter", b"list", b"counter", b"list", b"counter", b"list"):
                    assert repairer.repair(0, key).outcome is not Repaired.FAILED
                    apply(target, [("DEL", key)])
                    assert repairer.repair(0, key).outcome is Repaired.WRITTEN
            finally:
                repairer.close()
        finally:
            stop.set()
            writer.join()
        link.settle(source, target)
        report = compare(source, target)
        assert report.equal, report.items


def test_what_agrees_is_not_written(pair: tuple[Server, Server]) -> None:
    source, target = pair
    for server in pair:
        apply(server, [("SET", "a", "1")])
    apply(source, [("SET", "b", "1")])
    repairer = Repairer(endpoint(source), endpoint(target), "test")
    try:
        assert repairer.repair(0, b"a").outcome is Repaired.AGREES
        assert repairer.repair(0, b"b").outcome is Repaired.WRITTEN
    finally:
        repairer.close()
    assert compare(source, target).equal


def test_a_new_owner_of_the_link_ends_a_repair(pair: tuple[Server, Server]) -> None:
    """As the fence of a released task does: whoever has taken the link over is not written under."""
    source, target = pair
    with RunningLink(source, target) as link:
        link.wait_until(Phase.INCREMENTAL)
        link.stop()
    apply(source, [("SET", "a", "1")])
    repairer = Repairer(endpoint(source), endpoint(target), "test")
    taken = open_target(endpoint(target), "test", None, 10.0)
    try:
        with pytest.raises(ConnectionLost):
            repairer.repair(0, b"a")
    finally:
        repairer.close()
        taken.close()
    with target.client() as client:
        assert client.get("a") is None


def test_an_older_target_gets_what_it_can_read(shared: Shared) -> None:
    source, target = shared("valkey-9", "source"), shared("redis-5.0", "target")
    apply(source, [("HSET", "h", "f", "1", "g", "2"), ("PEXPIREAT", "h", LATER), ("ZADD", "z", "1.5", "m")])
    apply(
        source,
        [("XADD", "x", "1-1", "f", "v"), ("XGROUP", "CREATE", "x", "g", "0"), ("RPUSH", "l", *range(300))],
    )
    apply(target, [("SET", "h", "old"), ("SET", "extra", "1")])
    repairer = Repairer(endpoint(source), endpoint(target), "test")
    try:
        outcomes = {key: repairer.repair(0, key).outcome for key in (b"h", b"z", b"x", b"l", b"extra")}
    finally:
        repairer.close()
    assert outcomes == dict.fromkeys((b"h", b"z", b"x", b"l"), Repaired.WRITTEN) | {
        b"extra": Repaired.DELETED
    }
    assert compare(source, target).equal


def test_a_stalled_link_is_waited_for(pair: tuple[Server, Server]) -> None:
    """Nothing is told while the link cannot be heard; then what it brings is no difference."""
    source, target = pair
    apply(source, [("SET", f"k{number}", "1") for number in range(50)])
    asked = 0

    class Silent:
        def lag(self) -> float | None:
            nonlocal asked
            asked += 1
            if asked == 15:
                apply(target, [("SET", f"k{number}", "1") for number in range(49)])
            return None if asked < 15 else 0.0

        def reached(self, offset: int) -> bool | None:
            return True

    found: list[Difference] = []
    report = compare(source, target, follow=Silent(), on_difference=found.append)
    assert [(one.key, one.kind) for one in found] == [(b"k49", Kind.MISSING)]
    assert (report.differences, report.keys) == (1, 50)


class TestPart:
    """Sample, direction, rate."""

    def test_a_sample_is_the_same_on_both_sides(self, pair: tuple[Server, Server]) -> None:
        source, target = pair
        for server in pair:
            apply(server, [("SET", f"k{number}", number) for number in range(2000)])
        apply(target, [("SET", f"extra{number}", 1) for number in range(500)])
        report = compare(source, target, percent=20, max_reported=1000)
        assert 250 < report.keys - report.differences < 550
        assert 50 < report.differences < 150
        assert {item.kind for item in report.items} == {Kind.EXTRA}
        assert compare(source, target, percent=20).differences == report.differences

    def test_one_direction(self, pair: tuple[Server, Server]) -> None:
        source, target = pair
        apply(source, [("SET", "a", 1)])
        apply(target, [("SET", "b", 1)])
        report = compare(source, target, both_directions=False)
        assert [item.key for item in report.items] == [b"a"]
        assert [item.key for item in compare(source, target).items] == [b"a", b"b"]

    def test_a_rate_is_kept(self, pair: tuple[Server, Server]) -> None:
        source, target = pair
        for server in pair:
            apply(server, [("SET", f"k{number}", number) for number in range(1000)])
        report = compare(source, target, rate=Rate(1000), both_directions=False)
        assert report.equal
        assert report.seconds > 0.7  # a lower bound: it may always take longer
        for server in pair:
            apply(server, [("SET", f"big{number}", b"x" * 1_000_000) for number in range(3)])
        report = compare(source, target, rate=Rate(None, 4_000_000))
        assert report.equal
        assert report.seconds > 0.2
