"""What the newest precheck of a task has found, to be looked at also while the task runs."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from migrations_app.choices import InspectionKind, Outcome
from migrations_app.models import IgnoredItem
from migrations_app.services import inspections
from migrations_app.views.common import task_context, visible_task
from portal.htmx import HtmxHttpRequest


@require_safe
def task_checks(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """Each item with its outcome; of one that is ignored, who took the risk, and why."""
    task = visible_task(request, public_id)
    newest = inspections.newest(task, InspectionKind.PRECHECK)
    ignored = {
        (one.code, one.side): one for one in IgnoredItem.objects.filter(task=task).select_related("by")
    }
    rows = [
        {
            "item": item,
            "outcome": Outcome(item.outcome),
            "ignored": ignored.get((item.code, item.side)) if item.outcome == Outcome.IGNORED else None,
        }
        for item in (newest.items.all() if newest else ())
    ]
    context = task_context(request, task) | {"inspection": newest, "rows": rows}
    return render(request, "migrations_app/task_checks.html", context)
