"""Events as entries of a calendar (RFC 5545): one entry per event for ever, which calendar programs update by UID and SEQUENCE.

Without a method the text is a feed. With one it is the attachment of a mail: PUBLISH for a new entry or a new time, CANCEL to take it out.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parseaddr
from typing import Final, Literal

import icalendar
from django.conf import settings
from django.utils import timezone

from events.choices import EventStatus, Impact
from events.models import Event
from portal.delivery.links import absolute

Method = Literal["", "PUBLISH", "CANCEL"]

PRODUCT: Final = "-//Switchyard//O&M events//EN"
ALARM_BEFORE: Final = timedelta(hours=1)
REFRESH: Final = timedelta(hours=1)
STATUS: Final = {EventStatus.WAITING: "TENTATIVE", EventStatus.CANCELLED: "CANCELLED"}
ENDED: Final = {
    EventStatus.SUCCEEDED: "Done: ",
    EventStatus.FAILED: "Failed: ",
    EventStatus.CANCELLED: "Cancelled: ",
}


def calendar(
    events: Iterable[Event], *, method: Method = "", name: str = "", now: datetime | None = None
) -> str:
    """The text, with lines as the standard wants them. `type` and `instance` of the events should be loaded.

    An event that waits for a time stands at its deadline.
    """
    now = (now or timezone.now()).replace(microsecond=0)
    found = icalendar.Calendar()
    found.add("prodid", PRODUCT)
    found.add("version", "2.0")
    if method:
        found.add("method", method)
    else:
        found.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
        found.add("x-published-ttl", "PT1H")
    if name:
        found.add("name", name)
        found.add("x-wr-calname", name)
    for event in events:
        found.add_component(_entry(event, method, now))
    text: str = found.to_ical().decode()
    return text


def attachment(events: Iterable[Event], method: Method, name: str) -> dict[str, str]:
    """As portal.services.notifications.Message has them."""
    return {
        "name": f"{name}.ics",
        "type": f"text/calendar; method={method}; charset=utf-8",
        "text": calendar(events, method=method),
    }


def uid(event: Event) -> str:
    """The same for as long as the event is remembered, whatever the console is called."""
    return f"{event.public_id}@switchyard"


def _entry(event: Event, method: Method, now: datetime) -> icalendar.Event:
    begins = (event.switch_at or event.deadline).astimezone(UTC)
    entry = icalendar.Event()
    entry.add("uid", uid(event))
    entry.add("sequence", event.revision)
    entry.add("dtstamp", now.astimezone(UTC))
    entry.add("dtstart", begins)
    entry.add("dtend", begins + timedelta(seconds=max(60, event.switch_seconds)))
    entry.add("summary", summary(event))
    entry.add("description", _description(event))
    entry.add("location", ", ".join(filter(None, [_instance(event), event.region, event.zone])))
    entry.add("url", absolute(event.get_absolute_url()))
    status = EventStatus(event.status)
    entry.add("status", "CANCELLED" if method == "CANCEL" else STATUS.get(status, "CONFIRMED"))
    entry.add("transp", "TRANSPARENT")  # those who look after it are not thereby busy
    if method:
        # Programs take updates of an entry from whom they had it.
        entry.add("organizer", f"mailto:{parseaddr(settings.DEFAULT_FROM_EMAIL)[1]}")
    if event.is_open and method != "CANCEL":
        entry.add_component(_alarm(event))
    return entry


def _alarm(event: Event) -> icalendar.Alarm:
    alarm = icalendar.Alarm()
    alarm.add("action", "DISPLAY")
    alarm.add("description", summary(event))
    alarm.add("trigger", -ALARM_BEFORE)
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


def _description(event: Event) -> str:
    lines = []
    if event.is_simulated:
        lines.append("Simulated: nothing is really done.")
    if event.status == EventStatus.WAITING:
        lines.append("This is the deadline. No time has been chosen yet.")
    lines += [f"{Impact(one['kind']).label}: {one.get('text', '')}" for one in event.impacts if _known(one)]
    if event.version_from or event.version_to:
        lines.append(f"Version: {event.version_from or '?'} → {event.version_to or '?'}")
    if event.advice and not event.status_badge.is_final:
        lines.append(f"What to do: {event.advice}")
    if event.is_open:
        lines.append(f"Deadline: {event.deadline.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    if event.result:
        lines.append(f"Result: {event.result}")
    lines.append(f"Event {event.public_id}")
    return "\n\n".join(lines)


def _known(one: dict[str, str]) -> bool:
    return one.get("kind") in Impact.values
