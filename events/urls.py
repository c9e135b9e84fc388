"""URLs of the events, under /events/. Those that work without a login (links in messages, feeds) are among them."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver

urlpatterns: list[URLPattern | URLResolver] = []
