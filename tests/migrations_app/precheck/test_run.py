"""A whole precheck: rows, progress, an item that crashes, a lease that is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from migrations_app.choices import InspectionKind, InspectionStatus, Outcome
from migrations_app.models import Inspection, PrecheckItem
from migrations_app.runner import inspections as runner
from migrations_app.runner.precheck import run as precheck
from migrations_app.runner.precheck.items import ITEMS
from migrations_app.runner.precheck.registry import Checks, passed
from migrations_app.services import inspections
from tests.migrations_app.clusters import database
from tests.support.ports import free_port

from .world import World

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module", autouse=True)
def file_database(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """The keeper's thread has a connection of its own (test_runner.py)."""
    if connection.vendor != "sqlite":
        yield
        return
    file = tmp_path_factory.mktemp("precheck") / "shared.sqlite3"
    with django_db_blocker.unblock(), database(f"sqlite:///{file}"):
        yield


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
