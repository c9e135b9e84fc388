"""Jobs of the portal, run by the cluster `default`."""

from __future__ import annotations

import traceback

import structlog

from portal.delivery import NotSent, send
from portal.services import deliveries

log = structlog.get_logger(__name__)


def deliver(delivery_id: int) -> str:
    """Send one delivery, if nobody else does."""
    delivery = deliveries.claim(delivery_id)
    if delivery is None:
        return "nothing to do: it was sent, or another worker is sending it"
    try:
        send(delivery)
    except NotSent as error:
        log.warning("delivery.failed", delivery=delivery_id, kind=delivery.kind, error=error.message)
        deliveries.failed(delivery, error.message, for_good=error.for_good)
        return "not sent"
    except Exception as error:  # noqa: BLE001 - whatever a service's library raises
        # Not the error's text: what libraries put into it can hold the address of a channel, and with it its token.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename}:{frame.lineno}"
        log.error(
            "delivery.crashed",
            delivery=delivery_id,
            kind=delivery.kind,
            error=type(error).__name__,
            where=where,
        )
        deliveries.failed(
            delivery, f"An error that the channel was not prepared for: {type(error).__name__}."
        )
        return "not sent"
    deliveries.sent(delivery)
    return "sent"
