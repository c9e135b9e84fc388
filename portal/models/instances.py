"""Instances (what people know), their endpoint (what clients connect to) and their nodes (the processes)."""

from __future__ import annotations

import ipaddress
from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.urls import reverse

from portal.choices import Architecture, Edition, EndpointKind, InstanceStatus, NodeRole, Origin
from portal.fields import EncryptedTextField
from portal.models.accounts import Account
from portal.models.ids import instance_id

PORT_VALIDATORS = [MinValueValidator(1), MaxValueValidator(65535)]


class InstanceQuerySet(models.QuerySet["Instance"]):
    def fleet(self) -> InstanceQuerySet:
        """Without the servers that were only named as a side of a task."""
        return self.filter(origin=Origin.FLEET)

    def visible_to(self, user: Any) -> InstanceQuerySet:
        """The instances of the person's accounts; all of them for an active superuser."""
        if not user.is_active or not user.pk:
            return self.none()
        return self if user.is_superuser else self.filter(account__members=user)

    def operated_by(self, user: Any) -> InstanceQuerySet:
        """The instances that the person may change and migrate."""
        return self.filter(account__in=Account.objects.operated_by(user))


class Instance(models.Model):
    """A Redis or Valkey server of the fleet. What is below `status` is detected, never entered."""

    public_id = models.CharField(
        "instance ID", max_length=16, unique=True, default=instance_id, editable=False
    )
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="instances")
    origin = models.CharField(
        max_length=12, choices=Origin.choices, default=Origin.FLEET, db_index=True,
        help_text="Self-hosted: one side of one task, not part of the fleet.",
    )  # fmt: skip
    name = models.CharField(max_length=120)
    region = models.CharField(max_length=60, blank=True, db_index=True)
    zone = models.CharField(max_length=60, blank=True)
    proxy_version = models.CharField(
        "proxy version", max_length=32, blank=True, help_text="Of the proxy in front of it; empty: there is none."
    )  # fmt: skip
    description = models.TextField(blank=True)
    created_at = models.DateTimeField("registered", auto_now_add=True)

    status = models.CharField(
        max_length=16, choices=InstanceStatus.choices, default=InstanceStatus.UNKNOWN, db_index=True
    )
    checked_at = models.DateTimeField("last checked", null=True, blank=True)
    last_error = models.TextField(blank=True)
    edition = models.CharField(max_length=16, choices=Edition.choices, default=Edition.UNKNOWN)
    version = models.CharField(max_length=32, blank=True)
    compatible_version = models.CharField(
        max_length=16, blank=True, help_text="Major and minor version, which an upgrade counts in."
    )
    architecture = models.CharField(max_length=16, choices=Architecture.choices, default=Architecture.UNKNOWN)
    role = models.CharField(max_length=16, choices=NodeRole.choices, default=NodeRole.UNKNOWN)
    replica_of = models.CharField(
        max_length=300, blank=True, help_text="The master's host:port, if this is a replica."
    )
    run_id = models.CharField(max_length=40, blank=True, db_index=True)
    memory_used = models.BigIntegerField(null=True, blank=True, help_text="Bytes.")
    memory_max = models.BigIntegerField(null=True, blank=True, help_text="Bytes; 0: no limit.")
    memory_host = models.BigIntegerField(null=True, blank=True, help_text="Bytes.")
    eviction_policy = models.CharField(max_length=32, blank=True)
    database_count = models.PositiveIntegerField(
        null=True, blank=True, help_text="Empty where the server does not tell."
    )
    databases = models.JSONField(
        default=list, blank=True, help_text="One {index, keys, expires} per database with keys."
    )
    facts = models.JSONField(default=dict, blank=True, help_text="What else was detected.")

    objects = InstanceQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "name"],
                condition=models.Q(origin=Origin.FLEET),
                name="instance_name_once_per_account",
                violation_error_message="The account already has an instance of this name.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"

    def get_absolute_url(self) -> str:
        return reverse("instance_detail", args=[self.public_id])

    @property
    def status_badge(self) -> InstanceStatus:
        return InstanceStatus(self.status)

    @property
    def role_badge(self) -> NodeRole:
        return NodeRole(self.role)

    @property
    def product(self) -> str:
        """Edition and version as people say it: `Valkey 9.1.2`; "" before the first contact."""
        if self.edition == Edition.UNKNOWN:
            return self.version
        return f"{self.get_edition_display()} {self.version}".strip()

    @property
    def key_count(self) -> int:
        """Keys over all databases, expired but not yet deleted ones included (as INFO counts them)."""
        return sum(database["keys"] for database in self.databases)

    @property
    def memory_limit(self) -> int | None:
        """What the data may grow to, in bytes: maxmemory, else the host's memory where it is known."""
        return self.memory_max or self.memory_host


class ConnectionFields(models.Model):
    """Where a server is and how to get in.

    Host and port, or a UNIX socket of this machine (then host is empty and port 0); sentinels that know where it is; or a
    snapshot file on the machine of the worker, which can only be read.
    """

    kind = models.CharField(max_length=12, choices=EndpointKind.choices, default=EndpointKind.SERVER)
    host = models.CharField(max_length=253, blank=True)
    port = models.PositiveIntegerField(default=6379)
    unix_path = models.CharField("socket path", max_length=255, blank=True)
    tls = models.BooleanField("TLS", default=False)
    tls_verify = models.BooleanField("verify the certificate", default=True)
    tls_ca_pem = models.TextField("CA certificates", blank=True, help_text="PEM; empty: the system's.")
    tls_server_name = models.CharField(
        "server name", max_length=253, blank=True, help_text="Empty: the host."
    )
    username = models.CharField(max_length=120, blank=True, help_text="Empty: the default user.")
    password = EncryptedTextField(blank=True, default="")
    sentinels = models.JSONField(default=list, blank=True, help_text='["host:port", …]')
    master_name = models.CharField(max_length=120, blank=True, help_text="The name that the sentinels know.")
    sentinel_username = models.CharField(max_length=120, blank=True)
    sentinel_password = EncryptedTextField(blank=True, default="")
    sentinel_tls = models.BooleanField("TLS to the sentinels", default=False)
    file_path = models.CharField("path of the snapshot file", max_length=500, blank=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.address

    @property
    def address(self) -> str:
        """`host:port`, `[v6]:port`, the path of a socket or a file, or `master (sentinels …)`."""
        if self.kind == EndpointKind.SENTINEL:
            return f"{self.master_name} (sentinels {', '.join(self.sentinels)})"
        if self.kind == EndpointKind.FILE:
            return self.file_path
        return self.unix_path or format_address(self.host, self.port)

    @property
    def is_raw_ip(self) -> bool:
        """True for an IP address instead of a name: clients that use it are cut off when the address changes (R16)."""
        return bool(self.host) and is_ip(self.host)

    @property
    def url(self) -> str:
        """`redis://user@host:port`, `rediss://…`, `unix://…`, `sentinel(s)://…` or `rdb://…`; never with a password."""
        user = f"{self.username}@" if self.username else ""
        if self.kind == EndpointKind.SENTINEL:
            return f"{'sentinels' if self.tls else 'sentinel'}://{user}{','.join(self.sentinels)}/{self.master_name}"
        if self.kind == EndpointKind.FILE:
            return f"rdb://{self.file_path}"
        if self.unix_path:
            return f"unix://{user}{self.unix_path}"
        return f"{'rediss' if self.tls else 'redis'}://{user}{self.address}"


class Endpoint(ConnectionFields):
    """What clients of an instance connect to, and the console and its workers."""

    instance = models.OneToOneField(Instance, on_delete=models.CASCADE, related_name="endpoint")

    class Meta:
        indexes = [models.Index(fields=["host", "port"], name="endpoint_address")]


class ConnectionTemplate(ConnectionFields):
    """Settings of a connection that were saved to be used again (R67, R71). What is made from them is a copy, never a link."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="connection_templates")
    name = models.CharField(max_length=120, help_text="Need not be unique.")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name", "pk"]

    def __str__(self) -> str:
        return self.name


class Node(models.Model):
    """A process of an instance, as its servers report it."""

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="nodes")
    role = models.CharField(max_length=16, choices=NodeRole.choices, default=NodeRole.UNKNOWN)
    host = models.CharField(max_length=255)
    port = models.PositiveIntegerField()
    version = models.CharField(max_length=32, blank=True)
    run_id = models.CharField(max_length=40, blank=True)

    class Meta:
        ordering = ["role", "host", "port"]
        constraints = [models.UniqueConstraint(fields=["instance", "host", "port"], name="node_address_once")]

    def __str__(self) -> str:
        return self.address

    @property
    def address(self) -> str:
        return format_address(self.host, self.port) if self.port else self.host

    @property
    def role_badge(self) -> NodeRole:
        return NodeRole(self.role)


def is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def format_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
