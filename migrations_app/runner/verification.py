"""Verification of a task: the counts of both sides, or every key by value (R119, R51).

`values` holds what the page shows: `mode`, `result` (equal, different, unsettled), `keys`, `differences` (keys that differ, or
databases in the quick mode), `listed` of them, `unsettled`, `left_out` (put down to commands that the task leaves out), `by_kind`,
`databases`, `seconds`, `notes`, `sides`; the service adds `sha256` of the report (`services/verification_report.py`).
"""

from __future__ import annotations

import time
from typing import Any, Final

from django.utils import timezone

from migrations_app.choices import ConflictPolicy, InspectionKind, Phases
from migrations_app.engine.choice import CommandChoice
from migrations_app.engine.rate import Rate
from migrations_app.engine.verify import Difference, Kind, VerifyProgress, VerifyReport, verify
from migrations_app.engine.verify.excuse import left_out
from migrations_app.engine.verify.quick import DatabaseCount, count
from migrations_app.models import Inspection, MigrationTask
from migrations_app.runner.configuration import command_choices
from migrations_app.runner.following import follow_of
from migrations_app.runner.inspections import Reporter, Result, kind
from migrations_app.runner.sides import endpoint_of
from migrations_app.services import access, verifications
from migrations_app.services.verifications import LISTED, QUICK, Row
from portal.models import Instance

_STORE: Final = 200  # rows at once
_STORE_SECONDS: Final = 2.0
_ACCESS_SECONDS: Final = 3.0  # between two looks whether a role still lets the task read
_QUICK_SECONDS: Final = (
    5.0  # for which the counts of two sides that a link connects may differ by what is on its way
)
_QUICK_PAUSE: Final = 0.3

EXPIRED_NOTE: Final = (
    "Keys whose time has passed are counted until the server deletes them, so the counts of all keys may differ although both sides "
    "hold the same. What is compared is the number of keys that do not expire."
)


@kind(InspectionKind.VERIFICATION)
def verify_task(report: Reporter) -> Result:
    if report.inspection.parameters.get("mode", QUICK) == QUICK:
        return _quick(report)
    return _values(report)


def _quick(report: Reporter) -> Result:
    task = report.task
    source, target = task.both_sides()
    access.require(task)
    started = time.monotonic()
    report.progress(0, 1, "counting the keys of both sides")

    def again(unequal: list[DatabaseCount]) -> bool:
        report.check()
        if follow_of(task) is None or time.monotonic() - started > _QUICK_SECONDS:
            return False
        time.sleep(_QUICK_PAUSE)
        return True

    links = [task.link.name] if hasattr(task, "link") else []
    counted = count(endpoint_of(source), endpoint_of(target), links, databases=_databases(task), again=again)
    unequal = sum(not one.equal for one in counted)
    values = _common(report.inspection, notes=[EXPIRED_NOTE, *_notes(task)]) | {
        "result": "different" if unequal else "equal",
        "keys": sum(one.source.keys for one in counted),
        "differences": unequal,
        "databases": [
            {
                "database": one.database,
                "equal": one.equal,
                **{
                    f"{side}_{name}": getattr(getattr(one, side), name)
                    for side in ("source", "target")
                    for name in ("keys", "expires", "lasting")
                },
            }
            for one in counted
        ],
        "seconds": round(time.monotonic() - started, 1),
    }
    return Result(values, passed=not unequal)


def _values(report: Reporter) -> Result:
    task, asked = report.task, report.inspection.parameters
    source, target = task.both_sides()
    access.require(task)
    verifications.begin_anew(report.inspection)
    found = _Found(report.inspection, command_choices(task.commands))
    follow = follow_of(task)
    checked = time.monotonic()

    def tell(progress: VerifyProgress) -> None:
        nonlocal checked
        found.flush(force=False)
        if time.monotonic() - checked > _ACCESS_SECONDS:
            access.require(task)
            checked = time.monotonic()
        eta = None
        if progress.walked and progress.seconds > 2:
            eta = round(progress.seconds * max(0, progress.to_walk - progress.walked) / progress.walked)
        report.progress(
            min(progress.walked, progress.to_walk),
            progress.to_walk,
            "looking again at keys that were just written"
            if progress.walked >= progress.to_walk and progress.waiting
            else f"comparing database {progress.database}",
            keys=progress.keys_done,
            differences=found.differing,
            waiting=progress.waiting,
            eta=eta,
            seconds=round(progress.seconds),
        )

    megabytes = asked.get("megabytes_per_second")
    done = verify(
        endpoint_of(source),
        endpoint_of(target),
        databases=_databases(task),
        ttl_tolerance_ms=asked.get("ttl_tolerance_ms", verifications.TTL_TOLERANCE_MS),
        max_reported=0,
        percent=asked.get("percent", 100),
        both_directions=asked.get("both_directions", True),
        rate=Rate(asked.get("keys_per_second") or None, megabytes * 2**20 if megabytes else None),
        follow=follow,
        on_progress=tell,
        on_difference=found.add,
    )
    report.check()
    found.flush(force=True)
    found.moved(verifications.mark_moved(report.inspection))
    notes = _notes(task)
    if found.left_out:
        notes.append(
            f"{found.left_out:,} differences can come from commands that the task leaves out, and are not counted."
        )
    if done.unsettled:
        notes.append(
            f"{done.unsettled:,} keys were written so often that it could not be told whether they differ. They are in the list, "
            "and not counted as differences."
        )
    if follow is not None and follow.ended:
        notes.append(
            "The link ended during the verification: what was written to the source since then is a difference."
        )
    values = _common(report.inspection, notes=notes) | _outcome(done, found)
    return Result(values, passed=values["result"] == "equal")


def _outcome(done: VerifyReport, found: _Found) -> dict[str, Any]:
    result = "different" if found.differing else "unsettled" if done.unsettled else "equal"
    return {
        "result": result,
        "keys": done.keys,
        "differences": found.differing,
        "listed": found.listed,
        "unsettled": done.unsettled,
        "left_out": found.left_out,
        "by_kind": dict(sorted(found.by_kind.items())),
        "databases": {str(number): keys for number, keys in sorted(done.databases.items())},
        "seconds": round(done.seconds, 1),
    }


class _Found:
    """Takes differences as they are found, and stores them a few hundred at a time; those of a key come one after the other."""

    def __init__(self, inspection: Inspection, commands: dict[int | None, CommandChoice]) -> None:
        self._inspection = inspection
        self._commands = commands
        self._rows: list[Row] = []
        self._last: tuple[int, bytes] | None = None
        self._stored_at = time.monotonic()
        self.differing = self.listed = self.left_out = 0
        self.by_kind: dict[str, int] = {}

    def add(self, one: Difference) -> None:
        if left_out(one, self._commands):
            self.left_out += 1
            return
        certain = one.kind is not Kind.UNSETTLED
        if certain:
            self.by_kind[one.aspect] = self.by_kind.get(one.aspect, 0) + 1
        place = (one.database, one.key)
        if place == self._last:
            self._join(one)
            return
        self._last = place
        self.differing += certain
        if self.listed < LISTED:
            self.listed += 1
            self._rows.append(Row(one.database, one.key, one.aspect, one.source, one.target, one.detail))

    def flush(self, *, force: bool) -> None:
        """The last one may get a second half."""
        due = force or len(self._rows) > _STORE or time.monotonic() - self._stored_at > _STORE_SECONDS
        most = len(self._rows) if force else len(self._rows) - 1
        if not due or most <= 0:
            return
        rows, self._rows = self._rows[:most], self._rows[most:]
        for start in range(0, len(rows), _STORE):
            verifications.store(self._inspection, rows[start : start + _STORE])
        self._stored_at = time.monotonic()

    def moved(self, rows: int) -> None:
        """So many rows are of keys that are in another database."""
        if rows:
            for kind in ("missing", "extra"):
                self.by_kind[kind] -= rows // 2
                if not self.by_kind[kind]:
                    del self.by_kind[kind]
            self.by_kind["database"] = rows

    def _join(self, one: Difference) -> None:
        """A key that differs in its content and in its expiry is one row, of the content's kind."""
        if not self._rows or (self._rows[-1].database, self._rows[-1].key) != (one.database, one.key):
            return
        before = self._rows[-1]
        parts = [(before.kind, before.source, before.target, before.detail)]
        parts.append((one.aspect, one.source, one.target, one.detail))
        parts.sort(key=lambda part: part[0] == Kind.TTL.value)
        (kind, source, target, detail), (_, more_source, more_target, more_detail) = parts
        self._rows[-1] = Row(
            one.database, one.key, kind, f"{source}; {more_source}", f"{target}; {more_target}",
            "; ".join(part for part in (detail, more_detail) if part),
        )  # fmt: skip


def _databases(task: MigrationTask) -> frozenset[int] | None:
    return None if task.databases is None else frozenset(task.databases)


def _notes(task: MigrationTask) -> list[str]:
    notes = []
    if task.phases == Phases.FULL and task.started_at:
        notes.append("The task has copied once: what was written to the source since then is a difference.")
    elif task.started_at and follow_of(task) is None:
        notes.append(
            "The task does not run: what was written to the source since it was left is a difference."
        )
    if task.conflict == ConflictPolicy.KEEP:
        notes.append("The task keeps what the target had before: such keys are differences.")
    return notes


def _common(inspection: Inspection, *, notes: list[str]) -> dict[str, Any]:
    source, target = inspection.task.both_sides()
    asked = {name: value for name, value in inspection.parameters.items() if name != "automatic"}
    return asked | {
        "notes": notes,
        "sides": {"source": _side(source), "target": _side(target)},
        "read_until": timezone.now().isoformat(timespec="seconds"),
    }


def _side(instance: Instance) -> dict[str, str]:
    return {"id": instance.public_id, "name": instance.name, "product": instance.product}
