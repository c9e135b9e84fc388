"""A whole precheck: rows, progress, an item that crashes, a lease that is lost."""

from __future__ import annotations

from typing import Any

import pytest

from migrations_app.choices import InspectionKind, InspectionStatus, Outcome
from migrations_app.models import Inspection, PrecheckItem
from migrations_app.runner import inspections as runner
from migrations_app.runner.precheck import run as precheck
from migrations_app.runner.precheck.items import ITEMS
from migrations_app.runner.precheck.registry import Checks, passed
from migrations_app.services import inspections
from portal.choices import EndpointKind
from tests.support.ports import free_port
from tests.support.sentinels import NAME, Watched

from .world import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("file_database")]


def run(world: World) -> Inspection:
    inspection = Inspection.objects.create(task=world.made_task(), kind=InspectionKind.PRECHECK)
    lease = inspections.acquire(inspection.pk, "one:1:a", host="here", ip="127.0.0.1")
    assert lease is not None
    runner.run(lease)
    inspection.refresh_from_db()
    return inspection


def test_stores_a_row_for_every_item(world: World) -> None:
    inspection = run(world)
    assert inspection.status == InspectionStatus.DONE, inspection.failure_message
    rows = list(inspection.items.all())
    assert [row.code for row in rows] == [item.code for item in ITEMS]
    failed = {row.code: row.found for row in rows if row.outcome == Outcome.FAILED}
    assert failed == {}
    assert inspection.passed is True
    assert sum(inspection.result["counts"].values()) == len(ITEMS)


def test_can_be_run_again(world: World) -> None:
    first, second = run(world), run(world)
    assert first.items.count() == second.items.count() == len(ITEMS)


def test_a_side_that_is_away_skips_what_needs_it(world: World) -> None:
    world.endpoint("target", port=free_port())
    inspection = run(world)
    assert inspection.status == InspectionStatus.DONE
    assert inspection.passed is False
    found = {row.code: row.outcome for row in inspection.items.all()}
    assert found["target.reachable"] == Outcome.FAILED
    assert found["source.reachable"] == Outcome.PASSED
    skipped = inspection.items.get(code="target.tls")
    assert (skipped.outcome, skipped.found) == (
        Outcome.SKIPPED,
        "Not looked at: the target could not be reached.",
    )


def test_an_item_that_crashes_fails_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = Checks()

    @checks.pair("broken", "Broken", precheck.Severity.NOTICE, needs=())
    def broken(ctx: Any) -> Any:
        raise ValueError("of the code")

    @checks.pair("whole", "Whole", precheck.Severity.NOTICE, needs=())
    def whole(ctx: Any) -> Any:
        return passed("it is whole")

    monkeypatch.setattr(precheck, "ITEMS", tuple(checks))
    inspection = run(world)
    assert inspection.status == InspectionStatus.DONE
    crashed, after = inspection.items.all()
    assert crashed.outcome == Outcome.FAILED and "ValueError" in crashed.found
    assert "of the code" not in crashed.found
    assert (crashed.severity, after.outcome) == ("error", Outcome.PASSED)


def test_connections_that_were_cut_are_made_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a server that closes idle clients while an item takes its time."""
    looked = precheck.look

    def look(item: Any, context: Any) -> Any:
        if item.code in ("target.eviction", "source.big_keys"):
            world.do(item.side, "CLIENT", "KILL", "TYPE", "normal")
        return looked(item, context)

    world.do("source", "SET", "a", "1")
    monkeypatch.setattr(precheck, "look", look)
    healthy(run(world))


def test_who_has_lost_the_lease_writes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = Checks()

    @checks.pair("slow", "Slow", precheck.Severity.NOTICE, needs=())
    def slow(ctx: Any) -> Any:
        Inspection.objects.update(owner="two:2:b", attempt=2)
        return passed("too late")

    monkeypatch.setattr(precheck, "ITEMS", tuple(checks))
    inspection = run(world)
    assert inspection.status == InspectionStatus.RUNNING
    assert not PrecheckItem.objects.exists()


# --- whole prechecks of other kinds of sides ----------------------------------------------------------------------------------


def healthy(inspection: Inspection) -> dict[str, str]:
    """Code → outcome of a precheck in which nothing has failed, and nothing could not be looked at."""
    assert inspection.status == InspectionStatus.DONE, inspection.failure_message
    rows = list(inspection.items.all())
    assert [(row.code, row.found) for row in rows if row.outcome == Outcome.FAILED] == []
    assert [row.code for row in rows if "could not" in row.found] == []
    return {row.code: row.outcome for row in rows}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("redis-3.2", "redis-5.0"),
        ("redis-6.2", "redis-6.0"),
        ("redis-8.6", "valkey-8.1"),
        ("valkey-9", "redis-7.4"),
    ],
)
def test_of_other_versions(world: World, source: str, target: str) -> None:
    world.use("source", source)
    world.use("target", target)
    world.do("source", "SET", "a", "1")
    healthy(run(world))


def test_of_clusters(world: World) -> None:
    for side in ("source", "target"):
        world.use_cluster(side).set(f"of the {side}", "1")
    outcomes = healthy(run(world))
    assert outcomes["source.cluster"] == outcomes["target.cluster"] == Outcome.PASSED


def test_over_tls_with_a_password(world: World) -> None:
    for side in ("source", "target"):
        world.use(side, "redis-7.2", tls=True, password="a long word")
    healthy(run(world))


def test_over_sockets(world: World) -> None:
    for side in ("source", "target"):
        server = world.use(side, "redis-7.0", unix=True)
        world.endpoint(side, host="", port=0, unix_path=str(server.unix_path))
    outcomes = healthy(run(world))
    assert outcomes["source.network"] == outcomes["target.tls"] == Outcome.SKIPPED


def test_of_a_key_scan(world: World) -> None:
    world.task(method="scan")
    world.do("source", "SET", "a", "1")
    outcomes = healthy(run(world))
    assert outcomes["source.psync"] == Outcome.SKIPPED
    assert outcomes["source.notifications"] == Outcome.WARNING


def test_of_a_file(world: World) -> None:
    server = world.use("source", "redis-7.0")
    world.do("source", "SET", "a", "1")
    world.do("source", "SAVE")
    path = world.folder / "dump.rdb"
    path.write_bytes((server.dir / "dump.rdb").read_bytes())
    world.endpoint("source", kind=EndpointKind.FILE, file_path=str(path), host="", port=0)
    world.task(phases="full", method="file")
    world.do("target", "SET", "b", "1")
    outcomes = healthy(run(world))
    assert outcomes["source.file"] == outcomes["target.same_names"] == Outcome.PASSED
    assert outcomes["source.psync"] == outcomes["source.backlog"] == Outcome.SKIPPED


def test_behind_sentinels(world: World) -> None:
    watched = Watched("redis-7.0", replicas=1, password="secret", sentinel_password="other")
    try:
        world.endpoint(
            "source", kind=EndpointKind.SENTINEL, host="", port=0, master_name=NAME, password="secret",
            sentinels=[f"127.0.0.1:{one.port}" for one in watched.sentinels], sentinel_password="other",
        )  # fmt: skip
        inspection = run(world)
        healthy(inspection)
        assert f"127.0.0.1:{watched.master.port}" in inspection.items.get(code="source.reachable").found
    finally:
        watched.close()


def test_a_side_that_stops_answering_fails_items_and_not_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target hangs in the middle: what was asked then is not taken for an answer to the next question."""
    monkeypatch.setattr("django.conf.settings.INSTANCE_TIMEOUT", 1)
    server = world.use("target", "redis-7.0", config={"hz": 11})
    looked = precheck.look

    def look(item: Any, context: Any) -> Any:
        if item.code == "target.eviction":
            server.pause()
        try:
            return looked(item, context)
        finally:
            if item.code == "target.eviction":
                server.resume()

    monkeypatch.setattr(precheck, "look", look)
    inspection = run(world)
    assert inspection.status == InspectionStatus.DONE
    assert inspection.items.count() == len(ITEMS)
