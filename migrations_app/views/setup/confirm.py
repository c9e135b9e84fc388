"""The last step: all settings on one page, what they bring with them, and the start."""

from __future__ import annotations

from typing import Final

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect

from migrations_app.choices import InspectionKind, TaskStatus
from migrations_app.forms.confirm import ConfirmForm
from migrations_app.models import MigrationTask
from migrations_app.present_precheck import PrecheckView
from migrations_app.present_rehearsal import RehearsalView
from migrations_app.services import inspections, tasks
from migrations_app.services.warnings import warnings
from migrations_app.views.setup import shell
from migrations_app.views.setup.objects import choice_rows, retry_in_effect
from portal.htmx import HtmxHttpRequest

KEY: Final = "confirm"


@shell.step(KEY, done=lambda task: False)
def confirm(request: HtmxHttpRequest, task: MigrationTask) -> HttpResponse:
    """POST starts the task, or keeps it as it is for later."""
    form = ConfirmForm(request.POST if request.method == "POST" else None)
    status = 200
    if request.method == "POST":
        if shell.LEAVE in request.POST:
            task = tasks.configure(request.user, task, wizard_step=KEY)
            return shell.left(request, task)
        status = 422
        if form.is_valid():
            return _start(request, task)
    in_effect = retry_in_effect(request, task)
    connected = inspections.newest(task, InspectionKind.CONNECTIVITY)
    context = {
        "form": form,
        "risks": warnings(
            task, retry_minutes=in_effect["minutes"], worker_ip=connected.worker_ip if connected else ""
        ),
        "retry": in_effect,
        "choices": choice_rows(task),
        "contacts": list(task.alert_contacts.all()),
        "view": PrecheckView(task),
        "rehearsal": RehearsalView(task),
        "missing": tasks.missing(task),
        "is_ready": task.status == TaskStatus.READY,
        "limits": [],  # they are among the risks
    }
    return shell.page(request, task, KEY, "migrations_app/setup_confirm.html", context, status=status)


def _start(request: HtmxHttpRequest, task: MigrationTask) -> HttpResponse:
    task = tasks.configure(request.user, task, risks_acknowledged=True, wizard_step=KEY)
    task = tasks.start_task(request.user, task)
    if task.status == TaskStatus.PRECHECKING:
        messages.info(
            request,
            "The precheck no longer counted, so it runs once more. The task starts by itself as soon as it has passed.",
        )
        return redirect("task_setup", task.public_id, "precheck")
    messages.success(request, f"{task.name} was started.")
    return redirect(task)
