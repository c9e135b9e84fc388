"""What may be changed while a task runs, and what its worker reads of it every few seconds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from django.utils import timezone
from django.utils.crypto import salted_hmac

from migrations_app import speed
from migrations_app.choices import LogLevel, SpeedClass, TaskStatus
from migrations_app.models import MigrationTask
from migrations_app.services import links, values
from migrations_app.services.retry import effective_retry
from migrations_app.services.setup import SIDES, connection_facts, who
from portal.choices import Origin
from portal.errors import Conflict, Invalid, NotFound
from portal.models import Instance
from portal.patience import patient
from portal.services import audit, connections
from portal.services.permissions import require_operator

if TYPE_CHECKING:
    from django.contrib.auth.models import User

UNCHANGED: Final = "Nothing was changed."
# Nothing is left that a change could have an effect on.
_OVER: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.RELEASED})
_WORDS: Final = {
    "retry_minutes": "retry time (minutes)",
    "speed_class": "speed class",
    "speed_hours": "classes by time of day",
    "speed_time_zone": "time zone of the classes",
    "alerts": "alerts",
    "alert_lag_seconds": "threshold of the latency (s)",
    "alert_after_seconds": "time above the threshold (s)",
    "alert_retrying_minutes": "alert after retrying for (minutes)",
    "alert_contacts": "contacts",
    "verify_every_hours": "verification every (hours)",
    "verify_percent": "keys that are verified (%)",
}


@dataclass(frozen=True, slots=True)
class Live:
    """What a running link is to follow."""

    speed: SpeedClass
    retry_minutes: int
    connections: str  # digest: another one means that a side is reached in another way now


@patient
def change_running(actor: User | None, task: MigrationTask, **settings: Any) -> MigrationTask:
    """Change any of `values.RUNNING`; a link that runs follows within seconds, without losing its position.

    Raises NotFound, NotPermitted, Conflict (`task.cannot_change`) or Invalid with the field.
    """
    require_operator(actor, task.account)
    if unknown := sorted(set(settings) - values.RUNNING):
        raise Invalid(
            f"{unknown[0]} cannot be changed while the task runs. {UNCHANGED}", field=unknown[0], id="task.fixed_setting"
        )  # fmt: skip
    row = _locked(task)
    contacts = settings.pop("alert_contacts", None)
    before = {name: getattr(row, name) for name in settings}
    for name, value in settings.items():
        setattr(row, name, value)
    values.check(row, settings)
    if contacts is not None:
        contacts = values.check_contacts(row.account, contacts)
    values.check_alerts(row, contacts)
    changed = {name: [before[name], value] for name, value in settings.items() if before[name] != value}
    row.save(update_fields=list(settings))
    if contacts is not None and set(contacts) != set(row.alert_contacts.all()):
        row.alert_contacts.set(contacts)
        changed["alert_contacts"] = ["", ", ".join(sorted(one.name for one in contacts))]
    if changed:
        told = "; ".join(
            f"{_WORDS[name]} from {_shown(old)} to {_shown(new)}" if old != "" else f"{_WORDS[name]} to {new}"
            for name, (old, new) in sorted(changed.items())
        )
        links.note(row, "task.changed", f"{who(actor)} changed {told}.")
        audit.record(actor, "task.changed", row, changed={name: new for name, (_, new) in changed.items()})
    task.refresh_from_db()
    return task


def change_connection(
    actor: User | None, task: MigrationTask, side: str, params: connections.ConnectionParams
) -> MigrationTask:
    """Change address, account or password of a self-hosted side. A link that runs reconnects, and goes on where it stood.

    Of an instance of the fleet they are changed where the instance is. Raises NotFound, NotPermitted, Conflict or Invalid.
    """
    require_operator(actor, task.account)
    _self_hosted(task, side)
    connections.check(params)  # it looks names up: not inside the transaction
    return _store_connection(actor, task, side, params)


def _self_hosted(task: MigrationTask, side: str) -> Instance:
    instance: Instance | None = getattr(task, side) if side in SIDES else None
    if instance is None:
        raise NotFound(f"The task {task.name} has no {side}. {UNCHANGED}", field="side")
    if instance.origin != Origin.SELF_HOSTED:
        raise Conflict(
            f"The {side} {instance.name} is an instance of the fleet. {UNCHANGED}",
            advice="Change its address or password on its own page: the task follows.",
            id="task.side_of_fleet",
        )
    return instance


@patient
def _store_connection(
    actor: User | None, task: MigrationTask, side: str, params: connections.ConnectionParams
) -> MigrationTask:
    row = _locked(task)
    instance = _self_hosted(row, side)
    if connections.update_self_hosted(actor, instance, params, instance.name, checked=False):
        links.note(
            row,
            "task.connection_changed",
            f"{who(actor)} changed how the {side} is reached.",
            LogLevel.WARNING,
            side=side,
            address=params.address,
        )
        audit.record(actor, "task.connection_changed", row, side=side, address=params.address)
        # That may have been the cause of a failure: it is looked at soon.
        waiting = MigrationTask.objects.filter(
            pk=row.pk, status=TaskStatus.FAILED, resume_next_at__isnull=False
        )
        waiting.update(resume_next_at=timezone.now())
    task.refresh_from_db()
    return task


def live(task_id: int) -> Live | None:
    """What the link of this task is to follow now; None if the task is gone."""
    task = (
        MigrationTask.objects.select_related("source__endpoint", "target__endpoint")
        .filter(pk=task_id)
        .first()
    )
    if task is None:
        return None
    return Live(speed_at(task, timezone.now()), effective_retry(task)[0], connections_digest(task))


def speed_at(task: MigrationTask, moment: datetime) -> SpeedClass:
    """The class at a moment: that of the range that it lies in, else the task's own. Ranges may cross midnight."""
    return speed.in_force(task, moment).speed


def connections_digest(task: MigrationTask) -> str:
    facts = [connection_facts(side.endpoint) for side in task.both_sides()]
    text = json.dumps(facts, sort_keys=True, default=str)
    return salted_hmac("migrations_app.connections", text, algorithm="sha256").hexdigest()


def _locked(task: MigrationTask) -> MigrationTask:
    row = (
        MigrationTask.objects.select_for_update(of=("self",))
        .select_related("account", "source__endpoint", "target__endpoint")
        .filter(pk=task.pk)
        .first()
    )
    if row is None:
        raise NotFound(f"The task {task.name} was deleted meanwhile. {UNCHANGED}")
    if row.status_badge in _OVER:
        raise Conflict(
            f"The task {row.name} has ended: a change would have no effect. {UNCHANGED}", advice="", id="task.cannot_change"
        )  # fmt: skip
    if row.status_badge == TaskStatus.PRECHECKING:
        raise Conflict(
            f"The precheck of {row.name} is running. {UNCHANGED}", advice="Wait until it has ended.", id="task.cannot_change"
        )  # fmt: skip
    return row


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(f"{one['from']}–{one['to']} {one['class']}" for one in value) or "none"
    return "none" if value is None else str(value)
