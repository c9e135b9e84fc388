"""Access roles: what an account lets another account do with some of its instances (R63, R68)."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from portal.choices import Access, RoleState
from portal.models.accounts import Account
from portal.models.ids import public_id
from portal.models.instances import Instance


def role_id() -> str:
    return public_id("role")


class RoleQuerySet(models.QuerySet["AccessRole"]):
    def visible_to(self, user: Any) -> RoleQuerySet:
        """What the person's accounts have granted, and what they are trusted with; all for an active superuser."""
        if not user.is_active or not user.pk:
            return self.none()
        if user.is_superuser:
            return self
        own = Account.objects.filter(members=user).values("pk")
        return self.filter(Q(account__in=own) | Q(trusted_account__in=own))

    def granted_by(self, user: Any) -> RoleQuerySet:
        """Those of the person's accounts alone."""
        if not user.is_active or not user.pk:
            return self.none()
        return self if user.is_superuser else self.filter(account__members=user)


class AccessRole(models.Model):
    """Made by the owner of the instances, for one trusted account. It is revoked, not deleted: the audit goes on naming it."""

    public_id = models.CharField("role ID", max_length=16, unique=True, default=role_id, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="access_roles")
    name = models.CharField(max_length=64)
    description = models.TextField(blank=True)
    trusted_account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="trusted_by")
    access = models.CharField(max_length=12, choices=Access.choices, default=Access.READ)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RoleQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["account", "name"], name="role_name_once_per_account"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("account_role", args=[self.public_id])

    @property
    def state(self) -> RoleState:
        if self.revoked_at is not None:
            return RoleState.REVOKED
        if self.expires_at is not None and self.expires_at <= timezone.now():
            return RoleState.EXPIRED
        return RoleState.VALID

    @property
    def can_write(self) -> bool:
        return self.access == Access.READ_WRITE


class RoleCoverage(models.Model):
    """An instance that a role covers, with the databases that may be touched."""

    role = models.ForeignKey(AccessRole, on_delete=models.CASCADE, related_name="coverage")
    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="covered_by")
    databases = models.JSONField(null=True, blank=True, help_text="A list of database numbers; empty: all.")

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["role", "instance"], name="instance_covered_once")]

    def __str__(self) -> str:
        return f"{self.instance} in {self.role}"

    @property
    def databases_label(self) -> str:
        """`All databases`, `Database 3` or `Databases 0, 2`."""
        if self.databases is None:
            return "All databases"
        numbers = ", ".join(str(number) for number in self.databases)
        return f"Database{'s' if len(self.databases) != 1 else ''} {numbers}"
