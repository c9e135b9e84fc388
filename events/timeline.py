"""What happened to an event, newest first: what people did, what contacts were told, how its stages went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.utils.dateparse import parse_datetime

from events import rules
from events.choices import OccasionKind
from events.models import Event
from portal.models import AuditEntry, Notification

MOST: Final = 100  # of each kind
ACTIONS: Final = {
    "event.published": "Announced",
    "event.rescheduled": "New time",
    "event.postponed": "Postponed by the system",
    "event.cancelled": "Cancelled",
    "event.acknowledged": "Acknowledged",
}


@dataclass(frozen=True, slots=True)
class Deed:
    """A line. `who` is empty for the system; `icon` names one of portal/icons.py."""

    at: datetime
    what: str
    icon: str = "dot"
    who: str = ""
    details: tuple[tuple[str, str], ...] = ()
    is_deed: bool = False
    """Somebody, or the system, did it: `who` is shown."""


def of(event: Event) -> list[Deed]:
    """Four queries."""
    found = [*_deeds(event), *_told(event), *_stages(event)]
    return sorted(found, key=lambda one: one.at, reverse=True)


def _deeds(event: Event) -> Iterator[Deed]:
    rows = AuditEntry.objects.filter(object_type=Event._meta.model_name, object_id=event.public_id)
    for row in rows.order_by("-at", "-pk")[:MOST]:
        details = row.details
        who = row.actor_name or str(details.get("contact", ""))
        what = ACTIONS.get(row.action) or row.action.partition(".")[2].replace("_", " ").capitalize()
        yield Deed(row.at, what, "edit", who, tuple(_readable(details)), is_deed=True)


def _readable(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in details.items():
        if name == "contact" or value in (None, "", [], False):
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield name.replace("_", " "), _moment(text)


def _moment(text: str) -> str:
    """A time of the audit, which is UTC, in the reader's zone."""
    if len(text) < 19 or text[10:11] != "T":
        return text
    try:
        found = parse_datetime(text)
    except ValueError:
        return text
    return rules.text_of(found) if found is not None and found.tzinfo is not None else text


def _told(event: Event) -> Iterator[Deed]:
    """What was passed over, because it did not hold any more when it was due, was told to nobody."""
    rows = event.occasions.filter(told_at__isnull=False).order_by("-told_at", "-pk")[:MOST]
    told = [row for row in rows if not row.facts.get("passed")]
    names = {f"event:{event.public_id}:{row.key}": row.key for row in told}
    contacts: dict[str, list[str]] = {}
    found = Notification.objects.filter(contact__account=event.account_id, occasion__in=names)
    for occasion, name in found.order_by("pk").values_list("occasion", "contact__name"):
        contacts.setdefault(names[occasion], []).append(str(name))
    for row in told:
        assert row.told_at is not None
        kind = str(OccasionKind(row.kind).label)
        hours = row.facts.get("hours") if row.kind == OccasionKind.REMINDER else None
        words = f"Contacts told: {kind.lower()}{f', {hours} h before' if hours else ''}"
        names_of = ", ".join(contacts.get(row.key, ()))
        yield Deed(row.told_at, words, "bell", details=(("", names_of),) if names_of else ())


def _stages(event: Event) -> Iterator[Deed]:
    for row in event.stages.all():
        if row.began_at is not None:
            yield Deed(row.began_at, f"Stage begun: {row.name}", "play")
        if row.ended_at is not None:
            details = (("", row.detail),) if row.detail else ()
            yield Deed(
                row.ended_at,
                f"Stage {row.status_badge.label.lower()}: {row.name}",
                row.status_badge.icon,
                details=details,
            )
