"""How long an interruption the source's backlog covers: its size, and the pace of the writes, both as measured."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from migrations_app.engine.source import watch
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import RunningLink

MakeServer = Callable[..., Server]


@pytest.mark.parametrize("version", ["redis-5.0", "valkey-9.1"])
def test_backlog_and_pace(redis_server: MakeServer, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_WRITTEN_LEAST", 1.0)
    config = {"repl-diskless-sync-delay": 0, "repl-backlog-size": 3 << 20}
    source, target = redis_server(version, config=config), redis_server(version)
    with RunningLink(source, target) as link, source.client() as client:
        link.wait_caught_up()
        wait_for(lambda: link.progress.backlog_bytes == 3 << 20, 10, link.told)
        client.set("key", "x" * 500_000)
        # The whole of it within the last minute, and no more than a second per second.
        wait_for(lambda: (link.progress.written_per_second or 0) > 500_000 / 60, 20, link.told)
        assert (link.progress.written_per_second or 0) < 600_000
        client.config_set("repl-backlog-size", 5 << 20)
        wait_for(lambda: link.progress.backlog_bytes == 5 << 20, 10, link.told)
