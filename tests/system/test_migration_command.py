"""`manage.py migration` from the creation of a task to its end, with both clusters running, as a script would use it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from migrations_app.management.commands import migration
from migrations_app.models import MigrationTask
from portal.models import Account
from tests.migrations_app.clusters import Cluster
from tests.support.servers import Server

from .conftest import MakeMachine


@pytest.fixture
def console(url: str, tmp_path: Path, machine: MakeMachine) -> Iterator[None]:
    """An account, and both clusters on the same database."""
    Account.objects.create(name="Payments")
    default = Cluster(url, tmp_path, name="default").start()
    try:
        machine()
        yield
    finally:
        default.process.end()


def run(*args: str) -> tuple[int, Any]:
    """Exit code, and what was printed as JSON."""
    out = io.StringIO()
    code = 0
    with redirect_stdout(out):
        try:
            call_command("migration", *args, "--json", stdout=out)
        except SystemExit as end:
            code = int(end.code or 0)
    lines = out.getvalue().strip().splitlines()
    return code, json.loads(lines[-1]) if lines else None


def url_of(server: Server) -> str:
    return f"redis://:{server.password}@{server.host}:{server.port}"


def test_from_creation_to_success(
    console: None, sides: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = sides
    with source.client() as client:
        client.mset({f"key:{number}": "x" * 50 for number in range(2000)})
    monkeypatch.setenv("TARGET_URL", url_of(target))
    code, made = run(
        "create", "--source", url_of(source), "--target", "env:TARGET_URL", "--name", "by script"
    )
    assert (code, made["status"], made["missing"]) == (0, "draft", [])
    task = made["id"]

    code, refused = run("start", task)
    assert (code, refused["error"]["id"]) == (migration.REFUSED, "task.cannot_start")

    code, checked = run("precheck", task, "--timeout", "60")
    assert code == 0, checked
    assert (checked["success_rate"], checked["task_status"]) == (100, "ready")
    assert {item["code"] for item in checked["items"]} >= {"server.reachable"} or checked["items"]

    assert run("start", task)[0] == 0
    code, caught_up = run("wait", task, "--until", "caught-up", "--timeout", "60")
    assert (code, caught_up["status"]) == (0, "incremental")
    code, verified = run("verify", task, "--timeout", "60")
    assert (code, verified["passed"]) == (0, True)

    # What the source does not know of: a difference.
    with target.client() as client:
        client.set("stray", "1")
    code, verified = run("verify", task, "--timeout", "60")
    assert (code, verified["passed"]) == (migration.NO, False)

    assert run("pause", task)[0] == 0
    code, late = run("wait", task, "--until", "completed", "--timeout", "30")
    assert (code, late["status"]) == (migration.NO, "paused"), "nobody will complete a paused task"
    assert run("resume", task)[0] == 0
    assert run("wait", task, "--until", "caught-up", "--timeout", "60")[0] == 0
    assert run("wait", task, "--until", "completed", "--timeout", "0")[0] == migration.LATE
    assert run("stop", task)[0] == 0
    code, done = run("wait", task, "--until", "completed", "--timeout", "30")
    assert (code, done["status"]) == (0, "completed")
    assert run("release", task)[1]["status"] == "released"


def test_a_precheck_that_fails(console: None, sides: tuple[Server, Server]) -> None:
    source, target = sides
    for server in sides:
        with server.client() as client:
            client.set("same", "1")
    _, made = run("create", "--source", url_of(source), "--target", url_of(target))
    code, checked = run("precheck", made["id"], "--timeout", "60")
    assert (code, checked["task_status"]) == (migration.NO, "precheck-failed")
    assert [item["code"] for item in checked["items"] if item["outcome"] == "failed"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("args", "id"),
    [
        (("status", "mt-unknown"), "object.not_found"),
        (("create", "--source", "r-unknown", "--target", "redis://127.0.0.1:1"), "object.not_found"),
        (("create", "--source", "redis://8.8.8.8", "--target", "redis://127.0.0.1:1"), None),
        (("create", "--source", "env:NOT_THERE", "--target", "redis://127.0.0.1:1"), "input.invalid"),
        (("create", "--source", "redis://127.0.0.1", "--target", "redis://127.0.0.1:1", "--retry-minutes", "9"), None),
        (("create", "--source", "redis://127.0.0.1", "--target", "redis://127.0.0.1:1", "--account", "none"), "object.not_found"),
    ],
)  # fmt: skip
def test_refusals(args: tuple[str, ...], id: str | None) -> None:
    Account.objects.create(name="Payments")
    code, printed = run(*args)
    assert code == migration.REFUSED
    assert printed["error"]["message"]
    assert id is None or printed["error"]["id"] == id
    assert not MigrationTask.objects.exists()
