"""Events carried out by real clusters, whose workers are killed in the middle of it."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from events.choices import EventStatus, OccasionKind
from events.models import Event, EventRun, Occasion
from portal.models import Account, AuditEntry
from tests.migrations_app.clusters import NewCluster, database, new_clusters
from tests.portal.world import make_instance
from tests.support.wait import wait_for

from .conftest import make_event


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the executor `gated`, which the clusters of this test know."""
    monkeypatch.setenv("GATE", str(tmp_path))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.events.gated.settings")
    return tmp_path


@pytest.fixture
def new_cluster(tmp_path: Path, gate: Path, django_db_blocker: object) -> Iterator[NewCluster]:
    url = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
    with django_db_blocker.unblock(), database(url), new_clusters(url, tmp_path, workers=2) as make:
        yield make


def due_event(executor: str, name: str = "sessions") -> Event:
    """To be switched over now."""
    account, _ = Account.objects.get_or_create(name="Payments")
    return make_event(
        make_instance(account, name), executor=executor, switch_at=timezone.now(), preparation_seconds=0
    )


def asked(gate: Path) -> list[list[str]]:
    """(process, stage) of each step that a worker has begun."""
    file = gate / "asked"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def kinds(event: Event) -> Counter[str]:
    told = Occasion.objects.filter(event=event, kind__in=(OccasionKind.STARTED, OccasionKind.SUCCEEDED))
    return Counter(told.values_list("kind", flat=True))


def status(event: Event) -> str:
    return Event.objects.values_list("status", flat=True).get(pk=event.pk)


@pytest.mark.parametrize("killed", ["worker", "cluster"])
@pytest.mark.timeout(180)
def test_a_worker_that_is_killed_in_a_step_is_followed_by_another(
    gate: Path, new_cluster: NewCluster, killed: str
) -> None:
    cluster = new_cluster()
    event = due_event("gated")
    wait_for(lambda: asked(gate), 40, lambda: cluster.log[-3000:])
    begun = timezone.now()
    if killed == "worker":
        os.kill(int(asked(gate)[0][0]), signal.SIGKILL)
    else:
        cluster.kill()
        cluster = new_cluster()
    run = EventRun.objects.get(event=event)
    assert run.lease_until is not None and run.lease_until > begun + timedelta(seconds=60)
    assert (run.attempts, run.owner.split(":")[1]) == (1, asked(gate)[0][0])

    (gate / "open").touch()
    # The lease keeps others away until nobody can be working any more; the test need not wait for that.
    EventRun.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    wait_for(lambda: status(event) == EventStatus.SUCCEEDED, 60, lambda: cluster.log[-3000:])

    event.refresh_from_db()
    assert [stage for _, stage in asked(gate)] == ["prepare", "prepare", "switch"]
    assert event.measured_seconds == 1.5
    assert event.log.filter(message__startswith="worked on").count() == 2
    assert kinds(event) == {"started": 1, "succeeded": 1}
    assert AuditEntry.objects.filter(action="event.started").count() == 1


@pytest.mark.timeout(180)
def test_two_clusters_carry_simulations_out_once(new_cluster: NewCluster) -> None:
    first, second = new_cluster(), new_cluster()
    events = [due_event("simulated", f"sessions-{number}") for number in range(3)]
    other = make_event(
        events[0].instance,
        executor="simulated",
        switch_at=timezone.now(),
        preparation_seconds=0,
    )
    everything = [*events, other]
    wait_for(
        lambda: all(status(event) == EventStatus.SUCCEEDED for event in everything),
        150,
        lambda: "\n".join([first.log[-3000:], second.log[-3000:], *map(status, everything)]),
        interval=0.2,
    )
    for event in everything:
        event.refresh_from_db()
        assert kinds(event) == {"started": 1, "succeeded": 1}
        messages = list(event.log.values_list("message", flat=True))
        ends = [line for line in messages if ": done." in line]
        assert len(ends) == len(set(ends)) == event.stages.count()
        total = sum(stage.impact_seconds or 0 for stage in event.stages.all())
        assert event.measured_seconds == pytest.approx(total)
    # Two of one instance: never at once.
    one, two = sorted((events[0], other), key=lambda event: event.started_at or timezone.now())
    assert one.finished_at is not None and two.started_at is not None and one.finished_at <= two.started_at
