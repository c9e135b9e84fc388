"""Reading the log of a task: a page, what has come since, and all of it. Never more than a bounded part of a long log at once."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import Q
from django.utils import timezone

from migrations_app.choices import LogLevel
from migrations_app.models import LogEntry, MigrationTask
from migrations_app.models.log import LogQuerySet
from portal.spreadsheets import harmless

PAGE: Final = 30
FRESH: Final = 200  # lines that one look at what is new may bring
SHOWN: Final = 300  # lines that a page collects before it begins anew
SEARCHED: Final = 20_000  # lines that a search by words looks through at once
SETTLED: Final = timedelta(seconds=10)  # a line with a smaller number may be committed that much later
BATCH: Final = 2000  # lines that are in memory while the log is sent
TROUBLE: Final = (LogLevel.WARNING, LogLevel.ERROR)
FORMATS: Final = {"csv": "text/csv", "jsonl": "application/x-ndjson", "text": "text/plain"}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which lines: of a level, with all of these words in message or event."""

    level: str = ""
    query: str = ""

    @classmethod
    def of(cls, values: Any) -> Choice:
        """From a query string. What cannot be is left out."""
        level = values.get("level", "")
        return cls(level if level in LogLevel.values else "", values.get("q", "").strip()[:200])

    @property
    def state(self) -> dict[str, str]:
        """As it stands in an address."""
        return {key: value for key, value in (("level", self.level), ("q", self.query)) if value}

    def lines(self, task: MigrationTask) -> LogQuerySet:
        rows: LogQuerySet = LogEntry.objects.filter(task=task)
        if self.level in TROUBLE:
            # In the words of the index, for planners that do not find out that the next line implies it.
            rows = rows.filter(level__in=TROUBLE)
        if self.level:
            rows = rows.filter(level=self.level)
        for word in self.query.split():
            rows = rows.filter(Q(message__icontains=word) | Q(event__icontains=word))
        return rows


@dataclass(frozen=True, slots=True)
class Page:
    lines: list[LogEntry]
    """The newest first."""
    older: int | None
    """Where the next page begins: the number of a line that is newer than all of it. None: there is none."""
    searched: int | None
    """A search has ended after so many lines, though there are older ones. None: it has looked through all that there was to be."""

    @property
    def anchor(self) -> int:
        """The newest line behind which no other one can be committed any more."""
        return anchor_of(self.lines)


def anchor_of(lines: list[LogEntry], now: datetime | None = None) -> int:
    limit = (now or timezone.now()) - SETTLED
    settled = next((line.pk for line in lines if line.at < limit), None)
    if settled is not None:
        return int(settled)
    return int(lines[-1].pk) - 1 if lines else 0


def page(task: MigrationTask, choice: Choice, before: int | None = None) -> Page:
    """The newest lines before the line `before`. Two queries at most."""
    everything = LogEntry.objects.filter(task=task).order_by("-pk")
    rows = choice.lines(task).order_by("-pk")
    if before is not None:
        everything, rows = everything.filter(pk__lt=before), rows.filter(pk__lt=before)
    bound: int | None = None
    if choice.query:
        bound = everything.values_list("pk", flat=True)[SEARCHED : SEARCHED + 1].first()
        if bound is not None:
            rows = rows.filter(pk__gt=bound)
    found = list(rows[: PAGE + 1])
    if len(found) > PAGE:
        return Page(found[:PAGE], found[PAGE - 1].pk, None)
    return Page(found, None if bound is None else bound + 1, None if bound is None else SEARCHED)


def since(task: MigrationTask, choice: Choice, after: int) -> list[LogEntry]:
    """The newest FRESH + 1 lines behind `after`, the newest first."""
    return list(choice.lines(task).filter(pk__gt=after).order_by("-pk")[: FRESH + 1])


def export(task: MigrationTask, choice: Choice, form: str) -> Iterator[str]:
    """All lines that there are now, the oldest first, in one of FORMATS, some at a time."""
    last = LogEntry.objects.filter(task=task).order_by("-pk").values_list("pk", flat=True).first() or 0
    rows = choice.lines(task).filter(pk__lte=last).order_by("pk")
    columns = ("pk", "at", "level", "event", "message", "fields")
    if form == "csv":
        yield _csv([("time", "level", "event", "message", "fields")])
    after = 0
    while True:
        batch = list(rows.filter(pk__gt=after).values_list(*columns)[:BATCH])
        if batch:
            yield _written(form, batch)
        if len(batch) < BATCH:
            return
        after = batch[-1][0]


def _written(form: str, batch: list[tuple[Any, ...]]) -> str:
    lines = [(_utc(at), level, event, message, fields) for _, at, level, event, message, fields in batch]
    if form == "csv":
        return _csv([(*rest, json.dumps(fields) if fields else "") for *rest, fields in lines])
    if form == "jsonl":
        names = ("time", "level", "event", "message", "fields")
        return "".join(f"{json.dumps(dict(zip(names, line, strict=True)))}\n" for line in lines)
    return "".join(
        f"{at} {level.upper():<7} {event} {' '.join(message.split())}{''.join(f' {key}={value}' for key, value in fields.items())}\n"
        for at, level, event, message, fields in lines
    )


def _csv(rows: list[tuple[str, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([[harmless(cell) for cell in row] for row in rows])
    return text.getvalue()


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
