"""Accounts (tenants), who belongs to them with which role, and what a person has chosen for themselves."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.urls import reverse

from portal.choices import Role
from portal.models.ids import account_id


class AccountQuerySet(models.QuerySet["Account"]):
    def visible_to(self, user: Any) -> AccountQuerySet:
        """The accounts whose member the person is; all of them for an active superuser; none for anybody else."""
        if not user.is_active or not user.pk:
            return self.none()
        return self if user.is_superuser else self.filter(members=user)

    def operated_by(self, user: Any) -> AccountQuerySet:
        """The accounts in which the person may register and change instances and run tasks."""
        if not user.is_active or not user.pk:
            return self.none()
        if user.is_superuser:
            return self
        return self.filter(
            memberships__user=user, memberships__role__in=[role for role in Role if role.can_operate]
        )


class Account(models.Model):
    """Who owns instances. Everything of the console belongs to one account, and its members see it."""

    public_id = models.CharField("account ID", max_length=16, unique=True, default=account_id, editable=False)
    name = models.CharField(max_length=120, unique=True)
    is_operations = models.BooleanField(
        "operations", default=False,
        help_text="Its contacts are told when staff have to do something, whichever account it concerns: O&M work that waits for a person, or has failed.",
    )  # fmt: skip
    created_at = models.DateTimeField("created", auto_now_add=True)
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, through="Membership", related_name="accounts")

    objects = AccountQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("account_detail", args=[self.public_id])


class Membership(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.VIEWER)
    created_at = models.DateTimeField("since", auto_now_add=True)

    class Meta:
        ordering = ["account", "user"]
        constraints = [models.UniqueConstraint(fields=["user", "account"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user} in {self.account}: {self.get_role_display()}"

    @property
    def role_badge(self) -> Role:
        return Role(self.role)


class UserProfile(models.Model):
    """What a person has chosen for the console. A row exists once they have chosen something."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="profile")
    time_zone = models.CharField(
        max_length=64, blank=True, help_text="An IANA name; empty: the server's default."
    )

    def __str__(self) -> str:
        return f"Profile of {self.user}"
