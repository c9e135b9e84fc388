"""Never expire early: the loss that a naive link has, and that this one has not.

The source renews the expiry of keys while the link is behind. A link that hands on expiries as they come lets the target expire these
keys before the renewal arrives; the renewal then finds no key.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from migrations_app.engine import expiry, incremental
from migrations_app.engine.ports import Phase
from tests.support.notes import expiries_wait
from tests.support.proxy import FaultProxy, Way
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import RunningLink, assert_equal
from .test_faults import Slow

KEYS = [f"session:{number}" for number in range(40)]
SHORT_MS = 2500  # a machine that is not busy renews them within a tenth of it


@pytest.fixture(params=[False, True], ids=["kept", "naive"])
def naive(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With the guard and, to show what it is for, without."""
    if request.param:
        for name in ("GUARD_FULL_MS", "GUARD_BEHIND_MS", "GUARD_MS"):
            monkeypatch.setattr(expiry, name, -(10**9))
        monkeypatch.setattr(incremental, "doubtful", lambda _: False)
        monkeypatch.setattr(incremental.IncrementalPhase, "_missed", lambda *_: None)
    return bool(request.param)


def renew(server: Server) -> None:
    with server.client() as client:
        for number, key in enumerate(KEYS):
            assert client.pexpire(key, 500_000 + number)


def make(server: Server) -> None:
    """Keys that expire soon, of several types."""
    with server.client() as client:
        for number, key in enumerate(KEYS):
            if number % 2:
                client.set(key, number)
            else:
                client.hset(key, "field", number)
            client.pexpire(key, SHORT_MS)


def check(source: Server, target: Server, link: RunningLink, naive: bool) -> None:
    """All keys are on the target with the source's expiry; a naive link has lost them."""
    link.settle(source, target)
    there = target.client().exists(*KEYS)
    if naive:
        assert there == 0, "the guard was off, and yet nothing was lost: the test does not show what it says"
        return
    assert there == len(KEYS)
    assert not expiries_wait(target, "test")
    ask = lambda server: [server.client().execute_command("PEXPIRETIME", key) for key in KEYS]  # noqa: E731
    assert ask(target) == ask(source), "to the millisecond"
    assert_equal(source, target)


def test_renewed_during_a_slow_full_phase(
    pair: tuple[Server, Server], fault_proxy: Callable[..., FaultProxy], naive: bool
) -> None:
    """The snapshot takes longer than the keys live; each was renewed on the source in time."""
    source, target = pair
    make(source)
    source.client().set("ballast", Random(1).randbytes(3_000_000))
    proxy = fault_proxy(source)
    proxy.hook = slow = Slow(700_000)
    with RunningLink(proxy, target) as link:
        link.wait_until(Phase.FULL)
        renew(source)
        sampled = source.client().time()
        wait_for(lambda: source.client().time()[0] * 1000 > sampled[0] * 1000 + SHORT_MS + 1000, 10)
        slow.quick.set()
        check(source, target, link, naive)


def test_set_and_renewed_while_the_link_was_down(
    pair: tuple[Server, Server], fault_proxy: Callable[..., FaultProxy], naive: bool
) -> None:
    """The target could not be reached while keys were set and renewed; the first expiry has passed when it is read."""
    source, target = pair
    proxy = fault_proxy(target)
    with RunningLink(source, proxy, timeout=2.0) as link:
        link.wait_caught_up()
        proxy.refuse()
        proxy.cut()
        wait_for(lambda: Phase.RETRYING in link.ports.phases, 10)
        make(source)
        renew(source)
        began = source.client().time()[0]
        wait_for(lambda: source.client().time()[0] > began + SHORT_MS // 1000 + 1, 10)
        proxy.accept()
        check(source, target, link, naive)


@pytest.mark.parametrize("version", ["redis-5.0", "redis-6.2"])
def test_relative_expiries_do_not_grow_with_the_lag(
    shared: Callable[..., Server], fault_proxy: Callable[..., FaultProxy], version: str
) -> None:
    """Older sources send EXPIRE and SET … EX with the time that is left: what arrives late would live longer on the target."""
    source, target = shared(version, "source"), shared("redis-7.0", "target")
    proxy = fault_proxy(target)
    with source.client() as client, RunningLink(source, proxy, timeout=2.0) as link:
        link.wait_caught_up()
        proxy.refuse()
        proxy.cut()
        wait_for(lambda: Phase.RETRYING in link.ports.phases, 10)
        for key, seconds in {"near": 30, "far": 5000}.items():
            client.set(f"{key} set", 1, ex=seconds)
            client.execute_command("SETEX", f"{key} setex", seconds, 1)
            client.execute_command("PSETEX", f"{key} psetex", seconds * 1000, 1)
            client.rpush(f"{key} expire", 1)
            client.expire(f"{key} expire", seconds)
        client.rename("near set", "near renamed")
        began = client.time()[0]
        wait_for(lambda: client.time()[0] > began + 3, 10)
        proxy.accept()
        link.settle(source, target)
        there = target.client()
        for key in sorted(client.keys("*")):
            # The target is asked between two answers of the source, however long that takes.
            most, left, least = client.pttl(key), there.pttl(key), client.pttl(key)
            assert least - 500 < left < most + 500, (key, most, left, least)


def test_a_key_that_really_expires_goes_when_the_source_says_so(
    pair: tuple[Server, Server], fault_proxy: Callable[..., FaultProxy]
) -> None:
    """What was left out does not make keys immortal: without a renewal they are gone on both sides."""
    source, target = pair
    make(source)
    source.client().set("ballast", Random(1).randbytes(2_000_000))
    proxy = fault_proxy(source)
    proxy.hook = slow = Slow(700_000, Way.DOWN)
    with RunningLink(proxy, target) as link:
        wait_for(lambda: not source.client().exists(*KEYS), 20)
        slow.quick.set()
        link.settle(source, target)
        wait_for(lambda: not target.client().exists(*KEYS), 20, link.told)
    assert_equal(source, target)
