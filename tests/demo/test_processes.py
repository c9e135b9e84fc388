"""The supervisor and its guardian: whatever ends the supervisor, its children and its folder go too."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from portal.processes import ChildFailed, Guardian, Supervisor, temporary_folder
from tests.support.wait import wait_for

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]
PARENT = [sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '600'])"]
SUPERVISING = """
import sys
from pathlib import Path
from portal.processes import Guardian, Interrupted, Supervisor, raise_on_signals
raise_on_signals()
try:
    with Supervisor(guardian=Guardian(Path(sys.argv[1]))) as supervisor:
        for number in range(2):
            child = supervisor.start(f"child {number}", ["sleep", "600"])
            print(child.process.pid, flush=True)
        print(0, flush=True)
        supervisor.wait()
except Interrupted as interrupted:
    sys.exit(interrupted.number)
"""


def alive(pid: int) -> bool:
    """Whether there is such a process that is not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def folder():
    place = temporary_folder("switchyard-processes-")
    yield place
    shutil.rmtree(place, ignore_errors=True)  # where no guardian has removed it


def test_children_and_folder_are_gone_at_the_end(folder):
    (folder / "file").write_text("x")
    with Supervisor(guardian=Guardian(folder), logs=folder) as supervisor:
        children = [supervisor.start(name, SLEEPER, last=name == "server") for name in ("server", "web")]
        assert all(child.running for child in children)
    assert not any(alive(child.process.pid) for child in children)
    assert not folder.exists()


def test_they_are_gone_after_an_error_too(folder):
    pids = []

    def fail() -> None:
        with Supervisor(guardian=Guardian(folder)) as supervisor:
            pids.append(supervisor.start("web", SLEEPER).process.pid)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not alive(pids[0])
    assert not folder.exists()


def test_a_child_that_does_not_listen_is_killed(folder):
    with Supervisor(logs=folder, guardian=Guardian(folder)) as supervisor:
        child = supervisor.start("deaf", DEAF, grace=0.3)
        supervisor.wait_for(lambda: "deaf" in child.tail(), "the start")
    assert child.process.returncode == -signal.SIGKILL


def test_the_children_of_a_child_are_ended_with_it():
    with Supervisor() as supervisor:
        child = supervisor.start("parent", PARENT)
        tasks = Path(f"/proc/{child.process.pid}/task/{child.process.pid}/children")
        wait_for(lambda: tasks.read_text().split())
        grandchild = int(tasks.read_text().split()[0])
        assert alive(grandchild)
    wait_for(lambda: not alive(grandchild))


def test_servers_are_stopped_after_what_uses_them(folder):
    log = folder / "order"
    program = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(open(sys.argv[1], 'a').write(sys.argv[2]) * 0))\nprint('up', flush=True)\ntime.sleep(600)"
    logs = folder / "logs"
    logs.mkdir()
    supervisor = Supervisor(logs=logs)
    for name, last in (("s", True), ("w", False)):
        child = supervisor.start(name, [sys.executable, "-c", program, str(log), name], last=last)
        supervisor.wait_for(lambda child=child: "up" in child.tail(), "the start")
    supervisor.close()
    assert log.read_text() == "ws"


def test_a_child_that_ends_is_told_with_the_end_of_its_log(folder):
    with Supervisor(logs=folder, guardian=Guardian(folder)) as supervisor:
        supervisor.start("web", [sys.executable, "-c", "print('no port is free'); raise SystemExit(3)"])
        with pytest.raises(ChildFailed, match="web has ended with exit code 3") as failure:
            supervisor.wait()
        assert "no port is free" in str(failure.value)


def test_what_takes_too_long_is_told():
    with Supervisor() as supervisor:
        supervisor.start("web", SLEEPER)
        with pytest.raises(ChildFailed, match=r"The start took longer than 0.2 s"):
            supervisor.wait_for(lambda: False, "The start", 0.2)


def test_a_program_that_is_not_there_is_told():
    with (
        Supervisor() as supervisor,
        pytest.raises(ChildFailed, match="web cannot be started: /no/such/program"),
    ):
        supervisor.start("web", ["/no/such/program"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_whatever_ends_the_supervisor(folder, number):
    run = subprocess.Popen(
        [sys.executable, "-c", SUPERVISING, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    pids = [int(run.stdout.readline()) for _ in range(3)][:2]
    assert all(map(alive, pids))
    os.kill(run.pid, number)
    run.stdout.close()
    assert run.wait(20) == (-number if number == signal.SIGKILL else number)
    wait_for(lambda: not any(map(alive, pids)) and not folder.exists(), 15)


def test_a_second_signal_does_not_disturb_the_end(folder):
    run = subprocess.Popen(
        [sys.executable, "-c", SUPERVISING, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    pids = [int(run.stdout.readline()) for _ in range(3)][:2]
    for _ in range(5):
        run.send_signal(signal.SIGINT)
        time.sleep(0.005)
    run.stdout.close()
    assert run.wait(20) == signal.SIGINT
    assert not any(map(alive, pids))
    assert not folder.exists()
