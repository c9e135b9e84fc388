"""A link begins while its source saves already, for itself or for another replica: it waits, and is not taken for lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from tests.support.fixtures import ServerFactory
from tests.support.servers import Server
from tests.support.wait import wait_for

from .conftest import QUICK
from .links import RunningLink, assert_equal, full_counts

KEYS = 400
DELAY = 12_000  # microseconds for each key of a snapshot: about five seconds for all
TIMEOUT = 3.0  # of the links. Meanwhile the source says once a second that it is there; a busy machine may be late with it


def saving(client: redis.Redis) -> bool:
    info = client.info("persistence")
    return bool(info["rdb_bgsave_in_progress"] or info["aof_rewrite_in_progress"])


@pytest.mark.parametrize("command", ["BGSAVE", "BGREWRITEAOF"])
@pytest.mark.parametrize("diskless", ["yes", "no"])
@pytest.mark.parametrize("version", ["redis-6.2", "redis-7.0", "valkey-9.1"])
def test_while_it_saves_for_itself(
    redis_server: ServerFactory, version: str, diskless: str, command: str
) -> None:
    """For longer than the time-out of the link, during which the source has nothing to say but that it is there."""
    source = redis_server(
        version, config={**QUICK, "repl-diskless-sync": diskless, "aof-use-rdb-preamble": "yes"}
    )
    target = redis_server(version, config=QUICK)
    with source.client() as client:
        client.mset({f"key:{number}": number for number in range(KEYS)})
        client.config_set("rdb-key-save-delay", DELAY)
        client.execute_command(command)
        wait_for(lambda: saving(client), 10)
        client.config_set("rdb-key-save-delay", 0)  # for the next child
        with RunningLink(source, target, timeout=TIMEOUT) as link:
            link.wait_caught_up()
            assert (link.progress.full_syncs, link.progress.reconnects) == (1, 0), link.told()
            client.set("behind", 1)
            link.settle(source, target)
    assert_equal(source, target)


@pytest.mark.parametrize("version", ["redis-5.0", "redis-7.0"])
def test_while_another_link_is_in_its_full_phase(redis_server: ServerFactory, version: str) -> None:
    """Both read the same source; the second may share the first one's snapshot, or waits for its own."""
    source, one, other = (redis_server(version, config=QUICK) for _ in range(3))
    with source.client() as client:
        for number in range(KEYS):
            client.set(f"key:{number}", "x" * 20_000)
        if source.version >= (6,):
            client.config_set("rdb-key-save-delay", DELAY)
        with RunningLink(source, one, name="one", timeout=TIMEOUT) as first:
            wait_for(lambda: full_counts(source)[0] == 1, 20, first.told)
            with RunningLink(source, other, name="other", timeout=TIMEOUT) as second:
                client.set("meanwhile", 1)
                for link, goal in ((first, one), (second, other)):
                    link.wait_caught_up()
                    link.settle(source, goal)
                    assert (link.progress.full_syncs, link.progress.reconnects) == (1, 0), link.told()
    assert_equal(source, one)
    assert_equal(source, other)


@pytest.mark.parametrize(("old", "new"), [("redis-8.0", "redis-8.0"), ("redis-8.0", "redis-8.6")])
def test_values_of_a_module_that_the_target_has(shared: Callable[..., Server], old: str, new: str) -> None:
    """They go by their payload, of the snapshot and of the stream. (The comparison cannot tell vector sets: they are looked at here.)"""
    source, target = shared(old, "source"), shared(new, "target")
    with source.client() as client:
        for number in range(50):
            client.execute_command(
                "VADD", f"small:{number}", "VALUES", 3, number, 2, 3, f"e{number}", "SETATTR", '{"n": 1}'
            )
        for number in range(1500):
            vector = range(number, number + 300)
            client.execute_command("VADD", "large", "VALUES", 300, *vector, f"e{number}", "NOQUANT")
        with RunningLink(source, target) as link:
            link.wait_caught_up()
            client.execute_command("VADD", "small:1", "VALUES", 3, 9, 8, 7, "new")
            client.execute_command("VREM", "small:2", "e2")
            client.execute_command("VADD", "later", "VALUES", 2, 1, 2, "e")
            link.settle(source, target)
        with target.client() as there:
            for key in ("small:1", "small:49", "large", "later"):
                assert there.execute_command("VCARD", key) == client.execute_command("VCARD", key), key
            assert not there.exists("small:2")
            assert there.execute_command("VGETATTR", "small:3", "e3") == b'{"n": 1}'
            found = [there.execute_command("VEMB", "large", f"e{number}") for number in (0, 700, 1499)]
            assert found == [
                client.execute_command("VEMB", "large", f"e{number}") for number in (0, 700, 1499)
            ]
