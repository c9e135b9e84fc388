"""`manage.py demo` and `manage.py serve` from the outside, as people start them."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from portal import keys
from tests.support.ports import free_port
from tests.support.wait import wait_for

BASE = Path(__file__).resolve().parents[2]
SETTINGS = (
    "SECRET_KEY",
    "CREDENTIAL_KEYS",
    "SECURE_SSL",
    "SWITCHYARD_DATA_DIR",
    "DATABASE_URL",
    "LOG_FORMAT",
)


@pytest.fixture
def environment(tmp_path):
    """Without any setting, as on a fresh machine; temporary files in a folder that can be looked into."""
    clean = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in SETTINGS}
    (tmp_path / "tmp").mkdir()
    return clean | {"TMPDIR": str(tmp_path / "tmp"), "HOME": str(tmp_path)}


@pytest.fixture
def start(environment, tmp_path):
    """Start a command of manage.py; its output goes to a file."""
    started = []

    def run(*arguments, **extra):
        output = tmp_path / f"output{len(started)}"
        command = [sys.executable, str(BASE / "manage.py"), *arguments]
        with output.open("w") as file:
            process = subprocess.Popen(
                command,
                env=environment | extra,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(process)
        return process, output

    yield run
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def processes_that_mention(text: Path) -> list[str]:
    """Command lines and environments of processes in which this path occurs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            lines = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if entry.name != str(os.getpid()) and str(text).encode() in lines:
            found.append(lines[:200].replace(b"\0", b" ").decode(errors="replace"))
    return found


def look_at_the_events(folder: Path, address: str, output: Path) -> None:
    """All of them are there; the one that is carried out comes to its end, and contacts are told by mail."""
    database = sqlite3.connect(f"file:{folder / 'switchyard.sqlite3'}?mode=ro", uri=True, timeout=20)

    def count(what: str) -> int:
        rows = database.execute(f"SELECT count(*) FROM events_event WHERE {what}")  # noqa: S608 - ours
        return rows.fetchone()[0]

    def mails() -> str:
        return "\n".join(file.read_text() for file in (folder / "mails").iterdir())

    try:
        assert count("executor <> 'simulated'") == 0
        assert count("status = 'waiting'") == 1
        assert count("status = 'pending' AND level = 'S0'") == 1
        assert count("status = 'pending' AND campaign_id IS NOT NULL") == 6
        assert (
            count("status IN ('succeeded', 'failed', 'cancelled') AND finished_at < date('now', '-5 days')")
            == 8
        )
        measured = "status = 'succeeded' AND measured_seconds > 0"
        before = count(measured)
        assert before == 6
        wait_for(lambda: count(measured) == before + 1, 150, lambda: output.read_text()[-2000:], interval=0.5)
        wait_for(lambda: "Done: SSL certificate update of sample-orders" in unfolded(mails()), 60, mails)
    finally:
        database.close()
    told = unfolded(mails())
    assert "Subject: [Simulated] URGENT: High-risk vulnerability fix of shop-cache-new" in told
    assert f"{address}events/link/" in told


def unfolded(mail: str) -> str:
    """With each header in one line."""
    return re.sub(r"\n[ \t]+", " ", mail)


def assert_nothing_is_left(environment):
    folder = Path(environment["TMPDIR"])
    wait_for(lambda: not list(folder.glob("switchyard-demo-*")), 20, lambda: str(list(folder.iterdir())))
    wait_for(lambda: not processes_that_mention(folder), 20, lambda: str(processes_that_mention(folder)))
    assert not (Path(environment["HOME"]) / ".gunicorn").exists()


@pytest.mark.timeout(300)
def test_once_migrates_and_ends_with_equal_sides(start, environment):
    process, output = start("demo", "--once", "--keys", "8000", "--port", str(free_port()))
    assert process.wait(240) == 0, output.read_text()
    lines = output.read_text().splitlines()
    assert re.fullmatch(r"verified: \d+ keys, 0 differences", lines[-1])
    assert any("Incremental" in line and "lag" in line for line in lines)
    assert any(line.startswith("O&M events, all simulated: shop-cache waits for a time") for line in lines)
    assert any(re.match(r"Audit: [\d,]+ steps .* none lost, none twice", line) for line in lines)
    assert_nothing_is_left(environment)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_serves_until_it_is_ended_and_leaves_nothing(start, environment, number):
    process, output = start("demo", "--keys", "8000", "--port", str(free_port()))
    wait_for(lambda: "password" in output.read_text() or process.poll() is not None, 120, output.read_text)
    text = output.read_text()
    address = re.search(r"http://127\.0\.0\.1:\d+/", text).group()
    assert re.search(r"user demo, password \S{8,}", text)
    with urlopen(f"{address}login/", timeout=20) as page:
        assert b"Switchyard" in page.read()
    assert len(processes_that_mention(Path(environment["TMPDIR"]))) > 5
    (folder,) = Path(environment["TMPDIR"]).glob("switchyard-demo-*")
    wait_for(lambda: f"files in {folder / 'mails'}\n" in output.read_text(), 10, output.read_text)
    if number == signal.SIGINT:
        look_at_the_events(folder, address, output)
    process.send_signal(number)
    assert process.wait(60) == (0 if number == signal.SIGINT else -number)
    assert_nothing_is_left(environment)


@pytest.mark.parametrize("seconds", [0.1, 0.4, 1.0, 2.0])
def test_an_early_end_leaves_nothing_either(start, environment, seconds):
    process, output = start("demo", "--once", "--keys", "8000", "--port", str(free_port()))
    time.sleep(seconds)  # the moment is the case: settings not yet read, folder just made, servers starting
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0, output.read_text()
    assert_nothing_is_left(environment)


def test_the_demo_uses_nothing_of_the_users_settings(start, environment, tmp_path):
    mine = tmp_path / "mine.sqlite3"
    process, output = start(
        "demo", "--help", DATABASE_URL=f"sqlite:///{mine}", SECRET_KEY_FILE="/no/such/file", DEBUG="nonsense"
    )
    assert process.wait(60) == 0, output.read_text()
    assert "--once" in output.read_text()
    assert not mine.exists()
    assert_nothing_is_left(environment)


def test_the_first_command_of_a_new_site_makes_its_folder(start, tmp_path):
    data = tmp_path / "not" / "yet"
    own = {
        "SECRET_KEY": keys.generate_secret_key(),
        "CREDENTIAL_KEYS": keys.generate_credential_key(),
        "SWITCHYARD_DATA_DIR": str(data),
    }
    process, output = start("migrate", "--verbosity", "0", **own)
    assert process.wait(60) == 0, output.read_text()
    assert data.stat().st_mode & 0o777 == 0o700


def test_serve_says_which_setting_is_missing(start):
    process, output = start("serve")
    assert process.wait(60) == 1
    assert output.read_text().startswith("SECRET_KEY is not set.")
    assert "Traceback" not in output.read_text()


@pytest.mark.timeout(180)
def test_serve_migrates_and_serves_on_the_users_settings(start, environment, tmp_path):
    port = free_port()
    data = tmp_path / "data"
    process, output = start(
        "serve",
        "--bind",
        f"127.0.0.1:{port}",
        SECRET_KEY=keys.generate_secret_key(),
        CREDENTIAL_KEYS=keys.generate_credential_key(),
        SWITCHYARD_DATA_DIR=str(data),
        SECURE_SSL="off",
    )

    def healthy() -> bool:
        assert process.poll() is None, output.read_text()
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return answer.status == 200

    wait_for(healthy, 60, output.read_text, ignore=(OSError, HTTPError))
    wait_for(lambda: output.read_text().count("cluster.started") == 2, 60, output.read_text)
    assert (data / "switchyard.sqlite3").stat().st_size > 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, output.read_text()
    assert "Stopped." in output.read_text()
    wait_for(lambda: not processes_that_mention(data), 20)
