"""The log of a task: a page of it, what has come since, and the whole of it as a file."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from migrations_app import logbook
from migrations_app.choices import LogLevel
from migrations_app.models import MigrationTask
from migrations_app.views.common import STOP_POLLING, visible_task
from portal.errors import Invalid
from portal.htmx import HtmxHttpRequest, render_page


@require_safe
def task_log(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """The log alone, newest line first: for htmx its rows, else a page of its own."""
    task = visible_task(request, public_id)
    context = {"task": task} | context_of(request, task)
    return render_page(request, "migrations_app/task_log.html", "migrations_app/_task_log.html", context)


@require_safe
def task_log_tail(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """Rows for htmx: the lines behind `after`, of which the page `have`s so many. 204 if there is nothing new, 286 at the end.

    Lines are numbered before they are committed, so a line may appear below one that is shown already: those of the last
    seconds are sent again until none can come between them.
    """
    task = visible_task(request, public_id)
    choice = logbook.Choice.of(request.GET)
    after, have, shown = (_number(request, name) or 0 for name in ("after", "have", "shown"))
    lines = logbook.since(task, choice, after)
    final = task.is_over
    if len(lines) > logbook.FRESH or (len(lines) > have and shown + len(lines) > logbook.SHOWN):
        # Too much to be put on top of what is there.
        context = {"task": task} | context_of(request, task)
        response = render(request, "migrations_app/_task_log.html", context)
        response.headers["HX-Retarget"], response.headers["HX-Reswap"] = "#log", "innerHTML"
        return response
    if len(lines) == have and not final:
        return HttpResponse(status=204)
    anchor = max(after, logbook.anchor_of(lines)) if lines else after
    fresh = [line for line in lines if line.pk > anchor]
    settled = [line for line in lines if line.pk <= anchor]
    context = {
        "task": task,
        "fresh": fresh,
        "settled": settled,
        "tail_url": _tail_url(task, choice, anchor, len(fresh), shown + len(settled)),
    }
    return render(request, "migrations_app/_log_tail.html", context, status=STOP_POLLING if final else 200)


@require_safe
def task_log_download(request: HtmxHttpRequest, public_id: str) -> HttpResponseBase:
    """All lines that fit the level and the words, sent while they are read."""
    task = visible_task(request, public_id)
    form = request.GET.get("format", "text")
    if form not in logbook.FORMATS:
        raise Invalid(f"The log is not to be had as “{form[:20]}”.", advice="Choose csv, jsonl or text.")
    response = StreamingHttpResponse(
        logbook.export(task, logbook.Choice.of(request.GET), form),
        content_type=f"{logbook.FORMATS[form]}; charset=utf-8",
    )
    ending = "txt" if form == "text" else form
    response.headers["Content-Disposition"] = f'attachment; filename="{task.public_id}-log.{ending}"'
    return response


def context_of(request: HtmxHttpRequest, task: MigrationTask) -> dict[str, Any]:
    """A page of the log. Pages are told apart by the first line that is older, so a long log needs no counting."""
    choice = logbook.Choice.of(request.GET)
    before = _number(request, "before")
    found = logbook.page(task, choice, before)
    log_url = reverse("task_log", args=[task.public_id])
    newest_url = f"{log_url}?{urlencode(choice.state)}" if choice.state else log_url
    fresh = [line for line in found.lines if line.pk > found.anchor]
    return {
        "lines": found.lines,
        "fresh": fresh,
        "settled": found.lines[len(fresh) :],
        "searched": found.searched,
        "before": before,
        "level": choice.level,
        "query": choice.query,
        "levels": LogLevel,
        "log_url": log_url,
        "newest_url": newest_url,
        "older_url": f"{log_url}?{urlencode(choice.state | {'before': found.older})}" if found.older else "",
        "tail_url": _tail_url(task, choice, found.anchor, len(fresh), len(found.lines) - len(fresh)),
        "downloads": [
            (
                name,
                f"{reverse('task_log_download', args=[task.public_id])}?{urlencode(choice.state | {'format': form})}",
            )
            for name, form in (("text", "text"), ("CSV", "csv"), ("JSON lines", "jsonl"))
        ],
    }


def _tail_url(task: MigrationTask, choice: logbook.Choice, after: int, have: int, shown: int) -> str:
    state: dict[str, Any] = {**choice.state, "after": after, "have": have, "shown": shown}
    return f"{reverse('task_log_tail', args=[task.public_id])}?{urlencode(state)}"


def _number(request: HtmxHttpRequest, name: str) -> int | None:
    value = request.GET.get(name, "").strip()
    return int(value) if value.isdecimal() and len(value) < 19 else None
