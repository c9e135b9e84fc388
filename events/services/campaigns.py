"""Campaigns as staff look at them: how far each has come."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Count, QuerySet

from events.choices import EventStatus
from events.models import Campaign, Event
from events.services.by import By, may_publish
from portal.errors import NotFound, NotPermitted
from portal.models import Account


def visible(by: By, account: Account | None = None) -> QuerySet[Campaign]:
    """All of them for staff who publish events; others see single events. `account`: those with events of this one.

    Raises NotPermitted.
    """
    if by.contact is not None or not may_publish(by.user):
        raise NotPermitted(
            "Campaigns go over many accounts, so that staff alone see them.",
            advice="Look at the events of your accounts.",
        )
    rows = Campaign.objects.select_related("type", "created_by")
    if account is not None:
        rows = rows.filter(pk__in=Event.objects.filter(account=account).values("campaign"))
    return rows


def get(by: By, public_id: str, account: Account | None = None) -> Campaign:
    """Raises NotPermitted, NotFound."""
    found = visible(by, account).filter(public_id=public_id).first()
    if found is None:
        raise NotFound(f"There is no campaign {public_id}.", id="event.no_campaign")
    return found


def counts_of(
    campaigns: Iterable[Campaign], account: Account | None = None
) -> dict[int, dict[EventStatus, int]]:
    """By the primary key of the campaign, its events by status, in the order of the statuses. One query."""
    keys = [one.pk for one in campaigns]
    rows = Event.objects.filter(campaign__in=keys)
    if account is not None:
        rows = rows.filter(account=account)
    counted = {
        (campaign, status): count
        for campaign, status, count in rows.order_by()
        .values_list("campaign", "status")
        .annotate(count=Count("pk"))
    }
    return {
        key: {status: counted[key, status] for status in EventStatus if (key, status) in counted}
        for key in keys
    }
