"""Setting a task up: the draft, its settings, what is still missing, and the digest that tells whether a precheck still holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import salted_hmac

from migrations_app import states
from migrations_app.choices import ConflictPolicy, Method, Phases, TaskStatus
from migrations_app.models import AppliedRepair, Link, LinkProgress, MigrationTask
from migrations_app.services import access, checks, links, snapshots, status, values
from migrations_app.states import Action
from portal.choices import Origin
from portal.errors import Conflict, Invalid, NotFound
from portal.keys import CredentialUnreadable
from portal.models import Account, ConnectionFields, Endpoint, Instance
from portal.patience import patient
from portal.services import audit
from portal.services.permissions import require_operator

if TYPE_CHECKING:
    from django.contrib.auth.models import User

SIDES: Final = ("source", "target")
# What a precheck depends on, beside the connections of both sides. Any other setting may change without voiding one.
CHECKED: Final = ("source_id", "target_id", "source_role_id", "target_role_id", "phases", "method", "databases", "commands",
    "conflict", "heartbeat")  # fmt: skip
SETTINGS: Final = frozenset(
    {"name", "description", "source", "target", "source_role", "target_role", "phases", "method", "databases", "commands",
     "conflict", "heartbeat", "wizard_step", "risks_acknowledged"}
) | values.RUNNING  # fmt: skip


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that keeps a task from its precheck: the step of the set-up where it is put right, and a sentence."""

    step: str
    sentence: str
    field: str = ""


@patient
def create_draft(
    actor: User | None, account: Account, *, name: str = "", description: str = ""
) -> MigrationTask:
    """A new task in the status Not configured, with its link. An empty name becomes one from the sides, once they are chosen.

    Raises NotFound or NotPermitted.
    """
    require_operator(actor, account)
    task = MigrationTask.objects.create(
        name=_one_line(name), account=account, description=description.strip(), created_by=actor
    )
    if not task.name:
        task.name = f"Task {task.public_id}"
        task.save(update_fields=["name"])
    link = Link.objects.create(task=task, name=task.public_id)
    LinkProgress.objects.create(link=link)
    status.begin(task)
    links.note(task, "task.created", f"{who(actor)} created the task.")
    audit.record(actor, "task.created", task)
    return task


@patient
def configure(actor: User | None, task: MigrationTask, **settings: Any) -> MigrationTask:
    """Change any of `SETTINGS`. A precheck from before is void when something has changed that it depends on.

    A source that is a snapshot file brings its method and phases along, unless they are given, too. A new source without
    `databases` and `commands` means all of them again. `risks_acknowledged` (a bool) is what the person says in the last step.

    Raises NotFound, NotPermitted, Conflict (`task.cannot_configure`) or Invalid with the field; nothing is changed then.
    """
    require_operator(actor, task.account)
    row = _locked(task)
    verdict = states.allowed(Action.CONFIGURE, row.status_badge)
    if not verdict.open:
        raise Conflict(f"{verdict.reason} {checks.UNCHANGED}", advice="", id="task.cannot_configure")
    if unknown := sorted(set(settings) - SETTINGS):
        raise Invalid(f"{unknown[0]} is no setting of a task. {checks.UNCHANGED}", field=unknown[0])
    before = fingerprint(row)
    replaced = {side: getattr(row, side) for side in SIDES}
    contacts = settings.pop("alert_contacts", None)
    changed = _apply(row, dict(settings))
    if contacts is not None:
        contacts = values.check_contacts(row.account, contacts)
        changed.append("alert_contacts")
    _check(row, set(settings))
    values.check_alerts(row, contacts)
    if fingerprint(row) != before:
        row.configured_at = timezone.now()
        if row.status_badge != TaskStatus.NOT_CONFIGURED and not status.move(
            row.pk, (row.status_badge,), TaskStatus.NOT_CONFIGURED
        ):
            raise Conflict(f"The task {row.name} was changed by somebody else meanwhile. {checks.UNCHANGED}")
        row.status = TaskStatus.NOT_CONFIGURED
    row.save()
    if contacts is not None:
        row.alert_contacts.set(contacts)
    for side, old in replaced.items():
        if old is not None and old.origin == Origin.SELF_HOSTED and getattr(row, f"{side}_id") != old.pk:
            drop_side(old)
    if changed and changed != ["wizard_step"]:
        audit.record(actor, "task.configured", row, changed=changed)
    task.refresh_from_db()
    return task


@patient
def create_task(
    actor: User | None,
    account: Account,
    source: Instance,
    target: Instance,
    *,
    databases: Iterable[int] | None = None,
    name: str = "",
    **settings: Any,
) -> MigrationTask:
    """A task with all its settings at once: the way of programs. It is to be prechecked, as any other.

    `databases` None means all. Raises as `create_draft` and `configure`, and Conflict where the target is taken.
    """
    require_operator(actor, account)
    for side, instance in zip(access.SIDES, (source, target), strict=True):
        access.check_side(account, side, instance, settings.get(f"{side}_role"))
    checks.check_sides(source, target)
    checks.check_other_tasks(source, target, unchanged="No task was created.")
    settings = {
        "source": source,
        "target": target,
        "databases": None if databases is None else list(databases),
        "conflict": ConflictPolicy.OVERWRITE,
    } | settings
    with transaction.atomic():  # a caller in a transaction of its own gets both or nothing, too
        task = create_draft(actor, account, name=name or generated_name(source, target))
        return configure(actor, task, **settings)


def missing(task: MigrationTask) -> list[Missing]:
    """What keeps the task from its precheck, in the order of the steps."""
    source, target = task.source, task.target
    found = [
        Missing("sides", f"The {side} is not chosen.", side) for side in SIDES if getattr(task, side) is None
    ]
    tests: tuple[Callable[[], object], ...] = (
        lambda: _check_pair(source, target),
        lambda: access.require(task),
        lambda: checks.check_method(source, target, task),
        lambda: checks.check_databases(source, target, task.databases),
        lambda: values.check_commands(task.commands, task.databases),
        lambda: values.check_alerts(task),
    )
    for test in tests:
        try:
            test()
        except (Invalid, NotFound) as error:
            step = "sides" if error.field in _OF_SIDES or error.id.startswith("role.") else "objects"
            found.append(Missing(step, error.message.replace(checks.UNCHANGED, "").strip(), error.field))
    return found


_OF_SIDES: Final = frozenset({"source", "target", "source_role", "target_role"})


def fingerprint(task: MigrationTask) -> str:
    """Digest of everything that a precheck depends on: settings, and how both sides are reached, secrets included."""
    facts: dict[str, Any] = {name: getattr(task, name) for name in CHECKED}
    for side in SIDES:
        instance = getattr(task, side)
        endpoint = Endpoint.objects.filter(instance=instance).first() if instance else None
        facts[f"{side}_connection"] = connection_facts(endpoint) if endpoint else None
    # Keyed: a digest of a short password would else tell it to whoever can read the table.
    text = json.dumps(facts, sort_keys=True, default=str)
    return salted_hmac("migrations_app.fingerprint", text, algorithm="sha256").hexdigest()


def connection_facts(endpoint: ConnectionFields) -> dict[str, Any]:
    """All columns of a connection, with the secrets in plain: for digests only."""
    facts: dict[str, Any] = {}
    for field in ConnectionFields._meta.get_fields():
        name = getattr(field, "attname", "")
        value = getattr(endpoint, name)
        if hasattr(value, "reveal"):
            try:
                value = value.reveal()
            except CredentialUnreadable:
                value = f"unreadable {value.token()}"
        facts[name] = value
    return facts


def generated_name(source: Instance, target: Instance) -> str:
    """`orders to orders-new`. Names need not be unique: the ID is."""
    return f"{source.name[:56]} to {target.name[:56]}"


def drop_side(instance: Instance) -> None:
    """A self-hosted server that was a side of a task goes with it; settings of it that a repair has changed are put back before."""
    if MigrationTask.objects.filter(Q(source=instance) | Q(target=instance)).exists():
        return
    if AppliedRepair.objects.filter(instance=instance, restored_at=None).update(restore_wanted=True):
        return  # services/repairs.py comes back when that is done
    snapshots.forget(instance)
    instance.delete()


def who(actor: User | None) -> str:
    return actor.get_username() if actor else "The system"


def _locked(task: MigrationTask) -> MigrationTask:
    row = (
        MigrationTask.objects.select_for_update(of=("self",))
        .select_related("account", "source", "target", "source_role", "target_role")
        .filter(pk=task.pk)
        .first()
    )
    if row is None:
        raise NotFound(f"The task {task.name} was deleted meanwhile. {checks.UNCHANGED}")
    return row


def _apply(row: MigrationTask, settings: dict[str, Any]) -> list[str]:
    """Set them on the row, unsaved, with what follows from them. The names of those that have changed."""
    source: Instance | None = settings.get("source", row.source)
    for side in SIDES:
        if side in settings and getattr(row, f"{side}_role") is not None:
            settings = {
                f"{side}_role": None
            } | settings  # a role belongs to the instance that it was named for
    if "source" in settings and source != row.source:
        role = settings.get("source_role")
        covered = access.databases_of(role, source) if role is not None and source is not None else None
        settings = {"databases": covered, "commands": {}} | settings
    if source is not None and checks.is_file(source):
        settings = {"method": Method.FILE, "phases": Phases.FULL, "heartbeat": False} | settings
    elif row.method == Method.FILE:
        settings = {"method": Method.PSYNC} | settings
    if "name" in settings:
        settings["name"] = _one_line(settings["name"]) or row.name
    elif row.name == f"Task {row.public_id}":
        target = settings.get("target", row.target)
        if source is not None and target is not None:
            settings["name"] = generated_name(source, target)
    if "risks_acknowledged" in settings:
        risks = settings.pop("risks_acknowledged")
        settings["risks_acknowledged_at"] = timezone.now() if risks else None
    changed = []
    for name, value in settings.items():
        if name == "databases" and value is not None:
            value = sorted(set(value))
        if getattr(row, name) != value:
            changed.append(name)
            setattr(row, name, value)
    return sorted(changed)


def _check(row: MigrationTask, given: set[str]) -> None:
    """Refuse what cannot be. What only does not fit together yet is told by `missing`, for the steps come one by one."""
    for side in SIDES:
        instance: Instance | None = getattr(row, side)
        if instance is not None and given & {side, f"{side}_role", "heartbeat"}:
            role = getattr(row, f"{side}_role")
            access.check_side(row.account, side, instance, role, heartbeat=row.heartbeat)
            taken = MigrationTask.objects.filter(Q(source=instance) | Q(target=instance)).exclude(pk=row.pk)
            if instance.origin == Origin.SELF_HOSTED and taken.exists():
                raise Invalid(
                    f"These settings of a server belong to another task. {checks.UNCHANGED}",
                    advice="Enter the server again.", id="task.side_of_another", field=side,
                )  # fmt: skip
    if given & set(SIDES):
        _check_pair(row.source, row.target)
    values.check(row, given)
    if given & {"phases", "method", "conflict", "heartbeat", "commands"}:
        checks.check_method(row.source, row.target, row)
    if "databases" in given:
        checks.check_databases(row.source, row.target, row.databases)
        access.require(row)
    if given & {"commands", "databases"}:
        values.check_commands(row.commands, row.databases)


def _check_pair(source: Instance | None, target: Instance | None) -> None:
    if source is not None and target is not None:
        checks.check_sides(source, target)
    elif target is not None:
        checks.check_target(target)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:120]
