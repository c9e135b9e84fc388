"""Pages for what went wrong, and the same for programs. None of them needs the database, and that of a defect needs nothing at all."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views import defaults
from django.views.decorators.csrf import requires_csrf_token

from portal.errors import NotFound, ServiceError
from portal.origin import way_back

OF_PROGRAMS: Final = "/api/"  # what is asked below it is answered with JSON


def refusal(request: HttpRequest, error: ServiceError) -> HttpResponse:
    """The page of a refusal that is not about one field of a form."""
    if isinstance(error, NotFound):
        return not_found(request, error)
    return render(
        request, "portal/refusal.html", {"error": error, "back": way_back(request)}, status=error.status
    )


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if request.path.startswith(OF_PROGRAMS):
        return _for_programs(
            400, "input.unreadable", "The request cannot be read, or is too large. Nothing was changed."
        )
    return render(request, "400.html", status=400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "403.html", {"back": way_back(request)}, status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if request.path.startswith(OF_PROGRAMS):
        return _for_programs(404, "object.not_found", "There is no such operation. Nothing was changed.")
    return render(request, "404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    if request.path.startswith(OF_PROGRAMS):
        return _for_programs(
            500, "error.internal", "A defect of the console ended the request; its log says more."
        )
    return defaults.server_error(request)


def _for_programs(status: int, id: str, message: str) -> HttpResponse:
    """As every refusal of the HTTP API, see portal/api.py."""
    advice = (
        "See the description of the API at /api/v1/openapi.json." if status < 500 else "Ask an administrator."
    )
    return JsonResponse({"id": id, "message": message, "advice": advice, "field": ""}, status=status)


@requires_csrf_token
def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The form's token is missing or old: a page left open over a login, or cookies switched off."""
    return render(request, "403_csrf.html", status=403)
