"""The overview: what there is, and what needs a person."""

from __future__ import annotations

from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from portal.choices import InstanceStatus
from portal.htmx import HtmxHttpRequest
from portal.models import Account, AuditEntry, Instance
from portal.navigation import home_panels


@require_safe
def home(request: HtmxHttpRequest) -> HttpResponse:
    instances = Instance.objects.fleet().visible_to(request.user)
    counts = instances.aggregate(
        total=Count("pk"),
        online=Count("pk", filter=Q(status=InstanceStatus.ONLINE)),
        unreachable=Count("pk", filter=Q(status=InstanceStatus.UNREACHABLE)),
    )
    troubled = instances.exclude(status=InstanceStatus.ONLINE).select_related("account", "endpoint")
    versions = (
        instances.exclude(compatible_version="")
        .values("edition", "compatible_version")
        .annotate(count=Count("pk"))
        .order_by("edition", "compatible_version")
    )
    accounts = Account.objects.visible_to(request.user)
    context = {
        "counts": counts,
        "account_count": accounts.count(),
        "can_register": Account.objects.operated_by(request.user).exists(),
        "troubled": troubled.order_by("-status", "name")[:8],  # unreachable before unknown
        "versions": versions,
        "recent": AuditEntry.objects.visible_to(request.user).select_related("account")[:8],
        "panels": [panel(request) for panel in home_panels()],
    }
    return render(request, "portal/home.html", context)
