"""How the page behind a link shows times, and what its buttons say: a moment, how far it is from now and from the time that stands."""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

from events import clock, rules
from events.models import Event
from events.present import EventView, in_words
from events.services.links import Offer, Offers

EVENING, MORNING = time(18), time(6)
DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Shown:
    """A moment as the page shows it."""

    local: str
    """`Tue 8 Dec 02:00 CET`, with the year where it is another one."""
    brief: str
    """`Tue 8 Dec 02:00`: for the label of a button, whose second line has `clock`."""
    clock: str
    """`02:00 CET · 01:00 UTC`."""
    utc: str
    iso: str
    soon: str
    """`tonight`, `today`, `tomorrow` or nothing."""
    distance: str
    moment: datetime

    @classmethod
    def of(cls, moment: datetime | None, zone: zoneinfo.ZoneInfo, now: datetime) -> Shown | None:
        return None if moment is None else cls.at(moment, zone, now)

    @classmethod
    def at(cls, moment: datetime, zone: zoneinfo.ZoneInfo, now: datetime) -> Shown:
        local = local_words(moment, zone, now)
        brief, _, name = local.rpartition(" ")
        utc = clock.utc_words(moment, zone)
        return cls(
            local,
            brief,
            " · ".join(part for part in (f"{brief[-5:]} {name}", utc) if part),
            utc,
            moment.astimezone(zone).isoformat(timespec="seconds"),
            soon_word(moment, zone, now),
            in_words(moment, now),
            moment,
        )

    @property
    def begins(self) -> str:
        """`tonight, in 7 h 32 min`."""
        return f"{self.soon}, {self.distance}" if self.soon else self.distance


def local_words(moment: datetime, zone: zoneinfo.ZoneInfo, now: datetime) -> str:
    local = moment.astimezone(zone)
    year = "" if local.year == now.astimezone(zone).year else f" {local.year}"
    return f"{local:%a} {local.day} {local:%b}{year} {local:%H:%M} {clock.zone_name(local)}"


def soon_word(moment: datetime, zone: zoneinfo.ZoneInfo, now: datetime) -> str:
    """A night belongs to the day on which it begins: at noon as at two in the morning, `tonight` ends at six."""
    if moment < now:
        return ""
    then, local = moment.astimezone(zone), now.astimezone(zone)
    if _night_of(then) == _day_of(local):
        return "tonight"
    days = (then.date() - local.date()).days
    return {0: "today", 1: "tomorrow"}.get(days, "")


def _night_of(local: datetime) -> date | None:
    """The day on whose evening the night began; None by day."""
    return _day_of(local) if local.time() < MORNING or local.time() >= EVENING else None


def _day_of(local: datetime) -> date:
    return (local - DAY).date() if local.time() < MORNING else local.date()


def apart(moment: datetime, stands: datetime, zone: zoneinfo.ZoneInfo) -> str:
    """How far a moment is from the time that stands: `1 day later`, `3 h earlier`. The same time of another day is whole days away."""
    return f"{_length(moment, stands, zone)} {'later' if moment > stands else 'earlier'}"


def _length(moment: datetime, stands: datetime, zone: zoneinfo.ZoneInfo) -> str:
    by_clock = abs(
        moment.astimezone(zone).replace(tzinfo=None) - stands.astimezone(zone).replace(tzinfo=None)
    )
    if by_clock >= DAY and by_clock % DAY < timedelta(minutes=1):
        return _days(by_clock)
    length = abs(moment - stands)
    minutes = max(1, round(length / timedelta(minutes=1)))
    days, rest = divmod(minutes, 1440)
    hours = round(rest / 60)
    if minutes < 48 * 60:
        return rules.duration_text(timedelta(minutes=minutes)) if minutes > 1 else "1 min"
    return f"{days} days {hours} h" if 0 < hours < 24 and days < 7 else f"{round(minutes / 1440)} days"


def _days(length: timedelta) -> str:
    days = round(length / DAY)
    return f"{days} day{'' if days == 1 else 's'}"


# --- Buttons ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InWindow:
    """A button that moves the switchover into a maintenance window."""

    do: Offer
    shown: Shown
    effect: str
    """What it does to the time that stands: `1 day later · 2 more deferrals after that`."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The buttons of the page, and why some are missing."""

    put_off: InWindow | None
    """The window after the time that stands, or the next one of an event that has no time: one tap."""
    bring_forward: InWindow | None
    """A window before the time that stands: nobody gets there by one tap."""
    acknowledge: bool
    """Nobody has acknowledged it."""
    filled: bool
    """`put_off` is what the page proposes. A risk fix that has a time should not be put off."""
    acknowledge_first: bool
    """That is what is wanted above all: of a risk fix, and where nothing else can be done."""
    missing: list[str]
    """Why there is no later window, and no way to cancel."""


def choices_of(event: Event, offers: Offers, zone: zoneinfo.ZoneInfo, now: datetime) -> Choices:
    view = EventView(event, now=now)
    stands = event.switch_at

    def button(do: Offer, moment: datetime | None) -> InWindow | None:
        if moment is None:
            return None
        shown = Shown.at(moment, zone, now)
        return InWindow(do, shown, effect_of(view, shown, zone))

    if stands is not None and offers.window is not None and offers.window < stands:
        put_off, forward = button("later", offers.later), button("window", offers.window)
    elif offers.window is not None:
        put_off, forward = button("window", offers.window), None
    else:
        put_off, forward = button("later", offers.later), None
    unseen = view.needs_acknowledgement
    return Choices(
        put_off=put_off,
        bring_forward=forward,
        acknowledge=unseen,
        filled=stands is None or not event.is_urgent,
        acknowledge_first=unseen and (offers.fixed is not None or (event.is_urgent and stands is not None)),
        missing=_missing(view, offers, put_off, zone),
    )


def effect_of(view: EventView, shown: Shown, zone: zoneinfo.ZoneInfo) -> str:
    stands = view.event.switch_at
    if stands is None:
        return shown.begins
    if shown.moment <= stands:
        return apart(shown.moment, stands, zone)
    if view.event.is_urgent:
        far = f"puts it off by {rules.duration_text(shown.moment - stands)}"
    else:
        far = apart(shown.moment, stands, zone)
    return "; ".join(part for part in (far, deferrals_after(view)) if part)


def deferrals_after(view: EventView) -> str:
    """How often it can be put off once it was put off again; "" where that is not limited."""
    if view.deferrals_left is None:
        return ""
    left = max(0, view.deferrals_left - 1)
    return f"{left or 'no'} more deferral{'' if left == 1 else 's'} after that"


def back_note(view: EventView, back: datetime | None) -> str:
    """What it costs to put the time back that stood before: a deferral, or nothing, though one that was used stays used."""
    stands = view.event.switch_at
    if back is None or stands is None or view.deferrals_left is None:
        return ""
    return f"a deferral; {deferrals_after(view)}" if back > stands else "the deferral stays counted"


def _missing(view: EventView, offers: Offers, put_off: InWindow | None, zone: zoneinfo.ZoneInfo) -> list[str]:
    found = []
    if put_off is None and offers.fixed is None:
        found.append(_no_window(view, offers, zone))
    if not offers.may_cancel:
        found.append("It may not be cancelled.")
    return found


def _no_window(view: EventView, offers: Offers, zone: zoneinfo.ZoneInfo) -> str:
    if offers.latest is None:
        return "It is too late for another time: the preparation could not be done by the deadline."
    if view.event.switch_at is not None and view.deferrals_left == 0:
        used = view.event.deferrals
        return f"It cannot be put off any more: it was put off {used} time{'' if used == 1 else 's'}."
    if not offers.has_window:
        return "There is no “Next window”: the instance has no maintenance window."
    which = "no later" if view.event.switch_at is not None else "no"
    latest = local_words(offers.latest, zone, view.now)
    return f"There is no “Next window”: {which} maintenance window has a free place up to {latest}."


# --- Facts ------------------------------------------------------------------------------------------------------------


def impact_lead(view: EventView) -> str:
    """`Typically 30 s (measured before: 29 s, one run).`"""
    text = f"Typically {view.typical}"
    if measured := view.measured:
        text += f" (measured before: {measured.text.replace(' (one run)', ', one run')})"
    return f"{text}."


def first_minute(moment: datetime) -> datetime:
    """The first whole minute from this moment on: what can be entered, and what a refusal names."""
    whole = moment.replace(second=0, microsecond=0)
    return moment if moment == whole else whole + timedelta(minutes=1)
