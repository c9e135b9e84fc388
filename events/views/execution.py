"""How the work of an event goes, and the page on which staff confirm what they have done."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from events.forms.execution import ConfirmForm, FailureForm
from events.models import Event, EventStage
from events.services import execution
from events.services.by import By
from events.views.common import person, visible_event
from portal.errors import NotPermitted, ServiceError
from portal.htmx import HtmxHttpRequest


def context_of(event: Event, by: By) -> dict[str, Any]:
    """For `events/_stages.html` and `events/_confirm_link.html`."""
    waiting = execution.waiting_stage(event)
    return {
        "stages": list(event.stages.all()),
        "waiting_stage": waiting,
        "may_confirm": waiting is not None and execution.may_carry_out(by),
    }


@require_http_methods(["GET", "HEAD", "POST"])
def event_confirm(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """What the person has to do now; POST says that it is done (`do=done`), or that it has failed (`do=failed`)."""
    event, by = visible_event(request, public_id), person(request)
    if not execution.may_carry_out(by):
        raise NotPermitted(
            "The work of events is confirmed by staff. Nothing was changed.",
            advice="Ask an administrator for the permission to change events.",
        )
    waiting = execution.waiting_stage(event)
    if request.method != "POST":
        return _page(request, event, by, waiting)
    seen = request.POST.get("stage", "")
    if waiting is None or waiting.code != seen:
        messages.warning(
            request,
            "This stage does not wait for a confirmation any more, so nothing was changed. This is how the event stands now.",
        )
        return redirect(event)
    failed = request.POST.get("do") == "failed"
    form = FailureForm(request.POST) if failed else ConfirmForm(request.POST, stage=waiting)
    status = 422
    if form.is_valid():
        data = form.cleaned_data
        try:
            if failed:
                execution.report_failure(by, event, data["reason"], seen)
            else:
                execution.confirm(by, event, seen, data.get("impact_seconds"), data["note"])
        except ServiceError as error:
            form.add_refusal(error)
            status = error.status
        else:
            messages.success(request, f"“{waiting.name}” was noted as {'failed' if failed else 'done'}.")
            return redirect(event)
    return _page(request, event, by, waiting, form, status=status)


def _page(
    request: HtmxHttpRequest,
    event: Event,
    by: By,
    waiting: EventStage | None,
    form: ConfirmForm | FailureForm | None = None,
    *,
    status: int = 200,
) -> HttpResponse:
    context = context_of(event, by) | {"event": event, "form": form}
    if waiting is not None:
        context |= {
            "done": form if isinstance(form, ConfirmForm) else ConfirmForm(stage=waiting),
            "failed": form if isinstance(form, FailureForm) else FailureForm(),
        }
    return render(request, "events/event_confirm.html", context, status=status)
