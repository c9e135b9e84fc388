"""The network and the servers fail under a running task: it goes on by partial synchronization, and the page counts one full phase."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from migrations_app.choices import TaskStatus
from migrations_app.demo.writer import Writer, check_audit
from migrations_app.models import LogEntry
from tests.engine.links import full_counts
from tests.support.fixtures import ServerFactory
from tests.support.proxy import FaultProxy
from tests.support.wait import wait_for

from .cases import Case, assert_same, wait_until_applied
from .conftest import SOURCE, MakeProxy
from .machines import Machine

Fault = Callable[[Case, FaultProxy], None]
FINISHED_FIRST = "; what it had sent before is written first"


def cut(case: Case, proxy: FaultProxy) -> None:
    proxy.cut()


def reset(case: Case, proxy: FaultProxy) -> None:
    proxy.reset()


def away(case: Case, proxy: FaultProxy) -> None:
    """Connections end and new ones are refused for some attempts."""
    refused = proxy.counters.refused
    proxy.refuse()
    proxy.cut()
    case.wait(lambda: proxy.counters.refused >= refused + 3, 20, "not tried again")
    case.wait(lambda: case.status == TaskStatus.RETRYING, 10, "the page does not say that it tries again")
    proxy.accept()


def stall(case: Case, proxy: FaultProxy) -> None:
    """Nothing goes through until the source has given its replica up (repl-timeout); towards a target, for two seconds."""
    proxy.stall()
    if proxy.target == case.source.address:
        with case.source.client() as client:
            wait_for(lambda: client.info("replication")["connected_slaves"] == 0, 30)
    else:
        until = time.monotonic() + 2
        wait_for(lambda: time.monotonic() > until, 5)
    proxy.resume()


def closed_by_the_server(case: Case, proxy: FaultProxy) -> None:
    """CLIENT KILL of every connection of the link."""
    server = case.source if proxy.target == case.source.address else case.target
    with server.client() as client:
        found = case.connections(client)
        assert found
        for one in found:
            client.execute_command("CLIENT", "KILL", "ID", one["id"])


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_faults_in_the_stream(
    shared_machine: Machine, redis_server: ServerFactory, fault_proxy: MakeProxy, side: str, tls: bool
) -> None:
    """All of them in a row, under a writer; each time the link is where it was by itself."""
    quick = SOURCE | {"repl-timeout": 4, "repl-ping-replica-period": 1}
    source = redis_server("redis-7.0", config=quick, tls=tls and side == "source")
    target = redis_server("redis-7.0", tls=tls and side == "target")
    proxy = fault_proxy(source if side == "source" else target)
    case = Case(source, target, **{f"{side}_proxy": proxy})
    with source.client() as client:
        client.mset({f"key:{number}": "x" * 100 for number in range(1000)})
    case.start()
    with Writer(source.client(), seed=5, rate=1500) as writer:
        case.wait_until_following()
        for fault in (cut, reset, closed_by_the_server, stall, away, cut):
            epoch = case.link.epoch
            fault(case, proxy)
            case.wait_until_following()
            assert case.link.epoch == epoch, "the worker has changed"
        expected = writer.stop()
    wait_until_applied(case)
    progress = case.progress
    assert (progress.full_syncs, full_counts(source)[0]) == (1, 1)
    assert progress.partial_syncs >= 5 - (side == "target")
    assert progress.reconnects >= progress.partial_syncs
    assert case.stop() == TaskStatus.COMPLETED
    # One line per failed attempt; one more where a lost source had left something that was written before the next attempt.
    told = LogEntry.objects.filter(task=case.task, level="warning").values_list("event", "message")
    attempts = [line for line in told if not line[1].endswith(FINISHED_FIRST)]
    assert len(attempts) <= progress.reconnects + 2, attempts
    assert len(told) - len(attempts) <= progress.reconnects, told
    assert "Traceback" not in shared_machine.log
    assert_same(source, target)
    assert check_audit(target.client(), expected) == []
