"""How often something may be asked for in a minute, over all processes that answer: pages that work without a login."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final

from django.db import IntegrityError, transaction
from django.db.models import Case, F, When
from django.utils import timezone

from events.models import RequestCount
from portal.patience import patient

MINUTE: Final = timedelta(minutes=1)
KEPT: Final = timedelta(minutes=10)


@patient
def wait_for(key: str, most: int) -> int:
    """Counts one request. 0 if it is among the first `most` of its minute, else the seconds until the next one begins."""
    now = timezone.now()
    row = RequestCount.objects.filter(key=key)
    current = {"since__gt": now - MINUTE}
    counted = {
        "count": Case(When(**current, then=F("count") + 1), default=1),
        "since": Case(When(**current, then=F("since")), default=now),
    }
    if not row.update(**counted):
        try:
            with transaction.atomic():
                RequestCount.objects.create(key=key, since=now)
        except IntegrityError:  # another process was quicker
            row.update(**counted)
        RequestCount.objects.filter(since__lt=now - KEPT).delete()
    found = row.first()
    if found is None or found.count <= most:
        return 0
    return max(1, math.ceil((found.since + MINUTE - now).total_seconds()))
