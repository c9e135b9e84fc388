"""The writer: it uses the commands that the server has, it stops cleanly, and its audit finds what a migration may do wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import redis

from migrations_app.demo.audit import SEQUENCES, sequence_problems
from migrations_app.demo.clients import Capabilities
from migrations_app.demo.dataset import fill
from migrations_app.demo.writer import Writer, WriterError, check_audit, check_invariant, main
from tests.support.wait import PATIENCE, wait_for

from .values import client

ALWAYS = frozenset(
    """
    APPEND BITOP BLPOP BRPOP BRPOPLPUSH DECR DECRBY DEL EVAL EVALSHA EXEC EXPIRE EXPIREAT GEOADD GETSET
    HDEL HINCRBY HINCRBYFLOAT HMSET HSET HSETNX INCR INCRBY INCRBYFLOAT LINSERT LPOP LPUSH LPUSHX LREM
    LSET LTRIM MOVE MSET MSETNX MULTI PERSIST PEXPIRE PEXPIREAT PFADD PFMERGE PSETEX PUBLISH RENAME
    RENAMENX RESTORE RPOP RPOPLPUSH RPUSH RPUSHX SADD SDIFFSTORE SELECT SET SETBIT SETEX SETNX SETRANGE
    SINTERSTORE SMOVE SPOP SREM SUNIONSTORE ZADD ZINCRBY ZINTERSTORE ZREM ZREMRANGEBYLEX ZUNIONSTORE
    ZREMRANGEBYRANK ZREMRANGEBYSCORE SORT
    """.split()  # noqa: SIM905 - a list of seventy quoted words reads worse
)
"""What every version has: the list of R62 (FLUSHALL and FLUSHDB apart) and SORT … STORE."""
WHERE_KNOWN = frozenset(
    """
    UNLINK ZPOPMIN ZPOPMAX XADD XGROUP XREADGROUP XACK XCLAIM XDEL XTRIM XAUTOCLAIM COPY LMOVE GETEX
    GETDEL ZRANGESTORE LMPOP ZMPOP FCALL HEXPIRE HPEXPIRE HPEXPIREAT HPERSIST HSETEX HGETEX HGETDEL
    SPUBLISH BITFIELD MSETEX DELEX DELIFEQ XDELEX XACKDEL
    """.split()  # noqa: SIM905 - a list of seventy quoted words reads worse
)


@pytest.fixture
def empty(embedded):
    """The embedded server without data."""
    client(embedded.url).flushall()
    return embedded


def test_every_command_of_the_version_is_used_and_none_is_refused(every_server):
    connection = client(every_server.url)
    connection.flushall()
    fill(every_server.url, keys=8000, big_value_bytes=0, large_elements=0)
    known = Capabilities.of(connection).commands
    with Writer(every_server.url, seed=5) as writer:
        wait_for(lambda: writer.commands > 40_000 or not writer.running, 60)
    assert writer.messages == {}
    assert (writer.errors, writer.reconnects) == (0, 0)
    assert ALWAYS | (WHERE_KNOWN & known) <= set(writer.by_command)
    assert check_audit(every_server.url, writer.expected) == []
    assert check_invariant(every_server.url, (0, 1, 3, 9, 15)) == []
    assert all(steps > 20 for counts in writer.expected.values() for steps in counts.values())


def test_after_stop_nothing_more_is_written(empty):
    writer = Writer(empty.url).start()
    wait_for(lambda: writer.commands > 5000)
    expected = writer.stop()
    calls = client(empty.url).info("commandstats")["cmdstat_incr"]["calls"]
    time.sleep(0.3)
    assert client(empty.url).info("commandstats")["cmdstat_incr"]["calls"] == calls
    assert not writer.running
    assert writer.expected == expected
    assert check_audit(client(empty.url), expected) == []


def test_a_second_writer_goes_on_counting(empty):
    for _ in range(2):
        with Writer(empty.url, databases=(0, 3)) as writer:
            wait_for(lambda: writer.commands > 3000)
        assert check_audit(empty.url, writer.expected) == []


def test_the_rate_is_kept(empty):
    began = time.monotonic()
    with Writer(empty.url, rate=1000) as writer:
        wait_for(lambda: writer.commands >= 2000)
        took = time.monotonic() - began
    assert 1.5 < took < 6 * PATIENCE


def test_invariants_hold_while_it_writes(empty):
    steps = [client(empty.url, db) for db in (0, 1)]
    with Writer(empty.url, databases=(0, 1)) as writer:
        wait_for(lambda: all(int(one.get("invariant:left") or 0) > 10 for one in steps))
        for _ in range(200):
            assert check_invariant(empty.url, (0, 1)) == []
        assert writer.running


def test_a_torn_transaction_is_noticed(empty):
    with Writer(empty.url, databases=(0,)) as writer:
        wait_for(lambda: writer.commands > 5000)
    client(empty.url).incr("invariant:left")
    client(empty.url).decrby("invariant:account:3", 7)
    client(empty.url).rpush("invariant:list", "stray")
    problems = check_invariant(empty.url, (0,))
    assert len(problems) == 3
    assert "the accounts add up to -7 instead of 0" in problems[0]


def test_connections_that_break_leave_the_audit_exact(empty):
    connection = client(empty.url)
    with Writer(empty.url, databases=(0, 9)) as writer:
        end = time.monotonic() + 30
        # Connections that are closed between two batches are made anew in silence: only some of these count.
        while writer.reconnects < 5 and time.monotonic() < end:
            connection.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(0.01)
        assert writer.reconnects >= 5
        commands = writer.commands
        wait_for(lambda: writer.commands > commands + 1000)
    assert check_audit(empty.url, writer.expected) == []
    assert check_invariant(empty.url, (0, 9)) == []


def test_a_server_that_refuses_writes_leaves_the_audit_exact(empty):
    connection = client(empty.url)
    with Writer(empty.url, databases=(0,)) as writer:
        wait_for(lambda: writer.commands > 2000)
        connection.config_set("min-replicas-to-write", 1)
        wait_for(lambda: writer.errors > 10)
        connection.config_set("min-replicas-to-write", 0)
        commands = writer.commands
        wait_for(lambda: writer.commands > commands + 2000)
    assert any("NOREPLICAS" in message for message in writer.messages)
    assert check_audit(empty.url, writer.expected) == []


def test_expiries_of_the_sample_data_are_renewed(empty):
    fill(empty.url, keys=6000, big_value_bytes=0, large_elements=0)
    connection = client(empty.url)
    before = {key: connection.pttl(key) for key in connection.scan_iter(match="rate:*")}
    with Writer(empty.url, databases=(0,)) as writer:
        wait_for(lambda: writer.commands > 10_000)
    renewed = [key for key, left in before.items() if connection.pttl(key) > left]
    assert len(renewed) > 20
    assert all(connection.pttl(key) >= -1 for key in before)


def test_a_scratch_database_is_flushed_and_has_no_audit(empty):
    with Writer(empty.url, databases=(0, 15), flush_database=15) as writer:
        wait_for(lambda: writer.by_command["FLUSHDB"] > 3)
    assert writer.errors == 0
    assert set(writer.expected) == {0}
    assert check_audit(empty.url, writer.expected) == []


@pytest.fixture
def audited(empty):
    """A server with an audit; (its client, what it must hold)."""
    with Writer(empty.url, databases=(0,)) as writer:
        wait_for(lambda: min(writer.expected[0].values()) > 30)
    assert check_audit(empty.url, writer.expected) == []
    return client(empty.url), writer.expected


def edit(connection, name, change):
    """Read a sequence, change it, write it back."""
    if name == "audit:append":
        text = connection.get(name).decode()
        numbers = change([text[i : i + 10] for i in range(0, len(text), 10)])
        connection.set(name, "".join(numbers))
    elif name == "audit:stream":
        numbers = change([fields[b"n"] for _, fields in connection.xrange(name)])
        connection.delete(name)
        for number in numbers:
            connection.xadd(name, {"n": number})
    else:
        numbers = change(connection.lrange(name, 0, -1))
        connection.delete(name)
        connection.rpush(name, *numbers)


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n: n[:10] + n[11:], "1 lost"),
        (lambda n: n[:5] + n[4:], "1 applied twice"),
        (lambda n: [*n[:7], n[8], n[7], *n[9:]], "1 out of order"),
        (lambda n: [], "lost"),
    ],
    ids=["loss", "repetition", "reordering", "everything"],
)
def test_a_planted_fault_in_a_sequence_is_found(audited, name, change, words):
    connection, expected = audited
    if not change([1] * 20):
        connection.delete(name)
    else:
        edit(connection, name, change)
    problems = check_audit(connection, expected)
    assert len(problems) == 1
    assert problems[0].startswith(f"db 0 {name}: ")
    assert words in problems[0]


@pytest.mark.parametrize(
    "fault",
    [("INCR", "audit:incr"), ("INCRBYFLOAT", "audit:float", "-0.5"), ("HINCRBY", "audit:hash", "total", 1), ("DEL", "audit:zset"),
     ("SET", "audit:incr", "text"), ("DEL", "audit:list", "audit:append"), ("RPUSH", "audit:list", 10**9)],
)  # fmt: skip
def test_a_planted_fault_in_a_counter_is_found(audited, fault):
    connection, expected = audited
    connection.execute_command(*fault)
    assert check_audit(connection, expected)


def test_a_key_of_another_type_is_a_problem_and_not_a_traceback(audited):
    connection, expected = audited
    connection.delete("audit:list")
    connection.set("audit:list", "x")
    assert "cannot be read: WRONGTYPE" in check_audit(connection, expected)[0]


@pytest.mark.parametrize(
    ("numbers", "problems"),
    [
        ([1, 2, 3], []),
        ([1, 3], ["1 lost: 2"]),
        ([1, 2, 2, 3], ["1 applied twice: 2"]),
        ([2, 1, 3], ["1 out of order: 1"]),
        ([1, 2, 3, 4], ["1 that are not among the 3 acknowledged: 4"]),
        ([], ["3 lost: 1, 2, 3"]),
    ],
)
def test_sequences(numbers, problems):
    assert sequence_problems(numbers, 3) == problems


def test_a_server_that_is_not_there_is_told_at_start():
    with pytest.raises(redis.ConnectionError):
        Writer("redis://127.0.0.1:1").start()


def test_a_server_that_goes_away_is_told_at_stop(redis_server):
    short_lived = redis_server()
    writer = Writer(short_lived.url, databases=(0,)).start()
    wait_for(lambda: writer.commands > 1000)
    short_lived.stop()
    wait_for(lambda: writer.reconnects > 1)
    with pytest.raises(WriterError, match="What was applied in database 0 is not known"):
        writer.stop()


def test_the_command_line_says_what_is_wrong_without_a_traceback(capsys):
    assert main(["redis://127.0.0.1:1", "--seconds", "1"]) == 1
    assert capsys.readouterr().err.startswith("The writer failed: ")
    with pytest.raises(SystemExit) as stopped:
        main(["ftp://example.org"])
    assert stopped.value.code == 2


def test_the_command_line_stops_at_sigterm_with_an_exact_audit(empty, tmp_path):
    expectation = tmp_path / "expected.json"
    run = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "migrations_app.demo.writer",
            empty.url,
            "--rate",
            "0",
            "--json",
            "--expect",
            str(expectation),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: int(client(empty.url).get("audit:incr") or 0) > 50)
    finally:
        os.kill(run.pid, signal.SIGTERM)
        output, _ = run.communicate(timeout=30)
    assert run.returncode == 0
    assert json.loads(output)["errors"] == 0
    assert check_audit(empty.url, json.loads(expectation.read_text())) == []
