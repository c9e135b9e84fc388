"""What a person reads when a task cannot go on, and that it goes on once the cause is gone.

The instances are registered while all is well, then something breaks: the form refuses what is broken from the beginning.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from migrations_app.demo.dataset import fill
from tests.support.fixtures import ServerFactory
from tests.support.proxy import FaultProxy
from tests.support.servers import Server
from tests.support.wait import wait_for

from .cases import Case, readdress
from .conftest import SOURCE, MakeProxy
from .machines import Machine

SECRET = "right-one-4711"


@pytest.fixture(autouse=True)
def _log_is_clean(shared_machine: Machine) -> Iterator[None]:
    """After each test: no traceback, no crash and no password in what the cluster has written."""
    before = len(shared_machine.log)
    yield
    written = shared_machine.log[before:]
    for word in ("Traceback", "link.crashed", "database is locked", SECRET):
        assert word not in written, written[-3000:]


def filled(server: Server, keys: int = 300) -> Server:
    fill(server.url, keys=keys, big_value_bytes=0, large_elements=0)
    return server


@pytest.mark.parametrize("side", ["source", "target"])
def test_the_password_was_changed(redis_server: ServerFactory, side: str) -> None:
    source = redis_server("redis-7.0", config=SOURCE, password=SECRET)
    target = redis_server("redis-7.0", password=SECRET)
    case = Case(filled(source), target)
    with (source if side == "source" else target).client() as client:
        client.config_set("requirepass", "another-one")
        case.start()
        task = case.wait_for_failure()
        client.config_set("requirepass", SECRET)
    assert task.failure_id == "auth.refused"
    assert f":{case.instance(side).endpoint.port}" in task.failure_message
    assert "password" in task.failure_advice
    assert SECRET not in task.failure_message + task.failure_advice + case.describe()
    case.nothing_more_arrives()
    assert len(case.state()[0]) == 0 or side == "source"
    case.resume()
    case.settle()
    case.stop()


@contextmanager
def web_server() -> Iterator[int]:
    """A port that is not Redis."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("wrong", ["host", "nobody", "web"])
def test_the_address_is_wrong(
    sides: tuple[Server, Server], free_port: Callable[[], int], side: str, wrong: str
) -> None:
    case = Case(filled(sides[0]), sides[1])
    right = case.instance(side).endpoint
    with web_server() as web:
        wrongs: dict[str, tuple[dict[str, str | int], set[str]]] = {
            "host": ({"host": "no-such-host.invalid"}, {"connection.host_unknown"}),
            "nobody": ({"port": free_port()}, {"connection.refused"}),
            # It answers and closes the connection over what it has not read: the answer may be lost with it.
            "web": ({"port": web}, {"connection.not_redis", "connection.lost"}),
        }
        changes, expected = wrongs[wrong]
        readdress(case.instance(side), **changes)
        case.start()
        task = case.wait_for_failure()
    assert task.failure_id in expected
    assert "Redis" in task.failure_advice or wrong != "web"
    assert all(str(value) in task.failure_message for value in changes.values())
    assert case.state()[0] == {} or side == "source"
    readdress(case.instance(side), host=right.host, port=right.port)
    case.resume()
    case.settle()
    case.stop()


@pytest.mark.parametrize("side", ["source", "target"])
def test_tls_against_plain_and_plain_against_tls(redis_server: ServerFactory, side: str) -> None:
    """Each way; at last the right setting, and the data go over TLS."""
    kinds = {
        name: redis_server("redis-7.0", config=SOURCE, tls=name == side) for name in ("source", "target")
    }
    with kinds["source"].client() as client:
        client.mset({f"key:{number}": "x" * 50 for number in range(300)})
    case = Case(kinds["source"], kinds["target"])
    other = "target" if side == "source" else "source"
    authority = kinds[side].ca.read_text()
    readdress(case.instance(side), tls=False)
    case.start()
    task = case.wait_for_failure()
    assert task.failure_id in {"connection.not_redis", "connection.lost"}
    assert "TLS" in task.failure_message + task.failure_advice
    readdress(case.instance(side), tls=True)
    readdress(case.instance(other), tls=True, tls_ca_pem=authority)
    case.resume()
    task = case.wait_for_failure()
    assert task.failure_id == "connection.not_tls"
    assert str(kinds[other].port) in task.failure_message
    case.nothing_more_arrives()
    readdress(case.instance(other), tls=False, tls_ca_pem="")
    case.resume()
    case.settle()
    case.stop()


def test_the_target_became_a_replica(sides: tuple[Server, Server], redis_server: ServerFactory) -> None:
    """Before the start, and while the link runs."""
    case, master = Case(filled(sides[0]), sides[1]), redis_server("redis-7.0")
    with case.target.client() as client:
        client.execute_command("REPLICAOF", master.host, master.port)
        case.start()
        task = case.wait_for_failure()
        assert task.failure_id == "target.read_only"
        assert "replica" in task.failure_message and "master" in task.failure_advice
        client.execute_command("REPLICAOF", "NO", "ONE")
        case.resume()
        case.settle()
        client.execute_command("REPLICAOF", master.host, master.port)
        with case.source.client() as source:
            source.set("key", "of the time as a replica")
        task = case.wait_for_failure()
        assert task.failure_id == "target.read_only"
        client.execute_command("REPLICAOF", "NO", "ONE")


def test_a_snapshot_that_is_cut_short(sides: tuple[Server, Server], fault_proxy: MakeProxy) -> None:
    """It is tried again some times; then the task says so, and its counters tell of no more keys than there are."""
    proxy: FaultProxy = fault_proxy(sides[0])
    case = Case(filled(sides[0], 3000), sides[1], source_proxy=proxy)
    proxy.truncate_after(150_000)
    case.start()
    task = case.wait_for_failure()
    assert task.failure_id == "snapshot.invalid"
    assert "cut short 3 times" in task.failure_message
    progress = case.progress
    assert (progress.full_syncs, progress.keys_total is not None) == (3, True)
    assert progress.keys_done < (progress.keys_total or 0)
    assert progress.percent is None or progress.percent < 100
    case.nothing_more_arrives()
    assert case.state()[1][b"phase"] == b"full"
    proxy.truncate_after(None)
    case.resume()
    case.settle()
    progress = case.progress
    assert (progress.full_syncs, progress.percent, progress.keys_done) == (4, 100, progress.keys_total)
    case.stop()


def test_a_snapshot_with_a_wrong_checksum(sides: tuple[Server, Server], fault_proxy: MakeProxy) -> None:
    """One byte is flipped on the way: the task fails at once, and the stream behind the snapshot is not applied."""
    source = sides[0]
    with source.client() as client:
        client.config_set("rdbcompression", "no")
        client.mset({f"key{number}": "untouched value " * 4 for number in range(300)})
        proxy: FaultProxy = fault_proxy(source)
        case = Case(source, sides[1], source_proxy=proxy)
        happened = proxy.replace_once(b"untouched value untouched", b"untouched valuE untouched")
        case.start()
        wait_for(happened.is_set, 30)
        client.set("later", 1)
        task = case.wait_for_failure()
    assert task.failure_id == "snapshot.checksum"
    assert case.progress.full_syncs == 1
    case.nothing_more_arrives()
    assert case.state()[1][b"phase"] == b"full", "no run goes on from this"
    with case.target.client() as client:
        assert not client.exists("later")
    case.resume()
    case.settle()
    case.stop()


def test_the_backlog_was_too_small(redis_server: ServerFactory, fault_proxy: MakeProxy) -> None:
    """The message says how large it would have had to be; a new full phase begins with the consent of a person only."""
    small = SOURCE | {"repl-backlog-size": "16kb", "repl-timeout": 5}
    source, target = redis_server("redis-7.0", config=small), redis_server("redis-7.0")
    proxy: FaultProxy = fault_proxy(source)
    case = Case(filled(source), target, source_proxy=proxy)
    case.start()
    case.settle()
    proxy.refuse()
    proxy.cut()
    with source.client() as client:
        for number in range(300):
            client.set(f"missed:{number}", "x" * 200)
    proxy.accept()
    task = case.wait_for_failure()
    assert task.failure_id == "source.full_resync_needed"
    assert "repl-backlog-size" in task.failure_message and "16384 bytes" in task.failure_message
    case.nothing_more_arrives()
    offset = case.state()[1][b"offset"]
    case.resume()
    assert case.wait_for_failure().failure_id == "source.full_resync_needed"
    assert case.state()[1][b"offset"] == offset
    case.resume(allow_full_resync=True)
    case.settle()
    assert case.progress.full_syncs == 2
    assert not case.row().full_resync_allowed, "the consent was for once"
    case.stop()


def test_a_target_out_of_memory(sides: tuple[Server, Server]) -> None:
    """In the full phase and in the stream. What was applied before is kept: with more memory the stream goes on."""
    case = Case(filled(sides[0]), sides[1])
    with case.target.client() as target, case.source.client() as source:
        target.config_set("maxmemory", "1mb")
        case.start()
        task = case.wait_for_failure()
        assert task.failure_id == "target.out_of_memory"
        assert "maxmemory" in task.failure_advice
        case.nothing_more_arrives()
        target.config_set("maxmemory", 0)
        case.resume()
        case.settle()
        full_syncs = case.progress.full_syncs
        target.config_set("maxmemory", "1mb")
        for number in range(200):
            source.incr("counted")
            source.rpush("listed", number)
        task = case.wait_for_failure()
        assert task.failure_id == "target.out_of_memory"
        assert "OOM" in task.failure_message
        case.nothing_more_arrives()
        target.config_set("maxmemory", 0)
        case.resume()
        case.settle()
        assert target.get("counted") == b"200"
        assert target.llen("listed") == 200
    assert case.progress.full_syncs == full_syncs
    case.stop()
