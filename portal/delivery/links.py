"""Addresses in messages: they leave the console, so they need its name."""

from __future__ import annotations

from django.conf import settings


def absolute(path: str) -> str:
    """`https://console.example/migrations/…`; "" for no path."""
    return f"{settings.SITE_URL.rstrip('/')}{path}" if path else ""
