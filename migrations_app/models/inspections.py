"""What workers find out about the two sides of a task: connectivity tests, prechecks, rehearsals, verifications."""

from __future__ import annotations

import hashlib
from typing import Any

from django.conf import settings
from django.db import models

from migrations_app.choices import InspectionKind, InspectionStatus, Outcome, Severity
from migrations_app.models.tasks import MigrationTask
from portal.models import Instance
from portal.models.ids import public_id


def inspection_id() -> str:
    return public_id("in")


class Inspection(models.Model):
    """One run of one kind, made by a worker of the cluster `default`.

    The row is the truth; whoever has the lease works on it (the database's clock, as for links), and a worker that dies is
    followed by another one, which begins anew.
    """

    public_id = models.CharField(
        "inspection ID", max_length=16, unique=True, default=inspection_id, editable=False
    )
    task = models.ForeignKey(
        MigrationTask, on_delete=models.CASCADE, related_name="inspections", db_index=False
    )
    kind = models.CharField(max_length=16, choices=InspectionKind.choices)
    status = models.CharField(
        max_length=12, choices=InspectionStatus.choices, default=InspectionStatus.QUEUED, db_index=True
    )
    parameters = models.JSONField(default=dict, blank=True, help_text="What was asked for. No secrets.")
    fingerprint = models.CharField(
        max_length=64, blank=True, help_text="Digest of the task's settings that it was made for."
    )
    progress = models.JSONField(default=dict, blank=True, help_text="{done, total, label}, as far as known.")
    result = models.JSONField(default=dict, blank=True)
    passed = models.BooleanField(null=True, blank=True, help_text="Empty until it has ended.")
    failure_id = models.CharField(max_length=64, blank=True)
    failure_message = models.TextField(blank=True)
    failure_advice = models.TextField(blank=True)
    cancel_requested = models.BooleanField(default=False)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    owner = models.CharField(max_length=160, blank=True)
    attempt = models.PositiveIntegerField(default=0, help_text="Grows by one with each worker that takes it.")
    lease_until = models.DateTimeField(null=True, blank=True)
    rung_at = models.DateTimeField(null=True, blank=True)
    worker_host = models.CharField(max_length=255, blank=True)
    worker_ip = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["task", "kind", "-id"], name="inspection_of_task")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.public_id}"

    @property
    def status_badge(self) -> InspectionStatus:
        return InspectionStatus(self.status)


class PrecheckItem(models.Model):
    """What one check of a precheck has found."""

    inspection = models.ForeignKey(Inspection, on_delete=models.CASCADE, related_name="items")
    position = models.PositiveIntegerField()
    code = models.CharField(max_length=48, help_text="Never changes: source.backlog, target.same_names …")
    side = models.CharField(max_length=8, blank=True, help_text="source, target, or empty: both.")
    title = models.CharField(max_length=160)
    severity = models.CharField(max_length=8, choices=Severity.choices)
    outcome = models.CharField(max_length=8, choices=Outcome.choices)
    found = models.TextField(blank=True)
    advice = models.TextField(blank=True)
    repair = models.TextField(blank=True, help_text="How a person repairs it.")
    repair_code = models.CharField(
        max_length=48, blank=True, help_text="Of the button that does; empty: none."
    )
    ignorable = models.BooleanField(default=False, help_text="False for what protects data.")
    data = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["inspection", "code", "side"], name="precheck_item_once")
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.side}: {self.outcome}"


class IgnoredItem(models.Model):
    """Somebody takes the risk of a failed item. It holds while what was found stays the same."""

    task = models.ForeignKey(MigrationTask, on_delete=models.CASCADE, related_name="ignored_items")
    code = models.CharField(max_length=48)
    side = models.CharField(max_length=8, blank=True)
    found = models.TextField(blank=True)
    reason = models.TextField()
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "code", "side"], name="ignored_item_once")]

    def __str__(self) -> str:
        return f"{self.code} of {self.task}"


class AppliedRepair(models.Model):
    """A setting of a server that was changed for a task, and is put back when the task has ended."""

    task = models.ForeignKey(MigrationTask, on_delete=models.CASCADE, related_name="repairs")
    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="+")
    address = models.CharField(
        max_length=300, blank=True, help_text="Of the server: one of the masters, where it is a cluster."
    )
    code = models.CharField(max_length=48)
    setting = models.CharField(max_length=64)
    old = models.TextField()
    new = models.TextField()
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    applied_at = models.DateTimeField(null=True, blank=True, help_text="Empty: about to be applied.")
    restore_wanted = models.BooleanField(default=False, help_text="Now, not only when the task has ended.")
    tried_at = models.DateTimeField(null=True, blank=True, help_text="When it was to be put back last.")
    attempts = models.PositiveIntegerField(default=0, help_text="That have failed.")
    restored_at = models.DateTimeField(null=True, blank=True, help_text="Or left as it is, see the note.")
    note = models.TextField(blank=True, help_text="Why it was not put back, or left as it is.")

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.setting} of {self.instance}"


class Difference(models.Model):
    """A key that a verification found to differ."""

    inspection = models.ForeignKey(Inspection, on_delete=models.CASCADE, related_name="differences")
    database = models.PositiveIntegerField()
    key = models.BinaryField()
    digest = models.CharField(
        max_length=64, editable=False, help_text="SHA-256 of the key, which may be too long for an index."
    )
    kind = models.CharField(max_length=24)
    source_text = models.TextField(blank=True, help_text="Shortened and escaped.")
    target_text = models.TextField(blank=True)
    detail = models.TextField(blank=True)
    repaired_at = models.DateTimeField(null=True, blank=True)
    repaired_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    repair_note = models.TextField(blank=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["inspection", "database", "digest"], name="difference_once")
        ]

    def __str__(self) -> str:
        return f"{self.kind} in database {self.database}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.digest = self.digest or key_digest(bytes(self.key))
        super().save(*args, **kwargs)


def key_digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
