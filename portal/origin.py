"""The page that a request was sent from: where to go back to when it could not be done."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme


def page_of(request: HttpRequest) -> str:
    """Path and query of the page that holds the form or fragment; "" where it is not known or not one of this site."""
    said = request.headers.get("HX-Current-URL") or request.headers.get("Referer", "")
    if not url_has_allowed_host_and_scheme(said, {request.get_host()}):
        return ""
    address = urlsplit(said)
    return urlunsplit(("", "", address.path or "/", address.query, ""))
