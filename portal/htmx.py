"""One view, two answers: the page, and the fragment of it that htmx asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django_htmx.middleware import HtmxDetails

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class HtmxHttpRequest(HttpRequest):
    """What every view of the console gets: a signed-in person, and the details of htmx."""

    htmx: HtmxDetails
    user: User  # LoginRequired lets nobody else through


def wants_fragment(request: HtmxHttpRequest) -> bool:
    """True where htmx swaps a part of the page. A page that it restores from the history is a whole one."""
    return bool(request.htmx) and not request.htmx.boosted and not request.htmx.history_restore_request


def render_page(
    request: HtmxHttpRequest, page: str, fragment: str, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    """Renders `fragment` for htmx and `page` (which includes the fragment) for everybody else."""
    response = render(request, fragment if wants_fragment(request) else page, context, status=status)
    # A cache must not give the fragment to somebody who opens the page.
    patch_vary_headers(response, ["HX-Request", "HX-History-Restore-Request"])
    return response
