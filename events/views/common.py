"""What the views of an event share."""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from events.choices import Via
from events.models import Event
from events.services import scheduling
from events.services.by import By
from portal.htmx import HtmxHttpRequest

STOP_POLLING = 286  # htmx swaps the answer and asks no more


def visible_event(request: HtmxHttpRequest, public_id: str) -> Event:
    """The event, or 404 whether it does not exist or belongs to others."""
    return scheduling.get_event(request.user, public_id)


def person(request: HttpRequest) -> By:
    """Who is at the console."""
    return By(request.user, via=Via.CONSOLE)  # type: ignore[arg-type]  # LoginRequired lets nobody else through


def url_if_there(name: str, *arguments: str) -> str:
    """ "" for a page that this console does not have."""
    try:
        return reverse(name, args=arguments)
    except NoReverseMatch:
        return ""
