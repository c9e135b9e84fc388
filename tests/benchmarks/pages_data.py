"""Rows for the benchmark of the pages, made by the database itself: one row through the models, the others as copies of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.utils import timezone

from migrations_app.models import (
    Inspection,
    Link,
    LinkProgress,
    LogEntry,
    MigrationTask,
    PhaseSpan,
    PrecheckItem,
    Sample,
    TaskAlert,
)
from portal.choices import Role
from portal.models import Account, AuditEntry, Endpoint, Instance, Membership

ACCOUNTS: Final = 20
SOURCES: Final = 100  # a multiple of the accounts: both sides of a task are in its account
# Of 20 tasks in a row. A target has one running task at most, and each task has a target of its own here.
_STATUSES: Final = (
    "incremental", "completed", "completed", "completed", "failed", "completed", "full", "completed", "released", "completed",
    "incremental", "completed", "completed", "stopped", "failed", "completed", "draft", "ready", "completed", "paused",
)  # fmt: skip
_REGIONS: Final = ("eu-west", "eu-central", "us-east", "ap-south")


@dataclass(frozen=True, slots=True)
class World:
    user: User
    accounts: list[Account]


def people() -> World:
    """A person who operates in all of the accounts but one."""
    user = User.objects.create_user("bench", password="a long pass phrase")
    accounts = [Account.objects.create(name=f"Account {number}") for number in range(ACCOUNTS)]
    for account in accounts[:7] + accounts[8:]:
        Membership.objects.create(user=user, account=account, role=Role.OPERATOR)
    return World(user, accounts)


def tasks(world: World, count: int, lines: int) -> str:
    """So many tasks and lines of log, a fifth of the lines of the task whose ID is returned: the newest one, which runs."""
    first = world.accounts[0]
    server = Instance.objects.create(
        account=first, name="orders", region="eu-west", status="online", edition="redis", version="7.0.15",
        databases=[{"index": 0, "keys": 1000, "expires": 3}],
    )  # fmt: skip
    Endpoint.objects.create(instance=server, host="orders.internal", port=6379)
    regions = "ARRAY[" + ",".join(f"'{one}'" for one in _REGIONS) + "]"
    account = f"{first.pk} + (n % {ACCOUNTS})"
    _copy(
        Instance, server.pk, SOURCES + count,
        id=f"{server.pk} + n", public_id="'r-b' || lpad(to_hex(n), 7, '0')", name="'orders-new-' || n",
        region=f"({regions})[1 + n % {len(_REGIONS)}]", account_id=account,
    )  # fmt: skip
    endpoint = Endpoint.objects.get()
    _copy(Endpoint, endpoint.pk, SOURCES + count, id=f"{endpoint.pk} + n", instance_id=f"{server.pk} + n")
    task = MigrationTask.objects.create(
        name="orders to orders-new", account=first, source=server, target=Instance.objects.get(pk=server.pk + 1),
        status="completed", reached_incremental=True, created_by=world.user,
    )  # fmt: skip
    statuses = "ARRAY[" + ",".join(f"'{one}'" for one in _STATUSES) + "]"
    _copy(
        MigrationTask, task.pk, count - 1,
        id=f"{task.pk} + n", public_id="'mt-b' || lpad(to_hex(n), 7, '0')", name="'orders to orders-new-' || n",
        account_id=account, source_id=f"{server.pk} + n % {SOURCES}", target_id=f"{server.pk} + {SOURCES} + n",
        # The newest one runs, whatever the count is.
        status=f"({statuses})[1 + ({count - 1} - n) % {len(_STATUSES)}]",
        created_at=f"now() - ({count} - n) * interval '1 minute'", started_at=f"now() - ({count} - n) * interval '1 minute'",
    )  # fmt: skip
    newest = task.pk + count - 1
    link = Link.objects.create(task=task, name="link-0", owner="worker-1:1:x")
    _copy(Link, link.pk, count - 1, id=f"{link.pk} + n", task_id=f"{task.pk} + n", name="'link-' || n")
    progress = LinkProgress.objects.create(
        link=link, phase="incremental", percent=100, keys_done=1000, keys_total=1000, commands=12345,
        bytes_in=1 << 30, lag_bytes=512, lag_seconds=0.2, caught_up=True, databases={"0": 1000}, updated_at=timezone.now(),
    )  # fmt: skip
    _copy(
        LinkProgress, progress.pk, count - 1, id=f"{progress.pk} + n", link_id=f"{link.pk} + n", lag_bytes="n"
    )
    _histories(newest, task.pk, link.pk + count - 1, count)
    _log(newest, task.pk, count, lines)
    _run("VACUUM ANALYZE")
    return str(MigrationTask.objects.get(pk=newest).public_id)


def _histories(newest: int, first: int, link: int, count: int) -> None:
    """What else a task leaves: phases, deeds, samples, alerts, inspections."""
    now = timezone.now()
    span = PhaseSpan.objects.create(task_id=first, status="incremental", began_at=now - timedelta(hours=9))
    _copy(PhaseSpan, span.pk, count * 10, id="DEFAULT", task_id=f"{first} + n % {count}", ended_at="now()")
    deed = AuditEntry.objects.create(
        action="task.changed", actor_name="bench", object_type="migrationtask", object_id="mt-x"
    )
    _copy(
        AuditEntry, deed.pk, count * 10, id="DEFAULT", at=f"now() - (n % {count}) * interval '1 minute'",
        object_id=f"'mt-b' || lpad(to_hex(n % {count}), 7, '0')",
    )  # fmt: skip
    alert = TaskAlert.objects.create(task_id=newest, kind="latency", since=now, raised_at=now)
    _copy(TaskAlert, alert.pk, count // 20, id="DEFAULT", task_id=f"{first} + n * 20 - 2")
    inspection = Inspection.objects.create(task_id=newest, kind="precheck", status="done", passed=True)
    for position in range(30):
        PrecheckItem.objects.create(
            inspection=inspection,
            position=position,
            code=f"item.{position}",
            severity="error",
            outcome="passed",
        )
    _copy(
        Inspection, inspection.pk, count * 2, id="DEFAULT", task_id=f"{first} + n % {count}",
        public_id="'in-b' || lpad(to_hex(n), 7, '0')",
    )  # fmt: skip
    for length, rows in ((10, 360), (60, 1380)):
        sample = Sample.objects.create(link_id=link, span=length, at=now, lag_bytes=5, lag_seconds=0.5)
        _copy(Sample, sample.pk, rows, id="DEFAULT", at=f"now() - n * interval '{length} seconds'")


def _log(newest: int, first: int, count: int, lines: int) -> None:
    """Lines in the order of time, as they are written: of many tasks side by side."""
    line = LogEntry.objects.create(
        task_id=first, at=timezone.now(), event="link.lag", message="x", fields={"bytes": 5}
    )
    _copy(
        LogEntry, line.pk, lines, id="DEFAULT",
        task_id=f"CASE WHEN n % 5 = 0 THEN {newest} ELSE {first} + n % {count} END",
        at=f"now() - ({lines} - n) * interval '0.1 second'",
        level="CASE WHEN n % 25000 = 0 THEN 'error' WHEN n % 2500 = 0 THEN 'warning' ELSE 'info' END",
        message="'The target is ' || n || ' bytes behind its source; the link goes on and writes what has come.'",
    )  # fmt: skip


def _copy(model: type[Model], pk: Any, count: int, **changes: str) -> None:
    """Copies 1 … count of a row; `changes` are columns and the SQL that they are, with `n` as the number of the copy."""
    if count <= 0:
        return
    known = [str(field.column) for field in model._meta.concrete_fields]
    columns = [name for name in known if changes.get(name) != "DEFAULT"]
    unknown = set(changes) - set(known)
    assert not unknown, unknown
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join(changes.get(name, f'src."{name}"') for name in columns)
    table = model._meta.db_table
    _run(
        f'INSERT INTO "{table}" ({names}) SELECT {values} FROM "{table}" src, generate_series(1, {count}) AS n '  # noqa: S608
        f"WHERE src.id = {pk}"
    )
    if "id" in columns:
        _run(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM \"{table}\"))")  # noqa: S608


def _run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)
