"""What every page says of events that need somebody (R2): a banner, a count in the sidebar, and once after the login a dialog where a
time is to be chosen. Two queries for a page at most, and two more for the page with the dialog."""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone

from events.services.attention import Needs, handled_by, needs_of, waits_for_a_time
from events.services.choosing import choose_by_of
from portal.htmx import HtmxHttpRequest

ASKED_KEY: Final = "events_asked"  # in the session: the dialog was shown
LISTED: Final = 4

_needs: WeakKeyDictionary[HttpRequest, Needs] = WeakKeyDictionary()


def needs(request: HtmxHttpRequest) -> Needs:
    """Asked once for a request, however many parts of the page want to know."""
    if request not in _needs:
        _needs[request] = needs_of(request.user)
    return _needs[request]


def count(request: HtmxHttpRequest) -> int:
    return needs(request).total


def banner(request: HtmxHttpRequest) -> str:
    """With the dialog, if it is to be shown."""
    found = needs(request)
    if not found.total:
        return ""
    return render_to_string("events/_banner.html", {"needs": found}, request) + _dialog(request, found)


def _dialog(request: HtmxHttpRequest, found: Needs) -> str:
    """Once in a session, and not to somebody who is at the events already. Only what the person may choose a time for."""
    match = request.resolver_match
    if not found.waiting or ASKED_KEY in request.session:
        return ""
    if match is not None and (match.url_name or "").startswith("event_"):
        return ""
    rows = handled_by(request.user).filter(waits_for_a_time()).select_related("type", "instance")
    waiting = list(rows.order_by("deadline", "pk")[: LISTED + 1])
    if not waiting:
        return ""
    request.session[ASKED_KEY] = True
    shown = waiting[:LISTED]
    until = choose_by_of(shown, timezone.now())
    context = {"waiting": [(event, until[event.pk]) for event in shown], "has_more": len(waiting) > LISTED}
    return render_to_string("events/_dialog.html", context, request)
