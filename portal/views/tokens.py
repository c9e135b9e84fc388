"""A person's tokens of the HTTP API."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from portal.errors import ServiceError
from portal.forms import TokenForm
from portal.htmx import HtmxHttpRequest
from portal.models import ApiToken
from portal.services import tokens


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def token_list(request: HtmxHttpRequest) -> HttpResponse:
    """The list and the form. The answer to POST shows the new token, this once."""
    form = TokenForm(request.POST if request.method == "POST" else None, user=request.user)
    made: tuple[ApiToken, str] | None = None
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            data = form.cleaned_data
            try:
                made = tokens.create_token(
                    request.user,
                    data["name"],
                    data["scopes"],
                    account=data["account"],
                    days=int(data["days"]) or None,
                )
            except ServiceError as error:
                form.add_refusal(error)
                status = error.status
            else:
                form = TokenForm(user=request.user)
                status = 200
    rows: list[dict[str, Any]] = [
        {"token": token, "valid": tokens.is_valid(token)}
        for token in ApiToken.objects.filter(user=request.user).select_related("account")[:200]
    ]
    return render(
        request, "portal/token_list.html", {"form": form, "rows": rows, "made": made}, status=status
    )


@require_http_methods(["GET", "HEAD", "POST"])
def token_revoke(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    token = get_object_or_404(ApiToken, public_id=public_id, user=request.user)
    if request.method != "POST":
        return render(request, "portal/token_revoke.html", {"token": token})
    tokens.revoke_token(request.user, public_id)
    messages.success(request, f"The token {token.name} was revoked. What uses it is refused from now on.")
    return redirect("token_list")
