"""Access roles: what an account lets another account do with some of its instances (R63, R68)."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from portal.choices import Access
from portal.models.accounts import Account
from portal.models.ids import public_id
from portal.models.instances import Instance


def role_id() -> str:
    return public_id("role")


class AccessRole(models.Model):
    """Made by the owner of the instances, for one trusted account. It is revoked, not deleted, once a task has used it."""

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

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["account", "name"], name="role_name_once_per_account"),
        ]

    def __str__(self) -> str:
        return self.name


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
