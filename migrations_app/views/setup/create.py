"""The beginning of a set-up: a draft, in an account of the person's choice if there are several."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from migrations_app.forms.sides import DraftForm
from migrations_app.services import sides, tasks
from migrations_app.views.setup.shell import KEYS
from portal.htmx import HtmxHttpRequest


@require_http_methods(["GET", "HEAD", "POST"])
def task_create(request: HtmxHttpRequest) -> HttpResponse:
    """GET asks for the account, POST makes the draft. With one account the buttons of other pages post at once."""
    template = "migrations_app/setup_create.html"
    if request.method != "POST":
        return render(request, template, {"form": DraftForm(user=request.user, initial=request.GET.dict())})
    form = DraftForm(request.POST, user=request.user)
    if "account" not in request.POST and len(form.offered) > 1:
        # A button of another page, which does not know of the choice.
        return render(request, template, {"form": DraftForm(user=request.user)})
    if not form.is_valid():
        return render(request, template, {"form": form}, status=422)
    task = tasks.create_draft(request.user, form.cleaned_data["account"])
    if source := form.source():
        sides.choose_instance(request.user, task, "source", source)
    return redirect("task_setup", task.public_id, KEYS[0])
