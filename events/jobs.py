"""What the cluster `default` runs for the events. A job is a few lines around services; the row in the database decides, not the message."""

from __future__ import annotations


def tick() -> None:
    """What has to be looked after every few seconds in each cluster `default`: any machine may do any of it, twice as well."""
