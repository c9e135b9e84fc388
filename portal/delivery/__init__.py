"""The channels: how a notification leaves the console. Each is a function that sends one delivery or raises NotSent."""

from portal.delivery.base import NotSent, send

__all__ = ["NotSent", "send"]
