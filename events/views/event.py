"""The page of one event: what happens to which server and when, what may be done, and what was."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from events import present, timeline
from events.models import Event
from events.services import scheduling, telling
from events.services.by import may_handle, may_publish
from events.views import execution
from events.views.common import STOP_POLLING, person, visible_event
from portal.htmx import HtmxHttpRequest, render_page, wants_fragment
from portal.services import windows
from portal.services.permissions import role_in

LINES: Final = 200


@require_safe
def event_detail(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """The page, or for htmx its live part, which ends with 286 once nothing changes by itself any more."""
    event = visible_event(request, public_id)
    by = person(request)
    view = present.EventView(event, by=by, waits=scheduling.waits_for(event))
    stops = wants_fragment(request) and not view.is_live
    context: dict[str, Any] = {
        "event": event,
        "view": view,
        "can_handle": may_handle(by, event),
        **execution.context_of(event, by),
        "timeline": timeline.of(event, request.user),
        "log": list(event.log.order_by("-pk")[:LINES])[::-1],
    }
    if not wants_fragment(request):
        context |= _frame(request, event)
    return render_page(
        request,
        "events/event_detail.html",
        "events/_event_poll.html",
        context,
        status=STOP_POLLING if stops else 200,
    )


def _frame(request: HtmxHttpRequest, event: Event) -> dict[str, Any]:
    """What does not change while it runs."""
    instance = event.instance
    found: dict[str, Any] = {
        # Staff who look after events need not be members of the account: its pages are closed to them.
        "is_member": role_in(request.user, event.account) is not None,
        "campaign_url": _campaign_url(request, event),
    }
    if instance is not None and event.is_open:
        row = windows.rows_for([instance]).get(instance.pk)
        found |= {"window": row, "told": telling.contacts_in_order(event), "asks_told": True}
        if event.is_urgent and event.acknowledged_at is None:
            found["escalation_minutes"] = settings.EVENT_ESCALATION_MINUTES
    return found


def _campaign_url(request: HtmxHttpRequest, event: Event) -> str:
    """Its page is for those who publish; others see its events in the list."""
    if event.campaign is None:
        return ""
    if may_publish(request.user):
        return event.campaign.get_absolute_url()
    return f"{reverse('event_list')}?{urlencode({'q': event.campaign.public_id})}"
