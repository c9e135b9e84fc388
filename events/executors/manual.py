"""Work that people carry out: each stage waits until staff confirm it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from events.choices import Phase
from events.executors.base import Outcome, StageSpec, Step, WaitsForPerson
from events.models import Event

TO_DO: Final = {
    "prepare": "Prepare everything up to the switchover, without any impact on clients, and confirm it.",
    "switch": "Switch over, measure for how many seconds clients could not write, and confirm it with that figure.",
    "check": "Check that clients work as before, and confirm it: with that the event has ended.",
}


class Manual:
    """Staff do it. The console says what is next, and not before its time."""

    name = "manual"
    label = "Manual work by staff"
    simulated = False

    def stages(self, event: Event) -> Sequence[StageSpec]:
        impact = str(event.impacts[0].get("text", "")) if event.impacts else ""
        return (
            StageSpec("prepare", "Prepare", Phase.PREPARE),
            StageSpec("switch", "Switch over", Phase.SWITCH, impact),
            StageSpec("check", "Check", Phase.SWITCH),
        )

    def step(self, step: Step) -> Outcome:
        return WaitsForPerson(TO_DO[step.stage])
