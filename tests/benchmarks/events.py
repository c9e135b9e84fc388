"""Bulk changes of events on SQLite, as the embedded console uses it: seconds and queries per thousand, of the preview and of applying it.

A database file of its own, with the settings of production. Each action is planned and applied by what the job of the cluster
runs, in this process, without the time that a message of the broker takes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from events.models import BulkChange

EVENTS: Final = 10_000


def measure(scale: float) -> dict[str, Any]:
    """{"events": n, "actions": {name: {"plan", "apply", "plan_queries", "apply_queries"}}}"""
    count = max(1000, int(EVENTS * scale))
    with tempfile.TemporaryDirectory(prefix="sy-bench-") as folder:
        _django(f"sqlite:///{folder}/events.sqlite3")
        from django.db import connection

        from tests.support.bulk_events import many_events

        account = _account()
        begun = time.monotonic()
        events = many_events(account, count)
        seconds = time.monotonic() - begun
        print(f"{count} events, made in {seconds:.0f} s", file=sys.stderr, flush=True)
        told = _actions([event.public_id for event in events])
        connection.close()
    return {"events": count, "actions": told}


def _django(url: str) -> None:
    import tests.support.environment

    assert tests.support.environment.RUN
    os.environ["DATABASE_URL"] = url
    os.environ["DJANGO_SETTINGS_MODULE"] = "portal.settings"
    import django

    django.setup()
    import logging

    from django.core.management import call_command

    logging.disable(logging.WARNING)
    call_command("migrate", verbosity=0)


def _account() -> Any:
    from datetime import time as clock

    from events.models import RegionLimit
    from portal.models import Account
    from portal.services import windows

    account = Account.objects.create(name="Bench")
    windows.set_window(None, account, range(7), clock(1), clock(5), "Europe/Berlin")
    RegionLimit.objects.create(region="eu-central", most=50)
    return account


def _actions(ids: list[str]) -> dict[str, dict[str, float]]:
    from django.utils import timezone

    from events.choices import BulkAction
    from events.models import BulkChange, RegionLimit
    from events.services import bulk
    from events.services.by import SYSTEM

    at = timezone.now().replace(microsecond=0) + timedelta(days=1)
    told = {}

    def do(name: str, action: BulkAction, **parameters: Any) -> BulkChange:
        planned, plan_seconds, plan_queries = _timed(lambda: bulk.plan(SYSTEM, action, ids, parameters))
        ready, more, queries = _timed(lambda: _run(planned))
        _, apply_seconds, apply_queries = _timed(lambda: _run(bulk.apply(SYSTEM, ready)))
        _say(name, ready)
        told[name] = _row(plan_seconds + more, apply_seconds, plan_queries + queries, apply_queries, len(ids))
        return ready

    do("to each window, 50 at a time", BulkAction.TO_WINDOW)
    staggered = do("staggered by a minute, 50 at a time", BulkAction.STAGGER, at=at, minutes=1)
    _, seconds, queries = _timed(lambda: _run(bulk.undo(SYSTEM, BulkChange.objects.get(pk=staggered.pk))))
    told["undo"] = _row(0.0, seconds, 0, queries, len(ids))
    RegionLimit.objects.all().delete()
    do("to a time, no limit", BulkAction.TO_TIME, at=at)
    do("acknowledge", BulkAction.ACKNOWLEDGE)
    do("cancel", BulkAction.CANCEL, reason="Bench")
    return told


def _run(change: BulkChange) -> BulkChange:
    from events.models import BulkChange
    from events.services import bulk_running

    while change.status in bulk_running.UNDER_WAY:
        bulk_running.run(change.pk)
        change = BulkChange.objects.get(pk=change.pk)
    return change


def _say(name: str, change: BulkChange) -> None:
    from events.services import bulk

    print(f"  {name}: {bulk.counts(change)}", file=sys.stderr, flush=True)


def _timed(what: Callable[[], BulkChange]) -> tuple[BulkChange, float, int]:
    from django.db import connection

    count = 0

    def counted(execute: Any, *args: Any) -> Any:
        nonlocal count
        count += 1
        return execute(*args)

    begun = time.perf_counter()
    with connection.execute_wrapper(counted):
        result = what()
    return result, time.perf_counter() - begun, count


def _row(plan: float, apply: float, plan_queries: int, apply_queries: int, events: int) -> dict[str, float]:
    return {
        "plan": plan,
        "apply": apply,
        "plan_queries": plan_queries * 1000 / events,
        "apply_queries": apply_queries * 1000 / events,
    }


def table(result: dict[str, Any]) -> str:
    lines = [
        f"bulk changes, SQLite, {result['events']:,} events",
        f"{'':<38}{'preview s':>10}{'apply s':>9}{'queries per 1,000':>26}",
    ]
    for name, row in result["actions"].items():
        lines.append(
            f"{name:<38}{row['plan']:>10.1f}{row['apply']:>9.1f}{row['plan_queries']:>13.0f}{row['apply_queries']:>13.0f}"
        )
    return "\n".join(lines)
