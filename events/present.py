"""How an event is shown: when it is in words, what clients notice, what may be done with it and why not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from django.utils import timezone

from events import rules
from events.choices import OPEN, EventStatus, Impact, Level
from events.executors import executor_of
from events.models import Event
from events.services.by import SYSTEM, By
from events.services.choosing import choose_by_of
from events.services.impact import Measured, measured_before, seconds_text
from events.services.scheduling import cancel_refusal
from events.services.surroundings import facts_of
from events.services.waiting import waits_of
from portal.errors import ServiceError
from portal.models import ConnectionTemplate, Endpoint

LIVE_BEFORE: Final = timedelta(minutes=2)
"""So long before it begins, a page that is open begins to look by itself."""


def in_words(moment: datetime, now: datetime) -> str:
    """`in 12 days`, `in 3 days 4 h`, `in 5 h 10 min`, `in 12 min`, `now`, `12 min ago`."""
    distance = abs(moment - now)
    if distance < timedelta(minutes=1):
        return "now"
    minutes = int(distance.total_seconds()) // 60
    hours, days = minutes // 60, minutes // 1440
    if minutes < 120:
        length = f"{minutes} min"
    elif hours < 12:
        length = _two(f"{hours} h", minutes % 60, "min")
    elif hours < 48:
        length = f"{hours} h"
    elif days < 7:
        length = _two(f"{days} days", hours % 24, "h")
    else:
        length = f"{days} days"
    return f"in {length}" if moment > now else f"{length} ago"


def _two(first: str, rest: int, unit: str) -> str:
    return f"{first} {rest} {unit}" if rest else first


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something may be done with an event, and why not."""

    reason: str = ""

    @property
    def open(self) -> bool:
        return not self.reason


def verdict(refusal: ServiceError | None) -> Verdict:
    return Verdict(refusal.message.removesuffix(rules.NOTHING).strip() if refusal else "")


@dataclass(frozen=True, slots=True)
class Effect:
    """What an event does to clients: the kind in the words of R9 to R15, and the text."""

    kind: str
    text: str


class EventView:
    """An event for a template. `event.type` and `event.account` should be loaded; each part that asks the database says so."""

    def __init__(
        self, event: Event, *, waits: str = "", now: datetime | None = None, by: By | None = None
    ) -> None:
        self.event = event
        self.by = by or SYSTEM
        """Who looks at it: what may be done depends on that."""
        self.waits = waits
        """The event of the same instance that it has to wait for; "" where none is in its way."""
        self.now = now or timezone.now()

    # --- When ---------------------------------------------------------------------------------------------------------

    @property
    def when(self) -> str:
        """The one thing that is to be read first."""
        event = self.event
        if event.status == EventStatus.WAITING:
            return "not chosen yet"
        if event.status_badge.is_final:
            if event.finished_at is None:
                return "—"
            words = in_words(event.finished_at, self.now)
            return "just now" if words == "now" else words
        if event.switched_at is not None:
            return "now"
        assert event.switch_at is not None
        if self.is_overdue:
            return f"due {in_words(event.switch_at, self.now)}"
        return in_words(event.switch_at, self.now)

    @property
    def deadline_in(self) -> str:
        return in_words(self.event.deadline, self.now)

    @cached_property
    def choose_by(self) -> datetime | None:
        """Until when its time can be chosen, before the system does. One query where it waits for one."""
        return choose_by_of([self.event], self.now).get(self.event.pk)

    @property
    def can_choose(self) -> bool:
        return self.choose_by is not None and self.choose_by > self.now

    @property
    def is_soon(self) -> bool:
        """Within a day, and not begun."""
        event = self.event
        moment = event.switch_at or event.deadline
        return event.is_open and moment - self.now <= timedelta(hours=24)

    @property
    def is_overdue(self) -> bool:
        """As attention.overdue."""
        event = self.event
        stands = event.status == EventStatus.RUNNING and event.hold_reason != ""
        return (event.is_open or stands) and (event.switch_at or event.deadline) < self.now

    @property
    def planned_length(self) -> str:
        """How long the switchover as a whole may take; its impact is shorter."""
        return rules.duration_text(timedelta(seconds=self.event.switch_seconds))

    @property
    def is_live(self) -> bool:
        """Whether its page changes by itself."""
        event = self.event
        if event.status == EventStatus.RUNNING:
            return True
        begins = event.starts_at
        return event.status == EventStatus.PENDING and begins is not None and begins <= self.now + LIVE_BEFORE

    @property
    def notice_text(self) -> str:
        """That an urgent event is announced later than usual (R7)."""
        event = self.event
        if event.level != Level.S0:
            return ""
        notice = (event.proposed_at or event.switch_at or event.deadline) - event.created_at
        ahead = rules.duration_text(max(notice, timedelta(0)))
        usual = rules.URGENT_NOTICE // timedelta(hours=1)
        return f"Announced {ahead} ahead: a shorter notice than the usual {usual} h, because the risk does not wait."

    # --- What ---------------------------------------------------------------------------------------------------------

    @property
    def effects(self) -> list[Effect]:
        return [
            Effect(str(Impact(one["kind"]).label), str(one.get("text", "")))
            for one in self.event.impacts
            if one.get("kind") in Impact.values
        ]

    @cached_property
    def measured(self) -> Measured | None:
        """One query."""
        return measured_before(self.event)

    @property
    def typical(self) -> str:
        return seconds_text(self.event.impact_seconds)

    @property
    def impact_text(self) -> str:
        """`typical impact 30 s; measured in earlier runs: median 12 s of 8 runs`."""
        text = f"typical impact {self.typical}"
        return f"{text}; measured in earlier runs: {self.measured.text}" if self.measured else text

    @property
    def measured_here(self) -> str:
        """The impact of this very event, once it has run."""
        seconds = self.event.measured_seconds
        return "" if seconds is None else seconds_text(seconds)

    @property
    def shows_versions(self) -> bool:
        event = self.event
        return event.type.shows_versions or bool(event.version_from or event.version_to)

    @property
    def preparation(self) -> str:
        return rules.duration_text(self.event.preparation) if self.event.preparation_seconds else "none"

    @property
    def executor_label(self) -> str:
        found = executor_of(self.event.executor)
        return found.label if found else self.event.executor

    @cached_property
    def endpoint(self) -> Endpoint | None:
        return getattr(self.event.instance, "endpoint", None)

    @property
    def needs_advice(self) -> bool:
        """Whether its own advice leaves out what holds for all: the domain name, and no DNS cache (R16)."""
        return "DNS" not in self.event.advice

    @property
    def has_raw_ip(self) -> bool:
        """Clients that use the address instead of a name are cut off when it changes (R16)."""
        return self.endpoint is not None and self.endpoint.is_raw_ip

    @cached_property
    def raw_connections(self) -> list[ConnectionTemplate]:
        """Saved connections of the account that name a server of the instance by its IP address (R16). Two queries."""
        event = self.event
        if event.instance is None:
            return []
        hosts = set(event.instance.nodes.values_list("host", flat=True))
        if self.endpoint is not None:
            hosts.add(self.endpoint.host)
        rows = ConnectionTemplate.objects.filter(account=event.account_id, host__in=hosts)
        return [row for row in rows if row.is_raw_ip]

    # --- What may be done ---------------------------------------------------------------------------------------------

    @property
    def deferrals_left(self) -> int | None:
        """None: as often as wanted."""
        most = self.event.type.max_deferrals
        return None if most is None else max(0, most - self.event.deferrals)

    @cached_property
    def facts(self) -> rules.Facts:
        return facts_of(self.event, self.now)

    @property
    def reschedule(self) -> Verdict:
        return verdict(rules.check_change(self.facts))

    @property
    def cancel(self) -> Verdict:
        return verdict(cancel_refusal(self.by, self.event, self.now))

    @property
    def needs_acknowledgement(self) -> bool:
        return self.event.status in OPEN and self.event.acknowledged_at is None

    @property
    def needs(self) -> list[str]:
        """What somebody has to do, in a list's row."""
        found = []
        if self.event.status == EventStatus.WAITING:
            found.append("choose a time")
        if self.event.is_urgent and self.needs_acknowledgement:
            found.append("acknowledge")
        return found


def views_of(events: Iterable[Event], now: datetime | None = None) -> list[EventView]:
    """One query for all of them."""
    now = now or timezone.now()
    rows = list(events)
    waits = waits_of(rows, now)
    return [EventView(event, waits=waits.get(event.pk, ""), now=now) for event in rows]
