"""Setting a task up."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from migrations_app.choices import Phases
from migrations_app.forms import TaskForm
from migrations_app.models import MigrationTask
from migrations_app.services import tasks
from portal.errors import ServiceError
from portal.htmx import HtmxHttpRequest, render_page

FILLED_IN = (
    "source",
    "target",
    "phases",
    "scope",
    "name",
    "retry_minutes",
)  # what an address may fill into the form


@require_http_methods(["GET", "HEAD", "POST"])
def task_create(request: HtmxHttpRequest) -> HttpResponse:
    """GET shows the form with what the address fills in (the form asks for itself again when a side is chosen)."""
    page, sides = "migrations_app/task_create.html", "migrations_app/_task_sides.html"
    if request.method != "POST":
        initial: dict[str, Any] = {name: request.GET[name] for name in FILLED_IN if name in request.GET}
        # Numbers of another source's databases mean nothing: they are kept while only the target changes.
        if request.GET.get("source") == request.GET.get("shown_source"):
            initial["databases"] = request.GET.getlist("databases")
        form = TaskForm(user=request.user, initial=initial)
        return render_page(request, page, sides, {"form": form})
    form = TaskForm(request.POST, user=request.user)
    status = 422
    if form.is_valid():
        data = form.cleaned_data
        try:
            task = tasks.create_task(
                request.user,
                data["source"].account,
                data["source"],
                data["target"],
                phases=Phases(data["phases"]),
                databases=form.chosen_databases(),
                name=data["name"],
                retry_minutes=data["retry_minutes"],
            )
        except ServiceError as error:
            form.add_refusal(error)
            status = error.status
        else:
            return _created(request, task)
    return render(request, page, {"form": form}, status=status)


def _created(request: HtmxHttpRequest, task: MigrationTask) -> HttpResponseRedirect:
    if "start" not in request.POST:
        messages.success(
            request,
            f"{task.name} was created. It does nothing before you have run its precheck and started it.",
        )
        return redirect(task)
    try:
        tasks.precheck_task(request.user, task, then_start=True)
    except ServiceError as error:
        messages.error(request, f"{task.name} was created but not started. {error}")
    else:
        messages.success(request, f"{task.name} was created. It starts once its precheck has passed.")
    return redirect(task)
