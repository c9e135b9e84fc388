"""Registering, changing, checking and removing instances.

The server is always asked first, outside any transaction; what cannot be reached is not registered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog
from django.db import IntegrityError, models, transaction
from django.utils import timezone

from portal.choices import InstanceStatus
from portal.errors import Conflict, Invalid, ServiceError
from portal.keys import CredentialUnreadable
from portal.models import Account, Endpoint, Instance, Node
from portal.redis_control import EndpointParams, ProbeResult, params_of, probe
from portal.services import audit
from portal.services.permissions import require_operator

if TYPE_CHECKING:
    from django.contrib.auth.models import User

log = structlog.get_logger(__name__)

ENDPOINT_FIELDS = (
    "host", "port", "unix_path", "tls", "tls_verify", "tls_ca_pem", "tls_server_name", "username", "password",
)  # fmt: skip
DETECTED_FIELDS = (
    "edition", "version", "compatible_version", "architecture", "role", "replica_of", "run_id", "memory_used",
    "memory_max", "memory_host", "eviction_policy", "database_count", "databases", "facts",
)  # fmt: skip


class DuplicateInstance(Conflict):
    id = "instance.duplicate"
    field = "address"


class InstanceInUse(Conflict):
    id = "instance.in_use"


def try_endpoint(actor: User | None, account: Account, params: EndpointParams) -> ProbeResult:
    """What the server says of itself; nothing is stored. Raises NotFound, NotPermitted, ProbeError."""
    require_operator(actor, account)
    return probe(params)


def try_changed_endpoint(
    actor: User | None, instance: Instance, params: EndpointParams, *, keep_password: bool
) -> ProbeResult:
    """As try_endpoint, with the stored password where `keep_password` says so and update_instance would allow it."""
    require_operator(actor, instance.account)
    return probe(_with_stored_password(instance.endpoint, params) if keep_password else params)


def register_instance(
    actor: User | None,
    account: Account,
    params: EndpointParams,
    *,
    name: str,
    region: str = "",
    zone: str = "",
    proxy_version: str = "",
    description: str = "",
) -> Instance:
    """Asks the server at `params` and adds it to the account.

    Raises NotFound, NotPermitted, ProbeError (not reachable, or nothing that can be managed),
    DuplicateInstance (the account has this server already), Conflict (`instance.name_taken`). Nothing is
    stored in any of these cases.
    """
    require_operator(actor, account)
    _refuse_taken_name(account, name)
    found = probe(params)
    instance = Instance(
        account=account,
        name=name,
        region=region,
        zone=zone,
        proxy_version=proxy_version,
        description=description,
    )
    _apply(instance, found)
    try:
        with transaction.atomic():
            _refuse_duplicate(account, params, found.run_id)
            instance.save(force_insert=True)
            Endpoint.objects.create(instance=instance, **_endpoint_values(params))
            _store_nodes(instance, found)
            audit.record(
                actor,
                "instance.registered",
                instance,
                address=params.address,
                product=found.product,
                tls=params.tls,
            )
    except IntegrityError as error:
        raise _name_taken(name) from error
    return instance


def update_instance(
    actor: User | None,
    instance: Instance,
    params: EndpointParams,
    *,
    name: str,
    region: str = "",
    zone: str = "",
    proxy_version: str = "",
    description: str = "",
    keep_password: bool = False,
) -> Instance:
    """Changes the entered data. The server is asked again if anything of the connection has changed.

    `keep_password`: use the stored password and ignore that of `params`. That is refused together with a new address or
    less checking of the certificate: whoever may edit an instance could send its password to a server of
    their own.

    Raises as register_instance, and Invalid (`instance.password_again`).
    """
    require_operator(actor, instance.account)
    endpoint = instance.endpoint
    if name != instance.name:
        _refuse_taken_name(instance.account, name)
    if keep_password:
        params = _with_stored_password(endpoint, params)
    is_connection_new = _is_connection_new(endpoint, params)
    found = probe(params) if is_connection_new else None
    values: dict[str, Any] = {
        "name": name,
        "region": region,
        "zone": zone,
        "proxy_version": proxy_version,
        "description": description,
    }
    changed = [field for field, value in values.items() if getattr(instance, field) != value]
    for field, value in values.items():
        setattr(instance, field, value)
    try:
        with transaction.atomic():
            fields = list(values)
            if found is not None:
                _refuse_duplicate(instance.account, params, found.run_id, but=instance)
                fields += _apply(instance, found)
                entered = _endpoint_values(params)
                changed += [field for field in ENDPOINT_FIELDS if _differs(endpoint, field, entered[field])]
                for field, value in entered.items():
                    setattr(endpoint, field, value)
                endpoint.save(update_fields=ENDPOINT_FIELDS)
                _store_nodes(instance, found)
            instance.save(update_fields=fields)
            audit.record(actor, "instance.changed", instance, changed=changed, address=params.address)
    except IntegrityError as error:
        raise _name_taken(name) from error
    return instance


def refresh_instance(actor: User | None, instance: Instance) -> Instance:
    """Asks the server again and stores what it says, or that and why it could not be reached. Raises no ProbeError.

    What was detected before stays when the server is not reached. Raises NotFound, NotPermitted.
    """
    require_operator(actor, instance.account)
    before = (instance.status, instance.run_id)
    found: ProbeResult | None = None
    try:
        found = probe(params_of(instance.endpoint))
    except ServiceError as error:
        # Not only a ProbeError: a password that cannot be decrypted is a reason as well.
        instance.status = InstanceStatus.UNREACHABLE
        instance.last_error = str(error)
        instance.checked_at = timezone.now()
        fields = ["status", "last_error", "checked_at"]
    else:
        fields = _apply(instance, found)
    with transaction.atomic():
        instance.save(update_fields=fields)
        if found is not None:
            _store_nodes(instance, found)
        if (instance.status, instance.run_id) != before:
            audit.record(
                actor,
                "instance.status_changed",
                instance,
                old=before[0],
                new=str(instance.status),
                restarted=bool(before[1]) and before[1] != instance.run_id,
            )
    return instance


def store_found(instance: Instance, found: ProbeResult) -> None:
    """What a worker has found out on its way, without a question of its own. For workers: no permission is asked for."""
    with transaction.atomic():
        instance.save(update_fields=_apply(instance, found))
        _store_nodes(instance, found)


def store_failure(instance: Instance, error: ServiceError) -> None:
    """Why a worker has not reached it. What was detected before stays."""
    instance.status = InstanceStatus.UNREACHABLE
    instance.last_error = str(error)
    instance.checked_at = timezone.now()
    instance.save(update_fields=["status", "last_error", "checked_at"])


def delete_instance(actor: User | None, instance: Instance) -> None:
    """Removes the instance from the console; the server itself is not touched.

    Raises NotFound, NotPermitted, InstanceInUse while something (a task) refers to it.
    """
    require_operator(actor, instance.account)
    try:
        with transaction.atomic():
            audit.record(actor, "instance.deleted", instance, address=instance.endpoint.address)
            instance.delete()
    except models.ProtectedError as error:
        raise InstanceInUse(
            f"{instance.name} is in use by {_users(instance, error.protected_objects)}. It was not deleted.",
            advice="Stop and delete what uses it first.",
        ) from error


def _users(instance: Instance, objects: Iterable[models.Model]) -> str:
    """What uses the instance, in words: by name in its own account, as a number elsewhere."""
    own, foreign = [], 0
    for user in objects:
        if getattr(user, "account_id", instance.account_id) == instance.account_id:
            own.append(str(user))
        else:
            foreign += 1
    words = sorted(own)[:3]
    if len(own) > len(words):
        words.append(f"{len(own) - len(words)} more")
    if foreign:
        words.append(f"{foreign} of another account")
    return ", ".join(words)


def _apply(instance: Instance, found: ProbeResult) -> list[str]:
    """Copies what was detected to the instance, unsaved. Returns the names of the fields."""
    for field in DETECTED_FIELDS:
        setattr(instance, field, getattr(found, field))
    instance.status = InstanceStatus.ONLINE
    instance.last_error = ""
    instance.checked_at = timezone.now()
    return [*DETECTED_FIELDS, "status", "last_error", "checked_at"]


def _endpoint_values(params: EndpointParams) -> dict[str, Any]:
    values = {field: getattr(params, field) for field in ENDPOINT_FIELDS}
    return values | {"host": "", "port": 0} if params.unix_path else values


def _store_nodes(instance: Instance, found: ProbeResult) -> None:
    instance.nodes.all().delete()
    unique = {(node.host, node.port): node for node in found.nodes}
    Node.objects.bulk_create(
        Node(
            instance=instance,
            role=node.role,
            host=node.host,
            port=node.port,
            version=node.version,
            run_id=node.run_id,
        )
        for node in unique.values()
    )


def _with_stored_password(endpoint: Endpoint, params: EndpointParams) -> EndpointParams:
    """The parameters with the endpoint's password. Raises Invalid if they could carry it to another server."""
    if not endpoint.password:
        return params
    current = params_of(endpoint)
    if _goes_elsewhere(params, current):
        raise Invalid(
            "Where the password is sent has changed. Nothing was saved.",
            advice="Enter the password again, so that it is not sent to a server that it is not meant for.",
            id="instance.password_again",
            field="password",
        )
    return replace(params, password=current.password)


def _is_connection_new(endpoint: Endpoint, params: EndpointParams) -> bool:
    entered = _endpoint_values(params)
    return any(_differs(endpoint, field, entered[field]) for field in ENDPOINT_FIELDS)


def _differs(endpoint: Endpoint, field: str, value: Any) -> bool:
    stored = getattr(endpoint, field)
    if field != "password":
        return bool(stored != value)
    try:
        return bool(stored.reveal() != value)
    except CredentialUnreadable:
        return True  # entering it again is the way out, and must not fail on the old one


def _goes_elsewhere(params: EndpointParams, current: EndpointParams) -> bool:
    """Whether these parameters could carry the password to another server than the current ones."""

    def where(of: EndpointParams) -> tuple[Any, ...]:
        return (of.unix_path, of.host.lower(), of.port, of.tls_ca_pem, of.tls_server_name)

    is_weaker = (current.tls and not params.tls) or (
        current.tls_verify and not params.tls_verify and params.tls
    )
    return where(params) != where(current) or is_weaker


def _refuse_duplicate(
    account: Account, params: EndpointParams, run_id: str, *, but: Instance | None = None
) -> None:
    others = Instance.objects.fleet().filter(account=account)
    if but is not None:
        others = others.exclude(pk=but.pk)
    if params.unix_path:
        same_address = others.filter(endpoint__unix_path=params.unix_path)
    else:
        same_address = others.filter(endpoint__host__iexact=params.host, endpoint__port=params.port)
    if found := same_address.first():
        raise DuplicateInstance(
            f"{params.address} is registered already, as {found.name}. Nothing was saved.",
            advice=f"Open {found.public_id}, or enter another address.",
        )
    if run_id and (found := others.filter(run_id=run_id).first()):
        raise DuplicateInstance(
            f"{params.address} is the server that is registered as {found.name}: it has the same run ID. "
            "Nothing was saved.",
            advice=f"Open {found.public_id} and change its address there if this one is better.",
        )


def _refuse_taken_name(account: Account, name: str) -> None:
    # Before the server is asked, so that the answer comes at once; the constraint decides in the end.
    if Instance.objects.fleet().filter(account=account, name=name).exists():
        raise _name_taken(name)


def _name_taken(name: str) -> Conflict:
    return Conflict(
        f"The account has an instance named {name} already. Nothing was saved.",
        advice="Choose another name.",
        id="instance.name_taken",
        field="name",
    )
