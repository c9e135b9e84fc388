"""Sizes as people write them."""

from __future__ import annotations

import re
from typing import Final

from migrations_app.engine.errors import UsageError

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(|[kmgt])i?b?", re.ASCII | re.IGNORECASE)


def size_of(text: str) -> int:
    """`4GB`, `512kb`, `1000` → bytes (a KB is 1024, as in redis.conf); `UsageError` for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no size like 512MB or 4GB")
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " "))
