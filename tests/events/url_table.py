"""Who may open what of the events: see tests/portal/url_table.py."""

from __future__ import annotations

from tests.portal.url_table import Row

ROWS: list[Row] = []
