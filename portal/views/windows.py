"""Maintenance windows: of an instance, and the general one of an account."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from portal.choices import Origin
from portal.errors import ServiceError
from portal.htmx import HtmxHttpRequest
from portal.models import Account, Instance, MaintenanceWindow
from portal.services import windows
from portal.services.permissions import require_operator, require_owner
from portal.window_forms import WindowForm
from portal.windows import spans

OCCURRENCES: Final = 3


@require_http_methods(["GET", "HEAD", "POST"])
def instance_window(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """What the instance has of its own; the fields begin with what applies now."""
    rows = Instance.objects.fleet().visible_to(request.user).select_related("account")
    instance = get_object_or_404(rows, public_id=public_id)
    require_operator(request.user, instance.account)
    applies = windows.rows_for([instance]).get(instance.pk)
    own = applies if applies and not applies.is_general else None
    context = {"instance": instance, "account": instance.account, "general": windows.row_of(instance.account)}
    return _edit(request, instance, own, applies, context)


@require_http_methods(["GET", "HEAD", "POST"])
def account_window(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    account = get_object_or_404(Account.objects.visible_to(request.user), public_id=public_id)
    require_owner(request.user, account)
    own = windows.row_of(account)
    return _edit(request, account, own, own, {"account": account})


def instance_context(instance: Instance) -> dict[str, Any]:
    """For the page of an instance: the window that applies. One of a task's sides only has none."""
    if instance.origin != Origin.FLEET:
        return {}
    return _shown(windows.rows_for([instance]).get(instance.pk))


def account_context(account: Account) -> dict[str, Any]:
    """For the page of an account: its general window, and how many instances have one of their own."""
    own = MaintenanceWindow.objects.filter(instance__account=account, instance__origin=Origin.FLEET)
    return _shown(windows.row_of(account)) | {"windows_of_instances": own.count()}


def _shown(row: MaintenanceWindow | None) -> dict[str, Any]:
    now = timezone.now()
    found = list(islice(spans(row.window, now), OCCURRENCES)) if row else []
    return {"window": row, "window_spans": [(span, span.covers(now)) for span in found]}


def _edit(
    request: HtmxHttpRequest,
    owner: Instance | Account,
    own: MaintenanceWindow | None,
    applies: MaintenanceWindow | None,
    context: dict[str, Any],
) -> HttpResponse:
    if "remove" in request.POST:
        windows.clear_window(request.user, owner)
        messages.success(request, "The maintenance window was removed.")
        return redirect(owner)
    form = WindowForm(request.POST if request.method == "POST" else None, shown=applies)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                row = windows.set_window(request.user, owner, **form.values())
            except ServiceError as error:
                form.add_refusal(error)
                status = error.status
            else:
                messages.success(request, f"The maintenance window was saved: {row}.")
                return redirect(owner)
    context |= {"form": form, "own": own, "owner": owner}
    return render(request, "portal/window_form.html", context, status=status)
