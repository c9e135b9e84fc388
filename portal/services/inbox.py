"""The inbox of a person in the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import QuerySet
from django.utils import timezone

from portal.errors import NotFound
from portal.models import Notification

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def messages_of(user: User) -> QuerySet[Notification]:
    return Notification.objects.filter(user=user)


def unread_count(user: User) -> int:
    """One query, answered by the index inbox_of_user alone."""
    return messages_of(user).filter(read_at=None).count()


def find(user: User, public_id: str) -> Notification:
    """Raises NotFound, also for a message of somebody else."""
    found = messages_of(user).select_related("account").filter(public_id=public_id).first()
    if found is None:
        raise NotFound(f"There is no message {public_id} in your inbox.")
    return found


def mark(user: User, public_id: str, *, read: bool = True) -> Notification:
    """Raises NotFound. A message that was read keeps the time of the first reading."""
    found = find(user, public_id)
    found.read_at = (found.read_at or timezone.now()) if read else None
    found.save(update_fields=["read_at"])
    return found


def mark_all_read(user: User) -> int:
    return messages_of(user).filter(read_at=None).update(read_at=timezone.now())
