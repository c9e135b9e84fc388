"""What happens around every request: headers, one line of log, the reader's time zone, refusals as pages."""

from __future__ import annotations

import time
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed
from django.shortcuts import render, resolve_url
from django.utils import timezone
from django_htmx.http import HttpResponseClientRedirect

from portal.errors import ServiceError
from portal.models import UserProfile
from portal.origin import page_of
from portal.views.errors import refusal

GetResponse = Callable[[HttpRequest], HttpResponseBase]

TIME_ZONE_KEY = "time_zone"  # in the session: the person's zone, so that no request has to look it up

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; "
    "img-src 'self' data:; "  # Bootstrap's stylesheet draws arrows and ticks as data: images
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)

log = structlog.get_logger("portal.request")


def content_security_policy(get_response: GetResponse) -> GetResponse:
    """Nothing but the server's own files: no inline script, no inline style, no other host."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response

    return middleware


def request_log(get_response: GetResponse) -> GetResponse:
    """One line per request, and an ID that all lines of the request share."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=uuid.uuid4().hex[:12])
        begun = time.monotonic()
        response = get_response(request)
        write = log.debug if request.path == "/healthz" else log.info
        write(
            "request",
            method=request.method,
            path=request.path,  # without the query: a search may hold anything
            status=response.status_code,
            ms=round((time.monotonic() - begun) * 1000),
            user=getattr(getattr(request, "user", None), "pk", None),
        )
        return response

    return middleware


NUL_FORMS = {"application/json": b"\\u0000", "application/x-www-form-urlencoded": b"%00"}


def no_nul(get_response: GetResponse) -> GetResponse:
    """400 for the character NUL in what is asked for or sent: PostgreSQL can neither store it nor look for it. Uploads are not read here."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        form = NUL_FORMS.get(request.content_type or "")
        if (
            "%00" in request.META.get("QUERY_STRING", "")
            or "\0" in request.path
            or (form is not None and form in request.body)
        ):
            raise BadRequest("NUL")
        return get_response(request)

    return middleware


class LoginRequired(LoginRequiredMiddleware):
    """Django's, but after the login people are back on their page: a fragment sends the whole page to the login, and what a
    form has sent is not done later by itself."""

    def process_view(
        self, request: HttpRequest, view_func: Callable[..., Any], view_args: Any, view_kwargs: Any
    ) -> HttpResponseBase | None:
        response = super().process_view(request, view_func, view_args, view_kwargs)
        fragment = request.headers.get("HX-Request") == "true"
        if response is None or (request.method in ("GET", "HEAD") and not fragment):
            return response
        login = redirect_to_login(page_of(request) or resolve_url(settings.LOGIN_REDIRECT_URL))
        return HttpResponseClientRedirect(login.url) if fragment else login


def reader_time_zone(get_response: GetResponse) -> GetResponse:
    """Shows times in the zone that the person has chosen, else in TIME_ZONE."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return get_response(request)
        name = request.session.get(TIME_ZONE_KEY)
        if name is None:
            profile = UserProfile.objects.filter(user=request.user).only("time_zone").first()
            name = request.session[TIME_ZONE_KEY] = profile.time_zone if profile else ""
        try:
            zone = zoneinfo.ZoneInfo(name) if name else timezone.get_default_timezone()
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            zone = timezone.get_default_timezone()
        with timezone.override(zone):
            return get_response(request)

    return middleware


class ServiceErrors:
    """A refusal that no view has caught becomes a page with its sentence, its advice and its status. So does a method that
    an address does not take: somebody has loaded again what a form was sent to."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if isinstance(response, HttpResponseNotAllowed) and not response.content:
            page = render(request, "405.html", status=405)
            page.headers["Allow"] = response.headers["Allow"]
            return page
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return refusal(request, exception) if isinstance(exception, ServiceError) else None
