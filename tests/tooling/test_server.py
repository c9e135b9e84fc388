"""The class that starts real servers, on the embedded Valkey and on one server with TLS."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from pathlib import Path

import pytest
import redis

from tests.support import catalogue
from tests.support.certs import Authority
from tests.support.fixtures import ServerFactory, left_over
from tests.support.postgres import Postgres
from tests.support.process import Process, children_of
from tests.support.servers import Server
from tests.support.wait import wait_for


@pytest.mark.parametrize(
    "version", ["redis-5", "redis-6.2", "redis-7.0", "redis-8.0", "valkey-8.0", "valkey-9"]
)
def test_starts_what_was_asked_for(redis_server: ServerFactory, version: str) -> None:
    server = redis_server(version)
    with server.client() as client:
        info = client.info("server")
        said = info.get("valkey_version", info["redis_version"])
        assert f"{server.product}-{said}" == server.name
        assert info["process_id"] == server.pid, "the wrapper has become the server"


def test_kill_and_restart_on_the_same_port(redis_server: ServerFactory) -> None:
    server = redis_server("valkey-9")
    pid = server.pid
    with server.client() as client:
        client.set("a", 1)
        client.save()
        client.set("a", 2)
    server.kill()
    assert not server.running
    server.restart()
    assert server.pid != pid
    with server.client() as client:
        assert client.get("a") == b"1"


def test_stop_is_a_clean_end(redis_server: ServerFactory) -> None:
    assert redis_server("valkey-9").stop() == 0


def test_pause_and_resume(redis_server: ServerFactory) -> None:
    """The connection stays open, and the answer comes as soon as the server goes on."""
    server = redis_server("valkey-9")
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(7) == b"+PONG\r\n"
        server.pause()
        connection.sendall(b"PING\r\n")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(7)
        server.resume()
        connection.settimeout(20)
        assert connection.recv(7) == b"+PONG\r\n"


def test_password_and_user(redis_server: ServerFactory) -> None:
    server = redis_server(
        "redis-7.0", username="app", password="a b", config={"user": [("app", "on", ">a b", "~*", "+@all")]}
    )
    with server.client() as client:
        assert client.acl_whoami() == "app"
    assert server.url == f"redis://app:a%20b@127.0.0.1:{server.port}"


def test_unix_socket(redis_server: ServerFactory) -> None:
    server = redis_server("valkey-9", unix=True)
    with redis.Redis.from_url(server.unix_url, protocol=2) as client:
        assert client.ping()


def test_tls_is_verified(redis_server: ServerFactory, tmp_path: Path) -> None:
    server = redis_server("redis-7.0", tls=True)
    with server.client() as client:
        assert client.ping()
    other = Authority(tmp_path, "another authority")
    context = ssl.create_default_context(cafile=str(other.ca))
    with (
        socket.create_connection(server.address) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
        context.wrap_socket(plain, server_hostname="localhost"),
    ):
        pass


def test_a_server_that_does_not_start_shows_its_log() -> None:
    server = Server("valkey-9", config={"no-such-directive": "1"})
    with pytest.raises(AssertionError, match="no-such-directive"):
        server.start()
    server.close()
    assert not server.dir.exists()


def test_close_ends_a_paused_server_and_removes_its_folder() -> None:
    server = Server("valkey-9").start()
    pid = server.pid
    server.pause()
    server.close()
    assert pid not in children_of(os.getpid())
    assert not server.dir.exists()


@pytest.mark.timeout(180)
def test_postgres(postgres: Postgres) -> None:
    import psycopg

    with psycopg.connect(postgres.url) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    assert row is not None
    assert row[0].split(".")[0] == catalogue.require("postgresql").rpartition("-")[2]


def test_the_browser_draws_text(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = catalogue.program("chromium", "chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content("<span id=a style='font-family: monospace'>iiii</span><br><span id=b>iiii</span>")
        widths = [page.locator(f"#{name}").bounding_box() for name in "ab"]
        browser.close()
    assert widths[0], "the text has a box"
    assert widths[1], "the text has a box"
    assert widths[0]["width"] > widths[1]["width"] > 0, "monospace is another font"


def test_what_is_left_over_is_found(tmp_path: Path) -> None:
    process = Process(["sh", "-c", "sleep 60 & echo $!; wait"], tmp_path / "log")
    wait_for(lambda: process.tail().strip(), message="the shell has said its child's number")
    orphan = int(process.tail())
    try:
        process.end()
        # While it becomes `sleep` it has no environment for a moment.
        wait_for(lambda: orphan in left_over(), message="an orphan is found too")
    finally:
        os.kill(orphan, signal.SIGKILL)
    wait_for(lambda: orphan not in left_over(), message="it is gone")


def test_prefixes_end_at_a_boundary(tmp_path: Path) -> None:
    for name in ("redis-7.0.15", "redis-7.4.1", "redis-10.0.0", "valkey-9.1.2"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "server").touch()
    assert catalogue.available(place=tmp_path) == [
        "redis-7.0.15",
        "redis-7.4.1",
        "redis-10.0.0",
        "valkey-9.1.2",
    ]
    assert catalogue.find("redis-7", tmp_path) == "redis-7.4.1"
    assert catalogue.find("redis-7.0", tmp_path) == "redis-7.0.15"
    assert catalogue.find("redis", tmp_path) == "redis-10.0.0"
    assert catalogue.find("redis-1", tmp_path) is None


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_server_skips_here_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(catalogue, "missing", {})
    with pytest.raises(outcome, match=r"no redis-0\.1 in \.servers"):
        catalogue.require("redis-0.1")
    assert catalogue.missing == {"redis-0.1": 1}
