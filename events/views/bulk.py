"""Many events at once: what is to be done with the chosen ones, its preview, its progress and what became of each."""

from __future__ import annotations

from typing import Any, Final, cast

from django.contrib import messages
from django.db.models import Case, IntegerField, QuerySet, Value, When
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from events.choices import BulkAction, RowOutcome
from events.forms.bulk import FORMS
from events.models import BulkChange, BulkRow, Event
from events.present_bulk import BulkView, reasons_of, row_views
from events.services import bulk
from events.views import center
from events.views.common import STOP_POLLING, person
from portal.errors import Invalid
from portal.htmx import HtmxHttpRequest, render_page, wants_fragment
from portal.listing import Column, Filter, Listing

SEARCH: Final = (
    "event__public_id",
    "event__instance_name",
    "event__instance_public_id",
    "event__type__name",
)
FIRST: Final = {RowOutcome.LOST: 0, RowOutcome.REFUSED: 1}  # what needs somebody, before all the others


@require_POST
def event_bulk_start(request: HtmxHttpRequest) -> HttpResponse:
    """What the list of events sends: `event` (IDs), or `all` with the `query` of the list; and `action`. Asks what the action needs to
    know, then leads to the preview."""
    action = _action(request.POST.get("action", ""))
    if action is None:
        messages.warning(request, "No action was chosen, so nothing was changed. Choose what to do first.")
        return redirect("event_list")
    chosen = _chosen(request)
    form_class = FORMS.get(action)
    sent = request.POST if "planned" in request.POST else None
    form = form_class(sent) if form_class is not None else None
    count = chosen.count() if isinstance(chosen, QuerySet) else len(chosen)
    if count and (form is None or form.is_valid()):
        try:
            change = bulk.plan(person(request), action, chosen, form.cleaned_data if form else {})
        except Invalid as refusal:
            if form is None or not refusal.field:
                messages.warning(request, str(refusal))
                return redirect("event_list")
            form.add_refusal(refusal)
        else:
            return redirect(change)
    if not count or form is None:
        messages.warning(request, "No event was selected, so nothing was changed. Tick the events first.")
        return redirect("event_list")
    context = {
        "form": form,
        "action": action,
        "events": chosen if isinstance(chosen, list) else [],
        "query": request.POST.get("query", ""),
        "all": isinstance(chosen, QuerySet),
        "count": count,
    }
    return render(request, "events/bulk_start.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def event_bulk(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """The preview, the progress, the results; for htmx the part that changes, or (with `rows` as the target) the table. POST applies or
    undoes it."""
    change = bulk.get_bulk(request.user, public_id)
    if request.method == "POST":
        return _do(request, change)
    view = BulkView(change, request.user)
    context: dict[str, Any] = {"view": view, "bulk": change}
    if not view.is_under_way:
        context["listing"] = listing = _listing(request, change)
        context["rows"] = row_views(cast("list[BulkRow]", listing.rows))
    if wants_fragment(request) and request.htmx.target == "rows":
        return render(request, "events/_bulk_table.html", context)
    over = wants_fragment(request) and not view.is_under_way
    return render_page(
        request, "events/bulk.html", "events/_bulk_live.html", context, status=STOP_POLLING if over else 200
    )


def _do(request: HtmxHttpRequest, change: BulkChange) -> HttpResponse:
    if request.POST.get("do") == "undo":
        return redirect(bulk.undo(person(request), change))
    if request.POST.get("do") == "apply":
        bulk.apply(person(request), change)
    return redirect(change)


def _action(value: str) -> BulkAction | None:
    return BulkAction(value) if value in BulkAction.values and value != BulkAction.UNDO else None


def _chosen(request: HtmxHttpRequest) -> QuerySet[Event] | list[str]:
    if "all" in request.POST:
        return center.matching(request, request.POST.get("query", ""))
    return list(dict.fromkeys(request.POST.getlist("event")))


def _listing(request: HtmxHttpRequest, change: BulkChange) -> Listing:
    rank = Case(
        *(When(outcome=outcome, then=Value(place)) for outcome, place in FIRST.items()),
        default=Value(len(FIRST)),
        output_field=IntegerField(),
    )
    rows: QuerySet[BulkRow] = change.rows.select_related(
        "event__type", "event__account", "event__instance"
    ).annotate(rank=rank)
    moves = BulkView(change, request.user).moves
    columns = [
        Column("event", "Event", ("event__instance_name",)),
        Column("old", "Switchover now" if change.applied_at is None else "Before", ("old_switch_at",)),
        *([Column("new", "New time", ("new_switch_at",))] if moves else []),
        Column("deadline", "Deadline", ("event__deadline",)),
        Column("outcome", "Result", ("rank", "position")),
    ]
    return Listing(
        request,
        rows,
        columns=columns,
        filters=[
            Filter("outcome", "Result", "outcome", RowOutcome.choices),
            Filter("why", "Reason", "refusal_id", reasons_of(change)),
        ],
        search=SEARCH,
        default_sort="outcome",
    )
