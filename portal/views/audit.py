"""The audit log of the person's accounts."""

from __future__ import annotations

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from portal.htmx import HtmxHttpRequest, render_page
from portal.listing import Column, Filter, Listing
from portal.models import AuditEntry

COLUMNS = (
    Column("at", "When", ("at",)),
    Column("actor", "Who", ("actor_name", "at")),
    Column("action", "Action", ("action", "at")),
    Column("object", "Object", ("object_name", "at")),
    Column("account", "Account", ("account__name", "at")),
    Column("", "Details"),
)
FILTERS = (
    Filter("action", "Action", "action"),
    Filter("actor", "Who", "actor_name"),
    Filter("account", "Account", "account__name"),
)


@require_safe
def audit_list(request: HtmxHttpRequest) -> HttpResponse:
    listing = Listing(
        request,
        AuditEntry.objects.visible_to(request.user).select_related("account"),
        columns=COLUMNS,
        filters=FILTERS,
        search=("action", "object_id", "object_name", "actor_name"),
        default_sort="-at",
        page_size=50,
    )
    return render_page(request, "portal/audit_list.html", "portal/_audit_table.html", {"listing": listing})
