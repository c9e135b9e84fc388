"""The page behind a link of a message: works without a login, on a phone, and without scripts. GET and HEAD change nothing."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
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
from events.models import Event
from events.present import EventView, in_words
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


@dataclass(frozen=True, slots=True)
class Shown:
    """A moment as the page shows it."""

    local: str
    utc: str
    iso: str
    distance: str
    short: str
    moment: datetime

    @classmethod
    def of(cls, moment: datetime | None, zone: zoneinfo.ZoneInfo, now: datetime) -> Shown | None:
        if moment is None:
            return None
        iso = moment.astimezone(zone).isoformat(timespec="seconds")
        return cls(
            clock.words(moment, zone),
            clock.utc_words(moment, zone),
            iso,
            in_words(moment, now),
            clock.short_words(moment, zone),
            moment,
        )


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
    low, high = (
        clock.field_range(offers.earliest, offers.latest, zone)
        if offers.earliest is not None and offers.latest is not None
        else ("", "")
    )
    entered = request.POST.get("at", "")
    proposal = event.switch_at or offers.window or offers.latest
    context = about(opened, now) | {
        "refusal": refusal,
        "notice": notice,
        "offers": offers,
        "window": Shown.of(offers.window, zone, now),
        "later": Shown.of(offers.later, zone, now),
        "at_once": Shown.of(offers.now, zone, now),
        "earliest": Shown.of(offers.earliest, zone, now),
        "latest": Shown.of(offers.latest, zone, now),
        "twice": [Shown.of(one, zone, now) for one in refusal.moments]
        if isinstance(refusal, clock.TwiceThere)
        else [],
        "low": low,
        "high": high,
        "entered": entered or (f"{proposal.astimezone(zone):{clock.FIELD_FORMAT}}" if proposal else ""),
        "wanted": wanted if wanted is not None else request.GET.get("do", ""),
    }
    response = render(request, "events/link.html", context, status=refusal.status if refusal else 200)
    # With no-referrer a browser would send `Origin: null` along with the form, which no protection against forged requests can
    # accept. This one names the host alone, never the path.
    response.headers["Referrer-Policy"] = "strict-origin"
    return response


def closed(request: HttpRequest, opened: OpenedLink) -> HttpResponse:
    """Why nothing can be done with this link (any more)."""
    status = CLOSED_STATUS.get(opened.state, 410)
    context = {} if opened.tells_nothing else about(opened, timezone.now())
    return render(request, "events/link_closed.html", context, status=status)


def done(request: HttpRequest, opened: OpenedLink, event: Event) -> HttpResponse:
    """The event as it is after the button was pressed."""
    after = OpenedLink(LinkState.STALE, event, opened.contact, opened.revision)
    context = about(after, timezone.now()) | {"waits": scheduling.waits_for(event)}
    return render(request, "events/link_done.html", context)


def about(opened: OpenedLink, now: datetime) -> dict[str, Any]:
    """What every page says of the event."""
    event, zone = opened.event, zone_of(opened)
    assert event is not None
    return {
        "link": opened,
        "event": event,
        "view": EventView(event, now=now, by=opened.by),
        "zone": zone.key,
        "switch": Shown.of(event.switch_at, zone, now),
        "deadline": Shown.of(event.deadline, zone, now),
        "finished": Shown.of(event.finished_at, zone, now),
        "changed": links.last_change(event) if event.revision else None,
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
    return links.cancel(opened, origin)


BUTTONS: Final[dict[str, Button]] = {
    "window": to_window,
    "later": to_window,
    "time": to_time,
    "now": at_once,
    "cancel": cancel,
}
