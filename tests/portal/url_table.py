"""Who may open what. Every URL of the project has a row in a `ROWS` of some `tests/<app>/url_table.py`.

The statuses stand in the order of world.ROLES: anonymous, outsider (a member of another account only), viewer, operator,
owner, admin. 302 for anonymous is the login. `post` None: the URL takes no POST.

The last role, partner, owns the account at the other side of a migration across accounts. What is not said of a partner in
`partner` is as for an outsider: of what the two accounts share, a partner sees what is meant for the other side and nothing else.

Another app's table may define `prepare(world)`, which adds its objects to `world.extra` before each row of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from portal.models import (
    AccessRole,
    Channel,
    ConnectionTemplate,
    Contact,
    Delivery,
    Notification,
    RoleCoverage,
    SavedView,
)
from portal.services import tokens
from tests.portal.world import World

Statuses = tuple[int, int, int, int, int, int]


def nothing(world: World) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Row:
    name: str
    kwargs: Callable[[World], Mapping[str, Any]] = nothing
    get: Statuses | None = None
    post: Statuses | None = None
    data: Callable[[World], Mapping[str, Any]] = nothing
    """What the POST sends."""
    partner: tuple[int, int] | None = None
    """GET and POST for the partner; None: as for an outsider."""

    def status(self, method: str, index: int) -> int | None:
        """What the role at this place of world.ROLES gets; None if the URL does not take the method."""
        statuses = self.get if method == "get" else self.post
        if statuses is None:
            return None
        if index < len(statuses):
            return statuses[index]
        return self.partner[method == "post"] if self.partner else statuses[1]


def instance(world: World) -> dict[str, Any]:
    return {"public_id": world.instance.public_id}


def account(world: World) -> dict[str, Any]:
    return {"public_id": world.account.public_id}


def viewer_membership(world: World) -> dict[str, Any]:
    return account(world) | {"membership_id": world.account.memberships.get(user=world.user("viewer")).pk}


def registration(world: World) -> dict[str, Any]:
    return {"name": "new", "account": world.account.public_id, "address": "new.internal:6379"}


def edit(world: World) -> dict[str, Any]:
    return {"name": "renamed", "address": "sessions.internal:6379", "tls_verify": "on"}


def granted(world: World) -> dict[str, Any]:
    """A role of the account, which trusts the partner's."""
    role, _ = AccessRole.objects.get_or_create(
        account=world.account, name="for-partner", defaults={"trusted_account": world.partner_account}
    )
    RoleCoverage.objects.get_or_create(role=role, instance=world.instance)
    return {"public_id": role.public_id}


def new_role(world: World) -> dict[str, Any]:
    return {
        "name": "another",
        "trusted_account": world.partner_account.public_id,
        "access": "read",
        "cover": world.instance.public_id,
    }


def changed_role(world: World) -> dict[str, Any]:
    return {"access": "read-write", "cover": world.instance.public_id}


def saved_view(world: World) -> dict[str, Any]:
    view, _ = SavedView.objects.get_or_create(user=world.user("owner"), page="instance_list", name="Mine")
    return {"view_id": view.pk}


def password_change(world: World) -> dict[str, Any]:
    return {"old_password": "wrong", "new_password1": "x", "new_password2": "y"}


def owners_token(world: World) -> dict[str, Any]:
    token, _ = tokens.create_token(world.user("owner"), "script", ["fleet:read"])
    return {"public_id": token.public_id}


def template(world: World) -> dict[str, Any]:
    made, _ = ConnectionTemplate.objects.get_or_create(account=world.account, name="Orders", host="127.0.0.1")
    return account(world) | {"template_id": made.pk}


def template_data(world: World) -> dict[str, Any]:
    return {"name": "new", "server_kind": "server", "address": "127.0.0.1:6379", "login": "none"}


def contact(world: World) -> dict[str, Any]:
    row, _ = Contact.objects.get_or_create(
        account=world.account,
        name="On call",
        defaults={"email": "oncall@example.org", "categories": ["tasks"]},
    )
    Channel.objects.get_or_create(contact=row, kind="mail")
    return account(world) | {"contact_id": row.pk}


def webhook(world: World) -> dict[str, Any]:
    found = contact(world)
    channel, _ = Channel.objects.get_or_create(contact_id=found["contact_id"], kind="webhook")
    return found | {"channel_id": channel.pk}


def new_contact(world: World) -> dict[str, Any]:
    return {"name": "Second", "email": "second@example.org", "time_zone": "UTC", "order": "1"}


def delivery(world: World) -> dict[str, Any]:
    row = Contact.objects.get(pk=contact(world)["contact_id"])
    told, _ = Notification.objects.get_or_create(
        account=world.account, contact=row, occasion="x", defaults={"category": "tasks", "subject": "x"}
    )
    sent, _ = Delivery.objects.get_or_create(
        notification=told, channel=row.channels.first(), defaults={"kind": "mail", "status": "sent"}
    )
    return account(world) | {"delivery_id": sent.pk}


def owners_message(world: World) -> dict[str, Any]:
    told, _ = Notification.objects.get_or_create(
        account=world.account,
        user=world.user("owner"),
        occasion="y",
        defaults={"category": "tasks", "subject": "x"},
    )
    return {"public_id": told.public_id}


def new_window(world: World) -> dict[str, Any]:
    return {"days": ["1", "3"], "starts": "02:00", "ends": "04:00", "time_zone": "Europe/Berlin"}


ROWS = [
    Row("home", get=(302, 200, 200, 200, 200, 200)),
    Row("healthz", get=(200, 200, 200, 200, 200, 200)),
    Row("login", get=(200, 302, 302, 302, 302, 302), post=(200, 302, 302, 302, 302, 302)),
    Row("logout", post=(302, 302, 302, 302, 302, 302)),
    Row("profile", get=(302, 200, 200, 200, 200, 200), post=(302, 422, 422, 422, 422, 422)),
    Row(
        "profile_password",
        get=(302, 200, 200, 200, 200, 200),
        post=(302, 422, 422, 422, 422, 422),
        data=password_change,
    ),
    Row(
        "token_list",
        get=(302, 200, 200, 200, 200, 200),
        post=(302, 200, 200, 200, 200, 200),
        data=lambda world: {"name": "script", "scopes": "fleet:read", "days": "30"},
    ),
    # A token is its owner's own: others, and administrators too, do not find it here.
    Row(
        "token_revoke", owners_token, get=(302, 404, 404, 404, 200, 404), post=(302, 404, 404, 404, 302, 404)
    ),
    Row("instance_list", get=(302, 200, 200, 200, 200, 200)),
    Row(
        "instance_register",
        get=(302, 200, 200, 200, 200, 200),
        post=(302, 422, 422, 302, 302, 302),
        data=registration,
    ),
    Row("instance_detail", instance, get=(302, 404, 200, 200, 200, 200)),
    Row("instance_refresh", instance, post=(302, 404, 403, 302, 302, 302)),
    Row(
        "instance_edit",
        instance,
        get=(302, 404, 403, 200, 200, 200),
        post=(302, 404, 403, 302, 302, 302),
        data=edit,
    ),
    Row("instance_delete", instance, get=(302, 404, 403, 200, 200, 200), post=(302, 404, 403, 302, 302, 302)),
    Row(
        "instance_window",
        instance,
        get=(302, 404, 403, 200, 200, 200),
        post=(302, 404, 403, 302, 302, 302),
        data=new_window,
    ),
    Row("account_list", get=(302, 200, 200, 200, 200, 200)),
    Row(
        "account_create",
        get=(302, 403, 403, 403, 403, 200),
        post=(302, 403, 403, 403, 403, 302),
        data=lambda world: {"name": "New account"},
    ),
    Row(
        "account_detail",
        account,
        get=(302, 404, 200, 200, 200, 200),
        post=(302, 404, 403, 403, 302, 302),
        data=lambda world: {"name": "Renamed"},
    ),
    Row(
        "account_member_add",
        account,
        post=(302, 404, 403, 403, 302, 302),
        data=lambda world: {"username": "outsider", "role": "viewer"},
    ),
    Row(
        "account_member_change",
        viewer_membership,
        post=(302, 404, 403, 403, 302, 302),
        data=lambda world: {"role": "operator"},
    ),
    Row(
        "account_role_create",
        account,
        get=(302, 404, 403, 403, 200, 200),
        post=(302, 404, 403, 403, 302, 302),
        data=new_role,
    ),
    Row("account_role", granted, get=(302, 404, 200, 200, 200, 200), partner=(200, 405)),
    Row(
        "account_role_edit",
        granted,
        get=(302, 404, 403, 403, 200, 200),
        post=(302, 404, 403, 403, 302, 302),
        data=changed_role,
    ),
    Row(
        "account_role_revoke",
        granted,
        get=(302, 404, 403, 403, 200, 200),
        post=(302, 404, 403, 403, 302, 302),
    ),
    Row(
        "account_window",
        account,
        get=(302, 404, 403, 403, 200, 200),
        post=(302, 404, 403, 403, 302, 302),
        data=new_window,
    ),
    Row("template_list", account, get=(302, 404, 200, 200, 200, 200)),
    Row(
        "template_create",
        account,
        get=(302, 404, 403, 200, 200, 200),
        post=(302, 404, 403, 302, 302, 302),
        data=template_data,
    ),
    Row(
        "template_edit",
        template,
        get=(302, 404, 403, 200, 200, 200),
        post=(302, 404, 403, 302, 302, 302),
        data=template_data,
    ),
    Row("template_delete", template, get=(302, 404, 403, 200, 200, 200), post=(302, 404, 403, 302, 302, 302)),
    Row(
        "account_contact_create",
        account,
        get=(302, 404, 403, 200, 200, 200),
        post=(302, 404, 403, 302, 302, 302),
        data=new_contact,
    ),
    Row("account_contact", contact, get=(302, 404, 200, 200, 200, 200)),
    Row(
        "account_contact_edit",
        contact,
        get=(302, 404, 403, 200, 200, 200),
        post=(302, 404, 403, 302, 302, 302),
        data=new_contact,
    ),
    Row(
        "account_contact_delete",
        contact,
        get=(302, 404, 403, 200, 200, 200),
        post=(302, 404, 403, 302, 302, 302),
    ),
    Row("account_contact_test", contact, post=(302, 404, 403, 302, 302, 302)),
    # The answer shows the secret, once.
    Row("account_contact_secret", webhook, post=(302, 404, 403, 200, 200, 200)),
    Row("account_deliveries", account, get=(302, 404, 200, 200, 200, 200)),
    Row("account_redeliver", delivery, post=(302, 404, 403, 302, 302, 302)),
    Row(
        "instance_contacts",
        instance,
        get=(302, 404, 403, 200, 200, 200),
        post=(302, 404, 403, 302, 302, 302),
    ),
    Row("inbox", get=(302, 200, 200, 200, 200, 200)),
    Row("inbox_read_all", post=(302, 302, 302, 302, 302, 302)),
    # A message is its reader's own, also for administrators.
    Row("inbox_message", owners_message, get=(302, 404, 404, 404, 200, 404)),
    Row("inbox_mark", owners_message, post=(302, 404, 404, 404, 302, 404)),
    Row("saved_view_list", get=(302, 200, 200, 200, 200, 200)),
    Row(
        "saved_view_create",
        get=(302, 404, 404, 404, 404, 404),
        post=(302, 302, 302, 302, 302, 302),
        data=lambda world: {"list": "instance_list", "name": "Failed", "query": "status=unreachable"},
    ),
    # A view belongs to one person, whatever their role: here it is the owner's.
    Row(
        "saved_view_change", saved_view, post=(302, 404, 404, 404, 302, 404), data=lambda world: {"name": "x"}
    ),
    Row("audit_list", get=(302, 200, 200, 200, 200, 200)),
]
