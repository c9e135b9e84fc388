"""Several bulk changes, and several workers, at the same moment, on a database that several processes share."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from events.choices import BulkAction, BulkStatus, RowOutcome
from events.models import BulkChange, Event, Occasion, RegionLimit
from events.services import bulk, bulk_applying, bulk_running, scheduling
from events.services.by import By
from portal.models import AuditEntry, Instance
from tests.portal.world import World
from tests.support.bulk_events import many_events

from .test_concurrency import shared, together  # noqa: F401 - a fixture


@pytest.fixture
def events(shared: World, monkeypatch: pytest.MonkeyPatch) -> list[Event]:  # noqa: F811
    monkeypatch.setattr(bulk_applying, "CHUNK", 10)
    RegionLimit.objects.all().delete()
    BulkChange.objects.all().delete()
    Event.objects.all().delete()
    Instance.objects.filter(name__startswith="cache-").delete()
    return many_events(shared.account, 60)


def planned(
    world: World, events: list[Event], days: float, action: BulkAction = BulkAction.TO_TIME
) -> BulkChange:
    parameters: dict[str, Any] = {"at": timezone.now() + timedelta(days=days)}
    if action == BulkAction.STAGGER:
        # Another order, so that their chunks lie across each other.
        parameters |= {"minutes": 30, "order": "name"}
    ids = [event.public_id for event in events]
    return bulk.plan(By(world.user("operator")), action, ids, parameters)


def applier(world: World, change: BulkChange) -> Any:
    return lambda: bulk.apply(By(world.user("operator")), change)


def test_two_over_the_same_events_at_once(shared: World, events: list[Event]) -> None:  # noqa: F811
    for number, event in enumerate(events):
        event.switch_at = timezone.now() + timedelta(days=4, minutes=-number)
    Event.objects.bulk_update(events, ["switch_at"])
    changes = [planned(shared, events, 5), planned(shared, events, 6, BulkAction.STAGGER)]
    together(*(applier(shared, change) for change in changes))

    rows = {change.pk: {row.event_id: row for row in change.rows.all()} for change in changes}
    for event in Event.objects.all():
        mine = [rows[change.pk][event.pk] for change in changes]
        assert sorted(row.outcome for row in mine) == [RowOutcome.DONE, RowOutcome.LOST]
        won = next(row for row in mine if row.outcome == RowOutcome.DONE)
        assert (event.switch_at, event.revision) == (won.new_switch_at, 1)
    assert Occasion.objects.filter(kind="changed").count() == len(events)
    assert set(BulkChange.objects.values_list("status", flat=True)) == {BulkStatus.DONE}


def test_one_event_is_changed_while_a_bulk_runs(shared: World, events: list[Event]) -> None:  # noqa: F811
    change = planned(shared, events, 5)
    owner = By(shared.user("owner"))

    def single() -> Any:
        return [
            scheduling.reschedule(owner, event, timezone.now() + timedelta(days=6)) for event in events[::6]
        ]

    together(applier(shared, change), single)
    found = Counter(change.rows.values_list("outcome", flat=True))
    assert found[RowOutcome.DONE] + found[RowOutcome.LOST] == len(events)
    for row in change.rows.select_related("event"):
        lost = row.outcome == RowOutcome.LOST
        assert (row.event.switch_at == row.new_switch_at) != lost or row.event.revision == 2


def test_two_workers_share_nothing(shared: World, events: list[Event]) -> None:  # noqa: F811
    change = ready(planned(shared, events, 5))
    before = AuditEntry.objects.filter(action="event.rescheduled").count()
    answers = together(*[lambda: bulk_running.run(change.pk)] * 3)
    assert sorted(answers)[0] == "done" and answers.count("done") == 1  # type: ignore[type-var,comparison-overlap]
    assert AuditEntry.objects.filter(action="event.rescheduled").count() - before == len(events)
    assert set(Event.objects.values_list("revision", flat=True)) == {1}


def test_who_has_lost_the_lease_without_knowing_it_changes_nothing(
    shared: World,  # noqa: F811
    events: list[Event],
) -> None:
    change = ready(planned(shared, events, 5))
    slow = bulk_running._claim(change.pk)
    assert slow is not None and bulk_running._claim(change.pk) is None
    bulk_applying.apply_chunk(slow)
    BulkChange.objects.filter(pk=change.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    other = bulk_running._claim(change.pk)
    assert other is not None and other.bulk.done == 10
    with pytest.raises(bulk_running.LeaseLost):
        bulk_applying.apply_chunk(slow)
    bulk_applying.apply_chunk(other)
    assert Counter(Event.objects.values_list("revision", flat=True)) == {1: 20, 0: 40}
    assert not connection.in_atomic_block


def test_a_long_one_goes_on_in_another_job(shared: World, events: list[Event]) -> None:  # noqa: F811
    change = ready(planned(shared, events, 5))
    answers: list[str] = []
    while not answers or answers[-1] != "done":
        answers.append(bulk_running.run(change.pk, seconds=0))
    assert answers == ["goes on in another job"] * 5 + ["done"]
    assert bulk.counts(change) == bulk.Counts(done=60)


def test_a_worker_that_died_is_followed_by_another(shared: World, events: list[Event]) -> None:  # noqa: F811
    change = ready(planned(shared, events, 5))
    dead = bulk_running._claim(change.pk)
    assert dead is not None
    bulk_applying.apply_chunk(dead)
    assert bulk_running.ring_waiting() == 0
    BulkChange.objects.filter(pk=change.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert bulk_running.ring_waiting() == 1
    assert bulk_running.ring_waiting() == 0  # the bell has just rung
    assert bulk_running.run(change.pk) == "done"
    assert set(Event.objects.values_list("revision", flat=True)) == {1}
    assert bulk.counts(change) == bulk.Counts(done=60)


def test_a_defect_breaks_it_off_and_what_was_done_can_be_undone(
    shared: World,  # noqa: F811
    events: list[Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change = planned(shared, events, 5)
    real = scheduling.time_details
    calls = 0

    def breaks(*args: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls > 25:
            raise RuntimeError("boom")
        return real(*args)

    monkeypatch.setattr(scheduling, "time_details", breaks)
    done = bulk.apply(By(shared.user("operator")), change)
    assert (done.status, done.done) == (BulkStatus.FAILED, 20)
    assert "RuntimeError" in done.failure and "boom" not in done.failure
    assert bulk.counts(done) == bulk.Counts(planned=40, done=20)
    monkeypatch.setattr(scheduling, "time_details", real)
    back = bulk.undo(By(shared.user("operator")), done)
    assert bulk.counts(back) == bulk.Counts(done=20)
    assert Counter(Event.objects.values_list("revision", flat=True)) == {2: 20, 0: 40}


def test_two_at_once_respect_the_limit_of_the_region(shared: World, events: list[Event]) -> None:  # noqa: F811
    """Both previews count on the same last places."""
    RegionLimit.objects.create(region="eu-central", most=30)
    halves = [planned(shared, events[:30], 5), planned(shared, events[30:], 5)]
    assert all(bulk.counts(half).planned == 30 for half in halves)
    together(*(applier(shared, half) for half in halves))
    there = Counter(Event.objects.filter(revision=1).values_list("revision", flat=True))
    assert there[1] == 30
    refused = [row.refusal_id for half in halves for row in half.rows.filter(outcome=RowOutcome.REFUSED)]
    assert refused == ["event.region_full"] * 30


def ready(change: BulkChange) -> BulkChange:
    """To be applied, as a large one waits for a worker."""
    BulkChange.objects.filter(pk=change.pk).update(
        status=BulkStatus.APPLYING, done=0, applied_at=timezone.now(), lease_until=None, owner=""
    )
    return change
