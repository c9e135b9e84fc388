"""What the items of replication do to the source, and what they measure."""

from __future__ import annotations

from typing import Any

import pytest

from migrations_app.choices import Outcome
from migrations_app.runner.precheck import replication

from .cases_replication import VERSIONS
from .world import World

PASSED, WARNING = Outcome.PASSED, Outcome.WARNING


@pytest.mark.parametrize("version", VERSIONS)
def test_psync_is_tried_without_a_snapshot(world: World, version: str) -> None:
    server = world.use("source", version)
    world.do("source", "SET", "a", "1")
    assert world.look("source.psync").outcome == PASSED
    stats, persistence = server.info("stats"), server.info("persistence")
    assert stats["sync_full"] == 0
    assert persistence["rdb_bgsave_in_progress"] == 0
    assert server.info("replication")["connected_slaves"] == 0


@pytest.mark.parametrize("version", ["redis-3.2", "redis-7.0", "valkey-9"])
def test_backlog_is_held_against_the_measured_rate(
    world: World, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = world.use("source", version)
    world.configure("source", repl_backlog_size="64mb", repl_backlog_ttl=0, maxmemory="10gb")
    look_at = replication.rate_of

    def while_written(ctx: Any, node: Any) -> tuple[float, bool]:
        if node.rate is None:
            with server.client() as client:
                for number in range(64):
                    client.set(f"big:{number % 4}", b"x" * 2**20)
        return look_at(ctx, node)

    monkeypatch.setattr(replication, "rate_of", while_written)
    finding = world.look("source.backlog")
    assert finding.outcome == WARNING, finding.found
    assert "MiB/s; its backlog of 64 MiB covers" in finding.found
    advised = int(finding.data["set"]["repl-backlog-size"])
    # The most that is advised is a tenth of the memory; at this rate two hours would need more.
    assert advised == 2**30
