"""The settings of a task that can be changed while it runs, and how its self-hosted sides are reached."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from migrations_app.forms.running import RunningForm
from migrations_app.operation import Operation
from migrations_app.services import running
from migrations_app.views.common import task_context, visible_task
from migrations_app.views.setup.objects import PLACES
from portal.choices import EndpointKind, Origin
from portal.connection_forms import ConnectionForm
from portal.errors import ServiceError
from portal.htmx import HtmxHttpRequest
from portal.services.permissions import require_operator


@require_http_methods(["GET", "HEAD", "POST"])
def task_settings(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """A link that runs follows within seconds, and keeps its position."""
    task = visible_task(request, public_id)
    require_operator(request.user, task.account)
    form = RunningForm(request.POST if request.method == "POST" else None, task=task)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                task = running.change_running(request.user, task, **form.settings())
            except ServiceError as error:
                place = PLACES.get(error.field, error.field)
                form.add_error(place if place in form.fields else None, str(error))
                status = error.status
            else:
                messages.success(request, f"The settings of {task.name} were saved.")
                return redirect(task)
    context = task_context(request, task)
    context |= {"form": form, "operation": Operation(context["view"])}
    return render(request, "migrations_app/task_settings.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters()
def task_connection(request: HtmxHttpRequest, public_id: str, side: str) -> HttpResponse:
    """Address, account or password of a self-hosted side. The page of an instance of the fleet has its own form."""
    task = visible_task(request, public_id)
    require_operator(request.user, task.account)
    instance = getattr(task, side) if side in ("source", "target") else None
    if instance is None:
        raise Http404(f"no side {side}")
    if instance.origin != Origin.SELF_HOSTED or instance.endpoint.kind == EndpointKind.FILE:
        messages.info(
            request, f"The {side} {instance.name} is changed where it was entered. Nothing was changed here."
        )
        return redirect(task)
    form = ConnectionForm(request.POST if request.method == "POST" else None, stored=instance.endpoint)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                task = running.change_connection(request.user, task, side, form.params())
            except ServiceError as error:
                form.add_refusal(error)
                status = error.status
            else:
                messages.success(request, f"How the {side} of {task.name} is reached was saved.")
                return redirect(task)
    context = task_context(request, task) | {"form": form, "side": side, "instance": instance}
    return render(request, "migrations_app/task_connection.html", context, status=status)
