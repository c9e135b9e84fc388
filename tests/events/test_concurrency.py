"""Two people at the same moment, on a database that several processes share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connections

from events.models import Event, RegionLimit
from events.services import scheduling
from events.services.by import By
from portal.errors import ServiceError
from tests.migrations_app.clusters import shared_database
from tests.portal.world import World, make_world

from .conftest import make_event


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(
    request: pytest.FixtureRequest,
    django_db_blocker: Any,
    django_db_setup: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    with django_db_blocker.unblock(), shared_database(request, tmp_path_factory.mktemp("events")):
        yield make_world()


def together(*acts: Callable[[], Event]) -> list[Event | ServiceError]:
    """Each in a thread and with a connection of its own, let loose at the same moment. What each returned, or was refused with."""
    barrier = threading.Barrier(len(acts))
    results: dict[int, Any] = {}

    def run(number: int, act: Callable[[], Event]) -> None:
        try:
            barrier.wait(10)
            results[number] = act()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            results[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number, act)) for number, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for result in results.values():
        if isinstance(result, BaseException) and not isinstance(result, ServiceError):
            raise result
    return [results[number] for number in range(len(acts))]


def mover(world: World, event: Event, to: datetime, seen: int | None) -> Callable[[], Event]:
    return lambda: scheduling.reschedule(
        By(world.user("operator")), Event.objects.get(pk=event.pk), to, seen=seen
    )


def test_one_of_two_wins_and_the_other_is_told(shared: World) -> None:
    for round_number in range(5):
        event = make_event(shared.instance)
        times = [event.deadline - timedelta(hours=hours) for hours in (1, 2)]
        results = together(*(mover(shared, event, to, 0) for to in times))

        refused = [one for one in results if isinstance(one, ServiceError)]
        won = [one for one in results if isinstance(one, Event)]
        assert len(won) == 1 and [one.id for one in refused] == ["event.changed"], round_number
        event.refresh_from_db()
        assert event.switch_at == won[0].switch_at and event.revision == 1
        assert f"{event.switch_at:%H:%M}" in refused[0].message


def test_the_last_place_of_a_region_is_taken_once(shared: World) -> None:
    RegionLimit.objects.create(region="eu-central", most=1)
    for days in range(5):
        events = [make_event(shared.instance) for _ in range(2)]
        to = events[0].deadline - timedelta(hours=1, minutes=20 * days)
        Event.objects.exclude(pk__in=[one.pk for one in events]).delete()
        Event.objects.update(switch_at=events[0].deadline - timedelta(days=3))
        results = together(*(mover(shared, event, to, None) for event in events))

        assert sorted(
            getattr(one, "id", "") or "moved" for one in results if isinstance(one, ServiceError)
        ) == ["event.region_full"]
        assert Event.objects.filter(switch_at=to).count() == 1
