"""Links in messages: for one event and one contact, without a login.

A token names an event, a contact and the revision of the event that the message told of, and is signed with SECRET_KEY. It opens nothing
once the event has begun or ended, once its time has been changed, by this link or otherwise, or once the contact is no longer told of the
account's events. Looking changes nothing, as programs open the links of mails, too; each press of a button is in the audit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal

from django.core.signing import BadSignature, Signer, b62_decode, b62_encode
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from events import rules
from events.choices import Via
from events.models import Event, LinkUse
from events.services import scheduling
from events.services.by import By
from events.services.surroundings import around, facts_of
from portal.choices import Category
from portal.errors import Conflict, ServiceError
from portal.models import AuditEntry, Contact
from portal.patience import patient
from portal.services import audit
from portal.services.quiet import end_of_quiet_hours
from portal.services.windows import window_for
from portal.windows import Window, span_at

SIGNER: Final = Signer(sep=".", salt="events.link")
"""Signatures of SECRET_KEY_FALLBACKS count as well."""
CHANGE: Final = "change"  # what uses a link up, whichever button it was: another time, or no event at all
ACKNOWLEDGE: Final = "acknowledge"
SLACK: Final = timedelta(minutes=15)
"""Within an open window the first possible moment moves on while somebody reads: so much later than shown it may be."""


class LinkState(StrEnum):
    VALID = "valid"
    FORGED = "forged"
    """Made up or altered, or of an event that does not exist."""
    FOREIGN = "foreign"
    """Of a contact that was deleted, belongs to another account, or is no longer told of maintenance."""
    BEGUN = "begun"
    """The event is in progress or has ended."""
    STALE = "stale"
    """The event is no longer as the message told it: see `OpenedLink.used`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from."""

    address: str = ""
    agent: str = ""

    def details(self) -> dict[str, Any]:
        shown = "".join(one for one in self.agent if one.isprintable())
        return {"address": self.address[:60], "agent": shown[:200]}


@dataclass(frozen=True, slots=True)
class OpenedLink:
    state: LinkState
    event: Event | None = None
    contact: Contact | None = None
    revision: int = 0
    used: LinkUse | None = None
    """The press by which this very link has changed the event."""

    @property
    def tells_nothing(self) -> bool:
        """Nothing of the event may be shown."""
        return self.state in (LinkState.FORGED, LinkState.FOREIGN)

    @property
    def by(self) -> By:
        assert self.contact is not None
        return By(contact=self.contact, via=Via.MAIL)

    @property
    def key(self) -> str:
        """Names the link without its secret part."""
        assert self.event is not None
        return f"{self.event.pk}-{self.contact.pk if self.contact else ''}-{self.revision}"


def link_for(event: Event, contact: Contact) -> str:
    """The path of the page on which this contact may change this event, as it is now."""
    payload = "-".join(b62_encode(number) for number in (event.pk, contact.pk, event.revision))
    return reverse("event_link", args=[SIGNER.sign(payload)])


def open_link(token: str) -> OpenedLink:
    """What the token is good for at this moment. Changes nothing."""
    named = _read(token)
    if named is None:
        return OpenedLink(LinkState.FORGED)
    event_pk, contact_pk, revision = named
    # Before the event: if the link is used up meanwhile, the event is read as that use has left it.
    used = LinkUse.objects.filter(
        event=event_pk, contact=contact_pk, revision=revision, action=CHANGE
    ).first()
    event = (
        Event.objects.select_related("type", "account", "instance__endpoint", "campaign")
        .filter(pk=event_pk)
        .first()
    )
    if event is None:
        return OpenedLink(LinkState.FORGED)
    contact = Contact.objects.filter(pk=contact_pk).first()
    if contact is None or not is_told(contact, event):
        return OpenedLink(LinkState.FOREIGN, event, contact, revision)
    if not event.is_open:
        state = LinkState.BEGUN
    elif event.revision != revision or used is not None:
        state = LinkState.STALE
    else:
        state = LinkState.VALID
    return OpenedLink(state, event, contact, revision, used)


def is_told(contact: Contact, event: Event) -> bool:
    return contact.account_id == event.account_id and Category.MAINTENANCE in contact.categories


def _read(token: str) -> tuple[int, int, int] | None:
    try:
        event, contact, revision = (b62_decode(part) for part in SIGNER.unsign(token).split("-"))
    except (BadSignature, ValueError):
        return None
    return event, contact, revision


# --- What can be done -------------------------------------------------------------------------------------------------

Offer = Literal["window", "later"]


@dataclass(frozen=True, slots=True)
class Offers:
    """What the page of a link offers; a moment is None where there is none, or where the event has it already."""

    window: datetime | None = None
    """In the next maintenance window."""
    later: datetime | None = None
    """In the first window after the time that stands, where that is not the next one."""
    now: datetime | None = None
    """When the switchover is if the preparation starts at once."""
    earliest: datetime | None = None
    latest: datetime | None = None
    """Between these a time can be chosen."""
    fixed: ServiceError | None = None
    """Why no time can be chosen at all."""
    may_cancel: bool = False
    has_window: bool = False
    """The instance, or its account, has a maintenance window, whether or not it has a free place."""


def offers(event: Event, now: datetime | None = None) -> Offers:
    """A constant number of queries."""
    now = now or timezone.now()
    facts = facts_of(event, now)
    may_cancel = rules.check_cancel(facts) is None
    if refusal := rules.check_change(facts):
        return Offers(fixed=refusal, may_cancel=may_cancel)
    surroundings = around(event, now)
    at_once = rules.at_once(facts)
    latest = rules.latest_choice(facts)
    has_room = facts.earliest <= latest
    own = window_for(event.instance)
    window, later = _in_windows(own, facts, surroundings) if own is not None else (None, None)
    return Offers(
        window=window,
        later=later,
        now=at_once if rules.check_reschedule(facts, at_once, surroundings) is None else None,
        earliest=facts.earliest if has_room else None,
        latest=latest if has_room else None,
        may_cancel=may_cancel,
        has_window=own is not None,
    )


def _in_windows(
    window: Window, facts: rules.Facts, surroundings: rules.Surroundings
) -> tuple[datetime | None, datetime | None]:
    """The first free moment in a window, and the first one in a window after the time that stands."""
    first = rules.propose(facts, window, surroundings)
    later = None
    if facts.switch_at is not None:
        span = span_at(window, facts.switch_at)
        after = span.ends if span else facts.switch_at + timedelta(seconds=1)
        later = rules.propose(facts, window, surroundings, not_before=after)
    return (
        first if first != facts.switch_at else None,
        later if later not in (first, facts.switch_at) else None,
    )


# --- Pressing a button ------------------------------------------------------------------------------------------------


def move_to_window(link: OpenedLink, which: Offer, shown: datetime | None, origin: Origin) -> Event:
    """The next or a later window, at the moment that the page has shown. Raises as `move` does, and Conflict (`event.window_moved`)."""
    assert link.event is not None
    found: datetime | None = getattr(offers(link.event), which)
    if found is None or shown is None or not shown <= found <= shown + SLACK:
        raise Conflict(
            f"That maintenance window is not free any more. {rules.NOTHING}",
            advice="Look at what is offered now." if found else "Choose a time.",
            id="event.window_moved",
        )
    return move(link, "window" if which == "window" else found, origin)


def move(link: OpenedLink, wish: scheduling.Wish, origin: Origin) -> Event:
    """Another time: uses the link up, unless the event has that time already.

    Raises Conflict (`link.used`) if another press of this link was quicker, and what scheduling.reschedule raises.
    """
    return _spend(
        link,
        origin,
        wish if isinstance(wish, str) else "time",
        lambda event: scheduling.reschedule(link.by, event, wish, seen=link.revision),
    )


def cancel(link: OpenedLink, reason: str, origin: Origin) -> Event:
    """Uses the link up. Raises Conflict (`link.used`), and what scheduling.cancel raises."""
    return _spend(
        link,
        origin,
        "cancel",
        lambda event: scheduling.cancel(link.by, event, reason, seen=link.revision),
    )


def _spend(link: OpenedLink, origin: Origin, did: str, change: Callable[[Event], Event]) -> Event:
    assert link.event is not None
    event = link.event

    @patient
    def spend() -> Event:
        with transaction.atomic():
            # Before the change: of two presses at the same moment the second one waits here, and is refused.
            use = LinkUse.objects.create(action=CHANGE, **_use(link, origin))
            changed = change(event)
            if changed.revision == link.revision:
                use.delete()
            _record(link, did, origin)
        return changed

    try:
        return spend()
    except IntegrityError:
        raise Conflict(
            f"This link has been used already. {rules.NOTHING}",
            advice="Look at the newest message about this event, or log in.",
            id="link.used",
        ) from None


@patient
def acknowledge(link: OpenedLink, origin: Origin) -> Event:
    """May be repeated, and leaves the link as it is."""
    assert link.event is not None
    with transaction.atomic():
        event = scheduling.acknowledge(link.by, link.event)
        named = {name: value for name, value in _use(link, origin).items() if name in _IDENTITY}
        LinkUse.objects.get_or_create(action=ACKNOWLEDGE, **named, defaults=_use(link, origin))
        _record(link, ACKNOWLEDGE, origin)
    return event


def note_refused(link: OpenedLink, did: str, origin: Origin, why: str) -> None:
    """Somebody has pressed a button, and nothing was changed. A forged link is of no event, so there is nothing to note it at."""
    if link.event is not None:
        _record(link, did, origin, refused=why)


_IDENTITY: Final = ("event", "contact", "revision")


def _use(link: OpenedLink, origin: Origin) -> dict[str, Any]:
    assert link.contact is not None
    return {
        "event": link.event,
        "contact": link.contact,
        "contact_name": link.contact.name,
        "revision": link.revision,
        **origin.details(),
    }


def _record(link: OpenedLink, did: str, origin: Origin, *, refused: str = "") -> None:
    contact = link.contact.name if link.contact is not None else "a deleted contact"
    audit.record(
        None,
        "event.link_refused" if refused else "event.link_used",
        link.event,
        contact=contact,
        did=did,
        refused=refused,
        **origin.details(),
    )


# --- After it was pressed ---------------------------------------------------------------------------------------------


def may_have(event: Event, moment: datetime, now: datetime | None = None) -> bool:
    """Whether the rules allow this time, such as the one that the event had before."""
    now = now or timezone.now()
    return rules.check_reschedule(facts_of(event, now), moment, around(event, now)) is None


def held_until(event: Event, contact: Contact, now: datetime | None = None) -> datetime | None:
    """Until when quiet hours may hold back the message with the newest link; None where they do not."""
    return None if event.is_urgent else end_of_quiet_hours(contact, now or timezone.now())


# --- Who was it -------------------------------------------------------------------------------------------------------

CHANGES: Final = ("event.rescheduled", "event.postponed", "event.cancelled")


@dataclass(frozen=True, slots=True)
class LastChange:
    who: str
    via: str
    at: datetime


def last_change(event: Event) -> LastChange | None:
    """Who changed the time, or cancelled it, last. One query."""
    entry = (
        AuditEntry.objects.filter(object_type="event", object_id=event.public_id, action__in=CHANGES)
        .order_by("-at", "-pk")
        .first()
    )
    if entry is None:
        return None
    who = entry.actor_name or str(entry.details.get("contact", "")) or "the system"
    via = str(entry.details.get("via", ""))
    return LastChange(who, via if via != who else "", entry.at)
