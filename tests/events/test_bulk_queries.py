"""The number of queries per thousand events is constant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import time
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from events.choices import BulkAction, BulkStatus
from events.models import Event, Occasion, RegionLimit
from events.services import bulk, bulk_running
from events.services.by import By
from portal.models import Account
from portal.services import windows
from tests.portal.world import World
from tests.support.bulk_events import many_events

MOST = 80  # per thousand, of the whole of an action
ONCE = 40  # however many there are


class Count:
    number = 0


@contextmanager
def counted() -> Iterator[Count]:
    count = Count()

    def add(execute: Callable[..., Any], *args: Any) -> Any:
        count.number += 1
        return execute(*args)

    with connection.execute_wrapper(add):
        yield count


@pytest.mark.parametrize("action", [BulkAction.TO_WINDOW, BulkAction.CANCEL])
def test_a_thousand_more_cost_the_same_again(account: Account, world: World, action: BulkAction) -> None:
    """For a member of the account, with windows, and with a limit of the region."""
    windows.set_window(None, account, range(7), time(1), time(5), "UTC")
    RegionLimit.objects.create(region="eu-central", most=50)
    many_events(account, 2000, may_cancel=True)
    ids = list(Event.objects.values_list("public_id", flat=True))
    by = By(world.user("operator"))

    asked, planned, applied = [], [], []
    for size in (1000, 2000):
        with counted() as count:
            change = bulk.plan(by, action, ids[:size], {})
        asked.append(count.number)
        with counted() as count:
            bulk_running.run(change.pk)
        planned.append(count.number)
        change.refresh_from_db()
        assert change.status == BulkStatus.PLANNED and bulk.counts(change).planned == size
        with counted() as count:
            bulk.apply(by, change)
            bulk_running.run(change.pk)
        applied.append(count.number)
        assert bulk.counts(change).done == size
        _as_before()

    for first, second in (asked, planned, applied):
        more = second - first
        assert more <= MOST and first - more <= ONCE, (asked, planned, applied)


def _as_before() -> None:
    Occasion.objects.all().delete()
    Event.objects.update(
        status="pending",
        revision=0,
        deferrals=0,
        result="",
        finished_at=None,
        switch_at=F("proposed_at"),
    )
