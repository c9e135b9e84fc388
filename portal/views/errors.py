"""Pages for what went wrong. None of them needs the database, and the 500 page needs nothing at all."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import requires_csrf_token

from portal.errors import NotFound, ServiceError
from portal.origin import page_of


def refusal(request: HttpRequest, error: ServiceError) -> HttpResponse:
    """The page of a refusal that is not about one field of a form."""
    if isinstance(error, NotFound):
        return not_found(request, error)
    return render(
        request, "portal/refusal.html", {"error": error, "back": page_of(request)}, status=error.status
    )


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "400.html", status=400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "403.html", status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "404.html", status=404)


@requires_csrf_token
def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The form's token is missing or old: a page left open over a login, or cookies switched off."""
    return render(request, "403_csrf.html", status=403)
