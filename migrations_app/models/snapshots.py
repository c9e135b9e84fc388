"""Snapshot files that were uploaded to be imported."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from portal.models import Account
from portal.models.ids import public_id


def snapshot_id() -> str:
    return public_id("rdb")


class SnapshotFile(models.Model):
    """A file in the folder of uploads, under its ID. It is deleted with its row, or after some days without a task."""

    public_id = models.CharField("file ID", max_length=16, unique=True, default=snapshot_id, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="snapshot_files")
    name = models.CharField(max_length=255, help_text="As the person's file was called.")
    size = models.BigIntegerField(default=0, help_text="Bytes.")
    version = models.PositiveIntegerField(null=True, blank=True, help_text="Of the snapshot format.")
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"
