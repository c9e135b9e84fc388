"""Statuses and other choices, each with the badge that shows it.

A member carries its value, the tone of its badge (`success`, `info`, `warning`, `danger`, `neutral`), an icon
(a name in `portal/icons.py`) and its label; a badge always shows icon and label, so that colour is never the
only sign.
"""

from __future__ import annotations

from django.db import models


class BadgedChoices(models.TextChoices):
    """`NAME = value, tone, icon, label`. `{% badge member %}` draws it."""

    tone: str
    icon: str

    def __new__(cls, value: str, tone: str = "neutral", icon: str = "dot") -> BadgedChoices:
        member = str.__new__(cls, value)
        member._value_ = value
        member.tone = tone
        member.icon = icon
        return member


class Role(BadgedChoices):
    """What a member may do in an account."""

    OWNER = "owner", "info", "key", "Owner"
    OPERATOR = "operator", "neutral", "wrench", "Operator"
    VIEWER = "viewer", "neutral", "eye", "Viewer"

    @property
    def can_operate(self) -> bool:
        """May register, change and delete instances, and run tasks."""
        return self in (Role.OWNER, Role.OPERATOR)

    @property
    def can_manage(self) -> bool:
        """May change the account and its members."""
        return self is Role.OWNER


class InstanceStatus(BadgedChoices):
    """What the last contact with an instance found."""

    ONLINE = "online", "success", "check-circle", "Online"
    UNREACHABLE = "unreachable", "danger", "x-circle", "Unreachable"
    UNKNOWN = "unknown", "neutral", "question-circle", "Not checked"


class Edition(BadgedChoices):
    REDIS = "redis", "neutral", "server", "Redis"
    VALKEY = "valkey", "neutral", "server", "Valkey"
    UNKNOWN = "unknown", "neutral", "question-circle", "Unknown"


class Architecture(BadgedChoices):
    """Standard: one master, with or without replicas. Cluster: hash slots over several masters."""

    STANDARD = "standard", "neutral", "server", "Standard"
    CLUSTER = "cluster", "neutral", "layers", "Cluster"
    UNKNOWN = "unknown", "neutral", "question-circle", "Unknown"


class NodeRole(BadgedChoices):
    MASTER = "master", "neutral", "arrow-up-circle", "Master"
    REPLICA = "replica", "neutral", "copy", "Replica"
    UNKNOWN = "unknown", "neutral", "question-circle", "Unknown"


class Origin(models.TextChoices):
    """How the console has come by an instance."""

    FLEET = "fleet", "Fleet"
    SELF_HOSTED = "self-hosted", "Self-hosted"


class EndpointKind(models.TextChoices):
    """What an address names."""

    SERVER = "server", "Server or cluster"
    SENTINEL = "sentinel", "Sentinels"
    FILE = "file", "Snapshot file"


class Access(models.TextChoices):
    """What an access role allows."""

    READ = "read", "Read"
    READ_WRITE = "read-write", "Read and write"


class RoleState(BadgedChoices):
    """Whether an access role can be used. A revoked one never can again."""

    VALID = "valid", "success", "check-circle", "Valid"
    EXPIRED = "expired", "warning", "clock", "Expired"
    REVOKED = "revoked", "danger", "x-circle", "Revoked"


class ChannelKind(models.TextChoices):
    """The ways to reach a contact."""

    MAIL = "mail", "Mail"
    INBOX = "inbox", "Inbox"
    APPRISE = "apprise", "Phone, SMS, chat or paging"
    WEBHOOK = "webhook", "Webhook"


class Category(models.TextChoices):
    """What a contact can be told about."""

    MAINTENANCE = "maintenance", "Fault or maintenance notifications"
    TASKS = "tasks", "Migration tasks"


class DeliveryStatus(BadgedChoices):
    """What became of one message on one channel."""

    PENDING = "pending", "info", "clock", "Waiting"
    SENT = "sent", "success", "check-circle", "Sent"
    FAILED = "failed", "danger", "x-circle", "Not sent"
    HELD = "held", "neutral", "pause-circle", "Held back until the quiet hours are over"
