"""`manage.py events …`: everything about O&M events from the command line of the server, for scripts and for people.

Whoever may run it has the settings of the site, and so may do everything. What it prints with --json is what the HTTP API answers.

Exit codes: 0 done; 1 done for some, refused for others; 2 refused, nothing was changed.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from django.core.management.base import BaseCommand
from django.db.models import QuerySet

from events.choices import EventStatus, Level, Via
from events.clock import EXAMPLE, exact_moment_of
from events.describe import (
    event_values,
    events_values,
    plan_values,
    published_values,
    refusal_values,
    result_values,
    work_values,
)
from events.models import Campaign, Event
from events.services import execution, publishing, scheduling, several
from events.services.by import By
from events.services.drafts import Draft, type_called
from events.services.plans import Plan, Row, Told
from events.services.selection import FILTERS, Chosen, Selection
from portal.errors import Invalid, NotFound, ServiceError

PARTLY: Final = 1
REFUSED: Final = 2
BY: Final = By(via=Via.COMMAND)
YES: Final = ("yes", "true", "1")


class Command(BaseCommand):
    help = (
        f"Publish, list and change O&M events. TIME is ISO 8601 with an offset: {EXAMPLE}. "
        "Exit codes: 0 done, 1 done for some and refused for others, 2 refused."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        _publish_arguments(
            _verb(verbs, "publish", "announce an event for instances, and tell their contacts")
        )

        listing = _verb(verbs, "list", "the newest events")
        listing.add_argument(
            "--status", action="append", choices=["open", *EventStatus.values], help="once for each"
        )
        listing.add_argument("--level", choices=Level.values)
        listing.add_argument("--type", metavar="T")
        listing.add_argument("--instance", metavar="ID")
        listing.add_argument("--campaign", metavar="ID")
        listing.add_argument("--limit", type=_limit, default=100, metavar="N", help="default: %(default)s")

        show = _verb(verbs, "show", "one event")
        show.add_argument("id", metavar="ID")

        reschedule = _with_ids(_verb(verbs, "reschedule", "another switch time"))
        reschedule.add_argument(
            "--to",
            required=True,
            metavar="TIME|window|now",
            help="window: each instance's next maintenance window",
        )
        cancel = _with_ids(_verb(verbs, "cancel", "cancel events that have not begun"))
        cancel.add_argument("--reason", default="", help="those who were told of the event read it")
        _with_ids(_verb(verbs, "acknowledge", "somebody has seen them: nobody else is asked"))

        work = _verb(verbs, "work", "how far the work of an event has come, and its log")
        work.add_argument("id", metavar="ID")
        confirm = _of_a_stage(_verb(verbs, "confirm", "a stage of manual work was carried out"))
        confirm.add_argument(
            "--impact",
            type=float,
            metavar="SECONDS",
            help="for how long clients could not write, as measured",
        )
        confirm.add_argument("--note", default="", help="for the log")
        fail = _of_a_stage(_verb(verbs, "fail", "a stage of manual work has failed, and with it the event"))
        fail.add_argument("--reason", required=True, help="contacts are told")

    def handle(self, *args: Any, verb: str, json: bool, **options: Any) -> None:
        self.json = json
        act: Callable[..., int] = getattr(self, f"do_{verb}")
        try:
            code = act(**options)
        except ServiceError as refusal:
            if self.json:
                self._print({"error": refusal_values(refusal)})
            else:
                self.stderr.write(str(refusal))
            code = REFUSED
        if code:
            sys.exit(code)

    # --- verbs

    def do_publish(self, *, dry_run: bool, plan: str, **options: Any) -> int:
        draft = _draft(options)
        if dry_run:
            return self._show_plan(publishing.preview(BY, draft))
        made = publishing.publish(BY, draft, seen=plan)
        values = published_values(made, BY)
        if self.json:
            self._print(values)
        elif isinstance(made, Campaign):
            self.stdout.write(
                f"{made.public_id}  {made.name}: {_count(values['published'], 'event')} published"
            )
            for one in values["left_out"]:
                self.stderr.write(f"  left out: {one['name']} ({one['instance']}): {one['message']}")
        else:
            self._line(made)
        return PARTLY if values["left_out"] else 0

    def do_list(self, *, status: list[str] | None, level: str | None, limit: int, **options: Any) -> int:
        rows = _events()
        if status:
            wanted = {*status, *(("waiting", "pending") if "open" in status else ())}
            rows = rows.filter(status__in=wanted)
        if level:
            rows = rows.filter(level=level)
        if options["type"]:
            type_called(options["type"], "Nothing was looked for.")
        if options["campaign"] and not Campaign.objects.filter(public_id=options["campaign"]).exists():
            raise NotFound(
                f"There is no campaign {options['campaign']}.", id="event.no_campaign", field="campaign"
            )
        fields = {"type": "type__code", "instance": "instance_public_id", "campaign": "campaign__public_id"}
        rows = rows.filter(**{field: options[name] for name, field in fields.items() if options[name]})
        found = list(rows.order_by("-pk")[:limit])
        if self.json:
            self._print(events_values(found, BY))
        else:
            for one in found:
                self._line(one)
        return 0

    def do_show(self, *, id: str, **options: Any) -> int:
        event = scheduling.get_event(None, id)
        values = event_values(event, BY)
        if self.json:
            self._print(values)
            return 0
        self._line(event)
        for name in ("cause", "hold_reason", "result"):
            if values[name]:
                self.stdout.write(f"  {values[name]}")
        self.stdout.write(f"  deadline {_text(event.deadline)}, impact about {event.impact_seconds} s")
        if event.version_to:
            self.stdout.write(f"  version {event.version_from or 'unknown'} to {event.version_to}")
        for name, verdict in values["actions"].items():
            self.stdout.write(f"  {name}: {'possible' if verdict['open'] else verdict['reason']}")
        return 0

    def do_reschedule(self, *, ids: list[str], to: str, **options: Any) -> int:
        wish: datetime | Literal["now", "window"]
        wish = "now" if to == "now" else "window" if to == "window" else exact_moment_of(to, "to")
        return self._each(ids, lambda by, event: scheduling.reschedule(by, event, wish))

    def do_cancel(self, *, ids: list[str], reason: str, **options: Any) -> int:
        return self._each(ids, lambda by, event: scheduling.cancel(by, event, reason))

    def do_acknowledge(self, *, ids: list[str], **options: Any) -> int:
        return self._each(ids, scheduling.acknowledge)

    def do_work(self, *, id: str, **options: Any) -> int:
        return self._work(id)

    def do_confirm(self, *, id: str, stage: str, impact: float | None, note: str, **options: Any) -> int:
        execution.confirm(BY, scheduling.get_event(None, id), stage, impact, note)
        return self._work(id)

    def do_fail(self, *, id: str, stage: str, reason: str, **options: Any) -> int:
        execution.report_failure(BY, scheduling.get_event(None, id), reason, stage)
        return self._work(id)

    # --- output

    def _work(self, id: str) -> int:
        event = scheduling.get_event(None, id)
        values = work_values(event)
        if self.json:
            self._print(values)
            return 0
        self._line(event)
        for stage in values["stages"]:
            waits = ", waits for a confirmation" if stage["code"] == values["waiting"] else ""
            self.stdout.write(f"  {stage['code']}: {stage['status']}{waits}")
        for line in values["log"]:
            self.stdout.write(f"  {_text(line['at'])}  {line['message']}")
        return 0

    def _each(self, ids: list[str], act: Callable[[By, Event], Event]) -> int:
        results = several.each(BY, _events(), ids, act)
        refused = [one for one in results if one.error]
        if self.json:
            self._print([result_values(one) for one in results])
        else:
            for one in results:
                if one.event is not None and not one.error:
                    self._line(one.event)
            for one in refused:
                self.stderr.write(f"{one.id}  {one.error}")
        if not refused:
            return 0
        return REFUSED if len(refused) == len(results) else PARTLY

    def _show_plan(self, plan: Plan) -> int:
        if self.json:
            self._print(plan_values(plan))
        else:
            self.stdout.write(
                f"{_count(len(plan.published), 'event')} would be published, "
                f"{_count(len(plan.left_out), 'instance')} left out. "
                f"Deadline {_text(plan.terms.deadline)}. Plan {plan.digest}"
            )
            for row in plan.rows:
                self._plan_line(row)
        if not plan.left_out:
            return 0
        return PARTLY if plan.published else REFUSED

    def _plan_line(self, row: Row) -> None:
        name = f"{row.instance.public_id}  {row.instance.name}"
        if row.refusal:
            self.stdout.write(f"{name}: left out: {row.reason} {row.refusal.advice}".rstrip())
            return
        when = _text(row.switch_at) if row.switch_at else "its owner chooses a time"
        version = (
            f"{row.version_from or 'not known'} → {row.version_to or 'not known'}; "
            if row.version_from or row.version_to
            else ""
        )
        told = ", ".join(_told(one) for one in row.told) or "nobody"
        self.stdout.write(f"{name}: {when}; {version}told: {told}")
        for one in row.warnings:
            self.stdout.write(f"  {one.text}")

    def _line(self, event: Event) -> None:
        when = _text(event.switch_at) if event.switch_at else "no time yet"
        simulated = " (simulated)" if event.is_simulated else ""
        self.stdout.write(
            f"{event.public_id}  {event.level}  {event.status_badge.label}  {when}  {event.type.name} of {event.instance_name} "
            f"({event.instance_public_id}){simulated}"
        )

    def _print(self, values: Any) -> None:
        self.stdout.write(json.dumps(values, default=_plain))


def _verb(verbs: Any, name: str, what: str) -> ArgumentParser:
    parser: ArgumentParser = verbs.add_parser(name, help=what)
    parser.add_argument("--json", action="store_true", help="print JSON, as the HTTP API answers it")
    return parser


def _with_ids(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument("ids", metavar="ID", nargs="+", help="the IDs of events")
    return parser


def _of_a_stage(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument("id", metavar="ID")
    parser.add_argument(
        "--stage", required=True, metavar="CODE", help="which one waits; another one by now is refused"
    )
    return parser


def _publish_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--type", required=True, metavar="T", help="the code of a type, such as minor-version")
    add("--instance", dest="instances", action="append", metavar="ID", help="once for each")
    add(
        "--filter",
        dest="filters",
        action="append",
        metavar="NAME=VALUE",
        help=f"instead of --instance, once for each condition: {', '.join(FILTERS)}; “all” for every instance",
    )
    add("--switch-at", metavar="TIME", help="default: each instance gets a time, see docs/events.md")
    add("--stagger", type=int, default=0, metavar="MINUTES", help="from one instance to the next")
    add("--deadline", metavar="TIME")
    add("--level", choices=Level.values)
    add("--cause", default="")
    add("--to-version", default="", metavar="VERSION")
    add("--release-notes", default="", metavar="URL")
    add("--fixed", action="store_true", help="owners may not choose another time")
    add("--cancellable", action="store_true", help="owners may cancel it")
    add("--executor", default="")
    add("--campaign", default="", metavar="NAME")
    add("--description", default="", help="of the campaign")
    add("--dry-run", action="store_true", help="tell what would be published, and publish nothing")
    add("--plan", default="", help="as the dry run told it: refused if it has changed since")


def _limit(text: str) -> int:
    if (number := int(text)) < 1:
        raise ArgumentTypeError("is at least 1")
    return number


def _draft(options: dict[str, Any]) -> Draft:
    return Draft(
        type=type_called(options["type"]),
        instances=_chosen(options["instances"], options["filters"]),
        level=options["level"] or "",
        switch_at=exact_moment_of(options["switch_at"]) if options["switch_at"] else None,
        stagger=timedelta(minutes=options["stagger"]),
        deadline=exact_moment_of(options["deadline"], "deadline") if options["deadline"] else None,
        cause=options["cause"],
        version_to=options["to_version"],
        release_notes=options["release_notes"],
        may_change=False if options["fixed"] else None,
        may_cancel=True if options["cancellable"] else None,
        executor=options["executor"],
        name=options["campaign"],
        description=options["description"],
    )


def _chosen(ids: list[str] | None, filters: list[str] | None) -> Chosen:
    if bool(ids) == bool(filters):
        raise Invalid(
            "Name instances with --instance, or a --filter. Nothing was published.",
            advice="Such as --filter version=6.2 --filter region=eu-central.",
            field="instances",
        )
    if ids:
        return ids
    values: dict[str, Any] = {}
    for text in filters or ():
        name, sign, value = text.partition("=")
        if text == "all":
            values["everything"] = True
            continue
        if not sign or name not in FILTERS or not value or name in values:
            raise Invalid(
                f"“{text}” is no condition, or one of two of the same name. Nothing was published.",
                advice=f"Write NAME=VALUE, with a name of {', '.join(FILTERS)}.",
                field="filter",
            )
        if name == "proxy" and value not in YES:
            raise Invalid(
                "The condition “proxy” is for instances that have one: its value is yes. Nothing was published.",
                advice="Write proxy=yes, or leave it out.",
                field="filter",
            )
        values[name] = True if name == "proxy" else value
    return Selection(**values)


def _events() -> QuerySet[Event]:
    return Event.objects.select_related("type", "account", "instance", "campaign")


def _told(one: Told) -> str:
    """`On call (Mail)`, `Night shift (Mail, 2026-03-01 06:00:00Z)`."""
    when = f", {_text(one.at)}" if one.at else ""
    return f"{one.name} ({one.ways}{when}{', if nobody has seen it by then' if one.if_unseen else ''})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _plain(value: Any) -> str:
    """As the API writes it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
