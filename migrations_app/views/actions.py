"""What people do to a task: start, stop, resume, delete, alone or in bulk."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from migrations_app import present
from migrations_app.choices import TaskStatus
from migrations_app.models import MigrationTask
from migrations_app.services import tasks
from migrations_app.views.common import task_context, visible_task
from portal.htmx import HtmxHttpRequest
from portal.services.permissions import require_operator


@require_POST
def task_start(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    task = tasks.start_task(request.user, visible_task(request, public_id))
    if task.status == TaskStatus.PRECHECKING:
        messages.info(request, f"{task.name} is checked again first, and starts once that has passed.")
    else:
        messages.success(request, f"{task.name} was started.")
    return redirect(task)


@require_http_methods(["GET", "HEAD", "POST"])
def task_stop(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """GET asks for the confirmation: a task that is stopped in its incremental phase cannot go on."""
    task = visible_task(request, public_id)
    if request.method != "POST":
        return _confirm(request, task, "stop")
    task = tasks.stop_task(request.user, task)
    messages.success(request, f"{task.name}: {task.status_badge.label.lower()}.")
    return redirect(task)


@require_http_methods(["GET", "HEAD", "POST"])
def task_resume(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """POST resumes; `full_resync` in it consents to a new full synchronization, which GET asks for."""
    task = visible_task(request, public_id)
    if request.method != "POST":
        return _confirm(request, task, "resume")
    task = tasks.resume_task(request.user, task, allow_full_resync="full_resync" in request.POST)
    messages.success(request, f"{task.name} was resumed.")
    return redirect(task)


@require_http_methods(["GET", "HEAD", "POST"])
def task_delete(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    task = visible_task(request, public_id)
    if request.method != "POST":
        return _confirm(request, task, "delete")
    tasks.delete_task(request.user, task)
    messages.success(request, f"{task.name} was deleted with its log. Source and target were not touched.")
    return redirect("task_list")


@require_POST
def task_stop_selected(request: HtmxHttpRequest) -> HttpResponse:
    """Bulk stop: first the question, with the tasks it is about; then what became of each."""
    public_ids = list(dict.fromkeys(request.POST.getlist("task")))
    rows = MigrationTask.objects.visible_to(request.user).filter(public_id__in=public_ids)
    rows = rows.select_related("account", "source", "target", "link__progress")
    # Ticked tasks may have been deleted meanwhile; what was confirmed gets its result all the same.
    if not public_ids or ("confirmed" not in request.POST and not rows):
        messages.warning(request, "No task was selected, so none was stopped. Tick the tasks to stop first.")
        return redirect("task_list")
    if "confirmed" not in request.POST:
        return render(
            request,
            "migrations_app/task_stop_selected.html",
            {"rows": [present.TaskView(task) for task in rows]},
        )
    results = tasks.stop_tasks(request.user, public_ids)
    return render(request, "migrations_app/task_stop_results.html", {"results": results})


def _confirm(request: HtmxHttpRequest, task: MigrationTask, action: str) -> HttpResponse:
    require_operator(request.user, task.account)
    context = task_context(request, task) | {"action": action, "verdict": task.actions[action]}
    return render(request, "migrations_app/task_confirm.html", context)
