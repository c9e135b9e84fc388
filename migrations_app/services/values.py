"""The settings of a task whose values can be judged by themselves: classes, times of the day, alerts, commands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from migrations_app import wire
from migrations_app.choices import ConflictPolicy, Method, Phases, SpeedClass
from migrations_app.models import MigrationTask
from migrations_app.services.checks import MAX_DATABASES, UNCHANGED, check_retry_minutes
from portal.errors import Invalid
from portal.models import Account, Contact

# What may be changed while the task runs: it takes effect within seconds.
RUNNING: Final = frozenset(
    {"retry_minutes", "speed_class", "speed_hours", "speed_time_zone", "alerts", "alert_lag_seconds", "alert_after_seconds",
     "alert_retrying_minutes", "alert_contacts", "verify_every_hours", "verify_percent"}
)  # fmt: skip
_CHOICES: Final = {
    "phases": Phases,
    "method": Method,
    "conflict": ConflictPolicy,
    "speed_class": SpeedClass,
}
# Field → smallest and largest value, and whether it may be empty.
_NUMBERS: Final[dict[str, tuple[int, int, bool]]] = {
    "alert_lag_seconds": (1, 86400, True),
    "alert_after_seconds": (0, 86400, False),
    "alert_retrying_minutes": (1, 1440, True),
    "verify_every_hours": (1, 720, True),
    "verify_percent": (1, 100, False),
}
_WORD: Final = re.compile(r"@?[A-Za-z][A-Za-z_-]{0,40}")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def check(row: MigrationTask, given: Iterable[str]) -> None:
    """Raises Invalid for a given field whose value cannot be."""
    for name in sorted(given):
        value = getattr(row, name, None)
        if choices := _CHOICES.get(name):
            if value not in choices.values:
                raise _refuse(name, f"“{value}” is none of {', '.join(choices.values)}.")
        elif bounds := _NUMBERS.get(name):
            _check_number(name, value, *bounds)
        elif name == "retry_minutes":
            if not isinstance(value, int) or isinstance(value, bool):
                raise _refuse(
                    name,
                    "The retry time is a whole number of minutes, from 10 to 1440.",
                    id="task.retry_time",
                )
            check_retry_minutes(value)
        elif name == "speed_hours":
            check_hours(value)
        elif name == "speed_time_zone":
            try:
                ZoneInfo(str(value))
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise _refuse(name, f"There is no time zone {value}.", advice="For example Europe/Berlin, or UTC.") from None  # fmt: skip
        elif name == "databases" and value is not None:
            for one in value:
                if not isinstance(one, int) or not 0 <= one < MAX_DATABASES:
                    advice = "Databases are given by their numbers, from 0 on."
                    raise _refuse(
                        name,
                        f"The source has no database {one}.",
                        advice=advice,
                        id="task.source_lacks_database",
                    )


def check_hours(hours: Any) -> None:
    """`[{"from": "22:00", "to": "06:00", "class": "unlimited"}]`: ranges of the day that do not overlap. Raises Invalid."""
    if not isinstance(hours, list):
        raise _refuse("speed_hours", "The times of the day are a list of ranges.")
    taken: dict[int, str] = {}
    for one in hours:
        if not isinstance(one, dict) or set(one) != {"from", "to", "class"}:
            raise _refuse("speed_hours", "Each range has a beginning, an end and a class.")
        for end in ("from", "to"):
            if not isinstance(one[end], str) or not _TIME.fullmatch(one[end]):
                raise _refuse("speed_hours", f"“{one[end]}” is no time of the day: write it as 22:00.")
        if one["class"] not in SpeedClass.values:
            raise _refuse("speed_hours", f"“{one['class']}” is no class.")
        if one["from"] == one["to"]:
            raise _refuse(
                "speed_hours", f"The range from {one['from']} to {one['to']} is empty.",
                advice="For the whole day choose the class itself.",
            )  # fmt: skip
        shown = f"{one['from']}–{one['to']}"
        for minute in minutes_of(one):
            if minute in taken:
                raise _refuse("speed_hours", f"The ranges {taken[minute]} and {shown} overlap.")
            taken[minute] = shown


def minutes_of(one: Mapping[str, str]) -> Iterable[int]:
    """The minutes of the day that a range covers; it may cross midnight."""
    begin, end = _minute(one["from"]), _minute(one["to"])
    return range(begin, end) if begin < end else [*range(begin, 1440), *range(end)]


def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def check_commands(commands: Any, databases: list[int] | None) -> None:
    """`{"": {"only" | "without": ["@hash", "SET", …]}, "3": …}`. Raises Invalid."""
    if not isinstance(commands, dict):
        raise _refuse("commands", "The chosen commands are a table by database.")
    for number, choice in commands.items():
        if number and not (isinstance(number, str) and number.isdecimal() and int(number) < MAX_DATABASES):
            raise _refuse("commands", f"“{number}” is no database.")
        if number and databases is not None and int(number) not in databases:
            raise _refuse(
                "commands", f"Commands are chosen for database {number}, which itself is not chosen."
            )
        words = next(iter(choice.values()), None) if isinstance(choice, dict) else None
        if not isinstance(words, list) or len(choice) != 1 or not set(choice) <= {"only", "without"}:
            raise _refuse(
                "commands", "Of a database, either the chosen commands or those left out are named."
            )
        for word in words:
            if not isinstance(word, str) or not _WORD.fullmatch(word):
                raise _refuse("commands", f"“{word}” is no command.")
        if not words and "only" in choice:
            raise _refuse("commands", "No command is chosen.", advice="Choose at least one, or all.")
        wire.Choice.of(choice).check()


def check_alerts(row: MigrationTask, contacts: Iterable[Contact] | None = None) -> None:
    """Alerts need a threshold and somebody to tell (R80). `contacts`: those that are about to be set. Raises Invalid."""
    if not row.alerts:
        return
    if row.alert_lag_seconds is None:
        raise _refuse(
            "alert_lag_seconds", "Alerts are on, but from which latency on is not said.",
            advice="Enter a number of seconds, or switch the alerts off.", id="task.alert_threshold",
        )  # fmt: skip
    chosen = list(contacts) if contacts is not None else list(row.alert_contacts.all())
    if not chosen:
        raise _refuse(
            "alert_contacts", "Alerts are on, but nobody is to be told.",
            advice="Choose a contact, or switch the alerts off.", id="task.alert_contacts",
        )  # fmt: skip


def check_contacts(account: Account, contacts: Iterable[Contact]) -> list[Contact]:
    """Raises Invalid for those of another account."""
    chosen = list(contacts)
    if any(one.account_id != account.pk for one in chosen):
        raise _refuse("alert_contacts", f"There is no such contact in the account {account.name}.")
    return chosen


def _check_number(name: str, value: Any, least: int, most: int, may_be_empty: bool) -> None:
    if value is None and may_be_empty:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _refuse(name, f"{value} is not a whole number from {least} to {most}.")


def _refuse(field: str, sentence: str, *, advice: str = "", id: str = "") -> Invalid:
    return Invalid(f"{sentence} {UNCHANGED}", advice=advice, id=id or f"task.bad_{field}", field=field)
