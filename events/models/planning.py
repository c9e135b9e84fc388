"""When switchovers must not happen, and how many may happen at a time."""

from __future__ import annotations

from django.core.validators import MinValueValidator
from django.db import models

from portal.models import Account


class Blackout(models.Model):
    """A period in which no maintenance switches over: of one account or of all, in one region or in all."""

    account = models.ForeignKey(
        Account, null=True, blank=True, on_delete=models.CASCADE, related_name="blackouts",
        help_text="Empty: of every account.",
    )  # fmt: skip
    region = models.CharField(max_length=60, blank=True, help_text="Empty: in every region.")
    starts_at = models.DateTimeField("from")
    ends_at = models.DateTimeField("to", help_text="From this moment on it is allowed again.")
    reason = models.CharField(max_length=200)

    class Meta:
        ordering = ["starts_at"]
        constraints = [
            models.CheckConstraint(
                name="blackout_ends_later", condition=models.Q(ends_at__gt=models.F("starts_at"))
            )
        ]

    def __str__(self) -> str:
        return f"{self.reason} ({self.starts_at:%Y-%m-%d} to {self.ends_at:%Y-%m-%d})"


class RegionLimit(models.Model):
    """How many switchovers may happen at a time in a region."""

    region = models.CharField(
        max_length=60, unique=True, blank=True, help_text="Empty: for each region that has no row of its own."
    )
    most = models.PositiveIntegerField("switchovers at a time", validators=[MinValueValidator(1)])

    class Meta:
        ordering = ["region"]

    def __str__(self) -> str:
        return f"{self.region or 'each region'}: {self.most} at a time"
