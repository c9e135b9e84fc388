from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from django.apps import AppConfig


class GatedConfig(AppConfig):
    name = "tests.events.gated"
    label = "gated"

    def ready(self) -> None:
        from events import executors
        from events.choices import Phase
        from events.executors import Done, Outcome, StageSpec, Step
        from events.models import Event

        folder = Path(os.environ["GATE"])

        class Gated:
            """Notes each step that it is asked for in the file `asked`, and waits until there is a file `open`."""

            name = "gated"
            label = "Of the test"
            simulated = False

            def stages(self, event: Event) -> Sequence[StageSpec]:
                return (
                    StageSpec("prepare", "Prepare", Phase.PREPARE),
                    StageSpec("switch", "Switch over", Phase.SWITCH),
                )

            def step(self, step: Step) -> Outcome:
                with (folder / "asked").open("a") as asked:
                    asked.write(f"{os.getpid()} {step.stage}\n")
                while not (folder / "open").exists():
                    time.sleep(0.02)
                step.log(f"worked on {step.stage}")
                return Done(impact_seconds=1.5 if step.stage == "switch" else None)

        executors.register(Gated())
