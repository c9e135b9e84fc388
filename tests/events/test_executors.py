"""The executors that the product brings along."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from events import executors
from events.choices import EventStatus, Phase
from events.executors.base import Again, Done, Step, WaitsForPerson
from events.executors.manual import Manual
from events.executors.simulated import WAIT, Simulated, acts_of, impact_of
from events.models import Event, EventType
from portal.models import Instance

from .conftest import make_event

CODES = (
    "instance-migration", "switchover", "certificate-update", "backup-mode-change", "minor-version", "proxy-version",
    "network-upgrade", "network-upgrade-zone", "major-version", "configuration-change", "vulnerability-fix",
)  # fmt: skip


def test_both_are_known_by_name() -> None:
    assert {"manual", "simulated"} <= {name for name, _ in executors.known()}
    simulated, manual = executors.executor_of("simulated"), executors.executor_of("manual")
    assert simulated is not None and simulated.simulated and "nothing is really done" in simulated.label
    assert manual is not None and not manual.simulated


def test_every_type_has_an_executor(db: None) -> None:
    assert sorted(EventType.objects.values_list("code", flat=True)) == sorted(CODES)
    assert all(executors.executor_of(one.executor) for one in EventType.objects.all())


def play(event: Event) -> tuple[list[str], dict[str, Done], timedelta]:
    """All steps as the service takes them: lines, how the stages ended, and how long it takes without the wait for its time."""
    simulated = Simulated()
    state: dict[str, Any] = {}
    lines: list[str] = []
    ends: dict[str, Done] = {}
    took = timedelta(0)
    assert event.switch_at is not None
    for spec in simulated.stages(event):
        while spec.code not in ends:
            step = Step(event, spec.code, state, event.switch_at, event.switch_at)
            outcome = simulated.step(step)
            state = step.state
            lines += [message for _, message in step.lines]
            if isinstance(outcome, Again):
                took += outcome.after
            else:
                assert isinstance(outcome, Done)
                ends[spec.code] = outcome
    return lines, ends, took


@pytest.mark.parametrize("code", CODES)
def test_a_simulation_looks_like_the_work_of_its_type(instance: Instance, code: str) -> None:
    event = make_event(instance, code, executor="simulated")
    lines, ends, took = play(event)

    assert (lines, ends, took) == play(event)  # the same whenever it is run
    assert lines and all(line.startswith("Simulated: ") for line in lines)
    assert all(end.detail.startswith("Simulated: ") for end in ends.values())
    assert timedelta(seconds=3) < took < timedelta(seconds=30)
    measured = sum(end.impact_seconds or 0 for end in ends.values())
    assert measured == pytest.approx(impact_of(event), abs=0.2)
    assert event.impact_seconds * 0.4 <= measured <= event.impact_seconds * 1.4

    specs = Simulated().stages(event)
    assert len({spec.code for spec in specs}) == len(specs)
    phases = [spec.phase for spec in specs]
    assert phases == sorted(phases, key=[Phase.PREPARE, Phase.SWITCH].index)
    for act in acts_of(event):
        assert bool(act.share) == bool(act.spec.impact)
        assert act.spec.phase == Phase.SWITCH or not act.share


def test_the_stages_of_an_upgrade_are_those_of_the_real_one(instance: Instance) -> None:
    names = [spec.name for spec in Simulated().stages(make_event(instance, "major-version"))]
    assert names == [
        "Request resources",
        "Synchronize data",
        "Wait for the switchover",
        "Switch the proxies",
        "Switch the replica nodes",
        "Switch the master node",
        "Remove the old nodes",
    ]


def test_it_waits_for_its_time(instance: Instance) -> None:
    event = make_event(instance)
    assert event.switch_at is not None
    for early in (timedelta(seconds=1), timedelta(hours=1)):
        step = Step(event, WAIT, {}, event.switch_at - early, timezone.now())
        assert Simulated().step(step) == Again(early)


def test_a_person_is_told_what_to_do(instance: Instance) -> None:
    event = make_event(instance)
    specs = Manual().stages(event)
    assert [(spec.name, spec.phase) for spec in specs] == [
        ("Prepare", Phase.PREPARE),
        ("Switch over", Phase.SWITCH),
        ("Check", Phase.SWITCH),
    ]
    assert specs[1].impact == event.impacts[0]["text"]
    for spec in specs:
        outcome = Manual().step(Step(event, spec.code, {}, timezone.now(), timezone.now()))
        assert isinstance(outcome, WaitsForPerson) and "confirm it" in outcome.what


def test_a_simulation_says_that_it_was_one(instance: Instance) -> None:
    from events.services import execution, steps

    now = timezone.now()
    event = make_event(instance, executor="simulated", switch_at=now, preparation_seconds=0)
    assert execution.begin(event.pk, now) == EventStatus.RUNNING
    for second in range(120):
        steps.take(event.pk, "worker", now + timedelta(seconds=second))
    event.refresh_from_db()
    assert event.status == EventStatus.SUCCEEDED and event.result.startswith(
        "Simulated: nothing was really done, as if"
    )
    assert event.measured_seconds == pytest.approx(impact_of(event), abs=0.2)
