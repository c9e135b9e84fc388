"""`python -m migrations_app.engine`: exit codes, one line of JSON, progress on standard error, no traceback, no password."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from migrations_app.demo.dataset import fill
from migrations_app.engine import kernel
from tests.support.servers import Server

from .links import ROOT, EngineProcess, environment

SECRET = "s3cret%20w%2Ford"


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert self.out.count("\n") == 1, self.out
        return dict(json.loads(self.out))


def engine(*arguments: str) -> Done:
    """Run to the end. Checks what holds for every run."""
    done = subprocess.run(
        [sys.executable, "-m", "migrations_app.engine", *arguments],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr + done.stdout
    assert "s3cret" not in done.stderr + done.stdout
    if "--json" not in arguments and "--help" not in arguments:
        assert done.stdout == ""
    return Done(done.returncode, done.stdout, done.stderr)


def test_run_and_verify(pair: tuple[Server, Server]) -> None:
    """Full and incremental until caught up, then the comparison: 0; after a change on one side: 3."""
    source, target = pair
    fill(source.url, keys=0, big_value_bytes=0, large_elements=0)
    done = engine("run", source.url, target.url, "--stop-when-caught-up", "--json", "--link", "cli")
    assert done.code == 0, done.err
    assert done.json["outcome"] == "completed"
    assert done.json["full_syncs"] == 1
    assert done.json["keys_done"] == sum(source.client(db=number).dbsize() for number in (0, 1, 3, 9, 15))
    assert "full" in done.err
    done = engine("verify", source.url, target.url, "--json")
    assert done.code == 0, done.err
    assert done.json["result"] == "equal"
    target.client().set("corner:database", "other")
    target.client(db=3).set("extra", 1)
    done = engine("verify", source.url, target.url, "--json")
    assert done.code == 3
    assert done.json["differences"] == 2
    assert engine("verify", source.url, target.url).code == 3
    done = engine("verify", source.url, target.url, "--db", "1,9")
    assert done.code == 0
    assert "0 differences" in done.err


def test_a_run_goes_on_under_the_same_name_and_begins_anew_under_another(pair: tuple[Server, Server]) -> None:
    source, target = pair
    source.client().set("k", 1)
    arguments = ("run", source.url, target.url, "--stop-when-caught-up", "--json", "--link")
    assert engine(*arguments, "one").json["full_syncs"] == 1
    source.client().incr("k")
    again = engine(*arguments, "one").json
    assert (again["full_syncs"], again["partial_syncs"]) == (0, 1)
    assert engine(*arguments, "two").json["error"] == "target.conflict"
    assert engine(*arguments, "two", "--on-conflict", "overwrite").json["full_syncs"] == 1
    assert target.client().get("k") == b"2"


def test_full_only_and_chosen_databases(pair: tuple[Server, Server]) -> None:
    source, target = pair
    for number in range(3):
        source.client(db=number).set("k", number)
    done = engine("run", source.url, target.url, "--phases", "full", "--db", "0,2", "--json")
    assert done.code == 0
    assert done.json["outcome"] == "completed"
    assert [target.client(db=number).get("k") for number in range(3)] == [b"0", None, b"2"]
    assert target.client().keys("switchyard:*") == []


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["walk"], ["run"], ["run", "redis://127.0.0.1:1"], ["verify", "redis://127.0.0.1:1"],
        ["run", "http://127.0.0.1", "redis://127.0.0.1:1"], ["run", "127.0.0.1:6379", "redis://127.0.0.1:1"],
        ["run", "redis://127.0.0.1:1", "redis://127.0.0.1:1"], ["run", "redis://127.0.0.1:1/3", "redis://127.0.0.1:2"],
        ["run", "redis://127.0.0.1:99999", "redis://127.0.0.1:2"], ["run", "redis://", "redis://127.0.0.1:2"],
        ["run", "redis://127.0.0.1:1", "redis://127.0.0.1:2", "--db", "x"],
        ["run", "redis://127.0.0.1:1", "redis://127.0.0.1:2", "--db", ""],
        ["run", "redis://127.0.0.1:1", "redis://127.0.0.1:2", "--db", "-1"],
        ["run", "redis://127.0.0.1:1", "redis://127.0.0.1:2", "--db", "²"],
        ["run", "redis://127.0.0.1:1", "redis://127.0.0.1:2", "--phases", "incremental"],
        ["run", "redis://127.0.0.1:1", "redis://127.0.0.1:2", "--link", "no/such name"],
        ["run", "redis://127.0.0.1:1", "redis://127.0.0.1:2", "--retry-minutes", "soon"],
        ["run", "redis://127.0.0.1:1", "redis://127.0.0.1:2", "--retry-minutes", "nan"],
        ["run", "rediss://127.0.0.1:1?ca_file=/nowhere", "redis://127.0.0.1:2"],
        ["run", f"http://:{SECRET}@127.0.0.1", "redis://127.0.0.1:1"],
        ["run", f"redis://user:{SECRET}@127.0.0.1:1", "redis://127.0.0.1:1", "--db", "x"],
        ["run", "redis://:s3cret/word@127.0.0.1:1", "redis://127.0.0.1:1"],
        ["run", f"redis://user:{SECRET}@[127.0.0.1:1", "redis://127.0.0.1:1"],
    ],
)  # fmt: skip
def test_bad_usage(arguments: list[str]) -> None:
    """Exit code 2, a sentence on standard error, with --json too."""
    done = engine(*arguments, "--json")
    assert done.code == 2, done.err
    assert len(done.err) > 20
    assert done.out == "" or done.json["outcome"] == "failed"


@pytest.mark.parametrize("command", ["run", "verify"])
def test_failures(redis_server: Callable[..., Server], command: str) -> None:
    """Exit code 1, the cause and what to do; as JSON with the id of the error."""
    locked = redis_server("redis-7.0", password="right")
    for url, error in (
        (f"redis://:{SECRET}@127.0.0.1:{locked.port}", "auth.refused"),
        ("redis://127.0.0.1:1", "connection.refused"),
    ):
        for sides in ((url, locked.url), (locked.url, url)):
            done = engine(command, *sides, "--json")
            assert done.code == 1, done.err
            assert done.json["error"] == error
            assert done.json["outcome"] == "failed"
            assert "what to do:" in done.err
            assert engine(command, *sides).code == 1


def test_a_password_is_nowhere(redis_server: Callable[..., Server], tmp_path: Path) -> None:
    """Neither in what a run says, nor in the command line of others: that a process shows its arguments is the caller's choice."""
    source, target = (
        redis_server("redis-7.0", password="s3cret-one"),
        redis_server("redis-7.0", password="s3cret-two"),
    )
    source.client().set("k", "v")
    done = engine("run", source.url, target.url, "--stop-when-caught-up", "--json")
    assert done.code == 0, done.err
    target.client().delete("k")
    target.client().rpush("k", 1)
    assert engine("verify", source.url, target.url, "--json").code == 3
    with EngineProcess(tmp_path, "run", source.url, target.url) as process:
        process.wait_for_words("incremental")
        source.client().append("k", "x")
        assert process.wait(30) == 1
        assert "s3cret" not in process.said()
        assert "Traceback" not in process.said()


def test_help_tells_the_ways_to_call_it() -> None:
    for arguments in (["--help"], ["run", "--help"], ["verify", "--help"]):
        done = engine(*arguments)
        assert done.code == 0
        assert "usage" in done.out.lower()


def test_the_version_says_whether_the_kernel_is_compiled(tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "--version") as process:
        assert process.wait() == 0
        assert process.stdout.read_text() == f"switchyard engine, {kernel.DESCRIPTION}\n"
    assert ("compiled" in kernel.DESCRIPTION) is kernel.COMPILED
