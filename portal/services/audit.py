"""Writing the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from django.db.models import Model

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
    entry = AuditEntry.objects.create(
        actor=actor,
        actor_name=actor.get_username() if actor else "",
        account=owner,
        action=action,
        object_type=obj._meta.model_name or "" if obj else "",
        object_id=str(getattr(obj, "public_id", obj.pk)) if obj else "",
        object_name=str(getattr(obj, "name", obj))[:200] if obj else "",
        details=details,
    )
    log.info(
        action,
        actor=entry.actor_name or "system",
        account=owner.public_id if owner else None,
        object=entry.object_id or None,
    )
    return entry
