"""The fault matrix, the target's part (see matrix.py)."""

from __future__ import annotations

from collections.abc import Callable

from migrations_app.engine.checkpoint import OWN_PREFIX
from tests.support.ports import free_port
from tests.support.servers import Server

from .conftest import QUICK
from .matrix import DATABASES, FULL, GOES_ON, INCREMENTAL, Stage, assert_beginning, cells, stage


def restart(scene: Stage) -> None:
    """As after a crash of its machine: what was under way is lost, too. Same port, same folder."""
    scene.target.kill()
    scene.behind.reset()
    scene.target.start()


def fill_up(scene: Stage) -> None:
    with scene.target.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)


def give_memory_back(scene: Stage) -> None:
    with scene.target.client() as client:
        client.config_set("maxmemory", 0)


def demote(scene: Stage) -> None:
    """It follows a master that does not answer, so it keeps its data and refuses writes."""
    with scene.target.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", free_port())


def promote(scene: Stage) -> None:
    with scene.target.client() as client:
        client.execute_command("REPLICAOF", "NO", "ONE")


FAULTS: dict[str, tuple[Callable[[Stage], None], Callable[[Stage], None]]] = {
    "target-full": (fill_up, give_memory_back),
    "target-turned-replica": (demote, promote),
}


@cells("target")
def test_cell(redis_server: Callable[..., Server], fault: str, phase: str, expected: str) -> None:
    persistent = {"appendonly": "yes", "appendfsync": "always"} if fault.endswith("with-persistence") else {}
    source = redis_server("redis-7.0", config=QUICK)
    target = redis_server("redis-7.0", config={**QUICK, **persistent})
    with stage(phase, source, target) as scene:
        if fault.startswith("target-restart"):
            restart(scene)
            if expected == GOES_ON:
                scene.finish()
                assert (
                    scene.link.progress.full_syncs == {"full": 2, "incremental": 1, "catching-up": 0}[phase]
                )
                return
            scene.stops(expected)
            for database in DATABASES:
                keys = [key for key in target.client(db=database).keys("*") if not key.startswith(OWN_PREFIX)]
                assert keys == [], "nothing was written to it but who owns the link"
            scene.again(consent=True)
            return
        strike, undo = FAULTS[fault]
        strike(scene)
        scene.stops(expected)
        assert scene.stored()[0] == (FULL if phase == FULL else INCREMENTAL)
        undo(scene)
        assert_beginning(target, whole_transactions=phase != FULL)
        scene.more()
        scene.again()
