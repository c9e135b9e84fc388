"""Carries nothing out, but shows it: the stages of a real work of the type, in some seconds, with figures that could be real.

For training and demonstrations. It knows no server, and what it says is the same for an event whenever it is run.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from events.choices import Phase
from events.executors.base import Again, Done, Outcome, StageSpec, Step
from events.models import Event

PACE: Final = timedelta(seconds=1.5)
"""Between two steps: a stage has as many as it has lines, so the whole takes some half a minute."""
WAIT: Final = "wait"


@dataclass(frozen=True, slots=True)
class Act:
    """A stage as it is played: what it says, line by line, and which part of the impact it has."""

    spec: StageSpec
    lines: tuple[str, ...]
    detail: str
    share: float = 0.0


def _prepare(code: str, name: str, *lines: str, detail: str) -> Act:
    return Act(StageSpec(code, name, Phase.PREPARE), lines, detail)


def _switch(code: str, name: str, *lines: str, detail: str, share: float = 0.0, impact: str = "") -> Act:
    return Act(StageSpec(code, name, Phase.SWITCH, impact), lines, detail, share)


_WAIT: Final = _prepare(WAIT, "Wait for the switchover", detail="The time has come.")
_CHECK: Final = _switch(
    "check", "Check", "Asks every node for its role.", detail="All nodes answer, and clients are connected."
)

_REPLACE: Final = (
    _prepare(
        "resources", "Request resources", "Requests a proxy, a master and a replica.", "The nodes have started.",
        detail="A proxy, a master and a replica are ready.",
    ),
    _prepare(
        "synchronize", "Synchronize data", "Copies {keys:,} keys to the new master.", "The copy is complete; follows the changes.",
        "{left} kB are left to synchronize.", detail="{keys:,} keys are on the new nodes, which follow the changes.",
    ),
    _WAIT,
    _switch(
        "proxies", "Switch the proxies", "New connections go to the new proxy.", detail="The proxies use the new nodes.",
        share=0.2, impact="Connections are closed once.",
    ),
    _switch(
        "replicas", "Switch the replica nodes", "Reads go to the new replica.", detail="The new replica serves reads.",
        share=0.1, impact="Connections of readers are closed once.",
    ),
    _switch(
        "master", "Switch the master node", "Writes are stopped.", "The new master has everything.", "Writes go on.",
        detail="The new master takes writes.", share=0.7, impact="Read-only for usually less than a minute.",
    ),
    _switch("remove", "Remove the old nodes", "The old nodes are stopped.", detail="The old nodes are gone."),
)  # fmt: skip
_PROMOTE: Final = (
    _prepare("replica", "Check the replica", "The replica is in step with the master.", detail="The replica can take over."),
    _WAIT,
    _switch(
        "promote", "Promote the replica", "Writes are stopped.", "The replica has everything, and becomes the master.",
        detail="Master and replica have changed places.", share=1, impact="Writes are refused for some seconds.",
    ),
    _CHECK,
)  # fmt: skip
_RESTART: Final = (
    _prepare("configure", "Prepare the change", "Writes the new settings beside the old ones.", detail="The settings are ready."),
    _WAIT,
    _switch(
        "replicas", "Restart the replica nodes", "The replica restarts.", "It is in step again.",
        detail="The replica runs with the change.", share=0.2, impact="Connections of readers are closed once.",
    ),
    _switch(
        "master", "Restart the master node", "The replica takes over.", "The former master restarts.",
        detail="Every node runs with the change.", share=0.8, impact="Writes are refused for some seconds.",
    ),
    _CHECK,
)  # fmt: skip
_PROXIES: Final = (
    _prepare("resources", "Request resources", "Requests a proxy of the new version.", detail="The new proxy is ready."),
    _WAIT,
    _switch(
        "proxies", "Switch the proxies", "The first proxy is replaced.", "The second proxy is replaced.",
        detail="All connections go over the new proxies.", share=1, impact="Each proxy closes its connections once.",
    ),
    _switch("remove", "Remove the old proxies", "The old proxies are stopped.", detail="The old proxies are gone."),
)  # fmt: skip
_CERTIFICATE: Final = (
    _prepare("certificate", "Request the certificate", "The authority has signed it.", detail="The new certificate is ready."),
    _WAIT,
    _switch(
        "load", "Load the certificate", "The replica uses it.", "The master uses it.",
        detail="Every node shows the new certificate.", share=1, impact="Connections over TLS are closed once.",
    ),
    _CHECK,
)  # fmt: skip
_NETWORK: Final = (
    _prepare("network", "Prepare the new network", "The new load balancer knows all nodes.", detail="The new network is ready."),
    _WAIT,
    _switch(
        "move", "Move the traffic", "New connections take the new way.", "The old way is closed.",
        detail="All clients use the new network.", share=1, impact="Connections are closed once.",
    ),
    _CHECK,
)  # fmt: skip
_ACTS: Final[dict[str, tuple[Act, ...]]] = {
    "switchover": _PROMOTE,
    "certificate-update": _CERTIFICATE,
    "backup-mode-change": _RESTART,
    "configuration-change": _RESTART,
    "proxy-version": _PROXIES,
    "network-upgrade": _NETWORK,
    "network-upgrade-zone": _NETWORK,
}
"""By type; all others replace the nodes."""


class Simulated:
    """Shows how the work of an event goes. Nothing is done."""

    name = "simulated"
    label = "Simulated: nothing is really done"
    simulated = True

    def stages(self, event: Event) -> Sequence[StageSpec]:
        return [act.spec for act in acts_of(event)]

    def step(self, step: Step) -> Outcome:
        if step.stage == WAIT:
            return self._wait(step)
        act = next(act for act in acts_of(step.event) if act.spec.code == step.stage)
        told = int(step.state.get(step.stage, 0))
        words = _figures(step.event)
        if told < len(act.lines):
            step.log(f"Simulated: {act.lines[told].format(**words)}")
            step.state = step.state | {step.stage: told + 1}
            return Again(PACE)
        impact = None
        if act.share:
            impact = round(impact_of(step.event) * act.share, 1)
        return Done(f"Simulated: {act.detail.format(**words)}", impact)

    def _wait(self, step: Step) -> Outcome:
        switch_at = step.event.switch_at
        if switch_at is not None and step.now < switch_at:
            return Again(switch_at - step.now)
        return Done(f"Simulated: {_WAIT.detail}")


def acts_of(event: Event) -> tuple[Act, ...]:
    return _ACTS.get(event.type.code, _REPLACE)


def impact_of(event: Event) -> float:
    """In seconds, as if it had been measured: from half of the typical impact to a third more than it."""
    return event.impact_seconds * _dice(event).uniform(0.5, 1.3)


def _figures(event: Event) -> dict[str, int]:
    dice = _dice(event)
    return {"keys": dice.randrange(20_000, 900_000), "left": dice.randrange(4, 900)}


def _dice(event: Event) -> random.Random:
    return random.Random(event.public_id)
