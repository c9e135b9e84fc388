"""Bulk changes of events on SQLite, as the embedded console uses it: seconds, CPU and queries per thousand, of the preview and of applying it.

A database file of its own, with the settings of production. Each action is planned and applied by what the job of the cluster
runs, in this process, without the time that a message of the broker takes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from events.models import BulkChange

EVENTS: Final = 10_000


def measure(scale: float) -> dict[str, Any]:
    """{"events": n, "actions": {name: {"preview" and "apply": {"seconds", "cpu", "queries"}}}}"""
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


def _actions(ids: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    from django.utils import timezone

    from events.choices import BulkAction
    from events.models import BulkChange, RegionLimit
    from events.services import bulk
    from events.services.by import SYSTEM

    at = timezone.now().replace(microsecond=0) + timedelta(days=1)
    told: dict[str, dict[str, dict[str, float]]] = {}

    def do(name: str, action: BulkAction, **parameters: Any) -> BulkChange:
        ready, preview = _timed(lambda: _run(bulk.plan(SYSTEM, action, ids, parameters)))
        _, applied = _timed(lambda: _run(bulk.apply(SYSTEM, ready)))
        _say(name, ready)
        told[name] = {"preview": preview.of(len(ids)), "apply": applied.of(len(ids))}
        return ready

    do("to each window, 50 at a time", BulkAction.TO_WINDOW)
    staggered = do("staggered by a minute, 50 at a time", BulkAction.STAGGER, at=at, minutes=1)
    _, undone = _timed(lambda: _run(bulk.undo(SYSTEM, BulkChange.objects.get(pk=staggered.pk))))
    told["undo"] = {"apply": undone.of(len(ids))}
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


@dataclass(slots=True)
class Taken:
    seconds: float = 0.0
    cpu: float = 0.0
    """Of this process, which the database is a part of: what others do on the machine disturbs it less."""
    queries: int = 0

    def of(self, events: int) -> dict[str, float]:
        return {"seconds": self.seconds, "cpu": self.cpu, "queries": self.queries * 1000 / events}


def _timed(what: Callable[[], BulkChange]) -> tuple[BulkChange, Taken]:
    from django.db import connection

    taken = Taken()

    def counted(execute: Any, *args: Any) -> Any:
        taken.queries += 1
        return execute(*args)

    begun, cpu = time.perf_counter(), time.process_time()
    with connection.execute_wrapper(counted):
        result = what()
    taken.seconds, taken.cpu = time.perf_counter() - begun, time.process_time() - cpu
    return result, taken


def table(result: dict[str, Any]) -> str:
    head = f"{'s':>7}{'CPU s':>7}{'queries':>9}"
    lines = [
        f"bulk changes, SQLite, {result['events']:,} events; queries per thousand",
        f"{'':<38}{'preview':>23}{'apply':>23}",
        f"{'':<38}{head}{head}",
    ]
    for name, row in result["actions"].items():
        parts = (row.get("preview"), row["apply"])
        lines.append(f"{name:<38}{''.join(map(_part, parts))}")
    return "\n".join(lines)


def _part(part: dict[str, float] | None) -> str:
    if part is None:
        return " " * 23
    return f"{part['seconds']:>7.1f}{part['cpu']:>7.1f}{part['queries']:>9.0f}"
