"""The inbox of the person who is signed in."""

from __future__ import annotations

from typing import Final

from django.contrib import messages
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import Resolver404, resolve
from django.views.decorators.http import require_POST, require_safe

from portal.choices import Category
from portal.htmx import HtmxHttpRequest, render_page
from portal.listing import Column, Filter, Listing
from portal.services import inbox

ABOUT: Final = {
    "account_detail": "account",
    "event_detail": "event",
    "event_list": "list of events",
    "event_history": "list of events",
    "task_detail": "task",
}
"""What the page behind a message shows, by the name of its address."""
COLUMNS = (
    Column("message", "Message"),
    Column("category", "Category", ("category",)),
    Column("account", "Account", ("account__name",)),
    Column("at", "When", ("created_at",)),
    Column("", "Actions", hidden_label=True),
)
FILTERS = (
    Filter(
        "state",
        "State",
        "",
        [("unread", "Unread"), ("read", "Read")],
        where=lambda value: Q(read_at__isnull=value == "unread"),
    ),
    Filter("category", "Category", "category", Category.choices),
)


@require_safe
def inbox_list(request: HtmxHttpRequest) -> HttpResponse:
    listing = Listing(
        request,
        inbox.messages_of(request.user).select_related("account"),
        columns=COLUMNS,
        filters=FILTERS,
        search=("subject", "text"),
        default_sort="-at",
    )
    return render_page(request, "portal/inbox.html", "portal/_inbox_table.html", {"listing": listing})


@require_safe
def message(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """Reading it is what marks it as read."""
    told = (inbox.mark if request.method == "GET" else inbox.find)(request.user, public_id)
    return render(request, "portal/inbox_message.html", {"told": told, "about": _about(told.url)})


@require_POST
def mark(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """As read, or (`unread`) as not read yet."""
    inbox.mark(request.user, public_id, read="unread" not in request.POST)
    return redirect("inbox")


def _about(url: str) -> str:
    """For the button that opens it."""
    try:
        name = resolve(url.partition("?")[0]).url_name
    except Resolver404:
        name = None
    return ABOUT.get(name or "", "page it is about")


@require_POST
def mark_all(request: HtmxHttpRequest) -> HttpResponse:
    count = inbox.mark_all_read(request.user)
    messages.success(request, f"{count} message{'' if count == 1 else 's'} marked as read.")
    return redirect("inbox")
