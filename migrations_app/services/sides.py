"""Choosing the sides of a task: from the fleet, self-hosted, by a template, or a snapshot file.

What is entered is checked before the transaction (names are resolved), then stored as an instance of the task's own; the one
that it replaces goes away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from migrations_app.models import MigrationTask, SnapshotFile
from migrations_app.services import snapshots, tasks
from portal.choices import EndpointKind, Origin
from portal.keys import CredentialUnreadable
from portal.models import AccessRole, ConnectionTemplate, Instance
from portal.patience import patient
from portal.services import connections
from portal.services.connections import ConnectionParams
from portal.services.permissions import require_operator

if TYPE_CHECKING:
    from django.contrib.auth.models import User

Side = Literal["source", "target"]
_WAY_IN: Final = (
    "username", "password", "sentinel_username", "sentinel_password", "tls", "tls_verify", "tls_ca_pem", "tls_server_name",
    "sentinel_tls",
)  # fmt: skip


def choose_instance(actor: User | None, task: MigrationTask, side: Side, instance: Instance) -> MigrationTask:
    """An instance of the fleet. Raises as `tasks.configure`."""
    if getattr(task, f"{side}_id") == instance.pk:
        return task
    return tasks.configure(actor, task, **{side: instance})


def choose_covered(
    actor: User | None, task: MigrationTask, side: Side, instance: Instance, role: AccessRole | None
) -> MigrationTask:
    """An instance of another account, under a role of it. Raises as `tasks.configure`."""
    if getattr(task, f"{side}_id") == instance.pk and getattr(task, f"{side}_role") == role:
        return task
    return tasks.configure(actor, task, **{side: instance, f"{side}_role": role})


def enter(actor: User | None, task: MigrationTask, side: Side, params: ConnectionParams) -> MigrationTask:
    """A self-hosted server. Secrets that are None are those of the side as it is now.

    Raises NotFound, NotPermitted, Conflict, or Invalid with the field of the form. Names are resolved: this blocks.
    """
    require_operator(actor, task.account)
    current = own(task, side)
    kept: dict[str, Any] = {}
    if current is not None:
        params = connections.with_secrets(params, current.endpoint)
        before = _as_it_is(current)
        if params == before:
            return task
        if before is not None and _place(params) == _place(before):
            kept = {
                "databases": task.databases,
                "commands": task.commands,
            }  # another way into the same server
    connections.check(params)
    return _replace(actor, task, side, params, kept)


def load_template(
    actor: User | None, task: MigrationTask, side: Side, template: ConnectionTemplate
) -> MigrationTask:
    """A copy of what the template holds becomes the side (R67). Nothing is looked up yet. Raises as `enter`."""
    require_operator(actor, task.account)
    require_operator(actor, template.account)
    return _replace(actor, task, side, connections.params_of_template(template), {})


def use_upload(actor: User | None, task: MigrationTask, row: SnapshotFile) -> MigrationTask:
    """An uploaded file as the source: its task has a full phase only. Raises as `enter`."""
    snapshots.get(actor, task.account, row.public_id)
    params = ConnectionParams(kind=EndpointKind.FILE, port=0, file_path=str(snapshots.path_of(row)))
    return _replace(actor, task, "source", params, {}, name=row.name)


def use_path(actor: User | None, task: MigrationTask, path: str) -> MigrationTask:
    """A file on the worker as the source. Raises as `enter`."""
    require_operator(actor, task.account)
    params = ConnectionParams(kind=EndpointKind.FILE, port=0, file_path=path.strip())
    current = own(task, "source")
    if current is not None and current.endpoint.file_path == params.file_path:
        return task
    connections.check(params)
    return _replace(actor, task, "source", params, {})


def save_template(
    actor: User | None, task: MigrationTask, side: Side, params: ConnectionParams, name: str
) -> ConnectionTemplate:
    """What was entered for a side as a template, with its own secrets where the field was left empty. Raises as `enter`."""
    current = own(task, side)
    return connections.save_template(
        actor, task.account, params, name, stored=current.endpoint if current is not None else None
    )


def own(task: MigrationTask, side: Side) -> Instance | None:
    """The side, if it is self-hosted or a file."""
    instance: Instance | None = getattr(task, side)
    return instance if instance is not None and instance.origin == Origin.SELF_HOSTED else None


@patient
def _replace(
    actor: User | None,
    task: MigrationTask,
    side: Side,
    params: ConnectionParams,
    kept: dict[str, Any],
    *,
    name: str = "",
) -> MigrationTask:
    made = connections.create_self_hosted(actor, task.account, params, name, checked=False)
    return tasks.configure(actor, task, **{side: made}, **(kept if side == "source" else {}))


def _as_it_is(instance: Instance) -> ConnectionParams | None:
    try:
        return connections.params_of_connection(instance.endpoint)
    except CredentialUnreadable:
        return None


def _place(params: ConnectionParams) -> tuple[Any, ...]:
    return tuple(getattr(params, name) for name in connections.STORED if name not in _WAY_IN)
