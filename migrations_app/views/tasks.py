"""The list of the migration tasks, the live page of one, and its charts."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from migrations_app import bulk, present
from migrations_app.choices import Phases, TaskStatus
from migrations_app.models import MigrationTask, TaskAlert
from migrations_app.operation import Operation
from migrations_app.services import alerts, sharing
from migrations_app.views import log, shared
from migrations_app.views.common import STOP_POLLING, task_context, visible_task
from migrations_app.views.setup import shell
from portal.htmx import HtmxHttpRequest, render_page, wants_fragment
from portal.listing import Column, Filter, Listing
from portal.models import Account, Instance

COLUMNS = (
    Column("", "Select", hidden_label=True),
    Column("name", "Task", ("name",)),
    Column("status", "Status and alerts", ("status", "name")),
    Column("route", "Source and target", ("source__name", "target__name")),
    Column("phases", "Phases", ("phases", "name")),
    Column("progress", "Progress", ("link__progress__percent",)),
    Column("lag", "Lag", ("link__progress__lag_bytes",), css="num"),
    Column("speed", "Speed", ("link__progress__bytes_per_second",), css="num"),
    Column("created", "Created", ("created_at",)),
)
SEARCH = ("name", "public_id", "source__name", "target__name", "account__name")


@require_safe
def task_list(request: HtmxHttpRequest) -> HttpResponse:
    rows = MigrationTask.objects.visible_to(request.user).select_related(
        "account", "source", "target", "link__progress"
    )
    listing = Listing(
        request,
        # Counted for the rows of a page only: a join would count for all before the page is cut out.
        rows.annotate(alert_count=_alert_count()),
        columns=COLUMNS,
        filters=_filters(request),
        search=SEARCH,
        default_sort="-created",
    )
    context: dict[str, Any] = {
        "listing": listing,
        "rows": [present.TaskView(task) for task in listing.page.object_list],
        "can_create": Account.objects.operated_by(request.user).exists(),
        "shared_count": sharing.shared_with(request.user).count(),
        "kinds": bulk.KINDS.values(),
    }
    return render_page(request, "migrations_app/task_list.html", "migrations_app/_task_table.html", context)


def _alert_count() -> Coalesce:
    """The alerts of a task that were told and are not over."""
    open_ones = TaskAlert.objects.filter(
        task=OuterRef("pk"), resolved_at__isnull=True, raised_at__isnull=False
    )
    counted = open_ones.order_by().values("task").annotate(count=Count("pk"))
    return Coalesce(Subquery(counted.values("count")), 0)


def _filters(request: HtmxHttpRequest) -> list[Filter]:
    names = Account.objects.visible_to(request.user).order_by("name").values_list("name", flat=True)
    regions = Instance.objects.visible_to(request.user).fleet().exclude(region="")
    known = regions.order_by("region").values_list("region", flat=True).distinct()
    return [
        Filter("status", "Status", "status", TaskStatus.choices),
        Filter("phases", "Phases", "phases", Phases.choices),
        Filter("account", "Account", "account__name", [(name, name) for name in names]),
        Filter("region", "Region", "", [(name, name) for name in known], where=_in_region),
        Filter("alerts", "Alerts", "", [("open", "with open alerts")], where=_with_alerts),
    ]


def _in_region(region: str) -> Q:
    return Q(source__region=region) | Q(target__region=region)


def _with_alerts(_: str) -> Q:
    open_ones = TaskAlert.objects.filter(resolved_at__isnull=True, raised_at__isnull=False)
    return Q(pk__in=open_ones.values("task"))


@require_safe
def task_detail(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """The page, or for htmx its live part, which ends with 286 once nothing changes any more.

    Who owns only an instance that the task uses under a role gets a reduced page.
    """
    if (other := shared.page_of(request, public_id)) is not None:
        return other
    task = visible_task(request, public_id)
    status = STOP_POLLING if wants_fragment(request) and task.is_over else 200
    context = task_context(request, task)
    context["operation"] = operation = Operation(context["view"])
    if task.actions["configure"].open or task.status == TaskStatus.PRECHECKING:
        context["setup_url"] = reverse("task_setup", args=[task.public_id, shell.where_left(task)])
        context["precheck_url"] = reverse("task_setup", args=[task.public_id, "precheck"])
    if not wants_fragment(request):
        context |= log.context_of(request, task) | alerts.context_of(task)
    if not wants_fragment(request) or status == STOP_POLLING:
        context |= operation.charts(request.GET.get("charts", ""))
    return render_page(
        request, "migrations_app/task_detail.html", "migrations_app/_task_poll.html", context, status=status
    )


@require_safe
def task_charts(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """The charts of the last hour or day (`?charts=day`): for htmx alone, else a page of their own."""
    task = visible_task(request, public_id)
    context = task_context(request, task)
    context |= Operation(context["view"]).charts(request.GET.get("charts", ""))
    return render_page(
        request, "migrations_app/task_charts.html", "migrations_app/_task_charts.html", context
    )
