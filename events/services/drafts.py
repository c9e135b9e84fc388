"""What staff want to publish, before it is: the draft as it was entered, and the terms that follow from it and from its type."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator

from events import rules, versions
from events.choices import EventStatus, Level
from events.executors import executor_of
from events.models import EventType
from events.services.selection import NOTHING, Chosen
from portal.errors import Conflict, Invalid, NotFound, ServiceError
from portal.models import Account, Instance

MOST_STAGGER: Final = timedelta(days=7)
LONGEST: Final = {"version_to": 60, "release_notes": 300, "name": 120}
"""Characters."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Whatever is left empty is as the type says; `may_change` and `may_cancel` None likewise."""

    type: EventType
    instances: Chosen
    level: str = ""
    switch_at: datetime | None = None
    """Of the first instance; None: proposed for each, see publishing.py."""
    stagger: timedelta = timedelta(0)
    """From one instance to the next, where a time is given."""
    deadline: datetime | None = None
    cause: str = ""
    version_to: str = ""
    release_notes: str = ""
    may_change: bool | None = None
    may_cancel: bool | None = None
    executor: str = ""
    name: str = ""
    """Of the campaign."""
    description: str = ""
    account: Account | None = None
    """Only instances of this one, whatever is chosen: what a token for one account reaches."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What all events of one publication have in common."""

    draft: Draft
    now: datetime
    level: str
    deadline: datetime
    cause: str
    executor: str
    may_change: bool
    may_cancel: bool

    @property
    def type(self) -> EventType:
        return self.draft.type

    @property
    def is_urgent(self) -> bool:
        return self.level == Level.S0

    @property
    def preparation(self) -> timedelta:
        return timedelta(seconds=self.type.preparation_seconds)

    @property
    def length(self) -> timedelta:
        return timedelta(seconds=self.type.switch_seconds)

    def facts(self, instance: Instance, switch_at: datetime | None = None) -> rules.Facts:
        return rules.Facts(
            now=self.now,
            level=self.level,
            status=EventStatus.PENDING,
            deadline=self.deadline,
            preparation=self.preparation,
            length=self.length,
            switch_at=switch_at,
            may_change=self.may_change,
            may_cancel=self.may_cancel,
            region=instance.region,
            account_id=instance.account_id,
        )


def type_called(code: str, nothing: str = NOTHING) -> EventType:
    """Raises NotFound, whose message ends with `nothing`: what was not done."""
    found = EventType.objects.filter(code=code).first()
    if found is None:
        known = EventType.objects.filter(is_active=True).order_by("code").values_list("code", flat=True)
        raise NotFound(
            f"There is no type of event called {code}. {nothing}",
            advice=f"Types are {', '.join(known)}.",
            id="event.no_type",
            field="type",
        )
    return found


def terms_of(draft: Draft, now: datetime, count: int) -> Terms:
    """For `count` instances. Raises Invalid, Conflict where no instance could get an event of this draft."""
    if refusal := _refusal(draft):
        raise refusal
    kind = draft.type
    level = draft.level or kind.level
    return Terms(
        draft=draft,
        now=now,
        level=level,
        deadline=draft.deadline or _deadline(draft, level, now, count),
        cause=draft.cause.strip() or kind.cause,
        executor=draft.executor or kind.executor,
        may_change=kind.may_change if draft.may_change is None else draft.may_change,
        may_cancel=kind.may_cancel if draft.may_cancel is None else draft.may_cancel,
    )


def _deadline(draft: Draft, level: str, now: datetime, count: int) -> datetime:
    """The type's days from now on, for a risk fix 72 hours at most; not before the last time that was given."""
    open_for = timedelta(days=draft.type.open_days)
    if level == Level.S0:
        open_for = min(open_for, rules.URGENT_NOTICE)
    usual = now + open_for
    if draft.switch_at is None:
        return usual
    return max(usual, draft.switch_at + draft.stagger * (count - 1))


def _refusal(draft: Draft) -> ServiceError | None:
    if not draft.type.is_active:
        return Conflict(
            f"“{draft.type.name}” is not used for new events. {NOTHING}",
            advice="Choose another type, or switch this one on in the administration.",
            id="event.type_inactive",
            field="type",
        )
    if draft.level and draft.level not in Level.values:
        return _invalid("level", f"There is no level {draft.level}.", "Levels are S0 and S1.")
    executor = draft.executor or draft.type.executor
    if executor_of(executor) is None:
        return _invalid("executor", f"Nobody carries events out under the name {executor}.", "")
    if draft.stagger and draft.switch_at is None:
        return _invalid(
            "switch_at",
            "Instances are staggered from a first time on, and none is given.",
            "Give the time of the first instance, or leave the minutes empty: each gets a place in its own window.",
        )
    if not timedelta(0) <= draft.stagger <= MOST_STAGGER:
        return _invalid("stagger", "There are 0 minutes to 7 days from one instance to the next.", "")
    for field, what in (
        ("version_to", "target version"),
        ("release_notes", "address of the notes"),
        ("name", "name of the campaign"),
    ):
        if len(getattr(draft, field)) > LONGEST[field]:
            return _invalid(field, f"The {what} is longer than {LONGEST[field]} characters.", "")
    return _version_refusal(draft) or _notes_refusal(draft)


def _version_refusal(draft: Draft) -> ServiceError | None:
    if not draft.version_to:
        return None
    if not draft.type.shows_versions:
        return _invalid(
            "version_to",
            f"“{draft.type.name}” changes no version.",
            "Leave the target version empty, or choose another type.",
        )
    if not versions.is_version(draft.version_to):
        return _invalid("version_to", f"“{draft.version_to}” is no version.", "It looks like 7.2.5.")
    return None


def _notes_refusal(draft: Draft) -> ServiceError | None:
    if not draft.release_notes:
        return None
    try:
        URLValidator(schemes=["http", "https"])(draft.release_notes)
    except ValidationError:
        return _invalid(
            "release_notes",
            f"“{draft.release_notes}” is no address of a page.",
            "It begins with https:// or http://.",
        )
    return None


def _invalid(field: str, what: str, advice: str) -> Invalid:
    return Invalid(f"{what} {NOTHING}", advice=advice, id=f"event.bad_{field}", field=field)
