"""Events that need somebody: one that waits for a time, an urgent one that nobody has seen, one that is near (R2)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.db.models import Count, Q
from django.utils import timezone

from events.choices import OPEN, EventStatus, Level
from events.models import Event, EventQuerySet
from events.services.by import is_event_staff
from portal.models import Account

if TYPE_CHECKING:
    from django.contrib.auth.models import User

SOON: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Needs:
    """How many events need something; one that needs two things counts in both, and once in `total`."""

    total: int = 0
    waiting: int = 0
    urgent: int = 0
    soon: int = 0


def waits_for_a_time() -> Q:
    return Q(status=EventStatus.WAITING)


def not_seen() -> Q:
    return Q(status__in=OPEN, acknowledged_at__isnull=True)


def urgent_and_not_seen() -> Q:
    return not_seen() & Q(level=Level.S0)


def near(now: datetime) -> Q:
    return Q(status=EventStatus.PENDING, switch_at__lte=now + SOON)


def overdue(now: datetime) -> Q:
    """Its time, or the time by which one was to be chosen, has passed, and it has not begun or does not go on."""
    stands = Q(status=EventStatus.RUNNING, switch_at__lt=now) & ~Q(hold_reason="")
    late = Q(status=EventStatus.PENDING, switch_at__lt=now) | Q(status=EventStatus.WAITING, deadline__lt=now)
    return late | stands


def waits_for_staff() -> Q:
    """As execution.waiting_stage: no step is due, and nobody takes one."""
    return Q(status=EventStatus.RUNNING, run__owner="", run__next_step_at__isnull=True)


def needing(now: datetime) -> Q:
    return waits_for_a_time() | urgent_and_not_seen() | near(now)


def needs_of(user: User) -> Needs:
    """Of everything that the person sees. One query."""
    now = timezone.now()
    counted = (
        Event.objects.visible_to(user)
        .open()
        .filter(needing(now))
        .aggregate(
            total=Count("pk"),
            waiting=Count("pk", filter=waits_for_a_time()),
            urgent=Count("pk", filter=urgent_and_not_seen()),
            soon=Count("pk", filter=near(now)),
        )
    )
    return Needs(**counted)


def handled_by(user: User) -> EventQuerySet:
    """The events that the person may change: see services/by.py."""
    if is_event_staff(user):
        return Event.objects.all()
    return Event.objects.filter(account__in=Account.objects.operated_by(user))
