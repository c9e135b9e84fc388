"""A bulk change by a real cluster whose worker is killed in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from events.choices import BulkAction, BulkStatus, OccasionKind
from events.models import BulkChange, BulkRow, Event, Occasion
from events.services import bulk
from events.services.by import SYSTEM
from portal.models import Account, AuditEntry
from tests.migrations_app.clusters import NewCluster, database, new_clusters
from tests.support.bulk_events import many_events
from tests.support.process import is_gone
from tests.support.wait import wait_for

EVENTS = 5000


@pytest.fixture
def new_cluster(tmp_path: Path, django_db_blocker: object) -> Iterator[NewCluster]:
    url = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
    with django_db_blocker.unblock(), database(url), new_clusters(url, tmp_path, workers=1) as make:
        yield make


@pytest.mark.timeout(300)
def test_each_row_exactly_once_although_workers_are_killed(new_cluster: NewCluster) -> None:
    account = Account.objects.create(name="Payments")
    many_events(account, EVENTS)
    cluster = new_cluster()

    def now() -> BulkChange:
        return BulkChange.objects.get(pk=change.pk)

    def owner_from(reached: int) -> str:
        """Whoever has it, once it has come so far; both from one look, as it goes on."""
        change = now()
        return change.owner if change.done >= reached else ""

    def kill_worker(owner: str) -> None:
        """In the middle of what it does; and the time passes that its lease lasts."""
        pid = int(owner.split(":")[1])
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: is_gone(pid))
        BulkChange.objects.filter(pk=change.pk, owner=owner).update(
            lease_until=timezone.now() - timedelta(seconds=1)
        )

    change = bulk.plan(
        SYSTEM, BulkAction.TO_TIME, Event.objects.all(), {"at": timezone.now() + timedelta(days=6)}
    )
    assert (change.status, change.total) == (BulkStatus.PLANNING, EVENTS)
    kill_worker(wait_for(lambda: owner_from(0), 60, lambda: cluster.log[-3000:]))
    wait_for(lambda: now().status == BulkStatus.PLANNED, 120, lambda: cluster.log[-3000:])
    assert bulk.counts(change) == bulk.Counts(planned=EVENTS)
    assert not Event.objects.exclude(revision=0).exists()

    bulk.apply(SYSTEM, now())
    for reached in (1000, 3000):
        owner = wait_for(
            lambda: owner_from(reached),  # noqa: B023 - of this round
            90,
            lambda: cluster.log[-3000:],
        )
        kill_worker(owner)
        assert now().status == BulkStatus.APPLYING, "too fast to be killed in the middle"
    wait_for(lambda: now().status == BulkStatus.DONE, 120, lambda: cluster.log[-3000:])

    assert bulk.counts(change) == bulk.Counts(done=EVENTS)
    assert Event.objects.filter(revision=1, deferrals=1).count() == EVENTS
    assert set(BulkRow.objects.values_list("applied_revision", flat=True)) == {1}
    assert AuditEntry.objects.filter(action="event.rescheduled").count() == EVENTS
    told = Occasion.objects.filter(kind=OccasionKind.CHANGED)
    assert told.count() == told.values("event").distinct().count() == EVENTS
