"""When nothing is switched over (blackouts), and how much at a time (limits of regions). Staff who publish events set both.

They hold for what is planned from then on. What is planned already keeps its time: those who announced it decide.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django.db import IntegrityError, transaction

from events.models import Blackout, RegionLimit
from events.rules import text_of
from events.services.by import By, may_publish
from portal.errors import Conflict, Invalid, NotPermitted
from portal.services import audit

UNCHANGED: Final = "Nothing was saved."


def save_blackout(by: By, row: Blackout) -> Blackout:
    """A new one, or one as it was changed. Raises NotPermitted, Invalid (`blackout.no_reason`, `blackout.no_length`)."""
    _require(by)
    row.reason, row.region = row.reason.strip(), row.region.strip()
    if not row.reason:
        raise _refuse(
            "reason",
            "The blackout has no reason.",
            "Owners who choose a time are told it: such as “Winter sale”.",
            "blackout.no_reason",
        )
    if refusal := check_length(row.starts_at, row.ends_at):
        raise refusal
    with transaction.atomic():
        is_new = row.pk is None
        row.save()
        audit.record(
            by.user, "blackout.created" if is_new else "blackout.changed", row, **_blackout_details(row, by)
        )
    return row


def check_length(starts_at: datetime, ends_at: datetime) -> Invalid | None:
    """For forms, too: the constraint of the table would name itself."""
    if ends_at > starts_at:
        return None
    return _refuse(
        "ends_at",
        f"The blackout ends at {text_of(ends_at)}, before it has begun.",
        "Enter a later end.",
        "blackout.no_length",
    )


def delete_blackout(by: By, row: Blackout) -> None:
    _require(by)
    with transaction.atomic():
        audit.record(by.user, "blackout.deleted", row, **_blackout_details(row, by))
        row.delete()


def save_limit(by: By, row: RegionLimit) -> RegionLimit:
    """Of one region; region "": of each without a limit of its own. Raises NotPermitted, Invalid (`limit.bad`), Conflict (`limit.taken`)."""
    _require(by)
    row.region = row.region.strip()
    if row.most < 1:
        raise _refuse(
            "most",
            "A region has at least one switchover at a time.",
            "To forbid all, enter a blackout of the region.",
            "limit.bad",
        )
    try:
        with transaction.atomic():
            is_new = row.pk is None
            row.save()
            audit.record(
                by.user, "limit.created" if is_new else "limit.changed", row, **_limit_details(row, by)
            )
    except IntegrityError as error:
        raise Conflict(
            f"There is a limit of {_region(row)} already. {UNCHANGED}",
            advice="Change that one.",
            id="limit.taken",
            field="region",
        ) from error
    return row


def delete_limit(by: By, row: RegionLimit) -> None:
    _require(by)
    with transaction.atomic():
        audit.record(by.user, "limit.deleted", row, **_limit_details(row, by))
        row.delete()


def _require(by: By) -> None:
    if by.contact is not None or not may_publish(by.user):
        raise NotPermitted(
            f"Blackouts and limits are set by staff. {UNCHANGED}",
            advice="Ask an administrator for the permission to publish events.",
        )


def _blackout_details(row: Blackout, by: By) -> dict[str, Any]:
    return {
        "from": row.starts_at.isoformat(),
        "to": row.ends_at.isoformat(),
        "reason": row.reason,
        "region": row.region or "every region",
        "of": row.account.public_id if row.account else "every account",
    } | by.details()


def _limit_details(row: RegionLimit, by: By) -> dict[str, Any]:
    return {"region": _region(row), "most": row.most} | by.details()


def _region(row: RegionLimit) -> str:
    return row.region or "each region"


def _refuse(field: str, what: str, advice: str, id: str) -> Invalid:
    return Invalid(f"{what} {UNCHANGED}", advice=advice, id=id, field=field)
