"""One message of many events: of a campaign, a bulk change, or reminders that come at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.template.loader import render_to_string
from django.urls import reverse

from events import ics
from events.choices import OccasionKind
from events.messages import FOR_CALENDARS, link_of, payload
from events.models import Event
from events.wording import ENDED, Case, K, impact_here, marked
from portal.delivery.links import absolute
from portal.services.notifications import Message

SHOWN: Final = 100
"""Rows of the table, and entries of the calendar: mail programs cut longer messages, and nobody reads them."""
LISTED: Final = 1000
"""Events that a webhook is told of by name."""

_WHAT: Final[Mapping[OccasionKind, str]] = {
    K.PUBLISHED: "announced",
    K.CHANGED: "moved",
    K.POSTPONED: "postponed by the system",
    K.REMINDER: "coming up",
    K.ESCALATION: "not seen by anybody yet",
    K.STARTED: "begun",
    K.SUCCEEDED: "done",
    K.FAILED: "FAILED",
    K.CANCELLED: "cancelled",
    K.WORK: "waiting for staff",
}


@dataclass(frozen=True, slots=True)
class Line:
    instance: str
    instance_id: str
    type: str
    old: str
    new: str
    deadline: str
    note: str
    link: str


@dataclass(frozen=True, slots=True)
class Parts:
    headline: str
    marks: list[str]
    lead: list[str]
    list_url: str
    rows: list[Line]
    more: str

    @property
    def has_links(self) -> bool:
        return any(row.link for row in self.rows)


def compose(cases: Sequence[Case]) -> Message:
    """For one contact: all of them are of the same contact and kind."""
    # In the order of time; those that wait for one first.
    cases = sorted(
        cases, key=lambda case: (case.event.switch_at is not None, _when(case.event), case.event.pk)
    )
    page = _list_of(cases)
    parts = _parts(cases, page)
    return Message(
        _subject(cases),
        _text(parts),
        html=render_to_string("events/mail/digest.html", {"parts": parts}),
        url=page,
        payload=_payload(cases),
        attachments=[entry] if (entry := _entries(cases)) else [],
    )


def _list_of(cases: Sequence[Case]) -> str:
    """The page that shows these events, as nearly as it can be asked for them: of their campaign, else of their type."""
    page = reverse("event_history" if cases[0].kind in ENDED else "event_list")
    campaigns = {case.event.campaign for case in cases}
    kinds = {case.event.type.code for case in cases}
    if len(campaigns) == 1 and (campaign := campaigns.pop()) is not None:
        return f"{page}?{urlencode({'q': campaign.public_id})}"
    return f"{page}?{urlencode({'type': kinds.pop()})}" if len(kinds) == 1 else page


def _when(event: Event) -> Any:
    return event.switch_at or event.deadline


def _subject(cases: Sequence[Case]) -> str:
    """`Instance migration of 12 instances announced: Tue 3 March, 02:00 CET to Fri 6 March, 04:00 CET`."""
    first, kind = cases[0], cases[0].kind
    text = f"{_count(cases)} {_WHAT[kind]}"
    times = [case.event.switch_at for case in cases if case.event.switch_at is not None]
    if kind not in ENDED and times:
        begin, end = (first.day(moment) for moment in (min(times), max(times)))
        text += f": {begin}" if begin == end else f": {begin} to {end}"
    if kind == K.PUBLISHED and not times:
        text += f": choose a time by {first.day(min(case.event.deadline for case in cases))}"
    urgent = kind not in ENDED and any(case.event.is_urgent for case in cases)
    return marked(text, urgent=urgent, simulated=all(case.event.is_simulated for case in cases))


def _count(cases: Sequence[Case]) -> str:
    """`Instance migration of 12 instances`, `12 O&M events`."""
    names = {case.event.type.name for case in cases}
    instances = {case.event.instance_public_id for case in cases}
    if len(names) == 1 and len(instances) == len(cases):
        return f"{names.pop()} of {len(cases):,} instances"
    return f"{len(cases):,} O&M events"


def _accounts(cases: Sequence[Case]) -> str:
    """One, but in messages for staff."""
    names = {case.event.account.name for case in cases}
    return f"the account {names.pop()}" if len(names) == 1 else f"{len(names)} accounts"


def _parts(cases: Sequence[Case], page: str) -> Parts:
    first, kind = cases[0], cases[0].kind
    lead = []
    if by := first.fact("by"):
        who = {case.fact("by") for case in cases}
        if len(who) == 1 and kind in (K.CHANGED, K.CANCELLED):
            lead.append(f"{_WHAT[kind].capitalize()} by {by}.")
    whys = {case.fact("why") for case in cases}
    if len(whys) == 1 and (why := whys.pop()):
        lead.append(f"Why: {why}")
    if kind == K.WORK:
        lead += list(dict.fromkeys(case.fact("text") for case in cases))[:3]
    if kind == K.PUBLISHED:
        lead += [f"Why: {cause}" for cause in dict.fromkeys(case.event.cause for case in cases)][:3]
    if waiting := sum(case.event.switch_at is None for case in cases if kind not in ENDED):
        lead.append(f"{waiting:,} of them wait for a time: please choose one.")
    hidden = len(cases) - SHOWN
    return Parts(
        headline=f"{_count(cases)} of {_accounts(cases)}: {_WHAT[kind]}",
        marks=_marks(cases),
        lead=lead,
        list_url=absolute(page),
        rows=[_line(case) for case in cases[:SHOWN]],
        more=f"And {hidden:,} more, which are in the list." if hidden > 0 else "",
    )


def _marks(cases: Sequence[Case]) -> list[str]:
    found = []
    urgent = sum(case.event.is_urgent for case in cases)
    if urgent and cases[0].kind not in ENDED:
        found.append(
            f"URGENT: {urgent:,} of them are risk fixes, announced with less than the usual notice, because the risk does not wait."
        )
    simulated = sum(case.event.is_simulated for case in cases)
    if simulated:
        which = "all" if simulated == len(cases) else f"{simulated:,}"
        found.append(f"SIMULATED: in {which} of them nothing is really done.")
    return found


def _line(case: Case) -> Line:
    event = case.event
    old = case.moment("old")
    note = {K.FAILED: event.result, K.SUCCEEDED: impact_here(event)}.get(case.kind, "")
    if case.is_back:
        old, note = None, "as before: it was moved, and moved back"
    return Line(
        instance=event.instance_name,
        instance_id=event.instance_public_id,
        type=event.type.name,
        old=case.day(old) if old else "",
        new=case.day(event.switch_at) if event.switch_at else "no time yet",
        deadline=case.day(event.deadline) if event.is_open else "",
        note=note,
        link=link_of(event, case.contact),
    )


def _text(parts: Parts) -> str:
    blocks = [parts.headline, *parts.marks, *parts.lead, f"The list (you sign in first):\n{parts.list_url}"]
    for row in parts.rows:
        time = f"{row.old} → {row.new}" if row.old else row.new
        lines = [f"{row.instance} ({row.instance_id}), {row.type}", f"  {time}"]
        if row.note:
            lines.append(f"  {row.note}")
        if row.deadline:
            lines.append(f"  deadline: {row.deadline}")
        if row.link:
            lines.append(f"  {row.link}")
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, *filter(None, [parts.more])])


def _payload(cases: Sequence[Case]) -> dict[str, Any]:
    first = cases[0]
    return {
        "kind": str(first.kind),
        "account": first.event.account.public_id,
        "count": len(cases),
        "events": [payload(case.event, case.kind, case.facts) for case in cases[:LISTED]],
    }


def _entries(cases: Sequence[Case]) -> dict[str, str] | None:
    kind = cases[0].kind
    if kind not in FOR_CALENDARS or len(cases) > SHOWN:
        return None
    return ics.attachment(
        [case.event for case in cases], "CANCEL" if kind == K.CANCELLED else "PUBLISH", "events"
    )
