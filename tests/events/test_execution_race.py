"""Workers and ticks at the same moment, on a database that several processes share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.utils import timezone

from events.choices import EventStatus, Phase
from events.models import Event, EventRun, EventStage, Occasion, RegionLimit
from events.services import execution, steps
from events.services.by import By
from portal.errors import Conflict
from tests.portal.world import World, make_instance

from .conftest import make_event, make_staff
from .test_concurrency import shared, together  # noqa: F401 - a fixture

ROUNDS = 5


def due(world: World, *, instance: Any = None, region: str = "eu", executor: str = "simulated") -> Event:
    instance = instance or make_instance(world.account, uuid4().hex[:12], region=region)
    return make_event(instance, executor=executor, switch_at=timezone.now(), preparation_seconds=0)


def beginner(event: Event) -> Callable[[], Any]:
    return lambda: execution.begin(event.pk)


def taker(event: Event) -> Callable[[], Any]:
    return lambda: steps.take(event.pk, f"worker {uuid4().hex}")


def test_two_ticks_begin_an_event_once(shared: World) -> None:  # noqa: F811
    for _ in range(ROUNDS):
        event = due(shared)
        answers = together(*[beginner(event)] * 4)
        assert sorted(map(str, answers)) == ["None"] * 3 + [str(EventStatus.RUNNING)]
        assert Occasion.objects.filter(event=event, kind="started").count() == 1
        assert EventRun.objects.filter(event=event).count() == 1
        event.refresh_from_db()
        assert event.revision == 1


def test_of_two_events_of_an_instance_one_begins(shared: World) -> None:  # noqa: F811
    for _ in range(ROUNDS):
        one = due(shared)
        other = due(shared, instance=one.instance)
        answers = together(beginner(one), beginner(other))
        assert sorted(map(str, answers)) == [str(EventStatus.PENDING), str(EventStatus.RUNNING)]
        waiting = Event.objects.get(instance=one.instance, status=EventStatus.PENDING)
        assert waiting.hold_reason.startswith("Waits for ")


def test_a_step_is_taken_by_one_worker(shared: World) -> None:  # noqa: F811
    for _ in range(ROUNDS):
        event = due(shared)
        execution.begin(event.pk)
        answers = together(*[taker(event)] * 4)
        assert [str(answer) for answer in answers].count("stored") == 1
        run = EventRun.objects.get(event=event)
        assert (run.steps, run.attempts, run.owner) == (1, 0, "")


def test_the_last_place_of_a_region_is_taken_once(shared: World) -> None:  # noqa: F811
    for _ in range(ROUNDS):
        region = uuid4().hex[:12]
        RegionLimit.objects.create(region=region, most=1)
        events = [due(shared, region=region) for _ in range(3)]
        for event in events:
            execution.begin(event.pk)
            # As if everything were prepared.
            EventStage.objects.filter(event=event, phase=Phase.PREPARE).update(status="done")
        together(*[taker(event) for event in events])
        switching = EventRun.objects.filter(event__in=events, phase=Phase.SWITCH)
        assert switching.count() == 1
        held = Event.objects.filter(pk__in=[event.pk for event in events]).exclude(hold_reason="")
        assert held.count() == 2


def test_a_stage_is_confirmed_once(shared: World) -> None:  # noqa: F811
    people = [By(make_staff(uuid4().hex[:12])) for _ in range(2)]
    for _ in range(ROUNDS):
        event = due(shared, executor="manual")
        execution.begin(event.pk)
        steps.take(event.pk, "worker")

        def confirm(by: By, event: Event = event) -> Callable[[], Any]:
            return lambda: execution.confirm(by, event, "prepare", now=timezone.now() - timedelta(seconds=1))

        answers = together(*map(confirm, people))
        assert sum(isinstance(answer, Conflict) for answer in answers) == 1
        assert EventStage.objects.filter(event=event, status="done").count() == 1
