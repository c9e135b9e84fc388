"""The fault matrix, the network's part (see matrix.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain

from migrations_app.engine.ports import Phase
from tests.support.proxy import Link, Way
from tests.support.servers import Server
from tests.support.wait import wait_for

from .matrix import (
    FULL,
    GOES_ON,
    INCREMENTAL,
    MATRIX,
    PHASES,
    SENSELESS,
    Slow,
    Stage,
    assert_beginning,
    cells,
    stage,
)

# The list of faults, and which rows of the matrix stand for each.
ASKED_FOR = {
    "kill -9 of the engine": ["kill-9"],
    "dropped connection": ["drop-connection"],
    "stall": ["stall"],
    "half-open": ["half-open"],
    "reset in mid-reply": ["reset-in-a-reply-of-the-target", "reset-in-the-data-of-the-source"],
    "source restart with persistence": ["source-restart-with-persistence"],
    "source restart without persistence": ["source-restart-without-persistence"],
    "source failover": ["source-failover"],
    "target restart": ["target-restart-with-persistence", "target-restart-without-persistence"],
    "target full": ["target-full"],
    "target turned replica": ["target-turned-replica"],
    "disk full for the spool": ["spool-disk-full"],
    "clock moved": ["clock-forward", "clock-back"],
    "malformed bytes from the source": ["bytes-altered", "bytes-inserted"],
    "two owners at once": ["two-owners"],
}


def test_every_fault_meets_every_phase() -> None:
    """Each cell has a test, or a reason why it makes no sense."""
    there = {
        (fault, phase) for faults in MATRIX.values() for fault, phases in faults.items() for phase in phases
    }
    wanted = {(fault, phase) for fault in chain.from_iterable(ASKED_FOR.values()) for phase in PHASES}
    assert wanted == there | set(SENSELESS)
    assert not there & set(SENSELESS)


def noticed(scene: Stage) -> Callable[[], bool]:
    """Whether the link has let go of a connection since this call."""
    ports = scene.link.ports
    before, retries = ports.last.reconnects, ports.phases.count(Phase.RETRYING)
    return lambda: ports.last.reconnects > before or ports.phases.count(Phase.RETRYING) > retries


def drop_connection(scene: Stage) -> None:
    for proxy in scene.proxies:
        wait_for(proxy.cut, 10)


def stall(scene: Stage) -> None:
    """Both sides, until the link has noticed."""
    gone = noticed(scene)
    for proxy in scene.proxies:
        proxy.stall()
    wait_for(gone, 20, scene.told)
    for proxy in scene.proxies:
        proxy.resume()


def half_open(scene: Stage) -> None:
    """What was there swallows everything from now on and never ends; new connections work."""
    gone = noticed(scene)
    for proxy in scene.proxies:
        for one in proxy._links[:]:
            one._may_go_on = partial(_for_ever, one)  # type: ignore[method-assign]
    wait_for(gone, 20, scene.told)


def _for_ever(link: Link) -> bool:
    link.closed.wait()
    return False


def reset_in_a_reply(scene: Stage) -> None:
    wait_for(scene.behind.break_off(Way.DOWN, longer_than=4).is_set, 20, scene.told)


def reset_in_the_data(scene: Stage) -> None:
    # Longer than what the source answers to a question: the replication connection.
    wait_for(scene.before.break_off(Way.DOWN, longer_than=2000).is_set, 20, scene.told)


def damage(scene: Stage, alter: Callable[[bytes], bytes | None]) -> None:
    """Alter the next piece that the function takes (it gives None for others)."""
    slow = scene.slow if scene.phase != INCREMENTAL else Slow(1 << 40)

    def once(data: bytes) -> bytes:
        changed = alter(data)
        if changed is None:
            return data
        slow.damage = None
        return changed

    slow.damage = once
    scene.before.hook = slow
    wait_for(lambda: slow.damage is None, 20, scene.told)


def bytes_altered(scene: Stage) -> None:
    def in_snapshot(data: bytes) -> bytes | None:
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :] if middle > 2000 else None

    def in_stream(data: bytes) -> bytes | None:
        return data.replace(b"\r\n$", b"\r\n%", 1) if b"\r\n*" in data else None

    damage(scene, in_snapshot if scene.phase == FULL else in_stream)


def bytes_inserted(scene: Stage) -> None:
    def in_snapshot(data: bytes) -> bytes | None:
        middle = len(data) // 2
        return data[:middle] + b"\x00\xff\x00" + data[middle:] if middle > 2000 else None

    def in_stream(data: bytes) -> bytes | None:
        return data.replace(b"\r\n*", b"\r\n+OK\r\n*", 1) if b"\r\n*" in data else None

    damage(scene, in_snapshot if scene.phase == FULL else in_stream)


FAULTS = {
    "drop-connection": drop_connection,
    "stall": stall,
    "half-open": half_open,
    "reset-in-a-reply-of-the-target": reset_in_a_reply,
    "reset-in-the-data-of-the-source": reset_in_the_data,
    "bytes-altered": bytes_altered,
    "bytes-inserted": bytes_inserted,
}


@cells("network")
def test_cell(pair: tuple[Server, Server], fault: str, phase: str, expected: str) -> None:
    source, target = pair
    with stage(phase, source, target) as scene:
        FAULTS[fault](scene)
        if expected == GOES_ON:
            scene.finish()
            progress = scene.link.progress
            assert progress.reconnects >= 1
            assert progress.full_syncs == {"full": 2, "incremental": 1, "catching-up": 0}[phase], scene.told()
        else:
            scene.stops(expected)
            assert_beginning(target, whole_transactions=phase != FULL)
            assert scene.stored()[0] == ("full" if phase == FULL else "incremental")
            scene.again()
