"""What every page of the console needs."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from portal import navigation
from portal.htmx import HtmxHttpRequest
from portal.services.inbox import unread_count


def console(request: HttpRequest) -> dict[str, Any]:
    """`nav_sections`: [(heading, [(entry, is current, count)])] and `banners`, for signed-in people; `theme`: light, dark or auto."""
    theme = request.COOKIES.get("theme", "auto")
    context: dict[str, Any] = {"theme": theme if theme in ("light", "dark") else "auto"}
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return context
    match = request.resolver_match
    current = (match.url_name or "") if match and not match.namespaces else ""
    asked = cast(HtmxHttpRequest, request)
    sections: dict[str, list[tuple[navigation.Entry, bool, Any]]] = {}
    for entry in navigation.entries():
        if user.is_staff or not entry.staff_only:
            # These, too, are asked for by the frame of a page only: fragments, of which a page fetches many, do not count.
            count = SimpleLazyObject(partial(navigation.count_of, entry, asked))
            sections.setdefault(entry.section, []).append((entry, entry.is_current(current), count))
    context["nav_sections"] = list(sections.items())
    context["banners"] = SimpleLazyObject(lambda: navigation.banners(asked))
    context["unread_count"] = SimpleLazyObject(lambda: unread_count(user))
    return context
