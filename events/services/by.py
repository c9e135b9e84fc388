"""Who changes an event, and by which way they came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from events.choices import Via
from events.models import Event
from events.models.events import sees_all
from portal.errors import NotFound, NotPermitted
from portal.services.permissions import require_operator, role_in

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from portal.models import Contact


@dataclass(frozen=True, slots=True)
class By:
    """A signed-in person, a contact who has opened a signed link (`contact` without `user`), or, with neither, the system or a command."""

    user: User | None = None
    contact: Contact | None = None
    via: Via = Via.SYSTEM

    @property
    def name(self) -> str:
        """For people: who it was."""
        if self.user is not None:
            return self.user.get_username()
        if self.contact is not None:
            return self.contact.name
        # A person stands behind a command: what the system decides by itself is something else.
        return str((Via.COMMAND if self.via == Via.COMMAND else Via.SYSTEM).label)

    def details(self) -> dict[str, Any]:
        """What an audit entry says beside the actor."""
        found: dict[str, Any] = {"via": str(Via(self.via).label)}
        if self.user is None and self.contact is not None:
            found["contact"] = self.contact.name
        return found


SYSTEM = By()


def may_handle(by: By, event: Event) -> bool:
    """Whether `by` may change this event: its account's operators, staff who look after events, the contact of a signed link."""
    if by.user is None:
        return by.contact is None or by.contact.account_id == event.account_id
    if is_event_staff(by.user):
        return True
    role = role_in(by.user, event.account)
    return role is not None and role.can_operate


def require_handler(by: By, event: Event) -> None:
    """Raises NotFound for somebody who may not even see the event, NotPermitted for a viewer."""
    if by.user is None:
        if not may_handle(by, event):
            raise NotFound()
        return
    if is_event_staff(by.user):
        return
    if sees_all(by.user) and role_in(by.user, event.account) is None:
        raise NotPermitted(advice="Ask an administrator for the permission to change events.")
    require_operator(by.user, event.account)


def is_event_staff(user: User) -> bool:
    """Staff who may change the events of every account."""
    return bool(user.is_active and user.is_staff and user.has_perm("events.change_event"))


def is_of_the_owner(by: By, event: Event) -> bool:
    """One of those whose instance it is: a contact, or an operator of the account. Staff who help out are not, nor is the system."""
    if by.user is None:
        return by.contact is not None
    role = role_in(by.user, event.account)
    return role is not None and role.can_operate


def may_publish(user: User | None) -> bool:
    return user is None or bool(user.is_active and user.is_staff and user.has_perm("events.publish_event"))


def require_publisher(by: By) -> None:
    """Staff announce events; the owners of instances do not. A command on the server may."""
    if by.contact is not None or not may_publish(by.user):
        raise NotPermitted(
            "Events are published by staff. Nothing was published.",
            advice="Ask an administrator for the permission to publish events.",
        )
