"""A month of events as a calendar shows it, by the reader's clock: weeks from Monday, what happens on each day, when nothing may."""

from __future__ import annotations

import calendar
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Final

from django.db.models import Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from events.choices import EventStatus
from events.models import Blackout, Event, EventQuerySet
from events.models.events import sees_all
from portal.models import Account

if TYPE_CHECKING:
    from django.contrib.auth.models import User

PER_DAY: Final = 4
"""Events that a day of the month shows; the page of the day has the others."""
MOST: Final = 500  # of one day's page
YEARS: Final = range(2000, 2101)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event at its time; one that waits for a time stands at the latest one."""

    event: Event
    at: datetime

    @property
    def is_deadline(self) -> bool:
        return self.event.status == EventStatus.WAITING

    @property
    def is_utc(self) -> bool:
        """Whether the reader's clock shows UTC at that time."""
        return timezone.localtime(self.at).utcoffset() == timedelta(0)


@dataclass(frozen=True, slots=True)
class Closed:
    """A blackout on one day: from and until when; None where it lasts from before, or beyond the day."""

    row: Blackout
    since: datetime | None
    until: datetime | None


@dataclass(slots=True)
class Day:
    date: date
    in_month: bool = True
    is_today: bool = False
    entries: list[Entry] = field(default_factory=list)
    more: int = 0
    closed: list[Closed] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not self.entries and not self.closed


def month_of(text: str, today: date) -> date:
    """The first day of `2026-03`; of today's month for anything else."""
    if re.fullmatch(r"\d{4}-\d\d", text, re.ASCII):
        year, number = int(text[:4]), int(text[5:])
        if year in YEARS and 1 <= number <= 12:
            return date(year, number, 1)
    return today.replace(day=1)


def day_of(text: str) -> date | None:
    try:
        found = date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) else None
    except ValueError:
        return None
    return found if found is not None and found.year in YEARS else None


def neighbours(first: date) -> tuple[date | None, date | None]:
    """The months before and after; None where the calendar ends."""
    before, after = (first - timedelta(days=1)).replace(day=1), (first + timedelta(days=31)).replace(day=1)
    return (before if before.year in YEARS else None, after if after.year in YEARS else None)


def weeks_of(user: User, first: date, today: date) -> list[list[Day]]:
    """Three queries, however much there is."""
    rows = [
        [Day(day, in_month=day.month == first.month, is_today=day == today) for day in week]
        for week in calendar.Calendar().monthdatescalendar(first.year, first.month)
    ]
    fill(user, [day for week in rows for day in week], PER_DAY)
    return rows


def whole_day(user: User, wanted: date, today: date) -> Day:
    """Three queries."""
    day = Day(wanted, is_today=wanted == today)
    fill(user, [day], MOST)
    return day


def fill(user: User, days: list[Day], most: int) -> None:
    """What happens on consecutive days: up to `most` events of each, in the order of time."""
    zone = timezone.get_current_timezone()
    begins, ends = midnight(days[0].date, zone), midnight(days[-1].date + timedelta(days=1), zone)
    placed: dict[date, list[tuple[datetime, int]]] = defaultdict(list)
    for pk, moment in in_span(Event.objects.visible_to(user), begins, ends):
        placed[moment.astimezone(zone).date()].append((moment, pk))
    shown = {day.date: placed[day.date][:most] for day in days}
    wanted = [pk for found in shown.values() for _, pk in found]
    events = Event.objects.select_related("type", "account").in_bulk(wanted)
    closed = closed_in(user, begins, ends)
    for day in days:
        day.entries = [Entry(events[pk], moment) for moment, pk in shown[day.date] if pk in events]
        day.more = len(placed[day.date]) - len(day.entries)
        day.closed = list(touching(closed, day.date, zone))


def in_span(events: EventQuerySet, begins: datetime, ends: datetime) -> Iterable[tuple[int, datetime]]:
    """Keys and moments alone, ascending: there may be thousands in a month."""
    timed = Q(switch_at__gte=begins, switch_at__lt=ends)
    waiting = Q(status=EventStatus.WAITING, switch_at=None, deadline__gte=begins, deadline__lt=ends)
    rows = events.filter(timed | waiting).annotate(moment=Coalesce("switch_at", "deadline"))
    return rows.order_by("moment", "pk").values_list("pk", "moment")


def closed_in(user: User, begins: datetime, ends: datetime) -> list[Blackout]:
    rows = Blackout.objects.filter(starts_at__lt=ends, ends_at__gt=begins).select_related("account")
    if not sees_all(user):
        rows = rows.filter(Q(account=None) | Q(account__in=Account.objects.visible_to(user)))
    return list(rows)


def touching(closed: Iterable[Blackout], day: date, zone: tzinfo) -> Iterable[Closed]:
    begins, ends = midnight(day, zone), midnight(day + timedelta(days=1), zone)
    for one in closed:
        if one.starts_at < ends and one.ends_at > begins:
            yield Closed(
                one,
                one.starts_at if one.starts_at > begins else None,
                one.ends_at if one.ends_at < ends else None,
            )


def midnight(day: date, zone: tzinfo) -> datetime:
    """When the day begins by the clock of the zone."""
    return datetime.combine(day, time(0), tzinfo=zone).astimezone(UTC)
