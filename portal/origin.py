"""Where to go back to when a request could not be done: the page that it was sent from, or that of the object."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.http import HttpRequest
from django.shortcuts import resolve_url
from django.urls import Resolver404, resolve
from django.utils.http import url_has_allowed_host_and_scheme


def page_of(request: HttpRequest) -> str:
    """Path and query of the page that holds the form or fragment; "" where it is not known or not one of this site."""
    said = request.headers.get("HX-Current-URL") or request.headers.get("Referer", "")
    if not url_has_allowed_host_and_scheme(said, {request.get_host()}):
        return ""
    address = urlsplit(said)
    return urlunsplit(("", "", address.path or "/", address.query, ""))


def way_back(request: HttpRequest) -> str:
    """`page_of`; from a page that was opened by its address, or after the login, the nearest one above it; "" if there is none.

    Not to a page below it either: who comes from there was refused there, and sent here.
    """
    came_from = page_of(request)
    if request.method not in ("GET", "HEAD"):
        return came_from
    path = came_from.partition("?")[0]
    if path and path != resolve_url(settings.LOGIN_URL) and not path.startswith(request.path):
        return came_from
    above = request.path
    while above := above.rstrip("/").rpartition("/")[0]:
        try:
            resolve(f"{above}/")
        except Resolver404:
            continue
        return f"{above}/"
    return ""
