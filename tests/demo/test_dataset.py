"""The sample data: every encoding really there, the same for the same seed, quick, and polite to the server it is given."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from migrations_app.demo.clients import Capabilities, DemoError, factory_for
from migrations_app.demo.corner_times import FAR_MS
from migrations_app.demo.dataset import DATABASES, fill, main
from migrations_app.demo.encodings import encodings, expected_encodings

from .values import client, differences, values

SMALL = {"keys": 8000, "big_value_bytes": 2 * 2**20, "large_elements": 5000}


@pytest.fixture(scope="module")
def filled(every_server):
    """Each server version with a small fill; (server, summary)."""
    return every_server, fill(every_server.url, **SMALL, flush=True)


def test_every_encoding_of_the_version_is_there_in_each_database(filled):
    server, _ = filled
    expected = expected_encodings(Capabilities.of(client(server.url)))
    for db in DATABASES:
        found = encodings(client(server.url, db))
        assert {kind: frozenset(counts) for kind, counts in found.items()} == expected, f"db {db}: {found}"


def test_the_number_of_keys_is_what_was_asked_for(filled):
    server, summary = filled
    assert summary.total_keys == sum(client(server.url, db).dbsize() for db in DATABASES) == SMALL["keys"]
    assert all(summary.expires[db] > 20 for db in DATABASES)


def test_nothing_expires_soon_and_nothing_is_named_like_the_products_own_keys(filled):
    server, summary = filled
    longest = 90_000 - (summary.seconds + 60) * 1000
    for db in DATABASES:
        connection = client(server.url, db)
        names = list(connection.scan_iter(count=1000))
        assert not [name for name in names if name.startswith(b"switchyard:")]
        pipe = connection.pipeline(transaction=False)
        for name in names:
            pipe.pttl(name)
        assert not [name for name, left in zip(names, pipe.execute(), strict=True) if -1 < left < longest]


def test_expiries_are_far_and_exact_to_the_millisecond(filled):
    server, _ = filled
    connection = client(server.url)
    for number, when in enumerate(FAR_MS):
        before = time.time() * 1000
        left = connection.pttl(f"corner:ttl:far:{number}")
        assert before - 2000 < when - left < time.time() * 1000 + 2000
    assert connection.pttl("corner:ttl:taken-off") == -1


def test_integers_and_bytes_arrive_as_they_are(filled):
    server, _ = filled
    connection = client(server.url)
    assert connection.get("corner:string:int:-9223372036854775808") == b"-9223372036854775808"
    assert connection.object("encoding", "corner:string:int:9223372036854775807") == b"int"
    assert connection.get(b"corner:name:byte:\n") == b"\n" * 0
    assert connection.get(b"corner:name:byte:\xff") == b""
    assert connection.get(b"corner:name:byte:\xfe") == b"\xfe" * 4
    assert connection.exists("")
    assert connection.zscore("corner:zset:scores", "score 30") == float("inf")
    assert connection.zscore("corner:zset:scores:large", "score 31") == float("-inf")


def test_streams_have_groups_with_consumers_and_pending_entries_that_were_deleted(filled):
    server, _ = filled
    capabilities = Capabilities.of(client(server.url))
    connection = client(server.url)
    if not capabilities.has("XADD"):
        assert connection.type("corner:stream:groups") == b"none", "before 5.0 there are no streams"
        return
    groups = {group["name"]: group for group in connection.xinfo_groups("corner:stream:groups")}
    assert len(groups) == 5
    assert groups[b"busy"]["pending"] > 30
    consumers = {
        consumer["name"]: consumer["pending"]
        for consumer in connection.xinfo_consumers("corner:stream:groups", "busy")
    }
    assert consumers[b"noack"] == 0
    assert {b"mara", b"joon", b"retry", b"bin\x00\r\nary"} < set(consumers)
    delivered = connection.xpending_range("corner:stream:groups", "busy", "-", "+", 100)
    assert {entry["times_delivered"] for entry in delivered} >= {1, 3, 7}
    pending = {entry["message_id"] for entry in delivered}
    there = {entry for entry, _ in connection.xrange("corner:stream:groups")}
    assert pending - there, "some pending entries are no longer in the stream"
    assert connection.xlen("corner:stream:emptied") == 0
    assert connection.xlen("corner:stream:trimmed") == 37


def test_what_newer_servers_have_is_used(filled):
    server, summary = filled
    connection = client(server.url)
    capabilities = Capabilities.of(connection)
    if capabilities.has("FUNCTION"):
        names = {
            dict(zip(library[::2], library[1::2], strict=True))[b"library_name"]
            for library in connection.function_list()
        }
        assert names == {b"depot", b"yard"}
    if capabilities.has("HPEXPIREAT"):
        times = connection.execute_command(
            "HPEXPIRETIME", "corner:field-ttl:both", "FIELDS", 2, "goes", "stays"
        )
        assert times == [FAR_MS[1], -1]
    assert not [reason for reason in summary.skipped if "DEBUG" not in reason]


def test_lists_have_compressed_and_plain_nodes(filled):
    server, summary = filled
    if any("DEBUG" in reason for reason in summary.skipped):
        pytest.skip("the server does not allow DEBUG")
    connection = client(server.url)
    assert connection.config_get("list-compress-depth") == {"list-compress-depth": "0"}, (
        "the setting is put back"
    )
    description = connection.debug_object("corner:list:compressed")
    assert description["ql_compressed"] == "1"
    assert int(description["ql_nodes"]) > 3


def test_large_keys_have_their_sizes(filled):
    server, _ = filled
    connection = client(server.url)
    assert connection.strlen("archive:2026:orders.tar") == SMALL["big_value_bytes"]
    sizes = (
        connection.hlen("archive:prices"),
        connection.llen("archive:journal"),
        connection.scard("archive:customers"),
        connection.zcard("archive:ranking"),
    )
    assert sizes == (5000,) * 4


def test_the_same_seed_makes_the_same_data(embedded):
    fills = []
    now = int(time.time() * 1000)
    began = time.monotonic()
    for seed in (1, 1, 2):
        fill(
            embedded.url, keys=6000, seed=seed, big_value_bytes=0, large_elements=100, now_ms=now, flush=True
        )
        fills.append([values(embedded.url, db) for db in (0, 15)])
    # Some expiries are given as what is left of them: they differ by the time between the two fills.
    took = time.monotonic() - began + 1  # the server's clock is read by the second
    for first, second, third in zip(*fills, strict=True):
        assert differences(first, second, seconds=took) == []
        assert len(differences(first, third, seconds=took)) > 100


def test_databases_hold_different_values_under_the_same_names(embedded):
    fill(embedded.url, keys=0, big_value_bytes=0, large_elements=0, flush=True)
    first, second = values(embedded.url, 0), values(embedded.url, 1)
    common = set(first) & set(second)
    assert len(common) > 500
    assert first[b"corner:database"] != second[b"corner:database"]
    assert len([key for key in differences(first, second) if key in common]) > 80


@pytest.mark.parametrize("version", ["redis-5.0", "valkey-9"])
def test_a_full_fill_is_quick_and_takes_little_memory(redis_server, version):
    server = redis_server(version)
    # VmHWM: getrusage's figure begins with what the parent had before exec.
    program = (
        "import sys, time; from migrations_app.demo.dataset import main; code = main(sys.argv[1:]);"
        "print(time.process_time());"
        "print([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0].split()[1]); sys.exit(code)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, server.url, "--flush"],
        capture_output=True,
        text=True,
        timeout=220,
        check=True,
    )
    # Of the processor, as others may be using it too: by the fill, and by the server for it.
    used = server.info("cpu")
    assert float(run.stdout.splitlines()[-2]) + used["used_cpu_user"] + used["used_cpu_sys"] < 30
    assert "220000 keys on" in run.stdout
    assert int(run.stdout.splitlines()[-1]) < 64 * 1024, "kilobytes, with a value of 64 MB among the data"
    assert client(server.url).strlen("archive:2026:orders.tar") == 64 * 2**20


def test_a_server_that_is_not_empty_is_left_alone(embedded):
    client(embedded.url).flushall()
    client(embedded.url, 3).set("theirs", "value")
    with pytest.raises(DemoError, match="Database 3 already holds 1 keys"):
        fill(embedded.url, keys=10)
    assert client(embedded.url, 0).dbsize() == 0
    assert client(embedded.url, 3).get("theirs") == b"value"


def test_a_client_or_a_factory_serves_as_well_as_a_url(embedded):
    decoding = client(embedded.url)
    decoding.connection_pool.connection_kwargs["decode_responses"] = True
    assert factory_for(decoding)(3).set("x", b"\xff")
    assert factory_for(embedded.url + "/7?socket_timeout=3")(9).connection_pool.connection_kwargs["db"] == 9
    assert (
        fill(
            lambda db: client(embedded.url, db), keys=0, flush=True, big_value_bytes=0, large_elements=0
        ).total_keys
        > 1000
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["redis://127.0.0.1:1"], 1, "refused"),
        (["redis://no-such-host.invalid"], 1, "The fill failed"),
    ],
)
def test_the_command_line_says_what_is_wrong_without_a_traceback(arguments, code, words, capsys):
    assert main(arguments) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["http://example.org"], ["redis://127.0.0.1", "--keys", "-1"], []])
def test_the_command_line_refuses_bad_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
