"""Campaigns: which there are, and how far each has come. For staff who publish events."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from events import present
from events.choices import OPEN, EventStatus
from events.services import campaigns
from events.services.selection import Selection
from events.views import center
from events.views.common import person, url_if_there
from portal.htmx import HtmxHttpRequest, render_page
from portal.listing import Column, Filter, Listing

COLUMNS: Final = (
    Column("name", "Campaign", ("name",)),
    Column("type", "Type", ("type__name", "name")),
    Column("created", "Published", ("created_at",)),
    Column("", "Events"),
)
EVENT_COLUMNS: Final = (
    Column("instance", "Instance", ("instance_name",)),
    Column("account", "Account", ("account__name", "instance_name")),
    Column("when", "Switchover", ("switch_at", "instance_name")),
    Column("status", "Status", ("status", "instance_name")),
)


@require_safe
def campaign_list(request: HtmxHttpRequest) -> HttpResponse:
    listing = Listing(
        request,
        campaigns.visible(person(request)),
        columns=COLUMNS,
        search=("name", "public_id", "type__name", "description"),
        default_sort="-created",
    )
    found: list[Any] = listing.rows
    counts = campaigns.counts_of(found)
    context = {"listing": listing, "rows": [(one, counts[one.pk]) for one in found]}
    return render_page(request, "events/campaign_list.html", "events/_campaign_table.html", context)


@require_safe
def campaign_detail(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    campaign = campaigns.get(person(request), public_id)
    rows = campaign.events.select_related("type", "account", "campaign")
    listing = Listing(
        request,
        rows,
        columns=EVENT_COLUMNS,
        filters=[
            Filter("status", "Status", "status", EventStatus.choices),
            Filter("region", "Region", "region"),
            Filter("account", "Account", "account__name"),
        ],
        search=("instance_name", "instance_public_id", "public_id"),
        default_sort="when",
    )
    counts = campaigns.counts_of([campaign])[campaign.pk]
    total = sum(counts.values())
    ended = sum(count for status, count in counts.items() if status.is_final)
    events: list[Any] = list(listing.page.object_list)
    chosen = campaign.selection.get("filter")
    context = {
        "campaign": campaign,
        "listing": listing,
        "rows": [present.EventView(one) for one in events],
        "counts": counts,
        "total": total,
        "ended": ended,
        "percent": 100 * ended // total if total else 0,
        "open_count": sum(counts.get(status, 0) for status in OPEN),
        "bulk_url": url_if_there("event_bulk_start"),
        "actions": center.ACTIONS,
        "is_simulated": campaign.events.filter(executor="simulated").exists(),
        "left_out": campaign.selection.get("left_out", []),
        "left_out_count": campaign.selection.get("left_out_count", 0),
        "words": Selection(**chosen).words if chosen is not None else [],
    }
    return render_page(request, "events/campaign_detail.html", "events/_campaign_events.html", context)
