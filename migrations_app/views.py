"""The pages of the migration tasks: list, creation, the live page, and what can be done to a task."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from migrations_app import present
from migrations_app.choices import LogLevel, Phases, TaskStatus
from migrations_app.forms import TaskForm
from migrations_app.models import MigrationTask
from migrations_app.services import tasks
from portal.errors import ServiceError
from portal.htmx import HtmxHttpRequest, render_page, wants_fragment
from portal.listing import Column, Filter, Listing
from portal.models import Account
from portal.services.permissions import require_operator, role_in

STOP_POLLING = 286  # htmx swaps the answer and asks no more
LOG_PAGE = 30
FILLED_IN = (
    "source",
    "target",
    "phases",
    "scope",
    "name",
    "retry_minutes",
)  # what an address may fill into the form

COLUMNS = (
    Column("", "Select", hidden_label=True),
    Column("name", "Task", ("name",)),
    Column("status", "Status", ("status", "name")),
    Column("route", "Source and target", ("source__name", "target__name")),
    Column("phases", "Phases", ("phases", "name")),
    Column("progress", "Progress", ("link__progress__percent",)),
    Column("lag", "Lag", ("link__progress__lag_bytes",), css="num"),
    Column("speed", "Speed", ("link__progress__bytes_per_second",), css="num"),
    Column("created", "Created", ("created_at",)),
)
FILTERS = (
    Filter("status", "Status", "status", TaskStatus.choices),
    Filter("phases", "Phases", "phases", Phases.choices),
    Filter("account", "Account", "account__name"),
)
SEARCH = ("name", "public_id", "source__name", "target__name", "account__name")


@require_safe
def task_list(request: HtmxHttpRequest) -> HttpResponse:
    rows = MigrationTask.objects.visible_to(request.user).select_related(
        "account", "source", "target", "link__progress"
    )
    listing = Listing(request, rows, columns=COLUMNS, filters=FILTERS, search=SEARCH, default_sort="-created")
    context: dict[str, Any] = {
        "listing": listing,
        "rows": [present.TaskView(task) for task in listing.page.object_list],
        "can_create": Account.objects.operated_by(request.user).exists(),
    }
    return render_page(request, "migrations_app/task_list.html", "migrations_app/_task_table.html", context)


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
        messages.success(request, f"{task.name} was created. It does nothing before you start it.")
        return redirect(task)
    try:
        tasks.start_task(request.user, task)
    except ServiceError as error:
        messages.error(request, f"{task.name} was created but not started. {error}")
    else:
        messages.success(request, f"{task.name} was created and started.")
    return redirect(task)


@require_safe
def task_detail(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """The page, or for htmx its live part, which ends with 286 once nothing changes any more."""
    task = _visible(request, public_id)
    status = STOP_POLLING if wants_fragment(request) and task.status_badge.is_final else 200
    context = _context(request, task)
    if not wants_fragment(request):
        context |= _log(request, task)
    return render_page(
        request, "migrations_app/task_detail.html", "migrations_app/_task_poll.html", context, status=status
    )


@require_safe
def task_log(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """The log alone, newest line first: for htmx its rows, else a page of its own."""
    task = _visible(request, public_id)
    context = {"task": task} | _log(request, task)
    return render_page(request, "migrations_app/task_log.html", "migrations_app/_task_log.html", context)


@require_POST
def task_start(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    task = tasks.start_task(request.user, _visible(request, public_id))
    messages.success(request, f"{task.name} was started.")
    return redirect(task)


@require_http_methods(["GET", "HEAD", "POST"])
def task_stop(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """GET asks for the confirmation: a task that is stopped in its incremental phase cannot go on."""
    task = _visible(request, public_id)
    if request.method != "POST":
        return _confirm(request, task, "stop")
    task = tasks.stop_task(request.user, task)
    messages.success(request, f"{task.name}: {task.status_badge.label.lower()}.")
    return redirect(task)


@require_http_methods(["GET", "HEAD", "POST"])
def task_resume(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """POST resumes; `full_resync` in it consents to a new full synchronization, which GET asks for."""
    task = _visible(request, public_id)
    if request.method != "POST":
        return _confirm(request, task, "resume")
    task = tasks.resume_task(request.user, task, allow_full_resync="full_resync" in request.POST)
    messages.success(request, f"{task.name} was resumed.")
    return redirect(task)


@require_http_methods(["GET", "HEAD", "POST"])
def task_delete(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    task = _visible(request, public_id)
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


def _visible(request: HtmxHttpRequest, public_id: str) -> MigrationTask:
    """The task, or 404 whether it does not exist or belongs to others."""
    rows = MigrationTask.objects.visible_to(request.user).select_related(
        "account", "created_by", "source__endpoint", "target__endpoint", "link__progress"
    )
    return get_object_or_404(rows, public_id=public_id)


def _context(request: HtmxHttpRequest, task: MigrationTask) -> dict[str, Any]:
    role = role_in(request.user, task.account)
    return {
        "task": task,
        "view": present.TaskView(task),
        "can_operate": role is not None and role.can_operate,
    }


def _confirm(request: HtmxHttpRequest, task: MigrationTask, action: str) -> HttpResponse:
    require_operator(request.user, task.account)
    context = _context(request, task) | {"action": action, "verdict": task.actions[action]}
    return render(request, "migrations_app/task_confirm.html", context)


def _log(request: HtmxHttpRequest, task: MigrationTask) -> dict[str, Any]:
    """A page of the log. Pages are told apart by the first line that is older, so a long log needs no counting."""
    rows = task.log.order_by("-pk")
    level, query, before = (request.GET.get(name, "").strip() for name in ("level", "q", "before"))
    if level in LogLevel.values:
        rows = rows.filter(level=level)
    for word in query[:200].split():
        rows = rows.filter(message__icontains=word)
    if before.isdecimal() and len(before) < 19:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: LOG_PAGE + 1])
    lines, more = found[:LOG_PAGE], len(found) > LOG_PAGE
    log_url = reverse("task_log", args=[task.public_id])
    state = {key: value for key, value in (("level", level), ("q", query)) if value}
    newest_url = f"{log_url}?{urlencode(state)}" if state else log_url
    return {
        "lines": lines,
        "before": before,
        "level": level,
        "query": query,
        "levels": LogLevel,
        "log_url": log_url,
        "current_url": newest_url,
        "newest_url": newest_url,
        "older_url": f"{log_url}?{urlencode(state | {'before': lines[-1].pk})}" if more else "",
    }
