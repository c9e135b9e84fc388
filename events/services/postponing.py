"""Late events: what the policy (`lateness.py`) says of them is written here, and told.

An event can be late twice: before its preparation, and, prepared, before its switchover. Every function gets an event that its caller has locked.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.conf import settings

from events import rules
from events.choices import LogLevel, OccasionKind
from events.models import Event
from events.rules import Facts
from events.services import lateness, occasions
from events.services.by import SYSTEM
from events.services.journal import note
from events.services.scheduling import apply_time, change_occasion, time_details
from events.services.surroundings import facts_of, surroundings
from portal.services import audit
from portal.services.windows import window_for


def judge(event: Event, now: datetime) -> lateness.Judgement:
    """Of an event whose preparation, or, once it is in progress, whose switchover is due."""
    around = surroundings([event.region], now, now + event.preparation, without=event)
    allowed = timedelta(minutes=settings.EVENT_LATE_MINUTES)
    return lateness.judge(_facts(event, now), window_for(event.instance), around, allowed)


def postpone(event: Event, why: str, now: datetime) -> None:
    """To the next time at which it may be switched over. What is prepared stays so."""
    why = f"{why} {waited(event)}".strip()
    until = now + lateness.BEYOND
    around = surroundings([event.region], now, until, without=event, lock=True)
    moment = lateness.postponed_to(
        _facts(event, now), window_for(event.instance), around, ZoneInfo(settings.TIME_ZONE)
    )
    note(event, f"{why} It is postponed to {utc_text(moment)}.", LogLevel.WARNING)
    make_room(event, moment)
    if event.is_open:
        deferrals = event.deferrals
        apply_time(event, moment, SYSTEM, now, kind=OccasionKind.POSTPONED, why=why)
        # Not a choice of the owner, whose number may be limited.
        event.deferrals = deferrals
        event.save(update_fields=["deferrals"])
    else:
        _move_switchover(event, moment, f"{why} It stays prepared until then.", now)


def begin_late(event: Event, late: timedelta, now: datetime) -> None:
    """The switchover of a prepared event begins now, later than planned."""
    assert event.switch_at is not None
    why = waited(event) or "It could not begin in time."
    planned = f"it was planned for {utc_text(event.switch_at)}"
    note(event, f"The switchover begins {rules.duration_text(late)} late: {planned}. {why}", LogLevel.WARNING)
    _move_switchover(event, now.replace(microsecond=0), why, now)


def waited(event: Event) -> str:
    """What it had to wait for until now."""
    return event.hold_reason.replace("Waits for ", "It waited for ", 1).replace(
        " are under way", " were under way", 1
    )


def make_room(event: Event, moment: datetime) -> None:
    """The deadline moves along where the system has missed it."""
    if moment > event.deadline:
        event.deadline = moment
        event.save(update_fields=["deadline"])
        note(event, f"The deadline moves along to {utc_text(moment)}.", LogLevel.WARNING)


def utc_text(moment: datetime) -> str:
    """For the log, which people of all zones read."""
    return f"{moment.astimezone(ZoneInfo('UTC')):%Y-%m-%d %H:%M:%S} UTC"


def _move_switchover(event: Event, moment: datetime, why: str, now: datetime) -> None:
    """Of an event in progress."""
    before = event.switch_at
    event.switch_at, event.hold_reason = moment, ""
    event.revision += 1
    event.save(update_fields=["switch_at", "hold_reason", "revision"])
    audit.record(None, "event.postponed", event, **time_details(event, before, SYSTEM, why))
    change = change_occasion(event, OccasionKind.POSTPONED, before, SYSTEM, why)
    occasions.note_many([change, *occasions.reminders(event, now)])


def _facts(event: Event, now: datetime) -> Facts:
    facts = facts_of(event, now)
    return facts if event.is_open else replace(facts, preparation=timedelta(0))
