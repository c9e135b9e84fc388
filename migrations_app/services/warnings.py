"""Everything that the settings of a task bring with them and a person has to know before it starts (R90, R115). Pure.

The last step of the set-up lists it, and the person confirms it. What the two sides bring with them, whatever is chosen, is
`limits.py`; here both come together. What can only be seen at the servers is the precheck's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from migrations_app import wire
from migrations_app.choices import ConflictPolicy, Method, Phases, Severity, SpeedClass
from migrations_app.limits import limits_of
from migrations_app.models import MigrationTask
from portal.choices import EndpointKind


@dataclass(frozen=True, slots=True)
class Risk:
    """`id` never changes; `step` is the step of the set-up in which it can be chosen otherwise, "" where nowhere."""

    id: str
    severity: Severity
    text: str
    step: str = ""


def warnings(task: MigrationTask, *, retry_minutes: int | None = None, worker_ip: str = "") -> list[Risk]:
    """The risks of a task whose sides are chosen, warnings first. `retry_minutes`: what takes effect, if that is known."""
    found = [*_of_settings(task, retry_minutes or task.retry_minutes), *_of_sides(task, worker_ip)]
    return sorted(found, key=lambda risk: risk.severity != Severity.WARNING)


def _of_settings(task: MigrationTask, retry_minutes: int) -> Iterator[Risk]:
    following = task.phases == Phases.FULL_INCREMENTAL
    if task.method != Method.FILE:
        yield from _of_phases(task, following)
    if task.method == Method.SCAN:
        yield _warn("scan", "A key scan copies each key as it is when it is read, not all of them at one moment. Functions and the times of last use "
                    "are not copied, and changes that the source does not notify of are found only by a new look at all keys.")  # fmt: skip
    if task.conflict == ConflictPolicy.KEEP:
        yield _warn("keep", "Keys that the target has already are kept, and those of the source with the same name are not migrated: consistency is "
                    "not guaranteed, and your service may be at risk.")  # fmt: skip
    if task.conflict == ConflictPolicy.OVERWRITE:
        yield _warn("overwrite", "Keys of the target are overwritten by keys of the source with the same name. They cannot be brought back.")  # fmt: skip
    if task.databases is not None:
        yield _note("databases", f"{task.databases_label} only: all other databases of the source are not migrated.")  # fmt: skip
    if following and task.commands:
        rules = ", ".join(
            f"{f'DB {number}' if number else 'all other databases'}: {wire.Choice.of(choice).label.lower()}"
            for number, choice in sorted(task.commands.items())
        )
        yield _warn("commands", f"Not every write of the incremental phase is applied ({rules}): the two sides will differ.")  # fmt: skip
    if following and task.heartbeat:
        yield _note("heartbeat", "The heartbeat writes one key to database 0 of the source every second. It does not reach the target.")  # fmt: skip
    if following and not task.heartbeat:
        yield _note("no-heartbeat", "Without writes to the source the delay that is shown may be inaccurate. A write refreshes it; a heartbeat keeps it exact.")  # fmt: skip
    if retry_minutes <= 30:
        yield _warn("short-retry", f"A connection that is lost for {retry_minutes} minutes fails the task. More than 30 minutes are recommended.")  # fmt: skip
    if task.speed_class != SpeedClass.UNLIMITED or task.speed_hours:
        yield _note("speed", "The speed is limited. If the source writes more than that, the target falls behind until the limit is raised.")  # fmt: skip
    if not task.alerts:
        yield _note("no-alerts", "Nobody is told when the task fails or falls behind: alerts are off.")


def _of_phases(task: MigrationTask, following: bool) -> Iterator[Risk]:
    if not following:
        yield _warn("full-only", "Do not write to the source while the task runs: what is changed there meanwhile is not migrated, and the two sides "
                    "differ. The service may have to be interrupted. Full + incremental is recommended.")  # fmt: skip
        return
    yield _warn("stop-before-switch", "Before your service writes to the target, stop or release this task. A task that has failed is resumed by itself within "
                "7 days, and would overwrite what was written to the target meanwhile.")  # fmt: skip
    yield _note("until-stopped", "The task follows the source until you stop it. After the stop the source has lost nothing, and nothing more is written to the target.")  # fmt: skip
    if task.method == Method.PSYNC:
        yield _note("backlog", "An interruption may last as long as the source keeps its latest writes (its backlog; the precheck says for how many minutes). "
                    "After that they are gone, and only a new full synchronization makes both sides equal.")  # fmt: skip
    yield _note("holds-slot", "While the task tries to reconnect, it keeps its place among the running tasks.")  # fmt: skip


def _of_sides(task: MigrationTask, worker_ip: str) -> Iterator[Risk]:
    for side, instance in (("source", task.source), ("target", task.target)):
        # Where a server of another account is, is its owner's business.
        if instance is None or instance.account_id != task.account_id:
            continue
        if instance.endpoint.kind == EndpointKind.SERVER and instance.endpoint.is_raw_ip:
            yield Risk(f"{side}-address", Severity.WARNING, f"The {side} is given by an IP address ({instance.endpoint.address}). When it changes, "
                       "the task is cut off: use a host name, and switch off the DNS cache of applications and servers.", "sides")  # fmt: skip
    for number, limit in enumerate(limits_of(task)):
        tone = Severity.WARNING if limit.tone == "warning" else Severity.NOTICE
        yield Risk(f"limit-{number}", tone, limit.text)
    if worker_ip:
        yield Risk("worker-address", Severity.NOTICE, f"The worker connects from {worker_ip}. Where a side has an allowlist, the address must be on it, or the "
                   "connection is refused.", "sides")  # fmt: skip


def _warn(id: str, text: str) -> Risk:
    return Risk(id, Severity.WARNING, text, "objects")


def _note(id: str, text: str) -> Risk:
    return Risk(id, Severity.NOTICE, text, "objects")
