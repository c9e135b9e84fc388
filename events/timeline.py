"""What happened to an event, newest first: what people did, what contacts were told, how its stages went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from django.urls import reverse

from events.choices import OccasionKind
from events.models import Event
from events.services import bulk
from events.services.by import may_publish
from portal.models import AuditEntry, Notification
from portal.services import audit

if TYPE_CHECKING:
    from django.contrib.auth.models import User

MOST: Final = 100  # of each kind
ACTIONS: Final = {
    "event.published": "Announced",
    "event.rescheduled": "New time",
    "event.postponed": "Postponed by the system",
    "event.cancelled": "Cancelled",
    "event.acknowledged": "Acknowledged",
    "event.link_refused": "Refused by a link",
}
UNTOLD: Final = ("event.link_used",)
"""Beside them stands what the link has changed; the audit has both."""
PRESSED: Final = {
    "window": "next window",
    "later": "later window",
    "time": "choose a time",
    "now": "start now",
    "acknowledge": "acknowledge",
    "cancel": "cancel",
}
"""The buttons of a link's page. Where a press came from, and with which browser, is in the audit."""


NAMES: Final = {
    "bulk": "bulk change",
    "measured_seconds": "measured, in seconds",
    "switch_at": "switchover",
    "why": "because",
}
"""What details are called, where it is not as in the audit."""


@dataclass(frozen=True, slots=True)
class Detail:
    """`name` is empty where the text says enough; `href` leads to the page of what it names."""

    name: str
    text: str
    href: str = ""


@dataclass(frozen=True, slots=True)
class Deed:
    """A line. `who` is empty for the system; `icon` names one of portal/icons.py."""

    at: datetime
    what: str
    icon: str = "dot"
    who: str = ""
    details: tuple[Detail, ...] = ()
    is_deed: bool = False
    """Somebody, or the system, did it: `who` is shown."""


def of(event: Event, reader: User) -> list[Deed]:
    """Five queries, and one more if bulk changes have changed it."""
    found = [*_deeds(event, reader), *_told(event), *_stages(event)]
    return sorted(found, key=lambda one: one.at, reverse=True)


def _deeds(event: Event, reader: User) -> Iterator[Deed]:
    found = AuditEntry.objects.filter(object_type=Event._meta.model_name, object_id=event.public_id)
    rows = list(found.exclude(action__in=UNTOLD).order_by("-at", "-pk")[:MOST])
    pages = _pages(rows, reader)
    for row in rows:
        details = row.details
        who = row.actor_name or str(details.get("contact", ""))
        if row.action == "event.link_refused":
            details = _of_refused(details)
        what = ACTIONS.get(row.action) or row.action.partition(".")[2].replace("_", " ").capitalize()
        yield Deed(row.at, what, "edit", who, tuple(_readable(details, pages)), is_deed=True)


def _pages(rows: Sequence[AuditEntry], reader: User) -> dict[str, str]:
    """Of campaigns and bulk changes that the reader may open, by their IDs."""
    campaigns = {str(row.details["campaign"]) for row in rows if row.details.get("campaign")}
    found = {}
    for one in campaigns:
        # Its page is for those who publish; others see its events in the list.
        its_events = f"{reverse('event_list')}?{urlencode({'q': one})}"
        found[one] = reverse("event_campaign", args=[one]) if may_publish(reader) else its_events
    if changes := {str(row.details["bulk"]) for row in rows if row.details.get("bulk")}:
        theirs = bulk.visible_to(reader).filter(public_id__in=changes)
        found |= {one.public_id: one.get_absolute_url() for one in theirs}
    return found


def _of_refused(details: Mapping[str, Any]) -> dict[str, str]:
    """`choose a time: after the deadline`."""
    did, refused = str(details.get("did", "")), str(details.get("refused", ""))
    why = refused.partition(".")[2] or refused
    return {"": ": ".join(part for part in (PRESSED.get(did, did), why.replace("_", " ")) if part)}


def _readable(details: Mapping[str, Any], pages: Mapping[str, str]) -> Iterator[Detail]:
    for name, value in details.items():
        if name == "contact" or value in (None, "", [], False):
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield Detail(NAMES.get(name, name.replace("_", " ")), audit.readable(text), pages.get(text, ""))


def _told(event: Event) -> Iterator[Deed]:
    """What was passed over, because it did not hold any more when it was due, was told to nobody. What staff are told is no matter of the owner."""
    rows = event.occasions.filter(told_at__isnull=False).exclude(kind=OccasionKind.WORK)
    rows = rows.order_by("-told_at", "-pk")[:MOST]
    told = [row for row in rows if not row.facts.get("passed")]
    contacts = _names(event, [row.key for row in told])
    for row in told:
        assert row.told_at is not None
        kind = str(OccasionKind(row.kind).label).lower()
        hours = row.facts.get("hours") if row.kind == OccasionKind.REMINDER else None
        what = f"{kind}, {hours} h before" if hours else kind
        names = ", ".join(contacts.get(row.key, ()))
        # What belongs to many events can be one message, whose name does not tell this one.
        alone = not names and not row.batch and row.kind != OccasionKind.REMINDER
        words = f"Nobody was there to be told: {what}" if alone else f"Contacts told: {what}"
        yield Deed(row.told_at, words, "bell", details=(Detail("", names),) if names else ())


def _names(event: Event, keys: list[str]) -> dict[str, list[str]]:
    """Who got a message of its own, by the key of the occasion (see services/telling.py). Two queries."""
    occasions = {f"event:{event.public_id}:{key}": key for key in keys}
    found: dict[str, list[str]] = {}
    rows = Notification.objects.filter(occasion__in=occasions).order_by("pk")
    for occasion, name in rows.filter(contact__account=event.account_id).values_list(
        "occasion", "contact__name"
    ):
        found.setdefault(occasions[occasion], []).append(str(name))
    gone = rows.filter(contact=None, account=event.account_id).values_list("occasion", flat=True)
    for occasion in gone:
        found.setdefault(occasions[occasion], []).append("a contact that was deleted since")
    return found


def _stages(event: Event) -> Iterator[Deed]:
    for row in event.stages.all():
        if row.began_at is not None:
            yield Deed(row.began_at, f"Stage begun: {row.name}", "play")
        if row.ended_at is not None:
            details = (Detail("", row.detail),) if row.detail else ()
            yield Deed(
                row.ended_at,
                f"Stage {row.status_badge.label.lower()}: {row.name}",
                row.status_badge.icon,
                details=details,
            )
