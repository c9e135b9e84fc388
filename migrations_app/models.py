"""Migration tasks, and the links that carry them out.

A *task* is what people see; its *link* is what a worker owns while it runs. Progress and log are rows of their own, so that
writing them never waits for, and is never undone with, a change of the task.
"""

from __future__ import annotations

from typing import Any, NoReturn

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.urls import reverse

from migrations_app import states
from migrations_app.choices import ACTIVE, Desired, LogLevel, Phases, TaskStatus
from portal.models import Account, Instance
from portal.models.ids import public_id


def task_id() -> str:
    return public_id("mt")


class TaskQuerySet(models.QuerySet["MigrationTask"]):
    def visible_to(self, user: Any) -> TaskQuerySet:
        """The tasks of the person's accounts; all of them for an active superuser."""
        if not user.is_active or not user.pk:
            return self.none()
        return self if user.is_superuser else self.filter(account__members=user)

    def active(self) -> TaskQuerySet:
        return self.filter(status__in=ACTIVE)


class MigrationTask(models.Model):
    """Source → target. Its status changes in `services` only, by compare-and-swap."""

    public_id = models.CharField("task ID", max_length=16, unique=True, default=task_id, editable=False)
    name = models.CharField(max_length=120)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="migration_tasks")
    source = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="migrations_from")
    target = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="migrations_to")
    phases = models.CharField(max_length=24, choices=Phases.choices, default=Phases.FULL_INCREMENTAL)
    databases = models.JSONField(null=True, blank=True, help_text="A list of database numbers; empty: all.")
    retry_minutes = models.PositiveIntegerField(
        default=120,
        validators=[MinValueValidator(10), MaxValueValidator(1440)],
        help_text="For how long an interrupted connection is tried again before the task fails.",
    )
    full_resync_allowed = models.BooleanField(
        default=False,
        help_text="May begin with a new full phase when the source no longer has the changes it needs.",
    )
    status = models.CharField(
        max_length=16, choices=TaskStatus.choices, default=TaskStatus.READY, db_index=True
    )
    reached_incremental = models.BooleanField(
        default=False, help_text="The full phase is complete: stopped now, the task is successful."
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField("created", auto_now_add=True, db_index=True)
    started_at = models.DateTimeField("started", null=True, blank=True)
    incremental_at = models.DateTimeField("incremental since", null=True, blank=True)
    finished_at = models.DateTimeField("ended", null=True, blank=True)
    failure_id = models.CharField(max_length=64, blank=True)
    failure_message = models.TextField(blank=True)
    failure_advice = models.TextField(blank=True)

    objects = TaskQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        verbose_name = "migration task"
        indexes = [models.Index(fields=["account", "-created_at"], name="task_of_account")]
        constraints = [
            # The guard behind the check in the service: two starts at the same moment cannot both pass.
            models.UniqueConstraint(
                fields=["target"],
                condition=models.Q(status__in=sorted(ACTIVE)),
                name="one_active_task_per_target",
            ),
            models.CheckConstraint(
                condition=~models.Q(source=models.F("target")), name="source_is_not_target"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"

    def get_absolute_url(self) -> str:
        return reverse("task_detail", args=[self.public_id])

    @property
    def status_badge(self) -> TaskStatus:
        return TaskStatus(self.status)

    @property
    def actions(self) -> dict[str, states.Verdict]:
        return states.actions(TaskStatus(self.status))

    @property
    def databases_label(self) -> str:
        """`All databases`, `Database 3` or `Databases 0, 2`."""
        if self.databases is None:
            return "All databases"
        numbers = ", ".join(str(number) for number in self.databases)
        return f"Database{'s' if len(self.databases) != 1 else ''} {numbers}"


class Link(models.Model):
    """What a worker owns while it carries a task out. The row is the truth; a message of the broker only rings a bell.

    Whoever has the lease runs the link. `epoch` grows by one with each new owner, and the engine stores it in the target,
    where it shuts out every earlier owner. All times of the lease are the database's clock.
    """

    task = models.OneToOneField(MigrationTask, on_delete=models.CASCADE, related_name="link")
    name = models.CharField(
        max_length=64, unique=True, help_text="Its name in the target, where its checkpoint is kept."
    )
    desired = models.CharField(max_length=8, choices=Desired.choices, default=Desired.STOP)
    owner = models.CharField(max_length=160, blank=True, help_text="host:pid:cluster; empty: nobody.")
    epoch = models.PositiveBigIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    rung_at = models.DateTimeField(
        null=True, blank=True, help_text="When a worker was last asked for; empty: not since."
    )

    class Meta:
        indexes = [models.Index(fields=["desired", "lease_until"], name="link_waiting")]

    def __str__(self) -> str:
        return self.name


class LinkProgress(models.Model):
    """The counters of a link over all its runs. Bytes, seconds, and numbers per second.

    Updated about once a second. A worker that is killed takes what it counted since then with it; the data are not
    affected, the checkpoint in the target decides where a link goes on.
    """

    link = models.OneToOneField(Link, on_delete=models.CASCADE, related_name="progress")
    phase = models.CharField(max_length=16, blank=True)
    percent = models.FloatField(null=True, blank=True)
    keys_done = models.BigIntegerField(default=0)
    keys_total = models.BigIntegerField(null=True, blank=True)
    keys_skipped = models.BigIntegerField(default=0)
    commands = models.BigIntegerField(default=0)
    bytes_in = models.BigIntegerField(default=0)
    bytes_out = models.BigIntegerField(default=0)
    snapshot_bytes = models.BigIntegerField(default=0)
    snapshot_size = models.BigIntegerField(null=True, blank=True)
    replication_id = models.CharField(max_length=64, blank=True)
    received_offset = models.BigIntegerField(null=True, blank=True)
    applied_offset = models.BigIntegerField(null=True, blank=True)
    source_offset = models.BigIntegerField(null=True, blank=True)
    lag_bytes = models.BigIntegerField(null=True, blank=True)
    lag_seconds = models.FloatField(null=True, blank=True)
    caught_up = models.BooleanField(default=False)
    full_syncs = models.PositiveIntegerField(default=0)
    partial_syncs = models.PositiveIntegerField(default=0)
    reconnects = models.PositiveIntegerField(default=0)
    keys_per_second = models.FloatField(default=0)
    commands_per_second = models.FloatField(default=0)
    bytes_per_second = models.FloatField(default=0)
    databases = models.JSONField(
        default=dict, blank=True, help_text="Database → keys of the snapshot written."
    )
    worker_host = models.CharField(max_length=255, blank=True)
    worker_ip = models.CharField(max_length=64, blank=True)
    worker_pid = models.PositiveIntegerField(null=True, blank=True)
    worker_compiled = models.BooleanField(
        null=True, blank=True, help_text="Whether the engine's hot path is compiled on the worker's machine."
    )
    updated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "link progress"

    def __str__(self) -> str:
        return f"Progress of {self.link}"


class LogQuerySet(models.QuerySet["LogEntry"]):
    def update(self, **kwargs: Any) -> NoReturn:
        raise TypeError("Log entries are not changed.")


class LogEntry(models.Model):
    """One thing that happened to a task. Rows are added and never changed; they go with their task."""

    task = models.ForeignKey(MigrationTask, on_delete=models.CASCADE, related_name="log", db_index=False)
    at = models.DateTimeField()
    level = models.CharField(max_length=8, choices=LogLevel.choices, default=LogLevel.INFO)
    event = models.CharField(max_length=64)
    message = models.TextField()
    fields = models.JSONField(default=dict, blank=True)

    objects = LogQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        verbose_name_plural = "log entries"
        # Pages read one task from the newest on. It serves the foreign key as well, which has no index of its own.
        indexes = [models.Index(fields=["task", "id"], name="log_of_task")]

    def __str__(self) -> str:
        return f"{self.event}: {self.message}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk is not None:
            raise TypeError("Log entries are not changed.")
        super().save(*args, **kwargs)

    @property
    def level_badge(self) -> LogLevel:
        return LogLevel(self.level)
