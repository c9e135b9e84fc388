"""What contacts are told of an event: subject, text, HTML, payload and calendar entry. Reads what it is given, and writes nothing.

Whoever gets it may be woken by it: what happens to which server and when comes first (events/wording.py), then the button, then the details.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.template.loader import render_to_string

from events import ics
from events.choices import EventStatus, Impact, OccasionKind
from events.models import Event
from events.services.impact import seconds_text
from events.wording import ENDED, Case, K, Line, headline, opening, subject
from portal.delivery.links import absolute
from portal.models import Contact, Endpoint
from portal.services.notifications import Message

FOR_CALENDARS: Final = frozenset({K.PUBLISHED, K.CHANGED, K.POSTPONED, K.ESCALATION, K.CANCELLED})
DNS: Final = (
    "Use the domain name of the endpoint, and switch off the DNS cache of the application and of its server."
)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table of facts."""

    label: str
    text: str
    href: str = ""


@dataclass(frozen=True, slots=True)
class Parts:
    """A message before it is text or HTML."""

    headline: str
    opening: list[Line]
    link: str
    button: str
    effects: list[Row]
    typical: str
    cause: str
    rows: list[Row]
    advice: list[str]
    warning: str


def compose(case: Case) -> Message:
    """For one contact and one occasion."""
    parts = parts_of(case)
    event = case.event
    return Message(
        subject(case),
        as_text(parts),
        html=render_to_string("events/mail/event.html", {"parts": parts}),
        url=event.get_absolute_url(),
        payload=payload(event, case.kind, case.facts),
        attachments=[entry] if (entry := _entry(case)) else [],
    )


# --- Details ----------------------------------------------------------------------------------------------------------


def parts_of(case: Case) -> Parts:
    event, full = case.event, is_ahead(case)
    endpoint: Endpoint | None = getattr(event.instance, "endpoint", None)
    link = link_of(event, case.contact)
    return Parts(
        headline=headline(case),
        opening=opening(case),
        link=link,
        button=button(event) if link else "",
        effects=effects_of(event) if full else [],
        typical=typical_text(case) if full else "",
        cause=event.cause if full else "",
        rows=_rows(case, endpoint),
        advice=advice_of(case),
        warning=address_warning(event, endpoint) if full else "",
    )


def is_ahead(case: Case) -> bool:
    """Clients have still to be prepared for it."""
    return case.kind not in ENDED and not case.event.status_badge.is_final


def effects_of(event: Event) -> list[Row]:
    return [
        Row(str(Impact(one["kind"]).label), str(one.get("text", "")))
        for one in event.impacts
        if one.get("kind") in Impact.values
    ]


def link_of(event: Event, contact: Contact) -> str:
    """Where the contact may change an open event without signing in."""
    from events.services.links import link_for

    return absolute(link_for(event, contact)) if event.is_open else ""


def button(event: Event) -> str:
    if event.status == EventStatus.WAITING:
        return "Choose a time"
    if event.acknowledged_at is not None:  # the page has no such button any more
        return "Look at it, or move it" if event.may_change else "Look at it"
    if not event.may_change:
        return "I have seen it"
    return "I have seen it, or move it" if event.is_urgent else "Move it, or confirm the time"


def typical_text(case: Case) -> str:
    """`Typically 30 s. Measured: 12 s (median of 8 earlier runs of this type).`"""
    text = f"Typically {seconds_text(case.event.impact_seconds)}."
    if case.measured is None:
        return f"{text} No earlier run of this type has been measured."
    count = case.measured.count
    runs = f"median of {count} earlier runs" if count > 1 else "one earlier run"
    return f"{text} Measured: {seconds_text(case.measured.seconds)} ({runs} of this type)."


def _rows(case: Case, endpoint: Endpoint | None) -> list[Row]:
    event = case.event
    rows = [Row("Instance", f"{event.instance_name} ({event.instance_public_id})")]
    if case.kind == K.WORK:
        rows.append(Row("Account", event.account.name))
    if endpoint is not None:
        rows.append(Row("Endpoint", endpoint.address))
    if event.region or event.zone:
        rows.append(Row("Region, zone", ", ".join(filter(None, [event.region, event.zone]))))
    if version := version_text(event):
        rows += [Row("Version", version), notes_row(event)]
    rows += _times(case)
    if event.is_open:
        rows.append(Row("Deadline", case.both(event.deadline)))
    rows.append(Row("Event", event.public_id))
    return rows


def version_text(event: Event) -> str:
    """`6.2.14 → 7.0.15`; "" where the version stays."""
    if not (event.type.shows_versions or event.version_from or event.version_to):
        return ""
    return f"{event.version_from or 'not known'} → {event.version_to or 'not known'}"


def notes_row(event: Event) -> Row:
    notes = event.release_notes
    return Row("Release notes", notes or "no notes", notes if notes.startswith("http") else "")


def _times(case: Case) -> list[Row]:
    event = case.event
    if event.switch_at is None:
        return [Row("Choose a time by", case.both(case.chosen_until))] if case.chosen_until else []
    status = event.status_badge
    if not status.is_final:
        rows = [Row("Switchover", case.both(event.switch_at))]
        if event.starts_at is not None and event.is_open and event.preparation_seconds:
            rows.append(Row("Preparation from", case.both(event.starts_at)))
        return rows
    if event.switched_at is None or status == EventStatus.CANCELLED:
        return [Row("Was planned for", case.both(event.switch_at))]
    return [Row("Switched over", case.both(event.switched_at))]


def advice_of(case: Case) -> list[str]:
    event = case.event
    if case.kind == K.FAILED or event.status == EventStatus.FAILED:
        return ["Check that clients of the instance are connected and can write. What was done, and how far it came, is in the log on the page of the event."]  # fmt: skip
    if case.kind in ENDED or case.kind == K.WORK:  # the advice is for the owner
        return []
    return [line for line in (event.advice, "" if "DNS cache" in event.advice else DNS) if line]


def address_warning(event: Event, endpoint: Endpoint | None) -> str:
    """What becomes of clients that use an IP address (R16); "" where the endpoint is a name."""
    if endpoint is None or not endpoint.is_raw_ip:
        return ""
    what_if = "are cut off when it changes" if event.changes_address else "would be cut off if it changed"
    return (
        f"The endpoint is the IP address {endpoint.host}, not a domain name: clients that use it {what_if}."
    )


def as_text(parts: Parts) -> str:
    blocks = [parts.headline, *(line.text for line in parts.opening)]
    if parts.link:
        blocks.append(f"{parts.button}, without signing in:\n{parts.link}")
    blocks += texts_of(parts.effects, parts.typical, parts.cause, parts.warning, parts.advice)
    blocks.append("\n".join(f"{row.label}: {row.text}" for row in parts.rows))
    return "\n\n".join(blocks)


def texts_of(
    effects: Sequence[Row], typical: str, cause: str, warning: str, advice: Sequence[str]
) -> list[str]:
    """What clients notice, why, and what to do, as far as there is something to say."""
    found = []
    if effects or typical:
        lines = [f"- {one.label}: {one.text}" if one.text else f"- {one.label}" for one in effects]
        found.append("\n".join(["What clients notice", *lines, typical]).rstrip())
    if cause:
        found.append(f"Why\n{cause}")
    if advice or warning:
        warnings = [f"WARNING: {warning}"] if warning else []
        found.append("\n".join(["What to do", *warnings, *(f"- {line}" for line in advice)]))
    return found


# --- For programs -----------------------------------------------------------------------------------------------------


def payload(event: Event, kind: OccasionKind, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a webhook gets; times in UTC."""
    return {
        "event": event.public_id,
        "kind": str(kind),
        "type": event.type.code,
        "level": event.level,
        "status": event.status,
        "simulated": event.is_simulated,
        "account": event.account.public_id,
        "instance": event.instance_public_id,
        "instance_name": event.instance_name,
        "region": event.region,
        "zone": event.zone,
        "switch_at": _iso(event.switch_at),
        "starts_at": _iso(event.starts_at),
        "deadline": _iso(event.deadline),
        "revision": event.revision,
        "version_from": event.version_from,
        "version_to": event.version_to,
        "impacts": [one.get("kind") for one in event.impacts],
        "typical_seconds": event.impact_seconds,
        "measured_seconds": event.measured_seconds,
        "result": event.result,
        "old_switch_at": facts.get("old") or None,
        "by": facts.get("by") or None,
        "why": facts.get("why") or None,
        "hours": facts.get("hours"),
        "stage": facts.get("stage"),
        "about": facts.get("about"),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment else None


def _entry(case: Case) -> dict[str, str] | None:
    event = case.event
    if case.kind not in FOR_CALENDARS:
        return None
    chosen = {event.pk: case.choose_by} if case.choose_by else {}
    return ics.attachment(
        [event], "CANCEL" if case.kind == K.CANCELLED else "PUBLISH", event.public_id, chosen
    )
