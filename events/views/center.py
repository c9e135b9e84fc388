"""The event center: what is pending, what was, and both as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce
from django.http import HttpResponse, QueryDict, StreamingHttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from events import present
from events.choices import FINAL, UNFINISHED, BulkAction, EventStatus, Level
from events.models import Event, EventType
from events.services import attention
from events.services.by import is_event_staff
from events.services.selection import SEARCH
from events.views.common import url_if_there
from portal.htmx import HtmxHttpRequest, render_page
from portal.listing import Column, Filter, Listing
from portal.models import Account
from portal.spreadsheets import as_csv

COLUMNS: Final = (
    Column("", "Select", hidden_label=True),
    Column("type", "Event", ("type__name", "when")),
    Column("instance", "Instance", ("instance_name",)),
    Column("when", "Switchover", ("when",)),
    Column("deadline", "Deadline", ("deadline",)),
    Column("status", "Status", ("status", "when")),
)
PAST_COLUMNS: Final = (
    Column("type", "Event", ("type__name", "finished_at")),
    Column("instance", "Instance", ("instance_name",)),
    Column("finished", "Ended", ("finished_at",)),
    Column("status", "Result", ("status", "finished_at")),
    Column("measured", "Impact", ("measured_seconds",)),
)
WHEN: Final = (
    ("day", "in the next 24 hours"),
    ("week", "in the next 7 days"),
    ("deadline", "deadline in the next 3 days"),
)
PAST: Final = (("7", "in the last 7 days"), ("30", "in the last 30 days"), ("90", "in the last 90 days"))
NEEDS: Final = (
    ("any", "anything now"),
    ("time", "a time to be chosen"),
    ("urgent", "urgent, not acknowledged"),
    ("seen", "not acknowledged"),
    ("soon", "a look: within 24 hours"),
    ("overdue", "overdue"),
    ("work", "a confirmation by staff"),
)
HEADER: Final = (
    "event", "type", "type name", "level", "status", "instance ID", "instance", "account", "region", "zone", "announced", "preparation starts",
    "switchover", "deadline", "deferrals", "acknowledged", "acknowledged by", "started", "switched over", "ended", "typical impact (s)",
    "measured impact (s)", "current version", "target version", "campaign", "simulated", "result",
)  # fmt: skip

ACTIONS: Final = [one for one in BulkAction if one != BulkAction.UNDO]
"""What can be done with many events."""


@require_safe
def event_list(request: HtmxHttpRequest) -> HttpResponse:
    """What waits, is pending, or is in progress; the next one first."""
    listing = pending(request)
    operates = is_event_staff(request.user) or Account.objects.operated_by(request.user).exists()
    context = _context(listing) | {
        "rows": present.views_of(listing.page.object_list),
        "bulk_url": url_if_there("event_bulk_start") if operates else "",
        "actions": ACTIONS,
        "matching": listing.url(page=None).partition("?")[2],
    }
    return render_page(request, "events/event_list.html", "events/_event_table.html", context)


@require_safe
def event_history(request: HtmxHttpRequest) -> HttpResponse:
    """What has ended, the last one first."""
    listing = past(request)
    context = _context(listing) | {"rows": present.views_of(listing.page.object_list)}
    return render_page(request, "events/event_history.html", "events/_event_past_table.html", context)


@require_safe
def event_export(request: HtmxHttpRequest) -> StreamingHttpResponse:
    """The rows of the list with its search and filters; `?list=history` those of the history. Times are UTC."""
    of_history = request.GET.get("list") == "history"
    listing = past(request) if of_history else pending(request)
    response = StreamingHttpResponse(
        as_csv(HEADER, _cells(listing.selected())), content_type="text/csv; charset=utf-8"
    )
    name = f"events-{'history' if of_history else 'pending'}-{timezone.now():%Y%m%d-%H%M}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def matching(request: HtmxHttpRequest, query: str) -> QuerySet[Event]:
    """All pending events that the list shows at this address: for what is done to "all that match"."""
    asked = copy(request)
    asked.GET = QueryDict(query)
    return pending(asked).selected()


def pending(request: HtmxHttpRequest) -> Listing:
    now = timezone.now()
    rows = _rows(request).filter(status__in=UNFINISHED)

    def when(value: str) -> Q:
        if value == "deadline":
            return Q(deadline__lte=now + timedelta(days=3))
        # Without a time it is by its deadline at the latest.
        return Q(when__lte=now + (timedelta(days=1) if value == "day" else timedelta(days=7)))

    def needs(value: str) -> Q:
        return {
            "any": attention.needing(now),
            "time": attention.waits_for_a_time(),
            "urgent": attention.urgent_and_not_seen(),
            "seen": attention.not_seen(),
            "soon": attention.near(now),
            "overdue": attention.overdue(now),
            "work": attention.waits_for_staff(),
        }[value]

    return Listing(
        request,
        rows.annotate(when=Coalesce("switch_at", "deadline")),
        columns=COLUMNS,
        filters=[
            Filter("needs", "Needs", "", NEEDS, where=needs),
            Filter("when", "When", "", WHEN, where=when),
            *_filters(UNFINISHED),
        ],
        search=SEARCH,
        default_sort="when",
    )


def past(request: HtmxHttpRequest) -> Listing:
    now = timezone.now()

    def ended(days: str) -> Q:
        return Q(finished_at__gte=now - timedelta(days=int(days)))

    return Listing(
        request,
        _rows(request).filter(status__in=FINAL),
        columns=PAST_COLUMNS,
        filters=[Filter("when", "Ended", "", PAST, where=ended), *_filters(FINAL)],
        search=SEARCH,
        default_sort="-finished",
    )


def _rows(request: HtmxHttpRequest) -> QuerySet[Event]:
    return Event.objects.visible_to(request.user).select_related("type", "account", "campaign")


def _filters(statuses: tuple[EventStatus, ...]) -> list[Filter]:
    types = EventType.objects.order_by("name").values_list("code", "name")
    return [
        Filter("status", "Status", "status", [(one.value, one.label) for one in statuses]),
        Filter("level", "Level", "level", Level.choices),
        Filter("type", "Type", "type__code", list(types)),
        Filter("region", "Region", "region"),
        Filter("account", "Account", "account__name"),
    ]


def _context(listing: Listing) -> dict[str, Any]:
    return {"listing": listing, "export_query": listing.url(page=None).partition("?")[2]}


def _cells(rows: QuerySet[Event]) -> Iterator[tuple[object, ...]]:
    for event in rows.iterator(chunk_size=1000):
        yield (
            event.public_id,
            event.type.code,
            event.type.name,
            event.level,
            event.status,
            event.instance_public_id,
            event.instance_name,
            event.account.name,
            event.region,
            event.zone,
            _moment(event.created_at),
            _moment(event.starts_at),
            _moment(event.switch_at),
            _moment(event.deadline),
            event.deferrals,
            _moment(event.acknowledged_at),
            event.acknowledged_by,
            _moment(event.started_at),
            _moment(event.switched_at),
            _moment(event.finished_at),
            event.impact_seconds,
            "" if event.measured_seconds is None else event.measured_seconds,
            event.version_from,
            event.version_to,
            event.campaign.public_id if event.campaign else "",
            "yes" if event.is_simulated else "no",
            event.result,
        )


def _moment(value: datetime | None) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if value else ""
