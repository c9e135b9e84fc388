"""What people do to a task: start, pause, resume, stop, release, delete, alone or in bulk."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from migrations_app import bulk, present
from migrations_app.choices import TaskStatus
from migrations_app.models import MigrationTask
from migrations_app.services import tasks
from migrations_app.views.common import task_context, visible_task
from portal.htmx import HtmxHttpRequest
from portal.models import Account
from portal.services.permissions import require_operator


@require_POST
def task_start(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    task = tasks.start_task(request.user, visible_task(request, public_id))
    if task.status == TaskStatus.PRECHECKING:
        messages.info(request, f"{task.name} is checked again first, and starts once that has passed.")
    else:
        messages.success(request, f"{task.name} was started.")
    return redirect(task)


@require_POST
def task_pause(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    task = tasks.pause_task(request.user, visible_task(request, public_id))
    messages.success(request, f"{task.name}: {task.status_badge.label.lower()}.")
    return redirect(task)


@require_http_methods(["GET", "HEAD", "POST"])
def task_release(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """GET asks for the confirmation: a released task cannot be resumed."""
    task = visible_task(request, public_id)
    if request.method != "POST":
        return _confirm(request, task, "release")
    tasks.release_task(request.user, task)
    messages.success(request, f"{task.name} was released: it does not write to its target any more.")
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
def task_bulk(request: HtmxHttpRequest) -> HttpResponse:
    """One action of many tasks: first the question, with what would become of each; then what became of each."""
    public_ids = list(dict.fromkeys(request.POST.getlist("task")))
    kind = bulk.KINDS.get(request.POST.get("action", ""))
    if kind is None:
        messages.warning(request, "No action was chosen, so nothing was changed. Choose what to do first.")
        return redirect("task_list")
    if public_ids and "confirmed" in request.POST:
        # Ticked tasks may have been deleted meanwhile; what was confirmed gets its result all the same.
        results = tasks.bulk(request.user, kind.action, public_ids)
        return render(request, "migrations_app/task_bulk_results.html", {"results": results, "kind": kind})
    rows = MigrationTask.objects.visible_to(request.user).filter(public_id__in=public_ids)
    views = [
        present.TaskView(task)
        for task in rows.select_related("account", "source", "target", "link__progress")
    ]
    if not views:
        messages.warning(request, "No task was selected, so nothing was changed. Tick the tasks first.")
        return redirect("task_list")
    operated = frozenset(Account.objects.operated_by(request.user).values_list("pk", flat=True))
    found = bulk.prospects(kind, views, operated)
    context = {"prospects": found, "kind": kind, "count": sum(one.open for one in found)}
    return render(request, "migrations_app/task_bulk.html", context)


def _confirm(request: HtmxHttpRequest, task: MigrationTask, action: str) -> HttpResponse:
    require_operator(request.user, task.account)
    context = task_context(request, task) | {"action": action, "verdict": task.actions[action]}
    return render(request, "migrations_app/task_confirm.html", context)
