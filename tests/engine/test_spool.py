"""The spool: bytes come out as they went in, disk space is given back, and a full disk or limit holds the source back."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from migrations_app.engine.config import LinkConfig
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import SpoolError, UsageError
from migrations_app.engine.ports import Phase
from migrations_app.engine.spool import BLOCK, Spool
from tests.support.proxy import FaultProxy, Way
from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import ROOT, EngineProcess, RunningLink, assert_equal, offset_of

MakeProxy = Callable[..., FaultProxy]
MB = 1 << 20


def used(folder: Path) -> int:
    """Bytes of the files without a name in a folder, as this process holds them."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith(f"{folder}/") and target.endswith("(deleted)"):
                total += os.fstat(int(name)).st_blocks * 512
        except OSError:
            continue  # closed meanwhile
    return total


# --- the spool itself -----------------------------------------------------------------------------------------------


def test_bytes_come_out_as_they_went_in(tmp_path: Path) -> None:
    """However they are cut; nothing with a name is ever in the folder, and nothing at all at the end."""
    choose = random.Random(5)
    spool = Spool(str(tmp_path), 4 * MB)
    put, taken = bytearray(), bytearray()
    for _ in range(400):
        while not spool.full and choose.random() < 0.6:
            data = choose.randbytes(choose.choice([1, 100, 70_000, BLOCK]))
            spool.put(data)
            put += data
        while spool.size and choose.random() < 0.6:
            taken += spool.take(choose.choice([1, 1000, 64 * 1024, BLOCK]))
        assert spool.size == len(put) - len(taken)
        assert used(tmp_path) <= 4 * MB
    assert os.listdir(tmp_path) == []
    while data := spool.take(BLOCK):
        taken += data
    assert len(put) > 8 * MB, "more than its limit went through"
    assert taken == put
    assert used(tmp_path) == 0
    assert not spool.full


def test_nothing_is_made_before_the_first_byte(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "missing"), 4 * MB)
    assert not spool.full
    assert spool.take(100) == b""


def test_no_limit_means_no_spool(tmp_path: Path) -> None:
    assert Spool(str(tmp_path), 0).full


def test_what_is_left_is_thrown_away(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), 4 * MB)
    spool.put(b"x" * BLOCK)
    assert used(tmp_path) > 0
    spool.close()
    assert used(tmp_path) == 0
    spool.put(b"next")
    assert spool.take(BLOCK) == b"next"


def test_a_folder_that_cannot_be_written_makes_it_full_and_loses_nothing(tmp_path: Path) -> None:
    """The block that was read already is kept in memory, in its place."""
    folder = tmp_path / "gone"
    spool = Spool(str(folder), 4 * MB)
    spool.put(b"first ")
    assert spool.full
    assert "No such file" in spool.why
    folder.mkdir()
    wait_for(lambda: not spool.full, 5)
    spool.put(b"second")
    assert spool.take(3) + spool.take(100) + spool.take(100) == b"first second"


def test_a_file_that_loses_its_bytes_is_an_error(tmp_path: Path) -> None:
    with closing(Spool(str(tmp_path), 4 * MB)) as spool:
        spool.put(b"x" * 1000)
        os.ftruncate(spool._segments[0].file.fileno(), 0)
        with pytest.raises(SpoolError, match="lost"):
            spool.take(1000)


FILL = f"""
import resource, sys
from migrations_app.engine.spool import BLOCK, Spool
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
spool = Spool(sys.argv[1], {64 * MB})
count = 0
while not spool.full:
    spool.put(count.to_bytes(4, "big") * (BLOCK // 4))
    count += 1
print(spool.why, file=sys.stderr)
assert spool.size == count * BLOCK
taken = b"".join(iter(lambda: spool.take(BLOCK), b""))
assert taken == b"".join(number.to_bytes(4, "big") * (BLOCK // 4) for number in range(count))
assert not spool.full
print(count)
"""


def filled(*command: str) -> tuple[int, str]:
    """Fill a spool in a process of its own until it is full, and take everything out again → (blocks, why it was full)."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return int(done.stdout), done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a file system of its own")
@pytest.mark.parametrize("share", [0.4, 0.0], ids=["the share of others is left", "to the last byte"])
def test_a_disk_that_is_full(tmp_path: Path, share: float) -> None:
    """A file system of 3 MB. Without the margin for others its own answer (no space left) says so."""
    mount = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@"',
    ]
    folder = str(tmp_path)
    if (
        not shutil.which("unshare")
        or subprocess.run([*mount, folder, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no mount without rights here")
    begin = f"from migrations_app.engine import spool as s; s._KEEP_FREE_SHARE = {share}\n"
    count, why = filled(*mount, folder, sys.executable, "-c", begin + FILL, folder, "disk")
    assert 8 <= count <= 13
    assert ("left to others" if share else "No space left") in why


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    count, why = filled(sys.executable, "-c", FILL, str(tmp_path), "limit")
    assert count == 4, "the block that did not go whole is the last"
    assert "large" in why.lower()


@pytest.mark.parametrize("limit", [1, MB, -1])
def test_a_limit_that_is_too_small_is_refused(limit: int) -> None:
    with pytest.raises(UsageError, match="spool"):
        LinkConfig(name="a", source=Endpoint(host="a"), target=Endpoint(host="b"), spool_limit=limit)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder of the spool"):
        LinkConfig(
            name="a",
            source=Endpoint(host="a"),
            target=Endpoint(host="b"),
            spool_folder=str(tmp_path / "missing"),
        )


# --- links with a target that does not keep up ------------------------------------------------------------------------


class Gate:
    """A hook that lets `rate` bytes per second through to the target, until it is opened."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.opened = threading.Event()

    def __call__(self, way: Way, data: bytes) -> bytes:
        if way is Way.UP:
            self.opened.wait(len(data) / self._rate)
        return data


@contextmanager
def slow_target(
    make: Callable[..., Server], fault_proxy: MakeProxy, version: str, **options: object
) -> Iterator[tuple[Server, Server, Gate, RunningLink]]:
    """A link in the full phase whose target takes 2 MB/s; a source with 48 MB and little room for what a replica has not read."""
    source = make(
        version,
        config={
            "repl-diskless-sync": "yes",
            "repl-diskless-sync-delay": 0,
            "rdbcompression": "no",
            "repl-backlog-size": "1mb",
            "client-output-buffer-limit": ("replica", "16mb", "16mb", 60),
        },
    )
    target = make(version)
    source.client().execute_command("DEBUG", "POPULATE", 48, "key", MB)
    proxy = fault_proxy(target)
    proxy.hook = gate = Gate(2 * MB)
    with RunningLink(source, proxy, **options) as link:
        link.wait_until(Phase.FULL)
        yield source, target, gate, link


def write_more(source: Server, megabytes: int = 24) -> None:
    with source.client() as client:
        for number in range(megabytes):
            client.set(f"more:{number}", os.urandom(MB))


VERSIONS = ["redis-5.0", "redis-7.0", "valkey-9.1"]


@pytest.mark.parametrize("version", VERSIONS)
def test_without_a_spool_the_source_cuts_a_slow_link(
    redis_server: Callable[..., Server], fault_proxy: MakeProxy, version: str
) -> None:
    with slow_target(redis_server, fault_proxy, version, spool_limit=0) as (source, _, gate, link):
        write_more(source, 40)
        gate.opened.set()  # the link finds the end behind what it had received
        wait_for(lambda: link.progress.reconnects > 0, 30, link.told)
        assert "for overcoming of output buffer limits" in source.log.read_text()
        assert link.progress.spool_bytes == 0
        (told,) = [text for _, event, text in link.ports.lines if event == "source.output_buffer"][:1]
        assert "16777216 bytes" in told
        assert "CONFIG SET client-output-buffer-limit" in told


@pytest.mark.parametrize("version", VERSIONS)
def test_with_a_spool_it_does_not(
    redis_server: Callable[..., Server], fault_proxy: MakeProxy, tmp_path: Path, version: str
) -> None:
    with slow_target(redis_server, fault_proxy, version, spool_folder=str(tmp_path)) as (
        source,
        target,
        gate,
        link,
    ):
        wait_for(lambda: link.progress.spool_bytes > 20 * MB, 30, link.told)
        write_more(source)
        # Everything is with the link before the target has got the half of it.
        wait_for(lambda: link.progress.bytes_in > 70 * MB, 30, link.told)
        assert link.progress.phase is Phase.FULL
        assert used(tmp_path) > 20 * MB
        assert os.listdir(tmp_path) == []
        gate.opened.set()
        link.settle(source, target)
        assert link.progress.reconnects == 0
        assert link.progress.full_syncs == 1
        wait_for(lambda: link.progress.spool_bytes == 0, 10, link.told)
        assert used(tmp_path) == 0
        assert link.ports.events.count("spool.used") == 1
        assert "spool.full" not in link.ports.events
    assert_equal(source, target)


def test_a_full_spool_holds_the_source_back_and_says_so(
    redis_server: Callable[..., Server], fault_proxy: MakeProxy, tmp_path: Path
) -> None:
    options = {"spool_folder": str(tmp_path), "spool_limit": 8 * MB}
    with slow_target(redis_server, fault_proxy, "redis-7.0", **options) as (source, target, gate, link):
        wait_for(lambda: link.progress.spool_full, 30, link.told)
        assert link.progress.spool_limit == 8 * MB
        assert 6 * MB < link.progress.spool_bytes <= 8 * MB
        assert used(tmp_path) <= 8 * MB
        gate.opened.set()
        link.settle(source, target)
        wait_for(lambda: "spool.empty" in link.ports.events, 10, link.told)
        assert not link.progress.spool_full
        events = [event for event in link.ports.events if event.startswith("spool.")]
        assert events == ["spool.used", "spool.full", "spool.empty"]
    assert_equal(source, target)


def test_a_link_that_stops_with_a_spool_goes_on_where_the_target_stands(
    pair: tuple[Server, Server], fault_proxy: MakeProxy, tmp_path: Path
) -> None:
    """What is in the spool is thrown away and read once more: no loss, nothing twice, no second full synchronization."""
    source, target = pair
    proxy = fault_proxy(target)
    options = {"spool_folder": str(tmp_path)}
    with RunningLink(source, proxy, **options) as link, source.client() as client:
        link.wait_caught_up()
        proxy.hook = gate = Gate(MB)
        for number in range(24):
            client.set(f"key:{number}", os.urandom(MB))
            client.incr("counter")
        wait_for(lambda: link.progress.spool_bytes > 10 * MB, 30, link.told)
        link.ports.stop.set()
        link.wait_until(Phase.STOPPING)
        gate.opened.set()
        progress = link.result().progress
        assert (progress.applied_offset or 0) < offset_of(source) - 5 * MB
    assert used(tmp_path) == 0
    with RunningLink(source, target, **options) as link:
        link.settle(source, target)
        assert link.progress.full_syncs == 0
    assert_equal(source, target)
    assert target.client().get("counter") == b"24"


def test_a_source_that_is_lost_has_not_sent_in_vain(
    redis_server: Callable[..., Server], fault_proxy: MakeProxy, tmp_path: Path
) -> None:
    """The whole snapshot is in the spool when the connection ends: the link writes it and goes on by partial synchronization."""
    source = redis_server(
        "redis-7.0", config={"repl-diskless-sync": "no", "repl-backlog-size": "64mb", "rdbcompression": "no"}
    )
    target = redis_server("redis-7.0")
    source.client().execute_command("DEBUG", "POPULATE", 24, "key", MB)
    before, behind = fault_proxy(source), fault_proxy(target)
    behind.hook = gate = Gate(2 * MB)
    with RunningLink(before, behind, spool_folder=str(tmp_path)) as link:
        link.wait_until(Phase.FULL)
        write_more(source, 4)
        wait_for(lambda: link.progress.bytes_in > 28 * MB, 30, link.told)
        assert link.progress.phase is Phase.FULL
        before.cut()
        source.client().set("last", "word")
        wait_for(lambda: any("written first" in text for _, _, text in link.ports.lines), 20, link.told)
        gate.opened.set()
        link.settle(source, target)
        assert link.progress.full_syncs == 1
        assert link.progress.partial_syncs == 1
    assert_equal(source, target)


def test_the_disk_is_full_while_a_link_runs(
    redis_server: Callable[..., Server], fault_proxy: MakeProxy, tmp_path: Path
) -> None:
    """A process whose files may not be larger than 3 MB: the source is held back, and in the end both sides are equal."""
    source = redis_server("redis-7.0", config={"repl-diskless-sync-delay": 0, "rdbcompression": "no"})
    target = redis_server("redis-7.0")
    source.client().execute_command("DEBUG", "POPULATE", 32, "key", MB)
    proxy = fault_proxy(target)
    proxy.hook = gate = Gate(2 * MB)
    with EngineProcess(
        tmp_path,
        "run",
        source.url,
        target.url_to(proxy.host, proxy.port),
        "--stop-when-caught-up",
        "--spool-dir",
        tmp_path,
    ) as engine:
        resource.prlimit(engine.pid, resource.RLIMIT_FSIZE, (3 * MB, 3 * MB))
        engine.wait_for_words("[spool.full]")
        assert "File too large" in engine.said()
        gate.opened.set()
        assert engine.wait(60) == 0, engine.said()
        assert "[spool.empty]" in engine.said()
    assert_equal(source, target)
