"""What is compared and what is left out, tolerance, stopping, progress, bounds."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import (
    ConnectionLost,
    ConnectionRefused,
    EngineError,
    PermissionDenied,
    UsageError,
)
from migrations_app.engine.verify import Kind, VerifyProgress, verify
from tests.engine.conftest import Shared
from tests.engine.verify.plants import LATER
from tests.engine.verify.steps import apply, compare
from tests.support.fixtures import ServerFactory
from tests.support.proxy import FaultProxy
from tests.support.servers import Server


def test_two_empty_servers(pair: tuple[Server, Server]) -> None:
    report = compare(*pair)
    assert (report.keys, report.differences, report.items, report.databases) == (0, 0, (), {})
    assert report.equal


def test_the_products_own_keys_are_left_out(pair: tuple[Server, Server]) -> None:
    source, target = pair
    apply(
        source, [("SET", "switchyard:heartbeat", "1"), ("SET", "a", "1"), ("SET", "switchyard", "a user's")]
    )
    apply(
        target,
        [("HSET", "switchyard:checkpoint:x", "f", "1"), ("SET", "a", "1"), ("SET", "switchyard", "a user's")],
    )
    report = compare(source, target)
    assert report.equal
    assert report.keys == 2


def test_databases(pair: tuple[Server, Server]) -> None:
    source, target = pair
    apply(source, [("SET", "a", "1")], db=0)
    apply(target, [("SET", "a", "1")], db=0)
    apply(source, [("SET", "a", "1")], db=3)
    apply(target, [("SET", "b", "1")], db=7)

    report = compare(source, target)
    assert report.databases == {0: 1, 3: 1, 7: 1}
    assert [(item.database, item.key, item.kind) for item in report.items] == [
        (3, b"a", Kind.MISSING),
        (7, b"b", Kind.EXTRA),
    ]
    assert compare(source, target, databases=frozenset({0, 5})).databases == {0: 1}
    assert compare(source, target, databases=frozenset({7})).by_kind == {Kind.EXTRA: 1}


def test_a_database_that_the_target_does_not_have(shared: Shared, redis_server: ServerFactory) -> None:
    source, target = shared("redis-7.0", "source"), redis_server("redis-7.0", config={"databases": 2})
    apply(source, [("SET", "a", "1")], db=5)
    with pytest.raises(EngineError, match="SELECT 5"):
        compare(source, target)


def test_any_bytes_in_keys(pair: tuple[Server, Server]) -> None:
    source, target = pair
    keys = [b"", b"\r\n", b"\x00\xff", "ключ".encode(), b"x" * 5000, b"a b*?[c"]
    apply(source, [("SET", key, key) for key in keys])
    apply(target, [("SET", key, key) for key in keys[1:]])
    report = compare(source, target)
    assert report.keys == len(keys)
    assert [item.key for item in report.items] == [b""]


@pytest.mark.parametrize(
    ("apart", "kinds"), [(2000, []), (2001, [Kind.TTL]), (-2000, []), (-2001, [Kind.TTL])]
)
def test_tolerance_of_absolute_expiries(pair: tuple[Server, Server], apart: int, kinds: list[Kind]) -> None:
    source, target = pair
    apply(source, [("SET", "a", "1"), ("PEXPIREAT", "a", LATER)])
    apply(target, [("SET", "a", "1"), ("PEXPIREAT", "a", LATER + apart)])
    assert [item.kind for item in compare(source, target).items] == kinds


def test_tolerance_is_chosen(pair: tuple[Server, Server]) -> None:
    source, target = pair
    apply(source, [("SET", "a", "1"), ("PEXPIREAT", "a", LATER)])
    apply(target, [("SET", "a", "1"), ("PEXPIREAT", "a", LATER + 1)])
    assert compare(source, target, ttl_tolerance_ms=1).equal
    assert compare(source, target, ttl_tolerance_ms=0).by_kind == {Kind.TTL: 1}


def test_a_key_that_is_about_to_expire_may_be_on_one_side_only(pair: tuple[Server, Server]) -> None:
    source, target = pair
    # Within the tolerance, or gone when it is read: in both cases no difference.
    apply(source, [("SET", f"s{n}", "1", "PX", 1900) for n in range(50)])
    apply(target, [("SET", f"t{n}", "1", "PX", 1900) for n in range(50)])
    assert compare(source, target).items == ()
    apply(source, [("SET", "long", "1", "PX", 60_000)])
    assert compare(source, target).by_kind == {Kind.MISSING: 1}


def test_keys_that_expire_while_they_are_compared(pair: tuple[Server, Server]) -> None:
    source, target = pair
    end = int(time.time() * 1000) + 150
    for server in pair:
        apply(
            server,
            [
                command
                for n in range(300)
                for command in (("SADD", f"k{n}", n), ("PEXPIREAT", f"k{n}", end + n))
            ],
        )
    while True:
        report = compare(source, target, batch_keys=7)
        assert report.items == ()
        if not report.keys:
            return


def test_a_difference_that_is_gone_at_the_second_look(
    pair: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    from migrations_app.engine.verify.keys import KeyComparer

    source, target = pair
    apply(source, [("SET", "a", "1"), ("SET", "b", "1")])
    apply(target, [("SET", "a", "2"), ("SET", "b", "2")])
    real = KeyComparer.findings
    calls: list[list[bytes]] = []

    def findings(self: KeyComparer, keys: list[bytes]) -> list[object]:
        found = real(self, keys)
        if not calls:
            apply(target, [("SET", "a", "1")])
        calls.append(keys)
        return found  # type: ignore[return-value]

    monkeypatch.setattr(KeyComparer, "findings", findings)
    report = compare(source, target)
    assert [item.key for item in report.items] == [b"b"]
    assert sorted(calls[1]) == [b"a", b"b"]


def test_one_key_may_differ_in_value_and_expiry(pair: tuple[Server, Server]) -> None:
    source, target = pair
    apply(source, [("SET", "a", "1")])
    apply(target, [("SET", "a", "2"), ("PEXPIREAT", "a", LATER)])
    report = compare(source, target)
    assert report.by_kind == {Kind.TTL: 1, Kind.VALUE: 1}
    assert report.keys == 1


def test_more_differences_than_are_reported(pair: tuple[Server, Server]) -> None:
    source, target = pair
    apply(source, [("SET", n, "1") for n in range(1500)])
    apply(target, [("SET", n + 1000, "1") for n in range(1500)])
    report = compare(source, target, max_reported=10)
    assert len(report.items) == 10
    assert report.by_kind == {Kind.MISSING: 1000, Kind.EXTRA: 1000}
    assert (report.differences, report.keys) == (2000, 2500)
    assert compare(source, target, max_reported=0).items == ()


@pytest.mark.parametrize("side", [0, 1])
def test_a_type_without_a_reader_is_never_taken_as_equal(shared: Shared, side: int) -> None:
    servers = shared("redis-8.0", "source"), shared("redis-8.0", "target")
    apply(servers[0], [("VADD", "v", "VALUES", 3, 1, 2, 3, "a")])
    with servers[0].client() as source, servers[1].client() as target:
        target.restore("v", 0, source.dump("v"))
    assert compare(*servers).equal  # the payloads are the same
    apply(servers[side], [("VADD", "v", "VALUES", 3, 3, 2, 1, "b")])
    report = compare(*servers)
    assert report.by_kind == {Kind.UNCOMPARABLE: 1}
    assert "vectorset" in report.items[0].detail
    assert not report.equal


def test_without_commands_that_the_user_may_not_run(redis_server: ServerFactory, shared: Shared) -> None:
    """MEMORY, DUMP and the newer lookups make it quick; it does without them."""
    rights = "on >secret ~* &* +@read +@connection +info +select -dump -memory|usage -memory -smismember -zmscore -pexpiretime"
    limited = redis_server(
        "redis-7.0",
        username="eve",
        password="secret",
        config={"user": f"eve {rights}".split()[0:1] and ("eve", *rights.split())},
    )
    other = shared("redis-7.0", "target")
    commands = [
        ("SADD", "set", *range(2000)),
        ("ZADD", "zset", *range(2000)),
        ("HSET", "hash", *range(2000)),
        ("RPUSH", "list", *range(2000)),
        ("SETRANGE", "string", 100_000, "x"),
        ("SET", "small", "1"),
        ("XADD", "stream", "1-1", "f", "v"),
    ]
    with limited.client(username=None, password=None) as client:
        for command in commands:
            client.execute_command(*command)
    apply(other, commands)
    report = compare(limited, other)
    assert report.items == ()
    assert report.keys == 7
    apply(other, [("SREM", "set", 77), ("ZADD", "zset", "5.5", 77), ("SETRANGE", "string", 99_999, "y")])
    assert sorted(item.key for item in compare(limited, other).items) == [b"set", b"string", b"zset"]


def test_a_user_who_may_not_read(redis_server: ServerFactory, shared: Shared) -> None:
    server = redis_server(
        "redis-7.0",
        username="eve",
        password="secret",
        config={"user": ("eve", "on", ">secret", "~*", "+ping", "+info", "+select", "+scan", "+dbsize")},
    )
    other = shared("redis-7.0", "target")
    apply(other, [("SET", "a", "1")])
    with pytest.raises(PermissionDenied) as caught:
        compare(server, other)
    assert "secret" not in str(caught.value)


# --- stopping, progress, network ------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 5, 20])
def test_stop(pair: tuple[Server, Server], after: int) -> None:
    source, target = pair
    for server in pair:
        apply(server, [("SET", n, "1") for n in range(1000)])
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > after

    report = compare(source, target, batch_keys=10, should_stop=should_stop)
    assert not report.complete
    assert not report.equal
    assert asked == after + 1
    assert report.keys < 1000


def test_stop_within_a_big_value(pair: tuple[Server, Server]) -> None:
    for server in pair:
        apply(server, [("SETRANGE", "a", 20_000_000, "x")])
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 8  # of some twenty chunks

    assert not compare(*pair, should_stop=should_stop).complete
    assert asked == 9


def test_progress(pair: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch) -> None:
    from migrations_app.engine.verify import compare as module

    monkeypatch.setattr(module, "_PROGRESS_SECONDS", 0)
    for server in pair:
        apply(server, [("SET", n, "1") for n in range(200)])
    seen: list[VerifyProgress] = []
    compare(*pair, batch_keys=20, on_progress=seen.append)
    done = [progress.keys_done for progress in seen]
    assert done == sorted(done)
    assert {progress.keys_total for progress in seen[1:]} == {200}
    assert (seen[-1].keys_done, seen[-1].differences) == (200, 0)


@pytest.mark.parametrize(
    "options", [{"ttl_tolerance_ms": -1}, {"max_reported": -1}, {"batch_keys": 0}, {"timeout": 0}], ids=str
)
def test_arguments_out_of_range(options: dict[str, int]) -> None:
    nowhere = Endpoint(host="127.0.0.1", port=1)
    with pytest.raises(UsageError):
        verify(nowhere, nowhere, **options)


def test_a_server_that_is_not_there(pair: tuple[Server, Server], free_port: Callable[[], int]) -> None:
    here, nowhere = Endpoint.parse(pair[0].url), Endpoint(host="127.0.0.1", port=free_port())
    for sides in ((here, nowhere), (nowhere, here)):
        with pytest.raises(ConnectionRefused):
            verify(*sides)


def test_a_connection_that_is_cut(
    pair: tuple[Server, Server], fault_proxy: Callable[[Server], FaultProxy]
) -> None:
    source, target = pair
    for server in pair:
        apply(server, [("SET", n, "1") for n in range(1000)])
    proxy = fault_proxy(target)
    rounds = 0

    def cut_later() -> bool:
        nonlocal rounds
        rounds += 1
        if rounds == 10:
            proxy.cut()
        return False

    with pytest.raises(ConnectionLost):
        verify(
            Endpoint.parse(source.url),
            Endpoint.parse(target.url_to(*proxy.address)),
            batch_keys=10,
            should_stop=cut_later,
        )
