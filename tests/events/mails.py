"""Mails about events, as they arrive at a real mail server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from email.message import EmailMessage

import icalendar
from django.utils import timezone

from events.choices import OccasionKind
from events.models import Event, Occasion
from events.services import occasions, telling
from portal import jobs
from portal.choices import DeliveryStatus
from portal.models import Delivery, Notification


def note(event: Event, kind: OccasionKind, key: str = "", **facts: object) -> None:
    occasions.note(event, kind, key or kind.value, facts=facts, batch=str(facts.pop("batch", "")))


def tell(after: timedelta = timedelta(0)) -> int:
    """What the job does, so much later."""
    return telling.tell_due(now=timezone.now() + after)


def send() -> None:
    """What the workers do with what is not held back."""
    for delivery in Delivery.objects.filter(status=DeliveryStatus.PENDING):
        assert jobs.deliver(delivery.pk) == "sent", Delivery.objects.get(pk=delivery.pk).error


def text_of(mail: EmailMessage) -> str:
    """With the line ends of a text, not those of the wire."""
    return str(mail.get_body(("plain",)).get_content()).replace("\r\n", "\n")


def html_of(mail: EmailMessage) -> str:
    return str(mail.get_body(("html",)).get_content())


def calendars_of(mail: EmailMessage) -> list[EmailMessage]:
    return [part for part in mail.walk() if part.get_content_type() == "text/calendar"]


def entry_of(mail: EmailMessage) -> tuple[icalendar.Calendar, icalendar.Event]:
    (part,) = calendars_of(mail)
    calendar = icalendar.Calendar.from_ical(part.get_content())
    (entry,) = calendar.walk("VEVENT")
    assert isinstance(entry, icalendar.Event)
    return calendar, entry


def told_to(*names: str) -> Sequence[Notification]:
    """The notifications of contacts with these names, the oldest first."""
    return list(Notification.objects.filter(contact__name__in=names).order_by("pk"))


def untold() -> list[str]:
    return list(Occasion.objects.filter(told_at__isnull=True).values_list("key", flat=True))
