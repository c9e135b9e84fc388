"""`manage.py migration …`: everything about a migration from the command line of the server, for scripts and for people.

Whoever may run it has the settings of the site, and so may do everything. What it prints with --json is what the HTTP API answers.

Exit codes: 0 done; 1 the answer is no (a precheck failed, the sides differ, a task that was waited for failed); 2 refused, nothing was
changed; 3 what was waited for did not come in time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, Final, TypeVar

from django.core.management.base import BaseCommand
from django.db import connection

from migrations_app.choices import ConflictPolicy, Method, Outcome, Phases, SpeedClass, TaskStatus
from migrations_app.describe import inspection_values, item_values, task_values
from migrations_app.models import Inspection, MigrationTask
from migrations_app.services import named_sides, prechecks, tasks, verifications
from portal.errors import Invalid, NotFound, ServiceError
from portal.models import Account

NO: Final = 1
REFUSED: Final = 2
LATE: Final = 3
POLL: Final = 0.3

S = TaskStatus
T = TypeVar("T")
# From these nothing leads to what is waited for without somebody's help.
_DEAD_ENDS: Final = frozenset(
    {S.FAILED, S.STOPPED, S.RELEASED, S.PAUSED, S.PRECHECK_FAILED, S.NOT_CONFIGURED}
)


class Late(Exception):
    """The time is up."""


class Command(BaseCommand):
    help = (
        "Create, check, run and verify migrations. X and Y of `create` are an instance's ID or a URL (redis://, rediss://, unix://, "
        "sentinel://, rdb:///path); env:NAME takes the URL from the environment, so that no password shows in the list of processes. "
        "Exit codes: 0 done, 1 the answer is no, 2 refused, 3 not in time."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

        create = _verb(verbs, "create", "a new task; nothing is started")
        create.add_argument("--source", required=True, metavar="X")
        create.add_argument("--target", required=True, metavar="Y")
        create.add_argument(
            "--account", default="", help="the account's ID or name; needed if there are several"
        )
        create.add_argument("--name", default="")
        create.add_argument("--phases", choices=Phases.values)
        create.add_argument("--method", choices=Method.values)
        create.add_argument("--on-conflict", dest="conflict", choices=ConflictPolicy.values)
        create.add_argument(
            "--db", dest="databases", type=int, action="append", metavar="N", help="once for each; none: all"
        )
        create.add_argument("--retry-minutes", type=int)
        create.add_argument("--class", dest="speed_class", choices=SpeedClass.values)
        create.add_argument("--heartbeat", action="store_true", default=None)
        for side in ("source", "target"):
            create.add_argument(
                f"--{side}-account",
                default="",
                metavar="ID",
                help=f"the account that owns the {side}, if it is another one",
            )
            create.add_argument(
                f"--{side}-role", default="", metavar="NAME", help="the role that it has granted"
            )

        for name, what in (
            ("status", "how a task stands"),
            ("start", "start a task; a precheck that is too old is run again first"),
            ("pause", "pause a task"),
            ("stop", "stop a task"),
            ("release", "make sure that a task never writes again"),
        ):
            _with_id(_verb(verbs, name, what))

        resume = _with_id(_verb(verbs, "resume", "go on where a task stood"))
        resume.add_argument(
            "--full-resync",
            action="store_true",
            help="consent to a new full phase, if the source no longer has the changes",
        )

        precheck = _with_id(_verb(verbs, "precheck", "run the precheck, and wait for it"))
        _timeout(precheck, 600)

        wait = _with_id(_verb(verbs, "wait", "wait for a task"))
        wait.add_argument("--until", choices=("caught-up", "completed"), required=True)
        _timeout(wait, 86400)

        verify = _with_id(_verb(verbs, "verify", "compare both sides, and wait for the result"))
        verify.add_argument("--mode", choices=("quick", "values"), default="values")
        verify.add_argument(
            "--percent", type=int, default=100, metavar="N", help="of the keys; default: %(default)s"
        )
        _timeout(verify, 86400)

    def handle(self, *args: Any, verb: str, json: bool, **options: Any) -> None:
        self.json = json
        act: Callable[..., int] = getattr(self, f"do_{verb}")
        try:
            code = act(**options)
        except ServiceError as refusal:
            self._refusal(refusal)
            code = REFUSED
        except Late as late:
            self.stderr.write(str(late))
            code = LATE
        except KeyboardInterrupt:
            code = 130
        if code:
            sys.exit(code)

    # --- verbs

    def do_create(self, *, source: str, target: str, account: str, name: str, **options: Any) -> int:
        sides = {
            side: named_sides.parse(
                _from_environment(text), owner=options[f"{side}_account"], role=options[f"{side}_role"]
            )
            for side, text in (("source", source), ("target", target))
        }
        wanted = ("phases", "method", "conflict", "databases", "retry_minutes", "speed_class", "heartbeat")
        settings = {key: options[key] for key in wanted if options[key] is not None}
        task = named_sides.create(None, _account(account), sides, name=name, **settings)
        return self._show(task)

    def do_status(self, *, id: str, **options: Any) -> int:
        return self._show(tasks.get_task(None, id))

    def do_start(self, *, id: str, **options: Any) -> int:
        return self._show(tasks.start_task(None, tasks.get_task(None, id)))

    def do_pause(self, *, id: str, **options: Any) -> int:
        return self._show(tasks.pause_task(None, tasks.get_task(None, id)))

    def do_stop(self, *, id: str, **options: Any) -> int:
        return self._show(tasks.stop_task(None, tasks.get_task(None, id)))

    def do_release(self, *, id: str, **options: Any) -> int:
        return self._show(tasks.release_task(None, tasks.get_task(None, id)))

    def do_resume(self, *, id: str, full_resync: bool, **options: Any) -> int:
        return self._show(tasks.resume_task(None, tasks.get_task(None, id), allow_full_resync=full_resync))

    def do_precheck(self, *, id: str, timeout: float, **options: Any) -> int:
        row = self._ended(tasks.precheck_task(None, tasks.get_task(None, id)), timeout)
        items = list(row.items.all())
        rate = prechecks.success_rate(row)
        task = tasks.get_task(None, id)
        if self.json:
            self._print(
                inspection_values(row)
                | {
                    "items": [item_values(one) for one in items],
                    "success_rate": rate,
                    "task_status": task.status,
                }
            )
        else:
            for item in items:
                if item.outcome not in (Outcome.PASSED, Outcome.SKIPPED):
                    side = f"{item.side}: " if item.side else ""
                    self.stdout.write(f"{item.get_outcome_display():8} {side}{item.title} ({item.code})")
                    self.stdout.write(f"         {item.found} {item.advice}".rstrip())
            self.stdout.write(f"{rate} % passed. The task is {task.get_status_display().lower()}.")
            self._failure(row)
        return 0 if task.status == S.READY else NO

    def do_wait(self, *, id: str, until: str, timeout: float, **options: Any) -> int:
        reached = _caught_up if until == "caught-up" else _completed

        def look() -> MigrationTask | None:
            task = tasks.get_task(None, id)
            return task if reached(task) or task.status_badge in _DEAD_ENDS else None

        task = _poll(look, timeout, f"{id} was not {until} within {timeout:g} s. It goes on.")
        self._show(task)
        return 0 if reached(task) else NO

    def do_verify(self, *, id: str, mode: str, percent: int, timeout: float, **options: Any) -> int:
        if not 1 <= percent <= 100:
            raise Invalid(
                f"{percent} % of the keys cannot be compared: give 1 to 100. Nothing was started.",
                field="percent",
            )
        row = self._ended(
            verifications.request_verification(None, tasks.get_task(None, id), mode=mode, percent=percent),
            timeout,
        )
        if self.json:
            self._print(inspection_values(row))
        elif row.failure_id:
            self._failure(row)
        else:
            said = {
                "equal": "The two sides are equal.",
                "unsettled": "No difference was found, but some keys were written too often to be told.",
            }
            self.stdout.write(said.get(row.result.get("result", ""), "The two sides differ."))
            for name, value in row.result.items():
                if isinstance(value, (int, float, str)):
                    self.stdout.write(f"  {name.replace('_', ' ')}: {value}")
        if row.failure_id:
            return REFUSED
        return 0 if row.passed else NO

    # --- output

    def _show(self, task: MigrationTask) -> int:
        task = tasks.get_task(None, task.public_id)
        values = task_values(task)
        if self.json:
            self._print(values)
            return 0
        progress = values["progress"]
        self.stdout.write(f"{task.public_id}  {task.get_status_display()}  {task.name}")
        if task.status_badge.is_active and progress["percent"] is not None:
            self.stdout.write(
                f"  {progress['percent']:.0f} % of the full phase, {progress['keys_done']:,} keys"
            )
        if progress["lag_seconds"] is not None:
            self.stdout.write(f"  lag {progress['lag_seconds']:.1f} s, {progress['lag_bytes'] or 0:,} bytes")
        for sentence in [*values["missing"], task.pause_reason, task.failure_message, task.failure_advice]:
            if sentence:
                self.stdout.write(f"  {sentence}")
        return 0

    def _ended(self, inspection: Inspection, timeout: float) -> Inspection:
        def look() -> Inspection | None:
            row = Inspection.objects.get(pk=inspection.pk)
            return row if row.status_badge.is_final else None

        what = inspection.get_kind_display()
        return _poll(
            look,
            timeout,
            f"The {what.lower()} {inspection.public_id} did not end within {timeout:g} s. It goes on; "
            "a worker of the cluster `default` has to run (manage.py runcluster default).",
        )

    def _failure(self, row: Inspection) -> None:
        if row.failure_id:
            self.stderr.write(f"{row.failure_message} {row.failure_advice}".strip())

    def _refusal(self, refusal: ServiceError) -> None:
        if self.json:
            values = {
                "id": refusal.id,
                "message": refusal.message,
                "advice": refusal.advice,
                "field": refusal.field,
            }
            self._print({"error": values})
        else:
            self.stderr.write(str(refusal))

    def _print(self, values: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(values, default=str))


def _verb(verbs: Any, name: str, what: str) -> ArgumentParser:
    parser: ArgumentParser = verbs.add_parser(name, help=what)
    parser.add_argument("--json", action="store_true", help="print JSON, as the HTTP API answers it")
    return parser


def _with_id(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument("id", metavar="ID", help="the task's ID")
    return parser


def _timeout(parser: ArgumentParser, seconds: int) -> None:
    parser.add_argument(
        "--timeout",
        type=float,
        default=seconds,
        metavar="SECONDS",
        help="how long to wait; default: %(default)s",
    )


def _from_environment(text: str) -> str:
    name = text.removeprefix("env:")
    if name == text:
        return text
    if not os.environ.get(name):
        raise Invalid(f"There is no {name} in the environment. Nothing was changed.")
    return os.environ[name]


def _account(text: str) -> Account:
    rows = Account.objects.all()
    found = list((rows.filter(public_id=text) or rows.filter(name=text))[:2] if text else rows[:2])
    if len(found) == 1:
        return found[0]
    if text or not found:
        raise NotFound(f"There is no account {text}".rstrip() + ". Nothing was changed.", field="account")
    raise NotFound(
        "There are several accounts. Nothing was changed.",
        advice="Name one with --account, by its ID or its name.",
        field="account",
    )


def _poll(look: Callable[[], T | None], timeout: float, late: str) -> T:
    until = time.monotonic() + timeout
    while (found := look()) is None:
        if time.monotonic() > until:
            raise Late(late)
        connection.close_if_unusable_or_obsolete()
        time.sleep(POLL)
    return found


def _caught_up(task: MigrationTask) -> bool:
    return task.status == S.COMPLETED or (task.status == S.INCREMENTAL and task.link.progress.caught_up)


def _completed(task: MigrationTask) -> bool:
    return task.status == S.COMPLETED
