from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from events.choices import EventStatus
from events.models import Event, EventType
from portal.models import Account, Channel, Contact, Instance
from tests.portal.world import World, make_user, make_world
from tests.support.receivers import Mailbox

EventMaker = Callable[..., Event]


@pytest.fixture
def world(db: None) -> World:
    return make_world()


@pytest.fixture
def account(world: World) -> Account:
    return world.account


@pytest.fixture
def instance(world: World) -> Instance:
    return world.instance


@pytest.fixture
def operator(world: World) -> User:
    return world.user("operator")


@pytest.fixture
def staff(db: None) -> User:
    """Looks after the events of every account, and is a member of none."""
    return make_staff("staff")


def make_staff(name: str) -> User:
    user = make_user(name, is_staff=True)
    codes = ("view_event", "change_event", "publish_event")
    user.user_permissions.set(Permission.objects.filter(codename__in=codes, content_type__app_label="events"))
    return user


def make_event(instance: Instance, code: str = "instance-migration", **values: Any) -> Event:
    """An event as if it had been published an hour ago: pending, to switch over in four days, with a week until its deadline.

    Preparation 600 s, switchover 600 s. `switch_at` None makes one that waits for a time.
    """
    now = timezone.now().replace(microsecond=0)
    kind = EventType.objects.get(code=code)
    defaults: dict[str, Any] = {
        "type": kind,
        "account": instance.account,
        "instance": instance,
        "instance_name": instance.name,
        "instance_public_id": instance.public_id,
        "region": instance.region,
        "level": kind.level,
        "cause": kind.cause,
        "impacts": kind.impacts,
        "advice": kind.advice,
        "created_at": now - timedelta(hours=1),
        "switch_at": now + timedelta(days=4),
        "deadline": now + timedelta(days=7),
        "preparation_seconds": 600,
        "switch_seconds": 600,
        "impact_seconds": kind.impact_seconds,
    }
    values = defaults | values
    switch_at: datetime | None = values["switch_at"]
    if switch_at is None:
        values.setdefault("status", EventStatus.WAITING)
    else:
        values.setdefault("starts_at", switch_at - timedelta(seconds=values["preparation_seconds"]))
        values.setdefault("proposed_at", switch_at)
    return Event.objects.create(**values)


@pytest.fixture
def event(instance: Instance) -> Event:
    return make_event(instance)


@pytest.fixture
def contact(account: Account) -> Contact:
    return make_contact(account)


def make_contact(account: Account, name: str = "On call", **values: Any) -> Contact:
    """By mail, for faults and maintenance."""
    defaults: dict[str, Any] = {
        "email": f"{name.lower().replace(' ', '-')}@example.org",
        "categories": ["maintenance"],
    }
    row = Contact.objects.create(account=account, name=name, **(defaults | values))
    Channel.objects.create(contact=row, kind="mail")
    return row


@pytest.fixture
def mailbox(settings: LazySettings) -> Iterator[Mailbox]:
    """A real mail server, to which the console sends."""
    with Mailbox() as box:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", box.port, 5
        settings.SITE_URL = "https://console.example/"
        yield box
