"""The pages of verifications: the list of a task's, the form, the live page with its differences, downloads, and repairs."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from migrations_app.choices import InspectionKind, InspectionStatus
from migrations_app.forms.verifications import VerificationForm
from migrations_app.models import Difference, Inspection, MigrationTask
from migrations_app.present_verification import KINDS, DifferenceRow, VerificationView
from migrations_app.services import inspections, verification_report, verifications
from migrations_app.views.common import STOP_POLLING, task_context, visible_task
from portal.errors import Invalid, NotPermitted, ServiceError
from portal.htmx import HtmxHttpRequest, render_page, wants_fragment
from portal.listing import Column, Filter, Listing
from portal.services.permissions import require_operator

ROWS = 50
SHOWN = 20  # keys that the question before a repair lists
COLUMNS = (
    Column("", "Select", hidden_label=True),
    Column("key", "Key", ("pk",)),
    Column("kind", "Kind", ("kind",)),
    Column("source", "Source"),
    Column("target", "Target"),
    Column("repair", "Repair", ("repaired_at",)),
)


@require_safe
def verification_list(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    task = visible_task(request, public_id)
    rows = verifications.verifications(task).select_related("requested_by")
    listing = Listing(
        request, rows, columns=(Column("created", "Asked for", ("created_at",)),), default_sort="-created"
    )
    context = task_context(request, task) | {
        "listing": listing,
        "rows": [VerificationView(row) for row in listing.page.object_list],
        "why_not": verifications.why_not_verify(task),
    }
    return render_page(
        request,
        "migrations_app/verification_list.html",
        "migrations_app/_verification_table.html",
        context,
    )


@require_http_methods(["GET", "HEAD", "POST"])
def verification_start(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    task = visible_task(request, public_id)
    require_operator(request.user, task.account)
    form = VerificationForm(request.POST or None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                made = verifications.request_verification(request.user, task, **form.settings())
            except Invalid as refusal:
                form.add_refusal(refusal)
            else:
                return redirect("verification_detail", task.public_id, made.public_id)
    context = task_context(request, task) | {"form": form, "why_not": verifications.why_not_verify(task)}
    return render(request, "migrations_app/verification_start.html", context, status=status)


@require_safe
def verification_detail(request: HtmxHttpRequest, public_id: str, inspection_id: str) -> HttpResponse:
    """The page; for htmx the part that changes, or (with `differences` as the target) the table."""
    task = visible_task(request, public_id)
    inspection = _of_task(task, inspection_id, InspectionKind.VERIFICATION)
    context = task_context(request, task) | _verification(request, task, inspection)
    if wants_fragment(request) and request.htmx.target == "differences":
        return render(request, "migrations_app/_difference_table.html", context)
    over = InspectionStatus(inspection.status).is_final
    return render_page(
        request,
        "migrations_app/verification_detail.html",
        "migrations_app/_verification_live.html",
        context,
        status=STOP_POLLING if over and wants_fragment(request) else 200,
    )


@require_POST
def verification_cancel(request: HtmxHttpRequest, public_id: str, inspection_id: str) -> HttpResponse:
    """Of a verification or a repair."""
    task = visible_task(request, public_id)
    inspection = _of_task(task, inspection_id, InspectionKind.VERIFICATION, InspectionKind.CORRECTION)
    inspections.cancel(request.user, inspection)
    messages.success(request, f"The {inspection.get_kind_display().lower()} ends within seconds.")
    name = "verification_detail" if inspection.kind == InspectionKind.VERIFICATION else "correction_detail"
    return redirect(name, task.public_id, inspection.public_id)


@require_safe
def verification_download(
    request: HtmxHttpRequest, public_id: str, inspection_id: str, form: str
) -> StreamingHttpResponse:
    """`form`: report.txt (for who may see both sides), differences.csv or differences.jsonl."""
    task = visible_task(request, public_id)
    inspection = _of_task(task, inspection_id, InspectionKind.VERIFICATION)
    sides = verifications.visible_sides(request.user, task)
    if form == "differences.csv":
        lines, kind = verification_report.as_csv(inspection, sides), "text/csv"
    elif form == "differences.jsonl":
        lines, kind = verification_report.as_json_lines(inspection, sides), "application/x-ndjson"
    elif form == "report.txt":
        if len(sides) < 2:
            raise NotPermitted(
                "The report holds values of both sides, and you may see those of one side only.",
                advice="Download the differences instead.",
            )
        if inspection.status != InspectionStatus.DONE or "sha256" not in inspection.result:
            raise Http404
        lines, kind = verification_report.report(inspection, inspection.result), "text/plain"
    else:
        raise Http404
    response = StreamingHttpResponse(lines, content_type=f"{kind}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{inspection.public_id}-{form}"'
    return response


@require_POST
def verification_repair(request: HtmxHttpRequest, public_id: str, inspection_id: str) -> HttpResponse:
    """First the question, with the keys that it is about; confirmed, the repair."""
    task = visible_task(request, public_id)
    require_operator(request.user, task.account)
    inspection = _of_task(task, inspection_id, InspectionKind.VERIFICATION)
    back = reverse("verification_detail", args=[task.public_id, inspection.public_id])
    rows = Difference.objects.filter(inspection=inspection)
    if "all" in request.POST:
        chosen = list(rows.filter(repaired_at=None).values_list("pk", flat=True)[: verifications.AT_ONCE])
    else:
        chosen = [
            int(value) for value in request.POST.getlist("key") if value.isdecimal() and len(value) < 19
        ]
    if "confirmed" in request.POST:
        try:
            made = verifications.request_correction(request.user, inspection, chosen)
        except ServiceError as refusal:
            messages.error(request, str(refusal))
            return redirect(back)
        return redirect("correction_detail", task.public_id, made.public_id)
    if not chosen:
        messages.warning(request, "No key was selected. Tick the keys to repair first.")
        return redirect(back)
    found = list(rows.filter(pk__in=chosen[: verifications.AT_ONCE + 1]))
    sides = verifications.visible_sides(request.user, task)
    context = task_context(request, task) | {
        "inspection": inspection,
        "chosen": [row.pk for row in found],
        "rows": [DifferenceRow.of(row, sides) for row in found[:SHOWN]],
        "more": len(found) - SHOWN if len(found) > SHOWN else 0,
        "why_not": verifications.why_not_repair(task),
        "back": back,
    }
    return render(request, "migrations_app/correction_confirm.html", context)


@require_safe
def correction_detail(request: HtmxHttpRequest, public_id: str, inspection_id: str) -> HttpResponse:
    task = visible_task(request, public_id)
    inspection = _of_task(task, inspection_id, InspectionKind.CORRECTION)
    over = InspectionStatus(inspection.status).is_final
    context = task_context(request, task) | {
        "inspection": inspection,
        "repair": VerificationView(inspection),
        "sees_both": len(verifications.visible_sides(request.user, task)) == 2,
    }
    return render_page(
        request,
        "migrations_app/correction_detail.html",
        "migrations_app/_correction_live.html",
        context,
        status=STOP_POLLING if over and wants_fragment(request) else 200,
    )


def _of_task(task: MigrationTask, inspection_id: str, *kinds: InspectionKind) -> Inspection:
    rows = Inspection.objects.select_related("requested_by", "task").filter(task=task, kind__in=kinds)
    return get_object_or_404(rows, public_id=inspection_id)


def _verification(request: HtmxHttpRequest, task: MigrationTask, inspection: Inspection) -> dict[str, Any]:
    sides = verifications.visible_sides(request.user, task)
    context: dict[str, Any] = {
        "inspection": inspection,
        "verification": VerificationView(inspection),
        "sees_both": len(sides) == 2,
    }
    if (
        not InspectionStatus(inspection.status).is_final
        or inspection.parameters.get("mode") != verifications.VALUES
    ):
        return context
    counted = verifications.counts(inspection)
    listing = Listing(
        request,
        Difference.objects.filter(inspection=inspection).select_related("repaired_by"),
        columns=COLUMNS,
        filters=(
            Filter("kind", "Kind", "kind", [(kind, KINDS.get(kind, kind)) for kind in counted["kind"]]),
            Filter(
                "db",
                "Database",
                "database",
                [(str(number), f"DB {number}") for number in counted["database"]],
            ),
        ),
        default_sort="key",
        page_size=ROWS,
    )
    return context | {
        "listing": listing,
        "rows": [DifferenceRow.of(row, sides) for row in listing.page.object_list],
        "why_not_repair": verifications.why_not_repair(task),
        "at_once": verifications.AT_ONCE,
        "has_rows": bool(counted["kind"]),
    }
