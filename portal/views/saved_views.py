"""A person's saved views of lists. The menu that applies them is part of every list (templates/portal/_saved_views.html)."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from portal import navigation
from portal.errors import ServiceError
from portal.forms import SavedViewForm
from portal.htmx import HtmxHttpRequest
from portal.models import SavedView
from portal.origin import page_of
from portal.services import saved_views


@require_http_methods(["GET", "HEAD", "POST"])
def saved_view_create(request: HtmxHttpRequest) -> HttpResponse:
    """The question for a name. What is saved is the list as it was left: htmx changes its address, but not the link on it."""
    given = request.POST if request.method == "POST" else request.GET
    page = given.get("list", "")
    label = navigation.list_label(page)
    if not label:
        raise Http404
    query = saved_views.cleaned(given.get("query", "")[:4000])
    if request.method != "POST":
        left = urlsplit(page_of(request))
        if left.path == reverse(page):
            query = saved_views.cleaned(left.query)
    form = SavedViewForm(request.POST if request.method == "POST" else None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                view = saved_views.save_view(request.user, page, form.cleaned_data["name"], query)
            except ServiceError as error:
                form.add_refusal(error)
                status = error.status
            else:
                messages.success(request, f"The view {view.name} was saved.")
                return redirect(_address(view))
    context = {"form": form, "page": page, "label": label, "query": query, "parts": parse_qsl(query)}
    return render(
        request, "portal/saved_view_create.html", context | {"list_url": reverse(page)}, status=status
    )


@require_safe
def saved_view_list(request: HtmxHttpRequest) -> HttpResponse:
    rows = [
        {"view": view, "label": label, "url": _address(view), "parts": parse_qsl(view.query)}
        for view in SavedView.objects.filter(user=request.user).order_by("page", "name")
        if (label := navigation.list_label(view.page))
    ]
    return render(request, "portal/saved_view_list.html", {"rows": rows})


@require_POST
def saved_view_change(request: HtmxHttpRequest, view_id: int) -> HttpResponse:
    """Renames a view, or deletes it (button `remove`)."""
    try:
        if "remove" in request.POST:
            view = saved_views.delete_view(request.user, view_id)
            messages.success(request, f"The view {view.name} was deleted.")
        else:
            view = saved_views.rename_view(request.user, view_id, request.POST.get("name", ""))
            messages.success(request, f"The view is now named {view.name}.")
    except ServiceError as error:
        if error.status == 404:
            raise
        messages.error(request, str(error))
    return redirect("saved_view_list")


def _address(view: SavedView) -> str:
    path = reverse(view.page)
    return f"{path}?{view.query}" if view.query else path
