"""The fault matrix, the source's part (see matrix.py)."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.servers import Server
from tests.support.wait import wait_for

from .conftest import QUICK
from .matrix import GOES_ON, Stage, assert_beginning, cells, stage


def restart(scene: Stage) -> None:
    """As after a crash of its machine: what was under way is lost, too. Same port, same folder."""
    scene.source.kill()
    scene.before.reset()
    scene.source.start()


def failover(scene: Stage, replica: Server) -> None:
    """The replica takes over without a lost write, and the address of the source leads to it; the old one is gone."""
    with scene.source.client() as client:
        client.execute_command("FAILOVER", "TO", replica.host, replica.port)
    wait_for(lambda: replica.info("replication")["role"] == "master", 20, replica.tail)
    for proxy in (scene.before, scene.writers):
        proxy.target = replica.address
    scene.source.kill()
    scene.before.reset()
    scene.source = replica


@cells("source")
def test_cell(redis_server: Callable[..., Server], fault: str, phase: str, expected: str) -> None:
    persistent = {"appendonly": "yes", "appendfsync": "always"} if fault.endswith("with-persistence") else {}
    source = redis_server("redis-7.0", config={**QUICK, **persistent})
    target = redis_server("redis-7.0", config=QUICK)
    replica = None
    if fault == "source-failover":
        replica = redis_server("redis-7.0", config={**QUICK, "replicaof": ("127.0.0.1", source.port)})
        wait_for(lambda: replica.info("replication")["master_link_status"] == "up", 20, replica.tail)
    with stage(phase, source, target) as scene:
        if replica is not None:
            failover(scene, replica)
            scene.finish()
            assert scene.link.progress.full_syncs == {"full": 2, "incremental": 1, "catching-up": 0}[phase]
            return
        restart(scene)
        if expected == GOES_ON:
            scene.finish(audit=bool(persistent))
            assert scene.link.progress.full_syncs == 2
            return
        before = scene.keys()
        scene.stops(expected)
        assert scene.keys() >= before > 1, "what was there is still there"
        assert_beginning(target, whole_transactions=True)
        scene.more()
        scene.again(consent=True, audit=bool(persistent))
