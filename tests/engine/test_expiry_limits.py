"""Expiries that are not right yet: each test says what should hold, and fails until it does (then its mark has to go)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
import redis

from migrations_app.engine.ports import Phase
from tests.support.proxy import FaultProxy
from tests.support.servers import Server

from .links import RunningLink, offset_of, pass_time
from .test_faults import Slow

MakeProxy = Callable[..., FaultProxy]


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


@pytest.mark.xfail(reason="expiries of fields have no guard: payloads carry them as they are", strict=True)
@pytest.mark.parametrize("version", ["redis-7.4", "valkey-9"])
def test_a_field_that_is_renewed_during_a_slow_full_phase(
    shared: Callable[..., Server], fault_proxy: MakeProxy, version: str
) -> None:
    source, target = shared(version, "source"), shared(version, "target")
    names = [f"hash:{number}" for number in range(30)]  # some are early in the snapshot, some late
    with source.client() as client:
        for name in names:
            client.hset(name, mapping={"a": 1, "b": 2})
            client.execute_command("HPEXPIRE", name, 1500, "FIELDS", 1, "a")

    def renew(client: redis.Redis) -> None:
        for name in names:
            client.execute_command("HPEXPIRE", name, 500_000, "FIELDS", 1, "a")
        pass_time(client, 2000)

    during_a_slow_full_phase(source, target, fault_proxy(source), renew)
    assert [name for name in names if target.client().hget(name, "a") != b"1"] == []


@pytest.mark.xfail(
    reason="the target expires by itself what it was given before the link went down", strict=True
)
def test_a_key_that_is_renewed_while_the_link_is_down(
    pair: tuple[Server, Server], fault_proxy: MakeProxy
) -> None:
    source, target = pair
    proxy = fault_proxy(target)
    with RunningLink(source, proxy, timeout=2.0) as link, source.client() as client:
        link.wait_caught_up()
        client.set("k", 1, px=1500)
        link.wait_offset(offset_of(source))
        proxy.refuse()
        proxy.cut()
        client.pexpire("k", 500_000)
        pass_time(client, 2000)
        proxy.accept()
        link.settle(source, target)
    assert target.client().get("k") == b"1"
