"""What publishing a draft would do to each instance: its time, who is told, what speaks against it. Nothing is written here.

Where no time is given, each instance gets one:

- Maintenance (S1): the first free place in the maintenance window of the instance, or of its account, that keeps the notice of the
  type and all rules. If there is none, the event waits for its owner to choose a time; where the owner may not, the deadline is the time.
- Risk fix (S0): likewise in the instance's own window, if that is before the deadline; the general window of the account, the general
  schedule, does not hold it up. Else as soon as the preparation can be done, but not before LEAD, so that those who are told can still
  choose another time; at the deadline if that is sooner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings

from events import rules, versions
from events.services.drafts import Draft, Terms, terms_of
from events.services.selection import NOTHING, keys_of
from events.services.surroundings import surroundings
from events.services.unfinished import Unfinished, unfinished_of
from portal.choices import ChannelKind
from portal.errors import Invalid, ServiceError
from portal.models import Instance, MaintenanceWindow
from portal.services.quiet import end_of_quiet_hours
from portal.services.reach import Reached, reached_by
from portal.services.windows import rows_for
from portal.windows import Window

CHUNK: Final = 1000
LEAD: Final = timedelta(hours=4)
QUARTER: Final = timedelta(minutes=15)
"""Proposed times that are not the begin of a window are rounded up to this."""


@dataclass(frozen=True, slots=True)
class Told:
    """A contact who will be told, how, and when: `at` None is at once."""

    name: str
    ways: str
    at: datetime | None = None
    if_unseen: bool = False
    """Only if nobody has seen it by then."""


CAUTIONS: Final = {
    "no_contact": "Nobody is told: no contact who can be reached",
    "raw_address": "The endpoint is an IP address",
    "version_unknown": "The current version is not known",
    "no_target": "The target version is not said",
    "other_version": "Another event changes the version as well",
    "same_type": "An event of this type is open already",
    "waits": "It waits for another event of the instance",
    "no_window": "No place in a maintenance window: a time must be chosen",
}


@dataclass(frozen=True, slots=True)
class Caution:
    """What staff should look at before they publish."""

    id: str
    text: str

    @property
    def summary(self) -> str:
        """For the count over all instances."""
        return CAUTIONS[self.id]


@dataclass(slots=True)
class Row:
    """What becomes of one instance. `switch_at` None: its owner chooses a time."""

    instance: Instance
    deadline: datetime
    switch_at: datetime | None
    notice: timedelta
    version_from: str
    version_to: str
    told: list[Told]
    warnings: list[Caution] = field(default_factory=list)
    refusal: ServiceError | None = None

    @property
    def reason(self) -> str:
        """Why it gets no event, without the sentence that says so."""
        message = self.refusal.message if self.refusal else ""
        return message.removesuffix(NOTHING).removesuffix(rules.NOTHING).strip()

    @property
    def notice_text(self) -> str:
        return rules.duration_text(self.notice)


@dataclass(frozen=True, slots=True)
class Plan:
    """What publishing a draft would do now. `digest` tells whether it is still the same later."""

    terms: Terms
    rows: list[Row]
    digest: str

    @property
    def published(self) -> list[Row]:
        return [row for row in self.rows if row.refusal is None]

    @property
    def left_out(self) -> list[Row]:
        return [row for row in self.rows if row.refusal is not None]


def plan_of(draft: Draft, now: datetime, *, lock: bool = False) -> Plan:
    """`lock`: inside the transaction that goes on to write it. Raises NotFound, Conflict, Invalid where the draft itself is refused."""
    keys = keys_of(draft.instances, draft.account)
    terms = terms_of(draft, now, len(keys))
    around = surroundings({region for _, region in keys}, now, terms.deadline, lock=lock)
    rows: list[Row] = []
    places: Places = {}
    given = draft.switch_at.replace(microsecond=0) if draft.switch_at else None
    for begin in range(0, len(keys), CHUNK):
        for one in _known([pk for pk, _ in keys[begin : begin + CHUNK]]):
            row = _row(terms, one, given, around, places)
            rows.append(row)
            if row.refusal is None and row.switch_at is not None:
                _take(around, row, terms)
                given = given and given + draft.stagger
    return Plan(terms, rows, _digest(terms, rows))


Places = dict[tuple[Window | None, str, int | None], datetime | None]
"""What was found last for an instance of this window, region and account. While a plan is made places are only taken: the next such
instance finds none before it, and need not look from the beginning."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an instance, loaded for many at once."""

    instance: Instance
    window: MaintenanceWindow | None
    reached: Sequence[Reached]
    unfinished: Sequence[Unfinished]


def _known(keys: Sequence[int]) -> Iterator[Known]:
    """In the order of their primary keys here: a constant number of queries."""
    rows = Instance.objects.select_related("account", "endpoint").filter(pk__in=keys)
    there = {one.pk: one for one in rows}
    instances = [there[key] for key in keys if key in there]
    windows, reached, unfinished = rows_for(instances), reached_by(instances), unfinished_of(instances)
    for one in instances:
        yield Known(one, windows.get(one.pk), reached[one.pk], unfinished.get(one.pk, ()))


def _row(
    terms: Terms, known: Known, given: datetime | None, around: rules.Surroundings, places: Places
) -> Row:
    instance, kind = known.instance, terms.type
    warnings: list[Caution] = []
    moment = given or _proposed(terms, known, around, places, warnings)
    has_versions = kind.shows_versions
    row = Row(
        instance=instance,
        deadline=terms.deadline,
        switch_at=moment,
        notice=(moment or terms.deadline) - terms.now,
        version_from=_version_of(terms, instance) if has_versions else "",
        version_to=terms.draft.version_to,
        told=_told(terms, known.reached),
        warnings=warnings,
    )
    facts = terms.facts(instance, moment)
    row.refusal = _instance_refusal(terms, row) or rules.check_publication(facts, kind.notice, around)
    warnings += _warnings(terms, row, known)
    return row


def _version_of(terms: Terms, instance: Instance) -> str:
    return instance.proxy_version if terms.type.needs_proxy else instance.version


def _instance_refusal(terms: Terms, row: Row) -> ServiceError | None:
    if terms.type.needs_proxy and not row.instance.proxy_version:
        return Invalid(
            f"{row.instance.name} has no proxy. {NOTHING}",
            advice="If there is one, enter its version on the page of the instance.",
            id="event.no_proxy",
            field="instances",
        )
    known = versions.numbers(row.version_from)
    if row.version_to and known and not versions.is_later(row.version_to, row.version_from):
        return Invalid(
            f"{row.instance.name} has version {row.version_from} already, and {row.version_to} is not later. {NOTHING}",
            advice="Choose a later version; there is no way back to an earlier one.",
            id="event.version_not_newer",
            field="version_to",
        )
    if (
        terms.type.same_major
        and row.version_to
        and known
        and not versions.same_major(row.version_to, row.version_from)
    ):
        return Invalid(
            f"{row.instance.name} has version {row.version_from}, and {row.version_to} is another major version. {NOTHING}",
            advice="Publish it as a major version upgrade.",
            id="event.version_not_minor",
            field="version_to",
        )
    return None


def _proposed(
    terms: Terms, known: Known, around: rules.Surroundings, places: Places, warnings: list[Caution]
) -> datetime | None:
    facts, row = terms.facts(known.instance), known.window
    if terms.is_urgent:
        return _soonest(terms, facts, row, around, places)
    not_before = _rounded(terms.now + max(terms.type.notice, terms.preparation))
    moment = _in_window(facts, row.window, around, places, not_before) if row else None
    if moment is not None:
        return moment
    if not terms.may_change:
        return terms.deadline
    if row is None:
        text = "It has no maintenance window, and neither has its account: a time must be chosen."
    else:
        text = "No maintenance window has a free place before the deadline: a time must be chosen."
    warnings.append(Caution("no_window", text))
    return None


def _soonest(
    terms: Terms,
    facts: rules.Facts,
    row: MaintenanceWindow | None,
    around: rules.Surroundings,
    places: Places,
) -> datetime:
    not_before = max(min(_rounded(terms.now + max(LEAD, terms.preparation)), terms.deadline), facts.earliest)
    if row is not None and not row.is_general:
        moment = _in_window(facts, row.window, around, places, not_before)
        if moment is not None:
            return moment
    key = (None, facts.region, facts.account_id)
    free = around.next_free(facts, places.get(key) or not_before, terms.deadline)
    places[key] = free or terms.deadline
    return free or not_before


def _in_window(
    facts: rules.Facts, window: Window, around: rules.Surroundings, places: Places, not_before: datetime
) -> datetime | None:
    key = (window, facts.region, facts.account_id)
    if key in places:
        found = places[key]
        if found is None:
            return None
        not_before = found
    places[key] = rules.propose(facts, window, around, not_before=not_before)
    return places[key]


def _rounded(moment: datetime) -> datetime:
    """Up to a quarter of an hour."""
    seconds = QUARTER.total_seconds()
    return moment + timedelta(seconds=-moment.timestamp() % seconds)


def _take(around: rules.Surroundings, row: Row, terms: Terms) -> None:
    """From now on its place counts for the instances that follow."""
    occupancy = (around.occupied or {}).get(row.instance.region)
    if occupancy is not None and row.switch_at is not None:
        occupancy.add(row.switch_at, terms.length)


def _told(terms: Terms, reached: Sequence[Reached]) -> list[Told]:
    """What is urgent knows no quiet hours; it goes from one contact to the next until somebody has seen it."""
    found = []
    for place, one in enumerate(reached):
        if terms.is_urgent:
            pause = timedelta(minutes=settings.EVENT_ESCALATION_MINUTES) * place
            found.append(
                Told(one.contact.name, one.ways, terms.now + pause if place else None, if_unseen=place > 0)
            )
        else:
            found += _by_the_hour(one, terms.now)
    return found


def _by_the_hour(reached: Reached, now: datetime) -> Iterator[Told]:
    """Quiet hours hold everything back but the inbox."""
    quiet_until = end_of_quiet_hours(reached.contact, now)
    if quiet_until is None:
        yield Told(reached.contact.name, reached.ways)
        return
    inbox = tuple(one for one in reached.channels if one.kind == ChannelKind.INBOX)
    rest = tuple(one for one in reached.channels if one.kind != ChannelKind.INBOX)
    for channels, at in ((inbox, None), (rest, quiet_until)):
        if channels:
            yield Told(reached.contact.name, Reached(reached.contact, channels).ways, at)


def _warnings(terms: Terms, row: Row, known: Known) -> Iterator[Caution]:
    if not row.told:
        yield Caution("no_contact", "Nobody is told: it has no contact for maintenance who can be reached.")
    if known.instance.endpoint.is_raw_ip:
        cut_off = "are cut off" if terms.type.changes_address else "cannot follow"
        yield Caution(
            "raw_address", f"Its endpoint is an IP address: clients {cut_off} when the address changes."
        )
    if terms.type.shows_versions and row.version_to and not versions.numbers(row.version_from):
        yield Caution(
            "version_unknown", f"Its version is not known, so that {row.version_to} may not be later."
        )
    if terms.type.shows_versions and not row.version_to:
        yield Caution("no_target", "Its target version is not said: its owner reads that it is not known.")
    for other in known.unfinished:
        if other.type_id == terms.type.pk:
            yield Caution("same_type", f"An event of this type is open already: {other.public_id}.")
        if row.version_to and other.version_to and other.of_proxy == terms.type.needs_proxy:
            text = f"Another event takes it to {other.version_to}: {other.public_id}. The one that comes second is not begun if its target is no later by then."
            yield Caution("other_version", text)
    planned = [one.planned for one in known.unfinished if one.planned is not None]
    if row.switch_at is not None:
        other_one = rules.waits_for(terms.facts(known.instance, row.switch_at), row.switch_at, planned)
        if other_one is not None:
            yield Caution("waits", f"It waits for another event of the instance: {other_one.name}.")


def _digest(terms: Terms, rows: Sequence[Row]) -> str:
    """Of what was entered, and of what is decided for each instance. Who is told, and how long before, goes on changing with the time
    of the day; so does a deadline that follows from the type."""
    draft = terms.draft
    texts = (terms.cause, draft.version_to, draft.release_notes, draft.name, draft.description)
    deadline = draft.deadline.timestamp() if draft.deadline else None
    parts = [
        f"{terms.level} {terms.type.pk} {terms.executor} {terms.may_change} {terms.may_cancel} {deadline} {texts}"
    ]
    for row in rows:
        moment = row.switch_at.isoformat() if row.switch_at else "-"
        parts.append(f"{row.instance.pk} {moment} {row.version_from} {row.refusal.id if row.refusal else ''}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
