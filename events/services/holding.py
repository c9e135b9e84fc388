"""Whether an occasion is still to be told when it is due. Reads what was loaded before, and writes nothing."""

from __future__ import annotations

from typing import Final

from events.choices import UNFINISHED, EventStatus, OccasionKind
from events.models import Occasion
from events.services.background import TIMES, Background, revision_of
from events.services.occasions import REMINDED
from events.services.staff import FAILED

K = OccasionKind
ALWAYS: Final = frozenset({K.SUCCEEDED, K.FAILED})


def is_due_still(row: Occasion, behind: Background) -> bool:
    """False: it is passed over."""
    event, kind = row.event, K(row.kind)
    if kind in ALWAYS:
        return True
    if kind == K.PUBLISHED:
        # Nobody has heard of it yet, and need not any more.
        return event.status != EventStatus.CANCELLED
    if kind == K.CANCELLED:
        return _was_announced(row, behind)
    if kind in TIMES:
        return event.status in UNFINISHED and not _says_more(row, behind)
    if kind == K.REMINDER:
        return _reminds(row, behind)
    if kind == K.ESCALATION:
        return event.is_open and event.pk not in behind.seen
    return event.status == EventStatus.RUNNING or row.facts.get("about") == FAILED


def _was_announced(row: Occasion, behind: Background) -> bool:
    """Of an event without the occasion (made otherwise) it is taken for granted."""
    announced = [one for one in behind.siblings.get(row.event_id, ()) if one.kind == K.PUBLISHED]
    return not announced or any(one.told_at is not None and not one.facts.get("passed") for one in announced)


def _says_more(row: Occasion, behind: Background) -> bool:
    """Another message that is still to be told says it as well: a newer change (with the old and the new time), or the announcement."""
    for one in behind.siblings.get(row.event_id, ()):
        if one.told_at is not None:
            continue
        # An urgent one is announced to the first contact only.
        if one.kind == K.PUBLISHED and not row.event.is_urgent:
            return True
        if one.kind in TIMES and revision_of(one) > revision_of(row):
            return True
    return False


def _reminds(row: Occasion, behind: Background) -> bool:
    event = row.event
    if event.status not in REMINDED or event.revision != revision_of(row):
        return False
    if event.switch_at is None or event.switch_at <= behind.now:
        return False
    hours = _hours(row)
    return not any(
        one.kind == K.REMINDER and one.told_at is None and revision_of(one) == revision_of(row) and _hours(one) < hours
        for one in behind.siblings.get(row.event_id, ())
    )  # fmt: skip


def _hours(row: Occasion) -> float:
    return float(row.facts.get("hours", 0))
