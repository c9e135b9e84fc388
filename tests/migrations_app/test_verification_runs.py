"""Verifications and repairs as a worker carries them out, in this process, on real servers and a database in a file."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections

from migrations_app.choices import InspectionStatus, TaskStatus
from migrations_app.models import Inspection, MigrationTask
from migrations_app.runner import inspections as runner
from migrations_app.runner import kinds
from migrations_app.services import inspections, rehearsals, verification_report, verifications
from portal.errors import Conflict, Invalid
from portal.models import Endpoint
from tests.support.servers import Server
from tests.support.wait import wait_for

from .conftest import TaskMaker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("file_database")]
S = TaskStatus
assert kinds


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(inspections, "ring", lambda inspection_id: None)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server, Server]]:
    with Server("redis-7.0") as source, Server("redis-7.0") as target:
        yield source, target


@pytest.fixture
def sides(servers: tuple[Server, Server]) -> tuple[Server, Server]:
    for server in servers:
        with server.client() as client:
            client.flushall()
    return servers


@pytest.fixture
def task(make_task: TaskMaker, sides: tuple[Server, Server]) -> MigrationTask:
    made = make_task(S.PAUSED, reached_incremental=True)
    for side, server in zip(("source", "target"), sides, strict=True):
        Endpoint.objects.filter(instance=getattr(made, side)).update(
            host=server.host, port=server.port, password=""
        )
    return MigrationTask.objects.select_related("source__endpoint", "target__endpoint").get(pk=made.pk)


def write(server: Server, db: int = 0, **values: str) -> None:
    with server.client(db=db) as client:
        client.mset(values)


def carry_out(made: Inspection) -> Inspection:
    lease = inspections.acquire(made.pk, "one:1:a", host="here", ip="127.0.0.1")
    assert lease is not None
    runner.run(lease)
    return Inspection.objects.select_related("task").get(pk=made.pk)


def verify(task: MigrationTask, mode: str = "values", **settings: Any) -> Inspection:
    done = carry_out(verifications.request_verification(None, task, mode, **settings))
    assert done.status == InspectionStatus.DONE, done.failure_message
    return done


def test_quick(task: MigrationTask, sides: tuple[Server, Server]) -> None:
    for server in sides:
        write(server, a="1", b="2")
        with server.client(db=2) as client:
            client.set("lasting", "1")
    with sides[0].client() as client:
        client.set("passing", "1", ex=1000)
    with sides[1].client() as client:  # the product's own, as a link keeps them
        client.set(f"switchyard:checkpoint:{task.link.name}", "x")
        client.hset("switchyard:links", "other", "y")
        client.set("switchyard:checkpoint:other", "y")
    done = verify(task, "quick")
    assert done.passed
    assert done.result["result"] == "equal"
    first, second = done.result["databases"]
    assert (first["source_keys"], first["source_lasting"], first["target_keys"]) == (3, 2, 2)
    assert second["database"] == 2

    write(sides[1], c="3")
    done = verify(task, "quick")
    assert done.passed is False
    assert [row["equal"] for row in done.result["databases"]] == [False, True]
    task.databases = [2]
    task.save()
    assert verify(task, "quick").passed


def test_by_value_then_repaired(task: MigrationTask, sides: tuple[Server, Server]) -> None:
    source, target = sides
    for server in sides:
        write(server, same="1", other="1", ttl="1")
    write(source, missing="1", other="2")
    write(target, extra="1")
    with source.client() as client:
        client.expire("ttl", 1000)
        client.set("both", "1", ex=1000)
    write(target, both="2")
    done = verify(task)
    assert done.passed is False
    result = done.result
    assert (result["result"], result["differences"], result["listed"]) == ("different", 5, 5)
    assert result["by_kind"] == {"extra": 1, "missing": 1, "ttl": 2, "value": 2}
    rows = {bytes(row.key): row for row in done.differences.all()}
    assert rows[b"other"].source_text == "'2'"
    assert rows[b"both"].kind == "value"
    assert "no expiry" in rows[b"both"].target_text
    text = "".join(verification_report.report(done, result))
    assert hashlib.sha256(text.encode()).hexdigest() == result["sha256"]
    assert verify(task, percent=0.01).result["keys"] == 0
    assert verify(task, both_directions=False).result["by_kind"].get("extra") is None

    write(target, missing="1")  # agrees meanwhile
    repair = carry_out(
        verifications.request_correction(None, done, [row.pk for row in done.differences.all()])
    )
    assert repair.passed, repair.failure_message
    assert repair.result["counts"] == {"repaired": 4, "agrees": 1, "failed": 0}
    assert done.differences.filter(repaired_at__isnull=False).count() == 4
    with target.client() as client:
        assert client.get("extra") is None
        assert client.get("both") == b"1"
        assert client.ttl("ttl") > 900
    assert verify(task).passed
    assert task.log.filter(event="keys.repaired").exists()


def test_a_key_in_another_database(task: MigrationTask, sides: tuple[Server, Server]) -> None:
    write(sides[0], db=1, moved="1")
    write(sides[0], gone="1")
    write(sides[1], db=4, moved="1")
    done = verify(task)
    assert done.result["by_kind"] == {"database": 2, "missing": 1}
    rows = {(row.database, bytes(row.key)): row for row in done.differences.all()}
    assert rows[1, b"moved"].kind == rows[4, b"moved"].kind == "database"
    assert "database 4" in rows[1, b"moved"].detail
    assert "database 1" in rows[4, b"moved"].detail
    assert verification_report.digest(done, done.result) == done.result["sha256"]


def test_what_the_task_leaves_out(task: MigrationTask, sides: tuple[Server, Server]) -> None:
    write(sides[0], a="1")
    write(sides[0], db=1, other="1")
    with sides[0].client() as client:
        client.hset("h", "f", "1")
    task.databases = [0]
    task.commands = {"": {"without": ["@hash"]}}
    task.save()
    done = verify(task)
    assert [bytes(row.key) for row in done.differences.all()] == [b"a"]
    assert (done.result["left_out"], done.result["differences"]) == (1, 1)
    assert any("leaves out" in note for note in done.result["notes"])


def test_a_repair_ends_when_the_task_is_released(
    task: MigrationTask, sides: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    for server in sides:
        write(server, same="1")
    write(sides[0], a="1", b="1")
    done = verify(task)
    made = verifications.request_correction(None, done, [row.pk for row in done.differences.all()])
    may_write = verifications.may_still_write
    asked: list[int] = []

    def released_after_the_first(task_id: int) -> bool:
        if asked:
            MigrationTask.objects.filter(pk=task_id).update(status=S.RELEASED)
        asked.append(task_id)
        return may_write(task_id)

    monkeypatch.setattr(verifications, "may_still_write", released_after_the_first)
    repair = carry_out(made)
    assert repair.passed is False
    assert repair.result["counts"]["repaired"] == 1
    assert repair.result["stopped"]
    with sides[1].client() as client:
        assert client.dbsize() == 2


def test_cancelled(task: MigrationTask, sides: tuple[Server, Server]) -> None:
    with sides[0].client() as client:
        for start in range(0, 20_000, 5000):
            client.mset({f"k{number}": "1" for number in range(start, start + 5000)})
    made = verifications.request_verification(None, task, "values", keys_per_second=500)

    def cancel() -> None:
        try:
            wait_for(lambda: Inspection.objects.get(pk=made.pk).progress.get("keys"), 20)
            inspections.cancel(None, made)
        finally:
            connections.close_all()

    thread = threading.Thread(target=cancel)
    thread.start()
    done = carry_out(made)
    thread.join()
    assert done.status == InspectionStatus.CANCELLED
    assert 0 < done.progress["keys"] < 20_000
    assert done.progress["eta"] is None or done.progress["eta"] > 0


def test_differences_beyond_the_limit_are_counted(
    task: MigrationTask, sides: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("migrations_app.runner.verification.LISTED", 300)
    with sides[0].client() as client:
        client.mset({f"k{number}": "1" for number in range(1000)})
    done = verify(task, keys_per_second=None, megabytes_per_second=None)
    assert (done.result["differences"], done.result["listed"], done.differences.count()) == (1000, 300, 300)


def test_an_unreachable_side(task: MigrationTask, sides: tuple[Server, Server]) -> None:
    Endpoint.objects.filter(instance=task.target).update(port=1)
    done = carry_out(verifications.request_verification(None, task, "values"))
    assert done.status == InspectionStatus.FAILED
    assert done.failure_id == "connection.refused"


class TestRehearsal:
    def test_what_is_told(self, task: MigrationTask, sides: tuple[Server, Server]) -> None:
        MigrationTask.objects.update(status=S.READY, conflict="fail", speed_class="small")
        task.refresh_from_db()
        with sides[0].client() as client:
            client.mset({f"k{number}": "1" for number in range(4000)})
        write(sides[1], k7="1")
        done = carry_out(rehearsals.request_rehearsal(None, task))
        assert done.status == InspectionStatus.DONE, done.failure_message
        result = done.result
        assert (result["keys"], result["sampled_keys"], result["ended"]) == (4000, 4000, "complete")
        assert result["seconds"] >= 2  # the class takes 2,000 keys a second
        assert result["by_type"]["string"]["keys"] == 4000
        assert len(result["largest"]) == 10
        assert result["refused"] == [
            {
                "database": 0,
                "key": "k7",
                "type": "string",
                "reason": "the target has a key of this name already",
            }
        ]
        assert (result["refused_count"], done.passed, result["fits"]) == (1, False, None)
        with sides[1].client() as client:
            assert client.dbsize() == 1

    def test_too_small_a_target(self, task: MigrationTask, sides: tuple[Server, Server]) -> None:
        MigrationTask.objects.update(status=S.READY)
        task.refresh_from_db()
        write(sides[0], a="1")
        with sides[1].client() as client:
            client.config_set("maxmemory", "1mb")
        try:
            done = carry_out(rehearsals.request_rehearsal(None, task))
        finally:
            with sides[1].client() as client:
                client.config_set("maxmemory", "0")
        assert (done.result["fits"], done.passed) == (False, False)

    def test_refusals(self, task: MigrationTask) -> None:
        with pytest.raises(Conflict) as refusal:
            rehearsals.request_rehearsal(None, task)
        assert refusal.value.id == "rehearsal.too_late"
        MigrationTask.objects.update(status=S.READY)
        task.refresh_from_db()
        with pytest.raises(Invalid) as limit:
            rehearsals.request_rehearsal(None, task, megabytes=0)
        assert limit.value.field == "megabytes"
