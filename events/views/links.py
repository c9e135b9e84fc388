"""The page behind a link of a message: works without a login, on a phone, and without scripts. GET and HEAD change nothing."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods

from events import clock
from events.forms.schedule import CancelForm
from events.messages import address_warning
from events.models import Event
from events.present import EventView
from events.present_links import (
    Shown,
    apart,
    back_note,
    choices_of,
    first_minute,
    impact_lead,
)
from events.services import links, scheduling
from events.services.links import LinkState, OpenedLink, Origin
from events.services.throttle import wait_for
from portal.client import address_of, network_of
from portal.errors import Invalid, ServiceError
from portal.windows import zone_called

ADDRESS_LIMIT: Final = (
    120  # requests a minute: an office, or the scanner of a mail provider, comes from one address
)
LINK_LIMIT: Final = 30
CLOSED_STATUS: Final = {LinkState.FORGED: 404, LinkState.FOREIGN: 404}  # else 410


@login_not_required
@require_http_methods(["GET", "HEAD", "POST"])
def link(request: HttpRequest, token: str) -> HttpResponse:
    origin = Origin(address_of(request), request.headers.get("User-Agent", ""))
    network = network_of(origin.address)
    if network and (seconds := wait_for(f"address:{network}", ADDRESS_LIMIT)):
        return too_many(request, seconds)
    opened = links.open_link(token)
    if opened.event is not None and (seconds := wait_for(f"link:{opened.key}", LINK_LIMIT)):
        return too_many(request, seconds)
    with timezone.override(zone_of(opened)):
        if request.method == "POST":
            response = press(request, token, opened, origin)
        elif opened.state == LinkState.VALID:
            response = page(request, opened)
        else:
            response = closed(request, opened)
    return guarded(response)


def guarded(response: HttpResponse, referrer: str = "no-referrer") -> HttpResponse:
    """The address is a secret: no search engine, no cache and no other site may come to know it."""
    response.headers["Cache-Control"] = "no-store, private"
    response.headers["X-Robots-Tag"] = "noindex, nofollow, noarchive"
    response.headers.setdefault("Referrer-Policy", referrer)
    return response


def zone_of(opened: OpenedLink) -> zoneinfo.ZoneInfo:
    return zone_called(opened.contact.time_zone if opened.contact is not None else settings.TIME_ZONE)


# --- Pages ------------------------------------------------------------------------------------------------------------


def page(
    request: HttpRequest,
    opened: OpenedLink,
    *,
    refusal: ServiceError | None = None,
    notice: str = "",
    wanted: str | None = None,
) -> HttpResponse:
    """What is to happen, and what can be done about it. `wanted` opens one of the parts that need a second tap."""
    event, now, zone = opened.event, timezone.now(), zone_of(opened)
    assert event is not None
    offers = links.offers(event, now)
    earliest, latest = offers.earliest, offers.latest
    low, high = clock.field_range(earliest, latest, zone) if earliest and latest else ("", "")
    entered = request.POST.get("at", "")
    proposal = event.switch_at or offers.window or latest
    context = about(opened, now) | {
        "refusal": refusal,
        "notice": notice,
        "offers": offers,
        "choices": choices_of(event, offers, zone, now),
        "at_once": Shown.of(offers.now, zone, now),
        "earliest": Shown.of(first_minute(earliest) if earliest else None, zone, now),
        "latest": Shown.of(latest, zone, now),
        "twice": [Shown.of(one, zone, now) for one in refusal.moments]
        if isinstance(refusal, clock.TwiceThere)
        else [],
        "low": low,
        "high": high,
        "entered": entered or (f"{proposal.astimezone(zone):{clock.FIELD_FORMAT}}" if proposal else ""),
        "wanted": wanted if wanted is not None else request.GET.get("do", ""),
        "cancel_form": CancelForm(request.POST if refusal and wanted == "cancel" else None),
    }
    response = render(request, "events/link.html", context, status=refusal.status if refusal else 200)
    return with_forms(response)


def with_forms(response: HttpResponse) -> HttpResponse:
    """With no-referrer a browser would send `Origin: null` along with a form, which no protection against forged requests can
    accept. This one names the host alone, never the path."""
    response.headers["Referrer-Policy"] = "strict-origin"
    return response


def closed(request: HttpRequest, opened: OpenedLink) -> HttpResponse:
    """Why nothing can be done with this link (any more)."""
    status = CLOSED_STATUS.get(opened.state, 410)
    context = {} if opened.tells_nothing else about(opened, timezone.now())
    return render(request, "events/link_closed.html", context, status=status)


def done(request: HttpRequest, opened: OpenedLink, event: Event) -> HttpResponse:
    """The event as it is after the button was pressed, beside what it was, with the way back.

    `again` is the link that the next message of this contact has. It is shown to whoever has pressed, once: the link that was
    pressed leads nowhere any more.
    """
    before, now, zone = opened.event, timezone.now(), zone_of(opened)
    assert before is not None and opened.contact is not None
    after = OpenedLink(LinkState.STALE, event, opened.contact, event.revision)
    context = about(after, now)
    was = before.switch_at if before.switch_at != event.switch_at else None
    may_change = event.is_open and event.may_change and not context["begins"]
    back = was if may_change and was is not None and links.may_have(event, was, now) else None
    context |= {
        "unchanged": event.revision == opened.revision,
        "was": Shown.of(was, zone, now),
        "moved": apart(event.switch_at, was, zone) if event.switch_at and was else "",
        "back": Shown.of(back, zone, now),
        "back_note": back_note(context["view"], back),
        "was_planned": Shown.of(before.switch_at, zone, now),
        "now_label": "Switchover, now" if was else "Switchover",
        "again": links.link_for(event, opened.contact) if may_change else "",
        "waits": scheduling.waits_for(event),
    }
    response = render(request, "events/link_done.html", context)
    return with_forms(response) if back else response


def about(opened: OpenedLink, now: datetime) -> dict[str, Any]:
    """What every page says of the event."""
    event, contact, zone = opened.event, opened.contact, zone_of(opened)
    assert event is not None and contact is not None
    view = EventView(event, now=now, by=opened.by)
    return {
        "link": opened,
        "event": event,
        "view": view,
        "zone": zone.key,
        "switch": Shown.of(event.switch_at, zone, now),
        "prepares": Shown.of(event.starts_at if event.preparation_seconds else None, zone, now),
        "choose_by": Shown.of(view.choose_by, zone, now) if view.can_choose else None,
        "deadline": Shown.of(event.deadline, zone, now),
        "finished": Shown.of(event.finished_at, zone, now),
        "begins": event.is_open and event.starts_at is not None and event.starts_at <= now,
        "impact": impact_lead(view),
        "warning": address_warning(event, view.endpoint),
        "changed": links.last_change(event) if event.revision else None,
        "held": Shown.of(links.held_until(event, contact, now), zone, now),
        "next": urlencode({"next": event.get_absolute_url()}),
    }


def too_many(request: HttpRequest, seconds: int) -> HttpResponse:
    response = render(request, "events/link_busy.html", {"seconds": seconds}, status=429)
    response.headers["Retry-After"] = str(seconds)
    return guarded(response)


# --- Buttons ----------------------------------------------------------------------------------------------------------


def press(request: HttpRequest, token: str, opened: OpenedLink, origin: Origin) -> HttpResponse:
    did = request.POST.get("do", "")
    if opened.state != LinkState.VALID:
        links.note_refused(opened, did[:20], origin, opened.state)
        return closed(request, opened)
    try:
        if did == links.ACKNOWLEDGE:
            opened = opened_again(opened, links.acknowledge(opened, origin))
            return page(request, opened, notice="Thank you. It is noted that you have seen this.", wanted="")
        return done(request, opened, button(did)(request, opened, origin))
    except ServiceError as refusal:
        links.note_refused(opened, did[:20], origin, refusal.id)
        again = links.open_link(token)
        if again.state != LinkState.VALID:  # somebody was quicker
            return closed(request, again)
        return page(request, again, refusal=refusal, wanted=did)


def opened_again(opened: OpenedLink, event: Event) -> OpenedLink:
    return OpenedLink(opened.state, event, opened.contact, opened.revision)


Button = Callable[[HttpRequest, OpenedLink, Origin], Event]


def button(did: str) -> Button:
    """Raises Invalid for what is no button of the page."""
    found = BUTTONS.get(did)
    if found is None:
        raise Invalid(
            "That is no button of this page. Nothing was changed.",
            advice="Use one of those below.",
            id="link.unknown_button",
        )
    return found


def to_window(request: HttpRequest, opened: OpenedLink, origin: Origin) -> Event:
    """The moment that was shown comes with the button: nobody gets another one than they have read."""
    try:
        shown = clock.moment_of(request.POST.get("at", ""), zone_of(opened))
    except Invalid:
        shown = None
    which: links.Offer = "later" if request.POST["do"] == "later" else "window"
    return links.move_to_window(opened, which, shown, origin)


def to_time(request: HttpRequest, opened: OpenedLink, origin: Origin) -> Event:
    return links.move(opened, clock.moment_of(request.POST.get("at", ""), zone_of(opened)), origin)


def at_once(request: HttpRequest, opened: OpenedLink, origin: Origin) -> Event:
    return links.move(opened, "now", origin)


def cancel(request: HttpRequest, opened: OpenedLink, origin: Origin) -> Event:
    """As in the console, everybody is told why."""
    form = CancelForm(request.POST)
    if not form.is_valid():
        assert opened.event is not None
        if refusal := scheduling.cancel_refusal(opened.by, opened.event, timezone.now()):
            raise refusal  # what the page says without its form
        why = next(iter(form.errors.values()))[0]
        raise Invalid(f"{why} Nothing was changed.", advice="", id="link.no_reason", field="reason")
    return links.cancel(opened, form.cleaned_data["reason"], origin)


BUTTONS: Final[dict[str, Button]] = {
    "window": to_window,
    "later": to_window,
    "time": to_time,
    "now": at_once,
    "cancel": cancel,
}
