"""Migration tasks: what people set up, start, watch and stop."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.urls import reverse
from django.utils import timezone

from migrations_app import states
from migrations_app.choices import ACTIVE, HOLDING, ConflictPolicy, Method, Phases, SpeedClass, TaskStatus
from portal.models import AccessRole, Account, Contact, Instance
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
    description = models.TextField(blank=True)
    # Empty until the sides were chosen: a task may be left half configured and taken up again.
    source = models.ForeignKey(
        Instance, null=True, blank=True, on_delete=models.PROTECT, related_name="migrations_from"
    )
    target = models.ForeignKey(
        Instance, null=True, blank=True, on_delete=models.PROTECT, related_name="migrations_to"
    )
    source_role = models.ForeignKey(
        AccessRole, null=True, blank=True, on_delete=models.PROTECT, related_name="migrations_from",
        help_text="What lets the account read an instance of another account.",
    )  # fmt: skip
    target_role = models.ForeignKey(
        AccessRole, null=True, blank=True, on_delete=models.PROTECT, related_name="migrations_to",
        help_text="What lets the account write to an instance of another account.",
    )  # fmt: skip
    phases = models.CharField(max_length=24, choices=Phases.choices, default=Phases.FULL_INCREMENTAL)
    method = models.CharField(max_length=8, choices=Method.choices, default=Method.PSYNC)
    databases = models.JSONField(null=True, blank=True, help_text="A list of database numbers; empty: all.")
    commands = models.JSONField(
        default=dict, blank=True,
        help_text='Commands and groups of the incremental phase, by database ("": all others): {"": {"only": […]}, "3": {"without": […]}}.',
    )  # fmt: skip
    conflict = models.CharField(
        max_length=12, choices=ConflictPolicy.choices, default=ConflictPolicy.FAIL,
        help_text="What the full phase does with keys that the target has already.",
    )  # fmt: skip
    retry_minutes = models.PositiveIntegerField(
        default=120,
        validators=[MinValueValidator(10), MaxValueValidator(1440)],
        help_text="For how long an interrupted connection is tried again before the task fails.",
    )
    speed_class = models.CharField(max_length=12, choices=SpeedClass.choices, default=SpeedClass.UNLIMITED)
    speed_hours = models.JSONField(
        default=list, blank=True,
        help_text='Other classes at other times of the day: [{"from": "22:00", "to": "06:00", "class": "unlimited"}].',
    )  # fmt: skip
    speed_time_zone = models.CharField(max_length=64, default="UTC", help_text="Of the times of the day.")
    heartbeat = models.BooleanField(
        default=False, help_text="A key written to the source once a second, to measure the latency."
    )
    alerts = models.BooleanField(default=False, help_text="Tell the contacts when something goes wrong.")
    alert_lag_seconds = models.PositiveIntegerField(null=True, blank=True)
    alert_after_seconds = models.PositiveIntegerField(
        default=60, help_text="For how long the latency is above (or below) the threshold before it is told."
    )
    alert_retrying_minutes = models.PositiveIntegerField(null=True, blank=True)
    alert_contacts = models.ManyToManyField(Contact, blank=True, related_name="+")
    verify_every_hours = models.PositiveIntegerField(
        null=True, blank=True, help_text="Empty: on demand only."
    )
    verify_percent = models.PositiveIntegerField(default=100)
    full_resync_allowed = models.BooleanField(
        default=False,
        help_text="May begin with a new full phase when the source no longer has the changes it needs.",
    )
    status = models.CharField(
        max_length=16, choices=TaskStatus.choices, default=TaskStatus.NOT_CONFIGURED, db_index=True
    )
    wizard_step = models.CharField(max_length=16, blank=True, help_text="Where the set-up was left.")
    configured_at = models.DateTimeField(
        null=True, blank=True, help_text="When the settings changed last: a precheck from before is void."
    )
    start_when_ready = models.BooleanField(
        default=False, help_text="A start has asked for a new precheck; passed, it goes on to the start."
    )
    risks_acknowledged_at = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    pause_reason = models.TextField(
        blank=True, help_text="Why the system has paused it; empty: a person did."
    )
    resume_attempts = models.PositiveIntegerField(default=0, help_text="By itself, after the last failure.")
    resume_next_at = models.DateTimeField(null=True, blank=True)
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
                condition=models.Q(status__in=sorted(HOLDING)),
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

    def both_sides(self) -> tuple[Instance, Instance]:
        """Source and target. Only of a task whose sides are chosen: of every one that is beyond Not configured."""
        assert self.source is not None and self.target is not None
        return self.source, self.target

    @property
    def status_badge(self) -> TaskStatus:
        return TaskStatus(self.status)

    @property
    def actions(self) -> dict[str, states.Verdict]:
        return states.actions(TaskStatus(self.status), too_late=self.is_too_late)

    @property
    def is_over(self) -> bool:
        """Nothing happens any more unless somebody acts: live pages stop to poll."""
        return self.status_badge.is_final and self.resume_next_at is None

    @property
    def is_too_late(self) -> bool:
        """It failed so long ago that it cannot be resumed any more (R55)."""
        return (
            self.status == TaskStatus.FAILED
            and self.finished_at is not None
            and self.finished_at < timezone.now() - states.RESUMABLE_FOR
        )

    @property
    def databases_label(self) -> str:
        """`All databases`, `Database 3` or `Databases 0, 2`."""
        if self.databases is None:
            return "All databases"
        numbers = ", ".join(str(number) for number in self.databases)
        return f"Database{'s' if len(self.databases) != 1 else ''} {numbers}"
