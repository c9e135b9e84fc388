"""The third step: the precheck, what speaks against the task, and what can be done about it."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from migrations_app.choices import InspectionKind
from migrations_app.forms.precheck import IgnoreForm, RepairForm
from migrations_app.models import Inspection, MigrationTask, PrecheckItem
from migrations_app.present_precheck import ItemView, PrecheckView
from migrations_app.present_rehearsal import RehearsalView
from migrations_app.services import inspections, prechecks, rehearsals, repairs, tasks
from migrations_app.views.common import STOP_POLLING, visible_task
from migrations_app.views.setup import shell
from portal.errors import Invalid
from portal.htmx import HtmxHttpRequest, render_page, wants_fragment
from portal.services.permissions import require_operator, role_in

KEY: Final = "precheck"


@shell.step(KEY, done=prechecks.holds)
def precheck(request: HtmxHttpRequest, task: MigrationTask) -> HttpResponse:
    """The page, or for htmx the part of it that is live, which ends with 286. POST goes on to the last step."""
    if request.method == "POST":
        task = tasks.configure(request.user, task, wizard_step=shell.step_after(request, KEY))
        return shell.onward(request, task, KEY)
    return _page(request, task)


def _page(request: HtmxHttpRequest, task: MigrationTask, *, status: int = 200) -> HttpResponse:
    before = task.status
    view = PrecheckView(task)
    if task.status != before and isinstance(away := shell.opened(request, task.public_id, KEY), HttpResponse):
        return away  # the precheck has ended meanwhile, and the task was started with it
    context = {
        "view": view,
        "missing": tasks.missing(task),
        "rehearsal": RehearsalView(task),
    }
    if wants_fragment(request) and not view.is_live:
        status = STOP_POLLING
    return shell.part(
        request,
        task,
        KEY,
        "migrations_app/setup_precheck.html",
        "migrations_app/_precheck.html",
        context,
        status=status,
    )


def _back(task: MigrationTask) -> HttpResponse:
    return redirect("task_setup", task.public_id, KEY)


@require_POST
def task_precheck(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """Begin a precheck."""
    task = visible_task(request, public_id)
    tasks.precheck_task(request.user, task)
    return _back(task)


@require_http_methods(["GET", "HEAD", "POST"])
def task_precheck_ignore(request: HtmxHttpRequest, public_id: str, item: int) -> HttpResponse:
    """GET asks for the reason, POST takes the risk."""
    task = visible_task(request, public_id)
    require_operator(request.user, task.account)
    row = _item(task, item)
    form = IgnoreForm(request.POST if request.method == "POST" else None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                prechecks.ignore_item(request.user, row, form.cleaned_data["reason"])
            except Invalid as error:
                form.add_refusal(error)
                status = error.status
            else:
                messages.success(request, f"“{row.title}” is ignored. Your name and the reason are kept.")
                return _back(task)
    context = {"task": task, "view": ItemView(row), "form": form}
    return render(request, "migrations_app/precheck_ignore.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def task_precheck_repair(request: HtmxHttpRequest, public_id: str, item: int) -> HttpResponse:
    """POST asks a worker to change what the item names. GET is the question, with the name to be typed where data are cleared."""
    task = visible_task(request, public_id)
    require_operator(request.user, task.account)
    row = _item(task, item)
    view = ItemView(row)
    form = RepairForm(request.POST if request.method == "POST" else None, clears=view.clears)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                repairs.request_repair(
                    request.user, row, confirmation=form.cleaned_data.get("confirmation", "")
                )
            except Invalid as error:
                form.add_refusal(error)
                status = error.status
            else:
                return _back(task)
    context = {"task": task, "view": view, "form": form}
    return render(request, "migrations_app/precheck_repair.html", context, status=status)


@require_POST
def task_repairs_restore(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """Put everything back now that was changed for the task."""
    task = visible_task(request, public_id)
    repairs.request_restore(request.user, task)
    messages.info(
        request, "What was changed for this task is being put back. Run the precheck again afterwards."
    )
    return _back(task)


@require_POST
def task_inspection_cancel(request: HtmxHttpRequest, public_id: str, inspection: str) -> HttpResponse:
    """End a precheck, a repair or a rehearsal that is under way."""
    task = visible_task(request, public_id)
    row = get_object_or_404(
        Inspection.objects.select_related("task__account"), task=task, public_id=inspection
    )
    inspections.cancel(request.user, row)
    messages.info(request, f"The {row.get_kind_display().lower()} ends in a moment.")
    return redirect("task_rehearsal", task.public_id) if row.kind == InspectionKind.REHEARSAL else _back(task)


@require_http_methods(["GET", "HEAD", "POST"])
def task_rehearsal(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """What a dry run has told; POST begins one. For htmx its live part, which ends with 286."""
    task = visible_task(request, public_id)
    if request.method == "POST":
        rehearsals.request_rehearsal(request.user, task)
        return redirect("task_rehearsal", task.public_id)
    view = RehearsalView(task)
    status = STOP_POLLING if wants_fragment(request) and not view.is_running else 200
    role = role_in(request.user, task.account)
    context: dict[str, Any] = {
        "task": task,
        "rehearsal": view,
        "can_operate": role is not None and role.can_operate,
    }
    return render_page(
        request, "migrations_app/rehearsal.html", "migrations_app/_rehearsal.html", context, status=status
    )


def _item(task: MigrationTask, pk: int) -> PrecheckItem:
    rows = PrecheckItem.objects.select_related("inspection__task__account")
    return get_object_or_404(rows, pk=pk, inspection__task=task)
