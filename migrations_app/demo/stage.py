"""The whole demo in the order that people see it: servers, data, console, task, progress, comparison."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import cast

import redis
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist
from django.core.management import call_command
from django.db import connections

from migrations_app.choices import Outcome, TaskStatus
from migrations_app.engine.checkpoint import deferred_key
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import EngineError
from migrations_app.engine.verify import verify
from migrations_app.engine.verify.report import as_text
from migrations_app.models import LinkProgress, MigrationTask
from migrations_app.services import tasks
from migrations_app.services.prechecks import success_rate
from portal.errors import ServiceError
from portal.processes import (
    ChildFailed,
    Interrupted,
    Supervisor,
    cluster_command,
    raise_on_signals,
    web_command,
)
from portal.redis_control import EndpointParams
from portal.services.accounts import create_account
from portal.services.instances import register_instance

from . import dataset, environment, servers
from .announcements import announce
from .audit import AuditExpected
from .clients import DemoError
from .display import Display
from .writer import DEMO_RATE, Writer, check_audit, check_invariant

USER = "demo"
PATIENCE_S = 180.0
"""Without any progress for this long the demo gives up."""
POLL_S = 0.25


def run(*, once: bool, keys: int | None, rate: float | None, port: int) -> int:
    """Run the demo to its end. The exit code: 0 all well, 1 it failed or the sides differ, 130 interrupted
    with ``once``."""
    guardian = environment.guardian()
    folder = guardian.folder
    assert folder is not None
    display = Display()
    raise_on_signals()
    try:
        with Supervisor(guardian=guardian, logs=folder / "logs") as supervisor:
            try:
                demo = Demo(supervisor, folder, display, port=port)
                demo.build(
                    keys=keys if keys is not None else dataset.KEYS,
                    rate=rate if rate is not None else DEMO_RATE,
                )
                return demo.finish() if once else demo.serve()
            except Interrupted:
                display.say("Ending …")
                return 130 if once else 0
            finally:
                connections.close_all()
    except (DemoError, ChildFailed, ServiceError, EngineError, redis.RedisError) as error:
        display.fail(str(error))
    except Interrupted:
        pass
    return 1


@dataclass
class Demo:
    """What runs, and the steps in their order."""

    supervisor: Supervisor
    folder: Path
    display: Display
    port: int
    password: str = field(default_factory=lambda: secrets.token_urlsafe(9), repr=False)

    def build(self, *, keys: int, rate: float) -> None:
        """Everything up to the running task that has caught up."""
        say = self.display.say
        self.source = servers.start(self.supervisor, self.folder, "source")
        self.target = servers.start(self.supervisor, self.folder, "target")
        say(f"Two embedded Valkey servers: source {self.source.address}, target {self.target.address}")
        with self.display.filling(keys) as progress:
            summary = dataset.fill(self.source.url, keys=keys, progress=progress)
        made = f"{summary.total_keys:,} keys of every type in {len(summary.keys)} databases"
        say(f"{made}, in {summary.seconds:.1f} s")
        call_command("migrate", verbosity=0, interactive=False)
        self._start_console()
        task = self._create_task()
        self.writer = Writer(self.source.url, rate=rate or None).start()
        speed = f"with some {rate:,.0f} commands/s" if rate else "at full speed"
        say(f"A writer changes the source {speed}")
        self.task = task
        self._precheck()
        tasks.start_task(task.created_by, task)
        say(f"Task {task.public_id} started: full + incremental")
        self._follow(lambda progress: progress.caught_up)
        assert task.created_by and task.source and task.target  # as _create_task has made it
        for line in announce(task.created_by, task.account, task.source, task.target).lines:
            say(line)

    def serve(self) -> int:
        """Show the address and go on until a signal or a failure ends it, whatever people do to the task."""
        mails = f"Mails to the contact of the events are files in {self.folder / environment.MAILS}"
        self.display.welcome(self.address, USER, self.password, [mails])
        with self.display.live() as show:
            while True:
                try:
                    self._look(show)
                except ObjectDoesNotExist:
                    # Somebody has deleted the task in the console. The console goes on.
                    break
                time.sleep(POLL_S * 2)
        self.supervisor.wait()
        return 0

    def finish(self) -> int:
        """Stop the writer, let the link catch up for good, stop the task, compare. The exit code."""
        say = self.display.say
        expected = self.writer.stop()
        say(f"The writer has stopped after {self.writer.commands:,} commands ({self.writer.errors} refused)")
        end = cast(int, self.source.client().info("replication")["master_repl_offset"])
        self._follow(lambda progress: progress.lag_bytes == 0 and (progress.applied_offset or 0) >= end)
        self._follow(lambda progress: self._has_all_expiries())
        tasks.stop_task(self.task.created_by, self.task)
        self._wait_for_the_end()
        return self._compare(expected)

    @property
    def address(self) -> str:
        """Of the console."""
        return f"http://127.0.0.1:{self.port}/"

    def _start_console(self) -> None:
        self.port = servers.free_port(self.port)
        base = Path(settings.BASE_DIR)
        connections.close_all()
        env = environment.of_children(self.address)
        self.supervisor.start("web server", web_command(base, f"127.0.0.1:{self.port}", workers=1), env=env)
        for name in ("default", "replication"):
            self.supervisor.start(f"cluster {name}", cluster_command(base, name), env=env)
        self.supervisor.wait_for(self._serves, "The start of the web server", 60)
        self.display.say(f"Console at {self.address}, with the clusters default and replication")

    def _serves(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _create_task(self) -> MigrationTask:
        # A superuser, so that the admin can be looked at too; and an owner, as people usually are.
        user = get_user_model().objects.create_superuser(USER, "demo@example.org", self.password)
        account = create_account(None, "Demo shop", owner=user)
        instances = [
            register_instance(
                user,
                account,
                EndpointParams(host=server.host, port=server.port, password=server.password),
                name=name,
                region="demo",
                description=text,
            )
            for server, name, text in (
                (
                    self.source,
                    "shop-cache",
                    "Embedded Valkey with sample data; a writer goes on changing it.",
                ),
                (
                    self.target,
                    "shop-cache-new",
                    "Embedded Valkey, empty at first: the target of the migration.",
                ),
            )
        ]
        return tasks.create_task(user, account, *instances, name="Move the shop's cache")

    def _precheck(self) -> None:
        """By a worker of the cluster `default`, as for any task; what it advises is shown. Raises `DemoError` if it fails."""
        inspection = tasks.precheck_task(self.task.created_by, self.task)

        def ended() -> bool:
            inspection.refresh_from_db()
            return inspection.status_badge.is_final

        self.supervisor.wait_for(ended, "The precheck", PATIENCE_S)
        counts = Counter(item.outcome for item in inspection.items.all())
        shown = ", ".join(f"{counts[one]} {one.label.lower()}" for one in Outcome if counts[one])
        self.display.say(f"Precheck by {inspection.worker_host}: {success_rate(inspection)} %, {shown}")
        for item in inspection.items.filter(outcome__in=(Outcome.WARNING, Outcome.FAILED)):
            self.display.say(f"  {Outcome(item.outcome).label}: {item.title}. {item.found}")
        self.task.refresh_from_db()
        if self.task.status != TaskStatus.READY:
            raise DemoError(f"The precheck has failed. {inspection.failure_message}".strip())

    def _has_all_expiries(self) -> bool:
        # Expiries that were near while the link was behind are set once it has caught up; until then the
        # target holds a list of them in each database.
        waiting = deferred_key(self.task.link.name)
        databases = [int(name[2:]) for name in self.target.client().info("keyspace")]
        return not any(self.target.client(number).exists(waiting) for number in databases)

    def _look(self, show: Callable[[MigrationTask, LinkProgress, Writer], None]) -> LinkProgress:
        """Read where the task stands and show it. Raises `ChildFailed` or `WriterError` if what runs has
        ended."""
        self.supervisor.check()
        if not self.writer.running and not self.writer.stopped:
            self.writer.stop()
        self.task.refresh_from_db()
        progress = LinkProgress.objects.get(link__task=self.task)
        show(self.task, progress, self.writer)
        return progress

    def _follow(self, reached: Callable[[LinkProgress], bool]) -> None:
        """Show the progress until it has come this far. Raises `DemoError` if the task ends or stands still."""
        seen: tuple[object, ...] = ()
        changed = time.monotonic()
        with self.display.live() as show:
            while True:
                progress = self._look(show)
                if TaskStatus(self.task.status).is_final:
                    reason = f"{self.task.failure_message} {self.task.failure_advice}".strip()
                    raise DemoError(f"The task has ended: {TaskStatus(self.task.status).label}. {reason}")
                if reached(progress):
                    return
                now = (
                    self.task.status,
                    progress.phase,
                    progress.keys_done,
                    progress.snapshot_bytes,
                    progress.applied_offset,
                )
                if now != seen:
                    seen, changed = now, time.monotonic()
                elif time.monotonic() - changed > PATIENCE_S:
                    raise DemoError(f"The task has made no progress for {PATIENCE_S:.0f} s.")
                time.sleep(POLL_S)

    def _wait_for_the_end(self) -> None:
        def ended() -> bool:
            self.task.refresh_from_db()
            return TaskStatus(self.task.status).is_final

        self.supervisor.wait_for(ended, "The stop of the task", 60)
        if self.task.status != TaskStatus.COMPLETED:
            raise DemoError(
                f"The task has ended as {TaskStatus(self.task.status).label}: {self.task.failure_message}"
            )
        self.display.say(f"Task {self.task.public_id} stopped: {TaskStatus(self.task.status).label}")

    def _compare(self, expected: AuditExpected) -> int:
        with self.display.comparing() as progress:
            report = verify(
                *(
                    Endpoint(host=side.host, port=side.port, password=side.password)
                    for side in (self.source, self.target)
                ),
                on_progress=lambda now: progress(now.keys_done, now.keys_total),
            )
        # What is not a matter of equal values: lost, repeated or reordered writes would have to be the same
        # on both sides.
        problems = check_audit(self.target.url, expected) + check_invariant(self.target.url, expected)
        for problem in problems:
            self.display.say(f"audit: {problem}")
        if not problems:
            steps = sum(sum(counts.values()) for counts in expected.values())
            self.display.say(
                f"Audit: {steps:,} steps of counters, lists and streams, none lost, none twice, all in order"
            )
        self.display.say(as_text(report))
        return 0 if report.complete and not report.differences and not problems else 1
