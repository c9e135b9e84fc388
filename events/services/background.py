"""What telling looks at, loaded for many occasions in a constant number of queries; and who is told of an urgent event next.

An urgent event (S0) is announced to the first contact alone. While nobody has seen it, each EVENT_ESCALATION_MINUTES the next one is told.
Once all of them were, all are told once more at the same time: who has slept through one message may wake at the second, or know that the
others have not. Then it ends, with a warning in the log of the event: a telephone that rings for ever is switched off, and the reminders of
the switchover still come to everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q

from events.choices import LogLevel, OccasionKind
from events.models import BulkChange, Event, EventLogEntry, Occasion
from events.services import occasions
from events.services.by import SYSTEM
from events.services.choosing import choose_by_of
from events.services.impact import SIMULATED, Measured, measured_before
from events.wording import TIMES as TIMES
from events.wording import Case, is_urgent, would_come_too_late
from portal.choices import Category
from portal.models import Contact, Notification
from portal.services.notifications import contacts_for, reach_of
from portal.services.quiet import end_of_quiet_hours
from portal.services.reach import Reached, operations, reached_by

K = OccasionKind


@dataclass(slots=True)
class Background:
    now: datetime
    contacts: dict[int, list[Reached]]
    """By the event's primary key, in order, only those who can be reached."""
    siblings: dict[int, list[Occasion]]
    """Other occasions of the same events, as far as `load` found that they matter."""
    seen: set[int] = field(default_factory=set)
    """Urgent events that somebody has seen."""
    operations: list[Reached] = field(default_factory=list)
    """Who is told of what staff have to do."""
    choose_by: Mapping[int, datetime] = field(default_factory=dict)
    """Of events that wait for a time, by their primary key."""
    undoing: set[str] = field(default_factory=set)
    """Batches that take an earlier bulk change back."""
    _measured: dict[tuple[int, bool], Measured | None] = field(default_factory=dict)
    _quiet: dict[int, datetime] = field(default_factory=dict)
    _names: dict[int, list[str]] = field(default_factory=dict)
    _next: list[Occasion] = field(default_factory=list)
    _log: list[EventLogEntry] = field(default_factory=list)

    # --- Who ----------------------------------------------------------------------------------------------------------

    def audience(self, row: Occasion) -> list[Reached]:
        """Whom this occasion is told to. Call it once for each: it notes what follows."""
        if row.kind == K.WORK:
            return self.operations
        contacts = self.contacts[row.event_id]
        if not row.event.is_urgent or row.kind not in (K.PUBLISHED, K.ESCALATION):
            return contacts
        told = set(row.facts.get("told", ()))
        left = [one for one in contacts if one.contact.pk not in told]
        if left:
            self._escalate_later(row, [*told, left[0].contact.pk])
            if row.kind == K.ESCALATION:
                minutes = settings.EVENT_ESCALATION_MINUTES
                self._note(
                    row, f"Nobody has seen it for {minutes} min: {left[0].contact.name} is told as well."
                )
            return left[:1]
        if contacts:
            everybody = ", ".join(one.contact.name for one in contacts)
            self._note(row, f"Nobody has seen this urgent event: everybody is told once more ({everybody}).")
        return contacts

    def _escalate_later(self, row: Occasion, told: list[int]) -> None:
        if not row.event.is_open:
            return
        number = int(row.facts.get("number", 0)) + 1
        self._next.append(
            occasions.draft(
                row.event,
                K.ESCALATION,
                f"escalation:{number}",
                facts={"number": number, "told": told},
                batch=row.batch,
                due_at=self.now + timedelta(minutes=settings.EVENT_ESCALATION_MINUTES),
            )
        )

    def _note(self, row: Occasion, message: str) -> None:
        self._log.append(EventLogEntry(event_id=row.event_id, level=LogLevel.WARNING, message=message))

    def said(self, rows: Iterable[Occasion], name: str) -> None:
        """Under which name these occasions were told: reading that message is seeing the event."""
        for row in rows:
            self._names.setdefault(row.event_id, []).append(name)

    def follow_up(self) -> None:
        """Write what is to be told later, and what is noted."""
        for later in self._next:
            before = later.facts.get("said", [])
            later.facts["said"] = [*before, *self._names.get(later.event_id, [])]
        occasions.note_many(self._next)
        EventLogEntry.objects.bulk_create(self._log)

    # --- What ---------------------------------------------------------------------------------------------------------

    def case(self, row: Occasion, contact: Contact) -> Case:
        kind = K(row.kind)
        facts: dict[str, Any] = dict(row.facts)
        if kind in TIMES:
            facts["old"] = self._old_time(row)
            facts["undone"] = row.batch in self.undoing
        if kind == K.ESCALATION:
            names = {one.contact.pk: one.contact.name for one in self.contacts[row.event_id]}
            facts["told_names"] = ", ".join(names[pk] for pk in row.facts.get("told", ()) if pk in names)
        read_at = self._after_quiet_hours(contact)
        urgent = is_urgent(row.event, kind) or would_come_too_late(row.event, kind, self.now, read_at)
        choose_by = self.choose_by.get(row.event_id)
        return Case(
            row.event,
            kind,
            contact,
            self.now if urgent else read_at,
            facts,
            self.measured(row.event),
            choose_by,
            urgent,
        )

    def _old_time(self, row: Occasion) -> str:
        """The last time that was told: earlier changes may have been passed over for this one."""
        old = str(row.facts.get("old") or "")
        for earlier in sorted(self.changes(row), key=revision_of, reverse=True):
            if revision_of(earlier) >= revision_of(row):
                continue
            if earlier.told_at is not None and not earlier.facts.get("passed"):
                break
            old = str(earlier.facts.get("old") or "")
        return old

    def changes(self, row: Occasion) -> list[Occasion]:
        return [one for one in self.siblings.get(row.event_id, ()) if one.kind in TIMES]

    def measured(self, event: Event) -> Measured | None:
        key = (event.type_id, event.executor == SIMULATED)
        if key not in self._measured:
            self._measured[key] = measured_before(event)
        return self._measured[key]

    def _after_quiet_hours(self, contact: Contact) -> datetime:
        if contact.pk not in self._quiet:
            self._quiet[contact.pk] = end_of_quiet_hours(contact, self.now) or self.now
        return self._quiet[contact.pk]


def revision_of(row: Occasion) -> int:
    return int(row.facts.get("revision", 0))


def load(rows: Sequence[Occasion], now: datetime) -> Background:
    """`rows` with their events, types, accounts and instances."""
    events = {row.event_id: row.event for row in rows}
    behind = Background(now, contacts_of(events.values()), _siblings(rows, now))
    asking = [row for row in rows if row.kind == K.ESCALATION]
    if asking:
        behind.seen = _seen(asking, behind)
    if any(row.kind == K.WORK for row in rows):
        behind.operations = operations()
    behind.choose_by = choose_by_of(events.values(), now)
    behind.undoing = _undoing(rows)
    return behind


def _undoing(rows: Iterable[Occasion]) -> set[str]:
    batches = {row.batch for row in rows if row.kind == K.CHANGED and row.batch}
    if not batches:
        return set()
    found = BulkChange.objects.filter(public_id__in=batches, undoes__isnull=False)
    return set(found.values_list("public_id", flat=True))


def _siblings(rows: Sequence[Occasion], now: datetime) -> dict[int, list[Occasion]]:
    wanted = {K(row.kind) for row in rows}
    kinds: set[OccasionKind] = set()
    if wanted & {K.PUBLISHED, *TIMES, K.ESCALATION, K.CANCELLED}:
        kinds |= {K.PUBLISHED, *TIMES}
    if K.ESCALATION in wanted:
        kinds |= set(K)
    condition = Q(kind__in=kinds)
    if K.REMINDER in wanted:
        condition |= Q(kind=K.REMINDER, due_at__lte=now)
    found: dict[int, list[Occasion]] = {}
    if kinds or K.REMINDER in wanted:
        pks = list({row.event_id for row in rows})
        for start in range(0, len(pks), 5000):
            for row in Occasion.objects.filter(condition, event__in=pks[start : start + 5000]):
                found.setdefault(row.event_id, []).append(row)
    return found


def _seen(rows: Sequence[Occasion], behind: Background) -> set[int]:
    """Acknowledged, moved by somebody, or read in the inbox."""
    found = {row.event_id for row in rows if row.event.acknowledged_at is not None}
    names: dict[str, set[int]] = {}
    for row in rows:
        for one in behind.siblings.get(row.event_id, ()):
            names.setdefault(f"event:{row.event.public_id}:{one.key}", set()).add(row.event_id)
            if one.kind == K.CHANGED and one.facts.get("by") != SYSTEM.name:
                found.add(row.event_id)
        for name in row.facts.get("said", ()):
            names.setdefault(name, set()).add(row.event_id)
    readers = {one.contact.pk for row in rows for one in behind.contacts[row.event_id]}
    read = Notification.objects.filter(
        contact__in=readers, occasion__in=list(names), read_at__isnull=False
    ).values_list("occasion", flat=True)
    for name in read:
        found |= names[name]
    return found


def contacts_of(events: Iterable[Event]) -> dict[int, list[Reached]]:
    """By the event's primary key. A constant number of queries, but for events whose instance was deleted."""
    events = list(events)
    by_instance = reached_by({event.instance for event in events if event.instance is not None})
    of_account: dict[int, list[Reached]] = {}
    found: dict[int, list[Reached]] = {}
    for event in events:
        if event.instance_id is not None:
            found[event.pk] = by_instance[event.instance_id]
            continue
        if event.account_id not in of_account:
            of_account[event.account_id] = [
                Reached(contact, tuple(channels))
                for contact in contacts_for(event.account, Category.MAINTENANCE)
                if (channels := reach_of(contact))
            ]
        found[event.pk] = of_account[event.account_id]
    return found
