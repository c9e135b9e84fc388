"""Staff change the types of events: what new events of a type say, and what their owners may choose. Events that are published keep theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.db import transaction

from events.choices import Impact
from events.models import EventType
from events.services.by import By
from portal.errors import Invalid, NotPermitted
from portal.services import audit

LONGEST: Final = 1000
EXAMPLE: Final = '[{"kind": "transient", "text": "Connections are closed once."}]'


def save_type(by: By, row: EventType, changed: Sequence[str] = ()) -> EventType:
    """A new type, or one of which the fields `changed` were changed: the releases of the product do not overwrite it any more.

    Raises NotPermitted, Invalid (`type.bad_impacts`).
    """
    is_new = row.pk is None
    need = "events.add_eventtype" if is_new else "events.change_eventtype"
    if by.contact is not None or not (by.user is None or (by.user.is_staff and by.user.has_perm(need))):
        raise NotPermitted("Types of events are changed by staff. Nothing was saved.")
    check_impacts(row.impacts)
    row.is_customised = True
    with transaction.atomic():
        row.save()
        action = "event_type.created" if is_new else "event_type.changed"
        audit.record(by.user, action, row, code=row.code, changed=sorted(changed), **by.details())
    return row


def check_impacts(impacts: Any) -> None:
    """Raises Invalid (`type.bad_impacts`) for anything but a list of {kind, text}."""
    if not isinstance(impacts, list):
        raise _bad("Impacts are a list.")
    for place, one in enumerate(impacts, 1):
        if not isinstance(one, dict) or set(one) != {"kind", "text"}:
            raise _bad(f"Impact {place} is not a pair of “kind” and “text”.")
        if one["kind"] not in Impact.values:
            raise _bad(f"Impact {place} has a kind that there is not: {one['kind']!r}.")
        text = one["text"]
        if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
            raise _bad(f"Impact {place} needs a text of at most {LONGEST} characters.")


def _bad(what: str) -> Invalid:
    return Invalid(
        f"{what} Nothing was saved.",
        advice=f"Such as {EXAMPLE}; kinds are {', '.join(Impact.values)}.",
        id="type.bad_impacts",
        field="impacts",
    )
