"""The pages of the migrations on a database that many years have filled, on PostgreSQL: milliseconds, queries, and the ratio to nearly nothing.

Three sizes on a server of its own: no task at all; one page of tasks with a page of log lines each; 10,000 tasks and 5,000,000 log
lines, a fifth of them of the one task that is opened. Requests go through the whole of Django, without a network. A list without
tasks has nothing to draw, so both ratios are told: to the empty database, and to the one that draws the same page. EXPLAIN=1 names the
slowest queries.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

from tests.support.postgres import Postgres

TASKS: Final = 10_000
LINES: Final = 5_000_000
PAGE: Final = 25
_WARM: Final = 5
_TIMES: Final = 25


@dataclass(frozen=True, slots=True)
class Size:
    """A database of a size, somebody who is signed in to it, and the task that is opened."""

    connection: Any
    client: Any
    task: str


def measure(scale: float) -> dict[str, Any]:
    """{page: {size: {"ms", "p95", "queries"}}}, of the sizes `empty` (lists only), `small`, `full`, and what was there.

    The sizes take turns, request by request: what else the machine does disturbs all of them alike.
    """
    tasks, lines = int(TASKS * scale), int(LINES * scale)
    with Postgres() as server:
        _django(server.url)
        sizes = {
            "empty": _size("empty", 0, 0),
            "small": _size("small", PAGE, PAGE * 30),
            "full": _size("full", tasks, lines),
        }
        told = {name: _measured(path, sizes) for name, path in _pages().items()}
        for size in sizes.values():
            size.connection.close()
    return {"tasks": tasks, "lines": lines, "pages": told}


def _django(url: str) -> None:
    """Django on this server, with the settings of production."""
    import tests.support.environment

    assert tests.support.environment.RUN
    os.environ["DATABASE_URL"] = url
    os.environ["DJANGO_SETTINGS_MODULE"] = "portal.settings"
    import django

    django.setup()
    import logging

    logging.disable(logging.WARNING)  # a line for each request is not what is measured


def _size(name: str, tasks: int, lines: int) -> Size:
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection, connections
    from django.db.utils import load_backend
    from django.test import Client

    from tests.benchmarks import pages_data

    begun = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')
    settings = {**connection.settings_dict, "NAME": name}
    connection.close()
    own = load_backend(settings["ENGINE"]).DatabaseWrapper(settings, "default")
    connections["default"] = own
    call_command("migrate", verbosity=0)
    world = pages_data.people()
    opened = pages_data.tasks(world, tasks, lines) if tasks else ""
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.get(username="bench"))
    seconds = time.monotonic() - begun
    print(f"{name}: {tasks} tasks, {lines} log lines, made in {seconds:.0f} s", file=sys.stderr, flush=True)
    return Size(own, client, opened)


def _pages() -> dict[str, str]:
    """Name → path; {task} is the one that is opened, #htmx asks for the fragment."""
    task = "/migrations/{task}/"
    return {
        "list": "/migrations/",
        "list, by lag": "/migrations/?sort=-lag",
        "list, filtered": "/migrations/?status=completed&region=eu-west&account=Account+3",
        "list, alerts": "/migrations/?alerts=open",
        "list, search": "/migrations/?q=orders+new",
        "list, last page": "/migrations/?page=100000",
        "task": task,
        "task, poll": f"{task}#htmx",
        "charts of a day": f"{task}charts/?charts=day#htmx",
        "log": f"{task}log/",
        "log, warnings": f"{task}log/?level=warning",
        "log, search": f"{task}log/?q=nowhere",
        "log, tail": f"{task}log/tail/?after=2000000000#htmx",
    }


def _measured(path: str, sizes: dict[str, Size]) -> dict[str, dict[str, float]]:
    from django.db import connections
    from django.test.utils import CaptureQueriesContext

    path, _, fragment = path.partition("#")
    headers = {"HX-Request": "true"} if fragment else {}
    asked = {name: size for name, size in sizes.items() if size.task or "{task}" not in path}
    taken: dict[str, list[float]] = {name: [] for name in asked}
    queries: dict[str, int] = {}
    for turn in range(_WARM + _TIMES):
        for name, size in asked.items():
            connections["default"] = size.connection
            address = path.format(task=size.task)
            if turn == 0:
                with CaptureQueriesContext(size.connection) as captured:
                    answer = size.client.get(address, headers=headers)
                assert answer.status_code in (200, 204, 286), (address, answer.status_code)
                queries[name] = len(captured)
                if os.environ.get("EXPLAIN") and name == "full":
                    _explain(path, captured.captured_queries)
                continue
            begun = time.perf_counter()
            size.client.get(address, headers=headers)
            if turn >= _WARM:
                taken[name].append((time.perf_counter() - begun) * 1000)
    return {
        name: {
            "ms": statistics.median(times),
            "p95": sorted(times)[int(len(times) * 0.95)],
            "queries": queries[name],
        }
        for name, times in taken.items()
    }


def _explain(path: str, queries: list[dict[str, str]]) -> None:
    """The two slowest queries of a page, cold."""
    for one in sorted(queries, key=lambda one: -float(one["time"]))[:2]:
        print(f"  {path}: {one['time']} s: {one['sql'][:700]}", file=sys.stderr)


def table(result: dict[str, Any]) -> str:
    lines = [
        f"pages, PostgreSQL, {result['tasks']:,} tasks, {result['lines']:,} log lines",
        f"{'':<18}{'empty ms':>10}{'25 tasks ms':>13}{'full ms':>10}{'p95':>8}{'÷ empty':>9}{'÷ 25 tasks':>12}{'queries':>9}",
    ]
    for name, sizes in result["pages"].items():
        full, small, empty = sizes["full"], sizes["small"], sizes.get("empty")
        to_empty = f"{full['ms'] / empty['ms']:.2f}" if empty else "—"
        shown = f"{empty['ms']:.1f}" if empty else "—"
        lines.append(
            f"{name:<18}{shown:>10}{small['ms']:>13.1f}{full['ms']:>10.1f}{full['p95']:>8.1f}{to_empty:>9}"
            f"{full['ms'] / small['ms']:>12.2f}{full['queries']:>9.0f}"
        )
    return "\n".join(lines)
