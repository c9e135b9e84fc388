"""The log of deliveries of an account: what was sent to whom, over which channel, and what became of it."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from portal.choices import Category, ChannelKind, DeliveryStatus
from portal.errors import Conflict
from portal.htmx import HtmxHttpRequest, wants_fragment
from portal.listing import Column, Filter, Listing
from portal.models import Account, Delivery
from portal.services import deliveries
from portal.services.permissions import role_in

COLUMNS = (
    Column("at", "When", ("notification__created_at",)),
    Column("message", "Message"),
    Column("contact", "Contact", ("notification__contact__name",)),
    Column("kind", "Channel", ("kind",)),
    Column("status", "Status", ("status",)),
    Column("", "Actions", hidden_label=True),
)
FILTERS = (
    Filter("status", "Status", "status", DeliveryStatus.choices),
    Filter(
        "kind", "Channel", "kind", [one for one in ChannelKind.choices if one[0] != ChannelKind.INBOX.value]
    ),
    Filter("category", "Category", "notification__category", Category.choices),
)
SEARCH = ("notification__subject", "notification__public_id", "notification__contact__name")


@require_safe
def delivery_list(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    account = _account(request, public_id)
    role = role_in(request.user, account)
    rows = Delivery.objects.filter(notification__account=account).select_related("notification__contact")
    context = {
        "listing": Listing(
            request, rows, columns=COLUMNS, filters=FILTERS, search=SEARCH, default_sort="-at"
        ),
        "account": account,
        "can_operate": role is not None and role.can_operate,
    }
    page = "portal/_delivery_table.html" if wants_fragment(request) else "portal/delivery_list.html"
    return render(request, page, context)


@require_POST
def redeliver(request: HtmxHttpRequest, public_id: str, delivery_id: int) -> HttpResponse:
    account = _account(request, public_id)
    rows = Delivery.objects.filter(notification__account=account)
    delivery = get_object_or_404(rows.select_related("notification__account"), pk=delivery_id)
    try:
        deliveries.redeliver(request.user, delivery)
    except Conflict as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"“{delivery.notification.subject}” is sent once more.")
    return redirect("account_deliveries", account.public_id)


def _account(request: HtmxHttpRequest, public_id: str) -> Account:
    return get_object_or_404(Account.objects.visible_to(request.user), public_id=public_id)
