"""Writing the audit log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import structlog
from django.db.models import Model
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from portal.models import Account, AuditEntry

if TYPE_CHECKING:
    from django.contrib.auth.models import User

log = structlog.get_logger(__name__)


def record(
    actor: User | None,
    action: str,
    obj: Model | None = None,
    *,
    account: Account | None = None,
    **details: Any,
) -> AuditEntry:
    """Adds an entry; call it inside the transaction of the change. `actor` None is the system.

    `account` defaults to the object's own. `details` must be JSON and must hold no secret.
    """
    owner = account or (obj if isinstance(obj, Account) else getattr(obj, "account", None))
    entry = _entry(actor, action, obj, owner.pk if owner else None, details)
    entry.save(force_insert=True)
    log.info(
        action,
        actor=entry.actor_name or "system",
        account=owner.public_id if owner else None,
        object=entry.object_id or None,
    )
    return entry


def record_many(actor: User | None, action: str, changes: Iterable[tuple[Model, Mapping[str, Any]]]) -> None:
    """An entry for each (object, details), as `record` would add it, in a constant number of queries per thousand and with one line in
    the log. Accounts are those of the objects."""
    entries = [
        _entry(actor, action, obj, getattr(obj, "account_id", None), details) for obj, details in changes
    ]
    if entries:
        AuditEntry.objects.bulk_create(entries)
        log.info(action, actor=entries[0].actor_name or "system", objects=len(entries))


def readable(text: str) -> str:
    """A value of the details for people: a time (`2026-03-01T09:00:00+00:00`) as `2026-03-01 10:00 CET` in the reader's zone, anything
    else as it is."""
    if len(text) < 19 or text[10:11] != "T":
        return text
    try:
        found = parse_datetime(text)
    except ValueError:
        return text
    if found is None or found.tzinfo is None:
        return text
    return f"{timezone.localtime(found):%Y-%m-%d %H:%M %Z}"


def _entry(
    actor: User | None, action: str, obj: Model | None, account_id: int | None, details: Mapping[str, Any]
) -> AuditEntry:
    return AuditEntry(
        actor=actor,
        actor_name=actor.get_username() if actor else "",
        account_id=account_id,
        action=action,
        object_type=obj._meta.model_name or "" if obj else "",
        object_id=str(getattr(obj, "public_id", obj.pk)) if obj else "",
        object_name=str(getattr(obj, "name", obj))[:200] if obj else "",
        details=dict(details),
    )
