"""Which function sends what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from portal.choices import ChannelKind
from portal.delivery import mail, other, webhook
from portal.delivery.errors import NotSent
from portal.models import Delivery

_SENDERS: Final[dict[str, Callable[[Delivery], None]]] = {
    ChannelKind.MAIL: mail.send,
    ChannelKind.APPRISE: other.send,
    ChannelKind.WEBHOOK: webhook.send,
}


def send(delivery: Delivery) -> None:
    """Raises NotSent. Takes at most some 60 seconds."""
    if delivery.channel is None or not delivery.channel.enabled:
        raise NotSent("The channel was switched off or deleted meanwhile.", for_good=True)
    _SENDERS[delivery.kind](delivery)


__all__ = ["NotSent", "send"]
