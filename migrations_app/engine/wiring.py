"""What the parts of one attempt share."""

from __future__ import annotations

from dataclasses import dataclass

from migrations_app.engine.checkpoint import Checkpoint
from migrations_app.engine.clock import Clock
from migrations_app.engine.config import LinkConfig
from migrations_app.engine.deferred import Deferred
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.filter import Filter
from migrations_app.engine.loop import Loop
from migrations_app.engine.meter import Meter
from migrations_app.engine.rate import Throttle
from migrations_app.engine.scripts import Scripts
from migrations_app.engine.target.base import Target, TargetPipeline


@dataclass(slots=True)
class Wiring:
    """`checkpoint` is the one that is stored in the target, apart from the offset, which moves with every batch."""

    config: LinkConfig
    meter: Meter
    target: Target
    pipeline: TargetPipeline
    filter: Filter
    deferred: Deferred
    checkpoint: Checkpoint
    throttle: Throttle
    source: ServerFacts
    clock: Clock
    scripts: Scripts | None  # where the source may send EVALSHA
    loop: Loop
