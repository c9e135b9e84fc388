"""Tokens of the HTTP API, and the requests that must not be carried out twice."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from portal.models.accounts import Account
from portal.models.ids import public_id


def token_id() -> str:
    return public_id("tok")


class ApiToken(models.Model):
    """What a program signs in with, as a person and never with more than that person's rights. Only a digest is stored."""

    public_id = models.CharField("token ID", max_length=16, unique=True, default=token_id, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    account = models.ForeignKey(
        Account,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="+",
        help_text="Empty: all of the person's.",
    )
    name = models.CharField(max_length=120)
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"


class IdempotentRequest(models.Model):
    """A request that named an Idempotency-Key, with the answer that a repetition gets as well."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=120)
    digest = models.CharField(
        max_length=64, help_text="Of method, path and body: another request may not use the key."
    )
    status = models.PositiveIntegerField(null=True, help_text="Empty while the first one is under way.")
    body = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="idempotency_key_once")]

    def __str__(self) -> str:
        return self.key


class SavedView(models.Model):
    """A list with its search, filters and order, under a name."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_views")
    page = models.CharField(max_length=64, help_text="The name of the list's URL.")
    name = models.CharField(max_length=80)
    query = models.CharField(max_length=1000, blank=True, help_text="What stands behind the question mark.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["user", "page", "name"], name="view_name_once")]

    def __str__(self) -> str:
        return self.name
