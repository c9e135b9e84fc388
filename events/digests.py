"""One message of many events: of a campaign, a bulk change, or reminders that come at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from django.template.loader import render_to_string
from django.urls import reverse

from events import ics
from events.choices import OccasionKind
from events.messages import (
    FOR_CALENDARS,
    Row,
    advice_of,
    effects_of,
    is_ahead,
    link_of,
    notes_row,
    payload,
    texts_of,
    typical_text,
    version_text,
)
from events.models import Event
from events.moments import between_text
from events.services.impact import seconds_text
from events.wording import ENDED, TIMES, Case, K, Line, impact_here, marked
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


_OVER: Final[Mapping[OccasionKind, str]] = {
    K.SUCCEEDED: "DONE",
    K.FAILED: "FAILED",
    K.CANCELLED: "CANCELLED",
}
_TIME: Final[Mapping[OccasionKind, str]] = {
    K.CANCELLED: "Was planned for",
    K.FAILED: "Was planned for",
    K.SUCCEEDED: "Switched over",
}
"""What the times of the table are."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the table."""

    instance: str
    instance_id: str
    about: list[Row]
    """What is not the same for all: account (in messages for staff), type, region, version, impact."""
    urgent: bool
    old: str
    new: str
    notes: list[str]
    deadline: str
    link: str


@dataclass(frozen=True, slots=True)
class Common:
    """What is the same for all, and what the entries say where it is not."""

    effects: list[Row]
    typical: str
    cause: str
    rows: list[Row]
    advice: list[str]
    differs: frozenset[str]


@dataclass(frozen=True, slots=True)
class Parts:
    headline: str
    opening: list[Line]
    list_url: str
    common: Common
    time: str
    rows: list[Entry]
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
    text = f"{_count(cases)} {_done(cases)}"
    times = [case.event.switch_at for case in cases if case.event.switch_at is not None]
    if kind in TIMES and times:
        still = "still" if all(case.is_back for case in cases) else "now"
        text += f", {still} {between_text(times, first.zone, first.now)}"
    elif kind not in ENDED and times:
        begin, end = (first.day(moment) for moment in (min(times), max(times)))
        text += f": {begin}" if begin == end else f": {begin} to {end}"
    elif kind not in ENDED and (until := _chosen_until(cases)):
        text += f": choose a time by {first.day(until)}"
    urgent = kind not in ENDED and any(case.event.is_urgent for case in cases)
    return marked(text, urgent=urgent, simulated=all(case.event.is_simulated for case in cases))


def _done(cases: Sequence[Case]) -> str:
    """What has become of them."""
    if all(case.is_back for case in cases):
        return "moved, and moved back"
    return "moved back" if all(case.is_undone for case in cases) else _WHAT[cases[0].kind]


def _chosen_until(cases: Sequence[Case]) -> datetime | None:
    """The first moment by which a time is to be chosen."""
    return min((case.chosen_until for case in cases if case.chosen_until is not None), default=None)


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
    kind, hidden = cases[0].kind, len(cases) - SHOWN
    news, boxes = [Line(text) for text in _lead(cases)], _marks(cases)
    common = _common(cases)
    return Parts(
        headline=_headline(cases),
        opening=[*news, *boxes] if kind in (*TIMES, K.STARTED) else [*boxes, *news],
        list_url=absolute(page),
        common=common,
        time=_TIME.get(kind, "Time" if kind in TIMES else "Switchover"),
        rows=[_entry(case, common.differs) for case in cases[:SHOWN]],
        more=f"And {hidden:,} more, which are in the list." if hidden > 0 else "",
    )


def _headline(cases: Sequence[Case]) -> str:
    which = f"{_count(cases)} of {_accounts(cases)}"
    over = _OVER.get(cases[0].kind)
    if over is None:
        return f"{which}: {_done(cases)}"
    took = [case.event.measured_seconds for case in cases if case.event.measured_seconds is not None]
    if cases[0].kind == K.SUCCEEDED and took:
        over += f" (clients cut off for {'up to ' if min(took) < max(took) else ''}{seconds_text(max(took))})"
    return f"{over}: {which}"


def _lead(cases: Sequence[Case]) -> list[str]:
    """What is new."""
    first, kind = cases[0], cases[0].kind
    found = _campaign(cases)
    who = {case.fact("by") for case in cases}
    if kind in (K.CHANGED, K.CANCELLED) and len(who) == 1 and (by := who.pop()):
        undone = " An earlier change was undone." if all(case.is_undone for case in cases) else ""
        found.append(f"{_done(cases).capitalize()} by {by}.{undone}")
    whys = {case.fact("why") for case in cases}
    if len(whys) == 1 and (why := whys.pop()):
        found.append(f"Why: {why}")
    if kind == K.WORK:
        found += list(dict.fromkeys(case.fact("text") for case in cases))[:3]
    if waiting := sum(case.event.switch_at is None for case in cases if kind not in ENDED):
        until = _chosen_until(cases)
        by = f" by {first.both(until)}" if until else ""
        found.append(
            f"{_of(waiting, cases, 'waits', 'wait')} for a time: please choose one{by}. "
            "If nobody has chosen by then, Switchyard takes the last time that fits before the deadline."
        )
    return found


def _campaign(cases: Sequence[Case]) -> list[str]:
    """Its name, and what its staff say of it, which is no news any more when it is over."""
    campaigns = {case.event.campaign for case in cases}
    campaign = campaigns.pop()
    if campaigns or campaign is None:
        return []
    ahead = cases[0].kind not in ENDED and campaign.description
    return [
        f"Campaign “{campaign.name}” ({campaign.public_id}){f': {campaign.description}' if ahead else ''}"
    ]


def _of(count: int, cases: Sequence[Case], one: str, many: str) -> str:
    """`1 of them waits`, `3 of them wait`, `All of them wait`."""
    if count == len(cases):
        return f"All of them {many}"
    return f"{count:,} of them {one if count == 1 else many}"


def _marks(cases: Sequence[Case]) -> list[Line]:
    found = []
    urgent = [case for case in cases if case.event.is_urgent]
    if urgent and cases[0].kind not in ENDED:
        what = _of(len(urgent), cases, "is a risk fix", "are risk fixes")
        text = f"{what}, announced with less than the usual notice, because the risk does not wait."
        seen = all(case.is_seen for case in urgent)
        found.append(Line(text, "note") if seen else Line(f"URGENT: {text[0].lower()}{text[1:]}", "alarm"))
    simulated = sum(case.event.is_simulated for case in cases)
    if simulated:
        which = "all" if simulated == len(cases) else f"{simulated:,}"
        found.append(Line(f"SIMULATED: in {which} of them nothing is really done.", "note"))
    return found


def _common(cases: Sequence[Case]) -> Common:
    """Whatever is the same for all is said once, at the top; the rest in the rows of the table."""
    first, ahead = cases[0], all(map(is_ahead, cases))
    event, differs = first.event, set()

    def is_same(name: str, said: Callable[[Case], object]) -> bool:
        it = said(first)
        if all(said(case) == it for case in cases):
            return True
        differs.add(name)
        return False

    rows = []
    is_same("account", lambda case: case.event.account_id)  # the headline names it
    if is_same("type", lambda case: case.event.type_id) and event.type.name not in _count(cases):
        rows.append(Row("Type", event.type.name))
    if is_same("region", _region) and _region(first):
        rows.append(Row("Region, zone", _region(first)))
    if is_same("version", lambda case: version_text(case.event)) and version_text(event):
        rows.append(Row("Version", version_text(event)))
    if is_same("notes", _notes) and (notes := _notes(first)):
        rows.append(notes)
    if is_same("deadline", _deadline) and _deadline(first):
        rows.append(Row("Deadline", first.both(event.deadline)))
    effects, typical = [], ""
    if ahead and is_same("effects", lambda case: _labels(case.event)):
        effects = effects_of(event)
        if any(effects_of(case.event) != effects for case in cases):
            effects = [Row(one.label, "") for one in effects]
    if ahead and is_same("typical", lambda case: case.event.impact_seconds):
        typical = typical_text(first)
        if any(typical_text(case) != typical for case in cases):
            typical = f"Typically {seconds_text(event.impact_seconds)}."
    return Common(
        effects=effects,
        typical=typical,
        cause=event.cause if ahead and all(case.event.cause == event.cause for case in cases) else "",
        rows=rows,
        advice=[line for line in advice_of(first) if all(line in advice_of(case) for case in cases)],
        differs=frozenset(differs),
    )


def _labels(event: Event) -> list[str]:
    return [one.label for one in effects_of(event)]


def _region(case: Case) -> str:
    return ", ".join(filter(None, [case.event.region, case.event.zone]))


def _notes(case: Case) -> Row | None:
    return notes_row(case.event) if version_text(case.event) else None


def _deadline(case: Case) -> str:
    return case.day(case.event.deadline) if case.event.is_open else ""


def _entry(case: Case, differs: frozenset[str]) -> Entry:
    event, old = case.event, case.moment("old")
    if case.is_back:
        old = None
    moment = event.switched_at if case.kind == K.SUCCEEDED and event.switched_at else event.switch_at
    return Entry(
        instance=event.instance_name,
        instance_id=event.instance_public_id,
        about=_about(case, differs),
        urgent=event.is_urgent and case.kind not in ENDED,
        old=case.day(old) if old else "",
        new=case.day(moment) if moment else "no time yet",
        notes=_remarks(case),
        deadline=_deadline(case) if "deadline" in differs else "",
        link=link_of(event, case.contact),
    )


def _about(case: Case, differs: frozenset[str]) -> list[Row]:
    event = case.event
    found = {
        "account": Row("", event.account.name),
        "type": Row("", event.type.name),
        "version": Row("", version_text(event)),
        "notes": _notes(case) or Row("", ""),
        "region": Row("", _region(case)),
        "effects": Row("", ", ".join(_labels(event))),
        "typical": Row("", f"typically {seconds_text(event.impact_seconds)}"),
    }
    return [row for name, row in found.items() if name in differs and row.text]


def _remarks(case: Case) -> list[str]:
    event, found = case.event, []
    if case.is_back:
        found.append("as before: it was moved, and moved back")
    if case.kind == K.FAILED:
        found.append(event.result)
    if case.kind == K.SUCCEEDED and (took := impact_here(event)):
        found.append(f"clients were cut off for {took}")
    if case.chosen_until is not None:
        found.append(f"choose one by {case.day(case.chosen_until)}")
    endpoint = getattr(event.instance, "endpoint", None)
    if is_ahead(case) and endpoint is not None and endpoint.is_raw_ip:
        found.append(f"WARNING: the endpoint is the IP address {endpoint.host}, not a domain name")
    return [text for text in found if text]


def _text(parts: Parts) -> str:
    common = parts.common
    blocks = [parts.headline, *(line.text for line in parts.opening)]
    blocks.append(f"The list (you sign in first):\n{parts.list_url}")
    blocks += texts_of(common.effects, common.typical, common.cause, "", common.advice)
    if common.rows:
        blocks.append("\n".join(f"{row.label}: {row.text}" for row in common.rows))
    for row in parts.rows:
        time = f"{row.old} → {row.new}" if row.old else row.new
        about = [f"{one.label}: {one.text}" if one.label else one.text for one in row.about]
        urgent = "RISK FIX: " if row.urgent else ""
        lines = [f"{urgent}{', '.join([f'{row.instance} ({row.instance_id})', *about])}"]
        lines += [f"  {parts.time.lower()}: {time}", *(f"  {note}" for note in row.notes)]
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
        [case.event for case in cases],
        "CANCEL" if kind == K.CANCELLED else "PUBLISH",
        "events",
        {case.event.pk: case.choose_by for case in cases if case.choose_by is not None},
    )
