"""Staff publish events: type, instances, times and texts; then the preview of what becomes of each; then they are there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from events.forms.publish import PublishForm
from events.models import Campaign, EventType
from events.services import publishing
from events.services.by import require_publisher
from events.services.drafts import type_called
from events.services.plans import Plan, Row
from events.services.selection import Selection
from events.views.common import person
from portal.errors import ServiceError
from portal.htmx import HtmxHttpRequest

PAGE: Final = 50
SHOWN: Final = {
    "all": "All",
    "published": "Will be published",
    "refused": "Left out",
    "warned": "With warnings",
}


@dataclass(frozen=True, slots=True)
class Summary:
    """What stands above the rows."""

    published: int
    left_out: int
    waiting: int
    nobody: int
    contacts: int
    first: datetime | None
    last: datetime | None
    shortest: timedelta | None
    refusals: list[tuple[str, int]]
    warnings: list[tuple[str, int]]


@require_http_methods(["GET", "HEAD", "POST"])
def event_publish(request: HtmxHttpRequest) -> HttpResponse:
    """GET: the types, or the form of one (`?type=`). POST: `step` preview, edit or publish; what was entered goes along each time."""
    require_publisher(person(request))
    code = request.POST.get("type") or request.GET.get("type", "")
    if not code:
        kinds = EventType.objects.filter(is_active=True).order_by("name")
        return render(request, "events/publish_types.html", {"kinds": kinds})
    kind = type_called(code)
    if request.method != "POST":
        ids = request.GET.getlist("instance")
        initial = {"choose_by": "list", "instances": "\n".join(ids)} if ids else {}
        return _form(request, PublishForm(kind=kind, initial=initial))
    form = PublishForm(request.POST, kind=kind)
    step = request.POST.get("step", "preview")
    if step == "edit" or not form.is_valid():
        return _form(request, form, status=200 if step == "edit" else 422)
    try:
        if step == "publish":
            return _published(request, form)
        return _preview(request, form)
    except ServiceError as error:
        if error.id == "event.plan_changed":
            return _preview(request, form, error)
        form.add_refusal(error)
        # The page is there; it is an ID in the form that is not.
        return _form(request, form, status=422 if error.status == 404 else error.status)


def _form(request: HtmxHttpRequest, form: PublishForm, *, status: int = 200) -> HttpResponse:
    context = {"form": form, "kind": form.kind, "zone": timezone.get_current_timezone_name()}
    return render(request, "events/publish_form.html", context, status=status)


def _published(request: HtmxHttpRequest, form: PublishForm) -> HttpResponse:
    made = publishing.publish(person(request), form.draft(), seen=request.POST.get("seen", ""))
    if isinstance(made, Campaign):
        count = made.events.count()
        messages.success(
            request, f"{count} event{'' if count == 1 else 's'} published. Contacts are being told."
        )
    else:
        messages.success(
            request, f"{made.type.name} of {made.instance_name} is published. Contacts are being told."
        )
    return redirect(made)


def _preview(request: HtmxHttpRequest, form: PublishForm, error: ServiceError | None = None) -> HttpResponse:
    draft = form.draft()
    plan = publishing.preview(person(request), draft)
    shown = request.POST.get("show") or request.GET.get("show", "all")
    shown = shown if shown in SHOWN else "all"
    rows = _rows(plan, shown)
    page: Page[Row] = Paginator(rows, PAGE).get_page(request.POST.get("page", "1"))
    context: dict[str, Any] = {
        "form": form,
        "kind": form.kind,
        "plan": plan,
        "terms": plan.terms,
        "draft": draft,
        "chosen": draft.instances.words if isinstance(draft.instances, Selection) else [],
        "summary": _summary(plan),
        "page": page,
        "shown": shown,
        "choices": [(key, label, len(_rows(plan, key))) for key, label in SHOWN.items()],
        "error": error,
    }
    return render(request, "events/publish_preview.html", context, status=error.status if error else 200)


def _rows(plan: Plan, shown: str) -> list[Row]:
    if shown == "published":
        return plan.published
    if shown == "refused":
        return plan.left_out
    if shown == "warned":
        return [row for row in plan.published if row.warnings]
    return plan.rows


def _summary(plan: Plan) -> Summary:
    rows = plan.published
    times = [row.switch_at for row in rows if row.switch_at is not None]
    refusals = Counter(row.refusal.id for row in plan.left_out if row.refusal)
    examples = {row.refusal.id: row.reason for row in plan.left_out if row.refusal}
    return Summary(
        published=len(rows),
        left_out=len(plan.left_out),
        waiting=sum(row.switch_at is None for row in rows),
        nobody=sum(not row.told for row in rows),
        contacts=len({(row.instance.account_id, one.name) for row in rows for one in row.told}),
        first=min(times, default=None),
        last=max(times, default=None),
        shortest=min((row.notice for row in rows), default=None),
        refusals=[(examples[key], count) for key, count in refusals.most_common()],
        warnings=Counter(one.summary for row in rows for one in row.warnings).most_common(),
    )
