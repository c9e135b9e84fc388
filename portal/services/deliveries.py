"""Messages on their way: one row per message and channel, sent by whoever has its lease.

A job asks for `claim`, sends (portal/delivery) and says `sent` or `failed`. A message of the broker that is lost or doubled changes
nothing: `ring_due` asks again for what is due. An attempt is counted when it begins, so that one which takes its worker along counts.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django_q.tasks import async_task

from portal.choices import DeliveryStatus
from portal.errors import Conflict
from portal.models import Delivery
from portal.patience import patient
from portal.services import audit
from portal.services.permissions import require_operator
from portal.services.quiet import end_of_quiet_hours

if TYPE_CHECKING:
    from django.contrib.auth.models import User

CLUSTER: Final = "default"
LEASE: Final = timedelta(seconds=130)  # longer than the cluster lets a job run
PAUSES: Final = tuple(
    timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180, 720)
)  # before each further attempt; then it is given up
ATTEMPTS: Final = len(PAUSES) + 1
BELL: Final = timedelta(seconds=20)  # after which a delivery that nobody has taken is asked for again
ERROR_LIMIT: Final = 1000

_S = DeliveryStatus


def ring(delivery_id: int) -> None:
    """Ask for a worker that sends it."""
    async_task(
        "portal.jobs.deliver", delivery_id, cluster=CLUSTER, task_name=f"delivery-{delivery_id}", save=False
    )


def ring_later(delivery_id: int) -> None:
    """Once all of this is committed. A broker that cannot be reached undoes nothing: ring_due asks again."""
    transaction.on_commit(lambda: ring(delivery_id), robust=True)


def ring_due(limit: int = 200) -> int:
    """Ask for workers for what is due and not under way: quiet hours that are over, further attempts, lost messages."""
    now = timezone.now()
    due = Delivery.objects.filter(_free(now), status__in=(_S.PENDING, _S.HELD), next_at__lte=now)
    count = 0
    for row in due.order_by("next_at")[:limit]:
        # One of several machines that look at the same time rings.
        if Delivery.objects.filter(pk=row.pk, next_at=row.next_at, status=row.status).update(
            next_at=now + BELL, status=_S.PENDING
        ):
            ring(row.pk)
            count += 1
    return count


@patient
def claim(delivery_id: int) -> Delivery | None:
    """The delivery, for LEASE to nobody else; None if it is not due, was sent or given up, or another worker is sending it."""
    delivery = (
        Delivery.objects.select_related("notification__contact", "notification__account", "channel")
        .filter(pk=delivery_id, status=_S.PENDING)
        .first()
    )
    now = timezone.now()
    # A message of the broker that comes twice must not cut a pause short.
    if delivery is None or delivery.next_at is None or delivery.next_at > now + BELL or _held(delivery):
        return None
    if delivery.attempts >= ATTEMPTS:
        Delivery.objects.filter(_free(now), pk=delivery_id, status=_S.PENDING).update(
            status=_S.FAILED, next_at=None, error=delivery.error or "Each worker that tried to send it died."
        )
        return None
    lease = now + LEASE
    if not Delivery.objects.filter(_free(now), pk=delivery_id, status=_S.PENDING).update(
        lease_until=lease, attempts=F("attempts") + 1
    ):
        return None
    # Of the row as it is now: another worker may have had its attempt between the two.
    delivery.refresh_from_db(fields=["attempts", "lease_until", "error"])
    return delivery


def _held(delivery: Delivery) -> bool:
    """Whether it waits (on) for the end of the contact's quiet hours: also an attempt that would now fall into them."""
    told = delivery.notification
    until = None if told.urgent or told.contact is None else end_of_quiet_hours(told.contact, timezone.now())
    if until is None:
        return False
    Delivery.objects.filter(_free(timezone.now()), pk=delivery.pk, status=_S.PENDING).update(
        status=_S.HELD, next_at=until
    )
    return True


@patient
def sent(delivery: Delivery) -> bool:
    """It has left. False if the lease was lost meanwhile."""
    return bool(
        _mine(delivery).update(
            status=_S.SENT, sent_at=timezone.now(), next_at=None, lease_until=None, error=""
        )
    )


@patient
def failed(delivery: Delivery, error: str, *, for_good: bool = False) -> bool:
    """Not sent. Tried again after a pause, unless it was the last attempt or `for_good`."""
    over = for_good or delivery.attempts >= ATTEMPTS
    return bool(
        _mine(delivery).update(
            status=_S.FAILED if over else _S.PENDING,
            next_at=None if over else timezone.now() + PAUSES[delivery.attempts - 1],
            lease_until=None,
            error=error[:ERROR_LIMIT],
        )
    )


def redeliver(actor: User | None, delivery: Delivery) -> Delivery:
    """Send it once more. Raises NotFound, NotPermitted, Conflict (`delivery.under_way`, `delivery.no_channel`)."""
    told = delivery.notification
    require_operator(actor, told.account)
    if delivery.channel_id is None or told.contact_id is None:
        raise Conflict(
            "The channel was deleted. Nothing was sent.",
            advice="Give the contact this channel again; it gets what happens from then on.",
            id="delivery.no_channel",
        )
    with transaction.atomic():
        ended = Delivery.objects.filter(pk=delivery.pk, status__in=(_S.SENT, _S.FAILED))
        if not ended.update(status=_S.PENDING, attempts=0, next_at=timezone.now() + BELL, error=""):
            raise Conflict(
                "The message is on its way already. No other one was sent.",
                advice="Load the page again in a minute.",
                id="delivery.under_way",
            )
        audit.record(
            actor, "delivery.repeated", told, account=told.account, channel=delivery.get_kind_display()
        )
        ring_later(delivery.pk)
    delivery.refresh_from_db()
    return delivery


def _mine(delivery: Delivery) -> QuerySet[Delivery]:
    return Delivery.objects.filter(pk=delivery.pk, status=_S.PENDING, lease_until=delivery.lease_until)


def _free(now: datetime) -> Q:
    return Q(lease_until__isnull=True) | Q(lease_until__lt=now)
