"""The sides of a task as programs and commands name them: an instance, a URL, or an instance that a role covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction

from migrations_app.models import MigrationTask
from migrations_app.services import setup
from portal.errors import Invalid, NotFound
from portal.models import AccessRole, Account, Instance
from portal.patience import patient
from portal.services import connections, roles
from portal.services.connection_urls import params_of_url
from portal.services.connections import ConnectionParams
from portal.services.permissions import require_operator

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@dataclass(frozen=True, slots=True)
class Side:
    """`instance` is an ID or "", `url` likewise; `owner` (an account's ID) and `role` go with an instance of another account."""

    instance: str = ""
    url: str = ""
    owner: str = ""
    role: str = ""


def parse(text: str, *, owner: str = "", role: str = "") -> Side:
    """What a command got: a URL or the ID of an instance."""
    return Side(url=text) if "://" in text else Side(instance=text, owner=owner, role=role)


def create(
    actor: User | None,
    account: Account,
    sides: Mapping[str, Side],
    *,
    name: str = "",
    description: str = "",
    **settings: Any,
) -> MigrationTask:
    """A task, configured as far as is said. Nothing is stored if anything is refused.

    `sides` has `source` and `target`, or one of them, or none. Raises as `setup.create_draft` and `setup.configure`, and for a side
    NotFound or Invalid with `source` or `target` as the field.
    """
    require_operator(actor, account)
    found = {side: _find(account, side, named) for side, named in sides.items()}

    @patient
    @transaction.atomic  # a refusal takes what was made for the sides away again, also inside a transaction of the caller
    def store() -> MigrationTask:
        task = setup.create_draft(actor, account, name=name, description=description)
        return setup.configure(actor, task, **_settings(actor, account, found), **settings)

    return store()


def configure(
    actor: User | None, task: MigrationTask, sides: Mapping[str, Side], **settings: Any
) -> MigrationTask:
    """As `setup.configure`, with sides by their names."""
    require_operator(actor, task.account)
    found = {side: _find(task.account, side, named) for side, named in sides.items()}

    @patient
    @transaction.atomic
    def store() -> MigrationTask:
        return setup.configure(actor, task, **_settings(actor, task.account, found), **settings)

    return store()


Found = ConnectionParams | tuple[Instance, AccessRole | None]


def _settings(actor: User | None, account: Account, found: Mapping[str, Found]) -> dict[str, Any]:
    """What `setup.configure` takes for the sides. A URL becomes a self-hosted server of the account, which was checked already."""
    settings: dict[str, Any] = {}
    for side, what in found.items():
        if isinstance(what, ConnectionParams):
            made = connections.create_self_hosted(actor, account, what, checked=False)
            settings |= {side: made, f"{side}_role": None}
        else:
            settings |= {side: what[0], f"{side}_role": what[1]}
    return settings


def _find(account: Account, side: str, named: Side) -> Found:
    """Looks names up: never inside a transaction. Raises NotFound, or Invalid with the side as the field."""
    if bool(named.instance) == bool(named.url):
        raise Invalid(
            f"The {side} is to be named by an instance or by a URL, not by both or neither. Nothing was changed.",
            id="side.ambiguous",
            field=side,
        )
    if named.url:
        if named.role or named.owner:
            raise Invalid(
                f"A role opens an instance, not a URL: the {side} has both. Nothing was changed.",
                id="side.ambiguous",
                field=side,
            )
        params = params_of_url(named.url, side)
        connections.check(params)
        return params
    if named.role or named.owner:
        role = roles.find_role(account, named.owner, named.role)
        instance = roles.covered(role).filter(public_id=named.instance).first()
        if instance is None:
            raise Invalid(
                f"The role {role.name} does not cover the instance {named.instance}. Nothing was changed.",
                advice="Ask the owner of that account to add it to the role.",
                id="role.not_covered",
                field=side,
            )
        return instance, role
    instance = Instance.objects.fleet().filter(account=account, public_id=named.instance).first()
    if instance is None:
        raise NotFound(
            f"There is no instance {named.instance} in the account {account.name}. Nothing was changed.",
            advice="Name the ID of an instance as its page shows it, or a URL.",
            field=side,
        )
    return instance, None
