"""Tasks of other accounts that work with the person's instances: status, progress, who and under which role, and the way to end it.

Nothing here tells of the other side of such a task: not its name, not its settings, not its log.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from migrations_app.choices import TaskStatus
from migrations_app.forms.shared import StopReadingForm
from migrations_app.models import MigrationTask
from migrations_app.present import TaskView
from migrations_app.services import sharing
from migrations_app.views.common import STOP_POLLING
from portal.errors import ServiceError
from portal.htmx import HtmxHttpRequest, render_page, wants_fragment
from portal.listing import Column, Filter, Listing
from portal.models import AccessRole, AuditEntry
from portal.services.permissions import require_operator, role_in

COLUMNS = (
    Column("task", "Task", ("public_id",)),
    Column("account", "Account", ("account__name",)),
    Column("", "Your instance"),
    Column("", "Role"),
    Column("status", "Status", ("status",)),
    Column("progress", "Progress", ("link__progress__percent",)),
    Column("created", "Created", ("created_at",)),
)


@require_safe
def shared_list(request: HtmxHttpRequest) -> HttpResponse:
    listing = Listing(
        request,
        _loaded(request),
        columns=COLUMNS,
        filters=[Filter("status", "Status", "status", TaskStatus.choices)],
        search=("public_id", "account__name", "account__public_id"),
        default_sort="-created",
    )
    rows = [_shown(request, task) for task in listing.page.object_list]
    context = {"listing": listing, "rows": rows}
    return render_page(
        request, "migrations_app/shared_list.html", "migrations_app/_shared_table.html", context
    )


def page_of(request: HtmxHttpRequest, public_id: str) -> HttpResponse | None:
    """The reduced page of a task, or its live part; None if the task is not shared with the person in this way."""
    task = _loaded(request).filter(public_id=public_id).first()
    if task is None:
        return None
    status = STOP_POLLING if wants_fragment(request) and task.is_over else 200
    return render_page(
        request,
        "migrations_app/shared_detail.html",
        "migrations_app/_shared_live.html",
        _shown(request, task) | {"history": _history(request, task)},
        status=status,
    )


@require_http_methods(["GET", "HEAD", "POST"])
def shared_stop(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """Pause the task or stop it for good, with the reason that its account is told."""
    task = get_object_or_404(_loaded(request), public_id=public_id)
    context = _shown(request, task)
    require_operator(request.user, context["roles"][0].account)
    form = StopReadingForm(request.POST if request.method == "POST" else None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            data = form.cleaned_data
            try:
                task = sharing.stop_by_owner(
                    request.user, task, data["reason"], for_good=data["how"] == StopReadingForm.STOP
                )
            except ServiceError as error:
                form.add_refusal(error)
                status = error.status
            else:
                messages.success(request, f"{task.public_id}: {task.status_badge.label.lower()}.")
                return redirect(task)
    return render(request, "migrations_app/shared_stop.html", context | {"form": form}, status=status)


def _loaded(request: HtmxHttpRequest) -> Any:
    return sharing.shared_with(request.user).select_related(
        "account", "source", "target", "source_role__account", "target_role__account", "link__progress"
    )


def _shown(request: HtmxHttpRequest, task: MigrationTask) -> dict[str, Any]:
    """What of the task the owner of a side may know."""
    sides = sharing.sides_of(request.user, task)
    roles: list[AccessRole] = [getattr(task, f"{side}_role") for side in sides]
    rights = [role_in(request.user, role.account) for role in roles]
    return {
        "task": task,
        "view": TaskView(task),
        "sides": [(side, getattr(task, side)) for side in sides],
        "roles": roles,
        "can_stop": any(right is not None and right.can_operate for right in rights),
        "can_revoke": any(right is not None and right.can_manage for right in rights),
        "is_working": task.status_badge in sharing.WORKING,
    }


def _history(request: HtmxHttpRequest, task: MigrationTask) -> Any:
    """What the person's account has done about it."""
    roles = [getattr(task, f"{side}_role") for side in sharing.sides_of(request.user, task)]
    told = Q(object_type="accessrole", object_id__in=[role.public_id for role in roles])
    entries = AuditEntry.objects.filter(told, account__in=[role.account_id for role in roles])
    return entries.filter(action__in=("task.stopped_by_owner", "role.revoked", "role.changed"))[:10]
