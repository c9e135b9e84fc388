"""What staff have to do, told to the contacts of operations (`Account.is_operations`), whichever account the event is of."""

from __future__ import annotations

from events.choices import OccasionKind
from events.models import Event, EventStage
from events.services import occasions

WAITING, OVERDUE, FAILED = "waiting", "overdue", "failed"
"""`about` of the facts of such an occasion."""


def note_waiting(event: Event, stage: EventStage, what: str) -> None:
    """A stage waits for a person: told of the first one of each phase, since who has just confirmed one sees the next.

    Many events of one campaign are told together.
    """
    if event.stages.filter(phase=stage.phase, position__lt=stage.position).exists():
        return
    batch = f"work:{event.campaign_id}:{stage.code}"[:40] if event.campaign_id else ""
    _note(event, WAITING, f"work:{stage.code}", stage.name, what, batch)


def note_overdue(event: Event, stage: EventStage, reason: str) -> None:
    _note(event, OVERDUE, f"work:{stage.code}:overdue", stage.name, f"{reason} {stage.detail}".strip())


def note_failed(event: Event, stage: str) -> None:
    """The event's own contacts are told besides."""
    _note(event, FAILED, "work:failed", stage, event.result)


def _note(event: Event, about: str, key: str, stage: str, text: str, batch: str = "") -> None:
    facts = {"about": about, "stage": stage, "text": text}
    occasions.note(event, OccasionKind.WORK, key[:60], facts=facts, batch=batch)
