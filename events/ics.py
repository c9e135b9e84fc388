"""Events as entries of a calendar (RFC 5545): one entry per event for ever, which calendar programs update by UID and SEQUENCE.

Without a method the text is a feed. With one it is the attachment of a mail: PUBLISH for a new entry or a new time, CANCEL to take it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parseaddr
from typing import Final, Literal

import icalendar
from django.conf import settings
from django.utils import timezone

from events.choices import EventStatus, Impact
from events.models import Event
from events.services.choosing import choose_by_of
from events.services.impact import seconds_text
from portal.delivery.links import absolute

Method = Literal["", "PUBLISH", "CANCEL"]

PRODUCT: Final = "-//Switchyard//O&M events//EN"
ALARM_BEFORE: Final = timedelta(hours=1)
REFRESH: Final = timedelta(minutes=5)
"""As often as the feed may be asked for."""
STATUS: Final = {EventStatus.WAITING: "TENTATIVE", EventStatus.CANCELLED: "CANCELLED"}
ENDED: Final = {
    EventStatus.SUCCEEDED: "Done: ",
    EventStatus.FAILED: "Failed: ",
    EventStatus.CANCELLED: "Cancelled: ",
}


def calendar(
    events: Iterable[Event],
    *,
    method: Method = "",
    name: str = "",
    choose_by: Mapping[int, datetime] | None = None,
    now: datetime | None = None,
) -> str:
    """The text, with lines as the standard wants them. `type` and `instance` of the events should be loaded.

    An event that waits for a time stands at its deadline, with an alarm before the system chooses one. That moment is in `choose_by`, by
    the event's primary key; None: it is looked up.
    """
    now = (now or timezone.now()).replace(microsecond=0)
    events = list(events)
    choose_by = choose_by_of(events, now) if choose_by is None else choose_by
    found = icalendar.Calendar()
    found.add("prodid", PRODUCT)
    found.add("version", "2.0")
    if method:
        found.add("method", method)
    else:
        found.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
        found.add("x-published-ttl", f"PT{REFRESH // timedelta(minutes=1)}M")
    if name:
        found.add("name", name)
        found.add("x-wr-calname", name)
    for event in events:
        found.add_component(_entry(event, method, choose_by.get(event.pk), now))
    text: str = found.to_ical().decode()
    return text


def attachment(
    events: Iterable[Event], method: Method, name: str, choose_by: Mapping[int, datetime]
) -> dict[str, str]:
    """As portal.services.notifications.Message has them."""
    return {
        "name": f"{name}.ics",
        "type": f"text/calendar; method={method}; charset=utf-8",
        "text": calendar(events, method=method, choose_by=choose_by),
    }


def uid(event: Event) -> str:
    """The same for as long as the event is remembered, whatever the console is called."""
    return f"{event.public_id}@switchyard"


def _entry(event: Event, method: Method, choose_by: datetime | None, now: datetime) -> icalendar.Event:
    begins = (event.switch_at or event.deadline).astimezone(UTC)
    entry = icalendar.Event()
    entry.add("uid", uid(event))
    entry.add("sequence", event.revision)
    entry.add("dtstamp", now.astimezone(UTC))
    entry.add("dtstart", begins)
    entry.add("dtend", begins + timedelta(seconds=max(60, event.switch_seconds)))
    entry.add("summary", summary(event))
    entry.add("description", _description(event, choose_by))
    entry.add("location", ", ".join(filter(None, [_instance(event), event.region, event.zone])))
    entry.add("url", absolute(event.get_absolute_url()))
    status = EventStatus(event.status)
    entry.add("status", "CANCELLED" if method == "CANCEL" else STATUS.get(status, "CONFIRMED"))
    entry.add("transp", "TRANSPARENT")  # those who look after it are not thereby busy
    if method:
        # Programs take updates of an entry from whom they had it.
        entry.add("organizer", f"mailto:{parseaddr(settings.DEFAULT_FROM_EMAIL)[1]}")
    if event.is_open and method != "CANCEL":
        entry.add_component(_alarm(event, begins, choose_by))
    return entry


def _alarm(event: Event, begins: datetime, choose_by: datetime | None) -> icalendar.Alarm:
    """Before the switchover, or before the system chooses a time."""
    alarm = icalendar.Alarm()
    alarm.add("action", "DISPLAY")
    alarm.add("description", summary(event))
    alarm.add("trigger", (choose_by or begins) - ALARM_BEFORE - begins)  # to the second
    return alarm


def summary(event: Event) -> str:
    status = EventStatus(event.status)
    marks = ("Simulated: " if event.is_simulated else "") + (
        "URGENT: " if event.is_urgent and event.is_open else ""
    )
    what = "Choose a time: " if status == EventStatus.WAITING else ENDED.get(status, "")
    return f"{marks}{what}{event.type.name} of {event.instance_name}"


def _instance(event: Event) -> str:
    return f"{event.instance_name} ({event.instance_public_id})"


def _description(event: Event, choose_by: datetime | None) -> str:
    lines = []
    if event.is_simulated:
        lines.append("Simulated: nothing is really done.")
    if event.status == EventStatus.WAITING:
        lines.append("This is the deadline. No time has been chosen yet.")
    if choose_by is not None:
        lines.append(
            f"Choose a time by {_utc(choose_by)}. After that Switchyard takes the last time that fits before the deadline."
        )
    lines += [f"{Impact(one['kind']).label}: {one.get('text', '')}" for one in event.impacts if _known(one)]
    if not event.status_badge.is_final:
        lines.append(f"Typical impact: {seconds_text(event.impact_seconds)}")
    if event.version_from or event.version_to:
        lines.append(f"Version: {event.version_from or '?'} → {event.version_to or '?'}")
    if event.advice and not event.status_badge.is_final:
        lines.append(f"What to do: {event.advice}")
    if event.is_open and event.starts_at is not None and event.preparation_seconds:
        lines.append(f"Preparation from: {_utc(event.starts_at)}")
    if event.is_open:
        lines.append(f"Deadline: {_utc(event.deadline)}")
    if event.result:
        lines.append(f"Result: {event.result}")
    lines.append(f"Event {event.public_id}")
    return "\n\n".join(lines)


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _known(one: dict[str, str]) -> bool:
    return one.get("kind") in Impact.values
