"""The words of a message about an event: what is new, to which instance, and when. Pure, but for what `Case` holds.

The subject and the first line say type, instance and time: whoever reads them may just have been woken.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from django.utils.dateparse import parse_datetime

from events.choices import OccasionKind
from events.models import Event
from events.moments import both_texts, left_text, moment_text, twice_text
from events.rules import URGENT_NOTICE, duration_text
from events.services.by import SYSTEM
from events.services.impact import Measured, seconds_text
from portal.models import Contact
from portal.windows import zone_called

K = OccasionKind
Tone = Literal["", "note", "alarm"]

TIMES: Final = frozenset({K.CHANGED, K.POSTPONED})
ENDED: Final = frozenset({K.SUCCEEDED, K.FAILED, K.CANCELLED})
CALM: Final = frozenset({K.SUCCEEDED, K.CANCELLED})
"""Nothing is left to be done: nobody is woken for it."""
MANUAL: Final = "manual"


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence above the button. With a tone it stands in a box."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Case:
    """What one message is made of. `event` has type, account, and instance with its endpoint loaded."""

    event: Event
    kind: OccasionKind
    contact: Contact
    now: datetime
    """When it can be read at the earliest: quiet hours may hold it back."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Of the occasion (see services/occasions.py and whoever notes them)."""
    measured: Measured | None = None
    choose_by: datetime | None = None
    """Of an event that waits for a time: then the system chooses one."""
    urgent: bool = False
    """Whether it comes in quiet hours."""

    @property
    def chosen_until(self) -> datetime | None:
        """Until when the reader can choose a time; None of one that has a time, and where the system will have been quicker."""
        waits = self.event.switch_at is None and self.choose_by is not None and self.choose_by > self.now
        return self.choose_by if waits else None

    @property
    def is_undone(self) -> bool:
        """The time is that of before a bulk change, which was undone."""
        return self.kind == K.CHANGED and bool(self.facts.get("undone"))

    @property
    def is_failure(self) -> bool:
        """Also as staff are told of it."""
        return self.kind == K.FAILED or (self.kind == K.WORK and self.fact("about") == "failed")

    @property
    def is_seen(self) -> bool:
        """Somebody has acknowledged it."""
        return self.event.acknowledged_at is not None

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        return zone_called(self.contact.time_zone)

    def fact(self, name: str) -> str:
        return str(self.facts.get(name) or "")

    def moment(self, name: str) -> datetime | None:
        return parse_datetime(self.fact(name)) if self.fact(name) else None

    @property
    def is_back(self) -> bool:
        """Moved, and moved back before the contact has heard of it. It is told all the same: the links in earlier messages have expired."""
        old = self.moment("old")
        return self.kind == K.CHANGED and old is not None and old == self.event.switch_at

    def day(self, moment: datetime) -> str:
        return moment_text(moment, self.zone, self.now)

    def both(self, moment: datetime) -> str:
        return both_texts(moment, self.zone, self.now)


def is_urgent(event: Event, kind: OccasionKind) -> bool:
    """Whether it comes in quiet hours, whenever the event is. That a risk fix was moved which somebody has seen wakes nobody else."""
    if kind in (K.FAILED, K.WORK):
        return True
    settled = kind in CALM or (kind == K.CHANGED and event.acknowledged_at is not None)
    return event.is_urgent and not settled


def would_come_too_late(event: Event, kind: OccasionKind, now: datetime, read_at: datetime) -> bool:
    """Whether a time that was announced or changed would have come before the contact hears of it, at the end of its quiet hours."""
    news = kind in (K.PUBLISHED, K.CHANGED, K.POSTPONED)
    return news and event.switch_at is not None and now < read_at and event.switch_at <= read_at


def what(event: Event) -> str:
    return f"{event.type.name} of {event.instance_name}"


def subject(case: Case) -> str:
    """Type, instance and time: `Instance migration of sessions: Tue 3 March, 02:00 CET`."""
    event, name = case.event, what(case.event)
    begin = event.switch_at
    when = case.day(begin) if begin else choice(case, case.day)
    match case.kind:
        case K.PUBLISHED:
            text = f"{name}: {when}"
        case K.CHANGED | K.POSTPONED if begin is None:
            text = f"{name}: {when}"
        case K.CHANGED if case.is_back:
            text = f"{name} stays at {when}"
        case K.CHANGED:
            moved = "moved back to" if case.is_undone else "moved to"
            text = f"{name} {moved if case.fact('old') else 'is planned for'} {when}"
        case K.POSTPONED:
            text = f"{name} postponed to {when}"
        case K.REMINDER:
            text = f"Reminder: {name}: {when}"
        case K.ESCALATION:
            text = f"Nobody has seen this yet: {name}: {when}"
        case K.STARTED:
            text = f"Begun: {name}, switchover {when}"
        case K.SUCCEEDED:
            took = impact_here(event)
            text = f"Done: {name}{f', clients were cut off for {took}' if took else ''}"
        case K.WORK:
            text = _work_subject(case, name, when)
        case K.FAILED:
            text = f"FAILED: {name}"
        case _:
            text = f"Cancelled: {name}{f', was planned for {when}' if begin else ''}"
    return marked(text, urgent=event.is_urgent and case.kind not in ENDED, simulated=event.is_simulated)


def marked(text: str, *, urgent: bool, simulated: bool) -> str:
    """What must be seen first, in front."""
    return ("[Simulated] " if simulated else "") + ("URGENT: " if urgent else "") + text


def headline(case: Case) -> str:
    """What is over says so first: its time reads as if it were still to come."""
    event = case.event
    which = f"{what(event)} ({event.instance_public_id})"
    if case.kind == K.CANCELLED:
        return f"CANCELLED: {which}"
    if case.is_failure:
        return f"FAILED: {which}"
    if case.kind == K.SUCCEEDED:
        took = impact_here(event)
        return f"DONE{f' (clients cut off for {took})' if took else ''}: {which}"
    return f"{which}: {case.both(event.switch_at) if event.switch_at else choice(case, case.both)}"


def choice(case: Case, said: Callable[[datetime], str]) -> str:
    """Of an event that waits for a time, which `said` makes words of."""
    if case.chosen_until is not None:
        return f"choose a time by {said(case.chosen_until)}"
    return f"no time yet, {said(case.event.deadline)} at the latest"


def opening(case: Case) -> list[Line]:
    """What stands above the button. A new time and a beginning come before anything else; so does what is new of an event that was seen."""
    news, boxes = [Line(text) for text in lead(case)], marks(case)
    first = case.kind in (*TIMES, K.STARTED) or (case.is_seen and case.kind not in ENDED)
    return [*news, *boxes] if first else [*boxes, *news]


def marks(case: Case) -> list[Line]:
    """What must not be overlooked."""
    event, found = case.event, []
    if event.is_urgent and case.kind not in ENDED:
        ahead = max((event.proposed_at or event.switch_at or event.deadline) - event.created_at, timedelta(0))
        text = f"a risk fix, announced {duration_text(ahead)} ahead."
        if ahead < URGENT_NOTICE:
            hours = URGENT_NOTICE // timedelta(hours=1)
            text += f" That is a shorter notice than the usual {hours} hours, because the risk does not wait."
        found.append(Line(f"This is {text}", "note") if case.is_seen else Line(f"URGENT: {text}", "alarm"))
    if event.is_simulated:
        found.append(Line("SIMULATED: nothing is really done to the instance.", "note"))
    return found


def lead(case: Case) -> list[str]:
    """What is new, and what is to be known of the time."""
    event, kind = case.event, case.kind
    found = _NEWS[kind](case)
    if kind not in ENDED:
        if event.switch_at is not None:
            found.append(twice_text(event.switch_at, case.zone))
        else:
            found.append(_please(case))
        if case.is_seen and event.is_open:
            found.append(f"It was acknowledged by {event.acknowledged_by or 'somebody'}.")
        if kind != K.WORK:  # which says it in its own words
            found.append(event.hold_reason)
    return [line for line in found if line]


def _please(case: Case) -> str:
    if case.chosen_until is None:
        return "Nobody has chosen a time. Switchyard takes the last one that fits before the deadline."
    return (
        "Please choose when it happens. If nobody has chosen by then, Switchyard takes the last time that fits before the deadline, "
        f"{case.both(case.event.deadline)}."
    )


def _moved(case: Case) -> list[str]:
    by, old, new = case.fact("by") or SYSTEM.name, case.moment("old"), case.event.switch_at
    why = f"Why: {case.fact('why')}" if case.fact("why") else ""
    if new is None:
        was = f", {case.both(old)}" if old else ""
        return [f"The time{was} was taken back by {by}.", why]
    if old is None:
        return [f"The time was chosen by {by}.", why]
    if case.is_back:
        return [f"It was moved, and moved back by {by}: it stays at {case.both(new)}.", why]
    did = "Postponed" if case.kind == K.POSTPONED else "Moved back" if case.is_undone else "Moved"
    undone = " An earlier change was undone." if case.is_undone else ""
    return [f"{did} by {by}. Old time: {case.both(old)}. New time: {case.both(new)}.{undone}", why]


def _reminder(case: Case) -> list[str]:
    switch_at = case.event.switch_at
    if switch_at is None or switch_at <= case.now:
        return []
    return [f"{left_text(switch_at - case.now)} left until the switchover."]


def _unseen(case: Case) -> list[str]:
    told = case.fact("told_names")
    return [f"Nobody has reacted to it yet.{f' Told before: {told}.' if told else ''}"]


def _begun(case: Case) -> list[str]:
    late = int(case.facts.get("late_seconds") or 0)
    begun = (
        "The preparation has begun" if case.event.executor != MANUAL else "Staff are asked to prepare it now"
    )
    return [
        f"{begun}; clients notice nothing before the switchover.",
        f"It has begun {duration_text(timedelta(seconds=late))} late. {case.fact('why')}".strip()
        if late
        else "",
    ]


def _done(case: Case) -> list[str]:
    event, took = case.event, impact_here(case.event)
    typical = seconds_text(event.impact_seconds)
    measured = f"Measured impact: clients were cut off, or could not write, for {took} (typical: {typical})."
    return [measured if took else "It has succeeded.", event.result]


def _failed(case: Case) -> list[str]:
    event, took = case.event, impact_here(case.event)
    stage = f" in the stage “{case.fact('stage')}”" if case.fact("stage") else ""
    reason = event.result or case.fact("result") or "The reason is not known."
    return [
        f"It has failed{stage}: {reason}",
        f"Until then clients were cut off, or could not write, for {took}." if took else "",
    ]


def _work_subject(case: Case, name: str, when: str) -> str:
    match case.fact("about"):
        case "failed":
            return f"FAILED: {name}"
        case "overdue":
            return f"OVERDUE: {case.fact('stage')}: {name}, switchover {when}"
        case _:
            return f"To do: {case.fact('stage')}: {name}, switchover {when}"


def _work(case: Case) -> list[str]:
    if case.fact("about") == "failed":
        return [*_failed(case), "Its contacts are told as well."]
    return [
        case.fact("text"),
        "It is confirmed, or reported as failed, on the page of the event, by staff who may change events.",
    ]


def _cancelled(case: Case) -> list[str]:
    by, why = case.fact("by") or SYSTEM.name, case.fact("why")
    return [f"It was cancelled by {by} and does not take place.", f"Why: {why}" if why else ""]


_NEWS: Final[dict[OccasionKind, Callable[[Case], list[str]]]] = {
    K.PUBLISHED: lambda case: [],
    K.CHANGED: _moved,
    K.POSTPONED: _moved,
    K.REMINDER: _reminder,
    K.ESCALATION: _unseen,
    K.STARTED: _begun,
    K.SUCCEEDED: _done,
    K.FAILED: _failed,
    K.CANCELLED: _cancelled,
    K.WORK: _work,
}


def impact_here(event: Event) -> str:
    """How long clients were cut off by this very event; "" where that was not measured."""
    return "" if event.measured_seconds is None else seconds_text(event.measured_seconds)
