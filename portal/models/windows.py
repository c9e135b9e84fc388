"""Maintenance windows: when servers may be switched over."""

from __future__ import annotations

from django.db import models

from portal.models.accounts import Account
from portal.models.instances import Instance
from portal.windows import Window, describe, zone_called


class MaintenanceWindow(models.Model):
    """The window of one instance, or the general one of an account, which is that of its instances without one of their own."""

    instance = models.OneToOneField(
        Instance, null=True, blank=True, on_delete=models.CASCADE, related_name="own_window"
    )
    account = models.OneToOneField(
        Account, null=True, blank=True, on_delete=models.CASCADE, related_name="general_window"
    )
    day_bits = models.PositiveSmallIntegerField(
        "days", help_text="On which it begins: the sum of 1 for Monday, 2, 4 … 64 for Sunday."
    )
    starts = models.TimeField()
    ends = models.TimeField(help_text="Before the start: on the next day.")
    time_zone = models.CharField(max_length=64, help_text="An IANA name.")
    changed_at = models.DateTimeField("changed", auto_now=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(instance__isnull=False, account__isnull=True)
                | models.Q(instance__isnull=True, account__isnull=False),
                name="window_of_one_owner",
            ),
            models.CheckConstraint(
                condition=models.Q(day_bits__gte=1, day_bits__lte=127), name="window_has_days"
            ),
            models.CheckConstraint(condition=~models.Q(starts=models.F("ends")), name="window_has_a_length"),
        ]

    def __str__(self) -> str:
        return describe(self.window)

    @property
    def days(self) -> frozenset[int]:
        """Monday is 0."""
        return frozenset(day for day in range(7) if self.day_bits >> day & 1)

    @property
    def window(self) -> Window:
        return Window(self.days, self.starts, self.ends, zone_called(self.time_zone))

    @property
    def is_general(self) -> bool:
        """That of the account."""
        return self.account_id is not None


def bits_of(days: frozenset[int]) -> int:
    """As `day_bits` stores them."""
    return sum(1 << day for day in days)
