"""Calendar feeds: the page on which a person makes and revokes them, and what a calendar program reads."""

from __future__ import annotations

import hashlib
from typing import cast

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.db.models import F
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import get_conditional_response
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from events import ics
from events.forms.feeds import FeedForm
from events.models import CalendarFeed
from events.services import feeds
from portal.delivery.links import absolute
from portal.errors import ServiceError
from portal.htmx import HtmxHttpRequest

MAX_AGE = 300  # seconds


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def feed_list(request: HtmxHttpRequest) -> HttpResponse:
    """The list and the form. The answer to POST shows the new address, this once."""
    form = FeedForm(request.POST if request.method == "POST" else None, user=request.user)
    made: tuple[CalendarFeed, str] | None = None
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            data = form.cleaned_data
            try:
                feed, text = feeds.create_feed(request.user, data["name"], account=data["account"])
            except ServiceError as error:
                form.add_refusal(error)
                status = error.status
            else:
                made = feed, absolute(reverse("event_feed", args=[text]))
                form = FeedForm(user=request.user)
                status = 200
    rows = feeds.feeds_of(request.user).order_by(F("revoked_at").desc(nulls_first=True), "-pk")[:100]
    return render(request, "events/feeds.html", {"form": form, "rows": rows, "made": made}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def feed_revoke(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    feed = feeds.find_feed(request.user, public_id)
    if request.method != "POST":
        return render(request, "events/feed_revoke.html", {"feed": feed})
    feeds.revoke_feed(request.user, public_id)
    messages.success(
        request, f"The calendar {feed.name} was revoked. What reads it gets nothing from now on."
    )
    return redirect("event_feeds")


@require_safe
@login_not_required
def feed(request: HttpRequest, token: str) -> HttpResponseBase:
    """Open to whoever has the address, and worth no more than what its person may see right now."""
    found = feeds.feed_of(token)
    if found is None:
        return HttpResponse(
            "There is no such calendar.\n", status=404, content_type="text/plain; charset=utf-8"
        )
    name = f"Switchyard: {found.account.name}" if found.account else "Switchyard"
    text = ics.calendar(feeds.events_of(found), name=name)
    response = HttpResponse(text, content_type="text/calendar; charset=utf-8")
    response.headers["Content-Disposition"] = 'inline; filename="switchyard.ics"'
    response.headers["Cache-Control"] = f"private, max-age={MAX_AGE}"
    response.headers["X-Robots-Tag"] = "noindex"
    response.headers["Referrer-Policy"] = "no-referrer"
    etag = etag_of(text)
    response.headers["ETag"] = etag
    return cast(HttpResponseBase, get_conditional_response(request, etag=etag, response=response))


def etag_of(text: str) -> str:
    """Of everything but the moment at which it was written."""
    said = "\n".join(line for line in text.splitlines() if not line.startswith("DTSTAMP"))
    return f'W/"{hashlib.sha256(said.encode()).hexdigest()[:32]}"'
