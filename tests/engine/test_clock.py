"""The time is the source's; clocks of source and target that differ are told."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from migrations_app.engine.client import Client
from migrations_app.engine.clock import Clock, ahead_of
from tests.support.proxy import FaultProxy, Way
from tests.support.servers import Server

from .links import RunningLink, endpoint

MakeProxy = Callable[..., FaultProxy]


def shifted(seconds: int) -> Callable[[Way, bytes], bytes]:
    """A hook that moves the clock of the server behind it, as TIME tells it."""

    def hook(way: Way, data: bytes) -> bytes:
        def move(found: re.Match[bytes]) -> bytes:
            return b"*2\r\n$10\r\n%d\r\n$" % (int(found[1]) + seconds)

        return data if way is Way.UP else re.sub(rb"\*2\r\n\$10\r\n(\d{10})\r\n\$", move, data)

    return hook


@pytest.mark.parametrize("seconds", [0, 3600, -3600])
def test_the_time_is_the_servers(pair: tuple[Server, Server], fault_proxy: MakeProxy, seconds: int) -> None:
    proxy = fault_proxy(pair[0])
    proxy.hook = shifted(seconds)
    clock = Clock(None)
    here = clock.now_ms()
    with Client(endpoint(proxy), timeout=10) as client:
        clock.ask(client)
    assert abs(clock.now_ms() - here - seconds * 1000) < 30_000


def test_a_server_that_does_not_tell_its_time(redis_server: Callable[..., Server]) -> None:
    server = redis_server("redis-3.2", config={"rename-command": ("TIME", "")})
    clock = Clock(None)
    ahead = clock.ahead
    with Client(endpoint(server), timeout=10) as client:
        assert ahead_of(client) is None
        clock.ask(client)
    assert clock.ahead == ahead


@pytest.mark.parametrize(("seconds", "words"), [(3600, "3600 s ahead of"), (-60, "60 s behind"), (0, "")])
def test_clocks_that_differ_are_told(
    pair: tuple[Server, Server], fault_proxy: MakeProxy, seconds: int, words: str
) -> None:
    source, target = pair
    proxy = fault_proxy(target)
    proxy.hook = shifted(seconds)
    with RunningLink(source, proxy) as link:
        link.wait_caught_up()
    told = [message for _, event, message in link.ports.lines if event == "clocks.differ"]
    assert len(told) == (1 if seconds else 0)
    assert all(words in message for message in told), told
